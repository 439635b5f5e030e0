/* SPDX-License-Identifier: Apache-2.0 */
/* The amx tier: products and attention with the tile instructions.
 *
 * int8, exact (kern.h, mm). One TDPBSSD sums 64 columns of 16 x 16 outputs, but a scale ends every 16 or
 * 32 columns. So integer scales are multiplied into the weights first: sc * q is at most 14 bits with its
 * sign, and is split into p = lo + 256 * hi, two panels of bytes, hi with the sign. Both sums then run
 * over the whole super-block inside the tiles, I = sum(lo) + 256 * sum(hi). This takes as many tile
 * instructions as stopping every 32 columns would, and none of the per-sub-block work on vectors. Types
 * with f32 scales stop after each group of 32, with tiles of half the depth.
 *
 * The unit of work is sixteen activation rows. Where their number is no multiple of that, the last unit overlaps the
 * one before it: rows are computed twice and stored once. bf16 products are [close]; fewer rows than sixteen take
 * the same path, in tiles of fewer rows, since the bits of a row must not depend on their number.
 *
 * Tiles are configured when a product begins and released when it ends: nothing else in the process
 * ever runs with live tile state, and an idle core may sleep. The kernel saves tiles across signals and
 * task switches; pn_cpu_detect() has asked it for permission, without which this tier does not exist. */
#if !defined __AVX512BF16__ || !defined __AVX512VNNI__
#error "build this file with the flags of the amx tier"
#endif

#include <immintrin.h>
#include <string.h>

#include "amx_ops.h"
#include "kern/kern.h"
#include "quant/blocks.h"
#include "x86_vf512.h"

#undef ISA
#define ISA(name) name##_amx
#define MR 16
#include "x86_math.h"

#include "kern/attn_tmpl.h"
#include "x86_bf16.h"
#include "x86_mm512.h"

#include "x86_mm.h"

#define AHEAD 2 /* units from a prefetch of activations to their use */

/* Rows of nearly equal chunks of m, at most `most`, a multiple of sixteen */
INLINE int32_t chunk_rows(int32_t m, int32_t most)
{
    const int32_t n_chunks = (m + most - 1) / most;
    return ((m + n_chunks - 1) / n_chunks + 15) & ~15;
}
/* The first of the `rows` rows of the unit for row i (a multiple of sixteen) and on, of m rows: where fewer are left
 * those before them */
INLINE int32_t unit_row(int32_t i, int32_t m, int32_t rows)
{
    return i + rows <= m ? i : m - rows;
}
/* Row i's place among the sums, which have sixteen rows for each unit */
INLINE int32_t sum_row(int32_t i, int32_t m, int32_t rows)
{
    const int32_t unit = i & ~15;
    return unit + i - unit_row(unit, m, rows);
}

/* ---- int8 ----
 * Sums 0 and 1 in turns, so that one is stored while the other runs; weights 2, 3; activations 4 .. 7. Products into
 * one tile need not wait for each other: the unit passes a row of sums on as soon as it has it. */

static const struct amx_config config_full = { .palette = 1,
                                               .rows = { 16, 16, 16, 16, 16, 16, 16, 16 },
                                               .colsb = { 64, 64, 64, 64, 64, 64, 64, 64 } };
/* products of 32 columns: sums 0 .. 3, activations 4, 5, weights 6, 7 */
static const struct amx_config config_half = { .palette = 1,
                                               .rows = { 16, 16, 16, 16, 16, 16, 8, 8 },
                                               .colsb = { 64, 64, 64, 64, 32, 32, 64, 64 } };

/* The bytes of a panel, [k/4][row][4]: sixteen rows of it are a tile. */
struct planes {
    uint8_t lo[64][64], hi[64][64];
};

