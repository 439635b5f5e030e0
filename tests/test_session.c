/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions through the public API on the tiny model: what must not change results (chunks, threads, history),
 * and what must be refused. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <puna.h>

static char dir[2048];
static puna_model *model;

static const char *data_path(const char *name)
{
    static char path[2048];
    const char *top = getenv("PUNA_SRCDIR");
    snprintf(path, sizeof path, "%s/tests/data/%s", top ? top : ".", name);
    return path;
}

static uint8_t *slurp(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *len = (size_t)ftell(f);
    rewind(f);
    uint8_t *p = malloc(*len + 1);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, *len, f), *len);
    fclose(f);
    return p;
}

static uint8_t *picture(const char *name, size_t *len)
{
    char rel[128];
    snprintf(rel, sizeof rel, "tiny-a/images/%s.png", name);
    return slurp(data_path(rel), len);
}

static void add_picture(puna_session *s, const char *name)
{
    struct puna_error err = {0};
    size_t len;
    uint8_t *p = picture(name, &len);
    const int rc = puna_session_image(s, p, len, &err);
    free(p);
    if (rc)
        fail_msg("%s: %s", name, err.message);
}

static puna_session *session(puna_model *m, const struct puna_session_params *p)
{
    struct puna_error err = {0};
    puna_session *s;
    if (puna_session_open(&s, m, p, &err))
        fail_msg("%s", err.message);
    return s;
}

static const char prompt[] = "<|begin_of_text|>Before. <|image|>First one.<|image|><|image|>And the second and "
                             "third: compare them, slowly, 12345 times!";

static void fill(puna_session *s)
{
    struct puna_error err = {0};
    add_picture(s, "wide");
    add_picture(s, "one");
    add_picture(s, "tall");
    if (puna_session_text(s, prompt, sizeof prompt - 1, 1, &err))
        fail_msg("%s", err.message);
}

struct rows {
    float *v;
    int32_t n, n_vocab;
};

static int take(void *user, int32_t pos, const float *logits, int32_t n_vocab)
{
    struct rows *r = user;
    assert_int_equal(pos, r->n);
    r->v = realloc(r->v, (size_t)(r->n + 1) * (size_t)n_vocab * sizeof *r->v);
    assert_non_null(r->v);
    memcpy(r->v + (size_t)r->n * (size_t)n_vocab, logits, (size_t)n_vocab * sizeof *logits);
    r->n_vocab = n_vocab;
    r->n++;
    return 0;
}

static struct rows all_logits(puna_model *m, const struct puna_session_params *p)
{
    struct puna_error err = {0};
    struct rows r = {0};
    puna_session *s = session(m, p);
    fill(s);
    if (puna_session_eval(s, take, &r, &err))
        fail_msg("%s", err.message);
    assert_int_equal(r.n, puna_session_length(s));
    puna_session_close(&s);
    assert_null(s);
    return r;
}

static puna_model *open_with(const char *name, int threads)
{
    struct puna_model_params p;
    struct puna_error err = {0};
    puna_model *m;
    puna_model_params_init(&p);
    p.threads = threads;
    if (puna_model_open(&m, name, &p, &err))
        fail_msg("%s", err.message);
    return m;
}

static void same_rows(const struct rows *a, const struct rows *b, const char *what, int x, int y)
{
    assert_int_equal(a->n, b->n);
    for (int32_t i = 0; i < a->n; i++)
        if (memcmp(a->v + (size_t)i * (size_t)a->n_vocab, b->v + (size_t)i * (size_t)a->n_vocab,
                   (size_t)a->n_vocab * sizeof *a->v))
            fail_msg("%s: row %d differs (%d, %d)", what, (int)i, x, y);
}

/* Same bits for any chunk, any thread count, every KV type, f32 and fast. */
static void chunks_and_threads(const char *name)
{
    static const int kv[] = {PUNA_KV_F16, PUNA_KV_F32, PUNA_KV_BF16, PUNA_KV_Q8_0};
    static const int chunk[] = {1, 3, 5, 19};
    puna_model *three = open_with(name, 3), *one = open_with(name, 1);
    struct puna_session_params p;
    puna_session_params_init(&p);
    for (size_t k = 0; k < 4; k++) {
        p.kv_type = kv[k];
        p.chunk = 64;
        struct rows ref = all_logits(one, &p);
        assert_true(ref.n > 20);
        p.chunk = chunk[k];
        struct rows got = all_logits(three, &p);
        same_rows(&ref, &got, name, kv[k], chunk[k]);
        free(got.v);
        free(ref.v);
    }
    p.precise = 1;
    p.chunk = 64;
    struct rows ref = all_logits(one, &p);
    p.chunk = 4;
    struct rows got = all_logits(three, &p);
    same_rows(&ref, &got, name, -1, 4);
    free(got.v);
    free(ref.v);
    puna_model_close(&three);
    puna_model_close(&one);
}

