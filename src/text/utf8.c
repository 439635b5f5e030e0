/* SPDX-License-Identifier: Apache-2.0 */
#include "text/utf8.h"

#include "text/vocab.h"

/* What a lead byte promises: the length, and the range of the second byte, which is where overlong
 * forms (E0, F0), surrogates (ED) and the end of Unicode (F4) are cut off. len 0: no lead byte. */
struct lead {
    uint8_t len, lo, hi;
};

static struct lead lead_of(uint8_t b)
{
    if (b < 0x80)
        return (struct lead){ 1, 0, 0 };
    if (b < 0xc2 || b > 0xf4)
        return (struct lead){ 0, 0, 0 };
    if (b < 0xe0)
        return (struct lead){ 2, 0x80, 0xbf };
    if (b < 0xf0)
        return (struct lead){ 3, b == 0xe0 ? 0xa0 : 0x80, b == 0xed ? 0x9f : 0xbf };
    return (struct lead){ 4, b == 0xf0 ? 0x90 : 0x80, b == 0xf4 ? 0x8f : 0xbf };
}

size_t pn_utf8_decode(const char *s, size_t n, uint32_t *cp)
{
    if (n == 0)
        return 0;
    const uint8_t *u = (const uint8_t *)s;
    const struct lead l = lead_of(u[0]);
    if (l.len == 1) {
        *cp = u[0];
        return 1;
    }
    if (l.len == 0 || n < l.len || u[1] < l.lo || u[1] > l.hi)
        return 0;
    uint32_t c = u[0] & (0x7fu >> l.len);
    c = c << 6 | (u[1] & 0x3f);
    for (size_t i = 2; i < l.len; i++) {
        if ((u[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (u[i] & 0x3f);
    }
    *cp = c;
    return l.len;
}

size_t pn_utf8_valid_prefix(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint32_t cp;
        const size_t k = pn_utf8_decode(s + i, n - i, &cp);
        if (k == 0)
            break;
        i += k;
    }
    return i;
}

bool pn_utf8_valid(const char *s, size_t n)
{
    return pn_utf8_valid_prefix(s, n) == n;
}

size_t pn_utf8_complete(const char *s, size_t n)
{
    const uint8_t *u = (const uint8_t *)s;
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        const size_t i = n - back;
        if ((u[i] & 0xc0) == 0x80)
            continue; /* a continuation byte: its lead is further left */
        const struct lead l = lead_of(u[i]);
        if (l.len <= back)
            return n; /* complete, or never valid */
        /* More bytes are promised than there are; those present must still be possible. Bytes after
         * the second are continuation bytes, or the scan would have stopped at them. */
        return back == 1 || (u[i + 1] >= l.lo && u[i + 1] <= l.hi) ? i : n;
    }
    return n;
}
