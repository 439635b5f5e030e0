/* SPDX-License-Identifier: Apache-2.0 */
#include "file/hub_json.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "file/hparams.h"
#include "file/json.h"

#define MAX_ID (PN_MAX_VOCAB - 1)
#define MAX_SHARDS 4096

static bool is_name(const char *s, const char *name)
{
    return s && strcmp(s, name) == 0;
}

/* ---------------------------------------------------------------------------- config.json */

/* llama3 is the only scaling there is code for; "default" means none. */
static void read_rope_scaling(struct pn_json *j, const json_t *o, struct pn_hparams *hp)
{
    const char *type = "default";
    if (!pn_json_str(j, o, "rope_type", &type))
        (void)pn_json_str(j, o, "type", &type);
    if (j->rc || is_name(type, "default"))
        return;
    if (!is_name(type, "llama3")) {
        j->rc = pn_fail(j->err, PUNA_E_UNSUPPORTED,
                        "%s: RoPE scaling '%s' is not supported; 'llama3' and 'default' are",
                        j->label, type);
        return;
    }
    hp->rope_scaled = true;
    const bool complete =
        pn_json_float(j, o, "factor", 0, 1e6, &hp->rope_factor) &&
        pn_json_float(j, o, "low_freq_factor", 0, 1e6, &hp->rope_low) &&
        pn_json_float(j, o, "high_freq_factor", 0, 1e6, &hp->rope_high) &&
        pn_json_int(j, o, "original_max_position_embeddings", 1, PN_MAX_CTX, &hp->rope_orig_ctx);
    if (j->rc == 0 && !complete)
        j->rc = pn_fail(j->err, PUNA_E_FORMAT,
                        "%s: the llama3 RoPE scaling needs factor, low_freq_factor, "
                        "high_freq_factor and original_max_position_embeddings", j->label);
}

static void read_rope(struct pn_json *j, const json_t *o, struct pn_hparams *hp)
{
    (void)pn_json_float(j, o, "rope_theta", 0, 1e15, &hp->rope_theta);
    /* Transformers 5 writes rope_parameters, older versions rope_theta and rope_scaling. */
    const json_t *params = pn_json_object(j, o, "rope_parameters");
    if (params)
        (void)pn_json_float(j, params, "rope_theta", 0, 1e15, &hp->rope_theta);
    else
        params = pn_json_object(j, o, "rope_scaling");
    if (params)
        read_rope_scaling(j, params, hp);
    float partial = 1;
    if (pn_json_float(j, o, "partial_rotary_factor", 0, 1, &partial) && partial < 1)
        j->rc = pn_fail(j->err, PUNA_E_UNSUPPORTED,
                        "%s: RoPE on a part of each head is not supported", j->label);
}

static void refuse_flag(struct pn_json *j, const json_t *o, const char *key)
{
    bool on = false;
    if (pn_json_bool(j, o, key, &on) && on)
        j->rc = pn_fail(j->err, PUNA_E_UNSUPPORTED, "%s: '%s' is not supported", j->label, key);
}

static void need_act(struct pn_json *j, const json_t *o, const char *need)
{
    const char *act = need;
    if (pn_json_str(j, o, "hidden_act", &act) && strcmp(act, need) != 0)
        j->rc = pn_fail(j->err, PUNA_E_UNSUPPORTED,
                        "%s: activation '%s' is not supported; '%s' is", j->label, act, need);
}