static void test_chunks_bf16(void **state)
{
    (void)state;
    chunks_and_threads(dir);
}

static void copy_model(char *to, size_t size)
{
    static const char *const files[] = {"config.json", "generation_config.json", "preprocessor_config.json",
                                        "tokenizer.json", "model.safetensors.index.json",
                                        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
    snprintf(to, size, "%s/puna-test-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(to));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[4096];
        size_t len;
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        uint8_t *p = slurp(path, &len);
        snprintf(path, sizeof path, "%s/%s", to, files[i]);
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(p, 1, len, f), len);
        assert_int_equal(fclose(f), 0);
        free(p);
    }
}

static void remove_model(const char *path)
{
    char cmd[1200];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", path);
    assert_int_equal(system(cmd), 0);
}

/* Offset of a tensor's data in shard 2, by its name in the header. */
static long tensor_offset(const char *shard, const char *name)
{
    size_t len;
    uint8_t *p = slurp(shard, &len);
    uint64_t head = 0;
    for (int i = 0; i < 8; i++)
        head |= (uint64_t)p[i] << (8 * i);
    char quoted[256];
    snprintf(quoted, sizeof quoted, "\"%s\"", name);
    const char *at = memmem(p + 8, head, quoted, strlen(quoted));
    assert_non_null(at);
    at = strstr(at, "data_offsets");
    at = strchr(at, '[') + 1;
    const long off = strtol(at, NULL, 10) + 8 + (long)head;
    free(p);
    return off;
}

/* A callback that stops keeps its place: the next eval goes on with the next row. */
static int stop_at_odd(void *user, int32_t pos, const float *logits, int32_t n_vocab)
{
    take(user, pos, logits, n_vocab);
    return pos % 2;
}

static void test_callback_stops(void **state)
{
    (void)state;
    struct puna_error err = {0};
    struct puna_session_params p;
    puna_session_params_init(&p);
    p.chunk = 5;
    struct rows all = all_logits(model, &p), got = {0};
    puna_session *s = session(model, &p);
    fill(s);
    int calls = 0;
    while (got.n < puna_session_length(s)) {
        const int rc = puna_session_eval(s, stop_at_odd, &got, &err);
        assert_true(rc == 0 || rc == PUNA_E_CANCELLED);
        assert_true(++calls < 200);
    }
    assert_true(calls > 20);
    same_rows(&all, &got, "stopped callbacks", 0, 0);
    puna_session_close(&s);
    free(all.v);
    free(got.v);
}

/* The empty-tile reduction against the full computation: wide has 4 tiles, one has 1, tall has 3. */
static void test_full_tiles(void **state)
{
    (void)state;
    struct puna_session_params p;
    puna_session_params_init(&p);
    p.precise = 1;
    struct rows a = all_logits(model, &p);
    p.full_tiles = 1;
    struct rows b = all_logits(model, &p);
    float most = 0;
    for (size_t i = 0; i < (size_t)a.n * (size_t)a.n_vocab; i++) {
        const float d = a.v[i] > b.v[i] ? a.v[i] - b.v[i] : b.v[i] - a.v[i];
        most = d > most ? d : most;
    }
    print_message("empty tiles counted against computed: max |difference| of the logits %.3g\n", (double)most);
    assert_true(most < 1e-4f);
    assert_true(most > 0); /* bit-equal would mean that nothing was reduced */
    free(a.v);
    free(b.v);
}

