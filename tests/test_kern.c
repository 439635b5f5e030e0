/* SPDX-License-Identifier: Apache-2.0 */
/* The scalar reference against the mathematics it stands for, in double precision. (checkkern
 * compares the other tiers with the scalar reference.) Also: layouts, tiers by name, CPU counting.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <puna.h>

#include "cpu/cpu.h"
#include "kern/kern.h"
#include "kern/kern_math.h"
#include "kern/kv_layout.h"
#include "quant/quantize.h"

static struct pn_kern k;
static uint64_t rng = 1;

static float noise(void)
{
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        rng = rng * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(rng >> 40) * 0x1p-24f - 0.5f;
    }
    return sum * 1.7f;
}

static void fill(float *x, int n)
{
    for (int i = 0; i < n; i++)
        x[i] = noise();
}

static void near(const char *what, double got, double want, double bound)
{
    if (!(fabs(got - want) <= bound))
        fail_msg("%s: %.9g, expected %.9g +- %.3g", what, got, want, bound);
}

static int setup(void **state)
{
    (void)state;
    return pn_kern_select(&k, "scalar", NULL);
}

/* ---- exp and erf over all magnitudes ---- */

static void test_exp_erf(void **state)
{
    (void)state;
    double worst_exp = 0, worst_erf = 0;
    for (uint64_t u = 0; u < 0x100000000u; u += 9973) {
        const float x = pn_f32_from_bits((uint32_t)u);
        if (isnan(x)) {
            assert_true(isnan(pn_expf(x)) && isnan(pn_erff(x)));
            continue;
        }
        if (x < PN_EXP_LO) {
            assert_true(pn_expf(x) == 0.0f);
        } else if (x > PN_EXP_HI) {
            assert_true(isinf(pn_expf(x)));
        } else {
            const double e = exp((double)x);
            worst_exp = fmax(worst_exp, fabs((double)pn_expf(x) - e) / e);
        }
        worst_erf = fmax(worst_erf, fabs((double)pn_erff(x) - erf((double)x)));
    }
    near("exp: relative error", worst_exp, 0, 1e-7);
    near("erf: error", worst_erf, 0, 2e-7);
    assert_true(pn_expf(0.0f) == 1.0f);
    assert_true(pn_erff(4.0f) == 1.0f && pn_erff(-INFINITY) == -1.0f);
    assert_true(signbit(pn_erff(-0.0f)));
}

/* ---- products ---- */

static const enum pn_type types[] = { PN_F32,  PN_F16,  PN_BF16, PN_Q4_0, PN_Q4_1,
                                      PN_Q5_0, PN_Q5_1, PN_Q8_0, PN_Q2_K, PN_Q3_K,
                                      PN_Q4_K, PN_Q5_K, PN_Q6_K, PN_IQ4_NL, PN_IQ4_XS };
enum { N_TYPES = sizeof types / sizeof types[0], M = 3, N = 5, K_MAX = 800 };

static void test_products(void **state)
{
    (void)state;
    static float x[M][K_MAX], w[K_MAX], c[M][N], cq[M][N];
    static uint8_t rows[N * K_MAX * 4];
    for (int t = 0; t < N_TYPES; t++) {
        const int block = pn_type_info(types[t])->block_elems;
        const int n_cols = block == 256 ? 768 : block == 32 ? 800 : 797;
        const size_t row_bytes = pn_row_bytes(types[t], n_cols);
        fill(&x[0][0], M * K_MAX);
        for (int j = 0; j < N; j++) {
            fill(w, n_cols);
            pn_quantize_row(types[t], rows + (size_t)j * row_bytes, w, n_cols, NULL);
        }
        k.mm_f32[types[t]].run(&c[0][0], N, rows, row_bytes, N, n_cols, &x[0][0], K_MAX, M);

        struct pn_act a;
        void *buf = aligned_alloc(64, pn_act_bytes(M, n_cols));
        assert_non_null(buf);
        pn_act_init(&a, buf, M, n_cols);
        for (int i = 0; i < M; i++)
            k.quant_act(&a, i, x[i]);
        if (block > 1)
            k.mm[types[t]].run(&cq[0][0], N, rows, row_bytes, N, &a, 0, M);

        for (int j = 0; j < N; j++) {
            k.dequant[types[t]](w, rows + (size_t)j * row_bytes, n_cols);
            for (int i = 0; i < M; i++) {
                double sum = 0, size = 0, qsum = 0, qsize = 0;
                for (int e = 0; e < n_cols; e++) {
                    const size_t cell = (size_t)(e / 256) * M + (size_t)i;
                    const double xq = (double)a.d[cell] * a.q[cell * 256 + (size_t)(e % 256)];
                    /* rounding to int8: half a step */
                    near("quantised activation", xq, (double)x[i][e], 0.5001 * (double)a.d[cell]);
                    sum += (double)x[i][e] * (double)w[e];
                    size += fabs((double)x[i][e] * (double)w[e]);
                    qsum += xq * (double)w[e];
                    qsize += fabs(xq * (double)w[e]);
                }
                const char *name = pn_type_info(types[t])->name;
                near(name, (double)c[i][j], sum, size * 60 * 0x1p-24);
                if (block > 1) /* few float operations: eight per super-block; min parts cancel */
                    near(name, (double)cq[i][j], qsum, (qsize + 10) * 60 * 0x1p-24);
            }
        }
        free(buf);
    }
}

