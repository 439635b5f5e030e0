/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of the amx tier, sixteen query rows and 64 keys at a time: scores and values are tile products, keys and
 * values in the cache's pairs of bf16 are tiles as they lie; the softmax between them is that of x86_attn_bf16.h.
 * Fewer rows take tiles of fewer rows: the bits of a row do not depend on their number.
 *
 * A softmax occupies the vector units for as long as the products occupy those of the tiles. So sixteen rows'
 * softmaxes run between the steps of the next rows' scores and of the values of the rows before.
 *
 * Tiles: sums of values 0, of scores 1; probabilities 2, queries 3, values 5, keys 6; 4 and 7 for the dimensions of
 * queries and keys that do not fill a tile's 32. */
#ifndef PN_AMX_ATTN_H
#define PN_AMX_ATTN_H

#define BF_GRAIN 16

/* A tile reads sixteen dimensions of values. */
INLINE int bf_direct(enum pn_kv_type type, int32_t rows, int32_t hd)
{
    (void)rows;
    return type == PN_KV_BF16 && hd % 16 == 0;
}

INLINE void bf_begin(int32_t rows, int32_t dims)
{
    struct amx_config config = config_full;
    const int32_t rest = dims % 32;
    for (int t = 0; t < 5; t++)
        config.rows[t] = (uint8_t)(rows < BF_GRAIN ? rows : BF_GRAIN);
    if (rest > 0) {
        config.colsb[4] = (uint16_t)(2 * rest);
        config.rows[7] = (uint8_t)(rest / 2);
    }
    amx_config(&config);
}
INLINE void bf_end(void)
{
    amx_release();
}

#include "x86_attn_bf16.h"

/* Step i = 0 .. of sixteen rows' scores s[16][64]; each multiplies at most 32 dimensions of 16 keys. Sums are stored
 * a step late, when they are there: a store that waits holds up what comes after it. */
INLINE int n_score_steps(int32_t dims)
{
    return TILE_VECS * ((dims + 31) / 32);
}
INLINE void score_step(int i, float *s, const uint16_t *q, const struct bf_tile_kv *t)
{
    const int per = (t->dims + 31) / 32, b = i / per, d = 32 * (i % per);
    const uint8_t *k = t->k + (size_t)b * t->k_block + 32 * (size_t)d;
    const size_t q_row = PN_ATTN_BF16_HD * sizeof *q;
    if (d == 0) {
        if (b > 0)
            amx_store(1, s + 16 * (b - 1), PN_ATTN_TILE * sizeof *s);
        amx_zero(1);
    }
    if (d + 32 <= t->dims) {
        amx_load(3, q + d, q_row);
        amx_load(6, k, 64);
        amx_dot_bf16(1, 3, 6);
    } else {
        amx_load(4, q + d, q_row);
        amx_load(7, k, 64);
        amx_dot_bf16(1, 4, 7);
    }
}
INLINE void scores_end(float *s)
{
    amx_store(1, s + 16 * (TILE_VECS - 1), PN_ATTN_TILE * sizeof *s);
}

/* Step i of o[16][hd] (+stride floats) += p[16][64] * v: 32 keys, 16 dimensions */
INLINE int n_value_steps(int32_t hd)
{
    return 2 * ((hd + 15) / 16);
}
INLINE void value_step(int i, float *o, size_t stride, const uint16_t *p, const struct bf_tile_kv *t)
{
    const int b = i / 2, half = i % 2;
    if (half == 0) {
        if (b > 0)
            amx_store(0, o + 16 * (b - 1), stride * sizeof *o);
        amx_load(0, o + 16 * b, stride * sizeof *o);
    }
    amx_load(2, p + 32 * half, PN_ATTN_TILE * sizeof *p);
    amx_load(5, t->v + 64 * (size_t)b + (size_t)(16 * half) * t->v_row, t->v_row);
    amx_dot_bf16(0, 2, 5);
}
INLINE void values_end(float *o, size_t stride, int32_t hd)
{
    amx_store(0, o + (hd - 1) / 16 * 16, stride * sizeof *o);
}

