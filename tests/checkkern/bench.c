/* SPDX-License-Identifier: Apache-2.0 */
/* Speed of each kernel on one thread, beside the ceilings of the same run: the peak loops of the
 * tier for products and attention, read bandwidth for what streams, a copy in cache for what goes over a
 * row once. Medians of five. Products and attention over what comes from memory run on as many threads as asked for. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "checkkern.h"
#include "cpu/cpu.h"
#include "kern/measure.h"
#include "model/model.h"

enum { RUNS = 5, HD = 128, KEYS = PN_ATTN_CHUNK, MAX_M = 512, ROWS = 256, COLS = CK_COLS, SUMS = 1024 };

static int n_threads = 1; /* of what streams */
static int32_t cols = COLS; /* of products; in cache there are as many weights for all of them */
static struct pn_ceilings ceilings, streamed; /* of one thread, and of n_threads */
static double copy_gbs; /* a copy within the first caches, bytes read and written: what bounds the small kernels */

/* Everything that one call needs; no slot: copy y to x. */
struct job {
    const struct pn_kern *k;
    const struct ck_slot *slot;
    int32_t m, n;
    size_t row_bytes;
    uint8_t *w;
    float *c, *x, *y, *z;
    struct pn_act act;
    struct pn_act16 act16;
    void *act_buf, *act16_buf;
    struct pn_kv_view kv;
    int32_t *taps; /* weights of eight rows; at 16: first, count, weights of a row of pixels */
    int32_t ldc;
    const struct pn_kv_view *kv_heads;
    struct pn_attn_scratch *attn; /* of each thread */
};

static void *memory(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (p == NULL) {
        fprintf(stderr, "checkkern: no memory for the bench\n");
        exit(1);
    }
    pn_huge_pages(p, bytes); /* as a model does */
    memset(p, 0, bytes);
    return p;
}

/* One KV head of a long prompt's chunk: 512 query rows (128 tokens of a group of four) over 8192 keys
 * that they all see; and a token's turn at 32768 keys of eight KV heads, which come from memory. Both in
 * chunks and blocks of rows as the model takes them (pn_attn_rows). */
enum { HEADS = 8, GROUP = 4, CHUNK_ROWS = 512, PREFILL_KEYS = 8192, DECODE_KEYS = 32768 };

static void attend(const struct job *j, const struct pn_kv_view *kv, int32_t rows, int32_t n_keys)
{
    const bool bf16 = j->slot->family == CK_ATTN_BF16;
    struct pn_attn_scratch scratch = j->attn[omp_get_thread_num()];
    for (int32_t i = 0; i < PN_ATTN_ROWS; i++)
        scratch.n_keys[i] = n_keys;
    const struct pn_keys keys = { *kv, NULL };
    for (int32_t i = 0; i < rows; i += PN_ATTN_ROWS)
        pn_attn_rows(j->k, &scratch, rows - i < PN_ATTN_ROWS ? rows - i : PN_ATTN_ROWS, &keys, true, bf16);
}

/* A token's turn: the heads shared out to n_threads. */
static void attend_all_heads(const struct job *j)
{
#pragma omp parallel for schedule(static) num_threads(n_threads)
    for (int h = 0; h < HEADS; h++)
        attend(j, &j->kv_heads[h], GROUP, DECODE_KEYS);
}

