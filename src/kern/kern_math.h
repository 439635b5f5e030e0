/* SPDX-License-Identifier: Apache-2.0 */
/* Scalar exp and erf of the kernel contract, written as fixed sequences of IEEE operations: every
 * step is one add, mul, fma, integer add or shift, compare-and-select, so a SIMD tier repeats it
 * lane by lane and gets the same bits. No step may be reordered or fused (files that include this
 * are compiled with -ffp-contract=off). libm's functions differ between systems; these do not.
 *
 * NaN in gives NaN out: the comparisons below are false for NaN (x86: ordered, non-signalling).
 *
 * And the scale of a block of int8, which all tiers compute alike. */
#ifndef PN_KERN_MATH_H
#define PN_KERN_MATH_H

#include <math.h>
#include <stdint.h>

#include "quant/blocks.h" /* bit casts, f16 and bf16 conversions */

/* exp(x), relative error below 8e-8 for -87.33 <= x <= 88.37; exactly 0 below, +Inf
 * above. Never a denormal, so flush-to-zero makes no difference.
 *
 *   n = nearest integer to x * log2(e), by adding 1.5 * 2^23, whose low mantissa bits become n
 *   r = x - n * ln 2, in two fma steps (ln 2 = hi + lo)
 *   exp(x) = 2^n * (1 + r + r^2 * (c2 + c3 r + .. + c6 r^4))     minimax for |r| <= (ln 2)/2 */
#define PN_EXP_LO -87.33f
#define PN_EXP_HI 88.37f
#define PN_EXP_LOG2E 0x1.715476p+0f
#define PN_EXP_MAGIC 0x1.8p+23f
#define PN_EXP_LN2_HI 0x1.62e43p-1f
#define PN_EXP_LN2_LO -0x1.05c61p-29f
#define PN_EXP_C2 0x1.fffffcp-2f
#define PN_EXP_C3 0x1.555492p-3f
#define PN_EXP_C4 0x1.5558f2p-5f
#define PN_EXP_C5 0x1.123a2p-7f
#define PN_EXP_C6 0x1.6a23ccp-10f

static inline float pn_expf(float x)
{
    float xc = x < PN_EXP_LO ? PN_EXP_LO : x;
    xc = xc > PN_EXP_HI ? PN_EXP_HI : xc;
    const float t = fmaf(xc, PN_EXP_LOG2E, PN_EXP_MAGIC);
    const float n = t - PN_EXP_MAGIC;
    float r = fmaf(n, -PN_EXP_LN2_HI, xc);
    r = fmaf(n, -PN_EXP_LN2_LO, r);
    float p = PN_EXP_C6;
    p = fmaf(p, r, PN_EXP_C5);
    p = fmaf(p, r, PN_EXP_C4);
    p = fmaf(p, r, PN_EXP_C3);
    p = fmaf(p, r, PN_EXP_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    /* the shift throws away all of t but n; 127 << 23 = 0x3f800000 is the bias */
    const float scale = pn_f32_from_bits((pn_f32_bits(t) << 23) + 0x3f800000u);
    float y = p * scale;
    y = x < PN_EXP_LO ? 0.0f : y;
    y = x > PN_EXP_HI ? INFINITY : y;
    return y;
}

/* erf(x), |error| below 1.3e-7 for every x; odd; exactly +-1 from |x| = 4 on.
 *
 *   |x| <  1: x * S(x^2)              S: minimax of erf(sqrt(s)) / sqrt(s)
 *   |x| >= 1: sign(x) * (1 - exp(B(min(|x|, 4))))     B: minimax of log(erfc)
 * Both are computed, one is selected. */
#define PN_ERF_S0 0x1.20dd74p+0f
#define PN_ERF_S1 -0x1.81273ep-2f
#define PN_ERF_S2 0x1.ce2d2p-4f
#define PN_ERF_S3 -0x1.b7fbb4p-6f
#define PN_ERF_S4 0x1.5419f4p-8f
#define PN_ERF_S5 -0x1.a485e8p-11f
#define PN_ERF_S6 0x1.4ae4c6p-14f
#define PN_ERF_B0 -0x1.72e404p-12f
#define PN_ERF_B1 -0x1.2085b2p+0f
#define PN_ERF_B2 -0x1.46c582p-1f
#define PN_ERF_B3 -0x1.a60a94p-4f
#define PN_ERF_B4 0x1.654246p-6f
#define PN_ERF_B5 -0x1.814d22p-9f
#define PN_ERF_B6 0x1.852dc4p-13f

static inline float pn_erff(float x)
{
    const uint32_t sign = pn_f32_bits(x) & 0x80000000u;
    const float a = pn_f32_from_bits(pn_f32_bits(x) ^ sign);
    const float t = a > 4.0f ? 4.0f : a;

    const float s = t * t;
    float small = PN_ERF_S6;
    small = fmaf(small, s, PN_ERF_S5);
    small = fmaf(small, s, PN_ERF_S4);
    small = fmaf(small, s, PN_ERF_S3);
    small = fmaf(small, s, PN_ERF_S2);
    small = fmaf(small, s, PN_ERF_S1);
    small = fmaf(small, s, PN_ERF_S0);
    small = small * t;

    float b = PN_ERF_B6;
    b = fmaf(b, t, PN_ERF_B5);
    b = fmaf(b, t, PN_ERF_B4);
    b = fmaf(b, t, PN_ERF_B3);
    b = fmaf(b, t, PN_ERF_B2);
    b = fmaf(b, t, PN_ERF_B1);
    b = fmaf(b, t, PN_ERF_B0);
    const float big = 1.0f - pn_expf(b);

    const float y = t < 1.0f ? small : big;
    return pn_f32_from_bits(pn_f32_bits(y) | sign);
}

/* The two activations, one element; the slots apply them to vectors. */
static inline float pn_siluf_mul(float g, float u)
{
    return g / (1.0f + pn_expf(-g)) * u;
}

static inline float pn_geluf(float x)
{
    const float e = pn_erff(x * 0x1.6a09e6p-1f); /* 1 / sqrt 2 */
    return (0.5f * x) * (1.0f + e);
}

/* Scale and multiplier for values whose largest magnitude has the bits amax_bits. Bits of
 * magnitudes compare like the magnitudes, and a NaN's are above infinity's. */
static inline float pn_q8_scale(uint32_t amax_bits, float *inverse)
{
    const float amax = pn_f32_from_bits(amax_bits);
    *inverse = 0.0f;
    if (amax_bits >= 0x7f800000u)
        return NAN;
    if (amax < 1e-30f) /* 127/amax would overflow, and the values do not matter */
        return 0.0f;
    *inverse = 127.0f / amax;
    return amax / 127.0f;
}

/* The same for a block of Q8_0, whose scale, the result, is f16. Small scales are rounded coarsely, so that a value may
 * come out beyond 127. */
static inline uint16_t pn_q8_0_scale(uint32_t amax_bits, float *inverse)
{
    const uint16_t d = pn_f32_to_f16(pn_f32_from_bits(amax_bits) / 127.0f);
    *inverse = 0.0f;
    if (d >= 0x7c00u)
        return 0x7e00u; /* NaN */
    if (d != 0)
        *inverse = 1.0f / pn_f16_to_f32(d);
    return d;
}

#endif
