/* SPDX-License-Identifier: Apache-2.0 */
/* Sixteen f32 lanes in four 128-bit registers, with exp and erf: the unit in which all f32 kernels
 * of the arm tiers are written: the operations that kern/vec_tmpl.h and kern/attn_tmpl.h list, and
 * more. The contract sums in 16 lanes: its order comes by itself. */
#ifndef PN_ARM_VF_H
#define PN_ARM_VF_H

#include <arm_neon.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kern/unroll.h"
#include "kern/kern_math.h"

typedef struct {
    float32x4_t v[4];
} vf;

/* Sixteen registers hold the sums: of one vector for four rows, or of four vectors for one row. */
#define ATTN_ROWS 4
#define QK_VECS 1
#define QK_VECS_1 4
#define PV_VECS 1
#define PV_VECS_1 4
#define PRAGMA_UNROLL_EXP

/* ---- lane by lane ---- */

#define VF_UNARY(name, op)                                                                        \
    INLINE vf name(vf x)                                                                          \
    {                                                                                             \
        const vf r = { { op(x.v[0]), op(x.v[1]), op(x.v[2]), op(x.v[3]) } };                      \
        return r;                                                                                 \
    }
#define VF_BINARY(name, op)                                                                       \
    INLINE vf name(vf x, vf y)                                                                    \
    {                                                                                             \
        const vf r = { { op(x.v[0], y.v[0]), op(x.v[1], y.v[1]), op(x.v[2], y.v[2]),              \
                         op(x.v[3], y.v[3]) } };                                                  \
        return r;                                                                                 \
    }
INLINE float32x4_t umax4(float32x4_t x, float32x4_t y)
{
    return vreinterpretq_f32_u32(vmaxq_u32(vreinterpretq_u32_f32(x), vreinterpretq_u32_f32(y)));
}
VF_UNARY(vf_abs, vabsq_f32)
VF_UNARY(vf_neg, vnegq_f32)
VF_BINARY(vf_add, vaddq_f32)
VF_BINARY(vf_sub, vsubq_f32)
VF_BINARY(vf_mul, vmulq_f32)
VF_BINARY(vf_div, vdivq_f32)
VF_BINARY(vf_max, vmaxnmq_f32) /* a NaN loses, as in "a > b ? a : b" of the reference */
VF_BINARY(vf_umax, umax4)      /* by bits */

INLINE vf vf_set1(float x)
{
    const float32x4_t v = vdupq_n_f32(x);
    const vf r = { { v, v, v, v } };
    return r;
}
INLINE vf vf_zero(void)
{
    return vf_set1(0.0f);
}
INLINE vf vf_load(const float *p)
{
    const vf r = { { vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12) } };
    return r;
}
INLINE void vf_store(float *p, vf x)
{
    vst1q_f32(p, x.v[0]);
    vst1q_f32(p + 4, x.v[1]);
    vst1q_f32(p + 8, x.v[2]);
    vst1q_f32(p + 12, x.v[3]);
}
/* The first n lanes; the others are zero, and not written. */
INLINE vf vf_load_n(const float *p, int n)
{
    float t[16] = { 0 };
    memcpy(t, p, (size_t)n * sizeof *t);
    return vf_load(t);
}
INLINE void vf_store_n(float *p, vf x, int n)
{
    float t[16];
    vf_store(t, x);
    memcpy(p, t, (size_t)n * sizeof *t);
}
/* x * y + c, rounded once */
INLINE vf vf_fma(vf x, vf y, vf c)
{
    const vf r = { { vfmaq_f32(c.v[0], x.v[0], y.v[0]), vfmaq_f32(c.v[1], x.v[1], y.v[1]),
                     vfmaq_f32(c.v[2], x.v[2], y.v[2]), vfmaq_f32(c.v[3], x.v[3], y.v[3]) } };
    return r;
}
/* x * y - c, rounded once */
INLINE vf vf_fms(vf x, vf y, vf c)
{
    return vf_fma(x, y, vf_neg(c));
}
INLINE vf vf_fma_n(vf x, float y, vf c)
{
    const vf r = { { vfmaq_n_f32(c.v[0], x.v[0], y), vfmaq_n_f32(c.v[1], x.v[1], y),
                     vfmaq_n_f32(c.v[2], x.v[2], y), vfmaq_n_f32(c.v[3], x.v[3], y) } };
    return r;
}
/* Lanes from n on become c, zero. */
INLINE vf vf_fill_from(vf x, float c, int n)
{
    static const int32_t lane[4] = { 0, 1, 2, 3 };
    const int32x4_t i = vld1q_s32(lane);
    vf r;
    PRAGMA_UNROLL
    for (int q = 0; q < 4; q++)
        r.v[q] = vbslq_f32(vcltq_s32(i, vdupq_n_s32(n - 4 * q)), x.v[q], vdupq_n_f32(c));
    return r;
}
INLINE vf vf_keep_n(vf x, int n)
{
    return vf_fill_from(x, 0.0f, n);
}

/* ---- reductions ---- */

