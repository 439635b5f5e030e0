/* SPDX-License-Identifier: Apache-2.0 */
#include "mkgguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { U32 = 4, I32 = 5, F32 = 6, BOOL = 7, STR = 8, ARR = 9, U64 = 10 };

struct mkgguf {
    struct pn_buf kv, table, data;
    uint64_t n_kv, n_tensors;
};

static void need(bool ok)
{
    if (!ok) {
        fputs("mkgguf: out of memory\n", stderr);
        abort();
    }
}

static void put(struct pn_buf *b, const void *p, size_t n)
{
    need(pn_buf_append(b, p, n));
}

static void put_int(struct pn_buf *b, uint64_t v, unsigned n_bytes)
{
    for (unsigned i = 0; i < n_bytes; i++) {
        const uint8_t byte = (uint8_t)(v >> 8 * i);
        put(b, &byte, 1);
    }
}

static void put_str(struct pn_buf *b, const char *s)
{
    put_int(b, strlen(s), 8);
    put(b, s, strlen(s));
}

static uint32_t float_bits(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

struct mkgguf *mkgguf_new(void)
{
    struct mkgguf *g = calloc(1, sizeof *g);
    need(g != NULL);
    return g;
}

void mkgguf_free(struct mkgguf *g)
{
    pn_buf_free(&g->kv);
    pn_buf_free(&g->table);
    pn_buf_free(&g->data);
    free(g);
}

static struct pn_buf *key(struct mkgguf *g, const char *k, uint32_t type)
{
    g->n_kv++;
    put_str(&g->kv, k);
    put_int(&g->kv, type, 4);
    return &g->kv;
}

static struct pn_buf *array(struct mkgguf *g, const char *k, uint32_t type, size_t n)
{
    struct pn_buf *b = key(g, k, ARR);
    put_int(b, type, 4);
    put_int(b, n, 8);
    return b;
}

void mkgguf_u32(struct mkgguf *g, const char *k, uint32_t v)
{
    put_int(key(g, k, U32), v, 4);
}

void mkgguf_i32(struct mkgguf *g, const char *k, int32_t v)
{
    put_int(key(g, k, I32), (uint32_t)v, 4);
}

void mkgguf_u64(struct mkgguf *g, const char *k, uint64_t v)
{
    put_int(key(g, k, U64), v, 8);
}

void mkgguf_f32(struct mkgguf *g, const char *k, float v)
{
    put_int(key(g, k, F32), float_bits(v), 4);
}

void mkgguf_bool(struct mkgguf *g, const char *k, bool v)
{
    put_int(key(g, k, BOOL), v, 1);
}

void mkgguf_str(struct mkgguf *g, const char *k, const char *v)
{
    put_str(key(g, k, STR), v);
}

void mkgguf_i32s(struct mkgguf *g, const char *k, const int32_t *v, size_t n)
{
    struct pn_buf *b = array(g, k, I32, n);
    for (size_t i = 0; i < n; i++)
        put_int(b, (uint32_t)v[i], 4);
}

void mkgguf_f32s(struct mkgguf *g, const char *k, const float *v, size_t n)
{
    struct pn_buf *b = array(g, k, F32, n);
    for (size_t i = 0; i < n; i++)
        put_int(b, float_bits(v[i]), 4);
}

void mkgguf_strs(struct mkgguf *g, const char *k, const char *const *v, size_t n)
{
    struct pn_buf *b = array(g, k, STR, n);
    for (size_t i = 0; i < n; i++)
        put_str(b, v[i]);
}

void mkgguf_raw(struct mkgguf *g, const char *k, uint32_t type, const void *bytes, size_t n)
{
    put(key(g, k, type), bytes, n);
}

void mkgguf_tensor_raw(struct mkgguf *g, const char *name, uint32_t type, uint32_t ndim,
                       const uint64_t *ne, uint64_t offset, const void *data, size_t n_bytes)
{
    g->n_tensors++;
    put_str(&g->table, name);
    put_int(&g->table, ndim, 4);
    for (uint32_t d = 0; d < ndim && d < 8; d++)
        put_int(&g->table, ne[d], 8);
    put_int(&g->table, type, 4);
    put_int(&g->table, offset, 8);
    put(&g->data, data, n_bytes);
}

void mkgguf_tensor(struct mkgguf *g, const char *name, enum pn_type type, int ndim,
                   const int64_t *ne, const void *data)
{
    uint64_t dims[4] = { 1, 1, 1, 1 };
    size_t n = pn_row_bytes(type, ne[0]);
    for (int d = 0; d < ndim; d++) {
        dims[d] = (uint64_t)ne[d];
        n *= d ? (size_t)ne[d] : 1;
    }
    while (g->data.len % 32)
        put_int(&g->data, 0, 1);
    uint8_t *pattern = malloc(n ? n : 1);
    need(pattern != NULL);
    for (size_t i = 0; i < n; i++)
        pattern[i] = (uint8_t)(i % 7);
    mkgguf_tensor_raw(g, name, (uint32_t)type, (uint32_t)ndim, dims, g->data.len,
                      data ? data : pattern, n);
    free(pattern);
}

uint8_t *mkgguf_bytes(const struct mkgguf *g, size_t alignment, size_t *len)
{
    struct pn_buf b = { 0 };
    put(&b, "GGUF", 4);
    put_int(&b, 3, 4);
    put_int(&b, g->n_tensors, 8);
    put_int(&b, g->n_kv, 8);
    put(&b, g->kv.data ? g->kv.data : "", g->kv.len);
    put(&b, g->table.data ? g->table.data : "", g->table.len);
    while (b.len % alignment)
        put_int(&b, 0, 1);
    put(&b, g->data.data ? g->data.data : "", g->data.len);
    *len = b.len;
    return (uint8_t *)b.data;
}

bool mkgguf_write(const struct mkgguf *g, const char *path)
{
    size_t len;
    uint8_t *bytes = mkgguf_bytes(g, 32, &len);
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(bytes, 1, len, f) == len;
    ok = f && fclose(f) == 0 && ok;
    free(bytes);
    return ok;
}

/* ---------------------------------------------------------------------------- tiny model */

static void arch_key(char out[96], const char *arch, const char *suffix)
{
    (void)snprintf(out, 96, "%s.%s", arch, suffix);
}

void mkgguf_text_keys(struct mkgguf *g, const char *arch)
{
    static const struct { const char *suffix; uint32_t v; } ints[] = {
        { "block_count", 2 }, { "context_length", 256 }, { "embedding_length", 32 },
        { "feed_forward_length", 64 }, { "attention.head_count", 4 },
        { "attention.head_count_kv", 2 }, { "rope.dimension_count", 8 }, { "vocab_size", 16 },
    };
    char k[96];
    mkgguf_str(g, "general.architecture", arch);
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) {
        arch_key(k, arch, ints[i].suffix);
        mkgguf_u32(g, k, ints[i].v);
    }
    arch_key(k, arch, "rope.freq_base");
    mkgguf_f32(g, k, 500000);
    arch_key(k, arch, "attention.layer_norm_rms_epsilon");
    mkgguf_f32(g, k, 1e-5f);
    if (strcmp(arch, "mllama") == 0)
        mkgguf_i32s(g, "mllama.attention.cross_attention_layers", (const int32_t[]){ 1 }, 1);
}

