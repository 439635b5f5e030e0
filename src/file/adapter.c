/* SPDX-License-Identifier: Apache-2.0 */
#include "file/adapter.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/err.h"
#include "base/mem.h"
#include "file/json.h"
#include "file/safetensors.h"
#include "file/source_priv.h"

#define MAX_CONFIG ((size_t)1 << 20)
#define MAX_RANK 65536
#define MATCH_LIMIT 100000 /* steps of one regular expression: a config is not trusted */

/* What adapter_config.json says about ranks and scales. */
struct config {
    json_t *root;
    int32_t r;
    float alpha;
    bool rslora;
    const json_t *ranks, *alphas; /* {regular expression: number} or NULL */
};

/* ---------------------------------------------------------------------------- adapter_config.json */

static const struct {
    const char *key, *why;
} refused[] = {
    { "use_dora", "DoRA is not supported; merge the adapter into the model with PEFT" },
    { "lora_bias", "biases are not supported" },
    { "modules_to_save", "whole modules are not supported; merge the adapter into the model with PEFT" },
    { "target_parameters", "adapted parameters are not supported, only linear layers" },
    { "trainable_token_indices", "trained token embeddings are not supported" },
    { "layer_replication", "replicated layers are not supported" },
    { "alora_invocation_tokens", "activated LoRA is not supported" },
    { "use_qalora", "QALoRA is not supported" },
    { "use_bdlora", "block-diagonal LoRA is not supported" },
    { "arrow_config", "Arrow is not supported" },
    { "kasa_config", "KaSA is not supported" },
    { "monteclora_config", "MonteCLoRA is not supported" },
};

/* What Python would call true. */
static bool is_set(const json_t *v)
{
    return v && !json_is_null(v) && !json_is_false(v) && !(json_is_array(v) && !json_array_size(v)) &&
           !(json_is_object(v) && !json_object_size(v)) && !(json_is_integer(v) && !json_integer_value(v));
}

/* Some ways to begin training change the base weights as well: the adapter alone then says only half of it. */
static bool base_unchanged(const json_t *init)
{
    if (!json_is_string(init))
        return true;
    const char *s = json_string_value(init);
    return strcmp(s, "gaussian") == 0 || strcmp(s, "eva") == 0 || strcmp(s, "orthogonal") == 0;
}

static int read_config(struct config *c, const char *text, size_t len, const char *label, struct puna_error *err)
{
    struct pn_json j = { .label = label, .err = err };
    const json_t *o = c->root = pn_json_parse(&j, text, len);
    if (!o)
        return j.rc;
    const char *type = "", *bias = "none";
    (void)pn_json_str(&j, o, "peft_type", &type);
    (void)pn_json_str(&j, o, "bias", &bias);
    if (!j.rc && strcmp(type, "LORA") != 0)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s: 'peft_type' is '%s'; only LORA is supported", label, type);
    if (!j.rc && strcmp(bias, "none") != 0)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s: 'bias' is '%s': trained biases are not supported, only 'none' is",
                       label, bias);
    for (size_t i = 0; !j.rc && i < sizeof refused / sizeof refused[0]; i++) {
        if (is_set(json_object_get(o, refused[i].key)))
            return pn_fail(err, PUNA_E_UNSUPPORTED, "%s: '%s' is set: %s", label, refused[i].key, refused[i].why);
    }
    const json_t *init = json_object_get(o, "init_lora_weights");
    if (!j.rc && !base_unchanged(init))
        return pn_fail(err, PUNA_E_UNSUPPORTED,
                       "%s: 'init_lora_weights' is '%s', which changes the base weights too; convert the adapter with "
                       "PEFT's path_initial_model_for_weight_conversion", label, json_string_value(init));
    c->r = 8;
    c->alpha = 8;
    (void)pn_json_int(&j, o, "r", 1, MAX_RANK, &c->r);
    (void)pn_json_float(&j, o, "lora_alpha", -1e6, 1e6, &c->alpha);
    (void)pn_json_bool(&j, o, "use_rslora", &c->rslora);
    c->ranks = pn_json_object(&j, o, "rank_pattern");
    c->alphas = pn_json_object(&j, o, "alpha_pattern");
    return j.rc;
}

