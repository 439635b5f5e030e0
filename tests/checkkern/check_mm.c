/* SPDX-License-Identifier: Apache-2.0 */
/* Products and dequantisers. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkkern.h"
#include "quant/blocks.h"

/* the last two: past the chunks of activation rows, with few and with many rows in the last chunk */
static const int32_t m_list[] = { 1,  2,  3,  4,  5,  6,  7,  8,  9,  10,  11, 12,
                                  13, 14, 15, 16, 17, 31, 32, 33, 47, 64, 100, 515, 530 };
static const int32_t n_list[] = { 1,  2,  3,  4,  5,  7,  8,  9,  11, 13, 15, 16, 17, 19, 21, 23, 25,
                                  27, 29, 31, 32, 33, 35, 48, 63, 64, 65, 100, 129 };
#define LIST_LEN(a) ((int32_t)(sizeof(a) / sizeof((a)[0])))

/* Around a register tile of t rows, where loops over such tiles end in their different ways. */
#define TILE_EDGES(t) { (t) - 1, (t), (t) + 1, 2 * (t) + 1 }

/* The numbers of activation rows to try: m_list, and what the kernel's own tile adds to it (nothing with the tiles
 * of today, whose edges the list has). */
struct sizes {
    int32_t n, at[LIST_LEN(m_list) + 4];
};
static struct sizes m_sizes(const struct ck *ck)
{
    const int32_t edges[] = TILE_EDGES(ck->tile.m);
    struct sizes s = { LIST_LEN(m_list), { 0 } };
    memcpy(s.at, m_list, sizeof m_list);
    for (int32_t e = 0; e < LIST_LEN(edges); e++) {
        bool add = ck->tile.m > 0 && edges[e] > 0;
        for (int32_t i = 0; i < s.n; i++)
            add &= s.at[i] != edges[e];
        if (add)
            s.at[s.n++] = edges[e];
    }
    return s;
}

/* A number of weight rows: one in three is about the kernel's own tile. */
static int32_t pick_n(struct ck *ck)
{
    const int32_t edges[] = TILE_EDGES(ck->tile.n);
    const int32_t n = ck->tile.n > 0 && ck_range(ck, 0, 2) == 0 ? ck_pick(ck, edges, LIST_LEN(edges)) : 0;
    return n > 0 ? n : ck_pick(ck, n_list, LIST_LEN(n_list));
}

/* ---- weights ---- */

/* Where the f16 scales of a block are. */
static int scale_offsets(enum pn_type type, size_t at[2])
{
    switch (type) {
    case PN_Q4_0:
    case PN_Q5_0:
    case PN_Q8_0:
    case PN_IQ4_NL:
    case PN_IQ4_XS:
        at[0] = 0;
        return 1;
    case PN_Q4_1:
    case PN_Q5_1:
    case PN_Q4_K:
    case PN_Q5_K:
        at[0] = 0;
        at[1] = 2;
        return 2;
    case PN_Q2_K:
        at[0] = offsetof(struct pn_q2_k, d);
        at[1] = offsetof(struct pn_q2_k, dmin);
        return 2;
    case PN_Q3_K:
        at[0] = offsetof(struct pn_q3_k, d);
        return 1;
    case PN_Q6_K:
        at[0] = offsetof(struct pn_q6_k, d);
        return 1;
    default:
        return 0;
    }
}

static void float_weights(struct ck *ck, enum pn_type type, uint8_t *row, int32_t k)
{
    float *x = ck_scratch(3);
    ck_vector(ck, x, k);
    for (int32_t i = 0; i < k; i++) {
        if (type == PN_F32)
            pn_put_le32(row + 4 * i, pn_f32_bits(x[i]));
        else
            pn_put_le16(row + 2 * i, type == PN_F16 ? pn_f32_to_f16(x[i]) : pn_f32_to_bf16(x[i]));
    }
}