static void test_act_sums(void **state)
{
    (void)state;
    enum { COLS = 300 };
    float x[COLS];
    struct pn_act a;
    void *buf = aligned_alloc(64, pn_act_bytes(2, COLS));
    assert_non_null(buf);
    pn_act_init(&a, buf, 2, COLS);
    assert_int_equal(a.nb, 2);
    fill(x, COLS);
    x[17] = 9.0f; /* the largest: must become exactly 127 */
    k.quant_act(&a, 1, x);
    assert_int_equal(a.q[256 + 17], 127);
    near("scale", (double)a.d[1], 9.0 / 127.0, 1e-8);
    for (int b = 0; b < 2; b++) {
        const size_t cell = (size_t)b * 2 + 1;
        for (int g = 0; g < 16; g++) {
            int sum = 0;
            for (int e = 0; e < 16; e++)
                sum += a.q[cell * 256 + (size_t)(16 * g + e)];
            assert_int_equal(a.s16[cell * 16 + (size_t)g], sum);
        }
        for (int g = 0; g < 8; g++)
            assert_int_equal(a.s32[cell * 8 + (size_t)g],
                             a.s16[cell * 16 + (size_t)(2 * g)] + a.s16[cell * 16 + (size_t)(2 * g + 1)]);
    }
    for (int e = COLS - 256; e < 256; e++) /* past k */
        assert_int_equal(a.q[3 * 256 + e], 0);
    x[3] = NAN;
    k.quant_act(&a, 1, x);
    assert_true(isnan(a.d[1]) && !isnan(a.d[3]));
    free(buf);
}

static void test_quant_q8_0(void **state)
{
    (void)state;
    float x[64];
    struct pn_q8_0 b[2];
    fill(x, 64);
    x[40] = -3.0f;
    k.quant_q8_0(b, x, 64);
    assert_int_equal(b[1].qs[8], -127);
    for (int i = 0; i < 64; i++) {
        const double d = (double)pn_f16_to_f32(pn_le16(b[i / 32].d));
        near("value", d * b[i / 32].qs[i % 32], (double)x[i], 0.5001 * d + 127 * d * 0x1p-11);
    }
    for (int i = 0; i < 64; i++)
        x[i] = i < 32 ? 1e-7f : i == 50 ? 4e-5f : 0; /* no f16 scale; one of five units of 2^-24, clamped */
    k.quant_q8_0(b, x, 64);
    assert_int_equal(pn_le16(b[0].d), 0);
    assert_int_equal(b[0].qs[5], 0);
    assert_int_equal(pn_le16(b[1].d), 5);
    assert_int_equal(b[1].qs[18], 127);
    for (int i = 0; i < 3; i++) {
        fill(x, 64);
        x[33] = i == 0 ? NAN : i == 1 ? INFINITY : 1e9f;
        k.quant_q8_0(b, x, 64);
        assert_true(isnan(pn_f16_to_f32(pn_le16(b[1].d))) && b[1].qs[1] == 0 && b[1].qs[7] == 0);
        assert_false(isnan(pn_f16_to_f32(pn_le16(b[0].d))));
    }
}

