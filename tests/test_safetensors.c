/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"
#include "file/safetensors.h"
#include "file_util.h"

static char fake_path[] = "x.safetensors";

/* A buffer of exactly n bytes posing as a mapped file. */
static struct pn_map fake_map(const uint8_t *bytes, size_t n)
{
    struct pn_map m = { .size = n, .path = fake_path, .slot = -1, .fd = -1 };
    uint8_t *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, n);
    m.data = copy;
    return m;
}

static void expect_bytes(const uint8_t *bytes, size_t n, int code, const char *part)
{
    struct pn_map m = fake_map(bytes, n);
    struct puna_error err = { 0 };
    struct pn_safetensors *st = NULL;
    const int rc = pn_safetensors_open(&st, &m, &err);
    if (rc != code || !strstr(err.message, part))
        fail_msg("wanted %d '%s', got %d '%s'", code, part, rc, err.message);
    assert_null(st);
    assert_non_null(strstr(err.message, fake_path));
    free((void *)(uintptr_t)m.data);
}

static void expect(const char *header, size_t n_data, int code, const char *part)
{
    size_t n;
    uint8_t *b = st_bytes(header, n_data, &n);
    expect_bytes(b, n, code, part);
    free(b);
}

#define GOOD                                                                  \
    "{\"__metadata__\":{\"format\":\"pt\"},"                                  \
    "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[8,32]},"      \
    "\"a\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,8]},"        \
    "\"gate\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[32,34]}}    "

static void test_good(void **state)
{
    (void)state;
    size_t n;
    uint8_t *b = st_bytes(GOOD, 34, &n);
    struct pn_map m = fake_map(b, n);
    struct puna_error err = { 0 };
    struct pn_safetensors *st;
    assert_int_equal(pn_safetensors_open(&st, &m, &err), 0);
    assert_int_equal(st->n_tensors, 3);
    const struct pn_tensor *t = st->tensors; /* by place */
    assert_string_equal(t[0].name, "a");
    assert_int_equal(t[0].type, PN_BF16);
    assert_int_equal(t[0].ndim, 1);
    assert_int_equal(t[0].ne[0], 4);
    assert_int_equal(t[0].ne[1], 1);
    assert_int_equal(t[0].data[7], 7);
    assert_string_equal(t[1].name, "b");
    assert_int_equal(t[1].type, PN_F32);
    assert_int_equal(t[1].ne[0], 3); /* reversed */
    assert_int_equal(t[1].ne[1], 2);
    assert_int_equal(t[1].n_bytes, 24);
    assert_int_equal(t[1].data[0], 8);
    assert_int_equal(t[2].type, PN_F16);
    assert_int_equal(t[2].ndim, 0);
    assert_int_equal(t[2].ne[0], 1);
    assert_int_equal(t[2].n_bytes, 2);
    pn_safetensors_close(&st);
    assert_null(st);
    pn_safetensors_close(&st);
    free((void *)(uintptr_t)m.data);
    free(b);
}

static void test_truncated_anywhere(void **state)
{
    (void)state;
    size_t n;
    uint8_t *b = st_bytes(GOOD, 34, &n);
    for (size_t k = 0; k < n; k++)
        expect_bytes(b, k, PUNA_E_FORMAT, k < 8 ? "no safetensors file" : "");
    free(b);
}

static void test_every_byte_changed(void **state)
{
    (void)state;
    static const uint8_t values[] = { 0x00, '0', '9', '"', '}', 0x80, 0xff };
    size_t n;
    uint8_t *b = st_bytes(GOOD, 34, &n);
    struct pn_map m = fake_map(b, n);
    uint8_t *w = (uint8_t *)(uintptr_t)m.data;
    unsigned refused = 0;
    for (size_t k = 0; k < n; k++) {
        for (size_t i = 0; i < sizeof values; i++) {
            w[k] = values[i];
            struct pn_safetensors *st;
            if (pn_safetensors_open(&st, &m, NULL) != 0) {
                refused++;
                continue;
            }
            for (size_t t = 0; t < st->n_tensors; t++) {
                const struct pn_tensor *x = &st->tensors[t];
                assert_true(x->data >= m.data);
                assert_true(x->n_bytes <= n - (size_t)(x->data - m.data));
            }
            pn_safetensors_close(&st);
        }
        w[k] = b[k];
    }
    assert_true(refused > 500);
    free(w);
    free(b);
}