/* The text half. The caller has set the defaults of its class. */
static void read_text(struct pn_json *j, const json_t *o, struct pn_hparams *hp)
{
    (void)pn_json_int(j, o, "vocab_size", 1, PN_MAX_VOCAB, &hp->n_vocab);
    (void)pn_json_int(j, o, "hidden_size", 1, PN_MAX_WIDTH, &hp->d_model);
    (void)pn_json_int(j, o, "num_hidden_layers", 1, PN_MAX_LAYERS, &hp->n_layer);
    (void)pn_json_int(j, o, "num_attention_heads", 1, PN_MAX_HEADS, &hp->n_head);
    if (!pn_json_int(j, o, "num_key_value_heads", 1, PN_MAX_HEADS, &hp->n_kv_head) &&
        hp->n_kv_head == 0)
        hp->n_kv_head = hp->n_head;
    (void)pn_json_int(j, o, "intermediate_size", 1, PN_MAX_FF, &hp->d_ff);
    (void)pn_json_int(j, o, "max_position_embeddings", 1, PN_MAX_CTX, &hp->n_ctx_train);
    (void)pn_json_float(j, o, "rms_norm_eps", 0, 1, &hp->rms_eps);
    read_rope(j, o, hp);
    need_act(j, o, "silu");
    refuse_flag(j, o, "attention_bias");
    refuse_flag(j, o, "mlp_bias");
    (void)pn_json_bool(j, o, "tie_word_embeddings", &hp->tied);
    (void)pn_json_int(j, o, "bos_token_id", -1, MAX_ID, &hp->bos);
    (void)pn_json_int(j, o, "pad_token_id", -1, MAX_ID, &hp->pad);
    (void)pn_json_ints(j, o, "eos_token_id", 0, MAX_ID, true, hp->eos, PN_MAX_EOS, &hp->n_eos);
    if (j->rc)
        return;
    if (!pn_json_int(j, o, "head_dim", 1, PN_MAX_HEAD_DIM, &hp->head_dim) && j->rc == 0) {
        if (hp->d_model % hp->n_head != 0)
            j->rc = pn_fail(j->err, PUNA_E_FORMAT, "%s: hidden_size %" PRId32 " is not a multiple "
                            "of num_attention_heads %" PRId32 ", and head_dim is not given",
                            j->label, hp->d_model, hp->n_head);
        hp->head_dim = hp->d_model / hp->n_head;
    }
}

static void read_cross_layers(struct pn_json *j, const json_t *o, struct pn_hparams *hp)
{
    int32_t list[PN_MAX_LAYERS], n = 0;
    if (!pn_json_ints(j, o, "cross_attention_layers", 0, (int64_t)hp->n_layer - 1, false, list,
                      PN_MAX_LAYERS, &n)) {
        for (int32_t i = 3; i <= 38 && i < hp->n_layer; i += 5)
            list[n++] = i;
    }
    if (j->rc)
        return;
    for (int32_t i = 0; i < n; i++) {
        if (hp->is_cross[list[i]]) {
            j->rc = pn_fail(j->err, PUNA_E_FORMAT,
                            "%s: 'cross_attention_layers' names layer %" PRId32 " twice", j->label,
                            list[i]);
            return;
        }
        hp->is_cross[list[i]] = 1;
    }
    hp->n_cross = n;
}

static void read_ratios(struct pn_json *j, const json_t *o, struct pn_hparams *hp)
{
    const json_t *list = json_object_get(o, "supported_aspect_ratios");
    if (j->rc)
        return;
    if (!list || json_is_null(list)) {
        pn_hparams_ratios(hp);
        return;
    }
    if (!json_is_array(list) || json_array_size(list) > PN_MAX_RATIOS) {
        j->rc = pn_fail(j->err, PUNA_E_FORMAT,
                        "%s: 'supported_aspect_ratios' must be a list of at most %d pairs",
                        j->label, PN_MAX_RATIOS);
        return;
    }
    hp->n_ratio = (int32_t)json_array_size(list);
    for (int32_t i = 0; i < hp->n_ratio; i++) {
        const json_t *pair = json_array_get(list, (size_t)i);
        const json_t *h = json_array_get(pair, 0), *w = json_array_get(pair, 1);
        if (json_array_size(pair) != 2 || !json_is_integer(h) || !json_is_integer(w) ||
            json_integer_value(h) < 1 || json_integer_value(h) > PN_MAX_TILES ||
            json_integer_value(w) < 1 || json_integer_value(w) > PN_MAX_TILES) {
            j->rc = pn_fail(j->err, PUNA_E_FORMAT,
                            "%s: 'supported_aspect_ratios' must hold pairs of 1 to %d", j->label,
                            PN_MAX_TILES);
            return;
        }
        hp->ratio_h[i] = (int32_t)json_integer_value(h);
        hp->ratio_w[i] = (int32_t)json_integer_value(w);
    }
}

