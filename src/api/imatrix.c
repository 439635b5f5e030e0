/* SPDX-License-Identifier: Apache-2.0 */
/* Importance statistics: sums of squares of what goes into every product, kept in the GGUF form of llama.cpp. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/err.h"
#include "base/outfile.h"
#include "file/gguf_write.h"
#include "session/session.h"

#define SUMS ".in_sum2"
#define COUNTS ".counts"

struct sums {
    const struct pn_weight *w;
    double *sum;  /* [w->k] */
    double count; /* rows */
};

struct puna_imatrix {
    const struct pn_model *m;
    struct pn_observer observer;
    struct sums *of; /* [m->n_weights] by id */
    struct pn_map_str *names;
    struct pn_arena *strings; /* data set names that were read */
};

/* Each thread has columns of its own, so that no sum depends on their number. double: sums of tens of millions of
 * squares would lose the small ones in f32. */
static void see_rows(void *user, const struct pn_weight *w, const float *x, int32_t n, const struct pn_team *t)
{
    const puna_imatrix *im = user;
    struct sums *s = &im->of[w->id];
    const int32_t j0 = (int32_t)((int64_t)w->k * t->tid / t->n), j1 = (int32_t)((int64_t)w->k * (t->tid + 1) / t->n);
    for (int32_t i = 0; i < n; i++, x += w->k)
        for (int32_t j = j0; j < j1; j++)
            s->sum[j] += (double)x[j] * (double)x[j];
    if (t->tid == 0)
        s->count += n;
}

int puna_imatrix_open(puna_imatrix **out, const puna_model *m, struct puna_error *err)
{
    *out = NULL;
    const struct pn_model *model = m->m;
    const size_t n = (size_t)model->n_weights;
    puna_imatrix *im = calloc(1, sizeof *im);
    if (!im)
        return pn_fail_memory(err, sizeof *im, "the importance statistics");
    im->m = model;
    im->observer = (struct pn_observer){see_rows, im};
    im->of = calloc(n, sizeof *im->of);
    im->names = pn_map_str_new(n);
    im->strings = pn_arena_new();
    bool ok = im->of && im->names && im->strings;
    for (const struct pn_weight *w = model->weights; ok && w; w = w->next) {
        /* tables get sums as well: pages that nobody touches cost nothing */
        im->of[w->id] = (struct sums){.w = w, .sum = pn_calloc_array((size_t)w->k, sizeof(double))};
        ok = im->of[w->id].sum && pn_map_str_put(im->names, w->name, strlen(w->name), (uint32_t)w->id) >= 0;
    }
    if (!ok) {
        puna_imatrix_close(&im);
        return pn_fail_memory(err, n * sizeof *im->of, "the importance statistics");
    }
    *out = im;
    return 0;
}

void puna_imatrix_close(puna_imatrix **pim)
{
    puna_imatrix *im = pim ? *pim : NULL;
    if (!im)
        return;
    *pim = NULL;
    for (int32_t i = 0; im->of && i < im->m->n_weights; i++)
        pn_free(im->of[i].sum);
    free(im->of);
    pn_map_str_free(im->names);
    pn_arena_free(im->strings);
    free(im);
}

void puna_session_observe(puna_session *s, puna_imatrix *im)
{
    s->observer = im ? &im->observer : NULL;
}

/* ------------------------------------------------------------------------- writing */

static void put_f32(struct pn_buf *b, double v)
{
    const float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    const uint8_t le[4] = {(uint8_t)bits, (uint8_t)(bits >> 8), (uint8_t)(bits >> 16), (uint8_t)(bits >> 24)};
    pn_buf_append(b, le, sizeof le);
}

static void pad_to(struct pn_buf *b, size_t n)
{
    static const char zeros[PN_GGUF_ALIGN];
    if (n > b->len && n - b->len < sizeof zeros)
        pn_buf_append(b, zeros, n - b->len);
}

static void declare(struct pn_gguf_head *head, const struct pn_weight *w, const char *suffix, int64_t n, size_t *at)
{
    char name[96];
    snprintf(name, sizeof name, "%s%s", w->name, suffix);
    *at = pn_gguf_put_tensor(head, name, PN_F32, 2, (const int64_t[]){n, 1}, (size_t)n * sizeof(float));
}

