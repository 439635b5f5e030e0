/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a model of each shape, an adapter, importance matrices with the first, second, ... allocation
 * failing, once alone and once with all that follow: an error, nothing leaked, no crash. The allocators
 * are replaced by the linker (--wrap). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/err.h"
#include "file/imatrix.h"
#include "file/source.h"
#include "file_util.h"
#include "mkgguf.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
void __wrap_free(void *p);

static bool counting;
static long calls, fail_at, live; /* fail_at: index of the call that fails, -1 none */
static bool fail_rest;

static bool fails(void)
{
    if (!counting)
        return false;
    const long i = calls++;
    return fail_at >= 0 && (i == fail_at || (fail_rest && i > fail_at));
}

void *__wrap_malloc(size_t n)
{
    void *p = fails() ? NULL : __real_malloc(n);
    live += counting && p;
    return p;
}

void *__wrap_calloc(size_t n, size_t size)
{
    void *p = fails() ? NULL : __real_calloc(n, size);
    live += counting && p;
    return p;
}

void *__wrap_realloc(void *p, size_t n)
{
    void *q = fails() ? NULL : __real_realloc(p, n);
    live += counting && q && !p;
    return q;
}

char *__wrap_strdup(const char *s)
{
    char *p = fails() ? NULL : __real_strdup(s);
    live += counting && p;
    return p;
}

void __wrap_free(void *p)
{
    live -= counting && p;
    __real_free(p);
}

/* jansson (2.14) loses bytes, or stops at an assertion, when its lexer's buffer cannot grow; nothing
 * outside can help that, so its blocks are counted but never refused. */
static void *json_malloc(size_t n)
{
    void *p = __real_malloc(n);
    live += counting && p;
    return p;
}

/* Something that is opened: fills *out, or returns an error and leaves it NULL. */
struct victim {
    int (*open)(void **out, const char *name, const void *opts, struct puna_error *err);
    void (*close)(void **p);
};

static void torture(const struct victim *v, const char *name, const void *opts)
{
    void *s;
    struct puna_error err;
    fail_at = -1;
    calls = live = 0;
    counting = true;
    int rc = v->open(&s, name, opts, &err);
    v->close(&s);
    counting = false;
    if (rc != 0)
        fail_msg("%s", err.message);
    assert_int_equal(live, 0);
    const long total = calls;
    assert_true(total > 5);
    for (int rest = 0; rest < 2; rest++) {
        fail_rest = rest;
        for (long i = 0; i < total; i++) {
            fail_at = i;
            calls = live = 0;
            err = (struct puna_error){ 0 };
            counting = true;
            rc = v->open(&s, name, opts, &err);
            counting = false;
            if (rc >= 0 || s || err.code != rc || !*err.message)
                fail_msg("%s: allocation %ld of %ld failed%s, but the call gave %d '%s'", name, i,
                         total, rest ? " and all later ones" : "", rc, err.message);
            if (live != 0)
                fail_msg("%s: allocation %ld of %ld failed: %ld blocks lost", name, i, total, live);
        }
    }
    print_message("%s: %ld allocations\n", name, total);
}

static int open_source(void **out, const char *name, const void *opts, struct puna_error *err)
{
    struct pn_source *s;
    const int rc = pn_source_open(&s, name, opts, err);
    *out = s;
    return rc;
}

static void close_source(void **p)
{
    struct pn_source *s = *p;
    pn_source_close(&s);
}

static const struct victim source = { open_source, close_source };

static int open_imatrix(void **out, const char *name, const void *opts, struct puna_error *err)
{
    (void)opts;
    struct pn_imatrix *m;
    const int rc = pn_imatrix_open(&m, name, err);
    *out = m;
    return rc;
}

static void close_imatrix(void **p)
{
    struct pn_imatrix *m = *p;
    pn_imatrix_close(&m);
}

static const struct victim imatrix = { open_imatrix, close_imatrix };

