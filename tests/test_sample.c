/* SPDX-License-Identifier: Apache-2.0 */
/* The sampler against distributions worked out by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "session/session.h"

enum { V = 1000 };
static float logits[V];

/* probabilities 0.4, 0.3, 0.2, 0.1 at ids 7, 3, 900, 500; next to nothing elsewhere */
static const int32_t id_of[4] = {7, 3, 900, 500};
static const double prob[4] = {0.4, 0.3, 0.2, 0.1};

static struct puna_gen_params plain(void)
{
    return (struct puna_gen_params){.temperature = 1, .top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64,
                                    .seed = 42};
}

static void draw(const struct puna_gen_params *p, const int32_t *history, int32_t n_history, int32_t n_gen,
                 double freq[4], double *other)
{
    enum { N = 20000 };
    struct pn_sampler *s;
    int count[4] = {0}, rest = 0;
    assert_int_equal(pn_sampler_open(&s, p, V, NULL), 0);
    for (int i = 0; i < N; i++) {
        const int32_t id = pn_sampler_next(s, logits, history, n_history, n_gen);
        int k = 0;
        while (k < 4 && id_of[k] != id)
            k++;
        if (k < 4)
            count[k]++;
        else
            rest++;
    }
    pn_sampler_close(&s);
    for (int k = 0; k < 4; k++)
        freq[k] = (double)count[k] / N;
    *other = (double)rest / N;
}

static void near(const double *got, const double *want, double other)
{
    for (int k = 0; k < 4; k++)
        if (fabs(got[k] - want[k]) > 0.015) /* four standard deviations of 20000 draws */
            fail_msg("candidate %d: %.4f instead of %.4f", k, got[k], want[k]);
    assert_true(other < 1e-3);
}

static void test_plain(void **state)
{
    (void)state;
    double f[4], o;
    struct puna_gen_params p = plain();
    draw(&p, NULL, 0, 0, f, &o);
    near(f, prob, o);
    p.temperature = 0.5f; /* squares, renormalised by 0.3 */
    draw(&p, NULL, 0, 0, f, &o);
    near(f, (const double[]){0.16 / 0.3, 0.09 / 0.3, 0.04 / 0.3, 0.01 / 0.3}, o);
    p.temperature = 0;
    draw(&p, NULL, 0, 0, f, &o);
    near(f, (const double[]){1, 0, 0, 0}, o);
}

static void test_cuts(void **state)
{
    (void)state;
    double f[4], o;
    struct puna_gen_params p = plain();
    p.top_k = 2;
    draw(&p, NULL, 0, 0, f, &o);
    near(f, (const double[]){4.0 / 7, 3.0 / 7, 0, 0}, o);
    p = plain();
    p.top_p = 0.65f; /* the second candidate starts at 0.4 <= 0.65 and stays; the third starts at 0.7 */
    draw(&p, NULL, 0, 0, f, &o);
    near(f, (const double[]){4.0 / 7, 3.0 / 7, 0, 0}, o);
    p.top_p = 0;
    draw(&p, NULL, 0, 0, f, &o);
    near(f, (const double[]){1, 0, 0, 0}, o);
    p = plain();
    p.min_p = 0.4f; /* at least 0.16 */
    draw(&p, NULL, 0, 0, f, &o);
    near(f, (const double[]){4.0 / 9, 3.0 / 9, 2.0 / 9, 0}, o);
    p = plain();
    p.top_k = 3; /* top-p works on what top-k left: 4/9, 7/9 */
    p.top_p = 0.5f;
    draw(&p, NULL, 0, 0, f, &o);
    near(f, (const double[]){4.0 / 7, 3.0 / 7, 0, 0}, o);
}

