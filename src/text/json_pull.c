/* SPDX-License-Identifier: Apache-2.0 */
#include "text/json_pull.h"

#include <stdlib.h>
#include <string.h>

#include "text/vocab.h"

void pn_pull_free(struct pn_pull *p)
{
    free(p->buf);
    p->buf = NULL;
    p->buf_cap = 0;
}

char pn_pull_peek(struct pn_pull *p)
{
    while (p->pos < p->n && (p->s[p->pos] == ' ' || p->s[p->pos] == '\n' || p->s[p->pos] == '\t' ||
                             p->s[p->pos] == '\r'))
        p->pos++;
    return p->pos < p->n ? p->s[p->pos] : 0;
}

static bool take(struct pn_pull *p, char c)
{
    if (pn_pull_peek(p) != c)
        return false;
    p->pos++;
    return true;
}

bool pn_pull_open(struct pn_pull *p, char bracket)
{
    return take(p, bracket);
}

int pn_pull_more(struct pn_pull *p, char bracket, bool *first)
{
    const char close = bracket == '{' ? '}' : ']';
    const bool was_first = *first;
    *first = false;
    if (take(p, close))
        return 0;
    if (was_first)
        return p->pos < p->n ? 1 : -1;
    return take(p, ',') && pn_pull_peek(p) != close ? 1 : -1;
}

static int hex4(const char *s)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        const char c = s[i];
        const int d = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

static size_t put_utf8(char *to, uint32_t cp)
{
    if (cp < 0x80) {
        to[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        to[0] = (char)(0xc0 | cp >> 6);
        to[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        to[0] = (char)(0xe0 | cp >> 12);
        to[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        to[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | cp >> 18);
    to[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    to[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    to[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

/* Undo the escapes of s[0..n) into to, which has room for n bytes (no escape is shorter than what
 * it stands for). SIZE_MAX: malformed. */
static size_t unescape(char *to, const char *s, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n;) {
        if (s[i] != '\\') {
            to[k++] = s[i++];
            continue;
        }
        static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
        const char c = s[i + 1]; /* exists: the string's end was found by stepping over escapes */
        const char *at = c ? strchr(from, c) : NULL;
        if (at) {
            to[k++] = into[at - from];
            i += 2;
            continue;
        }
        const int u = c == 'u' && n - i >= 6 ? hex4(s + i + 2) : -1;
        if (u < 0 || (u >= 0xdc00 && u <= 0xdfff))
            return SIZE_MAX;
        i += 6;
        uint32_t cp = (uint32_t)u;
        if (u >= 0xd800 && u <= 0xdbff) {
            const int low = n - i >= 6 && s[i] == '\\' && s[i + 1] == 'u' ? hex4(s + i + 2) : -1;
            if (low < 0xdc00 || low > 0xdfff)
                return SIZE_MAX;
            i += 6;
            cp = 0x10000 + ((cp - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
        }
        k += put_utf8(to + k, cp);
    }
    return k;
}

bool pn_pull_string(struct pn_pull *p, const char **s, size_t *len)
{
    if (!take(p, '"'))
        return false;
    const size_t start = p->pos;
    bool escapes = false;
    for (;; p->pos++) {
        if (p->pos >= p->n || (unsigned char)p->s[p->pos] < 0x20)
            return false;
        if (p->s[p->pos] == '"')
            break;
        if (p->s[p->pos] == '\\') {
            escapes = true;
            p->pos++;
        }
    }
    const size_t n = p->pos++ - start;
    if (!pn_utf8_valid(p->s + start, n))
        return false;
    *s = p->s + start;
    *len = n;
    if (!escapes)
        return true;
    if (n > p->buf_cap) {
        free(p->buf);
        p->buf = malloc(n);
        p->buf_cap = p->buf ? n : 0;
        if (!p->buf)
            return false;
    }
    *s = p->buf;
    *len = unescape(p->buf, p->s + start, n);
    return *len != SIZE_MAX;
}

bool pn_pull_key(struct pn_pull *p, const char **s, size_t *len)
{
    return pn_pull_string(p, s, len) && take(p, ':');
}

bool pn_pull_int(struct pn_pull *p, int64_t *v)
{
    const bool minus = take(p, '-');
    if (minus ? p->pos >= p->n : pn_pull_peek(p) == 0)
        return false;
    int64_t x = 0;
    const size_t start = p->pos;
    for (; p->pos < p->n && p->s[p->pos] >= '0' && p->s[p->pos] <= '9'; p->pos++) {
        if (p->pos - start >= 18)
            return false;
        x = x * 10 + (p->s[p->pos] - '0');
    }
    if (p->pos == start || (p->pos < p->n && strchr(".eE", p->s[p->pos]) && p->s[p->pos]))
        return false;
    *v = minus ? -x : x;
    return true;
}

bool pn_pull_skip(struct pn_pull *p, size_t *off, size_t *len)
{
    const char c = pn_pull_peek(p);
    *off = p->pos;
    size_t depth = 0;
    for (; p->pos < p->n; p->pos++) {
        const char d = p->s[p->pos];
        if (d == '"') {
            for (p->pos++; p->pos < p->n && p->s[p->pos] != '"'; p->pos++) {
                if (p->s[p->pos] == '\\')
                    p->pos++;
            }
            if (p->pos >= p->n)
                return false;
        } else if (d == '{' || d == '[') {
            depth++;
        } else if (d == '}' || d == ']') {
            if (depth == 0)
                break; /* the enclosing value's end: a scalar ends here */
            depth--;
        } else if (depth == 0 && (d == ',' || d == ' ' || d == '\n' || d == '\t' || d == '\r')) {
            break;
        }
        if (depth == 0 && (c == '"' || c == '{' || c == '[')) {
            p->pos++;
            break;
        }
    }
    *len = p->pos - *off;
    return depth == 0 && *len > 0;
}
