/* SPDX-License-Identifier: Apache-2.0 */
/* puna_quantize: a model into one GGUF file. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "api/api.h"
#include "base/err.h"
#include "base/mem.h"
#include "convert/convert.h"
#include "file/imatrix.h"

static void defaults(struct puna_quant_params *p)
{
    *p = (struct puna_quant_params){.size = sizeof *p, .cross_permuted = -1};
}

void puna_quant_params_init_sized(struct puna_quant_params *p, size_t size)
{
    struct puna_quant_params d;
    defaults(&d);
    PN_GIVE(p, size, d);
}

const char *puna_quant_type(size_t i)
{
    return pn_mix_name(i);
}

static int choose_vision(const char *name, int *type, struct puna_error *err)
{
    static const enum pn_type can[] = {PN_F16, PN_BF16, PN_Q8_0, PN_F32};
    *type = name ? pn_type_by_name(name) : -1;
    for (size_t i = 0; i < sizeof can / sizeof *can; i++)
        if (!name || *type == (int)can[i])
            return 0;
    return pn_fail(err, PUNA_E_ARG, "the vision tower cannot be '%s'; there are F16, BF16, Q8_0 and F32", name);
}

static int choose_mix(const struct puna_quant_params *p, const struct pn_mix **mix, struct puna_error *err)
{
    *mix = pn_mix_find(p->type ? p->type : p->check ? "F32" : "");
    if (*mix)
        return 0;
    struct pn_buf list = {0};
    for (size_t i = 0; pn_mix_name(i); i++)
        pn_buf_printf(&list, "%s%s", i ? ", " : "", pn_mix_name(i));
    const int rc = pn_fail(err, PUNA_E_ARG, "%s%s%s; there are %s", p->type ? "unknown type '" : "no type was given",
                           p->type ? p->type : "", p->type ? "'" : "", list.failed ? "others" : list.data);
    pn_buf_free(&list);
    return rc;
}

/* Writing over the source would pull the map from under the reader, --force or not. */
static int check_target(const struct pn_source *src, const char *path, int overwrite, struct puna_error *err)
{
    struct stat to, from;
    if (stat(path, &to) != 0)
        return 0;
    for (size_t i = 0; i < src->n_maps; i++)
        if (stat(src->maps[i]->path, &from) == 0 && from.st_dev == to.st_dev && from.st_ino == to.st_ino)
            return pn_fail(err, PUNA_E_ARG, "%s is the model itself; name another file", path);
    if (!overwrite && S_ISREG(to.st_mode))
        return pn_fail(err, PUNA_E_ARG, "%s exists; name another file, or force it to be replaced", path);
    return 0;
}

/* Decoder layers that the model lacks say that the statistics are another model's, which may have the same widths.
 * Other entries may be left over: an output matrix that is the embedding here, a tower that is not in this file. */
static int check_layers(const struct pn_plan *plan, const struct pn_imatrix *m, const char *path,
                        struct puna_error *err)
{
    struct pn_map_str *names = pn_map_str_new(plan->n);
    int rc = names ? 0 : pn_fail_memory(err, plan->n, "the names of the tensors");
    for (size_t i = 0; !rc && i < plan->n; i++)
        if (pn_map_str_put(names, plan->t[i].name, strlen(plan->t[i].name), (uint32_t)i) < 0)
            rc = pn_fail_memory(err, plan->n, "the names of the tensors");
    for (size_t i = 0; !rc && i < pn_imatrix_count(m); i++) {
        const char *name = pn_imatrix_name(m, i);
        if (strncmp(name, "blk.", 4) == 0 && pn_map_str_get(names, name, strlen(name)) < 0)
            rc = pn_fail(err, PUNA_E_FORMAT, "%s: the model has no '%s'; it was made for another one", path, name);
    }
    pn_map_str_free(names);
    return rc;
}

/* Weights for every tensor that the file knows. */
static int weigh(struct pn_plan *plan, const struct pn_imatrix *m, const char *path, struct puna_error *err)
{
    const int rc = check_layers(plan, m, path, err);
    if (rc)
        return rc;
    size_t found = 0;
    for (size_t i = 0; i < plan->n; i++) {
        struct pn_out_tensor *t = &plan->t[i];
        int64_t n;
        /* never in blocks; the patch embedding's statistics are those of its flattened rows */
        if (t->role == PN_ROLE_SMALL || t->role == PN_ROLE_PATCH)
            continue;
        t->importance = pn_imatrix_find(m, t->name, &n);
        if (t->importance && n != t->ne[0])
            return pn_fail(err, PUNA_E_FORMAT, "%s: '%s' has %lld columns there and %lld in the model; it was made for "
                           "another one", path, t->name, (long long)n, (long long)t->ne[0]);
        found += t->importance != NULL;
    }
    return found ? 0 : pn_fail(err, PUNA_E_FORMAT, "%s: none of its %zu tensors is in the model", path,
                               pn_imatrix_count(m));
}

