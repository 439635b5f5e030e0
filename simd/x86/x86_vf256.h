/* SPDX-License-Identifier: Apache-2.0 */
/* Sixteen f32 lanes in two 256-bit registers: see x86_vf512.h. */
#ifndef PN_X86_VF_H
#define PN_X86_VF_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kern/unroll.h"

#define ISA(name) name##_avx2

typedef struct {
    __m256 lo, hi;
} vf;

#define MMF_NW 2
#define MMF_MX 2
#define ATTN_ROWS 2
#define QK_VECS 2
#define QK_VECS_1 2
#define PV_VECS 2
#define PV_VECS_1 2
#define PRAGMA_UNROLL_EXP PRAGMA_UNROLL

INLINE vf vf_pair(__m256 lo, __m256 hi)
{
    const vf r = { lo, hi };
    return r;
}
INLINE vf vf_ipair(__m256i lo, __m256i hi)
{
    return vf_pair(_mm256_castsi256_ps(lo), _mm256_castsi256_ps(hi));
}
INLINE vf vf_zero(void)
{
    return vf_pair(_mm256_setzero_ps(), _mm256_setzero_ps());
}
INLINE vf vf_set1(float x)
{
    return vf_pair(_mm256_set1_ps(x), _mm256_set1_ps(x));
}
INLINE vf vf_load(const float *p)
{
    return vf_pair(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}
INLINE void vf_store(float *p, vf a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}
/* All ones in lanes first .. first + 7 below n. */
INLINE __m256i first_n(int first, int n)
{
    const __m256i lane = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                                          _mm256_set1_epi32(first));
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane);
}
INLINE vf vf_load_n(const float *p, int n)
{
    return vf_pair(_mm256_maskload_ps(p, first_n(0, n)), _mm256_maskload_ps(p + 8, first_n(8, n)));
}
INLINE void vf_store_n(float *p, vf a, int n)
{
    _mm256_maskstore_ps(p, first_n(0, n), a.lo);
    _mm256_maskstore_ps(p + 8, first_n(8, n), a.hi);
}
INLINE vf vf_keep_n(vf a, int n)
{
    return vf_pair(_mm256_and_ps(a.lo, _mm256_castsi256_ps(first_n(0, n))),
                   _mm256_and_ps(a.hi, _mm256_castsi256_ps(first_n(8, n))));
}
INLINE vf vf_fill_from(vf a, float x, int n)
{
    const __m256 v = _mm256_set1_ps(x);
    return vf_pair(_mm256_blendv_ps(v, a.lo, _mm256_castsi256_ps(first_n(0, n))),
                   _mm256_blendv_ps(v, a.hi, _mm256_castsi256_ps(first_n(8, n))));
}
INLINE vf vf_add(vf a, vf b)
{
    return vf_pair(_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi));
}
INLINE vf vf_sub(vf a, vf b)
{
    return vf_pair(_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi));
}
INLINE vf vf_mul(vf a, vf b)
{
    return vf_pair(_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi));
}
INLINE vf vf_div(vf a, vf b)
{
    return vf_pair(_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi));
}
INLINE vf vf_max(vf a, vf b)
{
    return vf_pair(_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi));
}
INLINE vf vf_min(vf a, vf b)
{
    return vf_pair(_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi));
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return vf_pair(_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi));
}
INLINE vf vf_fms(vf a, vf b, vf c)
{
    return vf_pair(_mm256_fmsub_ps(a.lo, b.lo, c.lo), _mm256_fmsub_ps(a.hi, b.hi, c.hi));
}
INLINE vf vf_if_lt(vf a, vf b, vf x, vf y)
{
    return vf_pair(_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
                   _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)));
}
INLINE vf vf_and_bits(vf a, uint32_t bits)
{
    const __m256 v = _mm256_castsi256_ps(_mm256_set1_epi32((int)bits));
    return vf_pair(_mm256_and_ps(a.lo, v), _mm256_and_ps(a.hi, v));
}
INLINE vf vf_xor(vf a, vf b)
{
    return vf_pair(_mm256_xor_ps(a.lo, b.lo), _mm256_xor_ps(a.hi, b.hi));
}
INLINE __m256i exponent8(__m256 t)
{
    return _mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(t), 23),
                            _mm256_set1_epi32(0x3f800000));
}
INLINE vf vf_exponent(vf t)
{
    return vf_ipair(exponent8(t.lo), exponent8(t.hi));
}
INLINE vf vf_umax(vf a, vf b)
{
    return vf_ipair(_mm256_max_epu32(_mm256_castps_si256(a.lo), _mm256_castps_si256(b.lo)),
                    _mm256_max_epu32(_mm256_castps_si256(a.hi), _mm256_castps_si256(b.hi)));
}
INLINE __m256 vf_half_sum(vf a)
{
    return _mm256_add_ps(a.lo, a.hi);
}
INLINE __m256i vf_half_umax(vf a)
{
    return _mm256_max_epu32(_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi));
}
INLINE __m256 vf_half_max(vf a)
{
    return _mm256_max_ps(a.lo, a.hi);
}
INLINE vf vf_load_f16(const void *p)
{
    const __m128i *h = p;
    return vf_pair(_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1)));
}
INLINE vf vf_load_bf16(const void *p)
{
    const __m128i *h = p;
    return vf_ipair(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(h)), 16),
                    _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(h + 1)), 16));
}
INLINE vf vf_from_i8(__m128i q)
{
    return vf_pair(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)),
                   _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(q, 8))));
}
INLINE vf vf_part_bf16(const void *p, int part)
{
    const __m256i lo = _mm256_loadu_si256(p), hi = _mm256_loadu_si256((const __m256i *)p + 1);
    const __m256i high = _mm256_set1_epi32((int)0xffff0000u);
    return part ? vf_ipair(_mm256_and_si256(lo, high), _mm256_and_si256(hi, high))
                : vf_ipair(_mm256_slli_epi32(lo, 16), _mm256_slli_epi32(hi, 16));
}
INLINE __m256 part_i8x8(const void *p, int part)
{
    const __m256i v = _mm256_sll_epi32(_mm256_loadu_si256(p), _mm_cvtsi32_si128(24 - 8 * part));
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(v, 24));
}
INLINE vf vf_part_i8(const void *p, int part)
{
    return vf_pair(part_i8x8(p, part), part_i8x8((const __m256i *)p + 1, part));
}
INLINE void vf_store_f16(void *p, vf a)
{
    __m128i *h = p;
    _mm_storeu_si128(h, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(h + 1, _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
}
INLINE __m256i bf16x8(__m256 a)
{
    const __m256i u = _mm256_castps_si256(a), high = _mm256_srli_epi32(u, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i r = _mm256_srli_epi32(
        _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd), 16);
    const __m256i nan = _mm256_or_si256(high, _mm256_set1_epi32(64));
    return _mm256_blendv_epi8(r, nan, _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)));
}
INLINE void vf_store_bf16(void *p, vf a)
{
    const __m256i both = _mm256_packus_epi32(bf16x8(a.lo), bf16x8(a.hi));
    _mm256_storeu_si256(p, _mm256_permute4x64_epi64(both, 0xd8));
}
INLINE __m128i vf_to_i8(vf a)
{
    const __m256i both = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));
    const __m256i w = _mm256_permute4x64_epi64(both, 0xd8);
    return _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
}

#endif
