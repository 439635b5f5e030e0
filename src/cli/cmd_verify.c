/* SPDX-License-Identifier: Apache-2.0 */
/* puna verify: compare this machine's numbers with a folder of reference numbers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/map.h"
#include "base/mem.h"
#include "cli/common.h"
#include "cli/prompt.h"
#include "cli/st_read.h"

struct verify_settings {
    struct model_settings model;
    struct session_settings session;
    struct opt_list args;
    double tolerance; /* NaN: by mode */
    bool fast;
};

static const struct verify_settings defaults = { .tolerance = NAN };

#define T struct verify_settings
static const struct opt_spec options[] = {
    OPT_HEADING("Options"),
    OPT_ROW(T, model.name, OPT_STRING, "model", 'm', "MODEL",
            "Check this file instead, another form of the same model.", .dflt = "DIR/model"),
    OPTS_PROJECTOR(T),
    OPT_ROW(T, tolerance, OPT_REAL, "tolerance", 0, "X",
            "Largest difference of a logit that is accepted.", .dflt = "0.002; with --fast 0.5",
            .min = 0, .max = 1e6),
    OPTS_PRECISE(T),
    OPT_FLAG_ROW(T, fast, "fast", 0, "The normal path instead of --precise, which is the default here."),
    OPT_FLAG_ROW(T, session.hf_rows, "hf-rows", 0,
                 "Also compute rows before a picture as Hugging Face does, and compare them with "
                 "`logits_hf_rows`."),
    OPT_FLAG_ROW(T, session.full_tiles, "full-tiles", 0, "Compute every empty tile by itself."),
    OPT_ROW(T, session.chunk, OPT_INT, "chunk", 0, "N", "Tokens computed together.", .dflt = "256",
            .min = 1, .max = 65536),
    OPT_ROW(T, session.kv_type, OPT_CHOICE, "kv-type", 0, "TYPE",
            "With --fast: f16, f32, bf16 or q8_0.", .choices = kv_type_names),
    OPTS_MACHINE(T),
};
#undef T

/* ------------------------------------------------------------------------------------- the folder */

struct folder {
    const char *dir;
    json_t *json; /* cases.json */
    struct st_file *golden;
};

struct limits {
    double logit, feature; /* features: relative to the largest of the reference */
};

static int folder_open(struct folder *f, const char *dir, struct puna_error *err)
{
    enum { MAX_CASES_BYTES = 64 << 20 };
    *f = (struct folder){ .dir = dir };
    struct pn_buf path = { 0 };
    char *text = NULL;
    size_t len;
    json_error_t at;
    int rc = pn_buf_printf(&path, "%s/cases.json", dir) ? 0 : pn_fail_memory(err, 256, "a file name");
    if (rc == 0)
        rc = pn_read_file(&text, &len, path.data, MAX_CASES_BYTES, err);
    if (rc == 0 && (f->json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &at)) == NULL)
        rc = pn_fail(err, PUNA_E_FORMAT, "%s: line %d: %s", path.data, at.line, at.text);
    if (rc == 0 && !json_is_array(json_object_get(f->json, "cases")))
        rc = pn_fail(err, PUNA_E_FORMAT, "%s: has no list \"cases\"", path.data);
    free(text);
    path.len = 0;
    if (rc == 0)
        rc = pn_buf_printf(&path, "%s/golden.safetensors", dir)
                 ? st_open(&f->golden, path.data, err)
                 : pn_fail_memory(err, 256, "a file name");
    pn_buf_free(&path);
    return rc;
}

static void folder_close(struct folder *f)
{
    json_decref(f->json);
    st_close(&f->golden);
}

