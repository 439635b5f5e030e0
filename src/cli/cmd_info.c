/* SPDX-License-Identifier: Apache-2.0 */
/* puna info: what a model is and what it will need. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/common.h"

struct info_settings {
    struct model_settings model;
    struct session_settings session;
    struct opt_list args;
    bool tensors, fit, json;
};

static const struct info_settings defaults;

#define T struct info_settings
static const struct opt_spec options[] = {
    OPT_HEADING("Options"),
    OPT_ROW(T, model.name, OPT_STRING, "model", 'm', "MODEL", "The same as the argument.", .dflt = ""),
    OPTS_PROJECTOR(T),
    OPTS_CONTEXT(T),
    OPT_FLAG_ROW(T, tensors, "tensors", 0, "List every tensor: name, type, shape, bytes."),
    OPT_FLAG_ROW(T, fit, "fit", 0,
                 "Instead: for every number format the size of the file, the memory it takes at this "
                 "context, the speed to expect of this machine, and whether it fits. MODEL may also be "
                 "11b, 11b-base, 90b, 8b, 3b or 1b, for which no file is needed."),
    OPT_FLAG_ROW(T, json, "json", 0, "One JSON object."),
    OPTS_MACHINE(T),
};
#undef T

/* ------------------------------------------------------------------------------------- tensors by type */

enum { MAX_TYPES = 64 };

struct type_sum {
    const char *type;
    size_t count, bytes;
};

static size_t sum_types(const puna_model *m, struct type_sum *sums)
{
    size_t n = 0;
    struct puna_tensor_info t;
    for (size_t i = 0; puna_model_tensor(m, i, &t) == 0; i++) {
        size_t k = 0;
        while (k < n && strcmp(sums[k].type, t.type) != 0)
            k++;
        if (k == n && n < MAX_TYPES)
            sums[n++] = (struct type_sum){ .type = t.type };
        if (k < n) {
            sums[k].count++;
            sums[k].bytes += t.n_bytes;
        }
    }
    return n;
}

static void print_tensors(const puna_model *m)
{
    struct puna_tensor_info t;
    printf("\nTensors\n");
    for (size_t i = 0; puna_model_tensor(m, i, &t) == 0; i++) {
        printf("  %-56s %-6s [", t.name, t.type);
        for (int k = 0; k < t.ndim; k++)
            printf("%s%lld", k ? ", " : "", (long long)t.shape[k]);
        printf("] %zu\n", t.n_bytes);
    }
}

static json_t *json_tensors(const puna_model *m)
{
    json_t *list = json_array();
    struct puna_tensor_info t;
    for (size_t i = 0; puna_model_tensor(m, i, &t) == 0; i++) {
        json_t *shape = json_array();
        for (int k = 0; k < t.ndim; k++)
            json_array_append_new(shape, json_integer(t.shape[k]));
        json_array_append_new(list, json_pack("{s:o, s:s, s:o, s:I}", "name",
                                              json_lossy(t.name, strlen(t.name)), "type", t.type,
                                              "shape", shape, "bytes", (json_int_t)t.n_bytes));
    }
    return list;
}

/* ------------------------------------------------------------------------------------- text */

static void print_plan(const struct puna_memory_plan *p, int32_t ctx, const char *kv_type,
                       bool has_vision)
{
    const double text = (double)p->kv_bytes + (double)p->scratch_bytes;
    const double picture = text + (double)p->cross_bytes_per_image + (double)p->vision_scratch_bytes;
    char a[32], b[32];
    format_bytes(a, sizeof(a), (double)p->file_bytes);
    printf("\nMemory, context %d, keys and values %s\n", (int)ctx, kv_type);
    printf("  weights (mapped, shared)   %s\n", a);
    format_bytes(a, sizeof(a), (double)p->kv_bytes);
    format_bytes(b, sizeof(b), (double)p->scratch_bytes);
    printf("  keys and values            %s\n  working memory             %s\n", a, b);
    if (has_vision) {
        format_bytes(a, sizeof(a), (double)p->cross_bytes_per_image);
        format_bytes(b, sizeof(b), (double)p->vision_scratch_bytes);
        printf("  for each picture           %s\n  while encoding a picture   %s\n", a, b);
    }
    format_bytes(a, sizeof(a), text);
    printf("  besides the weights        %s without a picture", a);
    if (has_vision) {
        format_bytes(b, sizeof(b), picture);
        printf(", %s with one", b);
    }
    format_bytes(a, sizeof(a), (double)p->available_bytes);
    printf("\n  free on this machine       %s\n", a);
}

