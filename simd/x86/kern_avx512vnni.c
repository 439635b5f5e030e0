/* SPDX-License-Identifier: Apache-2.0 */
/* Quantised matrix products with VPDPBUSD: the mm[] slots of the avx512vnni tier.
 *
 * 32 weight rows x one super-block are unpacked to a tile in L1: unsigned
 * bytes, [k/4][16 rows][4], so that one instruction multiplies four columns of 16 rows with four
 * broadcast activations, and no horizontal sum is ever needed. All m activation rows then pass over
 * the tile in register tiles of up to 6 x 32 outputs. The transposition is done on pieces of 16 or 32 bytes
 * of the packed nibbles, before they are split, and costs about as much as two activation rows. Q4_K and Q6_K, which
 * most weights are, and Q8_0 have paths of their own for the fewest rows (x86_row512.h, x86_row256.h), Q4_K and Q6_K
 * others for few (x86_few512.h, x86_duo512.h).
 *
 * VPDPBUSD wants unsigned weights. Types whose q is signed are stored as u = q + offset, and the
 * sum of a sub-block starts at -offset * (sum of its activations) instead of 0: all integers,
 * exact. */
#ifndef __AVX512VNNI__
#error "build this file with the flags of the avx512vnni tier"
#endif

#include <immintrin.h>
#include <string.h>

#include "kern/kern.h"
#include "quant/blocks.h"
#define ISA(name) name##_avx512vnni
#define MR 6
#include "x86_mm512.h"

#include "x86_mm.h"

#include "x86_few512.h"
#include "x86_duo512.h"
#include "x86_row512.h"

INLINE __m512i bcast4(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
}

