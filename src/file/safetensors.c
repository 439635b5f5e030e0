/* SPDX-License-Identifier: Apache-2.0 */
#include "file/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "file/json.h"

#define MAX_HEADER ((uint64_t)100000000) /* the format's own limit */
#define MAX_NAME 255

struct parser {
    struct pn_safetensors *st;
    const char *path;
    const uint8_t *data; /* after the header */
    size_t data_len;
    struct puna_error *err;
};

static int type_by_name(const char *dtype)
{
    return strcmp(dtype, "BF16") == 0   ? PN_BF16
           : strcmp(dtype, "F16") == 0 ? PN_F16
           : strcmp(dtype, "F32") == 0 ? PN_F32
                                       : -1;
}

static int check_name(const struct parser *ps, const char *name, size_t len)
{
    if (len == 0 || len > MAX_NAME)
        return pn_fail(ps->err, PUNA_E_FORMAT,
                       "%s: a tensor's name has %zu bytes; 1 to %d are sane", ps->path, len,
                       MAX_NAME);
    for (size_t i = 0; i < len; i++) {
        const unsigned char ch = (unsigned char)name[i];
        if (ch < 0x20 || ch == 0x7f)
            return pn_fail(ps->err, PUNA_E_FORMAT, "%s: the name of tensor '%s' contains byte %u",
                           ps->path, name, ch);
    }
    return 0;
}

/* shape -> ne (fastest first) and the number of elements. */
static int read_shape(const struct parser *ps, struct pn_tensor *t, const json_t *shape,
                      size_t *n_elems)
{
    if (!json_is_array(shape) || json_array_size(shape) > 4)
        return pn_fail(ps->err, json_is_array(shape) ? PUNA_E_UNSUPPORTED : PUNA_E_FORMAT,
                       "%s: the shape of tensor '%s' is not a list of at most 4 integers", ps->path,
                       t->name);
    t->ndim = (int)json_array_size(shape);
    *n_elems = 1;
    for (int d = 0; d < 4; d++)
        t->ne[d] = 1;
    for (int i = 0; i < t->ndim; i++) {
        const json_t *v = json_array_get(shape, (size_t)i);
        if (!json_is_integer(v) || json_integer_value(v) < 1)
            return pn_fail(ps->err, PUNA_E_FORMAT,
                           "%s: tensor '%s' has a dimension that is not a positive integer",
                           ps->path, t->name);
        const int64_t ne = json_integer_value(v);
        t->ne[t->ndim - 1 - i] = ne;
        if ((uint64_t)ne > SIZE_MAX || !pn_mul_size(*n_elems, (size_t)ne, n_elems))
            return pn_fail(ps->err, PUNA_E_FORMAT,
                           "%s: tensor '%s' has more elements than any file can hold", ps->path,
                           t->name);
    }
    return 0;
}