void ck_weights(struct ck *ck, enum pn_type type, uint8_t *w, int32_t n_rows, int32_t k,
                size_t row_bytes)
{
    const struct pn_type_info *info = pn_type_info(type);
    size_t at[2];
    const int n_scales = scale_offsets(type, at);
    const int whole = ck_range(ck, 0, 7); /* 0: every row at the codes' extreme */
    for (int32_t j = 0; j < n_rows; j++) {
        uint8_t *row = w + (size_t)j * row_bytes;
        if (info->block_elems == 1) {
            float_weights(ck, type, row, k);
            continue;
        }
        const int shape = whole == 0 ? 1 : ck_range(ck, 0, 10);
        const size_t bytes = pn_row_bytes(type, k);
        const uint8_t same = (uint8_t)ck_rand(ck);
        for (size_t i = 0; i < bytes; i++) {
            row[i] = shape == 0 || shape == 10 ? 0
                     : shape == 1 ? 0xff
                     : shape == 2 ? same
                     : shape == 3 ? (ck_rand(ck) & 1 ? 0x80 : 0x7f)
                                  : (uint8_t)ck_rand(ck);
        }
        for (size_t b = 0; b < bytes; b += info->block_bytes) {
            for (size_t s = 0; shape == 10 && type == PN_Q6_K && s < 16; s++) /* -32, the largest product there is */
                row[b + offsetof(struct pn_q6_k, scales) + s] = (uint8_t)ck_rand(ck);
            for (int s = 0; s < n_scales; s++)
                pn_put_le16(row + b + at[s], shape == 0 ? 0 : ck_f16_scale(ck));
        }
    }
}

/* A k that the type allows, small enough for m * n * k <= limit where possible. */
static int32_t pick_k(struct ck *ck, enum pn_type type, int32_t m, int32_t n, int64_t limit)
{
    static const int32_t k256[] = { 256, 512, 768, 1024, 1280, 2048, 2304, 4096, 4352, 33024 };
    static const int32_t k32[] = { 32, 64, 96, 160, 224, 256, 288, 480, 512, 544, 768, 800, 1280, 2336, 4128, 32800 };
    static const int32_t k1[] = { 100, 255, 256, 257, 511, 588, 1280 };
    const int32_t block = pn_type_info(type)->block_elems;
    for (int tries = 0;; tries++) {
        const int32_t k = block == 256  ? ck_pick(ck, k256, LIST_LEN(k256))
                          : block == 32 ? ck_pick(ck, k32, LIST_LEN(k32))
                          : ck_rand(ck) & 1 ? ck_range(ck, 1, 40)
                                            : ck_pick(ck, k1, LIST_LEN(k1));
        if ((int64_t)m * n * k <= limit && (int64_t)m * k <= 1 << 20)
            return k;
        if (tries > 20)
            return k256[0];
    }
}

/* One product: sizes and weights. */
struct product {
    int32_t m, n, k;
    size_t ldc, row_bytes;
    uint8_t *w;
    float *c; /* under test, poisoned */
};

static struct product pick_product(struct ck *ck, int32_t m, int32_t round)
{
    const enum pn_type type = ck->slot->type;
    struct product p = { .m = m };
    /* now and then a large one; the reference is slow */
    const int64_t limit = round == 0 ? 4 << 20 : 512 << 10;
    do {
        p.n = pick_n(ck);
    } while ((int64_t)p.m * p.n > 10000 / (round == 0 ? 1 : 4));
    const bool few = (round == 1 || round == 2) && m >= 2 && m <= 16;
    if (few)
        p.n = round == 1 ? 100 : 96; /* several tiles, one after another, and a rest or none */
    p.k = few ? 768 : pick_k(ck, type, p.m, p.n, limit);
    if (round == 3 && m >= 2 && m <= 6 && pn_type_info(type)->block_elems > 1) { /* more than L1 takes of activations */
        p.n = 33;
        p.k = 9216;
    }
    p.row_bytes = pn_row_bytes(type, p.k);
    const size_t block = pn_type_info(type)->block_bytes;
    const int wider = ck_range(ck, 0, 3); /* columns 0..k-1 of a matrix with one block more, or with very long rows */
    if (wider == 0)
        p.row_bytes += block;
    else if (wider == 1 && round <= 2)
        p.row_bytes += 15000 / block * block;
    p.ldc = (size_t)p.n + (size_t)(ck_range(ck, 0, 2) == 0 ? ck_range(ck, 1, 5) : 0);
    /* of the last row only the columns are there */
    const size_t w_bytes = (size_t)(p.n - 1) * p.row_bytes + pn_row_bytes(type, p.k);
    p.w = ck_place(ck, CK_W, w_bytes, 2);
    ck_weights(ck, type, p.w, p.n, p.k, p.row_bytes);
    const size_t c_floats = (size_t)(m - 1) * p.ldc + (size_t)p.n;
    p.c = ck_place(ck, CK_OUT, c_floats * sizeof(float), sizeof(float));
    ck_poison(p.c, c_floats);
    return p;
}

