/* SPDX-License-Identifier: Apache-2.0 */
#include "file/source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/mem.h"
#include "file/adapter.h"
#include "file/gguf.h"
#include "file/safetensors.h"
#include "file/source_priv.h"

int pn_source_add_map(struct pn_source *src, const struct pn_map **out, const char *path,
                      struct puna_error *err)
{
    *out = NULL;
    struct pn_map **maps = realloc(src->maps, (src->n_maps + 1) * sizeof(struct pn_map *));
    if (!maps)
        return pn_fail_memory(err, (src->n_maps + 1) * sizeof(struct pn_map *), "the file list");
    src->maps = maps;
    struct pn_map *m;
    const int rc = pn_map_open(&m, path, err);
    if (rc != 0)
        return rc;
    src->maps[src->n_maps++] = m;
    *out = m;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct pn_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

int pn_source_index(struct pn_source *src, struct puna_error *err)
{
    qsort(src->tensors, src->n_tensors, sizeof *src->tensors, by_name);
    for (size_t i = 1; i < src->n_tensors; i++) {
        const struct pn_tensor *a = &src->tensors[i - 1], *b = &src->tensors[i];
        if (strcmp(a->name, b->name) == 0)
            return pn_fail(err, PUNA_E_FORMAT, "%s: tensor '%s' is there twice: as '%s' in %s and "
                           "as '%s' in %s", src->path, a->name, a->file_name, a->map->path,
                           b->file_name, b->map->path);
    }
    return 0;
}

void pn_source_note(struct pn_source *src, const char *sentence)
{
    const size_t n = strlen(src->note);
    (void)snprintf(src->note + n, sizeof src->note - n, "%s%s", n ? " " : "", sentence);
}

const struct pn_tensor *pn_source_find(const struct pn_source *src, const char *name)
{
    const struct pn_tensor key = { .name = name };
    return src->n_tensors
               ? bsearch(&key, src->tensors, src->n_tensors, sizeof *src->tensors, by_name)
               : NULL;
}

/* The tensor of this map that the lost byte hits, or the first one after it. */
static const struct pn_tensor *hit(const struct pn_source *src, const struct pn_map *map,
                                   size_t offset)
{
    const struct pn_tensor *best = NULL;
    for (size_t i = 0; i < src->n_tensors; i++) {
        const struct pn_tensor *t = &src->tensors[i];
        if (t->map == map && t->data + t->n_bytes > map->data + offset &&
            (!best || t->data < best->data))
            best = t;
    }
    return best;
}

int pn_source_check_lost(const struct pn_source *src, struct puna_error *err)
{
    for (size_t i = 0; i < src->n_maps; i++) {
        const struct pn_map *m = src->maps[i];
        size_t offset;
        if (!pn_map_lost(m, &offset))
            continue;
        const struct pn_tensor *t = hit(src, m, offset);
        return pn_fail(err, PUNA_E_IO,
                       "%s: the file shrank or became unreadable while in use, from byte %zu on"
                       "%s%s%s; nothing computed since is right: restore the file and open it again",
                       m->path, offset, t ? " (tensor '" : "", t ? t->file_name : "",
                       t ? "')" : "");
    }
    return 0;
}

static bool ends_with(const char *s, const char *tail)
{
    const size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

/* src->path exists and is not a directory. */
static int open_file(struct pn_source *src, const struct pn_source_opts *opts,
                     struct puna_error *err)
{
    if (ends_with(src->path, ".safetensors") || ends_with(src->path, ".json"))
        return pn_fail(err, PUNA_E_ARG, "%s: a part of a Hugging Face model; pass the directory it "
                       "is in", src->path);
    return pn_source_open_gguf(src, opts->projector, NULL, opts, err);
}

static int open_stored(struct pn_source *src, const struct pn_source_opts *opts,
                       struct puna_error *err)
{
    struct pn_store_model *m;
    int rc = pn_store_find(&m, src->name, err);
    if (rc != 0)
        return rc;
    free(src->path);
    src->path = strdup(m->model);
    rc = src->path ? pn_source_open_gguf(src, opts->projector ? opts->projector : m->projector, m,
                                         opts, err)
                   : pn_fail_memory(err, strlen(m->model), "a path");
    pn_store_free(&m);
    return rc;
}

static int open_any(struct pn_source *src, const struct pn_source_opts *opts,
                    struct puna_error *err)
{
    struct stat st;
    int rc;
    if (stat(src->path, &st) != 0) {
        /* A name is looked up only when no such path exists; ELOOP, EACCES and so on are errors of
         * the path, which pn_map_open words. */
        rc = errno == ENOENT || errno == ENOTDIR ? open_stored(src, opts, err)
                                                 : open_file(src, opts, err);
    } else if (S_ISDIR(st.st_mode)) {
        rc = opts->projector ? pn_fail(err, PUNA_E_ARG, "%s: a Hugging Face directory takes no "
                                       "projector file", src->path)
                             : pn_source_open_hub(src, err);
    } else {
        rc = open_file(src, opts, err);
    }
    /* Shrunk while it was read: what was read may be zeros. */
    const int lost = pn_source_check_lost(src, rc == 0 ? err : NULL);
    return rc == 0 ? lost : rc;
}

int pn_source_open(struct pn_source **out, const char *name, const struct pn_source_opts *opts,
                   struct puna_error *err)
{
    static const struct pn_source_opts defaults = { .projector = NULL, .cross_permuted = -1 };
    *out = NULL;
    if (!name || !*name)
        return pn_fail(err, PUNA_E_ARG, "no model given; a directory, a .gguf file or an Ollama "
                       "name is needed");
    struct pn_source *src = calloc(1, sizeof *src);
    struct pn_source_own *own = calloc(1, sizeof *own);
    if (own)
        own->arena = pn_arena_new();
    if (src) {
        src->name = strdup(name);
        src->path = strdup(name);
        src->own = own;
    }
    int rc;
    if (!src || !own || !own->arena || !src->name || !src->path) {
        if (!src && own) {
            pn_arena_free(own->arena);
            free(own);
        }
        rc = pn_fail_memory(err, sizeof *src, "a model source");
    } else {
        rc = open_any(src, opts ? opts : &defaults, err);
    }
    for (size_t i = 0; rc == 0 && opts && i < opts->n_loras; i++)
        rc = pn_source_add_adapter(src, &opts->loras[i], err);
    if (rc != 0)
        pn_source_close(&src);
    *out = src;
    return rc;
}

void pn_source_close(struct pn_source **sp)
{
    struct pn_source *src = *sp;
    if (!src)
        return;
    struct pn_source_own *own = src->own;
    if (own) {
        for (size_t i = 0; i < own->n_st; i++)
            pn_safetensors_close(&own->st[i]);
        free(own->st);
        pn_arena_free(own->arena);
        free(own);
    }
    for (size_t i = 0; i < src->n_adapters; i++)
        pn_adapter_close(&src->adapters[i]);
    free(src->adapters);
    pn_gguf_close(&src->gguf);
    pn_gguf_close(&src->projector);
    for (size_t i = 0; i < src->n_maps; i++)
        pn_map_close(&src->maps[i]);
    free(src->maps);
    pn_free(src->tensors);
    free(src->tokenizer_json);
    free(src->name);
    free(src->path);
    free(src);
    *sp = NULL;
}