/* Tables that give a missing tile a position of its own: the reduction would be wrong, and is not used. */
static void test_tables_not_zero(void **state)
{
    (void)state;
    char copy[1024], shard[2048];
    copy_model(copy, sizeof copy);
    snprintf(shard, sizeof shard, "%s/model-00001-of-00002.safetensors", copy);
    /* [9][4 tiles * 160] bf16: ratio 1 (one tile), tile 2, one channel */
    const long off = tensor_offset(shard, "vision_model.pre_tile_positional_embedding.embedding.weight");
    FILE *f = fopen(shard, "r+b");
    assert_non_null(f);
    fseek(f, off + 2 * (640 + 2 * 160 + 7), SEEK_SET);
    fwrite("\x80\x3f", 1, 2, f); /* 1.0 */
    fclose(f);
    puna_model *m = open_with(copy, 1);
    struct puna_session_params p;
    puna_session_params_init(&p);
    p.precise = 1;
    struct rows zero = all_logits(model, &p), a = all_logits(m, &p);
    p.full_tiles = 1;
    struct rows b = all_logits(m, &p);
    float same = 0, changed = 0;
    for (size_t i = 0; i < (size_t)a.n * (size_t)a.n_vocab; i++) {
        const float d = a.v[i] > b.v[i] ? a.v[i] - b.v[i] : b.v[i] - a.v[i];
        const float z = a.v[i] > zero.v[i] ? a.v[i] - zero.v[i] : zero.v[i] - a.v[i];
        same = d > same ? d : same;
        changed = z > changed ? z : changed;
    }
    assert_true(same < 1e-4f);
    assert_true(changed > 1e-3f); /* the value does matter */
    free(zero.v);
    free(a.v);
    free(b.v);
    puna_model_close(&m);
    remove_model(copy);
}

static void test_rewind(void **state)
{
    (void)state;
    struct puna_error err = {0};
    puna_session *a = session(model, NULL), *b = session(model, NULL);
    const size_t V = 528;
    fill(a);
    assert_int_equal(puna_session_eval(a, NULL, NULL, &err), 0);
    float *ref = malloc(V * sizeof *ref);
    memcpy(ref, puna_session_logits(a), V * sizeof *ref);
    const int32_t n = puna_session_length(a);
    /* take back everything behind the first picture, say something else, take that back, say it again */
    fill(b);
    assert_int_equal(puna_session_eval(b, NULL, NULL, &err), 0);
    int32_t ids[256];
    for (int32_t i = 0; i < n; i++)
        ids[i] = puna_session_token(b, i);
    assert_int_equal(puna_session_rewind(b, 12, &err), 0);
    assert_null(puna_session_logits(b));
    assert_int_equal(puna_session_eval(b, NULL, NULL, &err), 0);
    assert_non_null(puna_session_logits(b)); /* the last row again */
    add_picture(b, "gray");
    assert_int_equal(puna_session_text(b, "Other <|image|> words", 21, 1, &err), 0);
    assert_int_equal(puna_session_eval(b, NULL, NULL, &err), 0);
    assert_int_equal(puna_session_rewind(b, 12, &err), 0);
    int32_t left = 0;
    for (int32_t i = 12; i < n; i++)
        left += ids[i] == 528;
    static const char *const names[] = {"wide", "one", "tall"};
    for (int32_t i = 3 - left; i < 3; i++)
        add_picture(b, names[i]);
    assert_int_equal(puna_session_tokens(b, ids + 12, (size_t)n - 12, &err), 0);
    assert_int_equal(puna_session_eval(b, NULL, NULL, &err), 0);
    assert_memory_equal(ref, puna_session_logits(b), V * sizeof *ref);
    assert_int_equal(puna_session_rewind(b, n + 1, &err), PUNA_E_ARG);
    assert_int_equal(puna_session_rewind(b, -1, &err), PUNA_E_ARG);
    free(ref);
    puna_session_close(&a);
    puna_session_close(&b);
}

/* ------------------------------------------------------------------------- chat and answers */

struct answer {
    char text[4096];
    size_t len;
    int pieces;
    int32_t ids[256];
    int stop_after;
    puna_session *cancel;
};

static int collect(void *user, const struct puna_piece *p)
{
    struct answer *a = user;
    assert_true(a->len + p->text_len < sizeof a->text);
    assert_int_equal(puna_utf8_complete(p->text, p->text_len), p->text_len);
    memcpy(a->text + a->len, p->text, p->text_len);
    a->len += p->text_len;
    a->text[a->len] = 0;
    if (p->id >= 0) /* not the held-back rest */
        a->ids[a->pieces++ & 255] = p->id;
    if (a->cancel && a->pieces == 3)
        puna_session_cancel(a->cancel);
    return a->stop_after && a->pieces >= a->stop_after;
}

