/* SPDX-License-Identifier: Apache-2.0 */
/* The avx512bf16 tier: products and attention with VDPBF16PS, two bf16 products added into each f32
 * lane. These slots are [close]: the order of the sums is free, but it depends on k and the keys
 * alone, never on the number of rows. */
#if !defined __AVX512BF16__ || !defined __AVX512BW__
#error "build this file with the flags of the avx512bf16 tier"
#endif

#include "x86_vf512.h"

#undef ISA
#define ISA(name) name##_avx512bf16

#include "x86_math.h"

#include "kern/attn_tmpl.h"
#include "kern/kern.h"
#include "quant/blocks.h"
#include "x86_bf16.h"
#include "x86_mm512.h"

INLINE __m512bh pair_set1(const uint16_t *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return (__m512bh)_mm512_set1_epi32(v);
}
INLINE __m512bh pairs_load(const uint16_t *p)
{
    return (__m512bh)_mm512_loadu_si512(p);
}

/* ---- activations ---- */

static void ISA(round_act)(struct pn_act16 *a, int32_t m_index, const float *x)
{
    uint16_t *y = a->x + (size_t)m_index * PN_ACT16_COLS;
    for (int32_t k = 0; k < a->k; k += PN_ACT16_COLS, y += (size_t)a->rows * PN_ACT16_COLS)
        to_bf16(y, x + k, a->k - k < PN_ACT16_COLS ? a->k - k : PN_ACT16_COLS, PN_ACT16_COLS);
}

/* ---- products ----
 * 64 weight rows by a block of columns become a tile [k/2][16 rows][2] in L1, four panels. Eight activation
 * rows at a time pass over it, 32 weight rows at a time; the sums of up to 256 rows wait on the stack. Every
 * sum runs over its column pairs in ascending order. */

#define BF_ROWS 64
#define BF_COLS PN_ACT16_COLS
#define BF_MR 8
#define BF_AHEAD 2 /* groups of BF_MR rows from the prefetch to the use: they may come from memory */
#define BF_M_CHUNK 256
#define BF_FEW 16 /* activation rows */

struct bf_tile {
    uint16_t w[BF_ROWS / 16][BF_COLS / 2][16][2];
    uint16_t rows[16][BF_COLS]; /* weights that are not bf16 or end here, rounded, before
                                   transposition */
    float sum[BF_M_CHUNK][BF_ROWS];
};

/* c[mr][32] (+64 floats) += pairs of the columns. w: two panels. next: rows to be fetched meanwhile, 16 bytes a
 * pair. */
INLINE void bf_dot(int mr, float *c, const uint16_t *w, const uint16_t *x, int32_t pairs, const uint16_t *next)
{
    const size_t panel = BF_COLS * 16;
    __m512 s0[BF_MR], s1[BF_MR];
    PRAGMA_UNROLL
    for (int i = 0; i < mr; i++) {
        s0[i] = _mm512_load_ps(c + BF_ROWS * i);
        s1[i] = _mm512_load_ps(c + BF_ROWS * i + 16);
    }
    for (int32_t p = 0; p < pairs; p++) {
        const __m512bh w0 = pairs_load(w + 32 * p), w1 = pairs_load(w + panel + 32 * p);
        _mm_prefetch((const char *)(next + 8 * p), _MM_HINT_T0);
        PRAGMA_UNROLL
        for (int i = 0; i < mr; i++) {
            const __m512bh b = pair_set1(x + BF_COLS * i + 2 * p);
            s0[i] = _mm512_dpbf16_ps(s0[i], w0, b);
            s1[i] = _mm512_dpbf16_ps(s1[i], w1, b);
        }
    }
    PRAGMA_UNROLL
    for (int i = 0; i < mr; i++) {
        _mm512_store_ps(c + BF_ROWS * i, s0[i]);
        _mm512_store_ps(c + BF_ROWS * i + 16, s1[i]);
    }
}

static __attribute__((noinline)) void bf_dot_n(int mr, float *c, const uint16_t *w, const uint16_t *x,
                                               int32_t pairs, const uint16_t *next)
{
    switch (mr) {
    case 1:
        bf_dot(1, c, w, x, pairs, next);
        break;
    case 2:
        bf_dot(2, c, w, x, pairs, next);
        break;
    case 3:
        bf_dot(3, c, w, x, pairs, next);
        break;
    case 4:
        bf_dot(4, c, w, x, pairs, next);
        break;
    case 5:
        bf_dot(5, c, w, x, pairs, next);
        break;
    case 6:
        bf_dot(6, c, w, x, pairs, next);
        break;
    case 7:
        bf_dot(7, c, w, x, pairs, next);
        break;
    default:
        bf_dot(8, c, w, x, pairs, next);
        break;
    }
}

