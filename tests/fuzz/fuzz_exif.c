/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an EXIF block. */
#include <stdint.h>
#include <stdlib.h>

#include "image/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int o = pn_exif_orientation(data, size);
    if (o < 1 || o > 8)
        abort();
    return 0;
}
