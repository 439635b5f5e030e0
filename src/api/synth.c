/* SPDX-License-Identifier: Apache-2.0 */
/* Random models of real shapes, in the layout people have on disk: Ollama's combined GGUF for the vision models,
 * llama.cpp's for text. Values are drawn so that activations stay in range; a tensor is filled from a small pool
 * of quantised blocks, so that a 7.8 GB file is limited by the disk. The vocabulary is made up (real token ids
 * and sizes, invented pieces). */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/api.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/outfile.h"
#include "file/gguf_write.h"
#include "file/shape.h"
#include "quant/quantize.h"

/* base: most matrices; more: attn_v and ffn_down of the layers picked by more_bits(); out: the output matrix;
 * vision: the encoder's. The full mix rules belong to quantize; this is what the published files have. */
struct mix {
    const char *name;
    enum pn_type base, more, out;
};
static const struct mix mixes[] = {
    {"F32", PN_F32, PN_F32, PN_F32},        {"F16", PN_F16, PN_F16, PN_F16},
    {"BF16", PN_BF16, PN_BF16, PN_BF16},    {"Q8_0", PN_Q8_0, PN_Q8_0, PN_Q8_0},
    {"Q6_K", PN_Q6_K, PN_Q6_K, PN_Q6_K},    {"Q5_K_M", PN_Q5_K, PN_Q6_K, PN_Q6_K},
    {"Q5_K_S", PN_Q5_K, PN_Q5_K, PN_Q6_K},  {"Q4_K_M", PN_Q4_K, PN_Q6_K, PN_Q6_K},
    {"Q4_K_S", PN_Q4_K, PN_Q4_K, PN_Q6_K},  {"Q3_K_M", PN_Q3_K, PN_Q4_K, PN_Q6_K},
    {"Q2_K", PN_Q2_K, PN_Q3_K, PN_Q6_K},    {"Q4_0", PN_Q4_0, PN_Q4_0, PN_Q6_K},
    {"Q4_1", PN_Q4_1, PN_Q4_1, PN_Q6_K},    {"Q5_0", PN_Q5_0, PN_Q5_0, PN_Q6_K},
    {"Q5_1", PN_Q5_1, PN_Q5_1, PN_Q6_K},    {"IQ4_NL", PN_IQ4_NL, PN_IQ4_NL, PN_Q6_K},
    {"IQ4_XS", PN_IQ4_XS, PN_IQ4_XS, PN_Q6_K},
};

/* What a tensor is filled with. */
enum fill { FILL_RANDOM, FILL_ONE, FILL_ZERO, FILL_GATE, FILL_TABLE, FILL_ROPE };

struct entry {
    char name[64];
    enum pn_type type;
    int ndim;
    int64_t ne[4];
    enum fill fill;
    int32_t per_tile; /* FILL_TABLE: values per tile */
    size_t bytes;
};

struct synth {
    const struct pn_shape *sh;
    const struct mix *mix;
    int32_t layers, n_cross, cross[64];
    struct entry *e;
    size_t n, cap;
    struct pn_gguf_head head;
    uint64_t rng;
    bool failed;
};

enum { VOCAB = 128256, PIECES = 128000, IMAGE_ID = 128256 };
enum { V_DIM = 1280, V_FF = 5120, V_HEADS = 16, V_LAYERS = 32, V_GLOBAL = 8, V_TILES = 4, V_RATIOS = 8, V_PATCH = 14,
       V_INTER = 5 };
static const int32_t inter[V_INTER] = {3, 7, 15, 23, 30};
static const int32_t ratio_tiles[V_RATIOS + 1] = {0, 1, 2, 3, 4, 2, 4, 3, 4};

static uint64_t next(uint64_t *s) /* xorshift64* */
{
    *s ^= *s >> 12;
    *s ^= *s << 25;
    *s ^= *s >> 27;
    return *s * 0x2545f4914f6cdd1du;
}

static float gauss(uint64_t *s)
{
    float sum = 0; /* of four uniforms: near enough, and the tails end at 3.5 sigma */
    for (int i = 0; i < 4; i++)
        sum += (float)(next(s) >> 40) * 0x1p-24f - 0.5f;
    return sum * 1.7320508f;
}

