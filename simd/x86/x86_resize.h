/* SPDX-License-Identifier: Apache-2.0 */
/* Picture resize (kern.h, resize_across and resize_down) on 256-bit vectors of int32 sums. */
#ifndef PN_X86_RESIZE_H
#define PN_X86_RESIZE_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kern/unroll.h"

#define RESIZE_FRACTION 22

/* acc += 8 bytes * k */
INLINE __m256i weigh8(__m256i acc, const uint8_t *p, __m256i k)
{
    const __m256i v = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
    return _mm256_add_epi32(acc, _mm256_mullo_epi32(v, k));
}

/* Sums of four pixels' channels or fewer to bytes, in the low lanes */
INLINE __m128i sums_to_bytes(__m128i sum)
{
    const __m128i words = _mm_packs_epi32(_mm_srai_epi32(sum, RESIZE_FRACTION), _mm_setzero_si128());
    return _mm_packus_epi16(words, words);
}

/* Two taps at a time, one to each half; a load of eight bytes has two more than the two pixels, which must exist. */
static void ISA(resize_across)(uint8_t *out, const uint8_t *in, int32_t w, int32_t in_w, const int32_t *first,
                               const int32_t *count, const int32_t *weight, size_t size)
{
    const __m128i apart = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i halves = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    const __m128i half = _mm_set1_epi32(1 << (RESIZE_FRACTION - 1));
    for (int32_t x = 0; x < w; x++) {
        const int32_t *k = weight + (size_t)x * size;
        const uint8_t *p = in + 3 * (size_t)first[x];
        const int32_t n = count[x], safe = in_w - first[x] - 2; /* j < safe: three pixels from j on exist */
        __m256i acc = _mm256_setzero_si256();
        int32_t j = 0;
        for (; j + 2 <= n && j < safe; j += 2) {
            const __m128i two = _mm_shuffle_epi8(_mm_loadl_epi64((const void *)(p + 3 * j)), apart);
            const __m256i kk = _mm256_permutevar8x32_epi32(
                _mm256_castsi128_si256(_mm_loadl_epi64((const void *)(k + j))), halves);
            acc = _mm256_add_epi32(acc, _mm256_mullo_epi32(_mm256_cvtepu8_epi32(two), kk));
        }
        __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(acc), _mm256_extracti128_si256(acc, 1));
        for (; j < n; j++) {
            const __m128i v = _mm_setr_epi32(p[3 * j], p[3 * j + 1], p[3 * j + 2], 0);
            sum = _mm_add_epi32(sum, _mm_mullo_epi32(v, _mm_set1_epi32(k[j])));
        }
        const int32_t pixel = _mm_cvtsi128_si32(sums_to_bytes(_mm_add_epi32(sum, half)));
        memcpy(out + 3 * x, &pixel, 3);
    }
}

static void ISA(resize_down)(uint8_t *out, const uint8_t *in, size_t stride, size_t n_bytes, const int32_t *weight,
                             int32_t n)
{
    const __m256i half = _mm256_set1_epi32(1 << (RESIZE_FRACTION - 1));
    size_t i = 0;
    for (; i + 32 <= n_bytes; i += 32) {
        __m256i s0 = half, s1 = half, s2 = half, s3 = half;
        for (int32_t j = 0; j < n; j++) {
            const uint8_t *p = in + (size_t)j * stride + i;
            const __m256i k = _mm256_set1_epi32(weight[j]);
            s0 = weigh8(s0, p, k);
            s1 = weigh8(s1, p + 8, k);
            s2 = weigh8(s2, p + 16, k);
            s3 = weigh8(s3, p + 24, k);
        }
        const __m256i a = _mm256_packs_epi32(_mm256_srai_epi32(s0, RESIZE_FRACTION),
                                             _mm256_srai_epi32(s1, RESIZE_FRACTION));
        const __m256i b = _mm256_packs_epi32(_mm256_srai_epi32(s2, RESIZE_FRACTION),
                                             _mm256_srai_epi32(s3, RESIZE_FRACTION));
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        _mm256_storeu_si256((void *)(out + i), _mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b), order));
    }
    for (; i + 8 <= n_bytes; i += 8) {
        __m256i s = half;
        for (int32_t j = 0; j < n; j++)
            s = weigh8(s, in + (size_t)j * stride + i, _mm256_set1_epi32(weight[j]));
        const int32_t low = _mm_cvtsi128_si32(sums_to_bytes(_mm256_castsi256_si128(s)));
        const int32_t high = _mm_cvtsi128_si32(sums_to_bytes(_mm256_extracti128_si256(s, 1)));
        memcpy(out + i, &low, 4);
        memcpy(out + i + 4, &high, 4);
    }
    for (; i < n_bytes; i++) {
        __m128i s = _mm_cvtsi32_si128(1 << (RESIZE_FRACTION - 1));
        for (int32_t j = 0; j < n; j++)
            s = _mm_add_epi32(s, _mm_mullo_epi32(_mm_cvtsi32_si128(in[(size_t)j * stride + i]),
                                                 _mm_cvtsi32_si128(weight[j])));
        out[i] = (uint8_t)_mm_cvtsi128_si32(sums_to_bytes(s));
    }
}

#endif
