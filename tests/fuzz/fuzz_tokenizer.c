/* SPDX-License-Identifier: Apache-2.0 */
/* The text room on any bytes. What the input is, its first byte says:
 *   '{'  a tokenizer.json; when it loads, texts are encoded with it
 *   'T'  a text for a small vocabulary, and for the scanner beside PCRE2
 *   'R'  a split expression (to the first newline) and a text
 *   'C'  a chat: tools, arguments, content (separated by newlines)
 * What comes out must spell what went in. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <puna.h>

#include "text/chat.h"
#include "text/split.h"
#include "text/utf8.h"
#include "text/vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void encode(const struct pn_vocab *v, const char *s, size_t n, bool special)
{
    struct pn_ids ids = { 0 };
    struct puna_error err = { 0 };
    const int rc = pn_vocab_encode(v, s, n, special, &ids, &err);
    if (rc) {
        require(rc == PUNA_E_LIMIT && err.message[0] && ids.len == 0);
    } else {
        size_t at = 0;
        for (size_t i = 0; i < ids.len; i++) {
            size_t len;
            const char *piece = pn_vocab_piece(v, ids.v[i], &len);
            require(piece && len <= n - at && memcmp(piece, s + at, len) == 0);
            /* A vocabulary may list a single byte as a special; otherwise specials need leave. */
            require(special || len == 1 || !pn_vocab_is_special(v, ids.v[i]));
            at += len;
        }
        require(at == n);
    }
    pn_ids_free(&ids);
}

static void fuzz_json(const char *s, size_t n)
{
    struct pn_vocab *v;
    struct puna_error err = { 0 };
    const int rc = pn_vocab_from_json(&v, s, n, "input", &err);
    require((rc == 0) == (v != NULL) && (rc == 0 || (err.code == rc && err.message[0])));
    if (rc)
        return;
    static const char text[] = "The 'licence' of  12345 <|eot_id|>\n\n \xe6\x97\xa5\xff\xc2\xa0.";
    encode(v, text, sizeof text - 1, true);
    encode(v, text, sizeof text - 1, false);
    encode(v, s, n < 2000 ? n : 2000, true);
    pn_vocab_free(&v);
}

/* 256 bytes, "th" "the" " the" " a" "\n\n" "aa", and two specials. */
static struct pn_vocab *small_vocab(void)
{
    static char spelled[256][3];
    struct pn_str pieces[264], merges[8];
    int32_t types[264];
    for (unsigned b = 0, extra = 0x100; b < 256; b++) {
        const bool self = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b != 0xad);
        const unsigned cp = self ? b : extra++;
        size_t n = 0;
        if (cp >= 0x80)
            spelled[b][n++] = (char)(0xc0 | cp >> 6);
        spelled[b][n++] = (char)(cp >= 0x80 ? 0x80 | (cp & 0x3f) : cp);
        pieces[b] = (struct pn_str){ spelled[b], n };
    }
    static const char *const more[] = { "th", "the", "\xc4\xa0the", "\304\240a", "\xc4\x8a\xc4\x8a",
                                        "aa", "<|eot_id|>", "<|e" };
    static const char *const pairs[] = {
        "t h", "th e", "\xc4\xa0 the", "\xc4\xa0 a", "\xc4\x8a \xc4\x8a", "a a"
    };
    for (size_t i = 0; i < 8; i++)
        pieces[256 + i] = (struct pn_str){ more[i], strlen(more[i]) };
    for (size_t i = 0; i < 6; i++)
        merges[i] = (struct pn_str){ pairs[i], strlen(pairs[i]) };
    for (size_t i = 0; i < 264; i++)
        types[i] = i < 262 ? 1 : 3;
    const struct pn_vocab_src src = { pieces, types, 264, merges, 6 };
    struct pn_vocab *v;
    require(pn_vocab_from_arrays(&v, &src, NULL) == 0);
    return v;
}

/* Runs the expression; with `ends` (n entries), notes the pieces. Returns their number, or -1. */
static int64_t run_split(const char *regex, size_t regex_len, const char *s, size_t n, size_t *ends)
{
    struct pn_split *sp;
    struct pn_split_run *r;
    if (pn_split_new(&sp, regex, regex_len, "input", NULL))
        return -1;
    require(pn_split_begin(&r, sp, NULL) == 0);
    pn_split_text(r, s, n);
    size_t at = 0, len;
    int64_t k = 0;
    int rc;
    while ((rc = pn_split_next(r, &len, NULL)) == 1) {
        require(len > 0 && len <= n - at);
        at += len;
        if (ends)
            ends[k] = at;
        k++;
    }
    require(rc < 0 || at == n);
    pn_split_end(r);
    pn_split_free(sp);
    return rc < 0 ? -1 : k;
}

