/* SPDX-License-Identifier: Apache-2.0 */
/* One conversation: tokens, KV cache, pictures, the last logits. One owner; only `cancel` is shared. */
#ifndef PN_SESSION_H
#define PN_SESSION_H

#include <puna.h>

#include "image/image.h"
#include "model/model.h"
#include "text/vocab.h"

/* A picture by content. Its keys and values can be dropped and made again, so the pixels are kept. */
struct pn_picture {
    uint8_t key[32];       /* SHA-256 of the file's bytes and of what changes the pixels */
    struct pn_rgb rgb;     /* resized, 8 bit: 4 MB at most */
    struct pn_tiling tiling;
    struct pn_cross *cross; /* NULL: not encoded (yet, or any more) */
    int32_t refs;          /* placements and queue entries */
    uint64_t used;         /* clock of the last use, for dropping the oldest unused one */
    struct pn_picture *next;
};

struct puna_session {
    struct pn_model *m; /* const but for its lazily read vectors */
    const struct pn_vocab *vocab;
    struct puna_session_params par;
    enum pn_kv_type kv_type;
    const struct pn_observer *observer; /* NULL, or told of the products of every pass */
    size_t budget;      /* bytes of anonymous memory this session may plan with */
    size_t planned;     /* KV cache and scratch */

    struct pn_ids tokens;
    int32_t n_eval;     /* tokens whose keys and values are in the cache */
    struct pn_kv *kv;
    struct pn_scratch *scratch;
    struct pn_row *rows;    /* [chunk] */
    float *logits;          /* [rows with logits][n_vocab] */
    int32_t logit_rows;     /* rows it has room for */
    float *last_logits;     /* into logits; NULL: none */

    struct pn_picture *pictures; /* all known, newest first */
    struct pn_picture **placed;  /* [n_placed] in token order */
    int32_t *placed_at;          /* their positions */
    struct pn_cross **cross;     /* [n_placed] */
    int32_t n_placed, cap_placed;
    int32_t first_needed;        /* placements before it are seen by no row still to be computed */
    struct pn_picture **queue;   /* [n_queue] decoded, not yet placed */
    int32_t n_queue, cap_queue;
    uint64_t clock;

    double reported;             /* time of the last progress report */
    double image_seconds;        /* spent encoding since the last reset by generate */
    int32_t n_encoded;
    _Atomic int cancel;
};

int pn_session_open(puna_session **out, struct pn_model *m, const struct pn_vocab *vocab,
                    const struct puna_session_params *par, struct puna_error *err);
/* The same numbers puna_plan_memory gives, without the file. */
int pn_session_plan(const struct pn_model *m, const struct puna_session_params *par,
                    struct puna_memory_plan *plan);
/* Bytes this process can still take without swapping: free and reclaimable memory, within the cgroup's limit. */
size_t pn_memory_available(void);
double pn_now(void); /* monotonic seconds */

/* puna_session_eval without clearing the cancel flag: the caller's loop goes on with it. */
int pn_session_eval(puna_session *s, puna_logits_fn fn, void *user, struct puna_error *err);

/* Progress, ten times a second at most and always at the end; a non-zero answer cancels. */
void pn_session_report(puna_session *s, const char *phase, double done, double total);

/* pictures (picture.c) */
int pn_picture_get(puna_session *s, const void *bytes, size_t len, struct pn_picture **out,
                   struct puna_error *err); /* refs + 1 */
void pn_picture_unref(puna_session *s, struct pn_picture *p);
int pn_picture_encode(puna_session *s, struct pn_picture *p, struct puna_error *err);
void pn_pictures_free(puna_session *s);
/* Decode and tile; what both a session and puna_encode_image start with. img is the resized picture. */
int pn_picture_load(const struct pn_model *m, const struct puna_image_params *par, const void *bytes,
                    size_t len, struct pn_rgb *img, struct pn_tiling *tiling, int32_t *w, int32_t *h,
                    struct puna_error *err);

void pn_gen_defaults(struct puna_gen_params *p, const struct pn_hparams *hp);

/* sampling (sample.c) */
struct pn_sampler;
int pn_sampler_open(struct pn_sampler **out, const struct puna_gen_params *p, int32_t n_vocab,
                    struct puna_error *err);
void pn_sampler_close(struct pn_sampler **s);
/* Pick the next token. history: the whole conversation, of which the last n_generated were sampled. */
int32_t pn_sampler_next(struct pn_sampler *s, const float *logits, const int32_t *history, int32_t n_history,
                        int32_t n_generated);
/* Natural log-probability of id under the plain softmax of logits, and the n best. */
float pn_logprob(const float *logits, int32_t n_vocab, int32_t id, struct puna_token_prob *top, int32_t n_top);

#endif
