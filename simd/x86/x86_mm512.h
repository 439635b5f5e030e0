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

/* As columns4, but j = 0 .. 7: half the loads of two columns4. */
INLINE void columns8(vi col[8], rows_t row, size_t at)
{
    const struct row_steps rs = row_steps(row, at);
    vi z[8];
    PRAGMA_UNROLL
    for (int i = 0; i < 8; i++) { /* z[4h + r]: row 8h + r and, in the upper half, row 8h + r + 4 */
        const int r = 2 * (i & 4) + (i & 3);
        const __m512i v = _mm512_castsi256_si512(_mm256_loadu_si256((const void *)row_at(&rs, r)));
        z[i] = _mm512_inserti64x4(v, _mm256_loadu_si256((const void *)row_at(&rs, r + 4)), 1);
        if (i & 1) {
            const vi even = z[i - 1], odd = z[i];
            z[i - 1] = _mm512_unpacklo_epi32(even, odd);
            z[i] = _mm512_unpackhi_epi32(even, odd);
        }
    }
    PRAGMA_UNROLL
    for (int i = 0; i < 4; i++) { /* then of rows 8h ..: columns j (lanes 0, 2), 4 + j (lanes 1, 3); j: 0, 2, 1, 3 */
        const int k = 2 * (i & 2) + (i & 1);
        const vi x = z[k], y = z[k + 2];
        z[k] = _mm512_unpacklo_epi64(x, y);
        z[k + 2] = _mm512_unpackhi_epi64(x, y);
    }
    PRAGMA_UNROLL
    for (int i = 0; i < 4; i++) {
        const int j = 2 * (i & 1) + i / 2;
        col[j] = _mm512_shuffle_i32x4(z[i], z[i + 4], 0x88);
        col[j + 4] = _mm512_shuffle_i32x4(z[i], z[i + 4], 0xdd);
    }
}

#endif
