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

/* ---- products ----
 * 64 weight rows x 256 columns become a tile [k/2][16 rows][2] in L1, four panels. Eight activation
 * rows at a time are rounded to bf16 and pass over it, 32 weight rows at a time; the sums of up to
 * 256 rows wait on the stack. Every sum runs over its column pairs in ascending order. */

#define BF_ROWS 64
#define BF_COLS 128
#define BF_MR 8
#define BF_M_CHUNK 256

struct bf_tile {
    uint16_t w[BF_ROWS / 16][BF_COLS / 2][16][2];
    uint16_t rows[16][BF_COLS]; /* weights that are not bf16 or end here, rounded, before
                                   transposition */
    uint16_t x[BF_MR][BF_COLS];
    float sum[BF_M_CHUNK][BF_ROWS];
};

/* c[mr][32] (+64 floats) += pairs of the columns. w: two panels. */
INLINE void bf_dot(int mr, float *c, const uint16_t *w, const uint16_t *x, int32_t pairs)
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

static __attribute__((noinline)) void bf_dot_n(int mr, float *c, const uint16_t *w,
                                               const uint16_t *x, int32_t pairs)
{
    switch (mr) {
    case 1:
        bf_dot(1, c, w, x, pairs);
        break;
    case 2:
        bf_dot(2, c, w, x, pairs);
        break;
    case 3:
        bf_dot(3, c, w, x, pairs);
        break;
    case 4:
        bf_dot(4, c, w, x, pairs);
        break;
    case 5:
        bf_dot(5, c, w, x, pairs);
        break;
    case 6:
        bf_dot(6, c, w, x, pairs);
        break;
    case 7:
        bf_dot(7, c, w, x, pairs);
        break;
    default:
        bf_dot(8, c, w, x, pairs);
        break;
    }
}

INLINE void bf_mm(enum pn_type type, float *c, size_t ldc, const void *w, size_t row_bytes,
                  int32_t n, int32_t k, const float *x, size_t ldx, int32_t m)
{
    struct bf_tile t __attribute__((aligned(64)));
    const size_t elem = type == PN_F32 ? 4 : 2;

    for (int32_t n0 = 0; n0 < n; n0 += BF_ROWS) {
        const int32_t rows = n - n0 < BF_ROWS ? n - n0 : BF_ROWS;
        const int32_t panels = (rows + 15) / 16;
        if (panels & 1) /* goes along with the last one; its sums are not stored */
            memset(t.w[panels], 0, sizeof t.w[0]);
        for (int32_t mc = 0; mc < m; mc += BF_M_CHUNK) {
            const int32_t mm = m - mc < BF_M_CHUNK ? m - mc : BF_M_CHUNK;
            memset(t.sum, 0, (size_t)mm * sizeof t.sum[0]);
            for (int32_t k0 = 0; k0 < k; k0 += BF_COLS) {
                const int32_t cols = k - k0 < BF_COLS ? k - k0 : BF_COLS;
                const int32_t pairs = (cols + 7) / 8 * 4; /* whole calls of columns4 */
                const int direct = type == PN_BF16 && cols % 8 == 0 && rows == BF_ROWS;
                /* the same rows, two chunks on */
                const size_t ahead = k - k0 > 3 * BF_COLS ? 2 * BF_COLS * elem : 0;
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
                        row_to_bf16(type, t.rows[r], from, cols);
                    }
                    for (int32_t i = 0; i < pairs; i += 4) {
                        __m512i col[4];
                        /* a line of four rows at a time, since prefetches in bursts are dropped */
                        for (int32_t r = i & 12; direct && r < (i & 12) + 4; r++)
                            _mm_prefetch((const char *)row.p + (size_t)r * row.step + 4 * (size_t)i + ahead,
                                         _MM_HINT_T0);
                        columns4(col, row, 4 * (size_t)i);
                        for (int32_t j = 0; j < 4; j++)
                            _mm512_store_si512(t.w[p][i + j], col[j]);
                    }
                }
                for (int32_t i = 0; i < mm; i += BF_MR) {
                    const int32_t mr = mm - i < BF_MR ? mm - i : BF_MR;
                    for (int32_t r = 0; r < mr; r++) {
                        const float *xr = x + (size_t)(mc + i + r) * ldx + (size_t)k0;
                        to_bf16(t.x[r], xr, cols, (cols + 31) & ~31);
                        /* short pieces of far rows: nothing the hardware would prefetch */
                        for (int32_t e = 0; e < cols && i + r + BF_MR < mm; e += 16)
                            _mm_prefetch((const char *)(xr + BF_MR * ldx + e), _MM_HINT_T0);
                    }
                    for (int32_t p = 0; p < panels; p += 2)
                        bf_dot_n(mr, t.sum[i] + 16 * p, t.w[p][0][0], t.x[0], pairs);
                }
            }
            for (int32_t i = 0; i < mm; i++)
                memcpy(c + (size_t)(mc + i) * ldc + n0, t.sum[i], (size_t)rows * sizeof *c);
        }
    }
}