static void call(const struct job *j)
{
    const struct pn_kern *k = j->k;
    if (j->slot == NULL) {
        memcpy(j->x, j->y, COLS * sizeof(float));
        __asm__ volatile("" ::: "memory");
        return;
    }
    const enum pn_type type = j->slot->type;
    switch (j->slot->family) {
    case CK_MM:
        k->mm[type].run(j->c, (size_t)j->ldc, j->w, j->row_bytes, j->n, &j->act, 0, j->m);
        break;
    case CK_MM_F32:
        k->mm_f32[type].run(j->c, (size_t)j->ldc, j->w, j->row_bytes, j->n, cols, j->x, cols, j->m);
        break;
    case CK_MM_BF16:
        k->mm_bf16[type].run(j->c, (size_t)j->ldc, j->w, j->row_bytes, j->n, &j->act16);
        break;
    case CK_DEQUANT:
        k->dequant[type](j->y, j->w, COLS);
        break;
    case CK_QUANT_ACT:
        k->quant_act((struct pn_act *)&j->act, 0, j->x);
        break;
    case CK_QUANT_Q8_0:
        k->quant_q8_0(j->y, j->x, COLS);
        break;
    case CK_ROUND_ACT:
        k->round_act((struct pn_act16 *)&j->act16, 0, j->x);
        break;
    case CK_RMSNORM:
        k->rmsnorm(j->y, j->x, j->z, COLS, 1e-5f);
        break;
    case CK_LAYERNORM:
        k->layernorm(j->y, j->x, j->z, j->z, COLS, 1e-5f);
        break;
    case CK_ROPE:
        for (int32_t i = 0; i < COLS; i += HD) {
            if (j->slot->offset == offsetof(struct pn_kern, rope_half))
                k->rope_half(j->y + i, j->z, j->z + HD / 2, HD);
            else
                k->rope_inter(j->y + i, j->z, j->z + HD / 2, HD);
        }
        break;
    case CK_SILU_MUL:
        k->silu_mul(j->y, j->x, j->z, COLS);
        break;
    case CK_GELU:
        k->gelu(j->y, j->x, COLS);
        break;
    case CK_AXPY:
        k->axpy(j->y, j->x, 1e-9f, COLS);
        break;
    case CK_ADD:
        k->add(j->y, j->z, COLS);
        break;
    case CK_KV_PUT:
        for (int64_t pos = 0; pos < COLS / HD; pos++)
            k->kv_put(&j->kv, pos, j->x + pos * HD, j->x + pos * HD);
        break;
    case CK_RESIZE: /* a row of COLS bytes from eight, or from a row eight times as wide */
        if (j->slot->offset == offsetof(struct pn_kern, resize_down))
            k->resize_down((uint8_t *)j->y, (const uint8_t *)j->x, COLS, COLS, j->taps, 8);
        else
            k->resize_across((uint8_t *)j->y, (const uint8_t *)j->x, COLS / 3, 8 * COLS / 3, j->taps + 16,
                             j->taps + 16 + COLS, j->taps + 16 + 2 * COLS, 8);
        break;
    case CK_ATTN:
    case CK_ATTN_BF16:
        attend(j, &j->kv_heads[0], CHUNK_ROWS, PREFILL_KEYS);
        break;
    default:
        break;
    }
}

/* The rows of a product among n_threads, in stretches and slabs, as a model does it with weights of COLS rows. The sums
 * stay in cache, SUMS columns a thread; slabs divide SUMS. */
static void call_slabs(const struct job *j)
{
    const int32_t slab = pn_slab_rows(COLS, j->m, n_threads), n_slabs = (j->n + slab - 1) / slab;
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (int32_t i = 0; i < n_slabs; i++) {
        const int32_t n0 = i * slab;
        struct job part = *j;
        part.n = j->n - n0 < slab ? j->n - n0 : slab;
        part.w += (size_t)n0 * j->row_bytes;
        part.c += omp_get_thread_num() * SUMS + n0 % SUMS;
        call(&part);
    }
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double v[RUNS])
{
    qsort(v, RUNS, sizeof *v, ascending);
    return v[RUNS / 2];
}

/* Median seconds of one call. */
static double seconds(const struct job *j)
{
    int calls = 1;
    for (;; calls *= 2) { /* as many as take 3 ms; this also warms up */
        const double start = pn_seconds();
        for (int i = 0; i < calls; i++)
            call(j);
        if (pn_seconds() - start > 0.003)
            break;
    }
    double run[RUNS];
    for (int r = 0; r < RUNS; r++) {
        const double start = pn_seconds();
        for (int i = 0; i < calls; i++)
            call(j);
        run[r] = (pn_seconds() - start) / calls;
    }
    return median(run);
}

/* The same of work over bytes that come from memory, and *read: GB/s of reading them and nothing else, in turns with
 * it, since on a shared machine that changes from second to second. */
