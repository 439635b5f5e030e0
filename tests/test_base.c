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
#include "base/sha256.h"

static void test_fail_sanitises(void **state)
{
    (void)state;
    static const struct { const char *in, *out; } cases[] = {
        { "plain", "plain" },
        { "a\x1b[31mred\n\r\tx\x7f", "a?[31mred???x?" },
        { "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80", "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80" },
        { "\xc0\xaf", "??" },                       /* overlong */
        { "\xe0\x9f\xbf", "???" },                  /* overlong, 3 bytes */
        { "\xed\xa0\x80", "???" },                  /* surrogate */
        { "\xf4\x90\x80\x80", "????" },             /* beyond U+10FFFF */
        { "\xf5\x80\x80\x80", "????" },
        { "\xc2\x9b" "31m", "??31m" },              /* C1 control: CSI */
        { "\xc2\xa0", "\xc2\xa0" },
        { "cut \xe2\x82", "cut ??" },
        { "\x80", "?" },
        { "\xe2\x28\xa1", "?(?" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct puna_error err = { 0 };
        assert_int_equal(pn_fail(&err, PUNA_E_FORMAT, "%s", cases[i].in), PUNA_E_FORMAT);
        assert_int_equal(err.code, PUNA_E_FORMAT);
        assert_string_equal(err.message, cases[i].out);
    }
}

static void test_fail_corners(void **state)
{
    (void)state;
    assert_int_equal(pn_fail(NULL, PUNA_E_ARG, "%s", "x"), PUNA_E_ARG);

    struct puna_error err = { 0 };
    (void)pn_fail(&err, PUNA_E_IO, "inner");
    assert_int_equal(pn_fail(&err, PUNA_E_ARG, "outer: %s", err.message), PUNA_E_ARG);
    assert_string_equal(err.message, "outer: inner");

    /* Too long: cut at a character's border, and visibly. */
    char text[2 * sizeof err.message];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = 0;
    (void)pn_fail(&err, PUNA_E_ARG, "%s", text);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    assert_string_equal(err.message + sizeof err.message - 5, "a...");
    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'a', shift);
        for (size_t i = shift; i + 4 < sizeof text; i += 4)
            memcpy(text + i, "\xf0\x9f\x98\x80", 4);
        (void)pn_fail(&err, PUNA_E_ARG, "%s", text);
        assert_null(strchr(err.message, '?'));
        assert_string_equal(err.message + strlen(err.message) - 3, "...");
    }

    assert_int_equal(pn_fail_memory(&err, 100, "a table"), PUNA_E_MEMORY);
    assert_string_equal(err.message, "out of memory: 100 bytes for a table");
    assert_int_equal(pn_fail_memory(&err, (size_t)3 << 20, "x"), PUNA_E_MEMORY);
    assert_string_equal(err.message, "out of memory: 3.0 MiB for x");
}

static void test_checked_sizes(void **state)
{
    (void)state;
    size_t r;
    assert_true(pn_mul_size(3, 4, &r));
    assert_int_equal(r, 12);
    assert_true(pn_mul_size(0, SIZE_MAX, &r));
    assert_int_equal(r, 0);
    assert_false(pn_mul_size(SIZE_MAX / 2 + 1, 2, &r));
    assert_true(pn_add_size(SIZE_MAX - 1, 1, &r));
    assert_true(r == SIZE_MAX);
    assert_false(pn_add_size(SIZE_MAX, 1, &r));
}

static void test_calloc_array(void **state)
{
    (void)state;
    assert_null(pn_calloc_array(SIZE_MAX / 2, 4));
    assert_null(pn_calloc_array(SIZE_MAX - 16, 1));
    for (size_t n = 0; n < 200; n++) {
        unsigned char *p = pn_calloc_array(n, 3);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        for (size_t i = 0; i < 3 * n; i++)
            assert_int_equal(p[i], 0);
        if (n)
            memset(p, 0xa5, 3 * n);
        pn_free(p);
    }
    pn_free(NULL);
}

