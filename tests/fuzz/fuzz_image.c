/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a picture: decoded, cut into tiles, written as PNG and read back. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <puna.h>

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct pn_image_limits limits = {.max_pixels = 1 << 18, .max_seconds = 2.0};
    struct puna_error err = {0};
    struct pn_rgb img, back;
    if (pn_image_decode(&img, data, size, &limits, &err) != 0) {
        must(img.px == NULL && err.code < 0 && err.message[0] != '\0');
        return 0;
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
    return 0;
}
