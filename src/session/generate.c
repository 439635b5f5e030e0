/* SPDX-License-Identifier: Apache-2.0 */
/* The answer: sample, stream, stop. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "session/session.h"
#include "text/utf8.h"

/* Text not yet handed out: it may end inside a character, or be the beginning of a stop string. */
struct stream {
    struct pn_buf buf;
    struct pn_buf clean; /* what went out last */
    const char *const *stop;
    size_t n_stop;
};

/* Bytes that can go out now. A stop string that is complete sets *hit (earliest start wins) and cuts there;
 * otherwise a tail that could still become one is held back. */
static size_t releasable(const struct stream *st, const char **hit)
{
    const char *d = st->buf.data;
    size_t n = st->buf.len, cut = n;
    *hit = NULL;
    for (size_t i = 0; i < st->n_stop; i++) {
        const size_t len = strlen(st->stop[i]);
        const char *at = len && n >= len ? memmem(d, n, st->stop[i], len) : NULL;
        if (at && ((size_t)(at - d) < cut || !*hit)) {
            cut = (size_t)(at - d);
            *hit = st->stop[i];
        }
    }
    if (*hit)
        return cut;
    for (size_t i = 0; i < st->n_stop; i++) {
        const size_t len = strlen(st->stop[i]);
        for (size_t k = len < n ? len : n; k > 0; k--)
            if (!memcmp(d + n - k, st->stop[i], k)) {
                cut = n - k < cut ? n - k : cut;
                break; /* the longest tail of this one; others may start earlier */
            }
    }
    return puna_utf8_complete(d, cut);
}

/* The first n bytes held back, as valid UTF-8: a model can sample bytes that are no text, and what goes out
 * ends up in JSON and on terminals. Each stray byte becomes U+FFFD. */
static bool release(struct stream *st, size_t n, struct puna_piece *piece)
{
    st->clean.len = 0;
    const char *s = st->buf.data;
    for (size_t at = 0; at < n;) {
        const size_t ok = pn_utf8_valid_prefix(s + at, n - at);
        if (ok && !pn_buf_append(&st->clean, s + at, ok))
            return false;
        at += ok;
        if (at < n) {
            if (!pn_buf_append(&st->clean, "\xef\xbf\xbd", 3))
                return false;
            at++;
        }
    }
    if (n) {
        memmove(st->buf.data, s + n, st->buf.len - n);
        st->buf.len -= n;
    }
    piece->text = st->clean.len ? st->clean.data : "";
    piece->text_len = st->clean.len;
    return true;
}

static bool is_end(const struct pn_hparams *hp, int32_t id)
{
    for (int32_t i = 0; i < hp->n_eos; i++)
        if (hp->eos[i] == id)
            return true;
    return false;
}

static bool at_limit(const puna_session *s, const struct puna_gen_params *p, const struct puna_gen_result *r)
{
    return (p->max_tokens >= 0 && r->n_generated >= p->max_tokens) || s->tokens.len >= (size_t)s->par.ctx;
}

static int generate(puna_session *s, const struct puna_gen_params *p, struct pn_sampler *sampler,
                    struct stream *st, puna_piece_fn fn, void *user, struct puna_gen_result *r,
                    struct puna_error *err)
{
    const struct pn_hparams *hp = &s->m->hp;
    struct puna_token_prob top[20];
    const double t0 = pn_now();
    double t1 = t0;
    for (;;) {
        /* the last token stays pending: a pass for logits nobody will look at would only cost time */
        if (r->n_generated && at_limit(s, p, r)) {
            r->finish = PUNA_FINISH_LENGTH;
            break;
        }
        int rc = pn_session_eval(s, NULL, NULL, err);
        if (rc == PUNA_E_CANCELLED)
            r->finish = PUNA_FINISH_CANCELLED;
        if (rc)
            return rc;
        if (!r->n_generated) {
            t1 = pn_now();
            r->prefill_seconds = t1 - t0 - s->image_seconds;
        }
        if (atomic_load_explicit(&s->cancel, memory_order_relaxed)) {
            r->finish = PUNA_FINISH_CANCELLED;
            return pn_fail(err, PUNA_E_CANCELLED, "cancelled");
        }
        if (at_limit(s, p, r)) {
            r->finish = PUNA_FINISH_LENGTH;
            break;
        }
        const int32_t id = pn_sampler_next(sampler, s->last_logits, s->tokens.v, (int32_t)s->tokens.len,
                                           r->n_generated);
        struct puna_piece piece = {.text = "", .id = id, .top = top};
        if (p->top_logprobs >= 0) {
            piece.n_top = p->top_logprobs < hp->n_vocab ? p->top_logprobs : hp->n_vocab;
            piece.logprob = pn_logprob(s->last_logits, hp->n_vocab, id, top, piece.n_top);
        }
        if (!pn_ids_push(&s->tokens, id))
            return pn_fail_memory(err, sizeof id, "the tokens");
        r->n_generated++;
        if (r->n_generated == 1)
            r->first_token_seconds = pn_now() - t0;
        const bool end = !p->ignore_eos && is_end(hp, id);
        size_t len = 0;
        const char *text = pn_vocab_is_special(s->vocab, id) ? NULL : pn_vocab_piece(s->vocab, id, &len);
        if (text && !pn_buf_append(&st->buf, text, len))
            return pn_fail_memory(err, len, "the answer");
        const char *hit = NULL;
        size_t out = end ? st->buf.len : st->buf.len ? releasable(st, &hit) : 0;
        if (end)
            r->stop_id = id;
        if (!release(st, out, &piece))
            return pn_fail_memory(err, out, "the answer");
        r->stop_string = hit;
        const int stop = fn ? fn(user, &piece) : 0;
        if (hit)
            st->buf.len = 0; /* the stop string and what follows it are not part of the answer */
        if (end || hit) {
            r->finish = PUNA_FINISH_STOP;
            break;
        }
        if (stop) {
            r->finish = PUNA_FINISH_CANCELLED;
            break;
        }
    }
    /* what was held back for a stop string that never came */
    if (st->buf.len && fn && r->finish == PUNA_FINISH_LENGTH) {
        struct puna_piece piece = {.id = -1};
        if (!release(st, st->buf.len, &piece))
            return pn_fail_memory(err, st->buf.len, "the answer");
        if (fn(user, &piece))
            r->finish = PUNA_FINISH_CANCELLED;
    }
    r->decode_seconds = pn_now() - t1;
    return 0;
}

