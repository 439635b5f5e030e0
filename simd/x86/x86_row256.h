/* SPDX-License-Identifier: Apache-2.0 */
/* Products with few activation rows, which wait for memory: weight row after row, so that the weights are read
 * strictly in order (x86_row512.h says why).
 *
 * A row is multiplied lane by lane. In Q4_K, Q5_K and Q6_K the sum of two products (four with VPDPBUSD) fits 16 bits
 * and is multiplied with its sub-block's scale by VPMADDWD or VPDPWSSD; what is left is a vector of eight parts per
 * super-block. In Q4_0 and Q8_0 it is one of the sums of eight blocks. The rest is done for four rows and eight
 * super-blocks at once: by then all of it has left the store buffers, from which vectors cannot be had in parts.
 * Integer sums are exact and the float operations those of x86_tile256.h in their order: so the bits are the same. */
#ifndef PN_X86_ROW256_H
#define PN_X86_ROW256_H

#include "x86_mm.h"
#include "x86_tile256.h"

#define ROW_MAX 4      /* activation rows */
#define ROW_TURN 4     /* weight rows whose sums are finished together */
#define ROW_GROUPS (ROW_NB_MAX / 8) /* of eight super-blocks */

/* What is left of ROW_TURN weight rows; lanes are super-blocks, but in x. */
struct row_sums {
    __m256i x[ROW_TURN][ROW_MAX][8 * ROW_GROUPS]; /* of a super-block: parts of its sum, or sums of its blocks */
    __m256i j[ROW_TURN][ROW_MAX][ROW_GROUPS];     /* sums of mins */
    __m256 d[ROW_TURN][ROW_GROUPS], dmin[ROW_TURN][ROW_GROUPS];
    uint16_t d16[ROW_TURN][ROW_GROUPS][8][8]; /* Q4_0, Q8_0: [block][super-block]; Q6_K: [0][super-block] */
};

/* The activations' sums of sub-blocks 2i, 2i + 1: [activation row][i] */
typedef __m256i row_pairs_t[ROW_MAX][4];

INLINE int row_is_32(enum pn_type type)
{
    return type == PN_Q8_0 || type == PN_Q4_0;
}

INLINE size_t row_block_bytes(enum pn_type type)
{
    switch (type) {
    case PN_Q4_0:
        return sizeof(struct pn_q4_0);
    case PN_Q8_0:
        return sizeof(struct pn_q8_0);
    case PN_Q4_K:
        return sizeof(struct pn_q4_k);
    case PN_Q5_K:
        return sizeof(struct pn_q5_k);
    default:
        return sizeof(struct pn_q6_k);
    }
}

/* sums of four products of u (unsigned bytes) and v */
INLINE __m256i row_dot4(__m256i u, __m256i v)
{
#if WITH_VNNI
    return _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), u, v);
#else
    return _mm256_madd_epi16(_mm256_maddubs_epi16(u, v), _mm256_set1_epi16(1));
#endif
}

/* total + the products of u (unsigned bytes) and q times the scales, which lie as store_scales() has them */
INLINE __m256i row_dot(__m256i total, __m256i u, const int8_t *q, __m256i scales)
{
    const __m256i v = _mm256_load_si256((const void *)q);
#if WITH_VNNI
    /* the upper half of a sum of four is its sign, and that of the scale 0 */
    return _mm256_dpwssd_avx_epi32(total, row_dot4(u, v), scales);
#else
    return _mm256_add_epi32(total, _mm256_madd_epi16(_mm256_maddubs_epi16(u, v), scales));
#endif
}

INLINE __m256i row_two_lanes(const void *low, const void *high)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(low)), _mm_loadu_si128(high), 1);
}

/* lane i: the sum of the lanes of x[i] */
INLINE __m256i row_add_lanes(const __m256i x[8])
{
    __m256i a[4];
    PRAGMA_UNROLL
    for (int i = 0; i < 4; i++)
        a[i] = _mm256_add_epi32(_mm256_permute2x128_si256(x[i], x[i + 4], 0x20),
                                _mm256_permute2x128_si256(x[i], x[i + 4], 0x31));
    return _mm256_hadd_epi32(_mm256_hadd_epi32(a[0], a[1]), _mm256_hadd_epi32(a[2], a[3]));
}