/* ---- int8 products ---- */

/* Packed activations whose arrays end at unmapped pages, one by one. */
static void place_act(struct ck *ck, struct pn_act *a, int32_t m, int32_t k)
{
    const size_t cells = ((size_t)k + PN_QK - 1) / PN_QK * (size_t)m;
    a->m = m;
    a->k = k;
    a->nb = (k + PN_QK - 1) / PN_QK;
    a->q = ck_place(ck, CK_Q, cells * PN_QK, 64);
    a->s32 = ck_place(ck, CK_S32, cells * 8 * sizeof(int16_t), 4);
    a->s16 = ck_place(ck, CK_S16, cells * 16 * sizeof(int16_t), 4);
    a->d = ck_place(ck, CK_D, cells * sizeof(float), 4);
}

bool ck_mm(struct ck *ck)
{
    const enum pn_type type = ck->slot->type;
    float *want = ck_scratch(0), *x = ck_scratch(1);
    const struct sizes ms = m_sizes(ck);
    for (int32_t mi = 0; mi < ms.n; mi++) {
        const int32_t m = ms.at[mi], rounds = ck_count(ck, m < 500 ? 16 : 3); /* the reference is slow */
        for (int32_t round = 0; round < rounds; round++) {
            const struct product p = pick_product(ck, m, round);
            const int32_t m0 = ck_range(ck, 0, 2) ? 0 : ck_range(ck, 1, 9);
            const int32_t extra = ck_range(ck, 0, 2) ? 0 : ck_range(ck, 1, 5);
            struct pn_act a;
            place_act(ck, &a, m0 + m + extra, p.k);
            const bool extreme = ck_range(ck, 0, 5) == 0; /* all |q| = 127 */
            for (int32_t i = 0; i < a.m; i++) {
                const int sign = ck_range(ck, 0, 2);
                ck_vector(ck, x, p.k);
                for (int32_t e = 0; extreme && e < p.k; e++)
                    x[e] = sign == 0 || (sign == 2 && ck_rand(ck) & 1) ? -1.0f : 1.0f;
                ck->ref->quant_act(&a, i, x);
            }
            ck_case(ck, "m %d n %d k %d m0 %d of %d, ldc %zu, row_bytes %zu", m, p.n, p.k, m0, a.m,
                    p.ldc, p.row_bytes);
            ck->ref->mm[type].run(want, p.ldc, p.w, p.row_bytes, p.n, &a, m0, m);
            ck->k->mm[type].run(p.c, p.ldc, p.w, p.row_bytes, p.n, &a, m0, m);
            if (!ck_same_matrix(ck, p.c, want, m, p.n, p.ldc))
                return false;
            /* a single row must give the bits of that row */
            const int32_t one = ck_range(ck, 0, m - 1);
            ck->k->mm[type].run(p.c, p.ldc, p.w, p.row_bytes, p.n, &a, m0 + one, 1);
            if (!ck_same(ck, "single row", p.c, want + (size_t)one * p.ldc, (size_t)p.n) ||
                !ck_canaries(ck))
                return false;
        }
    }
    ck_case(ck, "m 0 or n 0");
    struct pn_act a;
    place_act(ck, &a, 1, 256);
    memset(a.q, 0, 256);
    ck->k->mm[type].run(ck_place(ck, CK_OUT, 0, 4), 1, ck_place(ck, CK_W, 0, 2), 0, 0, &a, 0, 1);
    ck->k->mm[type].run(ck_place(ck, CK_OUT, 0, 4), 1, ck_place(ck, CK_W, 0, 2), 0, 1, &a, 0, 0);
    return ck_canaries(ck);
}

/* ---- f32 products ---- */

typedef void (*mm_f32_fn)(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n, int32_t k,
                          const float *x, size_t ldx, int32_t m);

