/* SPDX-License-Identifier: Apache-2.0 */
#include "quant/quantize.h"

#include <math.h>
#include <string.h>

#include "quant/blocks.h"
#include "quant/fit.h"

/* Beyond this the squares of a block's sums would leave f32; no format reaches so far anyway. */
#define LARGEST 1e9f

/* n is 32 or 256. Only the weights' ratios matter: they are brought below 1, and a block whose weights say nothing
 * counts evenly. */
static void load(struct pn_fit_block *b, const float *x, const float *importance, int n)
{
    float w[256], most = 0;
    for (int i = 0; importance && i < n; i++)
        most = importance[i] > most ? importance[i] : most;
    const float scale = most > 0 && most < INFINITY ? 1.0f / most : 0;
    for (int i = 0; i < n; i++)
        w[i] = scale > 0 ? importance[i] * scale : 1.0f;
    memcpy(b->w, w, (size_t)n * sizeof *w);
    for (int i = 0; i < n; i++)
        w[i] = x[i] > LARGEST ? LARGEST : x[i] < -LARGEST ? -LARGEST : x[i];
    memcpy(b->x, w, (size_t)n * sizeof *w);
}

/* Codes as the format stores them: numbers shifted to begin at 0. */
static void shift(uint8_t *out, const float *q, int n, float lowest)
{
    for (int i = 0; i < n; i++)
        out[i] = (uint8_t)(int)(q[i] - lowest);
}

/* Indices of values of the code book. */
static void look_up(uint8_t *out, const float *q, int n)
{
    for (int i = 0; i < n; i++) {
        int k = 0;
        while (k < 15 && (float)pn_iq4_values[k] < q[i])
            k++;
        out[i] = (uint8_t)k;
    }
}

static const struct pn_fit_code codes_q3 = {-4, 3, false}, codes_q4 = {-8, 7, false}, codes_q5 = {-16, 15, false},
                                codes_q6 = {-32, 31, false}, codes_iq4 = {-127, 113, true};

/* ---- packing ---- */

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

/* ---- blocks of 32 ---- */

static void quantize_q4_0(void *dst, const float *x, const float *importance)
{
    struct pn_q4_0 *o = dst;
    struct pn_fit_block b;
    float q[32];
    uint8_t c[32];
    load(&b, x, importance, 32);
    pn_put_le16(o->d, pn_fit_scale(&b, &codes_q4, q));
    shift(c, q, 32, -8);
    pack_nibbles(o->qs, c);
}

static void quantize_q4_1(void *dst, const float *x, const float *importance)
{
    struct pn_q4_1 *o = dst;
    struct pn_fit_block b;
    float q[32];
    uint8_t c[32];
    uint16_t d, m;
    load(&b, x, importance, 32);
    pn_fit_scale_min(&b, 15, &d, &m, q);
    pn_put_le16(o->d, d);
    pn_put_le16(o->m, m);
    shift(c, q, 32, 0);
    pack_nibbles(o->qs, c);
}

static void quantize_q5_0(void *dst, const float *x, const float *importance)
{
    struct pn_q5_0 *o = dst;
    struct pn_fit_block b;
    float q[32];
    uint8_t c[32];
    load(&b, x, importance, 32);
    pn_put_le16(o->d, pn_fit_scale(&b, &codes_q5, q));
    shift(c, q, 32, -16);
    pack_nibbles(o->qs, c);
    pack_fifth_bits(o->qh, c);
}

static void quantize_q5_1(void *dst, const float *x, const float *importance)
{
    struct pn_q5_1 *o = dst;
    struct pn_fit_block b;
    float q[32];
    uint8_t c[32];
    uint16_t d, m;
    load(&b, x, importance, 32);
    pn_fit_scale_min(&b, 31, &d, &m, q);
    pn_put_le16(o->d, d);
    pn_put_le16(o->m, m);
    shift(c, q, 32, 0);
    pack_nibbles(o->qs, c);
    pack_fifth_bits(o->qh, c);
}

