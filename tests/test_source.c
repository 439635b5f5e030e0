/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/map.h"
#include "base/mem.h"
#include "file/source.h"
#include "file_util.h"
#include "mkgguf.h"

static struct pn_source *open_ok(const char *name, const struct pn_source_opts *opts)
{
    struct puna_error err = { 0 };
    struct pn_source *s = NULL;
    if (pn_source_open(&s, name, opts, &err) != 0)
        fail_msg("%s", err.message);
    assert_non_null(s);
    assert_int_equal(err.code, 0);
    for (size_t i = 1; i < s->n_tensors; i++)
        assert_true(strcmp(s->tensors[i - 1].name, s->tensors[i].name) < 0);
    return s;
}

static void expect_opts(const char *name, const struct pn_source_opts *opts, int code,
                        const char *part)
{
    struct puna_error err = { 0 };
    struct pn_source *s = NULL;
    const int rc = pn_source_open(&s, name, opts, &err);
    if (rc != code || !strstr(err.message, part))
        fail_msg("wanted %d '%s', got %d '%s'", code, part, rc, err.message);
    assert_null(s);
}

static void expect(const char *name, int code, const char *part)
{
    expect_opts(name, NULL, code, part);
}

static char *slurp(const char *path)
{
    char *data;
    size_t len;
    struct puna_error err = { 0 };
    if (pn_read_file(&data, &len, path, 1 << 20, &err) != 0)
        fail_msg("%s", err.message);
    return data;
}

/* text with the first `from` replaced by `to`; malloc'ed. */
static char *edit(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    if (!at)
        fail_msg("no '%s' in the text to edit", from);
    struct pn_buf b = { 0 };
    assert_true(pn_buf_append(&b, text, (size_t)(at - text)) && pn_buf_str(&b, to) &&
                pn_buf_str(&b, at + strlen(from)));
    return b.data;
}

/* ---------------------------------------------------------------------------- tiny-a */

static void test_tiny_a(void **state)
{
    (void)state;
    struct pn_source *s = open_ok(in_srcdir("tests/data/tiny-a/model"), NULL);
    const struct pn_hparams *hp = &s->hp;
    assert_int_equal(s->kind, PN_SRC_HUB);
    assert_true(s->quirks.hub_names);
    assert_false(s->quirks.rope_inter || s->quirks.vision_gates_tanh || s->quirks.cross_permuted ||
                 s->quirks.split_names || s->quirks.global_gates_raw);
    assert_string_equal(s->note, "");
    assert_true(hp->vision);
    assert_int_equal(hp->n_layer, 6);
    assert_int_equal(hp->d_model, 256);
    assert_int_equal(hp->n_head, 8);
    assert_int_equal(hp->n_kv_head, 2);
    assert_int_equal(hp->head_dim, 32);
    assert_int_equal(hp->d_ff, 512);
    assert_int_equal(hp->n_vocab, 528);
    assert_int_equal(hp->n_embd_rows, 536);
    assert_int_equal(hp->n_ctx_train, 1024);
    assert_true(hp->rms_eps == 1e-5f && hp->rope_theta == 500000);
    assert_true(hp->rope_scaled && hp->rope_factor == 8 && hp->rope_low == 1 &&
                hp->rope_high == 4);
    assert_int_equal(hp->rope_orig_ctx, 64);
    assert_false(hp->tied);
    assert_int_equal(hp->n_cross, 2);
    for (int i = 0; i < 6; i++)
        assert_int_equal(hp->is_cross[i], i == 1 || i == 4);
    assert_int_equal(hp->v_image, 56);
    assert_int_equal(hp->v_patch, 14);
    assert_int_equal(hp->v_dim, 160);
    assert_int_equal(hp->v_head, 2);
    assert_int_equal(hp->v_ff, 320);
    assert_int_equal(hp->v_layer, 4);
    assert_int_equal(hp->v_global, 2);
    assert_int_equal(hp->v_tiles, 4);
    assert_int_equal(hp->n_inter, 2);
    assert_int_equal(hp->v_inter[0], 1);
    assert_int_equal(hp->v_inter[1], 2);
    static const int32_t ratios[8][2] = { { 1, 1 }, { 1, 2 }, { 1, 3 }, { 1, 4 },
                                          { 2, 1 }, { 2, 2 }, { 3, 1 }, { 4, 1 } };
    assert_int_equal(hp->n_ratio, 8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(hp->ratio_h[i], ratios[i][0]);
        assert_int_equal(hp->ratio_w[i], ratios[i][1]);
    }
    assert_int_equal(hp->bos, 512);
    assert_int_equal(hp->pad, 516);
    assert_int_equal(hp->image_token, 528);
    assert_int_equal(hp->n_eos, 3);
    assert_int_equal(hp->eos[0], 513);
    assert_int_equal(hp->eos[1], 520);
    assert_int_equal(hp->eos[2], 521);
    assert_true(hp->do_sample && hp->temperature == 0.6f && hp->top_p == 0.9f);
    assert_int_equal(hp->top_k, 50);
    assert_true(hp->mean[0] == 0.48145466f && hp->std[2] == 0.27577711f);

    assert_int_equal(s->n_maps, 2);
    assert_int_equal(s->n_tensors, 156);
    const struct pn_tensor *t =
        pn_source_find(s, "language_model.model.layers.1.cross_attn_attn_gate");
    assert_non_null(t);
    assert_int_equal(t->ndim, 1);
    assert_int_equal(t->ne[0], 1);
    assert_int_equal(t->n_bytes, 2);
    t = pn_source_find(s, "multi_modal_projector.weight"); /* [256, 480] in the file */
    assert_non_null(t);
    assert_int_equal(t->type, PN_BF16);
    assert_int_equal(t->ne[0], 480);
    assert_int_equal(t->ne[1], 256);
    assert_string_equal(t->file_name, t->name);
    t = pn_source_find(s, "vision_model.patch_embedding.weight");
    assert_non_null(t);
    assert_int_equal(t->ndim, 4);
    assert_int_equal(t->ne[3], 160);
    assert_null(pn_source_find(s, "vision_model"));
    assert_null(s->gguf);
    assert_string_equal(strrchr(s->tokenizer_json, '/'), "/tokenizer.json");
    assert_int_equal(pn_source_check_lost(s, NULL), 0);
    pn_source_close(&s);
    assert_null(s);
    pn_source_close(&s);
}

