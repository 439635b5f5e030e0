/* SPDX-License-Identifier: Apache-2.0 */
/* From names in a file to bound, shape-checked weights. Three spellings of one model: hub names, Ollama's
 * combined GGUF, Ollama's split pair (whose MLP names are swapped: its ffn_down is fc1). */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "file/hparams.h"
#include "model/model.h"

enum spelling { HUB, COMBINED, SPLIT };

struct binder {
    struct pn_model *m;
    const struct pn_source *src;
    enum spelling text, vision;
    struct puna_error *err;
    int rc; /* first failure; later calls do nothing */
    char combined[64]; /* what the tensor found last is called in the combined layout */
};

/* Patterns are literals of this file with at most one %d. */
static void expand(char *name, size_t size, const char *pattern, int i)
{
    const char *pct = strstr(pattern, "%d");
    if (pct)
        snprintf(name, size, "%.*s%d%s", (int)(pct - pattern), pattern, i, pct + 2);
    else
        snprintf(name, size, "%s", pattern);
}

static const struct pn_tensor *find(struct binder *b, const char *pattern, const char *combined, int i)
{
    char name[160];
    if (b->rc)
        return NULL;
    expand(name, sizeof name, pattern, i);
    expand(b->combined, sizeof b->combined, combined, i);
    const struct pn_tensor *t = pn_source_find(b->src, name);
    if (!t)
        b->rc = pn_fail(b->err, PUNA_E_FORMAT,
                        "%s: tensor '%s' is missing; the file is incomplete or not a model of this family",
                        b->src->path, name);
    return t;
}

static void shape_error(struct binder *b, const struct pn_tensor *t, int64_t n, int64_t k)
{
    char want[64];
    if (k)
        snprintf(want, sizeof want, "[%" PRId64 ", %" PRId64 "]", n, k);
    else
        snprintf(want, sizeof want, "[%" PRId64 "]", n);
    char have[128] = "[";
    size_t len = 1;
    for (int d = t->ndim - 1; d >= 0; d--)
        len += (size_t)snprintf(have + len, sizeof have - len, "%" PRId64 "%s", t->ne[d], d ? ", " : "");
    snprintf(have + len, sizeof have - len, "]");
    b->rc = pn_fail(b->err, PUNA_E_FORMAT, "%s: tensor '%s' has shape %s, the model's sizes ask for %s",
                    b->src->path, t->name, have, want);
}

/* W[n][k]: the slowest dimension is n, all others together k. */
static void weight(struct binder *b, struct pn_weight *w, const struct pn_tensor *t, int64_t n, int64_t k)
{
    if (!t || b->rc)
        return;
    int64_t rows = t->ndim ? t->ne[t->ndim - 1] : 1, cols = 1;
    for (int d = 0; d + 1 < t->ndim; d++)
        cols *= t->ne[d]; /* products were checked against the file size on opening */
    if (t->ndim == 1) {
        cols = rows;
        rows = 1;
    }
    if (rows != n || cols != k) {
        shape_error(b, t, n, k);
        return;
    }
    const struct pn_type_info *ti = pn_type_info(t->type);
    if (!ti || k % ti->block_elems) {
        b->rc = pn_fail(b->err, PUNA_E_UNSUPPORTED,
                        "%s: tensor '%s' has rows of %" PRId64 " values, which type %s cannot hold",
                        b->src->path, t->name, k, ti ? ti->name : "?");
        return;
    }
    *w = (struct pn_weight){.data = t->data,
                            .row_bytes = pn_row_bytes(t->type, k),
                            .type = t->type,
                            .n = (int32_t)n,
                            .k = (int32_t)k,
                            .id = b->m->n_weights++,
                            .name = pn_arena_strndup(b->m->mem, b->combined, strlen(b->combined)),
                            .next = b->m->weights};
    b->m->weights = w;
    if (!w->name)
        b->rc = pn_fail_memory(b->err, strlen(b->combined), "the names of tensors");
}

static void vec(struct binder *b, struct pn_vec *v, const struct pn_tensor *t, int64_t n)
{
    if (!t || b->rc)
        return;
    int64_t have = 1;
    for (int d = 0; d < t->ndim; d++)
        have *= t->ne[d];
    const struct pn_type_info *ti = pn_type_info(t->type);
    if (have != n || !ti || n % ti->block_elems) {
        shape_error(b, t, n, 0);
        return;
    }
    *v = (struct pn_vec){t, NULL, (int32_t)n};
}

