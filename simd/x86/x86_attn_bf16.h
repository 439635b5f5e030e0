/* SPDX-License-Identifier: Apache-2.0 */
/* Attention with bf16 products for the 512-bit tiers: what does not depend on how they multiply.
 *
 * As attn_tmpl.h: all query rows pass over one tile of 64 keys before the next. Queries are rounded
 * once per call, probabilities as they come. BF16 keys and values lie in pairs already; those of other types are
 * brought to that form a tile at a time, on the stack.
 *
 * Three steps lead from scores to probabilities, so that a tier can put them where its products leave time:
 * bf_logits(), then, for few tiles, bf_raise(), and bf_probs(). There is no maximum in them but in bf_raise().
 *
 * The including file has x86_vf512.h, x86_math.h, x86_bf16.h and attn_tmpl.h before this one and defines
 *     BF_GRAIN         the rows of a pass are a multiple of it, or fewer than that
 *     bf_direct(type, rows, hd)   whether `rows` rows take keys and values as they lie in the cache, also of types
 *                                 that are not pairs
 *     bf_begin(rows, dims), bf_end()   around the work on `rows` rows
 *     bf_rows(...)     see below */
#ifndef PN_X86_ATTN_BF16_H
#define PN_X86_ATTN_BF16_H

#define BF_PASS 256 /* query rows at a time: 64 KiB of stack when rounded */

/* Scores and m are in units of log2 e while a call runs. */
#define BF_LEAD 11.0f    /* of a new m before the largest score, so that few tiles need another */
#define BF_UNSEEN -0x1p127f /* score of a key that a row does not see, below all others: p is 0 */
#define BF_LN2 0x1.62e43p-1f

/* A tile: `type` as it lies in the cache. */
struct bf_tile_kv {
    const uint8_t *k, *v;
    size_t k_block, v_row;       /* bytes of 16 keys; of a pair of values */
    int32_t dims;                /* of a key, padded with zeros */
    const float *bias, *ks, *vs; /* at the tile's first key; scales: Q8 only; bias and ks in units of log2 e */
    const char *next_k, *next_v; /* to be fetched, or NULL */
    int first;                   /* the rows' first tile */
    int whole;                   /* all rows see all its keys */
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
    const size_t bytes = type == PN_KV_Q8 ? 1 : type == PN_KV_F16 ? 2 : 4; /* of a dimension (BF16: of two values) */
    for (int32_t j = 0; j < PN_ATTN_TILE / 2; j++) {
        const uint8_t *from = t->v + (size_t)j * t->v_row;
        for (int32_t d = 0; d < hd; d += 16, v += 32) {
            const __mmask16 m = hd - d >= 16 ? 0xffff : first_n(hd - d);
            _mm512_store_si512(v, bf_value_pair(type, from + (size_t)d * bytes, t->v_row, m));
        }
    }
}

/* 2^x to a relative error of 2^-13 (p is rounded to 2^-9); 0 for BF_UNSEEN. 2^n with n the nearest multiple of 1/16,
 * its fraction from a table, times a line in x - n, whose coefficients the tables hold as well. So there is one FMA,
 * while additions, shuffles and VSCALEFPS run beside VDPBF16PS on Zen 5. */
static const float exp2_value[16] __attribute__((aligned(64))) = {
    0x1.0007b0p+0f, 0x1.0b5d8ep+0f, 0x1.1733e6p+0f, 0x1.239068p+0f,
    0x1.307906p+0f, 0x1.3df3f2p+0f, 0x1.4c07a6p+0f, 0x1.5abae8p+0f,
    0x1.6a14c6p+0f, 0x1.7a1ca2p+0f, 0x1.8ada30p+0f, 0x1.9c557ap+0f,
    0x1.ae96e8p+0f, 0x1.c1a73ep+0f, 0x1.d58fa8p+0f, 0x1.ea59b4p+0f,
};
static const float exp2_slope[16] __attribute__((aligned(64))) = {
    0x1.62e04ep-1f, 0x1.729682p-1f, 0x1.82fec8p-1f, 0x1.942106p-1f,
    0x1.a60574p-1f, 0x1.b8b4aep-1f, 0x1.cc37aep-1f, 0x1.e097d4p-1f,
    0x1.f5dee8p-1f, 0x1.060b94p+0f, 0x1.11a5a0p+0f, 0x1.1dc32ap+0f,
    0x1.2a6a04p+0f, 0x1.37a044p+0f, 0x1.456c44p+0f, 0x1.53d4a4p+0f,
};
INLINE __m512 bf_exp2(__m512 x)
{
    const __m512 magic = vf_set1(0x1.8p+19f); /* leaves four bits of fraction */
    const __m512 t = vf_add(x, magic), n = vf_sub(t, magic);
    const __m512i i = _mm512_castps_si512(t); /* the low four bits count */
    const __m512 value = _mm512_permutexvar_ps(i, _mm512_load_ps(exp2_value));
    const __m512 slope = _mm512_permutexvar_ps(i, _mm512_load_ps(exp2_slope));
    return _mm512_scalef_ps(vf_fma(slope, vf_sub(x, n), value), n); /* takes n without its fraction */
}