static void test_buf(void **state)
{
    (void)state;
    struct pn_buf b = { 0 };
    assert_true(pn_buf_append(&b, NULL, 0));
    assert_string_equal(b.data, "");
    assert_true(pn_buf_str(&b, "abc"));
    assert_true(pn_buf_append(&b, "\0d", 2));
    assert_int_equal(b.len, 5);
    assert_memory_equal(b.data, "abc\0d", 6);
    assert_true(pn_buf_printf(&b, "%d-%s", 17, "x"));
    assert_string_equal(b.data + 4, "d17-x");
    for (int i = 0; i < 10000; i++)
        assert_true(pn_buf_str(&b, "0123456789"));
    assert_int_equal(b.len, 9 + 100000);
    assert_int_equal(b.data[b.len], 0);
    pn_buf_free(&b);
    assert_null(b.data);

    struct pn_buf m = { .max = 8 };
    assert_true(pn_buf_str(&m, "12345678"));
    assert_false(pn_buf_str(&m, "9"));
    assert_true(m.failed);
    assert_false(pn_buf_append(&m, "", 0)); /* sticky */
    assert_string_equal(m.data, "12345678");
    pn_buf_free(&m);
    assert_false(m.failed);
    assert_false(pn_buf_printf(&m, "%09d", 1));
    assert_true(m.failed);
    pn_buf_free(&m);

    struct pn_buf h = { 0 };
    assert_true(pn_buf_str(&h, "x"));
    assert_false(pn_buf_append(&h, "y", SIZE_MAX - 1));
    pn_buf_free(&h);
}

static void test_arena(void **state)
{
    (void)state;
    struct pn_arena *a = pn_arena_new();
    assert_non_null(a);
    unsigned char *p[600];
    for (size_t i = 0; i < 600; i++) {
        const size_t n = i * 97 % 40000;
        p[i] = pn_arena_alloc(a, n);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        for (size_t k = 0; k < n; k++)
            assert_int_equal(p[i][k], 0);
        memset(p[i], (int)(i & 0xff), n);
    }
    for (size_t i = 0; i < 600; i++) {
        const size_t n = i * 97 % 40000;
        for (size_t k = 0; k < n; k++)
            assert_int_equal(p[i][k], i & 0xff);
    }
    const char *s = pn_arena_strndup(a, "hello world", 5);
    assert_string_equal(s, "hello");
    assert_string_equal(pn_arena_strndup(a, NULL, 0), "");
    assert_null(pn_arena_alloc(a, SIZE_MAX));
    assert_null(pn_arena_alloc(a, SIZE_MAX - 20));
    assert_null(pn_arena_strndup(a, "x", SIZE_MAX));
    pn_arena_free(a);
    pn_arena_free(NULL);
}

static void test_map_str(void **state)
{
    (void)state;
    enum { N = 20000 };
    struct pn_map_str *m = pn_map_str_new(0); /* must grow */
    assert_non_null(m);
    char(*keys)[16] = calloc(N, sizeof *keys);
    assert_non_null(keys);
    for (uint32_t i = 0; i < N; i++) {
        (void)snprintf(keys[i], sizeof keys[i], "key.%u", i * 2654435761u);
        assert_int_equal(pn_map_str_put(m, keys[i], strlen(keys[i]), i), 1);
    }
    assert_int_equal(pn_map_str_put(m, "key.0", 5, 77), 0);
    assert_int_equal(pn_map_str_get(m, "key.0", 5), 0);
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(pn_map_str_get(m, keys[i], strlen(keys[i])), i);
    assert_int_equal(pn_map_str_get(m, "key.", 4), -1);
    assert_int_equal(pn_map_str_get(m, "", 0), -1);
    /* The empty key, and keys with NUL that differ in length only. */
    assert_int_equal(pn_map_str_put(m, "", 0, 5), 1);
    assert_int_equal(pn_map_str_get(m, "", 0), 5);
    assert_int_equal(pn_map_str_put(m, "\0", 1, 6), 1);
    assert_int_equal(pn_map_str_put(m, "\0\0", 2, UINT32_MAX), 1);
    assert_int_equal(pn_map_str_get(m, "\0", 1), 6);
    assert_true(pn_map_str_get(m, "\0\0", 2) == (int64_t)UINT32_MAX);
    pn_map_str_free(m);
    free(keys);
    pn_map_str_free(NULL);
    assert_null(pn_map_str_new(SIZE_MAX));
    assert_null(pn_map_str_new(SIZE_MAX / 4));
}

static void test_sha256(void **state)
{
    (void)state;
    char hex[65];
    pn_sha256_hex(hex, "abc", 3);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    pn_sha256_hex(hex, "", 0);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    static const char two[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    pn_sha256_hex(hex, two, sizeof two - 1);
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char *million = malloc(1000000);
    assert_non_null(million);
    memset(million, 'a', 1000000);
    pn_sha256_hex(hex, million, 1000000);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fail_sanitises), cmocka_unit_test(test_fail_corners),
        cmocka_unit_test(test_checked_sizes),  cmocka_unit_test(test_calloc_array),
        cmocka_unit_test(test_buf),            cmocka_unit_test(test_arena),
        cmocka_unit_test(test_map_str),        cmocka_unit_test(test_sha256),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