/* A table whose rows are read in stretches of `unit` values. */
static void table(struct binder *b, struct pn_weight *w, const struct pn_tensor *t, int64_t n, int64_t k,
                  int64_t unit)
{
    weight(b, w, t, n, k);
    if (!b->rc && t && unit % pn_type_info(t->type)->block_elems)
        b->rc = pn_fail(b->err, PUNA_E_UNSUPPORTED, "%s: tensor '%s' is of type %s, which its rows do not divide into",
                        b->src->path, t->name, pn_type_info(t->type)->name);
}

/* The pattern of the spelling in use. */
static const char *pick(enum spelling s, const char *hub, const char *combined, const char *split)
{
    return s == HUB ? hub : s == COMBINED || !split ? combined : split;
}

#define TEXT(field, fn, hub, gguf, ...) \
    fn(b, &(field), find(b, pick(b->text, hub, gguf, NULL), gguf, i), __VA_ARGS__)
#define VIS(field, fn, hub, comb, split, ...) \
    fn(b, &(field), find(b, pick(b->vision, hub, comb, split), comb, i), __VA_ARGS__)

#define HL "language_model.model.layers.%d."

static void bind_text(struct binder *b)
{
    struct pn_model *m = b->m;
    const struct pn_hparams *hp = &m->hp;
    const int64_t d = hp->d_model, dq = (int64_t)hp->n_head * hp->head_dim,
                  dkv = (int64_t)hp->n_kv_head * hp->head_dim, ff = hp->d_ff;
    int i = 0, n_cross = 0;
    TEXT(m->embd, weight, "language_model.model.embed_tokens.weight", "token_embd.weight",
         hp->n_embd_rows, d);
    TEXT(m->output_norm, vec, "language_model.model.norm.weight", "output_norm.weight", d);
    if (hp->tied) {
        m->output = m->embd;
        m->output.n = hp->n_vocab;
    } else {
        TEXT(m->output, weight, "language_model.lm_head.weight", "output.weight", hp->n_vocab, d);
    }
    for (i = 0; i < hp->n_layer && !b->rc; i++) {
        struct pn_layer *l = &m->layers[i];
        l->cross = hp->is_cross[i];
        l->ord = l->cross ? n_cross++ : i - n_cross;
        TEXT(l->attn_norm, vec, HL "input_layernorm.weight", "blk.%d.attn_norm.weight", d);
        TEXT(l->ffn_norm, vec, HL "post_attention_layernorm.weight", "blk.%d.ffn_norm.weight", d);
        TEXT(l->gate, weight, HL "mlp.gate_proj.weight", "blk.%d.ffn_gate.weight", ff, d);
        TEXT(l->up, weight, HL "mlp.up_proj.weight", "blk.%d.ffn_up.weight", ff, d);
        TEXT(l->down, weight, HL "mlp.down_proj.weight", "blk.%d.ffn_down.weight", d, ff);
        if (l->cross) {
            TEXT(l->wq, weight, HL "cross_attn.q_proj.weight", "blk.%d.cross_attn_q_proj.weight", dq, d);
            TEXT(l->wk, weight, HL "cross_attn.k_proj.weight", "blk.%d.cross_attn_k_proj.weight", dkv, d);
            TEXT(l->wv, weight, HL "cross_attn.v_proj.weight", "blk.%d.cross_attn_v_proj.weight", dkv, d);
            TEXT(l->wo, weight, HL "cross_attn.o_proj.weight", "blk.%d.cross_attn_o_proj.weight", d, dq);
            TEXT(l->q_norm, vec, HL "cross_attn.q_norm.weight", "blk.%d.cross_attn_q_norm.weight",
                 hp->head_dim);
            TEXT(l->k_norm, vec, HL "cross_attn.k_norm.weight", "blk.%d.cross_attn_k_norm.weight",
                 hp->head_dim);
            TEXT(l->attn_gate, vec, HL "cross_attn_attn_gate", "blk.%d.cross_attn_attn_gate", 1);
            TEXT(l->mlp_gate, vec, HL "cross_attn_mlp_gate", "blk.%d.cross_attn_mlp_gate", 1);
        } else {
            TEXT(l->wq, weight, HL "self_attn.q_proj.weight", "blk.%d.attn_q.weight", dq, d);
            TEXT(l->wk, weight, HL "self_attn.k_proj.weight", "blk.%d.attn_k.weight", dkv, d);
            TEXT(l->wv, weight, HL "self_attn.v_proj.weight", "blk.%d.attn_v.weight", dkv, d);
            TEXT(l->wo, weight, HL "self_attn.o_proj.weight", "blk.%d.attn_output.weight", d, dq);
        }
    }
}

