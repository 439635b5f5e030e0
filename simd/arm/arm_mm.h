/* SPDX-License-Identifier: Apache-2.0 */
/* The quantised products: panels of weights, the vector path for one and two activation rows, and
 * the driver of the matrix path. The register tiles of the matrix path are the including tier's:
 * arm_tile_dot.h (SMLAL or SDOT) or arm_tile_mmla.h (SMMLA).
 *
 * Integer scales are stored as differences d_s = sc_s - sc_(s+1): with X_s = x_0 + .. + x_s the
 * running sum of the sub-blocks' sums, I = sum sc_s x_s = sum d_s X_s (summation by parts). So a
 * tile never clears its sums between sub-blocks. All of it is modulo 2^32, and I fits (kern.h). */
#ifndef PN_ARM_MM_H
#define PN_ARM_MM_H

#include "arm_unpack.h"
#include "kern/kern.h"

/* The including tier defines
 *     M_CHUNK       activation rows per pass over a block of weights
 *     BLOCK_PANELS  panels of weights per block; 1 where activations need no packing
 *     MR            activation rows of a register tile, at most
 *     MR_STEP       and in steps of */
#define PANEL 8 /* weight rows */

/* GCC moves nothing across it. Its scheduler would load all that a loop body needs in advance, and
 * spill the sums that fill the registers. */
#define STAY_HERE __asm__ volatile("")

/* How the sub-block sums of a super-block become one f32 per output (kern.h, mm). */
enum scheme {
    INT_32,     /* 8 integer scales, no mins                          IQ4_XS */
    INT_32_MIN, /* 8 integer scales and mins                          Q4_K, Q5_K */
    INT_16,     /* 16 integer scales                                  Q6_K, Q3_K */
    INT_1_MIN,  /* scales already multiplied into the int8, 16 mins   Q2_K: 3 * 15 */
    F32_32,     /* 8 f32 scales                                       Q4_0, Q5_0, Q8_0, IQ4_NL */
    F32_32_MIN  /* 8 f32 scales and mins                              Q4_1, Q5_1 */
};
INLINE int is_f32(enum scheme s)
{
    return s == F32_32 || s == F32_32_MIN;
}

/* One super-block of eight rows. */
struct panel {
    int8_t w[PANEL * PN_QK] __attribute__((aligned(64))); /* in the tile's order */
    int32_t sc[16][PANEL]; /* differences of scales */
    int16_t mn[16][PANEL];
    float gd[8][PANEL], gm[8][PANEL]; /* F32 schemes: zeros for groups past the end of the row */
#ifdef SCALES_TWICE
    int32_t twice[16][2 * PANEL]; /* sc, or the bits of gd: two rows' factors, twice */
#endif
    float d[PANEL], dmin[PANEL];
};

/* Rows of one super-block each: row[r] + at. groups: of 32 columns that exist (8, or less at the
 * end of a 32-type's row). */
typedef int8x16_t weights16_fn(const uint8_t *block, int i);
typedef void weights_fn(struct panel *p, const uint8_t *const *row, size_t at,
                        int groups); /* after the factors */
typedef void factors_fn(struct panel *p, const uint8_t *const *row, size_t at, int groups);

/* ---- factors ---- */

INLINE uint16x8_t u16_rows(const uint8_t *const *row, size_t at)
{
    uint16x8_t v = vdupq_n_u16(0);
#define ROW(r) v = vld1q_lane_u16((const void *)(row[r] + at), v, r)
    ROW(0);
    ROW(1);
    ROW(2);
    ROW(3);
    ROW(4);
    ROW(5);
    ROW(6);
    ROW(7);
#undef ROW
    return v;
}

INLINE void f16_rows(float d[PANEL], const uint8_t *const *row, size_t at)
{
    const float16x8_t h = vreinterpretq_f16_u16(u16_rows(row, at));
    vst1q_f32(d, vcvt_f32_f16(vget_low_f16(h)));
    vst1q_f32(d + 4, vcvt_high_f32_f16(h));
}