/* llama.cpp's rule for which layers get the better type in the _M mixes. */
static bool more_bits(int32_t i, int32_t n)
{
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

/* ------------------------------------------------------------------------- header */

static void put_str(struct pn_gguf_head *h, const char *k, const char *v)
{
    pn_gguf_put_str(h, k, v, strlen(v));
}

/* GPT-2's printable spelling of a byte, as UTF-8. */
static size_t spell(char *out, int byte)
{
    int cp = byte;
    if (!((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174))) {
        cp = 256;
        for (int b = 0; b < byte; b++)
            cp += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174));
    }
    if (cp < 128) {
        out[0] = (char)cp;
        return 1;
    }
    out[0] = (char)(0xc0 | cp >> 6);
    out[1] = (char)(0x80 | (cp & 63));
    return 2;
}

/* 256 bytes, all pairs of lower-case letters, then words of four letters made of two pairs. */
static size_t piece(char *out, int32_t id)
{
    if (id < 256)
        return spell(out, id);
    id -= 256;
    if (id < 676) {
        out[0] = (char)('a' + id / 26);
        out[1] = (char)('a' + id % 26);
        return 2;
    }
    id -= 676;
    const int32_t a = id / 676, b = id % 676;
    out[0] = (char)('a' + a / 26);
    out[1] = (char)('a' + a % 26);
    out[2] = (char)('a' + b / 26);
    out[3] = (char)('a' + b % 26);
    return 4;
}

static size_t special(char *out, size_t size, int32_t id)
{
    static const char *const names[] = {"<|begin_of_text|>", "<|end_of_text|>", NULL, NULL,
                                        "<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>",
                                        "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"};
    const int32_t i = id - PIECES;
    if (id == IMAGE_ID)
        return (size_t)snprintf(out, size, "<|image|>");
    if (i < 11 && names[i])
        return (size_t)snprintf(out, size, "%s", names[i]);
    return (size_t)snprintf(out, size, "<|reserved_special_token_%d|>", i < 11 ? i - 2 : i - 9);
}

static void vocabulary(struct synth *s)
{
    struct pn_gguf_head *h = &s->head;
    const int32_t n = VOCAB + (s->sh->vision ? 1 : 0);
    enum { PIECE = 40 }; /* bytes of the longest, a special token's name */
    struct pn_str *v = calloc((size_t)n, sizeof *v);
    int32_t *types = calloc((size_t)n, sizeof *types);
    char *text = calloc((size_t)n, PIECE);
    s->failed |= !v || !types || !text;
    for (int32_t i = 0; !s->failed && i < n; i++) {
        char *p = text + (size_t)i * PIECE;
        v[i] = (struct pn_str){p, i < PIECES ? piece(p, i) : special(p, PIECE, i)};
        types[i] = i < PIECES ? 1 : 3;
    }
    put_str(h, "tokenizer.ggml.model", "gpt2");
    put_str(h, "tokenizer.ggml.pre", "llama-bpe");
    if (!s->failed) {
        pn_gguf_put_strs(h, "tokenizer.ggml.tokens", v, (size_t)n);
        pn_gguf_put_i32s(h, "tokenizer.ggml.token_type", types, (size_t)n);
        for (int32_t i = 256; i < PIECES; i++) {
            char *p = text + (size_t)i * PIECE;
            const size_t half = v[i].len / 2;
            memmove(p + half + 1, p + half, v[i].len++ - half);
            p[half] = ' ';
        }
        pn_gguf_put_strs(h, "tokenizer.ggml.merges", v + 256, PIECES - 256);
    }
    free(v);
    free(types);
    free(text);
    pn_gguf_put_u32(h, "tokenizer.ggml.bos_token_id", PIECES);
    pn_gguf_put_u32(h, "tokenizer.ggml.eos_token_id", PIECES + 9);
    static const int32_t eos[] = {PIECES + 1, PIECES + 8, PIECES + 9};
    pn_gguf_put_i32s(h, "tokenizer.ggml.eos_token_ids", eos, 3);
    pn_gguf_put_u32(h, "tokenizer.ggml.padding_token_id", PIECES + 4);
}

