/* SPDX-License-Identifier: Apache-2.0 */
/* Panels: LANES weight rows x one super-block as unsigned bytes in the order the dot-product
 * instructions want, and the scales beside them by row. Written over a vector type `vi` of LANES
 * dwords, which the including file chooses (x86_mm512.h, x86_mm256.h).
 *
 * A column is one vi: four consecutive columns of the weight (one dword) of every row. Bytes are
 * split and shifted after the transposition; shifts are 32 bits wide, a mask removes what crosses
 * bytes. */
#ifndef PN_X86_UNPACK_H
#define PN_X86_UNPACK_H

#include <string.h>

#include "kern/kern.h"
#include "quant/blocks.h"

#if defined __AVXVNNI__ || defined __AVX512VNNI__
#define WITH_VNNI 1
#else
#define WITH_VNNI 0
#endif

struct panel {
    uint8_t w[64][4 * LANES]; /* [k/4][row][4]: q + offset of the type */
    union {
        int32_t sc[16][LANES]; /* integer scale of each sub-block, as WITH_VNNI says */
        struct {
            float d[8][LANES], m[8][LANES];
        } g; /* f32 scale, min of each group of 32 */
    } s;
    int16_t mn[8][LANES][2]; /* mins of sub-blocks 2i, 2i + 1 */
    float d[LANES], dmin[LANES];
};

/* ahead: what is to be fetched meanwhile, or NULL */
typedef void unpack_fn(struct panel *p, rows_t row, int32_t cols, const uint8_t *ahead);

/* One `parts`th, in each of as many calls, of a panel's blocks of `bytes` bytes from ahead on; NULL: nothing. */
INLINE void fetch_part(const uint8_t *ahead, size_t bytes, int part, int parts)
{
    const int some = (int)bytes * LANES / parts;
    if (ahead)
        fetch_lines(ahead + part * some, (some + 63) / 64);
}

INLINE __m128i bytes16(int a, int b, int c, int d)
{
    /* a byte pattern for the first dword, moved on by four for each of the others; -1 gives zero */
    const int x = (a & 255) | (b & 255) << 8 | (c & 255) << 16 | (int)((unsigned)(d & 255) << 24);
    const int step = (a < 0 ? 0 : 4) | (b < 0 ? 0 : 4) << 8 | (c < 0 ? 0 : 4) << 16 |
                     (d < 0 ? 0 : 4) << 24;
    return _mm_setr_epi32(x, x + step, x + 2 * step, x + 3 * step);
}

/* Scales of a sub-block: int32; without VNNI twice as int16, for VPMADDWD. */
INLINE void store_scales(int32_t out[LANES], vi v)
{
    vi_store(out, WITH_VNNI ? v : vi_shuffle(v, bytes16(0, 1, 0, 1)));
}
/* Four bytes of each lane to the scales of four sub-blocks. */
INLINE void store_u8x4(int32_t out[4][LANES], vi v)
{
    store_scales(out[0], vi_shuffle(v, bytes16(0, -1, -1, -1)));
    store_scales(out[1], vi_shuffle(v, bytes16(1, -1, -1, -1)));
    store_scales(out[2], vi_shuffle(v, bytes16(2, -1, -1, -1)));
    store_scales(out[3], vi_shuffle(v, bytes16(3, -1, -1, -1)));
}
INLINE void store_s8x4(int32_t out[4][LANES], vi v)
{
    store_scales(out[0], vi_sra(vi_sll(v, 24), 24));
    store_scales(out[1], vi_sra(vi_sll(v, 16), 24));
    store_scales(out[2], vi_sra(vi_sll(v, 8), 24));
    store_scales(out[3], vi_sra(v, 24));
}
/* Four unsigned bytes of each lane to two vectors of int16 pairs. */
INLINE void store_pairs(int16_t out[2][LANES][2], vi v)
{
    vi_store(out[0], vi_shuffle(v, bytes16(0, -1, 1, -1)));
    vi_store(out[1], vi_shuffle(v, bytes16(2, -1, 3, -1)));
}

/* ---- super-blocks of 256 ---- */

