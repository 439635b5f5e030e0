/* SPDX-License-Identifier: Apache-2.0 */
/* The driver of the quantised products, shared by the widths. The including file defines
 *     LANES        rows of a panel (x86_mm512.h, x86_mm256.h); a tile is two panels
 *     MR           activation rows of a register tile
 *     ISA(name)    the kernels' names
 * and the tiles. */
#ifndef PN_X86_MM_H
#define PN_X86_MM_H

#include "x86_unpack.h"

#define NR (2 * LANES) /* weight rows per tile */
#define M_CHUNK 512   /* activation rows per pass: their sums take 4 * M_CHUNK * NR bytes of stack */
#define MANY_TILES 16 /* register tiles: so many take longer than lines fetched stay in L1 and L2 */
#define ROWS_AHEAD 24 /* activation rows, with many register tiles: where there are so many, they may come from L3 */

/* How the sub-block sums of a super-block become one f32 per output (kern.h, mm). */
enum scheme {
    INT_32,     /* 8 integer scales, no mins                        IQ4_XS */
    INT_32_MIN, /* 8 integer scales and mins                        Q4_K, Q5_K */
    INT_16,     /* 16 integer scales                                Q6_K, Q3_K */
    INT_1_MIN,  /* scales already multiplied into the bytes, 16 mins  Q2_K */
    F32_32,     /* 8 f32 scales                                     Q4_0, Q5_0, Q8_0, IQ4_NL */
    F32_32_MIN  /* 8 f32 scales and mins                            Q4_1, Q5_1 */
};

typedef void mm_fn(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n, const struct pn_act *a,
                   int32_t m0, int32_t m);

/* The products of lower tiers, for the small ones of higher tiers. */
extern mm_fn *const pn_mm_avx2[PN_TYPE_COUNT];
extern mm_fn *const pn_mm_avx512vnni[PN_TYPE_COUNT];

/* Activation rows that are multiplied together. */
struct act_rows {
    const int8_t *q;    /* [rows][256] */
    const int16_t *s32; /* [rows][8] */
    const int16_t *s16; /* [rows][16] */
    const float *d;     /* [rows] */
};

/* What to fetch at a time, such as in each eighth of a register tile: lines from p on, then those after them. */
struct ahead {
    const uint8_t *p;
    int lines;
};
INLINE void fetch_next(struct ahead *a)
{
    fetch_lines(a->p, a->lines);
    a->p += 64 * a->lines;
}

INLINE int is_f32(enum scheme scheme)
{
    return scheme == F32_32 || scheme == F32_32_MIN;
}

/* c[mr][NR] += the products of one tile and mr activation rows. */
typedef void tile_fn(const struct panel *t, const struct act_rows *a, int offset, const struct ahead *ahead, float *c);

INLINE void mm_body(unpack_fn *unpack, tile_fn *const *tiles, int offset, size_t block_bytes,
                    float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,
                    const struct pn_act *a, int32_t m0, int32_t m)
{
    struct panel t[2] __attribute__((aligned(64)));
    float acc[M_CHUNK * NR] __attribute__((aligned(64)));

    for (int32_t n0 = 0; n0 < n; n0 += NR) {
        const int32_t rows = n - n0 < NR ? n - n0 : NR;
        const uint8_t *wr = (const uint8_t *)w + (size_t)n0 * row_bytes;
        struct tail tail;
        if (rows < NR)
            memset(&tail, 0, sizeof tail);

        for (int32_t mc = 0; mc < m; mc += M_CHUNK) {
            const int32_t mm = m - mc < M_CHUNK ? m - mc : M_CHUNK;
            /* nearly equal register tiles: 7 rows run as 4 + 3 */
            const int32_t n_tiles = (mm + MR - 1) / MR, least = mm / n_tiles, n_larger = mm % n_tiles;
            /* With few register tiles the next tile, also of the next slab, is fetched a super-block's share at a time,
             * in the order of the file. by_tiles: how many of its panels, the last ones, while this one is multiplied,
             * by the first n_ahead register tiles; the others while it is unpacked. What takes longer has more room
             * for them (bench/LOG.md). With many the next super-block of this tile's rows is, at most two
             * rows with each, and the activations are. */
            const int many = n_tiles >= MANY_TILES;
            const int by_tiles = many || mm < 3 ? 0 : mm <= MR ? 1 : 2;
            const int32_t all_lines = by_tiles * (int32_t)(LANES * block_bytes / 64 + 1);
            const int32_t n_lines = (all_lines + 8 * n_tiles - 1) / (8 * n_tiles);
            const int32_t n_ahead = by_tiles ? (all_lines + 8 * n_lines - 1) / (8 * n_lines) : 0;
            memset(acc, 0, (size_t)mm * NR * sizeof *acc);
            for (int32_t b = 0; b < a->nb; b++) {
                const int32_t cols = a->k - b * PN_QK < PN_QK ? a->k - b * PN_QK : PN_QK;
                const size_t at = (size_t)b * block_bytes;
                rows_t row = { wr + at, row_bytes };
                if (rows < NR)
                    row = tail_copy(&tail, row.p, row_bytes, rows, block_bytes * (size_t)cols / PN_QK);
                const uint8_t *next = wr + NR * (row_bytes + at), *next1 = next + LANES * block_bytes;
                struct ahead ahead = { by_tiles == 2 ? next : next1, n_lines };
                const uint8_t *near = b + 1 < a->nb      ? wr + at + block_bytes
                                      : mc + M_CHUNK < m ? wr
                                                         : wr + NR * row_bytes;
                unpack(&t[0], row, cols, many || by_tiles == 2 ? NULL : next);
                unpack(&t[1], rows_skip(row, LANES, 0), cols, many || by_tiles ? NULL : next1);
                const size_t r0 = (size_t)b * (size_t)a->m + (size_t)(m0 + mc);
                int32_t i = 0;
                for (int32_t it = 0; it < n_tiles; it++, ahead.p += 64 * 8 * ahead.lines) {
                    const int32_t mr = least + (it < n_larger);
                    const struct act_rows ar = { a->q + (r0 + (size_t)i) * PN_QK,
                                                 a->s32 + (r0 + (size_t)i) * 8,
                                                 a->s16 + (r0 + (size_t)i) * 16, a->d + r0 + i };
                    if (many)
                        ahead = (struct ahead){ (const uint8_t *)(ar.q + ROWS_AHEAD * PN_QK), (mr + 1) / 2 };
                    else if (it >= n_ahead)
                        ahead.lines = 0;
                    if (many)
                        fetch_rows((rows_t){ near, row_bytes }, NR, (int)(block_bytes / 64) + 2, it, n_tiles);
                    if (many && b + 1 == a->nb) /* to be written soon */
                        for (int32_t r = i; r < i + mr; r++)
                            fetch_lines((const uint8_t *)(c + (size_t)(mc + r) * ldc + n0), NR / 16);
                    tiles[mr](t, &ar, offset, &ahead, acc + (size_t)i * NR);
                    i += mr;
                }
            }
            for (int32_t i = 0; i < mm; i++)
                put_sums(c + (size_t)(mc + i) * ldc + n0, acc + (size_t)i * NR, NR, rows);
        }
    }
}