#define MM_BF16(name, type)                                                                        \
    static void ISA(name)(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,        \
                          int32_t k, const float *x, size_t ldx, int32_t m)                        \
    {                                                                                              \
        bf_mm(type, c, ldc, w, row_bytes, n, k, x, ldx, m);                                        \
    }
MM_BF16(mm_bf16_bf16, PN_BF16)
MM_BF16(mm_bf16_f16, PN_F16)
MM_BF16(mm_bf16_f32, PN_F32)

/* ---- attention ----
 * As attn_tmpl.h: all query rows pass over one tile of 64 keys before the next. Queries are rounded
 * once per call, probabilities as they come; both KV layouts are in pairs already. */

#define Q_ELEMS 16384 /* of rounded queries at a time: 32 KiB of stack */

/* s[rows][64] */
INLINE void bf_scores(int rows, float *s, const uint16_t *q, int32_t hd2, const uint16_t *k)
{
    const size_t block = (size_t)hd2 * 16;
    __m512 x[ATTN_ROWS][TILE_VECS];
    PRAGMA_UNROLL
    for (int i = 0; i < rows; i++) {
        PRAGMA_UNROLL
        for (int b = 0; b < TILE_VECS; b++)
            x[i][b] = _mm512_setzero_ps();
    }
    for (int32_t d = 0; d < hd2; d += 2) {
        __m512bh kv[TILE_VECS];
        PRAGMA_UNROLL
        for (int b = 0; b < TILE_VECS; b++)
            kv[b] = pairs_load(k + b * block + 16 * (size_t)d);
        PRAGMA_UNROLL
        for (int i = 0; i < rows; i++) {
            const __m512bh qd = pair_set1(q + (size_t)i * (size_t)hd2 + (size_t)d);
            PRAGMA_UNROLL
            for (int b = 0; b < TILE_VECS; b++)
                x[i][b] = _mm512_dpbf16_ps(x[i][b], kv[b], qd);
        }
    }
    PRAGMA_UNROLL
    for (int i = 0; i < rows; i++) {
        PRAGMA_UNROLL
        for (int b = 0; b < TILE_VECS; b++)
            _mm512_store_ps(s + i * PN_ATTN_TILE + 16 * b, x[i][b]);
    }
}