static void test_header_length(void **state)
{
    (void)state;
    static const struct { uint64_t len; const char *part; } cases[] = {
        { 0, "header of 0 bytes" }, { 1, "header of 1 bytes" }, { 100000001, "100000001 bytes" },
        { 100000000, "beyond the file's end" }, { UINT32_MAX, "4294967295" },
        { (uint64_t)1 << 63, "not a safetensors" }, { UINT64_MAX, "not a safetensors" },
        { 400, "beyond the file's end" },
    };
    size_t n;
    uint8_t *b = st_bytes(GOOD, 34, &n);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int k = 0; k < 8; k++)
            b[k] = (uint8_t)(cases[i].len >> 8 * k);
        expect_bytes(b, n, PUNA_E_FORMAT, cases[i].part);
    }
    free(b);
    expect_bytes((const uint8_t *)"version https://git-lfs.github.com/spec/v1\n", 43,
                 PUNA_E_FORMAT, "git lfs pull");
}

static void test_bad_json(void **state)
{
    (void)state;
    expect("[]", 0, PUNA_E_FORMAT, "does not begin with '{'");
    expect("{\"a\":}", 0, PUNA_E_FORMAT, "broken JSON");
    expect("{\"a\xff\":1}", 0, PUNA_E_FORMAT, "broken JSON");
    expect("{} x", 0, PUNA_E_FORMAT, "broken JSON");
    expect("{\"a\":1}", 0, PUNA_E_FORMAT, "tensor 'a' lacks");
    expect("{\"a\\u0000b\":1}", 0, PUNA_E_FORMAT, "broken JSON");
    expect("{\"__metadata__\":1}", 0, PUNA_E_FORMAT, "'__metadata__'");
#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}"
    expect("{" A "," A "}", 4, PUNA_E_FORMAT, "duplicate");
    expect("{\"\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, PUNA_E_FORMAT,
           "name has 0 bytes");
    expect("{\"a\\u0007\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
           PUNA_E_FORMAT, "contains byte 7");
    /* Nested deeper than any stack would like. */
    struct pn_buf deep = { 0 };
    assert_true(pn_buf_str(&deep, "{\"a\":"));
    for (int i = 0; i < 100000; i++)
        assert_true(pn_buf_str(&deep, "["));
    expect(deep.data, 0, PUNA_E_FORMAT, "broken JSON");
    pn_buf_free(&deep);
}

static void tensor_case(const char *dtype, const char *shape, const char *offsets, size_t n_data,
                        int code, const char *part)
{
    char header[512];
    (void)snprintf(header, sizeof header,
                   "{\"t\":{\"dtype\":%s,\"shape\":%s,\"data_offsets\":%s}}", dtype, shape,
                   offsets);
    expect(header, n_data, code, part);
}

