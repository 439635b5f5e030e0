/* SPDX-License-Identifier: Apache-2.0 */
/* Activation quantisation and the vector slots. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "checkkern.h"
#include "quant/blocks.h"

/* Every small length, and the widths of real models (1280, 4096, 5120, 14336 among them). */
static int32_t pick_length(struct ck *ck, int32_t round)
{
    static const int32_t widths[] = { 100, 255, 256, 257, 588, 1000, 1280, 4096, 5120, 7680, 14336 };
    if (round < 70)
        return round + 1;
    return ck_range(ck, 0, 2) ? ck_range(ck, 1, 300)
                              : ck_pick(ck, widths, (int32_t)(sizeof widths / sizeof widths[0]));
}

static float *place_floats(struct ck *ck, enum ck_arena arena, int32_t n)
{
    return ck_place(ck, arena, (size_t)n * sizeof(float), sizeof(float));
}

/* ---- activations ---- */

bool ck_quant_act(struct ck *ck)
{
    static const int32_t ks[] = { 32, 64, 256, 288, 480, 512, 768, 1024, 1280, 2080, 14336 };
    for (int32_t round = 0; round < ck_count(ck, 400); round++) {
        const int32_t k = round < 11 ? ks[round]
                          : ck_rand(ck) & 1 ? ck_pick(ck, ks, 10)
                                            : ck_range(ck, 1, 1200);
        const int32_t m = ck_range(ck, 1, 9), row = ck_range(ck, 0, m - 1);
        const size_t cells = ((size_t)k + PN_QK - 1) / PN_QK * (size_t)m;
        struct pn_act want, got;
        got.m = m;
        got.k = k;
        got.nb = (k + PN_QK - 1) / PN_QK;
        got.q = ck_place(ck, CK_Q, cells * PN_QK, 64);
        got.s32 = ck_place(ck, CK_S32, cells * 16, 4);
        got.s16 = ck_place(ck, CK_S16, cells * 32, 4);
        got.d = ck_place(ck, CK_D, cells * 4, 4);
        want = got;
        want.q = ck_scratch(0);
        want.s32 = ck_scratch(1);
        want.s16 = ck_scratch(2);
        want.d = ck_scratch(3);
        /* other rows must stay as they are */
        memset(got.q, 0x55, cells * PN_QK);
        memset(got.s32, 0x55, cells * 16);
        memset(got.s16, 0x55, cells * 32);
        memset(got.d, 0x55, cells * 4);
        memset(want.q, 0x55, cells * PN_QK);
        memset(want.s32, 0x55, cells * 16);
        memset(want.s16, 0x55, cells * 32);
        memset(want.d, 0x55, cells * 4);
        float *x = place_floats(ck, CK_X, k);
        ck_vector(ck, x, k);
        const int damage = ck_range(ck, 0, 19);
        if (damage < 3)
            x[ck_range(ck, 0, k - 1)] = damage == 0 ? NAN : damage == 1 ? INFINITY : -INFINITY;
        if (damage == 3) { /* halves: ties to even */
            for (int32_t i = 0; i < k; i++)
                x[i] = (float)ck_range(ck, -254, 254) * 0.5f;
            for (int32_t i = 0; i < k; i += 200)
                x[i] = 127.0f;
        }
        ck_case(ck, "k %d, row %d of %d%s", k, row, m, damage < 3 ? ", with NaN or Inf" : "");
        ck->ref->quant_act(&want, row, x);
        ck->k->quant_act(&got, row, x);
        if (!ck_same(ck, "d", got.d, want.d, cells) ||
            !ck_same_bytes(ck, "q", got.q, want.q, cells * PN_QK) ||
            !ck_same_bytes(ck, "s32", got.s32, want.s32, cells * 16) ||
            !ck_same_bytes(ck, "s16", got.s16, want.s16, cells * 32) || !ck_canaries(ck))
            return false;
    }
    return true;
}

