/* SPDX-License-Identifier: Apache-2.0 */
#include "file/imatrix.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/map.h"
#include "base/mem.h"
#include "file/gguf.h"

struct entry {
    const char *name;
    const float *weights;
    int64_t n;
};

struct pn_imatrix {
    struct entry *e;
    size_t n, cap;
    struct pn_map_str *by_name;
    struct pn_arena *arena;
    const char *path;
    struct puna_error *err; /* while it is read */
};

static float le_float(const uint8_t *p)
{
    const uint32_t bits = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* Entry of n values at data (f32, little-endian), each divided by count. */
static int add(struct pn_imatrix *m, const char *name, size_t name_len, const uint8_t *data, int64_t n, float count)
{
    if (m->n == m->cap) {
        const size_t cap = m->cap ? 2 * m->cap : 512;
        struct entry *e = realloc(m->e, cap * sizeof *e);
        if (!e)
            return pn_fail_memory(m->err, cap * sizeof *e, "the importance matrix");
        m->e = e;
        m->cap = cap;
    }
    float *w = pn_arena_alloc(m->arena, (size_t)n * sizeof *w);
    char *key = pn_arena_strndup(m->arena, name, name_len);
    if (!w || !key)
        return pn_fail_memory(m->err, (size_t)n * sizeof *w, "the importance matrix");
    for (int64_t i = 0; i < n; i++) {
        w[i] = le_float(data + 4 * i) / count;
        if (!(w[i] >= 0) || !isfinite(w[i]))
            return pn_fail(m->err, PUNA_E_FORMAT, "%s: the importance of column %" PRId64 " of '%s' is %g", m->path, i,
                           key, (double)w[i]);
    }
    const int fresh = pn_map_str_put(m->by_name, key, name_len, (uint32_t)m->n);
    if (fresh < 0)
        return pn_fail_memory(m->err, 0, "the importance matrix");
    if (fresh == 0)
        return pn_fail(m->err, PUNA_E_FORMAT, "%s: '%s' is there twice", m->path, key);
    m->e[m->n++] = (struct entry){ key, w, n };
    return 0;
}

/* ---------------------------------------------------------------------------- GGUF */

static const char sums[] = ".in_sum2", counts[] = ".counts";

/* Length of the name without the ending; 0: it has another. */
static size_t stem_of(const char *name, const char *ending)
{
    const size_t len = strlen(name), tail = strlen(ending);
    return len > tail && strcmp(name + len - tail, ending) == 0 ? len - tail : 0;
}

static int read_gguf(struct pn_imatrix *m, const struct pn_map *map)
{
    struct pn_gguf *g;
    int rc = pn_gguf_open(&g, map, m->err);
    if (rc)
        return rc;
    struct pn_map_str *counted = pn_map_str_new(g->n_tensors);
    if (!counted)
        rc = pn_fail_memory(m->err, g->n_tensors, "the importance matrix");
    for (size_t i = 0; rc == 0 && i < g->n_tensors; i++) {
        const size_t stem = stem_of(g->tensors[i].name, counts);
        if (stem && pn_map_str_put(counted, g->tensors[i].name, stem, (uint32_t)i) < 0)
            rc = pn_fail_memory(m->err, g->n_tensors, "the importance matrix");
    }
    for (size_t i = 0; rc == 0 && i < g->n_tensors; i++) {
        const struct pn_tensor *t = &g->tensors[i];
        const size_t stem = stem_of(t->name, sums);
        if (!stem)
            continue;
        const int64_t at = pn_map_str_get(counted, t->name, stem);
        const struct pn_tensor *c = at >= 0 ? &g->tensors[at] : NULL;
        if (!c || t->type != PN_F32 || c->type != PN_F32 || t->ne[1] * t->ne[2] * t->ne[3] != 1 || c->n_bytes != 4)
            rc = pn_fail(m->err, PUNA_E_FORMAT, "%s: '%s' is not one row of F32 with a count beside it", map->path,
                         t->name);
        else if (le_float(c->data) > 0)
            rc = add(m, t->name, stem, t->data, t->ne[0], le_float(c->data));
    }
    pn_map_str_free(counted);
    pn_gguf_close(&g);
    return rc;
}

/* ---------------------------------------------------------------------------- .dat */

struct cursor {
    const uint8_t *p;
    size_t left;
    bool failed;
};

static const uint8_t *take(struct cursor *c, size_t n)
{
    const uint8_t *p = c->p;
    if (c->failed || n > c->left) {
        c->failed = true;
        return NULL;
    }
    c->p += n;
    c->left -= n;
    return p;
}

static int64_t take_i32(struct cursor *c)
{
    const uint8_t *p = take(c, 4);
    return p ? (int32_t)(p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24) : -1;
}

/* Count of entries; each: length and bytes of the name, calls, count of values, the values summed over the calls.
 * What may follow (chunks, the data set's name) does not matter here. */
static int read_dat(struct pn_imatrix *m, const struct pn_map *map)
{
    struct cursor c = {map->data, map->size, false};
    const int64_t n = take_i32(&c);
    int rc = 0;
    bool sane = n > 0 && !c.failed;
    for (int64_t i = 0; rc == 0 && sane && i < n; i++) {
        const int64_t len = take_i32(&c);
        const uint8_t *name = len > 0 && len < 1024 ? take(&c, (size_t)len) : NULL;
        const int64_t calls = take_i32(&c), values = take_i32(&c);
        const uint8_t *data = name && values > 0 ? take(&c, (size_t)values * 4) : NULL;
        sane = data && !c.failed && memchr(name, 0, (size_t)len) == NULL;
        if (sane && calls > 0)
            rc = add(m, (const char *)name, (size_t)len, data, values, (float)calls);
    }
    return rc || sane ? rc
                      : pn_fail(m->err, PUNA_E_FORMAT, "%s: neither a GGUF nor a .dat importance matrix, or damaged",
                                map->path);
}

/* ---------------------------------------------------------------------------- */

int pn_imatrix_read(struct pn_imatrix **out, const struct pn_map *map, struct puna_error *err)
{
    *out = NULL;
    int rc;
    struct pn_imatrix *m = calloc(1, sizeof *m);
    if (m) {
        m->arena = pn_arena_new();
        m->by_name = pn_map_str_new(512);
        m->path = map->path;
        m->err = err;
    }
    if (!m || !m->arena || !m->by_name)
        rc = pn_fail_memory(err, sizeof *m, "the importance matrix");
    else
        rc = map->size >= 4 && memcmp(map->data, "GGUF", 4) == 0 ? read_gguf(m, map) : read_dat(m, map);
    if (rc == 0 && m->n == 0)
        rc = pn_fail(err, PUNA_E_FORMAT, "%s: holds no importance of any tensor", map->path);
    if (rc) {
        pn_imatrix_close(&m);
        return rc;
    }
    m->path = NULL;
    m->err = NULL;
    *out = m;
    return 0;
}

int pn_imatrix_open(struct pn_imatrix **out, const char *path, struct puna_error *err)
{
    *out = NULL;
    struct pn_map *map;
    int rc = pn_map_open(&map, path, err);
    if (rc)
        return rc;
    rc = pn_imatrix_read(out, map, err);
    size_t offset;
    if (pn_map_lost(map, &offset)) {
        pn_imatrix_close(out);
        rc = pn_fail(err, PUNA_E_IO, "%s: the file shrank while it was read", path);
    }
    pn_map_close(&map);
    return rc;
}

void pn_imatrix_close(struct pn_imatrix **pm)
{
    struct pn_imatrix *m = *pm;
    *pm = NULL;
    if (!m)
        return;
    pn_map_str_free(m->by_name);
    pn_arena_free(m->arena);
    free(m->e);
    free(m);
}

size_t pn_imatrix_count(const struct pn_imatrix *m)
{
    return m->n;
}

const char *pn_imatrix_name(const struct pn_imatrix *m, size_t i)
{
    return m->e[i].name;
}

const float *pn_imatrix_find(const struct pn_imatrix *m, const char *name, int64_t *n)
{
    const int64_t i = pn_map_str_get(m->by_name, name, strlen(name));
    if (i < 0)
        return NULL;
    *n = m->e[i].n;
    return m->e[i].weights;
}