/* The headers of eight super-blocks of Q4_K or Q5_K, `bytes` apart from p on: their scales, as store_scales() has
 * them, and what s keeps of group g of row r. A constant distance and one shuffle a scale make it faster than
 * header_k(). */
INLINE void row_header(size_t bytes, int m, int32_t scales[8][LANES], struct row_sums *s, int r, int g,
                       const uint8_t *p, const row_pairs_t pairs)
{
    const __m256i m63 = _mm256_set1_epi8(63), m48 = _mm256_set1_epi8(48), m15 = _mm256_set1_epi8(15);
    __m256i z[4];
    PRAGMA_UNROLL
    for (int i = 0; i < 4; i++, p += bytes) {
        z[i] = row_two_lanes(p, p + 4 * bytes);
    }
    const __m256i a = _mm256_unpacklo_epi32(z[0], z[1]), b = _mm256_unpackhi_epi32(z[0], z[1]);
    const __m256i c = _mm256_unpacklo_epi32(z[2], z[3]), d = _mm256_unpackhi_epi32(z[2], z[3]);
    const __m256i d16 = _mm256_unpacklo_epi64(a, c), first = _mm256_unpackhi_epi64(a, c);
    const __m256i second = _mm256_unpacklo_epi64(b, d), both = _mm256_unpackhi_epi64(b, d);
    const __m256i sc[2] = { _mm256_and_si256(first, m63),
                            _mm256_or_si256(_mm256_and_si256(both, m15),
                                            _mm256_and_si256(_mm256_srli_epi16(first, 2), m48)) };
    const __m256i mn[2] = { _mm256_and_si256(second, m63),
                            _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(both, 4), m15),
                                            _mm256_and_si256(_mm256_srli_epi16(second, 2), m48)) };
    PRAGMA_UNROLL
    for (int i = 0; i < 8; i++)
        vi_store(scales[i], vi_shuffle(sc[i / 4], bytes16(i % 4, -1, WITH_VNNI ? -1 : i % 4, -1)));
    __m256i mins[4];
    PRAGMA_UNROLL
    for (int i = 0; i < 4; i++)
        mins[i] = vi_shuffle(mn[i / 2], bytes16(2 * (i % 2), -1, 2 * (i % 2) + 1, -1));
    PRAGMA_UNROLL
    for (int i = 0; i < m; i++) {
        const __m256i j01 = _mm256_add_epi32(_mm256_madd_epi16(mins[0], pairs[i][0]),
                                             _mm256_madd_epi16(mins[1], pairs[i][1]));
        const __m256i j23 = _mm256_add_epi32(_mm256_madd_epi16(mins[2], pairs[i][2]),
                                             _mm256_madd_epi16(mins[3], pairs[i][3]));
        s->j[r][i][g] = _mm256_add_epi32(j01, j23);
    }
    vi_store_f16((float *)&s->d[r][g], d16);
    vi_store_f16((float *)&s->dmin[r][g], vi_srl(d16, 16));
}

/* x[j][0] = the super-block of Q4_K or Q5_K at p times row j of q; its scales are dwords LANES apart */
INLINE void row_q45_k(enum pn_type type, int m, __m256i (*x)[8 * ROW_GROUPS], const uint8_t *p, const int32_t *scales,
                      const int8_t *q)
{
    const __m256i low = _mm256_set1_epi8(15), fifth = _mm256_set1_epi8(16);
    const int five = type == PN_Q5_K;
    __m256i total[ROW_MAX], h;
    row_fetch(p, five ? sizeof(struct pn_q5_k) : sizeof(struct pn_q4_k));
    if (five)
        h = _mm256_loadu_si256((const void *)(p + offsetof(struct pn_q5_k, qh)));
    p += five ? offsetof(struct pn_q5_k, qs) : offsetof(struct pn_q4_k, qs);
    PRAGMA_UNROLL
    for (int j = 0; j < m; j++)
        total[j] = _mm256_setzero_si256();
    PRAGMA_UNROLL
    for (int s = 0; s < 4; s++) {
        __m256i w = _mm256_loadu_si256((const void *)(p + 32 * s));
        KEEP(w); /* gcc would load it twice */
        __m256i u = _mm256_and_si256(w, low), v = _mm256_and_si256(_mm256_srli_epi16(w, 4), low);
        if (five) { /* bits 2s and 2s + 1 */
            const __m256i hu = s < 2 ? _mm256_slli_epi16(h, 4 - 2 * s) : _mm256_srli_epi16(h, 2 * s - 4);
            const __m256i hv = s < 2 ? _mm256_slli_epi16(h, 3 - 2 * s) : _mm256_srli_epi16(h, 2 * s - 3);
            u = _mm256_or_si256(u, _mm256_and_si256(hu, fifth));
            v = _mm256_or_si256(v, _mm256_and_si256(hv, fifth));
        }
        const __m256i su = _mm256_set1_epi32(scales[LANES * 2 * s]);
        const __m256i sv = _mm256_set1_epi32(scales[LANES * (2 * s + 1)]);
        PRAGMA_UNROLL
        for (int j = 0; j < m; j++) {
            total[j] = row_dot(total[j], u, q + 256 * j + 64 * s, su);
            KEEP(total[j]);
            total[j] = row_dot(total[j], v, q + 256 * j + 64 * s + 32, sv);
            KEEP(total[j]);
        }
    }
    PRAGMA_UNROLL
    for (int j = 0; j < m; j++)
        x[j][0] = total[j];
}

