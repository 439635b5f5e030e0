/* SPDX-License-Identifier: Apache-2.0 */
/* A model into one GGUF file: which tensors it gets and where each comes from (plan.c), in which number format
 * (mix.c), with which keys (header.c), and the streaming (write.c).
 *
 * The layout is Ollama's combined one for a model with a vision tower, llama.cpp's for a text model: names, rows of
 * q and k in interleaved RoPE order, vision gates after tanh. A GGUF source keeps its tensors' order and keys. */
#ifndef PN_CONVERT_H
#define PN_CONVERT_H

#include <puna.h>

#include "file/gguf_write.h"
#include "file/source.h"
#include "kern/kern.h"
#include "model/model.h"

/* What happens to the values on the way. */
enum pn_edit {
    PN_EDIT_NONE,
    PN_EDIT_ROWS,           /* rows of every head from half-split to interleaved order */
    PN_EDIT_TANH,
    PN_EDIT_ONE_MINUS_TANH,
    PN_EDIT_MADE            /* no source: values */
};

/* What a tensor is in the model; decides on its format. */
enum pn_role {
    PN_ROLE_SMALL,          /* norms, biases, gates, tile tables: F32 */
    PN_ROLE_EMBD, PN_ROLE_OUTPUT,
    PN_ROLE_Q, PN_ROLE_K, PN_ROLE_V, PN_ROLE_O,
    PN_ROLE_GATE, PN_ROLE_UP, PN_ROLE_DOWN,
    PN_ROLE_CROSS_Q, PN_ROLE_CROSS_K, PN_ROLE_CROSS_V, PN_ROLE_CROSS_O,
    PN_ROLE_PATCH,          /* patch and position embeddings: never in blocks */
    PN_ROLE_VISION          /* the tower's other matrices and the projector */
};

struct pn_out_tensor {
    const char *name;
    const struct pn_tensor *src;   /* NULL: made */
    const float *values;           /* made */
    enum pn_edit edit;
    int32_t heads;                 /* PN_EDIT_ROWS */
    enum pn_role role;
    int32_t layer, ord;            /* text layers: index; ordinal among self or among cross layers */
    int ndim;
    int64_t ne[4], n_rows;
    enum pn_type type;
    bool fallback;                 /* not the type asked for: rows do not divide into its blocks */
    const float *importance;       /* [ne[0]] or NULL; not owned */
    const struct pn_lora *lora;    /* adapters to be merged into the source's rows, or NULL; not owned */
    size_t offset, n_bytes;        /* in the data */
};

struct pn_plan {
    const struct pn_source *src;
    struct pn_out_tensor *t;
    size_t n, cap;
    struct pn_arena *arena;        /* names, made values */
};

/* src is bound (its shapes are checked). PUNA_E_UNSUPPORTED for what a GGUF file cannot say. */
int pn_plan_make(struct pn_plan *p, const struct pn_source *src, struct puna_error *err);
void pn_plan_free(struct pn_plan *p);

struct pn_mix;
/* NULL: no such name. The list of names: i = 0, 1, ... until NULL. */
const struct pn_mix *pn_mix_find(const char *name);
const char *pn_mix_name(size_t i);
uint32_t pn_mix_file_type(const struct pn_mix *mix); /* general.file_type */
/* Type of every tensor. vision: -1 as suits the mix; with_imatrix: some rules ask for it. */
int pn_mix_apply(const struct pn_mix *mix, struct pn_plan *p, int vision, bool with_imatrix,
                 const struct puna_quant_override *overrides, size_t n_overrides, struct puna_error *err);

/* Keys and tensor table; sets every tensor's offset. */
int pn_header_make(struct pn_gguf_head *h, struct pn_plan *p, uint32_t file_type, struct puna_error *err);

/* Values of a stretch of tensor t: rows r0 .. r0+n_rows-1, columns c0 .. c0+n_cols-1, in output order. c0 is a
 * multiple of 256. The one place where values leave the source. */
void pn_plan_values(const struct pn_plan *p, const struct pn_kern *kern, const struct pn_out_tensor *t, int64_t r0,
                    int64_t n_rows, int64_t c0, int64_t n_cols, float *dst);

/* Row r from column c0 on as the source has it, where that is also what the file gets: same type, value untouched.
 * NULL otherwise. Quantising decoded blocks again would not always find them again. */
const void *pn_plan_bytes(const struct pn_plan *p, const struct pn_out_tensor *t, int64_t r, int64_t c0);

struct pn_write {
    const struct pn_kern *kern;
    int threads;
    puna_progress_fn progress;
    void *progress_user;
};
/* Header and data into path. The bytes do not depend on the number of threads. */
int pn_plan_write(const struct pn_plan *p, const struct pn_gguf_head *h, const char *path, const struct pn_write *w,
                  struct puna_error *err);
/* Look at every value and write nothing: bad[i] counts what is not finite in tensor i. */
int pn_plan_scan(const struct pn_plan *p, const struct pn_write *w, uint64_t *bad, struct puna_error *err);

#endif