int puna_generate(puna_session *s, const struct puna_gen_params *params, puna_piece_fn fn, void *user,
                  struct puna_gen_result *result, struct puna_error *err)
{
    struct puna_gen_result own, *r = result ? result : &own;
    struct puna_gen_params p;
    memset(r, 0, sizeof *r);
    r->stop_id = -1;
    pn_gen_defaults(&p, &s->m->hp);
    if (params) /* one built against an older header is shorter */
        memcpy(&p, params, params->size && params->size < sizeof p ? params->size : sizeof p);
    if (!s->tokens.len)
        return pn_fail(err, PUNA_E_ARG, "there is nothing to continue: give some text first");
    r->n_prompt = (int32_t)s->tokens.len - s->n_eval;
    s->image_seconds = 0;
    s->n_encoded = 0;
    int32_t fresh = 0; /* pictures among the pending tokens */
    for (int32_t i = 0; i < s->n_placed; i++)
        fresh += s->placed_at[i] >= s->n_eval;
    struct stream st = {.stop = p.stop, .n_stop = p.n_stop};
    struct pn_sampler *sampler = NULL;
    /* end tokens that may not end the answer are not drawn either */
    struct puna_logit_bias *bias = NULL;
    int rc = 0;
    if (p.ignore_eos) {
        bias = malloc((p.n_logit_bias + PN_MAX_EOS) * sizeof *bias);
        if (!bias)
            return pn_fail_memory(err, PN_MAX_EOS * sizeof *bias, "the sampler");
        if (p.n_logit_bias)
            memcpy(bias, p.logit_bias, p.n_logit_bias * sizeof *bias);
        for (int32_t i = 0; i < s->m->hp.n_eos; i++)
            if (s->m->hp.eos[i] >= 0 && s->m->hp.eos[i] < s->m->hp.n_vocab)
                bias[p.n_logit_bias++] = (struct puna_logit_bias){s->m->hp.eos[i], -1e30f};
        p.logit_bias = bias;
    }
    rc = pn_sampler_open(&sampler, &p, s->m->hp.n_vocab, err);
    if (!rc)
        rc = generate(s, &p, sampler, &st, fn, user, r, err);
    r->image_seconds = s->image_seconds;
    r->n_images = fresh;
    r->n_images_cached = fresh > s->n_encoded ? fresh - s->n_encoded : 0;
    atomic_store_explicit(&s->cancel, 0, memory_order_relaxed);
    pn_sampler_close(&sampler);
    pn_buf_free(&st.buf);
    pn_buf_free(&st.clean);
    free(bias);
    return rc;
}

void pn_gen_defaults(struct puna_gen_params *p, const struct pn_hparams *hp)
{
    *p = (struct puna_gen_params){.size = sizeof *p,
                                  .max_tokens = -1,
                                  .temperature = hp->do_sample ? hp->temperature : 0.0f,
                                  .top_k = hp->top_k,
                                  .top_p = hp->top_p,
                                  .repeat_penalty = 1.0f,
                                  .repeat_last_n = 64,
                                  .top_logprobs = -1};
}
