/* SPDX-License-Identifier: Apache-2.0 */
/* The f32 peak loop and the registration of everything over vf (x86_vf512.h or x86_vf256.h). */
#ifndef PN_X86_SLOTS_H
#define PN_X86_SLOTS_H

#include "x86_math.h"

#include "kern/vec_tmpl.h"
#include "x86_mmf.h"

static uint64_t ISA(peak_f32)(uint64_t iters)
{
    enum { CHAINS = PEAK_CHAINS };
    vf x[CHAINS];
    const vf a = vf_set1(0.5f), b = vf_set1(1.0f);
    float start[CHAINS + 16]; /* all lanes different: equal registers would be computed once */
    for (int i = 0; i < CHAINS + 16; i++)
        start[i] = (float)(i * i);
    PRAGMA_UNROLL
    for (int i = 0; i < CHAINS; i++)
        x[i] = vf_load(start + i);
    uint64_t done = 0;
    for (; done < iters; done += CHAINS) {
        PRAGMA_UNROLL
        for (int i = 0; i < CHAINS; i++)
            x[i] = vf_fma(x[i], a, b);
    }
    volatile float sink = 0.0f;
    for (int i = 0; i < CHAINS; i++)
        sink = sink + vf_sum(x[i]);
    return done * 16 * 2;
}

static inline void fill_f32_slots(struct pn_kern *k)
{
#define TYPED(id, type)                                                                            \
    k->dequant[id] = ISA(dequant_##type);                                                          \
    k->mm_f32[id] = (struct pn_kern_mm_f32){ ISA(mm_f32_##type), { MMF_MX, MMF_NW } }
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
    fill_vec_slots(k);
    k->peak_f32 = ISA(peak_f32);
}

#endif
