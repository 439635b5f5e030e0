/* SPDX-License-Identifier: Apache-2.0 */
/* KV rows and attention. */
#include <math.h>
#include <string.h>

#include "checkkern.h"
#include "kern/kv_layout.h"
#include "quant/blocks.h"

static const int32_t hd_list[] = { 1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 40, 64, 72, 80, 96, 100, 128 };
#define N_HD ((int32_t)(sizeof hd_list / sizeof hd_list[0]))
static const char *const type_names[PN_KV_TYPE_COUNT] = { "f32", "f16", "bf16", "q8" };

static size_t kv_bytes(const struct pn_kv_view *kv, int64_t cap, bool values)
{
    return (values ? pn_kv_v_bytes : pn_kv_k_bytes)(kv->type, kv->hd, cap);
}

/* An empty cache for cap keys, each array against an unmapped page. */
static struct pn_kv_view place_kv(struct ck *ck, enum pn_kv_type type, int32_t hd, int64_t cap)
{
    struct pn_kv_view kv = { .type = type, .hd = hd };
    const size_t scales = (size_t)cap * sizeof(float);
    kv.k = ck_place(ck, CK_A, kv_bytes(&kv, cap, false), 64);
    kv.v = ck_place(ck, CK_B, kv_bytes(&kv, cap, true), 64);
    memset(kv.k, 0, kv_bytes(&kv, cap, false));
    memset(kv.v, 0, kv_bytes(&kv, cap, true));
    if (type == PN_KV_Q8) {
        kv.ks = ck_place(ck, CK_KS, scales, 4);
        kv.vs = ck_place(ck, CK_VS, scales, 4);
        memset(kv.ks, 0, scales);
        memset(kv.vs, 0, scales);
    }
    return kv;
}

bool ck_kv_put(struct ck *ck)
{
    enum { CAP = 128 };
    for (int32_t round = 0; round < ck_count(ck, 4 * PN_KV_TYPE_COUNT * N_HD); round++) {
        const enum pn_kv_type type = (enum pn_kv_type)(round % PN_KV_TYPE_COUNT);
        const int32_t hd = hd_list[round / PN_KV_TYPE_COUNT % N_HD];
        const struct pn_kv_view got = place_kv(ck, type, hd, CAP);
        struct pn_kv_view want = got;
        want.k = ck_scratch(0);
        want.v = ck_scratch(1);
        want.ks = ck_scratch(2);
        want.vs = want.ks + CAP;
        memset(want.k, 0, kv_bytes(&got, CAP, false));
        memset(want.v, 0, kv_bytes(&got, CAP, true));
        memset(want.ks, 0, 2 * CAP * sizeof(float));
        const int32_t writes = ck_range(ck, 1, 40);
        for (int32_t i = 0; i < writes; i++) {
            const int64_t pos = i == 0 ? CAP - 1 : ck_range(ck, 0, CAP - 1);
            float *k = ck_place(ck, CK_X, (size_t)hd * 4, 4);
            float *v = ck_place(ck, CK_W, (size_t)hd * 4, 4);
            ck_vector(ck, k, hd);
            ck_vector(ck, v, hd);
            if (ck_range(ck, 0, 9) == 0)
                k[ck_range(ck, 0, hd - 1)] = NAN;
            if (ck_range(ck, 0, 9) == 0)
                v[ck_range(ck, 0, hd - 1)] = 70000.0f; /* infinite as f16 */
            ck_case(ck, "%s hd %d pos %d", type_names[type], hd, (int)pos);
            ck->ref->kv_put(&want, pos, k, v);
            ck->k->kv_put(&got, pos, k, v);
        }
        const bool floats = type == PN_KV_F32;
        if (floats ? !ck_same(ck, "k", got.k, want.k, kv_bytes(&got, CAP, false) / 4) ||
                         !ck_same(ck, "v", got.v, want.v, kv_bytes(&got, CAP, true) / 4)
                   : !ck_same_bytes(ck, "k", got.k, want.k, kv_bytes(&got, CAP, false)) ||
                         !ck_same_bytes(ck, "v", got.v, want.v, kv_bytes(&got, CAP, true)))
            return false;
        if (type == PN_KV_Q8 &&
            (!ck_same(ck, "ks", got.ks, want.ks, CAP) || !ck_same(ck, "vs", got.vs, want.vs, CAP)))
            return false;
        if (!ck_canaries(ck))
            return false;
    }
    return true;
}

/* ---- attention ---- */

