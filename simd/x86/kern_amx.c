/* SPDX-License-Identifier: Apache-2.0 */
/* The amx tier: products of sixteen activation rows or more with the tile instructions.
 *
 * int8, exact (kern.h, mm). One TDPBSSD sums 64 columns of 16 x 16 outputs, but a scale ends every 16 or
 * 32 columns. So integer scales are multiplied into the weights first: sc * q is at most 13 bits with its
 * sign, and is split into p = lo + 128 * hi, two panels of signed bytes, lo in 0 .. 127. Both sums then run
 * over the whole super-block inside the tiles, I = sum(lo) + 128 * sum(hi). This takes as many tile
 * instructions as stopping every 32 columns would, and none of the per-sub-block work on vectors. Types
 * with f32 scales stop after each group of 32, with tiles of half the depth.
 *
 * Fewer rows go to the avx512vnni tier: same bits. The last tile of a call overlaps the one before it
 * where m is no multiple of 16; rows that were done are not added again.
 *
 * bf16 [close]: pairs of columns, all sums in tiles, over 128 columns at a time. Few rows take the same
 * path, in tiles of fewer rows, since the bits of a row must not depend on their number.
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
#define ISA(name) name##_amx
#define MR 16
#include "x86_mm512.h"

#include "x86_bf16.h"
#include "x86_mm.h"

#define ROWS_FULL { 16, 16, 16, 16, 16, 16, 16, 16 }
#define COLS_FULL { 64, 64, 64, 64, 64, 64, 64, 64 }

/* Sums 0 .. 3, activations 4, weights 5 .. 7. */
static const struct amx_config config_full = { .palette = 1, .rows = ROWS_FULL, .colsb = COLS_FULL };
/* 32 columns: sums 0, 1, activations 4, weights 5, 6. */
static const struct amx_config config_half = {
    .palette = 1,
    .rows = { 16, 16, 0, 0, 16, 8, 8 },
    .colsb = { 64, 64, 0, 0, 32, 64, 64 },
};

/* ---- int8 ---- */

/* The signed bytes of a panel, [k/4][row][4]: sixteen rows of it are a tile. */
struct planes {
    int8_t lo[64][64], hi[64][64];
};

INLINE void make_planes(enum scheme scheme, struct planes *s, const struct panel *p, int offset)
{
    if (scheme == F32_32 || scheme == F32_32_MIN || scheme == INT_1_MIN) {
        const __m512i off = _mm512_set1_epi8((char)offset);
        for (int k = 0; k < 64; k++)
            _mm512_store_si512(s->lo[k], _mm512_sub_epi8(_mm512_load_si512(p->w[k]), off));
        return;
    }
    const int steps = scheme == INT_16 ? 4 : 8;
    const __m512i off = _mm512_set1_epi16((short)offset), low = _mm512_set1_epi16(255), m127 = _mm512_set1_epi16(127);
    for (int k = 0; k < 64; k++) {
        const __m512i sc = _mm512_load_si512(p->s.sc[k / steps]);
        const __m512i pair = _mm512_mask_blend_epi16(0xaaaaaaaa, sc, _mm512_slli_epi32(sc, 16));
        const __m512i w = _mm512_load_si512(p->w[k]);
        const __m512i even = _mm512_mullo_epi16(_mm512_sub_epi16(_mm512_and_si512(w, low), off), pair);
        const __m512i odd = _mm512_mullo_epi16(_mm512_sub_epi16(_mm512_srli_epi16(w, 8), off), pair);
        _mm512_store_si512(s->lo[k], _mm512_or_si512(_mm512_and_si512(even, m127),
                                                     _mm512_slli_epi16(_mm512_and_si512(odd, m127), 8)));
        _mm512_store_si512(s->hi[k],
                           _mm512_or_si512(_mm512_and_si512(_mm512_srai_epi16(even, 7), low),
                                           _mm512_slli_epi16(_mm512_srai_epi16(odd, 7), 8)));
    }
}

/* c[16][32] += one super-block: the integer sums of 16 activation rows, then the float part of rows
 * `skip` and on. */
