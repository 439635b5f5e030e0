/* SPDX-License-Identifier: Apache-2.0 */
/* puna score: how many questions of a data set a model answers right, or how well it finds the right caption. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/map.h"
#include "base/sha256.h"
#include "cli/common.h"
#include "cli/dataset.h"
#include "cli/metric.h"

struct score_settings {
    struct model_settings model;
    struct session_settings session;
    struct opt_list args;
    const char *out, *suffix;
    int64_t max_tokens, records;
    int metric;
    bool rank, per_token, json;
};

static const struct score_settings defaults = { .max_tokens = 64 };

#define T struct score_settings
static const struct opt_spec options[] = {
    OPT_HEADING("Options"),
    OPTS_MODEL_NAME(T),
    OPT_ROW(T, metric, OPT_CHOICE, "metric", 0, "METRIC",
            "When an answer is right: exact (equal), relaxed (ChartQA: numbers within 5 %), anls (DocVQA: edit "
            "distance), vqa (VQAv2: agreement with ten people), choice (MMMU, AI2D: the letter).",
            .choices = metric_names),
    OPT_FLAG_ROW(T, rank, "rank", 0,
                 "Order each record's \"candidates\" by their probability after the picture and the prompt instead "
                 "of asking for an answer."),
    OPT_FLAG_ROW(T, per_token, "per-token", 0,
                 "With --rank: by the mean log-probability of a candidate's tokens, not their sum."),
    OPT_ROW(T, out, OPT_STRING, "output", 'o', "FILE",
            "Write a JSON object a line for each record. A FILE that is there already is continued.", .dflt = ""),
    OPT_ROW(T, suffix, OPT_STRING, "suffix", 0, "TEXT",
            "Put TEXT behind every question, such as ' Answer with one word.'", .dflt = ""),
    OPT_ROW(T, max_tokens, OPT_INT, "max-tokens", 'n', "N", "At most N tokens in an answer.", .min = 1,
            .max = INT32_MAX),
    OPT_ROW(T, records, OPT_INT, "records", 0, "N", "Only the first N records.", .dflt = "all", .min = 1,
            .max = INT32_MAX),
    OPT_FLAG_ROW(T, json, "json", 0, "One JSON object instead of a table."),
    OPT_HEADING("Computation"),
    OPTS_CONTEXT(T),
    OPTS_PRECISE(T),
    OPTS_PICTURES(T),
    OPTS_MACHINE(T),
};
#undef T

/* ------------------------------------------------------------------------------------- the table */

enum { MAX_MEASURES = 3 };

struct measure {
    double sum, squares;
};
struct kind {
    char *name; /* NULL: all records */
    uint64_t n;
    struct measure of[MAX_MEASURES];
};

struct work {
    const struct score_settings *s;
    const puna_model *m;
    const struct dataset *set;
    struct kind *kinds; /* [n_kinds], the first is for all */
    size_t n_kinds;
    const char *names[MAX_MEASURES]; /* [n_names] */
    bool graded[MAX_MEASURES];
    size_t n_names;
    int fd;             /* of the output; -1: none */
    size_t done;        /* records whose lines the output has already */
};

static struct kind *find_kind(struct work *w, const char *name)
{
    for (size_t i = 1; i < w->n_kinds; i++)
        if (strcmp(w->kinds[i].name, name) == 0)
            return &w->kinds[i];
    struct kind *v = realloc(w->kinds, (w->n_kinds + 1) * sizeof(*v));
    if (v == NULL)
        return NULL;
    w->kinds = v;
    v[w->n_kinds] = (struct kind){ .name = strdup(name) };
    return v[w->n_kinds].name != NULL ? &v[w->n_kinds++] : NULL;
}

static void count(struct kind *k, size_t n, const double *values)
{
    k->n++;
    for (size_t i = 0; i < n; i++) {
        k->of[i].sum += values[i];
        k->of[i].squares += values[i] * values[i];
    }
}

/* What the line of a record says, into the table; a rank without a right candidate counts nowhere. */
static int tally(struct work *w, const json_t *line, struct puna_error *err)
{
    double v[MAX_MEASURES] = { 0 };
    if (w->s->rank) {
        const double rank = json_number_value(json_object_get(line, "rank"));
        if (!(rank >= 1))
            return 0;
        v[0] = rank <= 1;
        v[1] = rank <= 5;
        v[2] = 1 / rank;
    } else {
        v[0] = json_number_value(json_object_get(line, "score"));
    }
    const char *name = json_string_value(json_object_get(line, "kind"));
    struct kind *k = name != NULL ? find_kind(w, name) : NULL;
    if (name != NULL && k == NULL)
        return pn_fail(err, PUNA_E_MEMORY, "no memory for the table");
    if (k != NULL)
        count(k, w->n_names, v);
    count(&w->kinds[0], w->n_names, v);
    return 0;
}

