/* SPDX-License-Identifier: Apache-2.0 */
/* The vision encoder: patches -> local layers -> gated global layers -> features -> projector -> the cross
 * layers' keys and values. All tiles of a picture attend to each other as one sequence.
 *
 * The reference always computes v_tiles tiles and fills each to a multiple of 8 tokens with zero tokens; its mask
 * forbids only padding x padding (padding: every token of a missing tile, and the zero tokens of any tile).
 * So real tokens do see padding, and it cannot be left out. But it can be counted instead of computed:
 *
 *   Claim. All missing tiles stay identical to each other, and the zero tokens within one tile stay identical to
 *   each other, through every layer. Proof by induction: they start equal (pixels 0, the patch convolution has no
 *   bias, the tile tables' rows for missing tiles are zero - which is checked, see pn_vision_must_be_full() - and
 *   class and position embeddings do not depend on the tile; zero tokens start as zeros); a layer's output for a
 *   token depends only on the token's own vector, the multiset of (key, value) pairs it may see, and weights;
 *   two padding tokens may see the same pairs (all real ones). The post-tile embedding adds one vector per tile.
 *
 * A set of n equal keys acts in a softmax like one key with weight n: exp(s + log n) = n exp(s). So one missing
 * tile stands for all of them, and one zero token for the seven of its tile, each with log(multiplicity) added
 * to its score as a key. Exact up to rounding (and up to which rows are multiplied in int8: that is decided for
 * blocks of rows, w8a8.c); a one-tile picture costs 2.6 times less. When a table row is not
 * zero, or the caller asks (full), every token is computed; the test suite compares the two.
 *
 * Token order: real tiles, then missing tile(s), then zero tokens, so that "real keys only" is a key count. */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/model.h"
#include "quant/blocks.h"

#define BLOCK 512   /* rows per product in the layers: the MLP's hidden rows stay in L2/L3 */
#define W8_LEAST 128 /* tokens of the largest picture: with fewer it takes longer to make copies than they save */
#define OUT_BLOCK 128 /* rows per product behind the encoder: features are 6 times as wide */

struct enc {
    struct pn_model *m;
    const struct pn_kern *kern;
    struct pn_mm mm;
    const struct pn_vision_job *job;
    int32_t n_real_tiles, n_tiles; /* tiles computed: real, then missing ones */
    int32_t zeros;                 /* zero tokens computed per tile */
    int32_t n_real, n_tok, n_keep; /* tokens of real tiles; all; those whose features are wanted */
    float *x;       /* [n_tok][D] residual stream */
    float *q;       /* [n_tok][D] queries, then the attention's output over them */
    float *xn;      /* [BLOCK][D] */
    float *kb, *vb; /* [BLOCK][D] keys and values on their way into kv */
    float *h;       /* [BLOCK][F]; im2col rows; feature rows */
    uint8_t *forms; /* int8 and bf16 forms of a product's input */
    uint8_t *w8;    /* the layer's float weights in Q8_0; NULL: no layer's */
    float *centre, *noise, *redo; /* of pn_w8_mem, like ... */
    uint8_t *redo_forms;
    float *lora;    /* pn_mm.lora */
    float *bias;    /* [n_tok] log multiplicity as a key */
    struct pn_kv_view *kv; /* [n heads] */
    void *kv_mem;
    float *inter32;    /* [n_inter][n_keep][D] (precise) ... */
    uint16_t *inter16; /* ... or half precision times ... */
    float *inter_scale; /* [n_inter][n_keep] a power of two that keeps the row in range */
    float *states, *ck, *cv; /* [OUT_BLOCK][d_model], [OUT_BLOCK][n_kv*hd] x2 */
    struct vthread {
        float *slab, *row;
        struct pn_attn_scratch attn;
        int32_t fill; /* rows of padding at the end of the block at hand */
    } *thread;
    void *mem;
    int n_steps, step; /* progress: layers */
    _Atomic int stop;
};

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static enum pn_kv_type kv_type(const struct pn_kern *k, bool precise)
{
    return precise ? PN_KV_F32 : k->attn_bf16 ? PN_KV_BF16 : PN_KV_F16;
}

/* The layer's float weights that may be multiplied in int8: where they are in struct pn_vlayer. The attention's output
 * is not among them where bf16 products are to be had: a twelfth of the work, but a third of the error. */
