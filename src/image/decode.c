/* SPDX-License-Identifier: Apache-2.0 */
/* Tells formats apart by content, applies the limits, and turns the picture upright. */
#include "image/image.h"

#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "image/decode.h"

void pn_rgb_free(struct pn_rgb *img)
{
    if (!img)
        return;
    pn_free(img->px);
    *img = (struct pn_rgb){0};
}

static double thread_cpu_seconds(void)
{
    struct timespec ts;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts) != 0)
        return 0.0;
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

bool pn_dec_late(const struct pn_dec *d)
{
    return thread_cpu_seconds() > d->deadline;
}

int pn_dec_too_slow(const struct pn_dec *d, const char *format)
{
    return pn_fail(d->err, PUNA_E_LIMIT,
                   "%s: decoding took more than %g s of CPU time, which no ordinary picture does; "
                   "save it again with another program, or raise the limit", format,
                   d->max_seconds);
}

int pn_dec_truncated(const struct pn_dec *d, const char *format, const char *where)
{
    return pn_fail(d->err, PUNA_E_FORMAT, "%s: the file is cut short in %s (%zu bytes); copy or "
                   "download it again", format, where, d->n);
}

int pn_dec_check(const struct pn_dec *d, const char *format, int64_t w, int64_t h)
{
    if (w <= 0 || h <= 0)
        return pn_fail(d->err, PUNA_E_FORMAT, "%s: the header says %lld x %lld pixels; the file is "
                       "damaged", format, (long long)w, (long long)h);
    if (w > PN_DEC_SIDE_CAP || h > PN_DEC_SIDE_CAP)
        return pn_fail(d->err, PUNA_E_LIMIT, "%s: %lld x %lld pixels: no side may be longer than "
                       "%d", format, (long long)w, (long long)h, PN_DEC_SIDE_CAP);
    if (w * h > d->max_pixels)
        return pn_fail(d->err, PUNA_E_LIMIT, "%s: %lld x %lld pixels are more than the limit of "
                       "%lld; make the picture smaller or raise the limit", format, (long long)w,
                       (long long)h, (long long)d->max_pixels);
    return PUNA_OK;
}

int pn_dec_begin(struct pn_rgb *out, const struct pn_dec *d, const char *format, int64_t w,
                 int64_t h)
{
    const int rc = pn_dec_check(d, format, w, h);
    if (rc < 0)
        return rc;
    const size_t n = (size_t)w * (size_t)h; /* at most PN_DEC_PIXELS_CAP */
    out->px = pn_calloc_array(n, 3);
    if (!out->px)
        return pn_fail_memory(d->err, 3 * n, "a decoded picture");
    out->w = (int32_t)w;
    out->h = (int32_t)h;
    return PUNA_OK;
}

void pn_on_white(uint8_t *px, size_t n_pixels)
{
    /* Pillow scales by 2^7 before dividing by 255; over an opaque background its quotient of
     * coefficients is exactly alpha * 2^7. Writing RGB never overtakes reading RGBA. */
    for (size_t i = 0; i < n_pixels; i++) {
        const uint32_t a = px[4 * i + 3];
        for (int c = 0; c < 3; c++) {
            const uint32_t s = px[4 * i + (size_t)c];
            const uint32_t t = (s * a + 255u * (255u - a) + 128u) << 7;
            px[3 * i + (size_t)c] = (uint8_t)((((t >> 8) + t) >> 8) >> 7);
        }
    }
}