static int tell(const struct pn_plan *plan, const struct puna_quant_params *p, const uint64_t *bad,
                struct puna_error *err)
{
    for (size_t i = 0; p->tensor && i < plan->n; i++) {
        const struct pn_out_tensor *t = &plan->t[i];
        struct puna_quant_tensor q = {
            .name = t->name,
            .source_name = t->src ? t->src->file_name : "",
            .type = pn_type_info(t->type)->name,
            .source_type = pn_type_info(t->src ? t->src->type : PN_F32)->name,
            .ndim = t->ndim,
            .n_values = (size_t)(t->n_rows * t->ne[0]),
            .n_bytes = t->n_bytes,
            .is_vision = strncmp(t->name, "v.", 2) == 0 || strncmp(t->name, "mm.", 3) == 0,
            .is_fallback = t->fallback,
            .has_importance = t->importance != NULL && pn_type_info(t->type)->block_elems > 1,
            .n_bad = bad ? (size_t)bad[i] : 0,
        };
        for (int d = 0; d < t->ndim; d++)
            q.shape[d] = t->ne[t->ndim - 1 - d];
        if (p->tensor(p->tensor_user, &q))
            return pn_fail(err, PUNA_E_CANCELLED, "cancelled");
    }
    return 0;
}

static void count(const struct pn_plan *plan, const struct pn_gguf_head *head, const uint64_t *bad,
                  struct puna_quant_result *r)
{
    struct pn_buf whole = {0};
    *r = (struct puna_quant_result){.n_tensors = plan->n};
    if (pn_gguf_head_finish(head, &whole))
        r->file_bytes = whole.len + head->data_bytes;
    pn_buf_free(&whole);
    for (size_t i = 0; i < plan->src->n_maps; i++)
        r->source_bytes += plan->src->maps[i]->size;
    for (size_t i = 0; i < plan->n; i++) {
        const struct pn_out_tensor *t = &plan->t[i];
        const bool blocks = pn_type_info(t->type)->block_elems > 1;
        r->n_values += (size_t)(t->n_rows * t->ne[0]);
        r->n_fallback += t->fallback;
        r->n_bad += bad && bad[i];
        r->n_requantized += t->src && pn_type_info(t->src->type)->block_elems > 1 &&
                            (t->src->type != t->type || t->lora);
        r->n_importance += blocks && t->importance;
        r->n_without += blocks && !t->importance;
    }
}

/* Adapters go into the weights that they were made for. */
static int merge(struct pn_plan *plan, struct pn_model *m, struct puna_error *err)
{
    if (m->output.lora && m->hp.tied)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s: the adapter changes the output matrix, which is the embedding "
                       "too: it cannot be merged, only applied by the commands that run the model", m->src->path);
    for (size_t i = 0; m->src->n_adapters && i < plan->n; i++)
        if (plan->t[i].src)
            plan->t[i].lora = pn_lora_of(m, plan->t[i].src);
    return 0;
}

int puna_quantize(const char *name, const char *path, const struct puna_quant_params *params,
                  struct puna_quant_result *result, struct puna_error *err)
{
    struct puna_quant_params p;
    const struct pn_mix *mix;
    int vision;
    defaults(&p);
    if (params)
        PN_TAKE(p, params);
    int rc = choose_mix(&p, &mix, err);
    if (rc == 0)
        rc = choose_vision(p.vision, &vision, err);
    if (rc == 0 && !path && !p.dry && !p.check)
        rc = pn_fail(err, PUNA_E_ARG, "no name for the file to write");
    if (rc)
        return rc;
    struct puna_model_params mp;
    puna_model_params_init(&mp);
    mp.projector = p.projector;
    mp.cross_permuted = p.cross_permuted;
    mp.threads = p.threads;
    mp.progress = p.progress;
    mp.progress_user = p.progress_user;
    mp.loras = p.loras;
    mp.n_loras = p.n_loras;
    puna_model *m;
    rc = puna_model_open(&m, name, &mp, err);
    if (rc)
        return rc;
    struct pn_plan plan = {0};
    struct pn_gguf_head head = {0};
    struct puna_quant_result r = {0};
    uint64_t *bad = NULL;
    struct pn_imatrix *imatrix = NULL;
    const struct pn_write w = {&m->m->kern, m->m->threads, p.progress, p.progress_user};
    if (path && !p.dry && !p.check)
        rc = check_target(m->m->src, path, p.overwrite, err);
    if (rc == 0)
        rc = pn_plan_make(&plan, m->m->src, err);
    if (rc == 0 && p.imatrix)
        rc = pn_imatrix_open(&imatrix, p.imatrix, err);
    if (rc == 0 && imatrix)
        rc = weigh(&plan, imatrix, p.imatrix, err);
    if (rc == 0)
        rc = merge(&plan, m->m, err);
    if (rc == 0)
        rc = pn_mix_apply(mix, &plan, vision, p.imatrix != NULL, p.overrides, p.n_overrides, err);
    if (rc == 0)
        rc = pn_header_make(&head, &plan, pn_mix_file_type(mix), err);
    if (rc == 0 && p.check) {
        bad = pn_calloc_array(plan.n, sizeof *bad);
        rc = bad ? pn_plan_scan(&plan, &w, bad, err) : pn_fail_memory(err, plan.n * sizeof *bad, "the counts");
    }
    if (rc == 0)
        rc = tell(&plan, &p, bad, err);
    if (rc == 0)
        count(&plan, &head, bad, &r);
    if (rc == 0 && !p.dry && !p.check)
        rc = pn_plan_write(&plan, &head, path, &w, err);
    if (rc == 0 && result)
        PN_GIVE(result, result->size, r);
    pn_free(bad);
    pn_imatrix_close(&imatrix);
    pn_gguf_head_free(&head);
    pn_plan_free(&plan);
    puna_model_close(&m);
    return rc;
}
