/* SPDX-License-Identifier: Apache-2.0 */
/* Llama 3 byte-level BPE: text <-> token ids. Immutable after creation; any number of threads. */
#ifndef PN_TEXT_VOCAB_H
#define PN_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct puna_error;
struct pn_vocab;

struct pn_ids { /* growing list; zero-initialise; pn_ids_free */
    int32_t *v;
    size_t len, cap;
};
bool pn_ids_push(struct pn_ids *l, int32_t id);
void pn_ids_free(struct pn_ids *l);

/* Plain arrays, as a GGUF file holds them. Pieces and merges are in GPT-2's byte-to-unicode
 * spelling ("Ġthe"); type 1 normal, 3 control, 4 user-defined (both are specials). Everything is
 * copied. */
struct pn_vocab_src {
    const struct pn_str *pieces;
    const int32_t *types;     /* NULL: all normal */
    size_t n_pieces;
    const struct pn_str *merges; /* "a b" */
    size_t n_merges;
};
int pn_vocab_from_arrays(struct pn_vocab **out, const struct pn_vocab_src *src,
                         struct puna_error *err);
/* A Hugging Face tokenizer.json (whole file in memory; label names it in errors). The model must be
 * BPE with a ByteLevel decoder; the split pattern is read from the file. */
int pn_vocab_from_json(struct pn_vocab **out, const char *json, size_t len, const char *label,
                       struct puna_error *err);
void pn_vocab_free(struct pn_vocab **v);

size_t pn_vocab_size(const struct pn_vocab *v);  /* highest id + 1 */
/* Bytes of a token's text (a special's name for specials); NULL for an id without a token. */
const char *pn_vocab_piece(const struct pn_vocab *v, int32_t id, size_t *len);
bool pn_vocab_is_special(const struct pn_vocab *v, int32_t id);
int32_t pn_vocab_special(const struct pn_vocab *v, const char *name); /* id or -1 */

/* Append the ids of text[0..n). parse_special: specials in the text become their ids (longest match
 * first); otherwise they are plain text. Never adds BOS. Bytes that are not UTF-8 are encoded as
 * bytes. O(n log n) for any input. */
int pn_vocab_encode(const struct pn_vocab *v, const char *text, size_t n, bool parse_special,
                    struct pn_ids *out, struct puna_error *err);

/* Length of the longest prefix of s[0..n) that does not end inside a UTF-8 character (an incomplete
 * sequence that could still become valid is held back; bytes that can never be valid are let
 * through). */
size_t pn_utf8_complete(const char *s, size_t n);
bool pn_utf8_valid(const char *s, size_t n);

#endif
