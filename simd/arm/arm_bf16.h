/* SPDX-License-Identifier: Apache-2.0 */
/* Activations rounded to bf16, and their products with float weights by BFMMLA (2 x 4 by 4 x 2).
 *
 * Weights are rounded and packed as activations are (pn_act16), four blocks of columns at a time: 8 rows
 * [512 / 4][4][2][4], once for 48 activation rows. A tile is 8 weight rows x 8 activation rows: 16 sums.
 * Missing columns are zeros. A sum takes its columns in ascending steps of four: it does not depend on m. */
#ifndef PN_ARM_BF16_H
#define PN_ARM_BF16_H

#include "arm_vf.h"
#include "kern/kern.h"

#define BF_BLOCKS 4
#define BF_KC (BF_BLOCKS * PN_ACT16_COLS)
#define BF_M 48
#define BF_N 64
#define BF_NP 4 /* pairs of activation rows of a tile, at most */
#define BF_NR 8 /* weight rows of a tile */

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

/* k columns of a row into their places of a packed operand, four at a time, `stride` elements apart; zeros up to
 * k_padded, a multiple of 16. elem: bytes of an element of src. */
INLINE void bf_pack_row(load16_fn *load, size_t elem, uint16_t *out, size_t stride, const uint8_t *src, int32_t k,
                        int32_t k_padded)
{
    for (int32_t e = 0; e < k_padded; e += 16) {
        uint8_t copy[64] = { 0 };
        const uint8_t *p = src + (size_t)e * elem;
        if (k - e < 16) {
            if (e < k)
                memcpy(copy, p, (size_t)(k - e) * elem);
            p = copy;
        }
        const vf x = load(p);
        PRAGMA_UNROLL
        for (int q = 0; q < 4; q++)
            vst1_u16(out + (size_t)(e / 4 + q) * stride, vreinterpret_u16_bf16(vcvt_bf16_f32(x.v[q])));
    }
}

static void round_act(struct pn_act16 *a, int32_t m_index, const float *x)
{
    uint16_t *y = a->x + (m_index & ~1) * PN_ACT16_COLS + m_index % 2 * 4;
    for (int32_t k = 0; k < a->k; k += PN_ACT16_COLS, y += (size_t)a->rows * PN_ACT16_COLS)
        bf_pack_row(load16_f32, 4, y, 8, (const uint8_t *)(x + k),
                    a->k - k < PN_ACT16_COLS ? a->k - k : PN_ACT16_COLS, PN_ACT16_COLS);
}

/* c[2 np][BF_N] += blocks of columns, x_block elements apart in x; c: at the first of eight weights. np is a
 * constant. */
INLINE void bf_tile(int np, float *c, const uint16_t *w, const uint16_t *x, size_t x_block, int32_t blocks)
{
    float32x4_t s[BF_NP][4];
    PRAGMA_UNROLL
    for (int t = 0; t < np; t++) {
        PRAGMA_UNROLL
        for (int j = 0; j < 4; j++)
            s[t][j] = vcombine_f32(vld1_f32(c + 2 * t * BF_N + 2 * j),
                                   vld1_f32(c + (2 * t + 1) * BF_N + 2 * j));
    }
    for (; blocks > 0; blocks--, x += x_block) {
        for (int32_t i = 0; i < PN_ACT16_COLS / 4; i++, w += 32) {
            bfloat16x8_t wv[4];
            PRAGMA_UNROLL
            for (int j = 0; j < 4; j++)
                wv[j] = vreinterpretq_bf16_u16(vld1q_u16(w + 8 * j));
            PRAGMA_UNROLL
            for (int t = 0; t < np; t++) {
                const bfloat16x8_t xv = vreinterpretq_bf16_u16(vld1q_u16(x + 2 * PN_ACT16_COLS * t + 8 * i));
                PRAGMA_UNROLL
                for (int j = 0; j < 4; j++)
                    s[t][j] = vbfmmlaq_f32(s[t][j], xv, wv[j]);
            }
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

static __attribute__((noinline)) void bf_tile_4(float *c, const uint16_t *w, const uint16_t *x, size_t x_block,
                                                int32_t blocks)
{
    bf_tile(4, c, w, x, x_block, blocks);
}
static __attribute__((noinline)) void bf_tile_1(float *c, const uint16_t *w, const uint16_t *x, size_t x_block,
                                                int32_t blocks)
{
    bf_tile(1, c, w, x, x_block, blocks);
}

INLINE void bf_body(load16_fn *load, size_t elem, float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,
                    const struct pn_act16 *a)
{
    uint16_t wp[BF_NR * BF_KC] __attribute__((aligned(64)));
    float acc[BF_M * BF_N] __attribute__((aligned(64)));
    const size_t x_block = (size_t)a->rows * PN_ACT16_COLS;
    memset(wp, 0, sizeof wp); /* rows past n: their sums are not used */
    for (int32_t mc = 0; mc < a->m; mc += BF_M) {
        const int32_t mm = a->m - mc < BF_M ? a->m - mc : BF_M, pairs = (mm + 1) / 2;
        for (int32_t n0 = 0; n0 < n; n0 += BF_N) {
            const int32_t nn = n - n0 < BF_N ? n - n0 : BF_N;
            memset(acc, 0, sizeof acc);
            for (int32_t b = 0; b < a->nb; b += BF_BLOCKS) {
                const int32_t blocks = a->nb - b < BF_BLOCKS ? a->nb - b : BF_BLOCKS, k0 = b * PN_ACT16_COLS;
                const int32_t kp = blocks * PN_ACT16_COLS, kn = a->k - k0 < kp ? a->k - k0 : kp;
                const uint16_t *x = a->x + (size_t)b * x_block + (size_t)mc * PN_ACT16_COLS;
                for (int32_t j = 0; j < nn; j += BF_NR) {
                    for (int32_t r = j; r < j + BF_NR && r < nn; r++)
                        bf_pack_row(load, elem, wp + 4 * (r - j), 32,
                                    (const uint8_t *)w + (size_t)(n0 + r) * row_bytes + (size_t)k0 * elem, kn, kp);
                    for (int32_t t = 0, np; t < pairs; t += np) {
                        np = pairs - t >= BF_NP ? BF_NP : 1;
                        (np == BF_NP ? bf_tile_4 : bf_tile_1)(acc + 2 * t * BF_N + j, wp, x + 2 * t * PN_ACT16_COLS,
                                                              x_block, blocks);
                    }
                }
            }
            for (int32_t i = 0; i < mm; i++)
                memcpy(c + (size_t)(mc + i) * ldc + n0, acc + i * BF_N, (size_t)nn * sizeof *c);
        }
    }
}

#define MM_BF16(type, elem)                                                                                 \
    static void mm_bf16_##type(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,            \
                               const struct pn_act16 *a)                                                    \
    {                                                                                                       \
        bf_body(load16_##type, elem, c, ldc, w, row_bytes, n, a);                                           \
    }
MM_BF16(f32, 4)
MM_BF16(f16, 2)
MM_BF16(bf16, 2)

#endif
