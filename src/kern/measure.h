/* SPDX-License-Identifier: Apache-2.0 */
/* Ceilings of this machine, measured in the same run as whatever is compared to them. */
#ifndef PN_MEASURE_H
#define PN_MEASURE_H

#include "kern/kern.h"

struct pn_ceilings {
    double read_gbs;                         /* sequential reads of a buffer beyond every cache, GB/s */
    double int8_gops, bf16_gops, f32_gops;   /* all threads together; 0: the tier has no such instruction */
};

/* Each figure is the median of five runs; about a second in all. read_gbs is 0 when memory is too short for
 * the buffer. */
void pn_measure_ceilings(const struct pn_kern *k, int threads, struct pn_ceilings *out);

#endif
