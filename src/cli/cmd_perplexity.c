/* SPDX-License-Identifier: Apache-2.0 */
/* puna perplexity: how well a model predicts a text or the answers of conversations, and how far it is from another
 * one (a quantised model from the one it was made of). */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "cli/common.h"
#include "cli/klbase.h"
#include "cli/pieces.h"

struct perplexity_settings {
    struct model_settings model;
    struct session_settings session;
    struct opt_list args;
    const char *base, *save;
    int64_t pieces, top;
    bool json;
};

static const struct perplexity_settings defaults = { .top = 256 };

#define T struct perplexity_settings
static const struct opt_spec options[] = {
    OPT_HEADING("Options"),
    OPTS_MODEL_NAME(T),
    OPT_ROW(T, base, OPT_STRING, "kl-base", 0, "BASE", "Compare with the model that wrote BASE.", .dflt = ""),
    OPT_ROW(T, save, OPT_STRING, "save-base", 0, "BASE",
            "Write what this model predicts to BASE, for others to be compared with.", .dflt = ""),
    OPT_ROW(T, top, OPT_INT, "base-top", 0, "N",
            "With --save-base: at most the N likeliest tokens of a position are written one by one.", .min = 1,
            .max = 65536),
    OPT_ROW(T, session.ctx, OPT_INT, "ctx", 0, "N",
            "Tokens of a window of text; for conversations, the most that one may have.",
            .dflt = "512; for conversations 4096", .min = 4, .max = INT32_MAX),
    OPT_ROW(T, pieces, OPT_INT, "pieces", 0, "N", "Only the first N windows or conversations.", .dflt = "all",
            .min = 1, .max = INT32_MAX),
    OPT_FLAG_ROW(T, json, "json", 0, "One JSON object instead of lines of text."),
    OPT_HEADING("Computation"),
    OPT_ROW(T, session.kv_type, OPT_CHOICE, "kv-type", 0, "TYPE",
            "Number format of the keys and values kept: f16, f32, bf16 or q8_0.", .choices = kv_type_names),
    OPTS_PRECISE(T),
    OPTS_PICTURES(T),
    OPTS_MACHINE(T),
};
#undef T

/* ------------------------------------------------------------------------------------- sums */

/* Count, sum and sum of squares of something. */
struct mean {
    double sum, squares;
};

static void take(struct mean *m, double v)
{
    m->sum += v;
    m->squares += v * v;
}

struct tally {
    uint64_t n, n_pieces;
    struct mean nll, base_nll, ratio, kl, dp2; /* dp: difference of the probability of the token that came */
    uint64_t same;
    double tail;
    float *kls; /* [n] */
    size_t cap;
};

static double average(const struct tally *t, const struct mean *m)
{
    return m->sum / (double)t->n;
}

/* Standard error of the mean. */
static double error_of(const struct tally *t, const struct mean *m)
{
    const double mean = average(t, m), var = m->squares / (double)t->n - mean * mean;
    return t->n > 1 && var > 0 ? sqrt(var / (double)(t->n - 1)) : 0;
}

/* ------------------------------------------------------------------------------------- one row */

struct row {
    const float *logits;
    int32_t n;
    float max;
    double sum; /* of exp(logit - max) */
    int32_t best;
};

static struct row look(const float *logits, int32_t n)
{
    struct row r = { .logits = logits, .n = n, .max = logits[0] };
    for (int32_t i = 1; i < n; i++) {
        if (logits[i] > r.max) {
            r.max = logits[i];
            r.best = i;
        }
    }
    for (int32_t i = 0; i < n; i++)
        r.sum += (double)expf(logits[i] - r.max);
    return r;
}

static double logprob(const struct row *r, int32_t id)
{
    return (double)(r->logits[id] - r->max) - log(r->sum);
}

/* heap of the likeliest tokens, the least likely of them on top; ties: the smaller id is likelier */
static bool less(const struct kl_top *a, const struct kl_top *b)
{
    return a->logprob < b->logprob || (a->logprob == b->logprob && a->id > b->id);
}

static void sift(struct kl_top *h, size_t n, size_t i)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && less(&h[child + 1], &h[child]))
            child++;
        if (!less(&h[child], &h[i]))
            return;
        const struct kl_top t = h[i];
        h[i] = h[child];
        h[child] = t;
    }
}

