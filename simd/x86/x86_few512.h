/* SPDX-License-Identifier: Apache-2.0 */
/* Q4_K products with up to FEW_MAX activation rows, too few to pay for a tile of unpacked weights in
 * memory. Panels of 16 weight rows are transposed in registers while packed, and split right before the
 * VPDPBUSD that uses them. Integer sums and the order of the float operations are those of
 * kern_avx512vnni.c: so are the bits.
 *
 * A high nibble stays where it is, sixteen times too large; the scales of the low ones are multiplied by
 * sixteen instead, and d is divided by it, which is exact. The total stays below 2^29. */
#ifndef PN_X86_FEW512_H
#define PN_X86_FEW512_H

#include "x86_mm.h"

#define FEW_MAX 8

/* x += four columns u of 16 rows * four activations. A memory operand saves the register and the
 * instruction that gcc 12 spends on the broadcast; loads bound this loop. */
INLINE __m512i dot_bcast(__m512i x, __m512i u, const int8_t *q)
{
    const struct four { int8_t b[4]; } *p = (const void *)q;
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(x) : "v"(u), "m"(*p));
    return x;
}

/* c[m][16] += one super-block of 16 rows; m is a constant at every call. */
INLINE void few_q4_k(int m, const uint8_t *const *row, size_t at, size_t ahead, const struct act_rows *a, float *c)
{
    const __m512i low = _mm512_set1_epi8(0x0f), high = _mm512_set1_epi8((char)0xf0);
    struct panel p __attribute__((aligned(64))); /* only its scales */
    header_k(&p, row, at);
    __m512i tot[FEW_MAX];
    PRAGMA_UNROLL
    for (int i = 0; i < m; i++)
        tot[i] = _mm512_setzero_si512();
    const int8_t *q = a->q;
    for (int s = 0; s < 4; s++, q += 64) { /* sub-blocks 2s, 2s + 1 */
        __m512i v[8], x[FEW_MAX], y[FEW_MAX];
        fetch_rows(row, at + ahead, sizeof(struct pn_q4_k), s, 4);
        columns8(v, row, at + offsetof(struct pn_q4_k, qs) + 32 * (size_t)s);
        PRAGMA_UNROLL
        for (int i = 0; i < m; i++)
            x[i] = y[i] = _mm512_setzero_si512();
        PRAGMA_UNROLL
        for (int j = 0; j < 8; j++) {
            const __m512i u0 = _mm512_and_si512(v[j], low), u1 = _mm512_and_si512(v[j], high);
            PRAGMA_UNROLL
            for (int i = 0; i < m; i++)
                x[i] = dot_bcast(x[i], u0, q + 256 * i + 4 * j);
            PRAGMA_UNROLL
            for (int i = 0; i < m; i++)
                y[i] = dot_bcast(y[i], u1, q + 256 * i + 32 + 4 * j);
        }
        const __m512i sx = _mm512_slli_epi32(_mm512_load_si512(p.s.sc[2 * s]), 4);
        const __m512i sy = _mm512_load_si512(p.s.sc[2 * s + 1]);
        PRAGMA_UNROLL
        for (int i = 0; i < m; i++) {
            tot[i] = _mm512_add_epi32(tot[i], _mm512_mullo_epi32(x[i], sx));
            tot[i] = _mm512_add_epi32(tot[i], _mm512_mullo_epi32(y[i], sy));
        }
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

typedef void few_fn(const uint8_t *const *row, size_t at, size_t ahead, const struct act_rows *a, float *c);

#define FEW(m)                                                                                                  \
    static __attribute__((noinline)) void few_q4_k_##m(const uint8_t *const *row, size_t at, size_t ahead,       \
                                                       const struct act_rows *a, float *c)                       \
    {                                                                                                           \
        few_q4_k(m, row, at, ahead, a, c);                                                                      \
    }
FEW(1)
FEW(2)
FEW(3)
FEW(4)
FEW(5)
FEW(6)
FEW(7)
FEW(8)
static few_fn *const few_fns[FEW_MAX + 1] = { NULL,       few_q4_k_1, few_q4_k_2, few_q4_k_3, few_q4_k_4,
                                              few_q4_k_5, few_q4_k_6, few_q4_k_7, few_q4_k_8 };

/* The product with m <= FEW_MAX. */
static void mm_few_q4_k(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n, const struct pn_act *a,
                        int32_t m0, int32_t m)
{
    const size_t block = sizeof(struct pn_q4_k);
    const int32_t n_ahead = (int32_t)((AHEAD + block / 2) / block);
    float acc[FEW_MAX * LANES] __attribute__((aligned(64)));
    for (int32_t n0 = 0; n0 < n; n0 += LANES) {
        const int32_t rows = n - n0 < LANES ? n - n0 : LANES;
        const uint8_t *row[LANES]; /* as in mm_body */
        for (int r = 0; r < LANES; r++)
            row[r] = (const uint8_t *)w + (size_t)(n0 + (r < rows ? r : rows - 1)) * row_bytes;
        const int more = n - n0 >= 2 * LANES;
        memset(acc, 0, (size_t)m * LANES * sizeof *acc);
        for (int32_t b = 0; b < a->nb; b++) {
            const size_t ahead = b + n_ahead < a->nb ? (size_t)n_ahead * block
                                 : more              ? LANES * row_bytes - (size_t)(a->nb - n_ahead) * block
                                                     : 0;
            const size_t r0 = (size_t)b * (size_t)a->m + (size_t)m0;
            const struct act_rows ar = { a->q + r0 * PN_QK, a->s32 + r0 * 8, a->s16 + r0 * 16, a->d + r0 };
            few_fns[m](row, (size_t)b * block, ahead, &ar, acc);
        }
        for (int32_t i = 0; i < m; i++)
            memcpy(c + (size_t)i * ldc + n0, acc + (size_t)i * LANES, (size_t)rows * sizeof *c);
    }
}

#endif