static struct interval interval(const struct work *w, const struct kind *k, size_t i)
{
    return w->graded[i] ? interval_normal(k->of[i].sum, k->of[i].squares, k->n)
                        : interval_wilson(k->of[i].sum, k->n);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct kind *)a)->name, ((const struct kind *)b)->name);
}

static void print_table(const struct work *w)
{
    for (size_t i = 0; i < w->n_names; i++) {
        printf("%s%s, 95 %% intervals %s\n", i ? "\n" : "", w->names[i],
               w->graded[i] ? "by the normal distribution" : "by Wilson's method");
        for (size_t j = 0; j < w->n_kinds; j++) {
            const struct kind *k = &w->kinds[(j + 1) % w->n_kinds]; /* all records last */
            if (k->n == 0)
                continue;
            const struct interval c = interval(w, k, i);
            printf("%-16s %6.2f %%  %6.2f to %6.2f   of %" PRIu64 "\n", k->name != NULL ? k->name : "all",
                   100 * k->of[i].sum / (double)k->n, 100 * c.low, 100 * c.high, k->n);
        }
    }
}

static json_t *json_kind(const struct work *w, const struct kind *k)
{
    json_t *j = json_pack("{s:I}", "n", (json_int_t)k->n);
    for (size_t i = 0; i < w->n_names && k->n > 0; i++) {
        const struct interval c = interval(w, k, i);
        json_object_set_new(j, w->names[i],
                            json_pack("{s:f, s:f, s:f, s:s}", "mean", k->of[i].sum / (double)k->n, "low", c.low,
                                      "high", c.high, "interval", w->graded[i] ? "normal" : "wilson"));
    }
    return j;
}

static int print_object(const struct work *w)
{
    json_t *kinds = json_object();
    for (size_t i = 1; i < w->n_kinds; i++)
        json_object_set_new(kinds, w->kinds[i].name, json_kind(w, &w->kinds[i]));
    return print_json(json_pack("{s:o, s:o}", "all", json_kind(w, &w->kinds[0]), "kinds", kinds));
}

/* ------------------------------------------------------------------------------------- the output */

/* What makes two results comparable: the record's bytes and how it was asked. 16 hexadecimal digits. */
static int fingerprint(const struct work *w, const struct record *r, char out[17], struct puna_error *err)
{
    const struct score_settings *s = w->s;
    struct pn_buf b = { 0 };
    pn_buf_append(&b, r->text, r->len);
    pn_buf_printf(&b, "\n%s\n%" PRId64 "\n%d", s->suffix != NULL ? s->suffix : "", s->rank ? 0 : s->max_tokens,
                  s->rank && s->per_token);
    char hex[65] = "";
    if (!b.failed)
        pn_sha256_hex(hex, b.data, b.len);
    const int rc = b.failed ? pn_fail(err, PUNA_E_MEMORY, "no memory for a record") : 0;
    memcpy(out, hex, 16);
    out[16] = '\0';
    pn_buf_free(&b);
    return rc;
}

static const char *metric_name(const struct work *w)
{
    return w->s->rank ? "rank" : metric_names[w->s->metric];
}

static bool says(const json_t *line, const char *key, const char *value)
{
    const char *s = json_string_value(json_object_get(line, key));
    return s != NULL && strcmp(s, value) == 0;
}

/* A line of the output that is there already: does it belong to record i of this run? */
static int take_line(struct work *w, const char *text, size_t len, struct puna_error *err)
{
    const size_t i = w->done;
    json_error_t why;
    json_t *line = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    struct record r = { 0 };
    char hash[17];
    int rc = 0;
    const json_t *index = json_object_get(line, "index");
    if (!json_is_integer(index) || json_integer_value(index) != (json_int_t)i)
        rc = pn_fail(err, PUNA_E_FORMAT, "%s: line %zu is no result of puna score; give another -o", w->s->out, i + 1);
    if (rc == 0 && i >= dataset_count(w->set))
        rc = pn_fail(err, PUNA_E_FORMAT, "%s has more lines than the data has records; give another -o", w->s->out);
    if (rc == 0)
        rc = record_read(w->set, i, &r, err);
    if (rc == 0)
        rc = fingerprint(w, &r, hash, err);
    if (rc == 0 && (!says(line, "record", hash) || !says(line, "metric", metric_name(w)) ||
                    !says(line, "model", model_info(w->m).path)))
        rc = pn_fail(err, PUNA_E_FORMAT,
                     "%s: line %zu comes from another model, record, metric or way of asking; give another -o",
                     w->s->out, i + 1);
    if (rc == 0)
        rc = tally(w, line, err);
    w->done += rc == 0;
    record_free(&r);
    json_decref(line);
    return rc;
}