/* ------------------------------------------------------------------- directories made here */

#define LLAMA                                                                                      \
    "{\"model_type\":\"llama\",\"vocab_size\":4,\"hidden_size\":8,\"num_hidden_layers\":2,"        \
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"intermediate_size\":16,"                \
    "\"bos_token_id\":1,\"eos_token_id\":2}"
#define EMBED(name) \
    "{\"" name "\":{\"dtype\":\"F16\",\"shape\":[4,8],\"data_offsets\":[0,64]}}"

static void put_llama(const char *config)
{
    put_text("d/config.json", config);
    put_text("d/tokenizer.json", "{}");
    put_st("d/model.safetensors", EMBED("model.embed_tokens.weight"), 64);
}

static void test_llama_dir(void **state)
{
    (void)state;
    put_llama(LLAMA);
    struct pn_source *s = open_ok(in_scratch("d"), NULL);
    assert_false(s->hp.vision);
    assert_int_equal(s->hp.head_dim, 4);
    assert_int_equal(s->hp.n_embd_rows, 4);
    assert_true(s->hp.rms_eps == 1e-6f && s->hp.rope_theta == 10000); /* class defaults */
    assert_false(s->hp.rope_scaled);
    assert_int_equal(s->hp.image_token, -1);
    assert_int_equal(s->hp.n_eos, 1);
    assert_int_equal(s->hp.eos[0], 2);
    assert_true(s->hp.do_sample && s->hp.temperature == 0.6f);
    const struct pn_tensor *t = pn_source_find(s, "language_model.model.embed_tokens.weight");
    assert_non_null(t);
    assert_string_equal(t->file_name, "model.embed_tokens.weight");
    pn_source_close(&s);

    /* Sampling: a file that is there but says little has the defaults of the class. */
    put_text("d/generation_config.json", "{\"eos_token_id\":[2,3],\"temperature\":null}");
    s = open_ok(in_scratch("d"), NULL);
    assert_false(s->hp.do_sample);
    assert_true(s->hp.temperature == 1 && s->hp.top_p == 1);
    assert_int_equal(s->hp.top_k, 50);
    assert_int_equal(s->hp.n_eos, 2);
    pn_source_close(&s);
    put_text("d/generation_config.json", "{\"eos_token_id\":9}");
    expect(in_scratch("d"), PUNA_E_FORMAT, "a token id that ends an answer is 9; 0 to 3");
    put_text("d/generation_config.json", "{\"top_p\":1.5}");
    expect(in_scratch("d"), PUNA_E_FORMAT, "generation_config.json: 'top_p' is 1.5");
    assert_int_equal(unlink(in_scratch("d/generation_config.json")), 0);

    /* A chat model stops at every token that ends a turn. */
    static const char tokens[] =
        "{\"added_tokens_decoder\":{\"0\":{\"content\":\"<|eom_id|>\"},"
        "\"3\":{\"content\":\"<|eot_id|>\"},\"x\":{\"content\":\"<|end_of_text|>\"}}%s}";
    char text[256];
    (void)snprintf(text, sizeof text, tokens, "");
    put_text("d/tokenizer_config.json", text);
    s = open_ok(in_scratch("d"), NULL);
    assert_int_equal(s->hp.n_eos, 1);
    pn_source_close(&s);
    (void)snprintf(text, sizeof text, tokens, ",\"chat_template\":\"...\"");
    put_text("d/tokenizer_config.json", text);
    s = open_ok(in_scratch("d"), NULL);
    assert_int_equal(s->hp.n_eos, 3);
    assert_int_equal(s->hp.eos[1], 0);
    assert_int_equal(s->hp.eos[2], 3);
    pn_source_close(&s);
    assert_int_equal(unlink(in_scratch("d/tokenizer_config.json")), 0);
}

static void test_llama_configs(void **state)
{
    (void)state;
    static const struct { const char *from, *to; int code; const char *part; } cases[] = {
        { "\"llama\"", "\"qwen2\"", PUNA_E_UNSUPPORTED, "model_type 'qwen2'" },
        { "\"model_type\":\"llama\",", "", PUNA_E_FORMAT, "'model_type' is missing" },
        { "\"hidden_size\":8", "\"hidden_size\":9", PUNA_E_FORMAT, "hidden_size 9 is not a" },
        { "\"hidden_size\":8", "\"hidden_size\":\"8\"", PUNA_E_FORMAT, "must be an integer" },
        { "\"hidden_size\":8", "\"hidden_size\":-8", PUNA_E_FORMAT, "'hidden_size' is -8" },
        { "\"hidden_size\":8", "\"hidden_size\":1e3", PUNA_E_FORMAT, "must be an integer" },
        { "\"hidden_size\":8", "\"hidden_size\":99999999999", PUNA_E_FORMAT, "99999999999" },
        { "\"num_hidden_layers\":2", "\"num_hidden_layers\":1025", PUNA_E_FORMAT, "1025" },
        { "\"num_key_value_heads\":1", "\"num_key_value_heads\":3", PUNA_E_FORMAT,
          "is not a multiple of that of key/value heads, 3" },
        { "\"bos_token_id\":1", "\"bos_token_id\":4", PUNA_E_FORMAT, "begin-of-text is 4" },
        { "\"vocab_size\":4", "\"vocab_size\":5", PUNA_E_FORMAT, "embedding rows is 4; 5 to" },
        { "\"vocab_size\":4", "\"head_dim\":3,\"vocab_size\":4", PUNA_E_FORMAT, "head size 3" },
        { "{", "{\"rms_norm_eps\":0,", PUNA_E_FORMAT, "RMSNorm epsilon is 0" },
        { "{", "{\"hidden_act\":\"gelu\",", PUNA_E_UNSUPPORTED, "activation 'gelu'" },
        { "{", "{\"attention_bias\":true,", PUNA_E_UNSUPPORTED, "'attention_bias'" },
        { "{", "{\"quantization_config\":{},", PUNA_E_UNSUPPORTED, "quantised hub models" },
        { "{", "{\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2},", PUNA_E_UNSUPPORTED, "'yarn'" },
        { "{", "{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":2},", PUNA_E_FORMAT,
          "needs factor, low_freq_factor" },
        { "{", "{\"rope_scaling\":7,", PUNA_E_FORMAT, "'rope_scaling' must be an object" },
        { "{", "{\"vocab_size\":4,", PUNA_E_FORMAT, "duplicate" },
        { "{", "[", PUNA_E_FORMAT, "broken JSON" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *config = edit(LLAMA, cases[i].from, cases[i].to);
        put_llama(config);
        expect(in_scratch("d"), cases[i].code, cases[i].part);
        free(config);
    }
    /* All spellings of RoPE give the same. */
    static const char *const ropes[] = {
        "{\"rope_theta\":5e5,\"rope_scaling\":{\"rope_type\":\"llama3\",%s},",
        "{\"rope_theta\":500000,\"rope_scaling\":{\"type\":\"llama3\",%s},",
        "{\"rope_parameters\":{\"rope_theta\":500000.0,\"rope_type\":\"llama3\",%s},",
    };
    for (size_t i = 0; i < 3; i++) {
        char head[400];
        (void)snprintf(head, sizeof head, ropes[i],
                       "\"factor\":32.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4,"
                       "\"original_max_position_embeddings\":8192");
        char *config = edit(LLAMA, "{", head);
        put_llama(config);
        free(config);
        struct pn_source *s = open_ok(in_scratch("d"), NULL);
        assert_true(s->hp.rope_theta == 500000 && s->hp.rope_scaled && s->hp.rope_factor == 32 &&
                    s->hp.rope_low == 1 && s->hp.rope_high == 4);
        assert_int_equal(s->hp.rope_orig_ctx, 8192);
        pn_source_close(&s);
    }
}

