/* SPDX-License-Identifier: Apache-2.0 */
/* The base file of puna perplexity: what is written is read, and nothing else is. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <puna.h>

#include "base/map.h"
#include "cli/klbase.h"

enum { VOCAB = 100, MOST = 4 };

static char path[] = "/tmp/puna-klbase-XXXXXX";
static char *bytes;
static size_t len;

/* Two pieces with two and one positions. */
static int setup(void **state)
{
    (void)state;
    const int fd = mkstemp(path);
    if (fd < 0 || close(fd) != 0)
        return -1;
    struct puna_error err;
    struct kl_writer *w;
    const uint8_t hash[2][32] = { { 1 }, { 2 } };
    const struct kl_top top[] = { { 7, logf(0.5f) }, { 99, logf(0.25f) }, { 0, logf(0.25f) } };
    int rc = kl_create(&w, path, VOCAB, MOST, &err);
    for (size_t i = 0; i < 2 && rc == 0; i++) {
        rc = kl_put_piece(w, hash[i], 2 - i, &err);
        for (size_t j = 0; j < 2 - i && rc == 0; j++) {
            const struct kl_position p = { 99, logf(0.25f), j ? 0.25f : 0, j ? 2 : 3, top };
            rc = kl_put(w, &p, &err);
        }
    }
    if (rc == 0)
        rc = kl_commit(&w, &err);
    return rc != 0 ? rc : pn_read_file(&bytes, &len, path, 1 << 20, &err);
}

static int teardown(void **state)
{
    (void)state;
    free(bytes);
    return unlink(path);
}

/* All of it, as puna perplexity does; 0 or the first error. */
static int read_all(const char *data, size_t n)
{
    struct puna_error err = { 0 };
    struct kl_reader *r;
    int rc = kl_open(&r, (const uint8_t *)data, n, "file", VOCAB, &err);
    for (uint64_t i = 0; rc == 0 && i < kl_pieces(r); i++) {
        size_t positions;
        rc = kl_next_piece(r, NULL, &positions, &err);
        struct kl_position p;
        while (rc == 0 && positions-- > 0)
            rc = kl_next(r, &p, &err);
    }
    kl_close(&r);
    if ((rc != 0) != (err.message[0] != '\0'))
        fail_msg("%d, but '%s'", rc, err.message);
    return rc;
}

static void round_trip(void **state)
{
    (void)state;
    struct puna_error err;
    struct kl_reader *r;
    assert_int_equal(kl_open(&r, (const uint8_t *)bytes, len, path, VOCAB, &err), 0);
    assert_int_equal(kl_pieces(r), 2);
    const uint8_t first[32] = { 1 }, other[32] = { 3 };
    size_t n;
    assert_int_equal(kl_next_piece(r, first, &n, &err), 0);
    assert_int_equal(n, 2);
    struct kl_position p;
    assert_int_equal(kl_next(r, &p, &err), 0);
    assert_int_equal(p.token, 99);
    assert_int_equal(p.n, 3);
    assert_int_equal(p.top[2].id, 0);
    assert_true(p.top[0].logprob == logf(0.5f) && p.tail == 0);
    assert_int_equal(kl_next_piece(r, NULL, &n, &err), PUNA_E_FORMAT); /* a position is left */
    assert_int_equal(kl_next(r, &p, &err), 0);
    assert_true(p.tail == 0.25f && p.n == 2);
    assert_int_equal(kl_next(r, &p, &err), PUNA_E_FORMAT);
    assert_int_equal(kl_next_piece(r, other, &n, &err), PUNA_E_FORMAT);
    assert_non_null(strstr(err.message, "other tokens or pictures"));
    kl_close(&r);
    assert_int_equal(kl_open(&r, (const uint8_t *)bytes, len, path, VOCAB + 1, &err), PUNA_E_FORMAT);
    assert_non_null(strstr(err.message, "100 tokens, this one has 101"));
    assert_null(r);
    assert_int_equal(read_all(bytes, len), 0);
}

static void truncated(void **state)
{
    (void)state;
    for (size_t n = 0; n < len; n++) {
        char *part = malloc(n + 1); /* so that a sanitizer sees a byte too far */
        assert_non_null(part);
        memcpy(part, bytes, n);
        char *exact = realloc(part, n ? n : 1);
        if (read_all(exact, n) != PUNA_E_FORMAT)
            fail_msg("%zu bytes of %zu are taken", n, len);
        free(exact);
    }
}

/* Offsets: head 32, piece 36, position 16, entries of 8. */
static void hostile(void **state)
{
    (void)state;
    enum { POSITION = 32 + 36, TOP = POSITION + 16 };
    static const struct {
        size_t at;
        uint32_t value;
        const char *what;
    } cases[] = {
        { 0, 0, "magic" },
        { 12, 0, "nothing kept" },
        { 12, VOCAB + 1, "more kept than there are" },
        { 16, 0xffffffff, "pieces" },
        { 20, 1, "pieces, high half" },
        { 24, 0xffffffff, "positions" },
        { 24, 1, "fewer positions than pieces have" },
        { 64, 0xffffffff, "positions of a piece" },
        { POSITION, VOCAB, "token" },
        { POSITION, 0xffffffff, "token" },
        { POSITION + 4, 0x3f800000, "a logarithm of 1" },
        { POSITION + 4, 0x7fc00000, "a NaN" },
        { POSITION + 8, 0x40000000, "a tail of 2" },
        { POSITION + 8, 0x7fc00000, "a tail that is NaN" },
        { POSITION + 8, 0x3f000000, "probabilities of 1.5" },
        { POSITION + 12, 0, "no tokens" },
        { POSITION + 12, MOST + 1, "more tokens than kept" },
        { POSITION + 12, 0xffffffff, "very many tokens" },
        { TOP, VOCAB, "a listed token" },
        { TOP, 99, "a token twice" },
        { TOP + 4, 0xff800000, "minus infinity" },
        { TOP + 12, 0, "likelier than the one before" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *bad = malloc(len);
        assert_non_null(bad);
        memcpy(bad, bytes, len);
        for (size_t j = 0; j < 4; j++)
            bad[cases[i].at + j] = (char)(cases[i].value >> (8 * j));
        if (read_all(bad, len) != PUNA_E_FORMAT)
            fail_msg("%s is taken", cases[i].what);
        free(bad);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(truncated),
        cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
