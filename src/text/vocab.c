/* SPDX-License-Identifier: Apache-2.0 */
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "text/bpe.h"
#include "text/split.h"
#include "text/utf8.h"
#include "text/vocab_build.h"

enum kind { HOLE, NORMAL, SPECIAL };

struct token {
    uint32_t off; /* into bytes */
    uint16_t len;
    uint8_t kind;
};

struct special {
    const char *s;
    size_t len;
    int32_t id;
};

struct pn_vocab {
    struct token *tokens; /* [n_ids] */
    int32_t n_ids;
    size_t cap_ids;
    char *bytes; /* all token texts; never moves, the maps point into it */
    size_t n_bytes;
    struct pn_map_str *pieces;       /* text of normal tokens -> id */
    struct pn_map_str *special_ids;  /* names of specials -> id */
    struct special *specials;        /* sorted by bytes */
    size_t n_specials;
    bool special_start[256];         /* first bytes of specials */
    int32_t byte_id[256];
    struct pn_bpe bpe;
    struct pn_split *split;
    bool ignore_merges;
    /* while building */
    const char *label;
    struct pn_merge *merges;
    size_t n_merges, cap_merges;
};

/* ---------------------------------------------------------------------------- id lists */

static bool ids_reserve(struct pn_ids *l, size_t n)
{
    size_t need;
    if (!pn_add_size(l->len, n, &need))
        return false;
    if (need <= l->cap)
        return true;
    size_t cap = l->cap ? l->cap : 64, bytes;
    while (cap < need) {
        if (!pn_mul_size(cap, 2, &cap))
            cap = need;
    }
    if (!pn_mul_size(cap, sizeof *l->v, &bytes))
        return false;
    int32_t *v = realloc(l->v, bytes);
    if (!v)
        return false;
    l->v = v;
    l->cap = cap;
    return true;
}

bool pn_ids_push(struct pn_ids *l, int32_t id)
{
    if (!ids_reserve(l, 1))
        return false;
    l->v[l->len++] = id;
    return true;
}

void pn_ids_free(struct pn_ids *l)
{
    free(l->v);
    *l = (struct pn_ids){ 0 };
}

/* ---------------------------------------------------------------------------- building */

/* GPT-2's byte-to-unicode: bytes that are printable in Latin-1 stand for themselves, the other 68,
 * in order, are U+0100 and up. Returns the byte of a code point, or -1. */
static int byte_of(uint32_t cp)
{
    if ((cp >= 0x21 && cp <= 0x7e) || (cp >= 0xa1 && cp <= 0xac) || (cp >= 0xae && cp <= 0xff))
        return (int)cp;
    if (cp < 0x100 || cp > 0x143)
        return -1;
    const uint32_t k = cp - 0x100;
    if (k <= 0x20)
        return (int)k; /* 00 - 20 */
    if (k <= 0x42)
        return (int)(k - 0x21 + 0x7f); /* 7f - a0 */
    return 0xad;
}

/* Undo the spelling; to has room for len bytes. SIZE_MAX: a character is not of the alphabet. */
static size_t unspell(char *to, const char *s, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        uint32_t cp;
        const size_t k = pn_utf8_decode(s + i, len - i, &cp);
        const int b = k ? byte_of(cp) : -1;
        if (b < 0)
            return SIZE_MAX;
        to[n++] = (char)b;
        i += k;
    }
    return n;
}

int pn_vocab_begin(struct pn_vocab **out, size_t text_bytes, const char *label,
                   struct puna_error *err)
{
    *out = NULL;
    struct pn_vocab *v = calloc(1, sizeof *v);
    if (!v)
        return pn_fail_memory(err, sizeof *v, "the vocabulary");
    v->label = label;
    v->bytes = text_bytes < UINT32_MAX ? malloc(text_bytes ? text_bytes : 1) : NULL;
    v->pieces = pn_map_str_new(0);
    v->special_ids = pn_map_str_new(0);
    if (!v->bytes || !v->pieces || !v->special_ids) {
        pn_vocab_free(&v);
        return pn_fail_memory(err, text_bytes, "the vocabulary");
    }
    *out = v;
    return 0;
}

