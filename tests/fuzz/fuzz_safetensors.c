/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a safetensors file. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "file/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char name[] = "fuzz.safetensors";
    const struct pn_map map = { .data = data, .size = size, .path = name, .slot = -1, .fd = -1 };
    struct pn_safetensors *st;
    struct puna_error err;
    if (pn_safetensors_open(&st, &map, &err) != 0)
        return 0;
    size_t sum = 0;
    for (size_t i = 0; i < st->n_tensors; i++) {
        const struct pn_tensor *t = &st->tensors[i];
        if (t->data < data || t->n_bytes > size - (size_t)(t->data - data) || !*t->name)
            abort();
        size_t n = t->type == PN_F32 ? 4 : 2;
        for (int d = 0; d < 4; d++)
            n *= (size_t)t->ne[d];
        if (n != t->n_bytes)
            abort();
        sum += n;
    }
    if (size < 8 || sum > size - 8)
        abort();
    pn_safetensors_close(&st);
    return 0;
}
