/* SPDX-License-Identifier: Apache-2.0 */
/* Which tensors the file gets, under which names, and what is done to their values. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "convert/convert.h"
#include "file/hparams.h"

struct planner {
    struct pn_plan *p;
    const struct pn_hparams *hp;
    struct puna_error *err;
    int rc; /* first failure; later calls do nothing */
};

/* ---------------------------------------------------------------------------- roles */

static const struct {
    const char *leaf;
    enum pn_role role;
} text_roles[] = {
    {"attn_q.weight", PN_ROLE_Q},
    {"attn_k.weight", PN_ROLE_K},
    {"attn_v.weight", PN_ROLE_V},
    {"attn_output.weight", PN_ROLE_O},
    {"ffn_gate.weight", PN_ROLE_GATE},
    {"ffn_up.weight", PN_ROLE_UP},
    {"ffn_down.weight", PN_ROLE_DOWN},
    {"cross_attn_q_proj.weight", PN_ROLE_CROSS_Q},
    {"cross_attn_k_proj.weight", PN_ROLE_CROSS_K},
    {"cross_attn_v_proj.weight", PN_ROLE_CROSS_V},
    {"cross_attn_o_proj.weight", PN_ROLE_CROSS_O},
};

/* The tables added per tile: small next to the matrices, and read in stretches that blocks would not divide. */
static bool is_tile_table(const char *name)
{
    return strcmp(name, "v.tile_position_embd.weight") == 0 || strcmp(name, "v.pre_tile_position_embd.weight") == 0 ||
           strcmp(name, "v.post_tile_position_embd.weight") == 0;
}

/* Layer number and what follows it: "blk.12.attn_q.weight"; NULL: no such name. */
static const char *split_layer(const char *name, const char *prefix, int32_t *layer)
{
    const size_t n = strlen(prefix);
    if (strncmp(name, prefix, n) != 0 || name[n] < '0' || name[n] > '9')
        return NULL;
    char *end;
    const unsigned long i = strtoul(name + n, &end, 10);
    if (*end != '.' || i >= PN_MAX_LAYERS)
        return NULL;
    *layer = (int32_t)i;
    return end + 1;
}

static void set_role(const struct pn_hparams *hp, struct pn_out_tensor *t)
{
    t->role = PN_ROLE_SMALL;
    if (t->ndim < 2 || is_tile_table(t->name))
        return;
    if (strcmp(t->name, "token_embd.weight") == 0)
        t->role = PN_ROLE_EMBD;
    else if (strcmp(t->name, "output.weight") == 0)
        t->role = PN_ROLE_OUTPUT;
    else if (strcmp(t->name, "v.patch_embd.weight") == 0 || strcmp(t->name, "v.position_embd.weight") == 0)
        t->role = PN_ROLE_PATCH;
    else if (strncmp(t->name, "v.", 2) == 0 || strncmp(t->name, "mm.", 3) == 0)
        t->role = PN_ROLE_VISION;
    const char *leaf = split_layer(t->name, "blk.", &t->layer);
    for (size_t i = 0; leaf && i < sizeof text_roles / sizeof *text_roles; i++)
        if (strcmp(leaf, text_roles[i].leaf) == 0)
            t->role = text_roles[i].role;
    for (int32_t i = 0; leaf && i < t->layer && i < hp->n_layer; i++)
        t->ord += hp->is_cross[i] == hp->is_cross[t->layer];
}

/* ---------------------------------------------------------------------------- building */

static struct pn_out_tensor *add(struct planner *b, const char *name)
{
    struct pn_plan *p = b->p;
    if (b->rc)
        return NULL;
    if (p->n == p->cap) {
        const size_t cap = p->cap ? 2 * p->cap : 1024;
        struct pn_out_tensor *t = realloc(p->t, cap * sizeof *t);
        if (!t) {
            b->rc = pn_fail_memory(b->err, cap * sizeof *t, "the tensor list");
            return NULL;
        }
        p->t = t;
        p->cap = cap;
    }
    struct pn_out_tensor *t = &p->t[p->n];
    *t = (struct pn_out_tensor){.name = pn_arena_strndup(p->arena, name, strlen(name)), .ne = {1, 1, 1, 1}};
    if (!t->name) {
        b->rc = pn_fail_memory(b->err, strlen(name), "a tensor's name");
        return NULL;
    }
    p->n++;
    return t;
}

