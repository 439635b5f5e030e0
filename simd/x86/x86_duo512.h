/* SPDX-License-Identifier: Apache-2.0 */
/* Q6_K products with some activation rows: enough to pay for a tile of unpacked weights in L1, but too few to make
 * unpacking it cheap. So the next tile is unpacked between the dot products of this one: these occupy two of the
 * vector pipes, shuffles, shifts and masks the others. The core looks only some forty dot products ahead, so the two
 * must lie side by side in the code.
 *
 * A register tile is four activation rows by two panels: each broadcast serves two dot products, so that loads are
 * not what it waits for, and eight sums and eight totals leave registers for unpacking, if that needs few. Half
 * a panel of the next tile is unpacked with half of a register tile's columns; so the first two register tiles
 * unpack, and also fetch, what comes next. Integer sums and the order of the float operations are those of
 * kern_avx512vnni.c: so are the bits. */
#ifndef PN_X86_DUO512_H
#define PN_X86_DUO512_H

#include "x86_mm.h"

#define DUO_MR 4
#define DUO_MIN (2 * DUO_MR) /* activation rows */
#define DUO_MAX 16

/* Half a panel of the next tile, and memory for what must wait while it is unpacked. */
struct duo_scratch {
    vi lower[4]; /* rows 0 .. 7 of eight columns */
    vi high[8];  /* columns of the upper bits */
};
struct duo_half {
    rows_t row;
    size_t half;
    uint8_t (*w)[4 * LANES];
    struct duo_scratch *s;
};

/* Eight columns, as columns8 makes them, with half the registers, in steps i = 0 .. 19, constants. The last eight
 * return one each, duo_column(i). */
#define DUO_STEPS 20
INLINE vi duo_columns(struct columns *c, vi *lower, int i)
{
    vi *z = c->z;
    if (i >= 12) {
        const vi x = _mm512_load_si512(&lower[(i - 12) / 2]), y = z[(i - 12) / 2];
        return i & 1 ? _mm512_shuffle_i32x4(x, y, 0xdd) : _mm512_shuffle_i32x4(x, y, 0x88);
    }
    const int h = i / 6, k = i % 6;
    if (k < 4) {
        columns_load(c, z, k, 8 * h + k);
    } else {
        const vi x = z[k - 4], y = z[k - 2];
        z[k - 4] = _mm512_unpacklo_epi64(x, y);
        z[k - 2] = _mm512_unpackhi_epi64(x, y);
        if (h == 0) {
            vi_store(&lower[k - 4], z[k - 4]);
            vi_store(&lower[k - 2], z[k - 2]);
        }
    }
    return z[0];
}
INLINE int duo_column(int i)
{
    const int k = (i - 12) / 2; /* of z, whose columns are 0, 2, 1, 3 */
    return 4 * (i & 1) + 2 * (k & 1) + k / 2;
}

/* Step i = 0 .. 59, a constant, of unpacking half a panel, as unpack_q6_k does. */
INLINE void duo_step(struct columns *c, const struct duo_half *p, int i)
{
    const vi m15 = vi_set1_8(15), m48 = vi_set1_8(48);
    const int part = i / DUO_STEPS, step = i % DUO_STEPS, j = duo_column(step);
    if (step == 0)
        columns_begin(c, p->row, part == 0 ? offsetof(struct pn_q6_k, qh) + 32 * p->half
                                           : 64 * p->half + 32 * (size_t)(part - 1));
    const vi col = duo_columns(c, p->s->lower, step);
    if (step < 12)
        return;
    if (part == 0) {
        vi_store(&p->s->high[j], col);
        return;
    }
    const vi high = _mm512_load_si512(&p->s->high[j]);
    const vi up = vi_sll(high, part == 1 ? 4 : 2), down = part == 1 ? high : vi_srl(high, 2);
    uint8_t (*w)[4 * LANES] = p->w + 8 * (part - 1) + j;
    vi_store(w[0], vi_or(vi_and(col, m15), vi_and(up, m48)));
    vi_store(w[16], vi_or(vi_and(vi_srl(col, 4), m15), vi_and(down, m48)));
}