/* Whether the expression `key` matches the module's name or the end of it behind a dot, as PEFT asks. */
static int matches(const char *key, const char *module, const char *label, struct puna_error *err)
{
    struct pn_buf pattern = { 0 };
    if (!pn_buf_printf(&pattern, "(.*\\.)?(%s)$", key))
        return pn_fail_memory(err, strlen(key), "a pattern");
    int code, rc;
    size_t at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern.data, pattern.len, PCRE2_ANCHORED, &code, &at, NULL);
    pcre2_match_data *data = re ? pcre2_match_data_create_from_pattern(re, NULL) : NULL;
    pcre2_match_context *limits = re ? pcre2_match_context_create(NULL) : NULL;
    if (!re) {
        rc = pn_fail(err, PUNA_E_FORMAT, "%s: the pattern '%s' is not a regular expression", label, key);
    } else if (!data || !limits) {
        rc = pn_fail_memory(err, pattern.len, "a pattern");
    } else {
        pcre2_set_match_limit(limits, MATCH_LIMIT);
        pcre2_set_depth_limit(limits, MATCH_LIMIT);
        rc = pcre2_match(re, (PCRE2_SPTR)module, strlen(module), 0, 0, data, limits);
        rc = rc >= 0 ? 1
             : rc == PCRE2_ERROR_NOMATCH
                 ? 0
                 : pn_fail(err, PUNA_E_LIMIT, "%s: the pattern '%s' cannot be matched in reasonable time", label, key);
    }
    pcre2_match_context_free(limits);
    pcre2_match_data_free(data);
    pcre2_code_free(re);
    pn_buf_free(&pattern);
    return rc;
}

/* The number that the first matching pattern gives; *out stays when none does. */
static int from_pattern(const json_t *patterns, const char *module, double min, double max, const char *label,
                        double *out, struct puna_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)patterns, key, value) {
        const int hit = matches(key, module, label, err);
        if (hit < 0)
            return hit;
        if (!hit)
            continue;
        const double x = json_number_value(value);
        if (!json_is_number(value) || !(x >= min && x <= max))
            return pn_fail(err, PUNA_E_FORMAT, "%s: the pattern '%s' must give a number from %g to %g", label, key, min,
                           max);
        *out = x;
        return 0;
    }
    return 0;
}

/* ---------------------------------------------------------------------------- tensors */

/* The tensors of a module. PEFT also saves the frozen weights of an adapted output matrix. */
enum kind { KIND_A, KIND_B, KIND_BASE, KIND_COUNT };

struct part {
    const char *module;     /* canonical */
    const char *own_module; /* as the adapter writes it; patterns are matched against this */
    const struct pn_tensor *t;
    enum kind kind;
};

static int by_module(const void *x, const void *y)
{
    const struct part *a = x, *b = y;
    const int c = strcmp(a->module, b->module);
    return c ? c : (int)a->kind - (int)b->kind;
}

static bool ends_with(const char *s, size_t n, const char *tail)
{
    const size_t k = strlen(tail);
    return n >= k && memcmp(s + n - k, tail, k) == 0;
}

static int read_part(struct pn_adapter *ad, struct part *p, const struct pn_tensor *t, struct puna_error *err)
{
    static const char root[] = "base_model.model.";
    static const char *const tails[KIND_COUNT] = { ".lora_A.weight", ".lora_B.weight", ".base_layer.weight" };
    const char *name = t->file_name;
    if (strncmp(name, root, sizeof root - 1) == 0)
        name += sizeof root - 1;
    const size_t n = strlen(name);
    int kind = 0;
    while (kind < KIND_COUNT && !ends_with(name, n, tails[kind]))
        kind++;
    if (kind == KIND_COUNT)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s: tensor '%s' is not one of a linear layer's two LoRA matrices%s",
                       ad->path, t->file_name,
                       strstr(name, "magnitude_vector")  ? "; DoRA is not supported"
                       : strstr(name, "lora_embedding_") ? "; adapted embeddings are not supported"
                                                         : "");
    if (t->ndim != 2)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s: tensor '%s' is not a matrix: only linear layers are supported",
                       ad->path, t->file_name);
    p->t = t;
    p->kind = (enum kind)kind;
    const size_t len = n - strlen(tails[kind]);
    /* The spelling is that of prefixes that end in a dot. */
    size_t skip;
    const char *prefix = pn_hub_prefix(name, &skip);
    struct pn_buf b = { 0 };
    if (pn_buf_str(&b, prefix) && (skip >= len || pn_buf_append(&b, name + skip, len - skip))) {
        while (b.len && b.data[b.len - 1] == '.')
            b.len--;
        p->module = pn_arena_strndup(ad->arena, b.data, b.len);
        p->own_module = pn_arena_strndup(ad->arena, name, len);
    }
    pn_buf_free(&b);
    return p->module && p->own_module ? 0 : pn_fail_memory(err, n, "a module's name");
}