static double streamed_seconds(void (*work)(const struct job *j), const struct job *j, const void *p, size_t bytes,
                               double *read)
{
    const struct pn_bytes b = { p, bytes };
    double run[RUNS], gbs[RUNS];
    work(j);
    for (int r = 0; r < RUNS; r++) {
        gbs[r] = pn_measure_reads(&b, 1, n_threads);
        const double start = pn_seconds();
        work(j);
        run[r] = pn_seconds() - start;
    }
    *read = median(gbs);
    return median(run);
}

static void of_ceiling(double value, double ceiling, const char *name)
{
    if (ceiling > 0)
        printf(" (%.0f%% of %s)", 100 * value / ceiling, name);
}

/* m rows of activations, packed without gaps as a model does it. */
static void set_rows(struct job *j, int32_t m)
{
    j->m = m;
    pn_act_init(&j->act, j->act_buf, m, cols);
    pn_act16_init(&j->act16, j->act16_buf, m, cols);
    for (int32_t i = 0; i < m; i++) {
        j->k->quant_act(&j->act, i, j->x + (size_t)i * cols);
        if (j->k->round_act != NULL)
            j->k->round_act(&j->act16, i, j->x + (size_t)i * cols);
    }
}

static double product_peak(const struct pn_ceilings *c, enum ck_family family)
{
    return family == CK_MM ? c->int8_gops : family == CK_MM_BF16 ? c->bf16_gops : c->f32_gops;
}

/* Products: cached weights at several m; few rows against weights that come from memory, where the
 * limit is the lower of the peak and what the read bandwidth allows. */
static void bench_product(struct job *j, const char *tier)
{
    const enum pn_type type = j->slot->type;
    const enum ck_family family = j->slot->family;
    const double peak = product_peak(&ceilings, family), streamed_peak = product_peak(&streamed, family);
    const char *peak_name = family == CK_MM ? "int8" : family == CK_MM_BF16 ? "bf16" : "f32";
    static const int32_t ms[] = { 1, 2, 3, 4, 6, 8, 12, 16, MAX_M }, streamed_ms[] = { 1, 2, 3, 4, 6, 8, 12, 16 };
    struct ck random = { .rng = 1, .slot = j->slot };
    const int32_t rows = ROWS * COLS / cols / 32 * 32;
    j->row_bytes = pn_row_bytes(type, cols);
    const size_t l2_bytes = (size_t)rows * j->row_bytes;
    const size_t cache = 4 * (size_t)pn_cpu_last_cache(), least = (size_t)64 << 20, most = 4 * least;
    const size_t big_bytes = cache < least ? least : cache > most ? most : cache;
    const int32_t big_rows = (int32_t)(big_bytes / j->row_bytes);
    j->w = memory(big_bytes);
    ck_weights(&random, type, j->w, rows, cols, j->row_bytes);
    j->c = memory(((size_t)MAX_M * (size_t)rows + 16 * (size_t)n_threads * SUMS) * sizeof(float));
    j->n = j->ldc = rows;
    const struct pn_tile tile = ck_kernel(j->k, j->slot).tile;
    printf("  %-12s %-16s", tier, j->slot->name);
    if (tile.m > 0)
        printf(" tile %d x %d:", tile.m, tile.n);
    for (size_t i = 0; i < sizeof ms / sizeof ms[0]; i++) {
        set_rows(j, ms[i]);
        const double gops = 2.0 * ms[i] * rows * cols / seconds(j) * 1e-9;
        printf(" m=%d %.3g", ms[i], gops);
        of_ceiling(gops, peak, peak_name);
    }
    for (size_t at = l2_bytes; at + l2_bytes <= big_bytes; at += l2_bytes)
        memcpy(j->w + at, j->w, l2_bytes);
    j->n = big_rows;
    j->ldc = n_threads * SUMS;
    printf(" GOPS; streamed");
    for (size_t i = 0; i < sizeof streamed_ms / sizeof streamed_ms[0]; i++) {
        set_rows(j, streamed_ms[i]);
        double read;
        const double bytes = (double)j->row_bytes * big_rows, ops = 2.0 * j->m * big_rows * cols;
        const double s = streamed_seconds(call_slabs, j, j->w, (size_t)bytes, &read), by_read = read * ops / bytes;
        printf(" m=%d %.1f GB/s", j->m, bytes / s * 1e-9);
        if (streamed_peak > 0 && streamed_peak < by_read)
            of_ceiling(ops / s * 1e-9, streamed_peak, peak_name);
        else
            of_ceiling(bytes / s * 1e-9, read, "read");
    }
    printf("\n");
    free(j->w);
    free(j->c);
}