INLINE void make_planes(enum scheme scheme, struct planes *s, const struct panel *p, int offset)
{
    if (is_f32(scheme) || scheme == INT_1_MIN) {
        const __m512i off = _mm512_set1_epi8((char)offset);
        for (int k = 0; k < 64; k++)
            _mm512_store_si512(s->lo[k], _mm512_sub_epi8(_mm512_load_si512(p->w[k]), off));
        return;
    }
    const int steps = scheme == INT_16 ? 4 : 8;
    const __m512i off = _mm512_set1_epi16((short)offset), low = _mm512_set1_epi16(255);
    for (int j = 0; j < 64; j += steps) {
        const __m512i sc = _mm512_load_si512(p->s.sc[j / steps]);
        const __m512i pair = _mm512_mask_blend_epi16(0xaaaaaaaa, sc, _mm512_slli_epi32(sc, 16));
        PRAGMA_UNROLL
        for (int k = j; k < j + steps; k++) {
            const __m512i w = _mm512_load_si512(p->w[k]);
            __m512i even = _mm512_and_si512(w, low), odd = _mm512_srli_epi16(w, 8);
            if (offset != 0) {
                even = _mm512_sub_epi16(even, off);
                odd = _mm512_sub_epi16(odd, off);
            }
            even = _mm512_mullo_epi16(even, pair);
            odd = _mm512_mullo_epi16(odd, pair);
            /* (even & low) | odd << 8, even >> 8 | (odd & ~low) */
            _mm512_store_si512(s->lo[k], _mm512_ternarylogic_epi32(even, _mm512_slli_epi16(odd, 8), low, 0xec));
            _mm512_store_si512(s->hi[k], _mm512_ternarylogic_epi32(odd, _mm512_srli_epi16(even, 8), low, 0xdc));
        }
    }
}

/* Sums of sixteen activation rows and one super-block, and what they become. */
struct unit {
    int32_t (*sum)[16][16]; /* integer scales: lo, hi of the first panel, of the second; f32 scales: a panel's groups */
    const int16_t *s;       /* sums of 32 or 16 activations, by row */
    const float *d;         /* activation scales */
    float *c;               /* [16][NR] */
};

/* What the integer sums of two panels are multiplied by; in registers */
struct int_scales {
    __m512 d[2], dmin[2];
    __m512i mn[8][2];
};
INLINE int n_mins(enum scheme scheme) /* pairs */
{
    return scheme == INT_32_MIN ? 4 : scheme == INT_1_MIN ? 8 : 0;
}
/* those of panel p */
INLINE void int_scales(enum scheme scheme, struct int_scales *z, int p, const struct panel *t)
{
    z->d[p] = _mm512_load_ps(t->d);
    if (n_mins(scheme) > 0)
        z->dmin[p] = _mm512_load_ps(t->dmin);
    PRAGMA_UNROLL
    for (int j = 0; j < n_mins(scheme); j++)
        z->mn[j][p] = _mm512_load_si512(t->mn[j]);
}

/* c += row i */
INLINE void finish_int(enum scheme scheme, const struct int_scales *z, const struct unit *u, int i)
{
    const int pairs = n_mins(scheme);
    const __m512 d = _mm512_set1_ps(u->d[i]);
    __m512i mins[2] = { _mm512_setzero_si512(), _mm512_setzero_si512() };
    PRAGMA_UNROLL
    for (int j = 0; j < pairs; j++) {
        int32_t two;
        memcpy(&two, u->s + 2 * pairs * i + 2 * j, sizeof two);
        mins[0] = _mm512_dpwssd_epi32(mins[0], z->mn[j][0], _mm512_set1_epi32(two));
        mins[1] = _mm512_dpwssd_epi32(mins[1], z->mn[j][1], _mm512_set1_epi32(two));
    }
    PRAGMA_UNROLL
    for (int p = 0; p < 2; p++) {
        __m512i x = _mm512_load_si512(u->sum[2 * p][i]);
        if (scheme != INT_1_MIN)
            x = _mm512_add_epi32(x, _mm512_slli_epi32(_mm512_load_si512(u->sum[2 * p + 1][i]), 8));
        __m512 y = _mm512_mul_ps(z->d[p], _mm512_cvtepi32_ps(x));
        if (pairs > 0)
            y = _mm512_fnmadd_ps(z->dmin[p], _mm512_cvtepi32_ps(mins[p]), y);
        float *c = u->c + NR * i + 16 * p;
        _mm512_store_ps(c, _mm512_fmadd_ps(y, d, _mm512_load_ps(c)));
    }
}

