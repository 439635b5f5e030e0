/* SPDX-License-Identifier: Apache-2.0 */
/* Ceilings of this machine, measured in the same run as whatever is compared to them. */
#ifndef PN_MEASURE_H
#define PN_MEASURE_H

#include "kern/kern.h"

struct pn_ceilings {
    double read_gbs; /* sequential reads of memory, GB/s (1e9); 0: no memory for the buffer */
    /* 1e9 operations per second, two per multiply-add, of k's peak loops; 0: the tier has no such
     * instruction */
    double int8_gops, bf16_gops, f32_gops;
};

/* All figures are of `threads` threads together: reads the median of nine passes, since how much the memory gives
 * changes with what its other users do; peaks the best of nine. About a second in all. */
void pn_measure_ceilings(const struct pn_kern *k, int threads, struct pn_ceilings *out);

/* One pass of sequential reads over the pieces of memory, in GB/s. */
struct pn_bytes {
    const uint8_t *data;
    size_t n;
};
double pn_measure_reads(const struct pn_bytes *b, size_t n, int threads);

/* Monotonic clock, seconds. */
double pn_seconds(void);

#endif
