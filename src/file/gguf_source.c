/* SPDX-License-Identifier: Apache-2.0 */
/* A model from GGUF: text only (arch llama), Ollama's combined file (arch mllama with a vision
 * part), or Ollama's older pair of text file and projector. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "file/gguf.h"
#include "file/hparams.h"
#include "file/source_priv.h"

/* Ollama's combined 11B file of 2025-05-15, made before two corrections of its converter. */
static const char early_digest[] =
    "7633fdffe14c0f7acc115402376be5bd6052220c348676c5133dc011b35e2429";

struct reader {
    struct pn_source *src;
    struct pn_gguf *g;  /* where keys are looked up */
    const char *arch;   /* their prefix */
    struct puna_error *err;
    int rc;             /* the first failure; later calls do nothing */
};

/* ---------------------------------------------------------------------------- keys */

struct key {
    char text[128];
};

static struct key key_of(const struct reader *r, const char *suffix)
{
    struct key k;
    (void)snprintf(k.text, sizeof k.text, "%s.%s", r->arch, suffix);
    return k;
}

static void fail_missing(struct reader *r, const char *key)
{
    if (r->rc == 0)
        r->rc = pn_fail(r->err, PUNA_E_FORMAT, "%s: key '%s' is missing", r->g->map->path, key);
}

/* True when present. */
static bool opt_int(struct reader *r, const char *key, int64_t min, int64_t max, int32_t *out)
{
    int64_t v;
    if (r->rc)
        return false;
    const int got = pn_gguf_int(r->g, key, min, max, &v, r->err);
    if (got < 0)
        r->rc = got;
    if (got > 0)
        *out = (int32_t)v;
    return got > 0;
}

static bool opt_float(struct reader *r, const char *key, float *out)
{
    double v;
    if (r->rc)
        return false;
    const int got = pn_gguf_float(r->g, key, &v, r->err);
    if (got < 0)
        r->rc = got;
    if (got > 0)
        *out = (float)v;
    return got > 0;
}

static void need_int(struct reader *r, const char *suffix, int64_t max, int32_t *out)
{
    const struct key k = key_of(r, suffix);
    if (!opt_int(r, k.text, 1, max, out))
        fail_missing(r, k.text);
}

static void need_float(struct reader *r, const char *suffix, float *out)
{
    const struct key k = key_of(r, suffix);
    if (!opt_float(r, k.text, out))
        fail_missing(r, k.text);
}

static bool str_is(struct pn_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.s, text, s.len) == 0;
}

static bool opt_str(struct reader *r, const char *key, struct pn_str *out)
{
    if (r->rc)
        return false;
    const int got = pn_gguf_str(r->g, key, out, r->err);
    if (got < 0)
        r->rc = got;
    return got > 0;
}

/* ---------------------------------------------------------------------------- text */

static void refuse_variants(struct reader *r)
{
    int32_t experts = 0;
    struct key k = key_of(r, "expert_count");
    if (opt_int(r, k.text, 0, INT32_MAX, &experts) && experts > 0)
        r->rc = pn_fail(r->err, PUNA_E_UNSUPPORTED, "%s: a mixture of %" PRId32 " experts is not "
                        "supported", r->g->map->path, experts);
    struct pn_str scaling;
    float factor = 1;
    k = key_of(r, "rope.scaling.factor");
    (void)opt_float(r, k.text, &factor);
    k = key_of(r, "rope.scaling.type");
    if (opt_str(r, k.text, &scaling) && !str_is(scaling, "none") && factor != 1)
        r->rc = pn_fail(r->err, PUNA_E_UNSUPPORTED, "%s: RoPE scaling '%.*s' is not supported",
                        r->g->map->path, (int)(scaling.len < 64 ? scaling.len : 64), scaling.s);
    static const char *const biases[] = { "blk.0.attn_q.bias", "blk.0.ffn_up.bias" };
    for (size_t i = 0; r->rc == 0 && i < sizeof biases / sizeof biases[0]; i++) {
        if (pn_source_find(r->src, biases[i]))
            r->rc = pn_fail(r->err, PUNA_E_UNSUPPORTED, "%s: tensor '%s': text layers with biases "
                            "are not supported", r->g->map->path, biases[i]);
    }
}

