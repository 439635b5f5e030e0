/* SPDX-License-Identifier: Apache-2.0 */
/* Picture resize (kern.h, resize_across and resize_down). */
#ifndef PN_ARM_RESIZE_H
#define PN_ARM_RESIZE_H

#include "arm_vf.h"

#define RESIZE_FRACTION 22

/* Four sums to bytes, in the low half */
INLINE uint8x8_t sums_to_bytes(int32x4_t sum)
{
    const int16x4_t words = vqmovn_s32(vshrq_n_s32(sum, RESIZE_FRACTION));
    return vqmovun_s16(vcombine_s16(words, words));
}
INLINE int32x4_t wide(uint16x4_t v)
{
    return vreinterpretq_s32_u32(vmovl_u16(v));
}

/* Four bytes of a pixel and the next one's first, where that exists. */
static void resize_across(uint8_t *out, const uint8_t *in, int32_t w, int32_t in_w, const int32_t *first,
                          const int32_t *count, const int32_t *weight, size_t size)
{
    for (int32_t x = 0; x < w; x++) {
        const int32_t *k = weight + (size_t)x * size;
        const uint8_t *p = in + 3 * (size_t)first[x];
        const int32_t n = count[x], last = in_w - 1 - first[x];
        int32x4_t sum = vdupq_n_s32(1 << (RESIZE_FRACTION - 1));
        for (int32_t j = 0; j < n; j++, p += 3) {
            uint32_t bytes = 0;
            memcpy(&bytes, p, j < last ? 4 : 3);
            sum = vmlaq_n_s32(sum, wide(vget_low_u16(vmovl_u8(vcreate_u8(bytes)))), k[j]);
        }
        uint8_t pixel[8];
        vst1_u8(pixel, sums_to_bytes(sum));
        memcpy(out + 3 * x, pixel, 3);
    }
}

static void resize_down(uint8_t *out, const uint8_t *in, size_t stride, size_t n_bytes, const int32_t *weight,
                        int32_t n)
{
    const int32x4_t half = vdupq_n_s32(1 << (RESIZE_FRACTION - 1));
    size_t i = 0;
    for (; i + 16 <= n_bytes; i += 16) {
        int32x4_t s0 = half, s1 = half, s2 = half, s3 = half;
        for (int32_t j = 0; j < n; j++) {
            const uint8x16_t v = vld1q_u8(in + (size_t)j * stride + i);
            const uint16x8_t a = vmovl_u8(vget_low_u8(v)), b = vmovl_high_u8(v);
            s0 = vmlaq_n_s32(s0, wide(vget_low_u16(a)), weight[j]);
            s1 = vmlaq_n_s32(s1, wide(vget_high_u16(a)), weight[j]);
            s2 = vmlaq_n_s32(s2, wide(vget_low_u16(b)), weight[j]);
            s3 = vmlaq_n_s32(s3, wide(vget_high_u16(b)), weight[j]);
        }
        const int16x8_t low = vcombine_s16(vqmovn_s32(vshrq_n_s32(s0, RESIZE_FRACTION)),
                                           vqmovn_s32(vshrq_n_s32(s1, RESIZE_FRACTION)));
        const int16x8_t high = vcombine_s16(vqmovn_s32(vshrq_n_s32(s2, RESIZE_FRACTION)),
                                            vqmovn_s32(vshrq_n_s32(s3, RESIZE_FRACTION)));
        vst1q_u8(out + i, vcombine_u8(vqmovun_s16(low), vqmovun_s16(high)));
    }
    for (; i < n_bytes; i++) {
        int32x4_t s = half;
        for (int32_t j = 0; j < n; j++)
            s = vmlaq_n_s32(s, vdupq_n_s32(in[(size_t)j * stride + i]), weight[j]);
        out[i] = vget_lane_u8(sums_to_bytes(s), 0);
    }
}

#endif
