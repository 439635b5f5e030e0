/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a base file of puna perplexity. */
#include <puna.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/klbase.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile float sink; /* keeps the reads */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1); /* so that a read past the end is seen */
    if (exact == NULL)
        return 0;
    memcpy(exact, data, size);
    struct kl_reader *r;
    int rc = kl_open(&r, exact, size, "input", 100, NULL);
    for (size_t n; rc == 0 && (rc = kl_next_piece(r, NULL, &n, NULL)) == 0;) {
        struct kl_position p;
        while (n-- > 0 && (rc = kl_next(r, &p, NULL)) == 0)
            sink += p.logprob + p.top[p.n - 1].logprob;
    }
    kl_close(&r);
    free(exact);
    return 0;
}
