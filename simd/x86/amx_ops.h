/* SPDX-License-Identifier: Apache-2.0 */
/* The eight tile instructions that kern_amx.c uses, on tiles of one palette: tmm0 .. tmm7, at most
 * sixteen rows of 64 bytes. With AMX_MODEL they run in C instead (amx_model.h), which a test can do on
 * any CPU. Tile numbers are constants. */
#ifndef PN_AMX_OPS_H
#define PN_AMX_OPS_H

#include <stdint.h>

/* Memory operand of LDTILECFG. */
struct amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t colsb[16]; /* bytes of a row of each tile */
    uint8_t rows[16];
};
_Static_assert(sizeof(struct amx_config) == 64, "the instruction reads 64 bytes");

#ifdef AMX_MODEL

#include "amx_model.h"

#else

#include <immintrin.h>

/* gcc 12 does not tell the compiler that LDTILECFG and TILELOADD read memory: what is stored before
 * must be there, and may not move past. */
#define AMX_BARRIER() __asm__ volatile("" ::: "memory")

#define amx_config(cfg)                                                                            \
    do {                                                                                           \
        AMX_BARRIER();                                                                             \
        _tile_loadconfig(cfg);                                                                     \
    } while (0)
#define amx_release() _tile_release()
#define amx_zero(t) _tile_zero(t)
#define amx_load(t, p, stride)                                                                     \
    do {                                                                                           \
        AMX_BARRIER();                                                                             \
        _tile_loadd(t, p, stride);                                                                 \
    } while (0)
#define amx_store(t, p, stride)                                                                    \
    do {                                                                                           \
        _tile_stored(t, p, stride);                                                                \
        AMX_BARRIER();                                                                             \
    } while (0)
/* c[row][col] += sum over k of a[row][k] * b[k / 4][col][k % 4], signed bytes, wrapping int32 */
#define amx_dot_s8(c, a, b) _tile_dpbssd(c, a, b)
/* the same with unsigned bytes in b */
#define amx_dot_s8u8(c, a, b) _tile_dpbsud(c, a, b)
/* the same with pairs of bf16, f32 sums */
#define amx_dot_bf16(c, a, b) _tile_dpbf16ps(c, a, b)

#endif
#endif