enum { W8_MAX = 6 };
static struct pn_weight *weight_at(struct pn_vlayer *l, size_t at)
{
    return (struct pn_weight *)(void *)((char *)l + at);
}
static int w8_weights(const struct pn_mm *mm, struct pn_vlayer l, size_t at[W8_MAX])
{
    static const size_t all[W8_MAX] = {offsetof(struct pn_vlayer, wq),  offsetof(struct pn_vlayer, wk),
                                       offsetof(struct pn_vlayer, wv),  offsetof(struct pn_vlayer, fc1),
                                       offsetof(struct pn_vlayer, fc2), offsetof(struct pn_vlayer, wo)};
    const int most = mm->kern->mm_bf16[l.wo.type].run ? W8_MAX - 1 : W8_MAX;
    int n = 0;
    for (int i = 0; i < most; i++)
        if (pn_w8_takes(mm, weight_at(&l, all[i])))
            at[n++] = all[i];
    return n;
}

/* Bytes for any layer's of them. */
static size_t w8_bytes(const struct pn_mm *mm, const struct pn_model *m)
{
    const struct pn_hparams *hp = &m->hp;
    size_t most = 0;
    if (hp->v_tiles * (m->vision->n_pos + m->vision->n_pad) < W8_LEAST)
        return 0;
    for (int32_t i = 0; i < hp->v_layer + hp->v_global; i++) {
        struct pn_vlayer l = i < hp->v_layer ? m->vision->local[i] : m->vision->global[i - hp->v_layer];
        size_t at[W8_MAX], bytes = 0;
        for (int n = w8_weights(mm, l, at); n > 0; n--)
            bytes += pn_w8_bytes(weight_at(&l, at[n - 1]));
        most = max_size(most, bytes);
    }
    return most;
}

/* Counts, and buffers carved out of one block (mem NULL: only count bytes). */
static size_t layout(struct enc *e, const struct pn_model *m, int32_t n_real_tiles, bool precise, bool full,
                     bool want_pad, int n_threads, uint8_t *mem)
{
    const struct pn_hparams *hp = &m->hp;
    const struct pn_vision *v = m->vision;
    const int32_t missing = hp->v_tiles - n_real_tiles;
    e->n_real_tiles = n_real_tiles;
    e->n_tiles = n_real_tiles + (full ? missing : missing ? 1 : 0);
    e->zeros = full ? v->n_pad : v->n_pad ? 1 : 0;
    e->n_real = n_real_tiles * v->n_pos;
    e->n_tok = e->n_tiles * (v->n_pos + e->zeros);
    e->n_keep = want_pad ? e->n_tiles * v->n_pos : e->n_real;
    const size_t n = (size_t)e->n_tok, D = (size_t)hp->v_dim, F = (size_t)hp->v_ff,
                 P = (size_t)v->patch.k, keep = (size_t)e->n_keep, K = (size_t)hp->n_inter;
    const size_t widest = max_size(max_size(F, P), max_size(D, (size_t)v->n_out));
    const size_t hrows = max_size(BLOCK * max_size(F, P), OUT_BLOCK * (size_t)v->n_out);
    const int both = PN_FORM_INT8 | PN_FORM_BF16;
    const size_t forms = max_size(pn_forms_bytes(both, BLOCK, (int32_t)max_size(max_size(F, P), D)),
                                  max_size(pn_forms_bytes(both, OUT_BLOCK, (int32_t)widest),
                                           pn_forms_bytes(both, OUT_BLOCK, hp->d_model)));
    const size_t dkv = (size_t)hp->n_kv_head * (size_t)hp->head_dim;
    const int32_t hd = hp->v_dim / hp->v_head;
    size_t at = 0;
#define TAKE(ptr, bytes)                            \
    do {                                            \
        if (mem)                                    \
            (ptr) = (void *)(mem + at);             \
        at += ((size_t)(bytes) + 63) & ~(size_t)63; \
    } while (0)
    TAKE(e->x, n * D * 4);
    TAKE(e->q, n * D * 4);
    TAKE(e->xn, BLOCK * D * 4);
    TAKE(e->kb, BLOCK * D * 4);
    TAKE(e->vb, BLOCK * D * 4);
    TAKE(e->h, hrows * 4);
    TAKE(e->forms, forms);
    const size_t w8 = w8_bytes(&e->mm, m);
    if (w8) {
        TAKE(e->w8, w8);
        TAKE(e->centre, BLOCK * sizeof(float));
        TAKE(e->noise, BLOCK * sizeof(float));
        TAKE(e->redo, PN_W8_REDO * max_size(F, D) * sizeof(float));
        TAKE(e->redo_forms, pn_forms_bytes(PN_FORM_BF16, PN_W8_REDO, (int32_t)max_size(F, D)));
    }
    TAKE(e->lora, (size_t)PN_LORA_WEIGHTS * BLOCK * (size_t)m->lora_rank * 4);
    TAKE(e->bias, (n + 64) * 4);
    if (precise)
        TAKE(e->inter32, K * keep * D * 4);
    else
        TAKE(e->inter16, K * keep * D * 2);
    TAKE(e->inter_scale, K * keep * 4);
    TAKE(e->states, (size_t)OUT_BLOCK * (size_t)hp->d_model * 4);
    TAKE(e->ck, OUT_BLOCK * dkv * 4);
    TAKE(e->cv, OUT_BLOCK * dkv * 4);
    TAKE(e->kv, (size_t)hp->v_head * sizeof *e->kv);
    TAKE(e->kv_mem, pn_kv_layout(NULL, NULL, 1, hp->v_head, kv_type(&m->kern, precise), hd, e->n_tok));
    for (int i = 0; i < n_threads; i++) {
        struct vthread dummy, *th = e->thread ? &e->thread[i] : &dummy;
        float *attn = NULL;
        TAKE(th->slab, pn_slab_floats(BLOCK) * 4);
        if (w8)
            TAKE(th->row, max_size(F, D) * 4);
        TAKE(attn, pn_attn_scratch_floats(hd) * 4);
        if (mem)
            pn_attn_scratch_init(&th->attn, attn, hd);
    }
#undef TAKE
    if (mem)
        pn_kv_layout(e->kv, e->kv_mem, 1, hp->v_head, kv_type(&m->kern, precise), hd, e->n_tok);
    return at;
}

