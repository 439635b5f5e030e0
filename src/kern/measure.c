/* SPDX-License-Identifier: Apache-2.0 */
#include "kern/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/mem.h"
#include "cpu/cpu.h"

/* Pieces and distance as they were fastest on a busy host, where lines come late: 2 KiB ahead is slower there than
 * nothing. */
enum { RUNS = 9, PIECE = 4 << 20, READ_AHEAD = 8192 };

double pn_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The whole lines within n bytes at p, in sixteen independent chains and fetched well ahead, so that memory is what
 * the loop waits for; the compiler makes vectors of the words. */
static uint64_t read_lines(const uint8_t *p, size_t n)
{
    enum { WORDS = 16 };
    const size_t skip = -(uintptr_t)p & 63;
    uint64_t acc[WORDS] = { 0 }, sum = 0;
    for (size_t at = skip; at + sizeof acc <= n; at += sizeof acc) {
        const uint64_t *w = (const void *)(p + at);
        __builtin_prefetch(p + at + READ_AHEAD);
        __builtin_prefetch(p + at + READ_AHEAD + 64);
        for (int j = 0; j < WORDS; j++)
            acc[j] ^= w[j];
    }
    for (int j = 0; j < WORDS; j++)
        sum ^= acc[j];
    return sum;
}

double pn_measure_reads(const struct pn_bytes *b, size_t n, int threads)
{
    uint64_t sum = 0;
    size_t bytes = 0;
    const double start = pn_seconds();
#pragma omp parallel num_threads(threads) reduction(^ : sum) reduction(+ : bytes)
    for (size_t i = 0; i < n; i++) {
#pragma omp for schedule(dynamic) nowait
        for (size_t at = 0; at < b[i].n; at += PIECE) {
            const size_t some = b[i].n - at < PIECE ? b[i].n - at : PIECE;
            sum ^= read_lines(b[i].data + at, some);
            bytes += some;
        }
    }
    const double elapsed = pn_seconds() - start;
    volatile uint64_t sink = sum;
    (void)sink;
    return (double)bytes / elapsed * 1e-9;
}

/* Written, because untouched pages share one page of zeros; and by all threads, so that on a machine with several
 * memory nodes the pages lie on all of them. */
static void touch(uint8_t *p, size_t n, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t at = 0; at < n; at += PIECE)
        memset(p + at, (int)(at / PIECE) + 1, PIECE);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of RUNS passes over a buffer of sixteen last-level caches, 512 MiB to 1 GiB, so that hardly a line of it
 * is still cached from the pass before; smaller when memory is short. */
static double read_bandwidth(int threads)
{
    const size_t mib = (size_t)1 << 20;
    size_t bytes = 16 * (size_t)pn_cpu_last_cache() / PIECE * PIECE;
    bytes = bytes < 512 * mib ? 512 * mib : bytes > 1024 * mib ? 1024 * mib : bytes;
    for (; bytes >= 32 * mib; bytes /= 2) {
        uint8_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            continue;
        pn_huge_pages(p, bytes); /* touching small ones can take seconds */
        touch(p, bytes, threads);
        double rate[RUNS];
        for (int i = 0; i < RUNS; i++)
            rate[i] = pn_measure_reads(&(struct pn_bytes){ p, bytes }, 1, threads);
        munmap(p, bytes);
        qsort(rate, RUNS, sizeof *rate, by_value);
        return rate[RUNS / 2];
    }
    return 0;
}

/* The best of RUNS: other work on the machine only lowers it. */
static double peak(uint64_t (*loop)(uint64_t iters), int threads)
{
    if (loop == NULL)
        return 0;
    uint64_t iters = 1 << 16; /* doubled until a run is long enough for the clock */
    for (; iters < (uint64_t)1 << 40; iters *= 2) {
        const double start = pn_seconds();
        loop(iters);
        if (pn_seconds() - start > 0.005)
            break;
    }
    double best = 0;
    for (int i = 0; i < RUNS; i++) {
        uint64_t ops = 0;
        const double start = pn_seconds();
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : ops)
        for (int t = 0; t < threads; t++)
            ops += loop(iters);
        best = fmax(best, (double)ops / (pn_seconds() - start) * 1e-9);
    }
    return best;
}

void pn_measure_ceilings(const struct pn_kern *k, int threads, struct pn_ceilings *out)
{
    threads = threads < 1 ? 1 : threads;
    out->read_gbs = read_bandwidth(threads);
    out->int8_gops = peak(k->peak_int8, threads);
    out->bf16_gops = peak(k->peak_bf16, threads);
    out->f32_gops = peak(k->peak_f32, threads);
}
