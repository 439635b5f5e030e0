/* SPDX-License-Identifier: Apache-2.0 */
/* puna bench: how fast this machine runs a model, beside how fast it could. Decoding reads every weight
 * once for a token, so its ceiling is the memory bandwidth; prefill and the vision encoder reuse what
 * they read, so theirs is the multiply-add rate of the number format. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "cli/common.h"

struct bench_settings {
    struct model_settings model;
    struct session_settings session;
    int64_t depth, prompt, gen, runs;
    const char *image;
    bool json;
};

static const struct bench_settings defaults = {
    .prompt = 512,
    .gen = 64,
    .runs = 3,
    .image = "560x560",
};

#define T struct bench_settings
static const struct opt_spec options[] = {
    OPT_HEADING("Options"),
    OPTS_MODEL_NAME(T),
    OPT_ROW(T, prompt, OPT_INT, "prompt", 0, "N", "Tokens of the prompt to be read.", .min = 1,
            .max = 1 << 20),
    OPT_ROW(T, depth, OPT_INT, "depth", 0, "N",
            "Tokens before the prompt that count as read; their keys and values are noise.",
            .dflt = "0", .min = 0, .max = 1 << 20),
    OPT_ROW(T, gen, OPT_INT, "gen", 0, "N", "Tokens to be generated after it.", .min = 2,
            .max = 1 << 20),
    OPT_ROW(T, image, OPT_STRING, "image", 0, "WxH", "Size of the picture; 0x0: none.",
            .dflt = "560x560"),
    OPT_ROW(T, runs, OPT_INT, "runs", 0, "N", "Repetitions; the median is reported.", .min = 1,
            .max = 100),
    OPT_FLAG_ROW(T, json, "json", 0, "One JSON object, with every run."),
    OPT_ROW(T, session.kv_type, OPT_CHOICE, "kv-type", 0, "TYPE",
            "Number format of the keys and values kept: f16, f32, bf16 or q8_0.",
            .choices = kv_type_names),
    OPT_ROW(T, session.chunk, OPT_INT, "chunk", 0, "N", "Prompt tokens computed together.",
            .dflt = "256", .min = 1, .max = 65536),
    OPTS_PRECISE(T),
    OPTS_MACHINE(T),
};
#undef T

/* ------------------------------------------------------------------------------------- what a model reads */

struct work {
    double bytes, macs; /* per token */
    char type[16];      /* of most of the bytes */
};

struct sizes {
    struct work text;   /* a token of text, without a picture */
    struct work vision; /* a token of a tile; attention not included */
    struct work projector;
    double output_macs; /* of text: prefill computes the logits of its last token only */
};

/* "language_model.model.layers.12.mlp..." and "blk.12.ffn..." -> 12; -1: none. */
static int layer_of(const char *name)
{
    const char *s = strstr(name, "layers.");
    if (s != NULL)
        return (int)strtol(s + strlen("layers."), NULL, 10);
    return strncmp(name, "blk.", 4) == 0 ? (int)strtol(name + 4, NULL, 10) : -1;
}

static bool is_vision(const char *name)
{
    return strncmp(name, "v.", 2) == 0 || strstr(name, "vision_model.") != NULL;
}

static bool is_projector(const char *name)
{
    return strncmp(name, "mm.", 3) == 0 || strstr(name, "multi_modal_projector.") != NULL;
}

static bool is_embedding(const char *name)
{
    return strstr(name, "embed") != NULL || strstr(name, "embd") != NULL;
}

static void add_weight(struct work *w, double *largest, const struct puna_tensor_info *t)
{
    w->bytes += (double)t->n_bytes;
    w->macs += (double)t->shape[0] * (double)t->shape[1];
    if ((double)t->n_bytes > *largest) { /* one format dominates real models by far */
        *largest = (double)t->n_bytes;
        snprintf(w->type, sizeof(w->type), "%s", t->type);
    }
}

