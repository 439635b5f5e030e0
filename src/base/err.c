/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Length of the valid UTF-8 character at s (n bytes left), 0 if there is none. C1 controls count as
 * invalid: a terminal may act on them. */
static size_t utf8_char(const unsigned char *s, size_t n)
{
    const unsigned char c = s[0];
    if (c < 0x80)
        return c >= 0x20 && c != 0x7f;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    const size_t len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (len > n)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    const unsigned second = s[1];
    if ((c == 0xc2 && second < 0xa0) || (c == 0xe0 && second < 0xa0) ||
        (c == 0xed && second >= 0xa0) || (c == 0xf0 && second < 0x90) ||
        (c == 0xf4 && second >= 0x90))
        return 0;
    return len;
}

static void sanitise(char *text)
{
    unsigned char *s = (unsigned char *)text;
    size_t n = strlen(text);
    while (n > 0) {
        size_t len = utf8_char(s, n);
        if (len == 0) {
            *s = '?';
            len = 1;
        }
        s += len;
        n -= len;
    }
}

/* Cut a message that did not fit before the character that was split, and show that it was cut. */
static void mark_cut(char *text, size_t cap)
{
    size_t n = cap - sizeof "...";
    while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    memcpy(text + n, "...", sizeof "...");
}

int pn_fail(struct puna_error *err, int code, const char *fmt, ...)
{
    if (!err)
        return code;
    /* Formatted aside: a caller may pass err->message itself as an argument, to prefix it. */
    char text[sizeof err->message];
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0)
        text[0] = 0;
    else if ((size_t)n >= sizeof text)
        mark_cut(text, sizeof text);
    sanitise(text);
    err->code = code;
    memcpy(err->message, text, strlen(text) + 1);
    return code;
}

int pn_fail_memory(struct puna_error *err, size_t n_bytes, const char *what)
{
    if (n_bytes < (size_t)1 << 20)
        return pn_fail(err, PUNA_E_MEMORY, "out of memory: %zu bytes for %s", n_bytes, what);
    return pn_fail(err, PUNA_E_MEMORY, "out of memory: %.1f MiB for %s",
                   (double)n_bytes / (1 << 20), what);
}
