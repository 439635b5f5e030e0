/* SPDX-License-Identifier: Apache-2.0 */
/* Panels of 8 weight rows for the 256-bit kernels: see x86_mm512.h. */
#ifndef PN_X86_MM256_H
#define PN_X86_MM256_H

#include <immintrin.h>
#include <stdint.h>

#include "kern/unroll.h"
#include "x86_rows.h"

#define LANES 8

typedef __m256i vi;

INLINE vi vi_set1_8(int x)
{
    return _mm256_set1_epi8((char)x);
}
INLINE vi vi_set1_32(int x)
{
    return _mm256_set1_epi32(x);
}
INLINE vi vi_and(vi a, vi b)
{
    return _mm256_and_si256(a, b);
}
INLINE vi vi_or(vi a, vi b)
{
    return _mm256_or_si256(a, b);
}
INLINE vi vi_xor(vi a, vi b)
{
    return _mm256_xor_si256(a, b);
}
INLINE vi vi_srl(vi a, int n)
{
    return _mm256_srl_epi32(a, _mm_cvtsi32_si128(n));
}
INLINE vi vi_sll(vi a, int n)
{
    return _mm256_sll_epi32(a, _mm_cvtsi32_si128(n));
}
INLINE vi vi_sra(vi a, int n)
{
    return _mm256_sra_epi32(a, _mm_cvtsi32_si128(n));
}
INLINE vi vi_sub_8(vi a, vi b)
{
    return _mm256_sub_epi8(a, b);
}
INLINE vi vi_sub_32(vi a, vi b)
{
    return _mm256_sub_epi32(a, b);
}
INLINE vi vi_mul_16(vi a, vi b)
{
    return _mm256_mullo_epi16(a, b);
}
INLINE vi vi_mul_32(vi a, vi b)
{
    return _mm256_mullo_epi32(a, b);
}
INLINE vi vi_lookup(__m128i table, vi index)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), index);
}
INLINE vi vi_shuffle(vi a, __m128i index)
{
    return _mm256_shuffle_epi8(a, _mm256_broadcastsi128_si256(index));
}
INLINE void vi_store(void *p, vi a)
{
    _mm256_store_si256(p, a);
}
INLINE void vi_store_f16(float *p, vi a)
{
    const vi low = vi_shuffle(
        a, _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1));
    const __m128i h = _mm256_castsi256_si128(_mm256_permute4x64_epi64(low, 0x08));
    _mm256_store_ps(p, _mm256_cvtph_ps(h));
}

INLINE void columns4(vi col[4], rows_t row, size_t at)
{
    const struct row_steps rs = row_steps(row, at);
    __m256i z[4]; /* rows r, 4 + r */
    PRAGMA_UNROLL
    for (int r = 0; r < 4; r++) {
        const __m256i v = _mm256_castsi128_si256(_mm_loadu_si128((const void *)row_at(&rs, r)));
        z[r] = _mm256_inserti128_si256(v, _mm_loadu_si128((const void *)row_at(&rs, r + 4)), 1);
    }
    const __m256i lo01 = _mm256_unpacklo_epi32(z[0], z[1]),
                  hi01 = _mm256_unpackhi_epi32(z[0], z[1]);
    const __m256i lo23 = _mm256_unpacklo_epi32(z[2], z[3]),
                  hi23 = _mm256_unpackhi_epi32(z[2], z[3]);
    col[0] = _mm256_unpacklo_epi64(lo01, lo23);
    col[1] = _mm256_unpackhi_epi64(lo01, lo23);
    col[2] = _mm256_unpacklo_epi64(hi01, hi23);
    col[3] = _mm256_unpackhi_epi64(hi01, hi23);
}

INLINE void columns8(vi col[8], rows_t row, size_t at)
{
    columns4(col, row, at);
    columns4(col + 4, row, at + 16);
}

#endif
