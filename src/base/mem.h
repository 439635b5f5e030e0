/* SPDX-License-Identifier: Apache-2.0 */
/* Checked allocation, a growing byte buffer, and an arena. Nothing here aborts: NULL or false on
 * failure, the caller says what it was for (pn_fail_memory). */
#ifndef PN_BASE_MEM_H
#define PN_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* a*b and a+b without overflow: false when the true result does not fit. */
bool pn_mul_size(size_t a, size_t b, size_t *out);
bool pn_add_size(size_t a, size_t b, size_t *out);

/* n elements of size bytes, 64-byte aligned, zeroed (calloc: large blocks cost no page until
 * touched). NULL when n*size overflows or memory is short. n == 0 gives a valid pointer. */
void *pn_calloc_array(size_t n, size_t size);
void pn_free(void *p); /* for the above only; NULL allowed */
/* A wish: huge pages for the whole pages of n bytes at p, where the system has them for such memory. */
void pn_huge_pages(void *p, size_t n);

/* Growing byte buffer. Zero-initialise; data is NUL-terminated after every successful append. */
struct pn_buf {
    char *data;
    size_t len, cap;
    size_t max; /* 0: no limit; otherwise an append past it fails */
    bool failed; /* sticky: set by the first append that failed */
};
bool pn_buf_append(struct pn_buf *b, const void *bytes, size_t n);
bool pn_buf_str(struct pn_buf *b, const char *s);
bool pn_buf_printf(struct pn_buf *b, const char *fmt, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;
void pn_buf_free(struct pn_buf *b);

/* Arena: many small allocations freed together (strings, tables of a parsed file). */
struct pn_arena;
struct pn_arena *pn_arena_new(void);
void *pn_arena_alloc(struct pn_arena *a, size_t n_bytes); /* 16-byte aligned, zeroed */
char *pn_arena_strndup(struct pn_arena *a, const char *s, size_t n);
void pn_arena_free(struct pn_arena *a);

/* String -> index map (open addressing, keys not owned). Hash is seeded per map, so that a file
 * cannot choose colliding keys. */
struct pn_map_str;
struct pn_map_str *pn_map_str_new(size_t n_expected);
/* 1 inserted, 0 the key was there already (value untouched), -1 no memory */
int pn_map_str_put(struct pn_map_str *m, const char *key, size_t len, uint32_t value);
/* value or -1 */
int64_t pn_map_str_get(const struct pn_map_str *m, const char *key, size_t len);
void pn_map_str_free(struct pn_map_str *m);

#endif
