/* SPDX-License-Identifier: Apache-2.0 */
/* Picture files to the tiles the vision encoder sees; bit-equal to transformers' slow image processor
 * with Pillow (reference/llama-3.2-vision.md section 5.1). */
#ifndef PN_IMAGE_H
#define PN_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct puna_error;
struct pn_kern;

struct pn_rgb {
    int32_t w, h;
    uint8_t *px; /* [h][w][3]; free with pn_rgb_free */
};
void pn_rgb_free(struct pn_rgb *img);

struct pn_image_limits {
    int64_t max_pixels;  /* 0: default 64 Mi */
    size_t max_bytes;    /* file size; 0: default 64 MiB */
    double max_seconds;  /* CPU time of the decoder; 0: default 20 */
    bool keep_orientation; /* true: EXIF orientation is not applied */
};
/* JPEG, PNG, WebP, GIF (first frame), BMP, told apart by content. Alpha is composited on white.
 * PUNA_E_UNSUPPORTED: not a picture format we read; PUNA_E_FORMAT: broken or truncated; PUNA_E_LIMIT. */
int pn_image_decode(struct pn_rgb *out, const uint8_t *bytes, size_t len,
                    const struct pn_image_limits *limits, struct puna_error *err);

/* Pillow's 8-bit BILINEAR (antialiased triangle), bit for bit; src and out differ in memory. kern: whose
 * kernels (the bits are the same); NULL: the scalar ones. */
int pn_resize(struct pn_rgb *out, const struct pn_rgb *src, int32_t w, int32_t h,
              const struct pn_kern *kern, struct puna_error *err);

struct pn_tiling {
    int32_t tiles_h, tiles_w; /* canvas in tiles */
    int32_t ratio_id;         /* 1.. index in the ratio list + 1 */
    int32_t new_w, new_h;     /* size after resize */
};
/* n_ratio pairs (h, w) in id order, all with h*w <= max_tiles. */
void pn_tiling_plan(struct pn_tiling *t, int32_t w, int32_t h, int32_t tile,
                    const int32_t *ratio_h, const int32_t *ratio_w, int32_t n_ratio);

/* Resize, pad with black on the right and below, normalise, split:
 * out [tiles_h*tiles_w][3][tile][tile] f32 (real tiles only). */
int pn_image_tiles(float *out, const struct pn_rgb *img, const struct pn_tiling *t, int32_t tile,
                   const float mean[3], const float std[3], struct puna_error *err);

/* PNG bytes of an RGB picture into a malloc'ed buffer (zlib). */
int pn_png_encode(uint8_t **out, size_t *len, const uint8_t *px, int32_t w, int32_t h,
                  struct puna_error *err);

#endif
