/* SPDX-License-Identifier: Apache-2.0 */
/* What a model would take in every number format, and how fast it would be: sizes from the plan that quantize
 * follows, memory from the session's own plan, times from measured ceilings and the fractions below. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "api/api.h"
#include "base/err.h"
#include "convert/convert.h"
#include "file/shape.h"
#include "session/session.h"

/* The part of a ceiling that products reach, by the format of the weights, since unpacking them is what stands
 * between: prefill and the vision encoder of the multiply-add peak (int8 for blocks and, in most tiers, float towers;
 * bf16 or f32 for the others), decode of the read bandwidth.
 * Measured on 2026-11-22, Zen 5 virtual cores, avx512bf16 tier, commit a989505, layers of 1b, prompts of 256 tokens.
 * prefill: operations per CPU second of one thread, the difference between two prompts, of the best of nine peaks:
 *   Q8_0 0.71, Q4_K_M 0.66, IQ4_XS 0.64, Q2_K 0.62, Q6_K 0.60, Q4_0 0.59.
 *   F16 and BF16 on 2026-11-27, layers of 3b, two threads: 0.77 to 0.79 of the bf16 peak; F32 is less by what its
 *   kernel is less by itself. In tiers without bf16 products 0.59 of the f32 peak.
 * decode: 2026-11-27, two threads: a whole 8b in Q4_K_M 0.95; the others by checkkern --bench --threads 2, one row,
 *   weights from memory (bench/README.md). Q3_K, Q2_K, Q4_1, Q5_0, Q5_1, IQ4: older runs, beside other work. */
static const struct fraction {
    enum pn_type type;
    float prefill, decode;
} fractions[] = {
    {PN_Q8_0, 0.71f, 0.95f}, {PN_Q6_K, 0.60f, 0.95f}, {PN_Q5_K, 0.62f, 0.80f}, {PN_Q4_K, 0.66f, 0.95f},
    {PN_Q3_K, 0.60f, 0.60f}, {PN_Q2_K, 0.62f, 0.60f}, {PN_Q4_0, 0.59f, 0.88f}, {PN_Q4_1, 0.59f, 0.65f},
    {PN_Q5_0, 0.59f, 0.65f}, {PN_Q5_1, 0.59f, 0.65f}, {PN_IQ4_NL, 0.62f, 0.65f}, {PN_IQ4_XS, 0.64f, 0.65f},
    {PN_F16, 0.77f, 0.72f},  {PN_BF16, 0.77f, 0.80f}, {PN_F32, 0.72f, 0.75f},
};

/* The same of prefill for all formats in the amx tier: whole models 7 to 13, bench/results/2026-11-27-amx.txt */
enum { AMX_PERCENT = 10 };

/* Bytes of a tokenizer in a GGUF file, per token: Llama 3's is 7.8 MB. */
enum { TOKEN_BYTES = 61 };

const char *puna_shape(size_t i)
{
    return pn_shape_name(i);
}

/* Seconds for one row times one weight of t's format. */
struct cost {
    double compute, read;
};

static bool of_tower(const struct pn_out_tensor *t)
{
    return t->role == PN_ROLE_VISION && strncmp(t->name, "mm.", 3) != 0;
}

static bool is_amx(const struct pn_kern *k)
{
    return strcmp(k->tier, pn_tier_name(PN_TIER_AMX)) == 0;
}