static bool ends_with(const char *s, const char *tail)
{
    const size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

static bool is_output(const char *name)
{
    return layer_of(name) < 0 && !is_vision(name) &&
           (ends_with(name, "output.weight") || ends_with(name, "lm_head.weight"));
}

static struct sizes model_sizes(const puna_model *m)
{
    enum { MAX_LAYERS = 1024 };
    bool cross[MAX_LAYERS] = { false };
    bool has_output = false;
    struct puna_tensor_info t;
    for (size_t i = 0; puna_model_tensor(m, i, &t) == 0; i++) {
        const int layer = layer_of(t.name);
        if (layer >= 0 && layer < MAX_LAYERS && strstr(t.name, "cross_attn") != NULL)
            cross[layer] = true;
        has_output = has_output || is_output(t.name);
    }
    struct sizes s = { 0 };
    double largest_text = 0, largest_vision = 0, largest_projector = 0;
    for (size_t i = 0; puna_model_tensor(m, i, &t) == 0; i++) {
        const int layer = layer_of(t.name);
        if (t.ndim != 2)
            continue;
        if (is_projector(t.name)) {
            add_weight(&s.projector, &largest_projector, &t);
        } else if (is_vision(t.name)) {
            if (!is_embedding(t.name))
                add_weight(&s.vision, &largest_vision, &t);
        } else if (is_embedding(t.name) ? !has_output /* tied: read as the output matrix */
                                        : !(layer >= 0 && layer < MAX_LAYERS && cross[layer])) {
            add_weight(&s.text, &largest_text, &t);
            if (is_embedding(t.name) || is_output(t.name))
                s.output_macs = (double)t.shape[0] * (double)t.shape[1];
        }
    }
    return s;
}

/* Multiply-adds by the instructions that do them. */
struct macs {
    double int8, bf16, f32;
};

static double *macs_in_floats(struct macs *m, const struct puna_ceilings *c, bool precise)
{
    return !precise && c->bf16_gops > 0 ? &m->bf16 : &m->f32;
}

/* n of them with weights of a type */
static void add_product(struct macs *m, double n, const char *type, const struct puna_ceilings *c,
                        bool precise)
{
    const bool quantised = type[0] != 'F' && type[0] != 'B';
    *(quantised && !precise ? &m->int8 : macs_in_floats(m, c, precise)) += n;
}

/* ------------------------------------------------------------------------------------- measuring */

enum { MAX_RUNS = 100, QUESTION = 32 /* tokens asked with the picture */ };

struct results {
    double load_seconds;
    double prefill[MAX_RUNS], decode[MAX_RUNS]; /* tokens per second */
    double encode[MAX_RUNS], first[MAX_RUNS];   /* seconds */
    double read[MAX_RUNS];                      /* reading the weights in turns with decoding, GB/s */
    int runs;
    int32_t n_tiles; /* 0: no picture measured */
    size_t peak_bytes;
};

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *v, int n)
{
    double sorted[MAX_RUNS];
    memcpy(sorted, v, (size_t)n * sizeof(*v));
    qsort(sorted, (size_t)n, sizeof(*sorted), by_value);
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* Ordinary tokens: specials lie from BOS upwards. */
static int append_tokens(puna_session *s, const puna_model *m, const int32_t *head, size_t n_head,
                         size_t n, struct puna_error *err)
{
    const struct puna_model_info info = model_info(m);
    const uint32_t range = (uint32_t)(info.bos > 0 ? info.bos : info.n_vocab);
    int32_t *ids = calloc(n_head + n, sizeof(*ids));
    if (ids == NULL)
        return pn_fail_memory(err, (n_head + n) * sizeof(*ids), "token ids");
    for (size_t i = 0; i < n_head; i++)
        ids[i] = head[i];
    for (size_t i = 0; i < n; i++)
        ids[n_head + i] = (int32_t)((uint32_t)i * UINT32_C(2654435761) % range);
    const int rc = puna_session_tokens(s, ids, n_head + n, err);
    free(ids);
    return rc;
}

static int generate(puna_session *s, const puna_model *m, int32_t n, struct puna_gen_result *r,
                    struct puna_error *err)
{
    struct puna_gen_params p;
    puna_gen_params_init(&p, m);
    p.temperature = 0;
    p.ignore_eos = 1;
    p.max_tokens = n;
    return puna_generate(s, &p, NULL, NULL, r, err);
}

static int open_session(puna_session **s, const puna_model *m, const struct bench_settings *b,
                        int64_t ctx, struct puna_error *err)
{
    struct puna_session_params params;
    session_params(&params, &b->session);
    params.ctx = (int32_t)ctx;
    const int rc = puna_session_open(s, m, &params, err);
    if (rc == 0)
        term_watch(*s, false);
    return rc;
}

static void close_session(puna_session **s)
{
    term_watch(NULL, false);
    term_clear_progress();
    puna_session_close(s);
}

/* Decoding and reading the weights in turns, since memory with other users changes its speed from second to second.
 * Both rates are of all turns together. */
static int measure_decode(struct results *r, int run, puna_session *s, const puna_model *m, int64_t tokens,
                          struct puna_error *err)
{
    const int64_t turn = tokens >= 32 ? 4 : tokens >= 16 ? 2 : 1; /* at least eight turns */
    double seconds = 0, per_gb = 1 / puna_measure_reads(m);
    int turns = 0;
    for (int64_t left = tokens; left > 0; left -= turn, turns++) {
        struct puna_gen_result gen = { 0 };
        const int rc = generate(s, m, (int32_t)(left < turn ? left : turn), &gen, err);
        if (rc != 0)
            return rc;
        /* the first token of all comes from the prompt's own logits, without a pass */
        seconds += gen.decode_seconds + (turns > 0 ? gen.prefill_seconds : 0);
        per_gb += 1 / puna_measure_reads(m);
    }
    r->decode[run] = (double)(tokens - 1) / seconds;
    r->read[run] = (turns + 1) / per_gb;
    return 0;
}

static int measure_text(struct results *r, int run, const puna_model *m,
                        const struct bench_settings *b, struct puna_error *err)
{
    puna_session *s = NULL;
    int rc = open_session(&s, m, b, b->depth + b->prompt + b->gen + 1, err);
    if (rc == 0)
        rc = puna_session_skip(s, (int32_t)b->depth, err);
    if (rc == 0)
        rc = append_tokens(s, m, NULL, 0, (size_t)b->prompt, err);
    const double start = term_now();
    if (rc == 0)
        rc = puna_session_eval(s, NULL, NULL, err);
    r->prefill[run] = (double)b->prompt / (term_now() - start);
    if (rc == 0)
        rc = measure_decode(r, run, s, m, b->gen, err);
    close_session(&s);
    return rc;
}

/* Noise, another one in each run, so that no cache knows it. */
static int noise_png(uint8_t **png, size_t *len, int32_t w, int32_t h, uint32_t seed,
                     struct puna_error *err)
{
    const size_t n = 3 * (size_t)w * (size_t)h;
    uint8_t *rgb = malloc(n);
    if (rgb == NULL)
        return pn_fail_memory(err, n, "a picture");
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        rgb[i] = (uint8_t)(x >> 24);
    }
    const int rc = puna_png(png, len, rgb, w, h, err);
    free(rgb);
    return rc;
}