INLINE void row_q6_k(int m, __m256i (*x)[8 * ROW_GROUPS], const struct pn_q6_k *b, const int8_t *q, const int16_t *s16)
{
    const __m256i m15 = _mm256_set1_epi8(15), m48 = _mm256_set1_epi8(48);
    /* of the scales as int16 the first in the lower lane, the second in the upper, as store_scales() has them */
    const __m256i first = _mm256_add_epi8(_mm256_set1_epi32(WITH_VNNI ? (int)0x80800100 : 0x01000100),
                                          _mm256_set_epi64x(0x0202020202020202, 0x0202020202020202, 0, 0));
    __m256i total[ROW_MAX];
    row_fetch(b->ql, sizeof *b);
    const __m256i sc = _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)b->scales));
    const __m256i sc32 = _mm256_slli_epi16(sc, 5); /* the offset */
    PRAGMA_UNROLL
    for (int j = 0; j < m; j++)
        total[j] = _mm256_sub_epi32(_mm256_setzero_si256(),
                                    _mm256_madd_epi16(sc32, _mm256_loadu_si256((const void *)(s16 + 16 * j))));
    PRAGMA_UNROLL
    for (int half = 0; half < 2; half++) {
        const int8_t *r = q + 128 * half;
        __m256i l0 = _mm256_loadu_si256((const void *)(b->ql + 64 * half));
        __m256i l1 = _mm256_loadu_si256((const void *)(b->ql + 64 * half + 32));
        __m256i h = _mm256_loadu_si256((const void *)(b->qh + 32 * half));
        KEEP(l0);
        KEEP(l1);
        KEEP(h);
        const __m256i u[4] = {
            _mm256_or_si256(_mm256_and_si256(l0, m15), _mm256_and_si256(_mm256_slli_epi16(h, 4), m48)),
            _mm256_or_si256(_mm256_and_si256(l1, m15), _mm256_and_si256(_mm256_slli_epi16(h, 2), m48)),
            _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(l0, 4), m15), _mm256_and_si256(h, m48)),
            _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(l1, 4), m15),
                            _mm256_and_si256(_mm256_srli_epi16(h, 2), m48)),
        };
        /* the scales of these eight sub-blocks in both lanes */
        const __m256i of = half ? _mm256_permute4x64_epi64(sc, 0xee) : _mm256_permute4x64_epi64(sc, 0x44);
        PRAGMA_UNROLL
        for (int k = 0; k < 4; k++) {
            const __m256i scales = _mm256_shuffle_epi8(of, _mm256_add_epi8(first, _mm256_set1_epi8((char)(4 * k))));
            PRAGMA_UNROLL
            for (int j = 0; j < m; j++) {
                total[j] = row_dot(total[j], u[k], r + 256 * j + 32 * k, scales);
                KEEP(total[j]);
            }
        }
    }
    PRAGMA_UNROLL
    for (int j = 0; j < m; j++)
        x[j][0] = total[j];
}

