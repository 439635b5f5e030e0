/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the file room: how the readers of the three shapes fill one struct pn_source. */
#ifndef PN_FILE_SOURCE_PRIV_H
#define PN_FILE_SOURCE_PRIV_H

#include "file/source.h"
#include "file/store.h"

struct pn_safetensors;

/* pn_source.own */
struct pn_source_own {
    struct pn_arena *arena;       /* canonical names */
    struct pn_safetensors **st;   /* [n_st], hub */
    size_t n_st;
};

/* Map a file; the source owns the map. The map's address is stable. */
int pn_source_add_map(struct pn_source *src, const struct pn_map **out, const char *path,
                      struct puna_error *err);
/* Sort src->tensors by name; two of one name are an error. */
int pn_source_index(struct pn_source *src, struct puna_error *err);
/* Append a sentence to src->note. */
void pn_source_note(struct pn_source *src, const char *sentence);

/* One spelling of a hub tensor's name: the first *skip bytes of `name` are to be replaced by what is returned ("",
 * 0: nothing). */
const char *pn_hub_prefix(const char *name, size_t *skip);

/* src->path is a directory. */
int pn_source_open_hub(struct pn_source *src, struct puna_error *err);

/* src->path is the text or combined GGUF; projector and stored may be NULL. */
int pn_source_open_gguf(struct pn_source *src, const char *projector,
                        const struct pn_store_model *stored, const struct pn_source_opts *opts,
                        struct puna_error *err);

#endif
