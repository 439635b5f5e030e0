/* SPDX-License-Identifier: Apache-2.0 */
/* PNG: the container is checked here (order, lengths, CRCs, and by zlib that the data is whole
 * and of the right size), then rebuilt from the four chunks that make the picture and given to
 * stb_image. The data is inflated twice; at some 400 MB/s that is little beside the vision
 * encoder.
 *
 * Sixteen-bit channels: the high byte. Pillow clips 16-bit grey at 255 on its way to RGB, so
 * that nearly all such pictures turn white; nobody wants that. Colours past the end of a short
 * palette are black, as in Pillow 13. All other modes are equal to Pillow's to the bit. */
#include <string.h>
#include <zlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "image/decode.h"

enum { GREY = 0, TRUECOLOR = 2, PALETTE = 3, GREY_ALPHA = 4, TRUECOLOR_ALPHA = 6 };

struct chunk {
    const uint8_t *data;
    uint32_t len;
};

struct png {
    uint32_t w, h;
    int depth, color, interlace;
    struct chunk plte, trns, exif;
    size_t idat_first, idat_end; /* file offsets of the run of IDAT chunks */
    size_t idat_bytes;
};

static int broken(const struct pn_dec *d, const char *what)
{
    return pn_fail(d->err, PUNA_E_FORMAT, "PNG: %s; the file is damaged, copy or download it again",
                   what);
}

static int channels(int color)
{
    switch (color) {
    case TRUECOLOR: return 3;
    case GREY_ALPHA: return 2;
    case TRUECOLOR_ALPHA: return 4;
    default: return 1;
    }
}

static bool depth_allowed(int color, int depth)
{
    switch (color) {
    case GREY: return depth == 1 || depth == 2 || depth == 4 || depth == 8 || depth == 16;
    case PALETTE: return depth == 1 || depth == 2 || depth == 4 || depth == 8;
    case TRUECOLOR:
    case GREY_ALPHA:
    case TRUECOLOR_ALPHA: return depth == 8 || depth == 16;
    default: return false;
    }
}

static int read_header(struct png *p, const uint8_t *h, uint32_t len, const struct pn_dec *d)
{
    if (len != 13)
        return broken(d, "the header has the wrong length");
    p->w = pn_be32(h);
    p->h = pn_be32(h + 4);
    p->depth = h[8];
    p->color = h[9];
    p->interlace = h[12];
    if (!depth_allowed(p->color, p->depth) || h[10] != 0 || h[11] != 0 || p->interlace > 1)
        return broken(d, "the header names a pixel format that does not exist");
    return pn_dec_check(d, "PNG", p->w, p->h);
}

