/* SPDX-License-Identifier: Apache-2.0 */
/* The scalar reference: every slot, in the order of operations that kern.h writes down. It is the
 * specification and is kept readable, not fast. Compiled with -ffp-contract=off; where the contract
 * says fma, fmaf is called. */
#include "kern/kern.h"

#include <math.h>
#include <string.h>

#include "kern/kern_c.h"
#include "kern/kern_math.h"
#include "kern/kv_layout.h"
#include "quant/blocks.h"

/* ---- the 16-lane rule ---- */

/* Sum of 16 lanes, pairwise: (i, i+8), (i, i+4), (i, i+2), (0, 1). */
static float lanes_sum(const float lanes[16])
{
    float t[16];
    memcpy(t, lanes, sizeof t);
    for (int step = 8; step >= 1; step /= 2) {
        for (int i = 0; i < step; i++)
            t[i] += t[i + step];
    }
    return t[0];
}

/* ---- dequantisation: dequant_<type>(dst, src, n) ---- */

#define DEQUANT32(type)                                                                           \
    static void dequant_##type(float *dst, const void *src, int64_t n)                            \
    {                                                                                             \
        const struct pn_##type *block = src;                                                      \
        for (int64_t i = 0; i < n / 32; i++) {                                                    \
            struct pn_unpacked32 u;                                                               \
            pn_unpack32_##type(&u, &block[i]);                                                    \
            pn_values32(dst + 32 * i, &u);                                                        \
        }                                                                                         \
    }
#define DEQUANT256(type)                                                                          \
    static void dequant_##type(float *dst, const void *src, int64_t n)                            \
    {                                                                                             \
        const struct pn_##type *block = src;                                                      \
        for (int64_t i = 0; i < n / 256; i++) {                                                   \
            struct pn_unpacked256 u;                                                              \
            pn_unpack256_##type(&u, &block[i]);                                                   \
            pn_values256(dst + 256 * i, &u);                                                      \
        }                                                                                         \
    }
DEQUANT32(q4_0)
DEQUANT32(q4_1)
DEQUANT32(q5_0)
DEQUANT32(q5_1)
DEQUANT32(q8_0)
DEQUANT32(iq4_nl)
DEQUANT256(q2_k)
DEQUANT256(q3_k)
DEQUANT256(q4_k)
DEQUANT256(q5_k)
DEQUANT256(q6_k)
DEQUANT256(iq4_xs)

static void dequant_f32(float *dst, const void *src, int64_t n)
{
    const uint8_t *p = src;
    for (int64_t i = 0; i < n; i++)
        dst[i] = pn_f32_from_bits(pn_le32(p + 4 * i));
}

static void dequant_f16(float *dst, const void *src, int64_t n)
{
    const uint8_t *p = src;
    for (int64_t i = 0; i < n; i++)
        dst[i] = pn_f16_to_f32(pn_le16(p + 2 * i));
}

static void dequant_bf16(float *dst, const void *src, int64_t n)
{
    const uint8_t *p = src;
    for (int64_t i = 0; i < n; i++)
        dst[i] = pn_bf16_to_f32(pn_le16(p + 2 * i));
}

const pn_dequant_fn pn_dequant_c[PN_TYPE_COUNT] = {
    [PN_F32] = dequant_f32,   [PN_F16] = dequant_f16,       [PN_BF16] = dequant_bf16,
    [PN_Q4_0] = dequant_q4_0, [PN_Q4_1] = dequant_q4_1,     [PN_Q5_0] = dequant_q5_0,
    [PN_Q5_1] = dequant_q5_1, [PN_Q8_0] = dequant_q8_0,     [PN_IQ4_NL] = dequant_iq4_nl,
    [PN_Q2_K] = dequant_q2_k, [PN_Q3_K] = dequant_q3_k,     [PN_Q4_K] = dequant_q4_k,
    [PN_Q5_K] = dequant_q5_k, [PN_Q6_K] = dequant_q6_k,     [PN_IQ4_XS] = dequant_iq4_xs,
};

/* ---- int8 products: mm_<type> ---- */

/* One super-block of 256-types against one row of activations. The sums are exact, so types with
 * sub-blocks of 32 may be summed in halves of 16 as well. */
