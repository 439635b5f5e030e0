/* SPDX-License-Identifier: Apache-2.0 */
/* Attention in f32, all KV types, over any tier's vector of sixteen lanes. Scores have 16 keys in the
 * lanes, outputs 16 dimensions, so both sums run in the contract's order whatever the tile.
 *
 * All query rows pass over one tile of 64 keys before the next: keys and values come from memory
 * once. What a row does not see is left out of its sums, not added as zero.
 *
 * To be included after the tier's own header, which supplies, with p of any alignment:
 *
 *   INLINE, PRAGMA_UNROLL       of src/kern/unroll.h
 *   vf                          sixteen f32 lanes; it may be several registers
 *   vf_zero(), vf_set1(c)
 *   vf_load(p), vf_store(p, x)
 *   vf_load_n(p, n)             lanes below n, 1 <= n <= 15, the others zero; nothing past them is read
 *   vf_store_n(p, x, n)         lanes below n, 1 <= n <= 15
 *   vf_keep_n(x, n)             lanes from n on, 0 <= n <= 16, become zero
 *   vf_fill_from(x, c, n)       lanes from n on, 0 <= n <= 16, become c
 *   vf_add, vf_sub, vf_mul, vf_div (x, y)
 *   vf_fma(x, y, c)             x * y + c, rounded once
 *   vf_fma_n(x, s, c)           the same with the scalar s in all lanes
 *   vf_max(x, y)                the larger; y where x is NaN
 *   vf_sum(x)                   the 16-lane rule of kern.h
 *   vf_hmax(x)                  the largest lane; none is NaN
 *   vf_exp(x)                   pn_expf
 *   vf_load_f16(p)              sixteen f16
 *   vf_load_i8(p)               sixteen int8
 *   vf_part_bf16(p, part)       member part (0, 1) of sixteen pairs of bf16
 *   vf_part_i8(p, part)         member part (0 .. 3) of sixteen groups of four int8
 *
 * and the shapes that fit its registers:
 *
 *   ATTN_ROWS                   query rows that share every load of a key or a value
 *   QK_VECS, QK_VECS_1          vectors of keys in a score tile of ATTN_ROWS rows, of one row: 1, 2, 4
 *   PV_VECS, PV_VECS_1          vectors of dimensions in a value tile of so many rows: 1, 2, 4, 5
 *   PRAGMA_UNROLL_EXP           PRAGMA_UNROLL where four vf stay in registers beside an exp, or nothing */
#ifndef PN_ATTN_TMPL_H
#define PN_ATTN_TMPL_H

#include <stddef.h>
#include <string.h>

#include "kern/kern.h"
#include "kern/kern_math.h"

#define TILE_VECS (PN_ATTN_TILE / 16)

/* Dimension d of 16 keys; p: their group that has d. */
INLINE vf keys_at(enum pn_kv_type type, const uint8_t *p, int32_t d)
{
    return type == PN_KV_F32    ? vf_load((const float *)(const void *)p)
           : type == PN_KV_F16  ? vf_load_f16(p)
           : type == PN_KV_BF16 ? vf_part_bf16(p, d & 1)
                                : vf_part_i8(p, d & 3);
}