static void quantize_q8_0(void *dst, const float *x, const float *importance)
{
    struct pn_q8_0 *o = dst;
    struct pn_fit_block b;
    float q[32];
    load(&b, x, importance, 32);
    pn_put_le16(o->d, pn_fit_scale_fine(&b, 127, q));
    for (int e = 0; e < 32; e++)
        o->qs[e] = (int8_t)(int)q[e];
}

static void quantize_iq4_nl(void *dst, const float *x, const float *importance)
{
    struct pn_iq4_nl *o = dst;
    struct pn_fit_block b;
    float q[32];
    uint8_t c[32];
    load(&b, x, importance, 32);
    pn_put_le16(o->d, pn_fit_scale(&b, &codes_iq4, q));
    look_up(c, q, 32);
    pack_nibbles(o->qs, c);
}

/* ---- blocks of 256 ---- */

static void quantize_q2_k(void *dst, const float *x, const float *importance)
{
    struct pn_q2_k *o = dst;
    struct pn_fit_block b;
    float q[256];
    uint8_t c[256];
    int sc[16], mn[16];
    uint16_t d, dmin;
    load(&b, x, importance, 256);
    pn_fit_super_min(&b, 3, 16, 15, &d, &dmin, sc, mn, q);
    pn_put_le16(o->d, d);
    pn_put_le16(o->dmin, dmin);
    for (int s = 0; s < 16; s++)
        o->scales[s] = (uint8_t)(sc[s] | mn[s] << 4);
    shift(c, q, 256, 0);
    pack_pairs_k(o->qs, c);
}

static void quantize_q3_k(void *dst, const float *x, const float *importance)
{
    struct pn_q3_k *o = dst;
    struct pn_fit_block b;
    float q[256];
    uint8_t c[256];
    int sc[16];
    load(&b, x, importance, 256);
    pn_put_le16(o->d, pn_fit_super(&b, &codes_q3, 16, -32, 31, sc, q));
    shift(c, q, 256, -4);
    pack_pairs_k(o->qs, c);
    for (int l = 0; l < 32; l++) {
        o->hmask[l] = 0;
        for (int g = 0; g < 8; g++)
            o->hmask[l] |= (uint8_t)((c[32 * g + l] >> 2) << g);
    }
    for (int j = 0; j < 8; j++)
        o->scales[j] = (uint8_t)(((sc[j] + 32) & 15) | ((sc[j + 8] + 32) & 15) << 4);
    for (int j = 0; j < 4; j++) {
        o->scales[8 + j] = 0;
        for (int g = 0; g < 4; g++)
            o->scales[8 + j] |= (uint8_t)((sc[4 * g + j] + 32) >> 4 << (2 * g));
    }
}

/* What Q4_K and Q5_K share. */
static void mins_k(uint8_t d_bytes[2], uint8_t dmin_bytes[2], uint8_t scales[12], uint8_t c[256], const float *x,
                   const float *importance, float top)
{
    struct pn_fit_block b;
    float q[256];
    int sc[16], mn[16];
    uint8_t sc8[8], mn8[8];
    uint16_t d, dmin;
    load(&b, x, importance, 256);
    pn_fit_super_min(&b, top, 8, 63, &d, &dmin, sc, mn, q);
    pn_put_le16(d_bytes, d);
    pn_put_le16(dmin_bytes, dmin);
    for (int j = 0; j < 8; j++) {
        sc8[j] = (uint8_t)sc[j];
        mn8[j] = (uint8_t)mn[j];
    }
    pack_scales_k(scales, sc8, mn8);
    shift(c, q, 256, 0);
}

static void quantize_q4_k(void *dst, const float *x, const float *importance)
{
    struct pn_q4_k *o = dst;
    uint8_t c[256];
    mins_k(o->d, o->dmin, o->scales, c, x, importance, 15);
    pack_nibbles_k(o->qs, c);
}