/* The same of a panel whose groups have f32 scales */
struct groups {
    float d[8][16], m[8][16];
};
struct f32_scales {
    __m512 d[8], m[8];
};
INLINE struct f32_scales f32_scales(enum scheme scheme, const struct groups *t)
{
    struct f32_scales z;
    PRAGMA_UNROLL
    for (int g = 0; g < 8; g++) {
        z.d[g] = _mm512_load_ps(t->d[g]);
        if (scheme == F32_32_MIN)
            z.m[g] = _mm512_load_ps(t->m[g]);
    }
    return z;
}
INLINE void finish_f32(enum scheme scheme, const struct f32_scales *z, const struct unit *u, int i)
{
    float s[8] __attribute__((aligned(32)));
    if (scheme == F32_32_MIN)
        _mm256_store_ps(s, _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128((const void *)(u->s + 8 * i)))));
    __m512 y = _mm512_setzero_ps();
    PRAGMA_UNROLL
    for (int g = 0; g < 8; g++) {
        y = _mm512_fmadd_ps(z->d[g], _mm512_cvtepi32_ps(_mm512_load_si512(u->sum[g][i])), y);
        if (scheme == F32_32_MIN)
            y = _mm512_fmadd_ps(z->m[g], _mm512_set1_ps(s[g]), y);
    }
    float *c = u->c + NR * i;
    _mm512_store_ps(c, _mm512_fmadd_ps(y, _mm512_set1_ps(u->d[i]), _mm512_load_ps(c)));
}

/* Tiles' loads and products do not occupy the vector units. So between them the sums of the unit before are finished
 * and some lines of the activations wanted next are fetched: STEP(i), i = 0, 1, ... Sums are stored some steps late,
 * when they are there; a store that waits holds up what comes after it. */

/* The first row that is finished in a step; none before step WAIT */
#define WAIT 2
#define ROW_AT(step, steps) (16 * ((step) - WAIT) / ((steps) - WAIT))

/* Sum T of one plane of weights over 256 columns, from step i on; LOAD_A: when the activations are not there yet;
 * STORE_LAST: the plane's before */
#define PLANE(T, DOT, w, LOAD_A, STORE_LAST, i)                                                        \
    do {                                                                                               \
        amx_zero(T);                                                                                   \
        LOAD_A(4, 0);                                                                                  \
        amx_load(2, (w)[0], 64);                                                                       \
        DOT(T, 4, 2);                                                                                  \
        STEP(i);                                                                                       \
        LOAD_A(5, 1);                                                                                  \
        amx_load(3, (w)[16], 64);                                                                      \
        DOT(T, 5, 3);                                                                                  \
        STEP((i) + 1);                                                                                 \
        LOAD_A(6, 2);                                                                                  \
        amx_load(2, (w)[32], 64);                                                                      \
        DOT(T, 6, 2);                                                                                  \
        STORE_LAST;                                                                                    \
        STEP((i) + 2);                                                                                 \
        LOAD_A(7, 3);                                                                                  \
        amx_load(3, (w)[48], 64);                                                                      \
        DOT(T, 7, 3);                                                                                  \
        STEP((i) + 3);                                                                                 \
    } while (0)
#define LOAD(t, k) amx_load(t, q + 64 * (k), PN_QK)
#define LOADED(t, k) (void)0

/* u->sum: 16 activation rows q by two panels, but for the last plane, which int_end() stores; before: the unit whose
 * sums wait, if it has any; next: activations */