/* Take over the lines of an output that is there; what a crash left of a last line is cut off. */
static int take_up(struct work *w, struct puna_error *err)
{
    char *text = NULL;
    size_t len = 0, at = 0;
    int rc = 0;
    if (access(w->s->out, F_OK) == 0)
        rc = pn_read_file(&text, &len, w->s->out, (size_t)1 << 30, err);
    for (const char *nl; rc == 0 && at < len && (nl = memchr(text + at, '\n', len - at)) != NULL;) {
        rc = take_line(w, text + at, (size_t)(nl - text) - at, err);
        at = (size_t)(nl - text) + 1;
    }
    free(text);
    if (rc != 0)
        return rc;
    w->fd = open(w->s->out, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (w->fd < 0 || (at < len && ftruncate(w->fd, (off_t)at) != 0) || lseek(w->fd, 0, SEEK_END) < 0)
        return pn_fail(err, PUNA_E_IO, "cannot write %s: %s", w->s->out, strerror(errno));
    return 0;
}

/* One line with one write, so that it is there whole or hardly at all. */
static int put_line(struct work *w, const json_t *line, struct puna_error *err)
{
    char *text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9));
    struct pn_buf b = { 0 };
    pn_buf_str(&b, text != NULL ? text : "");
    pn_buf_append(&b, "\n", 1);
    int rc = text == NULL || b.failed ? pn_fail(err, PUNA_E_MEMORY, "no memory for a result") : 0;
    for (size_t at = 0; rc == 0 && w->fd >= 0 && at < b.len;) {
        const ssize_t n = write(w->fd, b.data + at, b.len - at);
        if (n > 0)
            at += (size_t)n;
        else if (n < 0 && errno != EINTR)
            rc = pn_fail(err, PUNA_E_IO, "cannot write %s: %s", w->s->out, strerror(errno));
    }
    free(text);
    pn_buf_free(&b);
    return rc;
}

/* ------------------------------------------------------------------------------------- asking */

/* Strings of a JSON value: one, or a list of strings or of objects with "answer" (VQAv2's form). v: [cap]. */
static bool strings(const json_t *j, const char **v, size_t cap, size_t *n)
{
    const size_t size = json_is_array(j) ? json_array_size(j) : 1;
    for (size_t i = 0; i < size; i++) {
        const json_t *e = json_is_array(j) ? json_array_get(j, i) : j;
        const char *s = json_string_value(json_is_object(e) ? json_object_get(e, "answer") : e);
        if (s == NULL || *n == cap)
            return false;
        v[(*n)++] = s;
    }
    return true;
}

enum { MAX_STRINGS = 4096 };

struct lists {
    const char *answers[MAX_STRINGS], *choices[MAX_STRINGS];
    struct reference ref;
    char letter[2]; /* of an answer given by its number */
};

static int read_lists(const struct work *w, const struct record *r, struct lists *l, struct puna_error *err)
{
    const json_t *answer = json_object_get(r->json, "answer"), *choices = json_object_get(r->json, "choices");
    if (answer == NULL)
        answer = json_object_get(r->json, "answers");
    size_t n = 0, n_choices = 0;
    bool ok = choices == NULL || strings(choices, l->choices, MAX_STRINGS, &n_choices);
    if (!ok) {
        pn_fail(err, PUNA_E_FORMAT, "\"choices\" is not a list of strings");
    } else if (json_is_integer(answer) && n_choices > 0 && json_integer_value(answer) >= 0 &&
               json_integer_value(answer) < 26) {
        l->letter[0] = (char)('A' + json_integer_value(answer));
        l->letter[1] = '\0';
        l->answers[n++] = l->letter;
    } else if (answer == NULL || !strings(answer, l->answers, MAX_STRINGS, &n) || n == 0) {
        ok = false;
        pn_fail(err, PUNA_E_FORMAT, "no \"answer\" to compare with: a string or a list of them");
    }
    if (ok && r->prompt == NULL) {
        ok = false;
        pn_fail(err, PUNA_E_FORMAT, "neither \"prompt\" nor \"question\"");
    }
    l->ref = (struct reference){ l->answers, n, l->choices, n_choices };
    return ok ? 0 : record_fail(w->set, r, PUNA_E_FORMAT, err);
}

