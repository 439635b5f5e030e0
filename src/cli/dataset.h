/* SPDX-License-Identifier: Apache-2.0 */
/* Data sets: one JSON object a line, with pictures, a prompt, and what should be answered. */
#ifndef PN_CLI_DATASET_H
#define PN_CLI_DATASET_H

#include <jansson.h>
#include <puna.h>

#include "cli/prompt.h"

struct dataset;

/* PATH, read whole; lines are looked at when they are asked for. */
int dataset_open(struct dataset **out, const char *path, struct puna_error *err);
void dataset_close(struct dataset **d);
/* Lines that hold something. */
size_t dataset_count(const struct dataset *d);
/* Whether a file of this name is a data set (.jsonl), not text. */
bool dataset_name(const char *path);

struct record {
    size_t index;       /* 0 .. count - 1 */
    const char *text;   /* the line, [len]; belongs to the data set */
    size_t len;
    json_t *json;       /* an object */
    const char *prompt; /* "prompt" or "question"; NULL: it has none */
    const char *system; /* "system", or NULL */
    char **paths;       /* [n_paths] files of "image" or "images"; relative ones are seen from the data set's folder */
    size_t n_paths;
    struct pictures pictures; /* after record_pictures */
};

/* Record i. Mistakes are told with the line's number. record_free in every case. */
int record_read(const struct dataset *d, size_t i, struct record *r, struct puna_error *err);
int record_pictures(struct record *r, struct puna_error *err);
void record_free(struct record *r);
/* A sentence about record r: "FILE:LINE: ..." in front of what err says. */
int record_fail(const struct dataset *d, const struct record *r, int rc, struct puna_error *err);

/* The user's turn (base models: the text) up to where the answer begins. */
int record_append_prompt(puna_session *s, const puna_model *m, const struct record *r, const char *suffix,
                         struct puna_error *err);
/* Tokens of an answer, with the end of the turn when the model is a chat model. *ids: free(). */
int answer_tokens(const puna_model *m, const char *text, size_t len, int32_t **ids, size_t *n,
                  struct puna_error *err);

#endif
