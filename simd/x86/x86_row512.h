/* SPDX-License-Identifier: Apache-2.0 */
/* Q4_K and Q6_K products with so few activation rows that they wait for memory: weight row after weight row, so that
 * the weights are read strictly in order. Panels of 16 rows read 16 streams at once, which the hardware's prefetchers
 * do not follow: two threads reach three quarters of the bandwidth that way, nine tenths where there is so much to
 * compute that the next panel can be fetched meanwhile (x86_few512.h).
 *
 * A row is multiplied lane by lane, scales included: the sums of four products fit 16 bits, so those of 128 columns
 * are packed into one vector and multiplied with their scales by VPDPWSSD. What is left is to add up the
 * 16 lanes of each super-block, four super-blocks at a time. Integer sums are exact and the float
 * operations those of kern_avx512vnni.c in their order: so the bits are the same. */
#ifndef PN_X86_ROW512_H
#define PN_X86_ROW512_H

#include "x86_mm.h"

/* Activation rows; with more of them panels, which need fewer instructions, win. */
#define ROW_MAX_Q4_K 2
#define ROW_MAX_Q6_K 6
#define ROW_GROUPS_MAX (ROW_NB_MAX / 4) /* of four super-blocks */

struct row_work {
    /* Q4_K, [group][m], m the number of activation rows: lane p, dword l: the activations' sums over sub-blocks 2p,
     * 2p + 1 of super-block l */
    __m512i s32[ROW_GROUPS_MAX * ROW_MAX_Q4_K];
    /* [group][m]: lane r, dword l: what super-block l adds to weight row r, before the activations'
     * scale */
    __m512 t[ROW_GROUPS_MAX * ROW_MAX_Q6_K];
};

/* dword i of lane l to dword l of lane i */
INLINE __m512i row_turn(__m512i x)
{
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), x);
}

/* a dword of each half of a lane: of x, then y, what is left to add up of theirs */
INLINE __m512i row_add2(__m512i x, __m512i y)
{
    return _mm512_add_epi32(_mm512_unpacklo_epi32(x, y), _mm512_unpackhi_epi32(x, y));
}

/* total + the products of u, v (unsigned bytes) with q, r, each sum of four times the scale (int16) in its place */
INLINE __m512i row_dot(__m512i total, __m512i u, const int8_t *q, __m512i v, const int8_t *r, __m512i scales)
{
    const __m512i x = _mm512_dpbusd_epi32(_mm512_setzero_si512(), u, _mm512_load_si512(q));
    const __m512i y = _mm512_dpbusd_epi32(_mm512_setzero_si512(), v, _mm512_load_si512(r));
    return _mm512_dpwssd_epi32(total, _mm512_packs_epi32(x, y), scales);
}

/* x[i] = one super-block times activations i, in 16 parts; of: its scales as bytes, in every lane */
INLINE void row_block_q4_k(int m, __m512i *x, const struct pn_q4_k *b, __m512i of, const int8_t *q)
{
    /* Half a super-block, 64 bytes: the nibbles of the first 32 are sub-blocks 0 (low) and 1, of the others 2, 3.
     * Scales as words: of 0 and 2 for lanes 0, 1, of 1 and 3 for lanes 2, 3. */
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i down = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi32(4), 1);
    const __m512i p02 = _mm512_broadcast_i32x4(_mm_setr_epi8(0, -1, 0, -1, 0, -1, 0, -1, 2, -1, 2, -1, 2, -1, 2, -1));
    const __m512i first = _mm512_mask_add_epi16(p02, 0xffff0000, p02, _mm512_set1_epi16(1));
    row_fetch(b, sizeof *b);
    for (int i = 0; i < m; i++)
        x[i] = _mm512_setzero_si512();
    PRAGMA_UNROLL
    for (int half = 0; half < 2; half++) {
        const uint8_t *w = b->qs + 64 * half;
        const __m512i a0 = _mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)w));
        const __m512i a1 = _mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)(w + 32)));
        const __m512i u = _mm512_and_si512(_mm512_srlv_epi32(a0, down), low);
        const __m512i v = _mm512_and_si512(_mm512_srlv_epi32(a1, down), low);
        const __m512i sc = _mm512_shuffle_epi8(of, half ? _mm512_add_epi16(first, _mm512_set1_epi16(4)) : first);
        PRAGMA_UNROLL
        for (int i = 0; i < m; i++) {
            const int8_t *qi = q + 256 * i + 128 * half;
            x[i] = row_dot(x[i], u, qi, v, qi + 64, sc);
        }
    }
}