static void header(struct synth *s)
{
    const struct pn_shape *sh = s->sh;
    const char *arch = sh->vision ? "mllama" : "llama";
    struct pn_gguf_head *h = &s->head;
    char k[96];
#define K(suffix) (snprintf(k, sizeof k, "%s." suffix, arch), k)
    put_str(h, "general.architecture", arch);
    put_str(h, "general.name", "puna synthetic model");
    pn_gguf_put_u32(h, "general.quantization_version", 2);
    pn_gguf_put_u32(h, K("block_count"), (uint32_t)s->layers);
    pn_gguf_put_u32(h, K("context_length"), 131072);
    pn_gguf_put_u32(h, K("embedding_length"), (uint32_t)sh->d);
    pn_gguf_put_u32(h, K("feed_forward_length"), (uint32_t)sh->ff);
    pn_gguf_put_u32(h, K("attention.head_count"), (uint32_t)sh->heads);
    pn_gguf_put_u32(h, K("attention.head_count_kv"), (uint32_t)sh->kv);
    pn_gguf_put_f32(h, K("attention.layer_norm_rms_epsilon"), 1e-5f);
    pn_gguf_put_u32(h, K("rope.dimension_count"), (uint32_t)sh->hd);
    pn_gguf_put_f32(h, K("rope.freq_base"), 500000.0f);
    pn_gguf_put_u32(h, K("vocab_size"), VOCAB);
    if (sh->vision) {
        pn_gguf_put_i32s(h, K("attention.cross_attention_layers"), s->cross, (size_t)s->n_cross);
        pn_gguf_put_u32(h, K("vision.block_count"), V_LAYERS);
        pn_gguf_put_u32(h, K("vision.global.block_count"), V_GLOBAL);
        pn_gguf_put_i32s(h, K("vision.intermediate_layers_indices"), inter, V_INTER);
        pn_gguf_put_u32(h, K("vision.embedding_length"), V_DIM);
        pn_gguf_put_u32(h, K("vision.feed_forward_length"), V_FF);
        pn_gguf_put_u32(h, K("vision.attention.head_count"), V_HEADS);
        pn_gguf_put_f32(h, K("vision.attention.layer_norm_epsilon"), 1e-5f);
        pn_gguf_put_u32(h, K("vision.image_size"), (uint32_t)sh->image);
        pn_gguf_put_u32(h, K("vision.patch_size"), V_PATCH);
        pn_gguf_put_u32(h, K("vision.max_num_tiles"), V_TILES);
        pn_gguf_put_u32(h, K("vision.num_channels"), 3);
    }
#undef K
    vocabulary(s);
}

/* ------------------------------------------------------------------------- tensors */

static struct entry *add(struct synth *s, enum pn_type type, enum fill fill, int ndim, int64_t n0, int64_t n1,
                         const char *fmt, int i)
{
    if (s->n == s->cap) {
        const size_t cap = s->cap ? 2 * s->cap : 1024;
        struct entry *e = realloc(s->e, cap * sizeof *e);
        if (!e) {
            s->failed = true;
            return NULL;
        }
        s->e = e;
        s->cap = cap;
    }
    struct entry *e = &s->e[s->n++];
    const struct pn_type_info *ti = pn_type_info(type);
    if (n0 % ti->block_elems)
        type = PN_F16; /* as quantisers do with rows their blocks do not divide */
    *e = (struct entry){.type = type, .ndim = ndim, .ne = {n0, n1, 1, 1}, .fill = fill};
    /* the patterns are this file's own: a prefix, at most one number, a suffix */
    const char *pct = strstr(fmt, "%d");
    if (pct)
        snprintf(e->name, sizeof e->name, "%.*s%d%s", (int)(pct - fmt), fmt, i, pct + 2);
    else
        snprintf(e->name, sizeof e->name, "%s", fmt);
    return e;
}