static void quantize_q5_k(void *dst, const float *x, const float *importance)
{
    struct pn_q5_k *o = dst;
    uint8_t c[256];
    mins_k(o->d, o->dmin, o->scales, c, x, importance, 31);
    pack_nibbles_k(o->qs, c);
    for (int l = 0; l < 32; l++) {
        o->qh[l] = 0;
        for (int s = 0; s < 8; s++)
            o->qh[l] |= (uint8_t)((c[32 * s + l] >> 4) << s);
    }
}

static void quantize_q6_k(void *dst, const float *x, const float *importance)
{
    struct pn_q6_k *o = dst;
    struct pn_fit_block b;
    float q[256];
    uint8_t c[256], high[256];
    int sc[16];
    load(&b, x, importance, 256);
    pn_put_le16(o->d, pn_fit_super(&b, &codes_q6, 16, -128, 127, sc, q));
    for (int j = 0; j < 16; j++)
        o->scales[j] = (int8_t)sc[j];
    shift(c, q, 256, -32);
    for (int e = 0; e < 256; e++)
        high[e] = c[e] >> 4;
    pack_pairs_k(o->qh, high);
    for (int i = 0; i < 128; i++) { /* byte i of a half holds elements i and i + 64 */
        const uint8_t *half = c + 128 * (i / 64) + i % 64;
        o->ql[i] = (uint8_t)((half[0] & 15) | (half[64] & 15) << 4);
    }
}

static void quantize_iq4_xs(void *dst, const float *x, const float *importance)
{
    struct pn_iq4_xs *o = dst;
    struct pn_fit_block b;
    float q[256];
    uint8_t c[256];
    int sc[16];
    load(&b, x, importance, 256);
    pn_put_le16(o->d, pn_fit_super(&b, &codes_iq4, 8, -32, 31, sc, q));
    look_up(c, q, 256);
    unsigned high = 0;
    for (int s = 0; s < 8; s++) {
        const unsigned code = (unsigned)(sc[s] + 32);
        const uint8_t low = (uint8_t)((code & 15) << (4 * (s & 1)));
        o->scales_l[s / 2] = s & 1 ? (uint8_t)(o->scales_l[s / 2] | low) : low;
        high |= (code >> 4) << (2 * s);
        pack_nibbles(o->qs + 16 * s, c + 32 * s);
    }
    pn_put_le16(o->scales_h, (uint16_t)high);
}

/* ---- one value ---- */

static void store_f32(void *dst, const float *x, const float *importance)
{
    (void)importance;
    pn_put_le32(dst, pn_f32_bits(*x));
}

static void store_f16(void *dst, const float *x, const float *importance)
{
    (void)importance;
    pn_put_le16(dst, pn_f32_to_f16(*x));
}

static void store_bf16(void *dst, const float *x, const float *importance)
{
    (void)importance;
    pn_put_le16(dst, pn_f32_to_bf16(*x));
}

void pn_quantize_row(enum pn_type type, void *dst, const float *src, int64_t n, const float *importance)
{
    static void (*const one_block[PN_TYPE_COUNT])(void *dst, const float *x, const float *importance) = {
        [PN_F32] = store_f32,       [PN_F16] = store_f16,       [PN_BF16] = store_bf16,
        [PN_Q4_0] = quantize_q4_0,  [PN_Q4_1] = quantize_q4_1,  [PN_Q5_0] = quantize_q5_0,
        [PN_Q5_1] = quantize_q5_1,  [PN_Q8_0] = quantize_q8_0,  [PN_IQ4_NL] = quantize_iq4_nl,
        [PN_Q2_K] = quantize_q2_k,  [PN_Q3_K] = quantize_q3_k,  [PN_Q4_K] = quantize_q4_k,
        [PN_Q5_K] = quantize_q5_k,  [PN_Q6_K] = quantize_q6_k,  [PN_IQ4_XS] = quantize_iq4_xs,
    };
    const struct pn_type_info *info = pn_type_info(type);
    uint8_t *out = dst;
    for (int64_t i = 0; i < n; i += info->block_elems, out += info->block_bytes)
        one_block[type](out, src + i, importance ? importance + i : NULL);
}
