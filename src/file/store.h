/* SPDX-License-Identifier: Apache-2.0 */
/* Ollama's local store: from a model's name to the files of its manifest. Read only. */
#ifndef PN_FILE_STORE_H
#define PN_FILE_STORE_H

#include <stdbool.h>

#include "file/source.h"

struct pn_store_model {
    char *model;     /* path of the blob */
    char *projector; /* NULL: none */
    char *params;    /* NULL: none; a small JSON file */
    char digest[65]; /* hex SHA-256 that names the model blob */
};

/* [host/][namespace/]model[:tag], every part within its alphabet; no part can leave the store. */
bool pn_store_is_name(const char *name);

/* Look in $OLLAMA_MODELS, ~/.ollama/models and /usr/share/ollama/.ollama/models. Every layer that
 * is used exists and has the size the manifest gives. PUNA_E_NOT_FOUND with where it looked. */
int pn_store_find(struct pn_store_model **out, const char *name, struct puna_error *err);
void pn_store_free(struct pn_store_model **m);

/* The params layer: sampling defaults. */
int pn_store_params(struct pn_hparams *hp, const char *json, size_t len, const char *label,
                    struct puna_error *err);

#endif