static struct cost cost_of(const struct pn_out_tensor *t, const struct pn_kern *k, const struct puna_ceilings *c)
{
    const bool is_float = pn_type_info(t->type)->block_elems == 1;
    const bool copied = is_float && of_tower(t) && k->prefer_int8; /* but for a twelfth, see vision.c */
    struct fraction f = {t->type, 0.5f, 0.6f};
    for (size_t i = 0; i < sizeof fractions / sizeof *fractions; i++)
        if (fractions[i].type == (copied ? PN_Q8_0 : t->type))
            f = fractions[i];
    if (is_float && !copied && !k->mm_bf16[t->type].run)
        f.prefill = 0.59f;
    if (is_amx(k))
        f.prefill = AMX_PERCENT / 100.0f;
    double peak = copied || (!is_float && !k->prefer_f32) ? c->int8_gops
                  : k->mm_bf16[t->type].run               ? c->bf16_gops
                                                          : c->f32_gops;
    if (!(peak > 0))
        peak = c->f32_gops;
    const double values = (double)t->n_rows * (double)t->ne[0];
    return (struct cost){peak > 0 ? 2e-9 * values / (peak * (double)f.prefill) : 0,
                         c->read_gbs > 0 ? 1e-9 * (double)t->n_bytes / (c->read_gbs * (double)f.decode) : 0};
}

/* Seconds, of what the rates are made. */
struct times {
    double prefill, decode;   /* a token, without a picture */
    double decode_cross;      /* what a picture adds to a token */
    double vision, outputs;   /* a token of the tower; one behind it: projector, keys and values */
};

static struct times add_up(const struct pn_plan *p, const struct pn_kern *k, const struct puna_ceilings *c)
{
    struct times s = {0};
    for (size_t i = 0; i < p->n; i++) {
        const struct pn_out_tensor *t = &p->t[i];
        const struct cost x = cost_of(t, k, c);
        const double one = fmax(x.compute, x.read);
        if (t->role == PN_ROLE_SMALL || t->role == PN_ROLE_PATCH || (t->role == PN_ROLE_EMBD && !p->src->hp.tied))
            continue;
        if (t->role == PN_ROLE_OUTPUT || t->role == PN_ROLE_EMBD)
            s.decode += one; /* a prompt needs it once */
        else if (t->role == PN_ROLE_VISION || t->role == PN_ROLE_CROSS_K || t->role == PN_ROLE_CROSS_V)
            *(of_tower(t) ? &s.vision : &s.outputs) += x.compute;
        else if (p->src->hp.is_cross[t->layer])
            s.decode_cross += one;
        else {
            s.prefill += x.compute;
            s.decode += one;
        }
    }
    return s;
}

/* The part of the bf16 or f32 peak that the tower's attention reaches, 2026-11-27. */
#define ATTENTION 0.85

/* A picture of the most tiles: none is empty. */
static double picture_seconds(const struct pn_model *m, const struct times *s, const struct puna_ceilings *c)
{
    const struct pn_hparams *hp = &m->hp;
    const double tokens = (double)hp->v_tiles * (m->vision->n_pos + (m->vision->n_pad ? 1 : 0));
    const double layers = hp->v_layer + hp->v_global;
    const double attention = layers * 2.0 * tokens * tokens * hp->v_dim;
    const double part = is_amx(&m->kern) ? AMX_PERCENT / 100.0 : ATTENTION;
    const double peak = m->kern.attn_bf16 && c->bf16_gops > 0 ? c->bf16_gops : c->f32_gops;
    return tokens * s->vision + (peak > 0 ? 2e-9 * attention / (peak * part) : 0) +
           (double)hp->v_tiles * m->vision->n_pos * s->outputs;
}