static void test_hub(void **state)
{
    (void)state;
    put_text("d/config.json", "{\"model_type\":\"llama\",\"vocab_size\":4,\"hidden_size\":8,"
             "\"num_hidden_layers\":2,\"num_attention_heads\":2,\"intermediate_size\":16}");
    put_text("d/generation_config.json", "{\"eos_token_id\":[1,2]}");
    put_text("d/tokenizer_config.json",
             "{\"added_tokens_decoder\":{\"3\":{\"content\":\"<|eot_id|>\"}}}");
    put_text("d/tokenizer.json", "{}");
    put_st("d/1.safetensors", "{\"model.embed_tokens.weight\":{\"dtype\":\"F16\",\"shape\":[4,8],"
           "\"data_offsets\":[0,64]}}", 64);
    put_st("d/2.safetensors", "{\"lm_head.weight\":{\"dtype\":\"F16\",\"shape\":[4,8],"
           "\"data_offsets\":[0,64]}}", 64);
    put_text("d/model.safetensors.index.json", "{\"weight_map\":{\"model.embed_tokens.weight\":"
             "\"1.safetensors\",\"lm_head.weight\":\"2.safetensors\"}}");
    torture(&source, in_scratch("d"), NULL);

    put_text("l/adapter_config.json", "{\"peft_type\":\"LORA\",\"r\":2,\"rank_pattern\":{\"q_proj\":1}}");
    put_st("l/adapter_model.safetensors",
           "{\"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight\":{\"dtype\":\"F16\",\"shape\":[1,8],"
           "\"data_offsets\":[0,16]},\"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight\":"
           "{\"dtype\":\"F16\",\"shape\":[8,1],\"data_offsets\":[16,32]}}", 32);
    char dir[SCRATCH_PATH];
    (void)snprintf(dir, sizeof dir, "%s", in_scratch("l"));
    const struct puna_lora lora = { .path = dir, .scale = 1 };
    const struct pn_source_opts opts = { .cross_permuted = -1, .loras = &lora, .n_loras = 1 };
    torture(&source, in_scratch("d"), &opts);
}

/* The seeds of fuzz_imatrix that are good. */
static void test_imatrix(void **state)
{
    (void)state;
    torture(&imatrix, in_srcdir("tests/fuzz/corpus/imatrix/good"), NULL);
    torture(&imatrix, in_srcdir("tests/fuzz/corpus/imatrix/dat"), NULL);
}

static struct mkgguf *half(bool vision)
{
    struct mkgguf *m = mkgguf_new();
    if (vision) {
        mkgguf_str(m, "general.architecture", "mllama");
        mkgguf_vision_keys(m);
        mkgguf_vision_tensors(m, 0.5f);
    } else {
        mkgguf_text_keys(m, "mllama");
        mkgguf_vocab(m);
        mkgguf_text_tensors(m);
    }
    return m;
}

static void test_gguf(void **state)
{
    (void)state;
    char proj[SCRATCH_PATH];
    (void)snprintf(proj, sizeof proj, "%s", in_scratch("proj.gguf"));
    struct mkgguf *text = half(false), *vision = half(true);
    assert_true(mkgguf_write(text, in_scratch("text.gguf")) && mkgguf_write(vision, proj));
    const struct pn_source_opts opts = { .projector = proj, .cross_permuted = -1 };
    torture(&source, in_scratch("text.gguf"), &opts);

    /* The same two as layers of a stored model; the digests need not be true. */
    size_t n_text, n_vision;
    uint8_t *bt = mkgguf_bytes(text, 32, &n_text), *bv = mkgguf_bytes(vision, 32, &n_vision);
    char name[128], manifest[2048], digest[65];
    memset(digest, '1', 64);
    digest[64] = 0;
    (void)snprintf(name, sizeof name, "m/blobs/sha256-%s", digest);
    put_file(name, bt, n_text);
    int at = snprintf(manifest, sizeof manifest, "{\"layers\":[{\"mediaType\":\"application/vnd."
                      "ollama.image.model\",\"digest\":\"sha256:%s\",\"size\":%zu},", digest,
                      n_text);
    digest[0] = '2';
    (void)snprintf(name, sizeof name, "m/blobs/sha256-%s", digest);
    put_file(name, bv, n_vision);
    at += snprintf(manifest + at, sizeof manifest - (size_t)at, "{\"mediaType\":\"application/vnd."
                   "ollama.image.projector\",\"digest\":\"sha256:%s\",\"size\":%zu},", digest,
                   n_vision);
    digest[0] = '3';
    (void)snprintf(name, sizeof name, "m/blobs/sha256-%s", digest);
    put_text(name, "{\"top_k\":3}");
    (void)snprintf(manifest + at, sizeof manifest - (size_t)at, "{\"mediaType\":\"application/vnd."
                   "ollama.image.params\",\"digest\":\"sha256:%s\",\"size\":11}]}", digest);
    put_text("m/manifests/registry.ollama.ai/library/stored/latest", manifest);
    (void)setenv("OLLAMA_MODELS", in_scratch("m"), 1);
    (void)setenv("HOME", in_scratch("nohome"), 1);
    torture(&source, "stored", NULL);
    free(bt);
    free(bv);
    mkgguf_free(text);
    mkgguf_free(vision);
}

int main(void)
{
    json_set_alloc_funcs(json_malloc, __wrap_free);
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_hub), cmocka_unit_test(test_gguf),
                                        cmocka_unit_test(test_imatrix) };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
