/* SPDX-License-Identifier: Apache-2.0 */
/* Block formats against values made by an independent implementation
 * (tests/oracle/quant_oracle.py), 16-bit floats against their definition, and the quantisers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kern/kern.h"
#include "quant/blocks.h"
#include "quant/quantize.h"
#include "quant/types.h"

static const uint32_t all_types[] = { PN_F32,  PN_F16,  PN_BF16,   PN_Q4_0,  PN_Q4_1,
                                      PN_Q5_0, PN_Q5_1, PN_Q8_0,   PN_Q2_K,  PN_Q3_K,
                                      PN_Q4_K, PN_Q5_K, PN_Q6_K,   PN_IQ4_NL, PN_IQ4_XS };
enum { N_TYPES = sizeof all_types / sizeof all_types[0] };

static void test_types(void **state)
{
    (void)state;
    /* name, id in a GGUF file, elements and bytes of a block: the published format */
    static const struct { const char *name; uint32_t id, elems, bytes; } expected[] = {
        { "F32", 0, 1, 4 },      { "F16", 1, 1, 2 },      { "Q4_0", 2, 32, 18 },
        { "Q4_1", 3, 32, 20 },   { "Q5_0", 6, 32, 22 },   { "Q5_1", 7, 32, 24 },
        { "Q8_0", 8, 32, 34 },   { "Q2_K", 10, 256, 84 }, { "Q3_K", 11, 256, 110 },
        { "Q4_K", 12, 256, 144 }, { "Q5_K", 13, 256, 176 }, { "Q6_K", 14, 256, 210 },
        { "IQ4_NL", 20, 32, 18 }, { "IQ4_XS", 23, 256, 136 }, { "BF16", 30, 1, 2 },
    };
    assert_int_equal(sizeof expected / sizeof expected[0], N_TYPES);
    size_t known = 0;
    for (uint32_t id = 0; id < 300; id++)
        known += pn_type_info(id) != NULL;
    assert_int_equal(known, N_TYPES);
    for (size_t i = 0; i < N_TYPES; i++) {
        const struct pn_type_info *info = pn_type_info(expected[i].id);
        assert_non_null(info);
        assert_string_equal(info->name, expected[i].name);
        assert_int_equal(info->block_elems, expected[i].elems);
        assert_int_equal(info->block_bytes, expected[i].bytes);
        assert_int_equal(pn_type_by_name(expected[i].name), expected[i].id);
        assert_int_equal(pn_row_bytes((enum pn_type)expected[i].id, 4096),
                         4096 / expected[i].elems * expected[i].bytes);
    }
    assert_int_equal(pn_type_by_name("q4_k"), PN_Q4_K);
    assert_int_equal(pn_type_by_name("Q4_K_M"), -1);
    assert_int_equal(pn_type_by_name(""), -1);
    assert_null(pn_type_info(UINT32_MAX));
    /* beyond 32 bits */
    assert_true(pn_row_bytes(PN_F32, INT64_C(1) << 40) == (size_t)1 << 42);
}

/* ---- golden blocks ---- */

static uint8_t *read_golden(size_t *size)
{
    const char *dir = getenv("PUNA_SRCDIR");
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/data/quant/blocks.bin", dir != NULL ? dir : ".");
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        fail_msg("cannot open %s", path);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *size = (size_t)ftell(f);
    rewind(f);
    uint8_t *data = malloc(*size);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *size, f), *size);
    fclose(f);
    return data;
}