static float dot256(const struct pn_unpacked256 *u, const int8_t *q, const int16_t *s16)
{
    int32_t isum = 0, jsum = 0;
    for (int g = 0; g < 16; g++) {
        int32_t x = 0;
        for (int e = 16 * g; e < 16 * g + 16; e++)
            x += u->q[e] * q[e];
        isum += u->sc[g] * x;
        jsum += u->mn[g] * s16[g];
    }
    const float t = u->d * (float)isum;
    return fmaf(-u->dmin, (float)jsum, t);
}

/* One super-block of 32-types: up to eight groups, each with its own scale. */
static float dot8x32(const struct pn_unpacked32 *u, int n_groups, int has_m, const int8_t *q,
                     const int16_t *s32)
{
    float t = 0.0f;
    for (int g = 0; g < n_groups; g++) {
        int32_t x = 0;
        for (int e = 0; e < 32; e++)
            x += u[g].q[e] * q[32 * g + e];
        t = fmaf(u[g].d, (float)x, t);
        if (has_m)
            t = fmaf(u[g].m, (float)s32[g], t);
    }
    return t;
}

static void mm_clear(float *c, size_t ldc, int32_t n, int32_t m)
{
    for (int32_t i = 0; i < m; i++) {
        for (int32_t j = 0; j < n; j++)
            c[(size_t)i * ldc + (size_t)j] = 0.0f;
    }
}

/* Index of (super-block b, row i) in the arrays of a. */
static size_t act_cell(const struct pn_act *a, int32_t b, int32_t i)
{
    return (size_t)b * (size_t)a->m + (size_t)i;
}

#define MM256(type)                                                                               \
    static void mm_##type(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,       \
                          const struct pn_act *a, int32_t m0, int32_t m)                          \
    {                                                                                             \
        mm_clear(c, ldc, n, m);                                                                   \
        for (int32_t j = 0; j < n && m > 0; j++) {                                                \
            const void *row = (const uint8_t *)w + (size_t)j * row_bytes;                         \
            const struct pn_##type *block = row;                                                  \
            for (int32_t b = 0; b < a->nb; b++) {                                                 \
                struct pn_unpacked256 u;                                                          \
                pn_unpack256_##type(&u, &block[b]);                                               \
                for (int32_t i = 0; i < m; i++) {                                                 \
                    const size_t cell = act_cell(a, b, m0 + i);                                   \
                    float *y = &c[(size_t)i * ldc + (size_t)j];                                   \
                    const float t = dot256(&u, a->q + cell * PN_QK, a->s16 + cell * 16);          \
                    *y = fmaf(t, a->d[cell], *y);                                                 \
                }                                                                                 \
            }                                                                                     \
        }                                                                                         \
    }
#define MM32(type, has_m)                                                                         \
    static void mm_##type(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,       \
                          const struct pn_act *a, int32_t m0, int32_t m)                          \
    {                                                                                             \
        mm_clear(c, ldc, n, m);                                                                   \
        for (int32_t j = 0; j < n && m > 0; j++) {                                                \
            const void *row = (const uint8_t *)w + (size_t)j * row_bytes;                         \
            const struct pn_##type *block = row;                                                  \
            for (int32_t b = 0; b < a->nb; b++) {                                                 \
                const int32_t left = a->k / 32 - 8 * b, n_groups = left < 8 ? left : 8;           \
                struct pn_unpacked32 u[8];                                                        \
                for (int32_t g = 0; g < n_groups; g++)                                            \
                    pn_unpack32_##type(&u[g], &block[8 * b + g]);                                 \
                for (int32_t i = 0; i < m; i++) {                                                 \
                    const size_t cell = act_cell(a, b, m0 + i);                                   \
                    float *y = &c[(size_t)i * ldc + (size_t)j];                                   \
                    const float t = dot8x32(u, n_groups, has_m, a->q + cell * PN_QK,              \
                                            a->s32 + cell * 8);                                   \
                    *y = fmaf(t, a->d[cell], *y);                                                 \
                }                                                                                 \
            }                                                                                     \
        }                                                                                         \
    }
MM32(q4_0, 0)
MM32(q4_1, 1)
MM32(q5_0, 0)
MM32(q5_1, 1)
MM32(q8_0, 0)
MM32(iq4_nl, 0)
MM256(q2_k)
MM256(q3_k)
MM256(q4_k)
MM256(q5_k)
MM256(q6_k)
MM256(iq4_xs)

/* ---- f32 products: mm_f32_<type> ---- */