/* s[rows][64] = sums of q_d * k_jd, for vecs vectors of 16 keys. k: the first of these vectors. */
INLINE void scores_of(enum pn_kv_type type, int rows, int vecs, float *s, const float *q, size_t ldq,
                      const uint8_t *k, int32_t hd)
{
    const size_t group_bytes = type == PN_KV_F16 ? 32 : 64; /* of 16 keys */
    const int in_group = type == PN_KV_Q8 ? 4 : type == PN_KV_BF16 ? 2 : 1;
    const size_t block = (size_t)((hd + in_group - 1) / in_group) * group_bytes;
    vf x[ATTN_ROWS][TILE_VECS];
    PRAGMA_UNROLL
    for (int i = 0; i < rows; i++) {
        PRAGMA_UNROLL
        for (int b = 0; b < vecs; b++)
            x[i][b] = vf_zero();
    }
    for (int32_t d = 0; d < hd; d++) {
        const uint8_t *p = k + (size_t)(d / in_group) * group_bytes;
        PRAGMA_UNROLL
        for (int b = 0; b < vecs; b++, p += block) {
            const vf kd = keys_at(type, p, d);
            PRAGMA_UNROLL
            for (int i = 0; i < rows; i++)
                x[i][b] = vf_fma_n(kd, q[(size_t)i * ldq + (size_t)d], x[i][b]);
        }
    }
    PRAGMA_UNROLL
    for (int i = 0; i < rows; i++) {
        PRAGMA_UNROLL
        for (int b = 0; b < vecs; b++)
            vf_store(s + i * PN_ATTN_TILE + 16 * b, x[i][b]);
    }
}

INLINE void scores(enum pn_kv_type type, int rows, float *s, const float *q, size_t ldq,
                   const uint8_t *k, size_t block, int32_t hd)
{
    const int vecs = rows == 1 ? QK_VECS_1 : QK_VECS;
    for (int b = 0; b < TILE_VECS; b += vecs)
        scores_of(type, rows, vecs, s + 16 * b, q, ldq, k + (size_t)b * block, hd);
}

/* Scores of one row to probabilities, in place; m, l and o of the row follow. n keys are seen. */
INLINE void softmax_row(enum pn_kv_type type, struct pn_attn_part *part, float *s, int32_t n,
                        int32_t hd, const float *ks, const float *vs, const float *bias)
{
    vf x[TILE_VECS], max = vf_set1(-INFINITY);
    PRAGMA_UNROLL_EXP
    for (int b = 0; b < TILE_VECS; b++) {
        const int left = n - 16 * b < 0 ? 0 : n - 16 * b > 16 ? 16 : n - 16 * b;
        x[b] = vf_load(s + 16 * b);
        if (type == PN_KV_Q8)
            x[b] = vf_mul(x[b], vf_load(ks + 16 * b));
        if (bias != NULL && left > 0)
            x[b] = vf_add(x[b], left == 16 ? vf_load(bias + 16 * b) : vf_load_n(bias + 16 * b, left));
        x[b] = vf_fill_from(x[b], -INFINITY, left);
        max = vf_max(x[b], max);
    }
    const float new_max = vf_hmax(max);
    if (new_max > part->m) {
        const vf c = vf_set1(pn_expf(part->m - new_max));
        vf_store(part->l, vf_mul(vf_load(part->l), c));
        for (int32_t d = 0; d < hd; d += 16) /* the row is padded to a multiple of 16 */
            vf_store(part->o + d, vf_mul(vf_load(part->o + d), c));
        part->m = new_max;
    }
    vf l = vf_load(part->l);
    const vf m = vf_set1(part->m);
    PRAGMA_UNROLL_EXP
    for (int b = 0; b < TILE_VECS; b++) {
        const int left = n - 16 * b < 0 ? 0 : n - 16 * b > 16 ? 16 : n - 16 * b;
        vf p = vf_keep_n(vf_exp(vf_sub(x[b], m)), left);
        l = vf_add(l, p);
        if (type == PN_KV_Q8)
            p = vf_mul(p, vf_load(vs + 16 * b));
        vf_store(s + 16 * b, p);
    }
    vf_store(part->l, l);
}

/* Sixteen dimensions (dims of them exist) of a value, or of the odd or even value of a pair. */
INLINE vf value(enum pn_kv_type type, const uint8_t *p, int odd, int dims)
{
    const size_t elem = type == PN_KV_F16 ? 2 : type == PN_KV_Q8 ? 1 : 4; /* BF16: of a pair */
    uint8_t copy[64];
    if (dims < 16) {
        memset(copy, 0, sizeof copy);
        memcpy(copy, p, elem * (size_t)dims);
        p = copy;
    }
    return type == PN_KV_F32    ? vf_load((const float *)(const void *)p)
           : type == PN_KV_F16  ? vf_load_f16(p)
           : type == PN_KV_BF16 ? vf_part_bf16(p, odd)
                                : vf_load_i8(p);
}