/* What a register tile does beside its products. */
struct duo_plan {
    rows_t row; /* of the panel to unpack */
    struct panel *to;
    const uint8_t *ahead; /* four lines are fetched from there, four from `step` further, and so on */
    size_t step, half;    /* half: from those with the first half of the columns to those with the second */
    struct duo_scratch *s;
};
/* Lines are fetched in the order of the file, those of the next rows: 56 in each of two register tiles, which is
 * enough for them. Where these and what is in use are more than L2 holds, those of the same rows so many super-blocks
 * on. */
#define DUO_AHEAD 3
#define DUO_L2 (900 * 1024)

/* c[mr][NR] += one super-block. mr and unpack are constants at every call. */
INLINE void duo_tile(int mr, int unpack, const struct panel *t, const struct act_rows *a, const struct duo_plan *p,
                     float *c)
{
    int32_t start[DUO_MR][16] __attribute__((aligned(64)));
    __m512i tot0[DUO_MR], tot1[DUO_MR];
    few_clear(mr, tot0);
    few_clear(mr, tot1);
    PRAGMA_UNROLL
    for (int i = 0; i < mr; i++) {
        const __m256i s = _mm256_loadu_si256((const void *)(a->s16 + 16 * i));
        vi_store(start[i], vi_sub_32(vi_set1_32(0), vi_sll(_mm512_cvtepi16_epi32(s), 5)));
    }
    const int8_t *q = a->q;
    const uint8_t *w = t[0].w[0], *ahead = p->ahead;
    const int32_t *sc = t[0].s.sc[0], *st = start[0];
    struct duo_half next = { p->row, 0, unpack ? p->to->w : NULL, p->s };
    for (; next.half < 2; next.half++) {
        struct columns columns;
        const uint8_t *fetch = ahead;
        /* the last four, or, without a branch, what is in L1 anyway */
        const uint8_t *last = p->half < 8 * p->step ? t[0].w[0] : ahead + 7 * p->step;
        PRAGMA_UNROLL
        for (int g = 0; g < 8; g++) {
            __m512i x0[DUO_MR], x1[DUO_MR];
            PRAGMA_UNROLL
            for (int i = 0; i < mr; i++)
                x0[i] = x1[i] = _mm512_set1_epi32(st[16 * i + g]);
            PRAGMA_UNROLL
            for (int k = 4 * g; k < 4 * (g + 1); k++) {
                const __m512i u0 = _mm512_load_si512(w + 64 * k), u1 = _mm512_load_si512(w + sizeof *t + 64 * k);
                PRAGMA_UNROLL
                for (int i = 0; i < mr; i++) {
                    const __m512i b = bcast4(q + 256 * i + 4 * k);
                    x0[i] = _mm512_dpbusd_epi32(x0[i], u0, b);
                    x1[i] = _mm512_dpbusd_epi32(x1[i], u1, b);
                }
                if (k % 4 == 3)
                    short_jump();
                if (!unpack)
                    continue;
                _mm_prefetch((const char *)(g < 7 ? fetch : last) + 64 * (k % 4), _MM_HINT_T0);
                if (k % 4 == 3)
                    fetch += p->step;
                const int first = 3 * DUO_STEPS * k / 32, end = 3 * DUO_STEPS * (k + 1) / 32;
                duo_step(&columns, &next, first);
                if (first + 1 < end)
                    duo_step(&columns, &next, first + 1);
            }
            const __m512i s0 = _mm512_load_si512(sc + 16 * g),
                          s1 = _mm512_load_si512(sc + sizeof *t / sizeof *sc + 16 * g);
            PRAGMA_UNROLL
            for (int i = 0; i < mr; i++) {
                tot0[i] = scaled(tot0[i], x0[i], s0);
                tot1[i] = scaled(tot1[i], x1[i], s1);
                /* now: the compiler would keep the products of all sub-blocks and add them up at last */
                __asm__ volatile("" : "+v"(tot0[i]), "+v"(tot1[i]));
            }
        }
        q += 128;
        w += 32 * 64;
        sc += 8 * LANES;
        st += 8;
        ahead += p->half;
        if (unpack)
            next.w += 32;
    }
    if (unpack)
        header_q6_k(p->to, p->row);
    const __m512 d0 = _mm512_load_ps(t[0].d), d1 = _mm512_load_ps(t[1].d);
    PRAGMA_UNROLL
    for (int i = 0; i < mr; i++) {
        const __m512 d = _mm512_set1_ps(a->d[i]);
        const __m512 y0 = _mm512_mul_ps(d0, _mm512_cvtepi32_ps(tot0[i])),
                     y1 = _mm512_mul_ps(d1, _mm512_cvtepi32_ps(tot1[i]));
        _mm512_store_ps(c + NR * i, _mm512_fmadd_ps(y0, d, _mm512_load_ps(c + NR * i)));
        _mm512_store_ps(c + NR * i + 16, _mm512_fmadd_ps(y1, d, _mm512_load_ps(c + NR * i + 16)));
    }
}