static void fuzz_text(const char *s, size_t n)
{
    struct pn_vocab *v = small_vocab();
    encode(v, s, n, true);
    encode(v, s, n, false);
    pn_vocab_free(&v);
    require(pn_utf8_complete(s, n) <= n && n - pn_utf8_complete(s, n) < 4);

    /* PCRE2 and utf8proc know different versions of Unicode: compare on characters all of them
     * know. */
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        const size_t k = pn_utf8_decode(s + i, n - i, &cp);
        if (cp >= 0x800)
            return;
        i += k ? k : 1;
    }
    char regex[512];
    const int len = snprintf(regex, sizeof regex, "(?:%s)", pn_split_llama3);
    size_t *a = malloc((n + 1) * sizeof *a), *b = malloc((n + 1) * sizeof *b);
    require(a && b && len > 0);
    const int64_t na = run_split(pn_split_llama3, strlen(pn_split_llama3), s, n, a);
    const int64_t nb = run_split(regex, (size_t)len, s, n, b);
    require(na == nb && na >= 0 && memcmp(a, b, (size_t)na * sizeof *a) == 0);
    free(a);
    free(b);
}

static void fuzz_regex(const char *s, size_t n)
{
    const char *end = n ? memchr(s, '\n', n) : NULL;
    if (!end || end - s > 200)
        return;
    size_t left = n - (size_t)(end + 1 - s);
    if (left > 300)
        left = 300; /* an expensive expression costs a bounded time per piece: keep it short */
    (void)run_split(s, (size_t)(end - s), end + 1, left, NULL);
}

/* A NUL-terminated copy of the line at *s, which moves on. */
static char *take_line(const char **s, size_t *n)
{
    const char *end = *n ? memchr(*s, '\n', *n) : NULL;
    const size_t len = end ? (size_t)(end - *s) : *n, step = end ? len + 1 : len;
    char *line = malloc(len + 1);
    require(line);
    memcpy(line, *s, len);
    line[len] = 0;
    *s += step;
    *n -= step;
    return line;
}

static void fuzz_chat(const char *s, size_t n)
{
    const unsigned bits = n ? (uint8_t)*s : 0;
    s += n > 0;
    n -= n > 0;
    char *tools = take_line(&s, &n), *arguments = take_line(&s, &n), *tree = take_line(&s, &n);
    const struct puna_part parts[] = { { .image = "x", .image_len = 1 },
                                       { .text = s, .text_len = n } };
    const size_t from = bits & 1;
    const struct puna_message m[] = {
        { .role = "system", .parts = parts + 1, .n_parts = 1, .is_list = bits >> 1 & 1 },
        { .role = "user", .parts = parts + from, .n_parts = 2 - from, .is_list = bits >> 2 & 1 },
        { .role = "assistant", .tool_name = "f", .tool_arguments = arguments },
        { .role = "tool", .content_json = tree },
        { .role = "ipython", .parts = parts + from, .n_parts = 2 - from },
    };
    const struct puna_chat_opts opts = {
        .size = sizeof opts,
        .tools_json = bits & 8 ? tools : NULL,
        .tools_in_system = bits >> 4 & 1,
        .system_in_user = bits >> 5 & 1,
        .no_bos = bits >> 6 & 1,
        .no_generation_prompt = bits >> 7,
    };
    for (size_t skip = 0; skip < 2; skip++) {
        struct pn_chat_text t;
        struct puna_error err = { 0 };
        const int rc = pn_chat_render(&t, m + skip, 5 - skip, &opts, &err);
        require(rc == 0 || (rc == PUNA_E_ARG && err.message[0] && !t.text.data && !t.spans));
        for (size_t i = 0, at = 0; i < t.n_spans; i++) {
            require(t.spans[i].off >= at && t.spans[i].len <= t.text.len - t.spans[i].off);
            at = t.spans[i].off + t.spans[i].len;
        }
        pn_chat_text_free(&t);
    }
    free(tools);
    free(arguments);
    free(tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const char *s = (const char *)data;
    if (*s == '{')
        fuzz_json(s, size);
    else if (*s == 'T')
        fuzz_text(s + 1, size - 1);
    else if (*s == 'R')
        fuzz_regex(s + 1, size - 1);
    else if (*s == 'C')
        fuzz_chat(s + 1, size - 1);
    return 0;
}
