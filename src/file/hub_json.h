/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON files of a Hugging Face directory, each from memory; label names it in messages. */
#ifndef PN_FILE_HUB_JSON_H
#define PN_FILE_HUB_JSON_H

#include "file/source.h"

/* config.json of model_type mllama, mllama_text_model or llama; hp as pn_hparams_init left it.
 * Absent fields get the defaults of the class that would read them. n_embd_rows is not in the file:
 * it stays as it was, and pn_hparams_check is still to be called. */
int pn_hub_config(struct pn_hparams *hp, const char *json, size_t len, const char *label,
                  struct puna_error *err);

/* generation_config.json: end tokens replace those of config.json; sampling. */
int pn_hub_generation(struct pn_hparams *hp, const char *json, size_t len, const char *label,
                      struct puna_error *err);

/* preprocessor_config.json, or the "image_processor" part of processor_config.json: normalisation,
 * and that everything else is what puna does. hp holds the config's sizes. */
int pn_hub_preprocessor(struct pn_hparams *hp, const char *json, size_t len, const char *label,
                        struct puna_error *err);

/* tokenizer_config.json: for a chat model, add the tokens that end a turn to the end tokens. */
int pn_hub_tokens(struct pn_hparams *hp, const char *json, size_t len, const char *label,
                  struct puna_error *err);

/* model.safetensors.index.json: which shard holds which tensor. Shards are plain file names. */
struct pn_hub_index {
    const char **shards; /* [n_shards], in order of first mention */
    size_t n_shards;
    struct pn_hub_entry {
        const char *tensor;
        uint32_t shard;
    } *entries;
    size_t n_entries;
    struct pn_map_str *by_name; /* tensor -> entry */
    struct pn_arena *arena;
};
int pn_hub_index(struct pn_hub_index **out, const char *json, size_t len, const char *label,
                 struct puna_error *err);
void pn_hub_index_free(struct pn_hub_index **index);

#endif