/* The most likeliest of the row, best first, logits instead of log-probabilities. */
static void likeliest(const struct row *r, struct kl_top *top, size_t most)
{
    for (size_t i = 0; i < most; i++)
        top[i] = (struct kl_top){ (int32_t)i, r->logits[i] };
    for (size_t i = most / 2; i-- > 0;)
        sift(top, most, i);
    for (int32_t i = (int32_t)most; i < r->n; i++) {
        const struct kl_top t = { i, r->logits[i] };
        if (less(&top[0], &t)) {
            top[0] = t;
            sift(top, most, 0);
        }
    }
    for (size_t n = most; n > 1; n--) {
        const struct kl_top t = top[0];
        top[0] = top[n - 1];
        top[n - 1] = t;
        sift(top, n - 1, 0);
    }
}

struct work {
    const struct perplexity_settings *s;
    const puna_model *m;
    struct tally t;
    struct kl_writer *writer;
    struct kl_reader *reader;
    struct kl_top *top; /* [most] */
    size_t most;
    int rc;             /* of a failure inside the callback */
    struct puna_error err;
};

static int write_row(struct work *w, const struct row *r, int32_t target)
{
    likeliest(r, w->top, w->most);
    double rest = r->sum;
    size_t n = 0;
    while (n < w->most && (n == 0 || rest / r->sum >= KL_TAIL)) {
        rest -= (double)expf(w->top[n].logprob - r->max);
        w->top[n].logprob = (float)fmin(logprob(r, w->top[n].id), 0);
        n++;
    }
    const struct kl_position p = {
        .token = target,
        .logprob = (float)fmin(logprob(r, target), 0),
        .tail = n == (size_t)r->n ? 0 : (float)(fmax(rest, 0) / r->sum),
        .n = (int32_t)n,
        .top = w->top,
    };
    return kl_put(w->writer, &p, &w->err);
}

static bool keep_kl(struct tally *t, double kl)
{
    if (t->n >= t->cap) {
        const size_t cap = t->cap ? 2 * t->cap : 4096;
        float *v = realloc(t->kls, cap * sizeof(*v));
        if (v == NULL)
            return false;
        t->kls = v;
        t->cap = cap;
    }
    t->kls[t->n] = (float)kl;
    return true;
}

/* The divergence of the two distributions after all tokens that the base does not list are counted as one: never
 * more than that of the whole distributions. */
static double divergence(const struct row *r, const struct kl_position *p)
{
    double kl = 0, listed = 0;
    for (int32_t i = 0; i < p->n; i++) {
        const double lp = (double)p->top[i].logprob;
        kl += exp(lp) * (lp - logprob(r, p->top[i].id));
        listed += (double)expf(r->logits[p->top[i].id] - r->max);
    }
    if (p->tail > 0)
        kl += (double)p->tail * (log((double)p->tail) - log(fmax(1 - listed / r->sum, 1e-12)));
    return fmax(kl, 0); /* what is below is rounding */
}

static int compare_row(struct work *w, const struct row *r, int32_t target, double lp)
{
    struct kl_position p;
    const int rc = kl_next(w->reader, &p, &w->err);
    if (rc != 0)
        return rc;
    struct tally *t = &w->t;
    const double kl = divergence(r, &p), base = (double)p.logprob, dp = exp(lp) - exp(base);
    if (p.token != target)
        return pn_fail(&w->err, PUNA_E_FORMAT, "%s was made from other tokens", w->s->base);
    if (!keep_kl(t, kl))
        return pn_fail(&w->err, PUNA_E_MEMORY, "no memory for the divergences");
    take(&t->base_nll, -base);
    take(&t->ratio, base - lp);
    take(&t->kl, kl);
    take(&t->dp2, dp * dp);
    t->same += p.top[0].id == r->best;
    t->tail += (double)p.tail;
    return 0;
}

static int on_row(void *user, int32_t target, const float *logits, int32_t n_vocab)
{
    struct work *w = user;
    const struct row r = look(logits, n_vocab);
    const double lp = logprob(&r, target);
    if (w->writer != NULL)
        w->rc = write_row(w, &r, target);
    if (w->rc == 0 && w->reader != NULL)
        w->rc = compare_row(w, &r, target, lp);
    take(&w->t.nll, -lp);
    w->t.n++;
    return w->rc != 0 || term_interrupted();
}

/* ------------------------------------------------------------------------------------- the report */

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Linear between the two values around it. */
static double percentile(const struct tally *t, double part)
{
    const double at = part * (double)(t->n - 1);
    const size_t i = (size_t)at, j = i + 1 < t->n ? i + 1 : i;
    return (double)t->kls[i] + (at - (double)i) * ((double)t->kls[j] - (double)t->kls[i]);
}

static const struct {
    const char *name, *key;
    double part;
} percentiles[] = {
    { "median", "median", 0.5 }, { "90 %", "p90", 0.9 },     { "95 %", "p95", 0.95 },
    { "99 %", "p99", 0.99 },     { "99.9 %", "p999", 0.999 }, { "maximum", "max", 1 },
};
enum { N_PERCENTILES = sizeof(percentiles) / sizeof(percentiles[0]) };

