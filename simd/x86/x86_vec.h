/* SPDX-License-Identifier: Apache-2.0 */
/* Vector kernels over vf (x86_vf512.h or x86_vf256.h): norms, activations, rotary embedding, int8
 * quantisation, KV rows. Every operation is the one of kern_c.c, lane by lane. */
#ifndef PN_X86_VEC_H
#define PN_X86_VEC_H

#include "kern/kern.h"
#include "kern/kv_layout.h"
#include "x86_math.h"

/* ---- element by element ---- */

#define FOR_VECTORS(i, n, full, part)                                                              \
    do {                                                                                           \
        int32_t i = 0;                                                                             \
        for (; i + 16 <= (n); i += 16)                                                             \
            full;                                                                                  \
        if (i < (n)) {                                                                             \
            const int rest = (n)-i;                                                                \
            part;                                                                                  \
        }                                                                                          \
    } while (0)

INLINE vf silu_mul_16(vf g, vf u)
{
    const vf e = vf_exp(vf_xor(g, vf_set1(-0.0f)));
    return vf_mul(vf_div(g, vf_add(vf_set1(1.0f), e)), u);
}

static void ISA(silu_mul)(float *y, const float *g, const float *u, int32_t n)
{
    FOR_VECTORS(
        i, n, vf_store(y + i, silu_mul_16(vf_load(g + i), vf_load(u + i))),
        vf_store_n(y + i, silu_mul_16(vf_load_n(g + i, rest), vf_load_n(u + i, rest)), rest));
}

INLINE vf gelu_16(vf x)
{
    const vf e = vf_erf(vf_mul(x, vf_set1(0x1.6a09e6p-1f)));
    return vf_mul(vf_mul(vf_set1(0.5f), x), vf_add(vf_set1(1.0f), e));
}

static void ISA(gelu)(float *y, const float *x, int32_t n)
{
    FOR_VECTORS(i, n, vf_store(y + i, gelu_16(vf_load(x + i))),
                vf_store_n(y + i, gelu_16(vf_load_n(x + i, rest)), rest));
}

static void ISA(axpy)(float *y, const float *x, float s, int32_t n)
{
    const vf sv = vf_set1(s);
    FOR_VECTORS(
        i, n, vf_store(y + i, vf_fma(sv, vf_load(x + i), vf_load(y + i))),
        vf_store_n(y + i, vf_fma(sv, vf_load_n(x + i, rest), vf_load_n(y + i, rest)), rest));
}

static void ISA(add)(float *y, const float *x, int32_t n)
{
    FOR_VECTORS(i, n, vf_store(y + i, vf_add(vf_load(y + i), vf_load(x + i))),
                vf_store_n(y + i, vf_add(vf_load_n(y + i, rest), vf_load_n(x + i, rest)), rest));
}

/* ---- norms: one chain of fma, its order is fixed ---- */

static void ISA(rmsnorm)(float *y, const float *x, const float *w, int32_t n, float eps)
{
    vf lanes = vf_zero();
    FOR_VECTORS(i, n, lanes = vf_fma(vf_load(x + i), vf_load(x + i), lanes),
                lanes = vf_fma(vf_load_n(x + i, rest), vf_load_n(x + i, rest), lanes));
    const vf r = vf_set1(1.0f / sqrtf(vf_sum(lanes) / (float)n + eps));
    FOR_VECTORS(
        i, n, vf_store(y + i, vf_mul(vf_mul(vf_load(x + i), r), vf_load(w + i))),
        vf_store_n(y + i, vf_mul(vf_mul(vf_load_n(x + i, rest), r), vf_load_n(w + i, rest)), rest));
}

INLINE vf square_from(vf x, vf mean, vf lanes, int n)
{
    const vf t = vf_keep_n(vf_sub(x, mean), n);
    return vf_fma(t, t, lanes);
}

static void ISA(layernorm)(float *y, const float *x, const float *w, const float *b, int32_t n,
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
                vf_store(y + i, vf_fma(vf_mul(vf_sub(vf_load(x + i), mean), r), vf_load(w + i),
                                       vf_load(b + i))),
                vf_store_n(y + i,
                           vf_fma(vf_mul(vf_sub(vf_load_n(x + i, rest), mean), r),
                                  vf_load_n(w + i, rest), vf_load_n(b + i, rest)),
                           rest));
}

/* ---- rotary embedding ---- */