INLINE void int_end(enum scheme scheme, const struct unit *u)
{
    amx_store(1, u->sum[scheme == INT_1_MIN ? 2 : 3], 64);
}
INLINE void int_unit(enum scheme scheme, const struct planes *s, const int8_t *q, const struct unit *u,
                     const struct int_scales *z, const struct unit *before, const int8_t *next)
{
    const int steps = scheme == INT_1_MIN ? 8 : 16;
#define STEP(i)                                                                                        \
    do {                                                                                               \
        fetch_lines((const uint8_t *)next + 64 * (64 / steps) * (i), 64 / steps);                      \
        if (before->sum != NULL && (i) >= WAIT)                                                        \
            for (int r = ROW_AT(i, steps); r < ROW_AT((i) + 1, steps); r++)                            \
                finish_int(scheme, z, before, r);                                                      \
    } while (0)
#define END_BEFORE if (before->sum != NULL) int_end(scheme, before)
    if (scheme == INT_1_MIN) {
        PLANE(0, amx_dot_s8, s[0].lo, LOAD, END_BEFORE, 0);
        PLANE(1, amx_dot_s8, s[1].lo, LOADED, amx_store(0, u->sum[0], 64), 4);
    } else {
        PLANE(0, amx_dot_s8u8, s[0].lo, LOAD, END_BEFORE, 0);
        PLANE(1, amx_dot_s8, s[0].hi, LOADED, amx_store(0, u->sum[0], 64), 4);
        PLANE(0, amx_dot_s8u8, s[1].lo, LOADED, amx_store(1, u->sum[1], 64), 8);
        PLANE(1, amx_dot_s8, s[1].hi, LOADED, amx_store(0, u->sum[2], 64), 12);
    }
#undef STEP
#undef END_BEFORE
}

/* u->sum: 16 activation rows q by the groups of one panel, but for the last two, which f32_end() stores */
INLINE void f32_end(const struct unit *u)
{
    amx_store(2, u->sum[6], 64);
    amx_store(3, u->sum[7], 64);
}
INLINE void f32_unit(enum scheme scheme, const struct planes *s, const int8_t *q, const struct unit *u,
                     const struct f32_scales *z, const struct unit *before, const int8_t *next)
{
#define GROUP(T, A, B, g, STORE_LAST)                                                                  \
    do {                                                                                               \
        STORE_LAST;                                                                                    \
        amx_zero(T);                                                                                   \
        amx_load(A, q + 32 * (g), PN_QK);                                                              \
        amx_load(B, s->lo[8 * (g)], 64);                                                               \
        amx_dot_s8(T, A, B);                                                                           \
        fetch_lines((const uint8_t *)next + 256 * (g), 4);                                             \
        if (before->sum != NULL && (g) >= WAIT)                                                        \
            for (int r = ROW_AT(g, 8); r < ROW_AT((g) + 1, 8); r++)                                    \
                finish_f32(scheme, z, before, r);                                                      \
    } while (0)
    GROUP(0, 4, 6, 0, (void)0);
    GROUP(1, 5, 7, 1, if (before->sum != NULL) f32_end(before));
    GROUP(2, 4, 6, 2, amx_store(0, u->sum[0], 64));
    GROUP(3, 5, 7, 3, amx_store(1, u->sum[1], 64));
    GROUP(0, 4, 6, 4, amx_store(2, u->sum[2], 64));
    GROUP(1, 5, 7, 5, amx_store(3, u->sum[3], 64));
    GROUP(2, 4, 6, 6, amx_store(0, u->sum[4], 64));
    GROUP(3, 5, 7, 7, amx_store(1, u->sum[5], 64));
#undef GROUP
}

#define AMX_LEAST 32 /* rows, from which on unpacking pays (bench/LOG.md); at least 16 */

/* acc[..][NR] += super-block b of m activation rows from m0 on, sixteen at a time. Rows m0 + m - 16 .. belong to the
 * call; those of the last unit that were done in the one before are done again, in acc rows of their own. */