/* The choices as lines behind the question, then the suffix. */
static bool behind_question(const struct work *w, const struct lists *l, struct pn_buf *out)
{
    pn_buf_str(out, "");
    for (size_t i = 0; w->s->metric == METRIC_CHOICE && i < l->ref.n_choices; i++)
        pn_buf_printf(out, "\n%c. %s", (char)('A' + i % 26), l->ref.choices[i]);
    return pn_buf_str(out, w->s->suffix != NULL ? w->s->suffix : "");
}

static int add_text(void *user, const struct puna_piece *piece)
{
    struct pn_buf *b = user;
    return !pn_buf_append(b, piece->text, piece->text_len) || term_interrupted();
}

static int ask(const struct work *w, puna_session *s, const struct record *r, json_t *line, struct puna_error *err)
{
    struct lists *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return pn_fail(err, PUNA_E_MEMORY, "no memory for the answers");
    struct pn_buf behind = { 0 }, answer = { 0 };
    pn_buf_str(&answer, "");
    int rc = read_lists(w, r, l, err);
    if (rc == 0 && !behind_question(w, l, &behind))
        rc = pn_fail(err, PUNA_E_MEMORY, "no memory for the question");
    if (rc == 0 && (rc = record_append_prompt(s, w->m, r, behind.data, err)) != 0)
        rc = record_fail(w->set, r, rc, err);
    if (rc == 0) {
        struct puna_gen_params params;
        puna_gen_params_init(&params, w->m);
        params.temperature = 0;
        params.max_tokens = (int32_t)w->s->max_tokens;
        struct puna_gen_result result = { 0 };
        rc = puna_generate(s, &params, add_text, &answer, &result, err);
        if (rc == 0 && result.finish == PUNA_FINISH_CANCELLED)
            rc = pn_fail(err, answer.failed ? PUNA_E_MEMORY : PUNA_E_CANCELLED,
                         answer.failed ? "no memory for the answer" : "interrupted");
    }
    const double score = rc == 0 ? metric_score((enum metric)w->s->metric, answer.data, &l->ref) : 0;
    if (rc == 0 && score < 0)
        rc = pn_fail(err, PUNA_E_MEMORY, "no memory for the score");
    if (rc == 0) {
        json_object_set_new(line, "prediction", json_lossy(answer.data, answer.len));
        json_object_set_new(line, "score", json_real(score));
    }
    pn_buf_free(&behind);
    pn_buf_free(&answer);
    free(l);
    return rc;
}

/* ------------------------------------------------------------------------------------- ranking */

static double row_logprob(const float *logits, int32_t n, int32_t id)
{
    float max = logits[0];
    for (int32_t i = 1; i < n; i++)
        max = logits[i] > max ? logits[i] : max;
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += (double)expf(logits[i] - max);
    return (double)(logits[id] - max) - log(sum);
}

struct adding {
    const int32_t *ids; /* whose probability comes next */
    double sum;
};

static int add_row(void *user, int32_t position, const float *logits, int32_t n_vocab)
{
    (void)position;
    struct adding *a = user;
    a->sum += row_logprob(logits, n_vocab, *a->ids++);
    return term_interrupted();
}

/* Log-probability of a candidate after what the session holds; first: the last row's logits there. */
static int candidate(const struct work *w, puna_session *s, const char *text, const float *first, double *out,
                     struct puna_error *err)
{
    const int32_t length = puna_session_length(s);
    int32_t *ids = NULL;
    size_t n = 0;
    int rc = answer_tokens(w->m, text, strlen(text), &ids, &n, err);
    if (rc == 0 && n == 0)
        rc = pn_fail(err, PUNA_E_ARG, "a candidate without a single token");
    struct adding a = { .ids = ids };
    if (rc == 0) {
        (void)add_row(&a, 0, first, model_info(w->m).n_vocab);
        rc = n > 1 ? puna_session_tokens(s, ids, n - 1, err) : 0;
    }
    if (rc == 0 && n > 1)
        rc = puna_session_eval(s, add_row, &a, err);
    if (rc == 0) /* the prompt's keys and values stay */
        rc = puna_session_rewind(s, length, err);
    *out = rc == 0 ? a.sum / (w->s->per_token ? (double)n : 1) : 0;
    free(ids);
    return rc;
}

