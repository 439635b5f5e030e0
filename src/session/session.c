/* SPDX-License-Identifier: Apache-2.0 */
#include "session/session.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "text/chat.h"

#define LOGIT_ROWS 32 /* rows per pass when every row's logits are wanted: bounds their buffer */

int pn_session_open(puna_session **out, struct pn_model *m, const struct pn_vocab *vocab,
                    const struct puna_session_params *par, struct puna_error *err)
{
    *out = NULL;
    const struct pn_hparams *hp = &m->hp;
    static const enum pn_kv_type types[] = {PN_KV_F16, PN_KV_F32, PN_KV_BF16, PN_KV_Q8};
    if (par->kv_type < 0 || par->kv_type > PUNA_KV_Q8_0)
        return pn_fail(err, PUNA_E_ARG, "unknown KV cache type %d", par->kv_type);
    if (par->ctx < 0 || par->ctx > hp->n_ctx_train)
        return pn_fail(err, PUNA_E_ARG,
                       "a context of %" PRId32 " tokens is not possible: this model takes 1 to %" PRId32,
                       par->ctx, hp->n_ctx_train);
    if (par->chunk < 0)
        return pn_fail(err, PUNA_E_ARG, "a prefill chunk of %" PRId32 " tokens is not possible", par->chunk);
    puna_session *s = calloc(1, sizeof *s);
    if (!s)
        return pn_fail_memory(err, sizeof *s, "a session");
    s->m = m;
    s->vocab = vocab;
    s->par = *par;
    if (!s->par.ctx)
        s->par.ctx = hp->n_ctx_train < 4096 ? hp->n_ctx_train : 4096;
    if (!s->par.chunk)
        s->par.chunk = 256;
    if (s->par.chunk > s->par.ctx)
        s->par.chunk = s->par.ctx;
    s->kv_type = par->precise ? PN_KV_F32 : types[par->kv_type];
    struct puna_memory_plan plan;
    pn_session_plan(m, &s->par, &plan);
    s->budget = plan.available_bytes;
    s->planned = plan.kv_bytes + plan.scratch_bytes;
    int rc = 0;
    if (s->planned > s->budget)
        rc = pn_fail(err, PUNA_E_MEMORY,
                     "a context of %" PRId32 " tokens needs %.1f MiB of memory (KV cache %.1f MiB), %.1f MiB "
                     "can be had; use a smaller context or --kv-type q8_0",
                     s->par.ctx, (double)s->planned / (1 << 20), (double)plan.kv_bytes / (1 << 20),
                     (double)s->budget / (1 << 20));
    if (!rc)
        rc = pn_kv_open(&s->kv, hp, s->kv_type, s->par.ctx, err);
    if (!rc)
        rc = pn_scratch_open(&s->scratch, m, s->par.chunk, s->par.ctx, err);
    if (!rc) {
        s->rows = calloc((size_t)s->par.chunk, sizeof *s->rows);
        s->logits = pn_calloc_array((size_t)hp->n_vocab, sizeof *s->logits);
        s->logit_rows = 1;
        if (!s->rows || !s->logits)
            rc = pn_fail_memory(err, (size_t)hp->n_vocab * sizeof *s->logits, "the logits");
    }
    if (rc) {
        puna_session_close(&s);
        return rc;
    }
    *out = s;
    return 0;
}

void puna_session_close(puna_session **ps)
{
    puna_session *s = ps ? *ps : NULL;
    if (!s)
        return;
    *ps = NULL;
    pn_pictures_free(s);
    pn_kv_close(&s->kv);
    pn_scratch_close(&s->scratch);
    pn_ids_free(&s->tokens);
    free(s->rows);
    pn_free(s->logits);
    free(s->placed);
    free(s->placed_at);
    free(s->cross);
    free(s->queue);
    free(s);
}

int32_t puna_session_length(const puna_session *s)
{
    return (int32_t)s->tokens.len;
}

int32_t puna_session_token(const puna_session *s, int32_t i)
{
    return i >= 0 && (size_t)i < s->tokens.len ? s->tokens.v[i] : -1;
}