size_t pn_vision_scratch_bytes(const struct pn_model *m, int32_t n_tiles, bool precise, bool full,
                               bool hf_rows)
{
    struct enc e = {.mm = {.kern = &m->kern, .precise = precise}};
    const size_t S = (size_t)m->hp.v_image;
    return layout(&e, m, n_tiles, precise, full, hf_rows, m->threads, NULL) +
           (size_t)n_tiles * (size_t)m->hp.v_channels * S * S * sizeof(float);
}

bool pn_vision_is_int8(const struct pn_model *m)
{
    return w8_bytes(&(struct pn_mm){.kern = &m->kern}, m) > 0;
}

static bool row_is_zero(const struct pn_kern *k, const struct pn_weight *w, int64_t id, int64_t col, int64_t n,
                        float *tmp, int64_t tmp_n)
{
    for (int64_t c = 0; c < n; c += tmp_n) {
        const int64_t m = n - c < tmp_n ? n - c : tmp_n;
        pn_weight_row(k, w, id, col + c, m, tmp);
        for (int64_t i = 0; i < m; i++)
            if (tmp[i] != 0.0f)
                return false;
    }
    return true;
}

/* The condition of the reduction: for this ratio id, every row that a missing tile would be given is zero. */
int pn_vision_must_be_full(struct pn_model *m, int32_t ratio_id, int32_t n_tiles, bool *full,
                           struct puna_error *err)
{
    const struct pn_vision *v = m->vision;
    const int64_t D = m->hp.v_dim, PD = D * v->n_pos, missing = m->hp.v_tiles - n_tiles;
    if (*full || !missing)
        return 0;
    enum { TMP = 8192 }; /* a multiple of every block */
    float *tmp = pn_calloc_array(TMP, sizeof *tmp);
    if (!tmp)
        return pn_fail_memory(err, TMP * sizeof *tmp, "the tile tables");
    *full = !row_is_zero(&m->kern, &v->pre_tile, ratio_id, n_tiles * D, missing * D, tmp, TMP) ||
            !row_is_zero(&m->kern, &v->post_tile, ratio_id, n_tiles * D, missing * D, tmp, TMP) ||
            !row_is_zero(&m->kern, &v->tile_embd, ratio_id, n_tiles * PD, missing * PD, tmp, TMP);
    pn_free(tmp);
    return 0;
}

/* ------------------------------------------------------------------------- pieces of a layer */

