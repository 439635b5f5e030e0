/* SPDX-License-Identifier: Apache-2.0 */
/* Register tiles of the 256-bit quantised products: up to 3 activation rows x 16 weight rows.
 *
 * avxvnni has VPDPBUSD. avx2 has VPMADDUBSW, which adds two products in int16, saturating: `chunk`
 * steps may be added up in int16 before VPMADDWD widens them, and multiplies them by their scale
 * while it is at it. chunk is chosen so that nothing can overflow:
 *   chunk * 2 * (largest weight byte) * 127 <= 32767
 *   8: 15 (4 bits)   4: 31 (5 bits), 7 (3 bits)   2: 63 (6 bits), 45 (Q2_K)   1: signed bytes,
 * |q| <= 128. Signed bytes go through the sign trick, |w| * sign(a, w); activations are never -128.
 *
 * So 32 multiply-adds take 1 + 1 / chunk instructions of the multiplier, and as many additions:
 * 2.25 in all for Q4_K, 2.5 for Q5_K, 3 for Q6_K; the sign trick 4 1/3. Two multiplications and four
 * instructions a cycle (Zen 5) bound Q4_K to 89 % of the VPMADDUBSW peak, Q5_K to 80, Q6_K to 67, and
 * the sign trick to 46. */
#ifndef PN_X86_TILE256_H
#define PN_X86_TILE256_H

#include "x86_mm.h"

INLINE __m256i bcast4(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm256_set1_epi32(v);
}

/* gcc reorders integer sums into trees, which keep every product alive until the end: far more than
 * sixteen registers. An empty instruction that "changes" the sum stops it. */
#define KEEP(x) __asm__("" : "+x"(x))

/* x[2][mr] += products of `steps` columns of four; w0, w1: two panels. Without VNNI times s0, s1:
 * int16 factors, each twice in its row's lane. */
INLINE void dot_steps(int mr, int chunk, int steps, __m256i x0[MR], __m256i x1[MR],
                      const uint8_t *w0, const uint8_t *w1, const int8_t *q, __m256i s0, __m256i s1)
{
#ifdef __AVXVNNI__
    (void)chunk;
    (void)s0;
    (void)s1;
    PRAGMA_UNROLL
    for (int k = 0; k < steps; k++) {
        const __m256i u0 = _mm256_load_si256((const void *)(w0 + 32 * k));
        const __m256i u1 = _mm256_load_si256((const void *)(w1 + 32 * k));
        PRAGMA_UNROLL
        for (int i = 0; i < mr; i++) {
            const __m256i b = bcast4(q + 256 * i + 4 * k);
            x0[i] = _mm256_dpbusd_avx_epi32(x0[i], u0, b);
            x1[i] = _mm256_dpbusd_avx_epi32(x1[i], u1, b);
        }
    }
#else
    PRAGMA_UNROLL
    for (int k0 = 0; k0 < steps; k0 += chunk) {
        __m256i y0[MR], y1[MR];
        PRAGMA_UNROLL
        for (int k = k0; k < k0 + chunk; k++) {
            const __m256i u0 = _mm256_load_si256((const void *)(w0 + 32 * k));
            const __m256i u1 = _mm256_load_si256((const void *)(w1 + 32 * k));
            PRAGMA_UNROLL
            for (int i = 0; i < mr; i++) {
                const __m256i b = bcast4(q + 256 * i + 4 * k);
                __m256i p0, p1;
                if (chunk == 1) {
                    p0 = _mm256_maddubs_epi16(_mm256_abs_epi8(u0), _mm256_sign_epi8(b, u0));
                    p1 = _mm256_maddubs_epi16(_mm256_abs_epi8(u1), _mm256_sign_epi8(b, u1));
                } else {
                    p0 = _mm256_maddubs_epi16(u0, b);
                    p1 = _mm256_maddubs_epi16(u1, b);
                }
                y0[i] = k == k0 ? p0 : _mm256_add_epi16(y0[i], p0);
                y1[i] = k == k0 ? p1 : _mm256_add_epi16(y1[i], p1);
                KEEP(y0[i]);
                KEEP(y1[i]);
            }
        }
        PRAGMA_UNROLL
        for (int i = 0; i < mr; i++) {
            x0[i] = _mm256_add_epi32(x0[i], _mm256_madd_epi16(y0[i], s0));
            x1[i] = _mm256_add_epi32(x1[i], _mm256_madd_epi16(y1[i], s1));
            KEEP(x0[i]);
            KEEP(x1[i]);
        }
    }
#endif
}