INLINE void row_block_q6_k(int m, __m512i *x, const struct pn_q6_k *b, const int8_t *q, const int16_t *s16)
{
    const __m512i low = _mm512_set1_epi8(15), six = _mm512_set1_epi8(63);
    /* two bits of each byte of qh go above the nibbles: from 0, 2 for the low ones, 4, 6 for the high */
    const __m512i left = _mm512_inserti64x4(_mm512_set1_epi32(4), _mm256_set1_epi32(2), 1);
    const __m512i right = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi32(2), 1);
    /* word 8l + i of the scales of a half: of sub-block l (low nibbles), then l + 4 (high) */
    const __m512i index0 = _mm512_set_epi64(0x0007000700070007, 0x0003000300030003, 0x0006000600060006,
                                            0x0002000200020002, 0x0005000500050005, 0x0001000100010001,
                                            0x0004000400040004, 0);
    const __m512i index1 = _mm512_add_epi16(index0, _mm512_set1_epi16(8));
    const __m256i sc = _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)b->scales));
    const __m512i scales = _mm512_castsi256_si512(sc);
    /* the offset of 32: a sum of products of the scales with the sums of the activations */
    const __m256i offset = _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_slli_epi16(sc, 5));
    row_fetch(b, sizeof *b);
    PRAGMA_UNROLL
    for (int i = 0; i < m; i++)
        x[i] = _mm512_zextsi256_si512(_mm256_madd_epi16(offset, _mm256_loadu_si256((const void *)(s16 + 16 * i))));
    PRAGMA_UNROLL
    for (int half = 0; half < 2; half++) {
        const __m512i l = _mm512_loadu_si512(b->ql + 64 * half), high = _mm512_srli_epi16(l, 4);
        const __m512i h = _mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)(b->qh + 32 * half)));
        /* 0xb8: where the second operand has ones, the third, else the first */
        const __m512i u = _mm512_ternarylogic_epi32(_mm512_sllv_epi32(h, left), low, l, 0xb8);
        const __m512i v = _mm512_ternarylogic_epi32(_mm512_srlv_epi32(h, right), low, high, 0xb8);
        const __m512i u6 = _mm512_and_si512(u, six), v6 = _mm512_and_si512(v, six);
        const __m512i s = _mm512_permutexvar_epi16(half ? index1 : index0, scales);
        PRAGMA_UNROLL
        for (int i = 0; i < m; i++) {
            const int8_t *qi = q + 256 * i + 128 * half;
            x[i] = row_dot(x[i], u6, qi, v6, qi + 64, s);
        }
        if (m > 2)
            short_jump();
    }
}

