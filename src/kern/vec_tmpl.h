/* SPDX-License-Identifier: Apache-2.0 */
/* The slots of a tier that do not read weight formats, over its vector of sixteen lanes: norms,
 * activations, rotary embedding, int8 quantisation, KV rows, attention. Every operation is the one of kern_c.c, lane by
 * lane, so one text serves all tiers and gives the same bits in each.
 *
 * To be included after the tier's own header, which supplies what attn_tmpl.h asks for, and
 *
 *   ISA(name)                   the tier's name of a function
 *   vf_neg(x), vf_abs(x)        the sign bit turned, cleared
 *   vf_fms(x, y, c)             x * y - c, rounded once
 *   vf_umax(x, y), vf_humax(x)  the larger, the largest lane, the bits as unsigned integers
 *   vf_erf(x)                   pn_erff
 *   vf_store_f16(p, x), vf_store_bf16(p, x)     rounded as pn_f32_to_f16, pn_f32_to_bf16
 *   vi8                         sixteen int8
 *   vi8_zero(), vi8_store(p, q)
 *   vi8_sum(q)                  of all sixteen
 *   sums_of_pairs(s, p)         s[g] = p[2g] + p[2g + 1], eight int16
 *   vf_to_i8(x)                 to the nearest, ties to even; |x| < 128
 *   rope_4_pairs(x, c, s)       (a, b) of four pairs side by side, their four c and s:
 *                               a = fma(a, c, -(b * s)), b = fma(b, c, a * s) */
#ifndef PN_VEC_TMPL_H
#define PN_VEC_TMPL_H

#include "kern/attn_tmpl.h"
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

static void ISA(silu_mul)(float *y, const float *g, const float *u, int32_t n)
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

static void ISA(gelu)(float *y, const float *x, int32_t n)
{
    FOR_VECTORS(i, n, vf_store(y + i, gelu_16(vf_load(x + i))),
                vf_store_n(y + i, gelu_16(vf_load_n(x + i, rest)), rest));
}

static void ISA(axpy)(float *y, const float *x, float s, int32_t n)
{
    FOR_VECTORS(i, n, vf_store(y + i, vf_fma_n(vf_load(x + i), s, vf_load(y + i))),
                vf_store_n(y + i, vf_fma_n(vf_load_n(x + i, rest), s, vf_load_n(y + i, rest)),
                           rest));
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
    FOR_VECTORS(i, n, vf_store(y + i, vf_mul(vf_mul(vf_load(x + i), r), vf_load(w + i))),
                vf_store_n(y + i, vf_mul(vf_mul(vf_load_n(x + i, rest), r), vf_load_n(w + i, rest)),
                           rest));
}

/* Squares of x - mean in the first n lanes. */
INLINE vf square_from(vf x, vf mean, vf lanes, int n)
{
    const vf t = vf_keep_n(vf_sub(x, mean), n);
    return vf_fma(t, t, lanes);
}