void puna_session_cancel(puna_session *s)
{
    atomic_store_explicit(&s->cancel, 1, memory_order_relaxed);
}

const float *puna_session_logits(const puna_session *s)
{
    return s->last_logits;
}

/* ------------------------------------------------------------------------- appending */

/* Room for need elements: false when memory is short (the old block stays). */
#define GROW(v, cap, need) ((need) <= (cap) || ((v) = grow((v), &(cap), (need), sizeof *(v)), (need) <= (cap)))

static void *grow(void *v, int32_t *cap, int32_t need, size_t elem)
{
    const int32_t n = need < 8 ? 8 : 2 * need;
    void *p = realloc(v, (size_t)n * elem);
    if (!p)
        return v;
    *cap = n;
    return p;
}

/* All or nothing: the ids, with each image token taking the next of pics[0..n_pics). *n_used: how many. */
static int append(puna_session *s, const int32_t *ids, size_t n, struct pn_picture *const *pics, int32_t n_pics,
                  int32_t *n_used, struct puna_error *err)
{
    const struct pn_hparams *hp = &s->m->hp;
    const size_t ctx = (size_t)s->par.ctx;
    if (n > ctx || s->tokens.len > ctx - n)
        return pn_fail(err, PUNA_E_CONTEXT,
                       "the prompt does not fit: %zu tokens and %zu before them, in a context of %zu; "
                       "shorten it or raise --ctx (the model takes up to %" PRId32 ")",
                       n, s->tokens.len, ctx, hp->n_ctx_train);
    int32_t wanted = 0;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= hp->n_embd_rows)
            return pn_fail(err, PUNA_E_ARG, "token id %" PRId32 " does not exist: this model has ids 0 to %" PRId32,
                           ids[i], hp->n_embd_rows - 1);
        wanted += hp->vision && ids[i] == hp->image_token;
    }
    if (wanted > n_pics)
        return pn_fail(err, PUNA_E_ARG,
                       "the text has %" PRId32 " <|image|> but %" PRId32 " picture%s given; give one picture for each",
                       wanted, n_pics, n_pics == 1 ? " was" : "s were");
    int32_t cap[3] = {s->cap_placed, s->cap_placed, s->cap_placed};
    const int32_t need = s->n_placed + wanted;
    if (!GROW(s->placed, cap[0], need) || !GROW(s->placed_at, cap[1], need) || !GROW(s->cross, cap[2], need))
        return pn_fail_memory(err, (size_t)need * sizeof *s->placed, "the list of pictures");
    s->cap_placed = cap[0];
    const size_t len0 = s->tokens.len;
    for (size_t i = 0; i < n; i++)
        if (!pn_ids_push(&s->tokens, ids[i])) {
            s->tokens.len = len0;
            return pn_fail_memory(err, n * sizeof *ids, "the tokens");
        }
    *n_used = 0;
    for (size_t i = 0; wanted && i < n; i++)
        if (ids[i] == hp->image_token) {
            s->placed[s->n_placed] = pics[(*n_used)++];
            s->placed_at[s->n_placed++] = (int32_t)(len0 + i);
        }
    return 0;
}

static int append_queued(puna_session *s, const int32_t *ids, size_t n, struct puna_error *err)
{
    int32_t used = 0;
    const int rc = append(s, ids, n, s->queue, s->n_queue, &used, err);
    if (used) {
        /* the queue's references went over to the placements */
        s->n_queue -= used;
        memmove(s->queue, s->queue + used, (size_t)s->n_queue * sizeof *s->queue);
    }
    return rc;
}

int puna_session_tokens(puna_session *s, const int32_t *ids, size_t n, struct puna_error *err)
{
    return append_queued(s, ids, n, err);
}