/* Tensor CASE/WHAT with the given shape, F32. *out is NULL when the file has no such tensor. */
static int golden(const struct st_view **out, const struct folder *f, const char *name,
                  const char *what, const int64_t *shape, int ndim, struct puna_error *err)
{
    char key[256];
    snprintf(key, sizeof(key), "%s/%s", name, what);
    const struct st_view *v = *out = st_find(f->golden, key);
    if (v == NULL)
        return 0;
    bool same = v->ndim == ndim && strcmp(v->dtype, "F32") == 0;
    for (int k = 0; same && k < ndim; k++)
        same = v->shape[k] == shape[k];
    return same ? 0
                : pn_fail(err, PUNA_E_FORMAT,
                          "golden.safetensors: '%s' has another shape than this model gives", key);
}

/* Integers of a JSON list; *n: how many. NULL with n 0 when the list is absent or not of numbers. */
static int32_t *int_list(const json_t *list, size_t *n)
{
    *n = 0;
    int32_t *v = json_is_array(list) ? calloc(json_array_size(list) + 1, sizeof(*v)) : NULL;
    for (size_t i = 0; v != NULL && i < json_array_size(list); i++) {
        const json_t *x = json_array_get(list, i);
        if (!json_is_integer(x) || json_integer_value(x) < 0 || json_integer_value(x) > INT32_MAX) {
            free(v);
            *n = 0;
            return NULL;
        }
        v[(*n)++] = (int32_t)json_integer_value(x);
    }
    return v;
}

/* DIR/images/NAME with the ending it has there. */
static int load_picture(struct pictures *out, struct pn_buf *path, const char *dir, const char *name,
                        struct puna_error *err)
{
    static const char *const endings[] = { ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", "" };
    if (strchr(name, '/') != NULL)
        return pn_fail(err, PUNA_E_FORMAT, "cases.json: picture name '%s' holds a '/'", name);
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        path->len = 0;
        if (!pn_buf_printf(path, "%s/images/%s%s", dir, name, endings[i]))
            return pn_fail_memory(err, 256, "a file name");
        if (access(path->data, F_OK) == 0)
            return pictures_add(out, path->data, err);
    }
    return pn_fail(err, PUNA_E_NOT_FOUND, "%s/images has no picture '%s'", dir, name);
}

/* ------------------------------------------------------------------------------------- comparing */

/* What came of one case. */
struct outcome {
    size_t n_tokens, n_pictures;
    bool ids_same;
    double pixels;        /* largest difference; 0: bit-equal; < 0: the folder has none to compare */
    bool tiles_same;      /* number of tiles and aspect ratio ids, where the folder has them */
    double features;      /* largest difference over real tiles / largest reference value; < 0: none */
    double logits, hf_rows;
    size_t greedy_same, greedy_n;
    bool greedy_binding;  /* the reference's gaps are wide enough for the tokens to be fixed */
};

/* Largest |ours - reference|; +inf when one of them is no number. */
static double max_difference(const float *ours, const struct st_view *ref, size_t at, size_t n,
                             double *ref_max)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        const double r = st_f32(ref, at + i), d = fabs((double)ours[i] - r);
        if (!(d <= worst))
            worst = isnan(d) ? INFINITY : d;
        if (ref_max != NULL && fabs(r) > *ref_max)
            *ref_max = fabs(r);
    }
    return worst;
}