/* The n tensors of one module, sorted by kind. */
static int make_pair(const struct pn_adapter *ad, struct pn_adapter_pair *pair, const struct part *p, size_t n,
                     const struct config *c, const char *label, struct puna_error *err)
{
    for (size_t i = 1; i < n; i++)
        if (p[i].kind == p[i - 1].kind)
            return pn_fail(err, PUNA_E_FORMAT, "%s: tensor '%s' is there twice, in two spellings", ad->path,
                           p[i].t->file_name);
    if (n < 2 || p[0].kind != KIND_A || p[1].kind != KIND_B)
        return pn_fail(err, PUNA_E_FORMAT, "%s: tensor '%s' has no lora_%s beside it", ad->path, p[0].t->file_name,
                       p[0].kind == KIND_A ? "B" : "A");
    double r = c->r, alpha = (double)c->alpha;
    int rc = from_pattern(c->ranks, p->own_module, 1, MAX_RANK, label, &r, err);
    if (!rc)
        rc = from_pattern(c->alphas, p->own_module, -1e6, 1e6, label, &alpha, err);
    if (rc)
        return rc;
    const int64_t ra = p[0].t->ne[1], rb = p[1].t->ne[0];
    if (ra != (int64_t)r || rb != (int64_t)r) {
        const struct pn_tensor *t = p[ra == (int64_t)r].t;
        return pn_fail(err, PUNA_E_FORMAT,
                       "%s: tensor '%s' has shape [%" PRId64 ", %" PRId64 "], but %s gives it rank %.0f", ad->path,
                       t->file_name, t->ne[1], t->ne[0], label, r);
    }
    *pair = (struct pn_adapter_pair){ p->module, p[0].t, p[1].t, n > 2 ? p[2].t : NULL,
                                      (float)(alpha / (c->rslora ? sqrt(r) : r)) };
    return 0;
}

static int make_pairs(struct pn_adapter *ad, const struct config *c, const char *label, struct puna_error *err)
{
    const size_t n = ad->st->n_tensors;
    if (!n)
        return pn_fail(err, PUNA_E_FORMAT, "%s: the adapter has no tensors", ad->path);
    struct part *p = pn_calloc_array(n, sizeof *p);
    ad->pairs = pn_calloc_array(n, sizeof *ad->pairs);
    int rc = p && ad->pairs ? 0 : pn_fail_memory(err, n * sizeof *p, "the adapter");
    for (size_t i = 0; !rc && i < n; i++)
        rc = read_part(ad, &p[i], &ad->st->tensors[i], err);
    if (!rc)
        qsort(p, n, sizeof *p, by_module);
    for (size_t i = 0, next; !rc && i < n; i = next) {
        for (next = i + 1; next < n && strcmp(p[i].module, p[next].module) == 0;)
            next++;
        rc = make_pair(ad, &ad->pairs[ad->n_pairs], p + i, next - i, c, label, err);
        ad->n_pairs += !rc;
    }
    pn_free(p);
    return rc;
}