static struct pn_in stage(struct enc *e, struct pn_team *t, const struct pn_rows *rows, const struct pn_norm *norm,
                          int forms)
{
    const struct pn_stage_mem mem = {e->xn, e->forms, false};
    struct pn_in in = pn_stage(&e->mm, t, rows, norm, forms, &mem);
    in.fill = e->thread[t->tid].fill;
    return in;
}

static int forms_of(const struct enc *e, const struct pn_weight *w)
{
    return pn_forms(&e->mm, 1, &w);
}

/* c[m][w->n] = x * w^T (+ bias) (GELU) */
static void product(struct enc *e, struct pn_team *t, const float *x, int32_t m, struct pn_out *out)
{
    const struct pn_in in = stage(e, t, &(struct pn_rows){x, NULL, m, out->w->k}, NULL, forms_of(e, out->w));
    pn_products(&e->mm, t, &in, 1, out);
}

static void attention(struct enc *e, struct pn_team *t)
{
    const int32_t D = e->m->hp.v_dim, heads = e->m->hp.v_head, hd = D / heads;
    const float scale = 1.0f / sqrtf((float)hd);
    struct pn_attn_scratch *as = &e->thread[t->tid].attn;
    const size_t pf = pn_attn_part_floats(hd);
    const int32_t blocks = (e->n_tok + PN_ATTN_ROWS - 1) / PN_ATTN_ROWS;
    const bool bf16 = !e->job->precise && pn_attn_is_bf16(e->kern, &e->kv[0]);
    int64_t i;
    for (pn_step(t); (i = pn_next(t)) < (int64_t)blocks * heads;) {
        /* all blocks of a head one after another: its keys and values stay in the cache */
        const int32_t h = (int32_t)(i / blocks), r0 = (int32_t)(i % blocks) * PN_ATTN_ROWS;
        const int32_t n = e->n_tok - r0 < PN_ATTN_ROWS ? e->n_tok - r0 : PN_ATTN_ROWS;
        memset(as->q, 0, (size_t)(n * hd) * sizeof *as->q); /* scaled by a kernel: compilers make no vectors of it */
        for (int32_t r = 0; r < n; r++) {
            e->kern->axpy(as->q + r * hd, e->q + (size_t)(r0 + r) * (size_t)D + (size_t)(h * hd), scale, hd);
            as->n_keys[r] = r0 + r < e->n_real ? e->n_tok : e->n_real;
        }
        const struct pn_keys ks = {e->kv[h], e->bias};
        pn_attn_rows(e->kern, as, n, &ks, true, bf16);
        for (int32_t r = 0; r < n; r++)
            e->kern->attn_finish(e->q + (size_t)(r0 + r) * (size_t)D + (size_t)(h * hd),
                                 as->acc + (size_t)r * pf, hd);
    }
    pn_barrier(t);
}

/* Tokens of a block of n from r0 on that stand for padding. */
static int32_t padding(const struct enc *e, int32_t r0, int32_t n)
{
    const int32_t beyond = r0 + n - e->n_real;
    return beyond < 0 ? 0 : beyond < n ? beyond : n;
}

/* How much may be lost by int8 rows: of a normal distribution 5e-5 is, of the GELU of one, centred, 4e-5. On a model
 * with trained weights 1e-4 before every q, k, v and fc1 would cost the features 6e-5 of their cosine to those in f32,
 * 4e-4 before every fc2 3e-5 (it loses 6e-5 and 2e-4; attention's output, 6e-5, costs 1e-5). */
static const struct pn_w8_rule after_norm = {.limit = 1e-4f}, after_attention = {.limit = 1e-4f},
                               after_gelu = {.limit = 4e-4f, .centred = true, .least = -0.17f};

/* Input rows of a layer's product. */
struct rows_in {
    struct pn_rows rows;
    const struct pn_norm *norm; /* NULL: none before it */
    const struct pn_w8_rule *rule;
};
/* The rows in *out, for products with weights of the layer that is returned: with_w8's, if `copied` and the rows lose
 * little, or l, whose weights want `forms`. */
static const struct pn_vlayer *stage_rows(struct enc *e, struct pn_team *t, const struct rows_in *r,
                                          const struct pn_vlayer *l, const struct pn_vlayer *w8, bool copied,
                                          int forms, struct pn_w8_in *out)
{
    const struct pn_w8_mem mem = {e->xn,   e->forms,      e->centre, e->noise,
                                  e->redo, e->redo_forms, e->thread[t->tid].row};
    if (!copied)
        out->in = stage(e, t, &r->rows, r->norm, forms);
    else if (pn_w8_stage(&e->mm, t, &r->rows, r->norm, r->rule, forms & ~PN_FORM_INT8, &mem, out))
        return w8;
    else /* normalised they are */
        out->in = stage(e, t, &(struct pn_rows){out->in.x, NULL, r->rows.m, r->rows.k}, NULL, forms);
    return l;
}

