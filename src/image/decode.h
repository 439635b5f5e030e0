/* SPDX-License-Identifier: Apache-2.0 */
/* What the decoders of the five formats share. Each gets the whole file in memory and follows one
 * order: read the size from the header, ask pn_dec_begin(), and only then decode. */
#ifndef PN_IMAGE_DECODE_H
#define PN_IMAGE_DECODE_H

#include "image/image.h"

/* No caller may raise the pixel limit above this: 4 bytes of 2^28 pixels still fit where stb_image
 * computes in int. */
#define PN_DEC_PIXELS_CAP ((int64_t)1 << 28)
/* Longest side. Larger than any camera's, and thin strips of 10 million pixels still work. */
#define PN_DEC_SIDE_CAP 10000000

struct pn_dec {
    const uint8_t *b; /* the file */
    size_t n;
    int64_t max_pixels;
    double deadline;  /* CPU seconds of this thread, absolute */
    double max_seconds;
    int orientation;  /* out: EXIF orientation 1..8 */
    struct puna_error *err;
};

/* Checks a size from a header against the limits; format names the file type in the message. */
int pn_dec_check(const struct pn_dec *d, const char *format, int64_t w, int64_t h);
/* The same, then allocates out->px (zeroed). */
int pn_dec_begin(struct pn_rgb *out, const struct pn_dec *d, const char *format, int64_t w,
                 int64_t h);
/* True when the decoder has used up its CPU time; pn_dec_too_slow is the error for that. */
bool pn_dec_late(const struct pn_dec *d);
int pn_dec_too_slow(const struct pn_dec *d, const char *format);
int pn_dec_truncated(const struct pn_dec *d, const char *format, const char *where);

int pn_jpeg_decode(struct pn_rgb *out, struct pn_dec *d);
int pn_png_decode(struct pn_rgb *out, struct pn_dec *d);
int pn_gif_decode(struct pn_rgb *out, struct pn_dec *d);
int pn_bmp_decode(struct pn_rgb *out, struct pn_dec *d);
int pn_webp_decode(struct pn_rgb *out, struct pn_dec *d);

/* stb_image on a file that png.c or bmp.c has rebuilt: n_comp (3 or 4) bytes per pixel into
 * out->px, from pn_calloc_array. deep: the file has 16-bit channels; their high bytes are taken.
 * False: failed, and reason is in its own words. */
bool pn_stb_decode(struct pn_rgb *out, const uint8_t *bytes, size_t len, int n_comp, bool deep,
                   const char **reason);

/* px: RGBA, w*h pixels, to RGB on white in place; the arithmetic of Pillow's alpha_composite. */
void pn_on_white(uint8_t *px, size_t n_pixels);

/* Orientation 1..8 from an EXIF block (TIFF structure, with or without the "Exif\0\0" in front);
 * 1 when there is none or the block is damaged. */
int pn_exif_orientation(const uint8_t *b, size_t n);
/* Turns the picture upright. */
int pn_orient(struct pn_rgb *img, int orientation, struct puna_error *err);

static inline uint32_t pn_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline uint32_t pn_le32(const uint8_t *p)
{
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}
static inline uint32_t pn_be16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}
static inline uint32_t pn_le16(const uint8_t *p)
{
    return (uint32_t)p[1] << 8 | p[0];
}

#endif
