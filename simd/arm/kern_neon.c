/* SPDX-License-Identifier: Apache-2.0 */
/* The neon tier: every slot, on the AArch64 baseline. */
#if !defined __aarch64__ || !defined __ARM_NEON
#error "build this file for AArch64 with its baseline of Advanced SIMD"
#endif

#define ISA(name) name##_neon

#include "arm_vf.h"

#include "arm_mmf.h"
#include "arm_resize.h"
#include "kern/vec_tmpl.h"

#define M_CHUNK 512
#define BLOCK_PANELS 1
#define MR 3
#define MR_STEP 1
#include "arm_tile_dot.h"

MM_ALL

/* ---- peaks: sixteen chains hide a latency of four in four pipes ---- */

enum { CHAINS = 16 };

static uint64_t peak_f32(uint64_t iters)
{
    float32x4_t x[CHAINS];
    const float32x4_t a = vdupq_n_f32(0.5f), b = vdupq_n_f32(0.25f);
    PRAGMA_UNROLL
    for (int i = 0; i < CHAINS; i++)
        x[i] = vdupq_n_f32((float)i);
    uint64_t done = 0;
    for (; done < iters; done += CHAINS) {
        PRAGMA_UNROLL
        for (int i = 0; i < CHAINS; i++)
            x[i] = vfmaq_f32(x[i], a, b);
    }
    volatile float sink = 0.0f;
    for (int i = 0; i < CHAINS; i++)
        sink = sink + vaddvq_f32(x[i]);
    return done * 4 * 2;
}

static uint64_t peak_int8(uint64_t iters)
{
    int16x8_t x[CHAINS];
    const int8x8_t a = vdup_n_s8((int8_t)iters), b = vdup_n_s8(3);
    PRAGMA_UNROLL
    for (int i = 0; i < CHAINS; i++)
        x[i] = vdupq_n_s16((int16_t)i);
    uint64_t done = 0;
    for (; done < iters; done += CHAINS) {
        PRAGMA_UNROLL
        for (int i = 0; i < CHAINS; i++)
            x[i] = vmlal_s8(x[i], a, b);
    }
    volatile unsigned sink = 0;
    for (int i = 0; i < CHAINS; i++)
        sink = sink + (unsigned)vaddvq_s16(x[i]);
    return done * 8 * 2;
}

void pn_kern_init_neon(struct pn_kern *k)
{
#define TYPED(id, type)                                                                           \
    k->dequant[id] = dequant_##type;                                                              \
    k->mm_f32[id] = (struct pn_kern_mm_f32){ mm_f32_##type, { MMF_MX, MMF_NW } }
    TYPED(PN_F32, f32);
    TYPED(PN_F16, f16);
    TYPED(PN_BF16, bf16);
    TYPED(PN_Q4_0, q4_0);
    TYPED(PN_Q4_1, q4_1);
    TYPED(PN_Q5_0, q5_0);
    TYPED(PN_Q5_1, q5_1);
    TYPED(PN_Q8_0, q8_0);
    TYPED(PN_IQ4_NL, iq4_nl);
    TYPED(PN_Q2_K, q2_k);
    TYPED(PN_Q3_K, q3_k);
    TYPED(PN_Q4_K, q4_k);
    TYPED(PN_Q5_K, q5_k);
    TYPED(PN_Q6_K, q6_k);
    TYPED(PN_IQ4_XS, iq4_xs);
#undef TYPED
    FILL_MM(k);
    fill_vec_slots(k);
    k->resize_across = resize_across;
    k->resize_down = resize_down;
    k->peak_f32 = peak_f32;
    k->peak_int8 = peak_int8;
}
