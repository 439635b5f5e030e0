/* SPDX-License-Identifier: Apache-2.0 */
/* Register tiles of 8 weight rows x up to 6 activation rows, for SMMLA.
 *
 * SMMLA multiplies 2 x 8 by 8 x 2: a register holds eight columns of two rows. Panels are
 * [32 steps of 8 columns][4 pairs of rows][2][8], the activations of a tile of np pairs of rows are
 * packed as [32 steps][np][2][8], so that one LD1 of up to four registers brings each operand of a
 * step.
 * With activations on the left a sum register is
 *     (row 2t, weight 2p)  (row 2t, weight 2p+1)  (row 2t+1, weight 2p)  (row 2t+1, weight 2p+1)
 * MR = 6: 12 running sums, 12 totals, 4 weights and 3 activations are 31 registers. Of the
 * instructions of the loop over sub-blocks, these multiply (SMMLA, MLA, FMLA; gcc 12;
 * bench/insn-count):
 *     Q4_K Q5_K IQ4_XS 85 %    Q6_K Q3_K 84 %    Q2_K 83 %    with f32 scales 63 %
 * The f32 scales of 32 columns cost a clearing, a conversion and an FMLA for each sum of 4 SMMLA: 71 %
 * if loads were free.
 *
 * The packing is paid once for BLOCK_PANELS panels. An odd last row is paired with zeros, whose
 * sums are dropped. */
#ifndef PN_ARM_TILE_MMLA_H
#define PN_ARM_TILE_MMLA_H

#define SCALES_TWICE
#include "arm_mm.h"

#define PAIRS (PANEL / 2)

INLINE int8x16_t zip_low(int8x16_t a, int8x16_t b)
{
    return vcombine_s8(vget_low_s8(a), vget_low_s8(b));
}
INLINE int8x16_t zip_high(int8x16_t a, int8x16_t b)
{
    return vcombine_s8(vget_high_s8(a), vget_high_s8(b));
}

/* ---- operands ---- */

/* Two factors to both halves of a register */
INLINE int32x4_t twice(const void *p)
{
    return vreinterpretq_s32_s64(vld1q_dup_s64(p));
}

INLINE void fill_panel(weights16_fn *w16, enum scheme scheme, struct panel *p,
                       const uint8_t *const *row, size_t at, int groups)
{
    for (int g = 0; g < (scheme == INT_1_MIN ? 0 : scheme == INT_16 ? 16 : 8); g++) {
        const int32_t *f = is_f32(scheme) ? (const int32_t *)p->gd[g] : p->sc[g];
        PRAGMA_UNROLL
        for (int j = 0; j < PAIRS; j++)
            vst1q_s32(p->twice[g] + 4 * j, twice(f + 2 * j));
    }
    for (int i = 0; i < 2 * groups; i++) {
        int8_t *out = p->w + 128 * i;
        PRAGMA_UNROLL
        for (int j = 0; j < PAIRS; j++) {
            const int8x16_t a = w16(row[2 * j] + at, i), b = w16(row[2 * j + 1] + at, i);
            vst1q_s8(out + 16 * j, zip_low(a, b));
            vst1q_s8(out + 16 * j + 64, zip_high(a, b));
        }
    }
    memset(p->w + 256 * groups, 0, (size_t)(256 * (8 - groups)));
}

static void pack_rows(int8_t *packed, const int8_t *q, int32_t rows)
{
    int32_t i = 0;
    while (i < rows) {
        const int32_t mr = tile_rows(i, rows), np = (mr + 1) / 2;
        for (int32_t t = 0; t < np; t++) {
            const int8_t *q0 = q + (size_t)(i + 2 * t) * PN_QK;
            int8_t *out = packed + (size_t)i * PN_QK + 16 * t;
            const int both = 2 * t + 1 < mr;
            for (int s = 0; s < 16; s++) {
                const int8x16_t a = vld1q_s8(q0 + 16 * s);
                const int8x16_t b = both ? vld1q_s8(q0 + PN_QK + 16 * s) : vdupq_n_s8(0);
                vst1q_s8(out + (size_t)(2 * s) * 16 * (size_t)np, zip_low(a, b));
                vst1q_s8(out + (size_t)(2 * s + 1) * 16 * (size_t)np, zip_high(a, b));
            }
        }
        i += mr;
    }
}

/* ---- sixteen columns ---- */

/* Keeps GCC from computing all addresses from one: LD1 of several registers has no offset, but it
 * can step its pointer. */
#define STEP(pointer, n)                                                                          \
    do {                                                                                          \
        (pointer) += (n);                                                                         \
        __asm__("" : "+r"(pointer));                                                              \
    } while (0)

INLINE void mmla_columns(int np, int32x4_t x[MR / 2][PAIRS], const int8_t **wp, const int8_t **qp)
{
    const int8_t *w = *wp, *q = *qp;
    PRAGMA_UNROLL
    for (int s = 0; s < 2; s++) {
        const int8x16x4_t wv = vld1q_s8_x4(w);
        STEP(w, 64);
        int8x16_t av[MR / 2];
        if (np == 3) {
            const int8x16x3_t three = vld1q_s8_x3(q);
            av[0] = three.val[0];
            av[1] = three.val[1];
            av[2] = three.val[2];
        } else {
            PRAGMA_UNROLL
            for (int t = 0; t < np; t++)
                av[t] = vld1q_s8(q + 16 * t);
        }
        STEP(q, 16 * np);
        PRAGMA_UNROLL
        for (int j = 0; j < PAIRS; j++) {
            PRAGMA_UNROLL
            for (int t = 0; t < np; t++)
                x[t][j] = vmmlaq_s32(x[t][j], av[t], wv.val[j]);
        }
        STAY_HERE;
    }
    *wp = w;
    *qp = q;
}

