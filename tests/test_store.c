/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "file/source.h"
#include "file/store.h"
#include "file_util.h"
#include "mkgguf.h"

static int setup(void **state)
{
    if (scratch_make(state) != 0)
        return -1;
    /* No store of the machine may be seen. */
    (void)setenv("OLLAMA_MODELS", in_scratch("models"), 1);
    (void)setenv("HOME", in_scratch("home"), 1);
    return 0;
}

static void test_names(void **state)
{
    (void)state;
    static const char *const good[] = {
        "llama3.2-vision", "llama3.2-vision:90b", "library/llama3.2-vision:11b-instruct-q4_K_M",
        "registry.ollama.ai/library/llama3.2-vision:latest", "hf.co/user/some.model-GGUF:Q4_K_M",
        "localhost:5000/ns/m:t", "_x", "X",
    };
    static const char *const bad[] = {
        "", ":", "a:", ":b", "a:b:c/d", "/a", "a/", "a//b", "a/b/c/d", "..", "../a", "a/..",
        "a/../b", ".", "a b", "a\n", "a:..", "a:b/c", "-a", "a\\b", "m\xc3\xb6", "a.b/c.d/e f",
        "./llama3.2-vision", "~/x",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (!pn_store_is_name(good[i]))
            fail_msg("'%s' is a name", good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (pn_store_is_name(bad[i]))
            fail_msg("'%s' is no name", bad[i]);
    }
    char part[82];
    memset(part, 'a', sizeof part);
    part[80] = 0;
    assert_true(pn_store_is_name(part));
    part[80] = 'a';
    part[81] = 0;
    assert_false(pn_store_is_name(part));
}

/* A blob by content; its digest into hex. */
static void put_blob(const char *root, const void *bytes, size_t n, char hex[65])
{
    char name[PATH_MAX];
    pn_sha256_hex(hex, bytes, n);
    (void)snprintf(name, sizeof name, "%s/blobs/sha256-%s", root, hex);
    put_file(name, bytes, n);
}

static void put_gguf_blob(const char *root, struct mkgguf *m, char hex[65], size_t *n)
{
    uint8_t *bytes = mkgguf_bytes(m, 32, n);
    mkgguf_free(m);
    put_blob(root, bytes, *n, hex);
    free(bytes);
}

static void layer(struct pn_buf *b, const char *type, const char *hex, size_t n)
{
    assert_true(pn_buf_printf(b, "%s{\"mediaType\":\"application/vnd.ollama.image.%s\","
                              "\"digest\":\"sha256:%s\",\"size\":%zu}", b->len ? "," : "", type,
                              hex, n));
}

static void put_manifest(const char *path, struct pn_buf *layers)
{
    struct pn_buf b = { 0 };
    assert_true(pn_buf_printf(&b, "{\"schemaVersion\":2,\"config\":{\"digest\":\"x\"},"
                              "\"layers\":[%s]}", layers->data ? layers->data : ""));
    put_file(path, b.data, b.len);
    pn_buf_free(&b);
    pn_buf_free(layers);
}

static struct mkgguf *make_combined(void)
{
    struct mkgguf *m = mkgguf_new();
    mkgguf_text_keys(m, "mllama");
    mkgguf_vision_keys(m);
    mkgguf_vocab(m);
    mkgguf_text_tensors(m);
    mkgguf_vision_tensors(m, 0.25f);
    return m;
}

#define LIBRARY "/manifests/registry.ollama.ai/library/"

static void expect(const char *name, int code, const char *part)
{
    struct puna_error err = { 0 };
    struct pn_source *s = NULL;
    const int rc = pn_source_open(&s, name, NULL, &err);
    if (rc != code || !strstr(err.message, part))
        fail_msg("wanted %d '%s', got %d '%s'", code, part, rc, err.message);
    assert_null(s);
}

static struct pn_source *open_ok(const char *name)
{
    struct puna_error err = { 0 };
    struct pn_source *s = NULL;
    if (pn_source_open(&s, name, NULL, &err) != 0)
        fail_msg("%s", err.message);
    return s;
}

static void test_combined(void **state)
{
    (void)state;
    char model[65], params[65], template[65];
    size_t n;
    static const char json[] = "{\"temperature\":0.3,\"top_p\":0.8,\"top_k\":17,"
                               "\"stop\":[\"x\"],\"num_ctx\":2048}\n";
    put_gguf_blob("models", make_combined(), model, &n);
    put_blob("models", json, strlen(json), params);
    put_blob("models", "T", 1, template);
    struct pn_buf l = { 0 };
    layer(&l, "model", model, n);
    layer(&l, "template", template, 1);
    layer(&l, "license", template, 1);
    layer(&l, "license", template, 1);
    layer(&l, "params", params, strlen(json));
    put_manifest("models" LIBRARY "llama3.2-vision/latest", &l);

    static const char *const names[] = {
        "llama3.2-vision", "llama3.2-vision:latest", "library/llama3.2-vision",
        "registry.ollama.ai/library/llama3.2-vision:latest", "Llama3.2-Vision:LATEST",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct pn_source *s = open_ok(names[i]);
        assert_int_equal(s->kind, PN_SRC_GGUF_COMBINED);
        assert_string_equal(s->name, names[i]);
        assert_non_null(strstr(s->path, model));
        assert_true(s->hp.temperature == 0.3f && s->hp.top_p == 0.8f);
        assert_int_equal(s->hp.top_k, 17);
        pn_source_close(&s);
    }
    expect("llama3.2-vision:90b", PUNA_E_NOT_FOUND, "ollama pull llama3.2-vision:90b");
    expect("other/llama3.2-vision", PUNA_E_NOT_FOUND, "/models");

    struct pn_store_model *m;
    assert_int_equal(pn_store_find(&m, "llama3.2-vision", NULL), 0);
    assert_string_equal(m->digest, model);
    assert_null(m->projector);
    pn_store_free(&m);
    assert_null(m);
    pn_store_free(&m);
}

static void test_split(void **state)
{
    (void)state;
    char text[65], proj[65];
    size_t n_text, n_proj;
    struct mkgguf *m = mkgguf_new();
    mkgguf_text_keys(m, "mllama");
    mkgguf_vocab(m);
    mkgguf_text_tensors(m);
    put_gguf_blob("home/.ollama/models", m, text, &n_text);
    m = mkgguf_new();
    mkgguf_str(m, "general.architecture", "mllama");
    mkgguf_vision_keys(m);
    mkgguf_vision_tensors(m, 0.25f);
    put_gguf_blob("home/.ollama/models", m, proj, &n_proj);
    struct pn_buf l = { 0 };
    layer(&l, "model", text, n_text);
    layer(&l, "projector", proj, n_proj);
    put_manifest("home/.ollama/models" LIBRARY "old/11b", &l);
    struct pn_source *s = open_ok("old:11b"); /* found in the second store */
    assert_int_equal(s->kind, PN_SRC_GGUF_SPLIT);
    assert_true(s->hp.vision && s->quirks.split_names);
    assert_int_equal(s->hp.top_k, 0);
    pn_source_close(&s);

    /* Blobs as early versions named them. */
    char from[PATH_MAX], to[PATH_MAX];
    (void)snprintf(from, sizeof from, "%s/home/.ollama/models/blobs/sha256-%s", scratch, proj);
    (void)snprintf(to, sizeof to, "%s/home/.ollama/models/blobs/sha256:%s", scratch, proj);
    assert_int_equal(rename(from, to), 0);
    s = open_ok("old:11b");
    pn_source_close(&s);
    assert_int_equal(unlink(to), 0);
    expect("old:11b", PUNA_E_NOT_FOUND, "pull the model again");
}

static void test_broken(void **state)
{
    (void)state;
    char hex[65];
    size_t n;
    put_gguf_blob("models", make_combined(), hex, &n);
    struct pn_buf l = { 0 };
    layer(&l, "model", hex, n + 1);
    put_manifest("models" LIBRARY "partial/latest", &l);
    expect("partial", PUNA_E_FORMAT, "the download is incomplete");
    layer(&l, "license", hex, n);
    put_manifest("models" LIBRARY "partial/latest", &l);
    expect("partial", PUNA_E_FORMAT, "names no model layer");
    layer(&l, "model", hex, n);
    layer(&l, "model", hex, n);
    put_manifest("models" LIBRARY "partial/latest", &l);
    expect("partial", PUNA_E_UNSUPPORTED, "more than one layer of type 'model'");
    layer(&l, "model", hex, n);
    layer(&l, "adapter", hex, n);
    put_manifest("models" LIBRARY "partial/latest", &l);
    expect("partial", PUNA_E_UNSUPPORTED, "layers of type 'adapter'");
    static const char *const digests[] = {
        "../../../../etc/passwd", "", "00",
        "g000000000000000000000000000000000000000000000000000000000000000",
        "00000000000000000000000000000000000000000000000000000000000000000",
    };
    for (size_t i = 0; i < sizeof digests / sizeof digests[0]; i++) {
        layer(&l, "model", digests[i], n);
        put_manifest("models" LIBRARY "partial/latest", &l);
        expect("partial", PUNA_E_FORMAT, "lacks a sha256 digest");
    }
    put_text("models" LIBRARY "partial/latest", "{\"layers\":7}");
    expect("partial", PUNA_E_FORMAT, "names no model layer");
    put_text("models" LIBRARY "partial/latest", "[[[");
    expect("partial", PUNA_E_FORMAT, "broken JSON");
    put_text("models" LIBRARY "partial/latest", "");
    expect("partial", PUNA_E_FORMAT, "broken JSON");
    assert_int_equal(unlink(in_scratch("models" LIBRARY "partial/latest")), 0);
    assert_int_equal(mkdir(in_scratch("models" LIBRARY "partial/latest"), 0700), 0);
    expect("partial", PUNA_E_IO, "is a directory");

    layer(&l, "model", hex, n);
    char params[65];
    put_blob("models", "{\"top_p\":-1}", 12, params);
    layer(&l, "params", params, 12);
    put_manifest("models" LIBRARY "params/latest", &l);
    expect("params", PUNA_E_FORMAT, "'top_p' is -1");
}

/* A path of that name wins over the store. */
static void test_path_wins(void **state)
{
    (void)state;
    char hex[65], here[PATH_MAX];
    size_t n;
    put_gguf_blob("models", make_combined(), hex, &n);
    struct pn_buf l = { 0 };
    layer(&l, "model", hex, n);
    put_manifest("models" LIBRARY "both/latest", &l);
    struct pn_source *s = open_ok("both");
    pn_source_close(&s);
    assert_non_null(getcwd(here, sizeof here));
    put_text("work/both", "GGU");
    assert_int_equal(chdir(in_scratch("work")), 0);
    expect("both", PUNA_E_FORMAT, "both: not a GGUF file");
    assert_int_equal(chdir(here), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),  cmocka_unit_test(test_combined),
        cmocka_unit_test(test_split),  cmocka_unit_test(test_broken),
        cmocka_unit_test(test_path_wins),
    };
    return cmocka_run_group_tests(tests, setup, scratch_remove);
}
