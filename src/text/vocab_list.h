/* SPDX-License-Identifier: Apache-2.0 */
/* The vocabulary of a tokenizer.json as the plain arrays that a GGUF file holds. */
#ifndef PN_TEXT_VOCAB_LIST_H
#define PN_TEXT_VOCAB_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct puna_error;

struct pn_vocab_list {
    struct pn_str *pieces;  /* [n] by id, byte-to-unicode spelling; an id without a token gets an unused name */
    int32_t *types;         /* [n] 1 normal, 3 control, 4 user-defined, 5 unused */
    size_t n;
    struct pn_str *merges;  /* [n_merges] "a b" */
    size_t n_merges;
    struct pn_arena *arena;
};

/* json is one that pn_vocab_from_json accepts. On failure *out is empty. */
int pn_vocab_list_read(struct pn_vocab_list *out, const char *json, size_t len, const char *label,
                       struct puna_error *err);
void pn_vocab_list_free(struct pn_vocab_list *l);

#endif
