/* SPDX-License-Identifier: Apache-2.0 */
/* Vector kernels: norms, activations, rotary embedding, int8 quantisation, KV rows. Every operation
 * is the one of kern_c.c, lane by lane. */
#ifndef PN_ARM_VEC_H
#define PN_ARM_VEC_H

#include "arm_vf.h"
#include "kern/kern.h"
#include "kern/kv_layout.h"

/* ---- element by element ---- */

/* Whole vectors at i, then one of `rest` lanes. */
#define FOR_VECTORS(i, n, full, part)                                                             \
    do {                                                                                          \
        int32_t i = 0;                                                                            \
        for (; i + 16 <= (n); i += 16)                                                            \
            full;                                                                                 \
        if (i < (n)) {                                                                            \
            const int rest = (n) - i;                                                             \
            part;                                                                                 \
        }                                                                                         \
    } while (0)

INLINE vf silu_mul_16(vf g, vf u)
{
    return vf_mul(vf_div(g, vf_add(vf_set1(1.0f), vf_exp(vf_neg(g)))), u);
}

static void silu_mul(float *y, const float *g, const float *u, int32_t n)
{
    FOR_VECTORS(i, n, vf_store(y + i, silu_mul_16(vf_load(g + i), vf_load(u + i))),
                vf_store_n(y + i, silu_mul_16(vf_load_n(g + i, rest), vf_load_n(u + i, rest)),
                           rest));
}

INLINE vf gelu_16(vf x)
{
    const vf e = vf_erf(vf_mul(x, vf_set1(0x1.6a09e6p-1f)));
    return vf_mul(vf_mul(vf_set1(0.5f), x), vf_add(vf_set1(1.0f), e));
}

static void gelu(float *y, const float *x, int32_t n)
{
    FOR_VECTORS(i, n, vf_store(y + i, gelu_16(vf_load(x + i))),
                vf_store_n(y + i, gelu_16(vf_load_n(x + i, rest)), rest));
}

static void axpy(float *y, const float *x, float s, int32_t n)
{
    FOR_VECTORS(i, n, vf_store(y + i, vf_fma_n(vf_load(x + i), s, vf_load(y + i))),
                vf_store_n(y + i, vf_fma_n(vf_load_n(x + i, rest), s, vf_load_n(y + i, rest)),
                           rest));
}

static void add(float *y, const float *x, int32_t n)
{
    FOR_VECTORS(i, n, vf_store(y + i, vf_add(vf_load(y + i), vf_load(x + i))),
                vf_store_n(y + i, vf_add(vf_load_n(y + i, rest), vf_load_n(x + i, rest)), rest));
}

/* ---- norms ---- */

static void rmsnorm(float *y, const float *x, const float *w, int32_t n, float eps)
{
    vf lanes = vf_zero();
    FOR_VECTORS(i, n, lanes = vf_fma(vf_load(x + i), vf_load(x + i), lanes),
                lanes = vf_fma(vf_load_n(x + i, rest), vf_load_n(x + i, rest), lanes));
    const vf r = vf_set1(1.0f / sqrtf(vf_sum(lanes) / (float)n + eps));
    FOR_VECTORS(i, n, vf_store(y + i, vf_mul(vf_mul(vf_load(x + i), r), vf_load(w + i))),
                vf_store_n(y + i, vf_mul(vf_mul(vf_load_n(x + i, rest), r), vf_load_n(w + i, rest)),
                           rest));
}

/* Squares of x - mean in the first n lanes. */
INLINE vf square_from(vf x, vf mean, vf lanes, int n)
{
    const vf t = vf_first_n(vf_sub(x, mean), vf_zero(), n);
    return vf_fma(t, t, lanes);
}

INLINE vf normed(vf x, vf mean, vf r, vf w, vf b)
{
    return vf_fma(vf_mul(vf_sub(x, mean), r), w, b);
}

static void layernorm(float *y, const float *x, const float *w, const float *b, int32_t n,
                      float eps)
{
    vf lanes = vf_zero();
    FOR_VECTORS(i, n, lanes = vf_add(lanes, vf_load(x + i)),
                lanes = vf_add(lanes, vf_load_n(x + i, rest)));
    const vf mean = vf_set1(vf_sum(lanes) / (float)n);
    lanes = vf_zero();
    FOR_VECTORS(i, n, lanes = square_from(vf_load(x + i), mean, lanes, 16),
                lanes = square_from(vf_load_n(x + i, rest), mean, lanes, rest));
    const vf r = vf_set1(1.0f / sqrtf(vf_sum(lanes) / (float)n + eps));
    FOR_VECTORS(i, n,
                vf_store(y + i, normed(vf_load(x + i), mean, r, vf_load(w + i), vf_load(b + i))),
                vf_store_n(y + i, normed(vf_load_n(x + i, rest), mean, r, vf_load_n(w + i, rest),
                                         vf_load_n(b + i, rest)),
                           rest));
}

/* ---- rotary embedding ---- */

INLINE void rope4(float32x4_t *a, float32x4_t *b, float32x4_t c, float32x4_t s)
{
    const float32x4_t a0 = *a, b0 = *b;
    *a = vfmaq_f32(vnegq_f32(vmulq_f32(b0, s)), a0, c);
    *b = vfmaq_f32(vmulq_f32(a0, s), b0, c);
}

INLINE void rope1(float *a, float *b, float c, float s)
{
    const float a0 = *a, b0 = *b;
    *a = fmaf(a0, c, -(b0 * s));
    *b = fmaf(b0, c, a0 * s);
}

