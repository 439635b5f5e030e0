/* SPDX-License-Identifier: Apache-2.0 */
/* Dequantisation and the f32 products.
 *
 * Lanes run along k, so the order of every sum is the contract's whatever the tile. The 16 lanes
 * are four registers that never meet before the end: a register tile takes one of the four (a
 * "quarter") of 4 weight rows x up to 6 activation rows and goes through k in steps of 16, then the
 * next quarter; 24 sums for 10 loads. Fewer activation rows take several quarters at once.
 * 8 weight rows x 512 columns are dequantised at a time (16 KiB, L1); 48 activation rows pass over
 * all weights before the next do: they stay in L2, and their lanes wait on the stack. */
#ifndef PN_ARM_MMF_H
#define PN_ARM_MMF_H

#include "arm_unpack.h"
#include "kern/kern.h"

#define MMF_NW 4
#define MMF_MX 6
#define MMF_NB 8
#define MMF_KC 512
#define MMF_M_CHUNK 48

/* ---- dequant ---- */

/* x = scale * q - min: the product is exact, one rounding */
INLINE void put16(float *x, int8x16_t q, float scale, float min)
{
    vf_store(x, vf_fma_n(vf_from_i8(q), scale, vf_set1(-min)));
}
/* Also right for a NaN, as FCVT and pn_f16_to_f32 agree. */
INLINE float f16_at(const uint8_t *p)
{
    return pn_f16_to_f32(pn_le16(p));
}