/* The rows' factors of the sums of sub-blocks 2p, 2p + 1: mins, or in INT_16 without VNNI the scales */
INLINE __m256i pair_factors(enum scheme scheme, const struct panel *t, int p)
{
    if (scheme != INT_16)
        return _mm256_load_si256((const void *)t->mn[p]);
    return _mm256_blend_epi16(_mm256_load_si256((const void *)t->s.sc[2 * p]),
                              _mm256_load_si256((const void *)t->s.sc[2 * p + 1]), 0xaa);
}

/* c[mr][16] += one super-block. scheme, chunk and mr are constants at every call. */
INLINE void tile_body(enum scheme scheme, int chunk, int mr, const struct panel *t,
                      const struct act_rows *a, int offset, const struct ahead *ahead, float *c)
{
    const int n_sub = scheme == INT_16 ? 16 : scheme == INT_1_MIN ? 1 : 8;
    const int steps = 64 / n_sub;
    const int has_offset = scheme == F32_32 || (WITH_VNNI && (scheme == INT_32 || scheme == INT_16));

    int32_t start[MR][16] __attribute__((aligned(32)));
    float sums[MR][8] __attribute__((aligned(32)));
    if (has_offset) {
        const __m256i neg = _mm256_set1_epi32(-offset);
        for (int i = 0; i < mr; i++) {
            const int16_t *s = scheme == INT_16 ? a->s16 + 16 * i : a->s32 + 8 * i;
            for (int g = 0; g < n_sub; g += 8) {
                const __m128i v = _mm_loadu_si128((const void *)(s + g));
                _mm256_store_si256((void *)(start[i] + g),
                                   _mm256_mullo_epi32(_mm256_cvtepi16_epi32(v), neg));
            }
        }
    }
    if (scheme == F32_32_MIN) {
        for (int i = 0; i < mr; i++) {
            const __m128i s = _mm_loadu_si128((const void *)(a->s32 + 8 * i));
            _mm256_store_ps(sums[i], _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(s)));
        }
    }

    const __m256i one = _mm256_set1_epi16(1);
    __m256i tot0[MR], tot1[MR]; /* integer sums, or f32 bits */
    PRAGMA_UNROLL
    for (int i = 0; i < mr; i++)
        tot0[i] = tot1[i] = _mm256_setzero_si256();

    struct ahead next = *ahead;
    for (int g = 0; g < n_sub; g++) {
        if (n_sub == 8 || (n_sub == 16 && g % 2 == 0))
            fetch_next(&next);
        const uint8_t *w0 = t[0].w[g * steps], *w1 = t[1].w[g * steps];
        const int8_t *q = a->q + 4 * g * steps;
        if (scheme == INT_1_MIN) {
            for (int k = 0; k < steps; k += 8) {
                fetch_next(&next);
                dot_steps(mr, chunk, 8, tot0, tot1, w0 + 32 * k, w1 + 32 * k, q + 4 * k, one, one);
            }
            break;
        }
        if (!is_f32(scheme) && !WITH_VNNI) {
            dot_steps(mr, chunk, steps, tot0, tot1, w0, w1, q,
                      _mm256_load_si256((const void *)t[0].s.sc[g]),
                      _mm256_load_si256((const void *)t[1].s.sc[g]));
            continue;
        }
        __m256i x0[MR], x1[MR];
        PRAGMA_UNROLL
        for (int i = 0; i < mr; i++)
            x0[i] = x1[i] = has_offset ? _mm256_set1_epi32(start[i][g]) : _mm256_setzero_si256();
        dot_steps(mr, chunk, steps, x0, x1, w0, w1, q, one, one);
        if (!is_f32(scheme)) {
            const __m256i s0 = _mm256_load_si256((const void *)t[0].s.sc[g]);
            const __m256i s1 = _mm256_load_si256((const void *)t[1].s.sc[g]);
            PRAGMA_UNROLL
            for (int i = 0; i < mr; i++) {
                tot0[i] = _mm256_add_epi32(tot0[i], _mm256_mullo_epi32(x0[i], s0));
                tot1[i] = _mm256_add_epi32(tot1[i], _mm256_mullo_epi32(x1[i], s1));
            }
        } else {
            const __m256 s0 = _mm256_load_ps(t[0].s.g.d[g]), s1 = _mm256_load_ps(t[1].s.g.d[g]);
            PRAGMA_UNROLL
            for (int i = 0; i < mr; i++) {
                __m256 y0 = _mm256_fmadd_ps(s0, _mm256_cvtepi32_ps(x0[i]),
                                            _mm256_castsi256_ps(tot0[i]));
                __m256 y1 = _mm256_fmadd_ps(s1, _mm256_cvtepi32_ps(x1[i]),
                                            _mm256_castsi256_ps(tot1[i]));
                if (scheme == F32_32_MIN) {
                    const __m256 s = _mm256_set1_ps(sums[i][g]);
                    y0 = _mm256_fmadd_ps(_mm256_load_ps(t[0].s.g.m[g]), s, y0);
                    y1 = _mm256_fmadd_ps(_mm256_load_ps(t[1].s.g.m[g]), s, y1);
                }
                tot0[i] = _mm256_castps_si256(y0);
                tot1[i] = _mm256_castps_si256(y1);
            }
        }
    }

    PRAGMA_UNROLL
    for (int i = 0; i < mr; i++) {
        __m256i j0 = _mm256_setzero_si256(), j1 = j0; /* factors of pairs times activation sums */
        const int pairs = scheme == INT_32_MIN ? 4 : 8;
        const int16_t *s = scheme == INT_32_MIN ? a->s32 + 8 * i : a->s16 + 16 * i;
        const int has_mins = scheme == INT_32_MIN || scheme == INT_1_MIN;
        if (has_mins || (scheme == INT_16 && !WITH_VNNI)) {
            PRAGMA_UNROLL
            for (int p = 0; p < pairs; p++) {
                const __m256i b = bcast4(s + 2 * p);
                j0 = _mm256_add_epi32(j0, _mm256_madd_epi16(pair_factors(scheme, &t[0], p), b));
                j1 = _mm256_add_epi32(j1, _mm256_madd_epi16(pair_factors(scheme, &t[1], p), b));
            }
        }
        if (scheme == INT_16 && !WITH_VNNI) {
            const __m256i off = _mm256_set1_epi32(offset);
            tot0[i] = _mm256_sub_epi32(tot0[i], _mm256_mullo_epi32(j0, off));
            tot1[i] = _mm256_sub_epi32(tot1[i], _mm256_mullo_epi32(j1, off));
        }
        __m256 y0, y1;
        if (is_f32(scheme)) {
            y0 = _mm256_castsi256_ps(tot0[i]);
            y1 = _mm256_castsi256_ps(tot1[i]);
        } else {
            y0 = _mm256_mul_ps(_mm256_load_ps(t[0].d), _mm256_cvtepi32_ps(tot0[i]));
            y1 = _mm256_mul_ps(_mm256_load_ps(t[1].d), _mm256_cvtepi32_ps(tot1[i]));
        }
        if (has_mins) {
            y0 = _mm256_fnmadd_ps(_mm256_load_ps(t[0].dmin), _mm256_cvtepi32_ps(j0), y0);
            y1 = _mm256_fnmadd_ps(_mm256_load_ps(t[1].dmin), _mm256_cvtepi32_ps(j1), y1);
        }
        const __m256 d = _mm256_set1_ps(a->d[i]);
        _mm256_store_ps(c + 16 * i, _mm256_fmadd_ps(y0, d, _mm256_load_ps(c + 16 * i)));
        _mm256_store_ps(c + 16 * i + 8, _mm256_fmadd_ps(y1, d, _mm256_load_ps(c + 16 * i + 8)));
    }
}

#define TILE(name, scheme, chunk, mr)                                                              \
    static __attribute__((noinline)) void tile_##name##_##mr(                                      \
        const struct panel *t, const struct act_rows *a, int offset, const struct ahead *ahead,    \
        float *c)                                                                                  \
    {                                                                                              \
        tile_body(scheme, chunk, mr, t, a, offset, ahead, c);                                      \
    }
#define TILES(name, scheme, chunk)                                                                 \
    TILE(name, scheme, chunk, 1)                                                                   \
    TILE(name, scheme, chunk, 2)                                                                   \
    TILE(name, scheme, chunk, 3)                                                                   \
    static tile_fn *const tiles_##name[MR + 1] = { NULL, tile_##name##_1, tile_##name##_2,         \
                                                   tile_##name##_3 };

#endif