static void say(puna_session *s, const char *role, const char *text, const uint8_t *img, size_t img_len)
{
    struct puna_error err = {0};
    struct puna_part parts[2];
    size_t n = 0;
    if (img)
        parts[n++] = (struct puna_part){.image = img, .image_len = img_len};
    parts[n++] = (struct puna_part){.text = text, .text_len = strlen(text)};
    const struct puna_message msg = {.role = role, .parts = parts, .n_parts = n, .is_list = img != NULL};
    if (puna_session_chat(s, &msg, 1, NULL, &err))
        fail_msg("%s", err.message);
}

static void test_chat_turns(void **state)
{
    (void)state;
    struct puna_error err = {0};
    struct puna_gen_params g;
    puna_gen_params_init(&g, model);
    g.temperature = 0;
    g.max_tokens = 6;
    puna_session *s = session(model, NULL);
    struct answer a = {0};
    struct puna_gen_result r;
    size_t len;
    uint8_t *png = picture("square", &len);
    say(s, "user", "Hello.", NULL, 0);
    assert_int_equal(puna_generate(s, &g, collect, &a, &r, &err), 0);
    assert_int_equal(r.n_images, 0);
    say(s, "user", "And this?", png, len);
    assert_int_equal(puna_generate(s, &g, collect, &a, &r, &err), 0);
    assert_int_equal(r.n_images, 1);
    assert_int_equal(r.n_images_cached, 0);
    say(s, "user", "The same again.", png, len);
    assert_int_equal(puna_generate(s, &g, collect, &a, &r, &err), 0);
    assert_int_equal(r.n_images, 1);
    assert_int_equal(r.n_images_cached, 1); /* by content */
    int bos = 0, images = 0, open_turns = 0;
    for (int32_t i = 0; i < puna_session_length(s); i++) {
        bos += puna_session_token(s, i) == 512;
        images += puna_session_token(s, i) == 528;
        if (puna_session_token(s, i) == puna_token_special(model, "<|start_header_id|>") && i > 1) {
            const int32_t before = puna_session_token(s, i - 1);
            open_turns += before != puna_token_special(model, "<|eot_id|>");
        }
    }
    assert_int_equal(bos, 1);
    assert_int_equal(images, 2);
    assert_int_equal(open_turns, 0); /* an answer cut by max_tokens is closed before the next turn */
    free(png);
    puna_session_close(&s);
}

static void answer(const struct puna_gen_params *g, struct answer *a, struct puna_gen_result *r, int want)
{
    struct puna_error err = {0};
    puna_session *s = session(model, NULL);
    if (a->cancel)
        a->cancel = s;
    say(s, "user", "Tell me something.", NULL, 0);
    const int rc = puna_generate(s, g, collect, a, r, &err);
    if (rc != want)
        fail_msg("%d instead of %d: %s", rc, want, err.message);
    if (want == PUNA_E_CANCELLED) {
        /* still usable, and the cancel is spent */
        assert_int_equal(puna_generate(s, g, NULL, NULL, r, &err), 0);
    }
    puna_session_close(&s);
}

static void test_generate(void **state)
{
    (void)state;
    struct puna_gen_params g;
    struct puna_gen_result r;
    struct answer base = {0};
    puna_gen_params_init(&g, model);
    assert_true(g.temperature > 0.59f && g.temperature < 0.61f);
    g.seed = 7;
    g.max_tokens = 48;
    g.ignore_eos = 1;
    answer(&g, &base, &r, 0);
    assert_int_equal(r.finish, PUNA_FINISH_LENGTH);
    assert_int_equal(r.n_generated, 48);
    struct answer again = {0};
    answer(&g, &again, &r, 0);
    assert_string_equal(base.text, again.text);
    g.seed = 8;
    struct answer other = {0};
    answer(&g, &other, &r, 0);
    assert_string_not_equal(base.text, other.text);
    g.seed = 7;

    /* a stop string that spans several tokens, out of the known answer: four ASCII characters behind its start
     * (what is no text comes out as U+FFFD, which cannot be waited for) */
    char stop[16] = {0};
    size_t at = 0;
    for (size_t i = 4, run = 0; i < base.len && !at; i++) {
        run = (signed char)base.text[i] > 0 ? run + 1 : 0;
        if (run == 4)
            at = i - 3;
    }
    assert_true(at > 0);
    memcpy(stop, base.text + at, 4);
    const char *stops[] = {"never in it", stop};
    g.stop = stops;
    g.n_stop = 2;
    struct answer cut = {0};
    answer(&g, &cut, &r, 0);
    assert_int_equal(r.finish, PUNA_FINISH_STOP);
    assert_ptr_equal(r.stop_string, stop);
    assert_null(strstr(cut.text, stop));
    assert_int_equal(strncmp(cut.text, base.text, cut.len), 0);
    assert_int_equal(cut.len, (size_t)(strstr(base.text, stop) - base.text));
    g.n_stop = 0;

    /* the callback stops it; another thread's flag stops it */
    struct answer few = {.stop_after = 5};
    answer(&g, &few, &r, 0);
    assert_int_equal(r.finish, PUNA_FINISH_CANCELLED);
    assert_int_equal(few.pieces, 5);
    struct answer flagged = {.cancel = (puna_session *)1};
    answer(&g, &flagged, &r, PUNA_E_CANCELLED);
    assert_int_equal(flagged.pieces, 3);

    /* log-probabilities: sorted, and the greedy token is the best one */
    g.temperature = 0;
    g.top_logprobs = 5;
    struct answer lp = {0};
    answer(&g, &lp, &r, 0);
    assert_int_equal(lp.pieces, 48);
}