/* The scores of one row and the 64 keys of a tile become u, exponents of two relative to the row's m. n keys are seen;
 * whole: all are. Returns bits whose signs are all set where no key is above m. */
INLINE __m512i bf_logits(enum pn_kv_type type, float *u, const __m512 *score, float m, int32_t n, int whole,
                         const struct bf_tile_kv *t)
{
    const uint64_t seen = n >= PN_ATTN_TILE ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1;
    __m512i signs = _mm512_set1_epi32(-1);
    PRAGMA_UNROLL
    for (int b = 0; b < TILE_VECS; b++) {
        const __m512 scale = type == PN_KV_Q8 ? vf_load(t->ks + 16 * b) : vf_set1(PN_EXP_LOG2E);
        const __m512 x = vf_fma(score[b], scale, vf_sub(vf_load(t->bias + 16 * b), vf_set1(m)));
        const __m512 y = whole ? x : _mm512_mask_mov_ps(vf_set1(BF_UNSEEN), (__mmask16)(seen >> (16 * b)), x);
        _mm512_store_ps(u + 16 * b, y);
        signs = _mm512_and_si512(signs, _mm512_castps_si512(y));
    }
    return signs;
}

/* y[64] = c * x, 0 from the nth on */
INLINE void bf_scaled(float *y, const float *x, float c, int32_t n)
{
    for (int b = 0; b < PN_ATTN_TILE; b += 16) {
        const __mmask16 m = n - b >= 16 ? 0xffff : n <= b ? 0 : first_n(n - b);
        vf_store(y + b, vf_mul(_mm512_maskz_loadu_ps(m, x + b), vf_set1(c)));
    }
}

/* Where a key is above m, or on the first tile: m becomes the largest score and BF_LEAD more. l, o and u follow. */
static __attribute__((noinline)) void bf_raise(struct pn_attn_part *part, float *u, int32_t hd, int first)
{
    __m512 max = vf_load(u);
    for (int b = 1; b < TILE_VECS; b++)
        max = vf_max(vf_load(u + 16 * b), max);
    const float most = vf_hmax(max);
    if (!first && !(most > 0))
        return;
    const float rise = most + BF_LEAD;
    part->m += rise;
    for (int b = 0; b < TILE_VECS; b++)
        vf_store(u + 16 * b, vf_sub(vf_load(u + 16 * b), vf_set1(rise)));
    if (first) /* and o and l are 0 */
        return;
    const vf c = bf_exp2(vf_set1(-rise));
    vf_store(part->l, vf_mul(vf_load(part->l), c));
    for (int32_t d = 0; d < hd; d += 16) /* the row is padded to a multiple of 16 */
        vf_store(part->o + d, vf_mul(vf_load(part->o + d), c));
}

/* Half the probabilities of one row's tile, rounded; l follows. */
INLINE void bf_probs(enum pn_kv_type type, int half, struct pn_attn_part *part, uint16_t *p, const float *u,
                     const struct bf_tile_kv *t)
{
    const int j = half * PN_ATTN_TILE / 2;
    __m512 p0 = bf_exp2(_mm512_load_ps(u + j)), p1 = bf_exp2(_mm512_load_ps(u + j + 16));
    vf_store(part->l, vf_add(vf_add(vf_load(part->l), p0), p1));
    if (type == PN_KV_Q8) {
        p0 = vf_mul(p0, vf_load(t->vs + j));
        p1 = vf_mul(p1, vf_load(t->vs + j + 16));
    }
    _mm512_store_si512(p + j, (__m512i)_mm512_cvtne2ps_pbh(p1, p0));
}

/* `rows` rows, at most BF_PASS, over one tile; n: visible keys of each, not all zero. form: how keys and values lie
 * in t; type: whether they have scales */
INLINE void bf_rows(enum pn_kv_type type, enum pn_kv_type form, int rows, float *part, size_t stride,
                    const uint16_t *q, int32_t hd, const int32_t *n, const struct bf_tile_kv *t);

/* Some rows of a call over its keys up to most_keys; qb: rounded queries. direct: they take keys and values as these
 * lie */
