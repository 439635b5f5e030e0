/* SPDX-License-Identifier: Apache-2.0 */
/* Float weights multiplied in int8: how far that is from f32, when rows are refused, and that neither depends on the
 * number of threads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/model.h"

enum { M = 70, N = 83, K = 480 }; /* no multiples of tiles; the last super-block is short */

static struct pn_kern kern;
static uint64_t state;

static float uniform(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(state >> 40) * 0x1p-24f - 0.5f;
}
static float normal(void) /* about */
{
    float x = 0;
    for (int i = 0; i < 12; i++)
        x += uniform();
    return x;
}

struct run {
    struct pn_mm mm;
    struct pn_rows rows;
    const struct pn_norm *norm;
    const struct pn_w8_rule *rule;
    struct pn_w8_mem mem;
    float *thread_row[4], *c;
    struct pn_w8 w8;
    bool good;
};

static void team(struct pn_team *t, void *arg)
{
    struct run *r = arg;
    struct pn_w8_mem mem = r->mem;
    struct pn_in in;
    mem.row = r->thread_row[t->tid];
    pn_w8_fill(&r->mm, t, 1, &r->w8);
    const bool good = pn_w8_stage(&r->mm, t, &r->rows, r->norm, r->rule, &mem, &in);
    if (t->tid == 0)
        r->good = good;
    if (good)
        pn_products(&r->mm, t, &in, 1, &(struct pn_out){.w = &r->w8.w, .c = r->c});
}

/* The product of w and x, M x N, on so many threads; *good: the rows were taken. */
static float *product(const struct pn_weight *w, const float *x, const struct pn_norm *norm,
                      const struct pn_w8_rule *rule, int threads, bool *good)
{
    struct run r = {.mm = {.kern = &kern}, .rows = {x, NULL, M, K}, .norm = norm, .rule = rule};
    float *floats = malloc(sizeof(float) * (M * K + 2 * M + 4 * K + M * N));
    uint8_t *forms = NULL, *copy = NULL;
    assert_non_null(floats);
    assert_int_equal(posix_memalign((void **)&forms, 64, pn_forms_bytes(PN_FORM_INT8, M, K)), 0);
    assert_int_equal(posix_memalign((void **)&copy, 64, pn_w8_bytes(w)), 0);
    r.mem = (struct pn_w8_mem){.xn = floats, .forms = forms, .centre = floats + M * K, .noise = floats + M * K + M};
    for (int i = 0; i < 4; i++)
        r.thread_row[i] = floats + M * K + 2 * M + i * K;
    r.c = malloc(sizeof(float) * M * N);
    assert_non_null(r.c);
    r.w8 = pn_w8_at(w, copy);
    pn_pool_run(threads, team, &r);
    *good = r.good;
    free(floats);
    free(forms);
    free(copy);
    return r.c;
}

/* Energy of c - x w^T relative to that of x w^T, in double. */
static double error_of(const float *c, const float *w, const float *x)
{
    double error = 0, energy = 0;
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            double y = 0;
            for (int k = 0; k < K; k++)
                y += (double)x[m * K + k] * (double)w[n * K + k];
            error += ((double)c[m * N + n] - y) * ((double)c[m * N + n] - y);
            energy += y * y;
        }
    return error / energy;
}

static struct pn_weight weight_of(const float *w)
{
    return (struct pn_weight){.data = (const uint8_t *)w, .row_bytes = K * sizeof *w, .type = PN_F32, .n = N, .k = K};
}

static const struct pn_w8_rule plain = {.limit = 1e-4f}, shifted = {.limit = 1e-4f, .centred = true, .least = -0.17f};

static float w[N * K], x[M * K];

static void fill(void)
{
    state = 1;
    for (int i = 0; i < N * K; i++)
        w[i] = 0.02f * normal();
    for (int i = 0; i < M * K; i++)
        x[i] = normal();
}