/* o[rows][16 vecs] += p_j * v_j for keys j0 <= j < j1 of the tile; v at key 0. dims: of the last
 * vector. */
INLINE void values(enum pn_kv_type type, int rows, int vecs, int dims, float *o, size_t ldo,
                   const float *p, const uint8_t *v, size_t row_bytes, int32_t j0, int32_t j1)
{
    const size_t vec_bytes = type == PN_KV_F16 ? 32 : type == PN_KV_Q8 ? 16 : 64;
    vf x[ATTN_ROWS][5];
    PRAGMA_UNROLL
    for (int i = 0; i < rows; i++) {
        PRAGMA_UNROLL
        for (int b = 0; b < vecs; b++)
            x[i][b] = vf_load(o + (size_t)i * ldo + 16 * b);
    }
    for (int32_t j = j0; j < j1; j++) {
        const uint8_t *r = v + (size_t)(type == PN_KV_BF16 ? j >> 1 : j) * row_bytes;
        PRAGMA_UNROLL
        for (int b = 0; b < vecs; b++) {
            const vf y = value(type, r + (size_t)b * vec_bytes, j & 1, b == vecs - 1 ? dims : 16);
            PRAGMA_UNROLL
            for (int i = 0; i < rows; i++)
                x[i][b] = vf_fma_n(y, p[i * PN_ATTN_TILE + j], x[i][b]);
        }
    }
    PRAGMA_UNROLL
    for (int i = 0; i < rows; i++) {
        PRAGMA_UNROLL
        for (int b = 0; b < vecs; b++)
            vf_store(o + (size_t)i * ldo + 16 * b, x[i][b]);
    }
}

/* All dimensions for `rows` rows: the widest tiles that fit the registers, then narrower ones; fives
 * only where they leave no rest. */
INLINE void values_all(enum pn_kv_type type, int rows, float *o, size_t ldo, const float *p,
                       const uint8_t *v, int32_t hd, int32_t j0, int32_t j1)
{
    const int most = rows == 1 ? PV_VECS_1 : PV_VECS;
    const size_t vec_bytes = type == PN_KV_F16 ? 32 : type == PN_KV_Q8 ? 16 : 64;
    const size_t row_bytes = type == PN_KV_Q8    ? ((size_t)hd + 3) & ~(size_t)3
                             : type == PN_KV_F16 ? (size_t)hd * 2
                                                 : (size_t)hd * 4;
    int32_t d = 0;
    for (; most >= 5 && hd - d >= 80 && (hd - d) % 80 == 0; d += 80)
        values(type, rows, 5, 16, o + d, ldo, p, v + (size_t)d / 16 * vec_bytes, row_bytes, j0, j1);
    for (; most >= 4 && hd - d >= 64; d += 64)
        values(type, rows, 4, 16, o + d, ldo, p, v + (size_t)d / 16 * vec_bytes, row_bytes, j0, j1);
    for (; most >= 2 && hd - d >= 32; d += 32)
        values(type, rows, 2, 16, o + d, ldo, p, v + (size_t)d / 16 * vec_bytes, row_bytes, j0, j1);
    for (; hd - d >= 16; d += 16)
        values(type, rows, 1, 16, o + d, ldo, p, v + (size_t)d / 16 * vec_bytes, row_bytes, j0, j1);
    if (d < hd)
        values(type, rows, 1, hd - d, o + d, ldo, p, v + (size_t)d / 16 * vec_bytes, row_bytes, j0,
               j1);
}

