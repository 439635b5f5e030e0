/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of the file. A GGUF source's are taken over; a hub directory's are made from its configuration, under the
 * names and in the units of Ollama's (vision) and llama.cpp's (text) converters. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/mem.h"
#include "convert/convert.h"
#include "text/vocab_list.h"

#define MAX_TOKENIZER ((size_t)256 << 20)
#define MAX_CONFIG ((size_t)64 << 20)

struct header {
    struct pn_gguf_head *h;
    const struct pn_source *src;
    const char *arch;
    struct puna_error *err;
};

struct key {
    char text[96];
};

static struct key of_arch(const struct header *x, const char *suffix)
{
    struct key k;
    snprintf(k.text, sizeof k.text, "%s.%s", x->arch, suffix);
    return k;
}

static void put_int(const struct header *x, const char *suffix, int32_t v)
{
    const struct key k = of_arch(x, suffix);
    pn_gguf_put_u32(x->h, k.text, (uint32_t)v);
}

static void put_float(const struct header *x, const char *suffix, float v)
{
    const struct key k = of_arch(x, suffix);
    pn_gguf_put_f32(x->h, k.text, v);
}

static void put_text_keys(const struct header *x)
{
    const struct pn_hparams *hp = &x->src->hp;
    put_int(x, "block_count", hp->n_layer);
    put_int(x, "context_length", hp->n_ctx_train);
    put_int(x, "embedding_length", hp->d_model);
    put_int(x, "feed_forward_length", hp->d_ff);
    put_int(x, "attention.head_count", hp->n_head);
    put_int(x, "attention.head_count_kv", hp->n_kv_head);
    put_float(x, "attention.layer_norm_rms_epsilon", hp->rms_eps);
    if (hp->head_dim * hp->n_head != hp->d_model) {
        put_int(x, "attention.key_length", hp->head_dim);
        put_int(x, "attention.value_length", hp->head_dim);
    }
    put_int(x, "rope.dimension_count", hp->head_dim);
    put_float(x, "rope.freq_base", hp->rope_theta);
    put_int(x, "vocab_size", hp->n_vocab);
}

static void put_vision_keys(const struct header *x)
{
    const struct pn_hparams *hp = &x->src->hp;
    int32_t cross[PN_MAX_LAYERS], n = 0;
    for (int32_t i = 0; i < hp->n_layer; i++)
        if (hp->is_cross[i])
            cross[n++] = i;
    const struct key layers = of_arch(x, "attention.cross_attention_layers");
    pn_gguf_put_i32s(x->h, layers.text, cross, (size_t)n);
    put_int(x, "vision.block_count", hp->v_layer);
    put_int(x, "vision.global.block_count", hp->v_global);
    const struct key inter = of_arch(x, "vision.intermediate_layers_indices");
    pn_gguf_put_i32s(x->h, inter.text, hp->v_inter, (size_t)hp->n_inter);
    put_int(x, "vision.embedding_length", hp->v_dim);
    put_int(x, "vision.feed_forward_length", hp->v_ff);
    put_int(x, "vision.attention.head_count", hp->v_head);
    put_float(x, "vision.attention.layer_norm_epsilon", hp->v_eps);
    put_int(x, "vision.image_size", hp->v_image);
    put_int(x, "vision.patch_size", hp->v_patch);
    put_int(x, "vision.max_num_tiles", hp->v_tiles);
    put_int(x, "vision.num_channels", hp->v_channels);
}

/* ---------------------------------------------------------------------------- tokenizer */

/* A small file of the directory; *data NULL when there is none. */
static int read_beside(const struct header *x, const char *file, char **data, size_t *len)
{
    struct pn_buf path = {0};
    *data = NULL;
    *len = 0;
    if (!pn_buf_printf(&path, "%s/%s", x->src->path, file))
        return pn_fail_memory(x->err, strlen(file), "a path");
    int rc = pn_read_file(data, len, path.data, MAX_CONFIG, x->err);
    pn_buf_free(&path);
    return rc == PUNA_E_NOT_FOUND ? 0 : rc;
}

/* chat_template: a string, or a list of named ones, of which "default" is meant. */
static const json_t *template_in(const json_t *config)
{
    const json_t *t = json_object_get(config, "chat_template"), *one;
    size_t i;
    if (!json_is_array(t))
        return json_is_string(t) ? t : NULL;
    json_array_foreach(t, i, one)
    {
        const char *name = json_string_value(json_object_get(one, "name"));
        if (name && strcmp(name, "default") == 0)
            return json_object_get(one, "template");
    }
    return NULL;
}

/* Directories keep it in one of three places. */
static int put_chat_template(const struct header *x)
{
    static const char *const files[] = {"tokenizer_config.json", "chat_template.json", "chat_template.jinja"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *data;
        size_t len;
        const int rc = read_beside(x, files[i], &data, &len);
        if (rc)
            return rc;
        if (!data)
            continue;
        /* Numbers beyond int64_t occur in tokenizer_config.json */
        json_t *config = i < 2 ? json_loadb(data, len, JSON_DECODE_INT_AS_REAL, NULL) : NULL;
        const json_t *t = template_in(config);
        const bool found = json_is_string(t) || i == 2;
        if (found)
            pn_gguf_put_str(x->h, "tokenizer.chat_template", i == 2 ? data : json_string_value(t),
                            i == 2 ? len : json_string_length(t));
        json_decref(config);
        free(data);
        if (found)
            return 0;
    }
    return 0;
}