/* l with copies in Q8_0 of the weights of which some are made: now. */
static void with_w8(struct enc *e, struct pn_team *t, const struct pn_vlayer *l, struct pn_vlayer *w8)
{
    size_t at[W8_MAX];
    struct pn_w8 to[W8_MAX];
    uint8_t *mem = e->w8;
    *w8 = *l;
    const int n = mem ? w8_weights(&e->mm, *l, at) : 0;
    for (int i = 0; i < n; i++) {
        const struct pn_weight *from = (const struct pn_weight *)(const void *)((const char *)l + at[i]);
        to[i] = pn_w8_at(from, mem);
        mem += pn_w8_bytes(from);
        *weight_at(w8, at[i]) = to[i].w;
    }
    if (n)
        pn_w8_fill(&e->mm, t, n, to);
}

static void layer(struct enc *e, struct pn_team *t, const struct pn_vlayer *l)
{
    int32_t *fill = &e->thread[t->tid].fill;
    const int32_t D = e->m->hp.v_dim, heads = e->m->hp.v_head, hd = D / heads;
    const float g_attn = l->gate_attn.v ? l->gate_attn.v[0] : 1.0f;
    const float g_ffn = l->gate_ffn.v ? l->gate_ffn.v[0] : 1.0f;
    float *slab = e->thread[t->tid].slab;
    const struct pn_weight *qkv[] = {&l->wq, &l->wk, &l->wv};
    const struct pn_norm ln1 = {l->ln1_w.v, l->ln1_b.v, e->m->hp.v_eps}, ln2 = {l->ln2_w.v, l->ln2_b.v, e->m->hp.v_eps};
    struct pn_vlayer w8;
    const struct pn_vlayer *use;
    struct pn_w8_in in;
    int64_t i;
    with_w8(e, t, l, &w8);
    for (int32_t r0 = 0; r0 < e->n_tok; r0 += BLOCK) {
        const int32_t n = e->n_tok - r0 < BLOCK ? e->n_tok - r0 : BLOCK;
        const size_t off = (size_t)r0 * (size_t)D;
        *fill = padding(e, r0, n);
        use = stage_rows(e, t, &(struct rows_in){{e->x + off, NULL, n, D}, &ln1, &after_norm}, l, &w8,
                         w8.wq.origin || w8.wk.origin || w8.wv.origin, pn_forms(&e->mm, 3, qkv), &in);
        pn_products(&e->mm, t, &in.in, 3,
                    (struct pn_out[]){{.w = &use->wq, .c = e->q + off}, {.w = &use->wk, .c = e->kb},
                                      {.w = &use->wv, .c = e->vb}});
        for (pn_step(t); (i = pn_next(t)) < heads;)
            for (int32_t r = 0; r < n; r++)
                e->kern->kv_put(&e->kv[i], r0 + r, e->kb + (size_t)r * (size_t)D + (size_t)i * (size_t)hd,
                                e->vb + (size_t)r * (size_t)D + (size_t)i * (size_t)hd);
        pn_barrier(t);
    }
    attention(e, t);
    for (int32_t r0 = 0; r0 < e->n_tok; r0 += BLOCK) {
        const int32_t n = e->n_tok - r0 < BLOCK ? e->n_tok - r0 : BLOCK;
        const size_t off = (size_t)r0 * (size_t)D;
        float *x = e->x + off;
        *fill = padding(e, r0, n);
        use = stage_rows(e, t, &(struct rows_in){{e->q + off, NULL, n, D}, NULL, &after_attention}, l, &w8,
                         w8.wo.origin, forms_of(e, &l->wo), &in);
        pn_product_add(&e->mm, t, &in.in, &use->wo, NULL, g_attn, x, NULL, slab);
        use = stage_rows(e, t, &(struct rows_in){{x, NULL, n, D}, &ln2, &after_norm}, l, &w8, w8.fc1.origin,
                         forms_of(e, &l->fc1), &in);
        pn_products(&e->mm, t, &in.in, 1, &(struct pn_out){&use->fc1, e->h, l->fc1_b.v, true, NULL});
        use = stage_rows(e, t, &(struct rows_in){{e->h, NULL, n, l->fc2.k}, NULL, &after_gelu}, l, &w8, w8.fc2.origin,
                         forms_of(e, &l->fc2), &in);
        pn_product_add(&e->mm, t, &in.in, &use->fc2, l->fc2_b.v, g_ffn, x, NULL, slab);
    }
    *fill = 0;
}