static void add_from(struct planner *b, const char *name, const struct pn_tensor *src, enum pn_edit edit, int32_t heads)
{
    struct pn_out_tensor *t = add(b, name);
    if (!t)
        return;
    t->src = src;
    t->edit = edit;
    t->heads = heads;
    t->ndim = src->ndim ? src->ndim : 1;
    memcpy(t->ne, src->ne, sizeof t->ne);
    t->n_rows = t->ne[1] * t->ne[2] * t->ne[3];
    set_role(b->hp, t);
    if (edit == PN_EDIT_ROWS && (heads < 1 || t->n_rows % (2 * (int64_t)heads) != 0))
        b->rc = pn_fail(b->err, PUNA_E_FORMAT, "%s: tensor '%s' has %" PRId64 " rows, which do not divide into %" PRId32
                        " heads of even size", b->p->src->path, src->file_name, t->n_rows, heads);
}

/* A hub tensor; absent ones were found missing by the binding, or are optional. */
static void add_hub(struct planner *b, const char *hub, const char *name, enum pn_edit edit, int32_t heads)
{
    const struct pn_tensor *src = pn_source_find(b->p->src, hub);
    if (src)
        add_from(b, name, src, edit, heads);
}

/* Divisors of the rotary frequencies, by the llama3 rule: GGUF has no other way to say it. */
static void add_rope_factors(struct planner *b)
{
    const struct pn_hparams *hp = b->hp;
    if (!hp->rope_scaled)
        return;
    const int32_t half = hp->head_dim / 2;
    struct pn_out_tensor *t = add(b, "rope_freqs.weight");
    float *v = t ? pn_arena_alloc(b->p->arena, (size_t)half * sizeof *v) : NULL;
    if (!v) {
        b->rc = b->rc ? b->rc : pn_fail_memory(b->err, (size_t)half * sizeof *v, "rotary factors");
        return;
    }
    for (int32_t i = 0; i < half; i++) {
        const double wave = 2 * M_PI * pow((double)hp->rope_theta, 2.0 * i / hp->head_dim);
        const double orig = hp->rope_orig_ctx;
        const double s = (orig / wave - hp->rope_low) / ((double)hp->rope_high - hp->rope_low);
        v[i] = wave > orig / hp->rope_low    ? hp->rope_factor
               : wave < orig / hp->rope_high ? 1.0f
                                             : (float)(1 / ((1 - s) / hp->rope_factor + s));
    }
    t->values = v;
    t->edit = PN_EDIT_MADE;
    t->ndim = 1;
    t->ne[0] = half;
    t->n_rows = 1;
}

/* ---------------------------------------------------------------------------- hub directories */

#define HUB_TEXT "language_model.model."

static void add_hub_text(struct planner *b)
{
    static const struct {
        const char *hub, *gguf;
        int heads; /* rows to reorder: 1 query, 2 key heads */
    } leaves[] = {
        {"input_layernorm.weight", "attn_norm.weight", 0},
        {"self_attn.q_proj.weight", "attn_q.weight", 1},
        {"self_attn.k_proj.weight", "attn_k.weight", 2},
        {"self_attn.v_proj.weight", "attn_v.weight", 0},
        {"self_attn.o_proj.weight", "attn_output.weight", 0},
        {"cross_attn.q_proj.weight", "cross_attn_q_proj.weight", 1},
        {"cross_attn.k_proj.weight", "cross_attn_k_proj.weight", 2},
        {"cross_attn.v_proj.weight", "cross_attn_v_proj.weight", 0},
        {"cross_attn.o_proj.weight", "cross_attn_o_proj.weight", 0},
        {"cross_attn.q_norm.weight", "cross_attn_q_norm.weight", 0},
        {"cross_attn.k_norm.weight", "cross_attn_k_norm.weight", 0},
        {"cross_attn_attn_gate", "cross_attn_attn_gate", 0},
        {"cross_attn_mlp_gate", "cross_attn_mlp_gate", 0},
        {"post_attention_layernorm.weight", "ffn_norm.weight", 0},
        {"mlp.gate_proj.weight", "ffn_gate.weight", 0},
        {"mlp.up_proj.weight", "ffn_up.weight", 0},
        {"mlp.down_proj.weight", "ffn_down.weight", 0},
    };
    const struct pn_hparams *hp = b->hp;
    add_hub(b, HUB_TEXT "embed_tokens.weight", "token_embd.weight", PN_EDIT_NONE, 0);
    add_rope_factors(b);
    for (int32_t i = 0; i < hp->n_layer; i++)
        for (size_t k = 0; k < sizeof leaves / sizeof *leaves; k++) {
            char hub[128], name[128];
            snprintf(hub, sizeof hub, HUB_TEXT "layers.%" PRId32 ".%s", i, leaves[k].hub);
            snprintf(name, sizeof name, "blk.%" PRId32 ".%s", i, leaves[k].gguf);
            add_hub(b, hub, name, leaves[k].heads ? PN_EDIT_ROWS : PN_EDIT_NONE,
                    leaves[k].heads == 1 ? hp->n_head : hp->n_kv_head);
        }
    add_hub(b, HUB_TEXT "norm.weight", "output_norm.weight", PN_EDIT_NONE, 0);
    if (!hp->tied)
        add_hub(b, "language_model.lm_head.weight", "output.weight", PN_EDIT_NONE, 0);
}