/* Header of Q4_K and Q5_K: d, dmin, eight 6-bit scales and mins (quant/blocks.h, pn_unpack_scales_k), a byte each. */
struct scales_k {
    vi sc[2], mn[2]; /* of sub-blocks 0 .. 3, 4 .. 7 of each row */
};
INLINE void scales_k(struct scales_k *s, float d[LANES], float dmin[LANES], rows_t row)
{
    const vi m63 = vi_set1_8(63), m48 = vi_set1_8(48), m15 = vi_set1_8(15);
    vi h[4];
    columns4(h, row, 0);
    vi_store_f16(d, h[0]);
    vi_store_f16(dmin, vi_srl(h[0], 16));
    s->sc[0] = vi_and(h[1], m63);
    s->sc[1] = vi_or(vi_and(h[3], m15), vi_and(vi_srl(h[1], 2), m48));
    s->mn[0] = vi_and(h[2], m63);
    s->mn[1] = vi_or(vi_and(vi_srl(h[3], 4), m15), vi_and(vi_srl(h[2], 2), m48));
}
INLINE void header_k(struct panel *p, rows_t row)
{
    struct scales_k s;
    scales_k(&s, p->d, p->dmin, row);
    store_u8x4(p->s.sc, s.sc[0]);
    store_u8x4(p->s.sc + 4, s.sc[1]);
    store_pairs(p->mn, s.mn[0]);
    store_pairs(p->mn + 2, s.mn[1]);
}

static inline void unpack_q4_k(struct panel *p, rows_t row, int32_t cols, const uint8_t *ahead)
{
    (void)cols;
    const vi m15 = vi_set1_8(15);
    header_k(p, row);
    for (int i = 0; i < 4; i++) { /* sub-blocks 2i, 2i + 1 */
        uint8_t (*w)[4 * LANES] = p->w + 16 * i;
        vi c[8];
        fetch_part(ahead, sizeof(struct pn_q4_k), i, 4);
        columns8(c, row, offsetof(struct pn_q4_k, qs) + 32 * (size_t)i);
        PRAGMA_UNROLL
        for (int j = 0; j < 8; j++) {
            vi_store(w[j], vi_and(c[j], m15));
            vi_store(w[j + 8], vi_and(vi_srl(c[j], 4), m15));
        }
    }
}

static inline void unpack_q5_k(struct panel *p, rows_t row, int32_t cols, const uint8_t *ahead)
{
    (void)cols;
    const vi m15 = vi_set1_8(15), m16 = vi_set1_8(16);
    header_k(p, row);
    vi h[8];
    columns8(h, row, offsetof(struct pn_q5_k, qh));
    PRAGMA_UNROLL
    for (int i = 0; i < 4; i++) { /* sub-blocks 2i, 2i + 1 */
        uint8_t (*w)[4 * LANES] = p->w + 16 * i;
        vi c[8];
        fetch_part(ahead, sizeof(struct pn_q5_k), i, 4);
        columns8(c, row, offsetof(struct pn_q5_k, qs) + 32 * (size_t)i);
        PRAGMA_UNROLL
        for (int j = 0; j < 8; j++) {
            const vi t = i < 2 ? vi_sll(h[j], 4 - 2 * i) : vi_srl(h[j], 2 * i - 4);
            const vi u = i < 2 ? vi_sll(h[j], 3 - 2 * i) : vi_srl(h[j], 2 * i - 3);
            vi_store(w[j], vi_or(vi_and(c[j], m15), vi_and(t, m16)));
            vi_store(w[j + 8], vi_or(vi_and(vi_srl(c[j], 4), m15), vi_and(u, m16)));
        }
    }
}

/* d and the sixteen signed scales of Q6_K */
INLINE void header_q6_k(struct panel *p, rows_t row)
{
    vi c[4];
    columns4(c, row, offsetof(struct pn_q6_k, scales));
    PRAGMA_UNROLL
    for (int i = 0; i < 4; i++)
        store_s8x4(p->s.sc + 4 * i, c[i]);
    columns4(c, row, sizeof(struct pn_q6_k) - 16); /* ends with d */
    vi_store_f16(p->d, vi_srl(c[3], 16));
}

