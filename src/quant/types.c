/* SPDX-License-Identifier: Apache-2.0 */
#include "quant/types.h"

#include <strings.h>

static const struct pn_type_info type_table[PN_TYPE_COUNT] = {
    [PN_F32] = { "F32", 1, 4 },         [PN_F16] = { "F16", 1, 2 },
    [PN_BF16] = { "BF16", 1, 2 },       [PN_Q4_0] = { "Q4_0", 32, 18 },
    [PN_Q4_1] = { "Q4_1", 32, 20 },     [PN_Q5_0] = { "Q5_0", 32, 22 },
    [PN_Q5_1] = { "Q5_1", 32, 24 },     [PN_Q8_0] = { "Q8_0", 32, 34 },
    [PN_IQ4_NL] = { "IQ4_NL", 32, 18 }, [PN_Q2_K] = { "Q2_K", 256, 84 },
    [PN_Q3_K] = { "Q3_K", 256, 110 },   [PN_Q4_K] = { "Q4_K", 256, 144 },
    [PN_Q5_K] = { "Q5_K", 256, 176 },   [PN_Q6_K] = { "Q6_K", 256, 210 },
    [PN_IQ4_XS] = { "IQ4_XS", 256, 136 },
};

const struct pn_type_info *pn_type_info(uint32_t type)
{
    if (type >= PN_TYPE_COUNT || type_table[type].name == NULL)
        return NULL;
    return &type_table[type];
}

int pn_type_by_name(const char *name)
{
    for (int t = 0; t < PN_TYPE_COUNT; t++) {
        if (type_table[t].name != NULL && strcasecmp(type_table[t].name, name) == 0)
            return t;
    }
    return -1;
}

size_t pn_row_bytes(enum pn_type type, int64_t n_elems)
{
    const struct pn_type_info *t = &type_table[type];
    return (size_t)(n_elems / t->block_elems) * t->block_bytes;
}
