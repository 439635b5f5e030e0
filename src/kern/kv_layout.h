/* SPDX-License-Identifier: Apache-2.0 */
/* Where element d of key or value j lies inside a KV view: index in elements (f32, 16-bit, int8 by
 * type). The layouts are drawn in kern.h; these functions are their definition. */
#ifndef PN_KV_LAYOUT_H
#define PN_KV_LAYOUT_H

#include "kern/kern.h"

static inline size_t pn_kv_k_index(enum pn_kv_type type, int32_t hd, int64_t j, int32_t d)
{
    /* how many consecutive dimensions of one key lie side by side */
    const size_t g = type == PN_KV_Q8 ? 4 : type == PN_KV_BF16 ? 2 : 1;
    const size_t groups = ((size_t)hd + g - 1) / g;
    const size_t block = (size_t)j / 16, lane = (size_t)j % 16;
    return ((block * groups + (size_t)d / g) * 16 + lane) * g + (size_t)d % g;
}

static inline size_t pn_kv_v_index(enum pn_kv_type type, int32_t hd, int64_t j, int32_t d)
{
    if (type == PN_KV_BF16)
        return ((size_t)j / 2 * (size_t)hd + (size_t)d) * 2 + (size_t)j % 2;
    const size_t row = type == PN_KV_Q8 ? ((size_t)hd + 3) & ~(size_t)3 : (size_t)hd;
    return (size_t)j * row + (size_t)d;
}

#endif
