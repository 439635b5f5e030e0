/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a safetensors file of numbers (golden values; not model weights, which are the library's
 * business): mapped, every offset and shape checked before a tensor can be had. */
#ifndef PN_CLI_ST_READ_H
#define PN_CLI_ST_READ_H

#include <stddef.h>
#include <stdint.h>

struct puna_error;
struct st_file;

enum { ST_READ_MAX_DIMS = 8 };

struct st_view {
    const char *name;
    const char *dtype; /* "F32", "I64", ... as in the file */
    int ndim;
    int64_t shape[ST_READ_MAX_DIMS];
    size_t n; /* values */
    const uint8_t *bytes; /* little-endian, not aligned */
    size_t n_bytes;
};

int st_open(struct st_file **out, const char *path, struct puna_error *err);
void st_close(struct st_file **f); /* *f == NULL allowed */
size_t st_count(const struct st_file *f);
const struct st_view *st_at(const struct st_file *f, size_t i); /* file order of the header */
const struct st_view *st_find(const struct st_file *f, const char *name); /* NULL: absent */

/* Value i of a tensor; the caller has looked at dtype. */
float st_f32(const struct st_view *v, size_t i);
int64_t st_i64(const struct st_view *v, size_t i);

#endif
