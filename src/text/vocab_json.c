/* SPDX-License-Identifier: Apache-2.0 */
/* Reads Hugging Face's tokenizer.json. Whatever in it would change the ids and is not done here is
 * refused by name; what does not matter for encoding (truncation, padding, post_processor) is not
 * looked at. */
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/mem.h"
#include "text/json_pull.h"
#include "text/split.h"
#include "text/vocab_build.h"

struct part { /* a member's value, as text */
    size_t off, len; /* len 0: absent */
};

struct doc {
    const char *json, *label;
    struct pn_pull pull;
    struct part added, normalizer, pre, decoder, model;               /* top level */
    struct part type, vocab, merges, ignore, dropout, fallback, prefix, suffix; /* in the model */
};

static int malformed(const struct doc *d, struct puna_error *err)
{
    return pn_fail(err, PUNA_E_FORMAT, "%s: not a tokenizer.json: malformed at byte %zu", d->label,
                   d->pull.pos);
}

struct wanted {
    const char *name;
    struct part *part;
};

/* Note where the wanted members of the object at `at` are. */
static int find_parts(struct doc *d, size_t at, const struct wanted *w, size_t n_wanted,
                      struct puna_error *err)
{
    struct pn_pull *p = &d->pull;
    p->pos = at;
    if (!pn_pull_open(p, '{'))
        return malformed(d, err);
    int more;
    bool first = true;
    while ((more = pn_pull_more(p, '{', &first)) == 1) {
        const char *key;
        size_t len;
        struct part unused = { 0, 0 }, *to = &unused;
        if (!pn_pull_key(p, &key, &len))
            return malformed(d, err);
        for (size_t i = 0; i < n_wanted; i++) {
            if (strlen(w[i].name) == len && memcmp(w[i].name, key, len) == 0)
                to = w[i].part;
        }
        if (to->len)
            return pn_fail(err, PUNA_E_FORMAT, "%s: '%.*s' is given twice", d->label, (int)len,
                           key);
        if (!pn_pull_skip(p, &to->off, &to->len))
            return malformed(d, err);
    }
    return more < 0 ? malformed(d, err) : 0;
}

static bool absent(const struct doc *d, struct part p)
{
    return p.len == 0 || (p.len == 4 && memcmp(d->json + p.off, "null", 4) == 0);
}

/* The part's text is exactly one of the given literals. */
static bool is_text(const struct doc *d, struct part p, const char *text)
{
    return p.len == strlen(text) && memcmp(d->json + p.off, text, p.len) == 0;
}

