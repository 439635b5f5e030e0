/* SPDX-License-Identifier: Apache-2.0 */
/* Products of activations with bound weights: preparing the rows, sharing out the work, what follows. */
#include <assert.h>
#include <string.h>

#include "model/model.h"

static int form_for(const struct pn_mm *mm, const struct pn_weight *w)
{
    if (mm->precise)
        return 0;
    if (w->type == PN_F32 || w->type == PN_F16 || w->type == PN_BF16)
        return mm->kern->mm_bf16[w->type].run ? PN_FORM_BF16 : 0;
    return mm->kern->prefer_f32 ? 0 : PN_FORM_INT8;
}

int pn_forms(const struct pn_mm *mm, int n, const struct pn_weight *const *w)
{
    int forms = 0;
    for (int i = 0; i < n; i++)
        forms |= form_for(mm, w[i]);
    return forms;
}

size_t pn_forms_bytes(int forms, int32_t m, int32_t k)
{
    return (forms & PN_FORM_INT8 ? pn_act_bytes(m, k) : 0) + (forms & PN_FORM_BF16 ? pn_act16_bytes(m, k) : 0);
}

struct pn_in pn_in_of(const float *x, int32_t m, int32_t k, int forms, uint8_t *mem)
{
    struct pn_in in = {.x = x, .m = m, .k = k, .forms = forms};
    if (forms & PN_FORM_INT8)
        pn_act_init(&in.act, mem, m, k);
    if (forms & PN_FORM_BF16)
        pn_act16_init(&in.act16, mem + pn_forms_bytes(forms & PN_FORM_INT8, m, k), m, k);
    return in;
}

void pn_prepare(const struct pn_mm *mm, const struct pn_in *in, int32_t row0, int32_t m, int32_t b0, int32_t n_b)
{
    const int32_t col = b0 * PN_QK, rest = in->k - col, cols = rest < n_b * PN_QK ? rest : n_b * PN_QK;
    struct pn_act q = in->act;
    struct pn_act16 h = in->act16;
    if (in->forms & PN_FORM_INT8) {
        const size_t at = (size_t)b0 * (size_t)q.m;
        q = (struct pn_act){q.m, cols, n_b, q.q + at * PN_QK, q.s32 + at * 8, q.s16 + at * 16, q.d + at};
    }
    if (in->forms & PN_FORM_BF16)
        h = (struct pn_act16){h.m, cols, (cols + PN_ACT16_COLS - 1) / PN_ACT16_COLS, h.rows,
                              h.x + (size_t)col * (size_t)h.rows};
    for (int32_t i = row0; i < row0 + m; i++) {
        const float *x = in->x + (size_t)i * (size_t)in->k + col;
        if (in->forms & PN_FORM_INT8)
            mm->kern->quant_act(&q, i, x);
        if (in->forms & PN_FORM_BF16)
            mm->kern->round_act(&h, i, x);
    }
}

static int32_t super_blocks(int32_t k)
{
    return (k + PN_QK - 1) / PN_QK;
}

void pn_norm_row(const struct pn_mm *mm, const struct pn_norm *norm, float *y, const float *x, int32_t k)
{
    if (norm->b)
        mm->kern->layernorm(y, x, norm->w, norm->b, k, norm->eps);
    else
        mm->kern->rmsnorm(y, x, norm->w, k, norm->eps);
}

struct pn_in pn_stage(const struct pn_mm *mm, struct pn_team *t, const struct pn_rows *rows,
                      const struct pn_norm *norm, int forms, const struct pn_stage_mem *mem)
{
    const int32_t m = rows->m, k = rows->k;
    const struct pn_in in = pn_in_of(norm ? mem->xn : rows->x, m, k, forms, mem->forms);
    if (!norm && !forms)
        return in;
    if (!mem->own)
        pn_step(t);
    for (int64_t i = 0; (mem->own ? i : (i = pn_next(t))) < m; i += mem->own) {
        const float *src = rows->x + (size_t)(rows->index ? rows->index[i] : i) * (size_t)k;
        if (norm)
            pn_norm_row(mm, norm, mem->xn + (size_t)i * (size_t)k, src, k);
        pn_prepare(mm, &in, (int32_t)i, 1, 0, super_blocks(k));
    }
    if (!mem->own)
        pn_barrier(t);
    return in;
}

