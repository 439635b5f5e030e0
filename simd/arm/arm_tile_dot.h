/* SPDX-License-Identifier: Apache-2.0 */
/* Register tiles of 8 weight rows x up to MR activation rows, for SDOT and for plain NEON.
 *
 * Panels are in groups of four columns: [64 groups][8 rows][4]. So a register holds four columns of
 * four rows, and meets four columns of one activation row: a lane of a load of sixteen (SDOT by
 * element, no broadcast), or that lane copied to all (NEON).
 *
 * SDOT at MR = 6: 12 running sums, 12 totals, 2 weights and 6 activations are the 32 registers. The
 * activations of a tile are packed, so that LDP brings two rows. Of the instructions of the loop over
 * sub-blocks, these multiply (SDOT, MLA, FMLA; gcc 12; bench/insn-count):
 *     Q4_K Q5_K IQ4_XS 83 %    Q6_K Q3_K 80 %    Q2_K 84 %    with f32 scales 68 %
 * The f32 scales of 32 columns cost a clearing, a conversion and an FMLA for each sum of 8 SDOT: 82 %
 * if loads were free.
 *
 * NEON adds up products in int16, two halves of a register apart, then pairs into int32; the rows'
 * sums are then in pairs of lanes, which rows4() adds. `chunk` columns of four may be added up in
 * int16:
 *   chunk * (largest |weight|) * 127 <= 32767:    2 for any int8, 4 for |weight| <= 63 */
#ifndef PN_ARM_TILE_DOT_H
#define PN_ARM_TILE_DOT_H

#include "arm_mm.h"

/* ---- panels ---- */

INLINE void fill_panel(weights16_fn *w16, enum scheme scheme, struct panel *p,
                       const uint8_t *const *row, size_t at, int groups)
{
    (void)scheme;
    for (int i = 0; i < 2 * groups; i++) {
        int8_t *out = p->w + 128 * i;
        for (int h = 0; h < 2; h++) {
            int32x4_t v[4];
            PRAGMA_UNROLL
            for (int r = 0; r < 4; r++)
                v[r] = vreinterpretq_s32_s8(w16(row[4 * h + r] + at, i));
            const int32x4_t a = vzip1q_s32(v[0], v[2]), b = vzip2q_s32(v[0], v[2]);
            const int32x4_t c = vzip1q_s32(v[1], v[3]), d = vzip2q_s32(v[1], v[3]);
            vst1q_s8(out + 16 * h, vreinterpretq_s8_s32(vzip1q_s32(a, c)));
            vst1q_s8(out + 16 * h + 32, vreinterpretq_s8_s32(vzip2q_s32(a, c)));
            vst1q_s8(out + 16 * h + 64, vreinterpretq_s8_s32(vzip1q_s32(b, d)));
            vst1q_s8(out + 16 * h + 96, vreinterpretq_s8_s32(vzip2q_s32(b, d)));
        }
    }
    memset(p->w + 256 * groups, 0, (size_t)(256 * (8 - groups)));
}

/* ---- sixteen columns ---- */

#ifdef __ARM_FEATURE_DOTPROD

#define XV 2 /* registers of running sums per activation row */

/* The activations of a tile of mr rows: [16 steps of 16 columns][mr][16]. */
static void pack_rows(int8_t *packed, const int8_t *q, int32_t rows)
{
    int32_t i = 0;
    while (i < rows) {
        const int32_t mr = tile_rows(i, rows);
        for (int32_t t = 0; t < mr; t++) {
            const int8_t *from = q + (size_t)(i + t) * PN_QK;
            int8_t *out = packed + (size_t)i * PN_QK + 16 * t;
            for (int s = 0; s < 16; s++)
                vst1q_s8(out + (size_t)s * 16 * (size_t)mr, vld1q_s8(from + 16 * s));
        }
        i += mr;
    }
}
#define STEP_Q(mr) (16 * (mr)) /* from sixteen columns to the next */

