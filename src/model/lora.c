/* SPDX-License-Identifier: Apache-2.0 */
/* Adapters find their weights. The products that come of it are in mm.c. */
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "file/adapter.h"
#include "model/model.h"

/* A weight and the order of its rows: of those in `rows` heads (0: as the hub has them) the two halves alternate. */
struct target {
    struct pn_weight *w;
    int32_t heads;
};

struct name {
    const char *suffix;
    size_t offset;   /* of the pn_weight in its layer */
    enum { ROWS_AS_THEY_ARE, ROWS_OF_Q, ROWS_OF_K } rows;
};

#define NAME(T, field, suffix, rows) {suffix, offsetof(struct T, field), rows}
static const struct name mlp_names[] = {
    NAME(pn_layer, gate, "mlp.gate_proj", ROWS_AS_THEY_ARE),
    NAME(pn_layer, up, "mlp.up_proj", ROWS_AS_THEY_ARE),
    NAME(pn_layer, down, "mlp.down_proj", ROWS_AS_THEY_ARE),
    {NULL, 0, ROWS_AS_THEY_ARE},
};
/* behind "self_attn." or "cross_attn." */
static const struct name attn_names[] = {
    NAME(pn_layer, wq, "q_proj", ROWS_OF_Q),
    NAME(pn_layer, wk, "k_proj", ROWS_OF_K),
    NAME(pn_layer, wv, "v_proj", ROWS_AS_THEY_ARE),
    NAME(pn_layer, wo, "o_proj", ROWS_AS_THEY_ARE),
    {NULL, 0, ROWS_AS_THEY_ARE},
};
static const struct name vision_names[] = {
    NAME(pn_vlayer, wq, "self_attn.q_proj", ROWS_OF_Q),
    NAME(pn_vlayer, wk, "self_attn.k_proj", ROWS_OF_K),
    NAME(pn_vlayer, wv, "self_attn.v_proj", ROWS_AS_THEY_ARE),
    NAME(pn_vlayer, wo, "self_attn.o_proj", ROWS_AS_THEY_ARE),
    NAME(pn_vlayer, fc1, "mlp.fc1", ROWS_AS_THEY_ARE),
    NAME(pn_vlayer, fc2, "mlp.fc2", ROWS_AS_THEY_ARE),
    {NULL, 0, ROWS_AS_THEY_ARE},
};
#undef NAME

/* What stands behind prefix, or NULL. */
static const char *behind(const char *s, const char *prefix)
{
    const size_t n = strlen(prefix);
    return strncmp(s, prefix, n) ? NULL : s + n;
}

/* "12.rest": the number, and where the rest is. NULL: not a number below n as one writes it. */
static const char *layer_number(const char *s, int32_t n, int32_t *i)
{
    int64_t v = 0;
    const char *p = s;
    for (; *p >= '0' && *p <= '9' && v < n; p++)
        v = 10 * v + (*p - '0');
    if (p == s || *p != '.' || v >= n || (s[0] == '0' && p - s > 1))
        return NULL;
    *i = (int32_t)v;
    return p + 1;
}

static struct target among(const struct name *names, const char *suffix, void *layer, bool permuted, int32_t q_heads,
                           int32_t k_heads)
{
    for (; names->suffix; names++)
        if (!strcmp(names->suffix, suffix))
            return (struct target){(struct pn_weight *)(void *)((char *)layer + names->offset),
                                   !permuted || names->rows == ROWS_AS_THEY_ARE ? 0
                                   : names->rows == ROWS_OF_Q                   ? q_heads
                                                                                : k_heads};
    return (struct target){NULL, 0};
}

/* The weight that a module of the hub's first spelling is; w NULL: none, or one that takes no adapter. */
static struct target find_target(struct pn_model *m, const char *module)
{
    const struct pn_hparams *hp = &m->hp;
    const struct pn_quirks *q = &m->src->quirks;
    const char *rest;
    int32_t i;
    if (!strcmp(module, "language_model.lm_head"))
        return (struct target){&m->output, 0};
    if ((rest = behind(module, "language_model.model.layers.")) && (rest = layer_number(rest, hp->n_layer, &i))) {
        struct pn_layer *l = &m->layers[i];
        const char *attn = behind(rest, l->cross ? "cross_attn." : "self_attn.");
        if (!attn)
            return among(mlp_names, rest, l, false, 0, 0);
        return among(attn_names, attn, l, l->cross ? q->cross_permuted : q->rope_inter, hp->n_head, hp->n_kv_head);
    }
    if (!m->vision)
        return (struct target){NULL, 0};
    if (!strcmp(module, "multi_modal_projector"))
        return (struct target){&m->vision->proj, 0};
    for (int s = 0; s < 2; s++) {
        const int32_t n = s ? hp->v_global : hp->v_layer;
        rest = behind(module, s ? "vision_model.global_transformer.layers." : "vision_model.transformer.layers.");
        if (rest && (rest = layer_number(rest, n, &i)))
            /* Ollama's converter permutes every attn_q and attn_k, also where no rotary embedding follows; its older
             * one, for the split form, wrote the tower by itself and did not. */
            return among(vision_names, rest, s ? &m->vision->global[i] : &m->vision->local[i],
                         m->src->kind == PN_SRC_GGUF_COMBINED, hp->v_head, hp->v_head);
    }
    return (struct target){NULL, 0};
}