INLINE void amx_block(enum scheme scheme, float *acc, const struct int_scales *z, const struct groups *groups,
                      const struct planes *s, const struct pn_act *a, int32_t b, int32_t m0, int32_t m)
{
    int32_t sum[2][8][16][16] __attribute__((aligned(64)));
    struct unit before = { NULL, NULL, NULL, NULL }, now;
    const size_t r0 = (size_t)b * (size_t)a->m;
    int which = 0;
    if (is_f32(scheme)) {
        for (int32_t i = 0; i < m; i += 16) {
            const size_t r = r0 + (size_t)(m0 + unit_row(i, m, 16));
            for (int p = 0; p < 2; p++, which ^= 1, before = now) { /* panels in turns: the other's scales */
                const struct f32_scales other = f32_scales(scheme, &groups[1 - p]);
                now = (struct unit){ sum[which], a->s32 + 8 * r, a->d + r, acc + (size_t)i * NR + 16 * p };
                f32_unit(scheme, &s[p], a->q + r * PN_QK, &now, &other, &before,
                         a->q + (r + 16 * AHEAD) * PN_QK + p * 2048);
            }
        }
        const struct f32_scales last = f32_scales(scheme, &groups[1]);
        f32_end(&before);
        for (int i = 0; i < 16; i++)
            finish_f32(scheme, &last, &before, i);
        return;
    }
    for (int32_t i = 0; i < m; i += 16, which ^= 1, before = now) {
        const size_t r = r0 + (size_t)(m0 + unit_row(i, m, 16));
        now = (struct unit){ sum[which], scheme == INT_1_MIN ? a->s16 + 16 * r : a->s32 + 8 * r, a->d + r,
                             acc + (size_t)i * NR };
        int_unit(scheme, s, a->q + r * PN_QK, &now, z, &before, a->q + (r + 16 * AHEAD) * PN_QK);
    }
    int_end(scheme, &before);
    for (int i = 0; i < 16; i++)
        finish_int(scheme, z, &before, i);
}

/* m >= AMX_LEAST */
INLINE void amx_mm(enum scheme scheme, unpack_fn *unpack, int offset, size_t block_bytes, float *c, size_t ldc,
                   const void *w, size_t row_bytes, int32_t n, const struct pn_act *a, int32_t m0, int32_t m)
{
    float acc[M_CHUNK * NR] __attribute__((aligned(64)));
    struct panel t __attribute__((aligned(64))); /* of both panels in turn: less to keep in L1 */
    struct groups groups[2] __attribute__((aligned(64)));
    struct planes s[2] __attribute__((aligned(64)));
    const int32_t chunk = chunk_rows(m, M_CHUNK);
    amx_config(is_f32(scheme) ? &config_half : &config_full);
    for (int32_t n0 = 0; n0 < n; n0 += NR) {
        const int32_t rows = n - n0 < NR ? n - n0 : NR;
        const uint8_t *wr = (const uint8_t *)w + (size_t)n0 * row_bytes;
        struct tail tail;
        if (rows < NR)
            memset(&tail, 0, sizeof tail);
        for (int32_t mc = 0; mc < m; mc += chunk) {
            const int32_t mm = m - mc < chunk ? m - mc : chunk;
            memset(acc, 0, (size_t)((mm + 15) & ~15) * NR * sizeof *acc);
            for (int32_t b = 0; b < a->nb; b++) {
                const int32_t cols = a->k - b * PN_QK < PN_QK ? a->k - b * PN_QK : PN_QK;
                const size_t at = (size_t)b * block_bytes;
                const uint8_t *next = wr + NR * (row_bytes + at); /* the next tile's, as many bytes */
                rows_t row = { wr + at, row_bytes };
                if (rows < NR)
                    row = tail_copy(&tail, row.p, row_bytes, rows, block_bytes * (size_t)cols / PN_QK);
                struct int_scales z;
                PRAGMA_UNROLL
                for (int p = 0; p < 2; p++) {
                    unpack(&t, rows_skip(row, LANES * p, 0), cols, next + (size_t)p * LANES * block_bytes);
                    make_planes(scheme, &s[p], &t, offset);
                    if (is_f32(scheme)) {
                        memcpy(groups[p].d, t.s.g.d, sizeof groups[p].d);
                        if (scheme == F32_32_MIN)
                            memcpy(groups[p].m, t.s.g.m, sizeof groups[p].m);
                    } else {
                        int_scales(scheme, &z, p, &t);
                    }
                }
                amx_block(scheme, acc, &z, groups, s, a, b, m0 + mc, mm);
            }
            for (int32_t i = 0; i < mm; i++)
                put_sums(c + (size_t)(mc + i) * ldc + n0, acc + (size_t)sum_row(i, mm, 16) * NR, NR, rows);
        }
    }
    amx_release();
}

/* For few rows the lower tier, which reads weights as fast as memory gives them: same bits. Two functions, since the
 * stack of both together would be more than the contract allows. */