/* One call: queries over a chunk. */
struct attention {
    struct pn_kv_view kv;
    int32_t nq;
    int64_t key0, cap;
    int32_t *n_keys;
    float *q, *bias, *part;
    size_t ldq, stride;
};

/* the last ones: several of the units that a kernel multiplies together, and of the blocks it takes at a time */
static const int32_t nq_list[] = { 1, 2, 3, 4, 5, 8, 12, 16, 17, 20, 32, 33, 48, 100, 128, 150, 257, 260, 515 };

static struct attention pick_attention(struct ck *ck, enum pn_kv_type type, int32_t round)
{
    struct attention a;
    const int32_t hd = round % 3 == 0 ? 128 : round % 3 == 1 ? 80 : hd_list[ck_range(ck, 0, N_HD - 1)];
    a.nq = ck_pick(ck, nq_list, (int32_t)(sizeof nq_list / sizeof nq_list[0]));
    a.key0 = ck_range(ck, 0, 2) == 0 ? PN_ATTN_CHUNK : 0;
    int32_t max_keys = ck_range(ck, 0, 7) == 0 ? PN_ATTN_CHUNK + 30 : ck_range(ck, 1, 200);
    if (ck->scale < 1 && max_keys > 300)
        max_keys = 300;
    a.cap = (a.key0 + max_keys + 63) / 64 * 64;
    a.kv = place_kv(ck, type, hd, a.cap);
    float *k = ck_scratch(1), *v = ck_scratch(2);
    for (int64_t j = 0; j < a.cap; j++) { /* all finite, as the contract promises */
        for (int32_t d = 0; d < hd; d++) {
            k[d] = ck_normal(ck);
            v[d] = ck_normal(ck);
        }
        if (j % 7 == 3)
            memset(v, 0, (size_t)hd * sizeof *v);
        ck->ref->kv_put(&a.kv, j, k, v);
    }
    a.ldq = (size_t)hd + (ck_rand(ck) & 1 ? 0 : 3);
    a.q = ck_place(ck, CK_X, ((size_t)(a.nq - 1) * a.ldq + (size_t)hd) * 4, 4);
    const float scale = ck_range(ck, 0, 3) ? 1.0f / sqrtf((float)hd) : 4.0f; /* mild or peaked */
    for (int32_t i = 0; i < a.nq; i++) {
        for (int32_t d = 0; d < hd; d++)
            a.q[(size_t)i * a.ldq + (size_t)d] = ck_normal(ck) * scale;
    }
    a.n_keys = ck_place(ck, CK_D, (size_t)a.nq * sizeof(int32_t), 4);
    /* 0: all the same; 1: one more each; 2: anything; 3: every other sixteen rows none */
    const int causal = ck_range(ck, 0, 3);
    for (int32_t i = 0; i < a.nq; i++) {
        const int64_t all = a.key0 + max_keys;
        int64_t n = causal == 0   ? all
                    : causal == 1 ? all - a.nq + 1 + i
                    : causal == 2 ? ck_range(ck, 0, (int32_t)all)
                    : i / 16 % 2  ? 0
                                  : all - i / 16 * PN_ATTN_TILE;
        a.n_keys[i] = n < 0 ? 0 : (int32_t)n;
    }
    a.bias = NULL;
    if (ck_range(ck, 0, 2) == 0) {
        /* now and then, steeply up or down: each tile is far from the one before */
        const float slope = ck_range(ck, 0, 3) ? 0.0f : ck_uniform(ck, -1.0f, 1.0f);
        a.bias = ck_place(ck, CK_C, (size_t)a.cap * sizeof(float), 4);
        for (int64_t j = 0; j < a.cap; j++)
            a.bias[j] = slope * (float)(j - a.key0) + (j % 5 == 0 ? ck_uniform(ck, 0.0f, 4.0f) : 0.0f);
    }
    a.stride = pn_attn_part_floats(hd);
    a.part = ck_place(ck, CK_OUT, (size_t)a.nq * a.stride * sizeof(float), 4);
    ck_poison(a.part, (size_t)a.nq * a.stride);
    ck_case(ck, "%s hd %d, %d queries, keys %d..%d%s%s", type_names[type], hd, a.nq, (int)a.key0,
            (int)(a.key0 + max_keys),
            causal == 0 ? "" : causal == 1 ? ", causal" : ", ragged", a.bias != NULL ? ", bias" : "");
    return a;
}

