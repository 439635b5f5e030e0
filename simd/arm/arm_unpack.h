/* SPDX-License-Identifier: Apache-2.0 */
/* Sixteen weights of any quantised type as int8, and the integer scales of the K types: what
 * dequantisation and the int8 products are made of. */
#ifndef PN_ARM_UNPACK_H
#define PN_ARM_UNPACK_H

#include "arm_vf.h"
#include "quant/blocks.h"

/* ---- weights: q16_<type>(super-block, i) = elements 16 i .. 16 i + 15 ----
 * For the 32-types the "super-block" is the first of consecutive blocks. Where i is a constant, the
 * shifts are, too. */

INLINE uint8x16_t load_u8(const void *p)
{
    return vld1q_u8(p);
}
INLINE int8x16_t signed8(uint8x16_t v, int offset)
{
    const int8x16_t s = vreinterpretq_s8_u8(v);
    return offset == 0 ? s : vsubq_s8(s, vdupq_n_s8((int8_t)offset));
}
/* Bits [at, at + width of mask) of every byte, moved to bit `to`. */
INLINE uint8x16_t bits(uint8x16_t v, int at, int mask, int to)
{
    v = vandq_u8(vshlq_u8(v, vdupq_n_s8((int8_t)-at)), vdupq_n_u8((uint8_t)mask));
    return to == 0 ? v : vshlq_u8(v, vdupq_n_s8((int8_t)to));
}
INLINE uint8x16_t nibbles(const void *p, int high)
{
    const uint8x16_t v = load_u8(p);
    return high ? vshrq_n_u8(v, 4) : vandq_u8(v, vdupq_n_u8(15));
}
/* 16 where bit e of the two bytes at qh is set, in byte e */
INLINE uint8x16_t fifth_bits(const uint8_t *qh)
{
    static const uint8_t bit[16] = { 1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128 };
    const uint8x16_t both = vcombine_u8(vdup_n_u8(qh[0]), vdup_n_u8(qh[1]));
    return vandq_u8(vtstq_u8(both, vld1q_u8(bit)), vdupq_n_u8(16));
}

INLINE int8x16_t q16_q4_0(const struct pn_q4_0 *b, int i)
{
    return signed8(nibbles(b[i >> 1].qs, i & 1), 8);
}
INLINE int8x16_t q16_q4_1(const struct pn_q4_1 *b, int i)
{
    return signed8(nibbles(b[i >> 1].qs, i & 1), 0);
}
INLINE int8x16_t q16_q5_0(const struct pn_q5_0 *b, int i)
{
    b += i >> 1;
    return signed8(vorrq_u8(nibbles(b->qs, i & 1), fifth_bits(b->qh + 2 * (i & 1))), 16);
}
INLINE int8x16_t q16_q5_1(const struct pn_q5_1 *b, int i)
{
    b += i >> 1;
    return signed8(vorrq_u8(nibbles(b->qs, i & 1), fifth_bits(b->qh + 2 * (i & 1))), 0);
}
INLINE int8x16_t q16_q8_0(const struct pn_q8_0 *b, int i)
{
    return vld1q_s8(b[i >> 1].qs + 16 * (i & 1));
}
INLINE int8x16_t q16_iq4_nl(const struct pn_iq4_nl *b, int i)
{
    return vqtbl1q_s8(vld1q_s8(pn_iq4_values), nibbles(b[i >> 1].qs, i & 1));
}
INLINE int8x16_t q16_iq4_xs(const struct pn_iq4_xs *b, int i)
{
    return vqtbl1q_s8(vld1q_s8(pn_iq4_values), nibbles(b->qs + 16 * (i >> 1), i & 1));
}
INLINE int8x16_t q16_q4_k(const struct pn_q4_k *b, int i)
{
    return signed8(nibbles(b->qs + 32 * (i >> 2) + 16 * (i & 1), i >> 1 & 1), 0);
}
INLINE int8x16_t q16_q5_k(const struct pn_q5_k *b, int i)
{
    const uint8x16_t low = nibbles(b->qs + 32 * (i >> 2) + 16 * (i & 1), i >> 1 & 1);
    return signed8(vorrq_u8(low, bits(load_u8(b->qh + 16 * (i & 1)), i >> 1, 1, 4)), 0);
}
INLINE int8x16_t q16_q6_k(const struct pn_q6_k *b, int i)
{
    const int h = i >> 3, k = i >> 1 & 3, p = i & 1;
    const uint8x16_t low = nibbles(b->ql + 64 * h + 32 * (k & 1) + 16 * p, k >> 1);
    const uint8x16_t high = bits(load_u8(b->qh + 32 * h + 16 * p), 2 * k, 3, 4);
    return signed8(vorrq_u8(low, high), 32);
}
INLINE int8x16_t q16_q3_k(const struct pn_q3_k *b, int i)
{
    const int h = i >> 3, k = i >> 1 & 3, p = i & 1;
    const uint8x16_t low = bits(load_u8(b->qs + 32 * h + 16 * p), 2 * k, 3, 0);
    const uint8x16_t high = bits(load_u8(b->hmask + 16 * p), 4 * h + k, 1, 2);
    return signed8(vorrq_u8(low, high), 4);
}
INLINE int8x16_t q16_q2_k(const struct pn_q2_k *b, int i)
{
    const int h = i >> 3, k = i >> 1 & 3, p = i & 1;
    return signed8(bits(load_u8(b->qs + 32 * h + 16 * p), 2 * k, 3, 0), 0);
}

