/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an importance matrix, in either form. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/map.h"
#include "file/imatrix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char name[] = "fuzz.imatrix";
    const struct pn_map map = { .data = data, .size = size, .path = name, .slot = -1, .fd = -1 };
    struct pn_imatrix *m;
    struct puna_error err;
    if (pn_imatrix_read(&m, &map, &err) != 0)
        return 0;
    size_t sum = 0;
    if (pn_imatrix_count(m) == 0)
        abort();
    for (size_t i = 0; i < pn_imatrix_count(m); i++) {
        int64_t n;
        const float *w = pn_imatrix_find(m, pn_imatrix_name(m, i), &n);
        if (!w || n < 1)
            abort();
        for (int64_t k = 0; k < n; k++)
            if (!(w[k] >= 0) || isinf(w[k]))
                abort();
        sum += 4 * (size_t)n;
    }
    /* in a GGUF file tensors may share their bytes */
    if (memcmp(data, "GGUF", 4) != 0 && sum > size)
        abort();
    pn_imatrix_close(&m);
    return 0;
}
