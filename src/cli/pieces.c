/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/pieces.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/map.h"
#include "base/sha256.h"
#include "cli/common.h"
#include "cli/dataset.h"

enum { WINDOW = 512, MAX_TEXT_BYTES = 1 << 30 };

struct pieces {
    const puna_model *m;
    struct dataset *set; /* NULL: text */
    int32_t *ids;        /* text: all its tokens, BOS first */
    size_t n_ids;
    int32_t ctx, bos;
};

/* All tokens of the text; a model with a BOS gets one in front. */
static int read_text(struct pieces *p, const char *path, struct puna_error *err)
{
    char *text = NULL;
    size_t len;
    int rc = pn_read_file(&text, &len, path, MAX_TEXT_BYTES, err);
    if (rc != 0)
        return rc;
    const size_t front = p->bos >= 0;
    int64_t n = puna_tokenize(p->m, text, len, 0, NULL, 0, err);
    if (n >= 0) {
        p->ids = calloc((size_t)n + 1, sizeof(*p->ids));
        if (p->ids == NULL)
            n = pn_fail_memory(err, (size_t)n * sizeof(*p->ids), "the text");
    }
    if (n >= 0) {
        p->ids[0] = p->bos;
        n = puna_tokenize(p->m, text, len, 0, p->ids + front, (size_t)n, err);
    }
    free(text);
    if (n < 0)
        return (int)n;
    p->n_ids = front + (size_t)n;
    if (p->n_ids < (size_t)p->ctx)
        return pn_fail(err, PUNA_E_ARG, "%s has %zu tokens, less than one window of %" PRId32 "; give a smaller --ctx",
                       path, p->n_ids, p->ctx);
    return 0;
}

int pieces_open(struct pieces **out, const puna_model *m, const char *path, int64_t ctx, struct puna_error *err)
{
    *out = NULL;
    struct pieces *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return pn_fail_memory(err, sizeof(*p), "the data");
    const struct puna_model_info info = model_info(m);
    p->m = m;
    p->bos = info.bos;
    p->ctx = ctx != 0 ? (int32_t)ctx : info.n_ctx_train < WINDOW ? info.n_ctx_train : WINDOW;
    const int rc = dataset_name(path) ? dataset_open(&p->set, path, err) : read_text(p, path, err);
    if (rc != 0)
        pieces_close(&p);
    else
        *out = p;
    return rc;
}

void pieces_close(struct pieces **p)
{
    if (*p != NULL) {
        dataset_close(&(*p)->set);
        free((*p)->ids);
        free(*p);
    }
    *p = NULL;
}

size_t pieces_count(const struct pieces *p)
{
    return p->set != NULL ? dataset_count(p->set) : p->n_ids / (size_t)p->ctx;
}

const char *pieces_name(const struct pieces *p)
{
    return p->set != NULL ? "conversation" : "window";
}

int32_t pieces_ctx(const struct pieces *p)
{
    return p->set != NULL ? 0 : p->ctx;
}

/* ------------------------------------------------------------------------------------- one piece */

static bool append_i32(struct pn_buf *b, int32_t v)
{
    const uint32_t u = (uint32_t)v;
    const uint8_t le[4] = { (uint8_t)u, (uint8_t)(u >> 8), (uint8_t)(u >> 16), (uint8_t)(u >> 24) };
    return pn_buf_append(b, le, sizeof(le));
}

static int hash_piece(struct piece *piece, const puna_session *s, const struct pictures *pictures,
                      struct puna_error *err)
{
    struct pn_buf b = { 0 };
    for (int32_t i = 0; i < puna_session_length(s); i++)
        append_i32(&b, puna_session_token(s, i));
    for (size_t i = 0; i < piece->n; i++)
        append_i32(&b, piece->targets[i]);
    for (size_t i = 0; pictures != NULL && i < pictures->n; i++) {
        uint8_t sum[32];
        pn_sha256(sum, pictures->v[i].bytes, pictures->v[i].len);
        pn_buf_append(&b, sum, sizeof(sum));
    }
    if (!b.failed)
        pn_sha256(piece->hash, b.data, b.len);
    const int rc = b.failed ? pn_fail_memory(err, b.len, "the tokens") : 0;
    pn_buf_free(&b);
    return rc;
}

