/* SPDX-License-Identifier: Apache-2.0 */
/* Searching for the scales of a block: the numbers the format will store, chosen so that the weighted squared error
 * of what it decodes to is as small as a bounded search finds. Used by quantize.c only.
 *
 * Sums run in four lanes of a fixed order, so the choice is the same on every machine. */
#ifndef PN_QUANT_FIT_H
#define PN_QUANT_FIT_H

#include <stdbool.h>
#include <stdint.h>

typedef float pn_f4 __attribute__((vector_size(16)));

/* Values and weights of a block of 32 or 256; weights are finite, not negative, and not all 0. */
struct pn_fit_block {
    pn_f4 x[64], w[64];
};

/* What a code can be: integers lo .. hi, or the code book of IQ4. */
struct pn_fit_code {
    float lo, hi;
    bool iq4;
};

/* x ~ d * q. Returns the bits of d (f16); q as numbers. */
uint16_t pn_fit_scale(const struct pn_fit_block *b, const struct pn_fit_code *code, float q[32]);
/* The same for codes -top .. top that are so fine that only the scales near the largest value are worth a look. */
uint16_t pn_fit_scale_fine(const struct pn_fit_block *b, float top, float q[32]);
/* x ~ d * q + m, codes 0 .. top. */
void pn_fit_scale_min(const struct pn_fit_block *b, float top, uint16_t *d, uint16_t *m, float q[32]);
/* x ~ d * sc * q for n_sub sub-blocks of a 256-block, sc in sc_lo .. sc_hi. Returns the bits of d. */
uint16_t pn_fit_super(const struct pn_fit_block *b, const struct pn_fit_code *code, int n_sub, int sc_lo, int sc_hi,
                      int sc[16], float q[256]);
/* x ~ d * sc * q - dmin * mn, codes 0 .. top, sc and mn in 0 .. limit. */
void pn_fit_super_min(const struct pn_fit_block *b, float top, int n_sub, int limit, uint16_t *d, uint16_t *dmin,
                      int sc[16], int mn[16], float q[256]);

#endif