static void rope_half(float *x, const float *cs, const float *sn, int32_t hd)
{
    const int32_t n = hd / 2;
    float *xb = x + n;
    int32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        float32x4_t a = vld1q_f32(x + i), b = vld1q_f32(xb + i);
        rope4(&a, &b, vld1q_f32(cs + i), vld1q_f32(sn + i));
        vst1q_f32(x + i, a);
        vst1q_f32(xb + i, b);
    }
    for (; i < n; i++)
        rope1(&x[i], &xb[i], cs[i], sn[i]);
}

static void rope_inter(float *x, const float *cs, const float *sn, int32_t hd)
{
    const int32_t n = hd / 2;
    int32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        float32x4x2_t ab = vld2q_f32(x + 2 * i);
        rope4(&ab.val[0], &ab.val[1], vld1q_f32(cs + i), vld1q_f32(sn + i));
        vst2q_f32(x + 2 * i, ab);
    }
    for (; i < n; i++)
        rope1(&x[2 * i], &x[2 * i + 1], cs[i], sn[i]);
}

/* ---- int8 quantisation ---- */

/* As q8_scale of kern_c.c: bits of the largest magnitude to scale and multiplier. */
static float q8_scale(uint32_t amax_bits, float *inverse)
{
    const float amax = pn_f32_from_bits(amax_bits);
    *inverse = 0.0f;
    if (amax_bits >= 0x7f800000u)
        return NAN;
    if (amax < 1e-30f)
        return 0.0f;
    *inverse = 127.0f / amax;
    return amax / 127.0f;
}

static uint32_t amax_bits(const float *x, int32_t n)
{
    vf max = vf_zero();
    FOR_VECTORS(i, n, max = vf_umax(max, vf_abs(vf_load(x + i))),
                max = vf_umax(max, vf_abs(vf_load_n(x + i, rest))));
    return vf_humax(max);
}

/* inverse == 0 stands for "all zero" whatever x holds. */
INLINE int8x16_t q8_round(vf x, float inverse)
{
    return inverse == 0.0f ? vdupq_n_s8(0) : vf_to_i8(vf_mul(x, vf_set1(inverse)));
}

static void quant_act(struct pn_act *a, int32_t m_index, const float *x)
{
    for (int32_t b = 0; b < a->nb; b++) {
        const int32_t left = a->k - PN_QK * b, n = left < PN_QK ? left : PN_QK;
        const float *xb = x + (size_t)b * PN_QK;
        const size_t cell = (size_t)b * (size_t)a->m + (size_t)m_index;
        float inverse;
        a->d[cell] = q8_scale(amax_bits(xb, n), &inverse);
        for (int g = 0; g < 16; g++) {
            const int32_t rest = n - 16 * g;
            int8x16_t q = vdupq_n_s8(0);
            if (rest >= 16)
                q = q8_round(vf_load(xb + 16 * g), inverse);
            else if (rest > 0)
                q = q8_round(vf_load_n(xb + 16 * g, rest), inverse);
            vst1q_s8(a->q + cell * PN_QK + 16 * g, q);
            a->s16[cell * 16 + (size_t)g] = vaddlvq_s8(q);
        }
        const int16x8_t s0 = vld1q_s16(a->s16 + cell * 16), s1 = vld1q_s16(a->s16 + cell * 16 + 8);
        vst1q_s16(a->s32 + cell * 8, vpaddq_s16(s0, s1));
    }
}

/* ---- KV rows ---- */

/* K rows are scattered (16 keys lie side by side), V rows are not, except for pairs in BF16. */
static void kv_put(const struct pn_kv_view *kv, int64_t pos, const float *k, const float *v)
{
    const int32_t hd = kv->hd;
    float k_inverse = 0.0f, v_inverse = 0.0f;
    if (kv->type == PN_KV_Q8) {
        kv->ks[pos] = q8_scale(amax_bits(k, hd), &k_inverse);
        kv->vs[pos] = q8_scale(amax_bits(v, hd), &v_inverse);
    }
    for (int32_t d = 0; d < hd; d += 16) {
        const int n = hd - d < 16 ? hd - d : 16;
        const vf kd = n == 16 ? vf_load(k + d) : vf_load_n(k + d, n);
        const vf vd = n == 16 ? vf_load(v + d) : vf_load_n(v + d, n);
        const size_t vi = pn_kv_v_index(kv->type, hd, pos, d);
        if (kv->type == PN_KV_F32) {
            for (int i = 0; i < n; i++)
                ((float *)kv->k)[pn_kv_k_index(PN_KV_F32, hd, pos, d + i)] = k[d + i];
            vf_store_n((float *)kv->v + vi, vd, n);
        } else if (kv->type == PN_KV_Q8) {
            int8_t kq[16], vq[16];
            vst1q_s8(kq, q8_round(kd, k_inverse));
            vst1q_s8(vq, q8_round(vd, v_inverse));
            for (int i = 0; i < n; i++)
                ((int8_t *)kv->k)[pn_kv_k_index(PN_KV_Q8, hd, pos, d + i)] = kq[i];
            memcpy((int8_t *)kv->v + vi, vq, (size_t)n);
        } else {
            uint16_t k16[16], v16[16];
            if (kv->type == PN_KV_F16) {
                vf_store_f16(k16, kd);
                vf_store_f16(v16, vd);
                memcpy((uint16_t *)kv->v + vi, v16, (size_t)n * sizeof *v16);
            } else {
                vf_store_bf16(k16, kd);
                vf_store_bf16(v16, vd);
                for (int i = 0; i < n; i++)
                    ((uint16_t *)kv->v)[vi + 2 * (size_t)i] = v16[i];
            }
            for (int i = 0; i < n; i++)
                ((uint16_t *)kv->k)[pn_kv_k_index(kv->type, hd, pos, d + i)] = k16[i];
        }
    }
}

#endif
