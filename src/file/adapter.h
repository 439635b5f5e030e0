/* SPDX-License-Identifier: Apache-2.0 */
/* A LoRA adapter as PEFT saves it: a directory of adapter_config.json and adapter_model.safetensors.
 * A linear layer y = W x becomes y = W x + scale * B (A x). */
#ifndef PN_FILE_ADAPTER_H
#define PN_FILE_ADAPTER_H

#include "file/source.h"

struct puna_lora;

/* The two matrices of one adapted layer. */
struct pn_adapter_pair {
    const char *module;            /* in the spelling of pn_tensor.name for hub directories, without ".weight" */
    const struct pn_tensor *a, *b; /* [r][k] and [n][r]; only r has been checked */
    const struct pn_tensor *base;  /* NULL, or the weight [n][k] itself, which training left alone */
    float scale;                   /* alpha / r (or / sqrt r), times the scale that the user gave */
};

struct pn_adapter {
    char *path;
    struct pn_adapter_pair *pairs; /* [n_pairs], sorted by module; no duplicates */
    size_t n_pairs;
    struct pn_safetensors *st;
    struct pn_arena *arena;
};

/* Reads the adapter and appends it to src, which owns it and its map. What puna cannot apply as PEFT would
 * (another method, biases, whole modules, changed base weights) is PUNA_E_UNSUPPORTED. */
int pn_source_add_adapter(struct pn_source *src, const struct puna_lora *lora, struct puna_error *err);
/* The same from what is in the two files of the directory `path`; the adapter has views into weights. */
int pn_adapter_read(struct pn_adapter **out, const char *path, const char *config, size_t len,
                    const struct pn_map *weights, struct puna_error *err);
void pn_adapter_close(struct pn_adapter **a);
/* NULL: the adapter leaves this module alone. */
const struct pn_adapter_pair *pn_adapter_find(const struct pn_adapter *a, const char *module);

#endif
