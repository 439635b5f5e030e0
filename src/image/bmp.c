/* SPDX-License-Identifier: Apache-2.0 */
/* BMP without compression. The headers (there are seven kinds, and offsets that may point anywhere)
 * are read here and written again in one plain form for stb_image, followed by the pixel rows. */
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "image/decode.h"

enum { FILE_HEADER = 14, RGB = 0, RLE8 = 1, RLE4 = 2, BITFIELDS = 3, ALPHABITFIELDS = 6 };

struct bmp {
    int64_t w, h;
    bool top_down;
    uint32_t bpp;
    uint32_t mask[4];    /* r g b a; 16 and 32 bits per pixel */
    uint8_t colors[256][4]; /* b g r 0 */
    size_t pixels, n_bytes; /* where the rows lie */
};

static int broken(const struct pn_dec *d, const char *what)
{
    return pn_fail(d->err, PUNA_E_FORMAT, "BMP: %s; the file is damaged", what);
}

/* A mask is one run of at most 8 bits: all that stb_image scales correctly. */
static bool mask_ok(uint32_t m)
{
    if (m == 0)
        return false;
    while ((m & 1) == 0)
        m >>= 1;
    return (m & (m + 1)) == 0 && m <= 255;
}

static int read_masks(struct bmp *p, const struct pn_dec *d, uint32_t header, uint32_t compression)
{
    if (compression == RGB) {
        static const uint32_t m16[4] = {0x7c00, 0x3e0, 0x1f, 0};
        static const uint32_t m32[4] = {0xff0000, 0xff00, 0xff, 0};
        /* The fourth byte of plain 32-bit pixels is not alpha, whatever stands there. */
        memcpy(p->mask, p->bpp == 16 ? m16 : m32, sizeof p->mask);
        return PUNA_OK;
    }
    /* In the header from version 2 on, behind it before that: the same place in the file. */
    const bool with_alpha = header >= 56 || compression == ALPHABITFIELDS;
    if (d->n < (size_t)FILE_HEADER + 40 + (with_alpha ? 16 : 12))
        return pn_dec_truncated(d, "BMP", "the header");
    for (int i = 0; i < (with_alpha ? 4 : 3); i++)
        p->mask[i] = pn_le32(d->b + FILE_HEADER + 40 + 4 * i);
    if (!mask_ok(p->mask[0]) || !mask_ok(p->mask[1]) || !mask_ok(p->mask[2]) ||
        (p->mask[3] != 0 && !mask_ok(p->mask[3])))
        return pn_fail(d->err, PUNA_E_UNSUPPORTED, "BMP: unusual colour masks; save the picture as "
                       "PNG");
    return PUNA_OK;
}

static int read_palette(struct bmp *p, const struct pn_dec *d, uint32_t header, uint32_t n_used)
{
    const size_t at = FILE_HEADER + (size_t)header, each = header == 12 ? 3 : 4;
    const uint32_t most = 1u << p->bpp;
    uint32_t n = n_used == 0 || n_used > most ? most : n_used;
    /* The pixels may start earlier than a full palette ends; then it is shorter. */
    if (p->pixels > at && (p->pixels - at) / each < n)
        n = (uint32_t)((p->pixels - at) / each);
    if (at + n * each > d->n)
        return pn_dec_truncated(d, "BMP", "the palette");
    for (uint32_t i = 0; i < n; i++)
        memcpy(p->colors[i], d->b + at + i * each, 3);
    return PUNA_OK;
}

