/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/show.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/term.h"

enum { MOST_COLUMNS = 64, MOST_LINES = 24 };

/* Undo (v / 255 - mean) / std; exact, since 8-bit values are far apart in f32. */
static uint8_t to_byte(float x, float mean, float std)
{
    const float v = nearbyintf((x * std + mean) * 255.0f);
    return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)v;
}

void tile_rgb(const struct puna_encoded *e, int32_t tile, const struct puna_model_info *info, uint8_t *rgb)
{
    const size_t plane = (size_t)e->tile * (size_t)e->tile;
    const float *src = e->pixel_values + (size_t)tile * 3 * plane;
    for (size_t i = 0; i < plane; i++)
        for (size_t c = 0; c < 3; c++)
            rgb[3 * i + c] = to_byte(src[c * plane + i], info->image_mean[c], info->image_std[c]);
}

enum colours { NONE, PALETTE, DIRECT };

static enum colours colours(void)
{
    const char *no = getenv("NO_COLOR"), *direct = getenv("COLORTERM"), *term = getenv("TERM");
    if (no && no[0])
        return NONE;
    if (direct && (strcmp(direct, "truecolor") == 0 || strcmp(direct, "24bit") == 0))
        return DIRECT;
    return term && (strstr(term, "256color") || strstr(term, "direct")) ? PALETTE : NONE;
}

/* One colour of the terminal: 38 in front, 48 behind. */
static void set_colour(int where, const uint8_t *rgb, enum colours how)
{
    if (how == DIRECT)
        fprintf(stderr, "\033[%d;2;%d;%d;%dm", where, rgb[0], rgb[1], rgb[2]);
    else /* the 6x6x6 cube of the 256 colours, levels 0, 95, 135 ... 255 */
        fprintf(stderr, "\033[%d;5;%dm", where,
                16 + 36 * ((rgb[0] < 48 ? 0 : rgb[0] < 115 ? 1 : (rgb[0] - 35) / 40)) +
                    6 * ((rgb[1] < 48 ? 0 : rgb[1] < 115 ? 1 : (rgb[1] - 35) / 40)) +
                    (rgb[2] < 48 ? 0 : rgb[2] < 115 ? 1 : (rgb[2] - 35) / 40));
}

/* Mean colour of the canvas between two fractions of the picture (w x h pixels of it are the picture). */
static void mean_colour(const uint8_t *tiles, const struct puna_encoded *e, double x0, double x1, double y0,
                        double y1, uint8_t *rgb)
{
    const int32_t side = e->tile;
    const int32_t left = (int32_t)x0, top = (int32_t)y0;
    const int32_t right = (int32_t)x1 > left ? (int32_t)x1 : left + 1;
    const int32_t bottom = (int32_t)y1 > top ? (int32_t)y1 : top + 1;
    int64_t sum[3] = {0}, n = 0;
    for (int32_t y = top; y < bottom && y < e->tiles_h * side; y++)
        for (int32_t x = left; x < right && x < e->tiles_w * side; x++, n++) {
            const size_t tile = (size_t)(y / side * e->tiles_w + x / side);
            const uint8_t *p = tiles + (tile * (size_t)side * (size_t)side +
                                        (size_t)(y % side) * (size_t)side + (size_t)(x % side)) * 3;
            for (int c = 0; c < 3; c++)
                sum[c] += p[c];
        }
    for (int c = 0; c < 3; c++)
        rgb[c] = (uint8_t)(n ? sum[c] / n : 0);
}

static double clamp(double x, double lo, double hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

/* The part of the canvas that the picture fills: as the model's resize has it, ratio kept, never below its own size
 * or a tile's. */
static void filled(const struct puna_encoded *e, double *w, double *h)
{
    const double cw = e->tiles_w * e->tile, ch = e->tiles_h * e->tile;
    const double sx = clamp(e->width, e->tile, cw) / e->width, sy = clamp(e->height, e->tile, ch) / e->height;
    const double s = sx < sy ? sx : sy;
    *w = clamp(floor(e->width * s), 1, cw);
    *h = clamp(floor(e->height * s), 1, ch);
}

static void draw(const uint8_t *tiles, const struct puna_encoded *e, enum colours how)
{
    struct winsize size = {0};
    const int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
    double w, h;
    filled(e, &w, &h);
    double cols = columns - 2 < MOST_COLUMNS ? columns - 2 : MOST_COLUMNS;
    cols = cols < w ? cols : w;
    if (cols * h / w > 2 * MOST_LINES)
        cols = 2 * MOST_LINES * w / h;
    const int nx = cols < 1 ? 1 : (int)cols, ny = (int)clamp(ceil(nx * h / w / 2), 1, MOST_LINES);
    for (int y = 0; y < ny; y++) {
        for (int x = 0; x < nx; x++) {
            uint8_t rgb[3];
            for (int half = 0; half < 2; half++) {
                mean_colour(tiles, e, x * w / nx, (x + 1) * w / nx, (2 * y + half) * h / (2 * ny),
                            (2 * y + half + 1) * h / (2 * ny), rgb);
                set_colour(half ? 48 : 38, rgb, how);
            }
            fputs("\u2580", stderr);
        }
        fputs("\033[0m\n", stderr);
    }
}

void show_picture(const puna_model *m, const struct picture *pic, const struct puna_image_params *params)
{
    const struct puna_model_info info = model_info(m);
    struct puna_encoded e = {0};
    struct puna_error err = {0};
    if (!term_is_tty(STDERR_FILENO) || !info.has_vision ||
        puna_encode_image(m, pic->bytes, pic->len, params, 0, NULL, NULL, &e, &err) != 0)
        return;
    const size_t plane = (size_t)e.tile * (size_t)e.tile;
    uint8_t *tiles = calloc((size_t)e.n_tiles * plane, 3);
    const enum colours how = colours();
    for (int32_t k = 0; tiles && k < e.n_tiles; k++)
        tile_rgb(&e, k, &info, tiles + (size_t)k * plane * 3);
    if (tiles && how != NONE)
        draw(tiles, &e, how);
    fprintf(stderr, "[%s, %dx%d]\n", pic->path, (int)e.width, (int)e.height);
    free(tiles);
    puna_encoded_free(&e);
}
