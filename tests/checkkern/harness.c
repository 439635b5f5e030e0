/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers, guarded memory, comparisons. */
#include "checkkern.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "quant/blocks.h"

/* ---- random numbers ---- */

uint64_t ck_rand(struct ck *ck)
{
    uint64_t z = ck->rng += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int32_t ck_range(struct ck *ck, int32_t lo, int32_t hi)
{
    return lo + (int32_t)(ck_rand(ck) % (uint64_t)((int64_t)hi - lo + 1));
}

int32_t ck_pick(struct ck *ck, const int32_t *list, int32_t n)
{
    return list[ck_range(ck, 0, n - 1)];
}

float ck_uniform(struct ck *ck, float lo, float hi)
{
    return lo + (hi - lo) * (float)(ck_rand(ck) >> 40) * 0x1p-24f;
}

float ck_normal(struct ck *ck)
{
    const uint64_t r = ck_rand(ck);
    float sum = -4.0f * 0.5f;
    for (int i = 0; i < 4; i++)
        sum += (float)(r >> (16 * i) & 0xffff) * 0x1p-16f;
    return sum * 1.7f;
}

int32_t ck_count(const struct ck *ck, int32_t n)
{
    const double scaled = n * ck->scale;
    return scaled < 1 ? 1 : (int32_t)scaled;
}

void ck_vector(struct ck *ck, float *x, int64_t n)
{
    const int shape = ck_range(ck, 0, 9);
    const float size = ck_range(ck, 0, 3) ? 1.0f : ldexpf(1.0f, ck_range(ck, -12, 10));
    for (int64_t i = 0; i < n; i++) {
        switch (shape) {
        case 0: /* equal */
            x[i] = size;
            break;
        case 1: /* zeros */
            x[i] = 0.0f;
            break;
        case 2: /* one spike over small noise */
            x[i] = 0.001f * ck_normal(ck) * size;
            break;
        case 3: /* extremes, signs at random */
            x[i] = ck_rand(ck) & 1 ? size : -size;
            break;
        case 4: /* equal, negative */
            x[i] = -size;
            break;
        case 5: /* below what has a scale at all, and denormals */
            x[i] = ck_normal(ck) * (i % 3 ? 1e-39f : 1e-33f);
            break;
        default:
            x[i] = ck_normal(ck) * size;
            break;
        }
    }
    if (shape == 2 && n > 0)
        x[ck_rand(ck) % (uint64_t)n] = 8.0f * size;
}

uint16_t ck_f16_scale(struct ck *ck)
{
    switch (ck_range(ck, 0, 15)) {
    case 0:
        return 0;
    case 1: /* denormal */
        return (uint16_t)((ck_rand(ck) & 0x83ff) | 1);
    case 2: /* large, but products stay finite */
        return pn_f32_to_f16(ck_uniform(ck, -900.0f, 900.0f));
    default:
        return pn_f32_to_f16(ck_uniform(ck, -0.25f, 0.25f));
    }
}

/* ---- memory ---- */

enum { PAGE = 65536 }; /* a multiple of every page size in use */
enum { CANARY = 256 };
static const uint8_t canary_byte = 0xa5;

static struct arena {
    uint8_t *base;     /* CK_ARENA_BYTES between unmapped pages */
    size_t at, bytes;  /* the operand in it */
} arenas[CK_ARENA_COUNT];

static uint8_t *arena_base(enum ck_arena i)
{
    if (arenas[i].base == NULL) {
        uint8_t *p = mmap(NULL, CK_ARENA_BYTES + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                          0);
        if (p == MAP_FAILED ||
            mprotect(p + PAGE, CK_ARENA_BYTES, PROT_READ | PROT_WRITE) != 0) {
            perror("checkkern: mmap");
            exit(1);
        }
        arenas[i].base = p + PAGE;
    }
    return arenas[i].base;
}

/* The canaries of an operand: up to CANARY bytes on each side, inside the arena. */
static void canary_spans(const struct arena *a, size_t *before, size_t *after)
{
    const size_t end = a->at + a->bytes, left = CK_ARENA_BYTES - end;
    *before = a->at < CANARY ? a->at : CANARY;
    *after = left < CANARY ? left : CANARY;
}

void *ck_place(struct ck *ck, enum ck_arena arena, size_t bytes, size_t align)
{
    struct arena *a = &arenas[arena];
    uint8_t *base = arena_base(arena);
    if (bytes + 64 > CK_ARENA_BYTES) {
        fprintf(stderr, "checkkern: an operand of %zu bytes does not fit its arena\n", bytes);
        exit(1);
    }
    a->bytes = bytes;
    switch (ck_range(ck, 0, 3)) {
    case 0:
        a->at = 0;
        break;
    case 1:
        a->at = align * (size_t)ck_range(ck, 0, (int32_t)(64 / align));
        break;
    default: /* most faults are behind the end */
        a->at = (CK_ARENA_BYTES - bytes) / align * align;
        break;
    }
    size_t before, after;
    canary_spans(a, &before, &after);
    memset(base + a->at - before, canary_byte, before);
    memset(base + a->at + bytes, canary_byte, after);
    return base + a->at;
}

bool ck_canaries(struct ck *ck)
{
    for (int i = 0; i < CK_ARENA_COUNT; i++) {
        const struct arena *a = &arenas[i];
        if (a->base == NULL)
            continue;
        size_t before, after;
        canary_spans(a, &before, &after);
        for (size_t j = 1; j <= before; j++) {
            if (a->base[a->at - j] != canary_byte)
                return ck_fail(ck, "wrote %zu bytes in front of operand %d", j, i);
        }
        for (size_t j = 0; j < after; j++) {
            if (a->base[a->at + a->bytes + j] != canary_byte)
                return ck_fail(ck, "wrote %zu bytes behind the end of operand %d", j, i);
        }
    }
    return true;
}

#define POISON 0x7fc0deadu

void ck_poison(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = pn_f32_from_bits(POISON);
}

void *ck_scratch(int index)
{
    static void *buffers[4];
    if (buffers[index] == NULL) {
        buffers[index] = aligned_alloc(64, CK_ARENA_BYTES);
        if (buffers[index] == NULL) {
            fprintf(stderr, "checkkern: no memory\n");
            exit(1);
        }
    }
    return buffers[index];
}

/* ---- verdicts ---- */

void ck_case(struct ck *ck, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(ck->what, sizeof ck->what, fmt, ap);
    va_end(ap);
    ck->cases++;
}

bool ck_fail(struct ck *ck, const char *fmt, ...)
{
    if (ck->failure[0] == '\0') {
        char text[300];
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        snprintf(ck->failure, sizeof ck->failure, "%s: %s", ck->what, text);
    }
    return false;
}

static bool same_value(float a, float b)
{
    return pn_f32_bits(a) == pn_f32_bits(b) || a == b || (isnan(a) && isnan(b));
}

bool ck_same(struct ck *ck, const char *name, const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!same_value(got[i], want[i]))
            return ck_fail(ck, "%s[%zu of %zu] = %a (%.9g), reference %a (%.9g)", name, i, n,
                           (double)got[i], (double)got[i], (double)want[i], (double)want[i]);
    }
    return true;
}

