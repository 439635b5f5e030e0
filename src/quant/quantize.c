/* SPDX-License-Identifier: Apache-2.0 */
#include "quant/quantize.h"

#include <math.h>

#include "quant/blocks.h"

/* Nearest integer in lo..hi; anything that is not a number becomes lo. */
static int nearest(float x, int lo, int hi)
{
    if (!(x > (float)lo))
        return lo;
    return x < (float)hi ? (int)lrintf(x) : hi;
}

/* A scale as the block will hold it: f16 of x, finite, into p; returns the value that was stored.
 */
static float put_scale(uint8_t *p, float x)
{
    const float limit = 65504.0f;
    const uint16_t h = pn_f32_to_f16(x > limit ? limit : x < -limit ? -limit : x);
    pn_put_le16(p, h);
    return pn_f16_to_f32(h);
}

static float inverse(float d)
{
    return d != 0.0f ? 1.0f / d : 0.0f;
}

/* The value of largest magnitude, with its sign. */
static float extreme(const float *x, int n)
{
    float best = 0.0f;
    for (int i = 0; i < n; i++)
        best = fabsf(x[i]) > fabsf(best) ? x[i] : best;
    return best;
}

static void range(const float *x, int n, float *min, float *max)
{
    *min = *max = x[0];
    for (int i = 1; i < n; i++) {
        *min = x[i] < *min ? x[i] : *min;
        *max = x[i] > *max ? x[i] : *max;
    }
}

/* Index of the code book value nearest to x. */
static int nearest_iq4(float x)
{
    int best = 0;
    for (int i = 1; i < 16; i++) {
        if (fabsf(x - pn_iq4_values[i]) < fabsf(x - pn_iq4_values[best]))
            best = i;
    }
    return best;
}

/* ---- 32-blocks: the extreme value takes the lowest code, which reaches one step further than the
 * highest ---- */

static void pack_nibbles(uint8_t qs[16], const uint8_t q[32])
{
    for (int j = 0; j < 16; j++)
        qs[j] = (uint8_t)((q[j] & 15) | (q[j + 16] & 15) << 4);
}

static void pack_fifth_bits(uint8_t qh[4], const uint8_t q[32])
{
    uint32_t bits = 0;
    for (int e = 0; e < 32; e++)
        bits |= (uint32_t)(q[e] >> 4 & 1) << e;
    pn_put_le32(qh, bits);
}

/* Codes 0 .. 2*half-1 standing for -half .. half-1. */
static void codes_symmetric(uint8_t q[32], uint8_t d_bytes[2], const float *x, int half)
{
    const float id = inverse(put_scale(d_bytes, extreme(x, 32) / (float)-half));
    for (int e = 0; e < 32; e++)
        q[e] = (uint8_t)(nearest(x[e] * id, -half, half - 1) + half);
}

/* Codes 0 .. top standing for m + d * code. */
static void codes_with_min(uint8_t q[32], uint8_t d_bytes[2], uint8_t m_bytes[2], const float *x,
                           int top)
{
    float min, max;
    range(x, 32, &min, &max);
    const float m = put_scale(m_bytes, min);
    const float id = inverse(put_scale(d_bytes, (max - min) / (float)top));
    for (int e = 0; e < 32; e++)
        q[e] = (uint8_t)nearest((x[e] - m) * id, 0, top);
}

static void quantize_q4_0(void *dst, const float *x)
{
    struct pn_q4_0 *b = dst;
    uint8_t q[32];
    codes_symmetric(q, b->d, x, 8);
    pack_nibbles(b->qs, q);
}

static void quantize_q4_1(void *dst, const float *x)
{
    struct pn_q4_1 *b = dst;
    uint8_t q[32];
    codes_with_min(q, b->d, b->m, x, 15);
    pack_nibbles(b->qs, q);
}

static void quantize_q5_0(void *dst, const float *x)
{
    struct pn_q5_0 *b = dst;
    uint8_t q[32];
    codes_symmetric(q, b->d, x, 16);
    pack_nibbles(b->qs, q);
    pack_fifth_bits(b->qh, q);
}

static void quantize_q5_1(void *dst, const float *x)
{
    struct pn_q5_1 *b = dst;
    uint8_t q[32];
    codes_with_min(q, b->d, b->m, x, 31);
    pack_nibbles(b->qs, q);
    pack_fifth_bits(b->qh, q);
}

static void quantize_q8_0(void *dst, const float *x)
{
    struct pn_q8_0 *b = dst;
    const float id = inverse(put_scale(b->d, fabsf(extreme(x, 32)) / 127.0f));
    for (int e = 0; e < 32; e++)
        b->qs[e] = (int8_t)nearest(x[e] * id, -127, 127);
}

static void quantize_iq4_nl(void *dst, const float *x)
{
    struct pn_iq4_nl *b = dst;
    uint8_t q[32];
    const float id = inverse(put_scale(b->d, extreme(x, 32) / -127.0f));
    for (int e = 0; e < 32; e++)
        q[e] = (uint8_t)nearest_iq4(x[e] * id);
    pack_nibbles(b->qs, q);
}