enum { FEW = 8, LONG_SLAB = 256, SLAB = 64 }; /* slabs divide PN_QK */

/* Bounds of slab i of a weight of n rows. */
struct span {
    int32_t n0, n1;
};
static struct span span(int64_t i, int32_t slab, int32_t n)
{
    const int32_t n0 = (int32_t)i * slab;
    return (struct span){n0, n0 + slab < n ? n0 + slab : n};
}

/* Which of n slabs task i is: threads that take tasks in turns go through stretches of the weight of their own, so that
 * the lines a kernel fetches beyond the end of its slab are those it needs next. */
static int64_t in_stretches(int64_t i, int64_t n, int n_threads)
{
    const int64_t each = n / n_threads;
    return i < each * n_threads ? i % n_threads * each + i / n_threads : i;
}

/* Tasks of the first half of an adapter's product: rows of x by rows of A. */
enum { LORA_X = 32, LORA_A = 32, LORA_A_FEW = 4 };

/* scale * x A^T for every adapter of the step's weights, before the weights' own products: mm->lora holds a block
 * [m][r] for each, in the order of weights and adapters. Nothing, not even a barrier, when there is no adapter. */
static void lora_inner(const struct pn_mm *mm, struct pn_team *t, const struct pn_in *in, int n_w,
                       const struct pn_weight *const *w)
{
    bool any = false;
    for (int j = 0; j < n_w; j++)
        any |= w[j]->lora != NULL;
    if (!any)
        return;
    const int32_t x_rows = in->m < LORA_X ? in->m : LORA_X, a_rows = in->m > FEW ? LORA_A : LORA_A_FEW;
    float *block = mm->lora;
    pn_step(t);
    int64_t i = pn_next(t), first = 0;
    for (int j = 0; j < n_w; j++)
        for (const struct pn_lora *l = w[j]->lora; l; l = l->next) {
            const int32_t r = l->a.n, across = (r + a_rows - 1) / a_rows;
            const int64_t n_tasks = (int64_t)across * ((in->m + x_rows - 1) / x_rows);
            for (; i < first + n_tasks; i = pn_next(t)) {
                const struct span a = span((i - first) % across, a_rows, r);
                const struct span x = span((i - first) / across, x_rows, in->m);
                float *h = block + (size_t)x.n0 * (size_t)r + a.n0;
                mm->kern->mm_f32[l->a.type].run(h, (size_t)r, l->a.data + (size_t)a.n0 * l->a.row_bytes,
                                                l->a.row_bytes, a.n1 - a.n0, l->a.k,
                                                in->x + (size_t)x.n0 * (size_t)in->k, (size_t)in->k, x.n1 - x.n0);
                for (int32_t row = 0; row < x.n1 - x.n0; row++)
                    for (int32_t c = 0; c < a.n1 - a.n0; c++)
                        h[(size_t)row * (size_t)r + (size_t)c] *= l->scale;
            }
            first += n_tasks;
            block += (size_t)in->m * (size_t)r;
        }
    pn_barrier(t);
}

/* The floats that lora_inner left for a weight. */
static size_t lora_floats(const struct pn_weight *w, int32_t m)
{
    size_t n = 0;
    for (const struct pn_lora *l = w->lora; l; l = l->next)
        n += (size_t)m * (size_t)l->a.n;
    return n;
}

/* The second half: c += (scale * x A^T) B^T for rows [n0, n1) of B. */
static void lora_outer(const struct pn_mm *mm, const struct pn_weight *w, int32_t n0, int32_t n1, int32_t m,
                       const float *block, float *c, size_t ldc)
{
    float part[FEW * LONG_SLAB];
    const int32_t n = n1 - n0, rows = FEW * LONG_SLAB / n;
    for (const struct pn_lora *l = w->lora; l; l = l->next) {
        const size_t r = (size_t)l->b.k;
        for (int32_t r0 = 0; r0 < m; r0 += rows) {
            const int32_t some = m - r0 < rows ? m - r0 : rows;
            mm->kern->mm_f32[l->b.type].run(part, (size_t)n, l->b.data + (size_t)n0 * l->b.row_bytes, l->b.row_bytes,
                                            n, l->b.k, block + (size_t)r0 * r, r, some);
            for (int32_t i = 0; i < some; i++)
                mm->kern->add(c + (size_t)(r0 + i) * ldc, part + (size_t)i * (size_t)n, n);
        }
        block += (size_t)m * r;
    }
}

