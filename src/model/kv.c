/* SPDX-License-Identifier: Apache-2.0 */
/* K/V stores: one allocation, views per (layer, KV head). Memory is zeroed by the system and costs nothing
 * until written; zeros are also what the attention kernels may meet behind the last key of a tile. */
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "model/model.h"

static int64_t round64(int64_t n)
{
    return (n + 63) / 64 * 64;
}

size_t pn_kv_layout(struct pn_kv_view *view, uint8_t *mem, int32_t n_sets, int32_t n_kv_head,
                    enum pn_kv_type type, int32_t hd, int64_t cap)
{
    cap = round64(cap);
    const size_t kb = pn_kv_k_bytes(type, hd, cap), vb = pn_kv_v_bytes(type, hd, cap);
    const size_t sb = type == PN_KV_Q8 ? (size_t)cap * sizeof(float) : 0;
    const size_t one = kb + vb + 2 * sb;
    for (int64_t i = 0; view && i < (int64_t)n_sets * n_kv_head; i++) {
        uint8_t *p = mem + (size_t)i * one;
        view[i] = (struct pn_kv_view){type, hd, p, p + kb, NULL, NULL};
        if (sb) {
            view[i].ks = (float *)(void *)(p + kb + vb);
            view[i].vs = (float *)(void *)(p + kb + vb + sb);
        }
    }
    return one * (size_t)n_sets * (size_t)n_kv_head;
}

static int32_t n_self(const struct pn_hparams *hp)
{
    return hp->n_layer - hp->n_cross;
}

size_t pn_kv_total_bytes(const struct pn_hparams *hp, enum pn_kv_type type, int32_t cap)
{
    return pn_kv_layout(NULL, NULL, n_self(hp), hp->n_kv_head, type, hp->head_dim, cap);
}

int pn_kv_open(struct pn_kv **out, const struct pn_hparams *hp, enum pn_kv_type type, int32_t cap,
               struct puna_error *err)
{
    *out = NULL;
    struct pn_kv *kv = calloc(1, sizeof *kv);
    const size_t bytes = pn_kv_total_bytes(hp, type, cap);
    if (kv) {
        kv->type = type;
        kv->cap = cap;
        kv->bytes = bytes;
        kv->view = calloc((size_t)n_self(hp) * (size_t)hp->n_kv_head, sizeof *kv->view);
        kv->mem = pn_calloc_array(bytes, 1);
    }
    if (!kv || !kv->view || !kv->mem) {
        pn_kv_close(&kv);
        return pn_fail_memory(err, bytes, "the KV cache");
    }
    pn_kv_layout(kv->view, kv->mem, n_self(hp), hp->n_kv_head, type, hp->head_dim, cap);
    *out = kv;
    return 0;
}

void pn_kv_close(struct pn_kv **kv)
{
    if (*kv) {
        free((*kv)->view);
        pn_free((*kv)->mem);
        free(*kv);
    }
    *kv = NULL;
}

void pn_kv_expect(struct pn_kv *kv, int32_t n_keys)
{
    enum { LARGE = 8 << 20 };
    if (kv->huge || kv->bytes == 0 /* all layers cross */ ||
        pn_kv_k_bytes(kv->type, kv->view[0].hd, round64(n_keys)) < LARGE)
        return;
    kv->huge = true;
    pn_huge_pages(kv->mem, kv->bytes);
}

void pn_kv_noise(struct pn_kv *kv, const struct pn_model *m, int32_t pos0, int32_t n)
{
    enum { POOL = 8192, MOST_HD = 1024 }; /* rows are taken from the pool at many offsets */
    float pool[POOL];
    pn_kv_expect(kv, pos0 + n);
    const int32_t hd = m->hp.head_dim < MOST_HD ? m->hp.head_dim : MOST_HD;
    uint32_t x = 1;
    for (int32_t i = 0; i < POOL; i++) {
        x = x * 1664525u + 1013904223u;
        pool[i] = ((float)(x >> 8) * 0x1p-23f - 1.0f) * 1.7320508f;
    }
    for (int32_t v = 0; v < n_self(&m->hp) * m->hp.n_kv_head; v++)
        for (int32_t i = pos0; i < pos0 + n; i++) {
            x = x * 1664525u + 1013904223u;
            const uint32_t k = (x >> 16) % (uint32_t)(POOL - hd), w = (x >> 4) % (uint32_t)(POOL - hd);
            m->kern.kv_put(&kv->view[v], i, pool + k, pool + w);
        }
}

static void cross_counts(const struct pn_model *m, int32_t n_tiles, bool hf_rows, bool full, int32_t *n_keys,
                         int32_t *n_all)
{
    const int32_t missing = m->hp.v_tiles - n_tiles;
    const int32_t extra = !hf_rows || !missing ? 0 : full ? missing : 1;
    *n_keys = n_tiles * m->vision->n_pos;
    *n_all = *n_keys + extra * m->vision->n_pos;
}

size_t pn_cross_bytes(const struct pn_model *m, enum pn_kv_type type, int32_t n_tiles, bool hf_rows,
                      bool full)
{
    int32_t n_keys, n_all;
    cross_counts(m, n_tiles, hf_rows, full, &n_keys, &n_all);
    return pn_kv_layout(NULL, NULL, m->hp.n_cross, m->hp.n_kv_head, type, m->hp.head_dim, n_all);
}

int pn_cross_open(struct pn_cross **out, const struct pn_model *m, enum pn_kv_type type, int32_t n_tiles,
                  bool hf_rows, bool full, struct puna_error *err)
{
    *out = NULL;
    struct pn_cross *c = calloc(1, sizeof *c);
    const size_t bytes = pn_cross_bytes(m, type, n_tiles, hf_rows, full);
    if (c) {
        cross_counts(m, n_tiles, hf_rows, full, &c->n_keys, &c->n_keys_all);
        c->bytes = bytes;
        c->kv = calloc((size_t)m->hp.n_cross * (size_t)m->hp.n_kv_head, sizeof *c->kv);
        c->mem = pn_calloc_array(bytes, 1);
        if (hf_rows)
            c->bias = pn_calloc_array((size_t)round64(c->n_keys_all), sizeof *c->bias);
    }
    if (!c || !c->kv || !c->mem || (hf_rows && !c->bias)) {
        pn_cross_close(&c);
        return pn_fail_memory(err, bytes, "the keys and values of a picture");
    }
    pn_kv_layout(c->kv, c->mem, m->hp.n_cross, m->hp.n_kv_head, type, m->hp.head_dim, c->n_keys_all);
    *out = c;
    return 0;
}

void pn_cross_close(struct pn_cross **c)
{
    if (*c) {
        free((*c)->kv);
        pn_free((*c)->mem);
        pn_free((*c)->bias);
        free(*c);
    }
    *c = NULL;
}