static void test_golden_blocks(void **state)
{
    (void)state;
    size_t size;
    uint8_t *data = read_golden(&size);
    assert_memory_equal(data, "PNQ1", 4);
    struct pn_kern k;
    assert_int_equal(pn_kern_select(&k, "scalar", NULL), 0);
    size_t at = 4, types_seen = 0;
    while (at < size) {
        assert_true(size - at >= 16);
        const uint32_t type = pn_le32(data + at), n = pn_le32(data + at + 4);
        const uint32_t bytes = pn_le32(data + at + 8), elems = pn_le32(data + at + 12);
        const struct pn_type_info *info = pn_type_info(type);
        assert_non_null(info);
        assert_int_equal(info->block_bytes, bytes);
        assert_int_equal(info->block_elems, elems);
        const uint8_t *blocks = data + at + 16;
        const uint8_t *want = blocks + (size_t)n * bytes;
        const size_t n_values = (size_t)n * elems;
        assert_true(want + n_values * 4 <= data + size);
        float *got = malloc(n_values * sizeof(float));
        assert_non_null(got);
        k.dequant[type](got, blocks, (int64_t)n_values);
        for (size_t i = 0; i < n_values; i++) {
            if (got[i] != pn_f32_from_bits(pn_le32(want + 4 * i)))
                fail_msg("%s: value %zu is %a, expected %a", info->name, i, (double)got[i],
                         (double)pn_f32_from_bits(pn_le32(want + 4 * i)));
        }
        free(got);
        at = (size_t)(want - data) + n_values * 4;
        types_seen++;
    }
    assert_int_equal(types_seen, N_TYPES - 1); /* all but F32 */
    free(data);
}

/* ---- 16-bit floats ---- */

static double f16_by_definition(uint32_t h)
{
    const int exp = h >> 10 & 31, frac = h & 1023;
    const double mag = exp == 0    ? ldexp(frac, -24)
                       : exp == 31 ? (frac ? NAN : INFINITY)
                                   : ldexp(1024 + frac, exp - 25);
    return h & 0x8000 ? -mag : mag;
}

static void test_f16(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const double want = f16_by_definition(h);
        const float got = pn_f16_to_f32((uint16_t)h);
        if (isnan(want)) {
            assert_true(isnan(got));
            assert_true(isnan(pn_f16_to_f32(pn_f32_to_f16(got))));
        } else {
            assert_true((double)got == want && !signbit(got) == !(h >> 15));
            assert_int_equal(pn_f32_to_f16(got), h);
        }
    }
    /* Between neighbours: the middle goes to the even one, either side of it to the nearer. 65520
     * is the middle between the largest number and where infinity begins. */
    for (uint32_t h = 0; h < 0x7c00; h++) {
        const float a = pn_f16_to_f32((uint16_t)h);
        const float b = h + 1 < 0x7c00 ? pn_f16_to_f32((uint16_t)(h + 1)) : 65536.0f;
        const float middle = a + (b - a) / 2;
        const uint32_t even = h & 1 ? h + 1 : h;
        assert_int_equal(pn_f32_to_f16(middle), even);
        assert_int_equal(pn_f32_to_f16(nextafterf(middle, 0.0f)), h);
        assert_int_equal(pn_f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
        assert_int_equal(pn_f32_to_f16(-middle), even | 0x8000);
    }
    assert_int_equal(pn_f32_to_f16(3e38f), 0x7c00);
    assert_int_equal(pn_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(pn_f32_to_f16(1e-30f), 0);
}

static void test_bf16(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float x = pn_bf16_to_f32((uint16_t)h);
        assert_int_equal(pn_f32_bits(x), h << 16);
        if (isnan(x))
            assert_true(isnan(pn_bf16_to_f32(pn_f32_to_bf16(x))));
        else
            assert_int_equal(pn_f32_to_bf16(x), h);
    }
    for (uint32_t h = 0; h < 0x7f80; h++) {
        const uint32_t middle = h << 16 | 0x8000;
        assert_int_equal(pn_f32_to_bf16(pn_f32_from_bits(middle)), h & 1 ? h + 1 : h);
        assert_int_equal(pn_f32_to_bf16(pn_f32_from_bits(middle - 1)), h);
        assert_int_equal(pn_f32_to_bf16(pn_f32_from_bits(middle + 1)), h + 1);
    }
    /* a NaN whose payload is only in the low half must not become infinity */
    assert_true(isnan(pn_bf16_to_f32(pn_f32_to_bf16(pn_f32_from_bits(0x7f800001u)))));
}