/* Make tokens[id] exist. */
static int reach_id(struct pn_vocab *v, int64_t id, struct puna_error *err)
{
    if (id < 0 || id >= PN_MAX_TOKENS)
        return pn_fail(err, PUNA_E_FORMAT,
                       "%s: token id %lld is out of range; puna takes ids from 0 to %lld", v->label,
                       (long long)id, (long long)PN_MAX_TOKENS - 1);
    if (id < v->n_ids)
        return 0;
    if ((size_t)id >= v->cap_ids) {
        size_t cap = v->cap_ids ? v->cap_ids : 1024;
        while (cap <= (size_t)id)
            cap *= 2;
        struct token *t = realloc(v->tokens, cap * sizeof *t);
        if (!t)
            return pn_fail_memory(err, cap * sizeof *t, "the vocabulary");
        memset(t + v->cap_ids, 0, (cap - v->cap_ids) * sizeof *t);
        v->tokens = t;
        v->cap_ids = cap;
    }
    v->n_ids = (int32_t)id + 1;
    return 0;
}

int pn_vocab_add(struct pn_vocab *v, int64_t id, const char *s, size_t len, bool special,
                 struct puna_error *err)
{
    const char *what = special ? "special token" : "token";
    const int shown = len < 80 ? (int)len : 80;
    if (len > 2 * PN_MAX_PIECE) /* spelled, a byte takes at most two */
        return pn_fail(err, PUNA_E_FORMAT, "%s: %s %lld is %zu bytes long; puna takes at most %d",
                       v->label, what, (long long)id, len, PN_MAX_PIECE);
    const int rc = reach_id(v, id, err);
    if (rc)
        return rc;
    struct token *t = &v->tokens[id];
    if (t->kind != HOLE)
        return pn_fail(err, PUNA_E_FORMAT,
                       "%s: token id %lld is given to two tokens, '%.*s' and '%.*s'", v->label,
                       (long long)id, t->len < 80 ? t->len : 80, v->bytes + t->off, shown, s);
    char *to = v->bytes + v->n_bytes;
    size_t n = special ? SIZE_MAX : unspell(to, s, len);
    const bool literal = n == SIZE_MAX; /* a special, or a token that no text can produce */
    if (literal) {
        memcpy(to, s, len);
        n = len;
    }
    if (n > PN_MAX_PIECE)
        return pn_fail(err, PUNA_E_FORMAT, "%s: %s %lld is %zu bytes long; puna takes at most %d",
                       v->label, what, (long long)id, n, PN_MAX_PIECE);
    *t = (struct token){ (uint32_t)v->n_bytes, (uint16_t)n, special ? SPECIAL : NORMAL };
    v->n_bytes += n;
    if (special)
        v->n_specials++;
    if (n == 0 || (literal && !special))
        return 0; /* nothing to look it up by: HF tokenizers keep such tokens too */
    struct pn_map_str *map = special ? v->special_ids : v->pieces;
    switch (pn_map_str_put(map, to, n, (uint32_t)id)) {
    case 1:
        return 0;
    case 0:
        return pn_fail(err, PUNA_E_FORMAT, "%s: %s '%.*s' is listed twice, as id %lld and id %lld",
                       v->label, what, shown, s, (long long)pn_map_str_get(map, to, n),
                       (long long)id);
    default:
        return pn_fail_memory(err, n, "the vocabulary");
    }
}