/* 256 weights of a row are dequantised at a time and used for up to 16 rows of x. */
static void mm_f32_any(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n, int32_t k,
                       const float *x, size_t ldx, int32_t m, pn_dequant_fn dequant,
                       size_t bytes_per_256)
{
    for (int32_t j = 0; j < n; j++) {
        const uint8_t *row = (const uint8_t *)w + (size_t)j * row_bytes;
        for (int32_t i0 = 0; i0 < m; i0 += 16) {
            const int32_t mi = m - i0 < 16 ? m - i0 : 16;
            float lanes[16][16] = { { 0 } };
            for (int32_t k0 = 0; k0 < k; k0 += 256) {
                const int32_t kn = k - k0 < 256 ? k - k0 : 256;
                float wt[256];
                dequant(wt, row + (size_t)(k0 / 256) * bytes_per_256, kn);
                for (int32_t i = 0; i < mi; i++) {
                    const float *xi = x + (size_t)(i0 + i) * ldx + (size_t)k0;
                    for (int32_t e = 0; e < kn; e++)
                        lanes[i][e % 16] = fmaf(xi[e], wt[e], lanes[i][e % 16]);
                }
            }
            for (int32_t i = 0; i < mi; i++)
                c[(size_t)(i0 + i) * ldc + (size_t)j] = lanes_sum(lanes[i]);
        }
    }
}

