/* SPDX-License-Identifier: Apache-2.0 */
/* What the picture tests share: files under $PUNA_SRCDIR/tests/data, and their JSON. */
#ifndef TESTS_IMAGE_UTIL_H
#define TESTS_IMAGE_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <puna.h>

#include "base/mem.h"
#include "base/sha256.h"
#include "image/image.h"

/* Whole file, free with free(); fails the test when it cannot be read. */
static inline uint8_t *read_data(const char *name, size_t *len)
{
    const char *root = getenv("PUNA_SRCDIR");
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/data/%s", root ? root : ".", name);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("cannot open %s", path);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    const long n = ftell(f);
    assert_true(n >= 0);
    rewind(f);
    uint8_t *b = malloc((size_t)n + 1);
    assert_non_null(b);
    assert_int_equal(fread(b, 1, (size_t)n, f), n);
    fclose(f);
    *len = (size_t)n;
    return b;
}

static inline json_t *read_json(const char *name)
{
    size_t n;
    uint8_t *b = read_data(name, &n);
    json_error_t e;
    json_t *j = json_loadb((const char *)b, n, 0, &e);
    if (!j)
        fail_msg("%s: %s", name, e.text);
    free(b);
    return j;
}

static inline int64_t get_int(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    assert_true(json_is_integer(v));
    return json_integer_value(v);
}

static inline const char *get_str(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    assert_true(json_is_string(v));
    return json_string_value(v);
}

#endif
