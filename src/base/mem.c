/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ALIGN 64

bool pn_mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

bool pn_add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* Layout: [calloc's block ... pointer to it][64-byte aligned elements]. posix_memalign plus memset
 * would touch every page of a large block; calloc hands out fresh pages that are zero already. */
void *pn_calloc_array(size_t n, size_t size)
{
    size_t bytes;
    if (!pn_mul_size(n, size, &bytes) || !pn_add_size(bytes, ALIGN + sizeof(void *), &bytes))
        return NULL;
    char *block = calloc(1, bytes);
    if (!block)
        return NULL;
    char *p = block + sizeof(void *);
    p += (ALIGN - (uintptr_t)p % ALIGN) % ALIGN;
    memcpy(p - sizeof(void *), &block, sizeof block);
    return p;
}

void pn_free(void *p)
{
    if (!p)
        return;
    void *block;
    memcpy(&block, (char *)p - sizeof(void *), sizeof block);
    free(block);
}

void pn_huge_pages(void *p, size_t n)
{
#ifdef MADV_HUGEPAGE
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)p;
    const uintptr_t start = (from + page - 1) & ~(page - 1), end = (from + n) & ~(page - 1);
    if (start < end)
        (void)madvise((void *)start, end - start, MADV_HUGEPAGE);
#else
    (void)p;
    (void)n;
#endif
}

/* ---------------------------------------------------------------------------- byte buffer */

/* Room for n more bytes and the NUL. */
static bool buf_reserve(struct pn_buf *b, size_t n)
{
    size_t need;
    if (b->failed)
        return false;
    if (!pn_add_size(b->len, n, &need) || (b->max && need > b->max) ||
        !pn_add_size(need, 1, &need)) {
        b->failed = true;
        return false;
    }
    if (need <= b->cap)
        return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need) {
        if (!pn_mul_size(cap, 2, &cap))
            cap = need;
    }
    char *data = realloc(b->data, cap);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

bool pn_buf_append(struct pn_buf *b, const void *bytes, size_t n)
{
    if (!buf_reserve(b, n))
        return false;
    if (n)
        memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = 0;
    return true;
}

bool pn_buf_str(struct pn_buf *b, const char *s)
{
    return pn_buf_append(b, s, strlen(s));
}

bool pn_buf_printf(struct pn_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    bool ok = n >= 0 && buf_reserve(b, (size_t)n);
    if (ok) {
        (void)vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    } else {
        b->failed = true;
    }
    va_end(again);
    return ok;
}

void pn_buf_free(struct pn_buf *b)
{
    free(b->data);
    *b = (struct pn_buf){ .max = b->max };
}

/* ---------------------------------------------------------------------------- arena */

#define CHUNK_BYTES ((size_t)64 << 10)

struct chunk {
    struct chunk *next;
    size_t used, cap;
    _Alignas(16) char data[];
};

struct pn_arena {
    struct chunk *head;
};

struct pn_arena *pn_arena_new(void)
{
    return calloc(1, sizeof(struct pn_arena));
}

void *pn_arena_alloc(struct pn_arena *a, size_t n_bytes)
{
    size_t n;
    if (!pn_add_size(n_bytes ? n_bytes : 1, 15, &n))
        return NULL;
    n &= ~(size_t)15;
    struct chunk *c = a->head;
    if (!c || c->cap - c->used < n) {
        size_t bytes;
        const size_t cap = n > CHUNK_BYTES / 4 ? n : CHUNK_BYTES;
        if (!pn_add_size(cap, sizeof *c, &bytes))
            return NULL;
        struct chunk *fresh = calloc(1, bytes);
        if (!fresh)
            return NULL;
        fresh->cap = cap;
        if (c && n > CHUNK_BYTES / 4) { /* a big one must not retire the chunk being filled */
            fresh->next = c->next;
            c->next = fresh;
        } else {
            fresh->next = c;
            a->head = fresh;
        }
        c = fresh;
    }
    void *p = c->data + c->used;
    c->used += n;
    return p;
}

char *pn_arena_strndup(struct pn_arena *a, const char *s, size_t n)
{
    size_t bytes;
    if (!pn_add_size(n, 1, &bytes))
        return NULL;
    char *p = pn_arena_alloc(a, bytes);
    if (p && n)
        memcpy(p, s, n);
    return p;
}

void pn_arena_free(struct pn_arena *a)
{
    if (!a)
        return;
    for (struct chunk *c = a->head; c;) {
        struct chunk *next = c->next;
        free(c);
        c = next;
    }
    free(a);
}