static void test_penalties(void **state)
{
    (void)state;
    double f[4], o;
    struct puna_gen_params p = plain();
    const int32_t history[] = {3, 1000, 7, 7, 3}; /* 1000: an id with an embedding but no logit */
    p.presence_penalty = (float)log(4.0);
    draw(&p, history, 5, 1, f, &o); /* only the last one was generated: 3 counts a quarter */
    near(f, (const double[]){0.4 / 0.775, 0.075 / 0.775, 0.2 / 0.775, 0.1 / 0.775}, o);
    p = plain();
    p.frequency_penalty = (float)log(2.0);
    draw(&p, history, 5, 3, f, &o); /* 7 twice: a quarter; 3 once: a half */
    near(f, (const double[]){0.1 / 0.55, 0.15 / 0.55, 0.2 / 0.55, 0.1 / 0.55}, o);
    p = plain();
    p.repeat_penalty = 2; /* logits are negative: doubled, so squared probabilities for 7 and 3 */
    draw(&p, history, 5, 0, f, &o);
    near(f, (const double[]){0.16 / 0.55, 0.09 / 0.55, 0.2 / 0.55, 0.1 / 0.55}, o);
    p.repeat_last_n = 1;
    draw(&p, history, 5, 0, f, &o);
    near(f, (const double[]){0.4 / 0.79, 0.09 / 0.79, 0.2 / 0.79, 0.1 / 0.79}, o);
    const struct puna_logit_bias bias[] = {{500, 100}, {7, -INFINITY}};
    p = plain();
    p.logit_bias = bias;
    p.n_logit_bias = 2;
    draw(&p, NULL, 0, 0, f, &o);
    near(f, (const double[]){0, 0, 0, 1}, o);
}

static void test_wide(void **state)
{
    (void)state;
    /* a flat distribution: the nucleus is most of the vocabulary, far beyond the first sorted stretch */
    static float flat[V];
    struct pn_sampler *s;
    struct puna_gen_params p = plain();
    p.top_p = 0.9f;
    for (int i = 0; i < V; i++)
        flat[i] = (float)(-1e-5 * i);
    assert_int_equal(pn_sampler_open(&s, &p, V, NULL), 0);
    int seen = 0, high = 0;
    static char hit[V];
    for (int i = 0; i < 20000; i++) {
        const int32_t id = pn_sampler_next(s, flat, NULL, 0, 0);
        seen += !hit[id];
        hit[id] = 1;
        high = id > high ? id : high;
    }
    pn_sampler_close(&s);
    assert_in_range(high, 890, 905);
    assert_in_range(seen, 880, 905);
}

static void test_logprob(void **state)
{
    (void)state;
    struct puna_token_prob top[4];
    const float lp = pn_logprob(logits, V, 900, top, 4);
    assert_true(fabs(exp((double)lp) - 0.2) < 1e-4);
    for (int k = 0; k < 4; k++) {
        assert_int_equal(top[k].id, id_of[k]);
        assert_true(fabs(exp((double)top[k].logprob) - prob[k]) < 1e-4);
    }
}

static void test_bad(void **state)
{
    (void)state;
    struct pn_sampler *s;
    struct puna_gen_params p;
#define BAD(field, value)                                                  \
    p = plain();                                                           \
    p.field = (value);                                                     \
    assert_int_equal(pn_sampler_open(&s, &p, V, NULL), PUNA_E_ARG);        \
    assert_null(s)
    BAD(temperature, NAN);
    BAD(temperature, -0.1f);
    BAD(top_p, NAN);
    BAD(top_p, -1);
    BAD(min_p, 2);
    BAD(top_k, -1);
    BAD(repeat_penalty, 0);
    BAD(presence_penalty, INFINITY);
    BAD(top_logprobs, 21);
#undef BAD
}

int main(void)
{
    for (int i = 0; i < V; i++)
        logits[i] = -30;
    for (int k = 0; k < 4; k++)
        logits[id_of[k]] = (float)log(prob[k]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),   cmocka_unit_test(test_cuts), cmocka_unit_test(test_penalties),
        cmocka_unit_test(test_wide),    cmocka_unit_test(test_logprob), cmocka_unit_test(test_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
