/* SPDX-License-Identifier: Apache-2.0 */
/* Rounding of rows to bf16 with AVX512-BF16. */
#ifndef PN_X86_BF16_H
#define PN_X86_BF16_H

#include <immintrin.h>
#include <stdint.h>

#include "kern/unroll.h"
#include "quant/types.h"

/* n f32 to bf16, zeros up to n_padded, a multiple of 32 */
static inline void to_bf16(uint16_t *y, const float *x, int32_t n, int32_t n_padded)
{
    int32_t i = 0;
    for (; i + 32 <= n; i += 32) /* most of the time goes here */
        _mm512_storeu_si512(y + i, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16), _mm512_loadu_ps(x + i)));
    for (; i < n_padded; i += 32) {
        const int32_t left = n - i;
        const __mmask32 m = left > 0 ? (1u << left) - 1 : 0;
        const __m512 lo = _mm512_maskz_loadu_ps((__mmask16)m, x + i);
        const __m512 hi = _mm512_maskz_loadu_ps((__mmask16)(m >> 16), x + i + 16);
        _mm512_storeu_si512(y + i, (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
    }
}

/* cols weights at p to bf16, zeros after them up to a multiple of 32 */
INLINE void row_to_bf16(enum pn_type type, uint16_t *y, const uint8_t *p, int32_t cols)
{
    if (type == PN_F32) {
        to_bf16(y, (const float *)(const void *)p, cols, (cols + 31) & ~31);
        return;
    }
    int32_t i = 0;
    for (; type == PN_F16 && i + 32 <= cols; i += 32, p += 64) {
        const __m512 lo = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
        const __m512 hi = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p + 32)));
        _mm512_storeu_si512(y + i, (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
    }
    for (; i < cols; i += 32, p += 64) {
        const __mmask32 m = cols - i >= 32 ? 0xffffffffu : (1u << (cols - i)) - 1;
        const __m512i h = _mm512_maskz_loadu_epi16(m, p);
        if (type == PN_F16) {
            const __m512 lo = _mm512_cvtph_ps(_mm512_castsi512_si256(h));
            const __m512 hi = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(h, 1));
            _mm512_storeu_si512(y + i, (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
        } else {
            _mm512_storeu_si512(y + i, h);
        }
    }
}

#endif
