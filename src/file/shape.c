/* SPDX-License-Identifier: Apache-2.0 */
#include "file/shape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/mem.h"
#include "file/hparams.h"
#include "file/source_priv.h"

static const struct pn_shape shapes[] = {
    { "11b", true, 40, 4096, 32, 8, 128, 14336, false, 8, 560 },
    { "11b-base", true, 40, 4096, 32, 8, 128, 14336, false, 8, 448 },
    { "90b", true, 100, 8192, 64, 8, 128, 28672, false, 8, 560 },
    { "8b", false, 32, 4096, 32, 8, 128, 14336, false, 8, 0 },
    { "3b", false, 28, 3072, 24, 8, 128, 8192, true, 32, 0 },
    { "1b", false, 16, 2048, 32, 8, 64, 8192, true, 32, 0 },
};

enum { VOCAB = 128256, MOST_VALUES = 8192 };

static const uint8_t zeros[2 * MOST_VALUES]; /* BF16 */

const struct pn_shape *pn_shape_find(const char *name)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (strcasecmp(name, shapes[i].name) == 0)
            return &shapes[i];
    }
    return NULL;
}

const char *pn_shape_name(size_t i)
{
    return i < sizeof shapes / sizeof shapes[0] ? shapes[i].name : NULL;
}

static void set_hparams(struct pn_hparams *hp, const struct pn_shape *s)
{
    static const int32_t inter[] = { 3, 7, 15, 23, 30 };
    pn_hparams_init(hp);
    hp->bos = 128000;
    hp->eos[hp->n_eos++] = 128009;
    hp->n_layer = s->layers;
    hp->d_model = s->d;
    hp->n_head = s->heads;
    hp->n_kv_head = s->kv;
    hp->head_dim = s->hd;
    hp->d_ff = s->ff;
    hp->n_vocab = VOCAB;
    hp->n_embd_rows = s->vision ? VOCAB + 8 : VOCAB;
    hp->n_ctx_train = 131072;
    hp->rms_eps = 1e-5f;
    hp->rope_theta = 500000;
    hp->rope_scaled = true;
    hp->rope_factor = s->rope_factor;
    hp->rope_low = 1;
    hp->rope_high = 4;
    hp->rope_orig_ctx = 8192;
    hp->tied = s->tied;
    hp->vision = s->vision;
    if (!s->vision)
        return;
    for (int32_t i = 3; i < s->layers; i += 5) {
        hp->is_cross[i] = 1;
        hp->n_cross++;
    }
    hp->image_token = VOCAB;
    hp->v_image = s->image;
    hp->v_patch = 14;
    hp->v_channels = 3;
    hp->v_dim = 1280;
    hp->v_head = 16;
    hp->v_ff = 5120;
    hp->v_layer = 32;
    hp->v_global = 8;
    hp->v_tiles = 4;
    hp->v_eps = 1e-5f;
    hp->n_inter = sizeof inter / sizeof inter[0];
    memcpy(hp->v_inter, inter, sizeof inter);
    pn_hparams_ratios(hp);
}

/* ---------------------------------------------------------------------------- tensors */

struct builder {
    struct pn_source *src;
    size_t cap;
    bool failed;
};

/* [n][k]; k 0: a vector. prefix and layer make "prefix.LAYER.leaf"; layer -1: "prefix" "leaf". */
static void add(struct builder *b, const char *prefix, int32_t layer, const char *leaf, int64_t n, int64_t k)
{
    struct pn_source *src = b->src;
    char name[128];
    if (b->failed || src->n_tensors == b->cap) {
        b->failed = true;
        return;
    }
    if (layer >= 0)
        snprintf(name, sizeof name, "%s.%d.%s", prefix, (int)layer, leaf);
    else
        snprintf(name, sizeof name, "%s%s", prefix, leaf);
    struct pn_tensor *t = &src->tensors[src->n_tensors++];
    *t = (struct pn_tensor){ .type = PN_BF16, .ndim = k ? 2 : 1, .ne = { k ? k : n, k ? n : 1, 1, 1 }, .data = zeros,
                             .n_bytes = (size_t)n * (size_t)(k ? k : 1) * 2 };
    t->name = t->file_name = pn_arena_strndup(((struct pn_source_own *)src->own)->arena, name, strlen(name));
    b->failed = !t->name;
}

static void add_text(struct builder *b, const struct pn_hparams *hp)
{
    static const char layers[] = "language_model.model.layers";
    const int64_t d = hp->d_model, dq = (int64_t)hp->n_head * hp->head_dim, dkv = (int64_t)hp->n_kv_head * hp->head_dim;
    add(b, "language_model.model.embed_tokens.weight", -1, "", hp->n_embd_rows, d);
    add(b, "language_model.model.norm.weight", -1, "", d, 0);
    if (!hp->tied)
        add(b, "language_model.lm_head.weight", -1, "", hp->n_vocab, d);
    for (int32_t i = 0; i < hp->n_layer; i++) {
        char attn[48];
        snprintf(attn, sizeof attn, "%s.%d.%s_attn.", layers, (int)i, hp->is_cross[i] ? "cross" : "self");
        add(b, attn, -1, "q_proj.weight", dq, d);
        add(b, attn, -1, "k_proj.weight", dkv, d);
        add(b, attn, -1, "v_proj.weight", dkv, d);
        add(b, attn, -1, "o_proj.weight", d, dq);
        if (hp->is_cross[i]) {
            add(b, attn, -1, "q_norm.weight", hp->head_dim, 0);
            add(b, attn, -1, "k_norm.weight", hp->head_dim, 0);
            add(b, layers, i, "cross_attn_attn_gate", 1, 0);
            add(b, layers, i, "cross_attn_mlp_gate", 1, 0);
        }
        add(b, layers, i, "input_layernorm.weight", d, 0);
        add(b, layers, i, "post_attention_layernorm.weight", d, 0);
        add(b, layers, i, "mlp.gate_proj.weight", hp->d_ff, d);
        add(b, layers, i, "mlp.up_proj.weight", hp->d_ff, d);
        add(b, layers, i, "mlp.down_proj.weight", d, hp->d_ff);
    }
}

