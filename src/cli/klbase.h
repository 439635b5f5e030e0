/* SPDX-License-Identifier: Apache-2.0 */
/* The base file of puna perplexity: for every predicted token the likeliest tokens of a reference model with their
 * log-probabilities, and the probability of all others together. Little-endian:
 *
 *   0   8 bytes  "PUNAKLB1"
 *   8   u32      size of the vocabulary
 *   12  u32      most tokens kept for a position
 *   16  u64      number of pieces
 *   24  u64      number of positions
 *   32  pieces, each: 32 bytes SHA-256 of its tokens and pictures, u32 number of positions, then the positions:
 *         u32 the token that came   f32 its log-probability
 *         f32 probability of all tokens that are not listed
 *         u32 number of tokens listed, then for each, likeliest first: u32 id, f32 log-probability
 *
 * Natural logarithms. A position lists as many tokens as it takes to leave less than KL_TAIL, or the most kept. */
#ifndef PN_CLI_KLBASE_H
#define PN_CLI_KLBASE_H

#include <stddef.h>
#include <stdint.h>

struct puna_error;

#define KL_TAIL 1e-6

struct kl_top {
    int32_t id;
    float logprob;
};
struct kl_position {
    int32_t token;
    float logprob, tail;
    int32_t n;
    const struct kl_top *top; /* [n] */
};

struct kl_writer;
int kl_create(struct kl_writer **out, const char *path, int32_t n_vocab, int32_t most, struct puna_error *err);
int kl_put_piece(struct kl_writer *w, const uint8_t hash[32], size_t n, struct puna_error *err);
int kl_put(struct kl_writer *w, const struct kl_position *p, struct puna_error *err);
/* The file appears. Frees and nulls *w in every case. */
int kl_commit(struct kl_writer **w, struct puna_error *err);
void kl_abort(struct kl_writer **w); /* *w == NULL allowed */

struct kl_reader;
/* bytes must stay; path is for messages. PUNA_E_FORMAT also when the vocabulary is not one of n_vocab tokens. */
int kl_open(struct kl_reader **out, const uint8_t *bytes, size_t len, const char *path, int32_t n_vocab,
            struct puna_error *err);
void kl_close(struct kl_reader **r);
uint64_t kl_pieces(const struct kl_reader *r);
/* The next piece, after all positions of the one before: PUNA_E_FORMAT when it was made of other tokens or pictures
 * (hash), or there is none. hash NULL: any. *n: its positions. */
int kl_next_piece(struct kl_reader *r, const uint8_t *hash, size_t *n, struct puna_error *err);
/* The next position of the piece; top is good until the next call. */
int kl_next(struct kl_reader *r, struct kl_position *p, struct puna_error *err);

#endif
