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
 * As attn_tmpl.h: all query rows pass over one tile of 64 keys before the next. Queries are rounded
 * once per call, probabilities as they come. BF16 keys and values lie in pairs already. Those of other types are
 * brought to that form: for many rows a tile at a time, on the stack; for few rows (decode), which wait for memory
 * anyway, in registers, while the next tile is being fetched. The bits are the same. */

#define BF_LAG 8.0f /* a row's m may be smaller than its largest score by so much: p stays below 3000 */
#define Q_ELEMS (128 * PN_ATTN_BF16_HD) /* of rounded queries at a time: 32 KiB of stack */

/* A tile: `type` as it lies in the cache. */
struct bf_tile_kv {
    const uint8_t *k, *v;
    size_t k_block, v_row;       /* bytes of 16 keys; of a pair of values */
    int32_t dims;                /* of a key, padded with zeros */
    const float *ks, *vs, *bias; /* at the tile's first key, or NULL */
    const char *next_k, *next_v; /* to be fetched, or NULL */
};

/* Dimensions are padded to whole groups of the key layout. */
INLINE int32_t bf_dims(enum pn_kv_type type, int32_t hd)
{
    return type == PN_KV_Q8 ? (hd + 3) & ~3 : (hd + 1) & ~1;
}

/* x[16] in the even places, y[16] in the odd ones, rounded */
INLINE __m512i pairs_of(__m512 x, __m512 y)
{
    const __m512i mixed = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                           23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(mixed, (__m512i)_mm512_cvtne2ps_pbh(y, x));
}
/* the same for values that bf16 holds exactly */
INLINE __m512i pairs_exact(__m512 x, __m512 y)
{
    return _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(x), 16), _mm512_castps_si512(y));
}

/* Member i of sixteen groups of four int8, times 2^24. */
INLINE __m512 key_i8(__m512i k, int i)
{
    const __m512i to_top = _mm512_broadcast_i32x4(_mm_set_epi32(
        0x0c808080 + (i << 24), 0x08808080 + (i << 24), 0x04808080 + (i << 24), 0x00808080 + (i << 24)));
    return _mm512_cvtepi32_ps(_mm512_shuffle_epi8(k, to_top));
}

/* Pair i of the 64 bytes at k: dimensions of 16 keys (F16: both halves there are). */
INLINE __m512i bf_key_pair(enum pn_kv_type type, const uint8_t *k, int i)
{
    if (type == PN_KV_F16)
        return pairs_of(vf_load_f16(k), vf_load_f16(k + 32));
    const __m512i x = _mm512_loadu_si512(k);
    return type == PN_KV_BF16 ? x : pairs_exact(key_i8(x, 2 * i), key_i8(x, 2 * i + 1));
}

/* Sixteen dimensions (those of m) of a pair of values; the second is v_row / 2 bytes behind the first. */
INLINE __m512i bf_value_pair(enum pn_kv_type type, const uint8_t *v, size_t v_row, __mmask16 m)
{
    const uint8_t *odd = v + v_row / 2;
    if (type == PN_KV_BF16)
        return _mm512_maskz_loadu_epi32(m, v);
    if (type == PN_KV_F16)
        return pairs_of(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, v)),
                        _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, odd)));
    return pairs_exact(vf_from_i8(_mm_maskz_loadu_epi8(m, v)), vf_from_i8(_mm_maskz_loadu_epi8(m, odd)));
}

/* The tile t as pairs: k [4][dims/2][16][2], v [32][hd rounded up to 16][2]. */
INLINE void bf_convert(enum pn_kv_type type, uint16_t *k, uint16_t *v, const struct bf_tile_kv *t, int32_t hd)
{
    const int step = type == PN_KV_Q8 ? 4 : 2;
    for (int b = 0; b < TILE_VECS; b++) {
        const uint8_t *from = t->k + (size_t)b * t->k_block;
        int32_t d = 0;
        for (; d + (type == PN_KV_F16) < hd; d += step, from += 64) {
            PRAGMA_UNROLL
            for (int i = 0; i < step / 2; i++, k += 32)
                _mm512_store_si512(k, bf_key_pair(type, from, i));
        }
        if (d < hd) { /* F16, odd */
            _mm512_store_si512(k, pairs_of(vf_load_f16(from), vf_zero()));
            k += 32;
        }
    }
    const size_t bytes = type == PN_KV_Q8 ? 1 : 2;
    for (int32_t j = 0; j < PN_ATTN_TILE / 2; j++) {
        const uint8_t *from = t->v + (size_t)j * t->v_row;
        for (int32_t d = 0; d < hd; d += 16, v += 32) {
            const __mmask16 m = hd - d >= 16 ? 0xffff : first_n(hd - d);
            _mm512_store_si512(v, bf_value_pair(type, from + (size_t)d * bytes, t->v_row, m));
        }
    }
}