INLINE void bf_mm(enum pn_type type, float *c, size_t ldc, const void *w, size_t row_bytes,
                  int32_t n, const struct pn_act16 *a)
{
    const int32_t k = a->k, m = a->m;
    struct bf_tile t __attribute__((aligned(64)));
    const size_t elem = type == PN_F32 ? 4 : 2;

    /* With few activation rows memory is what takes time: the next tile is fetched meanwhile, in the order of the file,
     * which fewer rows leave in L2. With many, the same rows two blocks of columns on. */
    const int few = m <= BF_FEW;
    const int32_t tile_rows = few ? BF_ROWS / 2 : BF_ROWS;
    for (int32_t n0 = 0; n0 < n; n0 += tile_rows) {
        const int32_t rows = n - n0 < tile_rows ? n - n0 : tile_rows;
        const uint8_t *coming = (const uint8_t *)w + (size_t)(n0 + tile_rows) * row_bytes;
        const int32_t panels = (rows + 15) / 16;
        if (panels & 1) /* goes along with the last one; its sums are not stored */
            memset(t.w[panels], 0, sizeof t.w[0]);
        for (int32_t mc = 0; mc < m; mc += BF_M_CHUNK) {
            const int32_t mm = m - mc < BF_M_CHUNK ? m - mc : BF_M_CHUNK;
            memset(t.sum, 0, (size_t)mm * sizeof t.sum[0]);
            for (int32_t k0 = 0; k0 < k; k0 += BF_COLS) {
                const int32_t cols = k - k0 < BF_COLS ? k - k0 : BF_COLS;
                const int32_t pairs = (cols + 7) / 8 * 4; /* whole calls of columns4 */
                const int direct = type == PN_BF16 && cols % 8 == 0 && rows == tile_rows;
                const size_t ahead = !few && k - k0 > 3 * BF_COLS ? 2 * BF_COLS * elem : 0;
                const size_t some = few ? (size_t)cols * elem : 0; /* of the next tile, in turn with each row */
                for (int32_t p = 0; p < panels; p++) {
                    rows_t row = { (const uint8_t *)t.rows[0], sizeof t.rows[0] };
                    if (direct)
                        row = (rows_t){ (const uint8_t *)w + (size_t)(n0 + 16 * p) * row_bytes + (size_t)k0 * elem,
                                        row_bytes };
                    for (int32_t r = 0; r < 16 && !direct; r++) {
                        const int32_t i = 16 * p + r < rows ? 16 * p + r : rows - 1;
                        const uint8_t *from = (const uint8_t *)w + (size_t)(n0 + i) * row_bytes +
                                              (size_t)k0 * elem;
                        for (size_t b = 0; b < (size_t)cols * elem && ahead != 0; b += 64)
                            _mm_prefetch((const char *)from + ahead + b, _MM_HINT_T0);
                        fetch_lines(coming, (int)(some + 63) / 64);
                        coming += some;
                        row_to_bf16(type, t.rows[r], from, cols);
                    }
                    for (int32_t i = 0; i < pairs; i += 4) {
                        __m512i col[4];
                        /* a line of four rows at a time, since prefetches in bursts are dropped */
                        for (int32_t r = i & 12; direct && r < (i & 12) + 4; r++)
                            _mm_prefetch(few ? (const char *)coming + 64 * (r & 3)
                                             : (const char *)row.p + (size_t)r * row.step + 4 * (size_t)i + ahead,
                                         _MM_HINT_T0);
                        if (direct && few)
                            coming += 256;
                        columns4(col, row, 4 * (size_t)i);
                        for (int32_t j = 0; j < 4; j++)
                            _mm512_store_si512(t.w[p][i + j], col[j]);
                    }
                }
                const uint16_t *x = a->x + ((size_t)(k0 / BF_COLS) * (size_t)a->rows + (size_t)mc) * BF_COLS;
                for (int32_t i = 0; i < mm; i += BF_MR, x += BF_MR * BF_COLS) {
                    const int32_t mr = mm - i < BF_MR ? mm - i : BF_MR;
                    const uint16_t *next = x + BF_AHEAD * BF_MR * BF_COLS; /* a half with each two panels */
                    for (int32_t p = 0; p < panels; p += 2, next += BF_MR * BF_COLS / 2)
                        bf_dot_n(mr, t.sum[i] + 16 * p, t.w[p][0][0], x, pairs, next);
                }
            }
            for (int32_t i = 0; i < mm; i++)
                if (few)
                    put_sums(c + (size_t)(mc + i) * ldc + n0, t.sum[i], BF_ROWS / 2, rows);
                else
                    put_sums(c + (size_t)(mc + i) * ldc + n0, t.sum[i], BF_ROWS, rows);
        }
    }
}

