/* SPDX-License-Identifier: Apache-2.0 */
/* Which tensor gets which number format: the mixes by the names people know them by. */
#include <fnmatch.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "convert/convert.h"

/* When a rule holds, i of n being the layer among those counted (all layers; for attn_v the self-attention ones). */
enum when {
    ALWAYS,
    MORE_BITS,     /* first and last eighth, and every third between */
    FIRST_8TH, FIRST_16TH, FIRST_2, FIRST_4,
    GQA_4,         /* at least four query heads share a key head */
    NO_IMATRIX_8TH, IMATRIX_8TH
};

struct rule {
    enum pn_role role;
    enum when when;
    enum pn_type type;
};

#define MAX_RULES 8

/* The first rule that holds decides, else base. output: the output matrix, or the embedding that serves as one. */
struct pn_mix {
    const char *name;
    uint32_t file_type; /* as llama.cpp numbers them */
    enum pn_type base, output;
    struct rule rules[MAX_RULES]; /* ended by role 0 (PN_ROLE_SMALL has no rules) */
};

static const struct pn_mix mixes[] = {
    {"F32", 0, PN_F32, PN_F32, {{0}}},
    {"F16", 1, PN_F16, PN_F16, {{0}}},
    {"BF16", 32, PN_BF16, PN_BF16, {{0}}},
    {"Q8_0", 7, PN_Q8_0, PN_Q8_0, {{0}}},
    {"Q6_K", 18, PN_Q6_K, PN_Q6_K, {{0}}},
    {"Q5_K_M", 17, PN_Q5_K, PN_Q6_K, {{PN_ROLE_V, MORE_BITS, PN_Q6_K}, {PN_ROLE_DOWN, MORE_BITS, PN_Q6_K}}},
    {"Q5_K_S", 16, PN_Q5_K, PN_Q6_K, {{0}}},
    {"Q4_K_M", 15, PN_Q4_K, PN_Q6_K, {{PN_ROLE_V, MORE_BITS, PN_Q6_K}, {PN_ROLE_DOWN, MORE_BITS, PN_Q6_K}}},
    /* puna's own: what every query goes through costs little in a model whose heads share keys and values, and with
     * pictures the cross-attention's is all that text sees of them; doc/QUALITY.md has the numbers */
    {"Q4_K_P", 15, PN_Q4_K, PN_Q6_K,
     {{PN_ROLE_K, ALWAYS, PN_Q6_K}, {PN_ROLE_V, ALWAYS, PN_Q6_K}, {PN_ROLE_CROSS_K, ALWAYS, PN_Q6_K},
      {PN_ROLE_CROSS_V, ALWAYS, PN_Q6_K}, {PN_ROLE_DOWN, MORE_BITS, PN_Q5_K}}},
    {"Q4_K_S", 14, PN_Q4_K, PN_Q6_K, {{PN_ROLE_V, FIRST_4, PN_Q5_K}, {PN_ROLE_DOWN, FIRST_8TH, PN_Q5_K}}},
    {"Q4_0", 2, PN_Q4_0, PN_Q6_K, {{PN_ROLE_DOWN, IMATRIX_8TH, PN_Q4_1}}},
    {"Q4_1", 3, PN_Q4_1, PN_Q6_K, {{0}}},
    {"Q5_0", 8, PN_Q5_0, PN_Q6_K, {{PN_ROLE_DOWN, IMATRIX_8TH, PN_Q5_1}}},
    {"Q5_1", 9, PN_Q5_1, PN_Q6_K, {{0}}},
    {"Q3_K_M", 12, PN_Q3_K, PN_Q6_K,
     {{PN_ROLE_V, FIRST_2, PN_Q5_K}, {PN_ROLE_V, ALWAYS, PN_Q4_K}, {PN_ROLE_DOWN, FIRST_16TH, PN_Q5_K},
      {PN_ROLE_DOWN, ALWAYS, PN_Q4_K}, {PN_ROLE_O, ALWAYS, PN_Q4_K}}},
    {"Q2_K", 10, PN_Q2_K, PN_Q6_K,
     {{PN_ROLE_V, GQA_4, PN_Q4_K}, {PN_ROLE_V, ALWAYS, PN_Q3_K}, {PN_ROLE_DOWN, ALWAYS, PN_Q3_K},
      {PN_ROLE_O, ALWAYS, PN_Q3_K}}},
    {"IQ4_NL", 25, PN_IQ4_NL, PN_Q6_K,
     {{PN_ROLE_V, GQA_4, PN_Q5_K}, {PN_ROLE_DOWN, NO_IMATRIX_8TH, PN_Q5_K}}},
    {"IQ4_XS", 30, PN_IQ4_XS, PN_Q6_K,
     {{PN_ROLE_V, GQA_4, PN_Q5_K}, {PN_ROLE_DOWN, NO_IMATRIX_8TH, PN_Q5_K}}},
};
enum { N_MIXES = sizeof mixes / sizeof *mixes };

const struct pn_mix *pn_mix_find(const char *name)
{
    for (size_t i = 0; i < N_MIXES; i++)
        if (strcasecmp(name, mixes[i].name) == 0)
            return &mixes[i];
    return NULL;
}

const char *pn_mix_name(size_t i)
{
    return i < N_MIXES ? mixes[i].name : NULL;
}

uint32_t pn_mix_file_type(const struct pn_mix *mix)
{
    return mix->file_type;
}