/* c[m][n1-n0] (+ldc) = in * w[n0..n1)^T */
static void multiply(const struct pn_mm *mm, const struct pn_weight *w, int32_t n0, int32_t n1,
                     const struct pn_in *in, float *c, size_t ldc)
{
    const struct pn_kern *k = mm->kern;
    const uint8_t *rows = w->data + (size_t)n0 * w->row_bytes;
    switch (form_for(mm, w)) {
    case PN_FORM_INT8:
        k->mm[w->type].run(c, ldc, rows, w->row_bytes, n1 - n0, &in->act, 0, in->m);
        assert(!in->centre || w->sums);
        for (int32_t i = 0; in->centre && i < in->m; i++)
            k->axpy(c + (size_t)i * ldc, w->sums + n0, in->centre[i], n1 - n0);
        break;
    case PN_FORM_BF16:
        k->mm_bf16[w->type].run(c, ldc, rows, w->row_bytes, n1 - n0, &in->act16);
        break;
    default:
        k->mm_f32[w->type].run(c, ldc, rows, w->row_bytes, n1 - n0, w->k, in->x, (size_t)in->k, in->m);
    }
}

/* The rows of c that are to be done once more, with the weight that w is a copy of. */
static void redo(const struct pn_mm *mm, const struct pn_weight *w, int32_t n0, int32_t n1, const struct pn_in *in,
                 float *c, size_t ldc)
{
    float part[PN_W8_REDO * SLAB];
    for (int32_t n = n0; n < n1; n += SLAB) {
        const int32_t some = n1 - n < SLAB ? n1 - n : SLAB;
        multiply(mm, w->origin, n, n + some, in->redo, part, SLAB);
        for (int32_t i = 0; i < in->redo->m; i++)
            memcpy(c + (size_t)in->redo_rows[i] * ldc + (n - n0), part + i * SLAB, (size_t)some * sizeof *c);
    }
}

/* The same, adapters included; lora: what lora_inner left for this weight */
static void mm_slab(const struct pn_mm *mm, const struct pn_weight *w, int32_t n0, int32_t n1,
                    const struct pn_in *in, const float *lora, float *c, size_t ldc)
{
    multiply(mm, w, n0, n1, in, c, ldc);
    if (in->redo && w->origin)
        redo(mm, w, n0, n1, in, c, ldc);
    if (w->lora)
        lora_outer(mm, w, n0, n1, in->m, lora, c, ldc);
}

static void show(const struct pn_mm *mm, const struct pn_team *t, const struct pn_weight *w, const struct pn_in *in)
{
    if (mm->observer && in->m > in->fill)
        mm->observer->rows(mm->observer->user, w, in->x, in->m - in->fill, t);
}

size_t pn_slab_floats(int32_t m)
{
    const size_t many = (size_t)m * SLAB;
    return many > FEW * LONG_SLAB ? many : FEW * LONG_SLAB;
}

int32_t pn_slab_rows(int32_t n, int32_t m, int n_threads)
{
    int32_t rows = m > FEW ? SLAB : LONG_SLAB;
    while (rows > 32 && n / rows < 4 * n_threads)
        rows /= 2;
    return rows;
}

void pn_products_begin(const struct pn_mm *mm, struct pn_team *t, const struct pn_in *in, int n_out,
                       struct pn_out *out)
{
    const struct pn_weight *ws[PN_LORA_WEIGHTS];
    const float *lora = mm->lora;
    for (int j = 0; j < n_out; j++) {
        show(mm, t, out[j].w, in);
        ws[j] = out[j].w;
        out[j].lora = lora;
        lora += lora_floats(ws[j], in->m);
    }
    lora_inner(mm, t, in, n_out, ws);
}

void pn_product_rows(const struct pn_mm *mm, const struct pn_in *in, const struct pn_out *o, int32_t n0, int32_t n1)
{
    const struct pn_weight *w = o->w;
    mm_slab(mm, w, n0, n1, in, o->lora, o->c + n0, (size_t)w->n);
    for (int32_t r = 0; o->bias && r < in->m; r++) {
        float *row = o->c + (size_t)r * (size_t)w->n + n0;
        mm->kern->add(row, o->bias + n0, n1 - n0);
        if (o->gelu)
            mm->kern->gelu(row, row, n1 - n0);
    }
}