static void text_tensors(struct synth *s)
{
    const struct pn_shape *sh = s->sh;
    const struct mix *x = s->mix;
    const int64_t d = sh->d, dq = (int64_t)sh->heads * sh->hd, dkv = (int64_t)sh->kv * sh->hd, ff = sh->ff;
    /* attn_v counts over text and vision, as in the published combined file */
    const int32_t n_v = s->layers - s->n_cross + (sh->vision ? V_LAYERS + V_GLOBAL : 0);
    int32_t self = 0, c = 0;
    add(s, x->base, FILL_RANDOM, 2, d, VOCAB + (sh->vision ? 8 : 0), "token_embd.weight", 0);
    for (int32_t i = 0; i < s->layers; i++) {
        const bool cross = c < s->n_cross && s->cross[c] == i;
        add(s, PN_F32, FILL_ONE, 1, d, 1, "blk.%d.attn_norm.weight", i);
        add(s, PN_F32, FILL_ONE, 1, d, 1, "blk.%d.ffn_norm.weight", i);
        if (cross) {
            c++;
            add(s, x->base, FILL_RANDOM, 2, d, dq, "blk.%d.cross_attn_q_proj.weight", i);
            add(s, x->base, FILL_RANDOM, 2, d, dkv, "blk.%d.cross_attn_k_proj.weight", i);
            add(s, x->base, FILL_RANDOM, 2, d, dkv, "blk.%d.cross_attn_v_proj.weight", i);
            add(s, x->base, FILL_RANDOM, 2, dq, d, "blk.%d.cross_attn_o_proj.weight", i);
            add(s, PN_F32, FILL_ONE, 1, sh->hd, 1, "blk.%d.cross_attn_q_norm.weight", i);
            add(s, PN_F32, FILL_ONE, 1, sh->hd, 1, "blk.%d.cross_attn_k_norm.weight", i);
            add(s, PN_F32, FILL_GATE, 1, 1, 1, "blk.%d.cross_attn_attn_gate", i);
            add(s, PN_F32, FILL_GATE, 1, 1, 1, "blk.%d.cross_attn_mlp_gate", i);
        } else {
            add(s, x->base, FILL_RANDOM, 2, d, dq, "blk.%d.attn_q.weight", i);
            add(s, x->base, FILL_RANDOM, 2, d, dkv, "blk.%d.attn_k.weight", i);
            add(s, more_bits(self, n_v) ? x->more : x->base, FILL_RANDOM, 2, d, dkv, "blk.%d.attn_v.weight", i);
            add(s, x->base, FILL_RANDOM, 2, dq, d, "blk.%d.attn_output.weight", i);
            self++;
        }
        add(s, x->base, FILL_RANDOM, 2, d, ff, "blk.%d.ffn_gate.weight", i);
        add(s, x->base, FILL_RANDOM, 2, d, ff, "blk.%d.ffn_up.weight", i);
        add(s, more_bits(i, s->layers) ? x->more : x->base, FILL_RANDOM, 2, ff, d, "blk.%d.ffn_down.weight", i);
    }
    add(s, PN_F32, FILL_ONE, 1, d, 1, "output_norm.weight", 0);
    if (!sh->tied)
        add(s, x->out, FILL_RANDOM, 2, d, VOCAB, "output.weight", 0);
    add(s, PN_F32, FILL_ROPE, 1, sh->hd / 2, 1, "rope_freqs.weight", 0);
}

/* Position of i among 0..n-1 written as decimal and sorted as text: the published file's counter ran that way. */
static int32_t text_rank(int32_t i, int32_t n)
{
    char a[16], b[16];
    int32_t rank = 0;
    snprintf(a, sizeof a, "%d.", i);
    for (int32_t j = 0; j < n; j++) {
        snprintf(b, sizeof b, "%d.", j);
        rank += strcmp(b, a) < 0;
    }
    return rank;
}

