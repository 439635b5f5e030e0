/* SPDX-License-Identifier: Apache-2.0 */
/* What the portable tiers share: the scalar dequantisers as a table. (A tier's init receives the
 * slots, but a kernel does not; the openblas kernels dequantise panels by this table.) */
#ifndef PN_KERN_C_H
#define PN_KERN_C_H

#include "quant/types.h"

typedef void (*pn_dequant_fn)(float *dst, const void *src, int64_t n);
extern const pn_dequant_fn pn_dequant_c[PN_TYPE_COUNT];

#endif
