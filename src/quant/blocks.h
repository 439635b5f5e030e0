/* SPDX-License-Identifier: Apache-2.0 */
/* Block formats: what the bytes of a weight row mean. This file is the truth about the formats; the
 * scalar kernels are built from it and the SIMD tiers are compared with those.
 *
 * All fields are byte arrays: the structs have alignment 1 and no padding, so a block may lie at
 * any address of a file map, and 16-bit fields are read as little-endian on every machine.
 *
 * Two families:
 *   32-blocks  (Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL)            x = d * q + m      pn_unpack32_*
 *   256-blocks (Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS)   x = d * sc * q - dmin * mn  pn_unpack256_*
 * q, sc, mn are small integers. Every product above fits the 24 bits of a float, so a value is
 * rounded at most once (by the addition of m or mn): with fma or without, in any order, the bits
 * are the same. */
#ifndef PN_QUANT_BLOCKS_H
#define PN_QUANT_BLOCKS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ---- loads and 16-bit floats ---- */

static inline uint16_t pn_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t pn_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void pn_put_le16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void pn_put_le32(uint8_t *p, uint32_t v)
{
    pn_put_le16(p, (uint16_t)v);
    pn_put_le16(p + 2, (uint16_t)(v >> 16));
}

static inline uint32_t pn_f32_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float pn_f32_from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Exact; a NaN comes out quiet with its payload shifted, as VCVTPH2PS and FCVT do. */
static inline float pn_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t exp = h >> 10 & 31, frac = h & 0x3ff;
    if (exp == 31)
        return pn_f32_from_bits(sign | 0x7f800000u | (frac ? 0x400000u | frac << 13 : 0));
    if (exp != 0)
        return pn_f32_from_bits(sign | (exp + 112) << 23 | frac << 13);
    const float mag = (float)frac * 0x1p-24f; /* zero or denormal: exact in f32 */
    return pn_f32_from_bits(sign | pn_f32_bits(mag));
}

/* Round to nearest, ties to even; too large becomes infinity; a NaN stays a quiet NaN. */
static inline uint16_t pn_f32_to_f16(float x)
{
    const uint32_t u = pn_f32_bits(x), a = u & 0x7fffffffu;
    const uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a >= 0x477ff000u) /* 65520 and up round to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (a < 0x38800000u) {
        /* Below 2^-14 the result counts units of 2^-24: adding 0.5 = 2^23 units of 2^-24 makes the
         * addition do that rounding, and leaves the count in the low bits. */
        const float r = pn_f32_from_bits(a) + 0.5f;
        return (uint16_t)(sign | (pn_f32_bits(r) - 0x3f000000u));
    }
    const uint32_t rounded = a + 0xfff + (a >> 13 & 1);
    return (uint16_t)(sign | ((rounded >> 13) - (112u << 10)));
}

static inline float pn_bf16_to_f32(uint16_t h)
{
    return pn_f32_from_bits((uint32_t)h << 16);
}

/* Round to nearest, ties to even, denormals kept; a NaN stays a quiet NaN. */
static inline uint16_t pn_f32_to_bf16(float x)
{
    const uint32_t u = pn_f32_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 64);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* ---- blocks ---- */

struct pn_q4_0 {
    uint8_t d[2]; /* f16 */
    uint8_t qs[16];
};
struct pn_q4_1 {
    uint8_t d[2], m[2]; /* f16 */
    uint8_t qs[16];
};
struct pn_q5_0 {
    uint8_t d[2];
    uint8_t qh[4]; /* bit e: fifth bit of element e */
    uint8_t qs[16];
};
struct pn_q5_1 {
    uint8_t d[2], m[2];
    uint8_t qh[4];
    uint8_t qs[16];
};
struct pn_q8_0 {
    uint8_t d[2];
    int8_t qs[32];
};
struct pn_iq4_nl {
    uint8_t d[2];
    uint8_t qs[16]; /* indices into pn_iq4_values */
};
struct pn_q2_k {
    uint8_t scales[16]; /* low nibble: scale; high: min */
    uint8_t qs[64];
    uint8_t d[2], dmin[2];
};
struct pn_q3_k {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12]; /* 16 x 6 bits, offset 32 */
    uint8_t d[2];
};
struct pn_q4_k {
    uint8_t d[2], dmin[2];
    uint8_t scales[12]; /* 8 x (6-bit scale, 6-bit min) */
    uint8_t qs[128];
};
struct pn_q5_k {
    uint8_t d[2], dmin[2];
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
};
struct pn_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint8_t d[2];
};
struct pn_iq4_xs {
    uint8_t d[2];
    uint8_t scales_h[2]; /* u16: 8 x 2 bits */
    uint8_t scales_l[4]; /* 8 x 4 bits */
    uint8_t qs[128];
};