/* Two stacks, one set of names: the prefix is put in front here. */
static const struct pn_tensor *find_vlayer(struct binder *b, bool global, int i, const char *hub, const char *comb,
                                           const char *split)
{
    char h[96], c[64], s[64];
    const char *stack = global ? "v.global.blk.%d." : "v.blk.%d.";
    snprintf(h, sizeof h, "vision_model.%stransformer.layers.%%d.%s", global ? "global_" : "", hub);
    snprintf(c, sizeof c, "%s%s", stack, comb);
    snprintf(s, sizeof s, "%s%s", stack, split);
    return find(b, pick(b->vision, h, c, s), c, i);
}

static void bind_vlayer(struct binder *b, struct pn_vlayer *l, int i, bool global)
{
    const int64_t d = b->m->hp.v_dim, ff = b->m->hp.v_ff;
#define NAME(h, c, s) find_vlayer(b, global, i, h, c, s)
    vec(b, &l->ln1_w, NAME("input_layernorm.weight", "attn_norm.weight", "ln1.weight"), d);
    vec(b, &l->ln1_b, NAME("input_layernorm.bias", "attn_norm.bias", "ln1.bias"), d);
    vec(b, &l->ln2_w, NAME("post_attention_layernorm.weight", "ffn_norm.weight", "ln2.weight"), d);
    vec(b, &l->ln2_b, NAME("post_attention_layernorm.bias", "ffn_norm.bias", "ln2.bias"), d);
    weight(b, &l->wq, NAME("self_attn.q_proj.weight", "attn_q.weight", "attn_q.weight"), d, d);
    weight(b, &l->wk, NAME("self_attn.k_proj.weight", "attn_k.weight", "attn_k.weight"), d, d);
    weight(b, &l->wv, NAME("self_attn.v_proj.weight", "attn_v.weight", "attn_v.weight"), d, d);
    weight(b, &l->wo, NAME("self_attn.o_proj.weight", "attn_output.weight", "attn_out.weight"), d, d);
    weight(b, &l->fc1, NAME("mlp.fc1.weight", "ffn_up.weight", "ffn_down.weight"), ff, d);
    vec(b, &l->fc1_b, NAME("mlp.fc1.bias", "ffn_up.bias", "ffn_down.bias"), ff);
    weight(b, &l->fc2, NAME("mlp.fc2.weight", "ffn_down.weight", "ffn_up.weight"), d, ff);
    vec(b, &l->fc2_b, NAME("mlp.fc2.bias", "ffn_down.bias", "ffn_up.bias"), d);
    if (global) {
        vec(b, &l->gate_attn, NAME("gate_attn", "attn_gate", "attn_gate"), 1);
        vec(b, &l->gate_ffn, NAME("gate_ffn", "ffn_gate", "ffn_gate"), 1);
    }
#undef NAME
}

#define VM "vision_model."