/* ---- a super-block ---- */

/* Row i (0, 1) of a pair, weights 4h .. 4h + 3, from its sums */
INLINE int32x4_t rows4(const int32x4_t x[PAIRS], int h, int i)
{
    return i == 0 ? vcombine_s32(vget_low_s32(x[2 * h]), vget_low_s32(x[2 * h + 1]))
                  : vcombine_s32(vget_high_s32(x[2 * h]), vget_high_s32(x[2 * h + 1]));
}

/* c[rows][8] += one super-block; rows is 2 np or one less. scheme and np are constants at every
 * call. */
INLINE void tile_body(enum scheme scheme, int np, const struct panel *p, const struct act_rows *a,
                      float *c)
{
    const int n_sub = scheme == INT_16 ? 16 : 8, steps = 16 / n_sub;
    int32x4_t x[MR / 2][PAIRS], tot[MR / 2][PAIRS]; /* tot: integer schemes, y: the others */
    float32x4_t y[MR / 2][PAIRS];
    float sums[MR / 2][8][4]; /* F32_32_MIN: s32 of the rows, as the sums' lanes */
    if (scheme == F32_32_MIN) {
        for (int t = 0; t < np; t++) {
            const int16_t *s0 = a->s32 + 16 * t, *s1 = 2 * t + 1 < a->rows ? s0 + 8 : s0;
            for (int g = 0; g < 8; g++) {
                sums[t][g][0] = sums[t][g][1] = s0[g];
                sums[t][g][2] = sums[t][g][3] = s1[g];
            }
        }
    }
    PRAGMA_UNROLL
    for (int t = 0; t < np; t++) {
        PRAGMA_UNROLL
        for (int j = 0; j < PAIRS; j++) {
            x[t][j] = tot[t][j] = vdupq_n_s32(0);
            y[t][j] = vdupq_n_f32(0.0f);
        }
    }
    const int8_t *w = p->w, *q = a->q;
    const int32_t *factor = p->twice[0];
    for (int g = 0; g < n_sub; g++) {
        if (is_f32(scheme)) {
            PRAGMA_UNROLL
            for (int t = 0; t < np; t++) {
                PRAGMA_UNROLL
                for (int j = 0; j < PAIRS; j++)
                    x[t][j] = vdupq_n_s32(0);
            }
        }
        PRAGMA_UNROLL
        for (int s = 0; s < steps; s++)
            mmla_columns(np, x, &w, &q);
        if (scheme == INT_1_MIN)
            continue;
        const int32x4x4_t f = vld1q_s32_x4(factor);
        STEP(factor, 4 * PAIRS);
        PRAGMA_UNROLL
        for (int j = 0; j < PAIRS; j++) {
            const float32x4_t d = vreinterpretq_f32_s32(f.val[j]);
            const float32x4_t gm = vreinterpretq_f32_s32(twice(p->gm[g] + 2 * j));
            PRAGMA_UNROLL
            for (int t = 0; t < np; t++) {
                if (!is_f32(scheme))
                    tot[t][j] = vmlaq_s32(tot[t][j], x[t][j], f.val[j]);
                else
                    y[t][j] = vfmaq_f32(y[t][j], d, vcvtq_f32_s32(x[t][j]));
                if (scheme == F32_32_MIN)
                    y[t][j] = vfmaq_f32(y[t][j], gm, vld1q_f32(sums[t][g]));
            }
        }
        STAY_HERE;
    }
    PRAGMA_UNROLL
    for (int t = 0; t < np; t++) {
        int32x4_t s[PAIRS];
        PRAGMA_UNROLL
        for (int j = 0; j < PAIRS; j++)
            s[j] = is_f32(scheme)        ? vreinterpretq_s32_f32(y[t][j])
                   : scheme == INT_1_MIN ? x[t][j]
                                         : tot[t][j];
        PRAGMA_UNROLL
        for (int i = 2 * t; i < 2 * t + 2; i++) {
            if (i >= a->rows)
                break;
            PRAGMA_UNROLL
            for (int h = 0; h < 2; h++)
                finish4(scheme, p, h, rows4(s, h, i & 1), a->s32 + 8 * i, a->s16 + 16 * i, a->d[i],
                        c + PANEL * i + 4 * h);
        }
    }
}

#define TILE(scheme, np)                                                                          \
    static __attribute__((noinline)) void tile_##scheme##_##np(                                   \
        const struct panel *p, const struct act_rows *a, float *c)                                \
    {                                                                                             \
        tile_body(scheme, np, p, a, c);                                                           \
    }
/* By rows, so one for the odd count and one for the even. */
#define TILES(scheme)                                                                             \
    TILE(scheme, 1)                                                                               \
    TILE(scheme, 2)                                                                               \
    TILE(scheme, 3)                                                                               \
    static tile_fn *const tiles_##scheme[MR + 1] = { NULL,               tile_##scheme##_1,       \
                                                     tile_##scheme##_1,  tile_##scheme##_2,       \
                                                     tile_##scheme##_2,  tile_##scheme##_3,       \
                                                     tile_##scheme##_3 };
TILES(INT_32)
TILES(INT_32_MIN)
TILES(INT_16)
TILES(INT_1_MIN)
TILES(F32_32)
TILES(F32_32_MIN)

#endif