/* ---- vectors ---- */

static void test_norms(void **state)
{
    (void)state;
    enum { SIZE = 1283 };
    static float x[SIZE], w[SIZE], b[SIZE], y[SIZE];
    fill(x, SIZE);
    fill(w, SIZE);
    fill(b, SIZE);
    double mean = 0, squares = 0, variance = 0;
    for (int i = 0; i < SIZE; i++) {
        x[i] += 0.3f;
        mean += (double)x[i] / SIZE;
        squares += (double)x[i] * (double)x[i] / SIZE;
    }
    for (int i = 0; i < SIZE; i++)
        variance += ((double)x[i] - mean) * ((double)x[i] - mean) / SIZE;
    k.rmsnorm(y, x, w, SIZE, 1e-5f);
    for (int i = 0; i < SIZE; i++)
        near("rmsnorm", (double)y[i], (double)x[i] / sqrt(squares + 1e-5) * (double)w[i], 4e-6);
    k.layernorm(y, x, w, b, SIZE, 1e-5f);
    for (int i = 0; i < SIZE; i++)
        near("layernorm", (double)y[i],
             ((double)x[i] - mean) / sqrt(variance + 1e-5) * (double)w[i] + (double)b[i], 4e-6);
}

static void test_elementwise(void **state)
{
    (void)state;
    enum { SIZE = 77 };
    float x[SIZE], u[SIZE], y[SIZE];
    fill(x, SIZE);
    fill(u, SIZE);
    for (int i = 0; i < SIZE; i++)
        x[i] *= 3.0f;
    k.silu_mul(y, x, u, SIZE);
    for (int i = 0; i < SIZE; i++)
        near("silu", (double)y[i], (double)x[i] / (1 + exp(-(double)x[i])) * (double)u[i], 4e-6);
    k.gelu(y, x, SIZE);
    for (int i = 0; i < SIZE; i++)
        near("gelu", (double)y[i], 0.5 * (double)x[i] * (1 + erf((double)x[i] / sqrt(2.0))), 2e-6);
    memcpy(y, u, sizeof y);
    k.axpy(y, x, -1.5f, SIZE);
    for (int i = 0; i < SIZE; i++)
        near("axpy", (double)y[i], (double)u[i] - 1.5 * (double)x[i], 1e-6);
    memcpy(y, u, sizeof y);
    k.add(y, x, SIZE);
    for (int i = 0; i < SIZE; i++)
        near("add", (double)y[i], (double)u[i] + (double)x[i], 1e-6);
    /* far ends: silu and gelu of very negative numbers are (minus) nothing, of large ones the
     * number */
    const float ends[4] = { -200.0f, -3e38f, 50.0f, 3e38f };
    const float ones[4] = { 1, 1, 1, 1 };
    k.silu_mul(y, ends, ones, 4);
    assert_true(y[0] == 0.0f && y[1] == 0.0f && y[2] == 50.0f && y[3] == 3e38f);
    k.gelu(y, ends, 4);
    assert_true(y[0] == 0.0f && y[1] == 0.0f && y[2] == 50.0f && y[3] == 3e38f);
}

static void test_rope(void **state)
{
    (void)state;
    enum { HD = 6 };
    float x[HD], y[HD], cs[HD / 2], sn[HD / 2];
    fill(x, HD);
    for (int i = 0; i < HD / 2; i++) {
        cs[i] = cosf(0.7f * (float)i);
        sn[i] = sinf(0.7f * (float)i);
    }
    for (int inter = 0; inter < 2; inter++) {
        memcpy(y, x, sizeof y);
        (inter ? k.rope_inter : k.rope_half)(y, cs, sn, HD);
        for (int i = 0; i < HD / 2; i++) {
            const int a = inter ? 2 * i : i, b = inter ? 2 * i + 1 : i + HD / 2;
            near("rope", (double)y[a], (double)x[a] * (double)cs[i] - (double)x[b] * (double)sn[i], 1e-6);
            near("rope", (double)y[b], (double)x[b] * (double)cs[i] + (double)x[a] * (double)sn[i], 1e-6);
        }
    }
}

/* ---- attention: put, three chunks, merge, finish ---- */

enum { HD = 37, KEYS = 2 * PN_ATTN_CHUNK + 70, CAP = 2 * PN_ATTN_CHUNK + 128, NQ = 3 };