INLINE void tile_int(enum scheme scheme, const struct panel *t, const struct planes *s, const struct act_rows *a,
                     int skip, float *c)
{
    int32_t sum[4][16][16] __attribute__((aligned(64))); /* lo, hi of the first panel, of the second */
    const int has_hi = scheme != INT_1_MIN;
    amx_zero(0);
    amx_zero(1);
    amx_zero(2);
    amx_zero(3);
    for (int k = 0; k < 64; k += 16) {
        amx_load(4, a->q + 4 * k, PN_QK);
        amx_load(5, s[0].lo[k], 64);
        amx_load(6, s[1].lo[k], 64);
        amx_dot_s8(0, 4, 5);
        amx_dot_s8(2, 4, 6);
        if (has_hi) {
            amx_load(7, s[0].hi[k], 64);
            amx_load(5, s[1].hi[k], 64);
            amx_dot_s8(1, 4, 7);
            amx_dot_s8(3, 4, 5);
        }
    }
    amx_store(0, sum[0], 64);
    amx_store(1, sum[1], 64);
    amx_store(2, sum[2], 64);
    amx_store(3, sum[3], 64);

    for (int i = skip; i < 16; i++) {
        const __m512 d = _mm512_set1_ps(a->d[i]);
        for (int p = 0; p < 2; p++) {
            __m512i x = _mm512_load_si512(sum[2 * p][i]);
            if (has_hi)
                x = _mm512_add_epi32(x, _mm512_slli_epi32(_mm512_load_si512(sum[2 * p + 1][i]), 7));
            __m512 y = _mm512_mul_ps(_mm512_load_ps(t[p].d), _mm512_cvtepi32_ps(x));
            if (scheme == INT_32_MIN || scheme == INT_1_MIN) {
                const int pairs = scheme == INT_32_MIN ? 4 : 8;
                const int16_t *as = scheme == INT_32_MIN ? a->s32 + 8 * i : a->s16 + 16 * i;
                __m512i mins = _mm512_setzero_si512();
                for (int j = 0; j < pairs; j++) {
                    int32_t two;
                    memcpy(&two, as + 2 * j, sizeof two);
                    mins = _mm512_dpwssd_epi32(mins, _mm512_load_si512(t[p].mn[j]), _mm512_set1_epi32(two));
                }
                y = _mm512_fnmadd_ps(_mm512_load_ps(t[p].dmin), _mm512_cvtepi32_ps(mins), y);
            }
            float *out = c + 32 * i + 16 * p;
            _mm512_store_ps(out, _mm512_fmadd_ps(y, d, _mm512_load_ps(out)));
        }
    }
}

INLINE void tile_f32(enum scheme scheme, const struct panel *t, const struct planes *s, const struct act_rows *a,
                     int skip, float *c)
{
    int32_t sum[2][16][16] __attribute__((aligned(64)));
    float y[2][16][16] __attribute__((aligned(64)));
    memset(y, 0, sizeof y);
    for (int g = 0; g < 8; g++) {
        amx_zero(0);
        amx_zero(1);
        amx_load(4, a->q + 32 * g, PN_QK);
        amx_load(5, s[0].lo[8 * g], 64);
        amx_load(6, s[1].lo[8 * g], 64);
        amx_dot_s8(0, 4, 5);
        amx_dot_s8(1, 4, 6);
        amx_store(0, sum[0], 64);
        amx_store(1, sum[1], 64);
        for (int p = 0; p < 2; p++) {
            const __m512 d = _mm512_load_ps(t[p].s.g.d[g]), min = _mm512_load_ps(t[p].s.g.m[g]);
            for (int i = skip; i < 16; i++) {
                const __m512 x = _mm512_cvtepi32_ps(_mm512_load_si512(sum[p][i]));
                __m512 yi = _mm512_fmadd_ps(d, x, _mm512_load_ps(y[p][i]));
                if (scheme == F32_32_MIN)
                    yi = _mm512_fmadd_ps(min, _mm512_set1_ps((float)a->s32[8 * i + g]), yi);
                _mm512_store_ps(y[p][i], yi);
            }
        }
    }
    for (int i = skip; i < 16; i++) {
        const __m512 d = _mm512_set1_ps(a->d[i]);
        for (int p = 0; p < 2; p++) {
            float *out = c + 32 * i + 16 * p;
            _mm512_store_ps(out, _mm512_fmadd_ps(_mm512_load_ps(y[p][i]), d, _mm512_load_ps(out)));
        }
    }
}