#define MM_F32(type, bytes_per_256)                                                               \
    static void mm_f32_##type(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,   \
                              int32_t k, const float *x, size_t ldx, int32_t m)                   \
    {                                                                                             \
        mm_f32_any(c, ldc, w, row_bytes, n, k, x, ldx, m, dequant_##type, bytes_per_256);         \
    }
MM_F32(f32, 1024)
MM_F32(f16, 512)
MM_F32(bf16, 512)
MM_F32(q4_0, 8 * sizeof(struct pn_q4_0))
MM_F32(q4_1, 8 * sizeof(struct pn_q4_1))
MM_F32(q5_0, 8 * sizeof(struct pn_q5_0))
MM_F32(q5_1, 8 * sizeof(struct pn_q5_1))
MM_F32(q8_0, 8 * sizeof(struct pn_q8_0))
MM_F32(iq4_nl, 8 * sizeof(struct pn_iq4_nl))
MM_F32(q2_k, sizeof(struct pn_q2_k))
MM_F32(q3_k, sizeof(struct pn_q3_k))
MM_F32(q4_k, sizeof(struct pn_q4_k))
MM_F32(q5_k, sizeof(struct pn_q5_k))
MM_F32(q6_k, sizeof(struct pn_q6_k))
MM_F32(iq4_xs, sizeof(struct pn_iq4_xs))

/* ---- int8 quantisation of activations and of KV rows ---- */

static uint32_t amax_bits(const float *x, int32_t n)
{
    uint32_t max = 0;
    for (int32_t i = 0; i < n; i++) {
        const uint32_t u = pn_f32_bits(x[i]) & 0x7fffffffu;
        max = u > max ? u : max;
    }
    return max;
}

/* inverse == 0 stands for "all zero": x may then hold NaN, which must not be converted. */
static int8_t q8_round(float x, float inverse)
{
    return inverse == 0.0f ? 0 : (int8_t)lrintf(x * inverse);
}

static void quant_act(struct pn_act *a, int32_t m_index, const float *x)
{
    for (int32_t b = 0; b < a->nb; b++) {
        const int32_t left = a->k - PN_QK * b, n = left < PN_QK ? left : PN_QK;
        const float *xb = x + (size_t)b * PN_QK;
        const size_t cell = act_cell(a, b, m_index);
        int8_t *q = a->q + cell * PN_QK;
        float inverse;
        a->d[cell] = pn_q8_scale(amax_bits(xb, n), &inverse);
        for (int32_t e = 0; e < PN_QK; e++)
            q[e] = e < n ? q8_round(xb[e], inverse) : 0;
        for (int g = 0; g < 16; g++) {
            int32_t sum = 0;
            for (int e = 16 * g; e < 16 * g + 16; e++)
                sum += q[e];
            a->s16[cell * 16 + (size_t)g] = (int16_t)sum;
        }
        for (size_t g = 0; g < 8; g++) {
            const int16_t *s16 = a->s16 + cell * 16 + 2 * g;
            a->s32[cell * 8 + g] = (int16_t)(s16[0] + s16[1]);
        }
    }
}

static void quant_q8_0(void *dst, const float *x, int64_t n)
{
    struct pn_q8_0 *block = dst;
    for (int64_t i = 0; i < n / 32; i++, x += 32) {
        float inverse;
        pn_put_le16(block[i].d, pn_q8_0_scale(amax_bits(x, 32), &inverse));
        for (int e = 0; e < 32; e++) {
            const float y = inverse == 0.0f ? 0.0f : x[e] * inverse;
            block[i].qs[e] = (int8_t)lrintf(y > 127.0f ? 127.0f : y < -127.0f ? -127.0f : y);
        }
    }
}

/* ---- vectors ---- */

static void rmsnorm(float *y, const float *x, const float *w, int32_t n, float eps)
{
    float lanes[16] = { 0 };
    for (int32_t i = 0; i < n; i++)
        lanes[i % 16] = fmaf(x[i], x[i], lanes[i % 16]);
    const float r = 1.0f / sqrtf(lanes_sum(lanes) / (float)n + eps);
    for (int32_t i = 0; i < n; i++)
        y[i] = (x[i] * r) * w[i];
}

static void layernorm(float *y, const float *x, const float *w, const float *b, int32_t n,
                      float eps)
{
    float lanes[16] = { 0 };
    for (int32_t i = 0; i < n; i++)
        lanes[i % 16] += x[i];
    const float mean = lanes_sum(lanes) / (float)n;
    memset(lanes, 0, sizeof lanes);
    for (int32_t i = 0; i < n; i++) {
        const float t = x[i] - mean;
        lanes[i % 16] = fmaf(t, t, lanes[i % 16]);
    }
    const float r = 1.0f / sqrtf(lanes_sum(lanes) / (float)n + eps);
    for (int32_t i = 0; i < n; i++)
        y[i] = fmaf((x[i] - mean) * r, w[i], b[i]);
}

static void rope_pair(float *a, float *b, float cs, float sn)
{
    const float a0 = *a, b0 = *b;
    *a = fmaf(a0, cs, -(b0 * sn));
    *b = fmaf(b0, cs, a0 * sn);
}

static void rope_half(float *x, const float *cs, const float *sn, int32_t hd)
{
    for (int32_t i = 0; i < hd / 2; i++)
        rope_pair(&x[i], &x[i + hd / 2], cs[i], sn[i]);
}

static void rope_inter(float *x, const float *cs, const float *sn, int32_t hd)
{
    for (int32_t i = 0; i < hd / 2; i++)
        rope_pair(&x[2 * i], &x[2 * i + 1], cs[i], sn[i]);
}

static void silu_mul(float *y, const float *g, const float *u, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        y[i] = pn_siluf_mul(g[i], u[i]);
}

static void gelu(float *y, const float *x, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        y[i] = pn_geluf(x[i]);
}

static void axpy(float *y, const float *x, float s, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        y[i] = fmaf(s, x[i], y[i]);
}

static void add(float *y, const float *x, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        y[i] += x[i];
}

/* ---- attention ---- */

static void kv_put(const struct pn_kv_view *kv, int64_t pos, const float *k, const float *v)
{
    const int32_t hd = kv->hd;
    float k_inverse = 0.0f, v_inverse = 0.0f;
    if (kv->type == PN_KV_Q8) {
        kv->ks[pos] = pn_q8_scale(amax_bits(k, hd), &k_inverse);
        kv->vs[pos] = pn_q8_scale(amax_bits(v, hd), &v_inverse);
    }
    for (int32_t d = 0; d < hd; d++) {
        const size_t ki = pn_kv_k_index(kv->type, hd, pos, d);
        const size_t vi = pn_kv_v_index(kv->type, hd, pos, d);
        switch (kv->type) {
        case PN_KV_F16:
            ((uint16_t *)kv->k)[ki] = pn_f32_to_f16(k[d]);
            ((uint16_t *)kv->v)[vi] = pn_f32_to_f16(v[d]);
            break;
        case PN_KV_BF16:
            ((uint16_t *)kv->k)[ki] = pn_f32_to_bf16(k[d]);
            ((uint16_t *)kv->v)[vi] = pn_f32_to_bf16(v[d]);
            break;
        case PN_KV_Q8:
            ((int8_t *)kv->k)[ki] = q8_round(k[d], k_inverse);
            ((int8_t *)kv->v)[vi] = q8_round(v[d], v_inverse);
            break;
        default: /* PN_KV_F32 */
            ((float *)kv->k)[ki] = k[d];
            ((float *)kv->v)[vi] = v[d];
            break;
        }
    }
}

static float kv_load(enum pn_kv_type type, const void *data, size_t i)
{
    switch (type) {
    case PN_KV_F16:
        return pn_f16_to_f32(((const uint16_t *)data)[i]);
    case PN_KV_BF16:
        return pn_bf16_to_f32(((const uint16_t *)data)[i]);
    case PN_KV_Q8:
        return (float)((const int8_t *)data)[i];
    default: /* PN_KV_F32 */
        return ((const float *)data)[i];
    }
}

static float score(const float *q, const struct pn_kv_view *kv, int64_t j, const float *bias)
{
    float s = 0.0f;
    for (int32_t d = 0; d < kv->hd; d++)
        s = fmaf(q[d], kv_load(kv->type, kv->k, pn_kv_k_index(kv->type, kv->hd, j, d)), s);
    if (kv->type == PN_KV_Q8)
        s *= kv->ks[j];
    return bias != NULL ? s + bias[j] : s;
}

/* One tile of one row: keys first .. first+n-1, n <= PN_ATTN_TILE, all visible. */
static void attn_tile(struct pn_attn_part *part, const float *q, const struct pn_kv_view *kv,
                      int64_t first, int32_t n, const float *bias)
{
    float s[PN_ATTN_TILE];
    float max = -INFINITY;
    for (int32_t j = 0; j < n; j++) {
        s[j] = score(q, kv, first + j, bias);
        max = s[j] > max ? s[j] : max;
    }
    if (max > part->m) {
        const float c = pn_expf(part->m - max);
        for (int i = 0; i < 16; i++)
            part->l[i] *= c;
        for (int32_t d = 0; d < kv->hd; d++)
            part->o[d] *= c;
        part->m = max;
    }
    for (int32_t j = 0; j < n; j++) {
        float p = pn_expf(s[j] - part->m);
        part->l[j % 16] += p;
        if (kv->type == PN_KV_Q8)
            p *= kv->vs[first + j];
        for (int32_t d = 0; d < kv->hd; d++) {
            const size_t vi = pn_kv_v_index(kv->type, kv->hd, first + j, d);
            part->o[d] = fmaf(p, kv_load(kv->type, kv->v, vi), part->o[d]);
        }
    }
}

static void attn(float *part, const float *q, size_t ldq, int32_t nq, const int32_t *n_keys,
                 const struct pn_kv_view *kv, int64_t key0, const float *bias)
{
    const size_t stride = pn_attn_part_floats(kv->hd);
    for (int32_t i = 0; i < nq; i++) {
        float *row = part + (size_t)i * stride;
        struct pn_attn_part *p = (struct pn_attn_part *)row;
        memset(row, 0, stride * sizeof(float));
        p->m = -INFINITY;
        const int64_t chunk_end = key0 + PN_ATTN_CHUNK;
        const int64_t end = n_keys[i] < chunk_end ? n_keys[i] : chunk_end;
        for (int64_t first = key0; first < end; first += PN_ATTN_TILE) {
            const int64_t left = end - first;
            const int32_t n = left < PN_ATTN_TILE ? (int32_t)left : PN_ATTN_TILE;
            attn_tile(p, q + (size_t)i * ldq, kv, first, n, bias);
        }
    }
}

static void attn_merge(float *acc, const float *part, int32_t hd)
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
    const float ca = pn_expf(a->m - m), cp = pn_expf(p->m - m);
    for (int i = 0; i < 16; i++)
        a->l[i] = fmaf(p->l[i], cp, a->l[i] * ca);
    for (int32_t d = 0; d < hd; d++)
        a->o[d] = fmaf(p->o[d], cp, a->o[d] * ca);
    a->m = m;
}

