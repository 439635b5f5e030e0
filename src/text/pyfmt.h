/* SPDX-License-Identifier: Apache-2.0 */
/* The chat template is executed by Python where it comes from, and prints values the way Python
 * does: json.dumps(ensure_ascii=False), repr(), str.strip(). These are those three.
 *
 * Failure (no memory) is left in the buffer's sticky flag. Trees come from jansson, whose parser
 * bounds their depth (2048), which bounds the recursion here. */
#ifndef PN_TEXT_PYFMT_H
#define PN_TEXT_PYFMT_H

#include <stddef.h>

#include <jansson.h>

#include "base/mem.h"

/* json.dumps(v, ensure_ascii=False, indent=indent); indent 0: all on one line. */
void pn_py_json(struct pn_buf *b, const json_t *v, int indent);
void pn_py_json_string(struct pn_buf *b, const char *s, size_t n);
/* repr(v) of what json.loads would have given. Which characters are printable follows utf8proc's
 * Unicode version. */
void pn_py_repr(struct pn_buf *b, const json_t *v);
void pn_py_repr_string(struct pn_buf *b, const char *s, size_t n);
/* s.strip(): moves *s and *n to the part that is left. */
void pn_py_strip(const char **s, size_t *n);

#endif