static int read_tensor(struct parser *ps, struct pn_tensor *t, const char *name, const json_t *o)
{
    const size_t name_len = strlen(name);
    int rc = check_name(ps, name, name_len);
    if (rc != 0)
        return rc;
    t->name = t->file_name = pn_arena_strndup(ps->st->arena, name, name_len);
    if (!t->name)
        return pn_fail_memory(ps->err, name_len + 1, "a tensor's name");
    const json_t *dtype = json_object_get(o, "dtype");
    const json_t *offsets = json_object_get(o, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
    if (!json_is_object(o) || !json_is_string(dtype) || json_array_size(offsets) != 2 ||
        !json_is_integer(first) || !json_is_integer(second))
        return pn_fail(ps->err, PUNA_E_FORMAT,
                       "%s: the header entry of tensor '%s' lacks dtype, shape or two data_offsets",
                       ps->path, t->name);
    const int type = type_by_name(json_string_value(dtype));
    if (type < 0)
        return pn_fail(ps->err, PUNA_E_UNSUPPORTED,
                       "%s: tensor '%s' has type %s; BF16, F16 and F32 are supported", ps->path,
                       t->name, json_string_value(dtype));
    t->type = (enum pn_type)type;
    size_t n_elems;
    rc = read_shape(ps, t, json_object_get(o, "shape"), &n_elems);
    if (rc != 0)
        return rc;
    const json_int_t begin = json_integer_value(first), end = json_integer_value(second);
    if (begin < 0 || end < begin || (uint64_t)end > ps->data_len)
        return pn_fail(ps->err, PUNA_E_FORMAT,
                       "%s: tensor '%s' lies at %" JSON_INTEGER_FORMAT "..%" JSON_INTEGER_FORMAT
                       " of %zu data bytes; the file is damaged or its download is incomplete",
                       ps->path, t->name, begin, end, ps->data_len);
    t->n_bytes = (size_t)(end - begin);
    const size_t elem = type == PN_F32 ? 4 : 2;
    if (t->n_bytes % elem != 0 || t->n_bytes / elem != n_elems)
        return pn_fail(ps->err, PUNA_E_FORMAT,
                       "%s: tensor '%s' has %zu bytes where its shape and type %s ask for %zu "
                       "elements", ps->path, t->name, t->n_bytes, json_string_value(dtype),
                       n_elems);
    t->data = ps->data + begin;
    t->map = ps->st->map;
    return 0;
}

static int by_data(const void *a, const void *b)
{
    const struct pn_tensor *x = a, *y = b;
    return x->data < y->data ? -1 : x->data > y->data;
}

/* Sorted by place, each tensor must begin where the one before ends. (None is empty: dimensions of
 * 0 are refused above.) */
static int check_tiling(struct parser *ps)
{
    struct pn_safetensors *st = ps->st;
    qsort(st->tensors, st->n_tensors, sizeof *st->tensors, by_data);
    const uint8_t *at = ps->data;
    for (size_t i = 0; i < st->n_tensors; i++) {
        const struct pn_tensor *t = &st->tensors[i];
        if (t->data != at)
            return pn_fail(ps->err, PUNA_E_FORMAT, "%s: tensor '%s' %s", ps->path, t->name,
                           t->data > at ? "is preceded by bytes that belong to no tensor"
                                        : "overlaps another one");
        at += t->n_bytes;
    }
    if (at != ps->data + ps->data_len)
        return pn_fail(ps->err, PUNA_E_FORMAT,
                       "%s: %zu bytes at the end belong to no tensor", ps->path,
                       (size_t)(ps->data + ps->data_len - at));
    return 0;
}

static int read_header(struct parser *ps, const json_t *root)
{
    struct pn_safetensors *st = ps->st;
    st->tensors = pn_calloc_array(json_object_size(root), sizeof *st->tensors);
    if (!st->tensors)
        return pn_fail_memory(ps->err, json_object_size(root) * sizeof *st->tensors,
                              "the tensor table");
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)root, name, value) {
        if (strcmp(name, "__metadata__") == 0) {
            if (!json_is_object(value))
                return pn_fail(ps->err, PUNA_E_FORMAT, "%s: '__metadata__' is not an object",
                               ps->path);
            continue;
        }
        const int rc = read_tensor(ps, &st->tensors[st->n_tensors], name, value);
        if (rc != 0)
            return rc;
        st->n_tensors++;
    }
    return check_tiling(ps);
}

static int parse(struct parser *ps, const struct pn_map *map)
{
    static const char lfs[] = "version https://git-lfs";
    if (map->size >= sizeof lfs - 1 && memcmp(map->data, lfs, sizeof lfs - 1) == 0)
        return pn_fail(ps->err, PUNA_E_FORMAT, "%s: a Git LFS pointer, not the file itself; fetch "
                       "it with `git lfs pull`", ps->path);
    if (map->size < 8)
        return pn_fail(ps->err, PUNA_E_FORMAT,
                       "%s: %zu bytes are no safetensors file; its download is incomplete",
                       ps->path, map->size);
    uint64_t len = 0;
    for (unsigned i = 0; i < 8; i++)
        len |= (uint64_t)map->data[i] << 8 * i;
    if (len > MAX_HEADER || len < 2)
        return pn_fail(ps->err, PUNA_E_FORMAT,
                       "%s: not a safetensors file (a header of %" PRIu64 " bytes)", ps->path, len);
    if (len > map->size - 8)
        return pn_fail(ps->err, PUNA_E_FORMAT,
                       "%s: the header of %" PRIu64 " bytes reaches beyond the file's end; the "
                       "file is damaged or its download is incomplete", ps->path, len);
    if (map->data[8] != '{')
        return pn_fail(ps->err, PUNA_E_FORMAT,
                       "%s: not a safetensors file (its header does not begin with '{')",
                       ps->path);
    ps->data = map->data + 8 + len;
    ps->data_len = map->size - 8 - (size_t)len;
    struct pn_json j = { .label = ps->path, .err = ps->err };
    json_t *root = pn_json_parse(&j, (const char *)map->data + 8, (size_t)len);
    const int rc = root ? read_header(ps, root) : j.rc;
    json_decref(root);
    return rc;
}

int pn_safetensors_open(struct pn_safetensors **out, const struct pn_map *map,
                        struct puna_error *err)
{
    *out = NULL;
    struct pn_safetensors *st = calloc(1, sizeof *st);
    if (!st || !(st->arena = pn_arena_new())) {
        free(st);
        return pn_fail_memory(err, sizeof *st, "a safetensors header");
    }
    st->map = map;
    struct parser ps = { .st = st, .path = map->path, .err = err };
    const int rc = parse(&ps, map);
    if (rc != 0) {
        pn_safetensors_close(&st);
        return rc;
    }
    *out = st;
    return 0;
}

void pn_safetensors_close(struct pn_safetensors **sp)
{
    struct pn_safetensors *st = *sp;
    if (!st)
        return;
    pn_free(st->tensors);
    pn_arena_free(st->arena);
    free(st);
    *sp = NULL;
}