static void ISA(rope_half)(float *x, const float *cs, const float *sn, int32_t hd)
{
    const int32_t n = hd / 2;
    float *xb = x + n;
    for (int32_t i = 0; i < n; i += 16) {
        const int rest = n - i < 16 ? n - i : 16;
        vf a, b, c, s;
        if (rest == 16) {
            a = vf_load(x + i), b = vf_load(xb + i), c = vf_load(cs + i), s = vf_load(sn + i);
        } else {
            a = vf_load_n(x + i, rest), b = vf_load_n(xb + i, rest);
            c = vf_load_n(cs + i, rest), s = vf_load_n(sn + i, rest);
        }
        const vf a1 = vf_fms(a, c, vf_mul(b, s)), b1 = vf_fma(b, c, vf_mul(a, s));
        if (rest == 16) {
            vf_store(x + i, a1);
            vf_store(xb + i, b1);
        } else {
            vf_store_n(x + i, a1, rest);
            vf_store_n(xb + i, b1, rest);
        }
    }
}

static void ISA(rope_inter)(float *x, const float *cs, const float *sn, int32_t hd)
{
    const int32_t n = hd / 2; /* pairs, four at a time */
    int32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
        const __m256 c = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(cs + i)),
                                                  twice);
        const __m256 s = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(sn + i)),
                                                  twice);
        const __m256 ab = _mm256_loadu_ps(x + 2 * i), ba = _mm256_permute_ps(ab, 0xb1);
        _mm256_storeu_ps(x + 2 * i, _mm256_fmaddsub_ps(ab, c, _mm256_mul_ps(ba, s)));
    }
    for (; i < n; i++) {
        const float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = fmaf(a, cs[i], -(b * sn[i]));
        x[2 * i + 1] = fmaf(b, cs[i], a * sn[i]);
    }
}

/* ---- int8 quantisation ---- */

/* As q8_scale of kern_c.c: bits of the largest magnitude to scale and multiplier. */
static inline float q8_scale(uint32_t amax_bits, float *inverse)
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

static inline uint32_t amax_bits(const float *x, int32_t n)
{
    vf max = vf_zero();
    FOR_VECTORS(i, n, max = vf_umax(max, vf_and_bits(vf_load(x + i), 0x7fffffffu)),
                max = vf_umax(max, vf_and_bits(vf_load_n(x + i, rest), 0x7fffffffu)));
    return vf_humax(max);
}

/* Sixteen values; inverse == 0 stands for "all zero" whatever x holds. */
INLINE __m128i q8_round(vf x, float inverse)
{
    return inverse == 0.0f ? _mm_setzero_si128() : vf_to_i8(vf_mul(x, vf_set1(inverse)));
}

static void ISA(quant_act)(struct pn_act *a, int32_t m_index, const float *x)
{
    for (int32_t b = 0; b < a->nb; b++) {
        const int32_t left = a->k - PN_QK * b, n = left < PN_QK ? left : PN_QK;
        const float *xb = x + (size_t)b * PN_QK;
        const size_t cell = (size_t)b * (size_t)a->m + (size_t)m_index;
        float inverse;
        a->d[cell] = q8_scale(amax_bits(xb, n), &inverse);
        for (int g = 0; g < 16; g++) {
            const int32_t rest = n - 16 * g;
            __m128i q = _mm_setzero_si128();
            if (rest >= 16)
                q = q8_round(vf_load(xb + 16 * g), inverse);
            else if (rest > 0)
                q = q8_round(vf_load_n(xb + 16 * g, rest), inverse);
            _mm_store_si128((void *)(a->q + cell * PN_QK + 16 * g), q);
            /* sums of eight q + 128 */
            const __m128i sad = _mm_sad_epu8(_mm_xor_si128(q, _mm_set1_epi8(-128)),
                                             _mm_setzero_si128());
            const int sum = _mm_cvtsi128_si32(sad) + _mm_extract_epi16(sad, 4) - 16 * 128;
            a->s16[cell * 16 + (size_t)g] = (int16_t)sum;
        }
        for (size_t g = 0; g < 8; g++) {
            const int16_t *s16 = a->s16 + cell * 16 + 2 * g;
            a->s32[cell * 8 + g] = (int16_t)(s16[0] + s16[1]);
        }
    }
}

/* ---- KV rows ---- */

/* K rows are scattered (16 keys lie side by side), V rows are not, except for pairs in BF16. */
static void ISA(kv_put)(const struct pn_kv_view *kv, int64_t pos, const float *k, const float *v)
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
            if (n == 16)
                vf_store((float *)kv->v + vi, vd);
            else
                vf_store_n((float *)kv->v + vi, vd, n);
        } else if (kv->type == PN_KV_Q8) {
            int8_t kq[16], vq[16];
            _mm_storeu_si128((void *)kq, q8_round(kd, k_inverse));
            _mm_storeu_si128((void *)vq, q8_round(vd, v_inverse));
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