bool ck_quant_q8_0(struct ck *ck)
{
    for (int32_t round = 0; round < ck_count(ck, 400); round++) {
        const int32_t n = 32 * ck_range(ck, 1, round == 0 ? 160 : 20);
        const size_t bytes = (size_t)n / 32 * 34;
        uint8_t *got = ck_place(ck, CK_Q, bytes, 2), *want = ck_scratch(0);
        float *x = place_floats(ck, CK_X, n);
        ck_vector(ck, x, n);
        const int special = ck_range(ck, 0, 9);
        const float tiny = ldexpf(1.0f, -ck_range(ck, 8, 30)); /* f16 scales without all their bits, or zero */
        for (int32_t i = 0; i < n && special < 3; i++)
            x[i] *= tiny;
        if (special == 3)
            x[ck_range(ck, 0, n - 1)] = ck_rand(ck) & 1 ? NAN : -INFINITY;
        if (special == 4) /* about f16's largest scale, and beyond it */
            x[ck_range(ck, 0, n - 1)] = ck_rand(ck) & 1 ? 1e9f : 127 * (65504 + (float)ck_range(ck, 8, 24));
        if (special == 5) /* scales are powers of two, values halves: ties to even */
            for (int32_t i = 0; i < n; i++)
                x[i] = i % 32 == 0 ? 254.0f : (float)ck_range(ck, -254, 254);
        ck_case(ck, "n %d, kind %d", n, special);
        ck->ref->quant_q8_0(want, x, n);
        ck->k->quant_q8_0(got, x, n);
        if (!ck_same_bytes(ck, "blocks", got, want, bytes) || !ck_canaries(ck))
            return false;
    }
    return true;
}

void ck_place_act16(struct ck *ck, enum ck_arena arena, struct pn_act16 *a, int32_t m, int32_t k)
{
    pn_act16_init(a, NULL, m, k);
    a->x = ck_place(ck, arena, pn_act16_bytes(m, k), 64);
}

bool ck_round_act(struct ck *ck)
{
    static const int32_t ks[] = { 1, 31, 32, 33, 127, 128, 129, 256, 288, 588, 1280, 2080, 14336 };
    for (int32_t round = 0; round < ck_count(ck, 400); round++) {
        const int32_t k = round < 13 ? ks[round] : ck_rand(ck) & 1 ? ck_pick(ck, ks, 12) : ck_range(ck, 1, 1200);
        const int32_t m = ck_range(ck, 1, 9), row = ck_range(ck, 0, m - 1);
        const size_t bytes = pn_act16_bytes(m, k);
        uint16_t *want = ck_scratch(0);
        struct pn_act16 got;
        ck_place_act16(ck, CK_Q, &got, m, k);
        memset(got.x, 0x55, bytes); /* other rows must stay as they are */
        memset(want, 0x55, bytes);
        float *x = place_floats(ck, CK_X, k);
        ck_vector(ck, x, k);
        const int special = ck_range(ck, 0, 19);
        if (special < 3)
            x[ck_range(ck, 0, k - 1)] = special == 0 ? NAN : special == 1 ? INFINITY : -INFINITY;
        for (int32_t i = 0; special == 3 && i < k; i++) /* halves: ties to even */
            x[i] = pn_f32_from_bits((uint32_t)ck_rand(ck) << 15 & 0xbfff8000u);
        ck_case(ck, "k %d, row %d of %d%s", k, row, m, special < 3 ? ", with NaN or Inf" : "");
        ck->k->round_act(&got, row, x);
        for (int32_t c = 0; c < got.nb * PN_ACT16_COLS; c++) {
            const int32_t at = c % PN_ACT16_COLS;
            const size_t place = (size_t)(c / PN_ACT16_COLS) * (size_t)got.rows * PN_ACT16_COLS +
                                 (size_t)(PN_ACT16_ROWS == 1 ? row * PN_ACT16_COLS + at
                                                             : (row - row % 2) * PN_ACT16_COLS + (at - at % 4) * 2 +
                                                                   row % 2 * 4 + at % 4);
            const uint16_t h = got.x[place];
            want[place] = c < k ? pn_f32_to_bf16(x[c]) : 0;
            const bool zero = c < k && fabsf(x[c]) < FLT_MIN && (h & 0x7fff) == 0;
            const bool nan = c < k && isnan(x[c]) && isnan(pn_bf16_to_f32(h));
            if (zero || nan)
                want[place] = h;
        }
        if (!ck_same_bytes(ck, "x", got.x, want, bytes) || !ck_canaries(ck))
            return false;
    }
    return true;
}

