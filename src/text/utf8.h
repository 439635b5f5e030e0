/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
 * The whole-string questions (pn_utf8_complete, pn_utf8_valid) are in vocab.h. */
#ifndef PN_TEXT_UTF8_H
#define PN_TEXT_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* The character at s[0..n): its length 1..4 and code point, or 0 when n == 0 or no valid character
 * begins here. */
size_t pn_utf8_decode(const char *s, size_t n, uint32_t *cp);

/* Length of the longest prefix of s[0..n) that is valid UTF-8. */
size_t pn_utf8_valid_prefix(const char *s, size_t n);

#endif