static void vision_tensors(struct synth *s)
{
    const int64_t d = V_DIM, ff = V_FF, grid = s->sh->image / V_PATCH, P = grid * grid + 1;
    const enum pn_type big = s->mix->base == PN_F32 || s->mix->base == PN_BF16 ? s->mix->base : PN_F16;
    const bool k_quant = s->mix->more != s->mix->base;
    const int32_t self = s->layers - s->n_cross, n_v = self + V_LAYERS + V_GLOBAL;
    add(s, PN_F32, FILL_RANDOM, 1, d, 1, "v.class_embd", 0);
    struct entry *e = add(s, big, FILL_RANDOM, 4, V_PATCH, V_PATCH, "v.patch_embd.weight", 0);
    if (e) {
        e->ne[2] = 3;
        e->ne[3] = d;
    }
    add(s, big, FILL_RANDOM, 2, d, P, "v.position_embd.weight", 0);
    add(s, PN_F32, FILL_GATE, 1, 1, 1, "v.position_embd.gate", 0);
    const struct {
        const char *w, *g;
        int64_t n;
    } tables[] = {{"v.tile_position_embd.weight", "v.tile_position_embd.gate", P * d},
                  {"v.pre_tile_position_embd.weight", "v.pre_tile_position_embd.gate", d},
                  {"v.post_tile_position_embd.weight", "v.post_tile_position_embd.gate", d}};
    for (int i = 0; i < 3; i++) {
        e = add(s, PN_F32, FILL_TABLE, 2, V_TILES * tables[i].n, V_RATIOS + 1, tables[i].w, 0);
        if (e)
            e->per_tile = (int32_t)tables[i].n;
        add(s, PN_F32, FILL_GATE, 1, 1, 1, tables[i].g, 0);
    }
    static const char *const ln[] = {"v.pre_ln", "v.post_ln"};
    char name[64];
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s.weight", ln[i]);
        add(s, PN_F32, FILL_ONE, 1, d, 1, name, 0);
        snprintf(name, sizeof name, "%s.bias", ln[i]);
        add(s, PN_F32, FILL_ZERO, 1, d, 1, name, 0);
    }
    for (int g = 0; g < 2; g++)
        for (int32_t i = 0; i < (g ? V_GLOBAL : V_LAYERS); i++) {
            const int32_t at = self + (g ? V_LAYERS + i : text_rank(i, V_LAYERS));
            const enum pn_type v_type = !k_quant ? big : more_bits(at, n_v) ? s->mix->more : s->mix->base;
#define V(type, fill, ndim, n0, n1, suffix) \
    (snprintf(name, sizeof name, "%s%%d." suffix, g ? "v.global.blk." : "v.blk."), \
     add(s, type, fill, ndim, n0, n1, name, i))
            V(PN_F32, FILL_ONE, 1, d, 1, "attn_norm.weight");
            V(PN_F32, FILL_ZERO, 1, d, 1, "attn_norm.bias");
            V(PN_F32, FILL_ONE, 1, d, 1, "ffn_norm.weight");
            V(PN_F32, FILL_ZERO, 1, d, 1, "ffn_norm.bias");
            V(big, FILL_RANDOM, 2, d, d, "attn_q.weight");
            V(big, FILL_RANDOM, 2, d, d, "attn_k.weight");
            V(v_type, FILL_RANDOM, 2, d, d, "attn_v.weight");
            V(big, FILL_RANDOM, 2, d, d, "attn_output.weight");
            V(big, FILL_RANDOM, 2, d, ff, "ffn_up.weight");
            V(PN_F32, FILL_ZERO, 1, ff, 1, "ffn_up.bias");
            V(big, FILL_RANDOM, 2, ff, d, "ffn_down.weight");
            V(PN_F32, FILL_ZERO, 1, d, 1, "ffn_down.bias");
            if (g) {
                V(PN_F32, FILL_GATE, 1, 1, 1, "attn_gate");
                V(PN_F32, FILL_GATE, 1, 1, 1, "ffn_gate");
            }
#undef V
        }
    add(s, big, FILL_RANDOM, 2, d * (1 + V_INTER), s->sh->d, "mm.0.weight", 0);
    add(s, PN_F32, FILL_ZERO, 1, s->sh->d, 1, "mm.0.bias", 0);
}

