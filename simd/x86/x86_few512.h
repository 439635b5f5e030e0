/* SPDX-License-Identifier: Apache-2.0 */
/* Q4_K products with few activation rows, too few to pay for a tile of unpacked weights in memory. Panels of 16 weight
 * rows are transposed while packed, and the nibbles taken apart right before the VPDPBUSD that use them. The core sees
 * only some forty dot products ahead, so nothing overlaps by itself: the next super-block is transposed step by step
 * between the dot products of this one, and the next panel is fetched meanwhile, in the order of the file. Fetched row
 * by row, sixteen streams, few lines of a fast memory come in time.
 *
 * A vector of weights is eight columns of eight rows (x86_side512.h): a broadcast of eight activations serves two dot
 * products. With one for each, both load ports are busy, and Zen 5 then drops prefetches. Each sum is of half
 * a sub-block of a row, sixteen products, and so at most 16 * 15 * 127 < 2^15. With few rows the sums of two sub-blocks
 * grow side by side, or there were too few for the latency of VPDPBUSD; more than eight rows are two groups. Integer
 * sums and the order of the float operations are those of kern_avx512vnni.c: so are the bits. */
#ifndef PN_X86_FEW512_H
#define PN_X86_FEW512_H

#include "x86_mm.h"
#include "x86_side512.h"

#define FEW_MAX 16
#define FEW_GROUP 8 /* activation rows whose sums fit in registers */
#define FEW_BOTH 4  /* those of two sub-blocks */

/* x += pairs of int16 u * two sums of activations */
INLINE __m512i dot_sums(__m512i x, const void *u, const int16_t *s)
{
    const struct __attribute__((may_alias)) two { int16_t s[2]; } *p = (const void *)s;
    __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(x) : "v"(_mm512_load_si512(u)), "m"(*p));
    return x;
}

/* A super-block of 16 rows */
struct few_panel {
    uint8_t q[4][4][2][64]; /* [sub-blocks 2s, 2s + 1][k/8][side][row][8]: a nibble of each */
    int16_t sc[8][LANES][2]; /* each scale twice */
    int16_t mn[4][LANES][2]; /* mins of sub-blocks 2s, 2s + 1 */
    float d[LANES], dmin[LANES];
};

/* Not inlined: it would take the registers of the products. */
static __attribute__((noinline)) void few_header(struct few_panel *p, rows_t row)
{
    struct scales_k s;
    scales_k(&s, p->d, p->dmin, row);
    PRAGMA_UNROLL
    for (int g = 0; g < 4; g++) {
        vi_store(p->sc[g], vi_shuffle(s.sc[0], bytes16(g, -1, g, -1)));
        vi_store(p->sc[g + 4], vi_shuffle(s.sc[1], bytes16(g, -1, g, -1)));
    }
    store_pairs(p->mn, s.mn[0]);
    store_pairs(p->mn + 2, s.mn[1]);
}

/* What is done beside products: transposing a super-block, from sub-blocks 2 * first on, and fetching what comes
 * later. */
struct few_job {
    rows_t row;
    struct few_panel *to;
    int first;
    const uint8_t *ahead;
};
/* In progress */
struct few_beside {
    struct side_rows rows;
    struct side_steps steps;
    uint8_t (*to)[2][64]; /* the side's first vector */
    int side;
    vi z[4];
    const uint8_t *ahead;
};
INLINE struct few_beside few_begin(const struct few_job *j)
{
    struct few_beside b;
    b.steps = side_steps(j->row.step);
    b.rows = side_rows(j->row.p + offsetof(struct pn_q4_k, qs) + 32 * (size_t)j->first, b.steps);
    b.to = j->to->q[j->first];
    b.side = 0;
    b.ahead = j->ahead;
    return b;
}
/* i = 0 .. 7, a constant: of a side */
INLINE void few_step(struct few_beside *b, int i)
{
    if (i < 4)
        side_load(b->z, i, b->rows, b->steps, 0);
    else
        vi_store(b->to[side_octet(i - 4)], side_columns(b->z, i - 4));
    if (i == 7) {
        const int side = b->side;
        const ptrdiff_t s2 = 2 * (ptrdiff_t)b->steps.s1;
        side_skip(&b->rows, side ? 32 - s2 : s2);
        b->to = side ? (void *)(b->to[3][1]) : (void *)(b->to[0][1]);
        b->side = 1 - side;
    }
}
/* i = 0 .. 7, a constant: with each eighth of two sub-blocks; n sides and 4.5 n lines in all. */
INLINE void few_work(int n, struct few_beside *b, int i)
{
    PRAGMA_UNROLL
    for (int k = n * i; k < n * (i + 1); k++)
        few_step(b, k % 8);
    if (n == 2 || i % 2)
        _mm_prefetch((const char *)b->ahead + 64 * (n * i / 2), _MM_HINT_T0);
    if (i == 7) {
        _mm_prefetch((const char *)b->ahead + 256 * n, _MM_HINT_T0);
        b->ahead += 288 * n;
    }
}

