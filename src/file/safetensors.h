/* SPDX-License-Identifier: Apache-2.0 */
/* One safetensors file: 8 bytes header length, a JSON header, the data. Accepted only when the
 * tensors tile the data exactly, without gap or overlap, and every size is shape times type. */
#ifndef PN_FILE_SAFETENSORS_H
#define PN_FILE_SAFETENSORS_H

#include <stddef.h>

#include "file/source.h"

struct pn_safetensors {
    const struct pn_map *map;  /* not owned */
    struct pn_tensor *tensors; /* shapes reversed into ne[]; names as in the file */
    size_t n_tensors;
    struct pn_arena *arena;
};

/* The map must outlive the result. BF16, F16 and F32; another type is PUNA_E_UNSUPPORTED. */
int pn_safetensors_open(struct pn_safetensors **out, const struct pn_map *map,
                        struct puna_error *err);
void pn_safetensors_close(struct pn_safetensors **st);

#endif
