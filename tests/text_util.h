/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the text room share: reading files below the source directory. */
#ifndef TEXT_UTIL_H
#define TEXT_UTIL_H

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/map.h"
#include "text/vocab.h"

/* Whole file PUNA_SRCDIR/name (free it), or the test program ends with a sentence. */
static inline char *read_data(const char *name, size_t *len)
{
    const char *top = getenv("PUNA_SRCDIR");
    char path[PATH_MAX];
    struct puna_error err = { 0 };
    char *s = NULL;
    const int n = snprintf(path, sizeof path, "%s/%s", name[0] == '/' ? "" : top ? top : ".", name);
    if (n < 0 || (size_t)n >= sizeof path || pn_read_file(&s, len, path, (size_t)64 << 20, &err)) {
        fprintf(stderr, "cannot read the test's data: %s\n", err.message);
        exit(99);
    }
    return s;
}

static inline json_t *read_json(const char *name)
{
    size_t len;
    char *s = read_data(name, &len);
    json_error_t e;
    json_t *j = json_loadb(s, len, JSON_ALLOW_NUL, &e);
    if (!j) {
        fprintf(stderr, "%s: %s, line %d\n", name, e.text, e.line);
        exit(99);
    }
    free(s);
    return j;
}

static inline struct pn_vocab *read_vocab(const char *name)
{
    size_t len;
    char *s = read_data(name, &len);
    struct puna_error err = { 0 };
    struct pn_vocab *v = NULL;
    if (pn_vocab_from_json(&v, s, len, name, &err)) {
        fprintf(stderr, "%s\n", err.message);
        exit(99);
    }
    free(s);
    return v;
}

#endif