static void read_vision(struct pn_json *j, const json_t *o, struct pn_hparams *hp)
{
    static const int32_t inter[] = { 3, 7, 15, 23, 30 };
    hp->v_dim = 1280;
    hp->v_layer = 32;
    hp->v_global = 8;
    hp->v_head = 16;
    hp->v_channels = 3;
    hp->v_ff = 5120;
    hp->v_image = 448;
    hp->v_patch = 14;
    hp->v_tiles = 4;
    hp->v_eps = 1e-5f;
    memcpy(hp->v_inter, inter, sizeof inter);
    hp->n_inter = 5;
    (void)pn_json_int(j, o, "hidden_size", 1, PN_MAX_WIDTH, &hp->v_dim);
    (void)pn_json_int(j, o, "num_hidden_layers", 1, PN_MAX_VLAYERS, &hp->v_layer);
    (void)pn_json_int(j, o, "num_global_layers", 1, PN_MAX_VLAYERS, &hp->v_global);
    if (!pn_json_int(j, o, "attention_heads", 1, PN_MAX_HEADS, &hp->v_head))
        (void)pn_json_int(j, o, "num_attention_heads", 1, PN_MAX_HEADS, &hp->v_head);
    (void)pn_json_int(j, o, "num_channels", 1, 3, &hp->v_channels);
    (void)pn_json_int(j, o, "intermediate_size", 1, PN_MAX_FF, &hp->v_ff);
    (void)pn_json_int(j, o, "image_size", 1, PN_MAX_IMAGE, &hp->v_image);
    (void)pn_json_int(j, o, "patch_size", 1, PN_MAX_IMAGE, &hp->v_patch);
    (void)pn_json_int(j, o, "max_num_tiles", 1, PN_MAX_TILES, &hp->v_tiles);
    (void)pn_json_float(j, o, "norm_eps", 0, 1, &hp->v_eps);
    (void)pn_json_ints(j, o, "intermediate_layers_indices", 0, (int64_t)hp->v_layer - 1, false,
                       hp->v_inter, PN_MAX_INTER, &hp->n_inter);
    pn_hparams_sort_inter(hp);
    read_ratios(j, o, hp);
    need_act(j, o, "gelu");
    int32_t out_dim = 0;
    const int64_t expect = (int64_t)hp->v_dim * (1 + hp->n_inter);
    if (pn_json_int(j, o, "vision_output_dim", 1, INT32_MAX, &out_dim) && out_dim != expect)
        j->rc = pn_fail(j->err, PUNA_E_FORMAT,
                        "%s: 'vision_output_dim' is %" PRId32 ", but hidden_size times (1 + the "
                        "number of intermediate layers) is %" PRId64, j->label, out_dim, expect);
}

/* MllamaTextConfig's and LlamaConfig's own defaults. */
static void text_defaults(struct pn_hparams *hp, bool mllama)
{
    hp->n_vocab = mllama ? 128256 : 32000;
    hp->d_model = 4096;
    hp->n_layer = mllama ? 40 : 32;
    hp->n_head = 32;
    hp->n_kv_head = mllama ? 8 : 0; /* 0: as many as heads */
    hp->d_ff = mllama ? 14336 : 11008;
    hp->n_ctx_train = mllama ? 131072 : 2048;
    hp->rms_eps = mllama ? 1e-5f : 1e-6f;
    hp->rope_theta = mllama ? 500000.0f : 10000.0f;
    hp->bos = mllama ? 128000 : 1;
    hp->eos[0] = mllama ? 128001 : 2;
    hp->n_eos = 1;
    hp->pad = mllama ? 128004 : -1;
}

