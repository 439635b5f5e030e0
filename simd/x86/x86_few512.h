/* SPDX-License-Identifier: Apache-2.0 */
/* Q4_K products with few activation rows, too few to pay for a tile of unpacked weights in
 * memory. Panels of 16 weight rows are transposed while packed, and put together right before the VPDPBUSD that
 * uses them. Integer sums and the order of the float operations are those of kern_avx512vnni.c: so are the bits.
 *
 * The core sees only some forty dot products ahead, so nothing overlaps by itself here: the next columns are
 * transposed step by step between the dot products of these, and the next panel is fetched meanwhile, in the order of
 * the file. Fetched row by row, sixteen streams, few lines of a fast memory come in time.
 *
 * The sums of two sub-blocks grow side by side: one after the other, m = 5 takes a quarter more time on Zen 5,
 * which then has too few chains of VPDPBUSD in sight. More than eight rows are two groups.
 *
 * A high nibble of Q4_K stays where it is, sixteen times too large; the scales of the low ones are multiplied by
 * sixteen instead, and d is divided by it, which is exact. The total stays below 2^29. */
#ifndef PN_X86_FEW512_H
#define PN_X86_FEW512_H

#include "x86_mm.h"

#define FEW_MAX 16
#define FEW_GROUP 8 /* activation rows whose sums fit in registers */

/* x += four columns u of 16 rows * four activations. A memory operand saves the register and the
 * instruction that gcc 12 spends on the broadcast; loads bound this loop. */
INLINE __m512i dot_bcast(__m512i x, __m512i u, const int8_t *q)
{
    const struct four { int8_t b[4]; } *p = (const void *)q;
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(x) : "v"(u), "m"(*p));
    return x;
}

/* x += pairs of int16 u * two sums of activations */
INLINE __m512i dot_sums(__m512i x, const void *u, const int16_t *s)
{
    const struct two { int16_t s[2]; } *p = (const void *)s;
    __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(x) : "v"(_mm512_load_si512(u)), "m"(*p));
    return x;
}

/* tot += x * scales */
INLINE __m512i scaled(__m512i tot, __m512i x, __m512i sc)
{
    return _mm512_add_epi32(tot, _mm512_mullo_epi32(x, sc));
}

/* x[m] += columns u * activations q[m] */
INLINE void few_dots(int m, __m512i *x, __m512i u, const int8_t *q)
{
    PRAGMA_UNROLL
    for (int i = 0; i < m; i++)
        x[i] = dot_bcast(x[i], u, q + 256 * i);
}

INLINE void few_clear(int m, __m512i *x)
{
    PRAGMA_UNROLL
    for (int i = 0; i < m; i++)
        x[i] = _mm512_setzero_si512();
}

/* tot[i] += two sub-blocks times m activation rows; first: = instead of +=. Meanwhile steps i0 .. i0 + 8 each - 1 of
 * making the columns to come; in every other step a line of the panel to come is fetched. */
INLINE void few_sums(int m, int first, __m512i *tot, const vi *v, const int8_t *q, __m512i sx, __m512i sy,
                     struct columns *to_come, int i0, int each, const uint8_t *ahead)
{
    const __m512i low = _mm512_set1_epi8(0x0f), high = _mm512_set1_epi8((char)0xf0);
    __m512i x[FEW_GROUP], y[FEW_GROUP];
    few_clear(m, x);
    few_clear(m, y);
    PRAGMA_UNROLL
    for (int j = 0; j < 8; j++) {
        few_dots(m, x, _mm512_and_si512(v[j], low), q + 4 * j);
        PRAGMA_UNROLL
        for (int i = i0 + each * j; i < i0 + each * (j + 1); i++) {
            columns_step(to_come, i);
            if (i % 2 == 0)
                _mm_prefetch((const char *)ahead + 32 * i, _MM_HINT_T0);
        }
        if (j % 2)
            short_jump();
        few_dots(m, y, _mm512_and_si512(v[j], high), q + 32 + 4 * j);
    }
    PRAGMA_UNROLL
    for (int i = 0; i < m; i++)
        tot[i] = scaled(first ? _mm512_mullo_epi32(x[i], sx) : scaled(tot[i], x[i], sx), y[i], sy);
}

/* c[m1 + m2][16] += one super-block of 16 rows; m1 and m2 are constants at every call. ahead: a super-block's bytes of
 * what comes after this panel. */