/* The scores of one unit of sixteen rows, and the probabilities they become */
struct amx_rows {
    float s[BF_GRAIN][PN_ATTN_TILE];
    uint16_t p[BF_GRAIN][PN_ATTN_TILE];
};

/* One row; s changes. */
INLINE void amx_softmax(enum pn_kv_type type, struct pn_attn_part *part, uint16_t *p, float *s, int32_t n, int32_t hd,
                        const struct bf_tile_kv *t)
{
    __m512 x[TILE_VECS];
    PRAGMA_UNROLL
    for (int b = 0; b < TILE_VECS; b++)
        x[b] = _mm512_load_ps(s + 16 * b);
    const __m512i signs = bf_logits(type, s, x, part->m, n, 0, t);
    if (t->first || _mm512_movepi32_mask(signs) != 0xffff)
        bf_raise(part, s, hd, t->first);
    bf_probs(type, 0, part, p, s, t);
    bf_probs(type, 1, part, p, s, t);
}

INLINE void bf_rows(enum pn_kv_type type, enum pn_kv_type form, int rows, float *part, size_t stride,
                    const uint16_t *q, int32_t hd, const int32_t *n, const struct bf_tile_kv *t)
{
    (void)form; /* pairs */
    struct amx_rows mem[2] __attribute__((aligned(64)));
    const int n_scores = n_score_steps(t->dims), n_values = n_value_steps(hd);
    const int steps = n_scores > n_values ? n_scores : n_values;
    const int in_unit = rows < BF_GRAIN ? rows : BF_GRAIN;
    const size_t o = offsetof(struct pn_attn_part, o) / sizeof(float);
    const int lines = PN_ATTN_TILE * t->dims * (type == PN_KV_Q8 ? 1 : 2) / 64; /* of the next keys, and values */
    const int fetch = (lines + steps - 1) / steps;
    const uint8_t *next_k = (const uint8_t *)t->next_k, *next_v = (const uint8_t *)t->next_v;

    /* units that see a key of this tile */
    int unit[BF_PASS / BF_GRAIN], n_units = 0;
    for (int u = 0; u < rows; u += BF_GRAIN) {
        int32_t most = 0;
        for (int i = u; i < u + in_unit; i++)
            most |= n[i];
        if (most > 0)
            unit[n_units++] = u;
    }

    for (int i = 0; i < n_scores; i++)
        score_step(i, mem[0].s[0], q + unit[0] * PN_ATTN_BF16_HD, t);
    scores_end(mem[0].s[0]);
    for (int u = 0; u < n_units; u++) {
        struct amx_rows *now = &mem[u & 1], *other = &mem[1 - (u & 1)]; /* the next unit's scores, the last one's p */
        const int32_t *seen = n + unit[u];
        const int has_next = u + 1 < n_units, has_last = u > 0;
        const uint16_t *q_next = has_next ? q + unit[u + 1] * PN_ATTN_BF16_HD : NULL;
        float *o_last = has_last ? part + (size_t)unit[u - 1] * stride + o : NULL;
        for (int i = 0; i < steps; i++) {
            if (has_next && i < n_scores)
                score_step(i, other->s[0], q_next, t);
            if (has_last && i < n_values)
                value_step(i, o_last, stride, other->p[0], t);
            if (next_k != NULL && u == 0) {
                fetch_lines(next_k + 64 * (size_t)(i * fetch), fetch);
                fetch_lines(next_v + 64 * (size_t)(i * fetch), fetch);
            }
            for (int r = in_unit * i / steps; r < in_unit * (i + 1) / steps; r++) {
                struct pn_attn_part *row = (struct pn_attn_part *)(part + (size_t)(unit[u] + r) * stride);
                if (seen[r] > 0)
                    amx_softmax(type, row, now->p[r], now->s[r], seen[r], hd, t);
                else
                    memset(now->p[r], 0, sizeof now->p[r]);
            }
        }
        if (has_next)
            scores_end(other->s[0]);
        if (has_last)
            values_end(o_last, stride, hd);
    }
    float *o_last = part + (size_t)unit[n_units - 1] * stride + o;
    for (int i = 0; i < n_values; i++)
        value_step(i, o_last, stride, mem[1 - (n_units & 1)].p[0], t);
    values_end(o_last, stride, hd);
}

#endif