INLINE void transpose8(int16x8_t v[8])
{
    PRAGMA_UNROLL
    for (int round = 0; round < 3; round++) { /* each turns the index bits (row, column) by one */
        int16x8_t t[8];
        PRAGMA_UNROLL
        for (int i = 0; i < 4; i++) {
            t[2 * i] = vzip1q_s16(v[i], v[i + 4]);
            t[2 * i + 1] = vzip2q_s16(v[i], v[i + 4]);
        }
        PRAGMA_UNROLL
        for (int i = 0; i < 8; i++)
            v[i] = t[i];
    }
}

/* sc[n_sub][8]: scales by row, in halves of eight */
INLINE void put_scales(struct panel *p, int16x8_t sc[2][8], int n_sub)
{
    int16x8_t next = vdupq_n_s16(0);
    for (int h = n_sub / 8 - 1; h >= 0; h--) {
        transpose8(sc[h]);
        PRAGMA_UNROLL
        for (int g = 7; g >= 0; g--) {
            const int16x8_t diff = vsubq_s16(sc[h][g], next);
            vst1q_s32(p->sc[8 * h + g], vmovl_s16(vget_low_s16(diff)));
            vst1q_s32(p->sc[8 * h + g] + 4, vmovl_high_s16(diff));
            next = sc[h][g];
        }
    }
}

INLINE void put_mins(struct panel *p, int16x8_t mn[2][8], int n)
{
    for (int h = 0; h < n / 8; h++) {
        transpose8(mn[h]);
        PRAGMA_UNROLL
        for (int g = 0; g < 8; g++)
            vst1q_s16(p->mn[8 * h + g], mn[h][g]);
    }
}