static void read_mllama(struct pn_json *j, const json_t *root, struct pn_hparams *hp)
{
    const json_t *text = pn_json_object(j, root, "text_config");
    const json_t *vision = pn_json_object(j, root, "vision_config");
    if (j->rc)
        return;
    if (!text || !vision) {
        j->rc = pn_fail(j->err, PUNA_E_FORMAT, "%s: '%s' is missing", j->label,
                        text ? "vision_config" : "text_config");
        return;
    }
    hp->vision = true;
    hp->image_token = 128256;
    (void)pn_json_bool(j, root, "tie_word_embeddings", &hp->tied);
    read_text(j, text, hp);
    read_cross_layers(j, text, hp);
    read_vision(j, vision, hp);
    if (!pn_json_int(j, root, "image_token_index", 0, MAX_ID, &hp->image_token))
        (void)pn_json_int(j, root, "image_token_id", 0, MAX_ID, &hp->image_token);
}

int pn_hub_config(struct pn_hparams *hp, const char *json, size_t len, const char *label,
                  struct puna_error *err)
{
    struct pn_json j = { .label = label, .err = err, .huge_ok = true };
    json_t *root = pn_json_parse(&j, json, len);
    const char *type = NULL;
    (void)pn_json_str(&j, root, "model_type", &type);
    if (j.rc == 0 && pn_json_object(&j, root, "quantization_config"))
        j.rc = pn_fail(err, PUNA_E_UNSUPPORTED, "%s: 'quantization_config': quantised hub models "
                       "are not supported; take the original or a GGUF file", label);
    if (j.rc == 0 && !type) {
        j.rc = pn_fail(err, PUNA_E_FORMAT, "%s: 'model_type' is missing; is this the config of a "
                       "model?", label);
    } else if (is_name(type, "mllama")) {
        text_defaults(hp, true);
        read_mllama(&j, root, hp);
    } else if (is_name(type, "mllama_text_model")) {
        text_defaults(hp, true);
        read_text(&j, root, hp);
        read_cross_layers(&j, root, hp);
    } else if (is_name(type, "llama")) {
        text_defaults(hp, false);
        read_text(&j, root, hp);
    } else if (j.rc == 0) {
        j.rc = pn_fail(err, PUNA_E_UNSUPPORTED, "%s: model_type '%s' is not supported; puna runs "
                       "mllama (Llama 3.2 Vision) and llama (Llama 3)", label, type);
    }
    json_decref(root);
    return j.rc;
}

/* ------------------------------------------------------------------- generation_config.json */

int pn_hub_generation(struct pn_hparams *hp, const char *json, size_t len, const char *label,
                      struct puna_error *err)
{
    struct pn_json j = { .label = label, .err = err, .huge_ok = true };
    json_t *root = pn_json_parse(&j, json, len);
    /* What the file leaves out has the defaults of the class that reads it elsewhere. */
    hp->do_sample = false;
    hp->temperature = 1;
    hp->top_p = 1;
    hp->top_k = 50;
    (void)pn_json_bool(&j, root, "do_sample", &hp->do_sample);
    (void)pn_json_float(&j, root, "temperature", 0, 100, &hp->temperature);
    (void)pn_json_float(&j, root, "top_p", 0, 1, &hp->top_p);
    (void)pn_json_int(&j, root, "top_k", 0, PN_MAX_VOCAB, &hp->top_k);
    (void)pn_json_int(&j, root, "bos_token_id", -1, MAX_ID, &hp->bos);
    (void)pn_json_int(&j, root, "pad_token_id", -1, MAX_ID, &hp->pad);
    (void)pn_json_ints(&j, root, "eos_token_id", 0, MAX_ID, true, hp->eos, PN_MAX_EOS,
                       &hp->n_eos);
    json_decref(root);
    return j.rc;
}

/* ----------------------------------------------------------------- preprocessor_config.json */

static void read_triple(struct pn_json *j, const json_t *o, const char *key, float out[3])
{
    const json_t *list = json_object_get(o, key);
    if (j->rc || !list || json_is_null(list))
        return;
    for (size_t i = 0; i < 3; i++) {
        const json_t *v = json_array_get(list, i);
        if (json_array_size(list) != 3 || !json_is_number(v)) {
            j->rc = pn_fail(j->err, PUNA_E_FORMAT, "%s: '%s' must be a list of 3 numbers", j->label,
                            key);
            return;
        }
        out[i] = (float)fmin(fmax(json_number_value(v), -1e30), 1e30);
    }
}