static void read_head_dim(struct reader *r, struct pn_hparams *hp)
{
    int32_t rope_dim = 0, value_dim = 0;
    const struct key rope = key_of(r, "rope.dimension_count");
    const struct key key = key_of(r, "attention.key_length");
    const struct key value = key_of(r, "attention.value_length");
    const bool has_rope = opt_int(r, rope.text, 1, PN_MAX_HEAD_DIM, &rope_dim);
    if (!opt_int(r, key.text, 1, PN_MAX_HEAD_DIM, &hp->head_dim) && r->rc == 0) {
        if (!has_rope && hp->d_model % hp->n_head != 0) {
            fail_missing(r, rope.text);
            return;
        }
        hp->head_dim = has_rope ? rope_dim : hp->d_model / hp->n_head;
    }
    const bool has_value = opt_int(r, value.text, 1, PN_MAX_HEAD_DIM, &value_dim);
    if (r->rc == 0 && ((has_rope && rope_dim != hp->head_dim) ||
                       (has_value && value_dim != hp->head_dim)))
        r->rc = pn_fail(r->err, PUNA_E_UNSUPPORTED,
                        "%s: heads of %" PRId32 " with RoPE on %" PRId32 " and values of %" PRId32
                        " are not supported; all three must be equal", r->g->map->path,
                        hp->head_dim, has_rope ? rope_dim : hp->head_dim,
                        has_value ? value_dim : hp->head_dim);
}

/* Rows of a matrix in the file, 0 when it is absent. */
static int32_t rows_of(struct reader *r, const char *name)
{
    const struct pn_tensor *t = pn_source_find(r->src, name);
    if (!t || r->rc)
        return 0;
    if (t->ndim != 2 || t->ne[1] > PN_MAX_VOCAB) {
        r->rc = pn_fail(r->err, PUNA_E_FORMAT, "%s: tensor '%s' is not a matrix of a sane size",
                        r->g->map->path, name);
        return 0;
    }
    return (int32_t)t->ne[1];
}

static void read_text(struct reader *r)
{
    struct pn_hparams *hp = &r->src->hp;
    need_int(r, "block_count", PN_MAX_LAYERS, &hp->n_layer);
    need_int(r, "context_length", PN_MAX_CTX, &hp->n_ctx_train);
    need_int(r, "embedding_length", PN_MAX_WIDTH, &hp->d_model);
    need_int(r, "feed_forward_length", PN_MAX_FF, &hp->d_ff);
    need_int(r, "attention.head_count", PN_MAX_HEADS, &hp->n_head);
    hp->n_kv_head = hp->n_head;
    const struct key kv = key_of(r, "attention.head_count_kv");
    (void)opt_int(r, kv.text, 1, PN_MAX_HEADS, &hp->n_kv_head);
    need_float(r, "attention.layer_norm_rms_epsilon", &hp->rms_eps);
    hp->rope_theta = strcmp(r->arch, "mllama") == 0 ? 500000.0f : 10000.0f;
    const struct key base = key_of(r, "rope.freq_base");
    (void)opt_float(r, base.text, &hp->rope_theta);
    if (r->rc == 0)
        read_head_dim(r, hp);
    refuse_variants(r);

    hp->n_embd_rows = rows_of(r, "token_embd.weight");
    hp->n_vocab = rows_of(r, "output.weight");
    hp->tied = hp->n_vocab == 0;
    if (r->rc == 0 && hp->n_embd_rows == 0)
        r->rc = pn_fail(r->err, PUNA_E_FORMAT, "%s: tensor 'token_embd.weight' is missing; the "
                        "file is no complete model", r->g->map->path);
    if (hp->tied) {
        hp->n_vocab = hp->n_embd_rows;
        const struct key vocab = key_of(r, "vocab_size");
        (void)opt_int(r, vocab.text, 1, hp->n_embd_rows, &hp->n_vocab);
    }
}

