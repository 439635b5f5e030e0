/* SPDX-License-Identifier: Apache-2.0 */
/* How much each column of a weight matters: the mean square of what it is multiplied with, as llama.cpp's imatrix tool
 * collects it. Two file formats: GGUF (tensors NAME.in_sum2 and NAME.counts), and the older .dat. */
#ifndef PN_FILE_IMATRIX_H
#define PN_FILE_IMATRIX_H

#include <stddef.h>
#include <stdint.h>

struct pn_map;
struct puna_error;
struct pn_imatrix;

/* Everything is read and checked: finite, not negative. Entries that saw no data are left out. */
int pn_imatrix_open(struct pn_imatrix **out, const char *path, struct puna_error *err);
/* The same from a file that is mapped; the map is not needed afterwards. */
int pn_imatrix_read(struct pn_imatrix **out, const struct pn_map *map, struct puna_error *err);
void pn_imatrix_close(struct pn_imatrix **m);
size_t pn_imatrix_count(const struct pn_imatrix *m);
/* Of entry i < count. */
const char *pn_imatrix_name(const struct pn_imatrix *m, size_t i);
/* The weights of a tensor's columns, *n of them; NULL: no entry. name: as in GGUF files, "blk.0.attn_q.weight". */
const float *pn_imatrix_find(const struct pn_imatrix *m, const char *name, int64_t *n);

#endif
