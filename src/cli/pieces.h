/* SPDX-License-Identifier: Apache-2.0 */
/* What imatrix and perplexity compute piece by piece: windows of a text, or conversations of a data set (.jsonl).
 *
 * A piece is a head and the tokens to be predicted after it. In a window of N tokens the first, or in its place
 * <|begin_of_text|>, up to the one at N/2 are the head and the N-1-N/2 behind them are predicted, as in llama.cpp's
 * perplexity tool: each prediction has at least half a window before it, and windows do not overlap. In a
 * conversation the head is the template up to where the assistant begins to speak, and the answer is predicted, with
 * the <|eot_id|> that ends it. */
#ifndef PN_CLI_PIECES_H
#define PN_CLI_PIECES_H

#include <puna.h>

struct pieces;

/* ctx: tokens of a window; 0: 512. For a data set it means nothing. */
int pieces_open(struct pieces **out, const puna_model *m, const char *path, int64_t ctx, struct puna_error *err);
void pieces_close(struct pieces **p);
size_t pieces_count(const struct pieces *p);
/* "window", "conversation" */
const char *pieces_name(const struct pieces *p);
/* The context a session needs: a window's, 0 for conversations. */
int32_t pieces_ctx(const struct pieces *p);

struct piece {
    size_t index;
    int32_t *targets; /* [n] */
    size_t n;         /* 0: a conversation without an answer */
    uint8_t hash[32]; /* SHA-256 of all its tokens and pictures */
};

/* Rewind the session and put the head of piece i into it. piece_free in every case. */
int piece_put(const struct pieces *p, size_t i, puna_session *s, struct piece *out, struct puna_error *err);
void piece_free(struct piece *piece);

/* Compute the head and the predictions: fn gets the logits for each target in order, non-zero stops. */
typedef int (*piece_fn)(void *user, int32_t target, const float *logits, int32_t n_vocab);
int piece_predict(const struct piece *piece, const puna_model *m, puna_session *s, piece_fn fn, void *user,
                  struct puna_error *err);
/* Compute everything, for the sake of an observer. */
int piece_compute(const struct piece *piece, puna_session *s, struct puna_error *err);

#endif