static double stored(const struct pn_kv_view *kv, const void *data, size_t i, float scale)
{
    switch (kv->type) {
    case PN_KV_F16:
        return (double)pn_f16_to_f32(((const uint16_t *)data)[i]);
    case PN_KV_BF16:
        return (double)pn_bf16_to_f32(((const uint16_t *)data)[i]);
    case PN_KV_Q8:
        return (double)scale * ((const int8_t *)data)[i];
    default:
        return (double)((const float *)data)[i];
    }
}

/* rounding: what storing a value of magnitude below 4 may change in it. The attention itself is
 * then compared with that of the stored values. */
static void attention_of(enum pn_kv_type type, double rounding, int with_bias)
{
    static float keys[KEYS][HD], values[KEYS][HD], bias[CAP], q[NQ][HD];
    struct pn_kv_view kv = { .type = type, .hd = HD };
    kv.k = aligned_alloc(64, pn_kv_k_bytes(type, HD, CAP));
    kv.v = aligned_alloc(64, pn_kv_v_bytes(type, HD, CAP));
    kv.ks = calloc(CAP, sizeof(float));
    kv.vs = calloc(CAP, sizeof(float));
    assert_true(kv.k != NULL && kv.v != NULL && kv.ks != NULL && kv.vs != NULL);
    memset(kv.k, 0, pn_kv_k_bytes(type, HD, CAP));
    memset(kv.v, 0, pn_kv_v_bytes(type, HD, CAP));
    fill(&q[0][0], NQ * HD);
    for (int j = 0; j < KEYS; j++) {
        fill(keys[j], HD);
        fill(values[j], HD);
        bias[j] = with_bias ? (float)(j % 3) : 0.0f;
        k.kv_put(&kv, j, keys[j], values[j]);
        for (int d = 0; d < HD; d++) {
            const double key = stored(&kv, kv.k, pn_kv_k_index(type, HD, j, d), kv.ks[j]);
            const double value = stored(&kv, kv.v, pn_kv_v_index(type, HD, j, d), kv.vs[j]);
            near("stored key", key, (double)keys[j][d], rounding);
            near("stored value", value, (double)values[j][d], rounding);
            keys[j][d] = (float)key;
            values[j][d] = (float)value;
        }
    }
    const int32_t n_keys[NQ] = { KEYS, 0, PN_ATTN_CHUNK + 33 };
    const size_t stride = pn_attn_part_floats(HD);
    float *part = malloc(NQ * stride * sizeof(float)), *acc = malloc(NQ * stride * sizeof(float));
    assert_true(part != NULL && acc != NULL);
    for (int64_t key0 = 0; key0 < KEYS; key0 += PN_ATTN_CHUNK) {
        float *target = key0 == 0 ? acc : part;
        k.attn(target, &q[0][0], HD, NQ, n_keys, &kv, key0, with_bias ? bias : NULL);
        for (int i = 0; i < NQ && key0 > 0; i++)
            k.attn_merge(acc + (size_t)i * stride, part + (size_t)i * stride, HD);
    }
    for (int i = 0; i < NQ; i++) {
        float out[HD];
        double want[HD] = { 0 }, sum = 0;
        k.attn_finish(out, acc + (size_t)i * stride, HD);
        for (int j = 0; j < n_keys[i]; j++) {
            double score = (double)bias[j];
            for (int d = 0; d < HD; d++)
                score += (double)q[i][d] * (double)keys[j][d];
            sum += exp(score);
            for (int d = 0; d < HD; d++)
                want[d] += exp(score) * (double)values[j][d];
        }
        for (int d = 0; d < HD; d++)
            near("attention", (double)out[d], n_keys[i] > 0 ? want[d] / sum : 0, 1e-5);
    }
    free(kv.k);
    free(kv.v);
    free(kv.ks);
    free(kv.vs);
    free(part);
    free(acc);
}

static void test_attention(void **state)
{
    (void)state;
    for (int with_bias = 0; with_bias < 2; with_bias++) {
        attention_of(PN_KV_F32, 0, with_bias);
        attention_of(PN_KV_F16, 0x1p-10, with_bias);
        attention_of(PN_KV_BF16, 0x1p-7, with_bias);
        attention_of(PN_KV_Q8, 2.0001 / 127, with_bias);
    }
}