/* ---- few activation rows: weight row after weight row, in the order of the file (x86_row512.h, x86_row256.h) ---- */

#define ROW_NB_MAX 128  /* super-blocks of a weight row whose sums wait on the stack */
#define ROW_AHEAD 8192 /* bytes from a prefetch to its use: on a busy host lines come late */

INLINE void row_fetch(const void *p, size_t bytes)
{
    fetch_lines((const uint8_t *)p + ROW_AHEAD, (int)(bytes + 63) / 64);
}

typedef void row_fn(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n, const struct pn_act *a,
                    int32_t m0);
/* row_name_m() is the width's mm_row(what, m, ...), both constant. */
#define ROW(name, what, m)                                                                         \
    static __attribute__((noinline)) void row_##name##_##m(                                        \
        float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n, const struct pn_act *a,  \
        int32_t m0)                                                                                \
    {                                                                                              \
        mm_row(what, m, c, ldc, w, row_bytes, n, a, m0);                                           \
    }

/* The products of a type by tiles. blocks: of type in a super-block */
#define MM_AS(name, type, tiles, offset, blocks)                                                   \
    static __attribute__((noinline)) void name(float *c, size_t ldc, const void *w,                \
                                               size_t row_bytes, int32_t n,                        \
                                               const struct pn_act *a, int32_t m0, int32_t m)      \
    {                                                                                              \
        mm_body(unpack_##type, tiles_##tiles, offset, (blocks) * sizeof(struct pn_##type), c, ldc, \
                w, row_bytes, n, a, m0, m);                                                        \
    }
#define MM(type, tiles, offset, blocks) MM_AS(ISA(mm_##type), type, tiles, offset, blocks)
/* The same for a type that has other paths, too, as a function of its own: their stack and that of the tiles would
 * together be more than the contract allows. */
#define MM_TILES(type, tiles, offset, blocks) MM_AS(mm_tiles_##type, type, tiles, offset, blocks)

/* Used after the MM() of all twelve types: type, function. FILL_MM: into table k, with their register tile. */
#define MM_LIST(X)                                                                                 \
    X(PN_Q4_K, ISA(mm_q4_k))                                                                       \
    X(PN_Q5_K, ISA(mm_q5_k))                                                                       \
    X(PN_Q6_K, ISA(mm_q6_k))                                                                       \
    X(PN_Q3_K, ISA(mm_q3_k))                                                                       \
    X(PN_Q2_K, ISA(mm_q2_k))                                                                       \
    X(PN_IQ4_XS, ISA(mm_iq4_xs))                                                                   \
    X(PN_Q8_0, ISA(mm_q8_0))                                                                       \
    X(PN_Q4_0, ISA(mm_q4_0))                                                                       \
    X(PN_Q5_0, ISA(mm_q5_0))                                                                       \
    X(PN_IQ4_NL, ISA(mm_iq4_nl))                                                                   \
    X(PN_Q4_1, ISA(mm_q4_1))                                                                       \
    X(PN_Q5_1, ISA(mm_q5_1))
#define LIST_ONE(type, function) [type] = function,
#define FILL_ONE(type, function) k->mm[type] = (struct pn_kern_mm){ function, tile };
#define FILL_MM(tile_m, tile_n)                                                                    \
    do {                                                                                           \
        const struct pn_tile tile = { tile_m, tile_n };                                            \
        MM_LIST(FILL_ONE)                                                                          \
    } while (0)

#endif
