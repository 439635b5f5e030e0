/* SPDX-License-Identifier: Apache-2.0 */
/* Dequantisation and the f32 products over vf (x86_vf512.h or x86_vf256.h).
 *
 * Lanes run along k, so the order of every sum is the contract's whatever the tile. A register tile
 * is MMF_NW weight rows x MMF_MX activation rows. 8 weight rows x 512 columns are dequantised at a
 * time: they and MMF_MX activation rows fill L1. 48 activation rows pass over all weights before
 * the next do: they stay in L2, and their lanes wait on the stack. */
#ifndef PN_X86_MMF_H
#define PN_X86_MMF_H

#include "kern/kern.h"
#include "quant/blocks.h"
#include "x86_math.h"

#define MMF_NB 8 /* weight rows of a block */
#define MMF_KC 512
#define MMF_M_CHUNK 48

/* ---- dequant ---- */

INLINE vf set1_f16(const uint8_t *p)
{
    return vf_set1(_cvtsh_ss(pn_le16(p)));
}
INLINE __m128i load16(const void *p)
{
    return _mm_loadu_si128(p);
}
/* Two bits or a nibble of every byte: bits [at, at + width) */
INLINE __m128i bits8(__m128i v, int at, int mask)
{
    return _mm_and_si128(_mm_srl_epi16(v, _mm_cvtsi32_si128(at)), _mm_set1_epi8((char)mask));
}
/* Bit e of qh as 16 in byte e - first, first = 0 or 16 */
INLINE __m128i fifth_bits(uint32_t qh, int first)
{
    const __m128i pick = _mm_add_epi8(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1),
                                      _mm_set1_epi8((char)(first / 8)));
    const __m128i bit = _mm_set1_epi64x((long long)0x8040201008040201ull);
    const __m128i v = _mm_and_si128(_mm_shuffle_epi8(_mm_set1_epi32((int)qh), pick), bit);
    return _mm_and_si128(_mm_cmpeq_epi8(v, bit), _mm_set1_epi8(16));
}
/* x = d * q + m: product exact, one rounding */
INLINE void put32(float *x, __m128i lo, __m128i hi, vf d, vf m)
{
    vf_store(x, vf_fma(vf_from_i8(lo), d, m));
    vf_store(x + 16, vf_fma(vf_from_i8(hi), d, m));
}
INLINE void put16(float *x, __m128i q, float scale, float min)
{
    vf_store(x, vf_fms(vf_from_i8(q), vf_set1(scale), vf_set1(min)));
}

