/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sha256.h"

#include <nettle/sha2.h>

void pn_sha256(uint8_t out[32], const void *data, size_t len)
{
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    sha256_update(&ctx, len, data);
    sha256_digest(&ctx, SHA256_DIGEST_SIZE, out);
}

void pn_sha256_hex(char out[65], const void *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t d[SHA256_DIGEST_SIZE];
    pn_sha256(d, data, len);
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++) {
        out[2 * i] = digits[d[i] >> 4];
        out[2 * i + 1] = digits[d[i] & 15];
    }
    out[64] = 0;
}