int puna_session_text(puna_session *s, const char *text, size_t len, int special, struct puna_error *err)
{
    struct pn_ids ids = {0}, body = {0};
    int rc = pn_vocab_encode(s->vocab, text, len, special, &body, err);
    /* exactly one beginning-of-text, first */
    const int32_t bos = s->m->hp.bos;
    bool ok = true;
    if (!rc && bos >= 0 && !s->tokens.len && !(body.len && body.v[0] == bos))
        ok = pn_ids_push(&ids, bos);
    for (size_t i = 0; ok && i < body.len; i++)
        ok = pn_ids_push(&ids, body.v[i]);
    if (!rc && !ok)
        rc = pn_fail_memory(err, body.len * sizeof *ids.v, "the tokens");
    if (!rc)
        rc = append_queued(s, ids.v, ids.len, err);
    pn_ids_free(&ids);
    pn_ids_free(&body);
    return rc;
}

int puna_session_image(puna_session *s, const void *bytes, size_t len, struct puna_error *err)
{
    if (!GROW(s->queue, s->cap_queue, s->n_queue + 1))
        return pn_fail_memory(err, sizeof *s->queue, "the list of pictures");
    struct pn_picture *p = NULL;
    const int rc = pn_picture_get(s, bytes, len, &p, err);
    if (!rc)
        s->queue[s->n_queue++] = p;
    return rc;
}

int puna_session_chat(puna_session *s, const struct puna_message *messages, size_t n,
                      const struct puna_chat_opts *opts, struct puna_error *err)
{
    if (s->n_queue)
        return pn_fail(err, PUNA_E_ARG,
                       "%" PRId32 " pictures wait for an <|image|> in raw text; a chat message brings its own",
                       s->n_queue);
    struct puna_chat_opts o = {.size = sizeof o};
    if (opts) /* one built against an older header is shorter */
        memcpy(&o, opts, opts->size && opts->size < sizeof o ? opts->size : sizeof o);
    if (s->tokens.len)
        o.no_bos = 1;
    struct pn_picture **pics = NULL;
    int32_t n_pics = 0, cap = 0, used = 0;
    int rc = 0;
    for (size_t i = 0; !rc && i < n; i++)
        for (size_t j = 0; !rc && j < messages[i].n_parts; j++) {
            const struct puna_part *part = &messages[i].parts[j];
            if (part->text)
                continue;
            if (!GROW(pics, cap, n_pics + 1))
                rc = pn_fail_memory(err, sizeof *pics, "the list of pictures");
            else
                rc = pn_picture_get(s, part->image, part->image_len, &pics[n_pics], err);
            if (!rc)
                n_pics++;
        }
    struct pn_chat_text text = {0};
    struct pn_ids ids = {0};
    /* An answer cut short by a limit or a stop string has no end token yet: the template wants one. */
    const size_t len = s->tokens.len;
    const int32_t eot = pn_vocab_special(s->vocab, "<|eot_id|>");
    bool open_answer = len > 0 && s->tokens.v[len - 1] != eot;
    for (int32_t i = 0; len && i < s->m->hp.n_eos; i++)
        open_answer &= s->tokens.v[len - 1] != s->m->hp.eos[i];
    if (!rc && open_answer && eot >= 0 && !pn_ids_push(&ids, eot))
        rc = pn_fail_memory(err, sizeof eot, "the tokens");
    if (!rc)
        rc = pn_chat_render(&text, messages, n, &o, err);
    int32_t shown = 0;
    for (size_t i = 0; i < text.n_spans; i++)
        shown += text.spans[i].image;
    if (!rc && shown != n_pics)
        rc = pn_fail(err, PUNA_E_ARG,
                     "%" PRId32 " pictures were given but the template shows %" PRId32
                     ": it loses those of the first user message when that carries the tools; put the "
                     "tools into the system block, or leave one out",
                     n_pics, shown);
    if (!rc)
        rc = pn_chat_encode(s->vocab, &text, &ids, err);
    if (!rc)
        rc = append(s, ids.v, ids.len, pics, n_pics, &used, err);
    for (int32_t i = used; i < n_pics; i++)
        pn_picture_unref(s, pics[i]);
    free(pics);
    pn_chat_text_free(&text);
    pn_ids_free(&ids);
    return rc;
}