int pn_vocab_add_special(struct pn_vocab *v, int64_t id, const char *s, size_t len,
                         struct puna_error *err)
{
    if (id >= 0 && id < v->n_ids && v->tokens[id].kind == NORMAL) {
        /* Some vocabularies list their specials among the pieces too; then both must agree. */
        char raw[2 * PN_MAX_PIECE];
        struct token *t = &v->tokens[id];
        size_t n = len <= sizeof raw ? unspell(raw, s, len) : SIZE_MAX;
        const char *text = n == SIZE_MAX ? s : raw;
        if (n == SIZE_MAX)
            n = len;
        if (n != t->len || memcmp(text, v->bytes + t->off, n) != 0)
            return pn_fail(
                err, PUNA_E_FORMAT,
                "%s: added token '%.*s' has id %lld, which the vocabulary gives to '%.*s'",
                v->label, len < 80 ? (int)len : 80, s, (long long)id, t->len < 80 ? t->len : 80,
                v->bytes + t->off);
        t->kind = HOLE;
    }
    return pn_vocab_add(v, id, s, len, true, err);
}

/* Id of a spelled piece, or -1. */
static int32_t spelled_id(const struct pn_vocab *v, char *raw, size_t *n, const char *s, size_t len)
{
    *n = len <= 2 * PN_MAX_PIECE ? unspell(raw, s, len) : SIZE_MAX;
    return *n == SIZE_MAX ? -1 : (int32_t)pn_map_str_get(v->pieces, raw, *n);
}

int pn_vocab_merge(struct pn_vocab *v, const char *a, size_t a_len, const char *b, size_t b_len,
                   struct puna_error *err)
{
    char raw[4 * PN_MAX_PIECE];
    size_t na, nb;
    struct pn_merge m = { .rank = (uint32_t)v->n_merges };
    m.left = spelled_id(v, raw, &na, a, a_len);
    m.right = m.left < 0 ? -1 : spelled_id(v, raw + na, &nb, b, b_len);
    m.id = m.right < 0 ? -1 : (int32_t)pn_map_str_get(v->pieces, raw, na + nb);
    if (m.id < 0)
        return pn_fail(err, PUNA_E_FORMAT, "%s: merge %zu ('%.*s' + '%.*s'): %s is not a token",
                       v->label, v->n_merges, a_len < 80 ? (int)a_len : 80, a,
                       b_len < 80 ? (int)b_len : 80, b,
                       m.left < 0    ? "the left part"
                       : m.right < 0 ? "the right part"
                                     : "the result");
    if (v->tokens[m.id].kind == SPECIAL)
        return 0; /* plain text never becomes a special, whatever the file lists */
    if (v->n_merges == v->cap_merges) {
        size_t cap = v->cap_merges ? v->cap_merges : 1024, bytes;
        if (!pn_mul_size(cap, 2, &cap) || !pn_mul_size(cap, sizeof m, &bytes) || cap > UINT32_MAX)
            return pn_fail_memory(err, SIZE_MAX, "the merges");
        struct pn_merge *p = realloc(v->merges, bytes);
        if (!p)
            return pn_fail_memory(err, bytes, "the merges");
        v->merges = p;
        v->cap_merges = cap;
    }
    v->merges[v->n_merges++] = m;
    return 0;
}

static int by_bytes(const void *pa, const void *pb)
{
    const struct special *a = pa, *b = pb;
    const int c = memcmp(a->s, b->s, a->len < b->len ? a->len : b->len);
    return c ? c : (a->len > b->len) - (a->len < b->len);
}

int pn_vocab_finish(struct pn_vocab *v, const char *regex, size_t regex_len, bool ignore_merges,
                    struct puna_error *err)
{
    for (int b = 0; b < 256; b++) {
        const char c = (char)b;
        v->byte_id[b] = (int32_t)pn_map_str_get(v->pieces, &c, 1);
        if (v->byte_id[b] < 0)
            return pn_fail(
                err, PUNA_E_FORMAT,
                "%s: the vocabulary has no token for the byte 0x%02x, so it cannot spell "
                "every text; it is not a byte-level BPE vocabulary",
                v->label, b);
    }
    v->specials = calloc(v->n_specials ? v->n_specials : 1, sizeof *v->specials);
    if (!v->specials)
        return pn_fail_memory(err, v->n_specials * sizeof *v->specials, "the special tokens");
    size_t k = 0;
    for (int32_t id = 0; id < v->n_ids; id++) {
        const struct token *t = &v->tokens[id];
        if (t->kind == SPECIAL && t->len > 0) {
            v->specials[k++] = (struct special){ v->bytes + t->off, t->len, id };
            v->special_start[(uint8_t)v->bytes[t->off]] = true;
        }
    }
    v->n_specials = k;
    qsort(v->specials, k, sizeof *v->specials, by_bytes);

