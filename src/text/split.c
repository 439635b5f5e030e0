/* SPDX-License-Identifier: Apache-2.0 */
#include "text/split.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>

#include "base/err.h"
#include "text/utf8.h"

const char pn_split_llama3[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char pn_split_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* ---------------------------------------------------------------------------- Llama 3's scanner */

/* NEWLINE: CR and LF, which are white space as well */
enum class { END, LETTER, NUMBER, SPACE, NEWLINE, OTHER };

/* \p{L}, \p{N} and \s (the White_Space property) by utf8proc; its Unicode version decides about
 * characters younger than the reference's tables. */
static enum class class_of(uint32_t cp)
{
    if (cp < 0x80) {
        if ((cp | 0x20) >= 'a' && (cp | 0x20) <= 'z')
            return LETTER;
        if (cp >= '0' && cp <= '9')
            return NUMBER;
        if (cp == '\n' || cp == '\r')
            return NEWLINE;
        return cp == ' ' || (cp >= '\t' && cp <= '\r') ? SPACE : OTHER;
    }
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return NUMBER;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return SPACE;
    default:
        return cp == 0x85 ? SPACE : OTHER; /* NEL: a control character that is white space */
    }
}

/* Class and length of the character at s[i..n). The end of the text and a byte that is not UTF-8
 * are both END, with length 0. */
static enum class look(const char *s, size_t n, size_t i, size_t *len)
{
    uint32_t cp;
    *len = pn_utf8_decode(s + i, n - i, &cp);
    return *len ? class_of(cp) : END;
}

/* End of the run of `want` characters that starts at i. */
static size_t run_end(const char *s, size_t n, size_t i, enum class want)
{
    size_t k;
    while (look(s, n, i, &k) == want)
        i += k;
    return i;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d) at an apostrophe: its length, or 0. Ignoring case, U+017F (long s)
 * is an s; no other letter in here has a case partner outside ASCII. */
static size_t contraction(const char *s, size_t n)
{
    if (n < 2)
        return 0;
    switch (s[1] | 0x20) {
    case 's':
    case 't':
    case 'm':
    case 'd':
        return 2;
    case 'r':
    case 'v':
        return n >= 3 && (s[2] == 'e' || s[2] == 'E') ? 3 : 0;
    case 'l':
        return n >= 3 && (s[2] == 'l' || s[2] == 'L') ? 3 : 0;
    default:
        return n >= 3 && memcmp(s + 1, "\xc5\xbf", 2) == 0 ? 3 : 0;
    }
}

/* Length of the piece at the start of s[0..n), n > 0: pn_split_llama3's alternatives in order. */
static size_t scan_llama3(const char *s, size_t n)
{
    size_t len, next_len;
    const enum class c = look(s, n, 0, &len);
    if (c == END)
        return 1; /* a byte that is not UTF-8 */
    if (*s == '\'') {
        const size_t k = contraction(s, n);
        if (k)
            return k;
    }
    /* [^\r\n\p{L}\p{N}]?\p{L}+ */
    if (c == LETTER)
        return run_end(s, n, len, LETTER);
    const enum class next = look(s, n, len, &next_len);
    if (next == LETTER && c != NEWLINE && c != NUMBER)
        return run_end(s, n, len + next_len, LETTER);
    /* \p{N}{1,3} */
    if (c == NUMBER) {
        size_t end = len;
        for (int i = 0; i < 2 && look(s, n, end, &len) == NUMBER; i++)
            end += len;
        return end;
    }
    /*  ?[^\s\p{L}\p{N}]+[\r\n]* */
    if (c == OTHER || (*s == ' ' && next == OTHER))
        return run_end(s, n, run_end(s, n, len, OTHER), NEWLINE);
    /* White space from here on. \s*[\r\n]+ ends behind the last newline of the run; without one,
     * \s+(?!\S) leaves the last character to the word that follows, unless there is no word. */
    size_t end = 0, last_newline = 0, before_last = 0;
    for (;;) {
        size_t k;
        const enum class w = look(s, n, end, &k);
        if (w != SPACE && w != NEWLINE)
            break;
        before_last = end;
        end += k;
        if (w == NEWLINE)
            last_newline = end;
    }
    if (last_newline)
        return last_newline;
    const bool at_end = look(s, n, end, &len) == END;
    return at_end || before_last == 0 ? end : before_last;
}