static int compare_pictures(const struct folder *f, const json_t *entry, const char *name,
                            const struct verify_settings *s, const puna_model *m,
                            const struct pictures *pictures, struct outcome *o,
                            struct puna_error *err)
{
    const struct puna_model_info info = model_info(m);
    const int64_t n = (int64_t)pictures->n, side = info.tile_size;
    const int64_t pixel_shape[] = { n, info.max_tiles, 3, side, side };
    const int64_t feature_shape[] = { n, info.max_tiles, info.tokens_per_tile, info.v_out_dim };
    const struct st_view *pixels, *features;
    int rc = golden(&pixels, f, name, "pixel_values", pixel_shape, 5, err);
    if (rc == 0)
        rc = golden(&features, f, name, "vision_features", feature_shape, 4, err);
    if (rc != 0)
        return rc;
    const size_t per_picture = (size_t)(info.max_tiles * 3 * side * side);
    const size_t per_tile = (size_t)info.tokens_per_tile * (size_t)info.v_out_dim;
    const int flags = PUNA_ENCODE_FEATURES | (s->fast ? 0 : PUNA_ENCODE_PRECISE) |
                      (s->session.full_tiles ? PUNA_ENCODE_FULL : 0);
    double worst = 0, largest = 0;
    for (size_t i = 0; i < pictures->n; i++) {
        struct puna_encoded e = { 0 };
        rc = puna_encode_image(m, pictures->v[i].bytes, pictures->v[i].len, NULL, flags, NULL, NULL, &e,
                               err);
        if (rc != 0)
            return rc;
        const json_t *tiles = json_array_get(json_object_get(entry, "num_tiles"), i);
        const json_t *ratio = json_array_get(json_object_get(entry, "aspect_ratio_ids"), i);
        o->tiles_same = o->tiles_same && (tiles == NULL || json_integer_value(tiles) == e.n_tiles) &&
                        (ratio == NULL || json_integer_value(ratio) == e.aspect_ratio_id);
        if (pixels != NULL)
            o->pixels = fmax(o->pixels, max_difference(e.pixel_values, pixels, i * per_picture,
                                                       per_picture, NULL));
        if (features != NULL)
            worst = fmax(worst, max_difference(e.vision_features, features,
                                               i * (size_t)info.max_tiles * per_tile,
                                               (size_t)e.n_tiles * per_tile, &largest));
        puna_encoded_free(&e);
    }
    if (features != NULL)
        o->features = largest > 0 ? worst / largest : worst;
    return 0;
}

struct rows {
    const struct st_view *ref;
    double worst;
};

static int compare_row(void *user, int32_t position, const float *logits, int32_t n_vocab)
{
    struct rows *r = user;
    const size_t n = (size_t)n_vocab;
    const double d = max_difference(logits, r->ref, (size_t)position * n, n, NULL);
    if (d > r->worst)
        r->worst = d;
    return term_interrupted();
}

static int32_t best_token(const float *logits, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++) {
        if (logits[i] > logits[best])
            best = i;
    }
    return best;
}

/* Follow the reference's tokens as long as they are ours too. */
static int compare_greedy(puna_session *session, const int32_t *greedy, size_t n, int32_t n_vocab,
                          struct outcome *o, struct puna_error *err)
{
    int rc = 0;
    o->greedy_n = n;
    for (; o->greedy_same < n && rc == 0; o->greedy_same++) {
        const int32_t id = best_token(puna_session_logits(session), n_vocab);
        if (id != greedy[o->greedy_same])
            break;
        if (o->greedy_same + 1 == n)
            continue;
        rc = puna_session_tokens(session, &id, 1, err);
        if (rc == 0)
            rc = puna_session_eval(session, NULL, NULL, err);
    }
    return rc;
}

/* One pass over the prompt; with greedy tokens to follow, or none. */
static int compare_logits(const struct folder *f, const char *name, const char *what,
                          const struct puna_session_params *params, const puna_model *m,
                          const int32_t *ids, size_t n, const struct pictures *pictures,
                          const int32_t *greedy, size_t n_greedy, double *worst, struct outcome *o,
                          struct puna_error *err)
{
    const int32_t n_vocab = model_info(m).n_vocab;
    const int64_t shape[] = { (int64_t)n, n_vocab };
    struct rows rows = { 0 };
    puna_session *session = NULL;
    int rc = golden(&rows.ref, f, name, what, shape, 2, err);
    if (rc == 0 && rows.ref == NULL)
        rc = pn_fail(err, PUNA_E_FORMAT, "golden.safetensors has no '%s/%s'", name, what);
    if (rc == 0)
        rc = puna_session_open(&session, m, params, err);
    if (rc == 0) {
        term_watch(session, false);
        rc = prompt_append_ids(session, m, ids, n, pictures, err);
    }
    if (rc == 0)
        rc = puna_session_eval(session, compare_row, &rows, err);
    if (rc == 0 && n_greedy > 0)
        rc = compare_greedy(session, greedy, n_greedy, n_vocab, o, err);
    *worst = rows.worst;
    term_watch(NULL, false);
    puna_session_close(&session);
    return rc;
}