    struct pn_merge *merges = v->merges;
    v->merges = NULL;
    if (!pn_bpe_build(&v->bpe, merges, v->n_merges, v->n_ids))
        return pn_fail_memory(err, v->n_merges * sizeof *merges, "the merges");
    v->ignore_merges = ignore_merges;
    const int rc = pn_split_new(&v->split, regex, regex_len, v->label, err);
    v->label = NULL;
    return rc;
}

int pn_vocab_from_arrays(struct pn_vocab **out, const struct pn_vocab_src *src,
                         struct puna_error *err)
{
    *out = NULL;
    const char *label = "the file's vocabulary";
    size_t bytes = 0;
    for (size_t i = 0; i < src->n_pieces; i++) {
        if (!pn_add_size(bytes, src->pieces[i].len, &bytes))
            return pn_fail_memory(err, SIZE_MAX, "the vocabulary");
    }
    struct pn_vocab *v;
    int rc = pn_vocab_begin(&v, bytes, label, err);
    if (rc)
        return rc;
    for (size_t i = 0; rc == 0 && i < src->n_pieces; i++) {
        const int32_t type = src->types ? src->types[i] : 1;
        rc = pn_vocab_add(v, (int64_t)i, src->pieces[i].s, src->pieces[i].len,
                          type == 3 || type == 4, err);
    }
    for (size_t i = 0; rc == 0 && i < src->n_merges; i++) {
        const struct pn_str m = src->merges[i];
        const char *space = m.len ? memchr(m.s, ' ', m.len) : NULL;
        if (!space) {
            rc = pn_fail(err, PUNA_E_FORMAT,
                         "%s: merge %zu ('%.*s') is not two pieces with a space "
                         "between them",
                         label, i, m.len < 80 ? (int)m.len : 80, m.s);
            break;
        }
        const size_t a = (size_t)(space - m.s);
        rc = pn_vocab_merge(v, m.s, a, space + 1, m.len - a - 1, err);
    }
    if (rc == 0)
        rc = pn_vocab_finish(v, pn_split_llama3, strlen(pn_split_llama3), true, err);
    if (rc) {
        pn_vocab_free(&v);
        return rc;
    }
    *out = v;
    return 0;
}

void pn_vocab_free(struct pn_vocab **pv)
{
    if (!pv || !*pv)
        return;
    struct pn_vocab *v = *pv;
    free(v->tokens);
    free(v->bytes);
    pn_map_str_free(v->pieces);
    pn_map_str_free(v->special_ids);
    free(v->specials);
    pn_bpe_free(&v->bpe);
    pn_split_free(v->split);
    free(v->merges);
    free(v);
    *pv = NULL;
}

/* ---------------------------------------------------------------------------- questions */

size_t pn_vocab_size(const struct pn_vocab *v)
{
    return (size_t)v->n_ids;
}

const char *pn_vocab_piece(const struct pn_vocab *v, int32_t id, size_t *len)
{
    if (id < 0 || id >= v->n_ids || v->tokens[id].kind == HOLE) {
        *len = 0;
        return NULL;
    }
    *len = v->tokens[id].len;
    return v->bytes + v->tokens[id].off;
}

bool pn_vocab_is_special(const struct pn_vocab *v, int32_t id)
{
    return id >= 0 && id < v->n_ids && v->tokens[id].kind == SPECIAL;
}

int32_t pn_vocab_special(const struct pn_vocab *v, const char *name)
{
    return (int32_t)pn_map_str_get(v->special_ids, name, strlen(name));
}

/* ---------------------------------------------------------------------------- encoding */