/* tiny-a's config over files that are small enough to be made here. */
static void put_vision(const char *config)
{
    put_text("v/config.json", config);
    put_text("v/tokenizer.json", "{}");
    put_st("v/model.safetensors",
           "{\"model.language_model.embed_tokens.weight\":{\"dtype\":\"BF16\",\"shape\":[536,1],"
           "\"data_offsets\":[0,1072]},"
           "\"lm_head.weight\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[1072,1074]},"
           "\"model.vision_model.class_embedding\":{\"dtype\":\"BF16\",\"shape\":[1],"
           "\"data_offsets\":[1074,1076]},"
           "\"model.multi_modal_projector.bias\":{\"dtype\":\"BF16\",\"shape\":[1],"
           "\"data_offsets\":[1076,1078]}}", 1078);
}

static void test_vision_configs(void **state)
{
    (void)state;
    char *good = slurp(in_srcdir("tests/data/tiny-a/model/config.json"));
    put_vision(good);
    struct pn_source *s = open_ok(in_scratch("v"), NULL);
    assert_true(s->hp.vision);
    /* The newer spelling comes out as the older one. */
    assert_non_null(pn_source_find(s, "language_model.model.embed_tokens.weight"));
    assert_non_null(pn_source_find(s, "language_model.lm_head.weight"));
    assert_non_null(pn_source_find(s, "vision_model.class_embedding"));
    assert_non_null(pn_source_find(s, "multi_modal_projector.bias"));
    /* No generation or preprocessor config: what the published models have. */
    assert_true(s->hp.mean[1] == 0.4578275f && s->hp.std[1] == 0.26130258f);
    pn_source_close(&s);

    static const struct { const char *from, *to; int code; const char *part; } cases[] = {
        { "\"cross_attention_layers\": [\n   1,", "\"cross_attention_layers\": [\n   6,",
          PUNA_E_FORMAT, "'cross_attention_layers' is 6; 0 to 5" },
        { "\"cross_attention_layers\": [\n   1,", "\"cross_attention_layers\": [\n   -1,",
          PUNA_E_FORMAT, "'cross_attention_layers' is -1" },
        { "\"cross_attention_layers\": [\n   1,", "\"cross_attention_layers\": [\n   4,",
          PUNA_E_FORMAT, "names layer 4 twice" },
        { "\"intermediate_layers_indices\": [\n   1,", "\"intermediate_layers_indices\": [\n   4,",
          PUNA_E_FORMAT, "'intermediate_layers_indices' is 4; 0 to 3" },
        { "\"intermediate_layers_indices\": [\n   1,", "\"intermediate_layers_indices\": [\n   2,",
          PUNA_E_FORMAT, "sorted list of intermediate layers is 2; 3 to 3" },
        { "\"vision_output_dim\": 480", "\"vision_output_dim\": 640", PUNA_E_FORMAT,
          "'vision_output_dim' is 640" },
        { "\"attention_heads\": 2", "\"attention_heads\": 3", PUNA_E_FORMAT,
          "the vision width 160 is not a multiple" },
        { "\"image_size\": 56", "\"image_size\": 57", PUNA_E_FORMAT, "tile size 57 is not a" },
        { "\"max_num_tiles\": 4", "\"max_num_tiles\": 3", PUNA_E_FORMAT, "in tiles is 4; 1 to 3" },
        { "\"max_num_tiles\": 4", "\"max_num_tiles\": 17", PUNA_E_FORMAT, "'max_num_tiles' is 17" },
        { "\"num_channels\": 3", "\"num_channels\": 1", PUNA_E_FORMAT, "channels is 1; 3 to 3" },
        { "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"quick_gelu\"", PUNA_E_UNSUPPORTED,
          "'quick_gelu'" },
        { "\"image_token_index\": 528", "\"image_token_index\": 536", PUNA_E_FORMAT,
          "picture is 536" },
        { "\"text_config\"", "\"txt_config\"", PUNA_E_FORMAT, "'text_config' is missing" },
        { "\"vision_config\"", "\"v_config\"", PUNA_E_FORMAT, "'vision_config' is missing" },
        { "[\n    1,\n    2\n   ]", "[\n    1,\n    1\n   ]", PUNA_E_FORMAT,
          "the aspect ratio 1x1 is listed twice" },
        { "[\n    1,\n    2\n   ]", "[\n    1\n   ]", PUNA_E_FORMAT, "pairs of 1 to 16" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *config = edit(good, cases[i].from, cases[i].to);
        put_vision(config);
        expect(in_scratch("v"), cases[i].code, cases[i].part);
        free(config);
    }

    put_vision(good);
    static const struct { const char *text; int code; const char *part; } pre[] = {
        { "{\"size\":{\"height\":56,\"width\":28}}", PUNA_E_FORMAT, "do not match config.json" },
        { "{\"max_image_tiles\":2}", PUNA_E_FORMAT, "2 tiles of 56x56 pixels do not match" },
        { "{\"image_std\":[1,0,1]}", PUNA_E_FORMAT, "standard deviation is 0" },
        { "{\"image_mean\":[1,2]}", PUNA_E_FORMAT, "a list of 3 numbers" },
        { "{\"image_mean\":0.5}", PUNA_E_FORMAT, "a list of 3 numbers" },
        { "{\"do_rescale\":false}", PUNA_E_UNSUPPORTED, "'do_rescale'" },
        { "{\"resample\":3}", PUNA_E_UNSUPPORTED, "only 2 (bilinear)" },
        { "{\"rescale_factor\":1}", PUNA_E_UNSUPPORTED, "only 1/255" },
    };
    for (size_t i = 0; i < sizeof pre / sizeof pre[0]; i++) {
        put_text("v/preprocessor_config.json", pre[i].text);
        expect(in_scratch("v"), pre[i].code, pre[i].part);
    }
    assert_int_equal(unlink(in_scratch("v/preprocessor_config.json")), 0);
    put_text("v/processor_config.json", "{\"image_processor\":{\"image_mean\":[0.1,0.2,0.3],"
             "\"rescale_factor\":0.00392156862745098}}");
    s = open_ok(in_scratch("v"), NULL);
    assert_true(s->hp.mean[2] == 0.3f && s->hp.std[0] == 0.5f);
    pn_source_close(&s);

    /* The text half alone, as its own class saves it. */
    char *half = edit(LLAMA, "\"llama\"",
                      "\"mllama_text_model\",\"cross_attention_layers\":[1],"
                      "\"pad_token_id\":0");
    put_llama(half);
    s = open_ok(in_scratch("d"), NULL);
    assert_false(s->hp.vision);
    assert_int_equal(s->hp.n_cross, 1);
    assert_int_equal(s->hp.is_cross[1], 1);
    assert_true(s->hp.rope_theta == 500000);
    pn_source_close(&s);
    free(half);
    free(good);
}


static void put_shards(const char *weight_map)
{
    char text[1024];
    put_text("s/config.json", LLAMA);
    put_text("s/tokenizer.json", "{}");
    put_st("s/one.safetensors", EMBED("model.embed_tokens.weight"), 64);
    put_st("s/two.safetensors", "{\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[8],"
           "\"data_offsets\":[0,32]}}", 32);
    (void)snprintf(text, sizeof text, "{\"metadata\":{\"total_size\":96},\"weight_map\":{%s}}",
                   weight_map);
    put_text("s/model.safetensors.index.json", text);
}

static void test_shards(void **state)
{
    (void)state;
#define E "\"model.embed_tokens.weight\":\"one.safetensors\""
#define N "\"model.norm.weight\":\"two.safetensors\""
    put_shards(E "," N);
    struct pn_source *s = open_ok(in_scratch("s"), NULL);
    assert_int_equal(s->n_tensors, 2);
    assert_int_equal(s->n_maps, 2);
    pn_source_close(&s);

    static const struct { const char *map; int code; const char *part; } cases[] = {
        { "", PUNA_E_FORMAT, "'weight_map' is missing or empty" },
        { E ",\"model.norm.weight\":\"../../../etc/passwd\"", PUNA_E_FORMAT, "plain name" },
        { E ",\"model.norm.weight\":\"/etc/passwd\"", PUNA_E_FORMAT, "plain name" },
        { E ",\"model.norm.weight\":\"..\"", PUNA_E_FORMAT, "plain name" },
        { E ",\"model.norm.weight\":\"a\\\\b\"", PUNA_E_FORMAT, "plain name" },
        { E ",\"model.norm.weight\":\"\"", PUNA_E_FORMAT, "plain name" },
        { E ",\"model.norm.weight\":7", PUNA_E_FORMAT, "plain name" },
        { E ",\"model.norm.weight\":\"three.safetensors\"", PUNA_E_NOT_FOUND,
          "three.safetensors: no such file, but model.safetensors.index.json names it" },
        { E "," N ",\"extra\":\"two.safetensors\"", PUNA_E_FORMAT,
          "tensor 'extra' is listed in shard two.safetensors, which does not hold it" },
        { E ",\"model.norm.weight\":\"one.safetensors\"", PUNA_E_FORMAT,
          "tensor 'model.norm.weight' is listed in shard one.safetensors" },
        { E ",\"x\":\"two.safetensors\"", PUNA_E_FORMAT,
          "holds tensor 'model.norm.weight', which" },
        { "\"model.embed_tokens.weight\":\"two.safetensors\"," N ",\"y\":\"one.safetensors\"",
          PUNA_E_FORMAT, "places in another shard" },
        { E "," E, PUNA_E_FORMAT, "duplicate" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_shards(cases[i].map);
        expect(in_scratch("s"), cases[i].code, cases[i].part);
    }
    /* The same tensor under two spellings. */
    put_shards(E ",\"model.language_model.embed_tokens.weight\":\"two.safetensors\"");
    put_st("s/two.safetensors", EMBED("model.language_model.embed_tokens.weight"), 64);
    expect(in_scratch("s"), PUNA_E_FORMAT, "is there twice");
    put_shards(E "," N);
    put_text("s/two.safetensors", "junk");
    expect(in_scratch("s"), PUNA_E_FORMAT, "two.safetensors: 4 bytes are no safetensors");
    put_text("s/model.safetensors.index.json", "{\"weight_map\":[]}");
    expect(in_scratch("s"), PUNA_E_FORMAT, "'weight_map' must be an object");
}

static void test_incomplete_dirs(void **state)
{
    (void)state;
    put_llama(LLAMA);
    assert_int_equal(unlink(in_scratch("d/model.safetensors")), 0);
    expect(in_scratch("d"), PUNA_E_NOT_FOUND, "neither model.safetensors nor");
    put_llama(LLAMA);
    assert_int_equal(unlink(in_scratch("d/tokenizer.json")), 0);
    expect(in_scratch("d"), PUNA_E_NOT_FOUND, "tokenizer.json: no such file");
    put_llama(LLAMA);
    put_st("d/model.safetensors", EMBED("model.norm.weight"), 64);
    expect(in_scratch("d"), PUNA_E_FORMAT, "embed_tokens.weight' is missing");
    put_text("d/model.safetensors", "version https://git-lfs.github.com/spec/v1\n");
    expect(in_scratch("d"), PUNA_E_FORMAT, "git lfs pull");
    assert_int_equal(unlink(in_scratch("d/config.json")), 0);
    expect(in_scratch("d"), PUNA_E_NOT_FOUND, "no config.json");
    assert_int_equal(mkdir(in_scratch("d/config.json"), 0700), 0);
    expect(in_scratch("d"), PUNA_E_IO, "config.json: is a directory");
    assert_int_equal(rmdir(in_scratch("d/config.json")), 0);
}

static void test_odd_paths(void **state)
{
    (void)state;
    put_llama(LLAMA);
    expect("", PUNA_E_ARG, "no model given");
    expect(in_scratch("absent/x.gguf"), PUNA_E_NOT_FOUND, "no such file or directory");
    expect("/dev/zero", PUNA_E_IO, "is a device");
    expect(in_scratch("d/config.json"), PUNA_E_ARG, "pass the directory");
    expect(in_scratch("d/model.safetensors"), PUNA_E_ARG, "pass the directory");
    expect(in_scratch("d/tokenizer.json/x"), PUNA_E_NOT_FOUND, "no such file or directory");
    assert_int_equal(mkfifo(in_scratch("pipe.gguf"), 0600), 0);
    expect(in_scratch("pipe.gguf"), PUNA_E_IO, "FIFO");
    assert_int_equal(symlink("loop.gguf", in_scratch("loop.gguf")), 0);
    expect(in_scratch("loop.gguf"), PUNA_E_IO, "circle");
    const struct pn_source_opts opts = { .projector = "p.gguf", .cross_permuted = -1 };
    expect_opts(in_scratch("d"), &opts, PUNA_E_ARG, "takes no projector");
    assert_int_equal(unlink(in_scratch("d/model.safetensors")), 0);
    assert_int_equal(mkfifo(in_scratch("d/model.safetensors"), 0600), 0);
    expect(in_scratch("d"), PUNA_E_IO, "FIFO");
    assert_int_equal(unlink(in_scratch("d/model.safetensors")), 0);
}

/* ---------------------------------------------------------------------------- GGUF */

enum { TEXT = 1, VISION = 2, VOCAB = 4, GATES = 8 };

static struct mkgguf *make(const char *arch, unsigned parts)
{
    struct mkgguf *m = mkgguf_new();
    if (parts & TEXT)
        mkgguf_text_keys(m, arch);
    else
        mkgguf_str(m, "general.architecture", arch);
    if (parts & VISION)
        mkgguf_vision_keys(m);
    if (parts & VOCAB)
        mkgguf_vocab(m);
    if (parts & TEXT)
        mkgguf_text_tensors(m);
    if (parts & GATES)
        mkgguf_vision_tensors(m, 0.5f);
    return m;
}

static void write_and_free(struct mkgguf *m, const char *name)
{
    assert_true(mkgguf_write(m, in_scratch(name)));
    mkgguf_free(m);
}

static void check_text(const struct pn_source *s)
{
    const struct pn_hparams *hp = &s->hp;
    assert_int_equal(hp->n_layer, 2);
    assert_int_equal(hp->d_model, 32);
    assert_int_equal(hp->d_ff, 64);
    assert_int_equal(hp->n_head, 4);
    assert_int_equal(hp->n_kv_head, 2);
    assert_int_equal(hp->head_dim, 8);
    assert_int_equal(hp->n_vocab, 16);
    assert_int_equal(hp->n_embd_rows, 19);
    assert_int_equal(hp->n_ctx_train, 256);
    assert_true(hp->rope_theta == 500000 && hp->rms_eps == 1e-5f);
    assert_false(hp->rope_scaled || hp->tied);
    assert_int_equal(hp->bos, 5);
    assert_int_equal(hp->pad, 7);
    /* eos_token_id is <|eot_id|>: a chat model, which stops at the other two as well. */
    assert_int_equal(hp->n_eos, 3);
    assert_int_equal(hp->eos[0], 11);
    assert_int_equal(hp->eos[1], 6);
    assert_int_equal(hp->eos[2], 10);
    assert_true(hp->do_sample && hp->temperature == 0.6f && hp->top_p == 0.9f);
    assert_int_equal(hp->top_k, 0);
    assert_true(s->quirks.rope_inter);
    assert_false(s->quirks.hub_names);
}

static void check_vision(const struct pn_source *s)
{
    const struct pn_hparams *hp = &s->hp;
    assert_true(hp->vision);
    assert_int_equal(hp->n_cross, 1);
    assert_int_equal(hp->is_cross[1], 1);
    assert_int_equal(hp->v_layer, 2);
    assert_int_equal(hp->v_global, 1);
    assert_int_equal(hp->v_dim, 8);
    assert_int_equal(hp->v_ff, 16);
    assert_int_equal(hp->v_head, 2);
    assert_int_equal(hp->v_image, 28);
    assert_int_equal(hp->v_patch, 14);
    assert_int_equal(hp->v_tiles, 4);
    assert_int_equal(hp->n_inter, 2);
    assert_int_equal(hp->v_inter[1], 1);
    assert_int_equal(hp->n_ratio, 8);
    assert_int_equal(hp->ratio_h[5], 2);
    assert_int_equal(hp->ratio_w[5], 2);
    assert_int_equal(hp->image_token, 16);
    assert_true(s->quirks.vision_gates_tanh);
    check_text(s);
}

static void test_gguf_kinds(void **state)
{
    (void)state;
    write_and_free(make("llama", TEXT | VOCAB), "text.gguf");
    struct pn_source *s = open_ok(in_scratch("text.gguf"), NULL);
    assert_int_equal(s->kind, PN_SRC_GGUF_TEXT);
    assert_false(s->hp.vision || s->quirks.vision_gates_tanh || s->quirks.cross_permuted);
    assert_int_equal(s->hp.image_token, -1);
    check_text(s);
    pn_source_close(&s);

    write_and_free(make("mllama", TEXT | VISION | VOCAB | GATES), "both.gguf");
    s = open_ok(in_scratch("both.gguf"), NULL);
    assert_int_equal(s->kind, PN_SRC_GGUF_COMBINED);
    check_vision(s);
    assert_true(s->quirks.cross_permuted);
    assert_false(s->quirks.split_names || s->quirks.global_gates_raw);
    assert_string_equal(s->note, "");
    pn_source_close(&s);
    struct pn_source_opts opts = { .projector = NULL, .cross_permuted = 0 };
    s = open_ok(in_scratch("both.gguf"), &opts);
    assert_false(s->quirks.cross_permuted);
    pn_source_close(&s);

    write_and_free(make("mllama", TEXT | VOCAB), "half.gguf");
    write_and_free(make("mllama", VISION | GATES), "proj.gguf");
    char proj[SCRATCH_PATH], half[SCRATCH_PATH];
    (void)snprintf(proj, sizeof proj, "%s", in_scratch("proj.gguf"));
    (void)snprintf(half, sizeof half, "%s", in_scratch("half.gguf"));
    opts = (struct pn_source_opts){ .projector = proj, .cross_permuted = -1 };
    s = open_ok(half, &opts);
    assert_int_equal(s->kind, PN_SRC_GGUF_SPLIT);
    check_vision(s);
    assert_true(s->quirks.split_names && s->quirks.cross_permuted);
    assert_int_equal(s->n_tensors, 4);
    assert_non_null(pn_source_find(s, "v.global.blk.0.ffn_gate"));
    assert_non_null(s->projector);
    pn_source_close(&s);

    expect(half, PUNA_E_ARG, "--projector FILE");
    expect(proj, PUNA_E_ARG, "the projector (vision) half");
    expect_opts(in_scratch("both.gguf"), &opts, PUNA_E_ARG, "has its vision part inside");
    expect_opts(in_scratch("text.gguf"), &opts, PUNA_E_ARG, "takes no projector");
    opts.projector = half;
    expect_opts(half, &opts, PUNA_E_FORMAT, "not the projector of");
    (void)snprintf(proj, sizeof proj, "%s", in_scratch("nothing.gguf"));
    opts.projector = proj;
    expect_opts(half, &opts, PUNA_E_NOT_FOUND, "nothing.gguf: no such file");
}

/* Each required key, taken out by renaming it, is named. */
static void test_gguf_missing_keys(void **state)
{
    (void)state;
    static const char *const needed[] = {
        "general.architecture", "mllama.context_length", "mllama.embedding_length",
        "mllama.feed_forward_length", "mllama.attention.head_count",
        "mllama.attention.layer_norm_rms_epsilon", "mllama.attention.cross_attention_layers",
        "mllama.vision.global.block_count", "mllama.vision.embedding_length",
        "mllama.vision.feed_forward_length", "mllama.vision.attention.head_count",
        "mllama.vision.attention.layer_norm_epsilon", "mllama.vision.image_size",
        "mllama.vision.patch_size", "mllama.vision.max_num_tiles",
        "mllama.vision.intermediate_layers_indices", "tokenizer.ggml.model",
        "tokenizer.ggml.tokens",
    };
    struct mkgguf *m = make("mllama", TEXT | VISION | VOCAB | GATES);
    size_t n;
    uint8_t *bytes = mkgguf_bytes(m, 32, &n);
    mkgguf_free(m);
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        const size_t len = strlen(needed[i]);
        uint8_t *at = bytes; /* its length precedes a key: no prefix of another one is hit */
        while ((at = memchr(at + 1, needed[i][0], n - (size_t)(at + 1 - bytes))) &&
               (memcmp(at, needed[i], len) != 0 || at[-8] != len))
            ;
        assert_non_null(at);
        at[0] = 'X';
        put_file("cut.gguf", bytes, n);
        char want[128];
        (void)snprintf(want, sizeof want, "key '%s' is missing", needed[i]);
        expect(in_scratch("cut.gguf"), PUNA_E_FORMAT, want);
        at[0] = (uint8_t)needed[i][0];
    }
    free(bytes);
}

static void expect_made(struct mkgguf *m, int code, const char *part)
{
    write_and_free(m, "made.gguf");
    expect(in_scratch("made.gguf"), code, part);
}

/* A combined file in which one vision key has another value. */
static struct mkgguf *vision_with(const char *key, const int32_t *list, size_t n)
{
    struct mkgguf *m = make("mllama", TEXT | VOCAB | GATES);
    static const char *const ints[] = {
        "mllama.vision.block_count", "mllama.vision.global.block_count",
        "mllama.vision.embedding_length", "mllama.vision.feed_forward_length",
        "mllama.vision.attention.head_count", "mllama.vision.image_size",
        "mllama.vision.patch_size", "mllama.vision.max_num_tiles",
    };
    static const int32_t values[] = { 2, 1, 8, 16, 2, 28, 14, 4 };
    static const char inter[] = "mllama.vision.intermediate_layers_indices";
    for (size_t i = 0; i < 8; i++)
        mkgguf_i32(m, ints[i], strcmp(key, ints[i]) == 0 ? list[0] : values[i]);
    mkgguf_f32(m, "mllama.vision.attention.layer_norm_epsilon", 1e-5f);
    if (strcmp(key, inter) == 0)
        mkgguf_i32s(m, inter, list, n);
    else
        mkgguf_i32s(m, inter, (const int32_t[]){ 1, 0 }, 2);
    return m;
}

/* A combined file with this list of cross-attention layers. */
static struct mkgguf *cross_with(const int32_t *list, size_t n)
{
    static const struct { const char *key; uint32_t v; } ints[] = {
        { "mllama.block_count", 2 }, { "mllama.context_length", 256 },
        { "mllama.embedding_length", 32 }, { "mllama.feed_forward_length", 64 },
        { "mllama.attention.head_count", 4 },
    };
    struct mkgguf *m = make("mllama", VISION | VOCAB | GATES);
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++)
        mkgguf_u32(m, ints[i].key, ints[i].v);
    mkgguf_f32(m, "mllama.attention.layer_norm_rms_epsilon", 1e-5f);
    mkgguf_i32s(m, "mllama.attention.cross_attention_layers", list, n);
    mkgguf_text_tensors(m);
    return m;
}