void mkgguf_vision_keys(struct mkgguf *g)
{
    static const struct { const char *key; uint32_t v; } ints[] = {
        { "mllama.vision.block_count", 2 }, { "mllama.vision.global.block_count", 1 },
        { "mllama.vision.embedding_length", 8 }, { "mllama.vision.feed_forward_length", 16 },
        { "mllama.vision.attention.head_count", 2 }, { "mllama.vision.image_size", 28 },
        { "mllama.vision.patch_size", 14 }, { "mllama.vision.max_num_tiles", 4 },
        { "mllama.vision.num_channels", 3 },
    };
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++)
        mkgguf_u32(g, ints[i].key, ints[i].v);
    mkgguf_f32(g, "mllama.vision.attention.layer_norm_epsilon", 1e-5f);
    mkgguf_i32s(g, "mllama.vision.intermediate_layers_indices", (const int32_t[]){ 0, 1 }, 2);
}

void mkgguf_vocab(struct mkgguf *g)
{
    static const char *const tokens[] = {
        "a", "b", "c", "ab", "abc", "<|begin_of_text|>", "<|end_of_text|>",
        "<|finetune_right_pad_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>",
        "<|eot_id|>", "d", "e", "f", "g", "<|image|>",
    };
    static const char *const merges[] = { "a b", "ab c" };
    int32_t types[17];
    for (int i = 0; i < 17; i++)
        types[i] = tokens[i][0] == '<' ? 3 : 1;
    mkgguf_str(g, "tokenizer.ggml.model", "gpt2");
    mkgguf_str(g, "tokenizer.ggml.pre", "llama-bpe");
    mkgguf_strs(g, "tokenizer.ggml.tokens", tokens, 17);
    mkgguf_i32s(g, "tokenizer.ggml.token_type", types, 17);
    mkgguf_strs(g, "tokenizer.ggml.merges", merges, 2);
    mkgguf_u32(g, "tokenizer.ggml.bos_token_id", 5);
    mkgguf_u32(g, "tokenizer.ggml.eos_token_id", 11);
    mkgguf_u32(g, "tokenizer.ggml.padding_token_id", 7);
}

void mkgguf_text_tensors(struct mkgguf *g)
{
    mkgguf_tensor(g, "token_embd.weight", PN_Q8_0, 2, (const int64_t[]){ 32, 19 }, NULL);
    mkgguf_tensor(g, "output.weight", PN_F16, 2, (const int64_t[]){ 32, 16 }, NULL);
}

void mkgguf_vision_tensors(struct mkgguf *g, float gate)
{
    const uint32_t bits = float_bits(gate);
    uint8_t le[4];
    for (int i = 0; i < 4; i++)
        le[i] = (uint8_t)(bits >> 8 * i);
    mkgguf_tensor(g, "v.global.blk.0.attn_gate", PN_F32, 1, (const int64_t[]){ 1 }, le);
    mkgguf_tensor(g, "v.global.blk.0.ffn_gate", PN_F32, 1, (const int64_t[]){ 1 }, le);
}
