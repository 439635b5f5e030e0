/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/st_read.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/map.h"
#include "base/mem.h"

struct st_file {
    struct pn_map *map;
    json_t *header; /* owns the names */
    struct st_view *view;
    size_t n;
};

static size_t dtype_width(const char *dtype)
{
    static const struct {
        const char *name;
        size_t width;
    } known[] = { { "F64", 8 }, { "I64", 8 }, { "U64", 8 }, { "F32", 4 }, { "I32", 4 }, { "U32", 4 },
                  { "F16", 2 }, { "BF16", 2 }, { "I16", 2 }, { "U16", 2 }, { "I8", 1 }, { "U8", 1 },
                  { "BOOL", 1 } };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(known[i].name, dtype) == 0)
            return known[i].width;
    }
    return 0;
}

/* data, n_data: what follows the header. */
static int read_view(struct st_view *v, const char *path, const char *name, const json_t *entry,
                     const uint8_t *data, size_t n_data, struct puna_error *err)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    const json_t *shape = json_object_get(entry, "shape");
    const json_t *offsets = json_object_get(entry, "data_offsets");
    if (dtype == NULL || !json_is_array(shape) || json_array_size(offsets) != 2 ||
        json_array_size(shape) > ST_READ_MAX_DIMS)
        return pn_fail(err, PUNA_E_FORMAT, "%s: tensor '%s': dtype, shape or data_offsets is missing",
                       path, name);
    *v = (struct st_view){ .name = name, .dtype = dtype, .n = 1 };
    v->ndim = (int)json_array_size(shape);
    for (int k = 0; k < v->ndim; k++) {
        const json_t *d = json_array_get(shape, (size_t)k);
        v->shape[k] = json_integer_value(d);
        if (!json_is_integer(d) || v->shape[k] < 0 ||
            !pn_mul_size(v->n, (size_t)v->shape[k], &v->n))
            return pn_fail(err, PUNA_E_FORMAT, "%s: tensor '%s': bad shape", path, name);
    }
    const json_int_t a = json_integer_value(json_array_get(offsets, 0));
    const json_int_t b = json_integer_value(json_array_get(offsets, 1));
    const size_t width = dtype_width(dtype);
    size_t bytes;
    if (a < 0 || b < a || (uint64_t)b > n_data)
        return pn_fail(err, PUNA_E_FORMAT, "%s: tensor '%s': lies outside the file", path, name);
    if (width == 0 || !pn_mul_size(v->n, width, &bytes) || bytes != (size_t)(b - a))
        return pn_fail(err, PUNA_E_FORMAT, "%s: tensor '%s': its shape does not fit its bytes", path,
                       name);
    v->bytes = data + a;
    v->n_bytes = bytes;
    return 0;
}

static int read_header(struct st_file *f, const char *path, struct puna_error *err)
{
    enum { MAX_HEADER = 100 << 20 };
    uint64_t len = 0;
    if (f->map->size >= 8)
        memcpy(&len, f->map->data, 8);
    if (len < 2 || len > MAX_HEADER || len > f->map->size - 8)
        return pn_fail(err, PUNA_E_FORMAT, "%s: not a safetensors file", path);
    json_error_t at;
    f->header = json_loadb((const char *)f->map->data + 8, (size_t)len, JSON_REJECT_DUPLICATES, &at);
    if (!json_is_object(f->header))
        return pn_fail(err, PUNA_E_FORMAT, "%s: broken header: %s", path, at.text);
    f->view = calloc(json_object_size(f->header) + 1, sizeof(*f->view));
    if (f->view == NULL)
        return pn_fail_memory(err, json_object_size(f->header) * sizeof(*f->view), "tensor names");

    const char *name;
    json_t *entry;
    json_object_foreach(f->header, name, entry) {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        int rc = read_view(&f->view[f->n], path, name, entry, f->map->data + 8 + len,
                           f->map->size - 8 - (size_t)len, err);
        if (rc != 0)
            return rc;
        f->n++;
    }
    return 0;
}

int st_open(struct st_file **out, const char *path, struct puna_error *err)
{
    *out = NULL;
    struct st_file *f = calloc(1, sizeof(*f));
    if (f == NULL)
        return pn_fail_memory(err, sizeof(*f), "a file");
    int rc = pn_map_open(&f->map, path, err);
    if (rc == 0)
        rc = read_header(f, path, err);
    if (rc != 0)
        st_close(&f);
    *out = f;
    return rc;
}

void st_close(struct st_file **f)
{
    if (*f == NULL)
        return;
    json_decref((*f)->header);
    pn_map_close(&(*f)->map);
    free((*f)->view);
    free(*f);
    *f = NULL;
}

size_t st_count(const struct st_file *f)
{
    return f->n;
}

const struct st_view *st_at(const struct st_file *f, size_t i)
{
    return &f->view[i];
}

const struct st_view *st_find(const struct st_file *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++) {
        if (strcmp(f->view[i].name, name) == 0)
            return &f->view[i];
    }
    return NULL;
}

float st_f32(const struct st_view *v, size_t i)
{
    float x;
    memcpy(&x, v->bytes + sizeof(x) * i, sizeof(x));
    return x;
}

int64_t st_i64(const struct st_view *v, size_t i)
{
    int64_t x;
    memcpy(&x, v->bytes + sizeof(x) * i, sizeof(x));
    return x;
}
