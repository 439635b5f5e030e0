/* SPDX-License-Identifier: Apache-2.0 */
#include "text/vocab_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "text/json_pull.h"
#include "text/vocab_build.h"

struct reader {
    struct pn_pull pull;
    const char *label;
    struct pn_vocab_list *l;
    size_t cap, merges_cap;
    struct puna_error *err;
};

static int malformed(const struct reader *r)
{
    return pn_fail(r->err, PUNA_E_FORMAT, "%s: not a tokenizer.json: malformed at byte %zu", r->label, r->pull.pos);
}

/* Room for one more than n in an array of element size `size`. */
static void *grown(struct reader *r, void *v, size_t n, size_t *cap, size_t size, int *rc)
{
    if (n < *cap)
        return v;
    const size_t more = n < 4096 ? 8192 : 2 * n;
    void *p = realloc(v, more * size);
    if (!p) {
        *rc = pn_fail_memory(r->err, more * size, "the vocabulary");
        return v;
    }
    *cap = more;
    return p;
}

static int put(struct reader *r, int64_t id, const char *s, size_t len, int32_t type)
{
    struct pn_vocab_list *l = r->l;
    int rc = 0;
    if (id < 0 || id >= PN_MAX_TOKENS)
        return malformed(r);
    size_t types_cap = r->cap;
    l->types = grown(r, l->types, (size_t)id, &types_cap, sizeof *l->types, &rc);
    l->pieces = grown(r, l->pieces, (size_t)id, &r->cap, sizeof *l->pieces, &rc);
    if (rc)
        return rc;
    for (; l->n <= (size_t)id; l->n++) {
        l->pieces[l->n] = (struct pn_str){NULL, 0};
        l->types[l->n] = 5;
    }
    const char *copy = pn_arena_strndup(l->arena, s, len);
    if (!copy)
        return pn_fail_memory(r->err, len, "a token");
    l->pieces[id] = (struct pn_str){copy, len};
    l->types[id] = type;
    return 0;
}

static int read_vocab(struct reader *r)
{
    struct pn_pull *p = &r->pull;
    int more, rc = 0;
    bool first = true;
    if (!pn_pull_open(p, '{'))
        return malformed(r);
    while (rc == 0 && (more = pn_pull_more(p, '{', &first)) != 0) {
        const char *s;
        size_t len;
        int64_t id;
        if (more < 0 || !pn_pull_key(p, &s, &len))
            return malformed(r);
        /* the string is good until the next one; a number is none */
        rc = pn_pull_int(p, &id) ? put(r, id, s, len, 1) : malformed(r);
    }
    return rc;
}

static int put_merge(struct reader *r, const char *a, size_t a_len, const char *b, size_t b_len)
{
    struct pn_vocab_list *l = r->l;
    int rc = 0;
    l->merges = grown(r, l->merges, l->n_merges, &r->merges_cap, sizeof *l->merges, &rc);
    char *m = rc ? NULL : pn_arena_alloc(l->arena, a_len + b_len + 2);
    if (!m)
        return rc ? rc : pn_fail_memory(r->err, a_len + b_len, "a merge");
    memcpy(m, a, a_len);
    if (b) {
        m[a_len] = ' ';
        memcpy(m + a_len + 1, b, b_len);
    }
    l->merges[l->n_merges++] = (struct pn_str){m, b ? a_len + 1 + b_len : a_len};
    return 0;
}

/* "a b", or ["a", "b"]. */
static int read_merge(struct reader *r)
{
    struct pn_pull *p = &r->pull;
    const char *a, *b;
    size_t a_len, b_len;
    bool first = true;
    if (pn_pull_peek(p) != '[')
        return pn_pull_string(p, &a, &a_len) ? put_merge(r, a, a_len, NULL, 0) : malformed(r);
    if (!pn_pull_open(p, '[') || pn_pull_more(p, '[', &first) != 1 || !pn_pull_string(p, &a, &a_len))
        return malformed(r);
    char *left = malloc(a_len + 1); /* the second string may use the same buffer */
    if (!left)
        return pn_fail_memory(r->err, a_len, "a merge");
    memcpy(left, a, a_len);
    const bool ok = pn_pull_more(p, '[', &first) == 1 && pn_pull_string(p, &b, &b_len) &&
                    pn_pull_more(p, '[', &first) == 0;
    const int rc = ok ? put_merge(r, left, a_len, b, b_len) : malformed(r);
    free(left);
    return rc;
}

static int read_merges(struct reader *r)
{
    int more, rc = 0;
    bool first = true;
    if (!pn_pull_open(&r->pull, '['))
        return malformed(r);
    while (rc == 0 && (more = pn_pull_more(&r->pull, '[', &first)) != 0)
        rc = more < 0 ? malformed(r) : read_merge(r);
    return rc;
}