static void bind_vision(struct binder *b)
{
    struct pn_model *m = b->m;
    const struct pn_hparams *hp = &m->hp;
    struct pn_vision *v = m->vision;
    const int64_t d = hp->v_dim;
    int i = 0;
    v->grid = hp->v_image / hp->v_patch;
    v->n_pos = v->grid * v->grid + 1;
    v->n_pad = (8 - v->n_pos % 8) % 8;
    v->n_out = (int32_t)(d * (1 + hp->n_inter));
    VIS(v->patch, weight, VM "patch_embedding.weight", "v.patch_embd.weight", NULL, d,
        (int64_t)hp->v_channels * hp->v_patch * hp->v_patch);
    VIS(v->class_embd, vec, VM "class_embedding", "v.class_embd", NULL, d);
    VIS(v->pre_ln_w, vec, VM "layernorm_pre.weight", "v.pre_ln.weight", NULL, d);
    VIS(v->pre_ln_b, vec, VM "layernorm_pre.bias", "v.pre_ln.bias", NULL, d);
    VIS(v->post_ln_w, vec, VM "layernorm_post.weight", "v.post_ln.weight", NULL, d);
    VIS(v->post_ln_b, vec, VM "layernorm_post.bias", "v.post_ln.bias", NULL, d);
    VIS(v->pos_embd, weight, VM "gated_positional_embedding.embedding", "v.position_embd.weight", NULL,
        v->n_pos, d);
    VIS(v->pos_gate, vec, VM "gated_positional_embedding.gate", "v.position_embd.gate", NULL, 1);
    if (b->vision != HUB)
        VIS(v->tile_gate, vec, NULL, "v.tile_position_embd.gate", NULL, 1);
    VIS(v->tile_embd, table, VM "gated_positional_embedding.tile_embedding.weight",
        "v.tile_position_embd.weight", NULL, hp->n_ratio + 1, hp->v_tiles * v->n_pos * d, d);
    VIS(v->pre_tile, table, VM "pre_tile_positional_embedding.embedding.weight",
        "v.pre_tile_position_embd.weight", NULL, hp->n_ratio + 1, hp->v_tiles * d, d);
    VIS(v->pre_gate, vec, VM "pre_tile_positional_embedding.gate", "v.pre_tile_position_embd.gate",
        NULL, 1);
    VIS(v->post_tile, table, VM "post_tile_positional_embedding.embedding.weight",
        "v.post_tile_position_embd.weight", NULL, hp->n_ratio + 1, hp->v_tiles * d, d);
    VIS(v->post_gate, vec, VM "post_tile_positional_embedding.gate", "v.post_tile_position_embd.gate",
        NULL, 1);
    for (i = 0; i < hp->v_layer && !b->rc; i++)
        bind_vlayer(b, &v->local[i], i, false);
    for (i = 0; i < hp->v_global && !b->rc; i++)
        bind_vlayer(b, &v->global[i], i, true);
    i = 0;
    VIS(v->proj, weight, "multi_modal_projector.weight", "mm.0.weight", NULL, hp->d_model, v->n_out);
    VIS(v->proj_b, vec, "multi_modal_projector.bias", "mm.0.bias", NULL, hp->d_model);
}

static int vec_read(struct pn_model *m, struct pn_vec *v, struct puna_error *err)
{
    if (v->v || !v->t)
        return 0;
    float *p = pn_arena_alloc(m->mem, (size_t)v->n * sizeof *p);
    if (!p)
        return pn_fail_memory(err, (size_t)v->n * sizeof *p, v->t->name);
    m->kern.dequant[v->t->type](p, v->t->data, v->n);
    v->v = p;
    return 0;
}

/* Rotary frequencies: theta^(-2i/hd), with the llama3 rule (Llama 3.1's long-context scaling: wavelengths
 * beyond the original context are stretched, a band in between is blended). */
static int make_inv_freq(struct pn_model *m, struct puna_error *err)
{
    const struct pn_hparams *hp = &m->hp;
    const int half = hp->head_dim / 2;
    m->inv_freq = pn_arena_alloc(m->mem, (size_t)half * sizeof(float));
    if (!m->inv_freq)
        return pn_fail_memory(err, (size_t)half * sizeof(float), "rotary frequencies");
    const struct pn_tensor *factors = pn_source_find(m->src, "rope_freqs.weight");
    float *fac = NULL;
    if (factors) {
        struct pn_vec v = {factors, NULL, half};
        int64_t n = 1;
        for (int d = 0; d < factors->ndim; d++)
            n *= factors->ne[d];
        if (n != half)
            return pn_fail(err, PUNA_E_FORMAT,
                           "%s: tensor 'rope_freqs.weight' has %" PRId64 " values, the head size asks for %d",
                           m->src->path, n, half);
        int rc = vec_read(m, &v, err);
        if (rc)
            return rc;
        fac = v.v;
    }
    for (int i = 0; i < half; i++) {
        double f = pow((double)hp->rope_theta, -2.0 * i / hp->head_dim);
        if (fac) {
            f /= fac[i];
        } else if (hp->rope_scaled) {
            const double wave = 2 * M_PI / f, orig = hp->rope_orig_ctx;
            if (wave > orig / hp->rope_low) {
                f /= hp->rope_factor;
            } else if (wave >= orig / hp->rope_high) {
                const double s = (orig / wave - hp->rope_low) / ((double)hp->rope_high - hp->rope_low);
                f = (1 - s) * f / hp->rope_factor + s * f;
            }
        }
        m->inv_freq[i] = (float)f;
    }
    return 0;
}