#define MM_BF16(name, type)                                                                        \
    static void ISA(name)(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,        \
                          const struct pn_act16 *a)                                                \
    {                                                                                              \
        bf_mm(type, c, ldc, w, row_bytes, n, a);                                                   \
    }
MM_BF16(mm_bf16_bf16, PN_BF16)
MM_BF16(mm_bf16_f16, PN_F16)
MM_BF16(mm_bf16_f32, PN_F32)

/* ---- attention ----
 * For few rows (decode), which wait for memory anyway, keys and values of all types are brought to pairs in registers,
 * while the next tile is being fetched. The bits are the same. */

#define BF_GRAIN 1
INLINE int bf_direct(enum pn_kv_type type, int32_t rows, int32_t hd)
{
    return type == PN_KV_BF16 || (rows <= ATTN_ROWS && hd % 2 == 0);
}
INLINE void bf_begin(int32_t rows, int32_t dims)
{
    (void)rows;
    (void)dims;
}
INLINE void bf_end(void)
{
}
#include "x86_attn_bf16.h"

/* Scores of a few rows of one tile, as bf_logits() leaves them, and the probabilities they become */
struct bf_few {
    float u[ATTN_ROWS][PN_ATTN_TILE] __attribute__((aligned(64)));
    uint16_t p[ATTN_ROWS][PN_ATTN_TILE] __attribute__((aligned(64)));
    float *part; /* of the rows */
};

INLINE struct pn_attn_part *bf_part(const struct bf_few *f, int row, size_t stride)
{
    return (struct pn_attn_part *)(f->part + (size_t)row * stride);
}

/* The scores x of f's rows leave the registers. whole: all keys are seen */
INLINE void bf_put_scores(enum pn_kv_type type, int whole, int rows, struct bf_few *f, __m512 (*x)[TILE_VECS],
                          size_t stride, int32_t hd, const int32_t *n, const struct bf_tile_kv *t)
{
    __m512i signs = _mm512_set1_epi32(-1);
    PRAGMA_UNROLL
    for (int i = 0; i < rows; i++) {
        const float m = bf_part(f, i, stride)->m;
        signs = _mm512_and_si512(signs, bf_logits(type, f->u[i], x[i], m, whole ? PN_ATTN_TILE : n[i], whole, t));
    }
    if (!t->first && _mm512_movepi32_mask(signs) == 0xffff)
        return;
    for (int i = 0; i < rows; i++) {
        if (n[i] > 0)
            bf_raise(bf_part(f, i, stride), f->u[i], hd, t->first);
    }
}

