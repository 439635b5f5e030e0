/* SPDX-License-Identifier: Apache-2.0 */
/* Q4_K and Q6_K products with one activation row, which wait for memory: row after row, so that the weights are read
 * strictly in order. Panels of 16 rows (x86_few512.h) read 16 streams at once, which the hardware's prefetchers do
 * not follow: two threads reach three quarters of the bandwidth that way, whatever is prefetched by hand.
 *
 * A row is multiplied lane by lane, scales included: the sums of four products fit 16 bits, so those of two
 * sub-blocks are packed into one vector and multiplied with their scales by VPDPWSSD. What is left is to add up the
 * 16 lanes of each super-block, for four super-blocks of four rows at once. Integer sums are exact and the float
 * operations those of kern_avx512vnni.c in their order: so the bits are the same. */
#ifndef PN_X86_ROW512_H
#define PN_X86_ROW512_H

#include "x86_mm.h"

#define ROW_GROUPS_MAX 32  /* groups of four super-blocks: k <= 32768 */
#define ROW_AHEAD 8192 /* bytes from a prefetch to its use: on a busy host lines come late */

/* The activation row, its super-blocks in groups of four. */
struct row_act {
    int8_t q[4 * ROW_GROUPS_MAX][256];  /* Q4_K: even sub-blocks of 64 columns before odd ones, as nibbles lie */
    union {
        int16_t s4[ROW_GROUPS_MAX][4][8]; /* Q4_K: sums of 32 */
        int16_t s6[4 * ROW_GROUPS_MAX][16]; /* Q6_K: minus the sums of 16 */
    };
    float d[4 * ROW_GROUPS_MAX];
};

/* What is left of four rows: per group of super-blocks and row. */
struct row_sums {
    __m512i i[ROW_GROUPS_MAX][4]; /* lane l of 128 bits: four super-blocks' part l of the sum */
    __m512i j[ROW_GROUPS_MAX][4]; /* Q4_K: lane l: super-block l's four parts of the sum of mins */
    uint32_t d[ROW_GROUPS_MAX][4][4]; /* [super-block][row]: d and, above it, dmin */
};

/* dword i of lane l: part l of the sum of x[i] */
INLINE __m512i row_add4(const __m512i x[4])
{
    const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(x[0], x[1]), _mm512_unpackhi_epi32(x[0], x[1]));
    const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(x[2], x[3]), _mm512_unpackhi_epi32(x[2], x[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

/* lane i: the sum of the lanes of x[i] */
INLINE __m512i row_add_lanes(const __m512i x[4])
{
    const __m512i a = _mm512_add_epi32(_mm512_shuffle_i32x4(x[0], x[1], 0x44), _mm512_shuffle_i32x4(x[0], x[1], 0xee));
    const __m512i b = _mm512_add_epi32(_mm512_shuffle_i32x4(x[2], x[3], 0x44), _mm512_shuffle_i32x4(x[2], x[3], 0xee));
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
}

/* total + the products of u, v (unsigned bytes) with q, r, each sum of four times the scale (int16) in its place */
INLINE __m512i row_dot(__m512i total, __m512i u, const int8_t *q, __m512i v, const int8_t *r, __m512i scales)
{
    const __m512i x = _mm512_dpbusd_epi32(_mm512_setzero_si512(), u, _mm512_load_si512(q));
    const __m512i y = _mm512_dpbusd_epi32(_mm512_setzero_si512(), v, _mm512_load_si512(r));
    return _mm512_dpwssd_epi32(total, _mm512_packs_epi32(x, y), scales);
}

INLINE void row_fetch(const uint8_t *p, size_t bytes)
{
    for (size_t line = 0; line < bytes; line += 64)
        _mm_prefetch((const char *)p + ROW_AHEAD + line, _MM_HINT_T0);
}

/* One row's four super-blocks of group g, from p on. */
INLINE void row_q4_k(struct row_sums *s, const uint8_t *p, int g, int row, const struct row_act *a)
{
    const struct pn_q4_k *b = (const void *)p;
    const __m512i low = _mm512_set1_epi8(15);
    __m512i h = _mm512_castsi128_si512(_mm_loadu_si128((const void *)b[0].d));
    h = _mm512_mask_broadcast_i32x4(h, 0x00f0, _mm_loadu_si128((const void *)b[1].d));
    h = _mm512_mask_broadcast_i32x4(h, 0x0f00, _mm_loadu_si128((const void *)b[2].d));
    h = _mm512_mask_broadcast_i32x4(h, 0xf000, _mm_loadu_si128((const void *)b[3].d));
    /* bytes of each lane: scales of the eight sub-blocks, then their mins (pn_unpack_scales_k) */
    __m512i sc = _mm512_srlv_epi32(_mm512_shuffle_epi32(h, _MM_PERM_DCDB),
                                   _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0, 0, 4)));
    sc = _mm512_and_si512(sc, _mm512_broadcast_i32x4(_mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f)));
    __m512i top = _mm512_srli_epi32(_mm512_shuffle_epi32(h, _MM_PERM_CCBB), 2);
    top = _mm512_and_si512(top, _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x30303030, 0, 0x30303030)));
    sc = _mm512_or_si512(sc, top);

    s->j[g][row] = _mm512_madd_epi16(_mm512_unpackhi_epi8(sc, _mm512_setzero_si512()),
                                     _mm512_load_si512(a->s4[g]));

    /* of a super-block, the scales of sub-blocks 0, 1 (low, high nibbles of the first 32 bytes) and 2, 3 as words;
     * then those of 4, 5 and 6, 7 */
    const __m128i p01 = _mm_setr_epi8(0, -1, 0, -1, 0, -1, 0, -1, 1, -1, 1, -1, 1, -1, 1, -1);
    const __m128i p23 = _mm_add_epi16(p01, _mm_set1_epi16(2));
    const __m256i p0123 = _mm256_inserti128_si256(_mm256_castsi128_si256(p01), p23, 1);
    const __m512i first = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 1, 0, 1, 2, 3, 2, 3),
                                                   _mm512_castsi256_si512(p0123));
    const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(4));
    const __m512i of[4] = { _mm512_shuffle_i32x4(sc, sc, 0x00), _mm512_shuffle_i32x4(sc, sc, 0x55),
                            _mm512_shuffle_i32x4(sc, sc, 0xaa), _mm512_shuffle_i32x4(sc, sc, 0xff) };
    __m512i x[4];
    PRAGMA_UNROLL
    for (int i = 0; i < 4; i++) {
        const int8_t *q = a->q[4 * g + i];
        row_fetch((const uint8_t *)&b[i], sizeof *b);
        x[i] = _mm512_setzero_si512();
        PRAGMA_UNROLL
        for (int half = 0; half < 2; half++, q += 128) {
            const __m512i w = _mm512_loadu_si512(b[i].qs + 64 * half), high = _mm512_srli_epi16(w, 4);
            x[i] = row_dot(x[i], _mm512_and_si512(w, low), q, _mm512_and_si512(high, low), q + 64,
                           _mm512_shuffle_epi8(of[i], half ? second : first));
        }
        memcpy(&s->d[g][i][row], b[i].d, sizeof s->d[g][i][row]);
    }
    s->i[g][row] = row_add4(x);
}

