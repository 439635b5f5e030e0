/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PN_BASE_SHA256_H
#define PN_BASE_SHA256_H
#include <stddef.h>
#include <stdint.h>
/* SHA-256 (FIPS 180-4) of one buffer, by nettle. */
void pn_sha256(uint8_t out[32], const void *data, size_t len);
void pn_sha256_hex(char out[65], const void *data, size_t len);
#endif