/* An end token ends the answer and is reported. */
static void test_stop_id(void **state)
{
    (void)state;
    struct puna_gen_params g;
    struct puna_gen_result r;
    struct answer a = {0};
    const struct puna_logit_bias bias = {521, 1000.0f};
    puna_gen_params_init(&g, model);
    g.logit_bias = &bias;
    g.n_logit_bias = 1;
    answer(&g, &a, &r, 0);
    assert_int_equal(r.finish, PUNA_FINISH_STOP);
    assert_int_equal(r.stop_id, 521);
    assert_int_equal(r.n_generated, 1);
    assert_int_equal(a.len, 0);
}

static void test_context_end(void **state)
{
    (void)state;
    struct puna_error err = {0};
    struct puna_session_params p;
    puna_session_params_init(&p);
    p.ctx = 16;
    puna_session *s = session(model, &p);
    char text[200];
    memset(text, 'x', sizeof text);
    assert_int_equal(puna_session_text(s, text, sizeof text, 0, &err), PUNA_E_CONTEXT);
    assert_non_null(strstr(err.message, "16"));
    assert_int_equal(puna_session_length(s), 0);
    assert_int_equal(puna_session_text(s, "abc", 3, 0, &err), 0);
    struct puna_gen_params g;
    struct puna_gen_result r;
    puna_gen_params_init(&g, model);
    g.ignore_eos = 1;
    assert_int_equal(puna_generate(s, &g, NULL, NULL, &r, &err), 0);
    assert_int_equal(r.finish, PUNA_FINISH_LENGTH);
    assert_int_equal(puna_session_length(s), 16);
    assert_int_equal(puna_session_text(s, "a", 1, 0, &err), PUNA_E_CONTEXT);
    puna_session_close(&s);
    p.ctx = 1025; /* the model was trained on 1024 */
    assert_int_equal(puna_session_open(&s, model, &p, &err), PUNA_E_ARG);
    assert_null(s);
    p.ctx = 1024;
    p.max_memory = 100000;
    assert_int_equal(puna_session_open(&s, model, &p, &err), PUNA_E_MEMORY);
    assert_null(s);
    /* the text fits, a picture does not */
    struct puna_memory_plan plan;
    p.max_memory = 0;
    puna_plan_memory(model, &p, &plan);
    assert_true(plan.kv_bytes > 0 && plan.vision_scratch_bytes > 0 && plan.cross_bytes_per_image > 0);
    p.max_memory = plan.kv_bytes + plan.scratch_bytes + 1000;
    s = session(model, &p);
    add_picture(s, "one");
    assert_int_equal(puna_session_text(s, "<|image|>", 9, 1, &err), 0);
    assert_int_equal(puna_session_eval(s, NULL, NULL, &err), PUNA_E_MEMORY);
    puna_session_close(&s);
}

