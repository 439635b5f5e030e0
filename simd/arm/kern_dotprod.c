/* SPDX-License-Identifier: Apache-2.0 */
/* The dotprod tier: quantised products with SDOT (Armv8.2 FEAT_DotProd). All else is neon's. */
#if !defined __ARM_FEATURE_DOTPROD
#error "build this file with the flags of the dotprod tier"
#endif

#include "kern/kern.h"

#define M_CHUNK 120 /* 20 tiles; the sums and the packed rows of a block take 60 KiB of stack */
#define BLOCK_PANELS 8
#define MR 6
#define MR_STEP 1
#include "arm_tile_dot.h"

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
            x[i] = vdotq_s32(x[i], a, b);
    }
    volatile unsigned sink = 0;
    for (int i = 0; i < CHAINS; i++)
        sink = sink + (unsigned)vaddvq_s32(x[i]);
    return done * 16 * 2;
}

void pn_kern_init_dotprod(struct pn_kern *k)
{
    FILL_MM(k);
    k->prefer_int8 = 1;
    k->peak_int8 = peak_int8;
}