static void read_cross_layers(struct reader *r)
{
    struct pn_hparams *hp = &r->src->hp;
    const struct key k = key_of(r, "attention.cross_attention_layers");
    const int32_t *list;
    size_t n;
    if (r->rc)
        return;
    const int got = pn_gguf_i32s(r->g, k.text, &list, &n, r->err);
    if (got == 0)
        fail_missing(r, k.text);
    if (got <= 0) {
        r->rc = r->rc ? r->rc : got;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (list[i] < 0 || list[i] >= hp->n_layer || hp->is_cross[list[i]]) {
            r->rc = pn_fail(r->err, PUNA_E_FORMAT, "%s: key '%s' names layer %" PRId32 ", %s",
                            r->g->map->path, k.text, list[i],
                            list[i] < 0 || list[i] >= hp->n_layer ? "which does not exist"
                                                                  : "twice");
            return;
        }
        hp->is_cross[list[i]] = 1;
        hp->n_cross++;
    }
}

/* ---------------------------------------------------------------------------- vision */

static void read_vision(struct reader *r)
{
    struct pn_hparams *hp = &r->src->hp;
    hp->vision = true;
    hp->v_channels = 3;
    need_int(r, "vision.block_count", PN_MAX_VLAYERS, &hp->v_layer);
    need_int(r, "vision.global.block_count", PN_MAX_VLAYERS, &hp->v_global);
    need_int(r, "vision.embedding_length", PN_MAX_WIDTH, &hp->v_dim);
    need_int(r, "vision.feed_forward_length", PN_MAX_FF, &hp->v_ff);
    need_int(r, "vision.attention.head_count", PN_MAX_HEADS, &hp->v_head);
    need_float(r, "vision.attention.layer_norm_epsilon", &hp->v_eps);
    need_int(r, "vision.image_size", PN_MAX_IMAGE, &hp->v_image);
    need_int(r, "vision.patch_size", PN_MAX_IMAGE, &hp->v_patch);
    need_int(r, "vision.max_num_tiles", PN_MAX_TILES, &hp->v_tiles);
    const struct key channels = key_of(r, "vision.num_channels");
    (void)opt_int(r, channels.text, 3, 3, &hp->v_channels);
    if (r->rc)
        return;
    pn_hparams_ratios(hp); /* the file does not say; all models have the full list */

    const struct key k = key_of(r, "vision.intermediate_layers_indices");
    const int32_t *list;
    size_t n;
    const int got = pn_gguf_i32s(r->g, k.text, &list, &n, r->err);
    if (got < 0) {
        r->rc = got;
    } else if (got == 0) {
        fail_missing(r, k.text);
    } else if (n > PN_MAX_INTER) {
        r->rc = pn_fail(r->err, PUNA_E_FORMAT, "%s: key '%s' has %zu elements; at most %d are "
                        "possible", r->g->map->path, k.text, n, PN_MAX_INTER);
    } else {
        memcpy(hp->v_inter, list, n * sizeof *list);
        hp->n_inter = (int32_t)n;
        pn_hparams_sort_inter(hp);
    }
}

/* A gate that went through tanh is within -1..1. Read from the file, not through the map: a text-only run
 * shall have no vision page mapped in. */
static bool beyond_tanh(const struct pn_source *src, const char *name)
{
    const struct pn_tensor *t = pn_source_find(src, name);
    uint8_t b[4];
    if (!t || t->type != PN_F32 || t->n_bytes < sizeof b ||
        pread(t->map->fd, b, sizeof b, t->data - t->map->data) != sizeof b)
        return false;
    const uint32_t bits = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    float g;
    memcpy(&g, &bits, sizeof g);
    return fabsf(g) > 1;
}