/* Skipped tokens take their room and are seen like others. */
static void test_skip(void **state)
{
    (void)state;
    struct puna_error err = {0};
    struct puna_session_params p;
    puna_session_params_init(&p);
    p.ctx = 300;
    puna_session *s = session(model, &p), *alone = session(model, &p);
    assert_int_equal(puna_session_skip(s, 301, &err), PUNA_E_CONTEXT);
    assert_int_equal(puna_session_skip(s, -1, &err), PUNA_E_ARG);
    assert_int_equal(puna_session_length(s), 0);
    assert_int_equal(puna_session_skip(s, 200, &err), 0);
    assert_int_equal(puna_session_length(s), 200);
    assert_null(puna_session_logits(s));
    const int32_t ids[] = {1, 2, 3};
    assert_int_equal(puna_session_tokens(s, ids, 3, &err), 0);
    assert_int_equal(puna_session_skip(s, 1, &err), PUNA_E_ARG); /* three wait to be computed */
    assert_int_equal(puna_session_eval(s, NULL, NULL, &err), 0);
    assert_int_equal(puna_session_tokens(alone, ids, 3, &err), 0);
    assert_int_equal(puna_session_eval(alone, NULL, NULL, &err), 0);
    assert_memory_not_equal(puna_session_logits(s), puna_session_logits(alone), sizeof(float));
    puna_session_close(&s);
    puna_session_close(&alone);
}

static void test_refusals(void **state)
{
    (void)state;
    struct puna_error err = {0};
    puna_session *s = session(model, NULL);
    const int32_t bad[] = {1, 2, 536}, neg[] = {-1}, image[] = {1, 528};
    assert_int_equal(puna_session_tokens(s, bad, 3, &err), PUNA_E_ARG);
    assert_non_null(strstr(err.message, "536"));
    assert_int_equal(puna_session_tokens(s, neg, 1, &err), PUNA_E_ARG);
    assert_int_equal(puna_session_tokens(s, image, 2, &err), PUNA_E_ARG);
    assert_int_equal(puna_session_length(s), 0);
    assert_int_equal(puna_session_image(s, "<html></html>", 13, &err), PUNA_E_UNSUPPORTED);
    assert_int_equal(puna_session_image(s, "", 0, &err), PUNA_E_UNSUPPORTED);
    assert_int_equal(puna_generate(s, NULL, NULL, NULL, NULL, &err), PUNA_E_ARG);
    /* control tokens typed by a user are text */
    say(s, "user", "<|eot_id|><|image|><|begin_of_text|>", NULL, 0);
    int eot = 0;
    for (int32_t i = 0; i < puna_session_length(s); i++)
        eot += puna_session_token(s, i) == puna_token_special(model, "<|eot_id|>");
    assert_int_equal(eot, 2); /* system block and user turn */
    struct puna_gen_params g;
    puna_gen_params_init(&g, model);
    g.temperature = -1;
    assert_int_equal(puna_generate(s, &g, NULL, NULL, NULL, &err), PUNA_E_ARG);
    puna_gen_params_init(&g, model);
    g.top_p = 1.5f;
    assert_int_equal(puna_generate(s, &g, NULL, NULL, NULL, &err), PUNA_E_ARG);
    const struct puna_logit_bias nobody = {528, 1.0f}; /* has an embedding, no logit */
    puna_gen_params_init(&g, model);
    g.logit_bias = &nobody;
    g.n_logit_bias = 1;
    assert_int_equal(puna_generate(s, &g, NULL, NULL, NULL, &err), PUNA_E_ARG);
    puna_session_close(&s);
    puna_session_close(&s); /* closing nothing is fine */
    puna_session_close(NULL);
}

/* A system message with a picture: the template's own refusal, and nothing stays behind. */
static void test_system_with_picture(void **state)
{
    (void)state;
    struct puna_error err = {0};
    puna_session *s = session(model, NULL);
    size_t len;
    uint8_t *png = picture("one", &len);
    const struct puna_part sys = {.text = "Be brief.", .text_len = 9};
    const struct puna_part user[] = {{.image = png, .image_len = len}, {.text = "What?", .text_len = 5}};
    const struct puna_message m[] = {{.role = "system", .parts = &sys, .n_parts = 1},
                                     {.role = "user", .parts = user, .n_parts = 2, .is_list = 1}};
    assert_int_equal(puna_session_chat(s, m, 2, NULL, &err), PUNA_E_ARG);
    assert_non_null(strstr(err.message, "incompatible with system messages"));
    assert_int_equal(puna_session_length(s), 0);
    const struct puna_chat_opts o = {.size = sizeof o, .system_in_user = 1};
    assert_int_equal(puna_session_chat(s, m, 2, &o, &err), 0);
    assert_int_equal(puna_session_eval(s, NULL, NULL, &err), 0);
    /* the template prints a list it puts tools in front of as text: the picture would be lost without a word */
    assert_int_equal(puna_session_rewind(s, 0, &err), 0);
    const struct puna_chat_opts tools = {.size = sizeof tools, .tools_json = "[{\"name\": \"f\"}]"};
    assert_int_equal(puna_session_chat(s, m + 1, 1, &tools, &err), PUNA_E_ARG);
    assert_non_null(strstr(err.message, "picture"));
    assert_int_equal(puna_session_length(s), 0);
    free(png);
    puna_session_close(&s);
}