/* n_sc, n_mn: how many of each; 0: none */
#define FACTORS_K(type, n_sc, n_mn, dmin_at)                                                      \
    INLINE void factors_##type(struct panel *p, const uint8_t *const *row, size_t at, int groups) \
    {                                                                                             \
        int16x8_t sc[2][8], mn[2][8];                                                             \
        (void)groups;                                                                             \
        for (int r = 0; r < PANEL; r++) {                                                         \
            int16x8_t s[2] = { vdupq_n_s16(0), vdupq_n_s16(0) }, m[2] = { s[0], s[0] };           \
            scales_##type(s, m, (const void *)(row[r] + at));                                     \
            sc[0][r] = s[0];                                                                      \
            sc[1][r] = s[1];                                                                      \
            mn[0][r] = m[0];                                                                      \
            mn[1][r] = m[1];                                                                      \
        }                                                                                         \
        put_scales(p, sc, n_sc);                                                                  \
        put_mins(p, mn, n_mn);                                                                    \
        f16_rows(p->d, row, at + offsetof(struct pn_##type, d));                                  \
        if ((n_mn) > 0)                                                                           \
            f16_rows(p->dmin, row, at + (dmin_at));                                               \
    }
FACTORS_K(q4_k, 8, 8, offsetof(struct pn_q4_k, dmin))
FACTORS_K(q5_k, 8, 8, offsetof(struct pn_q5_k, dmin))
FACTORS_K(q6_k, 16, 0, 0)
FACTORS_K(q3_k, 16, 0, 0)
FACTORS_K(q2_k, 0, 16, offsetof(struct pn_q2_k, dmin))
FACTORS_K(iq4_xs, 8, 0, 0)

#define FACTORS_32(type, has_m)                                                                   \
    INLINE void factors_##type(struct panel *p, const uint8_t *const *row, size_t at, int groups) \
    {                                                                                             \
        for (int g = 0; g < groups; g++) {                                                        \
            const size_t block = at + (size_t)g * sizeof(struct pn_##type);                       \
            f16_rows(p->gd[g], row, block);                                                       \
            if (has_m)                                                                            \
                f16_rows(p->gm[g], row, block + 2);                                               \
        }                                                                                         \
        if (groups < 8) {                                                                         \
            memset(p->gd[groups], 0, (size_t)(8 - groups) * sizeof p->gd[0]);                     \
            memset(p->gm[groups], 0, (size_t)(8 - groups) * sizeof p->gm[0]);                     \
        }                                                                                         \
    }
FACTORS_32(q4_0, 0)
FACTORS_32(q4_1, 1)
FACTORS_32(q5_0, 0)
FACTORS_32(q5_1, 1)
FACTORS_32(q8_0, 0)
FACTORS_32(iq4_nl, 0)

/* ---- weights ---- */

#define WEIGHTS16(type)                                                                           \
    INLINE int8x16_t w16_##type(const uint8_t *block, int i)                                      \
    {                                                                                             \
        return q16_##type((const struct pn_##type *)(const void *)block, i);                      \
    }
WEIGHTS16(q4_0)
WEIGHTS16(q4_1)
WEIGHTS16(q5_0)
WEIGHTS16(q5_1)
WEIGHTS16(q8_0)
WEIGHTS16(iq4_nl)
WEIGHTS16(q3_k)
WEIGHTS16(q4_k)
WEIGHTS16(q5_k)
WEIGHTS16(q6_k)
WEIGHTS16(iq4_xs)
INLINE int8x16_t w16_q2_k(const uint8_t *block, int i)
{
    const struct pn_q2_k *b = (const void *)block;
    return vmulq_s8(q16_q2_k(b, i), vdupq_n_s8((int8_t)(b->scales[i] & 15)));
}

/* ---- from sums to outputs ---- */

/* c[4] += d * t for rows 4h .. 4h + 3; t: the integer sums, or bits of the f32 sums. s32, s16, d:
 * of the activation row. */
INLINE void finish4(enum scheme scheme, const struct panel *p, int h, int32x4_t t,
                    const int16_t *s32, const int16_t *s16, float d, float *c)
{
    float32x4_t y = is_f32(scheme) ? vreinterpretq_f32_s32(t)
                                   : vmulq_f32(vld1q_f32(p->d + 4 * h), vcvtq_f32_s32(t));
#define MINS8(j, first, s)                                                                        \
    do {                                                                                          \
        j = vmlal_laneq_s16(j, vld1_s16(p->mn[(first) + 0] + 4 * h), s, 0);                       \
        j = vmlal_laneq_s16(j, vld1_s16(p->mn[(first) + 1] + 4 * h), s, 1);                       \
        j = vmlal_laneq_s16(j, vld1_s16(p->mn[(first) + 2] + 4 * h), s, 2);                       \
        j = vmlal_laneq_s16(j, vld1_s16(p->mn[(first) + 3] + 4 * h), s, 3);                       \
        j = vmlal_laneq_s16(j, vld1_s16(p->mn[(first) + 4] + 4 * h), s, 4);                       \
        j = vmlal_laneq_s16(j, vld1_s16(p->mn[(first) + 5] + 4 * h), s, 5);                       \
        j = vmlal_laneq_s16(j, vld1_s16(p->mn[(first) + 6] + 4 * h), s, 6);                       \
        j = vmlal_laneq_s16(j, vld1_s16(p->mn[(first) + 7] + 4 * h), s, 7);                       \
    } while (0)
    if (scheme == INT_32_MIN || scheme == INT_1_MIN) {
        int32x4_t j = vdupq_n_s32(0);
        if (scheme == INT_32_MIN) {
            const int16x8_t s = vld1q_s16(s32);
            MINS8(j, 0, s);
        } else {
            const int16x8_t s0 = vld1q_s16(s16), s1 = vld1q_s16(s16 + 8);
            MINS8(j, 0, s0);
            MINS8(j, 8, s1);
        }
        y = vfmsq_f32(y, vld1q_f32(p->dmin + 4 * h), vcvtq_f32_s32(j));
    }
#undef MINS8
    vst1q_f32(c, vfmaq_n_f32(vld1q_f32(c), y, d));
}

/* The activation rows of one tile. */
struct act_rows {
    int32_t rows;
    const int8_t *q;    /* [rows][256], or as the tile packs them */
    const int16_t *s32; /* [rows][8] */
    const int16_t *s16; /* [rows][16] */
    const float *d;     /* [rows] */
};

/* c[rows][PANEL] += products of a panel and the rows of a */
typedef void tile_fn(const struct panel *p, const struct act_rows *a, float *c);

/* ---- one or two activation rows: weights straight from the file's bytes ---- */

#define GEMV_MR 2

/* Sixteen products; the four lanes of acc together are their sum. */
INLINE int32x4_t dot16(int32x4_t acc, int8x16_t w, int8x16_t a)
{
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(acc, w, a);
#else
    /* two products fit an int16: 2 * 128 * 127 = 32512 */
    const int16x8_t p = vmull_s8(vget_low_s8(w), vget_low_s8(a));
    return vpadalq_s16(acc, vmlal_high_s8(p, w, a));
#endif
}

/* tot[r] += x[r] * factor of row r */
INLINE void fold4(int32x4_t tot[4], const int32x4_t x[4], const int32_t *sc)
{
    const int32x4_t s = vld1q_s32(sc);
    tot[0] = vmlaq_laneq_s32(tot[0], x[0], s, 0);
    tot[1] = vmlaq_laneq_s32(tot[1], x[1], s, 1);
    tot[2] = vmlaq_laneq_s32(tot[2], x[2], s, 2);
    tot[3] = vmlaq_laneq_s32(tot[3], x[3], s, 3);
}

/* Horizontal sums of four vectors */
INLINE int32x4_t sums4(const int32x4_t x[4])
{
    return vpaddq_s32(vpaddq_s32(x[0], x[1]), vpaddq_s32(x[2], x[3]));
}

/* Group g of 32 columns: rows 4h .. 4h + 3 by mr activation rows. tot[i][0]: f32 sums of four rows
 * in the F32 schemes, else tot[i][r]: integer sums of row r. */
INLINE void gemv_group(weights16_fn *w16, enum scheme scheme, int mr, int g,
                       int32x4_t x[GEMV_MR][4], int32x4_t tot[GEMV_MR][4],
                       const uint8_t *const *row, size_t at, const struct panel *p, int h,
                       const struct act_rows *a)
{
    PRAGMA_UNROLL
    for (int i = 2 * g; i < 2 * g + 2; i++) {
        int8x16_t w[4];
        PRAGMA_UNROLL
        for (int r = 0; r < 4; r++)
            w[r] = w16(row[4 * h + r] + at, i);
        PRAGMA_UNROLL
        for (int t = 0; t < mr; t++) {
            const int8x16_t q = vld1q_s8(a->q + 256 * t + 16 * i);
            PRAGMA_UNROLL
            for (int r = 0; r < 4; r++)
                x[t][r] = dot16(is_f32(scheme) && i == 2 * g ? vdupq_n_s32(0) : x[t][r], w[r], q);
            if (scheme == INT_16)
                fold4(tot[t], x[t], p->sc[i] + 4 * h);
        }
    }
    PRAGMA_UNROLL
    for (int t = 0; t < mr; t++) {
        if (scheme == INT_32 || scheme == INT_32_MIN)
            fold4(tot[t], x[t], p->sc[g] + 4 * h);
        if (is_f32(scheme)) {
            float32x4_t y = vreinterpretq_f32_s32(tot[t][0]);
            y = vfmaq_f32(y, vld1q_f32(p->gd[g] + 4 * h), vcvtq_f32_s32(sums4(x[t])));
            if (scheme == F32_32_MIN)
                y = vfmaq_n_f32(y, vld1q_f32(p->gm[g] + 4 * h), (float)a->s32[8 * t + g]);
            tot[t][0] = vreinterpretq_s32_f32(y);
        }
    }
}

/* c[mr][PANEL] += one super-block, rows 4h .. 4h + 3 */
INLINE void gemv_rows4(weights16_fn *w16, enum scheme scheme, int mr, const uint8_t *const *row,
                       size_t at, int groups, const struct panel *p, int h,
                       const struct act_rows *a, float *c)
{
    int32x4_t x[GEMV_MR][4], tot[GEMV_MR][4];
    PRAGMA_UNROLL
    for (int t = 0; t < mr; t++) {
        PRAGMA_UNROLL
        for (int r = 0; r < 4; r++)
            x[t][r] = tot[t][r] = vdupq_n_s32(0);
    }
    if (is_f32(scheme)) {
        for (int g = 0; g < groups; g++)
            gemv_group(w16, scheme, mr, g, x, tot, row, at, p, h, a);
    } else {
        PRAGMA_UNROLL
        for (int g = 0; g < 8; g++)
            gemv_group(w16, scheme, mr, g, x, tot, row, at, p, h, a);
    }
    PRAGMA_UNROLL
    for (int t = 0; t < mr; t++) {
        const int32x4_t s = is_f32(scheme)        ? tot[t][0]
                            : scheme == INT_1_MIN ? sums4(x[t])
                                                  : sums4(tot[t]);
        finish4(scheme, p, h, s, a->s32 + 8 * t, a->s16 + 16 * t, a->d[t], c + PANEL * t + 4 * h);
    }
}

/* Row pointers of a panel; missing rows repeat the last one, their sums are not stored. */
INLINE void panel_rows(const uint8_t *row[PANEL], const void *w, size_t row_bytes, int32_t n0,
                       int32_t rows)
{
    for (int r = 0; r < PANEL; r++)
        row[r] = (const uint8_t *)w + (size_t)(n0 + (r < rows ? r : rows - 1)) * row_bytes;
}

/* Groups of 32 columns of super-block b */
INLINE int groups_of(const struct pn_act *a, int32_t b)
{
    const int32_t left = (a->k - b * PN_QK) / 32;
    return left < 8 ? left : 8;
}

INLINE struct act_rows act_at(const struct pn_act *a, int32_t b, int32_t row, int32_t rows)
{
    const size_t cell = (size_t)b * (size_t)a->m + (size_t)row;
    const struct act_rows r = { rows, a->q + cell * PN_QK, a->s32 + cell * 8, a->s16 + cell * 16,
                                a->d + cell };
    return r;
}

INLINE void gemv_body(weights16_fn *w16, factors_fn *factors, enum scheme scheme,
                      size_t block_bytes, int mr, float *c, size_t ldc, const void *w,
                      size_t row_bytes, int32_t n, const struct pn_act *a, int32_t m0)
{
    struct panel p; /* its factors; w is not used */
    for (int32_t n0 = 0; n0 < n; n0 += PANEL) {
        const int32_t rows = n - n0 < PANEL ? n - n0 : PANEL;
        const uint8_t *row[PANEL];
        float acc[GEMV_MR * PANEL] = { 0 };
        panel_rows(row, w, row_bytes, n0, rows);
        for (int32_t b = 0; b < a->nb; b++) {
            const size_t at = (size_t)b * block_bytes;
            const int groups = groups_of(a, b);
            const struct act_rows ar = act_at(a, b, m0, mr);
            factors(&p, row, at, groups);
            for (int h = 0; h < 2; h++) {
                if (rows > 4 * h)
                    gemv_rows4(w16, scheme, mr, row, at, groups, &p, h, &ar, acc);
            }
        }
        for (int t = 0; t < mr; t++)
            memcpy(c + (size_t)t * ldc + n0, acc + PANEL * t, (size_t)rows * sizeof *c);
    }
}

/* ---- more activation rows: weights through a panel ---- */

/* Rows of the tile at row i of mm: nearly equal tiles, 7 rows run as 4 + 3. A multiple of MR_STEP
 * but for the last tile. */
INLINE int32_t tile_rows(int32_t i, int32_t mm)
{
    const int32_t units = (mm - i + MR_STEP - 1) / MR_STEP, most = MR / MR_STEP;
    const int32_t n_tiles = (units + most - 1) / most;
    const int32_t rows = (units + n_tiles - 1) / n_tiles * MR_STEP;
    return rows < mm - i ? rows : mm - i;
}

#if BLOCK_PANELS > 1
/* The tile's order of the q of `rows` activation rows; a tile's part begins at 256 times its first
 * row. */
static void pack_rows(int8_t *packed, const int8_t *q, int32_t rows);
#endif

INLINE void gemm_body(weights_fn *weights, factors_fn *factors, tile_fn *const *tiles,
                      size_t block_bytes, float *c, size_t ldc, const void *w, size_t row_bytes,
                      int32_t n, const struct pn_act *a, int32_t m0, int32_t m)
{
    struct panel p;
    float acc[BLOCK_PANELS * M_CHUNK * PANEL] __attribute__((aligned(64)));
#if BLOCK_PANELS > 1
    int8_t packed[M_CHUNK * PN_QK] __attribute__((aligned(64)));
#endif
    for (int32_t mc = 0; mc < m; mc += M_CHUNK) {
        const int32_t mm = m - mc < M_CHUNK ? m - mc : M_CHUNK;
        for (int32_t n0 = 0; n0 < n; n0 += BLOCK_PANELS * PANEL) {
            const int32_t nn = n - n0 < BLOCK_PANELS * PANEL ? n - n0 : BLOCK_PANELS * PANEL;
            for (int32_t j = 0; j < nn; j += PANEL)
                memset(acc + (size_t)(j / PANEL) * M_CHUNK * PANEL, 0,
                       (size_t)mm * PANEL * sizeof *acc);
            for (int32_t b = 0; b < a->nb; b++) {
                const size_t at = (size_t)b * block_bytes;
                const int groups = groups_of(a, b);
                const struct act_rows all = act_at(a, b, m0 + mc, mm);
                const int8_t *q = all.q;
#if BLOCK_PANELS > 1
                pack_rows(packed, all.q, mm);
                q = packed;
#endif
                for (int32_t j = 0; j < nn; j += PANEL) {
                    const uint8_t *row[PANEL];
                    panel_rows(row, w, row_bytes, n0 + j, nn - j < PANEL ? nn - j : PANEL);
                    factors(&p, row, at, groups);
                    weights(&p, row, at, groups);
                    int32_t i = 0;
                    while (i < mm) {
                        const int32_t mr = tile_rows(i, mm);
                        const struct act_rows ar = { mr, q + (size_t)i * PN_QK, all.s32 + 8 * i,
                                                     all.s16 + 16 * i, all.d + i };
                        const size_t cell = (size_t)(j / PANEL) * M_CHUNK + (size_t)i;
                        tiles[mr](&p, &ar, acc + cell * PANEL);
                        i += mr;
                    }
                }
            }
            for (int32_t i = 0; i < mm; i++) {
                for (int32_t j = 0; j < nn; j += PANEL)
                    memcpy(c + (size_t)(mc + i) * ldc + n0 + j,
                           acc + ((size_t)(j / PANEL) * M_CHUNK + (size_t)i) * PANEL,
                           (size_t)(nn - j < PANEL ? nn - j : PANEL) * sizeof *c);
            }
        }
    }
}

/* ---- slots ---- */

/* blocks: of type in a super-block */
#define MM(type, scheme, blocks)                                                                  \
    static __attribute__((noinline)) void gemv1_##type(float *c, const void *w, size_t row_bytes, \
                                                       int32_t n, const struct pn_act *a,         \
                                                       int32_t m0)                                \
    {                                                                                             \
        gemv_body(w16_##type, factors_##type, scheme, (blocks) * sizeof(struct pn_##type), 1, c,  \
                  0, w, row_bytes, n, a, m0);                                                     \
    }                                                                                             \
    static __attribute__((noinline)) void gemv2_##type(float *c, size_t ldc, const void *w,       \
                                                       size_t row_bytes, int32_t n,               \
                                                       const struct pn_act *a, int32_t m0)        \
    {                                                                                             \
        gemv_body(w16_##type, factors_##type, scheme, (blocks) * sizeof(struct pn_##type), 2, c,  \
                  ldc, w, row_bytes, n, a, m0);                                                   \
    }                                                                                             \
    static void unpack_##type(struct panel *p, const uint8_t *const *row, size_t at, int groups)  \
    {                                                                                             \
        fill_panel(w16_##type, scheme, p, row, at, groups);                                       \
    }                                                                                             \
    static void mm_##type(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,       \
                          const struct pn_act *a, int32_t m0, int32_t m)                          \
    {                                                                                             \
        if (m == 1)                                                                               \
            gemv1_##type(c, w, row_bytes, n, a, m0);                                              \
        else if (m == 2)                                                                          \
            gemv2_##type(c, ldc, w, row_bytes, n, a, m0);                                         \
        else                                                                                      \
            gemm_body(unpack_##type, factors_##type, tiles_##scheme,                              \
                      (blocks) * sizeof(struct pn_##type), c, ldc, w, row_bytes, n, a, m0, m);    \
    }

/* For a tier's init, after MM_ALL. */
#define MM_ALL                                                                                    \
    MM(q4_k, INT_32_MIN, 1)                                                                       \
    MM(q5_k, INT_32_MIN, 1)                                                                       \
    MM(q6_k, INT_16, 1)                                                                           \
    MM(q3_k, INT_16, 1)                                                                           \
    MM(q2_k, INT_1_MIN, 1)                                                                        \
    MM(iq4_xs, INT_32, 1)                                                                         \
    MM(q8_0, F32_32, 8)                                                                           \
    MM(q4_0, F32_32, 8)                                                                           \
    MM(q5_0, F32_32, 8)                                                                           \
    MM(iq4_nl, F32_32, 8)                                                                         \
    MM(q4_1, F32_32_MIN, 8)                                                                       \
    MM(q5_1, F32_32_MIN, 8)
#define FILL_MM(k)                                                                                \
    do {                                                                                          \
        const struct pn_tile tile = { MR, PANEL };                                                \
        (k)->mm[PN_Q4_K] = (struct pn_kern_mm){ mm_q4_k, tile };                                  \
        (k)->mm[PN_Q5_K] = (struct pn_kern_mm){ mm_q5_k, tile };                                  \
        (k)->mm[PN_Q6_K] = (struct pn_kern_mm){ mm_q6_k, tile };                                  \
        (k)->mm[PN_Q3_K] = (struct pn_kern_mm){ mm_q3_k, tile };                                  \
        (k)->mm[PN_Q2_K] = (struct pn_kern_mm){ mm_q2_k, tile };                                  \
        (k)->mm[PN_IQ4_XS] = (struct pn_kern_mm){ mm_iq4_xs, tile };                              \
        (k)->mm[PN_Q8_0] = (struct pn_kern_mm){ mm_q8_0, tile };                                  \
        (k)->mm[PN_Q4_0] = (struct pn_kern_mm){ mm_q4_0, tile };                                  \
        (k)->mm[PN_Q5_0] = (struct pn_kern_mm){ mm_q5_0, tile };                                  \
        (k)->mm[PN_IQ4_NL] = (struct pn_kern_mm){ mm_iq4_nl, tile };                              \
        (k)->mm[PN_Q4_1] = (struct pn_kern_mm){ mm_q4_1, tile };                                  \
        (k)->mm[PN_Q5_1] = (struct pn_kern_mm){ mm_q5_1, tile };                                  \
    } while (0)

#endif