/* Values of a row as the kernel sees them, rounded to bf16 when bf16 is set. */
static void values(const struct ck *ck, float *v, const uint8_t *row, int32_t k, bool bf16)
{
    ck->ref->dequant[ck->slot->type](v, row, k);
    for (int32_t e = 0; bf16 && e < k; e++)
        v[e] = pn_bf16_to_f32(pn_f32_to_bf16(v[e]));
}

/* [close]: each element within the rounding of a f32 sum in any order, of the sum in double. */
static bool close_matrix(struct ck *ck, const struct product *p, const float *x, size_t ldx, bool bf16)
{
    float *w = ck_scratch(2);
    for (int32_t j = 0; j < p->n; j++) {
        values(ck, w, p->w + (size_t)j * p->row_bytes, p->k, bf16);
        for (int32_t i = 0; i < p->m; i++) {
            double sum = 0, magnitude = 0;
            for (int32_t e = 0; e < p->k; e++) {
                const float xe = x[(size_t)i * ldx + (size_t)e];
                const float xr = bf16 ? pn_bf16_to_f32(pn_f32_to_bf16(xe)) : xe;
                sum += (double)xr * (double)w[e];
                magnitude += fabs((double)xr * (double)w[e]);
            }
            /* bf16 instructions flush denormal operands and products to zero */
            const double bound = (p->k + 8) * 0x1p-24 * magnitude + p->k * 1e-30;
            const float got = p->c[(size_t)i * p->ldc + (size_t)j];
            if (!(fabs((double)got - sum) <= bound))
                return ck_fail(ck, "c[%d][%d] = %.9g, expected %.9g +- %.3g", i, j, (double)got, sum,
                               bound);
        }
    }
    return ck_gaps(ck, p->c, p->m, p->n, p->ldc);
}

bool ck_mm_f32(struct ck *ck)
{
    const mm_f32_fn kernel = ck->k->mm_f32[ck->slot->type].run, reference = ck->ref->mm_f32[ck->slot->type].run;
    float *want = ck_scratch(0), *one_row = ck_scratch(1);
    const struct sizes ms = m_sizes(ck);
    for (int32_t mi = 0; mi < ms.n; mi++) {
        const int32_t m = ms.at[mi], rounds = ck_count(ck, m < 500 ? 14 : 3); /* the reference is slow */
        for (int32_t round = 0; round < rounds; round++) {
            const struct product p = pick_product(ck, m, round);
            const size_t ldx = (size_t)p.k + (size_t)(ck_range(ck, 0, 2) == 0 ? ck_range(ck, 1, 9) : 0);
            float *x = ck_place(ck, CK_X, ((size_t)(m - 1) * ldx + (size_t)p.k) * sizeof(float), 4);
            for (int32_t i = 0; i < m; i++) {
                ck_vector(ck, x + (size_t)i * ldx, p.k);
                if (i + 1 < m) /* what lies between rows must not matter */
                    ck_poison(x + (size_t)i * ldx + p.k, ldx - (size_t)p.k);
            }
            ck_case(ck, "m %d n %d k %d, ldc %zu, ldx %zu, row_bytes %zu", m, p.n, p.k, p.ldc, ldx,
                    p.row_bytes);
            kernel(p.c, p.ldc, p.w, p.row_bytes, p.n, p.k, x, ldx, m);
            if (ck->blas) {
                if (!close_matrix(ck, &p, x, ldx, false))
                    return false;
            } else {
                reference(want, p.ldc, p.w, p.row_bytes, p.n, p.k, x, ldx, m);
                if (!ck_same_matrix(ck, p.c, want, m, p.n, p.ldc))
                    return false;
            }
            if (!ck->blas) {
                const int32_t one = ck_range(ck, 0, m - 1);
                memcpy(one_row, p.c + (size_t)one * p.ldc, (size_t)p.n * sizeof(float));
                kernel(p.c, p.ldc, p.w, p.row_bytes, p.n, p.k, x + (size_t)one * ldx, ldx, 1);
                if (!ck_same(ck, "single row", p.c, one_row, (size_t)p.n))
                    return false;
            }
            if (!ck_canaries(ck))
                return false;
        }
    }
    ck_case(ck, "m 0 or n 0");
    float *c = ck_place(ck, CK_OUT, 0, 4), *x = ck_place(ck, CK_X, 0, 4);
    const void *w = ck_place(ck, CK_W, 0, 2);
    kernel(c, 1, w, 0, 0, 256, x, 256, 1);
    kernel(c, 1, w, 0, 1, 256, x, 256, 0);
    return ck_canaries(ck);
}