/* ---- 256-blocks: a scale (and min) for each sub-block, these as small integers times d (and dmin)
 * ---- */

/* Sub-block scales for codes 0..top with a min at or below zero. Writes sc and mn (0..limit), d and
 * dmin, and the codes. */
static void codes_mins(uint8_t q[256], uint8_t *sc, uint8_t *mn, uint8_t d_bytes[2],
                       uint8_t dmin_bytes[2], const float *x, int sub, int top, int limit)
{
    float scale[16], offset[16], max_scale = 0.0f, max_offset = 0.0f;
    const int n_sub = 256 / sub;
    for (int s = 0; s < n_sub; s++) {
        float min, max;
        range(x + s * sub, sub, &min, &max);
        min = min < 0.0f ? min : 0.0f; /* the format can only subtract */
        max = max > 0.0f ? max : 0.0f;
        scale[s] = (max - min) / (float)top;
        offset[s] = -min;
        max_scale = scale[s] > max_scale ? scale[s] : max_scale;
        max_offset = offset[s] > max_offset ? offset[s] : max_offset;
    }
    const float d = put_scale(d_bytes, max_scale / (float)limit);
    const float dmin = put_scale(dmin_bytes, max_offset / (float)limit);
    const float id = inverse(d), idmin = inverse(dmin);
    for (int s = 0; s < n_sub; s++) {
        sc[s] = (uint8_t)nearest(scale[s] * id, 0, limit);
        mn[s] = (uint8_t)nearest(offset[s] * idmin, 0, limit);
        const float step = inverse(d * (float)sc[s]), min = dmin * (float)mn[s];
        for (int e = s * sub; e < (s + 1) * sub; e++)
            q[e] = (uint8_t)nearest((x[e] + min) * step, 0, top);
    }
}

/* Sub-block scales for signed codes: sc in lo..hi so that x is about d * sc * code and the extreme
 * value of the sub-block meets the code `lowest`. Writes sc and d; returns d. */
static float scales_symmetric(int8_t *sc, uint8_t d_bytes[2], const float *x, int sub, int lowest,
                              int lo, int hi)
{
    float scale[16], largest = 0.0f;
    const int n_sub = 256 / sub;
    for (int s = 0; s < n_sub; s++) {
        scale[s] = extreme(x + s * sub, sub) / (float)lowest;
        largest = fabsf(scale[s]) > largest ? fabsf(scale[s]) : largest;
    }
    const float d = put_scale(d_bytes, largest / (float)hi), id = inverse(d);
    for (int s = 0; s < n_sub; s++)
        sc[s] = (int8_t)nearest(scale[s] * id, lo, hi);
    return d;
}

/* Inverse of pn_unpack_scales_k. */
static void pack_scales_k(uint8_t s[12], const uint8_t sc[8], const uint8_t mn[8])
{
    for (int j = 0; j < 4; j++) {
        s[j] = (uint8_t)(sc[j] | sc[j + 4] >> 4 << 6);
        s[j + 4] = (uint8_t)(mn[j] | mn[j + 4] >> 4 << 6);
        s[j + 8] = (uint8_t)((sc[j + 4] & 15) | (mn[j + 4] & 15) << 4);
    }
}

/* Low nibbles of 64 codes into 32 bytes, even sub-blocks of 32 low. */
static void pack_nibbles_k(uint8_t qs[128], const uint8_t q[256])
{
    for (int i = 0; i < 128; i++) {
        const int e = 64 * (i / 32) + i % 32;
        qs[i] = (uint8_t)((q[e] & 15) | (q[e + 32] & 15) << 4);
    }
}

/* Two low bits of 256 codes into 64 bytes: see the note on half blocks in blocks.h. */
static void pack_pairs_k(uint8_t qs[64], const uint8_t q[256])
{
    for (int i = 0; i < 64; i++) {
        const uint8_t *half = q + 128 * (i / 32) + i % 32;
        qs[i] = (uint8_t)((half[0] & 3) | (half[32] & 3) << 2 | (half[64] & 3) << 4 |
                          (half[96] & 3) << 6);
    }
}

static void quantize_q2_k(void *dst, const float *x)
{
    struct pn_q2_k *b = dst;
    uint8_t q[256], sc[16], mn[16];
    codes_mins(q, sc, mn, b->d, b->dmin, x, 16, 3, 15);
    for (int s = 0; s < 16; s++)
        b->scales[s] = (uint8_t)(sc[s] | mn[s] << 4);
    pack_pairs_k(b->qs, q);
}