static int fill_rows(struct puna_fit *f, struct pn_model *m, bool real, struct puna_error *err)
{
    struct pn_plan p;
    size_t header = (size_t)m->hp.n_vocab * TOKEN_BYTES;
    int rc = pn_plan_make(&p, m->src, err);
    const size_t most = sizeof f->rows / sizeof *f->rows;
    for (size_t i = 0; rc == 0 && i < most && pn_mix_name(i); i++) {
        const struct pn_mix *mix = pn_mix_find(pn_mix_name(i));
        rc = pn_mix_apply(mix, &p, -1, false, NULL, 0, err);
        if (rc == 0 && i == 0 && real) {
            struct pn_gguf_head h = {0};
            struct pn_buf whole = {0};
            rc = pn_header_make(&h, &p, pn_mix_file_type(mix), err);
            if (rc == 0 && pn_gguf_head_finish(&h, &whole))
                header = whole.len;
            pn_buf_free(&whole);
            pn_gguf_head_free(&h);
        }
        if (rc)
            break;
        struct puna_fit_row *r = &f->rows[f->n_rows++];
        *r = (struct puna_fit_row){.type = pn_mix_name(i), .file_bytes = header};
        for (size_t k = 0; k < p.n; k++)
            r->file_bytes += (p.t[k].n_bytes + PN_GGUF_ALIGN - 1) / PN_GGUF_ALIGN * PN_GGUF_ALIGN;
        const struct times s = add_up(&p, &m->kern, &f->ceilings);
        /* half of the context's keys and values are read for the middle token */
        const double bandwidth = 1e9 * f->ceilings.read_gbs;
        const double kv = bandwidth > 0 ? 0.5 * (double)f->plan.kv_bytes / bandwidth : 0;
        const double cross = bandwidth > 0 ? (double)f->plan.cross_bytes_per_image / bandwidth : 0;
        r->prefill_rate = s.prefill > 0 ? 1 / s.prefill : 0;
        r->decode_rate = s.decode + kv > 0 ? 1 / (s.decode + kv) : 0;
        if (m->vision) {
            r->decode_picture_rate = s.decode + kv > 0 ? 1 / (s.decode + kv + s.decode_cross + cross) : 0;
            r->picture_seconds = picture_seconds(m, &s, &f->ceilings);
        }
    }
    pn_plan_free(&p);
    return rc;
}

/* A model without weights: bound to a shape, with the kernels and threads that mp asks for. */
static int bind_shape(puna_model **out, const struct pn_shape *shape, const struct puna_model_params *mp,
                      struct puna_error *err)
{
    struct pn_kern kern;
    struct pn_source *src = NULL;
    int threads = 0;
    puna_model *m = calloc(1, sizeof *m);
    int rc = m ? pn_choose_threads(mp->threads, &threads, err) : pn_fail_memory(err, sizeof *m, "the model");
    if (rc == 0)
        rc = pn_kern_select(&kern, mp->cpu, err);
    if (rc == 0)
        rc = pn_source_of_shape(&src, shape, err);
    if (rc == 0)
        rc = pn_model_bind(&m->m, src, &kern, threads, err);
    if (rc) {
        pn_source_close(&src);
        puna_model_close(&m);
    }
    *out = m;
    return rc;
}

int puna_fit(const char *name, const struct puna_model_params *model, const struct puna_session_params *session,
             const struct puna_ceilings *ceilings, struct puna_fit *out, struct puna_error *err)
{
    struct puna_model_params mp;
    struct puna_session_params sp = {.size = sizeof sp};
    struct puna_fit f = {0};
    struct stat st;
    puna_model_params_init(&mp);
    if (model)
        PN_TAKE(mp, model);
    if (session)
        PN_TAKE(sp, session);
    const size_t size = out->size;
    const struct pn_shape *shape = name && stat(name, &st) != 0 ? pn_shape_find(name) : NULL;
    puna_model *m = NULL;
    int rc = shape ? bind_shape(&m, shape, &mp, err) : puna_model_open(&m, name, &mp, err);
    if (rc == 0) {
        pn_session_plan(m->m, &sp, &f.plan);
        f.tier = m->m->kern.tier;
        f.threads = m->m->threads;
        f.has_vision = m->m->vision != NULL;
        f.max_tiles = m->m->hp.v_tiles;
        f.ctx = sp.ctx > 0 ? sp.ctx : m->m->hp.n_ctx_train < 4096 ? m->m->hp.n_ctx_train : 4096;
        if (ceilings)
            f.ceilings = *ceilings;
        else
            puna_model_ceilings(m, &f.ceilings);
        rc = fill_rows(&f, m->m, !shape, err);
    }
    puna_model_close(&m);
    PN_GIVE(out, size, f);
    return rc;
}