/* s[rows][64] */
INLINE void bf_scores(enum pn_kv_type type, int rows, float *s, const uint16_t *q, const struct bf_tile_kv *t)
{
    const int step = type == PN_KV_Q8 ? 4 : 2; /* dimensions in 64 bytes */
    const uint8_t *k = t->k;
    const char *next = t->next_k;
    __m512 x[ATTN_ROWS][TILE_VECS];
    PRAGMA_UNROLL
    for (int i = 0; i < rows; i++) {
        PRAGMA_UNROLL
        for (int b = 0; b < TILE_VECS; b++)
            x[i][b] = _mm512_setzero_ps();
    }
    for (int32_t d = 0; d < t->dims; d += step, k += 64) {
        PRAGMA_UNROLL
        for (int b = 0; b < TILE_VECS && next != NULL; b++, next += 64)
            _mm_prefetch(next, _MM_HINT_T0);
        PRAGMA_UNROLL
        for (int h = 0; h < step / 2; h++) {
            __m512bh kv[TILE_VECS];
            PRAGMA_UNROLL
            for (int b = 0; b < TILE_VECS; b++)
                kv[b] = (__m512bh)bf_key_pair(type, k + (size_t)b * t->k_block, h);
            PRAGMA_UNROLL
            for (int i = 0; i < rows; i++) {
                const __m512bh qd = pair_set1(q + (size_t)i * (size_t)t->dims + d + 2 * h);
                PRAGMA_UNROLL
                for (int b = 0; b < TILE_VECS; b++)
                    x[i][b] = _mm512_dpbf16_ps(x[i][b], kv[b], qd);
            }
        }
    }
    PRAGMA_UNROLL
    for (int i = 0; i < rows; i++) {
        PRAGMA_UNROLL
        for (int b = 0; b < TILE_VECS; b++)
            _mm512_store_ps(s + i * PN_ATTN_TILE + 16 * b, x[i][b]);
    }
}

/* exp(x), x <= BF_LAG, to a relative error of 2^-13 (p is rounded to 2^-9), never below 2^-125: 2^n times a
 * minimax polynomial of degree three */
INLINE __m512 bf_exp(__m512 x)
{
    const __m512 log2e = vf_set1(PN_EXP_LOG2E), magic = vf_set1(PN_EXP_MAGIC);
    x = vf_max(vf_set1(-86.0f), x); /* a NaN stays */
    const __m512 t = vf_fma(x, log2e, magic);
    const __m512 f = vf_fms(x, log2e, vf_sub(t, magic));
    __m512 p = vf_set1(0x1.c3f76p-5f);
    p = vf_fma(p, f, vf_set1(0x1.f0de1ap-3f));
    p = vf_fma(p, f, vf_set1(0x1.62f31ap-1f));
    p = vf_fma(p, f, vf_set1(0x1.fff692p-1f));
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
}