static void bench_attention(struct job *j, const char *tier)
{
    static const char *const names[] = { "f32", "f16", "bf16", "q8" };
    const bool bf16 = j->slot->family == CK_ATTN_BF16;
    float *scratch = memory((size_t)n_threads * pn_attn_scratch_floats(HD) * sizeof(float));
    j->attn = memory((size_t)n_threads * sizeof *j->attn);
    for (int i = 0; i < n_threads; i++) {
        pn_attn_scratch_init(&j->attn[i], scratch + (size_t)i * pn_attn_scratch_floats(HD), HD);
        memcpy(j->attn[i].q, j->x, (size_t)PN_ATTN_ROWS * HD * sizeof(float));
    }
    for (int t = 0; t < PN_KV_TYPE_COUNT; t++) {
        const enum pn_kv_type type = (enum pn_kv_type)t;
        if (bf16 && type == PN_KV_F32)
            continue;
        const size_t bytes = pn_kv_layout(NULL, NULL, 1, HEADS, type, HD, DECODE_KEYS), one = bytes / HEADS;
        struct pn_kv_view kv[HEADS];
        uint8_t *mem = memory(bytes);
        pn_kv_layout(kv, mem, 1, HEADS, type, HD, DECODE_KEYS);
        for (int64_t pos = 0; pos < DECODE_KEYS; pos++)
            j->k->kv_put(&kv[0], pos, j->x + pos * 7 % 300000, j->x + pos * 13 % 300000);
        for (int h = 1; h < HEADS; h++)
            memcpy(mem + (size_t)h * one, mem, one);
        j->kv_heads = kv;
        printf("  %-12s %-16s %-5s", tier, j->slot->name, names[t]);
        const double gops = 4.0 * CHUNK_ROWS * PREFILL_KEYS * HD / seconds(j) * 1e-9;
        printf(" %d rows over %d keys %.3g GOPS", CHUNK_ROWS, PREFILL_KEYS, gops);
        of_ceiling(gops, bf16 ? ceilings.bf16_gops : ceilings.f32_gops, bf16 ? "bf16" : "f32");
        double read;
        const double gbs = (double)bytes / streamed_seconds(attend_all_heads, j, mem, bytes, &read) * 1e-9;
        printf("; %d rows over %d keys of %d heads %.1f GB/s", GROUP, DECODE_KEYS, HEADS, gbs);
        of_ceiling(gbs, read, "read");
        printf("\n");
        fflush(stdout);
        free(mem);
    }
    free(j->attn);
    free(scratch);
}

/* Bytes that a call which goes over COLS values reads and writes. */
static double row_bytes_moved(const struct job *j)
{
    switch (j->slot->family) {
    case CK_DEQUANT:
        return (double)pn_row_bytes(j->slot->type, COLS) + 4.0 * COLS;
    case CK_QUANT_ACT:
        return (4.0 + 1 + 2.0 / 32 + 2.0 / 16 + 4.0 / PN_QK) * COLS;
    case CK_QUANT_Q8_0:
        return (4.0 + 34.0 / 32) * COLS;
    case CK_ROUND_ACT:
        return (4.0 + 2) * COLS;
    case CK_LAYERNORM:
        return 4.0 * 4 * COLS;
    case CK_ROPE: /* one head's angles for all */
    case CK_GELU:
        return 2.0 * 4 * COLS;
    case CK_RESIZE:
        return 9.0 * COLS;
    case CK_KV_PUT: /* to f16 */
        return 2 * (4.0 + 2) * COLS;
    default: /* two rows to one */
        return 3.0 * 4 * COLS;
    }
}

