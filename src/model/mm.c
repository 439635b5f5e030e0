/* SPDX-License-Identifier: Apache-2.0 */
/* Products of activations with bound weights: which kernel, how many rows per task. */
#include "model/model.h"

bool pn_wants_act(const struct pn_kern *k, const struct pn_weight *w, bool precise)
{
    const bool is_float = w->type == PN_F32 || w->type == PN_F16 || w->type == PN_BF16;
    return !precise && !is_float && !k->prefer_f32;
}

void pn_mm_slab(const struct pn_kern *k, const struct pn_weight *w, int32_t n0, int32_t n1,
                const struct pn_in *in, float *c, size_t ldc, bool precise)
{
    const uint8_t *rows = w->data + (size_t)n0 * w->row_bytes;
    if (pn_wants_act(k, w, precise))
        k->mm[w->type](c, ldc, rows, w->row_bytes, n1 - n0, in->act, 0, in->m);
    else if (!precise && k->mm_bf16[w->type])
        k->mm_bf16[w->type](c, ldc, rows, w->row_bytes, n1 - n0, w->k, in->x, in->ldx, in->m);
    else
        k->mm_f32[w->type](c, ldc, rows, w->row_bytes, n1 - n0, w->k, in->x, in->ldx, in->m);
}

/* Tasks small enough to balance, large enough that weights stream in long runs (decode) and a tile of 32
 * rows is never cut (prefill). */
int32_t pn_slab_rows(int32_t n, int32_t m, int n_threads)
{
    int32_t rows = m > 8 ? 64 : 256;
    while (rows > 32 && n / rows < 4 * n_threads)
        rows /= 2;
    return rows;
}

void pn_weight_row(const struct pn_kern *k, const struct pn_weight *w, int64_t r, int64_t col, int64_t n,
                   float *dst)
{
    k->dequant[w->type](dst, w->data + (size_t)r * w->row_bytes + pn_row_bytes(w->type, col), n);
}
