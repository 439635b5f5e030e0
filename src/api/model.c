/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a model: file, tokenizer, kernels, binding; and what the public API says about it. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/api.h"
#include "base/err.h"
#include "cpu/cpu.h"
#include "file/gguf.h"
#include "quant/blocks.h"
#include "session/session.h"

#define MAX_THREADS 1024
#define MAX_TOKENIZER_JSON ((size_t)256 << 20)

static void model_defaults(struct puna_model_params *p)
{
    *p = (struct puna_model_params){.size = sizeof *p, .cross_permuted = -1};
}

void puna_model_params_init_sized(struct puna_model_params *p, size_t size)
{
    struct puna_model_params d;
    model_defaults(&d);
    PN_GIVE(p, size, d);
}

/* A whole positive number in an environment variable; 0: unset. */
static int env_threads(const char *name, int *out, struct puna_error *err)
{
    const char *v = getenv(name);
    if (!v || !*v)
        return 0;
    char *end;
    const long n = strtol(v, &end, 10);
    if (*end || n < 1 || n > MAX_THREADS)
        return pn_fail(err, PUNA_E_ARG, "%s='%s' is not a number of threads (1 to %d)", name, v, MAX_THREADS);
    *out = (int)n;
    return 0;
}

int pn_choose_threads(int asked, int *out, struct puna_error *err)
{
    if (asked < 0 || asked > MAX_THREADS)
        return pn_fail(err, PUNA_E_ARG, "%d threads are not possible (1 to %d, 0: automatic)", asked, MAX_THREADS);
    *out = asked;
    int rc = asked ? 0 : env_threads("PUNA_THREADS", out, err);
    if (!rc && !*out) {
        /* OpenMP's own variable may hold a list ("4,2"); its first number counts */
        const char *omp = getenv("OMP_NUM_THREADS");
        const long n = omp ? strtol(omp, NULL, 10) : 0;
        *out = n >= 1 && n <= MAX_THREADS ? (int)n : pn_cpu_count();
    }
    return rc;
}

/* The model meant when none is named. */
static int demo_path(char *path, size_t size, struct puna_error *err)
{
    const char *env = getenv("PUNA_DEMO_MODEL");
    if (env && *env) {
        if (strlen(env) >= size)
            return pn_fail(err, PUNA_E_ARG, "PUNA_DEMO_MODEL is longer than %zu bytes", size - 1);
        memcpy(path, env, strlen(env) + 1);
        return 0;
    }
    static const char place[] = PN_PKGDATADIR "/models/demo.gguf";
    if (sizeof place <= size && !access(place, R_OK)) {
        memcpy(path, place, sizeof place);
        return 0;
    }
    return pn_fail(err, PUNA_E_NOT_FOUND,
                   "no model was named, and the one that comes with puna is not installed at %s; "
                   "name one: a Hugging Face directory, a .gguf file or an Ollama name", place);
}

static int open_vocab(struct pn_vocab **out, struct pn_source *src, struct puna_error *err)
{
    if (src->tokenizer_json) {
        char *json;
        size_t len;
        int rc = pn_read_file(&json, &len, src->tokenizer_json, MAX_TOKENIZER_JSON, err);
        if (rc)
            return rc;
        rc = pn_vocab_from_json(out, json, len, src->tokenizer_json, err);
        free(json);
        return rc;
    }
    struct pn_vocab_src vs = {0};
    size_t n_types = 0;
    int rc = pn_gguf_strs(src->gguf, "tokenizer.ggml.tokens", &vs.pieces, &vs.n_pieces, err);
    if (rc == 1)
        rc = pn_gguf_strs(src->gguf, "tokenizer.ggml.merges", &vs.merges, &vs.n_merges, err);
    if (rc == 0)
        return pn_fail(err, PUNA_E_FORMAT, "%s has no tokenizer (tokenizer.ggml.tokens and .merges)", src->path);
    if (rc < 0)
        return rc;
    rc = pn_gguf_i32s(src->gguf, "tokenizer.ggml.token_type", &vs.types, &n_types, err);
    if (rc < 0)
        return rc;
    if (rc == 1 && n_types != vs.n_pieces)
        return pn_fail(err, PUNA_E_FORMAT, "%s: tokenizer.ggml.token_type has %zu entries for %zu tokens",
                       src->path, n_types, vs.n_pieces);
    return pn_vocab_from_arrays(out, &vs, err);
}