/* ---- scales of the K types: 8 of 32 elements (sc[0], mn[0]), or 16 of 16 elements ---- */

INLINE void scales_q4_k(int16x8_t sc[2], int16x8_t mn[2], const struct pn_q4_k *b)
{
    const uint32_t u0 = pn_le32(b->scales), u1 = pn_le32(b->scales + 4);
    const uint32_t u2 = pn_le32(b->scales + 8);
    const uint32_t six = 0x3f3f3f3fu, low = 0x0f0f0f0fu, top = 0x30303030u;
    const uint64_t s = (u0 & six) | (uint64_t)((u2 & low) | (u0 >> 2 & top)) << 32;
    const uint64_t m = (u1 & six) | (uint64_t)((u2 >> 4 & low) | (u1 >> 2 & top)) << 32;
    sc[0] = vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(s)));
    mn[0] = vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(m)));
}
INLINE void scales_q5_k(int16x8_t sc[2], int16x8_t mn[2], const struct pn_q5_k *b)
{
    scales_q4_k(sc, mn, (const struct pn_q4_k *)(const void *)b); /* the same header */
}
INLINE void scales_q6_k(int16x8_t sc[2], int16x8_t mn[2], const struct pn_q6_k *b)
{
    const int8x16_t s = vld1q_s8(b->scales);
    sc[0] = vmovl_s8(vget_low_s8(s));
    sc[1] = vmovl_high_s8(s);
    (void)mn;
}
INLINE void scales_q3_k(int16x8_t sc[2], int16x8_t mn[2], const struct pn_q3_k *b)
{
    const uint8x8_t v = vld1_u8(b->scales);
    const uint8x16_t low = vcombine_u8(vand_u8(v, vdup_n_u8(15)), vshr_n_u8(v, 4));
    const uint32_t u = pn_le32(b->scales + 8);
    const uint64_t u01 = u | (uint64_t)(u >> 2) << 32, u23 = u >> 4 | (uint64_t)(u >> 6) << 32;
    const uint8x16_t high = vandq_u8(vcombine_u8(vcreate_u8(u01), vcreate_u8(u23)), vdupq_n_u8(3));
    const int8x16_t s = signed8(vorrq_u8(low, vshlq_n_u8(high, 4)), 32);
    sc[0] = vmovl_s8(vget_low_s8(s));
    sc[1] = vmovl_high_s8(s);
    (void)mn;
}
INLINE void scales_q2_k(int16x8_t sc[2], int16x8_t mn[2], const struct pn_q2_k *b)
{
    const uint8x16_t v = load_u8(b->scales);
    const uint8x16_t s = vandq_u8(v, vdupq_n_u8(15)), m = vshrq_n_u8(v, 4);
    sc[0] = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(s)));
    sc[1] = vreinterpretq_s16_u16(vmovl_high_u8(s));
    mn[0] = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(m)));
    mn[1] = vreinterpretq_s16_u16(vmovl_high_u8(m));
}
INLINE void scales_iq4_xs(int16x8_t sc[2], int16x8_t mn[2], const struct pn_iq4_xs *b)
{
    static const int16_t down[8] = { 0, -2, -4, -6, -8, -10, -12, -14 };
    const uint8x8_t v = vcreate_u8(pn_le32(b->scales_l));
    const uint16x8_t low = vmovl_u8(vzip1_u8(vand_u8(v, vdup_n_u8(15)), vshr_n_u8(v, 4)));
    const uint16x8_t high = vshlq_u16(vdupq_n_u16(pn_le16(b->scales_h)), vld1q_s16(down));
    const uint16x8_t s = vorrq_u16(low, vshlq_n_u16(vandq_u16(high, vdupq_n_u16(3)), 4));
    sc[0] = vsubq_s16(vreinterpretq_s16_u16(s), vdupq_n_s16(32));
    (void)mn;
}

#endif