/* The specified floats of a row. */
static bool same_part(struct ck *ck, const float *got, const float *want, int32_t hd)
{
    const struct pn_attn_part *g = (const struct pn_attn_part *)got;
    const struct pn_attn_part *w = (const struct pn_attn_part *)want;
    return ck_same(ck, "m", &g->m, &w->m, 1) && ck_same(ck, "l", g->l, w->l, 16) &&
           ck_same(ck, "o", g->o, w->o, (size_t)hd);
}

typedef void (*attn_fn)(float *part, const float *q, size_t ldq, int32_t nq, const int32_t *n_keys,
                        const struct pn_kv_view *kv, int64_t key0, const float *bias);

/* Row i alone gives the bits that it has among the others. */
static bool single_query(struct ck *ck, const struct attention *a, attn_fn kernel)
{
    const int32_t i = ck_range(ck, 0, a->nq - 1);
    float *one = ck_scratch(3);
    const int32_t n = a->n_keys[i];
    kernel(one, a->q + (size_t)i * a->ldq, a->ldq, 1, &n, &a->kv, a->key0, a->bias);
    return same_part(ck, one, a->part + (size_t)i * a->stride, a->kv.hd);
}

bool ck_attn(struct ck *ck)
{
    float *want = ck_scratch(0);
    for (int32_t type = 0; type < PN_KV_TYPE_COUNT; type++) {
        for (int32_t round = 0; round < ck_count(ck, 40); round++) {
            const struct attention a = pick_attention(ck, (enum pn_kv_type)type, round);
            ck->ref->attn(want, a.q, a.ldq, a.nq, a.n_keys, &a.kv, a.key0, a.bias);
            ck->k->attn(a.part, a.q, a.ldq, a.nq, a.n_keys, &a.kv, a.key0, a.bias);
            for (int32_t i = 0; i < a.nq; i++) {
                if (!same_part(ck, a.part + (size_t)i * a.stride, want + (size_t)i * a.stride, a.kv.hd))
                    return false;
            }
            if (!single_query(ck, &a, ck->k->attn) || !ck_canaries(ck))
                return false;
        }
    }
    return true;
}

static double bf16(float x)
{
    return (double)pn_bf16_to_f32(pn_f32_to_bf16(x));
}

/* Element of a cache as the kernel takes it, Q8 without its scale. */
static double element(const struct pn_kv_view *kv, const void *array, size_t i)
{
    if (kv->type == PN_KV_Q8)
        return ((const int8_t *)array)[i];
    const uint16_t x = ((const uint16_t *)array)[i];
    return kv->type == PN_KV_F16 ? bf16(pn_f16_to_f32(x)) : (double)pn_bf16_to_f32(x);
}

/* Softmax attention of row i in double, with q, k and v rounded to bf16 as the kernel may; and the bound
 * of an output: scores are f32 sums of hd products, each p is rounded to bf16. */
static bool close_row(struct ck *ck, const struct attention *a, int32_t i, const float *out)
{
    const struct pn_kv_view *kv = &a->kv;
    const int32_t hd = kv->hd;
    const int64_t limit = a->key0 + PN_ATTN_CHUNK;
    const int64_t end = a->n_keys[i] < limit ? a->n_keys[i] : limit;
    static double s[PN_ATTN_CHUNK];
    double max = -INFINITY, error = 0, sum = 0;
    for (int64_t j = a->key0; j < end; j++) {
        const double scale = kv->type == PN_KV_Q8 ? (double)kv->ks[j] : 1;
        double dot = a->bias != NULL ? (double)a->bias[j] : 0, magnitude = fabs(dot);
        for (int32_t d = 0; d < hd; d++) {
            const double p = bf16(a->q[(size_t)i * a->ldq + (size_t)d]) * scale *
                             element(kv, kv->k, pn_kv_k_index(kv->type, hd, j, d));
            dot += p;
            magnitude += fabs(p);
        }
        s[j - a->key0] = dot;
        max = dot > max ? dot : max;
        error = fmax(error, (hd + 8) * 0x1p-24 * magnitude);
    }
    for (int64_t j = a->key0; j < end; j++)
        sum += s[j - a->key0] = exp(s[j - a->key0] - max);
    /* m and l, which merging needs: the same sum, whatever m is */
    const struct pn_attn_part *part = (const struct pn_attn_part *)(a->part + (size_t)i * a->stride);
    double l = 0;
    for (int lane = 0; lane < 16; lane++)
        l += (double)part->l[lane];
    const double slack = 4 * error + 1e-5 + 1e-6 * fabs(max), m = (double)part->m;
    if (end <= a->key0 ? !(m == -INFINITY && l == 0) : !(m >= max - slack && m <= max + 8 + slack))
        return ck_fail(ck, "row %d: m %.9g, l %.9g, largest score %.9g", i, m, l, max);
    if (end > a->key0 && !(fabs(log(l) + m - max - log(sum)) <= 0x1.2p-13 + slack))
        return ck_fail(ck, "row %d: m %.9g, l %.9g, expected %.9g above %.9g", i, m, l, sum, max);
    for (int32_t d = 0; d < hd; d++) {
        double o = 0, magnitude = 0;
        for (int64_t j = a->key0; j < end; j++) {
            const double scale = kv->type == PN_KV_Q8 ? (double)kv->vs[j] : 1;
            const double p = s[j - a->key0] * scale * element(kv, kv->v, pn_kv_v_index(kv->type, hd, j, d));
            o += p;
            magnitude += fabs(p);
        }
        const double bound =
            (0x1.1p-7 + 0x1p-12 + 4 * error + 1e-5) * magnitude / (sum > 0 ? sum : 1) + 1e-30;
        const double expected = sum > 0 ? o / sum : 0;
        if (!(fabs((double)out[d] - expected) <= bound))
            return ck_fail(ck, "row %d out[%d] = %.9g, expected %.9g +- %.3g", i, d, (double)out[d],
                           expected, bound);
    }
    return true;
}