/* Keys of the tile at `first` that a row with n_keys keys sees. */
INLINE int32_t visible(int64_t n_keys, int64_t first)
{
    const int64_t n = n_keys - first;
    return n < 0 ? 0 : n > PN_ATTN_TILE ? PN_ATTN_TILE : (int32_t)n;
}

/* `rows` rows over one tile; n: visible keys of each, not all zero. rows is a constant. */
INLINE void attn_rows(enum pn_kv_type type, int rows, float *part, size_t stride, const float *q,
                      size_t ldq, const int32_t *n, const struct pn_kv_view *kv, int64_t first,
                      const float *bias)
{
    float s[ATTN_ROWS][PN_ATTN_TILE] __attribute__((aligned(64)));
    const int32_t hd = kv->hd;
    const int in_group = type == PN_KV_Q8 ? 4 : type == PN_KV_BF16 ? 2 : 1;
    const size_t k_elem = type == PN_KV_F32 ? 4 : type == PN_KV_Q8 ? 1 : 2;
    const size_t k_row = (size_t)((hd + in_group - 1) / in_group * in_group) * k_elem;
    const size_t v_row = type == PN_KV_Q8 ? ((size_t)hd + 3) & ~(size_t)3 : (size_t)hd * k_elem;
    const uint8_t *k = (const uint8_t *)kv->k + (size_t)first * k_row;
    const uint8_t *v = (const uint8_t *)kv->v + (size_t)first * v_row;
    const float *ks = type == PN_KV_Q8 ? kv->ks + first : NULL;
    const float *vs = type == PN_KV_Q8 ? kv->vs + first : NULL;

    scores(type, rows, s[0], q, ldq, k, 16 * k_row, hd);
    int32_t common = PN_ATTN_TILE;
    for (int i = 0; i < rows; i++) {
        if (n[i] > 0)
            softmax_row(type, (struct pn_attn_part *)(part + (size_t)i * stride), s[i], n[i], hd,
                        ks, vs, bias != NULL ? bias + first : NULL);
        common = n[i] < common ? n[i] : common;
    }
    float *o = part + offsetof(struct pn_attn_part, o) / sizeof(float);
    if (common > 0)
        values_all(type, rows, o, stride, s[0], v, hd, 0, common);
    for (int i = 0; i < rows; i++) {
        if (n[i] > common)
            values_all(type, 1, o + (size_t)i * stride, stride, s[i], v, hd, common, n[i]);
    }
}

INLINE void attn_body(enum pn_kv_type type, float *part, const float *q, size_t ldq, int32_t nq,
                      const int32_t *n_keys, const struct pn_kv_view *kv, int64_t key0,
                      const float *bias)
{
    const size_t stride = pn_attn_part_floats(kv->hd);
    for (int32_t i = 0; i < nq; i++) {
        memset(part + (size_t)i * stride, 0, stride * sizeof *part);
        part[(size_t)i * stride] = -INFINITY;
    }
    for (int64_t first = key0; first < key0 + PN_ATTN_CHUNK; first += PN_ATTN_TILE) {
        int any = 0;
        int32_t i = 0;
        while (i < nq) {
            const int rows = nq - i >= ATTN_ROWS ? ATTN_ROWS : 1;
            int32_t n[ATTN_ROWS] = { 0 }, most = 0;
            for (int r = 0; r < rows; r++) {
                n[r] = visible(n_keys[i + r], first);
                most = n[r] > most ? n[r] : most;
            }
            float *p = part + (size_t)i * stride;
            const float *qi = q + (size_t)i * ldq;
            if (most > 0 && rows == ATTN_ROWS)
                attn_rows(type, ATTN_ROWS, p, stride, qi, ldq, n, kv, first, bias);
            else if (most > 0)
                attn_rows(type, 1, p, stride, qi, ldq, n, kv, first, bias);
            any |= most > 0;
            i += rows;
        }
        if (!any)
            break; /* rows see prefixes: no later tile is visible either */
    }
}

#endif