static bool same_ids(const puna_model *m, const char *text, const int32_t *ids, size_t n)
{
    int32_t *ours = calloc(n + 1, sizeof(*ours));
    const int64_t got = ours == NULL ? -1
                                     : puna_tokenize(m, text, strlen(text), 1, ours, n, NULL);
    const bool same = got == (int64_t)n && memcmp(ours, ids, n * sizeof(*ids)) == 0;
    free(ours);
    return same;
}

static int run_case(const struct folder *f, const json_t *entry, const struct verify_settings *s,
                    const puna_model *m, const struct limits *limits, struct outcome *o,
                    struct puna_error *err)
{
    const char *name = json_string_value(json_object_get(entry, "name"));
    const char *prompt = json_string_value(json_object_get(entry, "prompt"));
    const json_t *images = json_object_get(entry, "images");
    size_t n_ids, n_greedy;
    int32_t *ids = int_list(json_object_get(entry, "ids"), &n_ids);
    int32_t *greedy = int_list(json_object_get(entry, "greedy"), &n_greedy);
    struct pictures pictures = { 0 };
    struct pn_buf path = { 0 };
    *o = (struct outcome){ .n_tokens = n_ids, .tiles_same = true, .pixels = -1, .features = -1 };

    int rc = 0;
    if (prompt == NULL || n_ids == 0)
        rc = pn_fail(err, PUNA_E_FORMAT, "cases.json: case '%s' lacks prompt or ids", name);
    for (size_t i = 0; rc == 0 && i < json_array_size(images); i++) {
        const char *picture = json_string_value(json_array_get(images, i));
        rc = load_picture(&pictures, &path, f->dir, picture != NULL ? picture : "", err);
    }
    o->n_pictures = pictures.n;
    if (rc == 0)
        o->ids_same = same_ids(m, prompt, ids, n_ids);
    if (rc == 0 && pictures.n > 0)
        rc = compare_pictures(f, entry, name, s, m, &pictures, o, err);
    o->greedy_binding = json_number_value(json_object_get(entry, "min_gap")) > limits->logit;

    struct puna_session_params params;
    session_params(&params, &s->session);
    params.precise = !s->fast;
    params.hf_rows = 0;
    if (rc == 0)
        rc = compare_logits(f, name, "logits", &params, m, ids, n_ids, &pictures, greedy, n_greedy,
                            &o->logits, o, err);
    params.hf_rows = 1;
    if (rc == 0 && s->session.hf_rows)
        rc = compare_logits(f, name, "logits_hf_rows", &params, m, ids, n_ids, &pictures, NULL, 0,
                            &o->hf_rows, o, err);
    term_clear_progress();
    pn_buf_free(&path);
    pictures_free(&pictures);
    free(ids);
    free(greedy);
    return rc;
}

/* ------------------------------------------------------------------------------------- report */

static bool print_outcome(const char *name, const struct outcome *o, const struct limits *limits,
                          bool hf_rows)
{
    const bool greedy_ok = !o->greedy_binding || o->greedy_same == o->greedy_n;
    const bool ok = o->ids_same && o->tiles_same && o->pixels <= 0 &&
                    o->features <= limits->feature && o->logits <= limits->logit &&
                    o->hf_rows <= limits->logit && greedy_ok;
    printf("%-12s %3zu tokens  ids %s", name, o->n_tokens, o->ids_same ? "same" : "DIFFER");
    char pixels[16] = "-", features[16] = "-";
    if (o->pixels >= 0)
        snprintf(pixels, sizeof(pixels), o->pixels == 0 ? "same" : "%.1e", o->pixels);
    if (o->features >= 0)
        snprintf(features, sizeof(features), "%.1e", o->features);
    if (o->n_pictures > 0)
        printf("  tiles %s  pixels %-7s  features %-7s", o->tiles_same ? "same" : "DIFFER", pixels,
               features);
    else
        printf("%*s", 46, "");
    printf("  |Δlogit| %.2e", o->logits);
    if (hf_rows)
        printf("  hf rows %.2e", o->hf_rows);
    printf("  greedy %zu/%zu%s  %s\n", o->greedy_same, o->greedy_n, o->greedy_binding ? "" : " (not binding)",
           ok ? "ok" : "FAILED");
    return ok;
}

