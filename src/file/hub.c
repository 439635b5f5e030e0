/* SPDX-License-Identifier: Apache-2.0 */
/* A Hugging Face directory: config files, safetensors shards, and one spelling of tensor names. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/mem.h"
#include "file/hparams.h"
#include "file/hub_json.h"
#include "file/safetensors.h"
#include "file/source_priv.h"

#define MAX_CONFIG ((size_t)1 << 20)
#define MAX_INDEX ((size_t)64 << 20)

static char *join(const char *dir, const char *file)
{
    struct pn_buf b = { 0 };
    if (pn_buf_printf(&b, "%s/%s", dir, file))
        return b.data;
    pn_buf_free(&b);
    return NULL;
}

/* Broken links do not count; what cannot be looked at does, so that opening it says why. */
static bool exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

typedef int (*json_reader)(struct pn_hparams *, const char *, size_t, const char *,
                           struct puna_error *);

/* 1 read, 0 no such file, negative error. */
static int read_json(struct pn_source *src, const char *file, size_t max, json_reader read,
                     struct puna_error *err)
{
    char *path = join(src->path, file);
    if (!path)
        return pn_fail_memory(err, strlen(src->path) + strlen(file), "a path");
    char *data = NULL;
    size_t len;
    int rc = 0;
    if (exists(path)) {
        rc = pn_read_file(&data, &len, path, max, err);
        if (rc == 0)
            rc = read(&src->hp, data, len, path, err);
        rc = rc == 0 ? 1 : rc;
    }
    free(data);
    free(path);
    return rc;
}

static int read_configs(struct pn_source *src, struct puna_error *err)
{
    int rc = read_json(src, "config.json", MAX_CONFIG, pn_hub_config, err);
    if (rc == 0)
        return pn_fail(err, PUNA_E_NOT_FOUND, "%s: the directory has no config.json; a Hugging "
                       "Face model directory or a .gguf file is needed", src->path);
    if (rc > 0)
        rc = read_json(src, "generation_config.json", MAX_CONFIG, pn_hub_generation, err);
    if (rc >= 0 && src->hp.vision) {
        rc = read_json(src, "preprocessor_config.json", MAX_CONFIG, pn_hub_preprocessor, err);
        if (rc == 0)
            rc = read_json(src, "processor_config.json", MAX_CONFIG, pn_hub_preprocessor, err);
    }
    if (rc >= 0)
        rc = read_json(src, "tokenizer_config.json", MAX_INDEX, pn_hub_tokens, err);
    return rc < 0 ? rc : 0;
}

static int find_tokenizer(struct pn_source *src, struct puna_error *err)
{
    src->tokenizer_json = join(src->path, "tokenizer.json");
    if (!src->tokenizer_json)
        return pn_fail_memory(err, strlen(src->path), "a path");
    if (!exists(src->tokenizer_json))
        return pn_fail(err, PUNA_E_NOT_FOUND, "%s: no such file; it holds the vocabulary, copy it "
                       "from the model's repository", src->tokenizer_json);
    return 0;
}

/* ---------------------------------------------------------------------------- weights */

/* Newer classes nest the halves the other way round, text-only models have no outer part at all.
 * First match wins. */
static const struct {
    const char *from, *to;
} spellings[] = {
    { "model.language_model.", "language_model.model." },
    { "model.vision_model.", "vision_model." },
    { "model.multi_modal_projector.", "multi_modal_projector." },
    { "model.", "language_model.model." },
    { "lm_head.", "language_model.lm_head." },
};

const char *pn_hub_prefix(const char *name, size_t *skip)
{
    for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++) {
        *skip = strlen(spellings[i].from);
        if (strncmp(spellings[i].from, name, *skip) == 0)
            return spellings[i].to;
    }
    *skip = 0;
    return "";
}

static int canonical_name(struct pn_source *src, struct pn_tensor *t, struct puna_error *err)
{
    struct pn_source_own *own = src->own;
    size_t skip;
    const char *prefix = pn_hub_prefix(t->file_name, &skip);
    const size_t to = strlen(prefix), rest = strlen(t->file_name + skip);
    if (!skip)
        return 0; /* t->name is t->file_name already */
    char *name = pn_arena_alloc(own->arena, to + rest + 1);
    if (!name)
        return pn_fail_memory(err, to + rest + 1, "a tensor's name");
    memcpy(name, prefix, to);
    memcpy(name + to, t->file_name + skip, rest + 1);
    t->name = name;
    return 0;
}

static int open_shard(struct pn_source *src, const char *file, struct puna_error *err)
{
    struct pn_source_own *own = src->own;
    char *path = join(src->path, file);
    if (!path)
        return pn_fail_memory(err, strlen(src->path) + strlen(file), "a path");
    const struct pn_map *map;
    int rc = pn_source_add_map(src, &map, path, err);
    free(path);
    if (rc != 0)
        return rc;
    struct pn_safetensors **st = realloc(own->st, (own->n_st + 1) * sizeof(*st));
    if (!st)
        return pn_fail_memory(err, (own->n_st + 1) * sizeof(*st), "the list of shards");
    own->st = st;
    rc = pn_safetensors_open(&own->st[own->n_st], map, err);
    if (rc == 0)
        own->n_st++;
    return rc;
}