/* Whether candidate i is a right one: "answer" is its number, its text, or a list of either. */
static bool is_right(const json_t *answer, size_t i, const char *text)
{
    if (json_is_array(answer)) {
        for (size_t j = 0; j < json_array_size(answer); j++)
            if (!json_is_array(json_array_get(answer, j)) && is_right(json_array_get(answer, j), i, text))
                return true;
        return false;
    }
    if (json_is_integer(answer))
        return json_integer_value(answer) == (json_int_t)i;
    const char *s = json_string_value(answer);
    return s != NULL && strcmp(s, text) == 0;
}

struct ranked {
    double logprob;
    size_t i;
};

static int by_logprob(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->logprob != y->logprob)
        return x->logprob < y->logprob ? 1 : -1;
    return x->i < y->i ? -1 : 1;
}

static int put_ranking(json_t *line, const json_t *answer, struct ranked *v, const char *const *texts, size_t n,
                       struct puna_error *err)
{
    json_t *logprobs = json_array(), *ranking = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(logprobs, json_real(v[i].logprob));
    qsort(v, n, sizeof(*v), by_logprob);
    size_t rank = 0;
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(ranking, json_integer((json_int_t)v[i].i));
        if (rank == 0 && answer != NULL && is_right(answer, v[i].i, texts[v[i].i]))
            rank = i + 1;
    }
    json_object_set_new(line, "logprobs", logprobs);
    json_object_set_new(line, "ranking", ranking);
    if (rank > 0)
        json_object_set_new(line, "rank", json_integer((json_int_t)rank));
    return answer == NULL || rank > 0
               ? 0
               : pn_fail(err, PUNA_E_FORMAT, "\"answer\" is none of the candidates");
}

static int rank(const struct work *w, puna_session *s, const struct record *r, json_t *line, struct puna_error *err)
{
    const json_t *list = json_object_get(r->json, "candidates"), *answer = json_object_get(r->json, "answer");
    const size_t size = json_is_array(list) ? json_array_size(list) : 0;
    const char **texts = calloc(size + 1, sizeof(*texts));
    struct ranked *v = calloc(size + 1, sizeof(*v));
    const int32_t n_vocab = model_info(w->m).n_vocab;
    float *first = malloc((size_t)n_vocab * sizeof(*first));
    size_t n = 0;
    int rc = 0;
    if (texts == NULL || v == NULL || first == NULL)
        rc = pn_fail(err, PUNA_E_MEMORY, "no memory for the candidates");
    else if (size == 0 || !strings(list, texts, size, &n))
        rc = pn_fail(err, PUNA_E_FORMAT, "no \"candidates\": a list of strings");
    if (rc == 0)
        rc = record_append_prompt(s, w->m, r, w->s->suffix, err);
    if (rc == 0)
        rc = puna_session_eval(s, NULL, NULL, err);
    if (rc == 0)
        memcpy(first, puna_session_logits(s), (size_t)n_vocab * sizeof(*first));
    for (size_t i = 0; i < n && rc == 0; i++) {
        v[i].i = i;
        rc = candidate(w, s, texts[i], first, &v[i].logprob, err);
    }
    if (rc == 0)
        rc = put_ranking(line, answer, v, texts, n, err);
    free(texts);
    free(v);
    free(first);
    return rc == 0 || rc == PUNA_E_CANCELLED ? rc : record_fail(w->set, r, rc, err);
}

/* ------------------------------------------------------------------------------------- the run */

static int one_record(struct work *w, puna_session *s, size_t i, struct puna_error *err)
{
    struct record r;
    char hash[17];
    json_t *line = json_object();
    int rc = record_read(w->set, i, &r, err);
    if (rc == 0)
        rc = fingerprint(w, &r, hash, err);
    if (rc == 0 && (rc = record_pictures(&r, err)) != 0)
        rc = record_fail(w->set, &r, rc, err);
    if (rc == 0) {
        json_object_set_new(line, "index", json_integer((json_int_t)i));
        json_object_set_new(line, "record", json_string(hash));
        json_object_set_new(line, "metric", json_string(metric_name(w)));
        json_object_set_new(line, "model", json_string(model_info(w->m).path));
        json_object_set(line, "id", json_object_get(r.json, "id"));
        json_object_set(line, "kind", json_object_get(r.json, "kind"));
        rc = puna_session_rewind(s, 0, err);
    }
    if (rc == 0)
        rc = w->s->rank ? rank(w, s, &r, line, err) : ask(w, s, &r, line, err);
    if (rc == 0)
        rc = put_line(w, line, err);
    if (rc == 0)
        rc = tally(w, line, err);
    record_free(&r);
    json_decref(line);
    return rc;
}