struct shown {
    double value, error;
};

static struct shown perplexity(const struct tally *t, const struct mean *m)
{
    const double v = exp(average(t, m));
    return (struct shown){ v, v * error_of(t, m) };
}

static struct shown same_rate(const struct tally *t)
{
    const double p = (double)t->same / (double)t->n;
    return (struct shown){ p, t->n > 1 ? sqrt(p * (1 - p) / (double)(t->n - 1)) : 0 };
}

/* Root of the mean square; its error from that of the mean square. */
static struct shown rms(const struct tally *t)
{
    const double v = sqrt(average(t, &t->dp2));
    return (struct shown){ v, v > 0 ? error_of(t, &t->dp2) / (2 * v) : 0 };
}

static void print_text(const struct work *w, const struct pieces *p)
{
    const struct tally *t = &w->t;
    const struct shown ppl = perplexity(t, &t->nll);
    printf("%s%s %" PRIu64 "\n", pieces_name(p), "s:", t->n_pieces);
    printf("tokens predicted: %" PRIu64 "\n", t->n);
    printf("perplexity: %.6g +- %.4g\n", ppl.value, ppl.error);
    if (w->reader == NULL)
        return;
    const struct shown base = perplexity(t, &t->base_nll), same = same_rate(t), dp = rms(t);
    printf("perplexity of the base: %.6g +- %.4g\n", base.value, base.error);
    printf("log of their ratio: %.6g +- %.4g\n", average(t, &t->ratio), error_of(t, &t->ratio));
    printf("KL divergence, mean: %.6g +- %.4g\n", average(t, &t->kl), error_of(t, &t->kl));
    for (size_t i = 0; i < N_PERCENTILES; i++)
        printf("KL divergence, %s: %.6g\n", percentiles[i].name, percentile(t, percentiles[i].part));
    printf("same top token: %.3f +- %.3f %%\n", 100 * same.value, 100 * same.error);
    printf("RMS of delta p: %.4f +- %.4f %%\n", 100 * dp.value, 100 * dp.error);
    printf("probability the base does not list, mean: %.3g\n", t->tail / (double)t->n);
}

static json_t *pair(struct shown s)
{
    return json_pack("{s:f, s:f}", "value", s.value, "error", s.error);
}

static int print_object(const struct work *w, const struct pieces *p)
{
    const struct tally *t = &w->t;
    char key[32];
    snprintf(key, sizeof(key), "%ss", pieces_name(p));
    json_t *j = json_pack("{s:I, s:I, s:o}", key, (json_int_t)t->n_pieces, "tokens", (json_int_t)t->n, "perplexity",
                          pair(perplexity(t, &t->nll)));
    if (w->reader != NULL) {
        json_t *kl = pair((struct shown){ average(t, &t->kl), error_of(t, &t->kl) });
        for (size_t i = 0; i < N_PERCENTILES; i++)
            json_object_set_new(kl, percentiles[i].key, json_real(percentile(t, percentiles[i].part)));
        json_object_set_new(j, "base_perplexity", pair(perplexity(t, &t->base_nll)));
        json_object_set_new(j, "log_ratio", pair((struct shown){ average(t, &t->ratio), error_of(t, &t->ratio) }));
        json_object_set_new(j, "kl", kl);
        json_object_set_new(j, "same_top", pair(same_rate(t)));
        json_object_set_new(j, "rms_delta_p", pair(rms(t)));
        json_object_set_new(j, "base_tail", json_real(t->tail / (double)t->n));
    }
    return print_json(j);
}

/* ------------------------------------------------------------------------------------- the run */

static int one_piece(struct work *w, const struct pieces *p, size_t i, puna_session *s, struct puna_error *err)
{
    struct piece piece = { 0 };
    size_t n = 0;
    int rc = piece_put(p, i, s, &piece, err);
    if (rc == 0 && piece.n == 0)
        rc = pn_fail(err, PUNA_E_FORMAT, "%s: record %zu has no \"answer\" to predict", w->s->args.v[0], i + 1);
    if (rc == 0 && w->writer != NULL)
        rc = kl_put_piece(w->writer, piece.hash, piece.n, err);
    if (rc == 0 && w->reader != NULL)
        rc = kl_next_piece(w->reader, piece.hash, &n, err);
    if (rc == 0 && w->reader != NULL && n != piece.n)
        rc = pn_fail(err, PUNA_E_FORMAT, "%s was made from other tokens", w->s->base);
    if (rc == 0) {
        rc = piece_predict(&piece, w->m, s, on_row, w, err);
        if (w->rc != 0) { /* eval only knows that it was asked to stop */
            rc = w->rc;
            *err = w->err;
        }
    }
    w->t.n_pieces += rc == 0;
    piece_free(&piece);
    return rc;
}

