/* SPDX-License-Identifier: Apache-2.0 */
/* The avxvnni tier: the quantised products with the VEX form of VPDPBUSD. */
#if !defined __AVXVNNI__ || !defined __AVX2__ || !defined __FMA__
#error "build this file with the flags of the avxvnni tier"
#endif

#define ISA(name) name##_avxvnni
#define MR 3
#include "x86_mm256.h"

#include "x86_tile256.h"
#include "x86_row256.h"

TILES(int_32, INT_32, 0)
TILES(int_32_min, INT_32_MIN, 0)
TILES(int_16, INT_16, 0)
TILES(int_1_min, INT_1_MIN, 0)
TILES(f32_32, F32_32, 0)
TILES(f32_32_min, F32_32_MIN, 0)

MM_ROW(q4_k, int_32_min, 0, 1)
MM_ROW(q5_k, int_32_min, 0, 1)
MM_ROW(q6_k, int_16, 32, 1)
MM(q3_k, int_16, 4, 1)
MM(q2_k, int_1_min, 0, 1)
MM(iq4_xs, int_32, 128, 1)
MM_ROW(q8_0, f32_32, 128, 8)
MM_ROW(q4_0, f32_32, 8, 8)
MM(q5_0, f32_32, 16, 8)
MM(iq4_nl, f32_32, 128, 8)
MM(q4_1, f32_32_min, 0, 8)
MM(q5_1, f32_32_min, 0, 8)

static uint64_t ISA(peak_int8)(uint64_t iters)
{
    enum { CHAINS = 10 }; /* gcc spills twelve */
    __m256i x[CHAINS];
    const __m256i u = _mm256_set1_epi32((int)iters), v = _mm256_set1_epi8(3);
    PRAGMA_UNROLL
    for (int i = 0; i < CHAINS; i++)
        x[i] = _mm256_set1_epi32(i);
    uint64_t done = 0;
    for (; done < iters; done += CHAINS) {
        PRAGMA_UNROLL
        for (int i = 0; i < CHAINS; i++)
            x[i] = _mm256_dpbusd_avx_epi32(x[i], u, v);
    }
    volatile unsigned sink = 0;
    for (int i = 0; i < CHAINS; i++)
        sink = sink + (unsigned)_mm256_extract_epi32(x[i], 0);
    return done * 32 * 2;
}

void pn_kern_init_avxvnni(struct pn_kern *k)
{
    FILL_MM(MR, NR);
    k->peak_int8 = ISA(peak_int8);
}