/* Rows m0 .. of at most M_CHUNK activation rows, at least 16, times one tile of weight rows. */
INLINE void amx_block(enum scheme scheme, unpack_fn *unpack, int offset, size_t block_bytes, float *acc,
                      const uint8_t *w, int32_t rows, size_t row_bytes, const struct pn_act *a, int32_t m0,
                      int32_t m)
{
    struct tail tail;
    if (rows < NR)
        memset(&tail, 0, sizeof tail);
    struct panel t[2] __attribute__((aligned(64)));
    struct planes s[2] __attribute__((aligned(64)));
    memset(acc, 0, (size_t)m * NR * sizeof *acc);
    for (int32_t b = 0; b < a->nb; b++) {
        const int32_t cols = a->k - b * PN_QK < PN_QK ? a->k - b * PN_QK : PN_QK;
        const uint8_t *next = w + NR * (row_bytes + (size_t)b * block_bytes); /* the next tile's, as many bytes */
        rows_t row = { w + (size_t)b * block_bytes, row_bytes };
        if (rows < NR)
            row = tail_copy(&tail, row.p, row_bytes, rows, block_bytes * (size_t)cols / PN_QK);
        for (int p = 0; p < 2; p++) {
            unpack(&t[p], rows_skip(row, LANES * p, 0), 0, cols, next + (size_t)p * LANES * block_bytes);
            make_planes(scheme, &s[p], &t[p], offset);
        }
        for (int32_t i = 0; i < m; i += 16) {
            const int32_t first = i + 16 <= m ? i : m - 16;
            const size_t r0 = (size_t)b * (size_t)a->m + (size_t)(m0 + first);
            const struct act_rows ar = { a->q + r0 * PN_QK, a->s32 + r0 * 8, a->s16 + r0 * 16, a->d + r0 };
            if (scheme == F32_32 || scheme == F32_32_MIN)
                tile_f32(scheme, t, s, &ar, i - first, acc + (size_t)first * NR);
            else
                tile_int(scheme, t, s, &ar, i - first, acc + (size_t)first * NR);
        }
    }
}

/* Rows of the last chunk, when they are too few for a tile */
INLINE int32_t too_few(int32_t m)
{
    return m % M_CHUNK < 16 ? m % M_CHUNK : 0;
}

/* m: no chunk has less than 16 rows */
INLINE void amx_mm(enum scheme scheme, unpack_fn *unpack, int offset, size_t block_bytes, float *c, size_t ldc,
                   const void *w, size_t row_bytes, int32_t n, const struct pn_act *a, int32_t m0, int32_t m)
{
    float acc[M_CHUNK * NR] __attribute__((aligned(64)));
    amx_config(scheme == F32_32 || scheme == F32_32_MIN ? &config_half : &config_full);
    for (int32_t n0 = 0; n0 < n; n0 += NR) {
        const int32_t rows = n - n0 < NR ? n - n0 : NR;
        const uint8_t *wr = (const uint8_t *)w + (size_t)n0 * row_bytes;
        for (int32_t mc = 0; mc < m; mc += M_CHUNK) {
            const int32_t mm = m - mc < M_CHUNK ? m - mc : M_CHUNK;
            amx_block(scheme, unpack, offset, block_bytes, acc, wr, rows, row_bytes, a, m0 + mc, mm);
            for (int32_t i = 0; i < mm; i++)
                put_sums(c + (size_t)(mc + i) * ldc + n0, acc + (size_t)i * NR, NR, rows);
        }
    }
    amx_release();
}

/* Two functions: the stack of this tier and of the lower one's would together be more than the contract allows. */
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
        const int32_t few = too_few(m), most = m - few;                                                \
        if (few > 0)                                                                                   \
            pn_mm_avx512vnni[type](c + (size_t)most * ldc, ldc, w, row_bytes, n, a, m0 + most, few);   \
        if (most > 0)                                                                                  \
            amx_mm_##name(c, ldc, w, row_bytes, n, a, m0, most);                                       \
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
 * 64 weight rows by a block of columns are packed to [k/2][16 rows][2], four panels of tiles. Sums 0 .. 3,
 * activations 4, weights 5; activations 6 and sums 7 for the rows that do not fill a tile. */

#define BF_ROWS 64
#define BF_COLS PN_ACT16_COLS
#define BF_M_CHUNK 256

struct bf_block {
    uint16_t w[BF_ROWS / 16][BF_COLS / 2][16][2];
    uint16_t rows[16][BF_COLS]; /* weights that are not bf16 or end here, rounded, before transposition */
    float sum[BF_M_CHUNK][BF_ROWS];
};

/* cols columns of 16 weight rows, of which some may be missing, to a panel; zeros up to a multiple of 32 */
INLINE void bf_pack(enum pn_type type, struct bf_block *t, uint16_t (*panel)[16][2], const uint8_t *w,
                    size_t row_bytes, int32_t rows, int32_t cols)
{
    const int direct = type == PN_BF16 && cols % 32 == 0 && rows >= 16;
    const rows_t row = direct ? (rows_t){ w, row_bytes } : (rows_t){ (const uint8_t *)t->rows[0], sizeof t->rows[0] };
    for (int32_t r = 0; r < 16 && !direct; r++)
        row_to_bf16(type, t->rows[r], w + (size_t)(r < rows ? r : rows - 1) * row_bytes, cols);
    for (int32_t i = 0; i < (cols + 31) / 32 * 16; i += 8) {
        __m512i col[8];
        columns8(col, row, 4 * (size_t)i);
        PRAGMA_UNROLL
        for (int j = 0; j < 8; j++)
            _mm512_store_si512(panel[i + j], col[j]);
    }
}