static void find_raw_gates(struct pn_source *src, const char *digest)
{
    bool raw = strcmp(digest, early_digest) == 0 || strstr(src->path, early_digest);
    const bool known = raw;
    for (int32_t i = 0; i < src->hp.v_global && !raw; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "v.global.blk.%" PRId32 ".attn_gate", i);
        raw = beyond_tanh(src, name);
        (void)snprintf(name, sizeof name, "v.global.blk.%" PRId32 ".ffn_gate", i);
        raw = raw || beyond_tanh(src, name);
    }
    if (!raw)
        return;
    src->quirks.global_gates_raw = true;
    pn_source_note(src, "This file comes from an early converter: the gates of its global vision "
                        "layers are raw, tanh is applied on loading.");
    if (known)
        pn_source_note(src, "Whether its cross-attention rows are permuted cannot be told from the "
                            "file; if answers about pictures are poor, pull the model again.");
}

/* ---------------------------------------------------------------------------- tokens */

enum { BOS, END_OF_TEXT, EOM, EOT, IMAGE, N_NAMED };

static void find_named(struct reader *r, int32_t ids[N_NAMED])
{
    static const char *const names[N_NAMED] = { "<|begin_of_text|>", "<|end_of_text|>",
                                                "<|eom_id|>", "<|eot_id|>", "<|image|>" };
    for (int k = 0; k < N_NAMED; k++)
        ids[k] = -1;
    const struct pn_str *tokens;
    size_t n;
    static const char key[] = "tokenizer.ggml.tokens";
    const int got = r->rc ? r->rc : pn_gguf_strs(r->g, key, &tokens, &n, r->err);
    if (got == 0)
        fail_missing(r, key);
    if (got <= 0) {
        r->rc = r->rc ? r->rc : got;
        return;
    }
    if (n > (size_t)r->src->hp.n_embd_rows) {
        r->rc = pn_fail(r->err, PUNA_E_FORMAT, "%s: %zu tokens, but only %" PRId32
                        " rows in the embedding matrix", r->g->map->path, n,
                        r->src->hp.n_embd_rows);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (tokens[i].len < 9 || tokens[i].s[0] != '<')
            continue;
        for (int k = 0; k < N_NAMED; k++) {
            if (str_is(tokens[i], names[k]))
                ids[k] = (int32_t)i;
        }
    }
}

static void read_eos(struct reader *r, const int32_t named[N_NAMED])
{
    static const char *const keys[] = { "tokenizer.ggml.eos_token_id",
                                        "tokenizer.ggml.eot_token_id",
                                        "tokenizer.ggml.eom_token_id" };
    static const char list_key[] = "tokenizer.ggml.eos_token_ids";
    struct pn_hparams *hp = &r->src->hp;
    const int64_t last = (int64_t)hp->n_embd_rows - 1;
    bool fits = true;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        int32_t id;
        if (opt_int(r, keys[i], 0, last, &id))
            fits = fits && pn_hparams_add_eos(hp, id);
    }
    const int32_t *list;
    size_t n;
    const int got = r->rc ? r->rc : pn_gguf_i32s(r->g, list_key, &list, &n, r->err);
    if (got < 0)
        r->rc = got;
    for (size_t i = 0; got > 0 && i < n; i++) {
        if (list[i] < 0 || list[i] > last) {
            r->rc = pn_fail(r->err, PUNA_E_FORMAT, "%s: key '%s' names token %" PRId32
                            ", which does not exist", r->g->map->path, list_key, list[i]);
            return;
        }
        fits = fits && pn_hparams_add_eos(hp, list[i]);
    }
    /* A model that ends turns must stop at every token that does (Meta's list), whatever its
     * converter wrote down. Base models have the tokens, but end only texts. */
    bool chat = pn_gguf_find(r->g, "tokenizer.chat_template") != NULL;
    for (int32_t i = 0; i < hp->n_eos; i++)
        chat = chat || hp->eos[i] == named[EOT];
    if (chat)
        fits = fits && pn_hparams_add_eos(hp, named[END_OF_TEXT]) &&
               pn_hparams_add_eos(hp, named[EOM]) && pn_hparams_add_eos(hp, named[EOT]);
    if (!fits && r->rc == 0)
        r->rc = pn_fail(r->err, PUNA_E_FORMAT, "%s: key '%s' has more than %d tokens",
                        r->g->map->path, list_key, PN_MAX_EOS);
}

