/* SPDX-License-Identifier: Apache-2.0 */
/* Attention in f32 over vf (x86_vf512.h or x86_vf256.h), all KV types. Scores with 16 keys in the
 * lanes, values with 16 dimensions in the lanes: both in the contract's order, so any tile gives
 * its bits.
 *
 * All query rows pass over one tile of 64 keys before the next: keys and values come from memory
 * once. What one row does not see is left out of its sums, not added as zero. */
#ifndef PN_X86_ATTN_H
#define PN_X86_ATTN_H

#include "kern/kern.h"
#include "x86_math.h"

#define TILE_VECS (PN_ATTN_TILE / 16)

/* s[rows][64]: sums of q_d * k_jd over d, for QK_VECS of the four blocks of 16 keys; k: the first.
 */
INLINE void scores_of(enum pn_kv_type type, int rows, float *s, const float *q, size_t ldq,
                      const uint8_t *k, int32_t hd)
{
    const size_t group_bytes = type == PN_KV_F16 ? 32 : 64; /* of 16 keys */
    const int in_group = type == PN_KV_Q8 ? 4 : type == PN_KV_BF16 ? 2 : 1;
    const size_t block = (size_t)((hd + in_group - 1) / in_group) * group_bytes;
    vf x[QK_ROWS][QK_VECS];
    PRAGMA_UNROLL
    for (int i = 0; i < rows; i++) {
        PRAGMA_UNROLL
        for (int b = 0; b < QK_VECS; b++)
            x[i][b] = vf_zero();
    }
    for (int32_t d = 0; d < hd; d++) {
        const uint8_t *p = k + (size_t)(d / in_group) * group_bytes;
        PRAGMA_UNROLL
        for (int b = 0; b < QK_VECS; b++, p += block) {
            const vf kv = type == PN_KV_F32    ? vf_load((const float *)(const void *)p)
                          : type == PN_KV_F16  ? vf_load_f16(p)
                          : type == PN_KV_BF16 ? vf_part_bf16(p, d & 1)
                                               : vf_part_i8(p, d & 3);
            PRAGMA_UNROLL
            for (int i = 0; i < rows; i++)
                x[i][b] = vf_fma(vf_set1(q[(size_t)i * ldq + (size_t)d]), kv, x[i][b]);
        }
    }
    PRAGMA_UNROLL
    for (int i = 0; i < rows; i++) {
        PRAGMA_UNROLL
        for (int b = 0; b < QK_VECS; b++)
            vf_store(s + i * PN_ATTN_TILE + 16 * b, x[i][b]);
    }
}

INLINE void scores(enum pn_kv_type type, int rows, float *s, const float *q, size_t ldq,
                   const uint8_t *k, size_t block, int32_t hd)
{
    for (int b = 0; b < TILE_VECS; b += QK_VECS)
        scores_of(type, rows, s + 16 * b, q, ldq, k + (size_t)b * block, hd);
}

/* Scores of one row to probabilities, in place; m, l and o of the row follow. n keys are visible.
 */
