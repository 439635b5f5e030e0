/* SPDX-License-Identifier: Apache-2.0 */
/* From what the user typed (text, picture files) to what a session holds. */
#ifndef PN_CLI_PROMPT_H
#define PN_CLI_PROMPT_H

#include <puna.h>

#include "base/mem.h"
#include "cli/opts.h"

#define IMAGE_MARK "<|image|>"

struct picture {
    const char *path;
    char *bytes;
    size_t len;
};
struct pictures {
    struct picture *v; /* [n] */
    size_t n;
};

/* The files of a list. On failure nothing stays allocated. */
int pictures_load(struct pictures *out, const struct opt_list *paths, struct puna_error *err);
/* One more. */
int pictures_add(struct pictures *p, const char *path, struct puna_error *err);
void pictures_free(struct pictures *p);

/* Text from --prompt, --prompt-file or standard input (in this order; NULLs and false skip), byte for
 * byte. *given: false when there was no source. */
int prompt_read(struct pn_buf *out, const char *text, const char *file, bool use_stdin, bool *given,
                struct puna_error *err);

struct prompt {
    const char *text; /* may hold IMAGE_MARKs: then each takes the next picture; otherwise the
                         pictures come first */
    size_t len;
    const struct pictures *pictures;
    const char *system; /* chat: NULL or a system message */
    bool system_in_user;
    struct puna_image_params image; /* as the session has them */
    bool raw; /* no chat template: BOS unless it is there already, special tokens in the text parsed */
};

/* The parts of a message; *parts is malloc'ed and points into text and pictures. PUNA_E_ARG, with
 * both counts, when there are marks but not as many as pictures. */
int prompt_parts(struct puna_part **parts, size_t *n, const struct prompt *p, struct puna_error *err);
/* Append to the session. On error nothing has been appended. */
int prompt_append(puna_session *s, const puna_model *m, const struct prompt *p,
                  struct puna_error *err);
/* Raw ids with their pictures; the number of <|image|> ids must be the number of pictures. */
int prompt_append_ids(puna_session *s, const puna_model *m, const int32_t *ids, size_t n,
                      const struct pictures *pictures, struct puna_error *err);

#endif