static void add_hub_vision(struct planner *b)
{
    static const struct {
        const char *hub, *gguf;
        enum pn_edit edit;
    } top[] = {
        {"class_embedding", "v.class_embd", PN_EDIT_NONE},
        {"patch_embedding.weight", "v.patch_embd.weight", PN_EDIT_NONE},
        {"gated_positional_embedding.embedding", "v.position_embd.weight", PN_EDIT_NONE},
        {"gated_positional_embedding.gate", "v.position_embd.gate", PN_EDIT_ONE_MINUS_TANH},
        {"gated_positional_embedding.gate", "v.tile_position_embd.gate", PN_EDIT_TANH}, /* one gate, two uses */
        {"gated_positional_embedding.tile_embedding.weight", "v.tile_position_embd.weight", PN_EDIT_NONE},
        {"pre_tile_positional_embedding.embedding.weight", "v.pre_tile_position_embd.weight", PN_EDIT_NONE},
        {"pre_tile_positional_embedding.gate", "v.pre_tile_position_embd.gate", PN_EDIT_TANH},
        {"post_tile_positional_embedding.embedding.weight", "v.post_tile_position_embd.weight", PN_EDIT_NONE},
        {"post_tile_positional_embedding.gate", "v.post_tile_position_embd.gate", PN_EDIT_TANH},
        {"layernorm_pre.weight", "v.pre_ln.weight", PN_EDIT_NONE},
        {"layernorm_pre.bias", "v.pre_ln.bias", PN_EDIT_NONE},
        {"layernorm_post.weight", "v.post_ln.weight", PN_EDIT_NONE},
        {"layernorm_post.bias", "v.post_ln.bias", PN_EDIT_NONE},
    }, leaves[] = {
        {"input_layernorm.weight", "attn_norm.weight", PN_EDIT_NONE},
        {"input_layernorm.bias", "attn_norm.bias", PN_EDIT_NONE},
        /* there is no RoPE here: reordering q and k alike changes nothing, and is how Ollama's files are */
        {"self_attn.q_proj.weight", "attn_q.weight", PN_EDIT_ROWS},
        {"self_attn.k_proj.weight", "attn_k.weight", PN_EDIT_ROWS},
        {"self_attn.v_proj.weight", "attn_v.weight", PN_EDIT_NONE},
        {"self_attn.o_proj.weight", "attn_output.weight", PN_EDIT_NONE},
        {"gate_attn", "attn_gate", PN_EDIT_TANH},
        {"post_attention_layernorm.weight", "ffn_norm.weight", PN_EDIT_NONE},
        {"post_attention_layernorm.bias", "ffn_norm.bias", PN_EDIT_NONE},
        {"mlp.fc1.weight", "ffn_up.weight", PN_EDIT_NONE},
        {"mlp.fc1.bias", "ffn_up.bias", PN_EDIT_NONE},
        {"mlp.fc2.weight", "ffn_down.weight", PN_EDIT_NONE},
        {"mlp.fc2.bias", "ffn_down.bias", PN_EDIT_NONE},
        {"gate_ffn", "ffn_gate", PN_EDIT_TANH},
    };
    const struct pn_hparams *hp = b->hp;
    char hub[128], name[128];
    for (size_t k = 0; k < sizeof top / sizeof *top; k++) {
        snprintf(hub, sizeof hub, "vision_model.%s", top[k].hub);
        add_hub(b, hub, top[k].gguf, top[k].edit, 0);
    }
    for (int g = 0; g < 2; g++)
        for (int32_t i = 0; i < (g ? hp->v_global : hp->v_layer); i++)
            for (size_t k = 0; k < sizeof leaves / sizeof *leaves; k++) {
                snprintf(hub, sizeof hub, "vision_model.%s.layers.%" PRId32 ".%s",
                         g ? "global_transformer" : "transformer", i, leaves[k].hub);
                snprintf(name, sizeof name, "v.%sblk.%" PRId32 ".%s", g ? "global." : "", i, leaves[k].gguf);
                add_hub(b, hub, name, leaves[k].edit, hp->v_head);
            }
    add_hub(b, "multi_modal_projector.weight", "mm.0.weight", PN_EDIT_NONE, 0);
    add_hub(b, "multi_modal_projector.bias", "mm.0.bias", PN_EDIT_NONE, 0);
}