/* Chunks that make the picture must be right in every bit; the rest is passed over. */
static int read_chunks(struct png *p, const struct pn_dec *d)
{
    const uint8_t *const b = d->b;
    size_t at = 8;
    bool first = true;
    while (d->n - at >= 12) {
        const uint32_t len = pn_be32(b + at);
        const uint8_t *type = b + at + 4, *data = b + at + 8;
        if (len > d->n - at - 12)
            return pn_dec_truncated(d, "PNG", "a chunk");
        if (first && memcmp(type, "CgBI", 4) == 0)
            return pn_fail(d->err, PUNA_E_UNSUPPORTED, "PNG: Apple's own variant from inside an "
                           "iPhone app; save it again with another program");
        if (first && memcmp(type, "IHDR", 4) != 0)
            return broken(d, "the first chunk is not the header");
        const bool is_idat = memcmp(type, "IDAT", 4) == 0;
        const bool is_trns = memcmp(type, "tRNS", 4) == 0;
        if (is_trns || (type[0] & 0x20) == 0) { /* critical chunks have a capital letter in front */
            const uLong crc = crc32_z(crc32(0, NULL, 0), type, (z_size_t)len + 4);
            if (crc != pn_be32(data + len))
                return broken(d, "a checksum is wrong");
        }
        if (first) {
            const int rc = read_header(p, data, len, d);
            if (rc < 0)
                return rc;
            first = false;
        } else if (is_idat) {
            if (p->idat_end == 0)
                p->idat_first = at;
            else if (p->idat_end != at)
                return broken(d, "the picture data is not in one piece");
            p->idat_end = at + 12 + len;
            p->idat_bytes += len;
        } else if (memcmp(type, "IEND", 4) == 0) {
            break;
        } else if (memcmp(type, "PLTE", 4) == 0) {
            if (p->plte.data || p->idat_end || len == 0 || len % 3 != 0 || len > 768)
                return broken(d, "the palette is wrong");
            p->plte = (struct chunk){data, len};
        } else if (is_trns && p->idat_end == 0) {
            p->trns = (struct chunk){data, len};
        } else if (memcmp(type, "eXIf", 4) == 0 && !p->exif.data) {
            p->exif = (struct chunk){data, len};
        } else if ((type[0] & 0x20) == 0) {
            return pn_fail(d->err, PUNA_E_UNSUPPORTED, "PNG: an extension ('%.4s') that is needed "
                           "to show the picture; save it again with another program",
                           (const char *)type);
        }
        at += 12 + (size_t)len;
    }
    if (first)
        return pn_dec_truncated(d, "PNG", "the header");
    if (p->idat_end == 0)
        return pn_dec_truncated(d, "PNG", "front of the picture data");
    if (p->color == PALETTE && !p->plte.data)
        return broken(d, "the palette is missing");
    return PUNA_OK;
}

/* tRNS is kept only where it means something: one grey sample, or up to 256 palette entries. The
 * one transparent colour of a truecolour picture is ignored as transformers ignores it: to
 * Pillow such a picture has mode RGB already, and is passed on as it is. */
static void drop_useless_trns(struct png *p)
{
    const uint32_t n = p->trns.len;
    if (!(p->color == GREY && n == 2) && !(p->color == PALETTE && n >= 1 && n <= 256))
        p->trns = (struct chunk){0};
}

