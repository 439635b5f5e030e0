/* SPDX-License-Identifier: Apache-2.0 */
#include "file/gguf.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

/* Caps on what no model needs; the file's size bounds everything below them. */
#define MAX_KV 65536
#define MAX_TENSORS (1u << 20)
#define MAX_KEY 4096
#define MAX_NAME 255
#define MAX_ARRAY ((uint64_t)1 << 24) /* elements of an array that a getter converts */
#define MAX_ALIGNMENT ((uint32_t)1 << 20)

/* ---------------------------------------------------------------------------- cursor */

/* Reads forward in [p, p + left). The first read past the end sets `failed`, later ones give 0. */
struct cursor {
    const uint8_t *p;
    size_t left;
    bool failed;
};

static const uint8_t *take(struct cursor *c, uint64_t n)
{
    if (c->failed || n > c->left) {
        c->failed = true;
        return NULL;
    }
    const uint8_t *p = c->p;
    c->p += n;
    c->left -= (size_t)n;
    return p;
}

static uint64_t le(const uint8_t *p, unsigned n_bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n_bytes; i++)
        v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static uint32_t take_u32(struct cursor *c)
{
    const uint8_t *p = take(c, 4);
    return p ? (uint32_t)le(p, 4) : 0;
}

static uint64_t take_u64(struct cursor *c)
{
    const uint8_t *p = take(c, 8);
    return p ? le(p, 8) : 0;
}

static struct pn_str take_str(struct cursor *c)
{
    const uint64_t n = take_u64(c);
    const uint8_t *p = take(c, n);
    return (struct pn_str){ .s = (const char *)p, .len = p ? (size_t)n : 0 };
}

/* ---------------------------------------------------------------------------- types */

static const struct {
    const char *name;
    unsigned bytes; /* 0: of variable length */
} kv_types[PN_GGUF_TYPE_COUNT] = {
    [PN_GGUF_U8] = { "u8", 1 },    [PN_GGUF_I8] = { "i8", 1 },     [PN_GGUF_U16] = { "u16", 2 },
    [PN_GGUF_I16] = { "i16", 2 },  [PN_GGUF_U32] = { "u32", 4 },   [PN_GGUF_I32] = { "i32", 4 },
    [PN_GGUF_F32] = { "f32", 4 },  [PN_GGUF_BOOL] = { "bool", 1 }, [PN_GGUF_STR] = { "string", 0 },
    [PN_GGUF_ARR] = { "array", 0 }, [PN_GGUF_U64] = { "u64", 8 },  [PN_GGUF_I64] = { "i64", 8 },
    [PN_GGUF_F64] = { "f64", 8 },
};

const char *pn_gguf_type_name(uint32_t type)
{
    return type < PN_GGUF_TYPE_COUNT ? kv_types[type].name : "?";
}

static bool is_int_type(uint32_t type)
{
    return type <= PN_GGUF_I32 || type == PN_GGUF_U64 || type == PN_GGUF_I64;
}

/* Value of an integer element; false when it is beyond int64_t. */
static bool int_value(uint32_t type, const uint8_t *p, int64_t *out)
{
    const unsigned bytes = kv_types[type].bytes;
    uint64_t v = le(p, bytes);
    const bool is_signed =
        type == PN_GGUF_I8 || type == PN_GGUF_I16 || type == PN_GGUF_I32 || type == PN_GGUF_I64;
    if (is_signed && bytes < 8 && v >> (8 * bytes - 1))
        v |= ~(uint64_t)0 << 8 * bytes;
    if (!is_signed && v > INT64_MAX)
        return false;
    memcpy(out, &v, sizeof v);
    return true;
}

