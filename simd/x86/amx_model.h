/* SPDX-License-Identifier: Apache-2.0 */
/* Model of the tile instructions for tests on CPUs without AMX. TDPBF16PS follows its operation section in the Intel
 * SDM (volume 2), the configuration Intel's intrinsics guide; all were compared with the Bochs emulator
 * (cpu/avx/amx.cc), which the others are known by. What raises #GP or #UD there raises SIGILL here. Tiles are per
 * thread, as registers are. */
#ifndef PN_AMX_MODEL_H
#define PN_AMX_MODEL_H

#include <math.h>
#include <signal.h>
#include <string.h>

enum { AMX_TILES = 8, AMX_ROWS = 16, AMX_ROW_BYTES = 64 }; /* palette 1 */

static _Thread_local struct {
    int configured;
    struct amx_config cfg;
    uint8_t t[AMX_TILES][AMX_ROWS][AMX_ROW_BYTES];
} amx;

static inline void amx_need(int condition)
{
    if (!condition)
        raise(SIGILL);
}

static inline void amx_release(void)
{
    memset(&amx, 0, sizeof amx);
}

static inline void amx_config(const struct amx_config *cfg)
{
    const struct amx_config c = *cfg;
    amx_release(); /* all tiles become zero */
    if (c.palette == 0)
        return;
    amx_need(c.palette == 1 && c.start_row == 0); /* nothing here restarts a load */
    for (int i = 0; i < 14; i++)
        amx_need(c.reserved[i] == 0);
    for (int i = 0; i < 16; i++) {
        amx_need((c.rows[i] == 0) == (c.colsb[i] == 0));
        amx_need(i < AMX_TILES || c.rows[i] == 0);
        amx_need(c.rows[i] <= AMX_ROWS && c.colsb[i] <= AMX_ROW_BYTES);
    }
    amx.cfg = c;
    amx.configured = 1;
}

static inline void amx_need_tile(int t)
{
    amx_need(amx.configured && t >= 0 && t < AMX_TILES && amx.cfg.rows[t] > 0);
}

static inline void amx_zero(int t)
{
    amx_need_tile(t);
    memset(amx.t[t], 0, sizeof amx.t[t]);
}

static inline void amx_load(int t, const void *p, int64_t stride)
{
    amx_need(amx.cfg.colsb[t] % 4 == 0);
    amx_zero(t); /* rows and columns past the configured ones become zero */
    for (int r = 0; r < amx.cfg.rows[t]; r++)
        memcpy(amx.t[t][r], (const uint8_t *)p + r * stride, amx.cfg.colsb[t]);
}

static inline void amx_store(int t, void *p, int64_t stride)
{
    amx_need_tile(t);
    amx_need(amx.cfg.colsb[t] % 4 == 0);
    for (int r = 0; r < amx.cfg.rows[t]; r++)
        memcpy((uint8_t *)p + r * stride, amx.t[t][r], amx.cfg.colsb[t]);
}

static inline void amx_need_product(int c, int a, int b)
{
    amx_need_tile(c);
    amx_need_tile(a);
    amx_need_tile(b);
    amx_need(c != a && c != b && a != b);
    amx_need(amx.cfg.colsb[a] % 4 == 0 && amx.cfg.colsb[b] % 4 == 0 && amx.cfg.colsb[c] % 4 == 0);
    amx_need(amx.cfg.rows[c] == amx.cfg.rows[a] && amx.cfg.colsb[c] == amx.cfg.colsb[b]);
    amx_need(amx.cfg.colsb[a] / 4 == amx.cfg.rows[b]);
}

static inline void amx_dot_bytes(int c, int a, int b, int b_unsigned)
{
    amx_need_product(c, a, b);
    for (int m = 0; m < amx.cfg.rows[c]; m++) {
        for (int k = 0; k < amx.cfg.colsb[a] / 4; k++) {
            for (int n = 0; n < amx.cfg.colsb[c] / 4; n++) {
                uint32_t sum;
                memcpy(&sum, &amx.t[c][m][4 * n], sizeof sum);
                for (int i = 0; i < 4; i++) {
                    const uint8_t y = amx.t[b][k][4 * n + i];
                    sum += (uint32_t)((int8_t)amx.t[a][m][4 * k + i] * (b_unsigned ? y : (int8_t)y));
                }
                memcpy(&amx.t[c][m][4 * n], &sum, sizeof sum);
            }
        }
    }
}

static inline void amx_dot_s8(int c, int a, int b)
{
    amx_dot_bytes(c, a, b, 0);
}

static inline void amx_dot_s8u8(int c, int a, int b)
{
    amx_dot_bytes(c, a, b, 1);
}

/* Denormals are zero, going in and coming out; MXCSR has no say, rounding is to nearest even. */
static inline float amx_flush(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

static inline float amx_bf16(const uint8_t *p)
{
    const uint8_t bytes[4] = { 0, 0, p[0], p[1] };
    float x;
    memcpy(&x, bytes, sizeof x);
    return amx_flush(x);
}

/* The order of the SDM: even and odd columns in FMA chains of their own that start at zero, then their sum,
 * then that is added to c. */
static inline void amx_dot_bf16(int c, int a, int b)
{
    amx_need_product(c, a, b);
    for (int m = 0; m < amx.cfg.rows[c]; m++) {
        for (int n = 0; n < amx.cfg.colsb[c] / 4; n++) {
            float even = 0, odd = 0, sum;
            for (int k = 0; k < amx.cfg.colsb[a] / 4; k++) {
                const uint8_t *x = &amx.t[a][m][4 * k], *y = &amx.t[b][k][4 * n];
                even = amx_flush(fmaf(amx_bf16(x), amx_bf16(y), even));
                odd = amx_flush(fmaf(amx_bf16(x + 2), amx_bf16(y + 2), odd));
            }
            memcpy(&sum, &amx.t[c][m][4 * n], sizeof sum);
            sum = amx_flush(amx_flush(sum) + amx_flush(even + odd));
            memcpy(&amx.t[c][m][4 * n], &sum, sizeof sum);
        }
    }
}

#endif