/* ------------------------------------------------------------------------- damaged files */

static void test_nan_weights(void **state)
{
    (void)state;
    struct puna_error err = {0};
    char copy[1024], shard[2048];
    copy_model(copy, sizeof copy);
    snprintf(shard, sizeof shard, "%s/model-00002-of-00002.safetensors", copy);
    const long off = tensor_offset(shard, "language_model.model.norm.weight");
    FILE *f = fopen(shard, "r+b");
    fseek(f, off, SEEK_SET);
    fwrite("\xc0\x7f", 1, 2, f); /* a bf16 NaN */
    fclose(f);
    puna_model *m = open_with(copy, 1);
    puna_session *s = session(m, NULL);
    assert_int_equal(puna_session_text(s, "abc", 3, 0, &err), 0);
    assert_int_equal(puna_session_eval(s, NULL, NULL, &err), PUNA_E_NUMERIC);
    puna_session_close(&s);
    puna_model_close(&m);
    remove_model(copy);
}

/* Before cmocka's run: it puts its own SIGBUS handler in front of the library's. */
static int shrink_rc;
static struct puna_error shrink_err;

static void shrink_a_file(void)
{
    struct puna_error err = {0};
    char copy[1024], shard[2048];
    copy_model(copy, sizeof copy);
    snprintf(shard, sizeof shard, "%s/model-00002-of-00002.safetensors", copy);
    puna_model *m = open_with(copy, 2);
    puna_session *s = session(m, NULL);
    if (puna_session_text(s, "abc", 3, 0, &err) || truncate(shard, 300000))
        return;
    shrink_rc = puna_session_eval(s, NULL, NULL, &shrink_err);
    puna_session_close(&s);
    puna_model_close(&m);
    remove_model(copy);
}

static void test_file_shrinks(void **state)
{
    (void)state;
    assert_int_equal(shrink_rc, PUNA_E_IO);
    print_message("%s\n", shrink_err.message);
    assert_non_null(strstr(shrink_err.message, "model-00002-of-00002.safetensors"));
    assert_non_null(strstr(shrink_err.message, "tensor"));
}

/* Beyond one chunk of keys (1024), and with threads that do not divide the KV heads, decode cuts the keys between
 * threads; prefill does not. Same bits. */
enum { LONG_FIRST = 1050 }; /* just beyond a chunk: qemu runs this too */

static int take_last(void *user, int32_t pos, const float *logits, int32_t n_vocab)
{
    struct rows *r = user;
    r->n = pos; /* rows before the wanted ones are dropped */
    return pos < LONG_FIRST ? 0 : take(user, pos, logits, n_vocab);
}

