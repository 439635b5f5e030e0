/* SPDX-License-Identifier: Apache-2.0 */
/* What fits: sizes against files that people have, rates against arithmetic by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <puna.h>

static const struct puna_ceilings even = {.read_gbs = 10, .int8_gops = 1000, .bf16_gops = 400, .f32_gops = 100};

static struct puna_fit fit(const char *name, const struct puna_ceilings *c, int32_t ctx)
{
    struct puna_fit f = {.size = sizeof f};
    struct puna_error err = {0};
    struct puna_model_params mp;
    struct puna_session_params sp;
    puna_model_params_init(&mp);
    puna_session_params_init(&sp);
    mp.threads = 1;
    mp.cpu = "scalar";
    sp.ctx = ctx;
    if (puna_fit(name, &mp, &sp, c, &f, &err))
        fail_msg("%s: %s", name, err.message);
    return f;
}

static const struct puna_fit_row *row(const struct puna_fit *f, const char *type)
{
    for (size_t i = 0; i < f->n_rows; i++)
        if (!strcmp(f->rows[i].type, type))
            return &f->rows[i];
    fail_msg("no row %s", type);
    return NULL;
}

static void test_sizes(void **state)
{
    (void)state;
    /* bytes of the files that llama.cpp's tools made of these models, and of Ollama's 90b */
    static const struct {
        const char *shape, *type;
        double bytes, off;
    } known[] = {
        {"8b", "Q4_K_M", 4920739232, 0.003}, {"8b", "Q5_K_M", 5732992416, 0.003}, {"8b", "Q6_K", 6596011424, 0.003},
        {"8b", "Q8_0", 8540775840, 0.003},   {"8b", "Q3_K_M", 4018922912, 0.003}, {"8b", "Q2_K", 3179136416, 0.003},
        {"1b", "Q4_K_M", 807694464, 0.003},  {"1b", "Q8_0", 1321083008, 0.003},   {"3b", "Q4_K_M", 2019377696, 0.003},
        {"90b", "Q4_K_M", 54.7e9, 0.01},     {"11b", "Q4_K_M", 7.8e9, 0.02},      {"11b", "Q8_0", 12.3e9, 0.02},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const struct puna_fit f = fit(known[i].shape, &even, 0);
        const double have = (double)row(&f, known[i].type)->file_bytes;
        print_message("%s %s: %.0f, %.0f known (%+.2f %%)\n", known[i].shape, known[i].type, have, known[i].bytes,
                      100 * (have / known[i].bytes - 1));
        assert_true(fabs(have / known[i].bytes - 1) < known[i].off);
    }
}

static void test_shapes(void **state)
{
    (void)state;
    size_t n_types = 0;
    while (puna_quant_type(n_types))
        n_types++;
    size_t n = 0;
    for (const char *name; (name = puna_shape(n)); n++) {
        const struct puna_fit f = fit(name, &even, 2048), wide = fit(name, &even, 4096);
        assert_int_equal(f.n_rows, n_types);
        assert_int_equal(f.has_vision, name[1] == '1' || name[1] == '0');
        assert_int_equal(f.ctx, 2048);
        assert_int_equal(wide.plan.kv_bytes, 2 * f.plan.kv_bytes);
        assert_int_equal(f.plan.file_bytes, 0);
        assert_true(f.plan.scratch_bytes > 0 && f.plan.available_bytes > 0);
        assert_int_equal(f.has_vision, f.plan.cross_bytes_per_image > 0);
        for (size_t i = 0; i < f.n_rows; i++) {
            const struct puna_fit_row *r = &f.rows[i];
            assert_true(r->file_bytes > 100000000 && r->prefill_rate > 0 && r->decode_rate > 0);
            assert_int_equal(f.has_vision, r->picture_seconds > 0);
            assert_true(!f.has_vision || r->decode_picture_rate < r->decode_rate);
            assert_true(wide.rows[i].decode_rate < r->decode_rate);
        }
    }
    assert_int_equal(n, 6);
    /* 8b has 32 layers of 8 heads of 128 values in F16, keys and values */
    const struct puna_fit f = fit("8b", &even, 1024);
    assert_int_equal(f.plan.kv_bytes, 32 * 8 * 128 * 2 * 2 * 1024);
}

static void test_rates(void **state)
{
    (void)state;
    /* A token of 8b is 7.0e9 multiply-adds in its layers; F32 products here, since the scalar tier has no others.
     * It reads 7.5e9 weights, the output matrix included. */
    const double layers = 32 * (4096.0 * (2 * 4096 + 2 * 1024) + 3.0 * 4096 * 14336), all = layers + 4096.0 * 128256;
    const struct puna_ceilings slow_memory = {.read_gbs = 0.01, .int8_gops = 1e6, .bf16_gops = 0, .f32_gops = 1e6};
    const struct puna_fit a = fit("8b", &even, 64), b = fit("8b", &slow_memory, 64);
    const double part = row(&a, "F16")->prefill_rate * 2 * layers / 1e9 / even.f32_gops;
    const double read = row(&b, "F16")->decode_rate * 2 * all / 1e9 / slow_memory.read_gbs;
    print_message("F16: %.3f of the peak, %.3f of the bandwidth\n", part, read);
    assert_true(part > 0.3 && part < 1);
    assert_true(read > 0.3 && read < 1);
    /* times are inverse to ceilings */
    const struct puna_ceilings twice = {.read_gbs = 20, .int8_gops = 2000, .bf16_gops = 800, .f32_gops = 200};
    const struct puna_fit p = fit("11b", &even, 0), q = fit("11b", &twice, 0);
    assert_true(fabs(row(&q, "Q4_K_M")->decode_rate / row(&p, "Q4_K_M")->decode_rate - 2) < 1e-9);
    assert_true(fabs(row(&q, "Q8_0")->picture_seconds / row(&p, "Q8_0")->picture_seconds - 0.5) < 1e-9);
    /* nothing measured: nothing promised */
    const struct puna_ceilings none = {0};
    const struct puna_fit z = fit("11b", &none, 0);
    assert_true(row(&z, "Q4_0")->prefill_rate == 0 && row(&z, "Q4_0")->decode_rate == 0);
}

static void test_errors(void **state)
{
    (void)state;
    struct puna_fit f = {.size = sizeof f};
    struct puna_error err = {0};
    assert_int_equal(puna_fit("12b", NULL, NULL, &even, &f, &err), PUNA_E_NOT_FOUND);
    assert_int_equal(f.n_rows, 0);
    struct puna_model_params mp;
    puna_model_params_init(&mp);
    mp.cpu = "abacus";
    assert_true(puna_fit("8b", &mp, NULL, &even, &f, &err) < 0);
    assert_non_null(strstr(err.message, "abacus"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes), cmocka_unit_test(test_shapes),
                                       cmocka_unit_test(test_rates), cmocka_unit_test(test_errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
