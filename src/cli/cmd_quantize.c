/* SPDX-License-Identifier: Apache-2.0 */
/* puna quantize: a model into one GGUF file of a smaller number format. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/common.h"

struct quantize_settings {
    struct opt_list args, overrides;
    struct model_settings model;
    const char *type, *imatrix;
    int vision; /* index into vision_names */
    bool dry_run, check, force, tensors;
};

static const char *const vision_names[] = { "default", "F16", "BF16", "Q8_0", "F32", NULL };

static const struct quantize_settings defaults = { .type = NULL };

#define T struct quantize_settings
static const struct opt_spec options[] = {
    OPT_HEADING("What is written"),
    OPT_ROW(T, type, OPT_STRING, "type", 0, "TYPE", "Number format of the weights: Q8_0, Q4_K_M, F16...",
            .dflt = ""),
    OPT_ROW(T, vision, OPT_CHOICE, "vision", 0, "TYPE",
            "Number format of the vision tower's matrices: F16, BF16, Q8_0 or F32.", .choices = vision_names,
            .dflt = "F16; F32 and BF16 with --type F32 and BF16"),
    OPT_ROW(T, overrides, OPT_LIST, "override", 0, "PATTERN=TYPE",
            "Number format of the tensors whose names match a shell pattern, such as "
            "'blk.*.attn_v.weight=Q8_0'; may be repeated, later ones win."),
    OPT_ROW(T, imatrix, OPT_STRING, "imatrix", 0, "FILE",
            "How much each column matters: what puna imatrix or llama.cpp's imatrix tool wrote.", .dflt = ""),
    OPT_FLAG_ROW(T, force, "force", 'f', "Replace OUT if it exists."),
    OPT_HEADING("Looking only"),
    OPT_FLAG_ROW(T, dry_run, "dry-run", 'n', "Write nothing; say how large the file and its parts would be."),
    OPT_FLAG_ROW(T, tensors, "tensors", 0, "List every tensor."),
    OPT_FLAG_ROW(T, check, "check", 0, "Write nothing; look for values that are not numbers or infinite."),
    OPT_HEADING("Source and machine"),
    OPTS_PROJECTOR(T),
    OPT_ROW(T, model.threads, OPT_INT, "threads", 't', "N", "Threads. The file does not depend on them.",
            .dflt = "PUNA_THREADS, else the CPUs this process may use", .min = 1, .max = 1024),
    OPT_FLAG_ROW(T, model.no_progress, "no-progress", 0,
                 "No progress line on the terminal. There is never one in a pipe."),
};
#undef T

/* ------------------------------------------------------------------------------------- the list */

struct sum {
    const char *type; /* static: a type's name */
    size_t tensors, values, bytes;
};
enum { MAX_SUMS = 32 };

struct report {
    bool list, check, failed;
    struct sum sums[2][MAX_SUMS]; /* text, vision */
    size_t n[2];
};

static void add_to(struct report *r, const struct puna_quant_tensor *t)
{
    const int part = t->is_vision != 0;
    size_t i = 0;
    while (i < r->n[part] && strcmp(r->sums[part][i].type, t->type) != 0)
        i++;
    if (i == MAX_SUMS)
        return;
    if (i == r->n[part])
        r->sums[part][r->n[part]++] = (struct sum){ .type = t->type };
    r->sums[part][i].tensors++;
    r->sums[part][i].values += t->n_values;
    r->sums[part][i].bytes += t->n_bytes;
}

static void print_tensor(const struct report *r, const struct puna_quant_tensor *t)
{
    char shape[96] = "";
    size_t n = 0;
    for (int d = 0; d < t->ndim; d++)
        n += (size_t)snprintf(shape + n, sizeof(shape) - n, "%s%lld", d ? "x" : "", (long long)t->shape[d]);
    printf("  %-40s %-16s %5s -> %-6s %12zu bytes%s%s\n", t->name, shape, t->source_type, t->type, t->n_bytes,
           t->is_fallback ? "  (rows do not fit the type asked for)" : "",
           t->has_importance ? "  (by importance)" : "");
    (void)r;
}

static int on_tensor(void *user, const struct puna_quant_tensor *t)
{
    struct report *r = user;
    add_to(r, t);
    if (r->check && t->n_bad > 0)
        printf("  %s: %zu of %zu values are not finite\n", t->source_name[0] ? t->source_name : t->name, t->n_bad,
               t->n_values);
    else if (r->list)
        print_tensor(r, t);
    return term_interrupted();
}

static void print_sums(const struct report *r)
{
    static const char *const part_names[] = { "text", "vision" };
    char size[32];
    for (int part = 0; part < 2; part++) {
        for (size_t i = 0; i < r->n[part]; i++) {
            const struct sum *s = &r->sums[part][i];
            format_bytes(size, sizeof(size), (double)s->bytes);
            printf("  %-6s  %-6s  %5zu tensors  %13zu values  %9s  %5.2f bits each\n", part_names[part], s->type,
                   s->tensors, s->values, size, 8.0 * (double)s->bytes / (double)s->values);
        }
    }
}

/* ------------------------------------------------------------------------------------- the command */

/* PATTERN=TYPE: the last '=' divides. Copies lie in one buffer each, freed with it. */
static int parse_overrides(const struct opt_list *list, struct puna_quant_override **out, char **text)
{
    size_t bytes = 0;
    for (size_t i = 0; i < list->n; i++)
        bytes += strlen(list->v[i]) + 1;
    *out = calloc(list->n + 1, sizeof(**out));
    *text = malloc(bytes + 1);
    if (*out == NULL || *text == NULL)
        return diag("no memory for the overrides");
    char *at = *text;
    for (size_t i = 0; i < list->n; i++) {
        const size_t n = strlen(list->v[i]) + 1;
        memcpy(at, list->v[i], n);
        char *eq = strrchr(at, '=');
        if (eq == NULL || eq == at || eq[1] == '\0')
            return diag_usage("--override takes PATTERN=TYPE, not '%s'", list->v[i]);
        *eq = '\0';
        (*out)[i] = (struct puna_quant_override){ .pattern = at, .type = eq + 1 };
        at += n;
    }
    return EXIT_OK;
}

