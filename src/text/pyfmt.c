/* SPDX-License-Identifier: Apache-2.0 */
#include "text/pyfmt.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "text/utf8.h"

/* Do these digits, the first before the point, read back as x > 0? The point is left out, so that
 * the process's locale (a decimal comma) does not matter. */
static bool reads_back(const char *digits, size_t n, int exponent, double x)
{
    char text[64];
    (void)snprintf(text, sizeof text, "%.*se%d", (int)n, digits, exponent - (int)n + 1);
    return strtod(text, NULL) == x;
}

/* The fewest digits that read back as x >= 0; returns how many. The nearest number of n digits is
 * tried, and the one above it: where x is a power of two, doubles lie twice as far apart above it
 * as below, and the farther one may be the one that reads back. */
static size_t shortest(char digits[24], int *exponent, double x)
{
    for (int precision = 0;; precision++) {
        char e[48];
        size_t n = 0;
        (void)snprintf(e, sizeof e, "%.*e", precision, x);
        const char *c = e;
        for (; *c && *c != 'e'; c++) {
            if (*c >= '0' && *c <= '9')
                digits[n++] = *c;
        }
        *exponent = *c ? (int)strtol(c + 1, NULL, 10) : 0;
        if (precision >= 16 || reads_back(digits, n, *exponent, x))
            return n;
        if (digits[n - 1] < '9') { /* a carry would give fewer digits, which have been tried */
            digits[n - 1]++;
            if (reads_back(digits, n, *exponent, x))
                return n;
        }
    }
}