const struct pn_adapter_pair *pn_adapter_find(const struct pn_adapter *a, const char *module)
{
    size_t lo = 0, hi = a->n_pairs;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const int c = strcmp(module, a->pairs[mid].module);
        if (c == 0)
            return &a->pairs[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

/* ---------------------------------------------------------------------------- the directory */

static int name_in(struct pn_buf *name, const char *dir, const char *file, struct puna_error *err)
{
    return pn_buf_printf(name, "%s/%s", dir, file) ? 0 : pn_fail_memory(err, strlen(dir), "a path");
}

static int fill(struct pn_adapter *ad, const char *config, size_t len, const struct pn_map *weights,
                struct puna_error *err)
{
    struct pn_buf label = { 0 };
    struct config c = { 0 };
    int rc = name_in(&label, ad->path, "adapter_config.json", err);
    if (!rc)
        rc = read_config(&c, config, len, label.data, err);
    if (!rc)
        rc = pn_safetensors_open(&ad->st, weights, err);
    if (!rc)
        rc = make_pairs(ad, &c, label.data, err);
    json_decref(c.root);
    pn_buf_free(&label);
    return rc;
}

int pn_adapter_read(struct pn_adapter **out, const char *path, const char *config, size_t len,
                    const struct pn_map *weights, struct puna_error *err)
{
    *out = NULL;
    struct pn_adapter *ad = calloc(1, sizeof *ad);
    if (ad) {
        ad->path = strdup(path);
        ad->arena = pn_arena_new();
    }
    const int rc = ad && ad->path && ad->arena ? fill(ad, config, len, weights, err)
                                               : pn_fail_memory(err, sizeof *ad, "an adapter");
    if (rc)
        pn_adapter_close(&ad);
    *out = ad;
    return rc;
}

static int open_files(struct pn_adapter **out, struct pn_source *src, const char *path, struct puna_error *err)
{
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
        return pn_fail(err, PUNA_E_ARG, "%s: not a directory; an adapter is the directory that PEFT saves, with "
                       "adapter_config.json and adapter_model.safetensors", path);
    struct pn_buf name = { 0 };
    char *config = NULL;
    size_t len = 0;
    const struct pn_map *weights = NULL;
    int rc = name_in(&name, path, "adapter_config.json", err);
    if (!rc)
        rc = pn_read_file(&config, &len, name.data, MAX_CONFIG, err);
    if (rc == PUNA_E_NOT_FOUND)
        rc = pn_fail(err, rc, "%s: no such file; an adapter is the directory that PEFT saves", name.data);
    name.len = 0;
    if (!rc)
        rc = name_in(&name, path, "adapter_model.safetensors", err);
    if (!rc) {
        rc = pn_source_add_map(src, &weights, name.data, err);
        if (rc == PUNA_E_NOT_FOUND)
            rc = pn_fail(err, rc, "%s: no such file; save the adapter as safetensors (other files are not read)",
                         name.data);
    }
    if (!rc)
        rc = pn_adapter_read(out, path, config, len, weights, err);
    free(config);
    pn_buf_free(&name);
    return rc;
}

int pn_source_add_adapter(struct pn_source *src, const struct puna_lora *lora, struct puna_error *err)
{
    if (!lora->path || !*lora->path)
        return pn_fail(err, PUNA_E_ARG, "an adapter's directory is missing");
    if (!isfinite(lora->scale))
        return pn_fail(err, PUNA_E_ARG, "%s: the adapter's scale must be finite", lora->path);
    struct pn_adapter **list = realloc(src->adapters, (src->n_adapters + 1) * sizeof(*list));
    if (!list)
        return pn_fail_memory(err, (src->n_adapters + 1) * sizeof(*list), "the list of adapters");
    src->adapters = list;
    struct pn_adapter *ad;
    const int rc = open_files(&ad, src, lora->path, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < ad->n_pairs; i++)
        ad->pairs[i].scale *= lora->scale;
    src->adapters[src->n_adapters++] = ad;
    char note[200];
    (void)snprintf(note, sizeof note, "Adapter %.120s: %zu layers, scale %g.", ad->path, ad->n_pairs,
                   (double)lora->scale);
    pn_source_note(src, note);
    return 0;
}

void pn_adapter_close(struct pn_adapter **a)
{
    struct pn_adapter *ad = *a;
    *a = NULL;
    if (!ad)
        return;
    pn_free(ad->pairs);
    pn_safetensors_close(&ad->st);
    pn_arena_free(ad->arena);
    free(ad->path);
    free(ad);
}
