/* SPDX-License-Identifier: Apache-2.0 */
#include "kern/measure.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cpu/cpu.h"

#define RUNS 5

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v)
{
    qsort(v, RUNS, sizeof *v, by_value);
    return v[RUNS / 2];
}

/* Operations per second of a peak loop on all threads at once, in units of 1e9. */
static double peak(uint64_t (*loop)(uint64_t), int threads)
{
    if (!loop)
        return 0;
    uint64_t iters = 1 << 12;
    for (;;) { /* long enough for the clock: 10 ms or more */
        const double t0 = omp_get_wtime();
        loop(iters);
        if (omp_get_wtime() - t0 > 0.01 || iters >= (uint64_t)1 << 40)
            break;
        iters *= 2;
    }
    double v[RUNS];
    for (int r = 0; r < RUNS; r++) {
        double sum = 0;
#pragma omp parallel num_threads(threads) reduction(+ : sum)
        {
            const double t0 = omp_get_wtime();
            const uint64_t ops = loop(iters);
            sum += (double)ops / (omp_get_wtime() - t0) * 1e-9;
        }
        v[r] = sum;
    }
    return median(v);
}

static uint64_t read_words(const uint64_t *p, size_t n)
{
    uint64_t s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0;
    for (size_t i = 0; i + 8 <= n; i += 8) {
        s0 += p[i];
        s1 += p[i + 1];
        s2 += p[i + 2];
        s3 += p[i + 3];
        s4 += p[i + 4];
        s5 += p[i + 5];
        s6 += p[i + 6];
        s7 += p[i + 7];
    }
    return s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7;
}

static double read_bandwidth(int threads)
{
    size_t bytes = (size_t)512 << 20;
    const size_t four_caches = 4 * (size_t)pn_cpu_last_cache();
    bytes = four_caches > bytes ? four_caches : bytes;
    uint64_t *buf = pn_calloc_array(bytes, 1);
    if (!buf)
        return 0;
    double v[RUNS];
    volatile uint64_t sink = 0;
#pragma omp parallel num_threads(threads)
    { /* each thread touches what it will read: its own node's memory */
        const size_t n = bytes / 8 / (size_t)omp_get_num_threads();
        memset(buf + n * (size_t)omp_get_thread_num(), 1, n * 8);
    }
    for (int r = 0; r < RUNS; r++) {
        uint64_t sum = 0;
        const double t0 = omp_get_wtime();
#pragma omp parallel num_threads(threads) reduction(+ : sum)
        {
            const size_t n = bytes / 8 / (size_t)omp_get_num_threads();
            sum += read_words(buf + n * (size_t)omp_get_thread_num(), n);
        }
        v[r] = (double)bytes / (omp_get_wtime() - t0) * 1e-9;
        sink += sum;
    }
    pn_free(buf);
    return median(v);
}

void pn_measure_ceilings(const struct pn_kern *k, int threads, struct pn_ceilings *out)
{
    *out = (struct pn_ceilings){.read_gbs = read_bandwidth(threads),
                                .int8_gops = peak(k->peak_int8, threads),
                                .bf16_gops = peak(k->peak_bf16, threads),
                                .f32_gops = peak(k->peak_f32, threads)};
}