INLINE void values_q4_0(float *x, const struct pn_q4_0 *b)
{
    const __m128i v = load16(b->qs), eight = _mm_set1_epi8(8);
    put32(x, _mm_sub_epi8(bits8(v, 0, 15), eight), _mm_sub_epi8(bits8(v, 4, 15), eight),
          set1_f16(b->d), vf_zero());
}
INLINE void values_q4_1(float *x, const struct pn_q4_1 *b)
{
    const __m128i v = load16(b->qs);
    put32(x, bits8(v, 0, 15), bits8(v, 4, 15), set1_f16(b->d), set1_f16(b->m));
}
INLINE void values_q5_0(float *x, const struct pn_q5_0 *b)
{
    const __m128i v = load16(b->qs), off = _mm_set1_epi8(16);
    const uint32_t qh = pn_le32(b->qh);
    put32(x, _mm_sub_epi8(_mm_or_si128(bits8(v, 0, 15), fifth_bits(qh, 0)), off),
          _mm_sub_epi8(_mm_or_si128(bits8(v, 4, 15), fifth_bits(qh, 16)), off), set1_f16(b->d),
          vf_zero());
}
INLINE void values_q5_1(float *x, const struct pn_q5_1 *b)
{
    const __m128i v = load16(b->qs);
    const uint32_t qh = pn_le32(b->qh);
    put32(x, _mm_or_si128(bits8(v, 0, 15), fifth_bits(qh, 0)),
          _mm_or_si128(bits8(v, 4, 15), fifth_bits(qh, 16)), set1_f16(b->d), set1_f16(b->m));
}
INLINE void values_q8_0(float *x, const struct pn_q8_0 *b)
{
    put32(x, load16(b->qs), load16(b->qs + 16), set1_f16(b->d), vf_zero());
}
INLINE void values_iq4_nl(float *x, const struct pn_iq4_nl *b)
{
    const __m128i v = load16(b->qs), table = load16(pn_iq4_values);
    put32(x, _mm_shuffle_epi8(table, bits8(v, 0, 15)), _mm_shuffle_epi8(table, bits8(v, 4, 15)),
          set1_f16(b->d), vf_zero());
}
INLINE void values_q4_k(float *x, const struct pn_q4_k *b)
{
    const float d = _cvtsh_ss(pn_le16(b->d)), dmin = _cvtsh_ss(pn_le16(b->dmin));
    uint8_t sc[8], mn[8];
    pn_unpack_scales_k(sc, mn, b->scales);
    for (int s = 0; s < 8; s++) {
        for (int p = 0; p < 2; p++)
            put16(x + 32 * s + 16 * p,
                  bits8(load16(b->qs + 32 * (s >> 1) + 16 * p), 4 * (s & 1), 15), d * sc[s],
                  dmin * mn[s]);
    }
}
INLINE void values_q5_k(float *x, const struct pn_q5_k *b)
{
    const float d = _cvtsh_ss(pn_le16(b->d)), dmin = _cvtsh_ss(pn_le16(b->dmin));
    uint8_t sc[8], mn[8];
    pn_unpack_scales_k(sc, mn, b->scales);
    for (int s = 0; s < 8; s++) {
        for (int p = 0; p < 2; p++) {
            const __m128i low = bits8(load16(b->qs + 32 * (s >> 1) + 16 * p), 4 * (s & 1), 15);
            const __m128i high = _mm_slli_epi16(bits8(load16(b->qh + 16 * p), s, 1), 4);
            put16(x + 32 * s + 16 * p, _mm_or_si128(low, high), d * sc[s], dmin * mn[s]);
        }
    }
}
INLINE void values_q6_k(float *x, const struct pn_q6_k *b)
{
    const float d = _cvtsh_ss(pn_le16(b->d));
    for (int i = 0; i < 16; i++) {
        const int h = i >> 3, k = i >> 1 & 3, p = i & 1;
        const __m128i low = bits8(load16(b->ql + 64 * h + 32 * (k & 1) + 16 * p), 4 * (k >> 1), 15);
        const __m128i high = _mm_slli_epi16(bits8(load16(b->qh + 32 * h + 16 * p), 2 * k, 3), 4);
        put16(x + 16 * i, _mm_sub_epi8(_mm_or_si128(low, high), _mm_set1_epi8(32)),
              d * b->scales[i], 0.0f);
    }
}
INLINE void values_q3_k(float *x, const struct pn_q3_k *b)
{
    const float d = _cvtsh_ss(pn_le16(b->d));
    int8_t sc[16];
    pn_unpack_scales_q3_k(sc, b->scales);
    for (int i = 0; i < 16; i++) {
        const int h = i >> 3, k = i >> 1 & 3, p = i & 1;
        const __m128i low = bits8(load16(b->qs + 32 * h + 16 * p), 2 * k, 3);
        const __m128i high = _mm_slli_epi16(bits8(load16(b->hmask + 16 * p), 4 * h + k, 1), 2);
        put16(x + 16 * i, _mm_sub_epi8(_mm_or_si128(low, high), _mm_set1_epi8(4)), d * sc[i], 0.0f);
    }
}
INLINE void values_q2_k(float *x, const struct pn_q2_k *b)
{
    const float d = _cvtsh_ss(pn_le16(b->d)), dmin = _cvtsh_ss(pn_le16(b->dmin));
    for (int i = 0; i < 16; i++) {
        const int h = i >> 3, k = i >> 1 & 3, p = i & 1;
        put16(x + 16 * i, bits8(load16(b->qs + 32 * h + 16 * p), 2 * k, 3),
              d * (float)(b->scales[i] & 15), dmin * (float)(b->scales[i] >> 4));
    }
}
INLINE void values_iq4_xs(float *x, const struct pn_iq4_xs *b)
{
    const float d = _cvtsh_ss(pn_le16(b->d));
    const unsigned sh = pn_le16(b->scales_h);
    const __m128i table = load16(pn_iq4_values);
    for (int s = 0; s < 8; s++) {
        const int low = b->scales_l[s >> 1] >> (4 * (s & 1)) & 15;
        const float scale = d * (float)((low | (int)(sh >> (2 * s) & 3) << 4) - 32);
        const __m128i v = load16(b->qs + 16 * s);
        put16(x + 32 * s, _mm_shuffle_epi8(table, bits8(v, 0, 15)), scale, 0.0f);
        put16(x + 32 * s + 16, _mm_shuffle_epi8(table, bits8(v, 4, 15)), scale, 0.0f);
    }
}