static void read_tokens(struct reader *r)
{
    struct pn_hparams *hp = &r->src->hp;
    struct pn_str s;
    if (!opt_str(r, "tokenizer.ggml.model", &s))
        fail_missing(r, "tokenizer.ggml.model");
    else if (!str_is(s, "gpt2"))
        r->rc = pn_fail(r->err, PUNA_E_UNSUPPORTED, "%s: tokenizer '%.*s' is not supported; puna "
                        "reads the byte-level BPE of Llama 3 ('gpt2')", r->g->map->path,
                        (int)(s.len < 64 ? s.len : 64), s.s);
    /* "default": what Ollama's converter writes for a vocabulary it has no fingerprint of. */
    if (!opt_str(r, "tokenizer.ggml.pre", &s) || str_is(s, "default"))
        pn_source_note(r->src, "The file does not name its pre-tokenizer; Llama 3's is used.");
    else if (!str_is(s, "llama-bpe") && !str_is(s, "llama3") && !str_is(s, "llama-v3"))
        r->rc = pn_fail(r->err, PUNA_E_UNSUPPORTED, "%s: pre-tokenizer '%.*s' is not supported; "
                        "Llama 3's ('llama-bpe') is", r->g->map->path,
                        (int)(s.len < 64 ? s.len : 64), s.s);
    int32_t named[N_NAMED];
    find_named(r, named);
    hp->bos = named[BOS];
    hp->image_token = hp->vision ? named[IMAGE] : -1;
    const int64_t last = (int64_t)hp->n_embd_rows - 1;
    (void)opt_int(r, "tokenizer.ggml.bos_token_id", 0, last, &hp->bos);
    (void)opt_int(r, "tokenizer.ggml.padding_token_id", 0, last, &hp->pad);
    read_eos(r, named);
    if (r->rc == 0 && hp->vision && hp->image_token < 0)
        r->rc = pn_fail(r->err, PUNA_E_FORMAT, "%s: the vocabulary has no token '<|image|>'",
                        r->g->map->path);
}

/* ---------------------------------------------------------------------------- files */

static int open_gguf(struct pn_source *src, struct pn_gguf **out, const char *path,
                     struct puna_error *err)
{
    const struct pn_map *map;
    const int rc = pn_source_add_map(src, &map, path, err);
    return rc == 0 ? pn_gguf_open(out, map, err) : rc;
}

static int arch_of(const struct pn_gguf *g, struct pn_str *arch, struct puna_error *err)
{
    const int got = pn_gguf_str(g, "general.architecture", arch, err);
    return got == 0 ? pn_fail(err, PUNA_E_FORMAT, "%s: key 'general.architecture' is missing",
                              g->map->path)
                    : got;
}

