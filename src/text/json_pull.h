/* SPDX-License-Identifier: Apache-2.0 */
/* A pull parser for the one large JSON file there is, tokenizer.json: 9 MB of which all but a few
 * kilobytes are two lists that need no tree. Building one (jansson) takes three times as long as
 * all the rest of loading; here values are visited in place, and the small ones are handed to
 * jansson as text. */
#ifndef PN_TEXT_JSON_PULL_H
#define PN_TEXT_JSON_PULL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pn_pull {
    const char *s;
    size_t n, pos;
    char *buf; /* the last string that had escapes; pn_pull_free */
    size_t buf_cap;
};
void pn_pull_free(struct pn_pull *p);

/* First byte of the next value, or 0 at the end of the text. */
char pn_pull_peek(struct pn_pull *p);
/* Enter an object ('{') or an array ('['): false when the next value is something else. */
bool pn_pull_open(struct pn_pull *p, char bracket);
/* 1: another member follows; 0: the closing bracket has been taken; -1: malformed.
 * *first: true before the first call. */
int pn_pull_more(struct pn_pull *p, char bracket, bool *first);
/* A string, escapes undone; the bytes are valid until the next string. A lone surrogate is an
 * error, as is invalid UTF-8. */
bool pn_pull_string(struct pn_pull *p, const char **s, size_t *len);
bool pn_pull_key(struct pn_pull *p, const char **s, size_t *len); /* string and colon */
bool pn_pull_int(struct pn_pull *p, int64_t *v);
/* Pass over a value of any kind, only as carefully as finding its end needs. */
bool pn_pull_skip(struct pn_pull *p, size_t *off, size_t *len);

#endif