int puna_model_open(puna_model **out, const char *name, const struct puna_model_params *params,
                    struct puna_error *err)
{
    *out = NULL;
    struct puna_model_params p;
    model_defaults(&p);
    if (params)
        PN_TAKE(p, params);
    char demo[4096];
    int threads = 0, rc = 0;
    if (!name)
        rc = demo_path(demo, sizeof demo, err);
    struct pn_kern kern;
    if (!rc)
        rc = pn_choose_threads(p.threads, &threads, err);
    if (!rc)
        rc = pn_kern_select(&kern, p.cpu, err);
    if (rc)
        return rc;
    if (!p.no_guard)
        pn_map_guard();
    puna_model *m = calloc(1, sizeof *m);
    if (!m)
        return pn_fail_memory(err, sizeof *m, "the model");
    struct pn_source *src = NULL;
    const struct pn_source_opts so = {.projector = p.projector, .cross_permuted = p.cross_permuted, .loras = p.loras,
                                      .n_loras = p.n_loras};
    const int n_steps = 3;
#define STEP(i)                                                                            \
    if (!rc && p.progress && p.progress(p.progress_user, "load", i, n_steps))              \
    rc = pn_fail(err, PUNA_E_CANCELLED, "cancelled")
    STEP(0);
    if (!rc)
        rc = pn_source_open(&src, name ? name : demo, &so, err);
    STEP(1);
    if (!rc)
        rc = open_vocab(&m->vocab, src, err);
    STEP(2);
    if (!rc)
        rc = pn_model_bind(&m->m, src, &kern, threads, err);
    if (!rc)
        src = NULL; /* the model's now */
    STEP(3);
#undef STEP
    if (rc) {
        pn_source_close(&src);
        puna_model_close(&m);
        return rc;
    }
    *out = m;
    return 0;
}

void puna_model_close(puna_model **pm)
{
    puna_model *m = pm ? *pm : NULL;
    if (!m)
        return;
    *pm = NULL;
    pn_vocab_free(&m->vocab);
    pn_model_free(&m->m);
    free(m);
}

/* ------------------------------------------------------------------------- what it is */