/* Pairwise: (i, i+8), (i, i+4), (i, i+2), (0, 1). */
INLINE float vf_sum(vf x)
{
    const float32x4_t q = vaddq_f32(vaddq_f32(x.v[0], x.v[2]), vaddq_f32(x.v[1], x.v[3]));
    const float32x2_t d = vadd_f32(vget_low_f32(q), vget_high_f32(q));
    return vget_lane_f32(d, 0) + vget_lane_f32(d, 1);
}
INLINE float vf_hmax(vf x)
{
    return vmaxnmvq_f32(vmaxnmq_f32(vmaxnmq_f32(x.v[0], x.v[1]), vmaxnmq_f32(x.v[2], x.v[3])));
}
INLINE uint32_t vf_humax(vf x)
{
    const float32x4_t q = umax4(umax4(x.v[0], x.v[1]), umax4(x.v[2], x.v[3]));
    return vmaxvq_u32(vreinterpretq_u32_f32(q));
}

/* ---- conversions ---- */

INLINE vf vf_load_f16(const void *p)
{
    const uint16_t *h = p;
    const float16x8_t a = vreinterpretq_f16_u16(vld1q_u16(h));
    const float16x8_t b = vreinterpretq_f16_u16(vld1q_u16(h + 8));
    const vf r = { { vcvt_f32_f16(vget_low_f16(a)), vcvt_high_f32_f16(a),
                     vcvt_f32_f16(vget_low_f16(b)), vcvt_high_f32_f16(b) } };
    return r;
}
INLINE void vf_store_f16(void *p, vf x)
{
    uint16_t *h = p;
    vst1q_u16(h, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.v[0]), x.v[1])));
    vst1q_u16(h + 8, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.v[2]), x.v[3])));
}
INLINE vf vf_load_bf16(const void *p)
{
    const uint16_t *h = p;
    const uint16x8_t a = vld1q_u16(h), b = vld1q_u16(h + 8);
    const vf r = { { vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(a), 16)),
                     vreinterpretq_f32_u32(vshll_high_n_u16(a, 16)),
                     vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(b), 16)),
                     vreinterpretq_f32_u32(vshll_high_n_u16(b, 16)) } };
    return r;
}
/* pn_f32_to_bf16 */
INLINE uint16x4_t bf16x4(float32x4_t x)
{
    const uint32x4_t u = vreinterpretq_u32_f32(x), high = vshrq_n_u32(u, 16);
    const uint32x4_t odd = vandq_u32(high, vdupq_n_u32(1));
    const uint32x4_t r = vshrq_n_u32(vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7fff)), odd), 16);
    const uint32x4_t nan = vorrq_u32(high, vdupq_n_u32(64));
    return vmovn_u32(vbslq_u32(vceqq_f32(x, x), r, nan));
}
INLINE void vf_store_bf16(void *p, vf x)
{
    uint16_t *h = p;
    PRAGMA_UNROLL
    for (int q = 0; q < 4; q++)
        vst1_u16(h + 4 * q, bf16x4(x.v[q]));
}
typedef int8x16_t vi8;

INLINE vi8 vi8_zero(void)
{
    return vdupq_n_s8(0);
}
INLINE void vi8_store(int8_t *p, vi8 q)
{
    vst1q_s8(p, q);
}
INLINE int vi8_sum(vi8 q)
{
    return vaddlvq_s8(q);
}
INLINE void sums_of_pairs(int16_t *s, const int16_t *p)
{
    vst1q_s16(s, vpaddq_s16(vld1q_s16(p), vld1q_s16(p + 8)));
}
INLINE vf vf_from_i8(vi8 x)
{
    const int16x8_t a = vmovl_s8(vget_low_s8(x)), b = vmovl_high_s8(x);
    const vf r = { { vcvtq_f32_s32(vmovl_s16(vget_low_s16(a))), vcvtq_f32_s32(vmovl_high_s16(a)),
                     vcvtq_f32_s32(vmovl_s16(vget_low_s16(b))),
                     vcvtq_f32_s32(vmovl_high_s16(b)) } };
    return r;
}
INLINE vf vf_load_i8(const void *p)
{
    return vf_from_i8(vld1q_s8(p));
}
/* Ties to even; |x| < 128. */
INLINE vi8 vf_to_i8(vf x)
{
    const int16x8_t a = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(x.v[0])),
                                     vmovn_s32(vcvtnq_s32_f32(x.v[1])));
    const int16x8_t b = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(x.v[2])),
                                     vmovn_s32(vcvtnq_s32_f32(x.v[3])));
    return vcombine_s8(vmovn_s16(a), vmovn_s16(b));
}
/* Member part (0, 1) of sixteen pairs of bf16 */
INLINE vf vf_part_bf16(const void *p, int part)
{
    const uint32_t *u = p;
    vf r;
    PRAGMA_UNROLL
    for (int q = 0; q < 4; q++) {
        const uint32x4_t x = vld1q_u32(u + 4 * q);
        r.v[q] = vreinterpretq_f32_u32(part ? vandq_u32(x, vdupq_n_u32(0xffff0000u))
                                            : vshlq_n_u32(x, 16));
    }
    return r;
}
/* Member part (0 .. 3) of sixteen groups of four int8 */
INLINE vf vf_part_i8(const void *p, int part)
{
    const int32_t *u = p;
    const int32x4_t up = vdupq_n_s32(24 - 8 * part);
    vf r;
    PRAGMA_UNROLL
    for (int q = 0; q < 4; q++)
        r.v[q] = vcvtq_f32_s32(vshrq_n_s32(vshlq_s32(vld1q_s32(u + 4 * q), up), 24));
    return r;
}