static void put_special_ids(const struct header *x, const struct pn_vocab_list *l)
{
    static const char eot[] = "<|eot_id|>";
    const struct pn_hparams *hp = &x->src->hp;
    if (hp->bos >= 0)
        pn_gguf_put_u32(x->h, "tokenizer.ggml.bos_token_id", (uint32_t)hp->bos);
    /* Readers that know a single end token must get the one that ends a turn. */
    int32_t eos = hp->n_eos > 0 ? hp->eos[0] : -1;
    for (int32_t i = 0; i < hp->n_eos; i++) {
        const struct pn_str s = (size_t)hp->eos[i] < l->n ? l->pieces[hp->eos[i]] : (struct pn_str){"", 0};
        if (s.len == sizeof eot - 1 && memcmp(s.s, eot, s.len) == 0)
            eos = hp->eos[i];
    }
    if (eos >= 0) {
        pn_gguf_put_u32(x->h, "tokenizer.ggml.eos_token_id", (uint32_t)eos);
        pn_gguf_put_i32s(x->h, "tokenizer.ggml.eos_token_ids", hp->eos, (size_t)hp->n_eos);
    }
    if (hp->pad >= 0)
        pn_gguf_put_u32(x->h, "tokenizer.ggml.padding_token_id", (uint32_t)hp->pad);
}

static int put_tokenizer(const struct header *x)
{
    char *json;
    size_t len;
    int rc = pn_read_file(&json, &len, x->src->tokenizer_json, MAX_TOKENIZER, x->err);
    if (rc)
        return rc;
    struct pn_vocab_list l;
    rc = pn_vocab_list_read(&l, json, len, x->src->tokenizer_json, x->err);
    free(json);
    if (rc)
        return rc;
    /* More tokens than rows would make a file that no reader takes; there are none in real models. */
    if (l.n > (size_t)x->src->hp.n_embd_rows)
        rc = pn_fail(x->err, PUNA_E_FORMAT, "%s: %zu tokens, but only %d rows in the embedding matrix",
                     x->src->tokenizer_json, l.n, (int)x->src->hp.n_embd_rows);
    pn_gguf_put_str(x->h, "tokenizer.ggml.model", "gpt2", 4);
    pn_gguf_put_str(x->h, "tokenizer.ggml.pre", "llama-bpe", 9);
    pn_gguf_put_strs(x->h, "tokenizer.ggml.tokens", l.pieces, l.n);
    pn_gguf_put_i32s(x->h, "tokenizer.ggml.token_type", l.types, l.n);
    pn_gguf_put_strs(x->h, "tokenizer.ggml.merges", l.merges, l.n_merges);
    put_special_ids(x, &l);
    pn_gguf_put_bool(x->h, "tokenizer.ggml.add_bos_token", true);
    pn_vocab_list_free(&l);
    return rc ? rc : put_chat_template(x);
}

/* ---------------------------------------------------------------------------- */

static int make_keys(const struct header *x)
{
    pn_gguf_put_str(x->h, "general.architecture", x->arch, strlen(x->arch));
    put_text_keys(x);
    if (x->src->hp.vision)
        put_vision_keys(x);
    return put_tokenizer(x);
}

/* Keys that describe the file rather than the model are written anew. */
static bool is_own(const char *key)
{
    return strcmp(key, "general.file_type") == 0 || strcmp(key, "general.quantization_version") == 0 ||
           strcmp(key, "general.alignment") == 0 || strncmp(key, "quantize.", 9) == 0 ||
           strncmp(key, "split.", 6) == 0;
}

static void copy_keys(const struct header *x)
{
    const struct pn_gguf *g = x->src->gguf, *v = x->src->projector;
    for (size_t i = 0; i < g->n_kv; i++)
        if (!is_own(g->kv[i].key))
            pn_gguf_put_copy(x->h, &g->kv[i]);
    static const char prefix[] = "mllama.vision.";
    for (size_t i = 0; v && i < v->n_kv; i++)
        if (strncmp(v->kv[i].key, prefix, sizeof prefix - 1) == 0 && !pn_gguf_find(g, v->kv[i].key) &&
            strcmp(v->kv[i].key, "mllama.vision.projection_dim") != 0)
            pn_gguf_put_copy(x->h, &v->kv[i]);
    if (v && !pn_gguf_find(v, "mllama.vision.num_channels"))
        pn_gguf_put_u32(x->h, "mllama.vision.num_channels", (uint32_t)x->src->hp.v_channels);
}

int pn_header_make(struct pn_gguf_head *h, struct pn_plan *p, uint32_t file_type, struct puna_error *err)
{
    const struct header x = {h, p->src, p->src->hp.vision ? "mllama" : "llama", err};
    int rc = 0;
    if (p->src->kind == PN_SRC_HUB)
        rc = make_keys(&x);
    else
        copy_keys(&x);
    pn_gguf_put_u32(h, "general.file_type", file_type);
    pn_gguf_put_u32(h, "general.quantization_version", 2);
    for (size_t i = 0; i < p->n; i++) {
        struct pn_out_tensor *t = &p->t[i];
        t->offset = pn_gguf_put_tensor(h, t->name, t->type, t->ndim, t->ne, t->n_bytes);
    }
    if (rc == 0 && (h->kv.failed || h->table.failed))
        rc = pn_fail_memory(err, h->kv.len, "the header");
    return rc;
}