/* ------------------------------------------------------------------------- into and out of the stack */

/* Patches of the real tiles (a 14x14 convolution with stride 14 is a product: a row holds channel, ky, kx). */
static void patches(struct enc *e, struct pn_team *t)
{
    const struct pn_hparams *hp = &e->m->hp;
    const struct pn_vision *v = e->m->vision;
    const int32_t S = hp->v_image, p = hp->v_patch, G = v->grid, D = hp->v_dim, P = v->patch.k;
    int64_t i;
    for (int32_t tile = 0; tile < e->n_real_tiles; tile++)
        for (int32_t r0 = 0; r0 < G * G; r0 += BLOCK) {
            const int32_t n = G * G - r0 < BLOCK ? G * G - r0 : BLOCK;
            for (pn_step(t); (i = pn_next(t)) < n;) {
                const int32_t gy = (r0 + (int32_t)i) / G, gx = (r0 + (int32_t)i) % G;
                float *row = e->h + (size_t)i * (size_t)P;
                for (int32_t c = 0; c < hp->v_channels; c++)
                    for (int32_t y = 0; y < p; y++)
                        memcpy(row + (size_t)(c * p + y) * (size_t)p,
                               e->job->pixels + (((size_t)tile * (size_t)hp->v_channels + (size_t)c) * (size_t)S +
                                                 (size_t)(gy * p + y)) * (size_t)S + (size_t)(gx * p),
                               (size_t)p * sizeof *row);
            }
            pn_barrier(t);
            float *x = e->x + ((size_t)tile * (size_t)v->n_pos + 1 + (size_t)r0) * (size_t)D;
            product(e, t, e->h, n, &(struct pn_out){.w = &v->patch, .c = x});
        }
}

/* The embeddings in the reference's order, then layernorm_pre. Zero tokens join after it, as zeros. */
static void embeddings(struct enc *e, struct pn_team *t)
{
    const struct pn_hparams *hp = &e->m->hp;
    const struct pn_vision *v = e->m->vision;
    const struct pn_kern *k = e->kern;
    const int32_t D = hp->v_dim;
    float *tmp = e->thread[t->tid].slab;
    const float pre = v->pre_gate.v[0], pos = v->pos_gate.v[0], tile_gate = v->tile_gate.v[0];
    int64_t i;
    for (pn_step(t); (i = pn_next(t)) < (int64_t)e->n_tiles * v->n_pos;) {
        const int64_t tile = i / v->n_pos, at = i % v->n_pos;
        float *x = e->x + (size_t)i * (size_t)D;
        if (at == 0) {
            memcpy(x, v->class_embd.v, (size_t)D * sizeof *x);
        } else {
            pn_weight_row(k, &v->pre_tile, e->job->ratio_id, tile * D, D, tmp);
            k->axpy(x, tmp, pre, D);
        }
        pn_weight_row(k, &v->pos_embd, at, 0, D, tmp);
        k->axpy(x, tmp, pos, D);
        pn_weight_row(k, &v->tile_embd, e->job->ratio_id, i * D, D, tmp);
        k->axpy(x, tmp, tile_gate, D);
        k->layernorm(x, x, v->pre_ln_w.v, v->pre_ln_b.v, D, hp->v_eps);
    }
    pn_barrier(t);
}

/* Tile (computed index) a token belongs to. */
static int32_t tile_of(const struct enc *e, int32_t tok)
{
    const int32_t n = e->n_tiles * e->m->vision->n_pos;
    return tok < n ? tok / e->m->vision->n_pos : (tok - n) / e->zeros;
}

/* layernorm_post and the post-tile embedding, between the local and the global stack. */
static void between(struct enc *e, struct pn_team *t)
{
    const struct pn_hparams *hp = &e->m->hp;
    const struct pn_vision *v = e->m->vision;
    const int32_t D = hp->v_dim;
    float *tmp = e->thread[t->tid].slab;
    int64_t i;
    for (pn_step(t); (i = pn_next(t)) < e->n_tok;) {
        float *x = e->x + (size_t)i * (size_t)D;
        e->kern->layernorm(x, x, v->post_ln_w.v, v->post_ln_b.v, D, hp->v_eps);
        pn_weight_row(e->kern, &v->post_tile, e->job->ratio_id, (int64_t)tile_of(e, (int32_t)i) * D, D, tmp);
        e->kern->axpy(x, tmp, v->post_gate.v[0], D);
    }
    pn_barrier(t);
}