void puna_model_get_info(const puna_model *model, struct puna_model_info *info)
{
    static const char *const formats[] = {"safetensors", "gguf (text)", "gguf (combined)", "gguf (split)"};
    const struct pn_model *m = model->m;
    const struct pn_hparams *hp = &m->hp;
    const struct pn_vision *v = m->vision;
    struct puna_model_info i = {
        .path = m->src->path,
        .format = formats[m->src->kind],
        .note = m->src->note,
        .tier = m->kern.tier,
        .threads = m->threads,
        .has_vision = hp->vision,
        .is_chat = pn_vocab_special(model->vocab, "<|start_header_id|>") >= 0 &&
                   pn_vocab_special(model->vocab, "<|eot_id|>") >= 0,
        .n_layer = hp->n_layer, .n_cross = hp->n_cross, .d_model = hp->d_model, .n_head = hp->n_head,
        .n_kv_head = hp->n_kv_head, .head_dim = hp->head_dim, .d_ff = hp->d_ff, .n_vocab = hp->n_vocab,
        .n_ctx_train = hp->n_ctx_train, .bos = hp->bos, .image_token = hp->image_token,
        .n_tensors = m->src->n_tensors,
        .temperature = hp->do_sample ? hp->temperature : 0.0f, .top_p = hp->top_p, .top_k = hp->top_k,
        .n_eos = hp->n_eos};
    if (v) {
        i.tile_size = hp->v_image;
        i.max_tiles = hp->v_tiles;
        i.tokens_per_tile = v->n_pos;
        i.v_dim = hp->v_dim;
        i.v_layer = hp->v_layer;
        i.v_global = hp->v_global;
        i.v_head = hp->v_head;
        i.v_ff = hp->v_ff;
        i.v_out_dim = v->n_out;
        i.vision_int8 = pn_vision_is_int8(m);
        for (int c = 0; c < 3; c++) {
            i.image_mean[c] = hp->mean[c];
            i.image_std[c] = hp->std[c];
        }
    }
    /* A base model has the tokens too (the vocabulary is shared); what tells it apart is that it does not
     * end its answers with an end-of-turn token. */
    bool ends_turn = false;
    for (int32_t e = 0; e < hp->n_eos && e < 16; e++) {
        i.eos[e] = hp->eos[e];
        ends_turn |= hp->eos[e] == pn_vocab_special(model->vocab, "<|eot_id|>");
    }
    i.is_chat = i.is_chat && ends_turn;
    for (size_t t = 0; t < m->src->n_tensors; t++) {
        size_t n = 1;
        for (int d = 0; d < m->src->tensors[t].ndim; d++)
            n *= (size_t)m->src->tensors[t].ne[d];
        i.n_params += n;
    }
    for (size_t f = 0; f < m->src->n_maps; f++)
        i.file_bytes += m->src->maps[f]->size;
    PN_GIVE(info, info->size, i);
}

int puna_model_tensor(const puna_model *model, size_t i, struct puna_tensor_info *out)
{
    const struct pn_source *src = model->m->src;
    if (i >= src->n_tensors)
        return PUNA_E_ARG;
    const struct pn_tensor *t = &src->tensors[i];
    *out = (struct puna_tensor_info){.name = t->name, .type = pn_type_info(t->type)->name, .ndim = t->ndim,
                                     .n_bytes = t->n_bytes};
    for (int d = 0; d < t->ndim; d++)
        out->shape[d] = t->ne[t->ndim - 1 - d];
    return 0;
}

int puna_model_tensor_read(const puna_model *model, size_t i, float *dst, size_t n, struct puna_error *err)
{
    const struct pn_source *src = model->m->src;
    if (i >= src->n_tensors)
        return pn_fail(err, PUNA_E_ARG, "there is no tensor %zu (the model has %zu)", i, src->n_tensors);
    const struct pn_tensor *t = &src->tensors[i];
    size_t have = 1;
    for (int d = 0; d < t->ndim; d++)
        have *= (size_t)t->ne[d];
    if (n != have)
        return pn_fail(err, PUNA_E_ARG, "tensor '%s' has %zu values, the buffer takes %zu", t->name, have, n);
    model->m->kern.dequant[t->type](dst, t->data, (int64_t)n);
    return pn_source_check_lost(src, err);
}

/* ------------------------------------------------------------------------- sessions */

int puna_session_open(puna_session **out, const puna_model *m, const struct puna_session_params *params,
                      struct puna_error *err)
{
    struct puna_session_params p = {.size = sizeof p};
    if (params)
        PN_TAKE(p, params);
    return pn_session_open(out, m->m, m->vocab, &p, err);
}

int puna_plan_memory(const puna_model *m, const struct puna_session_params *params,
                     struct puna_memory_plan *plan)
{
    struct puna_session_params p = {.size = sizeof p};
    if (params)
        PN_TAKE(p, params);
    return pn_session_plan(m->m, &p, plan);
}

void puna_session_params_init_sized(struct puna_session_params *p, size_t size)
{
    const struct puna_session_params d = {.size = sizeof d};
    PN_GIVE(p, size, d);
}

void puna_gen_params_init_sized(struct puna_gen_params *p, size_t size, const puna_model *m)
{
    struct puna_gen_params d;
    pn_gen_defaults(&d, &m->m->hp);
    PN_GIVE(p, size, d);
}