static int measure_picture(struct results *r, int run, const puna_model *m,
                           const struct bench_settings *b, int32_t w, int32_t h,
                           struct puna_error *err)
{
    const struct puna_model_info info = model_info(m);
    const int32_t head[] = { info.bos, info.image_token };
    uint8_t *png = NULL;
    size_t len;
    puna_session *s = NULL;
    struct puna_encoded e = { 0 };
    struct puna_gen_result gen = { 0 };
    int rc = noise_png(&png, &len, w, h, (uint32_t)run, err);
    if (rc == 0)
        rc = puna_encode_image(m, png, len, NULL, 0, NULL, NULL, &e, err); /* only for the number of tiles */
    r->n_tiles = e.n_tiles;
    puna_encoded_free(&e);
    if (rc == 0)
        rc = open_session(&s, m, b, QUESTION + 8, err);
    const double start = term_now();
    if (rc == 0)
        rc = puna_session_image(s, png, len, err);
    if (rc == 0)
        rc = append_tokens(s, m, head, 2, QUESTION, err);
    if (rc == 0)
        rc = generate(s, m, 1, &gen, err);
    r->first[run] = term_now() - start;
    r->encode[run] = gen.image_seconds;
    close_session(&s);
    puna_free(png);
    return rc;
}

/* ------------------------------------------------------------------------------------- report */