#define DEQUANT32(type, min)                                                                      \
    static void dequant_##type(float *dst, const void *src, int64_t n)                            \
    {                                                                                             \
        const struct pn_##type *b = src;                                                          \
        for (int64_t i = 0; i < n / 32; i++, b++) {                                               \
            put16(dst + 32 * i, q16_##type(b, 0), f16_at(b->d), min);                             \
            put16(dst + 32 * i + 16, q16_##type(b, 1), f16_at(b->d), min);                        \
        }                                                                                         \
    }
/* per_scale: log2 of the vectors of 16 that share one */
#define DEQUANT256(type, per_scale, min)                                                          \
    static void dequant_##type(float *dst, const void *src, int64_t n)                            \
    {                                                                                             \
        const struct pn_##type *b = src;                                                          \
        for (int64_t i = 0; i < n / 256; i++, b++) {                                              \
            int16x8_t sv[2] = { vdupq_n_s16(0), vdupq_n_s16(0) }, mv[2] = { sv[0], sv[0] };       \
            int16_t sc[16], mn[16];                                                               \
            scales_##type(sv, mv, b);                                                             \
            vst1q_s16(sc, sv[0]);                                                                 \
            vst1q_s16(sc + 8, sv[1]);                                                             \
            vst1q_s16(mn, mv[0]);                                                                 \
            vst1q_s16(mn + 8, mv[1]);                                                             \
            const float d = f16_at(b->d), dmin = min;                                             \
            for (int e = 0; e < 16; e++)                                                          \
                put16(dst + 256 * i + 16 * e, q16_##type(b, e), d * (float)sc[e >> (per_scale)],  \
                      dmin * (float)mn[e >> (per_scale)]);                                        \
        }                                                                                         \
    }
DEQUANT32(q4_0, 0.0f)
DEQUANT32(q4_1, -f16_at(b->m))
DEQUANT32(q5_0, 0.0f)
DEQUANT32(q5_1, -f16_at(b->m))
DEQUANT32(q8_0, 0.0f)
DEQUANT32(iq4_nl, 0.0f)
DEQUANT256(q2_k, 0, f16_at(b->dmin))
DEQUANT256(q3_k, 0, 0.0f)
DEQUANT256(q4_k, 1, f16_at(b->dmin))
DEQUANT256(q5_k, 1, f16_at(b->dmin))
DEQUANT256(q6_k, 0, 0.0f)
DEQUANT256(iq4_xs, 1, 0.0f)

static void dequant_f32(float *dst, const void *src, int64_t n)
{
    memcpy(dst, src, (size_t)n * sizeof *dst);
}
static void dequant_f16(float *dst, const void *src, int64_t n)
{
    const uint8_t *p = src;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        vf_store(dst + i, vf_load_f16(p + 2 * i));
    for (; i < n; i++)
        dst[i] = pn_f16_to_f32(pn_le16(p + 2 * i));
}
static void dequant_bf16(float *dst, const void *src, int64_t n)
{
    const uint8_t *p = src;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        vf_store(dst + i, vf_load_bf16(p + 2 * i));
    for (; i < n; i++)
        dst[i] = pn_bf16_to_f32(pn_le16(p + 2 * i));
}

/* ---- products ---- */

/* acc[mx][MMF_NB][16] += lanes of k columns (a multiple of 16) of MMF_NW weight rows: `quarters` of
 * the four quarters, from the one that acc, w and x point to. quarters, mx constant. */
INLINE void mmf_tile(int quarters, int mx, float *acc, const float *w, const float *x, size_t ldx,
                     int32_t k)
{
    float32x4_t s[MMF_MX][MMF_NW][4];
    PRAGMA_UNROLL
    for (int i = 0; i < mx; i++) {
        PRAGMA_UNROLL
        for (int j = 0; j < MMF_NW; j++) {
            PRAGMA_UNROLL
            for (int q = 0; q < quarters; q++)
                s[i][j][q] = vld1q_f32(acc + 16 * (i * MMF_NB + j) + 4 * q);
        }
    }
    for (int32_t e = 0; e < k; e += 16) {
        PRAGMA_UNROLL
        for (int q = 0; q < quarters; q++) {
            float32x4_t wv[MMF_NW];
            PRAGMA_UNROLL
            for (int j = 0; j < MMF_NW; j++)
                wv[j] = vld1q_f32(w + j * MMF_KC + e + 4 * q);
            PRAGMA_UNROLL
            for (int i = 0; i < mx; i++) {
                const float32x4_t xv = vld1q_f32(x + (size_t)i * ldx + e + 4 * q);
                PRAGMA_UNROLL
                for (int j = 0; j < MMF_NW; j++)
                    s[i][j][q] = vfmaq_f32(s[i][j][q], xv, wv[j]);
            }
        }
    }
    PRAGMA_UNROLL
    for (int i = 0; i < mx; i++) {
        PRAGMA_UNROLL
        for (int j = 0; j < MMF_NW; j++) {
            PRAGMA_UNROLL
            for (int q = 0; q < quarters; q++)
                vst1q_f32(acc + 16 * (i * MMF_NB + j) + 4 * q, s[i][j][q]);
        }
    }
}

typedef void mmf_tile_fn(float *acc, const float *w, const float *x, size_t ldx, int32_t k);

#define MMF_TILE(mx, quarters)                                                                    \
    static __attribute__((noinline)) void mmf_tile_##mx(float *acc, const float *w,               \
                                                        const float *x, size_t ldx, int32_t k)    \
    {                                                                                             \
        for (int q = 0; q < 4; q += (quarters))                                                   \
            mmf_tile(quarters, mx, acc + 4 * q, w + 4 * q, x + 4 * q, ldx, k);                    \
    }
MMF_TILE(1, 4)
MMF_TILE(2, 2)
MMF_TILE(3, 2)
MMF_TILE(4, 1)
MMF_TILE(5, 1)
MMF_TILE(6, 1)
static mmf_tile_fn *const mmf_tiles[MMF_MX + 1] = { NULL,       mmf_tile_1, mmf_tile_2, mmf_tile_3,
                                                    mmf_tile_4, mmf_tile_5, mmf_tile_6 };

typedef void dequant_fn(float *dst, const void *src, int64_t n);

/* bytes: of MMF_KC weights */
INLINE void mmf_body(dequant_fn *dequant, size_t bytes, float *c, size_t ldc, const void *w,
                     size_t row_bytes, int32_t n, int32_t k, const float *x, size_t ldx, int32_t m)
{
    float tile[MMF_NB * MMF_KC] __attribute__((aligned(64)));
    float acc[MMF_M_CHUNK * MMF_NB * 16] __attribute__((aligned(64)));
    float tail[MMF_MX * 16]; /* the last k % 16 columns of x, and zeros */

    for (int32_t mc = 0; mc < m; mc += MMF_M_CHUNK) {
        const int32_t mm = m - mc < MMF_M_CHUNK ? m - mc : MMF_M_CHUNK;
        const int32_t n_tiles = (mm + MMF_MX - 1) / MMF_MX;
        for (int32_t j0 = 0; j0 < n; j0 += MMF_NB) {
            const int32_t rows = n - j0 < MMF_NB ? n - j0 : MMF_NB;
            const int32_t used = (rows + MMF_NW - 1) / MMF_NW * MMF_NW; /* zeros after rows */
            const uint8_t *first = (const uint8_t *)w + (size_t)j0 * row_bytes;
            memset(acc, 0, (size_t)mm * MMF_NB * 16 * sizeof *acc);
            for (int32_t k0 = 0; k0 < k; k0 += MMF_KC) {
                const int32_t kn = k - k0 < MMF_KC ? k - k0 : MMF_KC;
                const int32_t whole = kn & ~15, rest = kn - whole;
                const size_t at = (size_t)(k0 / MMF_KC) * bytes;
                for (int32_t j = 0; j < used; j++) {
                    float *t = tile + j * MMF_KC;
                    const int32_t have = j < rows ? kn : 0;
                    if (have > 0)
                        dequant(t, first + (size_t)j * row_bytes + at, kn);
                    memset(t + have, 0, (size_t)(((kn + 15) & ~15) - have) * sizeof *t);
                }
                int32_t i = 0;
                for (int32_t it = 0; it < n_tiles; it++) { /* nearly equal tiles */
                    const int32_t mx = (mm - i + n_tiles - it - 1) / (n_tiles - it);
                    const float *xi = x + (size_t)(mc + i) * ldx + (size_t)k0;
                    memset(tail, 0, sizeof tail);
                    for (int32_t r = 0; r < mx && rest > 0; r++)
                        memcpy(tail + 16 * r, xi + (size_t)r * ldx + whole,
                               (size_t)rest * sizeof *x);
                    for (int32_t j = 0; j < used; j += MMF_NW) {
                        float *a = acc + ((size_t)i * MMF_NB + (size_t)j) * 16;
                        const float *t = tile + j * MMF_KC;
                        mmf_tiles[mx](a, t, xi, ldx, whole);
                        if (rest > 0)
                            mmf_tiles[mx](a, t + whole, tail, 16, 16);
                    }
                    i += mx;
                }
            }
            for (int32_t i = 0; i < mm; i++) {
                for (int32_t j = 0; j < rows; j++)
                    c[(size_t)(mc + i) * ldc + (size_t)(j0 + j)] =
                        vf_sum(vf_load(acc + 16 * ((size_t)i * MMF_NB + (size_t)j)));
            }
        }
    }
}

#define MM_F32(type, block_elems, block_bytes)                                                    \
    static void mm_f32_##type(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,   \
                              int32_t k, const float *x, size_t ldx, int32_t m)                   \
    {                                                                                             \
        mmf_body(dequant_##type, MMF_KC / (block_elems) * (block_bytes), c, ldc, w, row_bytes, n, \
                 k, x, ldx, m);                                                                   \
    }
MM_F32(f32, 1, 4)
MM_F32(f16, 1, 2)
MM_F32(bf16, 1, 2)
MM_F32(q4_0, 32, sizeof(struct pn_q4_0))
MM_F32(q4_1, 32, sizeof(struct pn_q4_1))
MM_F32(q5_0, 32, sizeof(struct pn_q5_0))
MM_F32(q5_1, 32, sizeof(struct pn_q5_1))
MM_F32(q8_0, 32, sizeof(struct pn_q8_0))
MM_F32(iq4_nl, 32, sizeof(struct pn_iq4_nl))
MM_F32(q2_k, 256, sizeof(struct pn_q2_k))
MM_F32(q3_k, 256, sizeof(struct pn_q3_k))
MM_F32(q4_k, 256, sizeof(struct pn_q4_k))
MM_F32(q5_k, 256, sizeof(struct pn_q5_k))
MM_F32(q6_k, 256, sizeof(struct pn_q6_k))
MM_F32(iq4_xs, 256, sizeof(struct pn_iq4_xs))

#endif