static double float_value(uint32_t type, const uint8_t *p)
{
    if (type == PN_GGUF_F32) {
        const uint32_t bits = (uint32_t)le(p, 4);
        float f;
        memcpy(&f, &bits, sizeof f);
        return (double)f;
    }
    const uint64_t bits = le(p, 8);
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

/* ---------------------------------------------------------------------------- header */

struct parser {
    struct pn_gguf *g;
    const char *path;
    struct cursor c;
    struct puna_error *err;
};

static int fail_cut(const struct parser *ps, const char *where)
{
    return pn_fail(ps->err, PUNA_E_FORMAT,
                   "%s: the file ends inside %s (%zu bytes in all); it is damaged or its download "
                   "is incomplete", ps->path, where, ps->g->map->size);
}

/* Keys and tensor names: printable, no NUL, so that they are C strings and can be shown. */
static char *copy_name(struct parser *ps, struct pn_str s, size_t max, const char *what, int *rc)
{
    if (s.len == 0 || s.len > max) {
        *rc = pn_fail(ps->err, PUNA_E_FORMAT, "%s: the name of %s has %zu bytes; 1 to %zu are sane",
                      ps->path, what, s.len, max);
        return NULL;
    }
    for (size_t i = 0; i < s.len; i++) {
        const unsigned char ch = (unsigned char)s.s[i];
        if (ch < 0x20 || ch == 0x7f) {
            *rc = pn_fail(ps->err, PUNA_E_FORMAT, "%s: the name of %s contains byte %u", ps->path,
                          what, ch);
            return NULL;
        }
    }
    char *copy = pn_arena_strndup(ps->g->arena, s.s, s.len);
    if (!copy)
        *rc = pn_fail_memory(ps->err, s.len + 1, what);
    return copy;
}

static int parse_array(struct parser *ps, struct pn_gguf_kv *kv)
{
    kv->is_array = true;
    kv->type = take_u32(&ps->c);
    kv->n = take_u64(&ps->c);
    if (ps->c.failed)
        return fail_cut(ps, kv->key);
    if (kv->type >= PN_GGUF_TYPE_COUNT || kv->type == PN_GGUF_ARR)
        return pn_fail(ps->err, PUNA_E_FORMAT, "%s: key '%s' is an array of %s (type %" PRIu32 ")",
                       ps->path, kv->key, kv->type == PN_GGUF_ARR ? "arrays" : "an unknown type",
                       kv->type);
    kv->data = ps->c.p;
    if (kv->type == PN_GGUF_STR) {
        if (kv->n > ps->c.left / 8) /* each string has at least its length */
            return fail_cut(ps, kv->key);
        for (uint64_t i = 0; i < kv->n; i++)
            (void)take_str(&ps->c);
    } else {
        const unsigned bytes = kv_types[kv->type].bytes;
        if (kv->n > ps->c.left / bytes)
            return fail_cut(ps, kv->key);
        (void)take(&ps->c, kv->n * bytes);
    }
    if (ps->c.failed)
        return fail_cut(ps, kv->key);
    kv->n_bytes = (size_t)(ps->c.p - kv->data);
    return 0;
}

static int parse_kv(struct parser *ps, size_t i)
{
    struct pn_gguf *g = ps->g;
    struct pn_gguf_kv *kv = &g->kv[i];
    int rc = 0;
    const struct pn_str key = take_str(&ps->c);
    if (ps->c.failed)
        return fail_cut(ps, "the key-value pairs");
    kv->key = copy_name(ps, key, MAX_KEY, "a key", &rc);
    if (!kv->key)
        return rc;
    const int fresh = pn_map_str_put(g->keys, kv->key, key.len, (uint32_t)i);
    if (fresh < 0)
        return pn_fail_memory(ps->err, 0, "the key table");
    if (fresh == 0)
        return pn_fail(ps->err, PUNA_E_FORMAT, "%s: key '%s' appears twice", ps->path, kv->key);
    kv->type = take_u32(&ps->c);
    if (ps->c.failed)
        return fail_cut(ps, kv->key);
    if (kv->type >= PN_GGUF_TYPE_COUNT)
        return pn_fail(ps->err, PUNA_E_FORMAT, "%s: key '%s' has unknown type %" PRIu32, ps->path,
                       kv->key, kv->type);
    if (kv->type == PN_GGUF_ARR)
        return parse_array(ps, kv);
    if (kv->type == PN_GGUF_STR) {
        const struct pn_str s = take_str(&ps->c);
        kv->data = (const uint8_t *)s.s;
        kv->n = kv->n_bytes = s.len;
    } else {
        kv->n = 1;
        kv->n_bytes = kv_types[kv->type].bytes;
        kv->data = take(&ps->c, kv->n_bytes);
        if (kv->data && kv->type == PN_GGUF_BOOL && kv->data[0] > 1)
            return pn_fail(ps->err, PUNA_E_FORMAT, "%s: key '%s' is a bool of value %u", ps->path,
                           kv->key, kv->data[0]);
    }
    return ps->c.failed ? fail_cut(ps, kv->key) : 0;
}

/* One entry of the tensor table; data holds the offset until the data section's start is known. */
static int parse_tensor(struct parser *ps, size_t i, struct pn_map_str *names, uint64_t *offset)
{
    struct pn_tensor *t = &ps->g->tensors[i];
    int rc = 0;
    const struct pn_str name = take_str(&ps->c);
    if (ps->c.failed)
        return fail_cut(ps, "the tensor table");
    t->name = t->file_name = copy_name(ps, name, MAX_NAME, "a tensor", &rc);
    if (!t->name)
        return rc;
    const int fresh = pn_map_str_put(names, t->name, name.len, (uint32_t)i);
    if (fresh < 0)
        return pn_fail_memory(ps->err, 0, "the table of tensor names");
    if (fresh == 0)
        return pn_fail(ps->err, PUNA_E_FORMAT, "%s: tensor '%s' appears twice", ps->path, t->name);

    const uint32_t ndim = take_u32(&ps->c);
    if (ps->c.failed)
        return fail_cut(ps, "the tensor table");
    if (ndim < 1 || ndim > 4)
        return pn_fail(ps->err, PUNA_E_FORMAT,
                       "%s: tensor '%s' has %" PRIu32 " dimensions; 1 to 4 are possible", ps->path,
                       t->name, ndim);
    t->ndim = (int)ndim;
    size_t n_elems = 1;
    for (int d = 0; d < 4; d++) {
        const uint64_t ne = d < t->ndim ? take_u64(&ps->c) : 1;
        if (ps->c.failed)
            return fail_cut(ps, "the tensor table");
        if (ne == 0 || ne > INT64_MAX)
            return pn_fail(ps->err, PUNA_E_FORMAT, "%s: tensor '%s' has a dimension of %" PRIu64,
                           ps->path, t->name, ne);
        /* At least one bit per element in every type: more than 8 per byte of file cannot be. */
        if (!pn_mul_size(n_elems, (size_t)ne, &n_elems) || n_elems / 8 > ps->g->map->size)
            return pn_fail(ps->err, PUNA_E_FORMAT,
                           "%s: tensor '%s' has more elements than a file of %zu bytes can hold",
                           ps->path, t->name, ps->g->map->size);
        t->ne[d] = (int64_t)ne;
    }
    const uint32_t type = take_u32(&ps->c);
    *offset = take_u64(&ps->c);
    if (ps->c.failed)
        return fail_cut(ps, "the tensor table");
    const struct pn_type_info *ti = pn_type_info(type);
    if (!ti)
        return pn_fail(ps->err, PUNA_E_UNSUPPORTED,
                       "%s: tensor '%s' has type %" PRIu32 ", which puna does not read; take a "
                       "Q4_K_M, Q8_0 or F16 file of the model", ps->path, t->name, type);
    t->type = (enum pn_type)type;
    if (t->ne[0] % ti->block_elems != 0)
        return pn_fail(ps->err, PUNA_E_FORMAT,
                       "%s: tensor '%s' has rows of %" PRId64 " elements, not a multiple of the "
                       "%u in a block of %s", ps->path, t->name, t->ne[0], ti->block_elems,
                       ti->name);
    t->n_bytes = n_elems / ti->block_elems * ti->block_bytes; /* < 4 * 8 * file size */
    t->map = ps->g->map;
    return 0;
}

struct extent {
    uint64_t begin, end;
    size_t tensor;
};

static int by_begin(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->tensor < y->tensor ? -1 : x->tensor > y->tensor;
}

/* Offsets against alignment, file size and each other. Gaps are allowed (they are never read). */
static int place_tensors(struct parser *ps, struct extent *ext)
{
    struct pn_gguf *g = ps->g;
    const size_t header = (size_t)(ps->c.p - g->map->data);
    size_t start;
    if (!pn_add_size(header, g->alignment - 1, &start))
        return fail_cut(ps, "the header");
    g->data_offset = start & ~((size_t)g->alignment - 1);
    const size_t avail = g->data_offset < g->map->size ? g->map->size - g->data_offset : 0;
    for (size_t i = 0; i < g->n_tensors; i++) {
        struct pn_tensor *t = &g->tensors[i];
        struct extent *e = &ext[i];
        if (e->begin % g->alignment != 0)
            return pn_fail(ps->err, PUNA_E_FORMAT,
                           "%s: tensor '%s' is at offset %" PRIu64 ", not a multiple of the "
                           "alignment %" PRIu32, ps->path, t->name, e->begin, g->alignment);
        if (e->begin > avail || t->n_bytes > avail - e->begin)
            return pn_fail(ps->err, PUNA_E_FORMAT,
                           "%s: tensor '%s' (%zu bytes at %" PRIu64 ") reaches beyond the file's "
                           "end; the file is damaged or its download is incomplete", ps->path,
                           t->name, t->n_bytes, e->begin);
        e->end = e->begin + t->n_bytes;
        e->tensor = i;
        t->data = g->map->data + g->data_offset + e->begin;
    }
    qsort(ext, g->n_tensors, sizeof *ext, by_begin);
    for (size_t i = 1; i < g->n_tensors; i++) {
        if (ext[i].begin < ext[i - 1].end)
            return pn_fail(ps->err, PUNA_E_FORMAT, "%s: tensors '%s' and '%s' overlap", ps->path,
                           g->tensors[ext[i - 1].tensor].name, g->tensors[ext[i].tensor].name);
    }
    return 0;
}

/* What else people pass as a model file. */
static int fail_magic(const struct parser *ps)
{
    const struct pn_map *m = ps->g->map;
    static const char lfs[] = "version https://git-lfs";
    const char *what = "not a GGUF file";
    if (m->size == 0)
        what = "the file is empty";
    else if (m->size >= sizeof lfs - 1 && memcmp(m->data, lfs, sizeof lfs - 1) == 0)
        what = "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`";
    else if (m->size >= 4 && memcmp(m->data, "FUGG", 4) == 0)
        what = "a big-endian GGUF file; only little-endian files are supported";
    else if (m->size >= 4 && (memcmp(m->data, "lmgg", 4) == 0 || memcmp(m->data, "tjgg", 4) == 0 ||
                              memcmp(m->data, "algg", 4) == 0))
        what = "a GGML file from before GGUF; convert the model anew";
    else if (m->size >= 10 && m->data[8] == '{')
        what = "not a GGUF file; if it is safetensors, pass the directory that holds it";
    return pn_fail(ps->err, PUNA_E_FORMAT, "%s: %s", ps->path, what);
}

static int check_counts(const struct parser *ps, uint64_t n_tensors, uint64_t n_kv)
{
    /* Smallest entries: length 8, one byte, type 4, value 1; length 8, one byte, ndim 4, one
     * dimension 8, type 4, offset 8. */
    if (n_kv > MAX_KV || n_kv > ps->c.left / 14)
        return pn_fail(ps->err, PUNA_E_FORMAT,
                       "%s: the header declares %" PRIu64 " key-value pairs, more than the file "
                       "holds or any model has", ps->path, n_kv);
    if (n_tensors > MAX_TENSORS || n_tensors > ps->c.left / 33)
        return pn_fail(ps->err, PUNA_E_FORMAT,
                       "%s: the header declares %" PRIu64 " tensors, more than the file holds or "
                       "any model has", ps->path, n_tensors);
    return 0;
}

static int read_alignment(struct parser *ps)
{
    struct pn_gguf *g = ps->g;
    int64_t v = 32;
    if (pn_gguf_int(g, "general.alignment", 1, MAX_ALIGNMENT, &v, ps->err) < 0)
        return PUNA_E_FORMAT;
    if (v & (v - 1))
        return pn_fail(ps->err, PUNA_E_FORMAT,
                       "%s: key 'general.alignment' is %" PRId64 ", not a power of two", ps->path,
                       v);
    g->alignment = (uint32_t)v;
    int64_t shards = 1;
    if (pn_gguf_int(g, "split.count", 0, UINT16_MAX, &shards, ps->err) < 0)
        return PUNA_E_FORMAT;
    if (shards > 1)
        return pn_fail(ps->err, PUNA_E_UNSUPPORTED,
                       "%s: one of %" PRId64 " parts of a split GGUF file; join them first with "
                       "llama-gguf-split --merge", ps->path, shards);
    return 0;
}

static int parse(struct parser *ps)
{
    struct pn_gguf *g = ps->g;
    const uint8_t *magic = take(&ps->c, 4);
    if (!magic || memcmp(magic, "GGUF", 4) != 0)
        return fail_magic(ps);
    g->version = take_u32(&ps->c);
    if (ps->c.failed)
        return fail_cut(ps, "the header");
    if (g->version == 0x02000000 || g->version == 0x03000000)
        return pn_fail(ps->err, PUNA_E_UNSUPPORTED,
                       "%s: a big-endian GGUF file; only little-endian files are supported",
                       ps->path);
    if (g->version != 2 && g->version != 3)
        return pn_fail(ps->err, PUNA_E_UNSUPPORTED,
                       "%s: GGUF version %" PRIu32 "; versions 2 and 3 are supported", ps->path,
                       g->version);
    const uint64_t n_tensors = take_u64(&ps->c), n_kv = take_u64(&ps->c);
    if (ps->c.failed)
        return fail_cut(ps, "the header");
    int rc = check_counts(ps, n_tensors, n_kv);
    if (rc != 0)
        return rc;

    g->n_kv = (size_t)n_kv;
    g->kv = pn_calloc_array(g->n_kv, sizeof *g->kv);
    g->keys = pn_map_str_new(g->n_kv);
    if (!g->kv || !g->keys)
        return pn_fail_memory(ps->err, g->n_kv * sizeof *g->kv, "the key-value pairs");
    for (size_t i = 0; i < g->n_kv; i++) {
        rc = parse_kv(ps, i);
        if (rc != 0)
            return rc;
    }
    rc = read_alignment(ps);
    if (rc != 0)
        return rc;

    if (n_tensors > ps->c.left / 33)
        return fail_cut(ps, "the tensor table");
    g->n_tensors = (size_t)n_tensors;
    g->tensors = pn_calloc_array(g->n_tensors, sizeof *g->tensors);
    struct extent *ext = pn_calloc_array(g->n_tensors, sizeof *ext);
    struct pn_map_str *names = pn_map_str_new(g->n_tensors);
    if (!g->tensors || !ext || !names)
        rc = pn_fail_memory(ps->err, g->n_tensors * sizeof *g->tensors, "the tensor table");
    for (size_t i = 0; rc == 0 && i < g->n_tensors; i++)
        rc = parse_tensor(ps, i, names, &ext[i].begin);
    if (rc == 0)
        rc = place_tensors(ps, ext);
    pn_map_str_free(names);
    pn_free(ext);
    return rc;
}

int pn_gguf_open(struct pn_gguf **out, const struct pn_map *map, struct puna_error *err)
{
    *out = NULL;
    struct pn_gguf *g = calloc(1, sizeof *g);
    if (!g || !(g->arena = pn_arena_new())) {
        free(g);
        return pn_fail_memory(err, sizeof *g, "a GGUF header");
    }
    g->map = map;
    struct parser ps = { .g = g, .path = map->path, .err = err,
                         .c = { .p = map->data, .left = map->size } };
    const int rc = parse(&ps);
    if (rc != 0) {
        pn_gguf_close(&g);
        return rc;
    }
    *out = g;
    return 0;
}

void pn_gguf_close(struct pn_gguf **gp)
{
    struct pn_gguf *g = *gp;
    if (!g)
        return;
    pn_map_str_free(g->keys);
    pn_free(g->kv);
    pn_free(g->tensors);
    pn_arena_free(g->arena);
    free(g);
    *gp = NULL;
}

/* ---------------------------------------------------------------------------- getters */

static struct pn_gguf_kv *find(const struct pn_gguf *g, const char *key)
{
    const int64_t i = pn_map_str_get(g->keys, key, strlen(key));
    return i < 0 ? NULL : &g->kv[i];
}

const struct pn_gguf_kv *pn_gguf_find(const struct pn_gguf *g, const char *key)
{
    return find(g, key);
}

static int fail_type(const struct pn_gguf *g, const struct pn_gguf_kv *kv, const char *wanted,
                     struct puna_error *err)
{
    return pn_fail(err, PUNA_E_FORMAT, "%s: key '%s' is %s%s where %s is needed", g->map->path,
                   kv->key, kv->is_array ? "an array of " : "of type ",
                   pn_gguf_type_name(kv->type), wanted);
}

int pn_gguf_int(const struct pn_gguf *g, const char *key, int64_t min, int64_t max, int64_t *out,
                struct puna_error *err)
{
    const struct pn_gguf_kv *kv = find(g, key);
    if (!kv)
        return 0;
    if (kv->is_array || !is_int_type(kv->type))
        return fail_type(g, kv, "an integer", err);
    int64_t v;
    if (!int_value(kv->type, kv->data, &v) || v < min || v > max)
        return pn_fail(err, PUNA_E_FORMAT,
                       "%s: key '%s' is %" PRIu64 "; %" PRId64 " to %" PRId64 " is possible",
                       g->map->path, key, le(kv->data, kv_types[kv->type].bytes), min, max);
    *out = v;
    return 1;
}

int pn_gguf_float(const struct pn_gguf *g, const char *key, double *out, struct puna_error *err)
{
    const struct pn_gguf_kv *kv = find(g, key);
    if (!kv)
        return 0;
    double d;
    if (!kv->is_array && (kv->type == PN_GGUF_F32 || kv->type == PN_GGUF_F64)) {
        d = float_value(kv->type, kv->data);
    } else if (!kv->is_array && is_int_type(kv->type)) {
        int64_t v;
        d = int_value(kv->type, kv->data, &v) ? (double)v : HUGE_VAL;
    } else {
        return fail_type(g, kv, "a number", err);
    }
    if (!isfinite(d))
        return pn_fail(err, PUNA_E_FORMAT, "%s: key '%s' is not a finite number", g->map->path,
                       key);
    *out = d;
    return 1;
}

int pn_gguf_bool(const struct pn_gguf *g, const char *key, bool *out, struct puna_error *err)
{
    const struct pn_gguf_kv *kv = find(g, key);
    if (!kv)
        return 0;
    if (kv->is_array || kv->type != PN_GGUF_BOOL)
        return fail_type(g, kv, "a bool", err);
    *out = kv->data[0] != 0;
    return 1;
}

int pn_gguf_str(const struct pn_gguf *g, const char *key, struct pn_str *out,
                struct puna_error *err)
{
    const struct pn_gguf_kv *kv = find(g, key);
    if (!kv)
        return 0;
    if (kv->is_array || kv->type != PN_GGUF_STR)
        return fail_type(g, kv, "a string", err);
    *out = (struct pn_str){ .s = (const char *)kv->data, .len = kv->n_bytes };
    return 1;
}

/* Room for the n converted elements of an array, one more so that an empty one has an address. */
static void *array_room(struct pn_gguf *g, const struct pn_gguf_kv *kv, size_t size, int *rc,
                        struct puna_error *err)
{
    if (kv->n > MAX_ARRAY) {
        *rc = pn_fail(err, PUNA_E_FORMAT, "%s: key '%s' has %" PRIu64 " elements, more than any "
                      "model", g->map->path, kv->key, kv->n);
        return NULL;
    }
    void *p = pn_arena_alloc(g->arena, ((size_t)kv->n + 1) * size);
    if (!p)
        *rc = pn_fail_memory(err, ((size_t)kv->n + 1) * size, kv->key);
    return p;
}

int pn_gguf_strs(struct pn_gguf *g, const char *key, const struct pn_str **out, size_t *n,
                 struct puna_error *err)
{
    struct pn_gguf_kv *kv = find(g, key);
    if (!kv)
        return 0;
    if (!kv->is_array || kv->type != PN_GGUF_STR)
        return fail_type(g, kv, "an array of strings", err);
    if (!kv->cache) {
        int rc = 0;
        struct pn_str *v = array_room(g, kv, sizeof *v, &rc, err);
        if (!v)
            return rc;
        struct cursor c = { .p = kv->data, .left = kv->n_bytes };
        for (size_t i = 0; i < kv->n; i++)
            v[i] = take_str(&c);
        if (c.failed)
            return pn_fail(err, PUNA_E_IO, "%s: the file changed while it was read",
                           g->map->path);
        kv->cache = v;
    }
    *out = kv->cache;
    *n = (size_t)kv->n;
    return 1;
}

int pn_gguf_i32s(struct pn_gguf *g, const char *key, const int32_t **out, size_t *n,
                 struct puna_error *err)
{
    struct pn_gguf_kv *kv = find(g, key);
    if (!kv)
        return 0;
    if (!kv->is_array || !is_int_type(kv->type))
        return fail_type(g, kv, "an array of integers", err);
    if (!kv->cache) {
        int rc = 0;
        int32_t *v = array_room(g, kv, sizeof *v, &rc, err);
        if (!v)
            return rc;
        const unsigned bytes = kv_types[kv->type].bytes;
        for (size_t i = 0; i < kv->n; i++) {
            int64_t x;
            if (!int_value(kv->type, kv->data + i * bytes, &x) || x < INT32_MIN || x > INT32_MAX)
                return pn_fail(err, PUNA_E_FORMAT, "%s: element %zu of key '%s' is beyond 32 bits",
                               g->map->path, i, key);
            v[i] = (int32_t)x;
        }
        kv->cache = v;
    }
    *out = kv->cache;
    *n = (size_t)kv->n;
    return 1;
}

int pn_gguf_f32s(struct pn_gguf *g, const char *key, const float **out, size_t *n,
                 struct puna_error *err)
{
    struct pn_gguf_kv *kv = find(g, key);
    if (!kv)
        return 0;
    if (!kv->is_array || (kv->type != PN_GGUF_F32 && kv->type != PN_GGUF_F64))
        return fail_type(g, kv, "an array of floats", err);
    if (!kv->cache) {
        int rc = 0;
        float *v = array_room(g, kv, sizeof *v, &rc, err);
        if (!v)
            return rc;
        const unsigned bytes = kv_types[kv->type].bytes;
        for (size_t i = 0; i < kv->n; i++)
            v[i] = (float)float_value(kv->type, kv->data + i * bytes);
        kv->cache = v;
    }
    *out = kv->cache;
    *n = (size_t)kv->n;
    return 1;
}