/* ---- rotary embedding ---- */

INLINE void rope_4_pairs(float *x, const float *cs, const float *sn)
{
    const float32x4_t c = vld1q_f32(cs), s = vld1q_f32(sn);
    const float32x4x2_t ab = vld2q_f32(x);
    const float32x4_t a = ab.val[0], b = ab.val[1];
    const float32x4x2_t y = { { vfmaq_f32(vnegq_f32(vmulq_f32(b, s)), a, c),
                                vfmaq_f32(vmulq_f32(a, s), b, c) } };
    vst2q_f32(x, y);
}

/* ---- exp, erf: the steps of kern_math.h ---- */

INLINE float32x4_t exp4(float32x4_t x)
{
    const float32x4_t lo = vdupq_n_f32(PN_EXP_LO), hi = vdupq_n_f32(PN_EXP_HI);
    const float32x4_t magic = vdupq_n_f32(PN_EXP_MAGIC), one = vdupq_n_f32(1.0f);
    const float32x4_t xc = vminq_f32(vmaxq_f32(x, lo), hi);
    const float32x4_t t = vfmaq_f32(magic, xc, vdupq_n_f32(PN_EXP_LOG2E));
    const float32x4_t n = vsubq_f32(t, magic);
    float32x4_t r = vfmaq_f32(xc, n, vdupq_n_f32(-PN_EXP_LN2_HI));
    r = vfmaq_f32(r, n, vdupq_n_f32(-PN_EXP_LN2_LO));
    float32x4_t p = vdupq_n_f32(PN_EXP_C6);
    p = vfmaq_f32(vdupq_n_f32(PN_EXP_C5), p, r);
    p = vfmaq_f32(vdupq_n_f32(PN_EXP_C4), p, r);
    p = vfmaq_f32(vdupq_n_f32(PN_EXP_C3), p, r);
    p = vfmaq_f32(vdupq_n_f32(PN_EXP_C2), p, r);
    p = vfmaq_f32(one, p, r);
    p = vfmaq_f32(one, p, r);
    const uint32x4_t scale = vaddq_u32(vshlq_n_u32(vreinterpretq_u32_f32(t), 23),
                                       vreinterpretq_u32_f32(one));
    float32x4_t y = vmulq_f32(p, vreinterpretq_f32_u32(scale));
    y = vbslq_f32(vcltq_f32(x, lo), vdupq_n_f32(0.0f), y);
    return vbslq_f32(vcgtq_f32(x, hi), vdupq_n_f32(INFINITY), y);
}
INLINE float32x4_t erf4(float32x4_t x)
{
    const float32x4_t one = vdupq_n_f32(1.0f);
    const float32x4_t t = vminq_f32(vabsq_f32(x), vdupq_n_f32(4.0f));
    const float32x4_t s = vmulq_f32(t, t);
    float32x4_t small = vdupq_n_f32(PN_ERF_S6);
    small = vfmaq_f32(vdupq_n_f32(PN_ERF_S5), small, s);
    small = vfmaq_f32(vdupq_n_f32(PN_ERF_S4), small, s);
    small = vfmaq_f32(vdupq_n_f32(PN_ERF_S3), small, s);
    small = vfmaq_f32(vdupq_n_f32(PN_ERF_S2), small, s);
    small = vfmaq_f32(vdupq_n_f32(PN_ERF_S1), small, s);
    small = vfmaq_f32(vdupq_n_f32(PN_ERF_S0), small, s);
    small = vmulq_f32(small, t);
    float32x4_t b = vdupq_n_f32(PN_ERF_B6);
    b = vfmaq_f32(vdupq_n_f32(PN_ERF_B5), b, t);
    b = vfmaq_f32(vdupq_n_f32(PN_ERF_B4), b, t);
    b = vfmaq_f32(vdupq_n_f32(PN_ERF_B3), b, t);
    b = vfmaq_f32(vdupq_n_f32(PN_ERF_B2), b, t);
    b = vfmaq_f32(vdupq_n_f32(PN_ERF_B1), b, t);
    b = vfmaq_f32(vdupq_n_f32(PN_ERF_B0), b, t);
    const float32x4_t big = vsubq_f32(one, exp4(b));
    const float32x4_t y = vbslq_f32(vcltq_f32(t, one), small, big);
    return vbslq_f32(vdupq_n_u32(0x80000000u), x, y); /* the sign of x */
}
VF_UNARY(vf_exp, exp4)
VF_UNARY(vf_erf, erf4)

#endif
