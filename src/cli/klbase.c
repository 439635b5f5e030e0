/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/klbase.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/outfile.h"

enum { HEAD = 32, PIECE = 36, POSITION = 16, ENTRY = 8, FLUSH = 1 << 20 };

static const char magic[8] = { 'P', 'U', 'N', 'A', 'K', 'L', 'B', '1' };

static void put_int(struct pn_buf *b, uint64_t v, size_t bytes)
{
    uint8_t le[8];
    for (size_t i = 0; i < bytes; i++)
        le[i] = (uint8_t)(v >> (8 * i));
    pn_buf_append(b, le, bytes);
}

static void put_f32(struct pn_buf *b, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    put_int(b, bits, 4);
}

static uint64_t get_int(const uint8_t *p, size_t bytes)
{
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static float get_f32(const uint8_t *p)
{
    const uint32_t bits = (uint32_t)get_int(p, 4);
    float v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

/* ------------------------------------------------------------------------------------- writing */

struct kl_writer {
    struct pn_outfile file;
    struct pn_buf buf;
    uint64_t at; /* bytes written before buf */
    uint64_t n_pieces, n_positions;
    uint32_t n_vocab, most;
};

static void put_head(const struct kl_writer *w, struct pn_buf *b)
{
    pn_buf_append(b, magic, sizeof(magic));
    put_int(b, w->n_vocab, 4);
    put_int(b, w->most, 4);
    put_int(b, w->n_pieces, 8);
    put_int(b, w->n_positions, 8);
}

static int flush(struct kl_writer *w, struct puna_error *err)
{
    if (w->buf.failed)
        return pn_fail_memory(err, w->buf.len, "the base file");
    const int rc = pn_outfile_write_at(&w->file, w->buf.data, w->buf.len, w->at, err);
    w->at += w->buf.len;
    w->buf.len = 0;
    return rc;
}

int kl_create(struct kl_writer **out, const char *path, int32_t n_vocab, int32_t most, struct puna_error *err)
{
    *out = NULL;
    struct kl_writer *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return pn_fail_memory(err, sizeof(*w), "the base file");
    w->file.fd = -1;
    w->n_vocab = (uint32_t)n_vocab;
    w->most = (uint32_t)most;
    const int rc = pn_outfile_open(&w->file, path, err);
    if (rc != 0) {
        kl_abort(&w);
        return rc;
    }
    put_head(w, &w->buf); /* its place: the counts come at the end */
    *out = w;
    return 0;
}

int kl_put_piece(struct kl_writer *w, const uint8_t hash[32], size_t n, struct puna_error *err)
{
    pn_buf_append(&w->buf, hash, 32);
    put_int(&w->buf, n, 4);
    w->n_pieces++;
    return w->buf.len > FLUSH ? flush(w, err) : 0;
}

int kl_put(struct kl_writer *w, const struct kl_position *p, struct puna_error *err)
{
    put_int(&w->buf, (uint32_t)p->token, 4);
    put_f32(&w->buf, p->logprob);
    put_f32(&w->buf, p->tail);
    put_int(&w->buf, (uint32_t)p->n, 4);
    for (int32_t i = 0; i < p->n; i++) {
        put_int(&w->buf, (uint32_t)p->top[i].id, 4);
        put_f32(&w->buf, p->top[i].logprob);
    }
    w->n_positions++;
    return w->buf.len > FLUSH ? flush(w, err) : 0;
}

int kl_commit(struct kl_writer **pw, struct puna_error *err)
{
    struct kl_writer *w = *pw;
    int rc = flush(w, err);
    if (rc == 0) {
        put_head(w, &w->buf);
        w->at = 0;
        rc = flush(w, err);
    }
    if (rc == 0)
        rc = pn_outfile_commit(&w->file, err);
    kl_abort(pw);
    return rc;
}

void kl_abort(struct kl_writer **pw)
{
    struct kl_writer *w = *pw;
    *pw = NULL;
    if (w == NULL)
        return;
    pn_outfile_abort(&w->file);
    pn_buf_free(&w->buf);
    free(w);
}

/* ------------------------------------------------------------------------------------- reading */

struct kl_reader {
    const char *path;
    const uint8_t *p, *end;
    uint64_t n_pieces, n_positions, piece; /* pieces begun */
    uint64_t positions;                    /* read */
    uint32_t n_vocab, most;
    size_t left;                           /* positions of this piece still to come */
    struct kl_top *top;                    /* [most] */
    uint64_t *seen;                        /* [n_vocab] at which position an id was listed last */
};

static int broken(const struct kl_reader *r, const char *what, struct puna_error *err)
{
    return pn_fail(err, PUNA_E_FORMAT, "%s is damaged: %s at piece %" PRIu64 ", position %" PRIu64, r->path, what,
                   r->piece, r->positions);
}

static bool has(const struct kl_reader *r, size_t n)
{
    return (size_t)(r->end - r->p) >= n;
}

int kl_open(struct kl_reader **out, const uint8_t *bytes, size_t len, const char *path, int32_t n_vocab,
            struct puna_error *err)
{
    *out = NULL;
    if (len < HEAD || memcmp(bytes, magic, sizeof(magic)) != 0)
        return pn_fail(err, PUNA_E_FORMAT, "%s is no base file of puna perplexity; --save-base writes one", path);
    const uint64_t vocab = get_int(bytes + 8, 4), most = get_int(bytes + 12, 4);
    if (vocab != (uint64_t)n_vocab)
        return pn_fail(err, PUNA_E_FORMAT,
                       "%s was made by a model with %" PRIu64 " tokens, this one has %" PRId32 ": the two cannot be "
                       "compared",
                       path, vocab, n_vocab);
    struct kl_reader *r = calloc(1, sizeof(*r));
    if (r != NULL) {
        *r = (struct kl_reader){ .path = path,
                                 .p = bytes + HEAD,
                                 .end = bytes + len,
                                 .n_pieces = get_int(bytes + 16, 8),
                                 .n_positions = get_int(bytes + 24, 8),
                                 .n_vocab = (uint32_t)vocab,
                                 .most = (uint32_t)(most < vocab ? most : vocab) };
        r->top = calloc(r->most + 1, sizeof(*r->top));
        r->seen = calloc(r->n_vocab + 1, sizeof(*r->seen));
    }
    if (r == NULL || r->top == NULL || r->seen == NULL) {
        kl_close(&r);
        return pn_fail_memory(err, vocab * sizeof(*r->seen), "the base file");
    }
    int rc = 0;
    if (most == 0 || most > vocab)
        rc = broken(r, "the number of tokens kept is not possible", err);
    else if (r->n_pieces > (len - HEAD) / PIECE || r->n_positions > (len - HEAD) / POSITION)
        rc = broken(r, "it is shorter than it says", err);
    if (rc != 0) {
        kl_close(&r);
        return rc;
    }
    *out = r;
    return 0;
}

void kl_close(struct kl_reader **r)
{
    if (*r != NULL) {
        free((*r)->top);
        free((*r)->seen);
        free(*r);
    }
    *r = NULL;
}

uint64_t kl_pieces(const struct kl_reader *r)
{
    return r->n_pieces;
}

int kl_next_piece(struct kl_reader *r, const uint8_t *hash, size_t *n, struct puna_error *err)
{
    *n = 0;
    if (r->left != 0)
        return broken(r, "positions were left unread", err);
    if (r->piece == r->n_pieces)
        return pn_fail(err, PUNA_E_FORMAT, "%s has %" PRIu64 " pieces, the data has more: it was made from other data",
                       r->path, r->n_pieces);
    if (!has(r, PIECE))
        return broken(r, "it ends", err);
    r->piece++;
    if (hash != NULL && memcmp(r->p, hash, 32) != 0)
        return pn_fail(err, PUNA_E_FORMAT,
                       "%s was made from other tokens or pictures (piece %" PRIu64 "): give the same data, --ctx and "
                       "tokenizer",
                       r->path, r->piece);
    r->left = (size_t)get_int(r->p + 32, 4);
    r->p += PIECE;
    if (r->left > r->n_positions - r->positions || r->left > (size_t)(r->end - r->p) / POSITION)
        return broken(r, "more positions than it has", err);
    *n = r->left;
    return 0;
}

static bool is_logprob(float v)
{
    return isfinite(v) && v <= 0;
}

int kl_next(struct kl_reader *r, struct kl_position *p, struct puna_error *err)
{
    if (r->left == 0)
        return broken(r, "fewer positions than the data", err);
    if (!has(r, POSITION))
        return broken(r, "it ends", err);
    const uint64_t token = get_int(r->p, 4), n = get_int(r->p + 12, 4);
    const float logprob = get_f32(r->p + 4), tail = get_f32(r->p + 8);
    r->p += POSITION;
    r->left--;
    r->positions++;
    if (token >= r->n_vocab || n == 0 || n > r->most || !has(r, n * ENTRY) || !is_logprob(logprob) ||
        !(tail >= 0 && tail <= 1))
        return broken(r, "values that are not possible", err);
    double sum = (double)tail;
    for (uint64_t i = 0; i < n; i++, r->p += ENTRY) {
        const uint64_t id = get_int(r->p, 4);
        const float v = get_f32(r->p + 4);
        if (id >= r->n_vocab || !is_logprob(v) || r->seen[id] == r->positions ||
            (i > 0 && v > r->top[i - 1].logprob))
            return broken(r, "tokens that are not possible", err);
        r->seen[id] = r->positions;
        r->top[i] = (struct kl_top){ (int32_t)id, v };
        sum += exp((double)v);
    }
    if (fabs(sum - 1) > 1e-3)
        return broken(r, "probabilities that do not add up to 1", err);
    *p = (struct kl_position){ (int32_t)token, logprob, tail, (int32_t)n, r->top };
    return 0;
}
