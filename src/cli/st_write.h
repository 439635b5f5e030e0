/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a safetensors file: shapes first, then the values of each tensor in order, the tensors
 * interleaved as the caller likes. The file appears only when every value has arrived. */
#ifndef PN_CLI_ST_WRITE_H
#define PN_CLI_ST_WRITE_H

#include <stddef.h>
#include <stdint.h>

struct puna_error;

enum { ST_MAX_TENSORS = 8, ST_MAX_DIMS = 5 };

enum st_dtype { ST_F32, ST_I64 };

struct st_decl {
    const char *name; /* plain ASCII, nothing to escape in JSON */
    enum st_dtype dtype;
    int ndim;
    int64_t shape[ST_MAX_DIMS]; /* slowest first */
};

struct st_writer;

int st_create(struct st_writer **out, const char *path, const struct st_decl *tensors, size_t n,
              struct puna_error *err);
/* The next n values of tensor i; more than its shape holds: PUNA_E_ARG. */
int st_put(struct st_writer *w, size_t i, const void *values, size_t n, struct puna_error *err);
/* Zeros for the next n values of tensor i. */
int st_skip(struct st_writer *w, size_t i, size_t n, struct puna_error *err);
/* PUNA_E_ARG when values are missing. Frees and nulls *w in every case. */
int st_commit(struct st_writer **w, struct puna_error *err);
void st_abort(struct st_writer **w); /* *w == NULL allowed */

#endif