/* ---- bf16 products ---- */

bool ck_mm_bf16(struct ck *ck)
{
    const enum pn_type type = ck->slot->type;
    float *one_row = ck_scratch(1);
    const struct sizes ms = m_sizes(ck);
    for (int32_t mi = 0; mi < ms.n; mi++) {
        const int32_t m = ms.at[mi], rounds = ck_count(ck, m < 500 ? 14 : 3);
        for (int32_t round = 0; round < rounds; round++) {
            const struct product p = pick_product(ck, m, round);
            const size_t k = (size_t)p.k;
            float *x = ck_place(ck, CK_X, (size_t)m * k * sizeof(float), 4);
            struct pn_act16 a;
            ck_place_act16(ck, CK_Q, &a, m, p.k);
            memset(a.x, 0xff, pn_act16_bytes(m, p.k)); /* NaN, in the row that is not there, too */
            for (int32_t i = 0; i < m; i++) {
                ck_vector(ck, x + (size_t)i * k, p.k);
                ck->k->round_act(&a, i, x + (size_t)i * k);
            }
            ck_case(ck, "m %d n %d k %d, ldc %zu, row_bytes %zu", m, p.n, p.k, p.ldc, p.row_bytes);
            ck->k->mm_bf16[type].run(p.c, p.ldc, p.w, p.row_bytes, p.n, &a);
            if (!close_matrix(ck, &p, x, k, true))
                return false;
            const int32_t one = ck_range(ck, 0, m - 1);
            memcpy(one_row, p.c + (size_t)one * p.ldc, (size_t)p.n * sizeof(float));
            ck_place_act16(ck, CK_Q, &a, 1, p.k);
            memset(a.x, 0xff, pn_act16_bytes(1, p.k));
            ck->k->round_act(&a, 0, x + (size_t)one * k);
            ck->k->mm_bf16[type].run(p.c, p.ldc, p.w, p.row_bytes, p.n, &a);
            if (!ck_same(ck, "single row", p.c, one_row, (size_t)p.n) || !ck_canaries(ck))
                return false;
        }
    }
    ck_case(ck, "m 0 or n 0");
    float *c = ck_place(ck, CK_OUT, 0, 4);
    const void *w = ck_place(ck, CK_W, 0, 2);
    struct pn_act16 a;
    ck_place_act16(ck, CK_Q, &a, 1, 256);
    memset(a.x, 0, pn_act16_bytes(1, 256));
    ck->k->mm_bf16[type].run(c, 1, w, 0, 0, &a);
    ck_place_act16(ck, CK_Q, &a, 0, 256);
    ck->k->mm_bf16[type].run(c, 1, w, 0, 1, &a);
    return ck_canaries(ck);
}

/* ---- dequantisers ---- */

bool ck_dequant(struct ck *ck)
{
    const enum pn_type type = ck->slot->type;
    const int32_t block = pn_type_info(type)->block_elems;
    float *want = ck_scratch(0);
    for (int32_t round = 0; round < ck_count(ck, 120); round++) {
        const int32_t n = block * (round < 40 ? round + 1 : ck_range(ck, 1, 5120 / block));
        uint8_t *w = ck_place(ck, CK_W, pn_row_bytes(type, n), 2);
        ck_weights(ck, type, w, 1, n, pn_row_bytes(type, n));
        if (block == 1 && round % 3 == 0 && type != PN_F32) { /* any 16 bits: Inf and NaN too */
            for (int32_t i = 0; i < n; i++)
                pn_put_le16(w + 2 * i, (uint16_t)ck_rand(ck));
        }
        float *got = ck_place(ck, CK_OUT, (size_t)n * sizeof(float), 4);
        ck_poison(got, (size_t)n);
        ck_case(ck, "n %d", n);
        ck->ref->dequant[type](want, w, n);
        ck->k->dequant[type](got, w, n);
        if (!ck_same(ck, "value", got, want, (size_t)n) || !ck_canaries(ck))
            return false;
    }
    return true;
}
