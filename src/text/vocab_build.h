/* SPDX-License-Identifier: Apache-2.0 */
/* How a vocabulary comes to be, whatever file it comes from: begin, every token, every merge in
 * rank order, finish. After any failure only pn_vocab_free. */
#ifndef PN_TEXT_VOCAB_BUILD_H
#define PN_TEXT_VOCAB_BUILD_H

#include "text/vocab.h"

/* Bounds on what a file may ask for. Real vocabularies: 128 thousand tokens (GPT-4o: 200 thousand),
 * the longest 128 bytes. Ids may have holes, so the bound on ids also bounds memory. */
#define PN_MAX_TOKENS ((int64_t)1 << 20)
#define PN_MAX_PIECE 1024

/* text_bytes: no less than the sum of the lengths of all tokens to come. label names the file in
 * errors and must stay in place until the end. */
int pn_vocab_begin(struct pn_vocab **out, size_t text_bytes, const char *label,
                   struct puna_error *err);
/* A normal token is in byte-to-unicode spelling, a special is literal. */
int pn_vocab_add(struct pn_vocab *v, int64_t id, const char *s, size_t len, bool special,
                 struct puna_error *err);
/* An added token of tokenizer.json: a special that may repeat an id of the vocabulary under the
 * same text. */
int pn_vocab_add_special(struct pn_vocab *v, int64_t id, const char *s, size_t len,
                         struct puna_error *err);
/* "a b", spelled. All tokens must have been added. */
int pn_vocab_merge(struct pn_vocab *v, const char *a, size_t a_len, const char *b, size_t b_len,
                   struct puna_error *err);
/* ignore_merges: a piece that is a token as a whole is taken as it is, before any merging. */
int pn_vocab_finish(struct pn_vocab *v, const char *regex, size_t regex_len, bool ignore_merges,
                    struct puna_error *err);

#endif