/* Bytes the filtered scan lines take, all passes. At most 2^28 pixels of 8 bytes. */
static uint64_t raw_size(const struct png *p)
{
    static const struct { uint8_t x0, y0, dx, dy; } pass[7] = {
        {0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
        {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2},
    };
    const uint64_t bits = (uint64_t)(channels(p->color) * p->depth);
    if (!p->interlace)
        return (((uint64_t)p->w * bits + 7) / 8 + 1) * p->h;
    uint64_t sum = 0;
    for (int i = 0; i < 7; i++) {
        const uint64_t w = ((uint64_t)p->w + pass[i].dx - 1 - pass[i].x0) / pass[i].dx;
        const uint64_t h = ((uint64_t)p->h + pass[i].dy - 1 - pass[i].y0) / pass[i].dy;
        if (w != 0)
            sum += ((w * bits + 7) / 8 + 1) * h;
    }
    return sum;
}

/* Runs the whole stream through zlib: it must be intact and give exactly as many bytes as the
 * header promises. Nothing of the output is kept. */
static int check_data(const struct png *p, const struct pn_dec *d)
{
    const uint64_t want = raw_size(p);
    uint64_t got = 0;
    z_stream z = {0};
    if (inflateInit(&z) != Z_OK)
        return pn_fail_memory(d->err, 48 << 10, "inflating a PNG");
    uint8_t sink[1 << 15];
    int zrc = Z_OK;
    bool late = false;
    for (size_t at = p->idat_first; zrc == Z_OK && !late && at < p->idat_end;) {
        const uint32_t len = pn_be32(d->b + at);
        z.next_in = (z_const Bytef *)(d->b + at + 8);
        z.avail_in = len;
        at += 12 + (size_t)len;
        while (zrc == Z_OK && got <= want) {
            z.next_out = sink;
            z.avail_out = sizeof sink;
            zrc = inflate(&z, Z_NO_FLUSH);
            got += sizeof sink - z.avail_out;
            late = pn_dec_late(d);
            if (late || z.avail_out != 0)
                break; /* this chunk is used up */
        }
        if (zrc == Z_BUF_ERROR) /* nothing to do with an empty chunk; not an error */
            zrc = Z_OK;
    }
    (void)inflateEnd(&z);
    if (late)
        return pn_dec_too_slow(d, "PNG");
    if (zrc == Z_MEM_ERROR)
        return pn_fail_memory(d->err, 48 << 10, "inflating a PNG");
    if (got > want)
        return broken(d, "there is more data than the picture has pixels");
    if (zrc == Z_OK)
        return pn_dec_truncated(d, "PNG", "the picture data");
    if (zrc != Z_STREAM_END || got != want)
        return broken(d, "the compressed data is wrong");
    return PUNA_OK;
}

static uint8_t *put_chunk(uint8_t *o, const char *type, const uint8_t *data, size_t len)
{
    const uint32_t n = (uint32_t)len;
    const uint8_t head[4] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
    memcpy(o, head, 4);
    memcpy(o + 4, type, 4);
    if (data)
        memcpy(o + 8, data, len);
    return o + 8 + len + 4; /* the CRC stays zero: stb_image passes over it */
}

/* Header, a palette of all 256 colours, transparency, one data chunk, end. */
static uint8_t *rebuild(const struct png *p, const struct pn_dec *d, size_t *len)
{
    const size_t cap = 8 + (12 + 13) + (12 + 768) + (12 + 256) + (12 + p->idat_bytes) + 12;
    uint8_t *buf = pn_calloc_array(cap, 1);
    if (!buf)
        return NULL;
    memcpy(buf, d->b, 8);
    uint8_t *o = put_chunk(buf + 8, "IHDR", d->b + 16, 13);
    if (p->color == PALETTE) {
        uint8_t colors[768] = {0};
        memcpy(colors, p->plte.data, p->plte.len);
        o = put_chunk(o, "PLTE", colors, sizeof colors);
    }
    if (p->trns.data)
        o = put_chunk(o, "tRNS", p->trns.data, p->trns.len);
    uint8_t *idat = o + 8;
    o = put_chunk(o, "IDAT", NULL, p->idat_bytes);
    for (size_t at = p->idat_first; at < p->idat_end;) {
        const size_t n = pn_be32(d->b + at);
        memcpy(idat, d->b + at + 8, n);
        idat += n;
        at += 12 + n;
    }
    o = put_chunk(o, "IEND", NULL, 0);
    *len = (size_t)(o - buf);
    return buf;
}

int pn_png_decode(struct pn_rgb *out, struct pn_dec *d)
{
    struct png p = {0};
    int rc = read_chunks(&p, d);
    if (rc == PUNA_OK) {
        drop_useless_trns(&p);
        rc = check_data(&p, d);
    }
    if (rc < 0)
        return rc;
    size_t len;
    uint8_t *file = rebuild(&p, d, &len);
    if (!file)
        return pn_fail_memory(d->err, p.idat_bytes, "decoding a PNG");
    const bool alpha = p.trns.data || p.color == GREY_ALPHA || p.color == TRUECOLOR_ALPHA;
    const char *reason;
    const bool ok = pn_stb_decode(out, file, len, alpha ? 4 : 3, p.depth == 16, &reason);
    pn_free(file);
    if (!ok)
        return pn_fail(d->err, strcmp(reason, "outofmem") == 0 ? PUNA_E_MEMORY : PUNA_E_FORMAT,
                       "PNG: %s; the file is damaged or too large", reason);
    if (alpha)
        pn_on_white(out->px, (size_t)p.w * p.h);
    if (p.exif.data)
        d->orientation = pn_exif_orientation(p.exif.data, p.exif.len);
    return PUNA_OK;
}
