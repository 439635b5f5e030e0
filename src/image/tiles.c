/* SPDX-License-Identifier: Apache-2.0 */
/* Which canvas of tiles a picture gets, and the tiles themselves as the vision encoder reads
 * them. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "image/image.h"

/* Smallest canvas that does not shrink the picture, else the one that shrinks it least; among
 * equals the smallest area, then the first. All scales are double: ties depend on it. */
static int32_t choose_canvas(int32_t w, int32_t h, int32_t tile, const int32_t *ratio_h,
                             const int32_t *ratio_w, int32_t n_ratio)
{
    int32_t best = 0;
    double best_scale = 0.0;
    int64_t best_area = 0;
    for (int32_t i = 0; i < n_ratio; i++) {
        const double sh = (double)((int64_t)ratio_h[i] * tile) / h;
        const double sw = (double)((int64_t)ratio_w[i] * tile) / w;
        const double scale = sw > sh ? sh : sw;
        const int64_t area = (int64_t)ratio_h[i] * ratio_w[i];
        const bool up = scale >= 1.0, best_up = best_scale >= 1.0;
        const bool better = i == 0 || (up && !best_up) ||
                            (up == best_up && (up ? scale < best_scale : scale > best_scale)) ||
                            (scale == best_scale && area < best_area);
        if (better) {
            best = i;
            best_scale = scale;
            best_area = area;
        }
    }
    return best;
}

static int32_t clamp(int64_t v, int64_t lo, int64_t hi)
{
    return (int32_t)(v < lo ? lo : v > hi ? hi : v);
}

/* floor(v), but at least 1: a very thin picture keeps one row. Never above the canvas. */
static int32_t scaled(int32_t side, double scale, int32_t most)
{
    const double v = floor(side * scale);
    return v < 1.0 ? 1 : v > most ? most : (int32_t)v;
}

void pn_tiling_plan(struct pn_tiling *t, int32_t w, int32_t h, int32_t tile,
                    const int32_t *ratio_h, const int32_t *ratio_w, int32_t n_ratio)
{
    const int32_t i = choose_canvas(w, h, tile, ratio_h, ratio_w, n_ratio);
    t->tiles_h = ratio_h[i];
    t->tiles_w = ratio_w[i];
    t->ratio_id = i + 1;
    /* A picture smaller than a tile grows to touch it; a larger one never grows. */
    const int32_t tw = clamp(w, tile, (int64_t)t->tiles_w * tile);
    const int32_t th = clamp(h, tile, (int64_t)t->tiles_h * tile);
    const double sw = (double)tw / w, sh = (double)th / h;
    if (sw < sh) {
        t->new_w = tw;
        t->new_h = scaled(h, sw, th);
    } else {
        t->new_h = th;
        t->new_w = scaled(w, sh, tw);
    }
}

/* v/255 in double, rounded to float, then mean and std in float: transformers' order. */
static void make_table(float table[3][256], const float mean[3], const float std[3])
{
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < 256; v++) {
            const float unit = (float)(v * (1.0 / 255.0));
            const float centered = unit - mean[c];
            table[c][v] = centered / std[c];
        }
    }
}

/* One row of one channel of a tile: n pixels of the picture, then black. */
static void fill_row(float *row, const float *value, const uint8_t *px, int32_t n, int32_t tile)
{
    for (int32_t x = 0; x < n; x++)
        row[x] = value[px[3 * x]];
    for (int32_t x = n; x < tile; x++)
        row[x] = value[0];
}

int pn_image_tiles(float *out, const struct pn_rgb *img, const struct pn_tiling *t, int32_t tile,
                   const float mean[3], const float std[3], struct puna_error *err)
{
    if (t->new_w > (int64_t)t->tiles_w * tile || t->new_h > (int64_t)t->tiles_h * tile)
        return pn_fail(err, PUNA_E_ARG, "tiles: %d x %d does not fit %d x %d tiles of %d",
                       (int)t->new_w, (int)t->new_h, (int)t->tiles_w, (int)t->tiles_h, (int)tile);
    struct pn_rgb pic;
    const int rc = pn_resize(&pic, img, t->new_w, t->new_h, NULL, err);
    if (rc < 0)
        return rc;
    float table[3][256];
    make_table(table, mean, std);
    for (int32_t ty = 0; ty < t->tiles_h; ty++) {
        for (int32_t tx = 0; tx < t->tiles_w; tx++) {
            const int64_t x0 = (int64_t)tx * tile, y0 = (int64_t)ty * tile;
            const int32_t n = clamp(pic.w - x0, 0, tile);
            for (int c = 0; c < 3; c++) {
                for (int32_t y = 0; y < tile; y++, out += tile) {
                    const bool inside = n > 0 && y0 + y < pic.h;
                    const uint8_t *px = inside ? pic.px + 3 * ((y0 + y) * pic.w + x0) + c : NULL;
                    fill_row(out, table[c], px, inside ? n : 0, tile);
                }
            }
        }
    }
    pn_rgb_free(&pic);
    return PUNA_OK;
}