INLINE void bf_tiles(enum pn_kv_type type, int direct, float *part, const uint16_t *qb, int rows,
                     const int32_t *n_keys, int32_t most_keys, const struct pn_kv_view *kv, int64_t key0,
                     const float *bias)
{
    uint16_t tk[PN_ATTN_TILE * PN_ATTN_BF16_HD] __attribute__((aligned(64)));
    uint16_t tv[PN_ATTN_TILE * PN_ATTN_BF16_HD] __attribute__((aligned(64)));
    const enum pn_kv_type form = direct ? type : PN_KV_BF16;
    const int32_t hd = kv->hd, dims = bf_dims(type, hd);
    const size_t stride = pn_attn_part_floats(hd), elem = type == PN_KV_Q8 ? 1 : 2;
    const size_t k_key = (size_t)(type == PN_KV_F16 ? hd : dims) * elem;
    const size_t v_key = (size_t)(type == PN_KV_Q8 ? dims : hd) * elem;
    const int64_t end = most_keys < key0 + PN_ATTN_CHUNK ? most_keys : key0 + PN_ATTN_CHUNK;
    float tile_bias[PN_ATTN_TILE] = { 0 }, ks[PN_ATTN_TILE];
    int32_t n[BF_PASS], least_keys = INT32_MAX;

    for (int i = 0; i < rows; i++) {
        n[i] = PN_ATTN_TILE;
        least_keys = n_keys[i] < least_keys ? n_keys[i] : least_keys;
    }
    for (int64_t first = key0; first < end; first += PN_ATTN_TILE) {
        struct bf_tile_kv t = { .k = (const uint8_t *)kv->k + (size_t)first * k_key,
                                .v = (const uint8_t *)kv->v + (size_t)first * v_key,
                                .k_block = 16 * k_key,
                                .v_row = 2 * v_key,
                                .dims = dims,
                                .bias = tile_bias,
                                .ks = ks,
                                .first = first == key0,
                                .whole = first + PN_ATTN_TILE <= least_keys };
        for (int i = 0; i < rows && !t.whole; i++)
            n[i] = visible(n_keys[i], first);
        if (bias != NULL)
            bf_scaled(tile_bias, bias + first, PN_EXP_LOG2E, visible(most_keys, first));
        if (type == PN_KV_Q8) { /* 2^-24: see key_i8 */
            bf_scaled(ks, kv->ks + first, 0x1p-24f * PN_EXP_LOG2E, PN_ATTN_TILE);
            t.vs = kv->vs + first;
        }
        if (first + PN_ATTN_TILE < most_keys) { /* the next chunk's, too */
            t.next_k = (const char *)t.k + PN_ATTN_TILE * k_key;
            t.next_v = (const char *)t.v + PN_ATTN_TILE * v_key;
        }
        if (!direct) {
            bf_convert(type, tk, tv, &t, hd);
            t.k = (const uint8_t *)tk;
            t.v = (const uint8_t *)tv;
            t.k_block = 16 * 2 * (size_t)dims;
            t.v_row = 2 * 2 * (((size_t)hd + 15) & ~(size_t)15);
        }
        bf_rows(type, form, rows, part, stride, qb, hd, n, &t);
    }
}

INLINE void bf_attn(enum pn_kv_type type, float *part, const float *q, size_t ldq, int32_t nq,
                    const int32_t *n_keys, const struct pn_kv_view *kv, int64_t key0, const float *bias)
{
    const int32_t hd = kv->hd, dims = bf_dims(type, hd);
    const size_t stride = pn_attn_part_floats(hd);
    uint16_t qb[BF_PASS * PN_ATTN_BF16_HD] __attribute__((aligned(64)));

    for (int32_t i0 = 0, rows; i0 < nq; i0 += rows) {
        int32_t most_keys = 0;
        rows = nq - i0 < BF_PASS ? nq - i0 : BF_PASS;
        if (rows > BF_GRAIN)
            rows -= rows % BF_GRAIN;
        for (int32_t i = i0; i < i0 + rows; i++) {
            memset(part + (size_t)i * stride, 0, stride * sizeof *part);
            to_bf16(qb + (i - i0) * PN_ATTN_BF16_HD, q + (size_t)i * ldq, hd, (dims + 31) & ~31);
            most_keys = n_keys[i] > most_keys ? n_keys[i] : most_keys;
        }
        bf_begin(rows, dims);
        if (bf_direct(type, rows, hd))
            bf_tiles(type, 1, part + (size_t)i0 * stride, qb, rows, n_keys + i0, most_keys, kv, key0, bias);
        else
            bf_tiles(type, 0, part + (size_t)i0 * stride, qb, rows, n_keys + i0, most_keys, kv, key0, bias);
        bf_end();
        for (int32_t i = i0; i < i0 + rows; i++)
            part[(size_t)i * stride] = n_keys[i] > key0 ? part[(size_t)i * stride] * BF_LN2 : -INFINITY;
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

#endif