static void add_vision_layers(struct builder *b, const char *prefix, int32_t n, bool global,
                              const struct pn_hparams *hp)
{
    static const char *const square[] = { "self_attn.q_proj.weight", "self_attn.k_proj.weight",
                                          "self_attn.v_proj.weight", "self_attn.o_proj.weight" };
    static const char *const vectors[] = { "input_layernorm.weight", "input_layernorm.bias", "mlp.fc2.bias",
                                           "post_attention_layernorm.weight", "post_attention_layernorm.bias" };
    for (int32_t i = 0; i < n; i++) {
        for (size_t k = 0; k < sizeof square / sizeof square[0]; k++)
            add(b, prefix, i, square[k], hp->v_dim, hp->v_dim);
        for (size_t k = 0; k < sizeof vectors / sizeof vectors[0]; k++)
            add(b, prefix, i, vectors[k], hp->v_dim, 0);
        add(b, prefix, i, "mlp.fc1.weight", hp->v_ff, hp->v_dim);
        add(b, prefix, i, "mlp.fc1.bias", hp->v_ff, 0);
        add(b, prefix, i, "mlp.fc2.weight", hp->v_dim, hp->v_ff);
        if (global) {
            add(b, prefix, i, "gate_attn", 1, 0);
            add(b, prefix, i, "gate_ffn", 1, 0);
        }
    }
}

static void add_vision(struct builder *b, const struct pn_hparams *hp)
{
    static const char vm[] = "vision_model.";
    const int64_t d = hp->v_dim, grid = hp->v_image / hp->v_patch, pos = grid * grid + 1;
    add(b, vm, -1, "class_embedding", d, 0);
    add(b, vm, -1, "patch_embedding.weight", d, (int64_t)hp->v_channels * hp->v_patch * hp->v_patch);
    add(b, vm, -1, "layernorm_pre.weight", d, 0);
    add(b, vm, -1, "layernorm_pre.bias", d, 0);
    add(b, vm, -1, "layernorm_post.weight", d, 0);
    add(b, vm, -1, "layernorm_post.bias", d, 0);
    add(b, vm, -1, "gated_positional_embedding.embedding", pos, d);
    add(b, vm, -1, "gated_positional_embedding.gate", 1, 0);
    add(b, vm, -1, "gated_positional_embedding.tile_embedding.weight", hp->n_ratio + 1, hp->v_tiles * pos * d);
    add(b, vm, -1, "pre_tile_positional_embedding.embedding.weight", hp->n_ratio + 1, hp->v_tiles * d);
    add(b, vm, -1, "pre_tile_positional_embedding.gate", 1, 0);
    add(b, vm, -1, "post_tile_positional_embedding.embedding.weight", hp->n_ratio + 1, hp->v_tiles * d);
    add(b, vm, -1, "post_tile_positional_embedding.gate", 1, 0);
    add_vision_layers(b, "vision_model.transformer.layers", hp->v_layer, false, hp);
    add_vision_layers(b, "vision_model.global_transformer.layers", hp->v_global, true, hp);
    add(b, "multi_modal_projector.weight", -1, "", hp->d_model, d * (1 + hp->n_inter));
    add(b, "multi_modal_projector.bias", -1, "", hp->d_model, 0);
}

int pn_source_of_shape(struct pn_source **out, const struct pn_shape *shape, struct puna_error *err)
{
    *out = NULL;
    struct pn_source *src = calloc(1, sizeof *src);
    struct pn_source_own *own = calloc(1, sizeof *own);
    struct builder b = { .src = src, .cap = 2048 };
    if (src && own) {
        src->own = own;
        own->arena = pn_arena_new();
        src->name = strdup(shape->name);
        src->path = strdup(shape->name);
        src->tensors = pn_calloc_array(b.cap, sizeof *src->tensors);
    }
    if (!src || !own || !own->arena || !src->name || !src->path || !src->tensors) {
        if (src && own)
            pn_source_close(&src);
        else
            free(own);
        free(src);
        return pn_fail_memory(err, b.cap * sizeof *src->tensors, "a model's shape");
    }
    src->kind = PN_SRC_HUB;
    src->quirks.hub_names = true;
    set_hparams(&src->hp, shape);
    add_text(&b, &src->hp);
    if (shape->vision)
        add_vision(&b, &src->hp);
    int rc = b.failed ? pn_fail_memory(err, b.cap * sizeof *src->tensors, "a model's shape")
                      : pn_source_index(src, err);
    if (rc == 0)
        rc = pn_hparams_check(&src->hp, shape->name, err);
    if (rc != 0)
        pn_source_close(&src);
    *out = src;
    return rc;
}