static void test_error(void **unused)
{
    (void)unused;
    fill();
    const struct pn_weight weight = weight_of(w);
    bool good;
    float *c = product(&weight, x, NULL, &plain, 1, &good);
    assert_true(good);
    const double error = error_of(c, w, x);
    print_message("normal rows: error %.2e of the energy\n", error);
    assert_true(error > 1e-6 && error < 1.2e-4);
    for (int threads = 2; threads <= 3; threads++) {
        float *d = product(&weight, x, NULL, &plain, threads, &good);
        assert_memory_equal(c, d, sizeof(float) * M * N);
        free(d);
    }
    free(c);
}

/* Rows from least up, as GELU makes them: half of int8's range would be empty without the shift. */
static void test_centre(void **unused)
{
    (void)unused;
    fill();
    for (int i = 0; i < M * K; i++)
        x[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
    const struct pn_weight weight = weight_of(w);
    bool good;
    float *c = product(&weight, x, NULL, &shifted, 2, &good);
    assert_true(good);
    const double centred = error_of(c, w, x);
    free(c);
    c = product(&weight, x, NULL, &(struct pn_w8_rule){.limit = 1e-3f}, 2, &good);
    assert_true(good);
    const double as_they_are = error_of(c, w, x);
    free(c);
    print_message("GELU's rows: error %.2e of the energy centred, %.2e as they are\n", centred, as_they_are);
    assert_true(centred < 0.8 * as_they_are);
}

static void test_norm(void **unused)
{
    (void)unused;
    fill();
    float lw[K], lb[K], *y = malloc(sizeof x);
    assert_non_null(y);
    for (int i = 0; i < K; i++) {
        lw[i] = 1.0f + 0.1f * normal();
        lb[i] = 0.1f * normal();
    }
    for (int m = 0; m < M; m++)
        kern.layernorm(y + m * K, x + m * K, lw, lb, K, 1e-5f);
    const struct pn_weight weight = weight_of(w);
    bool good;
    float *c = product(&weight, x, &(struct pn_norm){lw, lb, 1e-5f}, &plain, 2, &good);
    assert_true(good);
    assert_true(error_of(c, w, y) < 1.2e-4);
    free(c);
    free(y);
}

/* One column far from all others takes their bits; a few such rows among many do no harm; damage is never taken. */
static void test_refused(void **unused)
{
    (void)unused;
    fill();
    const struct pn_weight weight = weight_of(w);
    bool good;
    x[0 * K + 7] = 8;
    free(product(&weight, x, NULL, &plain, 1, &good));
    assert_true(good);
    for (int m = 0; m < M; m++)
        x[m * K + 7] = 40;
    for (int threads = 1; threads <= 3; threads++) {
        free(product(&weight, x, NULL, &plain, threads, &good));
        assert_false(good);
    }
    fill();
    x[8 * K + 300] = NAN;
    free(product(&weight, x, NULL, &plain, 2, &good));
    assert_false(good);
    memset(x, 0, sizeof x);
    float *c = product(&weight, x, NULL, &plain, 2, &good);
    assert_true(good);
    for (int i = 0; i < M * N; i++)
        assert_true(c[i] == 0);
    free(c);
}

/* What is never multiplied so. */
static void test_takes(void **unused)
{
    (void)unused;
    static const struct pn_observer observer;
    struct pn_weight weight = weight_of(w);
    struct pn_kern k = kern;
    struct pn_mm mm = {.kern = &k};
    k.prefer_int8 = 1;
    assert_true(pn_w8_takes(&mm, &weight));
    mm.precise = true;
    assert_false(pn_w8_takes(&mm, &weight));
    mm.precise = false;
    mm.observer = &observer;
    assert_false(pn_w8_takes(&mm, &weight));
    mm.observer = NULL;
    weight.k = 481;
    assert_false(pn_w8_takes(&mm, &weight));
    weight.k = K;
    weight.type = PN_Q4_0;
    assert_false(pn_w8_takes(&mm, &weight));
    weight.type = PN_BF16;
    k.prefer_int8 = 0;
    assert_false(pn_w8_takes(&mm, &weight));
}

int main(void)
{
    if (pn_kern_select(&kern, NULL, NULL) || (kern.prefer_f32 && pn_kern_select(&kern, "scalar", NULL)))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error),   cmocka_unit_test(test_centre), cmocka_unit_test(test_norm),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