/* Sizes no model of this family has, but which the forward passes' scratch is not made for. */
static int check_sizes(const struct pn_hparams *hp, const char *path, struct puna_error *err)
{
    if (hp->n_head / hp->n_kv_head > PN_ATTN_ROWS)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s: %" PRId32 " query heads share a key head; at most %d can",
                       path, hp->n_head / hp->n_kv_head, PN_ATTN_ROWS);
    if (hp->vision && hp->v_dim > PN_MAX_V_DIM)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s: a vision width of %" PRId32 " is too large (at most %d)",
                       path, hp->v_dim, PN_MAX_V_DIM);
    /* token counts and rows of the tile tables are int32_t everywhere */
    const int64_t grid = hp->vision ? hp->v_image / hp->v_patch : 0, tokens = (grid * grid + 8) * hp->v_tiles;
    if (hp->vision && (tokens > PN_MAX_V_TOKENS || tokens * hp->v_dim > INT32_MAX))
        return pn_fail(err, PUNA_E_UNSUPPORTED,
                       "%s: %" PRId32 " tiles of %" PRId32 " pixels in patches of %" PRId32 " make too many tokens",
                       path, hp->v_tiles, hp->v_image, hp->v_patch);
    return 0;
}

int pn_model_bind(struct pn_model **out, struct pn_source *src, const struct pn_kern *kern, int threads,
                  struct puna_error *err)
{
    *out = NULL;
    struct pn_model *m = calloc(1, sizeof *m);
    if (!m)
        return pn_fail_memory(err, sizeof *m, "the model");
    struct binder b = {.m = m, .src = src, .err = err};
    m->hp = src->hp;
    m->kern = *kern;
    m->threads = threads;
    m->rope_inter = src->quirks.rope_inter;
    pthread_mutex_init(&m->lazy_lock, NULL);
    b.rc = check_sizes(&m->hp, src->path, err);
    b.text = src->quirks.hub_names ? HUB : COMBINED;
    b.vision = src->quirks.hub_names ? HUB : src->quirks.split_names ? SPLIT : COMBINED;
    m->mem = pn_arena_new();
    if (m->mem)
        m->layers = pn_arena_alloc(m->mem, (size_t)m->hp.n_layer * sizeof *m->layers);
    if (m->layers && m->hp.vision) {
        m->vision = pn_arena_alloc(m->mem, sizeof *m->vision);
        if (m->vision) {
            m->vision->local = pn_arena_alloc(m->mem, (size_t)m->hp.v_layer * sizeof(struct pn_vlayer));
            m->vision->global =
                pn_arena_alloc(m->mem, ((size_t)m->hp.v_global + 1) * sizeof(struct pn_vlayer));
        }
    }
    if (!b.rc && (!m->layers || (m->hp.vision && (!m->vision || !m->vision->local || !m->vision->global))))
        b.rc = pn_fail_memory(err, (size_t)m->hp.n_layer * sizeof *m->layers, "the layer table");
    if (!b.rc)
        bind_text(&b);
    if (!b.rc && m->vision)
        bind_vision(&b);
    m->src = src;
    if (!b.rc)
        b.rc = pn_model_attach_adapters(m, err);
    if (!b.rc)
        b.rc = make_inv_freq(m, err);
    if (!b.rc)
        b.rc = vec_read(m, &m->output_norm, err);
    for (int i = 0; i < m->hp.n_layer && !b.rc; i++) {
        struct pn_layer *l = &m->layers[i];
        if (l->cross)
            continue;
        b.rc = vec_read(m, &l->attn_norm, err);
        if (!b.rc)
            b.rc = vec_read(m, &l->ffn_norm, err);
    }
    if (b.rc) {
        m->src = NULL; /* the caller keeps it */
        pn_model_free(&m);
        return b.rc;
    }
    *out = m;
    return 0;
}