/* ---------------------------------------------------------------------------- GGUF files */

/* Old projector files have other names, and those of the MLP's halves the other way round. */
static void combined_name(char *out, size_t size, const char *name)
{
    static const struct {
        const char *split, *combined;
    } leaves[] = {{"ln1.", "attn_norm."}, {"ln2.", "ffn_norm."}, {"attn_out.", "attn_output."},
                  {"ffn_down.", "ffn_up."}, {"ffn_up.", "ffn_down."}};
    int32_t layer;
    const char *leaf = split_layer(name, "v.blk.", &layer);
    if (!leaf)
        leaf = split_layer(name, "v.global.blk.", &layer);
    for (size_t k = 0; leaf && k < sizeof leaves / sizeof *leaves; k++) {
        const size_t n = strlen(leaves[k].split);
        if (strncmp(leaf, leaves[k].split, n) == 0) {
            snprintf(out, size, "%.*s%s%s", (int)(leaf - name), name, leaves[k].combined, leaf + n);
            return;
        }
    }
    snprintf(out, size, "%s", name);
}

static void add_gguf(struct planner *b, const struct pn_gguf *g)
{
    const struct pn_source *src = b->p->src;
    const struct pn_hparams *hp = b->hp;
    for (size_t i = 0; i < g->n_tensors && !b->rc; i++) {
        const struct pn_tensor *t = &g->tensors[i];
        char name[128];
        enum pn_edit edit = PN_EDIT_NONE;
        int32_t heads = 0, layer = 0;
        if (strlen(t->name) >= sizeof name) {
            b->rc = pn_fail(b->err, PUNA_E_UNSUPPORTED, "%s: tensor '%s': no tensor of this family has so long a name",
                            src->path, t->name);
            return;
        }
        if (src->quirks.split_names)
            combined_name(name, sizeof name, t->name);
        else
            snprintf(name, sizeof name, "%s", t->name);
        const char *leaf = split_layer(name, "blk.", &layer);
        if (leaf && hp->vision && !src->quirks.cross_permuted) {
            heads = strcmp(leaf, "cross_attn_q_proj.weight") == 0   ? hp->n_head
                    : strcmp(leaf, "cross_attn_k_proj.weight") == 0 ? hp->n_kv_head : 0;
        }
        const char *global = split_layer(name, "v.global.blk.", &layer);
        const char *tower = global ? global : split_layer(name, "v.blk.", &layer);
        if (global && src->quirks.global_gates_raw &&
            (strcmp(global, "attn_gate") == 0 || strcmp(global, "ffn_gate") == 0))
            edit = PN_EDIT_TANH;
        if (tower && src->quirks.split_names &&
            (strcmp(tower, "attn_q.weight") == 0 || strcmp(tower, "attn_k.weight") == 0))
            heads = hp->v_head;
        add_from(b, name, t, heads ? PN_EDIT_ROWS : edit, heads);
    }
}

/* ---------------------------------------------------------------------------- */