static void quantize_q3_k(void *dst, const float *x)
{
    struct pn_q3_k *b = dst;
    uint8_t q[256];
    int8_t sc[16];
    const float d = scales_symmetric(sc, b->d, x, 16, -4, -32, 31);
    for (int e = 0; e < 256; e++)
        q[e] = (uint8_t)(nearest(x[e] * inverse(d * (float)sc[e / 16]), -4, 3) + 4);
    pack_pairs_k(b->qs, q);
    for (int l = 0; l < 32; l++) {
        b->hmask[l] = 0;
        for (int g = 0; g < 8; g++)
            b->hmask[l] |= (uint8_t)((q[32 * g + l] >> 2) << g);
    }
    for (int j = 0; j < 8; j++)
        b->scales[j] = (uint8_t)(((sc[j] + 32) & 15) | ((sc[j + 8] + 32) & 15) << 4);
    for (int j = 0; j < 4; j++) {
        b->scales[8 + j] = 0;
        for (int g = 0; g < 4; g++)
            b->scales[8 + j] |= (uint8_t)((sc[4 * g + j] + 32) >> 4 << (2 * g));
    }
}

static void quantize_q4_k(void *dst, const float *x)
{
    struct pn_q4_k *b = dst;
    uint8_t q[256], sc[8], mn[8];
    codes_mins(q, sc, mn, b->d, b->dmin, x, 32, 15, 63);
    pack_scales_k(b->scales, sc, mn);
    pack_nibbles_k(b->qs, q);
}

static void quantize_q5_k(void *dst, const float *x)
{
    struct pn_q5_k *b = dst;
    uint8_t q[256], sc[8], mn[8];
    codes_mins(q, sc, mn, b->d, b->dmin, x, 32, 31, 63);
    pack_scales_k(b->scales, sc, mn);
    pack_nibbles_k(b->qs, q);
    for (int l = 0; l < 32; l++) {
        b->qh[l] = 0;
        for (int s = 0; s < 8; s++)
            b->qh[l] |= (uint8_t)((q[32 * s + l] >> 4) << s);
    }
}

static void quantize_q6_k(void *dst, const float *x)
{
    struct pn_q6_k *b = dst;
    uint8_t q[256], high[256];
    const float d = scales_symmetric(b->scales, b->d, x, 16, -32, -128, 127);
    for (int e = 0; e < 256; e++) {
        q[e] = (uint8_t)(nearest(x[e] * inverse(d * (float)b->scales[e / 16]), -32, 31) + 32);
        high[e] = q[e] >> 4;
    }
    pack_pairs_k(b->qh, high);
    for (int i = 0; i < 128; i++) { /* byte i of a half holds elements i and i + 64 */
        const uint8_t *half = q + 128 * (i / 64) + i % 64;
        b->ql[i] = (uint8_t)((half[0] & 15) | (half[64] & 15) << 4);
    }
}

static void quantize_iq4_xs(void *dst, const float *x)
{
    struct pn_iq4_xs *b = dst;
    int8_t sc[8];
    const float d = scales_symmetric(sc, b->d, x, 32, -127, -32, 31);
    unsigned high = 0;
    for (int s = 0; s < 8; s++) {
        const unsigned code = (unsigned)(sc[s] + 32);
        const int shift = 4 * (s & 1);
        const uint8_t low = (uint8_t)((code & 15) << shift);
        b->scales_l[s / 2] = shift == 0 ? low : (uint8_t)(b->scales_l[s / 2] | low);
        high |= (code >> 4) << (2 * s);
        const float id = inverse(d * (float)sc[s]);
        uint8_t q[32];
        for (int e = 0; e < 32; e++)
            q[e] = (uint8_t)nearest_iq4(x[32 * s + e] * id);
        pack_nibbles(b->qs + 16 * s, q);
    }
    pn_put_le16(b->scales_h, (uint16_t)high);
}

/* ---- one value ---- */

static void store_f32(void *dst, const float *x)
{
    pn_put_le32(dst, pn_f32_bits(*x));
}

static void store_f16(void *dst, const float *x)
{
    pn_put_le16(dst, pn_f32_to_f16(*x));
}

static void store_bf16(void *dst, const float *x)
{
    pn_put_le16(dst, pn_f32_to_bf16(*x));
}

void pn_quantize_row(enum pn_type type, void *dst, const float *src, int64_t n, const float *importance)
{
    (void)importance;
    static void (*const one_block[PN_TYPE_COUNT])(void *dst, const float *x) = {
        [PN_F32] = store_f32,       [PN_F16] = store_f16,       [PN_BF16] = store_bf16,
        [PN_Q4_0] = quantize_q4_0,  [PN_Q4_1] = quantize_q4_1,  [PN_Q5_0] = quantize_q5_0,
        [PN_Q5_1] = quantize_q5_1,  [PN_Q8_0] = quantize_q8_0,  [PN_IQ4_NL] = quantize_iq4_nl,
        [PN_Q2_K] = quantize_q2_k,  [PN_Q3_K] = quantize_q3_k,  [PN_Q4_K] = quantize_q4_k,
        [PN_Q5_K] = quantize_q5_k,  [PN_Q6_K] = quantize_q6_k,  [PN_IQ4_XS] = quantize_iq4_xs,
    };
    const struct pn_type_info *info = pn_type_info(type);
    uint8_t *out = dst;
    for (int64_t i = 0; i < n; i += info->block_elems, out += info->block_bytes)
        one_block[type](out, src + i);
}