static void print_result(const struct quantize_settings *s, const struct puna_quant_result *r)
{
    char size[32], before[32];
    format_bytes(size, sizeof(size), (double)r->file_bytes);
    format_bytes(before, sizeof(before), (double)r->source_bytes);
    if (s->check) {
        printf("%s: %zu tensors, %zu values, ", s->args.v[0], r->n_tensors, r->n_values);
        if (r->n_bad == 0)
            puts("all finite");
        else
            printf("%zu tensors have values that are not finite\n", r->n_bad);
        return;
    }
    printf("%s: %s, %s (%zu bytes; %.2f bits per value), from %s\n",
           s->args.n > 1 ? s->args.v[1] : s->args.v[0], s->type, size, r->file_bytes,
           8.0 * (double)r->file_bytes / (double)r->n_values, before);
    if (r->n_fallback > 0)
        printf("%zu tensors are of another type, since their rows do not divide into the blocks of the one asked for\n",
               r->n_fallback);
    if (r->n_requantized > 0)
        printf("%zu tensors were quantised already: their old error stays, a source in BF16 or F16 is better\n",
               r->n_requantized);
    if (s->imatrix != NULL)
        printf("%zu tensors by importance, %zu without\n", r->n_importance, r->n_without);
}

static int convert(const struct quantize_settings *s, const struct puna_quant_override *overrides,
                   const struct puna_lora *loras)
{
    struct report report = { .list = s->tensors, .check = s->check };
    struct puna_quant_result result = { .size = sizeof(result) };
    struct puna_error err = { 0 };
    struct puna_quant_params p;
    puna_quant_params_init(&p);
    p.type = s->type;
    p.vision = s->vision > 0 ? vision_names[s->vision] : NULL;
    p.overrides = overrides;
    p.n_overrides = s->overrides.n;
    p.loras = loras;
    p.n_loras = s->model.lora.n;
    p.imatrix = s->imatrix;
    p.projector = s->model.projector;
    p.cross_permuted = s->model.cross_rows - 1;
    p.threads = (int)s->model.threads;
    p.overwrite = s->force;
    p.dry = s->dry_run;
    p.check = s->check;
    p.progress = term_progress;
    p.tensor = on_tensor;
    p.tensor_user = &report;
    if (s->model.no_progress)
        term_no_progress();
    const char *out = s->args.n > 1 ? s->args.v[1] : NULL;
    const int rc = puna_quantize(s->args.v[0], out, &p, &result, &err);
    term_clear_progress();
    if (rc != 0)
        return diag_error(&err);
    if (s->dry_run)
        print_sums(&report);
    print_result(s, &result);
    return s->check && result.n_bad > 0 ? diag("%zu damaged tensors in %s", result.n_bad, s->args.v[0]) : EXIT_OK;
}

static int run(const void *settings)
{
    const struct quantize_settings *s = settings;
    if (s->type == NULL && !s->check)
        return diag_usage("which number format? give --type Q4_K_M, Q8_0, F16...");
    if (s->args.n < 2 && !s->dry_run && !s->check)
        return diag_usage("where to? give the name of the file to write");
    if (s->dry_run && s->check)
        return diag_usage("--dry-run and --check exclude each other");
    /* A file beyond the shell's limit shall be an error that is told, not the end of the program */
    signal(SIGXFSZ, SIG_IGN);
    struct puna_quant_override *overrides;
    char *text;
    int status = parse_overrides(&s->overrides, &overrides, &text);
    struct puna_lora *loras = NULL;
    if (status == EXIT_OK)
        status = loras_parse(&loras, &s->model);
    if (status == EXIT_OK)
        status = convert(s, overrides, loras);
    loras_free(loras, s->model.lora.n);
    free(overrides);
    free(text);
    return status;
}

const struct command cmd_quantize = {
    .name = "quantize",
    .usage = "IN OUT.gguf --type TYPE [options]",
    .summary = "Write a model as one GGUF file, in a smaller number format.",
    .details = "IN is a Hugging Face directory, a .gguf file or an Ollama name. OUT has Ollama's layout with "
               "vision tower and projector inside, or llama.cpp's for a text model. It appears under its name "
               "only when it is complete.\n"
               "\n"
               "Types, from large to small: F32, BF16, F16, Q8_0, Q6_K, Q5_K_M, Q5_1, Q5_K_S, Q5_0, Q4_1, "
               "Q4_K_M, Q4_K_P (puna's own mix), Q4_K_S, Q4_0, IQ4_NL, IQ4_XS, Q3_K_M, Q2_K.\n"
               "\n"
               "Examples:\n"
               "  puna quantize ~/Llama-3.2-11B-Vision-Instruct 11b.gguf --type Q4_K_M\n"
               "  puna quantize --dry-run ~/Llama-3.2-11B-Vision-Instruct --type Q8_0\n"
               "  puna quantize --check 11b.gguf",
    .opts = options,
    .n_opts = sizeof(options) / sizeof(options[0]),
    .min_args = 1,
    .max_args = 2,
    .args_offset = offsetof(struct quantize_settings, args),
    .defaults = &defaults,
    .size = sizeof(defaults),
    .run = run,
};
