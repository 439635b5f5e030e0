/* SPDX-License-Identifier: Apache-2.0 */
/* Float weights multiplied in int8 (W8A8), for products of so many rows that it pays to bring the weights to Q8_0
 * first, in scratch memory, and to do so again for the next picture. On x86 (Zen 5) that is 1.6 times as fast as bf16
 * products with AVX-512, four to five times as fast as f32 ones with VNNI, 2.5 times with AVX2 alone.
 *
 * The weights' part of the error is that of Q8_0. The rows' is estimated for every row: steps of d lose d^2 / 12 of
 * energy a value, relative to the row's own energy but for the largest value of each super-block, since one outlier
 * would hide what it does to its neighbours. A normal distribution loses 5e-5. Few rows that lose far more (tokens that
 * gather what belongs to no place have such outliers) are multiplied in floats once more; where they are many, or the
 * others lose too much, all are multiplied in floats.
 *
 * Blocks of 32 weights that are all smaller than 3.8e-6 become zero, of more than 8e6 NaN: f16 has no such scales. */
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
    struct pn_w8 to = {.w = *w, .data = mem, .sums = (float *)(void *)(mem + data_bytes(w))};
    to.w.origin = w;
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
        pn_weight_row(k, to->w.origin, row, col, n, x);
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

/* The middle between `least` and the largest value of a usual super-block: their median, so that one outlier counts for
 * one. k is a multiple of 32: sixteen at a time is what compilers make vectors of. */
static float middle(const float *x, int32_t k, float least)
{
    enum { MOST = 64 }; /* super-blocks that are looked at */
    const int32_t nb = (k + PN_QK - 1) / PN_QK, step = (nb + MOST - 1) / MOST;
    float largest[MOST];
    int n = 0;
    for (int32_t b = 0; b < nb; b += step) {
        float most[16] = {0};
        for (int32_t c = b * PN_QK; c < k && c < (b + 1) * PN_QK; c += 16)
            for (int i = 0; i < 16; i++)
                most[i] = x[c + i] > most[i] ? x[c + i] : most[i];
        for (int i = 1; i < 16; i++)
            most[0] = most[i] > most[0] ? most[i] : most[0];
        int at = n++;
        for (; at > 0 && largest[at - 1] > most[0]; at--)
            largest[at] = largest[at - 1];
        largest[at] = most[0];
    }
    const float mid = 0.5f * (largest[n / 2] + least);
    return mid < 0 ? 0 : mid; /* zeros stay zeros */
}

static void subtract(float *restrict y, const float *restrict x, float centre, int32_t k)
{
    for (int32_t c = 0; c < k; c += 16)
        for (int i = 0; i < 16; i++)
            y[c + i] = x[c + i] - centre;
}

/* What row i of a, which holds x - centre, loses, relative to x. */
static float noise(const struct pn_act *a, int32_t i, float centre)
{
    float error = 0, energy = 0;
    for (int32_t b = 0; b < a->nb; b++) {
        const size_t cell = (size_t)b * (size_t)a->m + (size_t)i;
        const int32_t left = a->k - b * PN_QK;
        const float n = (float)(left < PN_QK ? left : PN_QK), d = a->d[cell];
        const float largest = 127 * d + fabsf(centre);
        int32_t squares = 0, sum = 0;
        for (int c = 0; c < PN_QK; c++)
            squares += a->q[cell * PN_QK + (size_t)c] * a->q[cell * PN_QK + (size_t)c];
        for (int g = 0; g < 8; g++)
            sum += a->s32[cell * 8 + (size_t)g];
        const float all = d * d * (float)squares + 2 * centre * d * (float)sum + n * centre * centre;
        const float rest = all - largest * largest;
        error += n * d * d / 12;
        energy += rest < 0 ? 0 : rest; /* a NaN stays */
    }
    return error == 0 ? 0 : error / energy;
}

/* Rows beyond three times the limit in out->redo_rows; false: too many, or the others are too bad. The same in every
 * thread. */
static bool judge(const float *noise, int32_t m, float limit, struct pn_w8_in *out)
{
    float sum = 0;
    int32_t n = 0;
    for (int32_t i = 0; i < m; i++) {
        if (noise[i] <= 3 * limit) {
            sum += noise[i];
            continue;
        }
        if (n == PN_W8_REDO || noise[i] != noise[i])
            return false;
        out->redo_rows[n++] = i;
    }
    out->redo.m = n;
    return 4 * n <= m && sum <= limit * (float)(m - n);
}

bool pn_w8_stage(const struct pn_mm *mm, struct pn_team *t, const struct pn_rows *rows, const struct pn_norm *norm,
                 const struct pn_w8_rule *rule, int forms, const struct pn_w8_mem *mem, struct pn_w8_in *out)
{
    const int32_t m = rows->m, k = rows->k;
    struct pn_in *in = &out->in;
    int64_t i;
    *in = pn_in_of(norm ? mem->xn : rows->x, m, k, PN_FORM_INT8, mem->forms);
    if (rule->centred)
        in->centre = mem->centre;
    for (pn_step(t); (i = pn_next(t)) < m;) {
        const float *x = rows->x + (size_t)i * (size_t)k;
        if (norm) {
            pn_norm_row(mm, norm, mem->xn + (size_t)i * (size_t)k, x, k);
            x = mem->xn + (size_t)i * (size_t)k;
        }
        mem->centre[i] = rule->centred ? middle(x, k, rule->least) : 0;
        if (rule->centred) {
            subtract(mem->row, x, mem->centre[i], k);
            x = mem->row;
        }
        mm->kern->quant_act(&in->act, (int32_t)i, x);
        mem->noise[i] = noise(&in->act, (int32_t)i, mem->centre[i]);
    }
    pn_barrier(t);
    if (!judge(mem->noise, m, rule->limit, out))
        return false;
    if (!out->redo.m)
        return true;
    out->redo = pn_in_of(mem->redo, out->redo.m, k, forms, mem->redo_forms);
    in->redo = &out->redo;
    in->redo_rows = out->redo_rows;
    for (pn_step(t); (i = pn_next(t)) < out->redo.m;) {
        memcpy(mem->redo + (size_t)i * (size_t)k, in->x + (size_t)out->redo_rows[i] * (size_t)k,
               (size_t)k * sizeof(float));
        pn_prepare(mm, &out->redo, (int32_t)i, 1, 0, in->act.nb);
    }
    pn_barrier(t);
    return true;
}
