/* SPDX-License-Identifier: Apache-2.0 */
/* Q4_K and Q6_K products with few activation rows, too few to pay for a tile of unpacked weights in
 * memory. Panels of 16 weight rows are transposed in registers while packed, and put together right before
 * the VPDPBUSD that uses them. Integer sums and the order of the float operations are those of
 * kern_avx512vnni.c: so are the bits.
 *
 * The sums of two sub-blocks grow side by side: one after the other, m = 5 takes a quarter more time on Zen 5,
 * which then has too few chains of VPDPBUSD in sight.
 *
 * A high nibble of Q4_K stays where it is, sixteen times too large; the scales of the low ones are multiplied by
 * sixteen instead, and d is divided by it, which is exact. The total stays below 2^29. */
#ifndef PN_X86_FEW512_H
#define PN_X86_FEW512_H

#include "x86_mm.h"

#define FEW_MAX 8
#define FEW_MAX_Q6_K 4 /* above, the sums do not fit in registers */

/* x += four columns u of 16 rows * four activations. A memory operand saves the register and the
 * instruction that gcc 12 spends on the broadcast; loads bound this loop. */
INLINE __m512i dot_bcast(__m512i x, __m512i u, const int8_t *q)
{
    const struct four { int8_t b[4]; } *p = (const void *)q;
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(x) : "v"(u), "m"(*p));
    return x;
}

/* tot += x * scales */
INLINE __m512i scaled(__m512i tot, __m512i x, __m512i sc)
{
    return _mm512_add_epi32(tot, _mm512_mullo_epi32(x, sc));
}

/* x[m] += columns u * activations q[m] */
INLINE void few_dots(int m, __m512i *x, __m512i u, const int8_t *q)
{
    PRAGMA_UNROLL
    for (int i = 0; i < m; i++)
        x[i] = dot_bcast(x[i], u, q + 256 * i);
}
INLINE void few_clear(int m, __m512i *x)
{
    PRAGMA_UNROLL
    for (int i = 0; i < m; i++)
        x[i] = _mm512_setzero_si512();
}

/* c[m][16] += one super-block of 16 rows; m is a constant at every call. */
INLINE void few_q4_k(int m, rows_t row, size_t at, size_t ahead, const struct act_rows *a, float *c)
{
    const __m512i low = _mm512_set1_epi8(0x0f), high = _mm512_set1_epi8((char)0xf0);
    struct panel p __attribute__((aligned(64))); /* only its scales */
    header_k(&p, row, at);
    __m512i tot[FEW_MAX];
    few_clear(m, tot);
    const int8_t *q = a->q;
    for (int s = 0; s < 4; s++, q += 64) { /* sub-blocks 2s, 2s + 1 */
        __m512i v[8], x[FEW_MAX], y[FEW_MAX];
        fetch_rows(row, at + ahead, sizeof(struct pn_q4_k), s, 4);
        columns8(v, row, at + offsetof(struct pn_q4_k, qs) + 32 * (size_t)s);
        few_clear(m, x);
        few_clear(m, y);
        PRAGMA_UNROLL
        for (int j = 0; j < 8; j++) {
            few_dots(m, x, _mm512_and_si512(v[j], low), q + 4 * j);
            few_dots(m, y, _mm512_and_si512(v[j], high), q + 32 + 4 * j);
        }
        const __m512i sx = _mm512_slli_epi32(_mm512_load_si512(p.s.sc[2 * s]), 4);
        const __m512i sy = _mm512_load_si512(p.s.sc[2 * s + 1]);
        PRAGMA_UNROLL
        for (int i = 0; i < m; i++)
            tot[i] = scaled(scaled(tot[i], x[i], sx), y[i], sy);
    }
    const __m512 d = _mm512_mul_ps(_mm512_load_ps(p.d), _mm512_set1_ps(1.0f / 16));
    const __m512 dmin = _mm512_load_ps(p.dmin);
    PRAGMA_UNROLL
    for (int i = 0; i < m; i++) {
        __m512i mins = _mm512_setzero_si512();
        PRAGMA_UNROLL
        for (int k = 0; k < 4; k++)
            mins = _mm512_dpwssd_epi32(mins, _mm512_load_si512(p.mn[k]), bcast4(a->s32 + 8 * i + 2 * k));
        __m512 t = _mm512_mul_ps(d, _mm512_cvtepi32_ps(tot[i]));
        t = _mm512_fnmadd_ps(dmin, _mm512_cvtepi32_ps(mins), t);
        _mm512_store_ps(c + 16 * i, _mm512_fmadd_ps(t, _mm512_set1_ps(a->d[i]), _mm512_load_ps(c + 16 * i)));
    }
}

