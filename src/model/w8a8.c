/* SPDX-License-Identifier: Apache-2.0 */
/* Float weights multiplied in int8 (W8A8), for products of so many rows that it pays to bring the weights to Q8_0
 * first, in scratch memory, and to do so again for the next picture: in all tiers with int8 dot products that is the
 * fastest product there is, two to five times as fast as f32, 1.6 times as fast as bf16.
 *
 * The weights' part of the error is that of Q8_0. The rows' is measured: the energy of what rounding them to int8
 * changes, relative to their own. LayerNorm's outputs have some 5e-5, but one outlier in 256 columns takes the range
 * from all of them; where a block of rows has more than the caller's limit, the floats are multiplied after all. */
#include <math.h>
#include <string.h>

#include "model/model.h"
#include "quant/blocks.h"

#define PIECE 4096 /* columns at a time: of whole blocks of any type */

bool pn_w8_takes(const struct pn_mm *mm, const struct pn_weight *w)
{
    return mm->kern->prefer_int8 && !mm->precise && !mm->observer && pn_type_info(w->type)->block_elems == 1 &&
           w->k % 32 == 0;
}

static size_t data_bytes(const struct pn_weight *w)
{
    return ((size_t)w->n * pn_row_bytes(PN_Q8_0, w->k) + 63) & ~(size_t)63;
}

size_t pn_w8_bytes(const struct pn_weight *w)
{
    return data_bytes(w) + (((size_t)w->n * sizeof(float) + 63) & ~(size_t)63);
}

struct pn_w8 pn_w8_at(const struct pn_weight *w, uint8_t *mem)
{
    struct pn_w8 to = {.from = *w, .w = *w, .data = mem, .sums = (float *)(void *)(mem + data_bytes(w))};
    to.w.data = to.data;
    to.w.row_bytes = pn_row_bytes(PN_Q8_0, w->k);
    to.w.type = PN_Q8_0;
    to.w.sums = to.sums;
    return to;
}

static float sum_of_blocks(const struct pn_q8_0 *b, int64_t n)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++) {
        int q = 0;
        for (int j = 0; j < 32; j++)
            q += b[i].qs[j];
        sum += pn_f16_to_f32(pn_le16(b[i].d)) * (float)q;
    }
    return sum;
}

static void fill_row(const struct pn_kern *k, const struct pn_w8 *to, int32_t row)
{
    float x[PIECE];
    to->sums[row] = 0;
    for (int32_t col = 0; col < to->w.k; col += PIECE) {
        const int32_t n = to->w.k - col < PIECE ? to->w.k - col : PIECE;
        uint8_t *block = to->data + (size_t)row * to->w.row_bytes + pn_row_bytes(PN_Q8_0, col);
        pn_weight_row(k, &to->from, row, col, n, x);
        k->quant_q8_0(block, x, n);
        to->sums[row] += sum_of_blocks((const struct pn_q8_0 *)block, n / 32);
    }
}

void pn_w8_fill(const struct pn_mm *mm, struct pn_team *t, int n, const struct pn_w8 *to)
{
    enum { ROWS = 16 };
    int64_t i, first = 0;
    pn_step(t);
    i = pn_next(t);
    for (int j = 0; j < n; j++) {
        const int32_t tasks = (to[j].w.n + ROWS - 1) / ROWS;
        for (; i < first + tasks; i = pn_next(t))
            for (int32_t r = (int32_t)(i - first) * ROWS; r < (int32_t)(i - first + 1) * ROWS && r < to[j].w.n; r++)
                fill_row(mm->kern, &to[j], r);
        first += tasks;
    }
    pn_barrier(t);
}

/* The middle between `least` and the largest values, on average over super-blocks. k is a multiple of 32: sixteen at a
 * time is what compilers make vectors of. */
static float middle(const float *x, int32_t k, float least)
{
    float sum = 0;
    int n = 0;
    for (int32_t col = 0; col < k; col += PN_QK, n++) {
        float most[16] = {0};
        for (int32_t c = col; c < k && c < col + PN_QK; c += 16)
            for (int i = 0; i < 16; i++)
                most[i] = x[c + i] > most[i] ? x[c + i] : most[i];
        for (int i = 1; i < 16; i++)
            most[0] = most[i] > most[0] ? most[i] : most[0];
        sum += most[0];
    }
    return 0.5f * (sum / (float)n + least);
}

static void subtract(float *restrict y, const float *restrict x, float centre, int32_t k)
{
    for (int32_t c = 0; c < k; c += 16)
        for (int i = 0; i < 16; i++)
            y[c + i] = x[c + i] - centre;
}

/* Energy of the error of row i of a, which holds x - centre, relative to x. */
static float noise(const struct pn_act *a, int32_t i, const float *x, float centre)
{
    float error = 0, energy = 0;
    for (int32_t b = 0; b < a->nb; b++) {
        const size_t cell = (size_t)b * (size_t)a->m + (size_t)i;
        const int8_t *q = a->q + cell * PN_QK;
        const int32_t left = a->k - b * PN_QK, n = left < PN_QK ? left : PN_QK;
        for (int32_t c = 0; c < n; c++) {
            const float v = x[b * PN_QK + c], off = v - centre - a->d[cell] * (float)q[c];
            error += off * off;
            energy += v * v;
        }
    }
    return energy == 0 ? 0 : error / energy;
}

bool pn_w8_stage(const struct pn_mm *mm, struct pn_team *t, const struct pn_rows *rows, const struct pn_norm *norm,
                 const struct pn_w8_rule *rule, const struct pn_w8_mem *mem, struct pn_in *in)
{
    const int32_t m = rows->m, k = rows->k;
    int64_t i;
    *in = pn_in_of(norm ? mem->xn : rows->x, m, k, PN_FORM_INT8, mem->forms);
    if (rule->centred)
        in->centre = mem->centre;
    for (pn_step(t); (i = pn_next(t)) < m;) {
        const float *x = rows->x + (size_t)i * (size_t)k;
        float centre = 0;
        if (norm) {
            pn_norm_row(mm, norm, mem->xn + (size_t)i * (size_t)k, x, k);
            x = mem->xn + (size_t)i * (size_t)k;
        }
        const float *y = x;
        if (rule->centred) {
            centre = middle(x, k, rule->least);
            subtract(mem->row, x, centre, k);
            y = mem->row;
            mem->centre[i] = centre;
        }
        mm->kern->quant_act(&in->act, (int32_t)i, y);
        if (i % PN_W8_LOOK == 0)
            mem->noise[i / PN_W8_LOOK] = noise(&in->act, (int32_t)i, x, centre);
    }
    pn_barrier(t);
    float sum = 0; /* the same in every thread */
    int looked = 0;
    for (int32_t r = 0; r < m; r += PN_W8_LOOK, looked++)
        sum += mem->noise[looked];
    return sum <= rule->limit * (float)looked;
}