/* ---- norms ---- */

bool ck_rmsnorm(struct ck *ck)
{
    float *want = ck_scratch(0);
    for (int32_t round = 0; round < ck_count(ck, 300); round++) {
        const int32_t n = pick_length(ck, round);
        float *x = place_floats(ck, CK_X, n), *w = place_floats(ck, CK_W, n);
        const bool in_place = ck_range(ck, 0, 3) == 0;
        float *y = in_place ? x : place_floats(ck, CK_OUT, n);
        const float eps = ck_range(ck, 0, 5) ? 1e-5f : 1e-6f;
        ck_vector(ck, x, n);
        ck_vector(ck, w, n);
        if (!in_place)
            ck_poison(y, (size_t)n);
        ck_case(ck, "n %d%s", n, in_place ? ", in place" : "");
        ck->ref->rmsnorm(want, x, w, n, eps);
        ck->k->rmsnorm(y, x, w, n, eps);
        if (!ck_same(ck, "y", y, want, (size_t)n) || !ck_canaries(ck))
            return false;
    }
    return true;
}

bool ck_layernorm(struct ck *ck)
{
    float *want = ck_scratch(0);
    for (int32_t round = 0; round < ck_count(ck, 300); round++) {
        const int32_t n = pick_length(ck, round);
        float *x = place_floats(ck, CK_X, n), *w = place_floats(ck, CK_W, n);
        float *b = place_floats(ck, CK_B, n);
        const bool in_place = ck_range(ck, 0, 3) == 0;
        float *y = in_place ? x : place_floats(ck, CK_OUT, n);
        ck_vector(ck, x, n);
        ck_vector(ck, w, n);
        ck_vector(ck, b, n);
        if (!in_place)
            ck_poison(y, (size_t)n);
        ck_case(ck, "n %d%s", n, in_place ? ", in place" : "");
        ck->ref->layernorm(want, x, w, b, n, 1e-5f);
        ck->k->layernorm(y, x, w, b, n, 1e-5f);
        if (!ck_same(ck, "y", y, want, (size_t)n) || !ck_canaries(ck))
            return false;
    }
    return true;
}

/* ---- rotary embedding ---- */

bool ck_rope(struct ck *ck)
{
    const bool half = ck->slot->offset == offsetof(struct pn_kern, rope_half);
    float *want = ck_scratch(0);
    for (int32_t round = 0; round < ck_count(ck, 300); round++) {
        const int32_t hd = 2 * (round < 140 ? round + 1 : ck_range(ck, 1, 140));
        float *x = place_floats(ck, CK_X, hd);
        float *cs = place_floats(ck, CK_A, hd / 2), *sn = place_floats(ck, CK_B, hd / 2);
        ck_vector(ck, x, hd);
        for (int32_t i = 0; i < hd / 2; i++) {
            const float angle = ck_uniform(ck, -7.0f, 7.0f);
            cs[i] = cosf(angle);
            sn[i] = sinf(angle);
        }
        memcpy(want, x, (size_t)hd * sizeof(float));
        ck_case(ck, "hd %d", hd);
        (half ? ck->ref->rope_half : ck->ref->rope_inter)(want, cs, sn, hd);
        (half ? ck->k->rope_half : ck->k->rope_inter)(x, cs, sn, hd);
        if (!ck_same(ck, "x", x, want, (size_t)hd) || !ck_canaries(ck))
            return false;
    }
    return true;
}

/* ---- element-wise ---- */