/* What readers of these files take for granted, since no key says it. */
static int check_expressible(const struct pn_source *src, struct puna_error *err)
{
    struct pn_hparams usual;
    pn_hparams_init(&usual);
    const struct pn_hparams *hp = &src->hp;
    if (!hp->vision)
        return hp->n_cross ? pn_fail(err, PUNA_E_UNSUPPORTED, "%s: the text half of a vision model; a GGUF file holds "
                                     "the whole model, or a text model", src->path) : 0;
    usual.v_tiles = hp->v_tiles;
    pn_hparams_ratios(&usual);
    bool same = usual.n_ratio == hp->n_ratio;
    for (int32_t i = 0; same && i < hp->n_ratio; i++)
        same = usual.ratio_h[i] == hp->ratio_h[i] && usual.ratio_w[i] == hp->ratio_w[i];
    if (!same)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s: its list of tile arrangements is not the usual one, which a GGUF "
                       "file cannot say", src->path);
    if (memcmp(usual.mean, hp->mean, sizeof usual.mean) != 0 || memcmp(usual.std, hp->std, sizeof usual.std) != 0)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s: its picture normalisation is not the published models', which a "
                       "GGUF file cannot say", src->path);
    return 0;
}

int pn_plan_make(struct pn_plan *p, const struct pn_source *src, struct puna_error *err)
{
    *p = (struct pn_plan){.src = src, .arena = pn_arena_new()};
    if (!p->arena)
        return pn_fail_memory(err, sizeof *p, "the plan");
    struct planner b = {.p = p, .hp = &src->hp, .err = err, .rc = check_expressible(src, err)};
    if (b.rc == 0 && src->kind == PN_SRC_HUB) {
        add_hub_text(&b);
        if (src->hp.vision)
            add_hub_vision(&b);
    } else if (b.rc == 0) {
        add_gguf(&b, src->gguf);
        if (src->projector)
            add_gguf(&b, src->projector);
    }
    if (b.rc)
        pn_plan_free(p);
    return b.rc;
}

void pn_plan_free(struct pn_plan *p)
{
    free(p->t);
    pn_arena_free(p->arena);
    *p = (struct pn_plan){0};
}

/* ---------------------------------------------------------------------------- values */

/* Row of the source that becomes row r: out[h*hd + 2j + s] = in[h*hd + s*hd/2 + j]. */
static int64_t source_row(const struct pn_out_tensor *t, int64_t r)
{
    if (t->edit != PN_EDIT_ROWS)
        return r;
    const int64_t hd = t->n_rows / t->heads, in_head = r % hd;
    return r - in_head + (in_head & 1) * (hd / 2) + in_head / 2;
}

void pn_plan_values(const struct pn_plan *p, const struct pn_kern *kern, const struct pn_out_tensor *t, int64_t r0,
                    int64_t n_rows, int64_t c0, int64_t n_cols, float *dst)
{
    (void)p;
    if (t->edit == PN_EDIT_MADE) {
        memcpy(dst, t->values + r0 * t->ne[0] + c0, (size_t)(n_rows * n_cols) * sizeof *dst);
        return;
    }
    const size_t stride = pn_row_bytes(t->src->type, t->ne[0]), first = pn_row_bytes(t->src->type, c0);
    for (int64_t r = 0; r < n_rows; r++) {
        const int64_t from = source_row(t, r0 + r);
        kern->dequant[t->src->type](dst + r * n_cols, t->src->data + (size_t)from * stride + first, n_cols);
        pn_lora_add_row(kern, t->lora, from, c0, n_cols, dst + r * n_cols);
    }
    if (t->edit == PN_EDIT_TANH || t->edit == PN_EDIT_ONE_MINUS_TANH)
        for (int64_t i = 0; i < n_rows * n_cols; i++)
            dst[i] = (float)(t->edit == PN_EDIT_TANH ? tanh((double)dst[i]) : 1 - tanh((double)dst[i]));
}

const void *pn_plan_bytes(const struct pn_plan *p, const struct pn_out_tensor *t, int64_t r, int64_t c0)
{
    (void)p;
    if (!t->src || t->lora || t->src->type != t->type || (t->edit != PN_EDIT_NONE && t->edit != PN_EDIT_ROWS))
        return NULL;
    return t->src->data + (size_t)source_row(t, r) * pn_row_bytes(t->type, t->ne[0]) + pn_row_bytes(t->type, c0);
}