static void print_text(const puna_model *m, const struct puna_model_info *i,
                       const struct puna_memory_plan *plan, const struct puna_session_params *params)
{
    char size[32], params_size[32];
    format_bytes(size, sizeof(size), (double)i->file_bytes);
    snprintf(params_size, sizeof(params_size), "%.2f", (double)i->n_params / 1e9);
    printf("Model      %s\nFormat     %s, %s, %zu tensors, %s billion parameters\n", i->path,
           i->format, size, i->n_tensors, params_size);
    printf("Kind       %s, %s\n", i->has_vision ? "pictures and text" : "text only",
           i->is_chat ? "instruct (chat template)" : "base (no chat template)");
    if (i->note[0] != '\0')
        printf("Note       %s\n", i->note);
    printf("Machine    kernel tier %s, %d thread%s\n", i->tier, i->threads,
           i->threads == 1 ? "" : "s");

    printf("\nText\n  layers %d (%d cross-attention), width %d, heads %d (%d for keys and values) of "
           "%d,\n  feed-forward %d, vocabulary %d, trained context %d\n",
           (int)i->n_layer, (int)i->n_cross, (int)i->d_model, (int)i->n_head, (int)i->n_kv_head,
           (int)i->head_dim, (int)i->d_ff, (int)i->n_vocab, (int)i->n_ctx_train);
    if (i->has_vision)
        printf("Vision\n  layers %d + %d global, width %d, heads %d, feed-forward %d, up to %d tiles of "
               "%dx%d,\n  %d tokens a tile, %d features a token\n",
               (int)i->v_layer, (int)i->v_global, (int)i->v_dim, (int)i->v_head, (int)i->v_ff,
               (int)i->max_tiles, (int)i->tile_size, (int)i->tile_size, (int)i->tokens_per_tile,
               (int)i->v_out_dim);
    printf("Generation\n  temperature %g, top-p %g, top-k %d, end tokens", (double)i->temperature,
           (double)i->top_p, (int)i->top_k);
    for (int32_t k = 0; k < i->n_eos; k++)
        printf("%s %d", k ? "," : "", (int)i->eos[k]);
    printf(", <|begin_of_text|> %d", (int)i->bos);
    if (i->image_token >= 0)
        printf(", <|image|> %d", (int)i->image_token);

    struct type_sum sums[MAX_TYPES];
    const size_t n = sum_types(m, sums);
    printf("\n\nWeights by type\n");
    for (size_t k = 0; k < n; k++) {
        format_bytes(size, sizeof(size), (double)sums[k].bytes);
        printf("  %-8s %5zu tensors  %10s\n", sums[k].type, sums[k].count, size);
    }
    print_plan(plan, params->ctx, kv_type_names[params->kv_type], i->has_vision != 0);
}

/* ------------------------------------------------------------------------------------- JSON */

