/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a picture: decoded, cut into tiles, written as PNG and read back.
 * Checksums would stop every damaged PNG at the door, so two kinds of input get behind it: a PNG's
 * CRCs are put right first, and input that starts with '#' is the recipe of a PNG: sizes, format,
 * lengths of palette and transparency, then the bytes of those and of the raw rows. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <puna.h>
#include <zlib.h>

#include "base/mem.h"
#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
    if (!ok)
        abort();
}

static void tiles(const struct pn_rgb *img)
{
    static const int32_t rh[3] = {1, 1, 2}, rw[3] = {1, 2, 1};
    static const float mean[3] = {0.5f, 0.5f, 0.5f}, std[3] = {0.5f, 0.5f, 0.5f};
    enum { TILE = 28 };
    float out[2 * 3 * TILE * TILE];
    struct pn_tiling t;
    pn_tiling_plan(&t, img->w, img->h, TILE, rh, rw, 3);
    must(pn_image_tiles(out, img, &t, TILE, mean, std, NULL) == 0);
    for (int i = 0; i < t.tiles_h * t.tiles_w * 3 * TILE * TILE; i++)
        must(out[i] >= -1.0f && out[i] <= 1.0f);
}

static void one(const uint8_t *data, size_t size)
{
    const struct pn_image_limits limits = {.max_pixels = 1 << 18, .max_seconds = 2.0};
    struct puna_error err = {0};
    struct pn_rgb img, back;
    if (pn_image_decode(&img, data, size, &limits, &err) != 0) {
        must(img.px == NULL && err.code < 0 && err.message[0] != '\0');
        return;
    }
    must(img.w > 0 && img.h > 0 && (int64_t)img.w * img.h <= limits.max_pixels);
    tiles(&img);
    if ((int64_t)img.w * img.h <= 4096) {
        uint8_t *png;
        size_t len;
        must(pn_png_encode(&png, &len, img.px, img.w, img.h, &err) == 0);
        must(pn_image_decode(&back, png, len, &limits, &err) == 0);
        must(back.w == img.w && back.h == img.h);
        must(memcmp(back.px, img.px, (size_t)img.w * (size_t)img.h * 3) == 0);
        pn_rgb_free(&back);
        free(png);
    }
    pn_rgb_free(&img);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void fix_checksums(uint8_t *b, size_t n)
{
    for (size_t at = 8; n - at >= 12;) {
        const size_t len = get32(b + at);
        if (len > n - at - 12)
            return;
        put32(b + at + 8 + len, (uint32_t)crc32(0, b + at + 4, (uInt)(len + 4)));
        at += 12 + len;
    }
}

static uint8_t *add_chunk(uint8_t *o, const char *type, const uint8_t *data, size_t n)
{
    put32(o, (uint32_t)n);
    memcpy(o + 4, type, 4);
    if (n)
        memcpy(o + 8, data, n);
    put32(o + 8 + n, (uint32_t)crc32(0, o + 4, (uInt)(n + 4)));
    return o + 12 + n;
}

/* Bytes of all rows of all passes; with raw, also makes every row's first byte a filter. */
static size_t walk_rows(uint8_t *raw, uint32_t w, uint32_t h, uint32_t bits, int interlace)
{
    static const uint8_t p[8][4] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                                    {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}, {0, 0, 1, 1}};
    size_t sum = 0;
    for (int i = interlace ? 0 : 7; i < (interlace ? 7 : 8); i++) {
        const uint32_t pw = (w + p[i][2] - 1 - p[i][0]) / p[i][2];
        const uint32_t ph = (h + p[i][3] - 1 - p[i][1]) / p[i][3];
        for (uint32_t y = 0; pw > 0 && y < ph; y++) {
            if (raw)
                raw[sum] %= 5;
            sum += (pw * bits + 7) / 8 + 1;
        }
    }
    return sum;
}

static void from_recipe(const uint8_t *d, size_t n)
{
    static const uint8_t planes[8] = {1, 1, 3, 1, 2, 1, 4, 1};
    if (n < 8)
        return;
    const uint32_t w = d[1] % 80u, h = d[2] % 80u;
    const uint8_t head[13] = {0, 0, 0, (uint8_t)w, 0, 0, 0, (uint8_t)h, d[3], d[4], 0, 0, d[5] & 1};
    const uint32_t bits = (uint32_t)planes[d[4] & 7] * d[3];
    const int interlace = d[5] & 1;
    const size_t want = walk_rows(NULL, w, h, bits, interlace);
    const size_t n_plte = d[6], n_trns = d[7];
    d += 8;
    n -= 8;
    uLongf z_len = compressBound((uLong)want);
    uint8_t *raw = calloc(want + 1, 1), *z = malloc(z_len), *png = malloc(z_len + 2048);
    must(raw && z && png);
    uint8_t side[1024] = {0};
    memcpy(side, d, n < sizeof side ? n : sizeof side);
    for (size_t i = 0; n > 0 && i < want; i++)
        raw[i] = d[i % n];
    (void)walk_rows(raw, w, h, bits, interlace);
    must(compress2(z, &z_len, raw, (uLong)want, 1) == Z_OK);
    memcpy(png, "\x89PNG\r\n\x1a\n", 8);
    uint8_t *o = add_chunk(png + 8, "IHDR", head, sizeof head);
    if (n_plte)
        o = add_chunk(o, "PLTE", side, 3 * n_plte);
    if (n_trns)
        o = add_chunk(o, "tRNS", side, n_trns);
    o = add_chunk(o, "IDAT", z, z_len);
    o = add_chunk(o, "IEND", NULL, 0);
    one(png, (size_t)(o - png));
    free(png);
    free(z);
    free(raw);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 8 && memcmp(data, "\x89PNG", 4) == 0) {
        uint8_t *copy = malloc(size);
        must(copy != NULL);
        memcpy(copy, data, size);
        fix_checksums(copy, size);
        one(copy, size);
        free(copy);
    } else if (size >= 1 && data[0] == '#') {
        from_recipe(data, size);
    } else {
        one(data, size);
    }
    return 0;
}