/* The table of tensors, and all that stands before the data. */
static void place(struct synth *s, struct pn_buf *whole)
{
    for (size_t i = 0; i < s->n; i++) {
        struct entry *e = &s->e[i];
        int64_t rows = 1;
        for (int d = 1; d < 4; d++)
            rows *= e->ne[d];
        e->bytes = pn_row_bytes(e->type, e->ne[0]) * (size_t)rows;
        pn_gguf_put_tensor(&s->head, e->name, e->type, e->ndim, e->ne, e->bytes);
    }
    s->failed |= !pn_gguf_head_finish(&s->head, whole);
}

/* ------------------------------------------------------------------------- values */

enum { CHUNK = 1 << 22, POOL = 512 };

struct out {
    struct pn_outfile file;
    uint8_t *buf;
    size_t len, done, total;
    puna_progress_fn progress;
    void *user;
    struct puna_error *err;
    int rc;
};

static void flush(struct out *o)
{
    if (!o->rc)
        o->rc = pn_outfile_write(&o->file, o->buf, o->len, o->err);
    o->done += o->len;
    o->len = 0;
    if (!o->rc && o->progress && o->progress(o->user, "write", (double)o->done, (double)o->total))
        o->rc = pn_fail(o->err, PUNA_E_CANCELLED, "cancelled");
}

static void emit(struct out *o, const void *p, size_t n)
{
    const uint8_t *b = p;
    while (n && !o->rc) {
        const size_t k = n < CHUNK - o->len ? n : CHUNK - o->len;
        memcpy(o->buf + o->len, b, k);
        o->len += k;
        b += k;
        n -= k;
        if (o->len == CHUNK)
            flush(o);
    }
}

static void emit_f32(struct out *o, float v)
{
    uint32_t u;
    memcpy(&u, &v, 4);
    const uint8_t b[4] = {(uint8_t)u, (uint8_t)(u >> 8), (uint8_t)(u >> 16), (uint8_t)(u >> 24)};
    emit(o, b, 4);
}

/* Random weights: a pool of POOL blocks of 256 values, then blocks drawn from it. */
static void emit_random(struct synth *s, struct out *o, const struct entry *e, size_t bytes)
{
    static const int32_t block = 256;
    const size_t bb = pn_row_bytes(e->type, block);
    int64_t fan_in = 1;
    for (int d = 0; d + 1 < e->ndim; d++)
        fan_in *= e->ne[d];
    const bool embedding = !strncmp(e->name, "token_embd", 10);
    const float sigma = e->ndim == 1 || embedding ? 0.05f : 0.7f / sqrtf((float)fan_in);
    uint8_t *pool = malloc(POOL * bb);
    if (!pool) {
        o->rc = pn_fail_memory(o->err, POOL * bb, "random blocks");
        return;
    }
    float x[256];
    for (int b = 0; b < POOL; b++) {
        for (int i = 0; i < block; i++)
            x[i] = sigma * gauss(&s->rng);
        pn_quantize_row(e->type, pool + (size_t)b * bb, x, block, NULL);
    }
    for (size_t at = 0; at < bytes && !o->rc; at += bb)
        emit(o, pool + (next(&s->rng) >> 55) % POOL * bb, bytes - at < bb ? bytes - at : bb);
    free(pool);
}

