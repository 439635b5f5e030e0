/* SPDX-License-Identifier: Apache-2.0 */
/* Where the rows of a panel of weights are. */
#ifndef PN_X86_ROWS_H
#define PN_X86_ROWS_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kern/unroll.h"

/* The rows of a panel, a constant distance apart. Their addresses then fit in a few registers; sixteen pointers
 * would have to be loaded again and again, where loads are what a product with few rows waits for. */
typedef struct {
    const uint8_t *p;
    size_t step;
} rows_t;
INLINE rows_t rows_skip(rows_t row, int n, size_t bytes)
{
    return (rows_t){ row.p + (size_t)n * row.step + bytes, row.step };
}
/* p[i]: row i. Eight rows to a base: x86 multiplies an index by 1, 2, 4 and 8 while it loads. The compiler
 * must not know how the steps are related, or it makes pointers again. */
struct row_steps {
    const uint8_t *p, *p8;
    size_t s1, s3, s5, s7;
};
INLINE struct row_steps row_steps(rows_t row, size_t at)
{
    struct row_steps r = { row.p + at, NULL, row.step, 0, 0, 0 };
    __asm__("" : "+r"(r.p), "+r"(r.s1));
    r.s3 = 3 * r.s1;
    r.s5 = 5 * r.s1;
    r.s7 = 7 * r.s1;
    r.p8 = r.p + 8 * r.s1;
    __asm__("" : "+r"(r.p8), "+r"(r.s3), "+r"(r.s5), "+r"(r.s7));
    return r;
}
/* i is a constant */
INLINE const uint8_t *row_at(const struct row_steps *r, int i)
{
    const uint8_t *p = i < 8 ? r->p : r->p8;
    switch (i & 7) {
    case 0:
        return p;
    case 1:
        return p + r->s1;
    case 2:
        return p + 2 * r->s1;
    case 3:
        return p + r->s3;
    case 4:
        return p + 4 * r->s1;
    case 5:
        return p + r->s5;
    case 6:
        return p + 2 * r->s3;
    default:
        return p + r->s7;
    }
}

/* The last rows of a weight, when they do not fill a tile: one piece of each, copied, so that nothing past
 * them is read. The sums of the others are not stored. */
#define TAIL_ROWS 32
struct tail {
    uint8_t b[TAIL_ROWS][320];
};
INLINE rows_t tail_copy(struct tail *t, const uint8_t *w, size_t row_bytes, int rows, size_t bytes)
{
    for (int r = 0; r < rows; r++)
        memcpy(t->b[r], w + (size_t)r * row_bytes, bytes);
    return (rows_t){ t->b[0], sizeof t->b[0] };
}

/* Prefetches: in the order of the file, since few streams are faster than many, and a few at a time, since those in
 * bursts are dropped once the few miss buffers are taken. */
INLINE void fetch_lines(const uint8_t *p, int n)
{
    for (int i = 0; i < n; i++)
        _mm_prefetch((const char *)p + 64 * i, _MM_HINT_T0);
}

/* One `parts`th, in each of as many calls, of n rows: the first lines of each. */
INLINE void fetch_rows(rows_t row, int n, int lines, int part, int parts)
{
    for (int r = n * part / parts; r < n * (part + 1) / parts; r++)
        fetch_lines(row.p + (size_t)r * row.step, lines);
}

/* A jump to the next instruction, for code that runs straight on over hundreds of instructions: on Zen 5 it then comes
 * at four a cycle or slower, as if not from the cache of decoded instructions, until a jump is taken. That is what
 * products with streamed weights lost (bench/LOG.md). */
INLINE void short_jump(void)
{
    __asm__ volatile("jmp 1f\n1:");
}

/* The sums of a panel or a tile, n rows, to c, rows of them; n is a constant. */
INLINE void put_sums(float *c, const float *sums, int n, int32_t rows)
{
    if (rows >= n)
        memcpy(c, sums, (size_t)n * sizeof *c); /* of known length: no call, nor a slow string instruction */
    else
        memcpy(c, sums, (size_t)rows * sizeof *c);
}

#endif