int puna_session_rewind(puna_session *s, int32_t n, struct puna_error *err)
{
    if (n < 0 || (size_t)n > s->tokens.len)
        return pn_fail(err, PUNA_E_ARG, "cannot go back to token %" PRId32 ": the conversation has %zu", n,
                       s->tokens.len);
    s->tokens.len = (size_t)n;
    if (s->n_eval > n) {
        s->n_eval = n;
        s->last_logits = NULL;
    }
    while (s->n_placed && s->placed_at[s->n_placed - 1] >= n)
        pn_picture_unref(s, s->placed[--s->n_placed]);
    while (s->n_queue)
        pn_picture_unref(s, s->queue[--s->n_queue]);
    return 0;
}

int puna_session_skip(puna_session *s, int32_t n, struct puna_error *err)
{
    if (n < 0 || (size_t)s->n_eval != s->tokens.len)
        return pn_fail(err, PUNA_E_ARG, "only whole tokens can be skipped, after all before them were computed");
    const int32_t id = 0;
    int rc = 0;
    for (int32_t i = 0; !rc && i < n; i++)
        rc = append_queued(s, &id, 1, err);
    if (rc) {
        s->tokens.len = (size_t)s->n_eval;
        return rc;
    }
    pn_kv_noise(s->kv, s->m, s->n_eval, n);
    s->n_eval += n;
    s->last_logits = NULL;
    return 0;
}

/* ------------------------------------------------------------------------- computing */

/* Pictures a row at position pos sees: the last one placed at or before it, together with those whose tokens
 * stand directly before that one's in an unbroken run (Meta's intervals: a picture directly followed by
 * another shares the other's interval). */
static void visible(const puna_session *s, int32_t pos, int32_t *lo, int32_t *hi)
{
    int32_t n = 0;
    while (n < s->n_placed && s->placed_at[n] <= pos)
        n++;
    *hi = n;
    while (n > 1 && s->placed_at[n - 1] == s->placed_at[n - 2] + 1)
        n--;
    *lo = n ? n - 1 : 0;
}

/* Keys and values of the pictures that rows first .. first+n-1 see: the run that row `first` is in, and what is
 * placed within the rows. Earlier ones are not needed any more (picture.c drops them when memory is short). */
static int encode_pictures(puna_session *s, int32_t first, int32_t n, struct puna_error *err)
{
    int32_t lo, hi;
    visible(s, first, &lo, &hi);
    if (s->par.hf_rows)
        lo = 0;
    s->first_needed = lo;
    for (int32_t i = lo; i < s->n_placed; i++) {
        if (s->placed_at[i] >= first + n && !s->par.hf_rows)
            break;
        const int rc = pn_picture_encode(s, s->placed[i], err);
        if (rc)
            return rc;
        s->cross[i] = s->placed[i]->cross;
    }
    return 0;
}

/* Up to n rows that look at one run of pictures: two runs need not be in memory at the same time. */
static int32_t chunk_rows(const puna_session *s, int32_t first, int32_t n)
{
    for (int32_t i = 1; i < s->n_placed; i++)
        if (s->placed_at[i] > first && s->placed_at[i] < first + n &&
            s->placed_at[i] != s->placed_at[i - 1] + 1)
            return s->placed_at[i] - first;
    return n;
}

static bool finite_row(const float *x, int32_t n)
{
    float sum = 0; /* any NaN or Inf makes it NaN */
    for (int32_t i = 0; i < n; i++)
        sum += x[i] * 0.0f;
    return sum == 0.0f;
}

void pn_session_report(puna_session *s, const char *phase, double done, double total)
{
    const double now = pn_now();
    if (!s->par.progress || (done < total && now - s->reported < 0.1))
        return;
    s->reported = now;
    if (s->par.progress(s->par.progress_user, phase, done, total))
        puna_session_cancel(s);
}