static int all_records(struct work *w, struct puna_error *err)
{
    struct puna_session_params params;
    session_params(&params, &w->s->session);
    params.progress = NULL; /* one line for the whole */
    puna_session *session = NULL;
    int rc = puna_session_open(&session, w->m, &params, err);
    term_watch(session, false);
    const size_t all = dataset_count(w->set);
    const size_t n = w->s->records != 0 && (size_t)w->s->records < all ? (size_t)w->s->records : all;
    for (size_t i = w->done; i < n && rc == 0; i++)
        rc = term_progress(NULL, "score", (double)i, (double)n) != 0
                 ? pn_fail(err, PUNA_E_CANCELLED, "interrupted")
                 : one_record(w, session, i, err);
    term_clear_progress();
    term_watch(NULL, false);
    puna_session_close(&session);
    return rc;
}

static void name_measures(struct work *w)
{
    if (w->s->rank) {
        w->names[0] = "recall@1";
        w->names[1] = "recall@5";
        w->names[2] = "mean reciprocal rank";
        w->graded[2] = true;
        w->n_names = 3;
    } else {
        w->names[0] = metric_names[w->s->metric];
        w->graded[0] = metric_is_graded((enum metric)w->s->metric);
        w->n_names = 1;
    }
}

static int run(const void *settings)
{
    const struct score_settings *s = settings;
    if (s->per_token && !s->rank)
        return diag_usage("--per-token is for --rank");
    if (s->rank && s->metric != METRIC_EXACT)
        return diag_usage("--rank has measures of its own, no --metric");
    struct puna_error err = { 0 };
    struct dataset *set = NULL;
    if (dataset_open(&set, s->args.v[0], &err) != 0)
        return diag_error(&err);
    puna_model *m = NULL;
    int status = model_open(&m, &s->model);
    struct work w = { .s = s, .m = m, .set = set, .fd = -1, .n_kinds = 1 };
    name_measures(&w);
    if (status == EXIT_OK) {
        w.kinds = calloc(1, sizeof(*w.kinds));
        int rc = w.kinds != NULL ? 0 : pn_fail(&err, PUNA_E_MEMORY, "no memory for the table");
        if (rc == 0 && s->out != NULL)
            rc = take_up(&w, &err);
        if (rc == 0)
            rc = all_records(&w, &err);
        status = rc == 0 ? EXIT_OK : diag_error(&err);
    }
    if (w.fd >= 0 && close(w.fd) != 0 && status == EXIT_OK)
        status = diag("cannot write %s: %s", s->out, strerror(errno));
    if (status == EXIT_OK) {
        qsort(w.kinds + 1, w.n_kinds - 1, sizeof(*w.kinds), by_name);
        if (s->json)
            status = print_object(&w);
        else
            print_table(&w);
    }
    for (size_t i = 1; i < w.n_kinds; i++)
        free(w.kinds[i].name);
    free(w.kinds);
    dataset_close(&set);
    puna_model_close(&m);
    return status;
}

const struct command cmd_score = {
    .name = "score",
    .usage = "[-m MODEL] DATA.jsonl [--metric METRIC | --rank] [-o FILE] [options]",
    .summary = "Ask the questions of a data set and say how many answers are right.",
    .details = "DATA has one JSON object a line: \"question\" or \"prompt\", \"image\" (a file's name or a list of "
               "them, seen from DATA's folder; may be left out), \"answer\" (a string or a list: VQAv2's ten), and as "
               "wanted \"choices\", \"kind\" (the table has a line for each), \"id\". Each is asked alone and "
               "answered with the likeliest tokens. With -o every answer is kept as it comes, and the same call "
               "goes on where an interrupted one stopped. With --rank: \"candidates\" and in \"answer\" the number "
               "or the text of the right one.\n"
               "\n"
               "Examples:\n"
               "  puna score -m llama3.2-vision vqa.jsonl --metric vqa -o answers.jsonl\n"
               "  puna score captions.jsonl --rank",
    .opts = options,
    .n_opts = sizeof(options) / sizeof(options[0]),
    .min_args = 1,
    .max_args = 1,
    .args_offset = offsetof(struct score_settings, args),
    .defaults = &defaults,
    .size = sizeof(defaults),
    .run = run,
};