INLINE void row_q6_k(struct row_sums *s, const uint8_t *p, int g, int row, const struct row_act *a)
{
    const struct pn_q6_k *b = (const void *)p;
    const __m512i low = _mm512_set1_epi8(15), six = _mm512_set1_epi8(63);
    /* two bits of each byte of qh go above the nibbles: from 0, 2 for the low ones, 4, 6 for the high */
    const __m512i left = _mm512_inserti64x4(_mm512_set1_epi32(4), _mm256_set1_epi32(2), 1);
    const __m512i right = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi32(2), 1);
    /* word 8l + i of the scales of a half: of sub-block l (low nibbles), then l + 4 (high) */
    const __m512i index0 = _mm512_set_epi64(0x0007000700070007, 0x0003000300030003, 0x0006000600060006,
                                            0x0002000200020002, 0x0005000500050005, 0x0001000100010001,
                                            0x0004000400040004, 0);
    const __m512i index1 = _mm512_add_epi16(index0, _mm512_set1_epi16(8));
    __m512i x[4];
    PRAGMA_UNROLL
    for (int i = 0; i < 4; i++) {
        const int8_t *q = a->q[4 * g + i];
        const __m256i sc = _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)b[i].scales));
        const __m512i scales = _mm512_castsi256_si512(sc);
        row_fetch((const uint8_t *)&b[i], sizeof *b);
        /* the offset of 32: a sum of products of the scales with the negative sums of the activations */
        x[i] = _mm512_zextsi256_si512(_mm256_madd_epi16(_mm256_slli_epi16(sc, 5),
                                                        _mm256_load_si256((const void *)a->s6[4 * g + i])));
        PRAGMA_UNROLL
        for (int half = 0; half < 2; half++, q += 128) {
            const __m512i l = _mm512_loadu_si512(b[i].ql + 64 * half), high = _mm512_srli_epi16(l, 4);
            const __m512i h = _mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)(b[i].qh + 32 * half)));
            /* 0xb8: where the second operand has ones, the third, else the first */
            const __m512i u = _mm512_ternarylogic_epi32(_mm512_sllv_epi32(h, left), low, l, 0xb8);
            const __m512i v = _mm512_ternarylogic_epi32(_mm512_srlv_epi32(h, right), low, high, 0xb8);
            x[i] = row_dot(x[i], _mm512_and_si512(u, six), q, _mm512_and_si512(v, six), q + 64,
                           _mm512_permutexvar_epi16(half ? index1 : index0, scales));
        }
        uint16_t d;
        memcpy(&d, b[i].d, sizeof d);
        s->d[g][i][row] = d;
    }
    s->i[g][row] = row_add4(x);
}