/* repr of a float: with an exponent below 1e-4 and from 1e16 on. */
static void put_real(struct pn_buf *b, double x)
{
    char digits[24];
    int exponent;
    const size_t n = shortest(digits, &exponent, fabs(x));
    if (signbit(x))
        (void)pn_buf_str(b, "-");
    if (exponent < -4 || exponent >= 16) {
        (void)pn_buf_append(b, digits, 1);
        if (n > 1) {
            (void)pn_buf_str(b, ".");
            (void)pn_buf_append(b, digits + 1, n - 1);
        }
        (void)pn_buf_printf(b, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    int point = exponent + 1; /* digits before the point */
    if (point <= 0)
        (void)pn_buf_str(b, "0");
    for (int i = 0; i < point; i++)
        (void)pn_buf_append(b, i < (int)n ? &digits[i] : "0", 1);
    (void)pn_buf_str(b, ".");
    for (int i = point; i < 0; i++)
        (void)pn_buf_str(b, "0");
    point = point < 0 ? 0 : point;
    if (point < (int)n)
        (void)pn_buf_append(b, digits + point, n - (size_t)point);
    else
        (void)pn_buf_str(b, "0");
}

void pn_py_json_string(struct pn_buf *b, const char *s, size_t n)
{
    static const char special[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    (void)pn_buf_str(b, "\"");
    for (size_t i = 0; i < n; i++) {
        const char *at = s[i] ? strchr(special, s[i]) : NULL;
        if (at)
            (void)pn_buf_printf(b, "\\%c", letter[at - special]);
        else if ((unsigned char)s[i] < 0x20)
            (void)pn_buf_printf(b, "\\u%04x", (unsigned)(unsigned char)s[i]);
        else
            (void)pn_buf_append(b, s + i, 1);
    }
    (void)pn_buf_str(b, "\"");
}

static bool printable(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= 0x20 && cp < 0x7f;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    default:
        return true;
    }
}

void pn_py_repr_string(struct pn_buf *b, const char *s, size_t n)
{
    const char quote = n && memchr(s, '\'', n) && !memchr(s, '"', n) ? '"' : '\'';
    (void)pn_buf_append(b, &quote, 1);
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t k = pn_utf8_decode(s + i, n - i, &cp);
        if (k == 0) { /* a byte that is not UTF-8; Python has no such strings */
            cp = (unsigned char)s[i];
            k = 1;
            (void)pn_buf_printf(b, "\\x%02x", (unsigned)cp);
        } else if (cp == '\n' || cp == '\r' || cp == '\t') {
            (void)pn_buf_str(b, cp == '\n' ? "\\n" : cp == '\r' ? "\\r" : "\\t");
        } else if (cp == (uint32_t)quote || cp == '\\') {
            (void)pn_buf_printf(b, "\\%c", (char)cp);
        } else if (printable(cp)) {
            (void)pn_buf_append(b, s + i, k);
        } else {
            (void)pn_buf_printf(b, cp < 0x100     ? "\\x%02x"
                                   : cp < 0x10000 ? "\\u%04x"
                                                  : "\\U%08x", (unsigned)cp);
        }
        i += k;
    }
    (void)pn_buf_append(b, &quote, 1);
}

struct style {
    bool repr;  /* repr rather than JSON */
    int indent; /* 0: one line */
};

static void put_string(struct pn_buf *b, const char *s, size_t n, struct style st)
{
    if (st.repr)
        pn_py_repr_string(b, s, n);
    else
        pn_py_json_string(b, s, n);
}

/* What stands before item i of a container, or (last) before its closing bracket. */
static void put_gap(struct pn_buf *b, size_t i, bool last, struct style st, int depth)
{
    if (i > 0 && !last)
        (void)pn_buf_str(b, st.indent ? "," : ", ");
    if (st.indent) {
        (void)pn_buf_str(b, "\n");
        for (int k = 0; k < st.indent * depth; k++)
            (void)pn_buf_str(b, " ");
    }
}

static void put_value(struct pn_buf *b, const json_t *v, struct style st, int depth)
{
    if (b->failed)
        return;
    switch (json_typeof(v)) {
    case JSON_OBJECT: {
        (void)pn_buf_str(b, "{");
        size_t i = 0;
        json_t *o = (json_t *)(uintptr_t)v; /* jansson's iterator is not const; nothing changes */
        for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
            const char *key = json_object_iter_key(it);
            put_gap(b, i++, false, st, depth + 1);
            put_string(b, key, strlen(key), st);
            (void)pn_buf_str(b, ": ");
            put_value(b, json_object_iter_value(it), st, depth + 1);
        }
        if (i)
            put_gap(b, i, true, st, depth);
        (void)pn_buf_str(b, "}");
        break;
    }
    case JSON_ARRAY: {
        (void)pn_buf_str(b, "[");
        const size_t n = json_array_size(v);
        for (size_t i = 0; i < n; i++) {
            put_gap(b, i, false, st, depth + 1);
            put_value(b, json_array_get(v, i), st, depth + 1);
        }
        if (n)
            put_gap(b, n, true, st, depth);
        (void)pn_buf_str(b, "]");
        break;
    }
    case JSON_STRING:
        put_string(b, json_string_value(v), json_string_length(v), st);
        break;
    case JSON_INTEGER:
        (void)pn_buf_printf(b, "%lld", (long long)json_integer_value(v));
        break;
    case JSON_REAL:
        put_real(b, json_real_value(v));
        break;
    case JSON_TRUE:
        (void)pn_buf_str(b, st.repr ? "True" : "true");
        break;
    case JSON_FALSE:
        (void)pn_buf_str(b, st.repr ? "False" : "false");
        break;
    default:
        (void)pn_buf_str(b, st.repr ? "None" : "null");
    }
}

void pn_py_json(struct pn_buf *b, const json_t *v, int indent)
{
    put_value(b, v, (struct style){ .indent = indent }, 0);
}

void pn_py_repr(struct pn_buf *b, const json_t *v)
{
    put_value(b, v, (struct style){ .repr = true }, 0);
}

/* str.isspace(): White_Space and the four information separators. */
static bool is_space(uint32_t cp)
{
    return (cp >= 0x09 && cp <= 0x0d) || (cp >= 0x1c && cp <= 0x20) || cp == 0x85 || cp == 0xa0 ||
           cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

void pn_py_strip(const char **s, size_t *n)
{
    uint32_t cp;
    size_t k;
    while ((k = pn_utf8_decode(*s, *n, &cp)) > 0 && is_space(cp)) {
        *s += k;
        *n -= k;
    }
    while (*n) {
        size_t i = *n - 1;
        while (i > 0 && *n - i < 4 && ((*s)[i] & 0xc0) == 0x80)
            i--;
        if (pn_utf8_decode(*s + i, *n - i, &cp) != *n - i || !is_space(cp))
            break;
        *n = i;
    }
}