/* Every element of a KV layout has a place of its own, inside the size that is reserved. */
static void test_kv_layout(void **state)
{
    (void)state;
    static const int elem_bytes[PN_KV_TYPE_COUNT] = { 4, 2, 2, 1 };
    static const int32_t hds[] = { 1, 2, 3, 5, 80, 127, 128 };
    for (int t = 0; t < PN_KV_TYPE_COUNT; t++) {
        for (size_t h = 0; h < sizeof hds / sizeof hds[0]; h++) {
            const enum pn_kv_type type = (enum pn_kv_type)t;
            const size_t k_n = pn_kv_k_bytes(type, hds[h], 128) / (size_t)elem_bytes[t];
            const size_t v_n = pn_kv_v_bytes(type, hds[h], 128) / (size_t)elem_bytes[t];
            uint8_t *k_used = calloc(k_n, 1), *v_used = calloc(v_n, 1);
            assert_true(k_used != NULL && v_used != NULL);
            for (int64_t j = 0; j < 128; j++) {
                for (int32_t d = 0; d < hds[h]; d++) {
                    const size_t ki = pn_kv_k_index(type, hds[h], j, d);
                    const size_t vi = pn_kv_v_index(type, hds[h], j, d);
                    assert_true(ki < k_n && vi < v_n);
                    assert_int_equal(k_used[ki]++, 0);
                    assert_int_equal(v_used[vi]++, 0);
                }
            }
            free(k_used);
            free(v_used);
        }
    }
    /* the drawings of kern.h, element (key 21, dimension 5) of hd 8 */
    assert_int_equal(pn_kv_k_index(PN_KV_F16, 8, 21, 5), 1 * 8 * 16 + 5 * 16 + 5);
    assert_int_equal(pn_kv_k_index(PN_KV_BF16, 8, 21, 5), 1 * 4 * 32 + 2 * 32 + 5 * 2 + 1);
    assert_int_equal(pn_kv_k_index(PN_KV_Q8, 8, 21, 5), 1 * 2 * 64 + 1 * 64 + 5 * 4 + 1);
    assert_int_equal(pn_kv_v_index(PN_KV_F32, 8, 21, 5), 21 * 8 + 5);
    assert_int_equal(pn_kv_v_index(PN_KV_BF16, 8, 21, 5), 10 * 16 + 5 * 2 + 1);
    assert_int_equal(pn_kv_v_index(PN_KV_Q8, 5, 21, 4), 21 * 8 + 4);
}

/* ---- tiers ---- */

static void test_tiers(void **state)
{
    (void)state;
    struct puna_error err = { 0 };
    struct pn_kern t;
    assert_int_equal(pn_kern_select(&t, "avx9000", &err), PUNA_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "avx9000"));
    assert_non_null(strstr(err.message, "scalar, openblas"));
    for (int i = 0; i < PN_TIER_COUNT; i++) {
        const char *name = pn_tier_name((enum pn_tier)i);
        assert_int_equal(pn_tier_by_name(name), i);
        const int able = pn_tier_built((enum pn_tier)i) && pn_tier_usable((enum pn_tier)i);
        assert_int_equal(pn_kern_select(&t, name, &err), able ? 0 : PUNA_E_UNSUPPORTED);
        if (able)
            assert_string_equal(t.tier, name);
    }
    assert_int_equal(setenv("PUNA_CPU", "openblas", 1), 0);
    assert_int_equal(pn_kern_select(&t, NULL, &err), 0);
    assert_string_equal(t.tier, "openblas");
    assert_int_equal(t.prefer_f32, 1);
    assert_int_equal(pn_kern_select(&t, "scalar", &err), 0); /* a name beats the environment */
    assert_string_equal(t.tier, "scalar");
    assert_int_equal(setenv("PUNA_CPU", "nonsense", 1), 0);
    assert_int_equal(pn_kern_select(&t, "", &err), PUNA_E_UNSUPPORTED);
    assert_int_equal(unsetenv("PUNA_CPU"), 0);
    assert_int_equal(pn_kern_select(&t, NULL, &err), 0);

    struct pn_kern_slot slot;
    int n = 0, blas = 0, scalar = 0, empty = 0, tiles = 0, packed = 0;
    for (; pn_kern_slot("openblas", n, &slot) == 0; n++) {
        blas += slot.tier != NULL && strcmp(slot.tier, "openblas") == 0;
        scalar += slot.tier != NULL && strcmp(slot.tier, "scalar") == 0;
        empty += slot.tier == NULL;
        tiles += slot.tile.m == 1 && slot.tile.n == 1;
        packed += slot.packer != NULL && strcmp(slot.packer, "quant_act") == 0;
        assert_true(slot.tile.m > 0 || slot.packer == NULL);
    }
    assert_int_equal(blas, 15); /* mm_f32 of every type */
    assert_int_equal(scalar, 44);
    assert_int_equal(empty, 7); /* mm_bf16 of three types, round_act, attn_bf16, peak_int8, peak_bf16 */
    assert_int_equal(tiles, 12); /* mm of twelve types; those of mm_f32 are the library's */
    assert_int_equal(packed, 12);
    assert_int_equal(pn_kern_slot("avx9000", 0, &slot), -1);
}