/* Keep the input of layer number `index` if it is one of the intermediate features. */
static void keep(struct enc *e, struct pn_team *t, int32_t index)
{
    const struct pn_hparams *hp = &e->m->hp;
    const int32_t D = hp->v_dim;
    for (int32_t k = 0; k < hp->n_inter; k++) {
        if (hp->v_inter[k] != index)
            continue;
        int64_t i;
        for (pn_step(t); (i = pn_next(t)) < e->n_keep;) {
            const float *x = e->x + (size_t)i * (size_t)D;
            const size_t row = (size_t)k * (size_t)e->n_keep + (size_t)i;
            if (e->inter32) {
                memcpy(e->inter32 + row * (size_t)D, x, (size_t)D * sizeof *x);
                continue;
            }
            /* Half precision is enough of a mantissa, but residual streams grow outliers: keep them in
             * range by a power of two per row. */
            float most = 0, scale = 1;
            for (int32_t d = 0; d < D; d++)
                most = fmaxf(most, fabsf(x[d]));
            while (most * scale > 32768.0f && scale > 1e-30f)
                scale *= 0.5f;
            e->inter_scale[row] = 1 / scale;
            for (int32_t d = 0; d < D; d++)
                e->inter16[row * (size_t)D + (size_t)d] = pn_f32_to_f16(x[d] * scale);
        }
        pn_barrier(t);
    }
}

/* Feature row of kept token i: global features, then the saved states interleaved by channel. */
static void feature_row(const struct enc *e, int32_t i, float *f)
{
    const struct pn_hparams *hp = &e->m->hp;
    const int32_t D = hp->v_dim, K = hp->n_inter;
    memcpy(f, e->x + (size_t)i * (size_t)D, (size_t)D * sizeof *f);
    f += D;
    for (int32_t k = 0; k < K; k++) {
        const size_t row = (size_t)k * (size_t)e->n_keep + (size_t)i;
        for (int32_t d = 0; d < D; d++)
            f[(size_t)d * (size_t)K + (size_t)k] =
                e->inter32 ? e->inter32[row * (size_t)D + (size_t)d]
                           : pn_f16_to_f32(e->inter16[row * (size_t)D + (size_t)d]) * e->inter_scale[row];
    }
}

/* Features -> projector -> normalised keys and values of every cross layer. */
static void outputs(struct enc *e, struct pn_team *t)
{
    const struct pn_model *m = e->m;
    const struct pn_hparams *hp = &m->hp;
    const struct pn_vision *v = m->vision;
    const int32_t n_out = v->n_out, kvh = hp->n_kv_head, hd = hp->head_dim;
    int forms = 0; /* of the states, for all layers */
    int64_t i;
    for (int32_t l = 0; l < hp->n_layer; l++)
        if (m->layers[l].cross)
            forms |= pn_forms(&e->mm, 2, (const struct pn_weight *[]){&m->layers[l].wk, &m->layers[l].wv});
    for (int32_t r0 = 0; r0 < e->n_keep; r0 += OUT_BLOCK) {
        const int32_t n = e->n_keep - r0 < OUT_BLOCK ? e->n_keep - r0 : OUT_BLOCK;
        for (pn_step(t); (i = pn_next(t)) < n;) {
            float *f = e->h + (size_t)i * (size_t)n_out;
            feature_row(e, r0 + (int32_t)i, f);
            if (e->job->features && r0 + i < e->n_real)
                memcpy(e->job->features + (size_t)(r0 + i) * (size_t)n_out, f, (size_t)n_out * sizeof *f);
        }
        pn_barrier(t);
        if (!e->job->cross)
            continue;
        product(e, t, e->h, n, &(struct pn_out){.w = &v->proj, .c = e->states, .bias = v->proj_b.v});
        const struct pn_in in = stage(e, t, &(struct pn_rows){e->states, NULL, n, hp->d_model}, NULL, forms);
        for (int32_t l = 0; l < hp->n_layer; l++) {
            const struct pn_layer *cl = &m->layers[l];
            if (!cl->cross)
                continue;
            pn_products(&e->mm, t, &in, 2, (struct pn_out[]){{.w = &cl->wk, .c = e->ck}, {.w = &cl->wv, .c = e->cv}});
            for (pn_step(t); (i = pn_next(t)) < kvh;)
                for (int32_t r = 0; r < n; r++) {
                    float *key = e->ck + ((size_t)r * (size_t)kvh + (size_t)i) * (size_t)hd;
                    e->kern->rmsnorm(key, key, cl->k_norm.v, hd, hp->rms_eps);
                    e->kern->kv_put(&e->job->cross->kv[(size_t)cl->ord * (size_t)kvh + (size_t)i], r0 + r, key,
                                    e->cv + ((size_t)r * (size_t)kvh + (size_t)i) * (size_t)hd);
                }
            pn_barrier(t);
        }
    }
}