static void test_long_context(void **state)
{
    (void)state;
    struct puna_error err = {0};
    char copy[1024], path[2048];
    size_t len;
    copy_model(copy, sizeof copy);
    snprintf(path, sizeof path, "%s/config.json", copy);
    uint8_t *json = slurp(path, &len);
    json[len] = 0;
    char *at = strstr((char *)json, "\"max_position_embeddings\": 1024");
    assert_non_null(at);
    memcpy(at, "\"max_position_embeddings\": 4096", strlen("\"max_position_embeddings\": 4096"));
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(json, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
    free(json);
    enum { N = LONG_FIRST + 12 };
    int32_t ids[N];
    for (int i = 0; i < N; i++)
        ids[i] = (i * 7919 + i / 3) % 500;
    ids[5] = ids[700] = 528;
    puna_model *one = open_with(copy, 1), *three = open_with(copy, 3);
    for (int kv = PUNA_KV_F16; kv <= PUNA_KV_Q8_0; kv += PUNA_KV_Q8_0) {
        struct puna_session_params p;
        puna_session_params_init(&p);
        p.kv_type = kv;
        p.ctx = N;
        struct rows all = {0}, got = {0};
        puna_session *s = session(one, &p);
        add_picture(s, "one");
        add_picture(s, "tall");
        assert_int_equal(puna_session_tokens(s, ids, N, &err), 0);
        all.v = calloc(N, 528 * sizeof *all.v);
        assert_non_null(all.v);
        assert_int_equal(puna_session_eval(s, take_last, &all, &err), 0);
        puna_session_close(&s);
        s = session(three, &p);
        add_picture(s, "one");
        add_picture(s, "tall");
        assert_int_equal(puna_session_tokens(s, ids, LONG_FIRST, &err), 0);
        assert_int_equal(puna_session_eval(s, NULL, NULL, &err), 0);
        got.n = LONG_FIRST;
        got.v = calloc(N, 528 * sizeof *got.v);
        for (int i = LONG_FIRST; i < N; i++) {
            assert_int_equal(puna_session_tokens(s, ids + i, 1, &err), 0);
            assert_int_equal(puna_session_eval(s, take, &got, &err), 0);
        }
        puna_session_close(&s);
        same_rows(&all, &got, "long context", kv, N);
        assert_true(got.v[(N - 1) * 528] != 0);
        free(all.v);
        free(got.v);
    }
    puna_model_close(&one);
    puna_model_close(&three);
    remove_model(copy);
}

static void test_no_model(void **state)
{
    (void)state;
    struct puna_error err = {0};
    puna_model *m = (puna_model *)1;
    assert_int_equal(puna_model_open(&m, "/nowhere/at/all.gguf", NULL, &err), PUNA_E_NOT_FOUND);
    assert_null(m);
    struct puna_model_params p;
    puna_model_params_init(&p);
    p.cpu = "pentium";
    assert_int_equal(puna_model_open(&m, dir, &p, &err), PUNA_E_UNSUPPORTED);
    puna_model_params_init(&p);
    p.threads = -3;
    assert_int_equal(puna_model_open(&m, dir, &p, &err), PUNA_E_ARG);
}

/* Two sessions of one model in two threads: the model is shared, results are those of one alone. */
static void *run_alone(void *arg)
{
    struct rows *r = arg;
    struct puna_session_params p;
    puna_session_params_init(&p);
    *r = all_logits(model, &p);
    return NULL;
}

static void test_two_sessions(void **state)
{
    (void)state;
    struct rows r[3] = {{0}};
    pthread_t t[2];
    run_alone(&r[2]);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&t[i], NULL, run_alone, &r[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(t[i], NULL);
        same_rows(&r[i], &r[2], "two sessions", i, 0);
        free(r[i].v);
    }
    free(r[2].v);
}

int main(void)
{
    snprintf(dir, sizeof dir, "%s", data_path("tiny-a/model"));
    shrink_a_file();
    /* OpenBLAS sums in an order that depends on shapes and even on alignment: the portable tier promises no bits
     * (doc/NUMERICS.md; tests/cli/tiers.sh compares its numbers). Where it is the best tier, the reference runs. */
    model = open_with(dir, 0);
    struct puna_model_info info = {.size = sizeof info};
    puna_model_get_info(model, &info);
    if (!strcmp(info.tier, "openblas")) {
        print_message("openblas promises no bits: these tests run in the scalar tier\n");
        puna_model_close(&model);
        setenv("PUNA_CPU", "scalar", 1);
        model = open_with(dir, 0);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_bf16),   cmocka_unit_test(test_callback_stops),
        cmocka_unit_test(test_full_tiles),
        cmocka_unit_test(test_tables_not_zero),
        cmocka_unit_test(test_rewind),        cmocka_unit_test(test_chat_turns),
        cmocka_unit_test(test_generate),      cmocka_unit_test(test_stop_id),
        cmocka_unit_test(test_skip),
        cmocka_unit_test(test_context_end),   cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_system_with_picture), cmocka_unit_test(test_nan_weights),
        cmocka_unit_test(test_file_shrinks),  cmocka_unit_test(test_no_model),
        cmocka_unit_test(test_two_sessions),  cmocka_unit_test(test_long_context),
    };
    const int rc = cmocka_run_group_tests(tests, NULL, NULL);
    puna_model_close(&model);
    return rc;
}