/* Scales of Q6_K, which with d are the last 18 bytes of a block: int32 for the sums, and in p->mn pairs of
 * int16, 256 times too large, for the offset. */
INLINE void header_few_q6_k(struct panel *p, rows_t row, size_t at)
{
    vi c[8]; /* scale g is byte g + 14 of the block's last 32 */
    columns8(c, row, at + sizeof(struct pn_q6_k) - 32);
    PRAGMA_UNROLL
    for (int g = 0; g < 16; g += 2) {
        const vi v = c[(g + 14) / 4];
        const int byte = (g + 14) % 4;
        vi_store(p->s.sc[g], vi_sra(vi_sll(v, 24 - 8 * byte), 24));
        vi_store(p->s.sc[g + 1], vi_sra(vi_sll(v, 16 - 8 * byte), 24));
        vi_store(p->mn[g / 2], vi_shuffle(v, bytes16(-1, byte, -1, byte + 1)));
    }
    vi_store_f16(p->d, vi_srl(c[7], 16));
}

/* As few_q4_k. q is unsigned here; the offset of 32 is taken off by a product of the scales and the sums. */
INLINE void few_q6_k(int m, rows_t row, size_t at, size_t ahead, const struct act_rows *a, float *c)
{
    const __m512i m15 = _mm512_set1_epi8(15), m48 = _mm512_set1_epi8(48);
    struct panel p __attribute__((aligned(64))); /* only its scales */
    header_few_q6_k(&p, row, at);
    __m512i tot[FEW_MAX];
    few_clear(m, tot);
    for (int h = 0; h < 2; h++) { /* halves of the super-block */
        __m512i hi[8];
        columns8(hi, row, at + offsetof(struct pn_q6_k, qh) + 32 * (size_t)h);
        PRAGMA_UNROLL
        for (int e = 0; e < 2; e++) { /* sub-blocks 8h + 2e .., from low nibbles, and 8h + 2e + 4 .. */
            const int8_t *q = a->q + 128 * h + 32 * e;
            __m512i lo[8];
            fetch_rows(row, at + ahead, sizeof(struct pn_q6_k), 2 * h + e, 4);
            columns8(lo, row, at + 64 * (size_t)h + 32 * (size_t)e);
            PRAGMA_UNROLL
            for (int o = 0; o < 2; o++) {
                const __m512i sx = _mm512_load_si512(p.s.sc[8 * h + 2 * e + o]);
                const __m512i sy = _mm512_load_si512(p.s.sc[8 * h + 2 * e + o + 4]);
                __m512i x[FEW_MAX], y[FEW_MAX];
                few_clear(m, x);
                few_clear(m, y);
                PRAGMA_UNROLL
                for (int j = 0; j < 4; j++) {
                    const __m512i l = lo[4 * o + j], k = hi[4 * o + j];
                    few_dots(m, x, vi_or(vi_and(l, m15), vi_and(vi_sll(k, e ? 2 : 4), m48)), q + 16 * o + 4 * j);
                    few_dots(m, y, vi_or(vi_and(vi_srl(l, 4), m15), vi_and(e ? vi_srl(k, 2) : k, m48)),
                             q + 64 + 16 * o + 4 * j);
                }
                PRAGMA_UNROLL
                for (int i = 0; i < m; i++)
                    tot[i] = scaled(scaled(tot[i], x[i], sx), y[i], sy);
            }
        }
    }
    PRAGMA_UNROLL
    for (int i = 0; i < m; i++) {
        __m512i off = _mm512_setzero_si512();
        PRAGMA_UNROLL
        for (int k = 0; k < 8; k++)
            off = _mm512_dpwssd_epi32(off, _mm512_load_si512(p.mn[k]), bcast4(a->s16 + 16 * i + 2 * k));
        const __m512i sum = _mm512_sub_epi32(tot[i], _mm512_srai_epi32(off, 3)); /* 32 * off / 256 */
        const __m512 t = _mm512_mul_ps(_mm512_load_ps(p.d), _mm512_cvtepi32_ps(sum));
        _mm512_store_ps(c + 16 * i, _mm512_fmadd_ps(t, _mm512_set1_ps(a->d[i]), _mm512_load_ps(c + 16 * i)));
    }
}