struct rated {
    double value, of; /* achieved and possible, in the same unit */
    double part;      /* value / of; of several runs' pairs the median */
    const char *unit;
};

/* What was done in so many seconds, beside what each kind of instruction could have done at its peak. */
static struct rated rate_macs(const struct macs *m, double seconds, const struct puna_ceilings *c)
{
    const double all = m->int8 + m->bf16 + m->f32;
    const double least = (m->int8 > 0 ? m->int8 / c->int8_gops : 0) +
                         (m->bf16 > 0 ? m->bf16 / c->bf16_gops : 0) +
                         (m->f32 > 0 ? m->f32 / c->f32_gops : 0);
    return (struct rated){ .value = 2 * all / seconds / 1e9,
                           .of = all / least,
                           .part = 2 * least / seconds / 1e9,
                           .unit = m->int8 == 0   ? (m->bf16 > 0 ? "bf16" : "f32")
                                   : m->bf16 > 0  ? "int8 and bf16"
                                   : m->f32 > 0   ? "int8 and f32"
                                                  : "int8" };
}

/* Matrix products, the output's for the last token alone, and attention. */
static struct rated rate_prefill(const struct bench_settings *b, const struct results *r,
                                 const struct sizes *z, const struct puna_ceilings *c,
                                 const struct puna_model_info *i)
{
    const bool precise = b->session.precise;
    const double n = (double)b->prompt, keys = (double)b->depth + (n + 1) / 2;
    struct macs m = { 0 };
    add_product(&m, n * (z->text.macs - z->output_macs) + z->output_macs, z->text.type, c, precise);
    *macs_in_floats(&m, c, precise || b->session.kv_type == PUNA_KV_F32) +=
        n * keys * 2 * i->n_head * i->head_dim * (i->n_layer - i->n_cross);
    return rate_macs(&m, n / median(r->prefill, r->runs), c);
}

/* Keys and values that the token in the middle of the answer reads. */
static double kv_bytes(const struct bench_settings *b, const struct puna_model_info *i)
{
    const int type = b->session.precise ? PUNA_KV_F32 : b->session.kv_type;
    const double value = type == PUNA_KV_F32 ? 4 : type == PUNA_KV_Q8_0 ? 1 + 4.0 / i->head_dim : 2;
    return 2.0 * (i->n_layer - i->n_cross) * i->n_kv_head * i->head_dim * value *
           ((double)b->depth + (double)b->prompt + (double)b->gen / 2);
}

static struct rated rate_decode(const struct bench_settings *b, const struct results *r,
                                const struct sizes *z, const struct puna_ceilings *c,
                                const struct puna_model_info *i)
{
    const double bytes = z->text.bytes + kv_bytes(b, i);
    double part[MAX_RUNS]; /* of each run's own ceiling, which may have moved between runs */
    for (int run = 0; run < r->runs; run++)
        part[run] = r->decode[run] * bytes / 1e9 / r->read[run];
    return (struct rated){ median(r->decode, r->runs) * bytes / 1e9, c->read_gbs, median(part, r->runs), "read" };
}

/* Matrix products and attention of the tiles that must be computed: the picture's own and one for all
 * empty ones, each with one token for its zero tokens; then the projector and the cross layers' keys and
 * values for the picture's own. */
static struct rated rate_picture(const struct results *r, const struct sizes *z,
                                 const struct puna_ceilings *c, const struct puna_model_info *i,
                                 bool precise)
{
    const double tiles = r->n_tiles + (r->n_tiles < i->max_tiles);
    const double tokens = tiles * (i->tokens_per_tile + (i->tokens_per_tile % 8 != 0));
    const double kept = (double)r->n_tiles * i->tokens_per_tile;
    struct macs m = { 0 };
    add_product(&m, tokens * z->vision.macs, i->vision_int8 ? "Q8_0" : z->vision.type, c, precise);
    *macs_in_floats(&m, c, precise) += 2 * tokens * tokens * i->v_dim * (i->v_layer + i->v_global);
    add_product(&m, kept * z->projector.macs, z->projector.type, c, precise);
    add_product(&m, kept * 2 * i->n_cross * i->d_model * i->n_kv_head * i->head_dim, z->text.type, c,
                precise);
    return rate_macs(&m, median(r->encode, r->runs), c);
}