static void need_true(struct pn_json *j, const json_t *o, const char *key)
{
    bool on = true;
    if (pn_json_bool(j, o, key, &on) && !on)
        j->rc = pn_fail(j->err, PUNA_E_UNSUPPORTED, "%s: '%s': false is not supported", j->label,
                        key);
}

int pn_hub_preprocessor(struct pn_hparams *hp, const char *json, size_t len, const char *label,
                        struct puna_error *err)
{
    struct pn_json j = { .label = label, .err = err, .huge_ok = true };
    json_t *root = pn_json_parse(&j, json, len);
    const json_t *o = root;
    const json_t *inner = pn_json_object(&j, root, "image_processor");
    if (inner)
        o = inner;
    for (int i = 0; i < 3; i++)
        hp->mean[i] = hp->std[i] = 0.5f; /* the class's defaults */
    read_triple(&j, o, "image_mean", hp->mean);
    read_triple(&j, o, "image_std", hp->std);
    need_true(&j, o, "do_resize");
    need_true(&j, o, "do_rescale");
    need_true(&j, o, "do_normalize");
    need_true(&j, o, "do_pad");
    int32_t resample = 2, tiles = hp->v_tiles, h = hp->v_image, w = hp->v_image;
    (void)pn_json_int(&j, o, "resample", 0, 5, &resample);
    (void)pn_json_int(&j, o, "max_image_tiles", 1, PN_MAX_TILES, &tiles);
    float rescale = 1 / 255.0f;
    (void)pn_json_float(&j, o, "rescale_factor", 0, 1, &rescale);
    const json_t *size = pn_json_object(&j, o, "size");
    if (size) {
        (void)pn_json_int(&j, size, "height", 1, PN_MAX_IMAGE, &h);
        (void)pn_json_int(&j, size, "width", 1, PN_MAX_IMAGE, &w);
    }
    if (j.rc == 0 && resample != 2)
        j.rc = pn_fail(err, PUNA_E_UNSUPPORTED, "%s: 'resample' is %" PRId32 "; only 2 (bilinear) "
                       "is supported", label, resample);
    if (j.rc == 0 && rescale != 1 / 255.0f)
        j.rc = pn_fail(err, PUNA_E_UNSUPPORTED, "%s: 'rescale_factor' is %g; only 1/255 is "
                       "supported", label, (double)rescale);
    if (j.rc == 0 && (h != hp->v_image || w != hp->v_image || tiles != hp->v_tiles))
        j.rc = pn_fail(err, PUNA_E_FORMAT, "%s: %" PRId32 " tiles of %" PRId32 "x%" PRId32
                       " pixels do not match config.json: %" PRId32 " tiles of %" PRId32
                       "x%" PRId32, label, tiles, w, h, hp->v_tiles, hp->v_image, hp->v_image);
    json_decref(root);
    return j.rc;
}

/* -------------------------------------------------------------------- tokenizer_config.json */

/* Id of a special token, or -1. "added_tokens_decoder": {"128009": {"content": "<|eot_id|>"}} */
static int32_t added_token(const json_t *added, const char *name)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)added, key, value) {
        if (!is_name(json_string_value(json_object_get(value, "content")), name))
            continue;
        char *end;
        const long id = strtol(key, &end, 10);
        return *key && *end == 0 && id >= 0 && id <= MAX_ID ? (int32_t)id : -1;
    }
    return -1;
}

int pn_hub_tokens(struct pn_hparams *hp, const char *json, size_t len, const char *label,
                  struct puna_error *err)
{
    static const char *const ends[] = { "<|end_of_text|>", "<|eom_id|>", "<|eot_id|>" };
    struct pn_json j = { .label = label, .err = err, .huge_ok = true };
    json_t *root = pn_json_parse(&j, json, len);
    const json_t *added = pn_json_object(&j, root, "added_tokens_decoder");
    if (added) {
        /* Base models have these tokens too, but never end a turn; a chat model has a template, or
         * names the end of a turn among its end tokens. */
        bool chat = json_object_get(root, "chat_template") != NULL;
        const int32_t eot = added_token(added, "<|eot_id|>");
        for (int32_t i = 0; i < hp->n_eos; i++)
            chat = chat || hp->eos[i] == eot;
        for (size_t i = 0; chat && i < sizeof ends / sizeof ends[0]; i++)
            (void)pn_hparams_add_eos(hp, added_token(added, ends[i]));
    }
    json_decref(root);
    return j.rc;
}

