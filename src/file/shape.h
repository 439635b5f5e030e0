/* SPDX-License-Identifier: Apache-2.0 */
/* The published models' shapes: what can be said of a model without its weights. */
#ifndef PN_FILE_SHAPE_H
#define PN_FILE_SHAPE_H

#include "file/source.h"

struct pn_shape {
    const char *name;
    bool vision;
    int32_t layers, d, heads, kv, hd, ff;
    bool tied;
    float rope_factor;
    int32_t image; /* side of a tile */
};

/* NULL: no such name. The names: i = 0, 1, ... until NULL. */
const struct pn_shape *pn_shape_find(const char *name);
const char *pn_shape_name(size_t i);

/* A hub directory's source that has every tensor's name and shape, in BF16, but no values: they all lie over one
 * piece of zeros, long enough for vectors only. It can be bound and planned with, not run. */
int pn_source_of_shape(struct pn_source **out, const struct pn_shape *shape, struct puna_error *err);

#endif