/* The scores of f's rows; meanwhile the probabilities of the last ones, if any. */
INLINE void bf_scores(enum pn_kv_type type, enum pn_kv_type form, int rows, struct bf_few *f, struct bf_few *last,
                      size_t stride, const uint16_t *q, int32_t hd, const int32_t *n, const struct bf_tile_kv *t)
{
    const int step = form == PN_KV_Q8 ? 4 : 2; /* dimensions in 64 bytes */
    const int32_t steps = t->dims / step;
    const uint8_t *k = t->k;
    const char *next = t->next_k;
    __m512 x[ATTN_ROWS][TILE_VECS];
    PRAGMA_UNROLL
    for (int i = 0; i < rows; i++) {
        PRAGMA_UNROLL
        for (int b = 0; b < TILE_VECS; b++)
            x[i][b] = _mm512_setzero_ps();
    }
    int32_t d = 0;
    for (int r = 0; r < rows; r++) {
        PRAGMA_UNROLL
        for (int half = 0; half < 2; half++) {
            const int32_t end = steps * (2 * r + half + 1) / (2 * rows);
            for (; d < end; d++, k += 64, q += step) {
                PRAGMA_UNROLL
                for (int b = 0; b < TILE_VECS && next != NULL; b++, next += 64)
                    _mm_prefetch(next, _MM_HINT_T0);
                PRAGMA_UNROLL
                for (int h = 0; h < step / 2; h++) {
                    __m512bh kv[TILE_VECS];
                    PRAGMA_UNROLL
                    for (int b = 0; b < TILE_VECS; b++)
                        kv[b] = (__m512bh)bf_key_pair(form, k + (size_t)b * t->k_block, h);
                    PRAGMA_UNROLL
                    for (int i = 0; i < rows; i++) {
                        const __m512bh qd = pair_set1(q + i * PN_ATTN_BF16_HD + 2 * h);
                        PRAGMA_UNROLL
                        for (int b = 0; b < TILE_VECS; b++)
                            x[i][b] = _mm512_dpbf16_ps(x[i][b], kv[b], qd);
                    }
                }
            }
            if (last != NULL)
                bf_probs(type, half, bf_part(last, r, stride), last->p[r], last->u[r], t);
        }
    }
    if (t->whole)
        bf_put_scores(type, 1, rows, f, x, stride, hd, n, t);
    else
        bf_put_scores(type, 0, rows, f, x, stride, hd, n, t);
}

/* o[rows][16 vecs] += p * v over the 64 keys; last: lanes of the last vector that exist; next: where the next
 * tile's values lie, or NULL */
INLINE void bf_values(enum pn_kv_type type, int rows, int vecs, __mmask16 last, float *o, size_t ldo,
                      const uint16_t *p, const uint8_t *v, size_t v_row, const char *next)
{
    const int vec = type == PN_KV_BF16 ? 64 : type == PN_KV_F16 ? 32 : 16; /* bytes of 16 dimensions */
    const int pair = type == PN_KV_Q8 ? 32 : 64;                           /* of two values' */
    __m512 x[ATTN_ROWS][PV_VECS];
    PRAGMA_UNROLL
    for (int i = 0; i < rows; i++) {
        PRAGMA_UNROLL
        for (int b = 0; b < vecs; b++)
            x[i][b] = _mm512_loadu_ps(o + (size_t)i * ldo + 16 * b);
    }
    for (int32_t j = 0; j < PN_ATTN_TILE; j += 2, v += v_row) {
        __m512bh y[PV_VECS];
        PRAGMA_UNROLL
        for (int b = 0; b < vecs; b++)
            y[b] = (__m512bh)bf_value_pair(type, v + vec * b, v_row, b == vecs - 1 ? last : 0xffff);
        if (next != NULL) {
            PRAGMA_UNROLL
            for (int b = 0; b < vecs * pair; b += 64)
                _mm_prefetch(next + b, _MM_HINT_T0);
            next += vecs * pair;
        }
        PRAGMA_UNROLL
        for (int i = 0; i < rows; i++) {
            const __m512bh pj = pair_set1(p + i * PN_ATTN_TILE + j);
            PRAGMA_UNROLL
            for (int b = 0; b < vecs; b++)
                x[i][b] = _mm512_dpbf16_ps(x[i][b], y[b], pj);
        }
    }
    PRAGMA_UNROLL
    for (int i = 0; i < rows; i++) {
        PRAGMA_UNROLL
        for (int b = 0; b < vecs; b++)
            _mm512_storeu_ps(o + (size_t)i * ldo + 16 * b, x[i][b]);
    }
}

INLINE void bf_values_all(enum pn_kv_type type, int rows, float *o, size_t ldo, const uint16_t *p, int32_t hd,
                          const struct bf_tile_kv *t)
{
    const __mmask16 last = (__mmask16)(0xffff >> (-hd & 15));
    const size_t vec = type == PN_KV_BF16 ? 64 : type == PN_KV_F16 ? 32 : 16;
    const uint8_t *v = t->v;
    const char *next = t->next_v;
    int32_t left = (hd + 15) / 16; /* vectors */
#define VALUES(vecs)                                                                                 \
    do {                                                                                             \
        bf_values(type, rows, vecs, left == (vecs) ? last : 0xffff, o, ldo, p, v, t->v_row, next);   \
        left -= (vecs);                                                                              \
        o += 16 * (vecs);                                                                            \
        v += (vecs) * vec;                                                                           \
        next = next == NULL ? NULL : next + (vecs) * PN_ATTN_TILE * (type == PN_KV_Q8 ? 16 : 32);    \
    } while (0)
    while (left % 5 == 0 && left > 0)
        VALUES(5);
    while (left >= 4)
        VALUES(4);
    while (left >= 2)
        VALUES(2);
    if (left > 0)
        VALUES(1);
#undef VALUES
}