static void print_row(const char *what, double value, const char *unit, const struct rated *rated,
                      const char *rate_unit)
{
    printf("  %-26s %9.2f %-6s", what, value, unit);
    if (rated != NULL && rated->of > 0)
        printf("  %9.1f %s of %.1f (%s): %.0f %%", rated->value, rate_unit, rated->of, rated->unit,
               100 * rated->part);
    putchar('\n');
}

static void print_text(const struct bench_settings *b, const struct results *r,
                       const struct sizes *z, const struct puna_ceilings *c,
                       const struct puna_model_info *i)
{
    char name[64], at[32] = "", size[32];
    const struct rated prefill = rate_prefill(b, r, z, c, i);
    const struct rated decode = rate_decode(b, r, z, c, i);
    printf("%s\n%s, kernel tier %s, %d thread%s, median of %d run%s\n\n", i->path, i->format, i->tier,
           i->threads, i->threads == 1 ? "" : "s", r->runs, r->runs == 1 ? "" : "s");
    if (b->depth > 0)
        snprintf(at, sizeof(at), " at %d", (int)b->depth);
    snprintf(name, sizeof(name), "prefill, %d tokens%s", (int)b->prompt, at);
    print_row(name, median(r->prefill, r->runs), "tok/s", &prefill, "GOPS");
    snprintf(name, sizeof(name), "decode, %d tokens%s", (int)b->gen, at);
    print_row(name, median(r->decode, r->runs), "tok/s", &decode, "GB/s");
    if (r->n_tiles > 0) {
        const struct rated picture = rate_picture(r, z, c, i, b->session.precise);
        snprintf(name, sizeof(name), "picture %s, %d tile%s", b->image, (int)r->n_tiles,
                 r->n_tiles == 1 ? "" : "s");
        print_row(name, median(r->encode, r->runs), "s", &picture, "GOPS");
        print_row("first token with it", median(r->first, r->runs), "s", NULL, "");
    }
    print_row("opening the model", r->load_seconds, "s", NULL, "");
    format_bytes(size, sizeof(size), (double)r->peak_bytes);
    printf("  %-26s %16s\n", "peak memory (with map)", size);
}

static json_t *json_runs(const double *v, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_real(v[i]));
    return list;
}

static json_t *json_rated(const char *unit, const double *v, int n, const struct rated *x)
{
    json_t *j = json_pack("{s:f, s:o}", unit, median(v, n), "runs", json_runs(v, n));
    if (x != NULL)
        json_object_update_new(j, json_pack("{s:f, s:f, s:s, s:f}", "achieved", x->value, "ceiling",
                                            x->of, "ceiling_of", x->unit, "part",
                                            x->of > 0 ? x->part : 0.0));
    return j;
}

static json_t *report(const struct bench_settings *b, const struct results *r, const struct sizes *z,
                      const struct puna_ceilings *c, const struct puna_model_info *i)
{
    const struct rated prefill = rate_prefill(b, r, z, c, i);
    const struct rated decode = rate_decode(b, r, z, c, i);
    json_t *j = json_pack(
        "{s:s, s:o, s:s, s:s, s:i, s:i, s:i, s:i, s:f, s:I, s:{s:f, s:f, s:f, s:f}}", "version",
        puna_version(), "model", json_lossy(i->path, strlen(i->path)), "format", i->format, "tier",
        i->tier, "threads", i->threads, "depth", (int)b->depth, "prompt_tokens", (int)b->prompt, "generated_tokens",
        (int)b->gen, "load_seconds", r->load_seconds, "peak_bytes", (json_int_t)r->peak_bytes,
        "ceilings", "read_gbs", c->read_gbs, "int8_gops", c->int8_gops, "bf16_gops", c->bf16_gops,
        "f32_gops", c->f32_gops);
    json_object_set_new(j, "prefill",
                        json_rated("tokens_per_second", r->prefill, r->runs, &prefill));
    json_t *d = json_rated("tokens_per_second", r->decode, r->runs, &decode);
    json_object_set_new(d, "ceiling_runs", json_runs(r->read, r->runs));
    json_object_set_new(j, "decode", d);
    if (r->n_tiles > 0) {
        const struct rated picture = rate_picture(r, z, c, i, b->session.precise);
        json_t *p = json_rated("seconds", r->encode, r->runs, &picture);
        json_object_set_new(p, "size", json_string(b->image));
        json_object_set_new(p, "tiles", json_integer(r->n_tiles));
        json_object_set_new(j, "picture", p);
        json_object_set_new(j, "first_token", json_rated("seconds", r->first, r->runs, NULL));
    }
    return j;
}