#define MM_AMX(name, type, scheme, offset, blocks)                                                     \
    static __attribute__((noinline)) void amx_mm_##name(float *c, size_t ldc, const void *w,           \
                                                        size_t row_bytes, int32_t n,                   \
                                                        const struct pn_act *a, int32_t m0, int32_t m) \
    {                                                                                                  \
        amx_mm(scheme, unpack_##name, offset, (blocks) * sizeof(struct pn_##name), c, ldc, w,          \
               row_bytes, n, a, m0, m);                                                                \
    }                                                                                                  \
    static void ISA(mm_##name)(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,       \
                               const struct pn_act *a, int32_t m0, int32_t m)                          \
    {                                                                                                  \
        (m < AMX_LEAST ? pn_mm_avx512vnni[type] : amx_mm_##name)(c, ldc, w, row_bytes, n, a, m0, m);   \
    }
MM_AMX(q4_k, PN_Q4_K, INT_32_MIN, 0, 1)
MM_AMX(q5_k, PN_Q5_K, INT_32_MIN, 0, 1)
MM_AMX(q6_k, PN_Q6_K, INT_16, 32, 1)
MM_AMX(q3_k, PN_Q3_K, INT_16, 4, 1)
MM_AMX(q2_k, PN_Q2_K, INT_1_MIN, 0, 1)
MM_AMX(iq4_xs, PN_IQ4_XS, INT_32, 128, 1)
MM_AMX(q8_0, PN_Q8_0, F32_32, 128, 8)
MM_AMX(q4_0, PN_Q4_0, F32_32, 8, 8)
MM_AMX(q5_0, PN_Q5_0, F32_32, 16, 8)
MM_AMX(iq4_nl, PN_IQ4_NL, F32_32, 128, 8)
MM_AMX(q4_1, PN_Q4_1, F32_32_MIN, 0, 8)
MM_AMX(q5_1, PN_Q5_1, F32_32_MIN, 0, 8)

/* ---- bf16 ----
 * 64 weight rows by a block of columns are packed to [k/2][16 rows][2], four panels of four tiles. Tiles as above:
 * the sums of a panel 0 and 1 in turns, weights 2, 3, activations 4 .. 7, all with as many rows as there are, up to
 * sixteen. */

#define BF_ROWS 64
#define BF_COLS PN_ACT16_COLS
#define BF_M_CHUNK 384 /* activation rows at a time, at most */
#define BF_FEW 16 /* activation rows */

struct bf_block {
    uint16_t w[BF_ROWS / 16][BF_COLS / 2][16][2];
    uint16_t rows[16][BF_COLS]; /* weights that are not bf16 or end here, rounded, before transposition */
    float sum[BF_M_CHUNK][BF_ROWS];
};

/* cols columns of 16 weight rows, of which some may be missing, to a panel; zeros up to a multiple of 32.
 * Fetches sixteen times. */
INLINE void bf_pack(enum pn_type type, struct bf_block *t, uint16_t (*panel)[16][2], const uint8_t *w,
                    size_t row_bytes, int32_t rows, int32_t cols, struct ahead *f)
{
    const int direct = type == PN_BF16 && cols % 32 == 0 && rows >= 16;
    const rows_t row = direct ? (rows_t){ w, row_bytes } : (rows_t){ (const uint8_t *)t->rows[0], sizeof t->rows[0] };
    for (int32_t r = 0; r < 16 && !direct; r++) {
        row_to_bf16(type, t->rows[r], w + (size_t)(r < rows ? r : rows - 1) * row_bytes, cols);
        fetch_next(f);
    }
    const int32_t groups = (cols + 31) / 32 * 2;
    for (int32_t i = 0; i < groups; i++) {
        __m512i col[8];
        columns8(col, row, 32 * (size_t)i);
        PRAGMA_UNROLL
        for (int j = 0; j < 8; j++)
            _mm512_store_si512(panel[8 * i + j], col[j]);
        for (int32_t j = 16 * i / groups; direct && j < 16 * (i + 1) / groups; j++)
            fetch_next(f);
    }
}

#define BF_STRIDE (BF_ROWS * sizeof(float))

/* sum[16][BF_ROWS] += activation rows x, as many as the tiles have; next: activations wanted soon */
INLINE void bf_unit(const struct bf_block *t, float *sum, const uint16_t *x, int32_t panels, int32_t cols,
                    const uint8_t *next)
{
#define STEP(A, B, T, p, k)                                                                            \
    if (cols > 32 * (k)) {                                                                             \
        if ((p) == 0)                                                                                  \
            amx_load(A, x + 32 * (k), BF_COLS * sizeof *x);                                            \
        amx_load(B, t->w[p][16 * (k)], 64);                                                            \
        amx_dot_bf16(T, A, B);                                                                         \
        fetch_lines(next + 256 * (4 * (p) + (k)), 4);                                                  \
    }
/* stores the sums of the panel before when they are there; a store that waits holds up what comes after it */
#define PANEL(T, LAST, p)                                                                              \
    if (panels > (p)) {                                                                                \
        amx_load(T, sum + 16 * (p), BF_STRIDE);                                                        \
        STEP(4, 2, T, p, 0)                                                                            \
        STEP(5, 3, T, p, 1)                                                                            \
        if ((p) > 0)                                                                                   \
            amx_store(LAST, sum + 16 * ((p) - 1), BF_STRIDE);                                          \
        STEP(6, 2, T, p, 2)                                                                            \
        STEP(7, 3, T, p, 3)                                                                            \
    }
    PANEL(0, 1, 0)
    PANEL(1, 0, 1)
    PANEL(0, 1, 2)
    PANEL(1, 0, 3)
    if (panels % 2 == 0)
        amx_store(1, sum + 16 * (panels - 1), BF_STRIDE);
    else
        amx_store(0, sum + 16 * (panels - 1), BF_STRIDE);
#undef PANEL
#undef STEP
}

INLINE void amx_mm_bf16(enum pn_type type, float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,
                        const struct pn_act16 *a)
{
    struct bf_block t __attribute__((aligned(64)));
    struct amx_config config = config_full;
    const size_t elem = type == PN_F32 ? 4 : 2;
    const int32_t m = a->m, unit = m < 16 ? m : 16;
    if (m == 0)
        return; /* no tile without rows */
    for (int i = 0; i < 8; i++)
        config.rows[i] = (uint8_t)(i == 2 || i == 3 ? 16 : unit);
    /* As in the avx512bf16 tier: with few activation rows memory is what takes time, and the next tile is fetched
     * meanwhile, in the order of the file, which fewer rows leave in L2. With many, the same rows a block on. */
    const int few = m <= BF_FEW;
    const int32_t tile_rows = few ? BF_ROWS / 2 : BF_ROWS;
    const int32_t chunk = chunk_rows(m, BF_M_CHUNK);
    amx_config(&config);
    for (int32_t n0 = 0; n0 < n; n0 += tile_rows) {
        const int32_t rows = n - n0 < tile_rows ? n - n0 : tile_rows;
        const int32_t panels = (rows + 15) / 16;
        const uint8_t *wr = (const uint8_t *)w + (size_t)n0 * row_bytes;
        struct ahead f = { wr + (size_t)tile_rows * row_bytes, 0 };
        for (int32_t mc = 0; mc < m; mc += chunk) {
            const int32_t mm = m - mc < chunk ? m - mc : chunk;
            const int32_t n_units = (mm + 15) / 16;
            memset(t.sum, 0, (size_t)(16 * n_units) * sizeof t.sum[0]);
            for (int32_t b = 0; b < a->nb; b++) {
                const int32_t left = a->k - b * BF_COLS, cols = left < BF_COLS ? left : BF_COLS;
                const uint8_t *from = wr + (size_t)(b * BF_COLS) * elem;
                const uint8_t *coming = b + 1 < a->nb    ? from + BF_COLS * elem
                                        : mc + chunk < m ? wr
                                                         : wr + (size_t)tile_rows * row_bytes;
                const uint16_t *x = a->x + (size_t)b * (size_t)a->rows * BF_COLS;
                if (few)
                    f.lines = (int)((size_t)cols * elem + 63) / 64;
                for (int32_t p = 0; p < panels; p++)
                    bf_pack(type, &t, t.w[p], from + (size_t)(16 * p) * row_bytes, row_bytes, rows - 16 * p, cols, &f);
                for (int32_t u = 0; u < n_units; u++) {
                    const uint16_t *xu = x + (size_t)(mc + unit_row(16 * u, mm, unit)) * BF_COLS;
                    if (!few)
                        fetch_rows((rows_t){ coming, row_bytes }, BF_ROWS, (int)(BF_COLS * elem / 64), u, n_units);
                    bf_unit(&t, t.sum[16 * u], xu, panels, cols, (const uint8_t *)(xu + AHEAD * 16 * BF_COLS));
                }
            }
            for (int32_t i = 0; i < mm; i++) {
                const float *sum = t.sum[sum_row(i, mm, unit)];
                if (few)
                    put_sums(c + (size_t)(mc + i) * ldc + n0, sum, BF_ROWS / 2, rows);
                else
                    put_sums(c + (size_t)(mc + i) * ldc + n0, sum, BF_ROWS, rows);
            }
        }
    }
    amx_release();
}

#define MM_BF16(name, type)                                                                            \
    static void ISA(name)(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,            \
                          const struct pn_act16 *a)                                                    \
    {                                                                                                  \
        amx_mm_bf16(type, c, ldc, w, row_bytes, n, a);                                                 \
    }
MM_BF16(mm_bf16_bf16, PN_BF16)
MM_BF16(mm_bf16_f16, PN_F16)
MM_BF16(mm_bf16_f32, PN_F32)

/* ---- attention ---- */

#include "amx_attn.h"

/* ---- peaks ---- */

/* Four independent sums of zero tiles: the instructions' time does not depend on the data. */
#define PEAK(name, dot, ops)                                                                           \
    static uint64_t ISA(name)(uint64_t iters)                                                          \
    {                                                                                                  \
        int32_t sum[16][16] __attribute__((aligned(64)));                                              \
        amx_config(&config_full);                                                                      \
        amx_zero(0);                                                                                   \
        amx_zero(1);                                                                                   \
        amx_zero(2);                                                                                   \
        amx_zero(3);                                                                                   \
        amx_zero(4);                                                                                   \
        amx_zero(5);                                                                                   \
        uint64_t done = 0;                                                                             \
        for (; done < iters; done += 4) {                                                              \
            dot(0, 4, 5);                                                                              \
            dot(1, 4, 5);                                                                              \
            dot(2, 4, 5);                                                                              \
            dot(3, 4, 5);                                                                              \
        }                                                                                              \
        amx_store(0, sum, 64);                                                                         \
        amx_release();                                                                                 \
        volatile int32_t sink = sum[0][0];                                                             \
        (void)sink;                                                                                    \
        return done * (ops);                                                                           \
    }
PEAK(peak_int8, amx_dot_s8, 16 * 16 * 64 * 2)
PEAK(peak_bf16, amx_dot_bf16, 16 * 16 * 32 * 2)

#ifdef AMX_MODEL
void pn_kern_init_amx_model(struct pn_kern *k);
void pn_kern_init_amx_model(struct pn_kern *k)
#else
void pn_kern_init_amx(struct pn_kern *k)
#endif
{
    const struct pn_tile bf16_tile = { MR, LANES };
    FILL_MM(MR, NR);
    k->prefer_int8 = 0; /* bf16 tiles are as fast, since there are no scales, and more exact */
    k->mm_bf16[PN_BF16] = (struct pn_kern_mm_bf16){ ISA(mm_bf16_bf16), bf16_tile };
    k->mm_bf16[PN_F16] = (struct pn_kern_mm_bf16){ ISA(mm_bf16_f16), bf16_tile };
    k->mm_bf16[PN_F32] = (struct pn_kern_mm_bf16){ ISA(mm_bf16_f32), bf16_tile };
    k->attn_bf16 = ISA(attn_bf16);
    k->peak_int8 = ISA(peak_int8);
    k->peak_bf16 = ISA(peak_bf16);
}
