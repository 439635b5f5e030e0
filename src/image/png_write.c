/* SPDX-License-Identifier: Apache-2.0 */
/* PNG writer: 8-bit RGB, per row the filter with the smallest sum of absolute differences. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/err.h"
#include "image/image.h"

static int absolute(int v)
{
    return v < 0 ? -v : v;
}

/* a: left, b: above, c: above left */
static int paeth(int a, int b, int c)
{
    const int pa = absolute(b - c), pb = absolute(a - c), pc = absolute(a + b - 2 * c);
    if (pa <= pb && pa <= pc)
        return a;
    return pb <= pc ? b : c;
}

/* o: filter type and n bytes; up: the row above, or NULL. Returns the sum. */
static uint64_t filter_row(uint8_t *o, int type, const uint8_t *row, const uint8_t *up, size_t n)
{
    uint64_t sum = 0;
    o[0] = (uint8_t)type;
    for (size_t i = 0; i < n; i++) {
        const int a = i >= 3 ? row[i - 3] : 0;
        const int b = up ? up[i] : 0;
        const int c = up && i >= 3 ? up[i - 3] : 0;
        int guess = 0;
        switch (type) {
        case 1: guess = a; break;
        case 2: guess = b; break;
        case 3: guess = (a + b) >> 1; break;
        case 4: guess = paeth(a, b, c); break;
        default: break;
        }
        const uint8_t v = (uint8_t)(row[i] - guess);
        o[i + 1] = v;
        sum += v < 128 ? v : 256u - v;
    }
    return sum;
}

static void put32(uint8_t *o, uint32_t v)
{
    o[0] = (uint8_t)(v >> 24);
    o[1] = (uint8_t)(v >> 16);
    o[2] = (uint8_t)(v >> 8);
    o[3] = (uint8_t)v;
}

/* Length and CRC around data that is in place already, 8 bytes behind o. Returns the end. */
static uint8_t *close_chunk(uint8_t *o, const char *type, size_t n)
{
    put32(o, (uint32_t)n);
    memcpy(o + 4, type, 4);
    put32(o + 8 + n, (uint32_t)crc32_z(crc32(0, NULL, 0), o + 4, n + 4));
    return o + 12 + n;
}

/* All rows through z into the space it was given; false: deflate failed. */
static bool deflate_rows(z_stream *z, uint8_t *scratch, const uint8_t *px, size_t stride, int32_t h)
{
    uint8_t *best = scratch, *next = scratch + stride + 1;
    for (int32_t y = 0; y < h; y++) {
        const uint8_t *row = px + (size_t)y * stride, *up = y > 0 ? row - stride : NULL;
        uint64_t least = UINT64_MAX;
        for (int type = 0; type < 5; type++) {
            const uint64_t sum = filter_row(next, type, row, up, stride);
            if (sum < least) {
                uint8_t *swap = best;
                best = next;
                next = swap;
                least = sum;
            }
        }
        z->next_in = best;
        z->avail_in = (uInt)(stride + 1);
        const bool last = y == h - 1;
        const int rc = deflate(z, last ? Z_FINISH : Z_NO_FLUSH);
        if (rc != (last ? Z_STREAM_END : Z_OK) || z->avail_in != 0)
            return false;
    }
    return true;
}

int pn_png_encode(uint8_t **out, size_t *len, const uint8_t *px, int32_t w, int32_t h,
                  struct puna_error *err)
{
    *out = NULL;
    *len = 0;
    if (w <= 0 || h <= 0)
        return pn_fail(err, PUNA_E_ARG, "PNG: %d x %d pixels", (int)w, (int)h);
    /* One IDAT chunk and zlib's 32-bit counters hold less than 2 GiB. */
    const size_t stride = 3 * (size_t)w;
    if ((uint64_t)stride + 1 > ((uint64_t)1 << 30) / (uint64_t)h)
        return pn_fail(err, PUNA_E_LIMIT, "PNG: %d x %d pixels are more than 1 GiB; write it in "
                       "parts", (int)w, (int)h);
    z_stream z = {0};
    uint8_t *scratch = malloc(2 * (stride + 1));
    if (!scratch || deflateInit(&z, 6) != Z_OK) {
        free(scratch);
        return pn_fail_memory(err, 2 * (stride + 1), "writing a PNG");
    }
    const size_t room = deflateBound(&z, (uLong)((stride + 1) * (size_t)h));
    uint8_t *buf = malloc(8 + 25 + 12 + room + 12);
    int rc = PUNA_OK;
    if (buf) {
        memcpy(buf, "\x89PNG\r\n\x1a\n", 8);
        static const uint8_t tail[5] = {8, 2, 0, 0, 0}; /* 8 bits, RGB, not interlaced */
        put32(buf + 16, (uint32_t)w);
        put32(buf + 20, (uint32_t)h);
        memcpy(buf + 24, tail, 5);
        uint8_t *o = close_chunk(buf + 8, "IHDR", 13);
        z.next_out = o + 8;
        z.avail_out = (uInt)room;
        if (deflate_rows(&z, scratch, px, stride, h)) {
            o = close_chunk(o, "IDAT", (size_t)(z.next_out - (o + 8)));
            o = close_chunk(o, "IEND", 0);
            *len = (size_t)(o - buf);
            uint8_t *fit = realloc(buf, *len);
            *out = fit ? fit : buf;
        } else {
            free(buf);
            rc = pn_fail(err, PUNA_E_MEMORY, "PNG: zlib failed on %d x %d pixels", (int)w, (int)h);
        }
    } else {
        rc = pn_fail_memory(err, room, "writing a PNG");
    }
    (void)deflateEnd(&z);
    free(scratch);
    return rc;
}