/* Columns become rows. */
INLINE void row_transpose(__m256 x[8])
{
    __m256 a[8], b[8];
    PRAGMA_UNROLL
    for (int i = 0; i < 4; i++) {
        a[i] = _mm256_unpacklo_ps(x[2 * i], x[2 * i + 1]);
        a[i + 4] = _mm256_unpackhi_ps(x[2 * i], x[2 * i + 1]);
    }
    PRAGMA_UNROLL
    for (int i = 0; i < 2; i++) {
        b[4 * i] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 1], 0x44);
        b[4 * i + 1] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 1], 0xee);
        b[4 * i + 2] = _mm256_shuffle_ps(a[4 * i + 2], a[4 * i + 3], 0x44);
        b[4 * i + 3] = _mm256_shuffle_ps(a[4 * i + 2], a[4 * i + 3], 0xee);
    }
    PRAGMA_UNROLL
    for (int i = 0; i < 2; i++) {
        PRAGMA_UNROLL
        for (int k = 0; k < 2; k++) {
            x[2 * i + k] = _mm256_permute2f128_ps(b[4 * i + k], b[4 * i + k + 2], 0x20);
            x[2 * i + k + 4] = _mm256_permute2f128_ps(b[4 * i + k], b[4 * i + k + 2], 0x31);
        }
    }
}

/* Lanes of x[b]: the sums of the blocks of 32 of super-block b, d16[block][b] their scales, copied between the
 * products, since as a loop of their own they take as long as those; n <= 64 blocks from p on. The activations of the
 * next super-block and their sums are q_step and q_step / 32 away. */
INLINE void row_blocks32(enum pn_type type, __m256i x[8], uint16_t d16[8][8], const uint8_t *p, int n, const int8_t *q,
                         size_t q_step, const int16_t *s32)
{
    const size_t bytes = row_block_bytes(type);
    const __m256i low = _mm256_set1_epi8(15);
    uint8_t tail[8 * sizeof(struct pn_q8_0)];
    for (int b = 0; 8 * b < n; b++, p += 8 * bytes, q += q_step, s32 += q_step / 32) {
        row_fetch(p, 8 * bytes);
        if (n - 8 * b < 8) {
            memset(tail, 0, sizeof tail);
            p = memcpy(tail, p, (size_t)(n - 8 * b) * bytes);
        }
        __m256i y[8];
        if (type == PN_Q8_0) {
            PRAGMA_UNROLL
            for (int i = 0; i < 8; i++) { /* |w| * (a with the sign of w) */
                const struct pn_q8_0 *w = (const struct pn_q8_0 *)p + i;
                const __m256i v = _mm256_loadu_si256((const void *)w->qs);
                const __m256i a = _mm256_load_si256((const void *)(q + 32 * i));
                y[i] = row_dot4(_mm256_abs_epi8(v), _mm256_sign_epi8(a, v));
                memcpy(&d16[i][b], w->d, sizeof w->d);
            }
            x[b] = row_add_lanes(y);
        } else {
            PRAGMA_UNROLL
            for (int i = 0; i < 4; i++) { /* a block in each lane */
                const struct pn_q4_0 *w = (const struct pn_q4_0 *)p + 2 * i;
                const int8_t *a = q + 64 * i;
                __m256i v = row_two_lanes(w[0].qs, w[1].qs);
                const __m256i u = _mm256_and_si256(v, low), a0 = row_two_lanes(a, a + 32);
                const __m256i a1 = row_two_lanes(a + 16, a + 48);
                v = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
#if WITH_VNNI
                y[i] = _mm256_dpbusd_avx_epi32(row_dot4(u, a0), v, a1);
#else
                y[i] = _mm256_madd_epi16(_mm256_add_epi16(_mm256_maddubs_epi16(u, a0), _mm256_maddubs_epi16(v, a1)),
                                         _mm256_set1_epi16(1));
#endif
                memcpy(&d16[2 * i][b], w[0].d, sizeof w->d);
                memcpy(&d16[2 * i + 1][b], w[1].d, sizeof w->d);
            }
            const __m256i sum = _mm256_hadd_epi32(_mm256_hadd_epi32(y[0], y[1]), _mm256_hadd_epi32(y[2], y[3]));
            const __m256i s = _mm256_cvtepi16_epi32(_mm_loadu_si128((const void *)s32));
            x[b] = _mm256_sub_epi32(_mm256_permutevar8x32_epi32(sum, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)),
                                    _mm256_slli_epi32(s, 3)); /* the offset of 8 */
        }
    }
}