/* ------------------------------------------------------------------------------------- the command */

static bool parse_size(const char *s, int32_t *w, int32_t *h)
{
    char *end;
    const long a = strtol(s, &end, 10);
    if (end == s || *end != 'x')
        return false;
    const char *second = end + 1;
    const long b = strtol(second, &end, 10);
    if (end == second || *end != '\0' || a < 0 || b < 0 || a > 16384 || b > 16384 || !a != !b)
        return false;
    *w = (int32_t)a;
    *h = (int32_t)b;
    return true;
}

static int measure(struct results *r, const puna_model *m, const struct bench_settings *b, int32_t w,
                   int32_t h, struct puna_error *err)
{
    for (r->runs = 0; r->runs < b->runs; r->runs++) {
        int rc = measure_text(r, r->runs, m, b, err);
        if (rc == 0 && w > 0 && model_info(m).has_vision)
            rc = measure_picture(r, r->runs, m, b, w, h, err);
        if (rc != 0)
            return rc;
    }
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        r->peak_bytes = (size_t)usage.ru_maxrss * 1024;
    return 0;
}

static int run(const void *settings)
{
    const struct bench_settings *b = settings;
    int32_t w, h;
    if (!parse_size(b->image, &w, &h))
        return diag_usage("--image takes a size such as 560x560, not '%s'", b->image);
    struct puna_error err = { 0 };
    struct results r = { 0 };
    puna_model *m = NULL;
    const double start = term_now();
    int status = model_open(&m, &b->model);
    r.load_seconds = term_now() - start;
    if (status == EXIT_OK && measure(&r, m, b, w, h, &err) != 0)
        status = diag_error(&err);
    if (status == EXIT_OK) {
        const struct puna_model_info info = model_info(m);
        const struct sizes sizes = model_sizes(m);
        struct puna_ceilings peak;
        puna_model_ceilings(m, &peak);
        peak.read_gbs = median(r.read, r.runs);
        if (b->json)
            status = print_json(report(b, &r, &sizes, &peak, &info));
        else
            print_text(b, &r, &sizes, &peak, &info);
    }
    puna_model_close(&m);
    return status;
}

const struct command cmd_bench = {
    .name = "bench",
    .usage = "[-m MODEL] [options]",
    .summary = "Measure speed beside what the machine could do.",
    .details =
        "Prefill, decoding, a picture, the time to the first token, opening the model, and peak "
        "memory. Beside each rate stands the ceiling measured in the same run: for decoding, how fast "
        "the weights can be read, in turns with it; for prefill and pictures, multiply-adds of "
        "the weights' number format (int8 for a vision tower that is multiplied so), and of bf16 or f32 for "
        "attention, by the instructions in use (--cpu). "
        "'puna synth' makes models of the real shapes to measure without weights.\n"
        "\n"
        "Examples:\n"
        "  puna bench -m llama3.2-vision\n"
        "  puna bench -m 11b.gguf --prompt 1024 --gen 128 --image 1120x1120 --json\n"
        "  puna bench -m 8b.gguf --depth 32768 --gen 16 --image 0x0",
    .opts = options,
    .n_opts = sizeof(options) / sizeof(options[0]),
    .defaults = &defaults,
    .size = sizeof(defaults),
    .run = run,
};