static void test_bad_tensors(void **state)
{
    (void)state;
    tensor_case("\"F32\"", "[2]", "[0,4]", 4, PUNA_E_FORMAT, "has 4 bytes where");
    tensor_case("\"BF16\"", "[2,2]", "[0,16]", 16, PUNA_E_FORMAT, "has 16 bytes where");
    tensor_case("\"BF16\"", "[1]", "[0,3]", 3, PUNA_E_FORMAT, "has 3 bytes where");
    tensor_case("\"I64\"", "[1]", "[0,8]", 8, PUNA_E_UNSUPPORTED, "'t' has type I64");
    tensor_case("\"F8_E4M3\"", "[8]", "[0,8]", 8, PUNA_E_UNSUPPORTED, "F8_E4M3");
    tensor_case("7", "[1]", "[0,4]", 4, PUNA_E_FORMAT, "lacks dtype");
    tensor_case("\"F32\"", "[1]", "[0]", 4, PUNA_E_FORMAT, "lacks dtype");
    tensor_case("\"F32\"", "[1]", "[0,4,8]", 4, PUNA_E_FORMAT, "lacks dtype");
    tensor_case("\"F32\"", "[1]", "[0,4.0]", 4, PUNA_E_FORMAT, "lacks dtype");
    tensor_case("\"F32\"", "[1]", "{}", 4, PUNA_E_FORMAT, "lacks dtype");
    tensor_case("\"F32\"", "3", "[0,4]", 4, PUNA_E_FORMAT, "shape of tensor 't'");
    tensor_case("\"F32\"", "[1,1,1,1,1]", "[0,4]", 4, PUNA_E_UNSUPPORTED, "at most 4");
    tensor_case("\"F32\"", "[0]", "[0,0]", 0, PUNA_E_FORMAT, "not a positive integer");
    tensor_case("\"F32\"", "[-1]", "[0,4]", 4, PUNA_E_FORMAT, "not a positive integer");
    tensor_case("\"F32\"", "[1.0]", "[0,4]", 4, PUNA_E_FORMAT, "not a positive integer");
    tensor_case("\"F32\"", "[4294967296,4294967296]", "[0,4]", 4, PUNA_E_FORMAT, "more elements");
    tensor_case("\"F32\"", "[4294967296,1073741824]", "[0,0]", 0, PUNA_E_FORMAT, "has 0 bytes");
    tensor_case("\"F32\"", "[9223372036854775807,3]", "[0,4]", 4, PUNA_E_FORMAT, "more elements");
    tensor_case("\"F32\"", "[1]", "[0,8]", 4, PUNA_E_FORMAT, "0..8 of 4 data bytes");
    tensor_case("\"F32\"", "[1]", "[-4,0]", 4, PUNA_E_FORMAT, "-4..0 of 4");
    tensor_case("\"F32\"", "[1]", "[4,0]", 4, PUNA_E_FORMAT, "4..0 of 4");
    tensor_case("\"F32\"", "[1]", "[0,99999999999999999999]", 4, PUNA_E_FORMAT, "broken JSON");
}

static void test_tiling(void **state)
{
    (void)state;
#define T(name, from, to) \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[" #from "," #to "]}"
    expect("{" T("p", 4, 8) "}", 8, PUNA_E_FORMAT, "'p' is preceded by bytes");
    expect("{" T("p", 0, 4) "," T("q", 8, 12) "}", 12, PUNA_E_FORMAT, "'q' is preceded by bytes");
    expect("{" T("p", 0, 4) "," T("q", 0, 4) "}", 4, PUNA_E_FORMAT, "overlaps another one");
    expect("{" T("p", 0, 4) "," T("q", 2, 6) "}", 6, PUNA_E_FORMAT, "overlaps another one");
    expect("{" T("p", 0, 4) "}", 5, PUNA_E_FORMAT, "1 bytes at the end belong to no tensor");
    expect("{}", 5, PUNA_E_FORMAT, "5 bytes at the end");
}

/* A header of 10 MB, as no model has, must still do. */
static void test_long_header(void **state)
{
    (void)state;
    enum { N = 100000 };
    struct pn_buf h = { 0 };
    assert_true(pn_buf_str(&h, "{"));
    for (int i = 0; i < N; i++)
        assert_true(pn_buf_printf(&h, "%s\"tensor.with.a.long.name.%040d\":{\"dtype\":\"F16\","
                                  "\"shape\":[1],\"data_offsets\":[%d,%d]}", i ? "," : "", i,
                                  2 * i, 2 * i + 2));
    assert_true(pn_buf_str(&h, "}"));
    assert_true(h.len > 10000000);
    size_t n;
    uint8_t *b = st_bytes(h.data, (size_t)2 * N, &n);
    struct pn_map m = fake_map(b, n);
    struct pn_safetensors *st;
    assert_int_equal(pn_safetensors_open(&st, &m, NULL), 0);
    assert_int_equal(st->n_tensors, N);
    pn_safetensors_close(&st);
    free((void *)(uintptr_t)m.data);
    free(b);
    pn_buf_free(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),        cmocka_unit_test(test_truncated_anywhere),
        cmocka_unit_test(test_every_byte_changed), cmocka_unit_test(test_header_length),
        cmocka_unit_test(test_bad_json),    cmocka_unit_test(test_bad_tensors),
        cmocka_unit_test(test_tiling),      cmocka_unit_test(test_long_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