int pn_orient(struct pn_rgb *img, int orientation, struct puna_error *err)
{
    if (orientation < 2 || orientation > 8)
        return PUNA_OK;
    const ptrdiff_t w = img->w, h = img->h;
    /* Upright pixel (x, y) is stored pixel origin + x*dx + y*dy. */
    ptrdiff_t origin = 0, dx = 0, dy = 0;
    switch (orientation) {
    case 2: origin = w - 1; dx = -1; dy = w; break;
    case 3: origin = w * h - 1; dx = -1; dy = -w; break;
    case 4: origin = w * (h - 1); dx = 1; dy = -w; break;
    case 5: origin = 0; dx = w; dy = 1; break;
    case 6: origin = w * (h - 1); dx = -w; dy = 1; break;
    case 7: origin = w * h - 1; dx = -w; dy = -1; break;
    default: origin = w - 1; dx = w; dy = -1; break;
    }
    const bool swap = orientation >= 5;
    const ptrdiff_t nw = swap ? h : w, nh = swap ? w : h;
    const size_t n = (size_t)w * (size_t)h;
    uint8_t *px = pn_calloc_array(n, 3);
    if (!px)
        return pn_fail_memory(err, 3 * n, "turning a picture upright");
    /* In squares, so that neither side walks through the whole picture per pixel. */
    enum { SIDE = 64 };
    for (ptrdiff_t y0 = 0; y0 < nh; y0 += SIDE) {
        for (ptrdiff_t x0 = 0; x0 < nw; x0 += SIDE) {
            const ptrdiff_t y1 = y0 + SIDE < nh ? y0 + SIDE : nh;
            const ptrdiff_t x1 = x0 + SIDE < nw ? x0 + SIDE : nw;
            for (ptrdiff_t y = y0; y < y1; y++) {
                for (ptrdiff_t x = x0; x < x1; x++) {
                    const uint8_t *s = img->px + 3 * (origin + x * dx + y * dy);
                    uint8_t *o = px + 3 * (y * nw + x);
                    o[0] = s[0];
                    o[1] = s[1];
                    o[2] = s[2];
                }
            }
        }
    }
    pn_free(img->px);
    *img = (struct pn_rgb){.w = (int32_t)nw, .h = (int32_t)nh, .px = px};
    return PUNA_OK;
}

/* ---- telling formats apart */

struct magic {
    const char *bytes;
    uint8_t len, off;
    const char *what;
};

/* Things people hand over that are no picture for us; the sentence names them. */
static const struct magic others[] = {
    {"II*\0", 4, 0, "a TIFF picture"},
    {"MM\0*", 4, 0, "a TIFF picture"},
    {"II+\0", 4, 0, "a TIFF picture"},
    {"ftypavif", 8, 4, "an AVIF picture"},
    {"ftypavis", 8, 4, "an AVIF picture"},
    {"ftyphei", 7, 4, "a HEIC picture"},
    {"ftyphev", 7, 4, "a HEIC picture"},
    {"ftypmif1", 8, 4, "a HEIC or AVIF picture"},
    {"ftypmsf1", 8, 4, "a HEIC or AVIF picture"},
    {"ftyp", 4, 4, "a video (MP4)"},
    {"\x1a\x45\xdf\xa3", 4, 0, "a video (Matroska or WebM)"},
    {"\xff\x0a", 2, 0, "a JPEG XL picture"},
    {"\0\0\0\x0cJXL ", 8, 0, "a JPEG XL picture"},
    {"\0\0\0\x0cjP  ", 8, 0, "a JPEG 2000 picture"},
    {"\xff\x4f\xff\x51", 4, 0, "a JPEG 2000 picture"},
    {"8BPS", 4, 0, "a Photoshop file"},
    {"gimp xcf", 8, 0, "a GIMP file"},
    {"\0\0\1\0", 4, 0, "a Windows icon"},
    {"%PDF", 4, 0, "a PDF document"},
    {"%!PS", 4, 0, "a PostScript document"},
    {"PK\3\4", 4, 0, "a ZIP archive"},
    {"\x1f\x8b", 2, 0, "gzip-compressed data"},
    {"GGUF", 4, 0, "a GGUF model"},
};

static bool contains(const uint8_t *b, size_t n, const char *word)
{
    const size_t m = strlen(word);
    for (size_t i = 0; i + m <= n; i++) {
        size_t j = 0;
        while (j < m && (b[i + j] | 0x20) == (uint8_t)word[j])
            j++;
        if (j == m)
            return true;
    }
    return false;
}