static int run_cases(const struct folder *f, const struct verify_settings *s, const puna_model *m,
                     const struct limits *limits)
{
    const json_t *cases = json_object_get(f->json, "cases");
    const struct puna_model_info info = model_info(m);
    double worst = 0, worst_feature = 0;
    size_t n_failed = 0;
    printf("%s, %s, kernel tier %s, %d thread%s, tolerance %g\n", info.path,
           s->fast ? "fast" : "precise", info.tier, info.threads, info.threads == 1 ? "" : "s",
           limits->logit);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *entry = json_array_get(cases, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        struct puna_error err = { 0 };
        struct outcome o;
        if (name == NULL)
            return diag("cases.json: case %zu has no name", i);
        if (run_case(f, entry, s, m, limits, &o, &err) != 0)
            return diag("case %s: %s", name, err.message);
        n_failed += !print_outcome(name, &o, limits, s->session.hf_rows);
        fflush(stdout);
        worst = fmax(worst, fmax(o.logits, o.hf_rows));
        worst_feature = fmax(worst_feature, o.features);
    }
    printf("%zu cases, %zu failed; largest feature difference %.2e of the largest value\n",
           json_array_size(cases), n_failed, worst_feature);
    printf("max |Δlogit| = %.3e\n", worst);
    if (n_failed > 0)
        return diag("%zu of %zu cases are beyond tolerance", n_failed, json_array_size(cases));
    return EXIT_OK;
}

static int run(const void *settings)
{
    const struct verify_settings *s = settings;
    if (s->fast && s->session.precise)
        return diag_usage("--fast and --precise exclude each other");
    const struct limits limits = {
        .logit = !isnan(s->tolerance) ? s->tolerance : s->fast ? 0.5 : 2e-3,
        .feature = s->fast ? 0.02 : 1e-4,
    };
    struct puna_error err = { 0 };
    struct folder f;
    struct pn_buf path = { 0 };
    puna_model *m = NULL;
    int status = EXIT_OK;
    if (folder_open(&f, s->args.v[0], &err) != 0)
        status = diag_error(&err);
    if (status == EXIT_OK && !pn_buf_printf(&path, "%s/model", f.dir))
        status = diag("no memory for a file name");
    if (status == EXIT_OK) {
        struct model_settings model = s->model;
        if (model.name == NULL)
            model.name = path.data;
        status = model_open(&m, &model);
    }
    if (status == EXIT_OK)
        status = run_cases(&f, s, m, &limits);
    puna_model_close(&m);
    pn_buf_free(&path);
    folder_close(&f);
    return status;
}

const struct command cmd_verify = {
    .name = "verify",
    .usage = "DIR [options]",
    .summary = "Check a model's numbers against reference numbers.",
    .details =
        "DIR holds model/, images/, cases.json and golden.safetensors: prompts with pictures and what "
        "a reference implementation computed for them. For each case the token ids, tiles and pixel "
        "values must be equal, vision features and logits within tolerance, and the tokens that "
        "follow the same wherever the reference's best two logits are further apart than the "
        "tolerance (otherwise they are shown as not binding). The largest difference is "
        "printed for each case; the exit status is 1 when one is beyond tolerance.\n"
        "\n"
        "Examples:\n"
        "  puna verify tests/data/tiny-a\n"
        "  puna verify DIR --fast --cpu avx2\n"
        "  puna verify DIR -m model.gguf --tolerance 0.1",
    .opts = options,
    .n_opts = sizeof(options) / sizeof(options[0]),
    .min_args = 1,
    .max_args = 1,
    .args_offset = offsetof(struct verify_settings, args),
    .defaults = &defaults,
    .size = sizeof(defaults),
    .run = run,
};