typedef void few_fn(rows_t row, size_t at, size_t ahead, const struct act_rows *a, float *c);

#define FEW(type, m)                                                                                            \
    static __attribute__((noinline)) void few_##type##_##m(rows_t row, size_t at, size_t ahead,                  \
                                                           const struct act_rows *a, float *c)                   \
    {                                                                                                           \
        few_##type(m, row, at, ahead, a, c);                                                                    \
    }
FEW(q4_k, 1)
FEW(q4_k, 2)
FEW(q4_k, 3)
FEW(q4_k, 4)
FEW(q4_k, 5)
FEW(q4_k, 6)
FEW(q4_k, 7)
FEW(q4_k, 8)
FEW(q6_k, 1)
FEW(q6_k, 2)
FEW(q6_k, 3)
FEW(q6_k, 4)
static few_fn *const fews_q4_k[FEW_MAX + 1] = { NULL,       few_q4_k_1, few_q4_k_2, few_q4_k_3, few_q4_k_4,
                                                few_q4_k_5, few_q4_k_6, few_q4_k_7, few_q4_k_8 };
static few_fn *const fews_q6_k[FEW_MAX_Q6_K + 1] = { NULL, few_q6_k_1, few_q6_k_2, few_q6_k_3, few_q6_k_4 };

/* The product with few rows; n_ahead: super-blocks from a prefetch to the use. */
static void mm_few(few_fn *const *fns, size_t block, int32_t n_ahead, float *c, size_t ldc, const void *w,
                   size_t row_bytes, int32_t n, const struct pn_act *a, int32_t m0, int32_t m)
{
    float acc[FEW_MAX * LANES] __attribute__((aligned(64)));
    for (int32_t n0 = 0; n0 < n; n0 += LANES) {
        const int32_t rows = n - n0 < LANES ? n - n0 : LANES;
        const uint8_t *wr = (const uint8_t *)w + (size_t)n0 * row_bytes;
        struct tail tail; /* as in mm_body */
        if (rows < LANES)
            memset(&tail, 0, sizeof tail);
        const int more = n - n0 >= 2 * LANES;
        memset(acc, 0, (size_t)m * LANES * sizeof *acc);
        for (int32_t b = 0; b < a->nb; b++) {
            const size_t ahead = b + n_ahead < a->nb ? (size_t)n_ahead * block
                                 : more              ? LANES * row_bytes - (size_t)(a->nb - n_ahead) * block
                                                     : 0;
            const size_t r0 = (size_t)b * (size_t)a->m + (size_t)m0;
            const struct act_rows ar = { a->q + r0 * PN_QK, a->s32 + r0 * 8, a->s16 + r0 * 16, a->d + r0 };
            rows_t row = { wr + (size_t)b * block, row_bytes };
            if (rows < LANES)
                row = tail_copy(&tail, row.p, row_bytes, rows, block);
            fns[m](row, 0, ahead, &ar, acc);
        }
        for (int32_t i = 0; i < m; i++)
            memcpy(c + (size_t)i * ldc + n0, acc + (size_t)i * LANES, (size_t)rows * sizeof *c);
    }
}

#endif