static void test_gguf_bad_values(void **state)
{
    (void)state;
    static const struct { const char *key; int32_t v[3]; size_t n; const char *part; } cases[] = {
        { "mllama.vision.block_count", { 0 }, 1, "block_count' is 0" },
        { "mllama.vision.block_count", { 257 }, 1, "block_count' is 257" },
        { "mllama.vision.block_count", { -1 }, 1, "is 4294967295; 1 to" },
        { "mllama.vision.attention.head_count", { 3 }, 1, "vision width 8 is not a multiple" },
        { "mllama.vision.patch_size", { 15 }, 1, "tile size 28 is not a multiple" },
        { "mllama.vision.patch_size", { 29 }, 1, "patch size is 29; 1 to 28" },
        { "mllama.vision.max_num_tiles", { 1000 }, 1, "max_num_tiles' is 1000" },
        { "mllama.vision.intermediate_layers_indices", { 2, 0 }, 2, "layers is 2; 1 to 1" },
        { "mllama.vision.intermediate_layers_indices", { -1, 1 }, 2, "layers is -1; 0 to 1" },
        { "mllama.vision.intermediate_layers_indices", { 1, 1 }, 2, "layers is 1; 2 to 1" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_made(vision_with(cases[i].key, cases[i].v, cases[i].n), PUNA_E_FORMAT,
                    cases[i].part);
    int32_t many[17] = { 0 };
    expect_made(vision_with("mllama.vision.intermediate_layers_indices", many, 17), PUNA_E_FORMAT,
                "has 17 elements");

    write_and_free(vision_with("", NULL, 0), "made.gguf"); /* unsorted is fine */
    struct pn_source *made = open_ok(in_scratch("made.gguf"), NULL);
    assert_int_equal(made->hp.v_inter[0], 0);
    assert_int_equal(made->hp.v_inter[1], 1);
    pn_source_close(&made);

    struct mkgguf *m = make("qwen2", TEXT | VOCAB);
    expect_made(m, PUNA_E_UNSUPPORTED, "architecture 'qwen2'");
    m = make("llama", TEXT | VOCAB);
    mkgguf_u32(m, "llama.expert_count", 8);
    expect_made(m, PUNA_E_UNSUPPORTED, "mixture of 8 experts");
    m = make("llama", TEXT | VOCAB);
    mkgguf_str(m, "llama.rope.scaling.type", "yarn");
    mkgguf_f32(m, "llama.rope.scaling.factor", 4);
    expect_made(m, PUNA_E_UNSUPPORTED, "RoPE scaling 'yarn'");
    m = make("llama", TEXT | VOCAB);
    mkgguf_u32(m, "llama.attention.key_length", 16);
    expect_made(m, PUNA_E_UNSUPPORTED, "heads of 16 with RoPE on 8");
    m = make("llama", TEXT | VOCAB);
    mkgguf_tensor(m, "blk.0.attn_q.bias", PN_F32, 1, (const int64_t[]){ 32 }, NULL);
    expect_made(m, PUNA_E_UNSUPPORTED, "biases");
    m = make("llama", TEXT | VOCAB);
    mkgguf_i32s(m, "tokenizer.ggml.eos_token_ids", (const int32_t[]){ 6, 19 }, 2);
    expect_made(m, PUNA_E_FORMAT, "names token 19");
    m = make("llama", TEXT | VOCAB);
    mkgguf_u32(m, "tokenizer.ggml.eot_token_id", 1000000);
    expect_made(m, PUNA_E_FORMAT, "eot_token_id' is 1000000; 0 to 18");
    m = make("llama", TEXT | VOCAB);
    int32_t ids[18];
    for (int i = 0; i < 18; i++)
        ids[i] = i;
    mkgguf_i32s(m, "tokenizer.ggml.eos_token_ids", ids, 18);
    expect_made(m, PUNA_E_FORMAT, "more than 16 tokens");

    m = mkgguf_new(); /* no tensors at all */
    mkgguf_text_keys(m, "llama");
    mkgguf_vocab(m);
    expect_made(m, PUNA_E_FORMAT, "'token_embd.weight' is missing");
    m = mkgguf_new(); /* more tokens than rows */
    mkgguf_text_keys(m, "llama");
    mkgguf_vocab(m);
    mkgguf_tensor(m, "token_embd.weight", PN_F16, 2, (const int64_t[]){ 32, 16 }, NULL);
    expect_made(m, PUNA_E_FORMAT, "17 tokens, but only 16 rows");
    m = mkgguf_new(); /* more logits than rows */
    mkgguf_text_keys(m, "llama");
    mkgguf_vocab(m);
    mkgguf_tensor(m, "token_embd.weight", PN_F16, 2, (const int64_t[]){ 32, 17 }, NULL);
    mkgguf_tensor(m, "output.weight", PN_F16, 2, (const int64_t[]){ 32, 18 }, NULL);
    expect_made(m, PUNA_E_FORMAT, "embedding rows is 17; 18 to");
    m = mkgguf_new();
    mkgguf_text_keys(m, "llama");
    mkgguf_str(m, "tokenizer.ggml.model", "llama");
    mkgguf_text_tensors(m);
    expect_made(m, PUNA_E_UNSUPPORTED, "tokenizer 'llama' is not supported");
    m = mkgguf_new();
    mkgguf_text_keys(m, "llama");
    mkgguf_str(m, "tokenizer.ggml.model", "gpt2");
    mkgguf_str(m, "tokenizer.ggml.pre", "qwen2");
    mkgguf_text_tensors(m);
    expect_made(m, PUNA_E_UNSUPPORTED, "pre-tokenizer 'qwen2'");
    m = mkgguf_new(); /* an array where a number is needed */
    mkgguf_str(m, "general.architecture", "llama");
    mkgguf_i32s(m, "llama.block_count", (const int32_t[]){ 1, 2 }, 2);
    expect_made(m, PUNA_E_FORMAT, "'llama.block_count' is an array of i32 where an integer");

    m = mkgguf_new(); /* a converter that did not know the vocabulary */
    mkgguf_text_keys(m, "llama");
    mkgguf_str(m, "tokenizer.ggml.model", "gpt2");
    mkgguf_str(m, "tokenizer.ggml.pre", "default");
    mkgguf_strs(m, "tokenizer.ggml.tokens", (const char *const[]){ "a" }, 1);
    mkgguf_text_tensors(m);
    write_and_free(m, "default.gguf");
    made = open_ok(in_scratch("default.gguf"), NULL);
    assert_non_null(strstr(made->note, "pre-tokenizer"));
    assert_int_equal(made->hp.bos, -1);
    assert_int_equal(made->hp.n_eos, 0);
    pn_source_close(&made);

    expect_made(cross_with((const int32_t[]){ 1, 1 }, 2), PUNA_E_FORMAT, "names layer 1, twice");
    expect_made(cross_with((const int32_t[]){ 0, 2 }, 2), PUNA_E_FORMAT, "names layer 2, which");
    expect_made(cross_with((const int32_t[]){ -1 }, 1), PUNA_E_FORMAT, "names layer -1, which");
    expect_made(cross_with(NULL, 0), PUNA_E_FORMAT, "cross-attention layers is 0; 1 to 2");

    struct mkgguf *ok = mkgguf_new(); /* tied: logits from the embedding, as many as vocab_size */
    mkgguf_text_keys(ok, "llama");
    mkgguf_vocab(ok);
    mkgguf_tensor(ok, "token_embd.weight", PN_F16, 2, (const int64_t[]){ 32, 19 }, NULL);
    write_and_free(ok, "tied.gguf");
    struct pn_source *s = open_ok(in_scratch("tied.gguf"), NULL);
    assert_true(s->hp.tied);
    assert_int_equal(s->hp.n_vocab, 16);
    pn_source_close(&s);
}

static void test_early_file(void **state)
{
    (void)state;
    /* By content: after tanh no gate is beyond 1. */
    struct mkgguf *m = make("mllama", TEXT | VISION | VOCAB);
    mkgguf_vision_tensors(m, -1.25f);
    write_and_free(m, "raw.gguf");
    struct pn_source *s = open_ok(in_scratch("raw.gguf"), NULL);
    assert_true(s->quirks.global_gates_raw && s->quirks.vision_gates_tanh);
    assert_non_null(strstr(s->note, "gates"));
    assert_null(strstr(s->note, "cross-attention"));
    pn_source_close(&s);
    /* By name. */
    static const char blob[] =
        "sha256-7633fdffe14c0f7acc115402376be5bd6052220c348676c5133dc011b35e2429";
    write_and_free(make("mllama", TEXT | VISION | VOCAB | GATES), blob);
    s = open_ok(in_scratch(blob), NULL);
    assert_true(s->quirks.global_gates_raw);
    assert_non_null(strstr(s->note, "cross-attention"));
    pn_source_close(&s);
}

static void test_gguf_truncated(void **state)
{
    (void)state;
    struct mkgguf *m = make("mllama", TEXT | VISION | VOCAB | GATES);
    size_t n;
    uint8_t *bytes = mkgguf_bytes(m, 32, &n);
    mkgguf_free(m);
    for (size_t k = 0; k < n; k += k < 64 ? 1 : 37) {
        put_file("short.gguf", bytes, k);
        expect(in_scratch("short.gguf"), PUNA_E_FORMAT, "short.gguf: ");
    }
    free(bytes);
}

/* The file shrinks after opening. */
static void test_lost(void **state)
{
    (void)state;
    pn_map_guard();
    struct mkgguf *m = make("llama", TEXT | VOCAB);
    mkgguf_tensor(m, "zz.big", PN_F32, 1, (const int64_t[]){ 100000 }, NULL);
    write_and_free(m, "big.gguf");
    struct pn_source *s = open_ok(in_scratch("big.gguf"), NULL);
    const struct pn_tensor *t = pn_source_find(s, "zz.big");
    assert_non_null(t);
    assert_int_equal(pn_source_check_lost(s, NULL), 0);
    assert_int_equal(truncate(in_scratch("big.gguf"), (off_t)(s->maps[0]->size - 200000)), 0);
    unsigned sum = 0;
    for (size_t i = 0; i < t->n_bytes; i++)
        sum += t->data[i];
    assert_true(sum > 0);
    struct puna_error err = { 0 };
    assert_int_equal(pn_source_check_lost(s, &err), PUNA_E_IO);
    assert_non_null(strstr(err.message, "big.gguf"));
    assert_non_null(strstr(err.message, "(tensor 'zz.big')"));
    pn_source_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny_a),          cmocka_unit_test(test_llama_dir),
        cmocka_unit_test(test_llama_configs),   cmocka_unit_test(test_vision_configs),
        cmocka_unit_test(test_shards),          cmocka_unit_test(test_incomplete_dirs),
        cmocka_unit_test(test_odd_paths),       cmocka_unit_test(test_gguf_kinds),
        cmocka_unit_test(test_gguf_missing_keys), cmocka_unit_test(test_gguf_bad_values),
        cmocka_unit_test(test_early_file),      cmocka_unit_test(test_gguf_truncated),
        cmocka_unit_test(test_lost),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