/* Arguments of exp and erf: all magnitudes, the limits and their neighbours, infinities, NaN. */
static void activation_inputs(struct ck *ck, float *x, int32_t n)
{
    static const float edges[] = { 0.0f,     -0.0f,   1.0f,       -1.0f,     1.4142135f, -1.4142135f,
                                   87.33f,   -87.33f, 87.330002f, 88.37f,    -88.37f,    88.380005f,
                                   -88.38f,  5.656f,  -5.657f,    INFINITY,  -INFINITY,  NAN,
                                   1e-40f,   -1e-40f, 3.0e38f,    -3.0e38f,  1e-20f };
    const int shape = ck_range(ck, 0, 3);
    for (int32_t i = 0; i < n; i++) {
        if (shape == 0)
            x[i] = edges[ck_range(ck, 0, (int32_t)(sizeof edges / sizeof edges[0]) - 1)];
        else if (shape == 1) /* any bits */
            x[i] = pn_f32_from_bits((uint32_t)ck_rand(ck));
        else
            x[i] = ck_normal(ck) * (shape == 2 ? 3.0f : 40.0f);
    }
}

bool ck_silu_mul(struct ck *ck)
{
    float *want = ck_scratch(0);
    for (int32_t round = 0; round < ck_count(ck, 300); round++) {
        const int32_t n = pick_length(ck, round);
        float *g = place_floats(ck, CK_A, n), *u = place_floats(ck, CK_B, n);
        const int where = ck_range(ck, 0, 3);
        float *y = where == 0 ? g : where == 1 ? u : place_floats(ck, CK_OUT, n);
        activation_inputs(ck, g, n);
        ck_vector(ck, u, n);
        if (where > 1)
            ck_poison(y, (size_t)n);
        ck_case(ck, "n %d%s", n, where == 0 ? ", y == g" : where == 1 ? ", y == u" : "");
        ck->ref->silu_mul(want, g, u, n);
        ck->k->silu_mul(y, g, u, n);
        if (!ck_same(ck, "y", y, want, (size_t)n) || !ck_canaries(ck))
            return false;
    }
    return true;
}

bool ck_gelu(struct ck *ck)
{
    float *want = ck_scratch(0);
    for (int32_t round = 0; round < ck_count(ck, 300); round++) {
        const int32_t n = pick_length(ck, round);
        float *x = place_floats(ck, CK_X, n);
        const bool in_place = ck_rand(ck) & 1;
        float *y = in_place ? x : place_floats(ck, CK_OUT, n);
        activation_inputs(ck, x, n);
        if (!in_place)
            ck_poison(y, (size_t)n);
        ck_case(ck, "n %d%s", n, in_place ? ", in place" : "");
        ck->ref->gelu(want, x, n);
        ck->k->gelu(y, x, n);
        if (!ck_same(ck, "y", y, want, (size_t)n) || !ck_canaries(ck))
            return false;
    }
    return true;
}

static bool update(struct ck *ck, bool with_scale)
{
    float *want = ck_scratch(0);
    for (int32_t round = 0; round < ck_count(ck, 250); round++) {
        const int32_t n = round == 0 ? 0 : pick_length(ck, round - 1);
        float *x = place_floats(ck, CK_X, n), *y = place_floats(ck, CK_OUT, n);
        const float s = ck_range(ck, 0, 4) ? ck_normal(ck) : 0.0f;
        ck_vector(ck, x, n);
        ck_vector(ck, y, n);
        memcpy(want, y, (size_t)n * sizeof(float));
        ck_case(ck, "n %d", n);
        if (with_scale) {
            ck->ref->axpy(want, x, s, n);
            ck->k->axpy(y, x, s, n);
        } else {
            ck->ref->add(want, x, n);
            ck->k->add(y, x, n);
        }
        if (!ck_same(ck, "y", y, want, (size_t)n) || !ck_canaries(ck))
            return false;
    }
    return true;
}

bool ck_axpy(struct ck *ck)
{
    return update(ck, true);
}

bool ck_add(struct ck *ck)
{
    return update(ck, false);
}