static int all_pieces(struct work *w, const struct pieces *p, puna_session *s, struct puna_error *err)
{
    const size_t all = pieces_count(p);
    const size_t n = w->s->pieces != 0 && (size_t)w->s->pieces < all ? (size_t)w->s->pieces : all;
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = term_progress(NULL, "perplexity", (double)i, (double)n) != 0
                 ? pn_fail(err, PUNA_E_CANCELLED, "interrupted")
                 : one_piece(w, p, i, s, err);
    term_clear_progress();
    return rc;
}

static int measure(struct work *w, const struct pieces *p, struct puna_error *err)
{
    struct puna_session_params params;
    session_params(&params, &w->s->session);
    params.ctx = pieces_ctx(p) != 0 ? pieces_ctx(p) : (int32_t)w->s->session.ctx;
    params.progress = NULL; /* one line for the whole */
    puna_session *session = NULL;
    int rc = puna_session_open(&session, w->m, &params, err);
    if (rc == 0) {
        term_watch(session, false);
        rc = all_pieces(w, p, session, err);
        term_watch(NULL, false);
    }
    puna_session_close(&session);
    if (rc == 0 && w->writer != NULL)
        rc = kl_commit(&w->writer, err);
    return rc;
}

static int run(const void *settings)
{
    const struct perplexity_settings *s = settings;
    if (s->base != NULL && s->save != NULL)
        return diag_usage("--kl-base and --save-base exclude each other");
    puna_model *m = NULL;
    if (model_open(&m, &s->model) != EXIT_OK)
        return EXIT_FAILED;
    const int32_t n_vocab = model_info(m).n_vocab;
    struct puna_error err = { 0 };
    struct work w = { .s = s, .m = m, .most = (size_t)(s->top < n_vocab ? s->top : n_vocab) };
    struct pn_map *map = NULL;
    struct pieces *pieces = NULL;
    int rc = pieces_open(&pieces, m, s->args.v[0], s->session.ctx, &err);
    if (rc == 0 && (w.top = calloc(w.most, sizeof(*w.top))) == NULL)
        rc = pn_fail(&err, PUNA_E_MEMORY, "no memory for the likeliest tokens");
    if (rc == 0 && s->base != NULL)
        rc = pn_map_open(&map, s->base, &err);
    if (rc == 0 && s->base != NULL)
        rc = kl_open(&w.reader, map->data, map->size, s->base, n_vocab, &err);
    if (rc == 0 && s->save != NULL)
        rc = kl_create(&w.writer, s->save, n_vocab, (int32_t)w.most, &err);
    if (rc == 0)
        rc = measure(&w, pieces, &err);
    int status = rc == 0 ? EXIT_OK : diag_error(&err);
    if (rc == 0 && w.reader != NULL)
        qsort(w.t.kls, (size_t)w.t.n, sizeof(*w.t.kls), by_value);
    if (rc == 0 && s->json)
        status = print_object(&w, pieces);
    else if (rc == 0)
        print_text(&w, pieces);
    kl_abort(&w.writer);
    kl_close(&w.reader);
    pn_map_close(&map);
    pieces_close(&pieces);
    puna_model_close(&m);
    free(w.top);
    free(w.t.kls);
    return status;
}

const struct command cmd_perplexity = {
    .name = "perplexity",
    .usage = "[-m MODEL] DATA [--save-base BASE | --kl-base BASE] [options]",
    .summary = "Measure how well a model predicts, and how far it is from another.",
    .details = "DATA is a text, cut into windows whose second halves are predicted, as by llama.cpp's perplexity "
               "tool; or a file of conversations with pictures whose name ends in .jsonl, one JSON object a line "
               "with \"prompt\", \"image\" (a file's name or a list of them, seen from DATA's folder; may be left "
               "out) and \"answer\": then the answers are predicted. With --save-base for one model and --kl-base "
               "for another of the same vocabulary, the two are compared token by token: Kullback-Leibler "
               "divergence in nats, how often they agree on the likeliest token, and how much the probability of "
               "the right one differs.\n"
               "\n"
               "Examples:\n"
               "  puna perplexity -m DIR wiki.test.raw --save-base f16.base\n"
               "  puna perplexity -m small.gguf wiki.test.raw --kl-base f16.base\n"
               "  puna perplexity -m small.gguf questions.jsonl",
    .opts = options,
    .n_opts = sizeof(options) / sizeof(options[0]),
    .min_args = 1,
    .max_args = 1,
    .args_offset = offsetof(struct perplexity_settings, args),
    .defaults = &defaults,
    .size = sizeof(defaults),
    .run = run,
};
