/* SPDX-License-Identifier: Apache-2.0 */
/* The operations that are one text for both widths of vf (x86_vf512.h, x86_vf256.h): reductions, sixteen
 * int8, exp and erf. */
#ifndef PN_X86_MATH_H
#define PN_X86_MATH_H

#include <math.h>

#include "kern/kern_math.h"

INLINE vf vf_neg(vf a)
{
    return vf_xor(a, vf_set1(-0.0f));
}
INLINE vf vf_abs(vf a)
{
    return vf_and_bits(a, 0x7fffffffu);
}
INLINE vf vf_fma_n(vf a, float s, vf c)
{
    return vf_fma(vf_set1(s), a, c);
}

/* ---- reductions ---- */

INLINE float vf_sum(vf a)
{
    const __m256 h = vf_half_sum(a);
    const __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    const __m128 d = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(d, _mm_shuffle_ps(d, d, 1)));
}

INLINE float vf_hmax(vf a)
{
    const __m256 h = vf_half_max(a);
    const __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    const __m128 d = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(d, _mm_shuffle_ps(d, d, 1)));
}

INLINE uint32_t vf_humax(vf a)
{
    const __m256i h = vf_half_umax(a);
    const __m128i q = _mm_max_epu32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    const __m128i d = _mm_max_epu32(q, _mm_shuffle_epi32(q, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(d, _mm_shuffle_epi32(d, 0xb1)));
}

/* ---- sixteen int8 ---- */

typedef __m128i vi8;

INLINE vi8 vi8_zero(void)
{
    return _mm_setzero_si128();
}
INLINE void vi8_store(int8_t *p, vi8 q)
{
    _mm_storeu_si128((void *)p, q);
}
INLINE int vi8_sum(vi8 q)
{
    /* sums of eight q + 128 */
    const __m128i sad = _mm_sad_epu8(_mm_xor_si128(q, _mm_set1_epi8(-128)), _mm_setzero_si128());
    return _mm_cvtsi128_si32(sad) + _mm_extract_epi16(sad, 4) - 16 * 128;
}
INLINE void sums_of_pairs(int16_t *s, const int16_t *p)
{
    const __m128i lo = _mm_loadu_si128((const void *)p), hi = _mm_loadu_si128((const void *)(p + 8));
    _mm_storeu_si128((void *)s, _mm_hadd_epi16(lo, hi));
}
INLINE vf vf_load_i8(const void *p)
{
    return vf_from_i8(_mm_loadu_si128(p));
}

/* ---- rotary embedding ---- */

INLINE void rope_4_pairs(float *x, const float *cs, const float *sn)
{
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    const __m256 c = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(cs)), twice);
    const __m256 s = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(sn)), twice);
    const __m256 ab = _mm256_loadu_ps(x), ba = _mm256_permute_ps(ab, 0xb1);
    _mm256_storeu_ps(x, _mm256_fmaddsub_ps(ab, c, _mm256_mul_ps(ba, s)));
}

/* ---- exp, erf: the steps of kern_math.h ---- */

/* pn_expf */
INLINE vf vf_exp(vf x)
{
    const vf lo = vf_set1(PN_EXP_LO), hi = vf_set1(PN_EXP_HI);
    const vf xc = vf_min(hi, vf_max(lo, x));
    const vf t = vf_fma(xc, vf_set1(PN_EXP_LOG2E), vf_set1(PN_EXP_MAGIC));
    const vf n = vf_sub(t, vf_set1(PN_EXP_MAGIC));
    vf r = vf_fma(n, vf_set1(-PN_EXP_LN2_HI), xc);
    r = vf_fma(n, vf_set1(-PN_EXP_LN2_LO), r);
    vf p = vf_set1(PN_EXP_C6);
    p = vf_fma(p, r, vf_set1(PN_EXP_C5));
    p = vf_fma(p, r, vf_set1(PN_EXP_C4));
    p = vf_fma(p, r, vf_set1(PN_EXP_C3));
    p = vf_fma(p, r, vf_set1(PN_EXP_C2));
    p = vf_fma(p, r, vf_set1(1.0f));
    p = vf_fma(p, r, vf_set1(1.0f));
    vf y = vf_mul(p, vf_exponent(t));
    y = vf_if_lt(x, lo, vf_zero(), y);
    return vf_if_lt(hi, x, vf_set1(INFINITY), y);
}

/* pn_erff */
INLINE vf vf_erf(vf x)
{
    const vf sign = vf_and_bits(x, 0x80000000u), four = vf_set1(4.0f);
    const vf t = vf_min(four, vf_xor(x, sign));
    const vf s = vf_mul(t, t);
    vf small = vf_set1(PN_ERF_S6);
    small = vf_fma(small, s, vf_set1(PN_ERF_S5));
    small = vf_fma(small, s, vf_set1(PN_ERF_S4));
    small = vf_fma(small, s, vf_set1(PN_ERF_S3));
    small = vf_fma(small, s, vf_set1(PN_ERF_S2));
    small = vf_fma(small, s, vf_set1(PN_ERF_S1));
    small = vf_fma(small, s, vf_set1(PN_ERF_S0));
    small = vf_mul(small, t);
    vf b = vf_set1(PN_ERF_B6);
    b = vf_fma(b, t, vf_set1(PN_ERF_B5));
    b = vf_fma(b, t, vf_set1(PN_ERF_B4));
    b = vf_fma(b, t, vf_set1(PN_ERF_B3));
    b = vf_fma(b, t, vf_set1(PN_ERF_B2));
    b = vf_fma(b, t, vf_set1(PN_ERF_B1));
    b = vf_fma(b, t, vf_set1(PN_ERF_B0));
    const vf big = vf_sub(vf_set1(1.0f), vf_exp(b));
    return vf_xor(vf_if_lt(t, vf_set1(1.0f), small, big), sign);
}

#endif