#define DEQUANT(type, elems)                                                                       \
    static void ISA(dequant_##type)(float *dst, const void *src, int64_t n)                        \
    {                                                                                              \
        const struct pn_##type *block = src;                                                       \
        for (int64_t i = 0; i < n / (elems); i++)                                                  \
            values_##type(dst + (elems)*i, &block[i]);                                             \
    }
DEQUANT(q4_0, 32)
DEQUANT(q4_1, 32)
DEQUANT(q5_0, 32)
DEQUANT(q5_1, 32)
DEQUANT(q8_0, 32)
DEQUANT(iq4_nl, 32)
DEQUANT(q2_k, 256)
DEQUANT(q3_k, 256)
DEQUANT(q4_k, 256)
DEQUANT(q5_k, 256)
DEQUANT(q6_k, 256)
DEQUANT(iq4_xs, 256)

static void ISA(dequant_f32)(float *dst, const void *src, int64_t n)
{
    memcpy(dst, src, (size_t)n * sizeof *dst);
}
static void ISA(dequant_f16)(float *dst, const void *src, int64_t n)
{
    const uint8_t *p = src;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        vf_store(dst + i, vf_load_f16(p + 2 * i));
    for (; i < n; i++)
        dst[i] = _cvtsh_ss(pn_le16(p + 2 * i));
}
static void ISA(dequant_bf16)(float *dst, const void *src, int64_t n)
{
    const uint8_t *p = src;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        vf_store(dst + i, vf_load_bf16(p + 2 * i));
    for (; i < n; i++)
        dst[i] = pn_bf16_to_f32(pn_le16(p + 2 * i));
}

/* ---- products ---- */

/* acc[mx][MMF_NB][16] += lanes of k columns, nw of the weight rows. nw, mx constant. */
INLINE void mmf_tile(int nw, int mx, float *acc, const float *w, size_t ldw, const float *x,
                     size_t ldx, int32_t k)
{
    vf s[MMF_MX][MMF_NW];
    PRAGMA_UNROLL
    for (int i = 0; i < mx; i++) {
        PRAGMA_UNROLL
        for (int j = 0; j < nw; j++)
            s[i][j] = vf_load(acc + 16 * (i * MMF_NB + j));
    }
    int32_t e = 0;
    for (; e + 16 <= k; e += 16) {
        vf wv[MMF_NW];
        PRAGMA_UNROLL
        for (int j = 0; j < nw; j++)
            wv[j] = vf_load(w + (size_t)j * ldw + e);
        PRAGMA_UNROLL
        for (int i = 0; i < mx; i++) {
            const vf xv = vf_load(x + (size_t)i * ldx + e);
            PRAGMA_UNROLL
            for (int j = 0; j < nw; j++)
                s[i][j] = vf_fma(xv, wv[j], s[i][j]);
        }
    }
    if (e < k) {
        vf wv[MMF_NW];
        PRAGMA_UNROLL
        for (int j = 0; j < nw; j++)
            wv[j] = vf_load_n(w + (size_t)j * ldw + e, k - e);
        PRAGMA_UNROLL
        for (int i = 0; i < mx; i++) {
            const vf xv = vf_load_n(x + (size_t)i * ldx + e, k - e);
            PRAGMA_UNROLL
            for (int j = 0; j < nw; j++)
                s[i][j] = vf_fma(xv, wv[j], s[i][j]);
        }
    }
    PRAGMA_UNROLL
    for (int i = 0; i < mx; i++) {
        PRAGMA_UNROLL
        for (int j = 0; j < nw; j++)
            vf_store(acc + 16 * (i * MMF_NB + j), s[i][j]);
    }
}

static __attribute__((noinline)) void mmf_tile_full(float *acc, const float *w, size_t ldw,
                                                    const float *x, size_t ldx, int32_t k)
{
    mmf_tile(MMF_NW, MMF_MX, acc, w, ldw, x, ldx, k);
}
static __attribute__((noinline)) void mmf_tile_1x(float *acc, const float *w, size_t ldw,
                                                  const float *x, size_t ldx, int32_t k)
{
    mmf_tile(MMF_NW, 1, acc, w, ldw, x, ldx, k);
}

typedef void dequant_fn(float *dst, const void *src, int64_t n);

/* bytes: of MMF_KC weights */
INLINE void mmf_body(dequant_fn *dequant, size_t bytes, float *c, size_t ldc, const void *w,
                     size_t row_bytes, int32_t n, int32_t k, const float *x, size_t ldx, int32_t m)
{
    float tile[MMF_NB * MMF_KC] __attribute__((aligned(64)));
    float acc[MMF_M_CHUNK * MMF_NB * 16] __attribute__((aligned(64)));

    for (int32_t mc = 0; mc < m; mc += MMF_M_CHUNK) {
        const int32_t mm = m - mc < MMF_M_CHUNK ? m - mc : MMF_M_CHUNK;
        for (int32_t j0 = 0; j0 < n; j0 += MMF_NB) {
            const int32_t rows = n - j0 < MMF_NB ? n - j0 : MMF_NB;
            const int32_t used = (rows + MMF_NW - 1) / MMF_NW *
                                 MMF_NW; /* zeros after the last row */
            const uint8_t *first = (const uint8_t *)w + (size_t)j0 * row_bytes;
            memset(acc, 0, (size_t)mm * MMF_NB * 16 * sizeof *acc);
            for (int32_t k0 = 0; k0 < k; k0 += MMF_KC) {
                const int32_t kn = k - k0 < MMF_KC ? k - k0 : MMF_KC;
                const size_t at = (size_t)(k0 / MMF_KC) * bytes;
                for (int32_t j = 0; j < used; j++) {
                    if (j < rows)
                        dequant(tile + j * MMF_KC, first + (size_t)j * row_bytes + at, kn);
                    else
                        memset(tile + j * MMF_KC, 0, (size_t)kn * sizeof *tile);
                }
                const float *xk = x + (size_t)mc * ldx + (size_t)k0;
                int32_t i = 0;
                for (; i + MMF_MX <= mm; i += MMF_MX) {
                    for (int32_t j = 0; j < used; j += MMF_NW)
                        mmf_tile_full(acc + ((size_t)i * MMF_NB + (size_t)j) * 16,
                                      tile + j * MMF_KC, MMF_KC, xk + (size_t)i * ldx, ldx, kn);
                }
                for (; i < mm; i++) {
                    for (int32_t j = 0; j < used; j += MMF_NW)
                        mmf_tile_1x(acc + ((size_t)i * MMF_NB + (size_t)j) * 16, tile + j * MMF_KC,
                                    MMF_KC, xk + (size_t)i * ldx, ldx, kn);
                }
            }
            for (int32_t i = 0; i < mm; i++) {
                for (int32_t j = 0; j < rows; j++)
                    c[(size_t)(mc + i) * ldc + (size_t)(j0 + j)] = vf_sum(
                        vf_load(acc + 16 * ((size_t)i * MMF_NB + (size_t)j)));
            }
        }
    }
}

#define MM_F32(type, block_elems, block_bytes)                                                     \
    static void ISA(mm_f32_##type)(float *c, size_t ldc, const void *w, size_t row_bytes,          \
                                   int32_t n, int32_t k, const float *x, size_t ldx, int32_t m)    \
    {                                                                                              \
        mmf_body(ISA(dequant_##type), MMF_KC / (block_elems) * (block_bytes), c, ldc, w,           \
                 row_bytes, n, k, x, ldx, m);                                                      \
    }
MM_F32(f32, 1, 4)
MM_F32(f16, 1, 2)
MM_F32(bf16, 1, 2)
MM_F32(q4_0, 32, sizeof(struct pn_q4_0))
MM_F32(q4_1, 32, sizeof(struct pn_q4_1))
MM_F32(q5_0, 32, sizeof(struct pn_q5_0))
MM_F32(q5_1, 32, sizeof(struct pn_q5_1))
MM_F32(q8_0, 32, sizeof(struct pn_q8_0))
MM_F32(iq4_nl, 32, sizeof(struct pn_iq4_nl))
MM_F32(q2_k, 256, sizeof(struct pn_q2_k))
MM_F32(q3_k, 256, sizeof(struct pn_q3_k))
MM_F32(q4_k, 256, sizeof(struct pn_q4_k))
MM_F32(q5_k, 256, sizeof(struct pn_q5_k))
MM_F32(q6_k, 256, sizeof(struct pn_q6_k))
MM_F32(iq4_xs, 256, sizeof(struct pn_iq4_xs))

#endif
