/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 against a table made by encoding every code point: what is in no row of it is not valid. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text/utf8.h"
#include "text/vocab.h"

static size_t encode(char to[4], uint32_t cp)
{
    static const unsigned lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    const size_t n = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; cp >>= 6)
        to[i] = (char)(0x80 | (cp & 0x3f));
    to[0] = (char)(lead[n] | cp);
    return n;
}

/* Beginnings of characters that are longer: [length 1..3], indexed by their bytes. */
static uint8_t *begins[4];

static uint32_t number(const char *s, size_t n)
{
    uint32_t x = 0;
    for (size_t i = 0; i < n; i++)
        x = x << 8 | (uint8_t)s[i];
    return x;
}

static int setup(void **state)
{
    (void)state;
    for (size_t k = 1; k < 4; k++) {
        begins[k] = calloc((size_t)1 << (8 * k), 1);
        if (!begins[k])
            return -1;
    }
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        char s[4];
        const size_t n = encode(s, cp);
        if (cp < 0xd800 || cp > 0xdfff) {
            for (size_t k = 1; k < n; k++)
                begins[k][number(s, k)] = 1;
        }
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t k = 1; k < 4; k++)
        free(begins[k]);
    return 0;
}

static void test_every_character(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        char s[4];
        uint32_t got = 0;
        const size_t n = encode(s, cp);
        const bool surrogate = cp >= 0xd800 && cp <= 0xdfff;
        if (pn_utf8_decode(s, n, &got) != (surrogate ? 0 : n) || (!surrogate && got != cp) ||
            pn_utf8_valid(s, n) == surrogate)
            fail_msg("U+%04X", (unsigned)cp);
    }
}

/* Bytes at which a rule of UTF-8 changes. */
static const uint8_t edges[] = { 0x00, 0x41, 0x7f, 0x80, 0x81, 0x8f, 0x90, 0x9f, 0xa0, 0xbf,
                                 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef,
                                 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf8, 0xff };
#define N_EDGES (sizeof edges)

/* Valid by the table: the string is cut into whole characters. */
static bool valid_by_table(const char *s, size_t n)
{
    while (n) {
        size_t k = 1;
        if ((uint8_t)*s >= 0x80) {
            while (k < 4 && k < n && begins[k][number(s, k)])
                k++;
            if (k == 1)
                return false;
            /* s[0..k-1) begins a character; with byte k it must be one. */
            uint32_t cp = (uint8_t)s[0] & (0xffu >> (k + 1));
            for (size_t i = 1; i < k; i++)
                cp = cp << 6 | ((uint8_t)s[i] & 0x3f);
            char again[4];
            if (cp > 0x10ffff || encode(again, cp) != k || memcmp(again, s, k) != 0 ||
                (cp >= 0xd800 && cp <= 0xdfff))
                return false;
        }
        s += k;
        n -= k;
    }
    return true;
}

static size_t complete_by_table(const char *s, size_t n)
{
    for (size_t k = 1; k < 4 && k <= n; k++) {
        if (begins[k][number(s + n - k, k)])
            return n - k;
    }
    return n;
}

static void test_all_edges(void **state)
{
    (void)state;
    assert_int_equal(pn_utf8_complete("", 0), 0);
    assert_true(pn_utf8_valid("", 0));
    size_t valid = 0, cut = 0;
    for (size_t n = 1; n <= 4; n++) {
        size_t total = 1;
        for (size_t i = 0; i < n; i++)
            total *= N_EDGES;
        for (size_t x = 0; x < total; x++) {
            char s[4];
            size_t y = x;
            for (size_t i = 0; i < n; i++, y /= N_EDGES)
                s[i] = (char)edges[y % N_EDGES];
            const bool v = pn_utf8_valid(s, n);
            const size_t c = pn_utf8_complete(s, n);
            if (v != valid_by_table(s, n) || c != complete_by_table(s, n))
                fail_msg("bytes %08x of %zu", (unsigned)number(s, n), n);
            valid += v;
            cut += c < n;
        }
    }
    assert_true(valid > 1000 && cut > 1000);
}

/* Fed byte by byte, the complete part of a text always ends at a character's border. */
static void test_stream(void **state)
{
    (void)state;
    static const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\0z";
    static const size_t want[] = { 0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 12 };
    for (size_t n = 0; n < sizeof text; n++)
        assert_int_equal(pn_utf8_complete(text, n), want[n]);
    static const struct { const char *s; size_t n, complete; } bad[] = {
        { "ab\x80\x80\x80\x80", 6, 6 }, /* continuations of nothing */
        { "\xe0\x80", 2, 2 },           /* will be overlong */
        { "\xed\xa0", 2, 2 },           /* will be a surrogate */
        { "\xf4\x90", 2, 2 },           /* will be above U+10FFFF */
        { "\xc0", 1, 1 },
        { "\xe2\x82\xe2", 3, 2 },       /* one given up, one begun */
        { "\xf0\x9f\x98", 3, 0 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(pn_utf8_complete(bad[i].s, bad[i].n), bad[i].complete);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_character),
        cmocka_unit_test(test_all_edges),
        cmocka_unit_test(test_stream),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