static int put_window(const struct pieces *p, puna_session *s, struct piece *out, struct puna_error *err)
{
    const size_t ctx = (size_t)p->ctx, half = ctx / 2;
    const int32_t *ids = p->ids + out->index * ctx;
    out->n = ctx - 1 - half;
    out->targets = malloc((out->n + 1) * sizeof(*out->targets));
    if (out->targets == NULL)
        return pn_fail_memory(err, ctx * sizeof(*out->targets), "a window");
    memcpy(out->targets, ids + half + 1, out->n * sizeof(*ids));
    const int32_t first = p->bos >= 0 ? p->bos : ids[0];
    int rc = puna_session_tokens(s, &first, 1, err);
    if (rc == 0)
        rc = puna_session_tokens(s, ids + 1, half, err);
    return rc == 0 ? hash_piece(out, s, NULL, err) : rc;
}

/* The answer of a record: a string, or the first of several. */
static const char *answer_of(const struct record *r)
{
    const json_t *v = json_object_get(r->json, "answer");
    return json_string_value(v != NULL ? v : json_array_get(json_object_get(r->json, "answers"), 0));
}

static int put_conversation(const struct pieces *p, puna_session *s, struct piece *out, struct puna_error *err)
{
    struct record r;
    int rc = record_read(p->set, out->index, &r, err);
    if (rc == 0) {
        const char *answer = answer_of(&r);
        rc = record_pictures(&r, err);
        if (rc == 0)
            rc = record_append_prompt(s, p->m, &r, NULL, err);
        if (rc == 0 && answer != NULL)
            rc = answer_tokens(p->m, answer, strlen(answer), &out->targets, &out->n, err);
        if (rc == 0)
            rc = hash_piece(out, s, &r.pictures, err);
        if (rc != 0)
            rc = record_fail(p->set, &r, rc, err);
    }
    record_free(&r);
    return rc;
}

int piece_put(const struct pieces *p, size_t i, puna_session *s, struct piece *out, struct puna_error *err)
{
    *out = (struct piece){ .index = i };
    const int rc = puna_session_rewind(s, 0, err);
    if (rc != 0)
        return rc;
    return p->set != NULL ? put_conversation(p, s, out, err) : put_window(p, s, out, err);
}

void piece_free(struct piece *piece)
{
    free(piece->targets);
    *piece = (struct piece){ 0 };
}

/* ------------------------------------------------------------------------------------- computing */

struct predicting {
    const struct piece *piece;
    size_t next; /* target whose logits come next */
    piece_fn fn;
    void *user;
};

static int on_row(void *user, int32_t position, const float *logits, int32_t n_vocab)
{
    (void)position;
    struct predicting *p = user;
    return p->fn(p->user, p->piece->targets[p->next++], logits, n_vocab);
}

int piece_predict(const struct piece *piece, const puna_model *m, puna_session *s, piece_fn fn, void *user,
                  struct puna_error *err)
{
    if (piece->n == 0)
        return 0;
    /* the head needs no logits but the last row's */
    int rc = puna_session_eval(s, NULL, NULL, err);
    if (rc != 0)
        return rc;
    struct predicting p = { .piece = piece, .fn = fn, .user = user };
    if (on_row(&p, 0, puna_session_logits(s), model_info(m).n_vocab) != 0)
        return pn_fail(err, PUNA_E_CANCELLED, "interrupted");
    if (piece->n == 1)
        return 0;
    rc = puna_session_tokens(s, piece->targets, piece->n - 1, err);
    return rc == 0 ? puna_session_eval(s, on_row, &p, err) : rc;
}

static int skip_row(void *user, int32_t position, const float *logits, int32_t n_vocab)
{
    (void)user, (void)position, (void)logits, (void)n_vocab;
    return term_interrupted();
}

int piece_compute(const struct piece *piece, puna_session *s, struct puna_error *err)
{
    const int rc = piece->n > 0 ? puna_session_tokens(s, piece->targets, piece->n, err) : 0;
    /* every row's logits, although nobody reads them: the output matrix is to be observed as well */
    return rc == 0 ? puna_session_eval(s, skip_row, NULL, err) : rc;
}