void pn_products(const struct pn_mm *mm, struct pn_team *t, const struct pn_in *in, int n_out, struct pn_out *out)
{
    int32_t slab[PN_LORA_WEIGHTS];
    int64_t first[PN_LORA_WEIGHTS + 1] = {0};
    for (int j = 0; j < n_out; j++) {
        slab[j] = pn_slab_rows(out[j].w->n, in->m, t->n);
        first[j + 1] = first[j] + (out[j].w->n + slab[j] - 1) / slab[j];
    }
    pn_products_begin(mm, t, in, n_out, out);
    int64_t i;
    for (pn_step(t); (i = pn_next(t)) < first[n_out];) {
        int j = 0;
        while (i >= first[j + 1])
            j++;
        const struct span s = span(in_stretches(i - first[j], first[j + 1] - first[j], t->n), slab[j], out[j].w->n);
        pn_product_rows(mm, in, &out[j], s.n0, s.n1);
    }
    pn_barrier(t);
}

void pn_product_add(const struct pn_mm *mm, struct pn_team *t, const struct pn_in *in, const struct pn_weight *w,
                    const float *bias, float scale, float *x, const int32_t *index, float *slab)
{
    const int32_t rows = pn_slab_rows(w->n, in->m, t->n), n_tasks = (w->n + rows - 1) / rows;
    int64_t i;
    show(mm, t, w, in);
    lora_inner(mm, t, in, 1, &w);
    for (pn_step(t); (i = pn_next(t)) < n_tasks;) {
        const struct span s = span(in_stretches(i, n_tasks, t->n), rows, w->n);
        mm_slab(mm, w, s.n0, s.n1, in, mm->lora, slab, (size_t)rows);
        for (int32_t r = 0; r < in->m; r++) {
            float *c = slab + (size_t)r * (size_t)rows;
            if (bias)
                mm->kern->add(c, bias + s.n0, s.n1 - s.n0);
            mm->kern->axpy(x + (size_t)(index ? index[r] : r) * (size_t)w->n + s.n0, c, scale, s.n1 - s.n0);
        }
    }
    pn_barrier(t);
}

void pn_product_swiglu(const struct pn_mm *mm, struct pn_team *t, const struct pn_in *in,
                       const struct pn_weight *gate, const struct pn_weight *up, float *c,
                       const struct pn_then *then, float *slab)
{
    const int32_t n = gate->n, rows = pn_slab_rows(n, in->m, t->n), n_tasks = (n + rows - 1) / rows;
    int64_t i;
    show(mm, t, gate, in);
    show(mm, t, up, in);
    const struct pn_weight *ws[] = {gate, up};
    const float *up_lora = mm->lora + lora_floats(gate, in->m);
    lora_inner(mm, t, in, 2, ws);
    for (pn_step(t); (i = pn_next(t)) < n_tasks;) {
        const struct span s = span(in_stretches(i, n_tasks, t->n), rows, n);
        mm_slab(mm, gate, s.n0, s.n1, in, mm->lora, c + s.n0, (size_t)n);
        mm_slab(mm, up, s.n0, s.n1, in, up_lora, slab, (size_t)rows);
        for (int32_t r = 0; r < in->m; r++) {
            float *g = c + (size_t)r * (size_t)n + s.n0;
            mm->kern->silu_mul(g, g, slab + (size_t)r * (size_t)rows, s.n1 - s.n0);
        }
        if (then->in->forms) {
            const int32_t b = s.n0 / PN_QK, col = b * PN_QK, wide = n - col < PN_QK ? n - col : PN_QK;
            if (pn_last(&then->done[b], (uint32_t)((wide + rows - 1) / rows)))
                pn_prepare(mm, then->in, 0, in->m, b, 1);
        }
    }
    pn_barrier(t);
}

void pn_weight_row(const struct pn_kern *k, const struct pn_weight *w, int64_t r, int64_t col, int64_t n,
                   float *dst)
{
    k->dequant[w->type](dst, w->data + (size_t)r * w->row_bytes + pn_row_bytes(w->type, col), n);
}