/* ---------------------------------------------------------------------------- other expressions */

/* PCRE2 sees the text through a window. A match attempt that touches the window's end is repeated
 * with a larger one, so the result is that of the whole text - as long as the budget of repeated
 * bytes lasts. Behind it (only a text made of very long pieces gets there) pieces end at the
 * window: without that, an expression that scans to the end of the text from every position would
 * be quadratic. */
#define WINDOW 4096
#define BUDGET_BASE ((size_t)16 << 20)
#define BUDGET_PER_BYTE 16
#define MAX_REGEX 65536
#define MATCH_LIMIT 200000
#define HEAP_LIMIT_KIB 65536
#define JIT_STACK_MAX ((size_t)1 << 20)

struct pn_split {
    pcre2_code *code; /* NULL: Llama 3's scanner */
};

struct pn_split_run {
    const struct pn_split *split;
    const char *text;
    size_t n, pos;
    /* PCRE2 only */
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *jit_stack;
    size_t run_start, valid_end;   /* pos is inside this run of valid UTF-8 */
    size_t search;                 /* where the next match is looked for */
    bool found;                    /* ... and one that has not been handed out yet */
    size_t match_start, match_end;
    size_t budget;
};

int pn_split_new(struct pn_split **out, const char *regex, size_t len, const char *label,
                 struct puna_error *err)
{
    *out = NULL;
    struct pn_split *s = calloc(1, sizeof *s);
    if (!s)
        return pn_fail_memory(err, sizeof *s, "the split expression");
    if (len != strlen(pn_split_llama3) || memcmp(regex, pn_split_llama3, len) != 0) {
        if (len > MAX_REGEX) {
            free(s);
            return pn_fail(err, PUNA_E_FORMAT,
                           "%s: the split expression is %zu bytes long; puna takes at most %d",
                           label, len, MAX_REGEX);
        }
        int code;
        PCRE2_SIZE at;
        s->code = pcre2_compile((PCRE2_SPTR)regex, len,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
        if (!s->code) {
            char why[128] = "";
            (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
            free(s);
            return pn_fail(err, PUNA_E_FORMAT,
                           "%s: the split expression does not compile: %s at character %zu", label,
                           why, (size_t)at);
        }
        /* Without JIT (some systems forbid writable code) pcre2_match interprets: same results. */
        (void)pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
    }
    *out = s;
    return 0;
}

void pn_split_free(struct pn_split *s)
{
    if (!s)
        return;
    pcre2_code_free(s->code);
    free(s);
}

int pn_split_begin(struct pn_split_run **out, const struct pn_split *s, struct puna_error *err)
{
    *out = NULL;
    struct pn_split_run *r = calloc(1, sizeof *r);
    if (!r)
        return pn_fail_memory(err, sizeof *r, "splitting a text");
    r->split = s;
    if (s->code) {
        r->match = pcre2_match_data_create(1, NULL);
        r->context = pcre2_match_context_create(NULL);
        if (!r->match || !r->context) {
            pn_split_end(r);
            return pn_fail_memory(err, sizeof *r, "splitting a text");
        }
        (void)pcre2_set_match_limit(r->context, MATCH_LIMIT);
        (void)pcre2_set_heap_limit(r->context, HEAP_LIMIT_KIB);
        r->jit_stack = pcre2_jit_stack_create(32 << 10, JIT_STACK_MAX, NULL);
        if (r->jit_stack)
            pcre2_jit_stack_assign(r->context, NULL, r->jit_stack);
    }
    *out = r;
    return 0;
}

void pn_split_text(struct pn_split_run *r, const char *text, size_t n)
{
    r->text = text;
    r->n = n;
    r->pos = r->valid_end = 0; /* an empty valid run: the first step looks for the next */
    r->budget = BUDGET_BASE + (n < SIZE_MAX / 32 ? n * BUDGET_PER_BYTE : n);
}

void pn_split_end(struct pn_split_run *r)
{
    if (!r)
        return;
    pcre2_match_data_free(r->match);
    pcre2_match_context_free(r->context);
    pcre2_jit_stack_free(r->jit_stack);
    free(r);
}

/* The window from `from` on, ending at a character boundary. */
static size_t window_end(const struct pn_split_run *r, size_t from, size_t size)
{
    if (r->valid_end - from <= size)
        return r->valid_end;
    size_t end = from + size;
    while ((r->text[end] & 0xc0) == 0x80)
        end--;
    return end;
}

/* Look for a match from r->search on, in the valid run that ends at valid_end. Sets match_start and
 * match_end (both valid_end: there is none). PCRE2 gets the run from its beginning, so that a
 * look-behind may see what has been handed out already. */
static int find_match(struct pn_split_run *r, struct puna_error *err)
{
    const char *base = r->text + r->run_start;
    size_t size = WINDOW;
    bool grow = true;
    for (;;) {
        const size_t end = window_end(r, r->search, size);
        const bool whole = end == r->valid_end;
        const uint32_t opts = PCRE2_NO_UTF_CHECK | (whole || !grow ? 0 : PCRE2_PARTIAL_HARD);
        const int rc = pcre2_match(r->split->code, (PCRE2_SPTR)base, end - r->run_start,
                                   r->search - r->run_start, opts, r->match, r->context);
        if (rc >= 0) {
            const PCRE2_SIZE *o = pcre2_get_ovector_pointer(r->match);
            const size_t from = r->run_start + o[0], to = r->run_start + o[1];
            r->match_start = from < r->search ? r->search : from; /* \K may move it about */
            r->match_end = to < r->match_start ? r->match_start : to;
            return 0;
        }
        if (rc == PCRE2_ERROR_NOMATCH) {
            r->search = r->match_start = r->match_end = end;
            if (whole)
                return 0;
        } else if (size > WINDOW || rc == PCRE2_ERROR_PARTIAL) {
            /* The match touches the window's end, or a larger window was too much. */
            size *= 2;
            grow = rc == PCRE2_ERROR_PARTIAL && r->budget >= size;
            if (grow)
                r->budget -= size;
            else
                size = WINDOW;
        } else {
            char why[128] = "";
            (void)pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
            return pn_fail(err, PUNA_E_LIMIT,
                           "the tokenizer's split expression gives up on this text at byte %zu: %s",
                           r->search, why);
        }
    }
}

static int next_by_pcre2(struct pn_split_run *r, size_t *len, struct puna_error *err)
{
    for (;;) {
        if (r->pos == r->valid_end) {
            if (r->pos == r->n)
                return 0;
            r->run_start = r->search = r->pos;
            r->valid_end = r->pos + pn_utf8_valid_prefix(r->text + r->pos, r->n - r->pos);
            r->found = false;
            if (r->valid_end == r->pos) {
                r->valid_end = ++r->pos;
                *len = 1; /* a byte that is not UTF-8 */
                return 1;
            }
        }
        if (!r->found) {
            const int rc = find_match(r, err);
            if (rc)
                return rc;
            r->found = true;
        }
        const size_t end = r->match_start > r->pos ? r->match_start : r->match_end;
        if (end == r->match_end) { /* the match itself goes out: the next search starts behind */
            r->found = false;
            r->search = end;
        }
        if (end > r->pos) {
            *len = end - r->pos;
            r->pos = end;
            return 1;
        }
        /* An empty match cuts here and takes nothing: the search goes on a character further. */
        uint32_t cp;
        r->search += pn_utf8_decode(r->text + r->search, r->valid_end - r->search, &cp);
    }
}

int pn_split_next(struct pn_split_run *r, size_t *len, struct puna_error *err)
{
    if (r->split->code)
        return next_by_pcre2(r, len, err);
    if (r->pos == r->n)
        return 0;
    *len = scan_llama3(r->text + r->pos, r->n - r->pos);
    r->pos += *len;
    return 1;
}