static const char *text_kind(const uint8_t *b, size_t n)
{
    const size_t head = n < 1024 ? n : 1024;
    for (size_t i = 0; i < head; i++) {
        if (b[i] < 0x20 && b[i] != '\t' && b[i] != '\n' && b[i] != '\r' && b[i] != '\f')
            return NULL;
    }
    /* contains() folds letters to lower case by setting bit 5, which leaves '<' as it is */
    if (contains(b, head, "<svg"))
        return "an SVG drawing";
    if (contains(b, head, "<html") || contains(b, head, "doctype html"))
        return "an HTML page";
    if (contains(b, head, "<?xml"))
        return "an XML document";
    if (head >= 5 && memcmp(b, "data:", 5) == 0)
        return "a data: URL (its decoded bytes are wanted)";
    return "text";
}

static const char *other_kind(const uint8_t *b, size_t n)
{
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        const struct magic *m = &others[i];
        if (n >= (size_t)m->off + m->len && memcmp(b + m->off, m->bytes, m->len) == 0)
            return m->what;
    }
    const char *text = text_kind(b, n);
    return text ? text : "no file type puna knows";
}

struct format {
    const char *name;
    int (*decode)(struct pn_rgb *out, struct pn_dec *d);
};

static const struct format *find_format(const uint8_t *b, size_t n)
{
    static const struct format jpeg = {"JPEG", pn_jpeg_decode}, png = {"PNG", pn_png_decode};
    static const struct format gif = {"GIF", pn_gif_decode}, bmp = {"BMP", pn_bmp_decode};
    static const struct format webp = {"WebP", pn_webp_decode};
    if (n >= 3 && memcmp(b, "\xff\xd8\xff", 3) == 0)
        return &jpeg;
    if (n >= 8 && memcmp(b, "\x89PNG\r\n\x1a\n", 8) == 0)
        return &png;
    if (n >= 6 && (memcmp(b, "GIF87a", 6) == 0 || memcmp(b, "GIF89a", 6) == 0))
        return &gif;
    if (n >= 12 && memcmp(b, "RIFF", 4) == 0 && memcmp(b + 8, "WEBP", 4) == 0)
        return &webp;
    /* "BM" alone also starts English text: the size of the second header must be one in use. */
    if (n >= 18 && b[0] == 'B' && b[1] == 'M' && pn_le32(b + 14) >= 12 && pn_le32(b + 14) <= 124)
        return &bmp;
    return NULL;
}

int pn_image_decode(struct pn_rgb *out, const uint8_t *bytes, size_t len,
                    const struct pn_image_limits *limits, struct puna_error *err)
{
    *out = (struct pn_rgb){0};
    const struct pn_image_limits none = {0};
    const struct pn_image_limits *l = limits ? limits : &none;
    const size_t max_bytes = l->max_bytes ? l->max_bytes : (size_t)64 << 20;
    struct pn_dec d = {.b = bytes, .n = len, .orientation = 1, .err = err};
    d.max_pixels = l->max_pixels > 0 ? l->max_pixels : (int64_t)64 << 20;
    if (d.max_pixels > PN_DEC_PIXELS_CAP)
        d.max_pixels = PN_DEC_PIXELS_CAP;
    d.max_seconds = l->max_seconds > 0 ? l->max_seconds : 20.0;
    d.deadline = thread_cpu_seconds() + d.max_seconds;

    if (!bytes || len == 0)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "the picture is empty (0 bytes)");
    if (len > max_bytes)
        return pn_fail(err, PUNA_E_LIMIT, "the picture file has %zu bytes, more than the limit of "
                       "%zu; make it smaller or raise the limit", len, max_bytes);
    const struct format *const format = find_format(bytes, len);
    if (!format)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "this is %s, not a picture puna reads; give it a "
                       "JPEG, PNG, WebP, GIF or BMP file", other_kind(bytes, len));
    int rc = format->decode(out, &d);
    /* stb_image and libwebp cannot be stopped in between (the pixel limit bounds their work): the
     * limit is kept all the same, so that it means one thing for every format. */
    if (rc == PUNA_OK && pn_dec_late(&d))
        rc = pn_dec_too_slow(&d, format->name);
    if (rc == PUNA_OK && !l->keep_orientation)
        rc = pn_orient(out, d.orientation, err);
    if (rc < 0)
        pn_rgb_free(out);
    return rc;
}