/* o[rows][16 vecs] += p * v over the 64 keys; last: lanes of the last vector that exist */
INLINE void bf_values(int rows, int vecs, __mmask16 last, float *o, size_t ldo, const uint16_t *p,
                      const uint16_t *v, int32_t hd)
{
    __m512 x[ATTN_ROWS][PV_VECS];
    PRAGMA_UNROLL
    for (int i = 0; i < rows; i++) {
        PRAGMA_UNROLL
        for (int b = 0; b < vecs; b++)
            x[i][b] = _mm512_loadu_ps(o + (size_t)i * ldo + 16 * b);
    }
    for (int32_t j = 0; j < PN_ATTN_TILE; j += 2, v += 2 * (size_t)hd) {
        __m512bh y[PV_VECS];
        PRAGMA_UNROLL
        for (int b = 0; b < vecs; b++)
            y[b] = b == vecs - 1 ? (__m512bh)_mm512_maskz_loadu_epi32(last, v + 32 * b)
                                 : pairs_load(v + 32 * b);
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

INLINE void bf_rows(int rows, float *part, size_t stride, const uint16_t *q, int32_t hd2,
                    const int32_t *n, const struct pn_kv_view *kv, int64_t first, const float *bias)
{
    float s[ATTN_ROWS][PN_ATTN_TILE] __attribute__((aligned(64)));
    uint16_t p[ATTN_ROWS][PN_ATTN_TILE] __attribute__((aligned(64)));
    const int32_t hd = kv->hd;

    bf_scores(rows, s[0], q, hd2, (const uint16_t *)kv->k + (size_t)first * (size_t)hd2);
    for (int i = 0; i < rows; i++) {
        if (n[i] > 0) {
            softmax_row(PN_KV_BF16, (struct pn_attn_part *)(part + (size_t)i * stride), s[i], n[i],
                        hd, NULL, NULL, bias != NULL ? bias + first : NULL);
            to_bf16(p[i], s[i], PN_ATTN_TILE, PN_ATTN_TILE);
        } else {
            memset(p[i], 0, sizeof p[i]);
        }
    }
    float *o = part + offsetof(struct pn_attn_part, o) / sizeof(float);
    const uint16_t *v = (const uint16_t *)kv->v + (size_t)first * (size_t)hd;
    const __mmask16 last = (__mmask16)(0xffff >> (-hd & 15));
    int32_t left = (hd + 15) / 16; /* vectors */
    for (; left % 5 == 0 && left > 0; left -= 5, o += 80, v += 160)
        bf_values(rows, 5, left == 5 ? last : 0xffff, o, stride, p[0], v, hd);
    for (; left >= 4; left -= 4, o += 64, v += 128)
        bf_values(rows, 4, left == 4 ? last : 0xffff, o, stride, p[0], v, hd);
    for (; left >= 2; left -= 2, o += 32, v += 64)
        bf_values(rows, 2, left == 2 ? last : 0xffff, o, stride, p[0], v, hd);
    if (left > 0)
        bf_values(rows, 1, last, o, stride, p[0], v, hd);
}

static void ISA(attn_bf16)(float *part, const float *q, size_t ldq, int32_t nq,
                           const int32_t *n_keys, const struct pn_kv_view *kv, int64_t key0,
                           const float *bias)
{
    const int32_t hd = kv->hd, hd2 = (hd + 1) & ~1;
    const size_t stride = pn_attn_part_floats(hd);
    if (hd2 > Q_ELEMS / ATTN_ROWS - 32) { /* no such model, but nothing forbids it */
        attn_body(PN_KV_BF16, part, q, ldq, nq, n_keys, kv, key0, bias);
        return;
    }
    uint16_t qb[Q_ELEMS] __attribute__((aligned(64)));
    /* 32: rounding writes whole vectors */
    const int32_t pass = (Q_ELEMS - 32) / hd2 / ATTN_ROWS * ATTN_ROWS;

    for (int32_t i0 = 0; i0 < nq; i0 += pass) {
        const int32_t rows_here = nq - i0 < pass ? nq - i0 : pass;
        int32_t most_keys = 0;
        for (int32_t i = i0; i < i0 + rows_here; i++) {
            memset(part + (size_t)i * stride, 0, stride * sizeof *part);
            part[(size_t)i * stride] = -INFINITY;
            to_bf16(qb + (size_t)(i - i0) * (size_t)hd2, q + (size_t)i * ldq, hd, (hd2 + 31) & ~31);
            most_keys = n_keys[i] > most_keys ? n_keys[i] : most_keys;
        }
        const int64_t end = most_keys < key0 + PN_ATTN_CHUNK ? most_keys : key0 + PN_ATTN_CHUNK;
        for (int64_t first = key0; first < end; first += PN_ATTN_TILE) {
            int32_t i = 0;
            while (i < rows_here) {
                const int rows = rows_here - i >= ATTN_ROWS ? ATTN_ROWS : 1;
                int32_t n[ATTN_ROWS], most = 0;
                for (int r = 0; r < rows; r++) {
                    n[r] = visible(n_keys[i0 + i + r], first);
                    most = n[r] > most ? n[r] : most;
                }
                float *p = part + (size_t)(i0 + i) * stride;
                const uint16_t *qi = qb + (size_t)i * (size_t)hd2;
                if (most > 0 && rows == ATTN_ROWS)
                    bf_rows(ATTN_ROWS, p, stride, qi, hd2, n, kv, first, bias);
                else if (most > 0)
                    bf_rows(1, p, stride, qi, hd2, n, kv, first, bias);
                i += rows;
            }
        }
    }
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
    k->mm_bf16[PN_BF16] = ISA(mm_bf16_bf16);
    k->mm_bf16[PN_F16] = ISA(mm_bf16_f16);
    k->mm_bf16[PN_F32] = ISA(mm_bf16_f32);
    k->attn_bf16 = ISA(attn_bf16);
    k->peak_bf16 = ISA(peak_bf16);
}
