/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors of eight columns of eight rows of weights, [row][8], for products with few activation rows: a broadcast of
 * eight activations serves both sides of a panel. These are rows 0, 1, 4, 5, 8, 9, 12, 13 and rows 2, 3, 6, 7 and so
 * on: of the 32-bit sums of products, two a row, those of both sides put together by VPACKSSDW are in the order of the
 * rows. */
#ifndef PN_X86_SIDE512_H
#define PN_X86_SIDE512_H

#include "x86_mm512.h"

/* The first row of a side, and the one eight further. As with row_steps, the compiler must not know more. */
struct side_rows {
    const uint8_t *p, *p8;
};
struct side_steps {
    size_t s1, s5; /* to row 1, to row 5 */
};
INLINE struct side_steps side_steps(size_t step)
{
    struct side_steps s = { step, 5 * step };
    __asm__("" : "+r"(s.s1), "+r"(s.s5));
    return s;
}
INLINE struct side_rows side_rows(const uint8_t *p, struct side_steps s)
{
    struct side_rows r = { p, p + 8 * s.s1 };
    __asm__("" : "+r"(r.p), "+r"(r.p8));
    return r;
}
INLINE void side_skip(struct side_rows *r, ptrdiff_t bytes)
{
    r->p += bytes;
    r->p8 += bytes;
    __asm__("" : "+r"(r->p), "+r"(r->p8));
}
/* k = 0 .. 3, a constant: 32 bytes, four times eight columns, of two rows each. After all four z[0] and z[2] hold
 * columns 0 .. 7 and 16 .. 23 of half of the rows each, z[1] and z[3] the others. */
INLINE void side_load(vi z[4], int k, struct side_rows r, struct side_steps s, size_t at)
{
    const uint8_t *p = (k < 2 ? r.p : r.p8) + at;
    const __m256i x = _mm256_loadu_si256((const void *)(k & 1 ? p + s.s1 : p));
    const __m256i y = _mm256_loadu_si256((const void *)(k & 1 ? p + s.s5 : p + 4 * s.s1));
    z[k] = _mm512_inserti64x4(_mm512_castsi256_si512(x), y, 1);
    if (k & 1) {
        const vi even = z[k - 1], odd = z[k];
        z[k - 1] = _mm512_unpacklo_epi64(even, odd);
        z[k] = _mm512_unpackhi_epi64(even, odd);
    }
}
/* n = 0 .. 3, a constant: columns 8 * side_octet(n) .. */
INLINE int side_octet(int n)
{
    return 2 * (n & 1) + n / 2;
}
INLINE vi side_columns(const vi z[4], int n)
{
    return n & 1 ? _mm512_shuffle_i64x2(z[n / 2], z[n / 2 + 2], 0xdd)
                 : _mm512_shuffle_i64x2(z[n / 2], z[n / 2 + 2], 0x88);
}

/* ---- products ---- */

/* Where the compiler sees a load, it prefers doing it again to keeping the register. */
INLINE __m512i load_once(const void *p)
{
    const struct __attribute__((may_alias)) line { uint8_t b[64]; } *q = p;
    __m512i x;
    __asm__("vmovdqa64 %1, %0" : "=v"(x) : "m"(*q));
    return x;
}
INLINE __m512i bcast8_once(const void *p)
{
    const struct __attribute__((may_alias)) eight { uint8_t b[8]; } *q = p;
    __m512i x;
    __asm__("vpbroadcastq %1, %0" : "=v"(x) : "m"(*q));
    return x;
}
INLINE void side_clear(int m, __m512i *x)
{
    PRAGMA_UNROLL
    for (int i = 0; i < m; i++)
        x[i] = _mm512_setzero_si512();
}

/* x += 32 products of a row of activations, b, and the two sides of a panel, u */
INLINE void side_dots(__m512i x[2], const __m512i u[2], __m512i b)
{
    x[0] = _mm512_dpbusd_epi32(x[0], u[0], b);
    x[1] = _mm512_dpbusd_epi32(x[1], u[1], b);
}
/* tot += the sums of both sides, which fit in 16 bits, * scales, each twice */
INLINE __m512i side_scaled(__m512i tot, const __m512i x[2], __m512i sc)
{
    tot = _mm512_dpwssd_epi32(tot, _mm512_packs_epi32(x[0], x[1]), sc);
    /* now: the compiler would keep the products of all sub-blocks and add them up at last */
    __asm__ volatile("" : "+v"(tot));
    return tot;
}

#endif
