/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of a few query rows over stretches of keys: chunks of PN_ATTN_CHUNK keys, merged in ascending
 * order. Decode, prefill, cross-attention and the vision encoder all come through here, so a row's result
 * never depends on what else is computed with it. */
#include "model/model.h"

size_t pn_attn_scratch_floats(int32_t hd)
{
    return PN_ATTN_ROWS * (((size_t)hd + 15) / 16 * 16 + 2 * pn_attn_part_floats(hd) + 1) + 64;
}

void pn_attn_scratch_init(struct pn_attn_scratch *s, float *mem, int32_t hd)
{
    s->q = mem;
    s->part = s->q + PN_ATTN_ROWS * (((size_t)hd + 15) / 16 * 16);
    s->acc = s->part + PN_ATTN_ROWS * pn_attn_part_floats(hd);
    s->n_keys = (int32_t *)(void *)(s->acc + PN_ATTN_ROWS * pn_attn_part_floats(hd));
}

bool pn_attn_is_bf16(const struct pn_kern *k, const struct pn_kv_view *kv)
{
    return k->attn_bf16 && kv->type != PN_KV_F32 && kv->hd <= PN_ATTN_BF16_HD;
}

void pn_attn_rows(const struct pn_kern *k, struct pn_attn_scratch *s, int32_t nq, const struct pn_keys *ks,
                  bool first, bool bf16)
{
    const int32_t hd = ks->kv.hd;
    const size_t pf = pn_attn_part_floats(hd);
    int32_t most = 0;
    for (int32_t i = 0; i < nq; i++)
        most = s->n_keys[i] > most ? s->n_keys[i] : most;
    for (int64_t key0 = 0; key0 < most || first; key0 += PN_ATTN_CHUNK) {
        float *part = first ? s->acc : s->part;
        (bf16 ? k->attn_bf16 : k->attn)(part, s->q, (size_t)hd, nq, s->n_keys, &ks->kv, key0, ks->bias);
        if (!first)
            for (int32_t i = 0; i < nq; i++)
                k->attn_merge(s->acc + i * pf, s->part + i * pf, hd);
        first = false;
    }
}