/* ---- quantisers ---- */

/* Root mean square error over that of the values, for 64 blocks of noise. */
static double relative_error(enum pn_type type, float offset)
{
    enum { N = 256 * 64 };
    static float x[N], y[N];
    static uint8_t w[N * 4];
    struct pn_kern k;
    assert_int_equal(pn_kern_select(&k, "scalar", NULL), 0);
    uint64_t r = 12345 + type;
    for (int i = 0; i < N; i++) {
        float sum = 0;
        for (int j = 0; j < 6; j++) {
            r = r * 6364136223846793005u + 1442695040888963407u;
            sum += (float)(r >> 40) * 0x1p-24f - 0.5f;
        }
        x[i] = sum * 0.05f + offset;
    }
    pn_quantize_row(type, w, x, N, NULL);
    k.dequant[type](y, w, N);
    double err = 0, all = 0;
    for (int i = 0; i < N; i++) {
        err += ((double)y[i] - (double)x[i]) * ((double)y[i] - (double)x[i]);
        all += (double)x[i] * (double)x[i];
    }
    return sqrt(err / all);
}

static void test_quantize_error(void **state)
{
    (void)state;
    /* What ggml's own quantisers leave on this noise: the search must not fall behind them
     * (tests/oracle/quantizers.py has the whole comparison). */
    static const struct { enum pn_type type; double limit; } limits[] = {
        { PN_F32, 0 },          { PN_F16, 3e-4 },     { PN_BF16, 2.5e-3 },  { PN_Q8_0, 0.00518 },
        { PN_Q4_0, 0.0832 },    { PN_Q4_1, 0.0770 },  { PN_Q5_0, 0.04155 }, { PN_Q5_1, 0.03694 },
        { PN_IQ4_NL, 0.07513 }, { PN_Q2_K, 0.29279 }, { PN_Q3_K, 0.1484 },  { PN_Q4_K, 0.07002 },
        { PN_Q5_K, 0.03503 },   { PN_Q6_K, 0.01723 }, { PN_IQ4_XS, 0.07511 },
    };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        const double e = relative_error(limits[i].type, 0.0f);
        print_message("%-7s %.5f\n", pn_type_info(limits[i].type)->name, e);
        if (!(e <= limits[i].limit))
            fail_msg("%s: relative error %g, limit %g", pn_type_info(limits[i].type)->name, e,
                     limits[i].limit);
    }
}

static uint64_t lcg(uint64_t *r)
{
    *r = *r * 6364136223846793005u + 1442695040888963407u;
    return *r >> 33;
}

/* A block that the format can hold comes back bit for bit: codes over their whole range, one scale. */
static void test_quantize_exact(void **state)
{
    (void)state;
    static const struct { enum pn_type type; int lo, hi; float offset; } cases[] = {
        { PN_Q8_0, -127, 127, 0 }, { PN_Q4_0, -8, 7, 0 },  { PN_Q5_0, -16, 15, 0 }, { PN_Q4_1, 0, 15, 0.75f },
        { PN_Q5_1, 0, 31, -2.5f }, { PN_Q6_K, -32, 31, 0 }, { PN_Q3_K, -4, 3, 0 },
    };
    struct pn_kern k;
    assert_int_equal(pn_kern_select(&k, "scalar", NULL), 0);
    uint64_t r = 1;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        for (int turn = 0; turn < 50; turn++) {
            float x[256], y[256];
            uint8_t w[256 * 4];
            const float d = (float)(1 + lcg(&r) % 31) / 1024;
            for (int i = 0; i < 256; i++) {
                const int span = cases[c].hi - cases[c].lo + 1;
                const int any = cases[c].lo + (int)(lcg(&r) % (uint64_t)span);
                const int q = i % 16 == 0 ? cases[c].lo : i % 16 == 1 ? cases[c].hi : any;
                x[i] = d * (float)q + cases[c].offset;
            }
            pn_quantize_row(cases[c].type, w, x, 256, NULL);
            k.dequant[cases[c].type](y, w, 256);
            for (int i = 0; i < 256; i++)
                if (x[i] != y[i])
                    fail_msg("%s, turn %d, value %d: %a became %a", pn_type_info(cases[c].type)->name, turn, i,
                             (double)x[i], (double)y[i]);
        }
    }
}

