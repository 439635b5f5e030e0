/* SPDX-License-Identifier: Apache-2.0 */
/* Products of f32 activations and float weights in bf16, with BFMMLA (2 x 4 by 4 x 2).
 *
 * Both operands are rounded to bf16 and packed in pairs of rows, 512 columns at a time: 48
 * activation rows [128 steps][np][2][4] per tile of np pairs, once for 64 weight rows; 8 weight
 * rows [128 steps][4][2][4], once for the 48. A tile is 8 weight rows x 8 activation rows: 16 sums.
 * Missing rows and columns are zeros. A sum takes its columns in ascending steps of four: it does
 * not depend on m. */
#ifndef PN_ARM_BF16_H
#define PN_ARM_BF16_H

#include "arm_vf.h"
#include "kern/kern.h"

#define BF_KC 512
#define BF_M 48
#define BF_N 64
#define BF_NP 4 /* pairs of activation rows of a tile, at most */

typedef vf load16_fn(const uint8_t *p);

INLINE vf load16_f32(const uint8_t *p)
{
    return vf_load((const float *)(const void *)p);
}
INLINE vf load16_f16(const uint8_t *p)
{
    return vf_load_f16(p);
}
INLINE vf load16_bf16(const uint8_t *p)
{
    return vf_load_bf16(p);
}

/* Columns 0 .. k - 1 of a row into its places of a packed operand: four at a time, `stride`
 * elements apart. elem: bytes of an element of src. */
INLINE void bf_pack_row(load16_fn *load, size_t elem, bfloat16_t *out, size_t stride,
                        const uint8_t *src, int32_t k)
{
    for (int32_t e = 0; e < k; e += 16) {
        uint8_t copy[64] = { 0 };
        const uint8_t *p = src + (size_t)e * elem;
        if (k - e < 16) {
            memcpy(copy, p, (size_t)(k - e) * elem);
            p = copy;
        }
        const vf x = load(p);
        PRAGMA_UNROLL
        for (int q = 0; q < 4; q++)
            vst1_bf16(out + (size_t)(e / 4 + q) * stride, vcvt_bf16_f32(x.v[q]));
    }
}

/* c[2 np][BF_N] += steps of four columns; c: at the first of eight weights. np is a constant. */
INLINE void bf_tile(int np, float *c, const bfloat16_t *w, const bfloat16_t *x, int32_t steps)
{
    float32x4_t s[BF_NP][4];
    PRAGMA_UNROLL
    for (int t = 0; t < np; t++) {
        PRAGMA_UNROLL
        for (int j = 0; j < 4; j++)
            s[t][j] = vcombine_f32(vld1_f32(c + 2 * t * BF_N + 2 * j),
                                   vld1_f32(c + (2 * t + 1) * BF_N + 2 * j));
    }
    for (int32_t i = 0; i < steps; i++) {
        bfloat16x8_t wv[4];
        PRAGMA_UNROLL
        for (int j = 0; j < 4; j++)
            wv[j] = vld1q_bf16(w + 32 * i + 8 * j);
        PRAGMA_UNROLL
        for (int t = 0; t < np; t++) {
            const bfloat16x8_t xv = vld1q_bf16(x + 8 * np * i + 8 * t);
            PRAGMA_UNROLL
            for (int j = 0; j < 4; j++)
                s[t][j] = vbfmmlaq_f32(s[t][j], xv, wv[j]);
        }
    }
    PRAGMA_UNROLL
    for (int t = 0; t < np; t++) {
        PRAGMA_UNROLL
        for (int j = 0; j < 4; j++) {
            vst1_f32(c + 2 * t * BF_N + 2 * j, vget_low_f32(s[t][j]));
            vst1_f32(c + (2 * t + 1) * BF_N + 2 * j, vget_high_f32(s[t][j]));
        }
    }
}

static __attribute__((noinline)) void bf_tile_4(float *c, const bfloat16_t *w, const bfloat16_t *x,
                                                int32_t steps)
{
    bf_tile(4, c, w, x, steps);
}
static __attribute__((noinline)) void bf_tile_1(float *c, const bfloat16_t *w, const bfloat16_t *x,
                                                int32_t steps)
{
    bf_tile(1, c, w, x, steps);
}

/* Pairs of the tile at pair t of n */
INLINE int32_t bf_pairs(int32_t t, int32_t n)
{
    return n - t >= BF_NP ? BF_NP : 1;
}

INLINE void bf_body(load16_fn *load, size_t elem, float *c, size_t ldc, const void *w,
                    size_t row_bytes, int32_t n, int32_t k, const float *x, size_t ldx, int32_t m)
{
    bfloat16_t xp[BF_M * BF_KC] __attribute__((aligned(64)));
    bfloat16_t wp[8 * BF_KC] __attribute__((aligned(64)));
    float acc[BF_M * BF_N] __attribute__((aligned(64)));
    for (int32_t mc = 0; mc < m; mc += BF_M) {
        const int32_t mm = m - mc < BF_M ? m - mc : BF_M, pairs = (mm + 1) / 2;
        for (int32_t n0 = 0; n0 < n; n0 += BF_N) {
            const int32_t nn = n - n0 < BF_N ? n - n0 : BF_N;
            memset(acc, 0, sizeof acc);
            for (int32_t k0 = 0; k0 < k; k0 += BF_KC) {
                const int32_t kn = k - k0 < BF_KC ? k - k0 : BF_KC, steps = (kn + 15) / 16 * 4;
                memset(xp, 0, (size_t)pairs * 2 * BF_KC * sizeof *xp);
                for (int32_t t = 0, np; t < pairs; t += np) {
                    np = bf_pairs(t, pairs);
                    for (int32_t i = 2 * t; i < 2 * (t + np) && i < mm; i++)
                        bf_pack_row(load16_f32, 4, xp + 2 * t * BF_KC + 4 * (i - 2 * t),
                                    (size_t)(8 * np),
                                    (const uint8_t *)(x + (size_t)(mc + i) * ldx + (size_t)k0), kn);
                }
                for (int32_t j = 0; j < nn; j += 8) {
                    memset(wp, 0, sizeof wp);
                    for (int32_t r = j; r < j + 8 && r < nn; r++)
                        bf_pack_row(load, elem, wp + 4 * (r - j), 32,
                                    (const uint8_t *)w + (size_t)(n0 + r) * row_bytes +
                                        (size_t)k0 * elem,
                                    kn);
                    for (int32_t t = 0, np; t < pairs; t += np) {
                        np = bf_pairs(t, pairs);
                        (np == BF_NP ? bf_tile_4 : bf_tile_1)(acc + 2 * t * BF_N + j, wp,
                                                              xp + 2 * t * BF_KC, steps);
                    }
                }
            }
            for (int32_t i = 0; i < mm; i++)
                memcpy(c + (size_t)(mc + i) * ldc + n0, acc + i * BF_N, (size_t)nn * sizeof *c);
        }
    }
}

#define MM_BF16(type, elem)                                                                       \
    static void mm_bf16_##type(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,  \
                               int32_t k, const float *x, size_t ldx, int32_t m)                  \
    {                                                                                             \
        bf_body(load16_##type, elem, c, ldc, w, row_bytes, n, k, x, ldx, m);                      \
    }
MM_BF16(f32, 4)
MM_BF16(f16, 2)
MM_BF16(bf16, 2)

#endif