typedef void duo_fn(const struct panel *t, const struct act_rows *a, const struct duo_plan *p, float *c);
#define DUO(mr, unpack)                                                                                     \
    static __attribute__((noinline)) void duo_##mr##_##unpack(const struct panel *t, const struct act_rows *a, \
                                                              const struct duo_plan *p, float *c)           \
    {                                                                                                       \
        duo_tile(mr, unpack, t, a, p, c);                                                                   \
    }
DUO(1, 0)
DUO(2, 0)
DUO(3, 0)
DUO(4, 0)
DUO(4, 1)
static duo_fn *const duos[DUO_MR] = { duo_1_0, duo_2_0, duo_3_0, duo_4_0 };

/* n: a multiple of NR; DUO_MIN <= m <= DUO_MAX */
static __attribute__((noinline)) void mm_duo_q6_k(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,
                                                  const struct pn_act *a, int32_t m0, int32_t m)
{
    const size_t block = sizeof(struct pn_q6_k);
    struct panel t[2][2] __attribute__((aligned(64)));
    struct duo_scratch scratch;
    const bool large = 2 * NR * row_bytes + (size_t)m * (size_t)a->k > DUO_L2;
    float acc[DUO_MAX * NR] __attribute__((aligned(64)));
    int now = 0;
    for (int p = 0; p < 2; p++)
        unpack_q6_k(&t[0][p], (rows_t){ (const uint8_t *)w + (size_t)(LANES * p) * row_bytes, row_bytes }, PN_QK, NULL);
    for (int32_t n0 = 0; n0 < n; n0 += NR) {
        const uint8_t *wr = (const uint8_t *)w + (size_t)n0 * row_bytes, *coming = wr + NR * row_bytes;
        const uint8_t *after = n0 + NR < n ? coming : wr; /* what is unpacked last is multiplied by nobody */
        memset(acc, 0, (size_t)m * NR * sizeof *acc);
        for (int32_t b = 0; b < a->nb; b++, now ^= 1) {
            const int32_t soon = b + DUO_AHEAD;
            struct duo_plan plan = { { b + 1 < a->nb ? wr + (size_t)(b + 1) * block : after, row_bytes }, t[1 - now],
                                     coming + (size_t)b * NR * block, 256, 7 * 256, &scratch };
            if (large) {
                plan.ahead = soon < a->nb ? wr + (size_t)soon * block : coming + (size_t)(soon - a->nb) * block;
                plan.step = row_bytes;
                plan.half = 8 * row_bytes;
            }
            const size_t r0 = (size_t)b * (size_t)a->m + (size_t)m0;
            for (int32_t i = 0, mr; i < m; i += mr) {
                mr = m - i < DUO_MR ? m - i : DUO_MR;
                const size_t r = r0 + (size_t)i;
                const struct act_rows ar = { a->q + r * PN_QK, a->s32 + r * 8, a->s16 + r * 16, a->d + r };
                if (b + 1 == a->nb) /* to be written soon */
                    for (int32_t k = i; k < i + mr; k++)
                        fetch_lines((const uint8_t *)(c + (size_t)k * ldc + n0), NR / 16);
                if (i >= 2 * DUO_MR) { /* both panels are unpacked */
                    duos[mr - 1](t[now], &ar, &plan, acc + (size_t)i * NR);
                    continue;
                }
                duo_4_1(t[now], &ar, &plan, acc + (size_t)i * NR);
                plan.row = rows_skip(plan.row, LANES, 0);
                plan.to++;
                plan.ahead += large ? LANES * row_bytes : NR * block / 2;
            }
        }
        for (int32_t i = 0; i < m; i++)
            put_sums(c + (size_t)i * ldc + n0, acc + (size_t)i * NR, NR, NR);
    }
}

#endif