/* Weights: their sum of squares falls below what even weights leave, by their ratios alone; zeros count for nothing,
 * and none at all is even weighting. */
static void test_quantize_importance(void **state)
{
    (void)state;
    enum { N = 4096 };
    static float x[N], y[N], imp[N], scaled[N], zero[N];
    static uint8_t even[N * 4], w[N * 4];
    struct pn_kern k;
    assert_int_equal(pn_kern_select(&k, "scalar", NULL), 0);
    uint64_t r = 7;
    for (int i = 0; i < N; i++) {
        float sum = 0;
        for (int j = 0; j < 6; j++)
            sum += (float)(lcg(&r) % 65536) / 65536 - 0.5f;
        x[i] = 0.02f * sum;
        imp[i] = lcg(&r) % 8 == 0 ? 30.0f : lcg(&r) % 8 == 0 ? 0.0f : 0.3f;
        scaled[i] = imp[i] * 0x1p40f;
    }
    for (size_t t = 0; t < N_TYPES; t++) {
        const enum pn_type type = (enum pn_type)all_types[t];
        const size_t bytes = pn_row_bytes(type, N);
        double err[2] = { 0, 0 };
        for (int weighted = 0; weighted < 2; weighted++) {
            pn_quantize_row(type, weighted ? w : even, x, N, weighted ? imp : NULL);
            k.dequant[type](y, weighted ? w : even, N);
            for (int i = 0; i < N; i++)
                err[weighted] += (double)imp[i] * ((double)y[i] - (double)x[i]) * ((double)y[i] - (double)x[i]);
        }
        if (pn_type_info((uint32_t)type)->block_elems > 1 && !(err[1] < 0.95 * err[0]))
            fail_msg("%s: weighted error %g with weights, %g without", pn_type_info((uint32_t)type)->name, err[1],
                     err[0]);
        pn_quantize_row(type, w, x, N, zero);
        assert_memory_equal(w, even, bytes);
        pn_quantize_row(type, even, x, N, imp);
        pn_quantize_row(type, w, x, N, scaled);
        assert_memory_equal(w, even, bytes);
    }
}

static void test_quantize_edges(void **state)
{
    (void)state;
    struct pn_kern k;
    assert_int_equal(pn_kern_select(&k, "scalar", NULL), 0);
    for (size_t t = 0; t < N_TYPES; t++) {
        const enum pn_type type = (enum pn_type)all_types[t];
        float x[256], y[256];
        uint8_t w[256 * 4];
        memset(x, 0, sizeof x);
        pn_quantize_row(type, w, x, 256, NULL);
        k.dequant[type](y, w, 256);
        for (int i = 0; i < 256; i++) /* zeros stay zeros */
            assert_true(y[i] == 0.0f);
        for (int i = 0; i < 256; i++)
            x[i] = i == 77 ? 1e30f : i == 78 ? -1e30f : i == 79 ? 1e-30f : 1.0f;
        pn_quantize_row(type, w, x, 256, NULL);
        k.dequant[type](y, w, 256);
        for (int i = 0; i < 256; i++) {
            if (type != PN_F16 && !isfinite(y[i])) /* F16 has no scale: it overflows */
                fail_msg("%s: value %d became %g", pn_type_info(type)->name, i, (double)y[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),          cmocka_unit_test(test_golden_blocks),
        cmocka_unit_test(test_f16),            cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_quantize_error), cmocka_unit_test(test_quantize_edges),
        cmocka_unit_test(test_quantize_exact), cmocka_unit_test(test_quantize_importance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