static json_t *json_info(const puna_model *m, const struct puna_model_info *i,
                         const struct puna_memory_plan *plan,
                         const struct puna_session_params *params, bool tensors)
{
    json_t *j = json_pack(
        "{s:o, s:s, s:b, s:b, s:s, s:s, s:i, s:I, s:I, s:I}", "path",
        json_lossy(i->path, strlen(i->path)), "format", i->format, "has_vision", i->has_vision,
        "is_chat", i->is_chat, "note", i->note, "tier", i->tier, "threads", i->threads, "tensors",
        (json_int_t)i->n_tensors, "parameters", (json_int_t)i->n_params, "file_bytes",
        (json_int_t)i->file_bytes);
    json_object_set_new(
        j, "text",
        json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "layers", (int)i->n_layer,
                  "cross_layers", (int)i->n_cross, "width", (int)i->d_model, "heads", (int)i->n_head,
                  "kv_heads", (int)i->n_kv_head, "head_dim", (int)i->head_dim, "feed_forward",
                  (int)i->d_ff, "vocabulary", (int)i->n_vocab, "context", (int)i->n_ctx_train));
    if (i->has_vision)
        json_object_set_new(
            j, "vision",
            json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "layers", (int)i->v_layer,
                      "global_layers", (int)i->v_global, "width", (int)i->v_dim, "heads",
                      (int)i->v_head, "feed_forward", (int)i->v_ff, "tile", (int)i->tile_size,
                      "max_tiles", (int)i->max_tiles, "tokens_per_tile", (int)i->tokens_per_tile,
                      "features", (int)i->v_out_dim));
    json_t *eos = json_array();
    for (int32_t k = 0; k < i->n_eos; k++)
        json_array_append_new(eos, json_integer(i->eos[k]));
    json_object_set_new(j, "generation",
                        json_pack("{s:f, s:f, s:i, s:o, s:i, s:i}", "temperature",
                                  (double)i->temperature, "top_p", (double)i->top_p, "top_k",
                                  (int)i->top_k, "eos", eos, "bos", (int)i->bos, "image_token",
                                  (int)i->image_token));
    struct type_sum sums[MAX_TYPES];
    const size_t n = sum_types(m, sums);
    json_t *types = json_object();
    for (size_t k = 0; k < n; k++)
        json_object_set_new(types, sums[k].type,
                            json_pack("{s:I, s:I}", "tensors", (json_int_t)sums[k].count, "bytes",
                                      (json_int_t)sums[k].bytes));
    json_object_set_new(j, "types", types);
    json_object_set_new(
        j, "memory",
        json_pack("{s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "ctx", (int)params->ctx, "kv_type",
                  kv_type_names[params->kv_type], "file_bytes", (json_int_t)plan->file_bytes,
                  "kv_bytes", (json_int_t)plan->kv_bytes, "scratch_bytes",
                  (json_int_t)plan->scratch_bytes, "cross_bytes_per_image",
                  (json_int_t)plan->cross_bytes_per_image, "vision_scratch_bytes",
                  (json_int_t)plan->vision_scratch_bytes, "available_bytes",
                  (json_int_t)plan->available_bytes));
    if (tensors)
        json_object_set_new(j, "tensor_list", json_tensors(m));
    return j;
}

/* ------------------------------------------------------------------------------------- what fits */

/* Bytes that should be in memory: the file too, or every token waits for the disk. */
static double needed(const struct puna_fit *f, const struct puna_fit_row *r, bool picture)
{
    const struct puna_memory_plan *p = &f->plan;
    double bytes = (double)r->file_bytes + (double)p->kv_bytes + (double)p->scratch_bytes;
    if (picture)
        bytes += (double)p->cross_bytes_per_image + (double)p->vision_scratch_bytes;
    return bytes;
}

static const char *verdict(const struct puna_fit *f, const struct puna_fit_row *r)
{
    const double have = (double)f->plan.available_bytes;
    if (needed(f, r, f->has_vision != 0) <= have)
        return "yes";
    if (needed(f, r, false) <= have)
        return "text only";
    return needed(f, r, f->has_vision != 0) - (double)r->file_bytes <= have ? "from disk" : "no";
}

