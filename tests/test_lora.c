/* SPDX-License-Identifier: Apache-2.0 */
/* What would be merged into a weight: against the adapter's own numbers, and in a GGUF file's order of rows.
 * (The products are compared with peft's in tests/cli/lora.sh.) */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <puna.h>

#include "api/api.h"
#include "file/adapter.h"

enum { WIDE = 256 };

static puna_model *open_model(const char *model, const char *adapter)
{
    const char *top = getenv("PUNA_SRCDIR");
    char path[2048], lora_path[2048];
    snprintf(path, sizeof path, "%s/tests/data/%s", top ? top : ".", model);
    snprintf(lora_path, sizeof lora_path, "%s/tests/data/lora/%s", top ? top : ".", adapter);
    const struct puna_lora lora = {lora_path, 0.5f};
    struct puna_model_params p;
    puna_model_params_init(&p);
    p.loras = &lora;
    p.n_loras = 1;
    struct puna_error err = {0};
    puna_model *m;
    if (puna_model_open(&m, path, &p, &err))
        fail_msg("%s", err.message);
    return m;
}

static const struct pn_tensor *tensor(const puna_model *m, const char *name)
{
    const struct pn_tensor *t = pn_source_find(m->m->src, name);
    assert_non_null(t);
    return t;
}

/* What the adapter adds to row `row` of tensor `name`. */
static void added(const puna_model *m, const char *name, int64_t row, float *out)
{
    const struct pn_tensor *t = tensor(m, name);
    assert_true(t->ne[0] <= WIDE);
    memset(out, 0, WIDE * sizeof *out);
    const struct pn_lora *l = pn_lora_of(m->m, t);
    assert_non_null(l);
    /* in two stretches, as a writer of files may want it */
    pn_lora_add_row(&m->m->kern, l, row, 0, 7, out);
    pn_lora_add_row(&m->m->kern, l, row, 7, t->ne[0] - 7, out + 7);
}

static void test_merge(void **state)
{
    (void)state;
    /* rank 4, and a pattern of tests/oracle/compare_lora.py gives layer 0 alpha 12; rank 2 with alpha 8 */
    static const struct {
        const char *module;
        double scale;
    } cases[] = {{"language_model.model.layers.0.self_attn.k_proj", 0.5 * 12 / 4},
                 {"language_model.model.layers.1.cross_attn.q_proj", 0.5 * 8 / 4},
                 {"language_model.model.layers.2.mlp.down_proj", 0.5 * 8 / 4}};
    puna_model *m = open_model("tiny-b/model", "text");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s.weight", cases[i].module);
        const struct pn_adapter_pair *p = pn_adapter_find(m->m->src->adapters[0], cases[i].module);
        assert_non_null(p);
        const int64_t r = p->a->ne[1], k = p->a->ne[0], n = p->b->ne[1];
        assert_int_equal(r, 4);
        float a[4 * WIDE], b[4 * WIDE], have[WIDE];
        m->m->kern.dequant[p->a->type](a, p->a->data, r * k);
        m->m->kern.dequant[p->b->type](b, p->b->data, r * n);
        double most = 0;
        for (int64_t row = 0; row < n; row++) {
            added(m, name, row, have);
            for (int64_t c = 0; c < k; c++) {
                double want = 0;
                for (int64_t j = 0; j < r; j++)
                    want += cases[i].scale * (double)b[row * r + j] * (double)a[j * k + c];
                most = fmax(most, fabs(want));
                assert_true(fabs(want - (double)have[c]) < 1e-6);
            }
        }
        assert_true(most > 0.05);
    }
    assert_null(pn_lora_of(m->m, tensor(m, "language_model.model.layers.0.self_attn.o_proj.weight")));
    assert_null(pn_lora_of(m->m, tensor(m, "language_model.model.embed_tokens.weight")));
    puna_model_close(&m);
}

static void same_rows(const char *adapter, const char *hub_name, const char *gguf_name, int32_t heads)
{
    puna_model *hub = open_model("tiny-b/model", adapter);
    puna_model *gguf = open_model(
        "ollama/models/blobs/sha256-4e1e24458e23ed6634c43d43a8dc384db79e2ed4e458c5b5f6b7dff867251e1b", adapter);
    const struct pn_tensor *t = tensor(hub, hub_name);
    const int64_t n = t->ne[1], hd = heads ? n / heads : n;
    float a[WIDE], b[WIDE];
    for (int64_t row = 0; row < n; row++) {
        const int64_t at = row % hd, from = heads ? row / hd * hd + at % 2 * (hd / 2) + at / 2 : row;
        added(gguf, gguf_name, row, a);
        added(hub, hub_name, from, b);
        assert_memory_equal(a, b, sizeof a);
        assert_true(b[0] != 0.0f || b[1] != 0.0f);
    }
    puna_model_close(&gguf);
    puna_model_close(&hub);
}

static void test_rows(void **state)
{
    (void)state;
    same_rows("text", "language_model.model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight", 4);
    same_rows("text", "language_model.model.layers.0.self_attn.k_proj.weight", "blk.0.attn_k.weight", 2);
    same_rows("text", "language_model.model.layers.0.self_attn.v_proj.weight", "blk.0.attn_v.weight", 0);
    same_rows("text", "language_model.model.layers.1.cross_attn.q_proj.weight", "blk.1.cross_attn_q_proj.weight", 4);
    same_rows("text", "language_model.model.layers.2.mlp.up_proj.weight", "blk.2.ffn_up.weight", 0);
    same_rows("pictures", "vision_model.transformer.layers.1.self_attn.q_proj.weight", "v.blk.1.attn_q.weight", 2);
    same_rows("pictures", "vision_model.global_transformer.layers.0.mlp.fc1.weight", "v.global.blk.0.ffn_up.weight", 0);
    same_rows("pictures", "multi_modal_projector.weight", "mm.0.weight", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_merge), cmocka_unit_test(test_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