/* A small part as a tree (absent: null); NULL and *rc set: malformed. */
static json_t *load(const struct doc *d, struct part p, const char *what, int *rc,
                    struct puna_error *err)
{
    if (p.len == 0)
        return json_null();
    json_error_t e;
    json_t *j = json_loadb(d->json + p.off, p.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (!j)
        *rc = pn_fail(err, PUNA_E_FORMAT, "%s: '%s' is malformed at byte %zu: %s", d->label, what,
                      p.off + (size_t)(e.position > 0 ? e.position : 0), e.text);
    return j;
}

static const char *member_string(const json_t *j, const char *name)
{
    const char *s = json_string_value(json_object_get(j, name));
    return s ? s : "";
}

/* A flag; HF's default is given. */
static bool member_flag(const json_t *j, const char *name, bool fallback)
{
    const json_t *f = json_object_get(j, name);
    return json_is_boolean(f) ? json_is_true(f) : fallback;
}

static bool is_byte_level(const json_t *j, bool use_regex)
{
    return strcmp(member_string(j, "type"), "ByteLevel") == 0 &&
           !member_flag(j, "add_prefix_space", true) &&
           member_flag(j, "use_regex", true) == use_regex;
}

/* The split expression: Sequence[Split(Regex, Isolated), ByteLevel without its own expression], or
 * ByteLevel with it. NULL: neither. The string belongs to j or is static. */
static const char *split_regex(const json_t *j, size_t *len)
{
    if (is_byte_level(j, true)) {
        *len = strlen(pn_split_gpt2);
        return pn_split_gpt2;
    }
    const json_t *list = json_object_get(j, "pretokenizers");
    const json_t *split = json_array_get(list, 0);
    const json_t *regex = json_object_get(json_object_get(split, "pattern"), "Regex");
    if (strcmp(member_string(j, "type"), "Sequence") != 0 || json_array_size(list) != 2 ||
        strcmp(member_string(split, "type"), "Split") != 0 ||
        strcmp(member_string(split, "behavior"), "Isolated") != 0 ||
        member_flag(split, "invert", false) || !json_is_string(regex) ||
        !is_byte_level(json_array_get(list, 1), false))
        return NULL;
    *len = json_string_length(regex);
    return json_string_value(regex);
}

static int read_vocab(struct doc *d, struct pn_vocab *v, struct puna_error *err)
{
    struct pn_pull *p = &d->pull;
    p->pos = d->vocab.off;
    if (!pn_pull_open(p, '{'))
        return malformed(d, err);
    int more;
    bool first = true;
    while ((more = pn_pull_more(p, '{', &first)) == 1) {
        const char *s;
        size_t len;
        int64_t id;
        if (!pn_pull_key(p, &s, &len) || !pn_pull_int(p, &id))
            return malformed(d, err);
        const int rc = pn_vocab_add(v, id, s, len, false, err);
        if (rc)
            return rc;
    }
    return more < 0 ? malformed(d, err) : 0;
}

static int read_added(const struct doc *d, struct pn_vocab *v, struct puna_error *err)
{
    if (absent(d, d->added))
        return 0;
    int rc = 0;
    json_t *list = load(d, d->added, "added_tokens", &rc, err);
    if (!list)
        return rc;
    if (!json_is_array(list))
        rc = pn_fail(err, PUNA_E_FORMAT, "%s: 'added_tokens' is not a list", d->label);
    for (size_t i = 0; rc == 0 && i < json_array_size(list); i++) {
        const json_t *t = json_array_get(list, i);
        const json_t *id = json_object_get(t, "id"), *content = json_object_get(t, "content");
        if (!json_is_integer(id) || !json_is_string(content))
            rc = pn_fail(err, PUNA_E_FORMAT, "%s: added token %zu has no id or no content",
                         d->label, i);
        else if (member_flag(t, "single_word", false) || member_flag(t, "lstrip", false) ||
                 member_flag(t, "rstrip", false))
            rc = pn_fail(
                err, PUNA_E_UNSUPPORTED,
                "%s: added token '%s' is matched by single_word, lstrip or rstrip, which puna "
                "does not do",
                d->label, json_string_value(content));
        else
            rc = pn_vocab_add_special(v, json_integer_value(id), json_string_value(content),
                                      json_string_length(content), err);
    }
    json_decref(list);
    return rc;
}

/* One merge: "a b", or ["a", "b"]. */
static int read_merge(struct doc *d, struct pn_vocab *v, struct pn_buf *left,
                      struct puna_error *err)
{
    struct pn_pull *p = &d->pull;
    const char *a, *b;
    size_t a_len, b_len;
    if (pn_pull_peek(p) == '[') {
        bool first = true;
        if (!pn_pull_open(p, '[') || pn_pull_more(p, '[', &first) != 1 ||
            !pn_pull_string(p, &a, &a_len))
            return malformed(d, err);
        left->len = 0; /* the second string may use the same buffer */
        if (!pn_buf_append(left, a, a_len))
            return pn_fail_memory(err, a_len, "the merges");
        if (pn_pull_more(p, '[', &first) != 1 || !pn_pull_string(p, &b, &b_len) ||
            pn_pull_more(p, '[', &first) != 0)
            return malformed(d, err);
        return pn_vocab_merge(v, left->data, left->len, b, b_len, err);
    }
    if (!pn_pull_string(p, &a, &a_len))
        return malformed(d, err);
    const char *space = a_len ? memchr(a, ' ', a_len) : NULL;
    if (!space)
        return pn_fail(err, PUNA_E_FORMAT,
                       "%s: merge '%.*s' is not two pieces with a space between "
                       "them",
                       d->label, a_len < 80 ? (int)a_len : 80, a);
    b = space + 1;
    b_len = a_len - (size_t)(b - a);
    return pn_vocab_merge(v, a, (size_t)(space - a), b, b_len, err);
}

static int read_merges(struct doc *d, struct pn_vocab *v, struct puna_error *err)
{
    struct pn_pull *p = &d->pull;
    p->pos = d->merges.off;
    if (!pn_pull_open(p, '['))
        return malformed(d, err);
    struct pn_buf left = { 0 };
    int more, rc = 0;
    bool first = true;
    while (rc == 0 && (more = pn_pull_more(p, '[', &first)) != 0)
        rc = more < 0 ? malformed(d, err) : read_merge(d, v, &left, err);
    pn_buf_free(&left);
    return rc;
}

/* Find every part, and refuse what puna does not do. */
static int survey(struct doc *d, struct puna_error *err)
{
    const struct wanted top[] = { { "added_tokens", &d->added },
                                  { "normalizer", &d->normalizer },
                                  { "pre_tokenizer", &d->pre },
                                  { "decoder", &d->decoder },
                                  { "model", &d->model } };
    int rc = find_parts(d, 0, top, sizeof top / sizeof *top, err);
    if (rc)
        return rc;
    if (d->pull.pos < d->pull.n && pn_pull_peek(&d->pull))
        return malformed(d, err);
    if (d->model.len == 0)
        return pn_fail(err, PUNA_E_FORMAT, "%s: not a tokenizer.json: it has no 'model'", d->label);
    const struct wanted model[] = { { "type", &d->type },
                                    { "vocab", &d->vocab },
                                    { "merges", &d->merges },
                                    { "ignore_merges", &d->ignore },
                                    { "dropout", &d->dropout },
                                    { "byte_fallback", &d->fallback },
                                    { "continuing_subword_prefix", &d->prefix },
                                    { "end_of_word_suffix", &d->suffix } };
    rc = find_parts(d, d->model.off, model, sizeof model / sizeof *model, err);
    if (rc)
        return rc;
    const char *name = NULL;
    if (!is_text(d, d->type, "\"BPE\""))
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s: the model is not of type BPE; puna reads "
                       "Llama 3's byte-level BPE", d->label);
    if (d->vocab.len == 0 || d->merges.len == 0)
        return pn_fail(err, PUNA_E_FORMAT, "%s: the model has no 'vocab' or no 'merges'", d->label);
    if (!absent(d, d->normalizer))
        name = "normalizer";
    else if (!absent(d, d->dropout))
        name = "dropout";
    else if (!absent(d, d->fallback) && !is_text(d, d->fallback, "false"))
        name = "byte_fallback";
    else if (!absent(d, d->prefix) && !is_text(d, d->prefix, "\"\""))
        name = "continuing_subword_prefix";
    else if (!absent(d, d->suffix) && !is_text(d, d->suffix, "\"\""))
        name = "end_of_word_suffix";
    if (name)
        return pn_fail(err, PUNA_E_UNSUPPORTED,
                       "%s: '%s' is set, which puna does not do; Llama 3's "
                       "tokenizers do without",
                       d->label, name);
    return 0;
}