static bool holds(enum when w, int32_t i, int32_t n, const struct pn_hparams *hp, bool with_imatrix)
{
    switch (w) {
    case ALWAYS: return true;
    case MORE_BITS: return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
    case FIRST_8TH: return i < n / 8;
    case FIRST_16TH: return i < n / 16;
    case FIRST_2: return i < 2;
    case FIRST_4: return i < 4;
    case GQA_4: return hp->n_head / hp->n_kv_head >= 4;
    case NO_IMATRIX_8TH: return !with_imatrix && i < n / 8;
    case IMATRIX_8TH: return with_imatrix && i < n / 8;
    }
    return false;
}

/* What a format gives way to where rows do not divide into its blocks. */
static enum pn_type next_best(enum pn_type type)
{
    switch (type) {
    case PN_Q2_K: case PN_Q3_K: case PN_IQ4_XS: return PN_IQ4_NL;
    case PN_Q4_K: return PN_Q5_0;
    case PN_Q5_K: return PN_Q5_1;
    case PN_Q6_K: return PN_Q8_0;
    default: return PN_F16;
    }
}

static void fit(struct pn_out_tensor *t)
{
    while (t->ne[0] % pn_type_info(t->type)->block_elems != 0) {
        t->type = next_best(t->type);
        t->fallback = true;
    }
}

static enum pn_type type_of(const struct pn_mix *mix, const struct pn_out_tensor *t, const struct pn_hparams *hp,
                            int vision, bool with_imatrix)
{
    if (t->role == PN_ROLE_SMALL)
        return PN_F32;
    if (t->role == PN_ROLE_PATCH)
        return pn_type_info((uint32_t)vision)->block_elems > 1 ? PN_F16 : (enum pn_type)vision;
    if (t->role == PN_ROLE_VISION)
        return (enum pn_type)vision;
    if (t->role == PN_ROLE_OUTPUT || (t->role == PN_ROLE_EMBD && hp->tied))
        return mix->output;
    enum pn_type type = mix->base;
    const bool by_ord = t->role == PN_ROLE_V || t->role >= PN_ROLE_CROSS_Q;
    const int32_t i = by_ord ? t->ord : t->layer;
    const int32_t n = !by_ord ? hp->n_layer : t->role == PN_ROLE_V ? hp->n_layer - hp->n_cross : hp->n_cross;
    for (const struct rule *r = mix->rules; r < mix->rules + MAX_RULES && r->role; r++)
        if (r->role == t->role && holds(r->when, i, n, hp, with_imatrix)) {
            type = r->type;
            break;
        }
    /* Eight query heads share each of the few value rows of a 70B text model */
    if (t->role == PN_ROLE_V && !hp->vision && hp->n_layer == 80 && hp->n_head > hp->n_kv_head &&
        (type == PN_Q3_K || type == PN_Q4_K))
        type = PN_Q5_K;
    return type;
}

static int override(struct pn_plan *p, const struct puna_quant_override *o, struct puna_error *err)
{
    const int type = pn_type_by_name(o->type);
    if (type < 0)
        return pn_fail(err, PUNA_E_ARG, "'%s' is no number format of a tensor; there are F32, F16, BF16, Q8_0, Q6_K, "
                       "Q5_K, Q4_K, Q3_K, Q2_K, Q5_1, Q5_0, Q4_1, Q4_0, IQ4_NL, IQ4_XS", o->type);
    const struct pn_type_info *ti = pn_type_info((uint32_t)type);
    size_t found = 0, small = 0;
    for (size_t i = 0; i < p->n; i++) {
        struct pn_out_tensor *t = &p->t[i];
        if (fnmatch(o->pattern, t->name, 0) != 0)
            continue;
        if (t->role == PN_ROLE_SMALL && ti->block_elems > 1) {
            small++; /* a pattern for a layer's matrices need not leave its norms out */
            continue;
        }
        if (t->ne[0] % ti->block_elems != 0)
            return pn_fail(err, PUNA_E_ARG, "tensor '%s' cannot be %s: its rows do not divide into the blocks",
                           t->name, ti->name);
        found++;
        t->type = (enum pn_type)type;
        t->fallback = false;
    }
    if (found)
        return 0;
    return small ? pn_fail(err, PUNA_E_ARG, "'%s' matches only norms, biases, gates or tile tables, which are not kept "
                           "in blocks", o->pattern)
                 : pn_fail(err, PUNA_E_ARG, "no tensor's name matches '%s'; --dry-run --tensors lists them",
                           o->pattern);
}

int pn_mix_apply(const struct pn_mix *mix, struct pn_plan *p, int vision, bool with_imatrix,
                 const struct puna_quant_override *overrides, size_t n_overrides, struct puna_error *err)
{
    if (vision < 0)
        vision = mix->base == PN_F32 || mix->base == PN_BF16 ? mix->base : PN_F16;
    for (size_t i = 0; i < p->n; i++) {
        p->t[i].type = type_of(mix, &p->t[i], &p->src->hp, vision, with_imatrix);
        p->t[i].fallback = false;
        fit(&p->t[i]);
    }
    int rc = 0;
    for (size_t k = 0; k < n_overrides && rc == 0; k++)
        rc = override(p, &overrides[k], err);
    for (size_t i = 0; i < p->n; i++)
        p->t[i].n_bytes = pn_row_bytes(p->t[i].type, p->t[i].ne[0]) * (size_t)p->t[i].n_rows;
    return rc;
}
