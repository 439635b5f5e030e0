/* SPDX-License-Identifier: Apache-2.0 */
/* The attention slots, the f32 peak loop, and the registration of everything over vf. */
#ifndef PN_X86_SLOTS_H
#define PN_X86_SLOTS_H

#include "x86_attn.h"
#include "x86_mmf.h"
#include "x86_vec.h"

/* ---- attention ---- */

#define ATTN(name, type)                                                                           \
    static __attribute__((noinline)) void name(                                                    \
        float *part, const float *q, size_t ldq, int32_t nq, const int32_t *n_keys,                \
        const struct pn_kv_view *kv, int64_t key0, const float *bias)                              \
    {                                                                                              \
        attn_body(type, part, q, ldq, nq, n_keys, kv, key0, bias);                                 \
    }
ATTN(attn_f32, PN_KV_F32)
ATTN(attn_f16, PN_KV_F16)
ATTN(attn_bf16kv, PN_KV_BF16)
ATTN(attn_q8, PN_KV_Q8)

static void ISA(attn)(float *part, const float *q, size_t ldq, int32_t nq, const int32_t *n_keys,
                      const struct pn_kv_view *kv, int64_t key0, const float *bias)
{
    switch (kv->type) {
    case PN_KV_F16:
        attn_f16(part, q, ldq, nq, n_keys, kv, key0, bias);
        break;
    case PN_KV_BF16:
        attn_bf16kv(part, q, ldq, nq, n_keys, kv, key0, bias);
        break;
    case PN_KV_Q8:
        attn_q8(part, q, ldq, nq, n_keys, kv, key0, bias);
        break;
    default:
        attn_f32(part, q, ldq, nq, n_keys, kv, key0, bias);
        break;
    }
}

static void ISA(attn_merge)(float *acc, const float *part, int32_t hd)
{
    struct pn_attn_part *a = (struct pn_attn_part *)acc;
    const struct pn_attn_part *p = (const struct pn_attn_part *)part;
    if (p->m == -INFINITY)
        return;
    if (a->m == -INFINITY) {
        memcpy(acc, part, pn_attn_part_floats(hd) * sizeof(float));
        return;
    }
    const float m = a->m > p->m ? a->m : p->m;
    const vf ca = vf_set1(pn_expf(a->m - m)), cp = vf_set1(pn_expf(p->m - m));
    vf_store(a->l, vf_fma(vf_load(p->l), cp, vf_mul(vf_load(a->l), ca)));
    for (int32_t d = 0; d < hd; d += 16)
        vf_store(a->o + d, vf_fma(vf_load(p->o + d), cp, vf_mul(vf_load(a->o + d), ca)));
    a->m = m;
}

static void ISA(attn_finish)(float *out, const float *acc, int32_t hd)
{
    const struct pn_attn_part *a = (const struct pn_attn_part *)acc;
    const vf sum = vf_set1(vf_sum(vf_load(a->l)));
    const int empty = a->m == -INFINITY;
    for (int32_t d = 0; d < hd; d += 16) {
        const vf y = empty ? vf_zero() : vf_div(vf_load(a->o + d), sum);
        if (hd - d >= 16)
            vf_store(out + d, y);
        else
            vf_store_n(out + d, y, hd - d);
    }
}

/* ---- registration ---- */

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
    k->mm_f32[id] = ISA(mm_f32_##type)
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
    k->quant_act = ISA(quant_act);
    k->rmsnorm = ISA(rmsnorm);
    k->layernorm = ISA(layernorm);
    k->rope_half = ISA(rope_half);
    k->rope_inter = ISA(rope_inter);
    k->silu_mul = ISA(silu_mul);
    k->gelu = ISA(gelu);
    k->axpy = ISA(axpy);
    k->add = ISA(add);
    k->kv_put = ISA(kv_put);
    k->attn = ISA(attn);
    k->attn_merge = ISA(attn_merge);
    k->attn_finish = ISA(attn_finish);
    k->peak_f32 = ISA(peak_f32);
}

#endif