static inline void unpack_q6_k(struct panel *p, rows_t row, int32_t cols, const uint8_t *ahead)
{
    (void)cols;
    const vi m15 = vi_set1_8(15), m48 = vi_set1_8(48);
    header_q6_k(p, row);
    for (int i = 0; i < 2; i++) { /* half blocks: four sub-block pairs of 32 */
        uint8_t (*w)[4 * LANES] = p->w + 32 * i;
        vi hi[8], lo[8];
        fetch_part(ahead, sizeof(struct pn_q6_k), 2 * i, 4);
        columns8(hi, row, offsetof(struct pn_q6_k, qh) + 32 * (size_t)i);
        columns8(lo, row, 64 * (size_t)i);
        PRAGMA_UNROLL
        for (int j = 0; j < 8; j++) {
            vi_store(w[j], vi_or(vi_and(lo[j], m15), vi_and(vi_sll(hi[j], 4), m48)));
            vi_store(w[j + 16], vi_or(vi_and(vi_srl(lo[j], 4), m15), vi_and(hi[j], m48)));
        }
        fetch_part(ahead, sizeof(struct pn_q6_k), 2 * i + 1, 4);
        columns8(lo, row, 64 * (size_t)i + 32);
        PRAGMA_UNROLL
        for (int j = 0; j < 8; j++) {
            vi_store(w[j + 8], vi_or(vi_and(lo[j], m15), vi_and(vi_sll(hi[j], 2), m48)));
            vi_store(w[j + 24],
                     vi_or(vi_and(vi_srl(lo[j], 4), m15), vi_and(vi_srl(hi[j], 2), m48)));
        }
    }
}

static inline void unpack_q3_k(struct panel *p, rows_t row, int32_t cols, const uint8_t *ahead)
{
    (void)cols;
    const vi m15 = vi_set1_8(15), m48 = vi_set1_8(48), m32 = vi_set1_8(32);
    const vi m3 = vi_set1_8(3), m4 = vi_set1_8(4);
    /* the last 16 bytes of the block: two of qs, the twelve of scales, d */
    vi c[4];
    columns4(c, row, sizeof(struct pn_q3_k) - 16);
    const vi s0 = vi_or(vi_srl(c[0], 16), vi_sll(c[1], 16));
    const vi s4 = vi_or(vi_srl(c[1], 16), vi_sll(c[2], 16));
    const vi s8 = vi_or(vi_srl(c[2], 16), vi_sll(c[3], 16));
    vi_store_f16(p->d, vi_srl(c[3], 16));
    store_s8x4(p->s.sc, vi_sub_8(vi_or(vi_and(s0, m15), vi_and(vi_sll(s8, 4), m48)), m32));
    store_s8x4(p->s.sc + 4, vi_sub_8(vi_or(vi_and(s4, m15), vi_and(vi_sll(s8, 2), m48)), m32));
    store_s8x4(p->s.sc + 8, vi_sub_8(vi_or(vi_and(vi_srl(s0, 4), m15), vi_and(s8, m48)), m32));
    store_s8x4(p->s.sc + 12,
               vi_sub_8(vi_or(vi_and(vi_srl(s4, 4), m15), vi_and(vi_srl(s8, 2), m48)), m32));
    for (int part = 0; part < 2; part++) { /* elements 16 part .. of every sub-block */
        vi h[4];
        fetch_part(ahead, sizeof(struct pn_q3_k), part, 2);
        columns4(h, row, 16 * (size_t)part);
        PRAGMA_UNROLL
        for (int half = 0; half < 2; half++) {
            uint8_t (*w)[4 * LANES] = p->w + 32 * half + 4 * part;
            columns4(c, row, offsetof(struct pn_q3_k, qs) + 32 * (size_t)half + 16 * (size_t)part);
            PRAGMA_UNROLL
            for (int k = 0; k < 4; k++) {
                const int bit = 4 * half + k;
                PRAGMA_UNROLL
                for (int j = 0; j < 4; j++) {
                    const vi t = bit < 2 ? vi_sll(h[j], 2 - bit) : vi_srl(h[j], bit - 2);
                    vi_store(w[8 * k + j], vi_or(vi_and(vi_srl(c[j], 2 * k), m3), vi_and(t, m4)));
                }
            }
        }
    }
}

/* Scale times q is at most 15 * 3: it is multiplied into the bytes, two at a time. */
static inline void unpack_q2_k(struct panel *p, rows_t row, int32_t cols, const uint8_t *ahead)
{
    (void)cols;
    const vi m15 = vi_set1_8(15), m3 = vi_set1_8(3);
    vi c[4], s[4];
    columns4(c, row, sizeof(struct pn_q2_k) - 16);
    vi_store_f16(p->d, c[3]);
    vi_store_f16(p->dmin, vi_srl(c[3], 16));
    columns4(s, row, 0);
    PRAGMA_UNROLL
    for (int i = 0; i < 4; i++)
        store_pairs(p->mn + 2 * i, vi_and(vi_srl(s[i], 4), m15));
    for (int half = 0; half < 2; half++) {
        fetch_part(ahead, sizeof(struct pn_q2_k), half, 2);
        for (int part = 0; part < 2; part++) {
            uint8_t (*w)[4 * LANES] = p->w + 32 * half + 4 * part;
            columns4(c, row, offsetof(struct pn_q2_k, qs) + 32 * (size_t)half + 16 * (size_t)part);
            PRAGMA_UNROLL
            for (int k = 0; k < 4; k++) {
                /* scale 8 half + 2 k + part as an int16 in both halves of the lane */
                const int byte = 2 * (k & 1) + part;
                const vi sc = vi_shuffle(vi_and(s[2 * half + (k >> 1)], m15),
                                         bytes16(byte, -1, byte, -1));
                PRAGMA_UNROLL
                for (int j = 0; j < 4; j++)
                    vi_store(w[8 * k + j], vi_mul_16(vi_and(vi_srl(c[j], 2 * k), m3), sc));
            }
        }
    }
}

