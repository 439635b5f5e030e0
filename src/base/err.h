/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: int status, 0 or a negative PUNA_E_*; the sentence goes into the caller's puna_error. */
#ifndef PN_BASE_ERR_H
#define PN_BASE_ERR_H

#include <puna.h>

#if defined(__GNUC__)
#define PN_PRINTF(a, b) __attribute__((format(printf, a, b)))
#define PN_UNUSED __attribute__((unused))
#define PN_INLINE static inline __attribute__((always_inline))
#else
#define PN_PRINTF(a, b)
#define PN_UNUSED
#define PN_INLINE static inline
#endif

/* Fill err (NULL allowed) with code and a formatted sentence; returns code, so that a caller writes
 * `return pn_fail(err, PUNA_E_FORMAT, "%s: tensor '%s': ...", path, name);`.
 * The sentence says what, where, and what to do; no trailing newline; control bytes coming from a
 * file (names!) are replaced by '?', and the result is valid UTF-8 or ASCII. */
int pn_fail(struct puna_error *err, int code, const char *fmt, ...) PN_PRINTF(3, 4);

/* The standard sentence for a failed allocation of n bytes for `what`. */
int pn_fail_memory(struct puna_error *err, size_t n_bytes, const char *what);

#endif