void ck_bench_begin(const struct pn_kern *k, int threads)
{
    n_threads = threads;
    struct job copy = { .x = memory(COLS * sizeof(float)), .y = memory(COLS * sizeof(float)) };
    copy_gbs = 2.0 * 4 * COLS / seconds(&copy) * 1e-9;
    free(copy.x);
    free(copy.y);
    pn_measure_ceilings(k, 1, &ceilings);
    printf("one thread: read %.1f GB/s, copy in cache %.0f GB/s; tier %s: int8 %.0f, bf16 %.0f, f32 %.0f GOPS\n",
           ceilings.read_gbs, copy_gbs, k->tier, ceilings.int8_gops, ceilings.bf16_gops, ceilings.f32_gops);
    streamed = ceilings;
    if (threads > 1) {
        pn_measure_ceilings(k, threads, &streamed);
        printf("streamed, %d threads: read %.1f GB/s; int8 %.0f, bf16 %.0f, f32 %.0f GOPS\n", threads,
               streamed.read_gbs, streamed.int8_gops, streamed.bf16_gops, streamed.f32_gops);
    }
    fflush(stdout);
}

void ck_bench(const struct pn_kern *k, const struct ck_slot *slot, int32_t product_cols)
{
    const enum ck_family family = slot->family;
    cols = family == CK_MM || family == CK_MM_F32 || family == CK_MM_BF16 ? product_cols : COLS;
    struct job j = { .k = k, .slot = slot };
    struct ck random = { .rng = 2 };
    j.x = memory((size_t)MAX_M * (size_t)cols * sizeof(float));
    j.y = memory(COLS * sizeof(float));
    j.z = memory(COLS * sizeof(float));
    for (int32_t i = 0; i < MAX_M * cols; i++)
        j.x[i] = 0.1f * ck_normal(&random);
    for (int32_t i = 0; i < COLS; i++)
        j.z[i] = ck_normal(&random);
    j.act_buf = memory(pn_act_bytes(MAX_M, cols));
    j.act16_buf = memory(pn_act16_bytes(MAX_M, cols));
    set_rows(&j, 1);
    j.kv.type = PN_KV_F16;
    j.kv.hd = HD;
    j.kv.k = memory((size_t)KEYS * HD * sizeof(float));
    j.kv.v = memory((size_t)KEYS * HD * sizeof(float));
    j.kv.ks = memory(KEYS * sizeof(float));
    j.kv.vs = memory(KEYS * sizeof(float));

    j.taps = memory((16 + 10 * COLS) * sizeof *j.taps);
    for (int32_t i = 0; i < 16 + 10 * COLS; i++)
        j.taps[i] = (1 << 22) / 8;
    for (int32_t i = 0; i < COLS / 3; i++) {
        j.taps[16 + i] = 8 * i;
        j.taps[16 + COLS + i] = 8;
    }

    switch (slot->family) {
    case CK_MM:
    case CK_MM_F32:
    case CK_MM_BF16:
        bench_product(&j, k->tier);
        break;
    case CK_ATTN:
    case CK_ATTN_BF16:
        bench_attention(&j, k->tier);
        break;
    case CK_ATTN_MERGE:
    case CK_ATTN_FINISH:
    case CK_PEAK:
        break; /* too small to matter, or the ceiling itself */
    default: {
        struct ck weights = { .rng = 3, .slot = slot };
        if (slot->family == CK_DEQUANT) {
            j.w = memory(pn_row_bytes(slot->type, COLS));
            ck_weights(&weights, slot->type, j.w, 1, COLS, pn_row_bytes(slot->type, COLS));
        }
        const double s = seconds(&j), gbs = row_bytes_moved(&j) / s * 1e-9;
        printf("  %-12s %-16s %d values: %.2f us, %.2f ns per 16, %.0f GB/s", k->tier, slot->name, COLS, s * 1e6,
               s * 1e9 * 16 / COLS, gbs);
        of_ceiling(gbs, copy_gbs, "copy");
        printf("\n");
        free(j.w);
        break;
    }
    }
    fflush(stdout);
    free(j.x);
    free(j.y);
    free(j.z);
    free(j.act_buf);
    free(j.act16_buf);
    free(j.kv.k);
    free(j.kv.v);
    free(j.kv.ks);
    free(j.kv.vs);
    free(j.taps);
}
