/* SPDX-License-Identifier: Apache-2.0 */
/* The header of a GGUF version 3 file: keys in the order they are put, then the table of tensors. Zero-initialise;
 * a failed allocation sticks and shows at the end. */
#ifndef PN_FILE_GGUF_WRITE_H
#define PN_FILE_GGUF_WRITE_H

#include "base/mem.h"
#include "file/gguf.h"

#define PN_GGUF_ALIGN 32

struct pn_gguf_head {
    struct pn_buf kv, table;
    uint64_t n_kv, n_tensors;
    size_t data_bytes; /* of the tensors put so far, with padding */
};

void pn_gguf_put_u32(struct pn_gguf_head *h, const char *key, uint32_t v);
void pn_gguf_put_f32(struct pn_gguf_head *h, const char *key, float v);
void pn_gguf_put_bool(struct pn_gguf_head *h, const char *key, bool v);
void pn_gguf_put_str(struct pn_gguf_head *h, const char *key, const char *s, size_t len);
void pn_gguf_put_i32s(struct pn_gguf_head *h, const char *key, const int32_t *v, size_t n);
void pn_gguf_put_strs(struct pn_gguf_head *h, const char *key, const struct pn_str *v, size_t n);
/* A pair of another file as it is. */
void pn_gguf_put_copy(struct pn_gguf_head *h, const struct pn_gguf_kv *kv);

/* Returns where the tensor's bytes go, counted from the start of the data. */
size_t pn_gguf_put_tensor(struct pn_gguf_head *h, const char *name, enum pn_type type, int ndim, const int64_t *ne,
                          size_t n_bytes);
/* Everything before the data, padded: appended to whole. False: no memory. */
bool pn_gguf_head_finish(const struct pn_gguf_head *h, struct pn_buf *whole);
void pn_gguf_head_free(struct pn_gguf_head *h);

#endif
