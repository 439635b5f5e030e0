/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF version 2 and 3, little-endian: key-value pairs and tensors of one mapped file.
 *
 * pn_gguf_open walks the whole header once and checks every count, length, type, offset and extent
 * against the mapped size; nothing is allocated that the file is not long enough to fill. Values
 * stay in the map until a getter asks; a getter checks again, since the map is shared with the
 * file. */
#ifndef PN_FILE_GGUF_H
#define PN_FILE_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "file/source.h"

enum pn_gguf_type {
    PN_GGUF_U8, PN_GGUF_I8, PN_GGUF_U16, PN_GGUF_I16, PN_GGUF_U32, PN_GGUF_I32, PN_GGUF_F32,
    PN_GGUF_BOOL, PN_GGUF_STR, PN_GGUF_ARR, PN_GGUF_U64, PN_GGUF_I64, PN_GGUF_F64,
    PN_GGUF_TYPE_COUNT
};

struct pn_gguf_kv {
    const char *key;        /* NUL-terminated, printable */
    uint32_t type;          /* enum pn_gguf_type; of the elements when is_array */
    bool is_array;
    uint64_t n;             /* elements of an array, bytes of a string, else 1 */
    const uint8_t *data;    /* in the map: first element, first byte; not aligned */
    size_t n_bytes;
    const void *cache;      /* what pn_gguf_strs, pn_gguf_i32s, pn_gguf_f32s made of it */
};

struct pn_gguf {
    const struct pn_map *map; /* not owned */
    uint32_t version, alignment;
    size_t data_offset;       /* start of the tensor data */
    struct pn_gguf_kv *kv;    /* in file order, no duplicate keys */
    size_t n_kv;
    struct pn_tensor *tensors; /* in file order, no duplicate names, no overlaps */
    size_t n_tensors;
    struct pn_arena *arena;
    struct pn_map_str *keys;
};

/* The map must outlive the result. PUNA_E_FORMAT, PUNA_E_UNSUPPORTED (version, big-endian, split
 * shards, tensor type), PUNA_E_MEMORY. */
int pn_gguf_open(struct pn_gguf **out, const struct pn_map *map, struct puna_error *err);
void pn_gguf_close(struct pn_gguf **g);

/* NULL when absent */
const struct pn_gguf_kv *pn_gguf_find(const struct pn_gguf *g, const char *key);
const char *pn_gguf_type_name(uint32_t type);

/* Typed getters: 1 found, 0 absent (*out untouched), PUNA_E_FORMAT when the value has another type
 * or is out of range (the sentence names file and key). Any integer type serves as an integer, any
 * integer or float type as a float (which must be finite). */
int pn_gguf_int(const struct pn_gguf *g, const char *key, int64_t min, int64_t max, int64_t *out,
                struct puna_error *err);
int pn_gguf_float(const struct pn_gguf *g, const char *key, double *out, struct puna_error *err);
int pn_gguf_bool(const struct pn_gguf *g, const char *key, bool *out, struct puna_error *err);
int pn_gguf_str(const struct pn_gguf *g, const char *key, struct pn_str *out,
                struct puna_error *err);

/* Arrays, converted in one pass on the first call and kept until pn_gguf_close. Loading only: not
 * to be called by two threads at a time. i32s takes any integer type whose values fit. */
int pn_gguf_strs(struct pn_gguf *g, const char *key, const struct pn_str **out, size_t *n,
                 struct puna_error *err);
int pn_gguf_i32s(struct pn_gguf *g, const char *key, const int32_t **out, size_t *n,
                 struct puna_error *err);
int pn_gguf_f32s(struct pn_gguf *g, const char *key, const float **out, size_t *n,
                 struct puna_error *err);

#endif