/* Each tensor of shard i must be listed, in this shard; each listed one must have been found. */
static int match_index(const struct pn_source *src, const struct pn_hub_index *x,
                       const char *label, struct puna_error *err)
{
    const struct pn_source_own *own = src->own;
    bool *found = calloc(x->n_entries, sizeof *found);
    if (!found)
        return pn_fail_memory(err, x->n_entries, "the index");
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < own->n_st; i++) {
        const struct pn_safetensors *st = own->st[i];
        for (size_t k = 0; rc == 0 && k < st->n_tensors; k++) {
            const char *name = st->tensors[k].file_name;
            const int64_t e = pn_map_str_get(x->by_name, name, strlen(name));
            if (e < 0 || x->entries[e].shard != i)
                rc = pn_fail(err, PUNA_E_FORMAT, "%s: holds tensor '%s', which %s %s",
                             st->map->path, name, label,
                             e < 0 ? "does not list" : "places in another shard");
            else
                found[e] = true;
        }
    }
    for (size_t e = 0; rc == 0 && e < x->n_entries; e++) {
        if (!found[e])
            rc = pn_fail(err, PUNA_E_FORMAT, "%s: tensor '%s' is listed in shard %s, which does "
                         "not hold it", label, x->entries[e].tensor,
                         x->shards[x->entries[e].shard]);
    }
    free(found);
    return rc;
}

static int open_sharded(struct pn_source *src, struct puna_error *err)
{
    static const char file[] = "model.safetensors.index.json";
    char *path = join(src->path, file), *data = NULL;
    if (!path)
        return pn_fail_memory(err, strlen(src->path) + sizeof file, "a path");
    struct pn_hub_index *x = NULL;
    size_t len;
    int rc = pn_read_file(&data, &len, path, MAX_INDEX, err);
    if (rc == PUNA_E_NOT_FOUND)
        rc = pn_fail(err, PUNA_E_NOT_FOUND, "%s: the directory has neither model.safetensors nor "
                     "%s; fetch them (other weight files are not read)", src->path, file);
    if (rc == 0)
        rc = pn_hub_index(&x, data, len, path, err);
    for (size_t i = 0; rc == 0 && i < x->n_shards; i++) {
        rc = open_shard(src, x->shards[i], err);
        if (rc == PUNA_E_NOT_FOUND)
            rc = pn_fail(err, rc, "%s/%s: no such file, but %s names it; fetch the missing shard",
                         src->path, x->shards[i], file);
    }
    if (rc == 0)
        rc = match_index(src, x, path, err);
    pn_hub_index_free(&x);
    free(data);
    free(path);
    return rc;
}

/* One file goes before shards, as in the loader that most of these directories were made for. */
static int open_weights(struct pn_source *src, struct puna_error *err)
{
    static const char single[] = "model.safetensors";
    char *path = join(src->path, single);
    if (!path)
        return pn_fail_memory(err, strlen(src->path) + sizeof single, "a path");
    const bool one = exists(path);
    free(path);
    return one ? open_shard(src, single, err) : open_sharded(src, err);
}

static int collect_tensors(struct pn_source *src, struct puna_error *err)
{
    const struct pn_source_own *own = src->own;
    size_t n = 0;
    for (size_t i = 0; i < own->n_st; i++)
        n += own->st[i]->n_tensors;
    src->tensors = pn_calloc_array(n, sizeof *src->tensors);
    if (!src->tensors)
        return pn_fail_memory(err, n * sizeof *src->tensors, "the tensor table");
    for (size_t i = 0; i < own->n_st; i++) {
        for (size_t k = 0; k < own->st[i]->n_tensors; k++) {
            struct pn_tensor *t = &src->tensors[src->n_tensors++];
            *t = own->st[i]->tensors[k];
            const int rc = canonical_name(src, t, err);
            if (rc != 0)
                return rc;
        }
    }
    return pn_source_index(src, err);
}

int pn_source_open_hub(struct pn_source *src, struct puna_error *err)
{
    static const char embed_name[] = "language_model.model.embed_tokens.weight";
    src->kind = PN_SRC_HUB;
    src->quirks.hub_names = true;
    pn_hparams_init(&src->hp);
    int rc = read_configs(src, err);
    if (rc == 0)
        rc = find_tokenizer(src, err);
    if (rc == 0)
        rc = open_weights(src, err);
    if (rc == 0)
        rc = collect_tensors(src, err);
    if (rc != 0)
        return rc;
    const struct pn_tensor *embed = pn_source_find(src, embed_name);
    if (!embed || embed->ndim != 2 || embed->ne[1] > PN_MAX_VOCAB)
        return pn_fail(err, PUNA_E_FORMAT, "%s: the embedding matrix '%s' is %s", src->path,
                       embed_name, embed ? "not a matrix of a sane size" : "missing");
    src->hp.n_embd_rows = (int32_t)embed->ne[1];
    return pn_hparams_check(&src->hp, src->path, err);
}
