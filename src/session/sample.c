/* SPDX-License-Identifier: Apache-2.0 */
/* Logits -> token. Order: bias and penalties, temperature, top-k, top-p, min-p (Hugging Face's order), draw.
 * Nucleus rule as Meta's: sort descending, drop what starts beyond top_p of the mass (Holtzman et al. 2020). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "session/session.h"

struct cand {
    int32_t id;
    float logit;
};

struct pn_sampler {
    struct puna_gen_params p;
    int32_t n_vocab;
    uint64_t state[4]; /* xoshiro256** (Blackman and Vigna 2018) */
    float *logits;     /* [n_vocab] */
    int32_t *count;    /* [n_vocab] occurrences among generated tokens */
    struct cand *cand; /* [n_vocab] */
};

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

static double uniform(struct pn_sampler *s)
{
    uint64_t *t = s->state;
    const uint64_t r = rotl(t[1] * 5, 7) * 9, u = t[1] << 17;
    t[2] ^= t[0];
    t[3] ^= t[1];
    t[1] ^= t[2];
    t[0] ^= t[3];
    t[2] ^= u;
    t[3] = rotl(t[3], 45);
    return (double)(r >> 11) * 0x1p-53;
}

int pn_sampler_open(struct pn_sampler **out, const struct puna_gen_params *p, int32_t n_vocab,
                    struct puna_error *err)
{
    *out = NULL;
    /* written so that NaN fails */
    if (!(p->temperature >= 0 && p->temperature <= 1000))
        return pn_fail(err, PUNA_E_ARG, "temperature must be from 0 to 1000");
    if (!(p->top_p >= 0 && p->top_p <= 1))
        return pn_fail(err, PUNA_E_ARG, "top-p must be from 0 to 1");
    if (!(p->min_p >= 0 && p->min_p <= 1))
        return pn_fail(err, PUNA_E_ARG, "min-p must be from 0 to 1");
    if (p->top_k < 0)
        return pn_fail(err, PUNA_E_ARG, "top-k must be 0 (off) or more");
    if (!(p->repeat_penalty > 0 && p->repeat_penalty <= 1000))
        return pn_fail(err, PUNA_E_ARG, "the repeat penalty must be above 0 and at most 1000");
    if (!(fabsf(p->presence_penalty) <= 1000) || !(fabsf(p->frequency_penalty) <= 1000))
        return pn_fail(err, PUNA_E_ARG, "presence and frequency penalties must be from -1000 to 1000");
    if (p->top_logprobs < -1 || p->top_logprobs > 20)
        return pn_fail(err, PUNA_E_ARG, "the number of log-probabilities must be from 0 to 20");
    for (size_t i = 0; i < p->n_logit_bias; i++) {
        if (p->logit_bias[i].id < 0 || p->logit_bias[i].id >= n_vocab)
            return pn_fail(err, PUNA_E_ARG, "logit bias: token id %d does not exist (0 to %d)",
                           (int)p->logit_bias[i].id, (int)n_vocab - 1);
        if (isnan(p->logit_bias[i].bias))
            return pn_fail(err, PUNA_E_ARG, "logit bias of token %d is not a number",
                           (int)p->logit_bias[i].id);
    }
    struct pn_sampler *s = calloc(1, sizeof *s);
    if (s) {
        s->p = *p;
        s->n_vocab = n_vocab;
        s->logits = pn_calloc_array((size_t)n_vocab, sizeof *s->logits);
        s->count = pn_calloc_array((size_t)n_vocab, sizeof *s->count);
        s->cand = pn_calloc_array((size_t)n_vocab, sizeof *s->cand);
    }
    if (!s || !s->logits || !s->count || !s->cand) {
        pn_sampler_close(&s);
        return pn_fail_memory(err, (size_t)n_vocab * 16, "the sampler");
    }
    uint64_t seed = p->seed;
    for (int i = 0; i < 4; i++)
        s->state[i] = splitmix(&seed);
    *out = s;
    return 0;
}

void pn_sampler_close(struct pn_sampler **s)
{
    if (*s) {
        pn_free((*s)->logits);
        pn_free((*s)->count);
        pn_free((*s)->cand);
        free(*s);
    }
    *s = NULL;
}