/* c[mr][32] += one super-block. scheme and mr are constants at every call. */
INLINE void tile_body(enum scheme scheme, int mr, const struct panel *t, const struct act_rows *a,
                      int offset, const struct ahead *ahead, float *c)
{
    const int n_sub = scheme == INT_16 ? 16 : scheme == INT_1_MIN ? 1 : 8;
    const int steps = 64 / n_sub; /* of four columns, per sub-block */
    const int has_offset = scheme == INT_32 || scheme == INT_16 || scheme == F32_32;

    int32_t start[MR][16] __attribute__((aligned(64)));
    float sums[MR][8] __attribute__((aligned(32)));
    if (has_offset) {
        const __m512i neg = _mm512_set1_epi32(-offset);
        for (int i = 0; i < mr; i++) {
            if (scheme == INT_16) {
                const __m256i s = _mm256_loadu_si256((const void *)(a->s16 + 16 * i));
                _mm512_store_si512(start[i], _mm512_mullo_epi32(_mm512_cvtepi16_epi32(s), neg));
            } else {
                const __m128i s = _mm_loadu_si128((const void *)(a->s32 + 8 * i));
                _mm256_store_si256(
                    (void *)start[i],
                    _mm256_mullo_epi32(_mm256_cvtepi16_epi32(s), _mm512_castsi512_si256(neg)));
            }
        }
    }
    if (scheme == F32_32_MIN) {
        for (int i = 0; i < mr; i++) {
            const __m128i s = _mm_loadu_si128((const void *)(a->s32 + 8 * i));
            _mm256_store_ps(sums[i], _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(s)));
        }
    }

    __m512i tot0[MR], tot1[MR]; /* integer sums, or f32 bits */
    PRAGMA_UNROLL
    for (int i = 0; i < mr; i++)
        tot0[i] = tot1[i] = _mm512_setzero_si512();

    struct ahead next = *ahead;
    for (int g = 0; g < n_sub; g++) {
        if (n_sub == 8 || (n_sub == 16 && g % 2 == 0))
            fetch_next(&next);
        __m512i x0[MR], x1[MR];
        PRAGMA_UNROLL
        for (int i = 0; i < mr; i++)
            x0[i] = x1[i] = has_offset ? _mm512_set1_epi32(start[i][g]) : _mm512_setzero_si512();
        const uint8_t *w0 = t[0].w[g * steps], *w1 = t[1].w[g * steps];
        const int8_t *q = a->q + 4 * g * steps;
#define STEP(k)                                                                                    \
    do {                                                                                           \
        const __m512i u0 = _mm512_load_si512(w0 + 64 * (k)),                                       \
                      u1 = _mm512_load_si512(w1 + 64 * (k));                                       \
        PRAGMA_UNROLL                                                                              \
        for (int i = 0; i < mr; i++) {                                                             \
            const __m512i b = bcast4(q + 256 * i + 4 * (k));                                       \
            x0[i] = _mm512_dpbusd_epi32(x0[i], u0, b);                                             \
            x1[i] = _mm512_dpbusd_epi32(x1[i], u1, b);                                             \
        }                                                                                          \
    } while (0)
        if (steps <= 8) {
            PRAGMA_UNROLL
            for (int k = 0; k < steps; k++)
                STEP(k);
        } else {
            for (int k = 0; k < steps; k += 8) {
                fetch_next(&next);
                STEP(k);
                STEP(k + 1);
                STEP(k + 2);
                STEP(k + 3);
                STEP(k + 4);
                STEP(k + 5);
                STEP(k + 6);
                STEP(k + 7);
            }
        }
#undef STEP
        if (scheme == INT_1_MIN) {
            PRAGMA_UNROLL
            for (int i = 0; i < mr; i++) {
                tot0[i] = x0[i];
                tot1[i] = x1[i];
            }
        } else if (!is_f32(scheme)) {
            const __m512i s0 = _mm512_load_si512(t[0].s.sc[g]),
                          s1 = _mm512_load_si512(t[1].s.sc[g]);
            PRAGMA_UNROLL
            for (int i = 0; i < mr; i++) {
                tot0[i] = _mm512_add_epi32(tot0[i], _mm512_mullo_epi32(x0[i], s0));
                tot1[i] = _mm512_add_epi32(tot1[i], _mm512_mullo_epi32(x1[i], s1));
            }
        } else {
            const __m512 s0 = _mm512_load_ps(t[0].s.g.d[g]), s1 = _mm512_load_ps(t[1].s.g.d[g]);
            PRAGMA_UNROLL
            for (int i = 0; i < mr; i++) {
                __m512 y0 = _mm512_fmadd_ps(s0, _mm512_cvtepi32_ps(x0[i]),
                                            _mm512_castsi512_ps(tot0[i]));
                __m512 y1 = _mm512_fmadd_ps(s1, _mm512_cvtepi32_ps(x1[i]),
                                            _mm512_castsi512_ps(tot1[i]));
                if (scheme == F32_32_MIN) {
                    const __m512 s = _mm512_set1_ps(sums[i][g]);
                    y0 = _mm512_fmadd_ps(_mm512_load_ps(t[0].s.g.m[g]), s, y0);
                    y1 = _mm512_fmadd_ps(_mm512_load_ps(t[1].s.g.m[g]), s, y1);
                }
                tot0[i] = _mm512_castps_si512(y0);
                tot1[i] = _mm512_castps_si512(y1);
            }
        }
    }

    PRAGMA_UNROLL
    for (int i = 0; i < mr; i++) {
        __m512 y0, y1;
        if (is_f32(scheme)) {
            y0 = _mm512_castsi512_ps(tot0[i]);
            y1 = _mm512_castsi512_ps(tot1[i]);
        } else {
            y0 = _mm512_mul_ps(_mm512_load_ps(t[0].d), _mm512_cvtepi32_ps(tot0[i]));
            y1 = _mm512_mul_ps(_mm512_load_ps(t[1].d), _mm512_cvtepi32_ps(tot1[i]));
        }
        if (scheme == INT_32_MIN || scheme == INT_1_MIN) {
            const int pairs = scheme == INT_32_MIN ? 4 : 8;
            const int16_t *s = scheme == INT_32_MIN ? a->s32 + 8 * i : a->s16 + 16 * i;
            __m512i j0 = _mm512_setzero_si512(), j1 = j0;
            PRAGMA_UNROLL
            for (int p = 0; p < pairs; p++) {
                const __m512i b = bcast4(s + 2 * p);
                j0 = _mm512_dpwssd_epi32(j0, _mm512_load_si512(t[0].mn[p]), b);
                j1 = _mm512_dpwssd_epi32(j1, _mm512_load_si512(t[1].mn[p]), b);
            }
            y0 = _mm512_fnmadd_ps(_mm512_load_ps(t[0].dmin), _mm512_cvtepi32_ps(j0), y0);
            y1 = _mm512_fnmadd_ps(_mm512_load_ps(t[1].dmin), _mm512_cvtepi32_ps(j1), y1);
        }
        const __m512 d = _mm512_set1_ps(a->d[i]);
        _mm512_store_ps(c + 32 * i, _mm512_fmadd_ps(y0, d, _mm512_load_ps(c + 32 * i)));
        _mm512_store_ps(c + 32 * i + 16, _mm512_fmadd_ps(y1, d, _mm512_load_ps(c + 32 * i + 16)));
    }
}

#define TILE(scheme, mr)                                                                                  \
    static __attribute__((noinline)) void tile_##scheme##_##mr(                                           \
        const struct panel *t, const struct act_rows *a, int offset, const struct ahead *ahead, float *c) \
    {                                                                                                     \
        tile_body(scheme, mr, t, a, offset, ahead, c);                                                    \
    }