bool ck_attn_bf16(struct ck *ck)
{
    static const enum pn_kv_type types[] = { PN_KV_F16, PN_KV_BF16, PN_KV_Q8 };
    float *out = ck_scratch(0);
    for (int32_t round = 0; round < ck_count(ck, 360); round++) {
        const struct attention a = pick_attention(ck, types[round % 3], round / 3);
        ck->k->attn_bf16(a.part, a.q, a.ldq, a.nq, a.n_keys, &a.kv, a.key0, a.bias);
        for (int32_t i = 0; i < a.nq; i++) {
            ck->ref->attn_finish(out, a.part + (size_t)i * a.stride, a.kv.hd);
            if (!close_row(ck, &a, i, out))
                return false;
        }
        if (!single_query(ck, &a, ck->k->attn_bf16) || !ck_canaries(ck))
            return false;
    }
    return true;
}

/* ---- merging ---- */

static float *place_part(struct ck *ck, enum ck_arena arena, int32_t hd)
{
    float *row = ck_place(ck, arena, pn_attn_part_floats(hd) * sizeof(float), 4);
    struct pn_attn_part *p = (struct pn_attn_part *)row;
    const bool empty = ck_range(ck, 0, 4) == 0;
    memset(row, 0, pn_attn_part_floats(hd) * sizeof(float));
    p->m = empty ? -INFINITY : ck_normal(ck) * (ck_rand(ck) & 1 ? 3.0f : 60.0f);
    for (int i = 0; i < 16; i++)
        p->l[i] = empty ? 0.0f : ck_uniform(ck, 0.0f, 9.0f);
    for (int32_t d = 0; d < hd; d++)
        p->o[d] = empty ? 0.0f : ck_normal(ck);
    return row;
}

bool ck_attn_merge(struct ck *ck)
{
    float *want = ck_scratch(0);
    for (int32_t round = 0; round < ck_count(ck, 400); round++) {
        const int32_t hd = hd_list[round % N_HD];
        float *acc = place_part(ck, CK_OUT, hd);
        const float *part = place_part(ck, CK_X, hd);
        memcpy(want, acc, pn_attn_part_floats(hd) * sizeof(float));
        ck_case(ck, "hd %d", hd);
        ck->ref->attn_merge(want, part, hd);
        ck->k->attn_merge(acc, part, hd);
        if (!same_part(ck, acc, want, hd) || !ck_canaries(ck))
            return false;
    }
    return true;
}

bool ck_attn_finish(struct ck *ck)
{
    float *want = ck_scratch(0);
    for (int32_t round = 0; round < ck_count(ck, 400); round++) {
        const int32_t hd = hd_list[round % N_HD];
        const float *acc = place_part(ck, CK_X, hd);
        float *out = ck_place(ck, CK_OUT, (size_t)hd * sizeof(float), 4);
        ck_poison(out, (size_t)hd);
        ck_case(ck, "hd %d", hd);
        ck->ref->attn_finish(want, acc, hd);
        ck->k->attn_finish(out, acc, hd);
        if (!ck_same(ck, "out", out, want, (size_t)hd) || !ck_canaries(ck))
            return false;
    }
    return true;
}