static int better(const struct cand *a, const struct cand *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

static int by_rank(const void *a, const void *b)
{
    return better(a, b) ? -1 : 1;
}

/* Put the k best of c[0..n) in front, in order (quickselect, then a sort of k). */
static void best_first(struct cand *c, int32_t n, int32_t k)
{
    int32_t lo = 0, hi = n;
    while (hi - lo > 1 && k < n) {
        const struct cand pivot = c[lo + (hi - lo) / 2];
        int32_t i = lo, j = hi - 1;
        while (i <= j) {
            while (better(&c[i], &pivot))
                i++;
            while (better(&pivot, &c[j]))
                j--;
            if (i <= j) {
                const struct cand t = c[i];
                c[i++] = c[j];
                c[j--] = t;
            }
        }
        if (k <= j + 1)
            hi = j + 1;
        else if (k > i)
            lo = i;
        else
            break;
    }
    qsort(c, (size_t)(k < n ? k : n), sizeof *c, by_rank);
}

static void penalise(struct pn_sampler *s, const int32_t *history, int32_t n, int32_t n_generated)
{
    const struct puna_gen_params *p = &s->p;
    float *l = s->logits;
    for (size_t i = 0; i < p->n_logit_bias; i++)
        l[p->logit_bias[i].id] += p->logit_bias[i].bias;
    if (p->repeat_penalty != 1.0f && p->repeat_last_n) {
        const int32_t from = p->repeat_last_n < 0 || p->repeat_last_n > n ? 0 : n - p->repeat_last_n;
        /* once per token, however often it stands there: count marks those already done */
        for (int32_t i = from; i < n; i++) {
            const int32_t id = history[i];
            if (id >= s->n_vocab || s->count[id])
                continue; /* the picture token has an embedding but no logit */
            s->count[id] = 1;
            l[id] = l[id] > 0 ? l[id] / p->repeat_penalty : l[id] * p->repeat_penalty;
        }
        for (int32_t i = from; i < n; i++)
            if (history[i] < s->n_vocab)
                s->count[history[i]] = 0;
    }
    if (p->presence_penalty != 0 || p->frequency_penalty != 0) {
        for (int32_t i = n - n_generated; i < n; i++)
            if (history[i] < s->n_vocab)
                s->count[history[i]]++;
        for (int32_t i = n - n_generated; i < n; i++) {
            const int32_t id = history[i];
            if (id >= s->n_vocab || !s->count[id])
                continue;
            l[id] -= p->presence_penalty + p->frequency_penalty * (float)s->count[id];
            s->count[id] = 0;
        }
    }
}

int32_t pn_sampler_next(struct pn_sampler *s, const float *logits, const int32_t *history, int32_t n_history,
                        int32_t n_generated)
{
    const struct puna_gen_params *p = &s->p;
    const int32_t V = s->n_vocab;
    memcpy(s->logits, logits, (size_t)V * sizeof *logits);
    penalise(s, history, n_history, n_generated);
    float most = -INFINITY;
    int32_t arg = 0;
    for (int32_t i = 0; i < V; i++)
        if (s->logits[i] > most) {
            most = s->logits[i];
            arg = i;
        }
    if (p->temperature == 0.0f || p->top_k == 1 || most == INFINITY || most == -INFINITY)
        return arg;
    double mass = 0; /* of exp((logit - most) / T) over all that remain */
    for (int32_t i = 0; i < V; i++) {
        s->cand[i] = (struct cand){i, s->logits[i]};
        if (p->top_k == 0)
            mass += exp((double)(s->logits[i] - most) / p->temperature);
    }
    /* Sort only as far as the cuts reach: top-k at once, top-p by doubling. */
    int32_t n = p->top_k && p->top_k < V ? p->top_k : V;
    int32_t sorted = p->top_k ? n : n < 256 ? n : 256;
    best_first(s->cand, V, sorted);
    if (p->top_k)
        for (int32_t i = 0; i < n; i++)
            mass += exp((double)(s->cand[i].logit - most) / p->temperature);
    double cum = 0, kept = 0;
    int32_t keep = 0;
    while (keep < n) {
        if (keep == sorted) {
            const int32_t more = sorted <= n / 4 ? 4 * sorted : n;
            best_first(s->cand + sorted, V - sorted, more - sorted);
            sorted = more;
        }
        const double w = exp((double)(s->cand[keep].logit - most) / p->temperature);
        if (keep && (cum / mass > p->top_p || w < p->min_p)) /* the best one always stays; its weight is 1 */
            break;
        cum += w;
        kept += w;
        keep++;
        if (w == 0)
            break; /* the rest cannot be drawn */
    }
    double r = uniform(s) * kept;
    for (int32_t i = 0; i < keep; i++) {
        r -= exp((double)(s->cand[i].logit - most) / p->temperature);
        if (r < 0)
            return s->cand[i].id;
    }
    return s->cand[0].id; /* rounding left a crumb */
}

float pn_logprob(const float *logits, int32_t n_vocab, int32_t id, struct puna_token_prob *top, int32_t n_top)
{
    float most = -INFINITY;
    for (int32_t i = 0; i < n_vocab; i++)
        most = logits[i] > most ? logits[i] : most;
    double sum = 0;
    for (int32_t i = 0; i < n_vocab; i++)
        sum += exp((double)(logits[i] - most));
    const double z = (double)most + log(sum);
    int32_t have = 0;
    for (int32_t i = 0; n_top > 0 && i < n_vocab; i++) {
        if (have == n_top && logits[i] <= top[have - 1].logprob)
            continue;
        int32_t j = have < n_top ? have++ : have - 1;
        for (; j > 0 && top[j - 1].logprob < logits[i]; j--)
            top[j] = top[j - 1];
        top[j] = (struct puna_token_prob){i, logits[i]};
    }
    for (int32_t i = 0; i < have; i++)
        top[i].logprob = (float)((double)top[i].logprob - z);
    return (float)((double)logits[id] - z);
}
