/* SPDX-License-Identifier: Apache-2.0 */
/* f32 rows to block formats, with little squared error for the format's size: scales are searched for (fit.h). */
#ifndef PN_QUANTIZE_H
#define PN_QUANTIZE_H

#include "quant/types.h"

/* n finite values, n a multiple of the block, to pn_row_bytes(type, n) bytes at dst (any alignment). importance: how
 * much the square of each value's error counts ([n], finite and not negative), or NULL: all alike. Blocks do not
 * depend on each other, nor on the machine. Magnitudes beyond what the scales of the format can carry are clamped. */
void pn_quantize_row(enum pn_type type, void *dst, const float *src, int64_t n, const float *importance);

#endif
