/* SPDX-License-Identifier: Apache-2.0 */
/* puna imatrix: which columns of the weights matter, from text or from conversations with pictures. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/common.h"
#include "cli/pieces.h"

enum { SAVE_SECONDS = 60 };

struct imatrix_settings {
    struct model_settings model;
    struct session_settings session;
    struct opt_list args;
    const char *out;
    int64_t pieces;
    bool go_on;
};

static const struct imatrix_settings defaults;

#define T struct imatrix_settings
static const struct opt_spec options[] = {
    OPT_HEADING("Options"),
    OPTS_MODEL_NAME(T),
    OPT_ROW(T, out, OPT_STRING, "output", 'o', "FILE", "The GGUF file to write.", .dflt = ""),
    OPT_ROW(T, session.ctx, OPT_INT, "ctx", 0, "N",
            "Tokens of a window of text; for conversations, the most that one may have.",
            .dflt = "512; for conversations 4096", .min = 4, .max = INT32_MAX),
    OPT_ROW(T, pieces, OPT_INT, "pieces", 0, "N", "Only the first N windows or conversations.", .dflt = "all",
            .min = 1, .max = INT32_MAX),
    OPT_FLAG_ROW(T, go_on, "continue", 0,
                 "Go on where an interrupted run stopped that wrote FILE from the same data, or add more data to "
                 "the sums in it."),
    OPT_HEADING("Computation"),
    OPTS_PRECISE(T),
    OPTS_PICTURES(T),
    OPTS_MACHINE(T),
};
#undef T

struct work {
    const struct imatrix_settings *s;
    puna_imatrix *im;
    const char **datasets; /* [n] */
    size_t n_datasets;
    uint64_t before;       /* pieces of other data sets in the sums */
    uint64_t done, tokens; /* of this one; its tokens since the start */
    size_t first;          /* piece this run began with */
    uint32_t chunk_size;   /* of the file that is continued */
};

static int save(const struct work *w, struct puna_error *err)
{
    const uint64_t ran = w->done - w->first;
    const struct puna_imatrix_info info = {
        .size = sizeof(info),
        .datasets = w->datasets,
        .n_datasets = w->n_datasets,
        .chunk_count = (uint32_t)(w->before + w->done),
        .chunk_size = ran > 0 ? (uint32_t)((w->tokens + ran - 1) / ran) : w->chunk_size,
    };
    return puna_imatrix_write(w->im, w->s->out, &info, err);
}

/* The sums of the file that is continued; how many pieces of this data it has. */
static int take_up(struct work *w, const char *data, struct puna_error *err)
{
    struct puna_imatrix_info old = { .size = sizeof(old) };
    const bool there = w->s->go_on && access(w->s->out, F_OK) == 0;
    int rc = there ? puna_imatrix_add(w->im, w->s->out, &old, err) : 0;
    if (rc != 0)
        return rc;
    w->datasets = calloc(old.n_datasets + 1, sizeof(*w->datasets));
    if (w->datasets == NULL)
        return pn_fail(err, PUNA_E_MEMORY, "no memory for the names of the data sets");
    if (old.n_datasets > 0)
        memcpy(w->datasets, old.datasets, old.n_datasets * sizeof(*w->datasets));
    w->n_datasets = old.n_datasets;
    w->chunk_size = old.chunk_size;
    if (old.n_datasets == 1 && strcmp(old.datasets[0], data) == 0) {
        w->first = old.chunk_count;
        w->done = old.chunk_count;
    } else {
        w->before = old.chunk_count;
        w->datasets[w->n_datasets++] = data;
    }
    return 0;
}

static int compute(struct work *w, const struct pieces *p, puna_session *session, struct puna_error *err)
{
    const size_t all = pieces_count(p);
    const size_t n = w->s->pieces != 0 && (size_t)w->s->pieces < all ? (size_t)w->s->pieces : all;
    double saved = term_now();
    int rc = 0;
    for (size_t i = w->first; i < n && rc == 0; i++) {
        struct piece piece = { 0 };
        rc = term_progress(NULL, "imatrix", (double)i, (double)n) != 0
                 ? pn_fail(err, PUNA_E_CANCELLED, "interrupted")
                 : piece_put(p, i, session, &piece, err);
        if (rc == 0)
            rc = piece_compute(&piece, session, err);
        if (rc == 0) {
            w->done = i + 1;
            w->tokens += (uint64_t)puna_session_length(session);
        }
        piece_free(&piece);
        /* only between pieces: the sums of a piece broken off would count twice when it is taken up again */
        if (rc == 0 && i + 1 < n && term_now() - saved > SAVE_SECONDS) {
            rc = save(w, err);
            saved = term_now();
        }
    }
    term_clear_progress();
    return rc == 0 ? save(w, err) : rc;
}

static int run(const void *settings)
{
    const struct imatrix_settings *s = settings;
    if (s->out == NULL)
        return diag_usage("where should the statistics go? give -o FILE");
    if (!s->go_on && access(s->out, F_OK) == 0)
        return diag("%s is there already; --continue adds to it", s->out);
    puna_model *m = NULL;
    if (model_open(&m, &s->model) != EXIT_OK)
        return EXIT_FAILED;
    struct puna_error err = { 0 };
    struct work w = { .s = s };
    struct pieces *pieces = NULL;
    puna_session *session = NULL;
    int rc = pieces_open(&pieces, m, s->args.v[0], s->session.ctx, &err);
    if (rc == 0)
        rc = puna_imatrix_open(&w.im, m, &err);
    if (rc == 0)
        rc = take_up(&w, s->args.v[0], &err);
    if (rc == 0) {
        struct puna_session_params params;
        session_params(&params, &s->session);
        params.ctx = pieces_ctx(pieces) != 0 ? pieces_ctx(pieces) : (int32_t)s->session.ctx;
        params.progress = NULL; /* one line for the whole */
        rc = puna_session_open(&session, m, &params, &err);
    }
    if (rc == 0) {
        puna_session_observe(session, w.im);
        term_watch(session, false);
        rc = compute(&w, pieces, session, &err);
        term_watch(NULL, false);
    }
    puna_session_close(&session);
    puna_imatrix_close(&w.im);
    pieces_close(&pieces);
    puna_model_close(&m);
    free(w.datasets);
    return rc == 0 ? EXIT_OK : diag_error(&err);
}

const struct command cmd_imatrix = {
    .name = "imatrix",
    .usage = "[-m MODEL] DATA -o FILE [options]",
    .summary = "Find out which columns of the weights matter, for quantize.",
    .details = "DATA is a text, or a file of conversations with pictures whose name ends in .jsonl: one JSON "
               "object a line with \"prompt\", \"image\" (a file's name or a list of them, seen from DATA's "
               "folder; may be left out) and \"answer\". FILE gets the sum of squares of each column of what goes "
               "into every weight matrix, of the vision tower and the cross-attention layers too when there are "
               "pictures, in the GGUF form of llama.cpp's imatrix tool. It is written once a minute and at the end: "
               "--continue takes up a run that was interrupted.\n"
               "\n"
               "Examples:\n"
               "  puna imatrix -m DIR wiki.train.raw -o text.imatrix.gguf\n"
               "  puna imatrix -m DIR questions.jsonl -o pictures.imatrix.gguf",
    .opts = options,
    .n_opts = sizeof(options) / sizeof(options[0]),
    .min_args = 1,
    .max_args = 1,
    .args_offset = offsetof(struct imatrix_settings, args),
    .defaults = &defaults,
    .size = sizeof(defaults),
    .run = run,
};
