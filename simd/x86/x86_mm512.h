/* SPDX-License-Identifier: Apache-2.0 */
/* Panels of 16 weight rows for the AVX-512 kernels: the integer vector type that x86_unpack.h
 * needs. */
#ifndef PN_X86_MM512_H
#define PN_X86_MM512_H

#include <immintrin.h>
#include <stdint.h>

#include "kern/unroll.h"
#include "x86_rows.h"

#define LANES 16 /* weight rows per panel */

typedef __m512i vi;

INLINE vi vi_set1_8(int x)
{
    return _mm512_set1_epi8((char)x);
}
INLINE vi vi_set1_32(int x)
{
    return _mm512_set1_epi32(x);
}
INLINE vi vi_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}
INLINE vi vi_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}
INLINE vi vi_xor(vi a, vi b)
{
    return _mm512_xor_si512(a, b);
}
INLINE vi vi_srl(vi a, int n)
{
    return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n));
}
INLINE vi vi_sll(vi a, int n)
{
    return _mm512_sll_epi32(a, _mm_cvtsi32_si128(n));
}
INLINE vi vi_sra(vi a, int n)
{
    return _mm512_sra_epi32(a, _mm_cvtsi32_si128(n));
}
INLINE vi vi_sub_8(vi a, vi b)
{
    return _mm512_sub_epi8(a, b);
}
INLINE vi vi_sub_32(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}
INLINE vi vi_mul_16(vi a, vi b)
{
    return _mm512_mullo_epi16(a, b);
}
INLINE vi vi_mul_32(vi a, vi b)
{
    return _mm512_mullo_epi32(a, b);
}
/* table: 16 bytes, looked up within each 128-bit lane */
INLINE vi vi_lookup(__m128i table, vi index)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), index);
}
INLINE vi vi_shuffle(vi a, __m128i index)
{
    return _mm512_shuffle_epi8(a, _mm512_broadcast_i32x4(index));
}
INLINE void vi_store(void *p, vi a)
{
    _mm512_store_si512(p, a);
}
/* p[16] = the f16 in the low half of each lane */
INLINE void vi_store_f16(float *p, vi a)
{
    _mm512_store_ps(p, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)));
}

/* col[j] = bytes at + 4j .. at + 4j + 3 of every row: 16 bytes of each row, transposed as dwords. */
INLINE void columns4(vi col[4], rows_t row, size_t at)
{
    const struct row_steps rs = row_steps(row, at);
    __m512i z[4]; /* 128-bit lane i of z[r]: row 4i + r */
    PRAGMA_UNROLL
    for (int r = 0; r < 4; r++) {
        __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const void *)row_at(&rs, r)));
        v = _mm512_mask_broadcast_i32x4(v, 0x00f0,
                                        _mm_loadu_si128((const void *)row_at(&rs, r + 4)));
        v = _mm512_mask_broadcast_i32x4(v, 0x0f00,
                                        _mm_loadu_si128((const void *)row_at(&rs, r + 8)));
        z[r] = _mm512_mask_broadcast_i32x4(v, 0xf000,
                                           _mm_loadu_si128((const void *)row_at(&rs, r + 12)));
    }
    const __m512i lo01 = _mm512_unpacklo_epi32(z[0], z[1]),
                  hi01 = _mm512_unpackhi_epi32(z[0], z[1]);
    const __m512i lo23 = _mm512_unpacklo_epi32(z[2], z[3]),
                  hi23 = _mm512_unpackhi_epi32(z[2], z[3]);
    col[0] = _mm512_unpacklo_epi64(lo01, lo23);
    col[1] = _mm512_unpackhi_epi64(lo01, lo23);
    col[2] = _mm512_unpacklo_epi64(hi01, hi23);
    col[3] = _mm512_unpackhi_epi64(hi01, hi23);
}

