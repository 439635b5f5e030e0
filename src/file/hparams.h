/* SPDX-License-Identifier: Apache-2.0 */
/* What the hub reader and the GGUF reader share about struct pn_hparams: the state before reading,
 * and the checks after it. */
#ifndef PN_FILE_HPARAMS_H
#define PN_FILE_HPARAMS_H

#include "file/source.h"

/* Bounds that single values must keep: far beyond the largest model, and small enough for products
 * of any two in int64_t. */
#define PN_MAX_WIDTH (1 << 20)
#define PN_MAX_FF (1 << 22)
#define PN_MAX_HEADS 4096
#define PN_MAX_HEAD_DIM 1024
#define PN_MAX_VOCAB (1 << 24)
#define PN_MAX_CTX (1 << 30)
#define PN_MAX_TILES 16
#define PN_MAX_IMAGE 16384

/* Everything 0, ids -1, sampling by Meta's defaults, normalisation of the published models. */
void pn_hparams_init(struct pn_hparams *hp);

/* All (h, w) with h*w <= v_tiles, h outer: the list every published model has. */
void pn_hparams_ratios(struct pn_hparams *hp);

/* v_inter ascending: their order means nothing to the classes that read it. */
void pn_hparams_sort_inter(struct pn_hparams *hp);

/* Ignores -1 and what is there already; false when the list is full. */
bool pn_hparams_add_eos(struct pn_hparams *hp, int32_t id);

/* Divisibility, ranges and indices of a complete set; label is the file to blame. */
int pn_hparams_check(const struct pn_hparams *hp, const char *label, struct puna_error *err);

#endif
