/* SPDX-License-Identifier: Apache-2.0 */
/* Storage types of weights: GGUF type ids are used as they are. One row per type; every size
 * question is answered here. Block layouts: quant/blocks.h. */
#ifndef PN_QUANT_TYPES_H
#define PN_QUANT_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pn_type {
    PN_F32 = 0,
    PN_F16 = 1,
    PN_Q4_0 = 2,
    PN_Q4_1 = 3,
    PN_Q5_0 = 6,
    PN_Q5_1 = 7,
    PN_Q8_0 = 8,
    PN_Q2_K = 10,
    PN_Q3_K = 11,
    PN_Q4_K = 12,
    PN_Q5_K = 13,
    PN_Q6_K = 14,
    PN_IQ4_NL = 20,
    PN_IQ4_XS = 23,
    PN_BF16 = 30,
    PN_TYPE_COUNT = 31
};

struct pn_type_info {
    const char *name;     /* "Q4_K"; NULL: no such type, or not supported */
    uint16_t block_elems; /* 1, 32 or 256 */
    uint16_t block_bytes;
};

/* NULL for an unknown or unsupported id. */
const struct pn_type_info *pn_type_info(uint32_t type);
/* Type by name ("Q4_K", case-insensitive), or -1. */
int pn_type_by_name(const char *name);
/* Bytes of a row of n elements; n must be a multiple of block_elems. */
size_t pn_row_bytes(enum pn_type type, int64_t n_elems);

#endif
