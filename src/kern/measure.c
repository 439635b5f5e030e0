/* SPDX-License-Identifier: Apache-2.0 */
#include "kern/measure.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "cpu/cpu.h"

/* A ceiling is the best of these: other work on the machine only lowers a rate. */
enum { RUNS = 9 };

double pn_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* All n words (a multiple of 16) in 16 independent chains, so that loads are what the loop waits
 * for; the compiler makes vectors of them. */
static uint64_t read_words(const uint64_t *p, size_t n)
{
    uint64_t acc[16] = { 0 };
    for (size_t i = 0; i < n; i += 16) {
        for (int j = 0; j < 16; j++)
            acc[j] ^= p[i + (size_t)j];
    }
    uint64_t sum = 0;
    for (int j = 0; j < 16; j++)
        sum ^= acc[j];
    return sum;
}

/* Words of one thread's part: whole pages. */
static size_t part_words(size_t n_words, int threads)
{
    return n_words / (size_t)threads / 512 * 512;
}

static double read_pass(const uint64_t *words, size_t n_words, int threads)
{
    const size_t part = part_words(n_words, threads);
    uint64_t sum = 0;
    const double start = pn_seconds();
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(^ : sum)
    for (int t = 0; t < threads; t++)
        sum ^= read_words(words + (size_t)t * part, part);
    const double elapsed = pn_seconds() - start;
    volatile uint64_t sink = sum;
    (void)sink;
    return (double)(part * (size_t)threads * sizeof(uint64_t)) / elapsed * 1e-9;
}

/* Pages are written by the thread that will read them, so that on a machine with several memory
 * nodes they lie near it; and written at all, because untouched pages share one page of zeros. */
static void touch(uint64_t *words, size_t n_words, int threads)
{
    const size_t part = part_words(n_words, threads);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int t = 0; t < threads; t++)
        memset(words + (size_t)t * part, t + 1, part * sizeof(uint64_t));
}

/* A buffer of four last-level caches, 256 MiB to 1 GiB; smaller when memory is short. */
static double read_bandwidth(int threads)
{
    const size_t mib = (size_t)1 << 20;
    size_t bytes = 4 * (size_t)pn_cpu_last_cache();
    bytes = bytes < 256 * mib ? 256 * mib : bytes > 1024 * mib ? 1024 * mib : bytes;
    for (; bytes >= 32 * mib; bytes /= 2) {
        uint64_t *words =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (words == MAP_FAILED)
            continue;
        madvise(words, bytes, MADV_HUGEPAGE); /* a wish: touching small pages can take seconds */
        const size_t n_words = bytes / sizeof *words;
        double best = 0;
        touch(words, n_words, threads);
        for (int i = 0; i < RUNS; i++)
            best = fmax(best, read_pass(words, n_words, threads));
        munmap(words, bytes);
        return best;
    }
    return 0;
}

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