#define TILES(scheme)                                                                              \
    TILE(scheme, 1)                                                                                \
    TILE(scheme, 2)                                                                                \
    TILE(scheme, 3)                                                                                \
    TILE(scheme, 4)                                                                                \
    TILE(scheme, 5)                                                                                \
    TILE(scheme, 6)                                                                                \
    static tile_fn *const tiles_##scheme[MR + 1] = { NULL,                                         \
                                                     tile_##scheme##_1,                            \
                                                     tile_##scheme##_2,                            \
                                                     tile_##scheme##_3,                            \
                                                     tile_##scheme##_4,                            \
                                                     tile_##scheme##_5,                            \
                                                     tile_##scheme##_6 };
TILES(INT_32)
TILES(INT_32_MIN)
TILES(INT_16)
TILES(INT_1_MIN)
TILES(F32_32)
TILES(F32_32_MIN)

MM_TILES(q4_k, INT_32_MIN, 0, 1)
static void ISA(mm_q4_k)(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n, const struct pn_act *a,
                         int32_t m0, int32_t m)
{
    if (m > 0 && m <= ROW_MAX_Q4_K && row_can(a, m))
        rows_q4_k[m](c, ldc, w, row_bytes, n, a, m0);
    else if (m > 0 && m <= FEW_MAX)
        mm_few(c, ldc, w, row_bytes, n, a, m0, m);
    else
        mm_tiles_q4_k(c, ldc, w, row_bytes, n, a, m0, m);
}

MM_TILES(q6_k, INT_16, 32, 1)
static void ISA(mm_q6_k)(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n, const struct pn_act *a,
                         int32_t m0, int32_t m)
{
    if (m > 0 && m <= ROW_MAX_Q6_K && row_can(a, m))
        rows_q6_k[m](c, ldc, w, row_bytes, n, a, m0);
    else if (m > 1 && m <= DUO_MAX) {
        const int32_t whole = n - n % NR;
        if (whole > 0)
            mm_duo_q6_k(c, ldc, w, row_bytes, whole, a, m0, m);
        mm_tiles_q6_k(c + whole, ldc, (const uint8_t *)w + (size_t)whole * row_bytes, row_bytes, n - whole, a, m0, m);
    } else
        mm_tiles_q6_k(c, ldc, w, row_bytes, n, a, m0, m);
}

MM(q5_k, INT_32_MIN, 0, 1)
MM(q3_k, INT_16, 4, 1)
MM(q2_k, INT_1_MIN, 0, 1)
MM(iq4_xs, INT_32, 128, 1)
/* One row waits for memory, and avx2's kernel reads row after row, where k allows it. */
MM_TILES(q8_0, F32_32, 128, 8)
static void ISA(mm_q8_0)(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n, const struct pn_act *a,
                         int32_t m0, int32_t m)
{
    if (m == 1 && a->nb <= ROW_NB_MAX)
        pn_mm_avx2[PN_Q8_0](c, ldc, w, row_bytes, n, a, m0, m);
    else
        mm_tiles_q8_0(c, ldc, w, row_bytes, n, a, m0, m);
}

MM(q4_0, F32_32, 8, 8)
MM(q5_0, F32_32, 16, 8)
MM(iq4_nl, F32_32, 128, 8)
MM(q4_1, F32_32_MIN, 0, 8)
MM(q5_1, F32_32_MIN, 0, 8)

mm_fn *const pn_mm_avx512vnni[PN_TYPE_COUNT] = { MM_LIST(LIST_ONE) };

static uint64_t ISA(peak_int8)(uint64_t iters)
{
    enum { CHAINS = 16 };
    __m512i x[CHAINS];
    const __m512i u = _mm512_set1_epi32((int)iters), v = _mm512_set1_epi8(3);
    PRAGMA_UNROLL
    for (int i = 0; i < CHAINS; i++)
        x[i] = _mm512_set1_epi32(i);
    uint64_t done = 0;
    for (; done < iters; done += CHAINS) {
        PRAGMA_UNROLL
        for (int i = 0; i < CHAINS; i++)
            x[i] = _mm512_dpbusd_epi32(x[i], u, v);
    }
    volatile unsigned sink = 0;
    for (int i = 0; i < CHAINS; i++)
        sink = sink + (unsigned)_mm512_cvtsi512_si32(x[i]);
    return done * 64 * 2;
}

void pn_kern_init_avx512vnni(struct pn_kern *k)
{
    FILL_MM(MR, NR);
    k->prefer_int8 = 1;
    k->peak_int8 = ISA(peak_int8);
}