int pn_session_eval(puna_session *s, puna_logits_fn fn, void *user, struct puna_error *err)
{
    const int32_t V = s->m->hp.n_vocab, total = (int32_t)s->tokens.len;
    if (!s->last_logits && s->n_eval == total && total && !fn)
        s->n_eval--; /* after a rewind: the last row again, for its logits */
    const int32_t start = s->n_eval;
    const int32_t chunk = fn && s->par.chunk > LOGIT_ROWS ? LOGIT_ROWS : s->par.chunk;
    int rc = 0;
    if (fn && s->logit_rows < chunk) {
        float *l = pn_calloc_array((size_t)chunk * (size_t)V, sizeof *l);
        if (!l)
            return pn_fail_memory(err, (size_t)chunk * (size_t)V * sizeof *l, "the logits");
        if (s->last_logits) /* keep what puna_session_logits promised */
            memcpy(l, s->last_logits, (size_t)V * sizeof *l);
        s->last_logits = s->last_logits ? l : NULL;
        pn_free(s->logits);
        s->logits = l;
        s->logit_rows = chunk;
    }
    pn_kv_expect(s->kv, total);
    while (!rc && s->n_eval < total) {
        const int32_t first = s->n_eval, n = chunk_rows(s, first, total - first < chunk ? total - first : chunk);
        rc = encode_pictures(s, first, n, err);
        if (rc)
            break;
        int32_t n_cross = 0;
        while (n_cross < s->n_placed && (s->par.hf_rows || s->placed_at[n_cross] < first + n))
            n_cross++;
        for (int32_t i = 0; i < n; i++) {
            struct pn_row *r = &s->rows[i];
            r->token = s->tokens.v[first + i];
            visible(s, first + i, &r->img_lo, &r->img_hi);
        }
        const struct pn_segment seg = {s->kv, 0, n, first};
        const struct pn_batch b = {.rows = s->rows,
                                   .n_rows = n,
                                   .segs = &seg,
                                   .n_segs = 1,
                                   .cross = s->cross,
                                   .n_cross = n_cross,
                                   .precise = s->par.precise,
                                   .hf_rows = s->par.hf_rows,
                                   .observer = s->observer,
                                   .first_logit_row = fn ? 0 : first + n == total ? n - 1 : n};
        s->last_logits = NULL;
        rc = pn_forward(s->m, &b, s->scratch, s->logits, &s->cancel);
        if (rc) {
            rc = pn_fail(err, rc, "cancelled");
            break;
        }
        rc = pn_source_check_lost(s->m->src, err);
        if (rc)
            break;
        const int32_t n_logits = n - b.first_logit_row;
        for (int32_t i = 0; !rc && i < n_logits; i++)
            if (!finite_row(s->logits + (size_t)i * (size_t)V, V))
                rc = pn_fail(err, PUNA_E_NUMERIC,
                             "the logits at position %" PRId32 " are not finite: the weights of %s are damaged",
                             first + b.first_logit_row + i, s->m->src->path);
        if (rc)
            break;
        s->n_eval += n;
        if (n_logits)
            s->last_logits = s->logits + (size_t)(n_logits - 1) * (size_t)V;
        for (int32_t i = 0; fn && i < n; i++)
            if (fn(user, first + i, s->logits + (size_t)i * (size_t)V, V)) {
                /* rows not handed out are still to come: they count as not computed */
                s->n_eval = first + i + 1;
                s->last_logits = s->logits + (size_t)i * (size_t)V;
                rc = pn_fail(err, PUNA_E_CANCELLED, "cancelled");
                break;
            }
        if (!rc && total - start > 1)
            pn_session_report(s, "prefill", s->n_eval - start, total - start);
    }
    return rc;
}

int puna_session_eval(puna_session *s, puna_logits_fn fn, void *user, struct puna_error *err)
{
    const int rc = pn_session_eval(s, fn, user, err);
    /* a cancel is meant for the call it met; one that came too late must not hit the next */
    atomic_store_explicit(&s->cancel, 0, memory_order_relaxed);
    return rc;
}