static int read_headers(struct bmp *p, const struct pn_dec *d)
{
    const uint8_t *const b = d->b;
    const uint32_t header = pn_le32(b + FILE_HEADER);
    if (header != 12 && header != 40 && header != 52 && header != 56 && header != 64 &&
        header != 108 && header != 124)
        return pn_fail(d->err, PUNA_E_UNSUPPORTED, "BMP: a header of %u bytes is not one that is "
                       "in use; save the picture as PNG", (unsigned)header);
    if (d->n < (size_t)FILE_HEADER + header)
        return pn_dec_truncated(d, "BMP", "the header");
    uint32_t planes, compression = RGB, n_used = 0;
    if (header == 12) {
        p->w = pn_le16(b + 18);
        p->h = pn_le16(b + 20);
        planes = pn_le16(b + 22);
        p->bpp = pn_le16(b + 24);
    } else {
        p->w = (int32_t)pn_le32(b + 18);
        p->h = (int32_t)pn_le32(b + 22);
        planes = pn_le16(b + 26);
        p->bpp = pn_le16(b + 28);
        compression = pn_le32(b + 30);
        n_used = pn_le32(b + 46);
    }
    p->top_down = p->h < 0;
    if (p->top_down)
        p->h = -p->h;
    p->pixels = pn_le32(b + 10);
    if (planes != 1)
        return broken(d, "the header is wrong");
    const bool fields = compression == BITFIELDS || compression == ALPHABITFIELDS;
    if (compression != RGB && !(fields && header != 64 && (p->bpp == 16 || p->bpp == 32)))
        return pn_fail(d->err, PUNA_E_UNSUPPORTED, "BMP: compressed (%s); save the picture as PNG",
                       compression == RLE8 || compression == RLE4 ? "run lengths" : "unknown kind");
    const int rc = pn_dec_check(d, "BMP", p->w, p->h);
    if (rc < 0)
        return rc;
    switch (p->bpp) {
    case 1: case 4: case 8: return read_palette(p, d, header, n_used);
    case 16: case 32: return read_masks(p, d, header, compression);
    case 24: return PUNA_OK;
    default: return broken(d, "the header names a pixel format that does not exist");
    }
}

static void put32(uint8_t *o, uint32_t v)
{
    o[0] = (uint8_t)v;
    o[1] = (uint8_t)(v >> 8);
    o[2] = (uint8_t)(v >> 16);
    o[3] = (uint8_t)(v >> 24);
}

static uint8_t *rebuild(const struct bmp *p, const struct pn_dec *d, size_t *len)
{
    const bool masks = p->bpp == 16 || p->bpp == 32;
    const uint32_t header = masks ? 108 : 40;
    const size_t palette = p->bpp <= 8 ? (size_t)4 << p->bpp : 0;
    const size_t start = FILE_HEADER + header + palette;
    uint8_t *o = pn_calloc_array(start + p->n_bytes, 1);
    if (!o)
        return NULL;
    o[0] = 'B';
    o[1] = 'M';
    put32(o + 10, (uint32_t)start);
    put32(o + 14, header);
    put32(o + 18, (uint32_t)p->w);
    put32(o + 22, (uint32_t)(p->top_down ? -p->h : p->h));
    o[26] = 1;
    o[28] = (uint8_t)p->bpp;
    if (masks) {
        o[30] = BITFIELDS;
        for (int i = 0; i < 4; i++)
            put32(o + 54 + 4 * i, p->mask[i]);
    }
    memcpy(o + FILE_HEADER + header, p->colors, palette);
    memcpy(o + start, d->b + p->pixels, p->n_bytes);
    *len = start + p->n_bytes;
    return o;
}

int pn_bmp_decode(struct pn_rgb *out, struct pn_dec *d)
{
    struct bmp p = {0};
    const int rc = read_headers(&p, d);
    if (rc < 0)
        return rc;
    /* At most 2^28 pixels of 4 bytes, rows padded to 4 bytes. */
    p.n_bytes = ((size_t)p.w * p.bpp + 31) / 32 * 4 * (size_t)p.h;
    if (p.pixels < FILE_HEADER || p.pixels > d->n || p.n_bytes > d->n - p.pixels)
        return pn_dec_truncated(d, "BMP", "the pixels");
    size_t len;
    uint8_t *file = rebuild(&p, d, &len);
    if (!file)
        return pn_fail_memory(d->err, p.n_bytes, "decoding a BMP");
    const bool alpha = p.mask[3] != 0;
    const char *reason;
    const bool ok = pn_stb_decode(out, file, len, alpha ? 4 : 3, false, &reason);
    pn_free(file);
    if (!ok)
        return pn_fail(d->err, strcmp(reason, "outofmem") == 0 ? PUNA_E_MEMORY : PUNA_E_FORMAT,
                       "BMP: %s; the file is damaged or too large", reason);
    if (alpha)
        pn_on_white(out->px, (size_t)p.w * (size_t)p.h);
    return PUNA_OK;
}