#define BF_STRIDE (BF_ROWS * sizeof(float))

/* sum[16][BF_ROWS] += 16 activation rows */
INLINE void bf_tiles(struct bf_block *t, float *sum, const uint16_t *x, int32_t panels, int32_t cols)
{
#define EACH_PANEL(OP)                                                                                 \
    do {                                                                                               \
        OP(0);                                                                                         \
        if (panels > 1)                                                                                \
            OP(1);                                                                                     \
        if (panels > 2)                                                                                \
            OP(2);                                                                                     \
        if (panels > 3)                                                                                \
            OP(3);                                                                                     \
    } while (0)
#define LOAD(p) amx_load(p, sum + 16 * (p), BF_STRIDE)
#define STORE(p) amx_store(p, sum + 16 * (p), BF_STRIDE)
#define DOT(p)                                                                                         \
    do {                                                                                               \
        amx_load(5, t->w[p][k / 2], 64);                                                               \
        amx_dot_bf16(p, 4, 5);                                                                         \
    } while (0)
    EACH_PANEL(LOAD);
    for (int32_t k = 0; k < cols; k += 32) {
        amx_load(4, x + k, BF_COLS * sizeof *x);
        EACH_PANEL(DOT);
    }
    EACH_PANEL(STORE);
#undef EACH_PANEL
#undef LOAD
#undef STORE
#undef DOT
}

/* The same for the last rows. */
INLINE void bf_last_tiles(struct bf_block *t, float *sum, const uint16_t *x, int32_t panels, int32_t cols)
{
    for (int32_t p = 0; p < panels; p++) {
        amx_load(7, sum + 16 * p, BF_STRIDE);
        for (int32_t k = 0; k < cols; k += 32) {
            amx_load(6, x + k, BF_COLS * sizeof *x);
            amx_load(5, t->w[p][k / 2], 64);
            amx_dot_bf16(7, 6, 5);
        }
        amx_store(7, sum + 16 * p, BF_STRIDE);
    }
}

INLINE void amx_mm_bf16(enum pn_type type, float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,
                        const struct pn_act16 *a)
{
    struct bf_block t __attribute__((aligned(64)));
    struct amx_config config = config_full;
    const size_t elem = type == PN_F32 ? 4 : 2;
    const int32_t m = a->m, last = m % 16;
    if (last > 0)
        config.rows[6] = config.rows[7] = (uint8_t)last;
    amx_config(&config);
    for (int32_t n0 = 0; n0 < n; n0 += BF_ROWS) {
        const int32_t rows = n - n0 < BF_ROWS ? n - n0 : BF_ROWS;
        const int32_t panels = (rows + 15) / 16;
        for (int32_t mc = 0; mc < m; mc += BF_M_CHUNK) {
            const int32_t mm = m - mc < BF_M_CHUNK ? m - mc : BF_M_CHUNK;
            memset(t.sum, 0, (size_t)mm * sizeof t.sum[0]);
            for (int32_t b = 0; b < a->nb; b++) {
                const int32_t left = a->k - b * BF_COLS, cols = left < BF_COLS ? left : BF_COLS;
                const uint8_t *from = (const uint8_t *)w + (size_t)n0 * row_bytes + (size_t)(b * BF_COLS) * elem;
                const uint16_t *x = a->x + ((size_t)b * (size_t)a->rows + (size_t)mc) * BF_COLS;
                for (int32_t p = 0; p < panels; p++)
                    bf_pack(type, &t, t.w[p], from + (size_t)(16 * p) * row_bytes, row_bytes, rows - 16 * p, cols);
                int32_t i = 0;
                for (; i + 16 <= mm; i += 16)
                    bf_tiles(&t, t.sum[i], x + i * BF_COLS, panels, cols);
                if (i < mm)
                    bf_last_tiles(&t, t.sum[i], x + i * BF_COLS, panels, cols);
            }
            for (int32_t i = 0; i < mm; i++)
                put_sums(c + (size_t)(mc + i) * ldc + n0, t.sum[i], BF_ROWS, rows);
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
    FILL_MM()
    k->mm_bf16[PN_BF16] = ISA(mm_bf16_bf16);
    k->mm_bf16[PN_F16] = ISA(mm_bf16_f16);
    k->mm_bf16[PN_F32] = ISA(mm_bf16_f32);
    k->peak_int8 = ISA(peak_int8);
    k->peak_bf16 = ISA(peak_bf16);
}