/* The terms t of eight super-blocks from what row_blocks32() left. */
INLINE __m256 row_terms32(const __m256i x[8], const uint16_t d16[8][8])
{
    __m256 y[8], t = _mm256_setzero_ps();
    PRAGMA_UNROLL
    for (int b = 0; b < 8; b++)
        y[b] = _mm256_cvtepi32_ps(x[b]);
    row_transpose(y);
    PRAGMA_UNROLL
    for (int g = 0; g < 8; g++)
        t = _mm256_fmadd_ps(_mm256_cvtph_ps(_mm_loadu_si128((const void *)d16[g])), y[g], t);
    return t;
}

/* c[0..3] of activation row j, whose scales are step floats apart */
INLINE void row_finish(enum pn_type type, float c[4], const struct row_sums *s, int j, int nb, const float *d,
                       size_t step)
{
    __m128 sum = _mm_setzero_ps();
    for (int b = 0; b < nb; b += 8) {
        __m256 t[4];
        PRAGMA_UNROLL
        for (int r = 0; r < 4; r++) {
            if (row_is_32(type)) {
                t[r] = row_terms32(&s->x[r][0][b], s->d16[r][b / 8]);
                continue;
            }
            const __m256 i = _mm256_cvtepi32_ps(row_add_lanes(&s->x[r][j][b]));
            if (type == PN_Q6_K) {
                t[r] = _mm256_mul_ps(_mm256_cvtph_ps(_mm_loadu_si128((const void *)s->d16[r][b / 8][0])), i);
            } else {
                t[r] = _mm256_mul_ps(s->d[r][b / 8], i);
                t[r] = _mm256_fnmadd_ps(s->dmin[r][b / 8], _mm256_cvtepi32_ps(s->j[r][j][b / 8]), t[r]);
            }
        }
        const __m256 lo01 = _mm256_unpacklo_ps(t[0], t[1]), hi01 = _mm256_unpackhi_ps(t[0], t[1]);
        const __m256 lo23 = _mm256_unpacklo_ps(t[2], t[3]), hi23 = _mm256_unpackhi_ps(t[2], t[3]);
        const __m256 y[4] = { _mm256_shuffle_ps(lo01, lo23, 0x44), _mm256_shuffle_ps(lo01, lo23, 0xee),
                              _mm256_shuffle_ps(hi01, hi23, 0x44), _mm256_shuffle_ps(hi01, hi23, 0xee) };
        __m128 z[8];
        PRAGMA_UNROLL
        for (int i = 0; i < 4; i++) {
            z[i] = _mm256_castps256_ps128(y[i]);
            z[i + 4] = _mm256_extractf128_ps(y[i], 1);
        }
        for (int i = b; i < nb && i < b + 8; i++, d += step)
            sum = _mm_fmadd_ps(z[i - b], _mm_set1_ps(*d), sum);
    }
    _mm_storeu_ps(c, sum);
}