/* x[m] += columns 8k .. of both sides, q, of which u is a nibble, * activations a[m] */
INLINE void few_dots(int m, __m512i (*x)[2], const __m512i u[2], const int8_t *a)
{
    PRAGMA_UNROLL
    for (int i = 0; i < m; i++)
        side_dots(x[i], u, bcast8_once(a + PN_QK * i));
}
INLINE void few_scaled(int m, __m512i *tot, __m512i (*x)[2], const void *sc)
{
    const __m512i s = _mm512_load_si512(sc);
    PRAGMA_UNROLL
    for (int i = 0; i < m; i++)
        tot[i] = side_scaled(tot[i], x[i], s);
}

/* tot[m] += two sub-blocks */
INLINE void few_two(int m, int n, __m512i *tot, const uint8_t (*w)[2][64], const int16_t (*sc)[LANES][2],
                    const int8_t *a, struct few_beside *b)
{
    const vi m15 = vi_set1_8(15);
    __m512i x[FEW_GROUP][2], y[FEW_GROUP][2];
    PRAGMA_UNROLL
    for (int i = 0; i < m; i++) {
        side_clear(2, x[i]);
        side_clear(2, y[i]);
    }
    if (m <= FEW_BOTH) {
        PRAGMA_UNROLL
        for (int k = 0; k < 4; k++) {
            const __m512i q0 = load_once(w[k][0]), q1 = load_once(w[k][1]);
            const __m512i low[2] = { vi_and(q0, m15), vi_and(q1, m15) };
            const __m512i high[2] = { vi_and(vi_srl(q0, 4), m15), vi_and(vi_srl(q1, 4), m15) };
            few_dots(m, x, low, a + 8 * k);
            few_work(n, b, 2 * k);
            few_dots(m, y, high, a + 32 + 8 * k);
            few_work(n, b, 2 * k + 1);
            short_jump();
        }
        few_scaled(m, tot, x, sc[0]);
        few_scaled(m, tot, y, sc[1]);
        return;
    }
    PRAGMA_UNROLL
    for (int k = 0; k < 4; k++) {
        const __m512i low[2] = { vi_and(load_once(w[k][0]), m15), vi_and(load_once(w[k][1]), m15) };
        few_dots(m, x, low, a + 8 * k);
        few_work(n, b, k);
        if (k % 2)
            short_jump();
    }
    few_scaled(m, tot, x, sc[0]);
    PRAGMA_UNROLL
    for (int k = 0; k < 4; k++) {
        const __m512i high[2] = { vi_and(vi_srl(load_once(w[k][0]), 4), m15),
                                  vi_and(vi_srl(load_once(w[k][1]), 4), m15) };
        few_dots(m, y, high, a + 32 + 8 * k);
        few_work(n, b, 4 + k);
        if (k % 2)
            short_jump();
    }
    few_scaled(m, tot, y, sc[1]);
}

/* c[m][16] += one super-block; m and n are constants at every call. Beside it 4n sides are transposed. */
INLINE void few_tile(int m, int n, const struct few_panel *p, const struct act_rows *a, const struct few_job *job,
                     float *c)
{
    __m512i tot[FEW_GROUP];
    side_clear(m, tot);
    struct few_beside b = few_begin(job);
    for (int s = 0; s < 4; s++)
        few_two(m, n, tot, p->q[s], p->sc + 2 * s, a->q + 64 * s, &b);
    const __m512 d = _mm512_load_ps(p->d), dmin = _mm512_load_ps(p->dmin);
    PRAGMA_UNROLL
    for (int i = 0; i < m; i++) {
        __m512i mins = _mm512_setzero_si512();
        PRAGMA_UNROLL
        for (int k = 0; k < 4; k++)
            mins = dot_sums(mins, p->mn[k], a->s32 + 8 * i + 2 * k);
        __m512 t = _mm512_mul_ps(d, _mm512_cvtepi32_ps(tot[i]));
        t = _mm512_fnmadd_ps(dmin, _mm512_cvtepi32_ps(mins), t);
        _mm512_store_ps(c + 16 * i, _mm512_fmadd_ps(t, _mm512_set1_ps(a->d[i]), _mm512_load_ps(c + 16 * i)));
    }
}

