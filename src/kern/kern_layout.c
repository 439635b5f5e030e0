/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes and layouts of the buffers kernels work on. */
#include "kern/kern.h"

static size_t round64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

/* Byte offsets of the arrays of pn_act inside one buffer, and its size. */
struct act_offsets {
    size_t s32, s16, d, end; /* q is at 0 */
};

static struct act_offsets act_offsets(int32_t m, int32_t k)
{
    const size_t cells = ((size_t)k + PN_QK - 1) / PN_QK * (size_t)m;
    struct act_offsets o;
    o.s32 = cells * PN_QK;
    o.s16 = o.s32 + round64(cells * 8 * sizeof(int16_t));
    o.d = o.s16 + round64(cells * 16 * sizeof(int16_t));
    o.end = o.d + round64(cells * sizeof(float));
    return o;
}

size_t pn_act_bytes(int32_t m, int32_t k)
{
    return act_offsets(m, k).end;
}

void pn_act_init(struct pn_act *a, void *buf, int32_t m, int32_t k)
{
    const struct act_offsets o = act_offsets(m, k);
    uint8_t *base = buf;
    a->m = m;
    a->k = k;
    a->nb = (int32_t)(((int64_t)k + PN_QK - 1) / PN_QK);
    a->q = (int8_t *)base;
    a->s32 = (int16_t *)(base + o.s32);
    a->s16 = (int16_t *)(base + o.s16);
    a->d = (float *)(base + o.d);
}

void pn_act16_init(struct pn_act16 *a, void *buf, int32_t m, int32_t k)
{
    a->m = m;
    a->k = k;
    a->nb = (int32_t)(((int64_t)k + PN_ACT16_COLS - 1) / PN_ACT16_COLS);
    a->rows = (m + PN_ACT16_ROWS - 1) / PN_ACT16_ROWS * PN_ACT16_ROWS;
    a->x = buf;
}

size_t pn_act16_bytes(int32_t m, int32_t k)
{
    struct pn_act16 a;
    pn_act16_init(&a, NULL, m, k);
    return (size_t)a.nb * (size_t)a.rows * PN_ACT16_COLS * sizeof *a.x;
}

static size_t kv_elem_bytes(enum pn_kv_type type)
{
    return type == PN_KV_F32 ? 4 : type == PN_KV_Q8 ? 1 : 2;
}

size_t pn_kv_k_bytes(enum pn_kv_type type, int32_t hd, int64_t cap)
{
    const size_t g = type == PN_KV_Q8 ? 4 : type == PN_KV_BF16 ? 2 : 1;
    const size_t hd_padded = ((size_t)hd + g - 1) / g * g;
    return round64((size_t)cap * hd_padded * kv_elem_bytes(type));
}

size_t pn_kv_v_bytes(enum pn_kv_type type, int32_t hd, int64_t cap)
{
    const size_t g = type == PN_KV_Q8 ? 4 : 1;
    const size_t hd_padded = ((size_t)hd + g - 1) / g * g;
    return round64((size_t)cap * hd_padded * kv_elem_bytes(type));
}
