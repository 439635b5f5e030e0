/* SPDX-License-Identifier: Apache-2.0 */
/* Float weights multiplied in int8: how far that is from f32, when rows are refused, and that neither depends on the
 * number of threads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <puna.h>

#include "api/api.h"

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
    int forms;
    struct pn_w8_mem mem;
    float *thread_row[4], *c;
    struct pn_w8 w8;
    bool good;
};

static void team(struct pn_team *t, void *arg)
{
    struct run *r = arg;
    struct pn_w8_mem mem = r->mem;
    struct pn_w8_in in;
    mem.row = r->thread_row[t->tid];
    pn_w8_fill(&r->mm, t, 1, &r->w8);
    const bool good = pn_w8_stage(&r->mm, t, &r->rows, r->norm, r->rule, r->forms, &mem, &in);
    if (t->tid == 0)
        r->good = good;
    if (good)
        pn_products(&r->mm, t, &in.in, 1, &(struct pn_out){.w = &r->w8.w, .c = r->c});
}

/* The product of w and x, M x N, on so many threads; *good: the rows were taken. */
static float *product(const struct pn_weight *w, const float *x, const struct pn_norm *norm,
                      const struct pn_w8_rule *rule, int threads, bool *good)
{
    static float no_adapters;
    struct run r = {.mm = {.kern = &kern, .lora = &no_adapters}, .rows = {x, NULL, M, K}, .norm = norm, .rule = rule};
    float *floats = malloc(sizeof(float) * (M * K + 2 * M + 4 * K + PN_W8_REDO * K));
    uint8_t *forms = NULL, *redo = NULL, *copy = NULL;
    assert_non_null(floats);
    assert_int_equal(posix_memalign((void **)&forms, 64, pn_forms_bytes(PN_FORM_INT8, M, K)), 0);
    r.forms = pn_forms(&r.mm, 1, &w);
    assert_int_equal(posix_memalign((void **)&redo, 64, pn_forms_bytes(PN_FORM_BF16, PN_W8_REDO, K)), 0);
    assert_int_equal(posix_memalign((void **)&copy, 64, pn_w8_bytes(w)), 0);
    r.mem = (struct pn_w8_mem){.xn = floats, .forms = forms, .centre = floats + M * K, .noise = floats + M * K + M,
                               .redo = floats + M * K + 2 * M + 4 * K, .redo_forms = redo};
    for (int i = 0; i < 4; i++)
        r.thread_row[i] = floats + M * K + 2 * M + i * K;
    r.c = malloc(sizeof(float) * M * N);
    assert_non_null(r.c);
    r.w8 = pn_w8_at(w, copy);
    pn_pool_run(threads, team, &r);
    *good = r.good;
    free(floats);
    free(forms);
    free(redo);
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

/* One column far from all others takes their bits, and hides it the better the farther it is. Few such rows are done in
 * floats; many refuse all; damage is never taken. */
static void test_refused(void **unused)
{
    (void)unused;
    const struct pn_weight weight = weight_of(w);
    bool good;
    for (float far = 40; far < 1e6f; far *= 4) {
        fill();
        for (int m = 0; m < M; m += 9)
            x[m * K + 7] = far;
        float *c = product(&weight, x, NULL, &plain, 2, &good);
        assert_true(good);
        for (int m = 0; m < M; m++) /* what is left without the column that hides it */
            for (int n = 0; n < N && m % 9 == 0; n++)
                c[m * N + n] -= far * w[n * K + 7];
        for (int m = 0; m < M; m += 9)
            x[m * K + 7] = 0;
        const double error = error_of(c, w, x);
        free(c);
        print_message("few rows with %g: error %.2e of the rest's energy\n", (double)far, error);
        assert_true(error < 1e-4 + (double)far * (double)far * 1e-8); /* the floats' own */
        for (int m = 0; m < M; m++)
            x[m * K + 7] = far;
        for (int threads = 1; threads <= 3; threads++) {
            free(product(&weight, x, NULL, &plain, threads, &good));
            assert_false(good);
        }
        for (int m = 0; m < M; m++)
            x[m * K + 7] = fabsf(x[(m + 1) % M * K + 8]) + far; /* GELU's side */
        free(product(&weight, x, NULL, &shifted, 2, &good));
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

static struct puna_encoded encoded(const puna_model *m, const uint8_t *picture, size_t len, int flags)
{
    struct puna_encoded e;
    struct puna_error err = {0};
    if (puna_encode_image(m, picture, len, NULL, PUNA_ENCODE_FEATURES | flags, NULL, NULL, &e, &err))
        fail_msg("%s", err.message);
    return e;
}

/* 1 - cosine of a picture's features to those of --precise */
static double loss(const puna_model *m, const uint8_t *picture, size_t len)
{
    struct puna_encoded a = encoded(m, picture, len, PUNA_ENCODE_PRECISE), b = encoded(m, picture, len, 0);
    const size_t n = (size_t)a.max_tiles * (size_t)a.n_tokens * (size_t)a.dim;
    double aa = 0, bb = 0, ab = 0;
    for (size_t i = 0; i < n; i++) {
        aa += (double)a.vision_features[i] * (double)a.vision_features[i];
        bb += (double)b.vision_features[i] * (double)b.vision_features[i];
        ab += (double)a.vision_features[i] * (double)b.vision_features[i];
    }
    puna_encoded_free(&a);
    puna_encoded_free(&b);
    return 1 - ab / sqrt(aa * bb);
}

/* A whole tower, then with an outlier in the rows of its layers, as some trained ones have: in floats then. */
static void test_tower(void **unused)
{
    (void)unused;
    enum { MOST = 1 << 20 };
    const char *top = getenv("PUNA_SRCDIR"), *tmp = getenv("TMPDIR");
    struct puna_error err = {0};
    char from[2048], file[2048];
    uint8_t *picture = malloc(MOST);
    puna_model *m = NULL;
    assert_non_null(picture);
    snprintf(from, sizeof from, "%s/models/demo/example.png", top ? top : ".");
    FILE *f = fopen(from, "rb");
    assert_non_null(f);
    const size_t len = fread(picture, 1, MOST, f);
    fclose(f);
    snprintf(from, sizeof from, "%s/models/demo/demo.gguf", top ? top : ".");
    snprintf(file, sizeof file, "%s/puna-w8a8-%ld.gguf", tmp ? tmp : "/tmp", (long)getpid());
    struct puna_quant_params p;
    puna_quant_params_init(&p);
    p.type = "Q8_0";
    p.vision = "F16";
    int rc = puna_quantize(from, file, &p, NULL, &err);
    if (!rc)
        rc = puna_model_open(&m, file, NULL, &err);
    remove(file);
    if (rc)
        fail_msg("%s", err.message);
    const double without = loss(m, picture, len);
    assert_int_equal(pn_vision_is_int8(m->m), kern.prefer_int8);
    const struct pn_vision *v = m->m->vision;
    for (int32_t i = 0; i < m->m->hp.v_layer; i++) {
        v->local[i].ln1_b.v[3] += 60;
        v->local[i].ln2_b.v[200] -= 60;
    }
    const double with = loss(m, picture, len);
    puna_model_close(&m);
    free(picture);
    print_message("a tower: 1 - cosine %.2e, with outliers %.2e\n", without, with);
    assert_true(without < 1e-4 && with < 1e-4);
}

int main(void)
{
    if (pn_kern_select(&kern, NULL, NULL) || (kern.prefer_f32 && pn_kern_select(&kern, "scalar", NULL)))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error),   cmocka_unit_test(test_centre), cmocka_unit_test(test_norm),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_takes),
        cmocka_unit_test(test_tower),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