/* ------------------------------------------------------------- model.safetensors.index.json */

static bool plain_file_name(const char *s)
{
    const size_t n = strlen(s);
    if (n == 0 || n > 255 || s[0] == '.')
        return false;
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)s[i];
        if (c < 0x20 || c == 0x7f || c == '/' || c == '\\')
            return false;
    }
    return true;
}

static int fill_index(struct pn_hub_index *x, const json_t *map, struct pn_json *j,
                      struct pn_map_str *shard_ids)
{
    const size_t n = json_object_size(map);
    x->entries = pn_arena_alloc(x->arena, n * sizeof *x->entries);
    x->shards = pn_arena_alloc(x->arena, MAX_SHARDS * sizeof *x->shards);
    x->by_name = pn_map_str_new(n);
    if (!x->entries || !x->shards || !x->by_name)
        return pn_fail_memory(j->err, n * sizeof *x->entries, j->label);
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, value) {
        const char *shard = json_string_value(value);
        if (!shard || !plain_file_name(shard))
            return pn_fail(j->err, PUNA_E_FORMAT,
                           "%s: tensor '%s' is said to be in '%s', which is not the plain name of "
                           "a file in this directory", j->label, tensor, shard ? shard : "");
        int64_t id = pn_map_str_get(shard_ids, shard, strlen(shard));
        if (id < 0) {
            if (x->n_shards == MAX_SHARDS)
                return pn_fail(j->err, PUNA_E_FORMAT, "%s: more than %d shards", j->label,
                               MAX_SHARDS);
            id = (int64_t)x->n_shards;
            char *copy = pn_arena_strndup(x->arena, shard, strlen(shard));
            if (!copy || pn_map_str_put(shard_ids, copy, strlen(copy), (uint32_t)id) < 0)
                return pn_fail_memory(j->err, strlen(shard), j->label);
            x->shards[x->n_shards++] = copy;
        }
        char *name = pn_arena_strndup(x->arena, tensor, strlen(tensor));
        if (!name ||
            pn_map_str_put(x->by_name, name, strlen(name), (uint32_t)x->n_entries) < 0)
            return pn_fail_memory(j->err, strlen(tensor), j->label);
        x->entries[x->n_entries++] = (struct pn_hub_entry){ name, (uint32_t)id };
    }
    return 0;
}

int pn_hub_index(struct pn_hub_index **out, const char *json, size_t len, const char *label,
                 struct puna_error *err)
{
    *out = NULL;
    struct pn_json j = { .label = label, .err = err, .huge_ok = true };
    struct pn_hub_index *x = calloc(1, sizeof *x);
    struct pn_map_str *shard_ids = pn_map_str_new(16);
    if (!x || !shard_ids || !(x->arena = pn_arena_new())) {
        pn_map_str_free(shard_ids);
        free(x);
        return pn_fail_memory(err, sizeof *x, label);
    }
    json_t *root = pn_json_parse(&j, json, len);
    const json_t *map = pn_json_object(&j, root, "weight_map");
    if (j.rc == 0 && json_object_size(map) == 0)
        j.rc = pn_fail(err, PUNA_E_FORMAT, "%s: 'weight_map' is missing or empty", label);
    if (j.rc == 0)
        j.rc = fill_index(x, map, &j, shard_ids);
    json_decref(root);
    pn_map_str_free(shard_ids);
    if (j.rc != 0)
        pn_hub_index_free(&x);
    *out = x;
    return j.rc;
}

void pn_hub_index_free(struct pn_hub_index **xp)
{
    struct pn_hub_index *x = *xp;
    if (!x)
        return;
    pn_map_str_free(x->by_name);
    pn_arena_free(x->arena);
    free(x);
    *xp = NULL;
}