/* ---- pictures ---- */

/* Weights that add up to about 2^22, or in one case of four to 2^23, as after rounding up; white among the bytes. */
static void resize_operands(struct ck *ck, int32_t *weight, int32_t n, uint8_t *in, size_t bytes)
{
    const int32_t total = ck_range(ck, 0, 3) == 0 ? 1 << 23 : 1 << 22, flat = ck_range(ck, 0, 2) == 0;
    for (int32_t j = 0; j < n; j++)
        weight[j] = flat ? total / n : ck_range(ck, 0, total / n);
    const int32_t white = ck_range(ck, 0, 2) == 0;
    for (size_t i = 0; i < bytes; i++)
        in[i] = (uint8_t)(white ? 255 : ck_range(ck, 0, 255));
}

static bool resize_across(struct ck *ck)
{
    enum { MOST = 70 };
    const int32_t w = ck_range(ck, 1, 40), in_w = ck_range(ck, 1, MOST);
    const size_t size = (size_t)in_w + (size_t)ck_range(ck, 0, 2), bytes = 3 * (size_t)in_w;
    int32_t first[40], count[40];
    static int32_t weight[40 * (MOST + 2)];
    uint8_t want[3 * 40], *in = ck_place(ck, CK_X, bytes, 1), *out = ck_place(ck, CK_OUT, 3 * (size_t)w, 1);
    for (int32_t x = 0; x < w; x++) {
        count[x] = ck_range(ck, 1, in_w);
        first[x] = ck_range(ck, 0, 1) ? in_w - count[x] : ck_range(ck, 0, in_w - count[x]);
        resize_operands(ck, weight + (size_t)x * size, count[x], in, bytes);
    }
    ck_case(ck, "%d pixels from %d", (int)w, (int)in_w);
    ck->ref->resize_across(want, in, w, in_w, first, count, weight, size);
    ck->k->resize_across(out, in, w, in_w, first, count, weight, size);
    return ck_same_bytes(ck, "pixels", out, want, 3 * (size_t)w) && ck_canaries(ck);
}

static bool resize_down(struct ck *ck)
{
    enum { ROWS = 30, BYTES = 400 };
    const int32_t n = ck_range(ck, 1, ROWS);
    const size_t n_bytes = (size_t)ck_range(ck, 1, BYTES), stride = n_bytes + (size_t)ck_range(ck, 0, 9);
    const size_t bytes = (size_t)(n - 1) * stride + n_bytes;
    int32_t weight[ROWS];
    uint8_t want[BYTES], *in = ck_place(ck, CK_X, bytes, 1), *out = ck_place(ck, CK_OUT, n_bytes, 1);
    resize_operands(ck, weight, n, in, bytes);
    ck_case(ck, "%d bytes from %d rows", (int)n_bytes, (int)n);
    ck->ref->resize_down(want, in, stride, n_bytes, weight, n);
    ck->k->resize_down(out, in, stride, n_bytes, weight, n);
    return ck_same_bytes(ck, "bytes", out, want, n_bytes) && ck_canaries(ck);
}

bool ck_resize(struct ck *ck)
{
    const bool across = ck->slot->offset == offsetof(struct pn_kern, resize_across);
    for (int32_t i = 0; i < ck_count(ck, 400); i++) {
        if (!(across ? resize_across(ck) : resize_down(ck)))
            return false;
    }
    return true;
}

/* ---- peak loops: they must count what they say ---- */

bool ck_peak(struct ck *ck)
{
    uint64_t (*loop)(uint64_t iters);
    memcpy(&loop, (const char *)ck->k + ck->slot->offset, sizeof loop);
    const uint64_t counts[] = { 1, 1000, 12345 };
    for (size_t i = 0; i < 3; i++) {
        ck_case(ck, "iters %d", (int)counts[i]);
        const uint64_t ops = loop(counts[i]);
        if (ops < 2 * counts[i])
            return ck_fail(ck, "returned %d operations", (int)ops);
    }
    return true;
}