/* c[4] of four rows, from what the functions above left. */
INLINE void row_finish(float *c, const struct row_sums *s, int n_groups, const struct row_act *a, int mins)
{
    /* from lanes of rows to lanes of super-blocks */
    const __m512i turn = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m128 sum = _mm_setzero_ps();
    for (int g = 0; g < n_groups; g++) {
        const __m512i i = _mm512_permutexvar_epi32(turn, row_add_lanes(s->i[g])), d = _mm512_loadu_si512(s->d[g]);
        __m512 t = _mm512_mul_ps(_mm512_cvtph_ps(_mm512_cvtepi32_epi16(d)), _mm512_cvtepi32_ps(i));
        if (mins) {
            const __m512 dmin = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(d, 16)));
            t = _mm512_fnmadd_ps(dmin, _mm512_cvtepi32_ps(row_add4(s->j[g])), t);
        }
        const float *ad = a->d + 4 * g;
        sum = _mm_fmadd_ps(_mm512_castps512_ps128(t), _mm_set1_ps(ad[0]), sum);
        sum = _mm_fmadd_ps(_mm512_extractf32x4_ps(t, 1), _mm_set1_ps(ad[1]), sum);
        sum = _mm_fmadd_ps(_mm512_extractf32x4_ps(t, 2), _mm_set1_ps(ad[2]), sum);
        sum = _mm_fmadd_ps(_mm512_extractf32x4_ps(t, 3), _mm_set1_ps(ad[3]), sum);
    }
    _mm_storeu_ps(c, sum);
}

static int row_can(const struct pn_act *a)
{
    return a->nb % 4 == 0 && a->nb <= 4 * ROW_GROUPS_MAX;
}

/* The product with one row m0 of a. */
INLINE void mm_row(int q6, float *c, const void *w, size_t row_bytes, int32_t n, const struct pn_act *a, int32_t m0)
{
    struct row_act act __attribute__((aligned(64)));
    struct row_sums sums;
    const int n_groups = a->nb / 4;
    for (int32_t b = 0; b < a->nb; b++) {
        const size_t at = (size_t)b * (size_t)a->m + (size_t)m0;
        const int8_t *q = a->q + at * PN_QK;
        act.d[b] = a->d[at];
        if (q6) {
            memcpy(act.q[b], q, PN_QK);
            const __m256i s16 = _mm256_loadu_si256((const void *)(a->s16 + 16 * at));
            _mm256_store_si256((void *)act.s6[b], _mm256_sub_epi16(_mm256_setzero_si256(), s16));
        } else {
            for (int i = 0; i < 8; i++) /* 0 2 1 3, 4 6 5 7 */
                memcpy(act.q[b] + 32 * i, q + 32 * ((i & 4) | (i & 1) << 1 | (i & 2) >> 1), 32);
            memcpy(act.s4[b / 4][b % 4], a->s32 + 8 * at, sizeof act.s4[0][0]);
        }
    }
    const size_t group_bytes = 4 * (q6 ? sizeof(struct pn_q6_k) : sizeof(struct pn_q4_k));
    for (int32_t n0 = 0; n0 < n; n0 += 4) {
        const int32_t rows = n - n0 < 4 ? n - n0 : 4;
        for (int r = 0; r < rows; r++) {
            const uint8_t *p = (const uint8_t *)w + (size_t)(n0 + r) * row_bytes;
            for (int g = 0; g < n_groups; g++, p += group_bytes) {
                if (q6)
                    row_q6_k(&sums, p, g, r, &act);
                else
                    row_q4_k(&sums, p, g, r, &act);
            }
        }
        for (int r = rows; r < 4; r++) /* rows that are not there: anything but garbage */
            for (int g = 0; g < n_groups; g++) {
                sums.i[g][r] = sums.j[g][r] = _mm512_setzero_si512();
                for (int i = 0; i < 4; i++)
                    sums.d[g][i][r] = 0;
            }
        float four[4];
        row_finish(four, &sums, n_groups, &act, !q6);
        memcpy(c + n0, four, (size_t)rows * sizeof *c);
    }
}

static void mm_row_q4_k(float *c, const void *w, size_t row_bytes, int32_t n, const struct pn_act *a, int32_t m0)
{
    mm_row(0, c, w, row_bytes, n, a, m0);
}

static void mm_row_q6_k(float *c, const void *w, size_t row_bytes, int32_t n, const struct pn_act *a, int32_t m0)
{
    mm_row(1, c, w, row_bytes, n, a, m0);
}

#endif