/* As columns4, but j = 0 .. 7: half the loads of two columns4. In 16 steps, which can be done between other work. */
struct columns {
    struct row_steps rs;
    vi z[8];
};
INLINE void columns_begin(struct columns *c, rows_t row, size_t at)
{
    c->rs = row_steps(row, at);
}
/* z[k]: rows r and, in the upper half, r + 4. After the second of two, k odd, their columns are interleaved. */
INLINE void columns_load(const struct columns *c, vi *z, int k, int r)
{
    const __m512i v = _mm512_castsi256_si512(_mm256_loadu_si256((const void *)row_at(&c->rs, r)));
    z[k] = _mm512_inserti64x4(v, _mm256_loadu_si256((const void *)row_at(&c->rs, r + 4)), 1);
    if (k & 1) {
        const vi even = z[k - 1], odd = z[k];
        z[k - 1] = _mm512_unpacklo_epi32(even, odd);
        z[k] = _mm512_unpackhi_epi32(even, odd);
    }
}
/* i = 0, 1, .. 15, a constant */
INLINE void columns_step(struct columns *c, int i)
{
    vi *z = c->z;
    if (i < 8) { /* z[4h + r]: row 8h + r and row 8h + r + 4 */
        columns_load(c, z, i, 2 * (i & 4) + (i & 3));
    } else if (i < 12) { /* z[4h + ..]: of rows 8h .., columns j (128-bit lanes 0, 2) and 4 + j (1, 3); j: 0, 2, 1, 3 */
        const int k = 2 * (i & 2) + (i & 1);
        const vi x = z[k], y = z[k + 2];
        z[k] = _mm512_unpacklo_epi64(x, y);
        z[k + 2] = _mm512_unpackhi_epi64(x, y);
    } else {
        const vi x = z[i - 12], y = z[i - 8];
        z[i - 12] = _mm512_shuffle_i32x4(x, y, 0x88);
        z[i - 8] = _mm512_shuffle_i32x4(x, y, 0xdd);
    }
}
INLINE void columns_end(const struct columns *c, vi col[8])
{
    PRAGMA_UNROLL
    for (int j = 0; j < 8; j += 4) {
        col[j] = c->z[j];
        col[j + 1] = c->z[j + 2];
        col[j + 2] = c->z[j + 1];
        col[j + 3] = c->z[j + 3];
    }
}
INLINE void columns8(vi col[8], rows_t row, size_t at)
{
    struct columns c;
    columns_begin(&c, row, at);
    PRAGMA_UNROLL
    for (int i = 0; i < 16; i++)
        columns_step(&c, i);
    columns_end(&c, col);
}

/* ---- eight columns of eight rows a vector, [row][8] ----
 * A panel then is two sides: rows 0, 1, 4, 5, 8, 9, 12, 13 and rows 2, 3, 6, 7 and so on. Of the 32-bit sums of
 * products, two a row, those of both sides put together by VPACKSSDW are in the order of the rows. */

/* The first row of a side, and the one eight further. As with row_steps, the compiler must not know more. */
struct side_rows {
    const uint8_t *p, *p8;
};
struct side_steps {
    size_t s1, s5; /* to the next row, to the fifth */
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
INLINE void side_skip(struct side_rows *r, size_t bytes)
{
    r->p += bytes;
    r->p8 += bytes;
    __asm__("" : "+r"(r->p), "+r"(r->p8));
}
/* k = 0 .. 3, constants: 32 bytes, four times eight columns, of two rows each. */
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

/* Where the compiler sees a load, it prefers doing it again to keeping the register. */
INLINE __m512i load_once(const void *p)
{
    const struct line { uint8_t b[64]; } *q = p;
    __m512i x;
    __asm__("vmovdqa64 %1, %0" : "=v"(x) : "m"(*q));
    return x;
}
INLINE __m512i bcast8_once(const void *p)
{
    const struct eight { uint8_t b[8]; } *q = p;
    __m512i x;
    __asm__("vpbroadcastq %1, %0" : "=v"(x) : "m"(*q));
    return x;
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
