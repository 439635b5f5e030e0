/* SPDX-License-Identifier: Apache-2.0 */
/* The avx2 tier: every slot, on AVX2, FMA, F16C and BMI2. */
#if !defined __AVX2__ || !defined __FMA__ || !defined __F16C__
#error "build this file with the flags of the avx2 tier"
#endif

#include "x86_vf256.h"

#define PEAK_CHAINS 6 /* of two registers; more would not fit into sixteen */
#include "x86_slots.h"

#define MR 3
#include "x86_mm256.h"

#include "x86_resize.h"
#include "x86_tile256.h"
#include "x86_row256.h"

TILES(q4_k, INT_32_MIN, 8)
TILES(q5_k, INT_32_MIN, 4)
TILES(q6_k, INT_16, 2)
TILES(q3_k, INT_16, 4)
TILES(q2_k, INT_1_MIN, 2)
TILES(iq4_xs, INT_32, 1)
TILES(q8_0, F32_32, 1)
TILES(q4_0, F32_32, 8)
TILES(q5_0, F32_32, 4)
TILES(q4_1, F32_32_MIN, 8)
TILES(q5_1, F32_32_MIN, 4)

MM_ROW(q4_k, q4_k, 0, 1)
MM_ROW(q5_k, q5_k, 0, 1)
MM_ROW(q6_k, q6_k, 32, 1)
MM(q3_k, q3_k, 4, 1)
MM(q2_k, q2_k, 0, 1)
MM(iq4_xs, iq4_xs, 0, 1)
MM_ROW(q8_0, q8_0, 0, 8)
MM_ROW(q4_0, q4_0, 8, 8)
MM(q5_0, q5_0, 16, 8)
MM(iq4_nl, q8_0, 0, 8)
MM(q4_1, q4_1, 0, 8)
MM(q5_1, q5_1, 0, 8)

mm_fn *const pn_mm_avx2[PN_TYPE_COUNT] = { MM_LIST(LIST_ONE) };

static uint64_t ISA(peak_int8)(uint64_t iters)
{
    enum { CHAINS = 12 };
    __m256i x[CHAINS];
    const __m256i u = _mm256_set1_epi32((int)iters);
    PRAGMA_UNROLL
    for (int i = 0; i < CHAINS; i++)
        x[i] = _mm256_set1_epi32(i);
    uint64_t done = 0;
    for (; done < iters; done += CHAINS) {
        PRAGMA_UNROLL
        for (int i = 0; i < CHAINS; i++)
            x[i] = _mm256_maddubs_epi16(x[i], u);
    }
    volatile unsigned sink = 0;
    for (int i = 0; i < CHAINS; i++)
        sink = sink + (unsigned)_mm256_extract_epi32(x[i], 0);
    return done * 32 * 2;
}

void pn_kern_init_avx2(struct pn_kern *k)
{
    fill_f32_slots(k);
    FILL_MM(MR, NR);
    k->resize_across = ISA(resize_across);
    k->resize_down = ISA(resize_down);
    k->prefer_int8 = 1;
    k->peak_int8 = ISA(peak_int8);
}