/* kind, and the projector opened when there is one. */
static int open_files(struct pn_source *src, const char *projector, struct puna_error *err)
{
    int rc = open_gguf(src, &src->gguf, src->path, err);
    struct pn_str arch;
    if (rc == 0)
        rc = arch_of(src->gguf, &arch, err);
    if (rc < 0)
        return rc;
    const bool vision = pn_gguf_find(src->gguf, "mllama.vision.block_count") != NULL;
    if (str_is(arch, "llama")) {
        src->kind = PN_SRC_GGUF_TEXT;
    } else if (!str_is(arch, "mllama")) {
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s: architecture '%.*s' is not supported; puna "
                       "runs mllama (Llama 3.2 Vision) and llama (Llama 3)", src->path,
                       (int)(arch.len < 64 ? arch.len : 64), arch.s);
    } else if (vision && !pn_gguf_find(src->gguf, "mllama.block_count")) {
        return pn_fail(err, PUNA_E_ARG, "%s: this is the projector (vision) half of a model; pass "
                       "the text file as the model and this one as its projector", src->path);
    } else {
        src->kind = vision ? PN_SRC_GGUF_COMBINED : PN_SRC_GGUF_SPLIT;
    }
    if (src->kind != PN_SRC_GGUF_SPLIT)
        return projector ? pn_fail(err, PUNA_E_ARG, "%s: %s; leave the projector out", src->path,
                                   vision ? "the file has its vision part inside"
                                          : "a text-only model takes no projector")
                         : 0;
    if (!projector)
        return pn_fail(err, PUNA_E_ARG, "%s: the text half of Llama 3.2 Vision; pass its other "
                       "half, the projector .gguf, as well (--projector FILE)", src->path);
    rc = open_gguf(src, &src->projector, projector, err);
    if (rc == 0)
        rc = arch_of(src->projector, &arch, err);
    if (rc < 0)
        return rc;
    if (!str_is(arch, "mllama") || !pn_gguf_find(src->projector, "mllama.vision.block_count"))
        return pn_fail(err, PUNA_E_FORMAT, "%s: not the projector of Llama 3.2 Vision", projector);
    return 0;
}

static int collect_tensors(struct pn_source *src, struct puna_error *err)
{
    const struct pn_gguf *files[] = { src->gguf, src->projector };
    const size_t n = src->gguf->n_tensors + (src->projector ? src->projector->n_tensors : 0);
    src->tensors = pn_calloc_array(n, sizeof *src->tensors);
    if (!src->tensors)
        return pn_fail_memory(err, n * sizeof *src->tensors, "the tensor table");
    for (size_t i = 0; i < 2; i++) {
        if (!files[i] || files[i]->n_tensors == 0)
            continue;
        memcpy(src->tensors + src->n_tensors, files[i]->tensors,
               files[i]->n_tensors * sizeof *src->tensors);
        src->n_tensors += files[i]->n_tensors;
    }
    return pn_source_index(src, err);
}

static int read_params(struct pn_source *src, const char *path, struct puna_error *err)
{
    char *data;
    size_t len;
    int rc = pn_read_file(&data, &len, path, (size_t)1 << 20, err);
    if (rc == 0)
        rc = pn_store_params(&src->hp, data, len, path, err);
    free(data);
    return rc;
}

int pn_source_open_gguf(struct pn_source *src, const char *projector,
                        const struct pn_store_model *stored, const struct pn_source_opts *opts,
                        struct puna_error *err)
{
    pn_hparams_init(&src->hp);
    int rc = open_files(src, projector, err);
    if (rc == 0)
        rc = collect_tensors(src, err);
    if (rc != 0)
        return rc;

    const bool vision = src->kind != PN_SRC_GGUF_TEXT;
    src->quirks = (struct pn_quirks){
        .rope_inter = true,
        .vision_gates_tanh = vision,
        .cross_permuted = vision && opts->cross_permuted != 0,
        .split_names = src->kind == PN_SRC_GGUF_SPLIT,
    };
    struct reader r = { .src = src, .g = src->gguf, .err = err,
                        .arch = vision ? "mllama" : "llama" };
    read_text(&r);
    if (vision) {
        read_cross_layers(&r);
        r.g = src->projector ? src->projector : src->gguf;
        read_vision(&r);
        r.g = src->gguf;
    }
    read_tokens(&r);
    if (r.rc == 0 && stored && stored->params)
        r.rc = read_params(src, stored->params, err);
    if (r.rc == 0)
        r.rc = pn_hparams_check(&src->hp, src->path, err);
    if (r.rc == 0 && vision)
        find_raw_gates(src, stored ? stored->digest : "");
    return r.rc;
}