static void emit_tensor(struct synth *s, struct out *o, const struct entry *e)
{
    int64_t n = 1;
    for (int d = 0; d < 4; d++)
        n *= e->ne[d];
    switch (e->fill) {
    case FILL_RANDOM:
        emit_random(s, o, e, e->bytes);
        break;
    case FILL_ONE:
    case FILL_ZERO:
    case FILL_GATE:
        for (int64_t i = 0; i < n; i++)
            emit_f32(o, e->fill == FILL_ONE ? 1.0f : e->fill == FILL_ZERO ? 0.0f : 0.4f);
        break;
    case FILL_TABLE: {
        /* rows of real tiles; zeros where the ratio has fewer tiles, as in every real file */
        const size_t tile = (size_t)e->per_tile * 4;
        const struct entry one = {.type = PN_F32, .ndim = 1, .ne = {e->per_tile, 1, 1, 1}, .name = "table"};
        uint8_t *zero = calloc(1, tile);
        if (!zero) {
            o->rc = pn_fail_memory(o->err, tile, "a tile table");
            return;
        }
        for (int r = 0; r <= V_RATIOS; r++)
            for (int t = 0; t < V_TILES; t++)
                if (t < ratio_tiles[r])
                    emit_random(s, o, &one, tile);
                else
                    emit(o, zero, tile);
        free(zero);
        break;
    }
    case FILL_ROPE:
        for (int64_t i = 0; i < n; i++) {
            const double wave = 2 * M_PI * pow(500000.0, (double)i / (double)n), f = s->sh->rope_factor;
            const double u = (8192 / wave - 1) / 3;
            emit_f32(o, (float)(wave < 2048 ? 1 : wave > 8192 ? f : 1 / ((1 - u) / f + u)));
        }
        break;
    }
    static const uint8_t pad[PN_GGUF_ALIGN];
    emit(o, pad, (PN_GGUF_ALIGN - e->bytes % PN_GGUF_ALIGN) % PN_GGUF_ALIGN);
}

static int write_file(struct synth *s, const struct pn_buf *head, const char *path, size_t total,
                      puna_progress_fn progress, void *user, struct puna_error *err)
{
    struct out o = {.total = total, .progress = progress, .user = user, .err = err};
    o.rc = pn_outfile_open(&o.file, path, err);
    if (!o.rc && !(o.buf = malloc(CHUNK)))
        o.rc = pn_fail_memory(err, CHUNK, "a write buffer");
    if (!o.rc)
        emit(&o, head->data, head->len);
    for (size_t i = 0; i < s->n && !o.rc; i++)
        emit_tensor(s, &o, &s->e[i]);
    if (!o.rc)
        flush(&o);
    if (!o.rc)
        o.rc = pn_outfile_commit(&o.file, err);
    else
        pn_outfile_abort(&o.file);
    free(o.buf);
    return o.rc;
}

int puna_synth(const char *arch, const char *type, int layers, uint64_t seed, const char *path, int dry,
               size_t *bytes, puna_progress_fn progress, void *user, struct puna_error *err)
{
    struct synth s = {.rng = seed * 2 + 1, .sh = pn_shape_find(arch)};
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++)
        if (!strcasecmp(type, mixes[i].name))
            s.mix = &mixes[i];
    if (!s.sh)
        return pn_fail(err, PUNA_E_ARG, "unknown shape '%s'; there are 11b, 11b-base, 90b, 8b, 3b, 1b", arch);
    if (!s.mix)
        return pn_fail(err, PUNA_E_ARG,
                       "unknown type '%s'; there are F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q4_K_M, Q4_K_S, "
                       "Q3_K_M, Q2_K, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, IQ4_XS", type);
    if (layers < 0 || layers > s.sh->layers)
        return pn_fail(err, PUNA_E_ARG, "%d layers are not possible: %s has %" PRId32, layers, s.sh->name,
                       s.sh->layers);
    s.layers = layers ? layers : s.sh->layers;
    for (int32_t i = 3; s.sh->vision && i < s.layers; i += 5)
        s.cross[s.n_cross++] = i;
    if (s.sh->vision && !s.n_cross)
        return pn_fail(err, PUNA_E_ARG, "%s needs at least 4 layers: the fourth is its first cross-attention layer",
                       s.sh->name);
    struct pn_buf head = {0};
    header(&s);
    text_tensors(&s);
    if (s.sh->vision)
        vision_tensors(&s);
    if (!s.failed)
        place(&s, &head);
    const size_t total = head.len + s.head.data_bytes;
    if (bytes)
        *bytes = total;
    int rc = s.failed ? pn_fail_memory(err, s.head.kv.len, "the header") : 0;
    if (!rc && !dry)
        rc = write_file(&s, &head, path, total, progress, user, err);
    pn_gguf_head_free(&s.head);
    pn_buf_free(&head);
    free(s.e);
    return rc;
}
