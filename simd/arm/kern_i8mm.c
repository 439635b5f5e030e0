/* SPDX-License-Identifier: Apache-2.0 */
/* The i8mm tier: products with quantised weights by SMMLA (FEAT_I8MM), and the [close] ones with
 * float weights by BFMMLA (FEAT_BF16). One or two activation rows meet quantised weights in SDOT:
 * half of an SMMLA or more would be lost on them. */
#if !defined __ARM_FEATURE_MATMUL_INT8 || !defined __ARM_FEATURE_DOTPROD || \
    !defined __ARM_FEATURE_BF16_VECTOR_ARITHMETIC
#error "build this file with the flags of the i8mm tier"
#endif

#include "kern/kern.h"

#define M_CHUNK 120 /* 20 tiles; the sums and the packed rows of a block take 60 KiB of stack */
#define BLOCK_PANELS 8
#define MR 6
#define MR_STEP 2
#include "arm_tile_mmla.h"

#include "arm_bf16.h"

MM_ALL

static uint64_t peak_int8(uint64_t iters)
{
    enum { CHAINS = 16 };
    int32x4_t x[CHAINS];
    const int8x16_t a = vdupq_n_s8((int8_t)iters), b = vdupq_n_s8(3);
    PRAGMA_UNROLL
    for (int i = 0; i < CHAINS; i++)
        x[i] = vdupq_n_s32(i);
    uint64_t done = 0;
    for (; done < iters; done += CHAINS) {
        PRAGMA_UNROLL
        for (int i = 0; i < CHAINS; i++)
            x[i] = vmmlaq_s32(x[i], a, b);
    }
    volatile unsigned sink = 0;
    for (int i = 0; i < CHAINS; i++)
        sink = sink + (unsigned)vaddvq_s32(x[i]);
    return done * 32 * 2;
}

static uint64_t peak_bf16(uint64_t iters)
{
    enum { CHAINS = 16 };
    float32x4_t x[CHAINS];
    const bfloat16x8_t a = vreinterpretq_bf16_u16(vdupq_n_u16((uint16_t)(iters & 0x3f)));
    const bfloat16x8_t b = vreinterpretq_bf16_u16(vdupq_n_u16(0x3f00));
    PRAGMA_UNROLL
    for (int i = 0; i < CHAINS; i++)
        x[i] = vdupq_n_f32((float)i);
    uint64_t done = 0;
    for (; done < iters; done += CHAINS) {
        PRAGMA_UNROLL
        for (int i = 0; i < CHAINS; i++)
            x[i] = vbfmmlaq_f32(x[i], a, b);
    }
    volatile float sink = 0.0f;
    for (int i = 0; i < CHAINS; i++)
        sink = sink + vaddvq_f32(x[i]);
    return done * 16 * 2;
}

void pn_kern_init_i8mm(struct pn_kern *k)
{
    const struct pn_tile bf16_tile = { 2 * BF_NP, BF_NR };
    FILL_MM(k);
    k->round_act = round_act;
    k->mm_bf16[PN_F32] = (struct pn_kern_mm_bf16){ mm_bf16_f32, bf16_tile };
    k->mm_bf16[PN_F16] = (struct pn_kern_mm_bf16){ mm_bf16_f16, bf16_tile };
    k->mm_bf16[PN_BF16] = (struct pn_kern_mm_bf16){ mm_bf16_bf16, bf16_tile };
    k->peak_int8 = peak_int8;
    k->peak_bf16 = peak_bf16;
}
