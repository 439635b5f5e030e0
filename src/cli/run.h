/* SPDX-License-Identifier: Apache-2.0 */
/* What `puna run` and its chat share. */
#ifndef PN_CLI_RUN_H
#define PN_CLI_RUN_H

#include "cli/common.h"
#include "cli/prompt.h"

struct run_settings {
    struct model_settings model;
    struct session_settings session;
    struct opt_list images, stop, logit_bias;
    const char *text, *file, *system;
    bool system_in_user, raw, json, ignore_eos, timings, show;
    double temperature, top_p;      /* NaN: the model's */
    int64_t top_k;                  /* -1: the model's */
    double min_p, repeat_penalty, presence_penalty, frequency_penalty;
    int64_t repeat_last_n, max_tokens, logprobs;
    struct opt_seed seed;
};

/* A generated answer on its way out. */
struct answer {
    const puna_model *model;
    struct pn_buf text;
    bool stream;       /* write pieces to stdout as they come */
    bool stream_broken; /* stdout took no more */
    json_t *ids, *logprobs; /* NULL: not collected */
};

/* A puna_piece_fn with a struct answer as its user. */
int answer_piece(void *user, const struct puna_piece *piece);

/* "512 prompt tokens ..." on stderr. */
void print_timings(const struct puna_gen_result *r, double load_seconds, uint64_t seed);

/* The chat on a terminal, until the user leaves; the exit status. */
int repl(const struct run_settings *s, const puna_model *m, puna_session *session,
         const struct puna_gen_params *params, struct pictures *pictures);

#endif