typedef void few_fn(const struct few_panel *p, const struct act_rows *a, const struct few_job *job, float *c);
#define FEW(m, n)                                                                                                 \
    static __attribute__((noinline)) void few_##m##_##n(const struct few_panel *p, const struct act_rows *a,       \
                                                        const struct few_job *job, float *c)                      \
    {                                                                                                             \
        few_tile(m, n, p, a, job, c);                                                                             \
    }
FEW(4, 1)
FEW(5, 1)
FEW(6, 1)
FEW(7, 1)
FEW(8, 1)
FEW(1, 2)
FEW(2, 2)
FEW(3, 2)
FEW(4, 2)
FEW(5, 2)
FEW(6, 2)
FEW(7, 2)
FEW(8, 2)
static few_fn *const few_half[FEW_GROUP + 1] = { NULL, NULL, NULL, NULL, few_4_1, few_5_1, few_6_1, few_7_1, few_8_1 };
static few_fn *const few_whole[FEW_GROUP + 1] = { NULL,    few_1_2, few_2_2, few_3_2, few_4_2,
                                                  few_5_2, few_6_2, few_7_2, few_8_2 };

/* 16 weight rows of a product, or what is left of them. */
struct few_weights {
    const uint8_t *w;
    size_t row_bytes;
    int32_t rows;
};
/* Their super-block b; rows that are not there: tail_copy */
INLINE rows_t few_rows(const struct few_weights *p, int32_t b, struct tail *tail)
{
    const size_t block = sizeof(struct pn_q4_k);
    const rows_t row = { p->w + (size_t)b * block, p->row_bytes };
    return p->rows < LANES ? tail_copy(tail, row.p, row.step, p->rows, block) : row;
}
INLINE struct few_weights few_weights(const uint8_t *w, size_t row_bytes, int32_t n, int32_t n0)
{
    return (struct few_weights){ w + (size_t)n0 * row_bytes, row_bytes, n - n0 < LANES ? n - n0 : LANES };
}

/* The first super-block, beside which there is nothing to multiply. */
static __attribute__((noinline)) void few_first(struct few_panel *p, rows_t row)
{
    const struct few_job job = { row, p, 0, NULL };
    struct few_beside b = few_begin(&job);
    few_header(p, row);
    for (int side = 0; side < 8; side++) {
        PRAGMA_UNROLL
        for (int i = 0; i < 8; i++)
            few_step(&b, i);
    }
}

static __attribute__((noinline)) void mm_few(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,
                                             const struct pn_act *a, int32_t m0, int32_t m)
{
    const size_t block = sizeof(struct pn_q4_k);
    if (n < 1)
        return;
    struct few_panel t[2] __attribute__((aligned(64)));
    float sums[FEW_MAX * LANES] __attribute__((aligned(64)));
    struct tail tail;
    const int32_t m1 = m <= FEW_GROUP ? m : (m + 1) / 2, m2 = m - m1;
    struct few_weights p = few_weights(w, row_bytes, n, 0);
    int now = 0;
    if (n % LANES)
        memset(&tail, 0, sizeof tail);
    few_first(&t[0], few_rows(&p, 0, &tail));
    for (int32_t n0 = 0; n0 < n; n0 += LANES) {
        const bool last = n0 + LANES >= n;
        const struct few_weights coming = last ? p : few_weights(w, row_bytes, n, n0 + LANES);
        const uint8_t *ahead = p.w + LANES * row_bytes;
        memset(sums, 0, (size_t)m * LANES * sizeof *sums);
        for (int32_t b = 0; b < a->nb; b++, now ^= 1, ahead += LANES * block) {
            const size_t r0 = (size_t)b * (size_t)a->m + (size_t)m0;
            const struct act_rows ar = { a->q + r0 * PN_QK, a->s32 + r0 * 8, a->s16 + r0 * 16, a->d + r0 };
            /* what is transposed last is multiplied by nobody */
            const rows_t next = b + 1 < a->nb ? few_rows(&p, b + 1, &tail) : few_rows(&coming, 0, &tail);
            struct few_job job = { next, &t[1 - now], 0, ahead };
            few_header(job.to, next);
            if (m2 == 0) {
                few_whole[m](&t[now], &ar, &job, sums);
                continue;
            }
            const struct act_rows br = { ar.q + m1 * PN_QK, ar.s32 + m1 * 8, ar.s16 + m1 * 16, ar.d + m1 };
            few_half[m1](&t[now], &ar, &job, sums);
            job.first = 2;
            job.ahead += LANES * block / 2;
            few_half[m2](&t[now], &br, &job, sums + m1 * LANES);
        }
        for (int32_t i = 0; i < m; i++)
            put_sums(c + (size_t)i * ldc + n0, sums + (size_t)i * LANES, LANES, p.rows);
        p = coming;
    }
}

#endif