/* Scores of one row to probabilities p, rounded; m, l and o of the row follow. n > 0 keys are seen. */
INLINE void bf_softmax(enum pn_kv_type type, struct pn_attn_part *part, uint16_t *p, const float *s, int32_t n,
                       int32_t hd, const struct bf_tile_kv *t)
{
    __m512 x[TILE_VECS], max = vf_set1(-INFINITY);
    const uint64_t seen = n >= PN_ATTN_TILE ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1;
    PRAGMA_UNROLL
    for (int b = 0; b < TILE_VECS; b++) {
        const __mmask16 m = (__mmask16)(seen >> (16 * b));
        x[b] = _mm512_load_ps(s + 16 * b);
        if (type == PN_KV_Q8)
            x[b] = vf_mul(vf_mul(x[b], vf_set1(0x1p-24f)), vf_load(t->ks + 16 * b)); /* see key_i8 */
        if (t->bias != NULL)
            x[b] = vf_add(x[b], _mm512_maskz_loadu_ps(m, t->bias + 16 * b));
        x[b] = _mm512_mask_mov_ps(vf_set1(-INFINITY), m, x[b]);
        max = vf_max(x[b], max);
    }
    const float new_max = vf_hmax(max);
    if (new_max > part->m + BF_LAG) { /* rescaling at every new maximum costs a twentieth of the time */
        const vf c = vf_set1(pn_expf(part->m - new_max));
        vf_store(part->l, vf_mul(vf_load(part->l), c));
        for (int32_t d = 0; d < hd; d += 16) /* the row is padded to a multiple of 16 */
            vf_store(part->o + d, vf_mul(vf_load(part->o + d), c));
        part->m = new_max;
    }
    const __m512 m = vf_set1(part->m);
    __m512 l = vf_load(part->l);
    PRAGMA_UNROLL
    for (int b = 0; b < TILE_VECS; b++) {
        x[b] = _mm512_maskz_mov_ps((__mmask16)(seen >> (16 * b)), bf_exp(vf_sub(x[b], m)));
        l = vf_add(l, x[b]);
        if (type == PN_KV_Q8)
            x[b] = vf_mul(x[b], vf_load(t->vs + 16 * b));
    }
    vf_store(part->l, l);
    PRAGMA_UNROLL
    for (int b = 0; b < TILE_VECS; b += 2)
        _mm512_store_si512(p + 16 * b, (__m512i)_mm512_cvtne2ps_pbh(x[b + 1], x[b]));
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

/* `rows` rows, a constant, over one tile; n: visible keys of each, not all zero. form: how keys and values lie
 * in t; type: whether they have scales */
INLINE void bf_rows(enum pn_kv_type type, enum pn_kv_type form, int rows, float *part, size_t stride,
                    const uint16_t *q, int32_t hd, const int32_t *n, const struct bf_tile_kv *t)
{
    float s[ATTN_ROWS][PN_ATTN_TILE] __attribute__((aligned(64)));
    uint16_t p[ATTN_ROWS][PN_ATTN_TILE] __attribute__((aligned(64)));
    float *o = part + offsetof(struct pn_attn_part, o) / sizeof(float);

    for (int i = 0; i < rows; i++) { /* wanted after the scores */
        for (int32_t d = -32; d < hd; d += 16)
            _mm_prefetch((const char *)(o + (size_t)i * stride + d), _MM_HINT_T0);
    }
    bf_scores(form, rows, s[0], q, t);
    for (int i = 0; i < rows; i++) {
        if (n[i] > 0)
            bf_softmax(type, (struct pn_attn_part *)(part + (size_t)i * stride), p[i], s[i], n[i], hd, t);
        else
            memset(p[i], 0, sizeof p[i]);
    }
    bf_values_all(form, rows, o, stride, p[0], hd, t);
}

/* Rows i0 .. i0+nq-1 of a call over its keys up to most_keys; qb: rounded queries. form: PN_KV_BF16, or type
 * where few rows take keys and values as they lie */
INLINE void bf_tiles(enum pn_kv_type type, enum pn_kv_type form, float *part, const uint16_t *qb, int32_t nq,
                     const int32_t *n_keys, int32_t most_keys, const struct pn_kv_view *kv, int64_t key0,
                     const float *bias)
{
    uint16_t tk[PN_ATTN_TILE * PN_ATTN_BF16_HD] __attribute__((aligned(64)));
    uint16_t tv[PN_ATTN_TILE * PN_ATTN_BF16_HD] __attribute__((aligned(64)));
    const int32_t hd = kv->hd, dims = bf_dims(type, hd);
    const size_t stride = pn_attn_part_floats(hd), elem = type == PN_KV_Q8 ? 1 : 2;
    const size_t k_key = (size_t)(type == PN_KV_F16 ? hd : dims) * elem;
    const size_t v_key = (size_t)(type == PN_KV_Q8 ? dims : hd) * elem;
    const int64_t end = most_keys < key0 + PN_ATTN_CHUNK ? most_keys : key0 + PN_ATTN_CHUNK;

    for (int64_t first = key0; first < end; first += PN_ATTN_TILE) {
        struct bf_tile_kv t = { .k = (const uint8_t *)kv->k + (size_t)first * k_key,
                                .v = (const uint8_t *)kv->v + (size_t)first * v_key,
                                .k_block = 16 * k_key,
                                .v_row = 2 * v_key,
                                .dims = dims,
                                .bias = bias == NULL ? NULL : bias + first };
        if (type == PN_KV_Q8) {
            t.ks = kv->ks + first;
            t.vs = kv->vs + first;
        }
        if (first + PN_ATTN_TILE < most_keys) { /* the next chunk's, too */
            t.next_k = (const char *)t.k + PN_ATTN_TILE * k_key;
            t.next_v = (const char *)t.v + PN_ATTN_TILE * v_key;
        }
        if (form != type) {
            bf_convert(type, tk, tv, &t, hd);
            t.k = (const uint8_t *)tk;
            t.v = (const uint8_t *)tv;
            t.k_block = 16 * 2 * (size_t)dims;
            t.v_row = 2 * 2 * (((size_t)hd + 15) & ~(size_t)15);
        }
        for (int32_t i = 0; i < nq;) {
            const int rows = nq - i >= ATTN_ROWS ? ATTN_ROWS : 1;
            int32_t n[ATTN_ROWS], most = 0;
            for (int r = 0; r < rows; r++) {
                n[r] = visible(n_keys[i + r], first);
                most = n[r] > most ? n[r] : most;
            }
            float *p = part + (size_t)i * stride;
            const uint16_t *q = qb + (size_t)i * (size_t)dims;
            i += rows;
            if (most == 0)
                continue;
            if (rows == ATTN_ROWS)
                bf_rows(type, form, ATTN_ROWS, p, stride, q, hd, n, &t);
            else
                bf_rows(type, form, 1, p, stride, q, hd, n, &t);
            t.next_k = t.next_v = NULL;
        }
    }
}

INLINE void bf_attn(enum pn_kv_type type, float *part, const float *q, size_t ldq, int32_t nq,
                    const int32_t *n_keys, const struct pn_kv_view *kv, int64_t key0, const float *bias)
{
    const int32_t hd = kv->hd, dims = bf_dims(type, hd);
    const size_t stride = pn_attn_part_floats(hd);
    uint16_t qb[Q_ELEMS + 32] __attribute__((aligned(64))); /* 32: rounding writes whole vectors */
    const int32_t pass = Q_ELEMS / dims / ATTN_ROWS * ATTN_ROWS;

    for (int32_t i0 = 0; i0 < nq; i0 += pass) {
        const int32_t rows = nq - i0 < pass ? nq - i0 : pass;
        int32_t most_keys = 0;
        for (int32_t i = i0; i < i0 + rows; i++) {
            memset(part + (size_t)i * stride, 0, stride * sizeof *part);
            part[(size_t)i * stride] = -INFINITY;
            to_bf16(qb + (size_t)(i - i0) * (size_t)dims, q + (size_t)i * ldq, hd, (dims + 31) & ~31);
            most_keys = n_keys[i] > most_keys ? n_keys[i] : most_keys;
        }
        if (type != PN_KV_BF16 && rows <= ATTN_ROWS && hd % 2 == 0)
            bf_tiles(type, type, part + (size_t)i0 * stride, qb, rows, n_keys + i0, most_keys, kv, key0, bias);
        else
            bf_tiles(type, PN_KV_BF16, part + (size_t)i0 * stride, qb, rows, n_keys + i0, most_keys, kv, key0,
                     bias);
    }
}

#define ATTN_BF16(name, type)                                                                      \
    static __attribute__((noinline)) void ISA(name)(float *part, const float *q, size_t ldq,       \
                                                    int32_t nq, const int32_t *n_keys,             \
                                                    const struct pn_kv_view *kv, int64_t key0,     \
                                                    const float *bias)                             \
    {                                                                                              \
        bf_attn(type, part, q, ldq, nq, n_keys, kv, key0, bias);                                   \
    }
ATTN_BF16(attn_bf16_f16, PN_KV_F16)
ATTN_BF16(attn_bf16_bf16, PN_KV_BF16)
ATTN_BF16(attn_bf16_q8, PN_KV_Q8)

static void ISA(attn_bf16)(float *part, const float *q, size_t ldq, int32_t nq, const int32_t *n_keys,
                           const struct pn_kv_view *kv, int64_t key0, const float *bias)
{
    (kv->type == PN_KV_Q8    ? ISA(attn_bf16_q8)
     : kv->type == PN_KV_F16 ? ISA(attn_bf16_f16)
                             : ISA(attn_bf16_bf16))(part, q, ldq, nq, n_keys, kv, key0, bias);
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
    k->round_act = ISA(round_act);
    k->mm_bf16[PN_BF16] = ISA(mm_bf16_bf16);
    k->mm_bf16[PN_F16] = ISA(mm_bf16_f16);
    k->mm_bf16[PN_F32] = ISA(mm_bf16_f32);
    k->attn_bf16 = ISA(attn_bf16);
    k->peak_bf16 = ISA(peak_bf16);
}