/* t of weight row r from group g, whose four super-blocks are at p. */
INLINE void row_group(int q6, int m, struct row_work *k, const uint8_t *p, int g, int r, const struct pn_act *a,
                      int32_t m0)
{
    const size_t at = 4 * (size_t)g * (size_t)a->m + (size_t)m0, step = (size_t)a->m;
    const int8_t *q = a->q + at * PN_QK;
    const int16_t *s16 = a->s16 + at * 16;
    const struct pn_q4_k *b4 = (const void *)p;
    const struct pn_q6_k *b6 = (const void *)p;
    __m512i of[4], mins = _mm512_setzero_si512();
    __m128 d, dmin = _mm_setzero_ps();
    if (q6) {
        uint16_t half[4];
        for (int l = 0; l < 4; l++)
            memcpy(&half[l], b6[l].d, sizeof half[l]);
        d = _mm_cvtph_ps(_mm_loadl_epi64((const void *)half));
    } else {
        __m512i h = _mm512_castsi128_si512(_mm_loadu_si128((const void *)b4[0].d));
        h = _mm512_mask_broadcast_i32x4(h, 0x00f0, _mm_loadu_si128((const void *)b4[1].d));
        h = _mm512_mask_broadcast_i32x4(h, 0x0f00, _mm_loadu_si128((const void *)b4[2].d));
        h = _mm512_mask_broadcast_i32x4(h, 0xf000, _mm_loadu_si128((const void *)b4[3].d));
        /* bytes of each lane: scales of the eight sub-blocks, then their mins (pn_unpack_scales_k) */
        __m512i sc = _mm512_srlv_epi32(_mm512_shuffle_epi32(h, _MM_PERM_DCDB),
                                       _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0, 0, 4)));
        const __m128i six_four = _mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f);
        sc = _mm512_and_si512(sc, _mm512_broadcast_i32x4(six_four));
        __m512i top = _mm512_srli_epi32(_mm512_shuffle_epi32(h, _MM_PERM_CCBB), 2);
        top = _mm512_and_si512(top, _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x30303030, 0, 0x30303030)));
        sc = _mm512_or_si512(sc, top);
        mins = row_turn(_mm512_unpackhi_epi8(sc, _mm512_setzero_si512()));
        of[0] = _mm512_shuffle_i32x4(sc, sc, 0x00);
        of[1] = _mm512_shuffle_i32x4(sc, sc, 0x55);
        of[2] = _mm512_shuffle_i32x4(sc, sc, 0xaa);
        of[3] = _mm512_shuffle_i32x4(sc, sc, 0xff);
        /* d and dmin are the first dword of each lane */
        const __m128i dd = _mm512_castsi512_si128(row_turn(h));
        const __m128i first = _mm_and_si128(dd, _mm_set1_epi32(0xffff)), second = _mm_srli_epi32(dd, 16);
        const __m256 f = _mm256_cvtph_ps(_mm_packus_epi32(first, second));
        d = _mm256_castps256_ps128(f);
        dmin = _mm256_extractf128_ps(f, 1);
    }

    __m512i parts[2][ROW_MAX_Q6_K]; /* of super-blocks 0, 1 and 2, 3, side by side */
    PRAGMA_UNROLL
    for (int pair = 0; pair < 2; pair++) {
        __m512i x[2][ROW_MAX_Q6_K];
        PRAGMA_UNROLL
        for (int e = 0; e < 2; e++) {
            const int l = 2 * pair + e;
            if (q6)
                row_block_q6_k(m, x[e], &b6[l], q + (size_t)l * step * PN_QK, s16 + (size_t)l * step * 16);
            else
                row_block_q4_k(m, x[e], &b4[l], of[l], q + (size_t)l * step * PN_QK);
        }
        PRAGMA_UNROLL
        for (int i = 0; i < m; i++)
            parts[pair][i] = row_add2(x[0][i], x[1][i]);
    }
    PRAGMA_UNROLL
    for (int i = 0; i < m; i++) {
        /* dword l of each lane: a part of super-block l's sum */
        __m512i sum = _mm512_add_epi32(_mm512_unpacklo_epi64(parts[0][i], parts[1][i]),
                                       _mm512_unpackhi_epi64(parts[0][i], parts[1][i]));
        __m128 t;
        if (q6) {
            sum = _mm512_add_epi32(sum, _mm512_shuffle_i32x4(sum, sum, 0x4e));
            sum = _mm512_add_epi32(sum, _mm512_shuffle_i32x4(sum, sum, 0xb1));
            t = _mm_mul_ps(d, _mm_cvtepi32_ps(_mm512_castsi512_si128(sum)));
        } else {
            const __m512i j = _mm512_madd_epi16(mins, k->s32[g * m + i]);
            sum = _mm512_add_epi32(_mm512_shuffle_i32x4(sum, j, 0x44), _mm512_shuffle_i32x4(sum, j, 0xee));
            sum = _mm512_add_epi32(sum, _mm512_shuffle_i32x4(sum, sum, 0xb1)); /* lanes: sum, sum, j, j */
            const __m512 f = _mm512_cvtepi32_ps(sum);
            t = _mm_mul_ps(d, _mm512_castps512_ps128(f));
            t = _mm_fnmadd_ps(dmin, _mm512_extractf32x4_ps(f, 2), t);
        }
        _mm_store_ps((float *)&k->t[g * m + i] + 4 * r, t);
    }
}