static void attn_finish(float *out, const float *acc, int32_t hd)
{
    const struct pn_attn_part *a = (const struct pn_attn_part *)acc;
    const float sum = lanes_sum(a->l);
    for (int32_t d = 0; d < hd; d++)
        out[d] = a->m == -INFINITY ? 0.0f : a->o[d] / sum;
}

/* ---- the peak of this tier: plain multiplies and adds, which the compiler may put into whatever
 * vectors the baseline has ---- */

static uint64_t peak_f32(uint64_t iters)
{
    enum { LANES = 32 };
    float acc[LANES];
    for (int i = 0; i < LANES; i++)
        acc[i] = (float)i;
    for (uint64_t t = 0; t < iters; t += LANES) {
        for (int i = 0; i < LANES; i++)
            acc[i] = acc[i] * 0.5f + 1.0f;
    }
    volatile float sink = lanes_sum(acc) + lanes_sum(acc + 16);
    (void)sink;
    return (iters + LANES - 1) / LANES * LANES * 2;
}

/* ---- pictures ---- */

enum { FRACTION = 22, HALF = 1 << (FRACTION - 1) };

static inline uint8_t to_byte(int32_t sum)
{
    sum >>= FRACTION;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static void resize_across(uint8_t *out, const uint8_t *in, int32_t w, int32_t in_w, const int32_t *first,
                          const int32_t *count, const int32_t *weight, size_t size)
{
    (void)in_w;
    for (int32_t x = 0; x < w; x++) {
        const int32_t *k = weight + (size_t)x * size;
        const uint8_t *p = in + 3 * (size_t)first[x];
        int32_t r = HALF, g = HALF, b = HALF;
        for (int32_t j = 0; j < count[x]; j++) {
            r += p[3 * j] * k[j];
            g += p[3 * j + 1] * k[j];
            b += p[3 * j + 2] * k[j];
        }
        out[3 * x] = to_byte(r);
        out[3 * x + 1] = to_byte(g);
        out[3 * x + 2] = to_byte(b);
    }
}

/* In strips that stay in the first cache. */
static void resize_down(uint8_t *out, const uint8_t *in, size_t stride, size_t n_bytes, const int32_t *weight,
                        int32_t n)
{
    enum { STRIP = 1024 };
    int32_t acc[STRIP];
    for (size_t x0 = 0; x0 < n_bytes; x0 += STRIP) {
        const size_t m = n_bytes - x0 < STRIP ? n_bytes - x0 : STRIP;
        for (size_t x = 0; x < m; x++)
            acc[x] = HALF;
        for (int32_t j = 0; j < n; j++) {
            const uint8_t *p = in + (size_t)j * stride + x0;
            for (size_t x = 0; x < m; x++)
                acc[x] += p[x] * weight[j];
        }
        for (size_t x = 0; x < m; x++)
            out[x0 + x] = to_byte(acc[x]);
    }
}

void pn_kern_init_scalar(struct pn_kern *k)
{
    memset(k, 0, sizeof *k);
    k->tier = "scalar";
    memcpy(k->dequant, pn_dequant_c, sizeof k->dequant);
#define TYPED(id, type) k->mm_f32[id] = (struct pn_kern_mm_f32){ mm_f32_##type, { 1, 1 } }
#define QUANTISED(id, type)                                                                       \
    TYPED(id, type);                                                                              \
    k->mm[id] = (struct pn_kern_mm){ mm_##type, { 1, 1 } }
    TYPED(PN_F32, f32);
    TYPED(PN_F16, f16);
    TYPED(PN_BF16, bf16);
    QUANTISED(PN_Q4_0, q4_0);
    QUANTISED(PN_Q4_1, q4_1);
    QUANTISED(PN_Q5_0, q5_0);
    QUANTISED(PN_Q5_1, q5_1);
    QUANTISED(PN_Q8_0, q8_0);
    QUANTISED(PN_IQ4_NL, iq4_nl);
    QUANTISED(PN_Q2_K, q2_k);
    QUANTISED(PN_Q3_K, q3_k);
    QUANTISED(PN_Q4_K, q4_k);
    QUANTISED(PN_Q5_K, q5_k);
    QUANTISED(PN_Q6_K, q6_k);
    QUANTISED(PN_IQ4_XS, iq4_xs);
#undef QUANTISED
#undef TYPED
    k->quant_act = quant_act;
    k->quant_q8_0 = quant_q8_0;
    k->rmsnorm = rmsnorm;
    k->layernorm = layernorm;
    k->rope_half = rope_half;
    k->rope_inter = rope_inter;
    k->silu_mul = silu_mul;
    k->gelu = gelu;
    k->axpy = axpy;
    k->add = add;
    k->kv_put = kv_put;
    k->attn = attn;
    k->attn_merge = attn_merge;
    k->attn_finish = attn_finish;
    k->resize_across = resize_across;
    k->resize_down = resize_down;
    k->peak_f32 = peak_f32;
}