/* Table of tensors and their values, in the order in which the weights were bound. */
static int tensors(const puna_imatrix *im, struct pn_gguf_head *head, struct pn_buf *data, struct puna_error *err)
{
    for (int32_t i = 0; i < im->m->n_weights; i++) {
        const struct sums *s = &im->of[i];
        if (s->count <= 0)
            continue;
        size_t at;
        declare(head, s->w, SUMS, s->w->k, &at);
        pad_to(data, at);
        for (int32_t j = 0; j < s->w->k; j++) {
            if (!isfinite((float)s->sum[j]))
                return pn_fail(err, PUNA_E_NUMERIC,
                               "the inputs of '%s' are not finite: the weights of %s are damaged", s->w->name,
                               im->m->src->path);
            put_f32(data, s->sum[j]);
        }
        declare(head, s->w, COUNTS, 1, &at);
        pad_to(data, at);
        put_f32(data, s->count);
    }
    pad_to(data, head->data_bytes);
    return 0;
}

static int put_keys(struct pn_gguf_head *head, const struct puna_imatrix_info *info, struct puna_error *err)
{
    struct pn_str *sets = calloc(info->n_datasets + 1, sizeof *sets);
    if (!sets)
        return pn_fail_memory(err, info->n_datasets * sizeof *sets, "the names of the data sets");
    for (size_t i = 0; i < info->n_datasets; i++)
        sets[i] = (struct pn_str){info->datasets[i], strlen(info->datasets[i])};
    pn_gguf_put_str(head, "general.type", "imatrix", strlen("imatrix"));
    pn_gguf_put_strs(head, "imatrix.datasets", sets, info->n_datasets);
    pn_gguf_put_u32(head, "imatrix.chunk_count", info->chunk_count);
    pn_gguf_put_u32(head, "imatrix.chunk_size", info->chunk_size);
    free(sets);
    return 0;
}

int puna_imatrix_write(const puna_imatrix *im, const char *path, const struct puna_imatrix_info *info,
                       struct puna_error *err)
{
    struct pn_gguf_head head = {0};
    struct pn_buf data = {0}, whole = {0};
    int rc = put_keys(&head, info, err);
    if (!rc)
        rc = tensors(im, &head, &data, err);
    if (!rc && !head.n_tensors)
        rc = pn_fail(err, PUNA_E_ARG, "nothing was computed: there are no importance statistics to write");
    if (!rc && (!pn_gguf_head_finish(&head, &whole) || !pn_buf_append(&whole, data.data, data.len) || data.failed))
        rc = pn_fail_memory(err, data.len, "the importance statistics");
    if (!rc)
        rc = pn_outfile_put(path, whole.data, whole.len, err);
    pn_gguf_head_free(&head);
    pn_buf_free(&data);
    pn_buf_free(&whole);
    return rc;
}

/* ------------------------------------------------------------------------- reading */

static bool ends_with(const char *s, const char *end, size_t *stem)
{
    const size_t n = strlen(s), m = strlen(end);
    *stem = n - m;
    return n > m && !strcmp(s + n - m, end);
}