bool ck_same_bytes(struct ck *ck, const char *name, const void *got, const void *want, size_t n)
{
    const uint8_t *g = got, *w = want;
    for (size_t i = 0; i < n; i++) {
        if (g[i] != w[i])
            return ck_fail(ck, "%s: byte %zu of %zu is 0x%02x, reference 0x%02x", name, i, n, g[i],
                           w[i]);
    }
    return true;
}

bool ck_gaps(struct ck *ck, const float *c, int32_t m, int32_t n, size_t ld)
{
    for (int32_t i = 0; i + 1 < m; i++) {
        for (size_t j = (size_t)n; j < ld; j++) {
            if (pn_f32_bits(c[(size_t)i * ld + j]) != POISON)
                return ck_fail(ck, "wrote row %d column %zu of %d columns", i, j, n);
        }
    }
    return true;
}

bool ck_same_matrix(struct ck *ck, const float *got, const float *want, int32_t m, int32_t n,
                    size_t ld)
{
    for (int32_t i = 0; i < m; i++) {
        for (int32_t j = 0; j < n; j++) {
            const float g = got[(size_t)i * ld + (size_t)j], w = want[(size_t)i * ld + (size_t)j];
            if (!same_value(g, w) || pn_f32_bits(g) == POISON)
                return ck_fail(ck, "c[%d][%d] = %a (%.9g), reference %a (%.9g)", i, j, (double)g,
                               (double)g, (double)w, (double)w);
        }
    }
    return ck_gaps(ck, got, m, n, ld);
}