/* The longest special that s[0..n) begins with; NULL: none. Narrows the sorted list bytewise. */
static const struct special *special_at(const struct pn_vocab *v, const char *s, size_t n)
{
    const struct special *best = NULL;
    size_t lo = 0, hi = v->n_specials;
    for (size_t i = 0; i < n && lo < hi; i++) {
        const uint8_t c = (uint8_t)s[i];
        /* All of [lo, hi) share s[0..i); one that ends here was taken and comes first: drop it. */
        if (v->specials[lo].len == i)
            lo++;
        size_t a = lo, b = hi;
        while (a < b) {
            const size_t mid = a + (b - a) / 2;
            if ((uint8_t)v->specials[mid].s[i] < c)
                a = mid + 1;
            else
                b = mid;
        }
        lo = a;
        b = hi;
        while (a < b) {
            const size_t mid = a + (b - a) / 2;
            if ((uint8_t)v->specials[mid].s[i] <= c)
                a = mid + 1;
            else
                b = mid;
        }
        hi = a;
        if (lo < hi && v->specials[lo].len == i + 1)
            best = &v->specials[lo];
    }
    return best;
}

struct encoder {
    const struct pn_vocab *v;
    struct pn_split_run *split;
    struct pn_bpe_work work;
    struct pn_ids *out;
};

static bool encode_piece(struct encoder *e, const char *s, size_t n)
{
    const struct pn_vocab *v = e->v;
    if (n == 1)
        return pn_ids_push(e->out, v->byte_id[(uint8_t)*s]);
    if (v->ignore_merges && n <= PN_MAX_PIECE) {
        const int64_t id = pn_map_str_get(v->pieces, s, n);
        if (id >= 0 && v->tokens[id].kind == NORMAL)
            return pn_ids_push(e->out, (int32_t)id);
    }
    if (!ids_reserve(e->out, n))
        return false;
    int32_t *ids = e->out->v + e->out->len;
    for (size_t i = 0; i < n; i++)
        ids[i] = v->byte_id[(uint8_t)s[i]];
    size_t left;
    if (!pn_bpe_apply(&v->bpe, ids, n, &e->work, &left))
        return false;
    e->out->len += left;
    return true;
}

static int encode_plain(struct encoder *e, const char *s, size_t n, struct puna_error *err)
{
    pn_split_text(e->split, s, n);
    size_t len;
    int rc;
    while ((rc = pn_split_next(e->split, &len, err)) == 1) {
        if (!encode_piece(e, s, len))
            return pn_fail_memory(err, len * 16, "tokenizing a text");
        s += len;
    }
    return rc;
}

/* Start of the next special in s[i..n), or n. */
static size_t find_special(const struct pn_vocab *v, const char *s, size_t n, size_t i,
                           const struct special **found)
{
    for (; i < n; i++) {
        if (v->special_start[(uint8_t)s[i]]) {
            *found = special_at(v, s + i, n - i);
            if (*found)
                return i;
        }
    }
    *found = NULL;
    return n;
}

int pn_vocab_encode(const struct pn_vocab *v, const char *text, size_t n, bool parse_special,
                    struct pn_ids *out, struct puna_error *err)
{
    if (n > INT32_MAX)
        return pn_fail(err, PUNA_E_LIMIT, "a text of %zu bytes is too long; at most %d can be "
                       "tokenized at once", n, INT32_MAX);
    struct encoder e = { .v = v, .out = out };
    const size_t before = out->len;
    int rc = pn_split_begin(&e.split, v->split, err);
    for (size_t i = 0; rc == 0 && i < n;) {
        const struct special *sp = NULL;
        const size_t end = parse_special ? find_special(v, text, n, i, &sp) : n;
        rc = encode_plain(&e, text + i, end - i, err);
        i = end;
        if (rc == 0 && sp) {
            if (!pn_ids_push(out, sp->id))
                rc = pn_fail_memory(err, sizeof sp->id, "tokenizing a text");
            i += sp->len;
        }
    }
    pn_split_end(e.split);
    pn_bpe_work_free(&e.work);
    if (rc)
        out->len = before;
    return rc;
}