INLINE vf normed(vf x, vf mean, vf r, vf w, vf b)
{
    return vf_fma(vf_mul(vf_sub(x, mean), r), w, b);
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
                vf_store(y + i, normed(vf_load(x + i), mean, r, vf_load(w + i), vf_load(b + i))),
                vf_store_n(y + i, normed(vf_load_n(x + i, rest), mean, r, vf_load_n(w + i, rest),
                                         vf_load_n(b + i, rest)),
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
    const int32_t n = hd / 2;
    int32_t i = 0;
    for (; i + 4 <= n; i += 4)
        rope_4_pairs(x + 2 * i, cs + i, sn + i);
    for (; i < n; i++) {
        const float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = fmaf(a, cs[i], -(b * sn[i]));
        x[2 * i + 1] = fmaf(b, cs[i], a * sn[i]);
    }
}

/* ---- int8 quantisation ---- */

static inline uint32_t amax_bits(const float *x, int32_t n)
{
    vf max = vf_zero();
    FOR_VECTORS(i, n, max = vf_umax(max, vf_abs(vf_load(x + i))),
                max = vf_umax(max, vf_abs(vf_load_n(x + i, rest))));
    return vf_humax(max);
}

/* inverse == 0 stands for "all zero" whatever x holds. */
INLINE vi8 q8_round(vf x, float inverse)
{
    return inverse == 0.0f ? vi8_zero() : vf_to_i8(vf_mul(x, vf_set1(inverse)));
}

static void ISA(quant_act)(struct pn_act *a, int32_t m_index, const float *x)
{
    for (int32_t b = 0; b < a->nb; b++) {
        const int32_t left = a->k - PN_QK * b, n = left < PN_QK ? left : PN_QK;
        const float *xb = x + (size_t)b * PN_QK;
        const size_t cell = (size_t)b * (size_t)a->m + (size_t)m_index;
        float inverse;
        a->d[cell] = pn_q8_scale(amax_bits(xb, n), &inverse);
        for (int g = 0; g < 16; g++) {
            const int32_t rest = n - 16 * g;
            vi8 q = vi8_zero();
            if (rest >= 16)
                q = q8_round(vf_load(xb + 16 * g), inverse);
            else if (rest > 0)
                q = q8_round(vf_load_n(xb + 16 * g, rest), inverse);
            vi8_store(a->q + cell * PN_QK + 16 * g, q);
            a->s16[cell * 16 + (size_t)g] = (int16_t)vi8_sum(q);
        }
        sums_of_pairs(a->s32 + cell * 8, a->s16 + cell * 16);
    }
}

INLINE vf within_127(vf x)
{
    const vf least = vf_set1(-127.0f);
    return vf_neg(vf_max(vf_neg(vf_max(x, least)), least));
}

static void ISA(quant_q8_0)(void *dst, const float *x, int64_t n)
{
    struct pn_q8_0 *block = dst;
    for (int64_t i = 0; i < n / 32; i++, x += 32) {
        const vf lo = vf_load(x), hi = vf_load(x + 16);
        float inverse;
        pn_put_le16(block[i].d, pn_q8_0_scale(vf_humax(vf_umax(vf_abs(lo), vf_abs(hi))), &inverse));
        if (inverse == 0.0f) {
            memset(block[i].qs, 0, 32);
            continue;
        }
        const vf s = vf_set1(inverse);
        vi8_store(block[i].qs, vf_to_i8(within_127(vf_mul(lo, s))));
        vi8_store(block[i].qs + 16, vf_to_i8(within_127(vf_mul(hi, s))));
    }
}

/* ---- KV rows ---- */

/* K rows are scattered (16 keys lie side by side), V rows are not, except for pairs in BF16. */
static void ISA(kv_put)(const struct pn_kv_view *kv, int64_t pos, const float *k, const float *v)
{
    const int32_t hd = kv->hd;
    float k_inverse = 0.0f, v_inverse = 0.0f;
    if (kv->type == PN_KV_Q8) {
        kv->ks[pos] = pn_q8_scale(amax_bits(k, hd), &k_inverse);
        kv->vs[pos] = pn_q8_scale(amax_bits(v, hd), &v_inverse);
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
            vi8_store(kq, q8_round(kd, k_inverse));
            vi8_store(vq, q8_round(vd, v_inverse));
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

/* ---- attention ---- */

#define ATTN(name, type)                                                                          \
    static __attribute__((noinline)) void ISA(name)(float *part, const float *q, size_t ldq,      \
                                                    int32_t nq, const int32_t *n_keys,            \
                                                    const struct pn_kv_view *kv, int64_t key0,    \
                                                    const float *bias)                            \
    {                                                                                             \
        attn_body(type, part, q, ldq, nq, n_keys, kv, key0, bias);                                \
    }
ATTN(attn_f32, PN_KV_F32)
ATTN(attn_f16, PN_KV_F16)
ATTN(attn_bf16kv, PN_KV_BF16)
ATTN(attn_q8, PN_KV_Q8)
#undef ATTN

static void ISA(attn)(float *part, const float *q, size_t ldq, int32_t nq, const int32_t *n_keys,
                      const struct pn_kv_view *kv, int64_t key0, const float *bias)
{
    switch (kv->type) {
    case PN_KV_F16:
        ISA(attn_f16)(part, q, ldq, nq, n_keys, kv, key0, bias);
        break;
    case PN_KV_BF16:
        ISA(attn_bf16kv)(part, q, ldq, nq, n_keys, kv, key0, bias);
        break;
    case PN_KV_Q8:
        ISA(attn_q8)(part, q, ldq, nq, n_keys, kv, key0, bias);
        break;
    default:
        ISA(attn_f32)(part, q, ldq, nq, n_keys, kv, key0, bias);
        break;
    }
}

static void ISA(attn_merge)(float *acc, const float *part, int32_t hd)
{
    struct pn_attn_part *a = (struct pn_attn_part *)acc;
    const struct pn_attn_part *p = (const struct pn_attn_part *)part;
    if (p->m == -INFINITY)
        return;
    if (a->m == -INFINITY) {
        memcpy(acc, part, pn_attn_part_floats(hd) * sizeof(float));
        return;
    }
    const float m = a->m > p->m ? a->m : p->m;
    const vf ca = vf_set1(pn_expf(a->m - m)), cp = vf_set1(pn_expf(p->m - m));
    vf_store(a->l, vf_fma(vf_load(p->l), cp, vf_mul(vf_load(a->l), ca)));
    for (int32_t d = 0; d < hd; d += 16)
        vf_store(a->o + d, vf_fma(vf_load(p->o + d), cp, vf_mul(vf_load(a->o + d), ca)));
    a->m = m;
}

static void ISA(attn_finish)(float *out, const float *acc, int32_t hd)
{
    const struct pn_attn_part *a = (const struct pn_attn_part *)acc;
    const vf sum = vf_set1(vf_sum(vf_load(a->l)));
    const int empty = a->m == -INFINITY;
    for (int32_t d = 0; d < hd; d += 16) {
        const vf y = empty ? vf_zero() : vf_div(vf_load(a->o + d), sum);
        if (hd - d >= 16)
            vf_store(out + d, y);
        else
            vf_store_n(out + d, y, hd - d);
    }
}

static inline void fill_vec_slots(struct pn_kern *k)
{
    k->quant_act = ISA(quant_act);
    k->quant_q8_0 = ISA(quant_q8_0);
    k->rmsnorm = ISA(rmsnorm);
    k->layernorm = ISA(layernorm);
    k->rope_half = ISA(rope_half);
    k->rope_inter = ISA(rope_inter);
    k->silu_mul = ISA(silu_mul);
    k->gelu = ISA(gelu);
    k->axpy = ISA(axpy);
    k->add = ISA(add);
    k->kv_put = ISA(kv_put);
    k->attn = ISA(attn);
    k->attn_merge = ISA(attn_merge);
    k->attn_finish = ISA(attn_finish);
}

#endif