static void print_fit(const struct puna_fit *f, const char *name, const char *kv_type)
{
    char a[32], b[32];
    format_bytes(a, sizeof(a), (double)f->plan.available_bytes);
    printf("%s on this machine: %s free, kernel tier %s, %d thread%s, %.1f GB/s read, %.0f GOPS int8, %.0f bf16, "
           "%.0f f32\n", name, a, f->tier, f->threads, f->threads == 1 ? "" : "s", f->ceilings.read_gbs,
           f->ceilings.int8_gops, f->ceilings.bf16_gops, f->ceilings.f32_gops);
    format_bytes(a, sizeof(a), (double)f->plan.kv_bytes);
    format_bytes(b, sizeof(b), (double)f->plan.scratch_bytes);
    printf("Context %d: %s of keys and values (%s), %s of working memory", (int)f->ctx, a, kv_type, b);
    if (f->has_vision) {
        format_bytes(a, sizeof(a), (double)f->plan.cross_bytes_per_image);
        format_bytes(b, sizeof(b), (double)f->plan.vision_scratch_bytes);
        printf("; %s a picture, %s while it is encoded", a, b);
    }
    printf("\n\n%-8s %9s %9s", "type", "file", "memory");
    if (f->has_vision)
        printf(" %9s", "+picture");
    printf(" %9s %9s", "prefill", "decode");
    if (f->has_vision)
        printf(" %9s %9s", "+picture", "picture");
    printf("  fits\n%-8s %9s %9s", "", "", "");
    if (f->has_vision)
        printf(" %9s", "");
    printf(" %9s %9s", "tok/s", "tok/s");
    if (f->has_vision)
        printf(" %9s %9s", "tok/s", "s");
    putchar('\n');
    for (size_t i = 0; i < f->n_rows; i++) {
        const struct puna_fit_row *r = &f->rows[i];
        format_bytes(a, sizeof(a), (double)r->file_bytes);
        format_bytes(b, sizeof(b), needed(f, r, false));
        printf("%-8s %9s %9s", r->type, a, b);
        format_bytes(b, sizeof(b), needed(f, r, true));
        if (f->has_vision)
            printf(" %9s", b);
        printf(" %9.3g %9.3g", r->prefill_rate, r->decode_rate);
        if (f->has_vision)
            printf(" %9.3g %9.3g", r->decode_picture_rate, r->picture_seconds);
        printf("  %s\n", verdict(f, r));
    }
    printf("\nmemory: file, keys and values, working memory. Speeds are expected, with the file in memory");
    if (f->has_vision)
        printf(";\npicture: one of %d tiles", (int)f->max_tiles);
    printf(".\nfrom disk: runs, but slowly, since the file does not stay in memory.\n");
}

static json_t *json_fit(const struct puna_fit *f, const char *name, const char *kv_type)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < f->n_rows; i++) {
        const struct puna_fit_row *r = &f->rows[i];
        json_t *row = json_pack("{s:s, s:I, s:I, s:f, s:f, s:s}", "type", r->type, "file_bytes",
                                (json_int_t)r->file_bytes, "memory_bytes", (json_int_t)needed(f, r, false),
                                "prefill_tokens_per_second", r->prefill_rate, "decode_tokens_per_second",
                                r->decode_rate, "fits", verdict(f, r));
        if (f->has_vision) {
            json_object_set_new(row, "memory_bytes_picture", json_integer((json_int_t)needed(f, r, true)));
            json_object_set_new(row, "decode_tokens_per_second_picture", json_real(r->decode_picture_rate));
            json_object_set_new(row, "picture_seconds", json_real(r->picture_seconds));
        }
        json_array_append_new(rows, row);
    }
    const struct puna_memory_plan *p = &f->plan;
    return json_pack("{s:o, s:s, s:i, s:b, s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:{s:f, s:f, s:f, s:f}, s:o}", "model",
                     json_lossy(name, strlen(name)), "tier", f->tier, "threads", f->threads, "has_vision",
                     f->has_vision, "ctx", (int)f->ctx, "kv_type", kv_type, "kv_bytes", (json_int_t)p->kv_bytes,
                     "scratch_bytes", (json_int_t)p->scratch_bytes, "cross_bytes_per_image",
                     (json_int_t)p->cross_bytes_per_image, "vision_scratch_bytes",
                     (json_int_t)p->vision_scratch_bytes, "available_bytes", (json_int_t)p->available_bytes,
                     "ceilings", "read_gbs", f->ceilings.read_gbs, "int8_gops", f->ceilings.int8_gops, "bf16_gops",
                     f->ceilings.bf16_gops, "f32_gops", f->ceilings.f32_gops, "types", rows);
}

