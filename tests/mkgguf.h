/* SPDX-License-Identifier: Apache-2.0 */
/* Test helper: writes GGUF version 3 files. Keys and tensors appear in the order of the calls; nothing
 * is checked, so that broken files can be made too. Runs out of memory: aborts the test program. */
#ifndef TESTS_MKGGUF_H
#define TESTS_MKGGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/types.h"

struct mkgguf;

struct mkgguf *mkgguf_new(void);
void mkgguf_free(struct mkgguf *g);

void mkgguf_u32(struct mkgguf *g, const char *key, uint32_t v);
void mkgguf_i32(struct mkgguf *g, const char *key, int32_t v);
void mkgguf_u64(struct mkgguf *g, const char *key, uint64_t v);
void mkgguf_f32(struct mkgguf *g, const char *key, float v);
void mkgguf_bool(struct mkgguf *g, const char *key, bool v);
void mkgguf_str(struct mkgguf *g, const char *key, const char *v);
void mkgguf_i32s(struct mkgguf *g, const char *key, const int32_t *v, size_t n);
void mkgguf_f32s(struct mkgguf *g, const char *key, const float *v, size_t n);
void mkgguf_strs(struct mkgguf *g, const char *key, const char *const *v, size_t n);
/* A value of any type, bytes as given (little-endian). */
void mkgguf_raw(struct mkgguf *g, const char *key, uint32_t type, const void *bytes, size_t n);

/* ne: fastest first. data: pn_row_bytes(type, ne[0]) * rows bytes, or NULL: a pattern of small bytes. */
void mkgguf_tensor(struct mkgguf *g, const char *name, enum pn_type type, int ndim,
                   const int64_t *ne, const void *data);
/* An entry of the tensor table as given; data bytes are appended as they are. */
void mkgguf_tensor_raw(struct mkgguf *g, const char *name, uint32_t type, uint32_t ndim,
                       const uint64_t *ne, uint64_t offset, const void *data, size_t n_bytes);

/* The file so far, with data aligned to `alignment` (the key general.alignment is the caller's
 * matter; 32 without it). malloc'ed. */
uint8_t *mkgguf_bytes(const struct mkgguf *g, size_t alignment, size_t *len);
/* The same into a file; false when it could not be written. */
bool mkgguf_write(const struct mkgguf *g, const char *path);

/* What a combined, text-half or projector file of Llama 3.2 Vision has in its header, for a tiny
 * model: 2 layers (1 is cross), width 32, 4 heads, 2 kv heads, 2+1 vision layers of width 8, tile 28;
 * and the tensors that opening looks at: token_embd [32, 19], output [32, 16], two global gates.
 * 17 tokens: 0-15 text and specials, 16 <|image|>. arch: "mllama" or "llama". */
void mkgguf_text_keys(struct mkgguf *g, const char *arch);
void mkgguf_vision_keys(struct mkgguf *g);
void mkgguf_vocab(struct mkgguf *g);
void mkgguf_text_tensors(struct mkgguf *g);
void mkgguf_vision_tensors(struct mkgguf *g, float gate);

#endif
