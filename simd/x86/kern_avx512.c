/* SPDX-License-Identifier: Apache-2.0 */
/* The avx512 tier: all f32 kernels on 512-bit registers. Its quantised products are those of avx2.
 */
#if !defined __AVX512F__ || !defined __AVX512BW__ || !defined __AVX512DQ__ || !defined __AVX512VL__
#error "build this file with the flags of the avx512 tier"
#endif

#include "x86_vf512.h"

#define PEAK_CHAINS 16
#include "x86_slots.h"

void pn_kern_init_avx512(struct pn_kern *k)
{
    fill_f32_slots(k);
    k->prefer_int8 = 0; /* until there is VNNI, 512-bit f32 is as fast as avx2's int8 */
}