/* Without VNNI bytes are multiplied signed, and the offset of 128 stays out. */
#define SIGN_BIT (WITH_VNNI ? -128 : 0)

INLINE __m128i iq4_table(void)
{
    return _mm_xor_si128(_mm_loadu_si128((const void *)pn_iq4_values), _mm_set1_epi8(SIGN_BIT));
}

static inline void unpack_iq4_xs(struct panel *p, rows_t row, int32_t cols, const uint8_t *ahead)
{
    (void)cols;
    const vi m15 = vi_set1_8(15), one15 = vi_set1_32(15), one48 = vi_set1_32(48);
    const __m128i table = iq4_table();
    vi c[4];
    columns4(c, row, 0); /* d, scales_h; scales_l; qs */
    vi_store_f16(p->d, c[0]);
    PRAGMA_UNROLL
    for (int s = 0; s < 8; s++) {
        const vi low = vi_and(vi_srl(c[1], 4 * s), one15);
        const vi high = vi_and(vi_srl(c[0], 12 + 2 * s), one48);
        store_scales(p->s.sc[s], vi_sub_32(vi_or(low, high), vi_set1_32(32)));
    }
    for (int s = 0; s < 8; s++) {
        uint8_t (*w)[4 * LANES] = p->w + 8 * s;
        fetch_part(ahead, sizeof(struct pn_iq4_xs), s, 8);
        columns4(c, row, offsetof(struct pn_iq4_xs, qs) + 16 * (size_t)s);
        PRAGMA_UNROLL
        for (int j = 0; j < 4; j++) {
            vi_store(w[j], vi_lookup(table, vi_and(c[j], m15)));
            vi_store(w[j + 4], vi_lookup(table, vi_and(vi_srl(c[j], 4), m15)));
        }
    }
}

/* ---- groups of 32 ---- */

/* Groups past the end of a row: zeros, and nothing is read. */
static inline void zero_groups(struct panel *p, int32_t cols)
{
    for (int g = (int)(cols / 32); g < 8; g++) {
        memset(p->w[8 * g], 0, 8 * sizeof p->w[0]);
        memset(p->s.g.d[g], 0, sizeof p->s.g.d[g]);
        memset(p->s.g.m[g], 0, sizeof p->s.g.m[g]);
    }
}

static inline void unpack_q8_0(struct panel *p, rows_t row, int32_t cols, const uint8_t *ahead)
{
    const vi sign = vi_set1_8(SIGN_BIT);
    size_t at = 0;
    zero_groups(p, cols);
    for (int g = 0; g < cols / 32; g++, at += sizeof(struct pn_q8_0)) {
        vi c[4];
        fetch_part(ahead, 8 * sizeof(struct pn_q8_0), g, 8);
        columns4(c, row, at); /* begins with d */
        vi_store_f16(p->s.g.d[g], c[0]);
        vi q[8];
        columns8(q, row, at + offsetof(struct pn_q8_0, qs));
        PRAGMA_UNROLL
        for (int j = 0; j < 8; j++)
            vi_store(p->w[8 * g + j], vi_xor(q[j], sign));
    }
}

static inline void unpack_q4_0(struct panel *p, rows_t row, int32_t cols, const uint8_t *ahead)
{
    const vi m15 = vi_set1_8(15);
    size_t at = 0;
    zero_groups(p, cols);
    for (int g = 0; g < cols / 32; g++, at += sizeof(struct pn_q4_0)) {
        vi c[4];
        fetch_part(ahead, 8 * sizeof(struct pn_q4_0), g, 8);
        columns4(c, row, at); /* begins with d */
        vi_store_f16(p->s.g.d[g], c[0]);
        columns4(c, row, at + offsetof(struct pn_q4_0, qs));
        PRAGMA_UNROLL
        for (int j = 0; j < 4; j++) {
            vi_store(p->w[8 * g + j], vi_and(c[j], m15));
            vi_store(p->w[8 * g + 4 + j], vi_and(vi_srl(c[j], 4), m15));
        }
    }
}