INLINE void few_block(int m1, int m2, rows_t row, rows_t next, const uint8_t *ahead, const struct act_rows *a,
                      vi *now, float *c)
{
    enum { PART = 16 * sizeof(struct pn_q4_k) / 4 }; /* nine lines */
    struct panel p __attribute__((aligned(64))); /* only its scales */
    header_k(&p, row);
    __m512i tot[FEW_MAX];
    const int8_t *q = a->q;
    for (int s = 0; s < 4; s++, q += 64, ahead += PART) { /* sub-blocks 2s, 2s + 1 */
        const __m512i sx = _mm512_slli_epi32(_mm512_load_si512(p.s.sc[2 * s]), 4);
        const __m512i sy = _mm512_load_si512(p.s.sc[2 * s + 1]);
        struct columns to_come;
        columns_begin(&to_come, s < 3 ? row : next, offsetof(struct pn_q4_k, qs) + 32 * (size_t)((s + 1) & 3));
        few_sums(m1, s == 0, tot, now, q, sx, sy, &to_come, 0, m2 ? 1 : 2, ahead);
        if (m2)
            few_sums(m2, s == 0, tot + m1, now, q + 256 * m1, sx, sy, &to_come, 8, 1, ahead);
        _mm_prefetch((const char *)ahead + 512, _MM_HINT_T0);
        columns_end(&to_come, now);
    }
    const __m512 d = _mm512_mul_ps(_mm512_load_ps(p.d), _mm512_set1_ps(1.0f / 16));
    const __m512 dmin = _mm512_load_ps(p.dmin);
    PRAGMA_UNROLL
    for (int i = 0; i < m1 + m2; i++) {
        __m512i mins = _mm512_setzero_si512();
        PRAGMA_UNROLL
        for (int k = 0; k < 4; k++)
            mins = dot_sums(mins, p.mn[k], a->s32 + 8 * i + 2 * k);
        __m512 t = _mm512_mul_ps(d, _mm512_cvtepi32_ps(tot[i]));
        t = _mm512_fnmadd_ps(dmin, _mm512_cvtepi32_ps(mins), t);
        _mm512_store_ps(c + 16 * i, _mm512_fmadd_ps(t, _mm512_set1_ps(a->d[i]), _mm512_load_ps(c + 16 * i)));
    }
}

/* 16 weight rows of a product, or what is left of them. */
struct few_panel {
    const uint8_t *w;
    size_t row_bytes;
    int32_t rows;
};

/* Its super-block b; rows that are not there: tail_copy */
INLINE rows_t few_rows(const struct few_panel *p, int32_t b, struct tail *tail)
{
    const size_t block = sizeof(struct pn_q4_k);
    const rows_t row = { p->w + (size_t)b * block, p->row_bytes };
    return p->rows < LANES ? tail_copy(&tail[b & 1], row.p, row.step, p->rows, block) : row;
}

/* c[m1 + m2][16] of a panel and rows m0 .. of a; m1 and m2 are constants at every call. */
INLINE void few_product(int m1, int m2, float *c, const struct few_panel *p, const struct pn_act *a, int32_t m0)
{
    const size_t block = sizeof(struct pn_q4_k);
    struct tail tail[2]; /* the next block is read while this one is used */
    if (p->rows < LANES)
        memset(tail, 0, sizeof tail);
    rows_t row = few_rows(p, 0, tail);
    vi columns[8];
    columns8(columns, row, offsetof(struct pn_q4_k, qs));
    const uint8_t *ahead = p->w + LANES * p->row_bytes;
    for (int32_t b = 0; b < a->nb; b++, ahead += LANES * block) {
        const size_t r0 = (size_t)b * (size_t)a->m + (size_t)m0;
        const struct act_rows ar = { a->q + r0 * PN_QK, a->s32 + r0 * 8, a->s16 + r0 * 16, a->d + r0 };
        const rows_t next = b + 1 < a->nb ? few_rows(p, b + 1, tail) : row; /* after the last one: not used */
        few_block(m1, m2, row, next, ahead, &ar, columns, c);
        row = next;
    }
}

typedef void few_fn(float *c, const struct few_panel *p, const struct pn_act *a, int32_t m0);

#define FEW(m1, m2)                                                                                             \
    static __attribute__((noinline)) void few_##m1##_##m2(float *c, const struct few_panel *p,                   \
                                                          const struct pn_act *a, int32_t m0)                    \
    {                                                                                                           \
        few_product(m1, m2, c, p, a, m0);                                                                       \
    }
FEW(1, 0)
FEW(2, 0)
FEW(3, 0)
FEW(4, 0)
FEW(5, 0)
FEW(6, 0)
FEW(7, 0)
FEW(8, 0)
FEW(5, 4)
FEW(5, 5)
FEW(6, 5)
FEW(6, 6)
FEW(7, 6)
FEW(7, 7)
FEW(8, 7)
FEW(8, 8)
static few_fn *const fews[FEW_MAX + 1] = { NULL,    few_1_0, few_2_0, few_3_0, few_4_0, few_5_0,
                                           few_6_0, few_7_0, few_8_0, few_5_4, few_5_5, few_6_5,
                                           few_6_6, few_7_6, few_7_7, few_8_7, few_8_8 };

static void mm_few(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n, const struct pn_act *a,
                   int32_t m0, int32_t m)
{
    float sums[FEW_MAX * LANES] __attribute__((aligned(64)));
    for (int32_t n0 = 0; n0 < n; n0 += LANES) {
        const struct few_panel p = { (const uint8_t *)w + (size_t)n0 * row_bytes, row_bytes,
                                     n - n0 < LANES ? n - n0 : LANES };
        memset(sums, 0, (size_t)m * LANES * sizeof *sums);
        fews[m](sums, &p, a, m0);
        for (int32_t i = 0; i < m; i++)
            put_sums(c + (size_t)i * ldc + n0, sums + (size_t)i * LANES, LANES, p.rows);
    }
}

#endif