static float read_f32(const uint8_t *p)
{
    const uint32_t bits = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* The sums that tensor t stands for, or NULL when it is none of this model's (*rc) or something else (0). */
static struct sums *find(puna_imatrix *im, const struct pn_tensor *t, const char *suffix, int *rc,
                         struct puna_error *err)
{
    size_t stem;
    *rc = 0;
    if (!ends_with(t->name, suffix, &stem))
        return NULL;
    const int64_t id = pn_map_str_get(im->names, t->name, stem);
    if (id < 0)
        *rc = pn_fail(err, PUNA_E_FORMAT, "%s: '%.*s' is no matrix of %s: the statistics are another model's",
                      t->map->path, (int)stem, t->name, im->m->src->path);
    return id < 0 ? NULL : &im->of[id];
}

/* Check every pair of tensors (apply false), or add them. */
static int walk(puna_imatrix *im, const struct pn_gguf *g, bool apply, struct puna_error *err)
{
    for (size_t i = 0; i < g->n_tensors; i++) {
        const struct pn_tensor *t = &g->tensors[i];
        int rc;
        struct sums *s = find(im, t, SUMS, &rc, err);
        if (rc)
            return rc;
        if (!s)
            continue;
        const struct pn_tensor *c = NULL;
        for (size_t j = 0; !c && j < g->n_tensors; j++) {
            const struct sums *of = find(im, &g->tensors[j], COUNTS, &rc, err);
            if (rc)
                return rc;
            c = of == s ? &g->tensors[j] : NULL;
        }
        if (!c || t->type != PN_F32 || c->type != PN_F32 || t->n_bytes != (size_t)s->w->k * sizeof(float) ||
            c->n_bytes != sizeof(float))
            return pn_fail(err, PUNA_E_FORMAT,
                           "%s: the statistics of '%s' are not one F32 row of %" PRId32 " sums with a count: they are "
                           "another model's",
                           g->map->path, s->w->name, s->w->k);
        const float count = read_f32(c->data);
        bool ok = isfinite(count) && count >= 0;
        for (int32_t j = 0; ok && j < s->w->k; j++) {
            const float v = read_f32(t->data + 4 * (size_t)j);
            ok = isfinite(v) && v >= 0;
            if (apply && ok)
                s->sum[j] += (double)v;
        }
        if (!ok)
            return pn_fail(err, PUNA_E_FORMAT, "%s: the statistics of '%s' hold a negative or infinite value",
                           g->map->path, s->w->name);
        if (apply)
            s->count += (double)count;
    }
    return 0;
}

/* The keys, copied: the file is closed afterwards. */
static int read_info(puna_imatrix *im, struct pn_gguf *g, struct puna_imatrix_info *info, struct puna_error *err)
{
    struct pn_str type = {0};
    const struct pn_str *sets = NULL;
    size_t n = 0;
    int64_t chunks = 0, size = 0;
    int rc = pn_gguf_str(g, "general.type", &type, err);
    if (rc < 0)
        return rc;
    if (type.len != strlen("imatrix") || memcmp(type.s, "imatrix", type.len))
        return pn_fail(err, PUNA_E_FORMAT, "%s holds no importance statistics", g->map->path);
    if ((rc = pn_gguf_strs(g, "imatrix.datasets", &sets, &n, err)) < 0 ||
        (rc = pn_gguf_int(g, "imatrix.chunk_count", 0, UINT32_MAX, &chunks, err)) < 0 ||
        (rc = pn_gguf_int(g, "imatrix.chunk_size", 0, UINT32_MAX, &size, err)) < 0)
        return rc;
    const char **names = pn_arena_alloc(im->strings, (n + 1) * sizeof *names);
    bool ok = names != NULL;
    for (size_t i = 0; ok && i < n; i++)
        ok = (names[i] = pn_arena_strndup(im->strings, sets[i].s, sets[i].len)) != NULL;
    if (!ok)
        return pn_fail_memory(err, (n + 1) * sizeof *names, "the names of the data sets");
    const struct puna_imatrix_info got = {.size = sizeof got,
                                          .datasets = names,
                                          .n_datasets = n,
                                          .chunk_count = (uint32_t)chunks,
                                          .chunk_size = (uint32_t)size};
    if (info)
        PN_GIVE(info, info->size, got);
    return 0;
}

int puna_imatrix_add(puna_imatrix *im, const char *path, struct puna_imatrix_info *info, struct puna_error *err)
{
    struct pn_map *map = NULL;
    struct pn_gguf *g = NULL;
    int rc = pn_map_open(&map, path, err);
    if (!rc)
        rc = pn_gguf_open(&g, map, err);
    if (!rc)
        rc = read_info(im, g, info, err);
    if (!rc)
        rc = walk(im, g, false, err);
    if (!rc)
        rc = walk(im, g, true, err);
    size_t offset;
    if (map && pn_map_lost(map, &offset))
        rc = pn_fail(err, PUNA_E_IO, "%s: the file shrank while it was read", path);
    pn_gguf_close(&g);
    pn_map_close(&map);
    return rc;
}