#define PN_CHECK_BLOCK(s, size, field, at)                                                        \
    _Static_assert(sizeof(struct s) == (size) && offsetof(struct s, field) == (at), "format " #s)
PN_CHECK_BLOCK(pn_q4_0, 18, qs, 2);
PN_CHECK_BLOCK(pn_q4_1, 20, qs, 4);
PN_CHECK_BLOCK(pn_q5_0, 22, qs, 6);
PN_CHECK_BLOCK(pn_q5_1, 24, qs, 8);
PN_CHECK_BLOCK(pn_q8_0, 34, qs, 2);
PN_CHECK_BLOCK(pn_iq4_nl, 18, qs, 2);
PN_CHECK_BLOCK(pn_q2_k, 84, qs, 16);
PN_CHECK_BLOCK(pn_q2_k, 84, dmin, 82);
PN_CHECK_BLOCK(pn_q3_k, 110, qs, 32);
PN_CHECK_BLOCK(pn_q3_k, 110, scales, 96);
PN_CHECK_BLOCK(pn_q3_k, 110, d, 108);
PN_CHECK_BLOCK(pn_q4_k, 144, scales, 4);
PN_CHECK_BLOCK(pn_q4_k, 144, qs, 16);
PN_CHECK_BLOCK(pn_q5_k, 176, qh, 16);
PN_CHECK_BLOCK(pn_q5_k, 176, qs, 48);
PN_CHECK_BLOCK(pn_q6_k, 210, qh, 128);
PN_CHECK_BLOCK(pn_q6_k, 210, scales, 192);
PN_CHECK_BLOCK(pn_q6_k, 210, d, 208);
PN_CHECK_BLOCK(pn_iq4_xs, 136, scales_l, 4);
PN_CHECK_BLOCK(pn_iq4_xs, 136, qs, 8);
#undef PN_CHECK_BLOCK

/* Code book of IQ4_NL and IQ4_XS. */
static const int8_t pn_iq4_values[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113 };

/* Scales and mins of Q4_K and Q5_K: eight 6-bit pairs in twelve bytes. The first four lie in the
 * low six bits of bytes 0-3 (scales) and 4-7 (mins); the others have their low nibbles in bytes
 * 8-11 and their top two bits above the first four. */
static inline void pn_unpack_scales_k(uint8_t sc[8], uint8_t mn[8], const uint8_t s[12])
{
    for (int j = 0; j < 4; j++) {
        sc[j] = s[j] & 63;
        mn[j] = s[j + 4] & 63;
        sc[j + 4] = (uint8_t)((s[j + 8] & 15) | s[j] >> 6 << 4);
        mn[j + 4] = (uint8_t)(s[j + 8] >> 4 | s[j + 4] >> 6 << 4);
    }
}

/* Scales of Q3_K: sixteen 6-bit values, low nibbles in bytes 0-7, top two bits in bytes 8-11. */
static inline void pn_unpack_scales_q3_k(int8_t sc[16], const uint8_t s[12])
{
    for (int i = 0; i < 16; i++) {
        const int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4;
        const int high = s[8 + (i & 3)] >> (2 * (i >> 2)) & 3;
        sc[i] = (int8_t)((low | high << 4) - 32);
    }
}

/* ---- unpacking: one block to integers and scales ---- */

/* x[e] = d * q[e] + m; m == 0 for the types without one. */
struct pn_unpacked32 {
    int8_t q[32];
    float d, m;
};

/* x[e] = d * sc[e/16] * q[e] - dmin * mn[e/16]; dmin == 0, mn == 0 for the types without mins.
 * Types with sub-blocks of 32 repeat each scale. */
struct pn_unpacked256 {
    int8_t q[256];
    int16_t sc[16], mn[16];
    float d, dmin;
};

static inline void pn_unpack32_q4_0(struct pn_unpacked32 *u, const void *block)
{
    const struct pn_q4_0 *b = block;
    u->d = pn_f16_to_f32(pn_le16(b->d));
    u->m = 0.0f;
    for (int j = 0; j < 16; j++) {
        u->q[j] = (int8_t)((b->qs[j] & 15) - 8);
        u->q[j + 16] = (int8_t)((b->qs[j] >> 4) - 8);
    }
}

static inline void pn_unpack32_q4_1(struct pn_unpacked32 *u, const void *block)
{
    const struct pn_q4_1 *b = block;
    u->d = pn_f16_to_f32(pn_le16(b->d));
    u->m = pn_f16_to_f32(pn_le16(b->m));
    for (int j = 0; j < 16; j++) {
        u->q[j] = (int8_t)(b->qs[j] & 15);
        u->q[j + 16] = (int8_t)(b->qs[j] >> 4);
    }
}

static inline void pn_unpack32_q5_0(struct pn_unpacked32 *u, const void *block)
{
    const struct pn_q5_0 *b = block;
    const uint32_t qh = pn_le32(b->qh);
    u->d = pn_f16_to_f32(pn_le16(b->d));
    u->m = 0.0f;
    for (int j = 0; j < 16; j++) {
        u->q[j] = (int8_t)(((b->qs[j] & 15) | (qh >> j & 1) << 4) - 16);
        u->q[j + 16] = (int8_t)((b->qs[j] >> 4 | (qh >> (j + 16) & 1) << 4) - 16);
    }
}

static inline void pn_unpack32_q5_1(struct pn_unpacked32 *u, const void *block)
{
    const struct pn_q5_1 *b = block;
    const uint32_t qh = pn_le32(b->qh);
    u->d = pn_f16_to_f32(pn_le16(b->d));
    u->m = pn_f16_to_f32(pn_le16(b->m));
    for (int j = 0; j < 16; j++) {
        u->q[j] = (int8_t)((b->qs[j] & 15) | (qh >> j & 1) << 4);
        u->q[j + 16] = (int8_t)(b->qs[j] >> 4 | (qh >> (j + 16) & 1) << 4);
    }
}

static inline void pn_unpack32_q8_0(struct pn_unpacked32 *u, const void *block)
{
    const struct pn_q8_0 *b = block;
    u->d = pn_f16_to_f32(pn_le16(b->d));
    u->m = 0.0f;
    memcpy(u->q, b->qs, 32);
}

static inline void pn_unpack32_iq4_nl(struct pn_unpacked32 *u, const void *block)
{
    const struct pn_iq4_nl *b = block;
    u->d = pn_f16_to_f32(pn_le16(b->d));
    u->m = 0.0f;
    for (int j = 0; j < 16; j++) {
        u->q[j] = pn_iq4_values[b->qs[j] & 15];
        u->q[j + 16] = pn_iq4_values[b->qs[j] >> 4];
    }
}

/* In the 2- and 3-bit types and Q6_K a half block of 128 elements shares its low bytes: element
 * 128h + 32k + l has its two bits at position 2k of qs[32h + l] (in Q6_K of qh[32h + l]). Below,
 * s = 4h + k. */

static inline void pn_unpack256_q2_k(struct pn_unpacked256 *u, const void *block)
{
    const struct pn_q2_k *b = block;
    u->d = pn_f16_to_f32(pn_le16(b->d));
    u->dmin = pn_f16_to_f32(pn_le16(b->dmin));
    for (int i = 0; i < 16; i++) {
        u->sc[i] = b->scales[i] & 15;
        u->mn[i] = b->scales[i] >> 4;
    }
    for (int s = 0; s < 8; s++) {
        const uint8_t *qs = b->qs + 32 * (s >> 2);
        const int shift = 2 * (s & 3);
        for (int l = 0; l < 32; l++)
            u->q[32 * s + l] = (int8_t)(qs[l] >> shift & 3);
    }
}

static inline void pn_unpack256_q3_k(struct pn_unpacked256 *u, const void *block)
{
    const struct pn_q3_k *b = block;
    int8_t sc[16];
    pn_unpack_scales_q3_k(sc, b->scales);
    u->d = pn_f16_to_f32(pn_le16(b->d));
    u->dmin = 0.0f;
    for (int i = 0; i < 16; i++) {
        u->sc[i] = sc[i];
        u->mn[i] = 0;
    }
    for (int s = 0; s < 8; s++) {
        const uint8_t *qs = b->qs + 32 * (s >> 2);
        const int shift = 2 * (s & 3);
        for (int l = 0; l < 32; l++) {
            const int high = b->hmask[l] >> s & 1; /* 0: four less */
            u->q[32 * s + l] = (int8_t)((qs[l] >> shift & 3) - 4 * (1 - high));
        }
    }
}

static inline void pn_unpack256_q4_k(struct pn_unpacked256 *u, const void *block)
{
    const struct pn_q4_k *b = block;
    uint8_t sc[8], mn[8];
    pn_unpack_scales_k(sc, mn, b->scales);
    u->d = pn_f16_to_f32(pn_le16(b->d));
    u->dmin = pn_f16_to_f32(pn_le16(b->dmin));
    for (int i = 0; i < 16; i++) {
        u->sc[i] = sc[i / 2];
        u->mn[i] = mn[i / 2];
    }
    for (int s = 0; s < 8; s++) { /* odd sub-blocks: high nibbles of the same 32 bytes */
        const uint8_t *qs = b->qs + 32 * (s >> 1);
        const int shift = 4 * (s & 1);
        for (int l = 0; l < 32; l++)
            u->q[32 * s + l] = (int8_t)(qs[l] >> shift & 15);
    }
}

static inline void pn_unpack256_q5_k(struct pn_unpacked256 *u, const void *block)
{
    const struct pn_q5_k *b = block;
    uint8_t sc[8], mn[8];
    pn_unpack_scales_k(sc, mn, b->scales);
    u->d = pn_f16_to_f32(pn_le16(b->d));
    u->dmin = pn_f16_to_f32(pn_le16(b->dmin));
    for (int i = 0; i < 16; i++) {
        u->sc[i] = sc[i / 2];
        u->mn[i] = mn[i / 2];
    }
    for (int s = 0; s < 8; s++) {
        const uint8_t *qs = b->qs + 32 * (s >> 1);
        const int shift = 4 * (s & 1);
        for (int l = 0; l < 32; l++)
            u->q[32 * s + l] = (int8_t)((qs[l] >> shift & 15) | (b->qh[l] >> s & 1) << 4);
    }
}

static inline void pn_unpack256_q6_k(struct pn_unpacked256 *u, const void *block)
{
    const struct pn_q6_k *b = block;
    u->d = pn_f16_to_f32(pn_le16(b->d));
    u->dmin = 0.0f;
    for (int i = 0; i < 16; i++) {
        u->sc[i] = b->scales[i];
        u->mn[i] = 0;
    }
    for (int s = 0; s < 8; s++) {
        const int h = s >> 2, k = s & 3;
        const uint8_t *ql = b->ql + 64 * h + 32 * (k & 1), *qh = b->qh + 32 * h;
        const int low_shift = 4 * (k >> 1), high_shift = 2 * k;
        for (int l = 0; l < 32; l++) {
            const int low = ql[l] >> low_shift & 15, high = qh[l] >> high_shift & 3;
            u->q[32 * s + l] = (int8_t)((low | high << 4) - 32);
        }
    }
}

static inline void pn_unpack256_iq4_xs(struct pn_unpacked256 *u, const void *block)
{
    const struct pn_iq4_xs *b = block;
    const unsigned sh = pn_le16(b->scales_h);
    u->d = pn_f16_to_f32(pn_le16(b->d));
    u->dmin = 0.0f;
    for (int i = 0; i < 16; i++) {
        const int s = i / 2;
        const int low = b->scales_l[s >> 1] >> (4 * (s & 1)) & 15;
        u->sc[i] = (int16_t)((low | (int)(sh >> (2 * s) & 3) << 4) - 32);
        u->mn[i] = 0;
    }
    for (int s = 0; s < 8; s++) {
        for (int j = 0; j < 16; j++) {
            const uint8_t pair = b->qs[16 * s + j];
            u->q[32 * s + j] = pn_iq4_values[pair & 15];
            u->q[32 * s + j + 16] = pn_iq4_values[pair >> 4];
        }
    }
}

/* ---- values ---- */

static inline void pn_values32(float x[32], const struct pn_unpacked32 *u)
{
    for (int e = 0; e < 32; e++)
        x[e] = u->d * (float)u->q[e] + u->m;
}

static inline void pn_values256(float x[256], const struct pn_unpacked256 *u)
{
    for (int g = 0; g < 16; g++) {
        const float scale = u->d * (float)u->sc[g], min = u->dmin * (float)u->mn[g];
        for (int e = 16 * g; e < 16 * g + 16; e++)
            x[e] = scale * (float)u->q[e] - min;
    }
}

#endif