static int read_all(struct doc *d, struct pn_vocab **out, struct puna_error *err)
{
    int rc = survey(d, err);
    if (rc)
        return rc;
    json_t *decoder = load(d, d->decoder, "decoder", &rc, err);
    if (!decoder)
        return rc;
    const bool byte_level = strcmp(member_string(decoder, "type"), "ByteLevel") == 0;
    json_decref(decoder);
    if (!byte_level)
        return pn_fail(err, PUNA_E_UNSUPPORTED,
                       "%s: the decoder is not ByteLevel; puna reads Llama "
                       "3's byte-level BPE",
                       d->label);
    json_t *pre = load(d, d->pre, "pre_tokenizer", &rc, err);
    if (!pre)
        return rc;
    size_t regex_len = 0;
    const char *regex = split_regex(pre, &regex_len);
    if (!regex)
        rc = pn_fail(
            err, PUNA_E_UNSUPPORTED,
            "%s: the pre_tokenizer is neither a Split (Regex, Isolated) followed by ByteLevel "
            "nor ByteLevel alone, without a prefix space",
            d->label);
    if (rc == 0)
        rc = pn_vocab_begin(out, d->vocab.len + d->added.len, d->label, err);
    if (rc == 0)
        rc = read_vocab(d, *out, err);
    if (rc == 0)
        rc = read_added(d, *out, err);
    if (rc == 0)
        rc = read_merges(d, *out, err);
    if (rc == 0)
        rc = pn_vocab_finish(*out, regex, regex_len, is_text(d, d->ignore, "true"), err);
    json_decref(pre);
    return rc;
}

int pn_vocab_from_json(struct pn_vocab **out, const char *json, size_t len, const char *label,
                       struct puna_error *err)
{
    *out = NULL;
    struct doc d = { .json = json, .label = label, .pull = { .s = json, .n = len } };
    const int rc = read_all(&d, out, err);
    pn_pull_free(&d.pull);
    if (rc)
        pn_vocab_free(out);
    return rc;
}