struct added {
    int64_t id;
    char *text;
    size_t len;
    bool special;
};

/* One entry of added_tokens. */
static int read_added_token(struct reader *r, struct added *t)
{
    struct pn_pull *p = &r->pull;
    int more;
    bool first = true;
    if (!pn_pull_open(p, '{'))
        return malformed(r);
    while ((more = pn_pull_more(p, '{', &first)) == 1) {
        const char *key, *s;
        size_t len, off, n;
        if (!pn_pull_key(p, &key, &len))
            return malformed(r);
        if (len == 2 && memcmp(key, "id", 2) == 0) {
            if (!pn_pull_int(p, &t->id))
                return malformed(r);
        } else if (len == 7 && memcmp(key, "content", 7) == 0 && !t->text) {
            if (!pn_pull_string(p, &s, &t->len))
                return malformed(r);
            t->text = malloc(t->len + 1);
            if (!t->text)
                return pn_fail_memory(r->err, t->len, "a token");
            memcpy(t->text, s, t->len);
        } else {
            const bool special = len == 7 && memcmp(key, "special", 7) == 0;
            if (!pn_pull_skip(p, &off, &n))
                return malformed(r);
            if (special)
                t->special = n == 4 && memcmp(p->s + off, "true", 4) == 0;
        }
    }
    return more == 0 && t->text ? 0 : malformed(r);
}

static int read_added(struct reader *r)
{
    int more, rc = 0;
    bool first = true;
    if (pn_pull_peek(&r->pull) == 'n') { /* null */
        size_t off, n;
        return pn_pull_skip(&r->pull, &off, &n) ? 0 : malformed(r);
    }
    if (!pn_pull_open(&r->pull, '['))
        return malformed(r);
    while (rc == 0 && (more = pn_pull_more(&r->pull, '[', &first)) != 0) {
        struct added t = {.id = -1};
        rc = more < 0 ? malformed(r) : read_added_token(r, &t);
        if (rc == 0)
            rc = put(r, t.id, t.text, t.len, t.special ? 3 : 4);
        free(t.text);
    }
    return rc;
}

/* Where a member's value begins in the object at `at`; 0: absent. */
static int member(struct reader *r, size_t at, const char *name, size_t *value)
{
    struct pn_pull *p = &r->pull;
    int more;
    bool first = true;
    p->pos = at;
    *value = 0;
    if (!pn_pull_open(p, '{'))
        return malformed(r);
    while ((more = pn_pull_more(p, '{', &first)) == 1) {
        const char *key;
        size_t len, n, off;
        if (!pn_pull_key(p, &key, &len))
            return malformed(r);
        const bool wanted = len == strlen(name) && memcmp(key, name, len) == 0;
        if (!pn_pull_skip(p, &off, &n))
            return malformed(r);
        if (wanted)
            *value = off;
    }
    return more < 0 ? malformed(r) : 0;
}

static int read_all(struct reader *r)
{
    size_t model, vocab, merges, added;
    int rc = member(r, 0, "model", &model);
    if (rc == 0)
        rc = member(r, 0, "added_tokens", &added);
    if (rc == 0)
        rc = member(r, model, "vocab", &vocab);
    if (rc == 0)
        rc = member(r, model, "merges", &merges);
    if (rc)
        return rc;
    r->pull.pos = vocab;
    rc = read_vocab(r);
    if (rc == 0 && added) {
        r->pull.pos = added;
        rc = read_added(r);
    }
    if (rc == 0) {
        r->pull.pos = merges;
        rc = read_merges(r);
    }
    for (size_t i = 0; rc == 0 && i < r->l->n; i++)
        if (r->l->types[i] == 5) {
            char name[32];
            const int len = snprintf(name, sizeof name, "[PAD%zu]", i);
            rc = put(r, (int64_t)i, name, (size_t)len, 5);
        }
    return rc;
}

int pn_vocab_list_read(struct pn_vocab_list *out, const char *json, size_t len, const char *label,
                       struct puna_error *err)
{
    *out = (struct pn_vocab_list){.arena = pn_arena_new()};
    if (!out->arena)
        return pn_fail_memory(err, len, "the vocabulary");
    struct reader r = {.pull = {.s = json, .n = len}, .label = label, .l = out, .err = err};
    const int rc = read_all(&r);
    pn_pull_free(&r.pull);
    if (rc)
        pn_vocab_list_free(out);
    return rc;
}

void pn_vocab_list_free(struct pn_vocab_list *l)
{
    free(l->pieces);
    free(l->types);
    free(l->merges);
    pn_arena_free(l->arena);
    *l = (struct pn_vocab_list){0};
}