/* bf_rows of a whole number of units of so many rows. Few instructions of a softmax need the pipes of VDPBF16PS, but
 * their chain is longer than what the processor keeps in flight; so a unit's probabilities come between the steps of
 * the next one's scores. The next tile is fetched with the first unit of four and, of fewer rows, the first row. */
INLINE void bf_units(enum pn_kv_type type, enum pn_kv_type form, int unit, int rows, float *part, size_t stride,
                     const uint16_t *q, int32_t hd, const int32_t *n, struct bf_tile_kv *t)
{
    struct bf_few mem[2], *last = NULL;
    const size_t o = offsetof(struct pn_attn_part, o) / sizeof(float);

    for (int i = 0; i < rows; i += unit) {
        struct bf_few *f = last == mem ? &mem[1] : mem;
        int32_t most = 0;
        for (int r = 0; r < unit; r++)
            most |= n[i + r];
        if (!t->whole && most == 0)
            continue;
        f->part = part + (size_t)i * stride;
        bf_scores(type, form, unit, f, last, stride, q + i * PN_ATTN_BF16_HD, hd, n + i, t);
        t->next_k = NULL;
        if (last != NULL) {
            bf_values_all(form, unit, last->part + o, stride, last->p[0], hd, t);
            t->next_v = NULL;
        }
        last = f;
    }
    if (last == NULL)
        return;
    for (int r = 0; r < unit; r++) {
        bf_probs(type, 0, bf_part(last, r, stride), last->p[r], last->u[r], t);
        bf_probs(type, 1, bf_part(last, r, stride), last->p[r], last->u[r], t);
    }
    bf_values_all(form, unit, last->part + o, stride, last->p[0], hd, t);
}

INLINE void bf_rows(enum pn_kv_type type, enum pn_kv_type form, int rows, float *part, size_t stride,
                    const uint16_t *q, int32_t hd, const int32_t *n, const struct bf_tile_kv *tile)
{
    struct bf_tile_kv t = *tile;
    const int whole = rows / ATTN_ROWS * ATTN_ROWS;
    if (whole > 0)
        bf_units(type, form, ATTN_ROWS, whole, part, stride, q, hd, n, &t);
    if (whole < rows)
        bf_units(type, form, 1, rows - whole, part + (size_t)whole * stride, stride,
                 q + whole * PN_ATTN_BF16_HD, hd, n + whole, &t);
}

static uint64_t ISA(peak_bf16)(uint64_t iters)
{
    enum { CHAINS = 16 };
    __m512 x[CHAINS];
    const __m512bh u = (__m512bh)_mm512_set1_epi32((int)iters),
                   v = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    PRAGMA_UNROLL
    for (int i = 0; i < CHAINS; i++)
        x[i] = _mm512_set1_ps((float)i);
    uint64_t done = 0;
    for (; done < iters; done += CHAINS) {
        PRAGMA_UNROLL
        for (int i = 0; i < CHAINS; i++)
            x[i] = _mm512_dpbf16_ps(x[i], u, v);
    }
    volatile float sink = 0.0f;
    for (int i = 0; i < CHAINS; i++)
        sink = sink + _mm512_cvtss_f32(x[i]);
    return done * 32 * 2;
}

void pn_kern_init_avx512bf16(struct pn_kern *k)
{
    const struct pn_tile bf16_tile = { BF_MR, 2 * LANES };
    k->round_act = ISA(round_act);
    k->mm_bf16[PN_BF16] = (struct pn_kern_mm_bf16){ ISA(mm_bf16_bf16), bf16_tile };
    k->mm_bf16[PN_F16] = (struct pn_kern_mm_bf16){ ISA(mm_bf16_f16), bf16_tile };
    k->mm_bf16[PN_F32] = (struct pn_kern_mm_bf16){ ISA(mm_bf16_f32), bf16_tile };
    k->attn_bf16 = ISA(attn_bf16);
    k->peak_bf16 = ISA(peak_bf16);
}
