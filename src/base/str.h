/* SPDX-License-Identifier: Apache-2.0 */
/* A view of bytes that somebody else owns; not NUL-terminated. */
#ifndef PN_BASE_STR_H
#define PN_BASE_STR_H
#include <stddef.h>

struct pn_str {
    const char *s;
    size_t len;
};

#endif
