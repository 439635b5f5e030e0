/* SPDX-License-Identifier: Apache-2.0 */
/* Which memory is touched: a text prompt touches no vision tensor and no cross layer, whose pages are made unreadable;
 * asking for other pages leaves keys and values as they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <puna.h>

#include "api/api.h"

static bool picture_side(const struct pn_model *m, const char *name)
{
    if (!strncmp(name, "vision_model.", 13) || !strncmp(name, "multi_modal_projector.", 22) ||
        !strncmp(name, "v.", 2) || !strncmp(name, "mm.", 3))
        return true;
    for (int32_t i = 0; i < m->hp.n_layer; i++) {
        char hub[64], gguf[32];
        snprintf(hub, sizeof hub, "language_model.model.layers.%d.", (int)i);
        snprintf(gguf, sizeof gguf, "blk.%d.", (int)i);
        if (!strncmp(name, hub, strlen(hub)) || !strncmp(name, gguf, strlen(gguf)))
            return m->hp.is_cross[i];
    }
    return false;
}

static void text_alone(const char *name)
{
    struct puna_error err = {0};
    const char *top = getenv("PUNA_SRCDIR");
    char path[2048];
    snprintf(path, sizeof path, "%s/tests/data/%s", top ? top : ".", name);
    puna_model *m;
    puna_session *s;
    if (puna_model_open(&m, path, NULL, &err))
        fail_msg("%s", err.message);
    const struct pn_source *src = m->m->src;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    size_t hidden = 0;
    for (size_t i = 0; i < src->n_tensors; i++) {
        const struct pn_tensor *t = &src->tensors[i];
        if (!picture_side(m->m, t->name))
            continue;
        /* whole pages of this tensor alone */
        const uintptr_t from = ((uintptr_t)t->data + page - 1) / page * page;
        const uintptr_t to = ((uintptr_t)t->data + t->n_bytes) / page * page;
        if (to <= from)
            continue;
        assert_int_equal(mprotect((void *)from, to - from, PROT_NONE), 0);
        hidden += to - from;
    }
    print_message("%s: %zu KiB made unreadable\n", name, hidden >> 10);
    assert_true(hidden > 1000000);
    assert_int_equal(puna_session_open(&s, m, NULL, &err), 0);
    assert_int_equal(puna_session_text(s, "no picture here", 15, 0, &err), 0);
    struct puna_gen_params g;
    puna_gen_params_init(&g, m);
    g.max_tokens = 3;
    if (puna_generate(s, &g, NULL, NULL, NULL, &err))
        fail_msg("%s", err.message);
    puna_session_close(&s);
    puna_model_close(&m);
}

static void test_hub(void **state)
{
    (void)state;
    text_alone("tiny-a/model");
}

static void test_gguf(void **state)
{
    (void)state;
    text_alone("ollama/tiny-a-combined-f16.gguf");
}

static void test_kv_pages(void **state)
{
    (void)state;
    enum { HD = 128, CAP = 40000 };
    const struct pn_hparams hp = {.n_layer = 1, .n_kv_head = 1, .head_dim = HD};
    struct puna_error err = {0};
    struct pn_kv *kv;
    assert_int_equal(pn_kv_open(&kv, &hp, PN_KV_F16, CAP, &err), 0);
    uint16_t *k = kv->view[0].k, *v = kv->view[0].v;
    const size_t n = (size_t)CAP * HD, written[] = {0, 1, n / 3, n - 1};
    for (int i = 0; i < 4; i++)
        k[written[i]] = v[written[i]] = (uint16_t)(i + 1);
    pn_kv_expect(kv, 32000);
    assert_false(kv->huge);
    pn_kv_expect(kv, 32768);
    assert_true(kv->huge);
    size_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (size_t)k[i] + v[i];
    assert_int_equal(sum, 20);
    for (int i = 0; i < 4; i++)
        assert_true(k[written[i]] == i + 1 && v[written[i]] == i + 1);
    pn_kv_close(&kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hub), cmocka_unit_test(test_gguf),
                                       cmocka_unit_test(test_kv_pages)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