/* ---- CPU count ---- */

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    for (char *p = path + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        mkdir(path, 0700);
        *p = '/';
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static int quota(const char *dir)
{
    char file[600], mount[600];
    snprintf(file, sizeof file, "%s/cgroup", dir);
    snprintf(mount, sizeof mount, "%s/fs", dir);
    return pn_cgroup_cpus(file, mount);
}

static void test_cpu_count(void **state)
{
    (void)state;
    assert_in_range(pn_cpu_count(), 1, 1 << 20);
    assert_in_range(pn_cpu_cores(), 1, 1 << 20);
    char dir[] = "/tmp/puna-test-cpu-XXXXXX";
    assert_non_null(mkdtemp(dir));
    assert_int_equal(quota(dir), 0); /* no file */
    /* version 2: the tightest of a group and its parents; 1.5 CPUs are two */
    write_file(dir, "cgroup", "0::/a/b\n");
    assert_int_equal(quota(dir), 0);
    write_file(dir, "fs/a/b/cpu.max", "max 100000\n");
    assert_int_equal(quota(dir), 0);
    write_file(dir, "fs/a/b/cpu.max", "150000 100000\n");
    assert_int_equal(quota(dir), 2);
    write_file(dir, "fs/a/cpu.max", "100000 100000\n");
    assert_int_equal(quota(dir), 1);
    /* in a container the root has the limit and the path is not there */
    write_file(dir, "cgroup", "0::/../elsewhere\n");
    write_file(dir, "fs/cpu.max", "800000 100000\n");
    assert_int_equal(quota(dir), 8);
    /* version 1; cpuset and cpuacct are not cpu */
    write_file(dir, "cgroup", "5:cpuset:/x\n4:cpuacct,cpu:/x\n1:name=systemd:/x\n");
    write_file(dir, "fs/cpu/x/cpu.cfs_period_us", "100000\n");
    write_file(dir, "fs/cpu/x/cpu.cfs_quota_us", "-1\n");
    assert_int_equal(quota(dir), 0);
    write_file(dir, "fs/cpu/x/cpu.cfs_quota_us", "250000\n");
    assert_int_equal(quota(dir), 3);
    write_file(dir, "cgroup", "4:cpuset:/x\n");
    assert_int_equal(quota(dir), 0);
    write_file(dir, "cgroup", "nonsense\n::\n4:cpu\n");
    quota(dir); /* no limit, or the root's: but no crash */
    static const char *const made[] = { "cgroup", "fs/a/b/cpu.max", "fs/a/cpu.max", "fs/cpu.max",
                                        "fs/cpu/x/cpu.cfs_period_us", "fs/cpu/x/cpu.cfs_quota_us",
                                        "fs/a/b", "fs/a", "fs/cpu/x", "fs/cpu", "fs", "" };
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", dir, made[i]);
        assert_int_equal(remove(path), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp_erf),     cmocka_unit_test(test_products),
        cmocka_unit_test(test_act_sums),    cmocka_unit_test(test_quant_q8_0),
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_elementwise), cmocka_unit_test(test_rope),
        cmocka_unit_test(test_attention),   cmocka_unit_test(test_kv_layout),
        cmocka_unit_test(test_tiers),       cmocka_unit_test(test_cpu_count),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