/* c[4] of four weight rows and activation row i */
INLINE __m128 row_finish(const struct row_work *k, int n_groups, int m, int i, const float *d, size_t step)
{
    __m128 sum = _mm_setzero_ps();
    for (int g = 0; g < n_groups; g++, d += 4 * step) {
        const __m512 t = _mm512_castsi512_ps(row_turn(_mm512_castps_si512(k->t[g * m + i])));
        sum = _mm_fmadd_ps(_mm512_castps512_ps128(t), _mm_set1_ps(d[0]), sum);
        sum = _mm_fmadd_ps(_mm512_extractf32x4_ps(t, 1), _mm_set1_ps(d[step]), sum);
        sum = _mm_fmadd_ps(_mm512_extractf32x4_ps(t, 2), _mm_set1_ps(d[2 * step]), sum);
        sum = _mm_fmadd_ps(_mm512_extractf32x4_ps(t, 3), _mm_set1_ps(d[3 * step]), sum);
    }
    return sum;
}

/* Rows m0 .. m0 + m - 1 of a; q6 and m are constants at every call. */
INLINE void mm_row(int q6, int m, float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,
                   const struct pn_act *a, int32_t m0)
{
    struct row_work work;
    const int n_groups = a->nb / 4;
    const size_t step = (size_t)a->m;
    for (int g = 0; g < n_groups && !q6; g++)
        for (int i = 0; i < m; i++) {
            const int16_t *s = a->s32 + (4 * (size_t)g * step + (size_t)(m0 + i)) * 8;
            __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const void *)s));
            x = _mm512_inserti32x4(x, _mm_loadu_si128((const void *)(s + 8 * step)), 1);
            x = _mm512_inserti32x4(x, _mm_loadu_si128((const void *)(s + 16 * step)), 2);
            x = _mm512_inserti32x4(x, _mm_loadu_si128((const void *)(s + 24 * step)), 3);
            work.s32[g * m + i] = row_turn(x);
        }
    const size_t group_bytes = 4 * (q6 ? sizeof(struct pn_q6_k) : sizeof(struct pn_q4_k));
    for (int32_t n0 = 0; n0 < n; n0 += 4) {
        const int32_t rows = n - n0 < 4 ? n - n0 : 4;
        if (rows < 4) /* anything but garbage for those that are not there */
            memset(work.t, 0, (size_t)(n_groups * m) * sizeof work.t[0]);
        for (int r = 0; r < rows; r++) {
            const uint8_t *p = (const uint8_t *)w + (size_t)(n0 + r) * row_bytes;
            for (int g = 0; g < n_groups; g++, p += group_bytes)
                row_group(q6, m, &work, p, g, r, a, m0);
        }
        for (int i = 0; i < m; i++) {
            const __m128 sum = row_finish(&work, n_groups, m, i, a->d + (size_t)(m0 + i), step);
            _mm_mask_storeu_ps(c + (size_t)i * ldc + n0, (__mmask8)((1 << rows) - 1), sum);
        }
    }
}

/* The activations, read again for every weight row, must stay in L1. */
#define ROW_L1 (32 * 1024)
static int row_can(const struct pn_act *a, int32_t m)
{
    return a->nb % 4 == 0 && a->nb <= ROW_NB_MAX && m * a->nb * PN_QK <= ROW_L1;
}

ROW(q4_k, 0, 1)
ROW(q4_k, 0, 2)
ROW(q6_k, 1, 1)
ROW(q6_k, 1, 2)
ROW(q6_k, 1, 3)
ROW(q6_k, 1, 4)
ROW(q6_k, 1, 5)
ROW(q6_k, 1, 6)
static row_fn *const rows_q4_k[ROW_MAX_Q4_K + 1] = { NULL, row_q4_k_1, row_q4_k_2 };
static row_fn *const rows_q6_k[ROW_MAX_Q6_K + 1] = { NULL,       row_q6_k_1, row_q6_k_2, row_q6_k_3,
                                                     row_q6_k_4, row_q6_k_5, row_q6_k_6 };

#endif