INLINE void dot_columns(enum scheme scheme, int mr, int32x4_t x[MR][XV], const int8_t *w,
                        const int8_t *q)
{
    int8x16_t av[MR];
    PRAGMA_UNROLL
    for (int i = 0; i < mr; i++)
        av[i] = vld1q_s8(q + 16 * i);
    STAY_HERE;
#define GROUP(lane)                                                                               \
    do {                                                                                          \
        const int8x16_t w0 = vld1q_s8(w + 32 * (lane)), w1 = vld1q_s8(w + 32 * (lane) + 16);      \
        PRAGMA_UNROLL                                                                             \
        for (int i = 0; i < mr; i++) {                                                            \
            x[i][0] = vdotq_laneq_s32(x[i][0], w0, av[i], lane);                                  \
            x[i][1] = vdotq_laneq_s32(x[i][1], w1, av[i], lane);                                  \
        }                                                                                         \
        STAY_HERE;                                                                                \
    } while (0)
    GROUP(0);
    GROUP(1);
    GROUP(2);
    GROUP(3);
#undef GROUP
    if (is_f32(scheme)) /* a conversion follows, to other registers */
        return;
    PRAGMA_UNROLL
    for (int i = 0; i < mr; i++) /* keeps each sum in its register: fewer moves in the loop */
        __asm__("" : "+w"(x[i][0]), "+w"(x[i][1]));
}

/* Sums of rows 4h .. 4h + 3 */
INLINE int32x4_t rows4(const int32x4_t x[XV], int h)
{
    return x[h];
}

#else

#define XV 4
#define STEP_Q(mr) 16

INLINE int8x16_t lane4(int8x16_t a, int lane)
{
    const int32x4_t v = vreinterpretq_s32_s8(a);
    return vreinterpretq_s8_s32(lane == 0   ? vdupq_laneq_s32(v, 0)
                                : lane == 1 ? vdupq_laneq_s32(v, 1)
                                : lane == 2 ? vdupq_laneq_s32(v, 2)
                                            : vdupq_laneq_s32(v, 3));
}

INLINE void dot_columns(enum scheme scheme, int mr, int32x4_t x[MR][XV], const int8_t *w,
                        const int8_t *q)
{
    const int chunk = scheme == INT_32 || scheme == F32_32 ? 2 : 4;
    PRAGMA_UNROLL
    for (int k0 = 0; k0 < 4; k0 += chunk) {
        PRAGMA_UNROLL
        for (int i = 0; i < mr; i++) {
            const int8x16_t av = vld1q_s8(q + 256 * i);
            int16x8_t y[4];
            PRAGMA_UNROLL
            for (int k = k0; k < k0 + chunk; k++) {
                const int8x16_t b = lane4(av, k);
                PRAGMA_UNROLL
                for (int h = 0; h < 2; h++) {
                    const int8x16_t wv = vld1q_s8(w + 32 * k + 16 * h);
                    if (k == k0) {
                        y[2 * h] = vmull_s8(vget_low_s8(wv), vget_low_s8(b));
                        y[2 * h + 1] = vmull_high_s8(wv, b);
                    } else {
                        y[2 * h] = vmlal_s8(y[2 * h], vget_low_s8(wv), vget_low_s8(b));
                        y[2 * h + 1] = vmlal_high_s8(y[2 * h + 1], wv, b);
                    }
                }
            }
            PRAGMA_UNROLL
            for (int v = 0; v < 4; v++)
                x[i][v] = vpadalq_s16(x[i][v], y[v]);
            STAY_HERE;
        }
    }
}

INLINE int32x4_t rows4(const int32x4_t x[XV], int h)
{
    return vpaddq_s32(x[2 * h], x[2 * h + 1]);
}

#endif

/* ---- a super-block ---- */

