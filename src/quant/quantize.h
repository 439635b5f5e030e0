/* SPDX-License-Identifier: Apache-2.0 */
/* f32 rows to block formats by plain minimum and maximum: valid and of ordinary accuracy, for
 * synthetic models and tests. No search for better scales, no importance weights. */
#ifndef PN_QUANTIZE_H
#define PN_QUANTIZE_H

#include "quant/types.h"

/* n finite values, n a multiple of the block, to pn_row_bytes(type, n) bytes at dst (any
 * alignment). Magnitudes beyond what the scales of the format can carry are clamped. */
void pn_quantize_row(enum pn_type type, void *dst, const float *src, int64_t n, const float *importance);

#endif