void pn_model_free(struct pn_model **pm)
{
    struct pn_model *m = *pm;
    *pm = NULL;
    if (!m)
        return;
    if (m->src)
        pn_source_close(&m->src);
    pn_arena_free(m->mem);
    pthread_mutex_destroy(&m->lazy_lock);
    free(m);
}

/* Cross q and k rows of Ollama's files are permuted half-split -> interleaved, their norm vectors are not:
 * bring the norms into the rows' order. */
static void permute_norm(float *v, int32_t hd)
{
    float t[PN_MAX_HEAD_DIM];
    memcpy(t, v, (size_t)hd * sizeof *v);
    for (int s = 0; s < 2; s++)
        for (int j = 0; j < hd / 2; j++)
            v[2 * j + s] = t[s * (hd / 2) + j];
}

static int lazy_read(struct pn_model *m, struct puna_error *err)
{
    int rc = 0;
#define READ(v)                       \
    do {                              \
        rc = vec_read(m, &(v), err);  \
        if (rc)                       \
            return rc;                \
    } while (0)
    for (int i = 0; i < m->hp.n_layer; i++) {
        struct pn_layer *l = &m->layers[i];
        if (!l->cross || l->mlp_gate.v)
            continue;
        READ(l->attn_norm);
        READ(l->ffn_norm);
        READ(l->q_norm);
        READ(l->k_norm);
        READ(l->attn_gate);
        READ(l->mlp_gate); /* last: its presence says that the layer is complete; nothing can fail behind it */
        if (m->src->quirks.cross_permuted) {
            permute_norm(l->q_norm.v, m->hp.head_dim);
            permute_norm(l->k_norm.v, m->hp.head_dim);
        }
        l->attn_gate.v[0] = tanhf(l->attn_gate.v[0]);
        l->mlp_gate.v[0] = tanhf(l->mlp_gate.v[0]);
    }
    struct pn_vision *v = m->vision;
    const bool raw = !m->src->quirks.vision_gates_tanh;
    for (int s = 0; s < 2; s++) {
        const int n = s ? m->hp.v_global : m->hp.v_layer;
        for (int i = 0; i < n; i++) {
            struct pn_vlayer *l = s ? &v->global[i] : &v->local[i];
            if (l->fc2_b.v)
                continue;
            READ(l->ln1_w);
            READ(l->ln1_b);
            READ(l->ln2_w);
            READ(l->ln2_b);
            READ(l->fc1_b);
            if (s) {
                READ(l->gate_attn);
                READ(l->gate_ffn);
            }
            READ(l->fc2_b); /* last, as above */
            if (s && (raw || m->src->quirks.global_gates_raw)) {
                l->gate_attn.v[0] = tanhf(l->gate_attn.v[0]);
                l->gate_ffn.v[0] = tanhf(l->gate_ffn.v[0]);
            }
        }
    }
    READ(v->class_embd);
    READ(v->pre_ln_w);
    READ(v->pre_ln_b);
    READ(v->post_ln_w);
    READ(v->post_ln_b);
    READ(v->proj_b);
    READ(v->pos_gate);
    READ(v->pre_gate);
    READ(v->post_gate);
    /* one gate g serves both terms; the GGUF forms store them apart, already transformed */
    if (raw)
        v->tile_gate = (struct pn_vec){v->pos_gate.t, NULL, 1};
    READ(v->tile_gate);
    if (raw) {
        v->tile_gate.v[0] = tanhf(v->tile_gate.v[0]);
        v->pos_gate.v[0] = 1 - v->tile_gate.v[0];
        v->pre_gate.v[0] = tanhf(v->pre_gate.v[0]);
        v->post_gate.v[0] = tanhf(v->post_gate.v[0]);
    }
#undef READ
    return 0;
}

int pn_model_vision_ready(struct pn_model *m, struct puna_error *err)
{
    if (!m->vision)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s is a text model: it takes no pictures", m->src->path);
    if (atomic_load_explicit(&m->lazy_done, memory_order_acquire))
        return 0;
    pthread_mutex_lock(&m->lazy_lock);
    int rc = atomic_load_explicit(&m->lazy_done, memory_order_relaxed) ? 0 : lazy_read(m, err);
    if (!rc)
        atomic_store_explicit(&m->lazy_done, true, memory_order_release);
    pthread_mutex_unlock(&m->lazy_lock);
    return rc;
}