/* c[mr][8] += one super-block. scheme and mr are constants at every call. */
INLINE void tile_body(enum scheme scheme, int mr, const struct panel *p, const struct act_rows *a,
                      float *c)
{
    const int n_sub = scheme == INT_16 ? 16 : 8, steps = 16 / n_sub;
    int32x4_t x[MR][XV], tot[MR][2]; /* tot in the integer schemes, y in the f32 ones */
    float32x4_t y[MR][2];
    PRAGMA_UNROLL
    for (int i = 0; i < mr; i++) {
        tot[i][0] = tot[i][1] = vdupq_n_s32(0);
        y[i][0] = y[i][1] = vdupq_n_f32(0.0f);
        PRAGMA_UNROLL
        for (int v = 0; v < XV; v++)
            x[i][v] = vdupq_n_s32(0);
    }
    for (int g = 0; g < n_sub; g++) {
        if (is_f32(scheme)) {
            PRAGMA_UNROLL
            for (int i = 0; i < mr; i++) {
                PRAGMA_UNROLL
                for (int v = 0; v < XV; v++)
                    x[i][v] = vdupq_n_s32(0);
            }
        }
        PRAGMA_UNROLL
        for (int s = 0; s < steps; s++)
            dot_columns(scheme, mr, x, p->w + 128 * (g * steps + s),
                        a->q + STEP_Q(mr) * (g * steps + s));
        STAY_HERE;
        if (scheme == INT_1_MIN)
            continue;
        PRAGMA_UNROLL
        for (int h = 0; h < 2; h++) {
            if (!is_f32(scheme)) {
                const int32x4_t sc = vld1q_s32(p->sc[g] + 4 * h);
                PRAGMA_UNROLL
                for (int i = 0; i < mr; i++)
                    tot[i][h] = vmlaq_s32(tot[i][h], rows4(x[i], h), sc);
            } else {
                const float32x4_t d = vld1q_f32(p->gd[g] + 4 * h), gm = vld1q_f32(p->gm[g] + 4 * h);
                PRAGMA_UNROLL
                for (int i = 0; i < mr; i++) {
                    y[i][h] = vfmaq_f32(y[i][h], d, vcvtq_f32_s32(rows4(x[i], h)));
                    if (scheme == F32_32_MIN)
                        y[i][h] = vfmaq_n_f32(y[i][h], gm, (float)a->s32[8 * i + g]);
                }
            }
        }
        STAY_HERE;
    }
    PRAGMA_UNROLL
    for (int i = 0; i < mr; i++) {
        PRAGMA_UNROLL
        for (int h = 0; h < 2; h++) {
            const int32x4_t t = is_f32(scheme)        ? vreinterpretq_s32_f32(y[i][h])
                                : scheme == INT_1_MIN ? rows4(x[i], h)
                                                      : tot[i][h];
            finish4(scheme, p, h, t, a->s32 + 8 * i, a->s16 + 16 * i, a->d[i],
                    c + PANEL * i + 4 * h);
        }
    }
}

#define TILE(scheme, mr)                                                                          \
    static __attribute__((noinline)) void tile_##scheme##_##mr(                                   \
        const struct panel *p, const struct act_rows *a, float *c)                                \
    {                                                                                             \
        tile_body(scheme, mr, p, a, c);                                                           \
    }
#if MR == 3
#define TILES(scheme)                                                                             \
    TILE(scheme, 1)                                                                               \
    TILE(scheme, 2)                                                                               \
    TILE(scheme, 3)                                                                               \
    static tile_fn *const tiles_##scheme[MR + 1] = { NULL, tile_##scheme##_1, tile_##scheme##_2,  \
                                                     tile_##scheme##_3 };
#else
#define TILES(scheme)                                                                             \
    TILE(scheme, 1)                                                                               \
    TILE(scheme, 2)                                                                               \
    TILE(scheme, 3)                                                                               \
    TILE(scheme, 4)                                                                               \
    TILE(scheme, 5)                                                                               \
    TILE(scheme, 6)                                                                               \
    static tile_fn *const tiles_##scheme[MR + 1] = { NULL,               tile_##scheme##_1,       \
                                                     tile_##scheme##_2,  tile_##scheme##_3,       \
                                                     tile_##scheme##_4,  tile_##scheme##_5,       \
                                                     tile_##scheme##_6 };
#endif
TILES(INT_32)
TILES(INT_32_MIN)
TILES(INT_16)
TILES(INT_1_MIN)
TILES(F32_32)
TILES(F32_32_MIN)

#endif