INLINE void softmax_row(enum pn_kv_type type, struct pn_attn_part *part, float *s, int32_t n,
                        int32_t hd, const float *ks, const float *vs, const float *bias)
{
    vf x[TILE_VECS], max = vf_set1(-INFINITY);
    PRAGMA_UNROLL
    for (int b = 0; b < TILE_VECS; b++) {
        x[b] = vf_load(s + 16 * b);
        if (type == PN_KV_Q8)
            x[b] = vf_mul(x[b], vf_load(ks + 16 * b));
        const int left = n - 16 * b < 0 ? 0 : n - 16 * b > 16 ? 16 : n - 16 * b;
        if (bias != NULL)
            x[b] = vf_add(x[b], left == 16 ? vf_load(bias + 16 * b)
                                : left > 0 ? vf_load_n(bias + 16 * b, left)
                                           : vf_zero());
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
    PRAGMA_UNROLL
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

/* Sixteen dimensions (dims of them exist) of value j, or of both values of its pair. */
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
                                : vf_from_i8(_mm_loadu_si128((const void *)p));
}

/* o[rows][16 vecs] += p_j * v_j for keys j0 <= j < j1 of the tile; v at key 0. dims: of the last
 * vector. */
INLINE void values(enum pn_kv_type type, int rows, int vecs, int dims, float *o, size_t ldo,
                   const float *p, const uint8_t *v, size_t row_bytes, int32_t j0, int32_t j1)
{
    const size_t vec_bytes = type == PN_KV_F16 ? 32 : type == PN_KV_Q8 ? 16 : 64;
    vf x[PV_ROWS][PV_VECS];
    PRAGMA_UNROLL
    for (int i = 0; i < rows; i++) {
        PRAGMA_UNROLL
        for (int b = 0; b < vecs; b++)
            x[i][b] = vf_load(o + (size_t)i * ldo + 16 * b);
    }
    for (int32_t j = j0; j < j1; j++) {
        const uint8_t *r = v + (size_t)(type == PN_KV_BF16 ? j >> 1 : j) * row_bytes;
        vf y[PV_VECS];
        PRAGMA_UNROLL
        for (int b = 0; b < vecs; b++)
            y[b] = value(type, r + (size_t)b * vec_bytes, j & 1, b == vecs - 1 ? dims : 16);
        PRAGMA_UNROLL
        for (int i = 0; i < rows; i++) {
            const vf pj = vf_set1(p[i * PN_ATTN_TILE + j]);
            PRAGMA_UNROLL
            for (int b = 0; b < vecs; b++)
                x[i][b] = vf_fma(pj, y[b], x[i][b]);
        }
    }
    PRAGMA_UNROLL
    for (int i = 0; i < rows; i++) {
        PRAGMA_UNROLL
        for (int b = 0; b < vecs; b++)
            vf_store(o + (size_t)i * ldo + 16 * b, x[i][b]);
    }
}

/* All dimensions for `rows` rows: tiles of PV_VECS vectors, then single vectors. */
INLINE void values_all(enum pn_kv_type type, int rows, float *o, size_t ldo, const float *p,
                       const uint8_t *v, int32_t hd, int32_t j0, int32_t j1)
{
    const size_t vec_bytes = type == PN_KV_F16 ? 32 : type == PN_KV_Q8 ? 16 : 64;
    const size_t row_bytes = type == PN_KV_Q8    ? ((size_t)hd + 3) & ~(size_t)3
                             : type == PN_KV_F16 ? (size_t)hd * 2
                                                 : (size_t)hd * 4;
    int32_t d = 0;
    for (; hd - d >= 16 * PV_VECS && (hd - d) % (16 * PV_VECS) == 0; d += 16 * PV_VECS)
        values(type, rows, PV_VECS, 16, o + d, ldo, p, v + (size_t)d / 16 * vec_bytes, row_bytes,
               j0, j1);
#if PV_VECS > 4
    for (; hd - d >= 64; d += 64)
        values(type, rows, 4, 16, o + d, ldo, p, v + (size_t)d / 16 * vec_bytes, row_bytes, j0, j1);
#endif
    for (; hd - d >= 32; d += 32)
        values(type, rows, 2, 16, o + d, ldo, p, v + (size_t)d / 16 * vec_bytes, row_bytes, j0, j1);
    for (; hd - d >= 16; d += 16)
        values(type, rows, 1, 16, o + d, ldo, p, v + (size_t)d / 16 * vec_bytes, row_bytes, j0, j1);
    if (d < hd)
        values(type, rows, 1, hd - d, o + d, ldo, p, v + (size_t)d / 16 * vec_bytes, row_bytes, j0,
               j1);
}

/* Keys of the tile at `first` that a row with n_keys keys sees. */
static inline int32_t visible(int64_t n_keys, int64_t first)
{
    const int64_t n = n_keys - first;
    return n < 0 ? 0 : n > PN_ATTN_TILE ? PN_ATTN_TILE : (int32_t)n;
}

/* Rows i .. i + rows - 1 over one tile; n: visible keys of each, not all zero. rows is a constant.
 */
INLINE void attn_rows(enum pn_kv_type type, int rows, float *part, size_t stride, const float *q,
                      size_t ldq, const int32_t *n, const struct pn_kv_view *kv, int64_t first,
                      const float *bias)
{
    float s[QK_ROWS][PN_ATTN_TILE] __attribute__((aligned(64)));
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
            const int rows = nq - i >= QK_ROWS ? QK_ROWS : 1;
            int32_t n[QK_ROWS], most = 0;
            for (int r = 0; r < rows; r++) {
                n[r] = visible(n_keys[i + r], first);
                most = n[r] > most ? n[r] : most;
            }
            float *p = part + (size_t)i * stride;
            const float *qi = q + (size_t)i * ldq;
            if (most > 0 && rows == QK_ROWS)
                attn_rows(type, QK_ROWS, p, stride, qi, ldq, n, kv, first, bias);
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