static inline void unpack_iq4_nl(struct panel *p, rows_t row, int32_t cols, const uint8_t *ahead)
{
    const vi m15 = vi_set1_8(15);
    const __m128i table = iq4_table();
    size_t at = 0;
    zero_groups(p, cols);
    for (int g = 0; g < cols / 32; g++, at += sizeof(struct pn_iq4_nl)) {
        vi c[4];
        fetch_part(ahead, 8 * sizeof(struct pn_iq4_nl), g, 8);
        columns4(c, row, at); /* begins with d */
        vi_store_f16(p->s.g.d[g], c[0]);
        columns4(c, row, at + offsetof(struct pn_iq4_nl, qs));
        PRAGMA_UNROLL
        for (int j = 0; j < 4; j++) {
            vi_store(p->w[8 * g + j], vi_lookup(table, vi_and(c[j], m15)));
            vi_store(p->w[8 * g + 4 + j], vi_lookup(table, vi_and(vi_srl(c[j], 4), m15)));
        }
    }
}

static inline void unpack_q4_1(struct panel *p, rows_t row, int32_t cols, const uint8_t *ahead)
{
    const vi m15 = vi_set1_8(15);
    size_t at = 0;
    zero_groups(p, cols);
    for (int g = 0; g < cols / 32; g++, at += sizeof(struct pn_q4_1)) {
        vi c[4];
        fetch_part(ahead, 8 * sizeof(struct pn_q4_1), g, 8);
        columns4(c, row, at);
        vi_store_f16(p->s.g.d[g], c[0]);
        vi_store_f16(p->s.g.m[g], vi_srl(c[0], 16));
        columns4(c, row, at + offsetof(struct pn_q4_1, qs));
        PRAGMA_UNROLL
        for (int j = 0; j < 4; j++) {
            vi_store(p->w[8 * g + j], vi_and(c[j], m15));
            vi_store(p->w[8 * g + 4 + j], vi_and(vi_srl(c[j], 4), m15));
        }
    }
}

/* One group of 32 five-bit values: nibbles c, fifth bits qh. Four bits of qh are spread to bit 4 of
 * four bytes by one multiplication: its partial products do not overlap. */
INLINE void store_q5(uint8_t (*w)[4 * LANES], const vi c[4], vi qh)
{
    const vi m15 = vi_set1_8(15), m16 = vi_set1_8(16), one15 = vi_set1_32(15);
    const vi spread = vi_set1_32(0x02040810);
    PRAGMA_UNROLL
    for (int j = 0; j < 8; j++) {
        const vi bits = vi_mul_32(vi_and(vi_srl(qh, 4 * j), one15), spread);
        const vi low = j < 4 ? c[j & 3] : vi_srl(c[j & 3], 4);
        vi_store(w[j], vi_or(vi_and(low, m15), vi_and(bits, m16)));
    }
}

static inline void unpack_q5_0(struct panel *p, rows_t row, int32_t cols, const uint8_t *ahead)
{
    size_t at = 0;
    zero_groups(p, cols);
    for (int g = 0; g < cols / 32; g++, at += sizeof(struct pn_q5_0)) {
        vi h[4], c[4];
        fetch_part(ahead, 8 * sizeof(struct pn_q5_0), g, 8);
        columns4(h, row, at); /* d, qh lies across the first two columns */
        vi_store_f16(p->s.g.d[g], h[0]);
        columns4(c, row, at + offsetof(struct pn_q5_0, qs));
        store_q5(p->w + 8 * g, c, vi_or(vi_srl(h[0], 16), vi_sll(h[1], 16)));
    }
}

static inline void unpack_q5_1(struct panel *p, rows_t row, int32_t cols, const uint8_t *ahead)
{
    size_t at = 0;
    zero_groups(p, cols);
    for (int g = 0; g < cols / 32; g++, at += sizeof(struct pn_q5_1)) {
        vi h[4], c[4];
        fetch_part(ahead, 8 * sizeof(struct pn_q5_1), g, 8);
        columns4(h, row, at); /* d, m; qh */
        vi_store_f16(p->s.g.d[g], h[0]);
        vi_store_f16(p->s.g.m[g], vi_srl(h[0], 16));
        columns4(c, row, at + offsetof(struct pn_q5_1, qs));
        store_q5(p->w + 8 * g, c, h[1]);
    }
}

#endif
