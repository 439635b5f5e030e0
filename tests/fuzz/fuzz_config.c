/* SPDX-License-Identifier: Apache-2.0 */
/* The first byte chooses which JSON file of a hub directory (or an Ollama params layer) the rest is. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "file/hparams.h"
#include "file/hub_json.h"
#include "file/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct pn_hparams *hp)
{
    if (hp->n_ratio < 0 || hp->n_ratio > PN_MAX_RATIOS || hp->n_inter < 0 ||
        hp->n_inter > PN_MAX_INTER || hp->n_eos < 0 || hp->n_eos > PN_MAX_EOS)
        abort();
    struct pn_hparams full = *hp;
    full.n_embd_rows = hp->n_vocab + 8;
    if (pn_hparams_check(&full, "fuzz", NULL) != 0)
        return;
    int32_t n_cross = 0;
    for (int32_t i = 0; i < PN_MAX_LAYERS; i++) {
        n_cross += hp->is_cross[i];
        if (hp->is_cross[i] && i >= hp->n_layer)
            abort();
    }
    if (n_cross != hp->n_cross || hp->n_head % hp->n_kv_head != 0 || hp->head_dim % 2 != 0)
        abort();
    for (int32_t i = 0; hp->vision && i < hp->n_inter; i++) {
        if (hp->v_inter[i] < 0 || hp->v_inter[i] >= hp->v_layer)
            abort();
    }
}

static void read_index(const char *json, size_t len)
{
    struct pn_hub_index *x;
    if (pn_hub_index(&x, json, len, "fuzz", NULL) != 0)
        return;
    for (size_t i = 0; i < x->n_shards; i++) {
        if (!*x->shards[i] || x->shards[i][0] == '.' || strchr(x->shards[i], '/'))
            abort();
    }
    for (size_t i = 0; i < x->n_entries; i++) {
        const char *t = x->entries[i].tensor;
        if (x->entries[i].shard >= x->n_shards ||
            pn_map_str_get(x->by_name, t, strlen(t)) != (int64_t)i)
            abort();
    }
    pn_hub_index_free(&x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const char *json = (const char *)data + 1;
    size--;
    struct puna_error err;
    struct pn_hparams hp;
    pn_hparams_init(&hp);
    switch (data[0]) {
    case 'c':
        if (pn_hub_config(&hp, json, size, "fuzz", &err) == 0)
            check(&hp);
        break;
    case 'g':
        (void)pn_hub_generation(&hp, json, size, "fuzz", &err);
        break;
    case 'p':
        hp.v_tiles = 4;
        hp.v_image = 56;
        (void)pn_hub_preprocessor(&hp, json, size, "fuzz", &err);
        break;
    case 't':
        hp.eos[0] = 9;
        hp.n_eos = 1;
        if (pn_hub_tokens(&hp, json, size, "fuzz", &err) == 0 && hp.n_eos > 4)
            abort();
        break;
    case 'i':
        read_index(json, size);
        break;
    default:
        (void)pn_store_params(&hp, json, size, "fuzz", &err);
    }
    return 0;
}