/* After each layer: report, and look at the cancel flag. One thread looks before a barrier, all see it after. */
static bool checkpoint(struct enc *e, struct pn_team *t)
{
    if (t->tid == 0) {
        e->step++;
        if (e->job->progress)
            e->job->progress(e->job->progress_user, e->step, e->n_steps);
        if (e->job->cancel && atomic_load_explicit(e->job->cancel, memory_order_relaxed))
            atomic_store_explicit(&e->stop, 1, memory_order_relaxed);
    }
    pn_barrier(t);
    const bool stop = atomic_load_explicit(&e->stop, memory_order_relaxed);
    pn_barrier(t); /* nobody stores the next answer before all have read this one */
    return stop;
}

static void encode(struct pn_team *t, void *arg)
{
    struct enc *e = arg;
    const struct pn_hparams *hp = &e->m->hp;
    const struct pn_vision *v = e->m->vision;
    patches(e, t);
    embeddings(e, t);
    for (int32_t i = 0; i < hp->v_layer; i++) {
        keep(e, t, i);
        layer(e, t, &v->local[i]);
        if (checkpoint(e, t))
            return;
    }
    keep(e, t, hp->v_layer);
    between(e, t);
    for (int32_t i = 0; i < hp->v_global; i++) {
        layer(e, t, &v->global[i]);
        if (checkpoint(e, t))
            return;
    }
    outputs(e, t);
    checkpoint(e, t);
}

int pn_vision_encode(struct pn_model *m, const struct pn_vision_job *job, struct puna_error *err)
{
    int rc = pn_model_vision_ready(m, err);
    if (rc)
        return rc;
    const struct pn_hparams *hp = &m->hp;
    const int32_t n_real_tiles = job->tiles_h * job->tiles_w, missing = hp->v_tiles - n_real_tiles;
    struct enc e = {.m = m,
                    .kern = &m->kern,
                    .mm = {.kern = &m->kern, .precise = job->precise, .observer = job->observer},
                    .job = job};
    const bool full = job->full;
    e.thread = calloc((size_t)m->threads, sizeof *e.thread);
    const bool pad = job->hf_rows;
    const size_t bytes = layout(&e, m, n_real_tiles, job->precise, full, pad, m->threads, NULL);
    e.mem = pn_calloc_array(bytes, 1);
    if (!e.thread || !e.mem) {
        free(e.thread);
        pn_free(e.mem);
        return pn_fail_memory(err, bytes, "the vision encoder");
    }
    pn_huge_pages(e.mem, bytes);
    layout(&e, m, n_real_tiles, job->precise, full, pad, m->threads, e.mem);
    e.mm.lora = e.lora;
    const int32_t P = m->vision->n_pos;
    for (int32_t i = e.n_real; i < e.n_tok; i++) {
        const int32_t mult_tile = full || tile_of(&e, i) < n_real_tiles ? 1 : missing;
        const int32_t mult_zero = full || i < e.n_tiles * P ? 1 : m->vision->n_pad;
        e.bias[i] = logf((float)(mult_tile * mult_zero));
        if (pad && job->cross && i < e.n_keep)
            job->cross->bias[i] = logf((float)mult_tile);
    }
    e.n_steps = hp->v_layer + hp->v_global + 1;
    pn_pool_run(m->threads, encode, &e);
    free(e.thread);
    pn_free(e.mem);
    if (atomic_load(&e.stop))
        return pn_fail(err, PUNA_E_CANCELLED, "cancelled");
    return pn_source_check_lost(m->src, err);
}