static struct pn_weight as_weight(const struct pn_tensor *t)
{
    return (struct pn_weight){.data = t->data, .row_bytes = pn_row_bytes(t->type, t->ne[0]), .type = t->type,
                              .n = (int32_t)t->ne[1], .k = (int32_t)t->ne[0]};
}

/* Rows in the order of a GGUF file: out[2j + s] = in[s * hd/2 + j] in every head. */
static int permute_rows(struct pn_weight *w, int32_t heads, struct pn_arena *mem, struct puna_error *err)
{
    const size_t bytes = (size_t)w->n * w->row_bytes;
    const int32_t hd = w->n / heads;
    uint8_t *out = pn_arena_alloc(mem, bytes);
    if (!out)
        return pn_fail_memory(err, bytes, "an adapter");
    for (int32_t r = 0; r < w->n; r++) {
        const int32_t h = r / hd, at = r % hd, from = h * hd + at % 2 * (hd / 2) + at / 2;
        memcpy(out + (size_t)r * w->row_bytes, w->data + (size_t)from * w->row_bytes, w->row_bytes);
    }
    w->data = out;
    return 0;
}

static int attach(struct pn_model *m, const struct pn_adapter *ad, const struct pn_adapter_pair *p,
                  struct puna_error *err)
{
    const struct target to = find_target(m, p->module);
    if (!to.w)
        return pn_fail(err, PUNA_E_FORMAT,
                       "%s: tensor '%s' adapts a layer that %s does not have or that takes no adapter; the adapter is "
                       "for another model", ad->path, p->a->file_name, m->src->path);
    const struct {
        const struct pn_tensor *t;
        int64_t n, k;
    } want[] = {{p->a, p->a->ne[1], to.w->k}, {p->b, to.w->n, p->b->ne[0]}, {p->base, to.w->n, to.w->k}};
    for (int i = 0; i < (p->base ? 3 : 2); i++)
        if (want[i].t->ne[1] != want[i].n || want[i].t->ne[0] != want[i].k)
            return pn_fail(err, PUNA_E_FORMAT,
                           "%s: tensor '%s' has shape [%" PRId64 ", %" PRId64 "], %s asks for [%" PRId64 ", %" PRId64
                           "]; the adapter is for another model",
                           ad->path, want[i].t->file_name, want[i].t->ne[1], want[i].t->ne[0], m->src->path, want[i].n,
                           want[i].k);
    struct pn_lora *l = pn_arena_alloc(m->mem, sizeof *l);
    if (!l)
        return pn_fail_memory(err, sizeof *l, "an adapter");
    l->a = as_weight(p->a);
    l->b = as_weight(p->b);
    l->scale = p->scale;
    const int rc = to.heads ? permute_rows(&l->b, to.heads, m->mem, err) : 0;
    int32_t ranks = l->a.n;
    struct pn_lora **end = &to.w->lora;
    for (; *end; end = &(*end)->next)
        ranks += (*end)->a.n;
    *end = l;
    m->lora_rank = ranks > m->lora_rank ? ranks : m->lora_rank;
    return rc;
}

int pn_model_attach_adapters(struct pn_model *m, struct puna_error *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < m->src->n_adapters; i++) {
        const struct pn_adapter *ad = m->src->adapters[i];
        for (size_t j = 0; !rc && j < ad->n_pairs; j++)
            rc = attach(m, ad, &ad->pairs[j], err);
    }
    return rc;
}

const struct pn_lora *pn_lora_of(struct pn_model *m, const struct pn_tensor *t)
{
    for (size_t i = 0; i < m->src->n_adapters; i++) {
        const struct pn_adapter *ad = m->src->adapters[i];
        for (size_t j = 0; j < ad->n_pairs; j++) {
            const struct pn_weight *w = find_target(m, ad->pairs[j].module).w;
            if (w && w->data == t->data && !(w == &m->output && m->hp.tied))
                return w->lora;
        }
    }
    return NULL;
}

void pn_lora_add_row(const struct pn_kern *k, const struct pn_lora *lora, int64_t row, int64_t col, int64_t n,
                     float *dst)
{
    enum { PART = 512 };
    float part[PART];
    for (const struct pn_lora *l = lora; l; l = l->next)
        for (int32_t i = 0; i < l->a.n; i++) {
            float b;
            pn_weight_row(k, &l->b, row, i, 1, &b);
            for (int64_t c = 0; c < n; c += PART) {
                const int64_t some = n - c < PART ? n - c : PART;
                pn_weight_row(k, &l->a, i, col + c, some, part);
                k->axpy(dst + c, part, l->scale * b, (int32_t)some);
            }
        }
}
