/* SPDX-License-Identifier: Apache-2.0 */
/* Sixteen f32 lanes in one 512-bit register: the vector type of the f32 kernels (kern/vec_tmpl.h
 * and kern/attn_tmpl.h, which list the operations, and x86_mmf.h). x86_vf256.h is the same interface
 * on two 256-bit registers. */
#ifndef PN_X86_VF_H
#define PN_X86_VF_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kern/unroll.h"

#define ISA(name) name##_avx512

typedef __m512 vf;

/* register tiles: weights x activations of mm_f32; those of kern/attn_tmpl.h */
#define MMF_NW 4
#define MMF_MX 6
#define ATTN_ROWS 4
#define QK_VECS 4
#define QK_VECS_1 4
#define PV_VECS 5
#define PV_VECS_1 5
#define PRAGMA_UNROLL_EXP PRAGMA_UNROLL

INLINE vf vf_zero(void)
{
    return _mm512_setzero_ps();
}
INLINE vf vf_set1(float x)
{
    return _mm512_set1_ps(x);
}
INLINE vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
INLINE void vf_store(float *p, vf a)
{
    _mm512_storeu_ps(p, a);
}
INLINE __mmask16 first_n(int n)
{
    return (__mmask16)((1u << n) - 1);
}
/* The first n lanes, 1 <= n <= 15, the others zero; nothing past them is touched. */
INLINE vf vf_load_n(const float *p, int n)
{
    return _mm512_maskz_loadu_ps(first_n(n), p);
}
INLINE void vf_store_n(float *p, vf a, int n)
{
    _mm512_mask_storeu_ps(p, first_n(n), a);
}
/* Lanes from n on become zero, 0 <= n <= 16. */
INLINE vf vf_keep_n(vf a, int n)
{
    return _mm512_maskz_mov_ps((__mmask16)((1u << n) - 1), a);
}
/* Lanes from n on become x. */
INLINE vf vf_fill_from(vf a, float x, int n)
{
    return _mm512_mask_mov_ps(_mm512_set1_ps(x), (__mmask16)((1u << n) - 1), a);
}
INLINE vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
INLINE vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
INLINE vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
INLINE vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
INLINE vf vf_fms(vf a, vf b, vf c)
{
    return _mm512_fmsub_ps(a, b, c);
}
/* a > b ? a : b, lane by lane: b where either is NaN */
INLINE vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
INLINE vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
/* a < b ? x : y */
INLINE vf vf_if_lt(vf a, vf b, vf x, vf y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
/* Bits of the lanes: and, or, xor with a constant, shift left and add. */
INLINE vf vf_and_bits(vf a, uint32_t bits)
{
    return _mm512_castsi512_ps(
        _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32((int)bits)));
}
INLINE vf vf_xor(vf a, vf b)
{
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
INLINE vf vf_exponent(vf t) /* (bits << 23) + 0x3f800000 */
{
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_slli_epi32(_mm512_castps_si512(t), 23),
                                                _mm512_set1_epi32(0x3f800000)));
}
/* Larger of two as unsigned integers. */
INLINE vf vf_umax(vf a, vf b)
{
    return _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
/* The 16-lane rule of kern.h: (i, i+8), (i, i+4), (i, i+2), (0, 1). */
INLINE __m256 vf_half_sum(vf a)
{
    return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
}
INLINE __m256i vf_half_umax(vf a)
{
    const __m512i u = _mm512_castps_si512(a);
    return _mm256_max_epu32(_mm512_castsi512_si256(u), _mm512_extracti64x4_epi64(u, 1));
}
INLINE __m256 vf_half_max(vf a)
{
    return _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
}
/* Sixteen values of other types. */
INLINE vf vf_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}
INLINE vf vf_load_bf16(const void *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}
INLINE vf vf_from_i8(__m128i q)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q));
}
/* Sixteen dwords of packed 16-bit (part 0, 1) or 8-bit (part 0 .. 3) values. */
INLINE vf vf_part_bf16(const void *p, int part)
{
    const __m512i v = _mm512_loadu_si512(p);
    return _mm512_castsi512_ps(part ? _mm512_and_si512(v, _mm512_set1_epi32((int)0xffff0000u))
                                    : _mm512_slli_epi32(v, 16));
}
INLINE vf vf_part_i8(const void *p, int part)
{
    const __m512i v = _mm512_sll_epi32(_mm512_loadu_si512(p), _mm_cvtsi32_si128(24 - 8 * part));
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(v, 24));
}
/* Round to nearest even and store. */
INLINE void vf_store_f16(void *p, vf a)
{
    _mm256_storeu_si256(p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
INLINE void vf_store_bf16(void *p, vf a)
{
    const __m512i u = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    const __m512i r = _mm512_srli_epi32(
        _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd), 16);
    const __m512i nan = _mm512_or_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(64));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    _mm256_storeu_si256(p, _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(r, is_nan, nan)));
}
INLINE __m128i vf_to_i8(vf a) /* |a| < 128 */
{
    return _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a));
}

#endif