static int run_fit(const struct info_settings *s, const struct model_settings *model)
{
    struct puna_model_params mp;
    struct puna_session_params sp;
    struct puna_fit f = { .size = sizeof(f) };
    struct puna_error err = { 0 };
    struct puna_lora *loras;
    model_params(&mp, model);
    session_params(&sp, &s->session);
    const int status = loras_parse(&loras, model);
    mp.loras = loras;
    mp.n_loras = model->lora.n;
    const int rc = status == EXIT_OK ? puna_fit(model->name, &mp, &sp, NULL, &f, &err) : 0;
    loras_free(loras, model->lora.n);
    term_clear_progress();
    if (status != EXIT_OK || rc != 0)
        return status != EXIT_OK ? status : diag_error(&err);
    const char *name = model->name ? model->name : "the demonstration model", *kv = kv_type_names[sp.kv_type];
    if (s->json)
        return print_json(json_fit(&f, name, kv));
    print_fit(&f, name, kv);
    return EXIT_OK;
}

static int run(const void *settings)
{
    const struct info_settings *s = settings;
    struct model_settings model = s->model;
    if (s->args.n == 1) {
        if (model.name != NULL)
            return diag_usage("give the model once: '%s' or '%s'", model.name, s->args.v[0]);
        model.name = s->args.v[0];
    }
    if (s->fit && s->tensors)
        return diag_usage("--fit and --tensors exclude each other");
    if (s->fit)
        return run_fit(s, &model);
    puna_model *m = NULL;
    const int status = model_open(&m, &model);
    if (status != EXIT_OK)
        return status;
    const struct puna_model_info info = model_info(m);
    struct puna_session_params params;
    session_params(&params, &s->session);
    if (params.ctx == 0) /* what the library takes for 0 */
        params.ctx = info.n_ctx_train < 4096 ? info.n_ctx_train : 4096;
    struct puna_memory_plan plan = { 0 };
    puna_plan_memory(m, &params, &plan); /* that it would not fit is for the reader to see */
    int answer = EXIT_OK;
    if (s->json) {
        answer = print_json(json_info(m, &info, &plan, &params, s->tensors));
    } else {
        print_text(m, &info, &plan, &params);
        if (s->tensors)
            print_tensors(m);
    }
    puna_model_close(&m);
    return answer;
}

const struct command cmd_info = {
    .name = "info",
    .usage = "[MODEL] [options]",
    .summary = "Show what a model is and the memory it needs.",
    .details = "Hyper-parameters, weights by type, generation defaults, and the memory that a session "
               "with the given context takes, without and with a picture. MODEL is a Hugging Face "
               "directory, a .gguf file or an Ollama name; left out, it is the demonstration model.\n"
               "\n"
               "Examples:\n"
               "  puna info llama3.2-vision --ctx 8192\n"
               "  puna info model.gguf --tensors\n"
               "  puna info --fit 11b --ctx 8192",
    .opts = options,
    .n_opts = sizeof(options) / sizeof(options[0]),
    .max_args = 1,
    .args_offset = offsetof(struct info_settings, args),
    .defaults = &defaults,
    .size = sizeof(defaults),
    .run = run,
};