/* The product with m rows of a; type and m are constants at every call. */
INLINE void mm_row(enum pn_type type, int m, float *c, size_t ldc, const void *weights, size_t row_bytes, int32_t n,
                   const struct pn_act *a, int32_t m0)
{
    row_pairs_t pairs[ROW_GROUPS];
    int32_t scales[ROW_GROUPS][8][LANES] __attribute__((aligned(32)));
    struct row_sums sums;
    uint8_t tail[8 * sizeof(struct pn_q5_k)] = { 0 };
    const size_t bytes = row_block_bytes(type);
    const int has_head = type == PN_Q4_K || type == PN_Q5_K;
    const size_t step = (size_t)a->m;
    const int n_groups = (a->nb + 7) / 8;
    if (has_head) {
        memset(pairs, 0, (size_t)n_groups * sizeof *pairs);
        for (int32_t b = 0; b < a->nb; b++) {
            const int16_t *s = a->s32 + 8 * ((size_t)b * step + (size_t)m0);
            for (int i = 0; i < 4 * m; i++)
                memcpy((char *)&pairs[b / 8][i / 4][i % 4] + 4 * (b % 8), s + 2 * i, 4);
        }
    }
    for (int32_t n0 = 0; n0 < n; n0 += ROW_TURN) {
        const int rows = n - n0 < ROW_TURN ? n - n0 : ROW_TURN;
        for (int r = 0; r < ROW_TURN; r++) { /* the last row again in place of those that are not there */
            const uint8_t *w = (const uint8_t *)weights + (size_t)(r < rows ? n0 + r : n - 1) * row_bytes;
            if (row_is_32(type)) {
                const int8_t *q = a->q + (size_t)m0 * PN_QK;
                for (int g = 0; g < n_groups; g++, q += 8 * step * PN_QK) {
                    const int32_t blocks = a->k / 32 - 64 * g;
                    row_blocks32(type, &sums.x[r][0][8 * g], sums.d16[r][g], w + (size_t)g * 64 * bytes,
                                 blocks < 64 ? blocks : 64, q, step * PN_QK,
                                 a->s32 + 8 * ((size_t)g * 8 * step + (size_t)m0));
                }
                continue;
            }
            if (has_head) {
                for (int g = 0; g < n_groups; g++) {
                    const int32_t some = a->nb - 8 * g;
                    const uint8_t *p = w + (size_t)g * 8 * bytes;
                    if (some < 8)
                        p = memcpy(tail, p, (size_t)some * bytes);
                    row_header(bytes, m, scales[g], &sums, r, g, p, pairs[g]);
                }
            }
            const int8_t *q = a->q + (size_t)m0 * PN_QK;
            const int16_t *s16 = a->s16 + 16 * (size_t)m0;
            for (int32_t b = 0; b < a->nb; b++, q += step * PN_QK, s16 += step * 16) {
                __m256i (*x)[8 * ROW_GROUPS] = (void *)&sums.x[r][0][b];
                if (type == PN_Q6_K) {
                    const struct pn_q6_k *p = (const struct pn_q6_k *)w + b;
                    row_q6_k(m, x, p, q, s16);
                    memcpy(&sums.d16[r][b / 8][0][b % 8], p->d, sizeof p->d);
                } else {
                    row_q45_k(type, m, x, w + (size_t)b * bytes, &scales[b / 8][0][b % 8], q);
                }
            }
        }
        for (int j = 0; j < m; j++) {
            float four[4];
            row_finish(type, four, &sums, j, a->nb, a->d + m0 + j, step);
            memcpy(c + (size_t)j * ldc + n0, four, (size_t)rows * sizeof *c);
        }
    }
}

#define ROWS1(name, type)                                                                                           \
    ROW(name, type, 1)                                                                                              \
    static row_fn *const rows_##name[2] = { NULL, row_##name##_1 };
#define ROWS2(name, type)                                                                                           \
    ROW(name, type, 1)                                                                                              \
    ROW(name, type, 2)                                                                                              \
    static row_fn *const rows_##name[3] = { NULL, row_##name##_1, row_##name##_2 };
#define ROWS4(name, type)                                                                                           \
    ROW(name, type, 1)                                                                                              \
    ROW(name, type, 2)                                                                                              \
    ROW(name, type, 3)                                                                                              \
    ROW(name, type, 4)                                                                                              \
    static row_fn *const rows_##name[5] = { NULL, row_##name##_1, row_##name##_2, row_##name##_3, row_##name##_4 };
ROWS1(q4_0, PN_Q4_0)
ROWS1(q8_0, PN_Q8_0)
ROWS2(q4_k, PN_Q4_K)
ROWS4(q5_k, PN_Q5_K)
ROWS4(q6_k, PN_Q6_K)

/* As MM(), but with few activation rows one weight row after another. */
#define MM_ROW(type, tiles, offset, blocks)                                                                         \
    MM_TILES(type, tiles, offset, blocks)                                                                           \
    static void ISA(mm_##type)(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,                    \
                               const struct pn_act *a, int32_t m0, int32_t m)                                       \
    {                                                                                                               \
        if (m > 0 && m < (int32_t)(sizeof rows_##type / sizeof rows_##type[0]) && a->nb <= ROW_NB_MAX)              \
            rows_##type[m](c, ldc, w, row_bytes, n, a, m0);                                                         \
        else                                                                                                        \
            mm_tiles_##type(c, ldc, w, row_bytes, n, a, m0, m);                                                     \
    }

#endif
