/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are cut, damaged, too large, bombs, or no pictures: a clear error, never another
 * picture. */
#include <zlib.h>

#include "image_util.h"

static int decode(struct pn_rgb *img, const uint8_t *b, size_t n, const struct pn_image_limits *l,
                  struct puna_error *err)
{
    *err = (struct puna_error){0};
    const int rc = pn_image_decode(img, b, n, l, err);
    if (rc < 0) {
        assert_null(img->px);
        assert_int_equal(err->code, rc);
        assert_true(strlen(err->message) > 10);
    }
    return rc;
}

static int decode_code(const uint8_t *b, size_t n, const struct pn_image_limits *l)
{
    struct pn_rgb img;
    struct puna_error err;
    const int rc = decode(&img, b, n, l, &err);
    pn_rgb_free(&img);
    return rc;
}

/* Every prefix of every test picture: an error, or (data complete, only an end marker missing)
 * exactly the whole picture. The buffer is as long as the prefix, so that sanitizers see a read
 * past it. */
static void cut_everywhere(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "images/%s", name);
    size_t len;
    uint8_t *b = read_data(path, &len);
    struct puna_error err;
    struct pn_rgb whole, img;
    assert_int_equal(decode(&whole, b, len, NULL, &err), 0);
    const size_t step = len > 1500 ? 7 : 1;
    const bool is_jpeg = strstr(name, ".jpg") != NULL, is_webp = strstr(name, ".webp") != NULL;
    for (size_t n = 0; n < len; n += step) {
        uint8_t *part = malloc(n ? n : 1);
        assert_non_null(part);
        memcpy(part, b, n);
        const int rc = decode(&img, part, n, NULL, &err);
        if (rc == 0) {
            if (is_jpeg || is_webp || img.w != whole.w || img.h != whole.h ||
                memcmp(img.px, whole.px, (size_t)img.w * (size_t)img.h * 3) != 0)
                fail_msg("%s cut to %zu of %zu bytes is accepted", name, n, len);
        } else if (rc != PUNA_E_FORMAT && rc != PUNA_E_UNSUPPORTED) {
            fail_msg("%s cut to %zu bytes: %d %s", name, n, rc, err.message);
        } else if (n >= 64 && rc != PUNA_E_FORMAT) {
            fail_msg("%s cut to %zu bytes: not a format error: %s", name, n, err.message);
        }
        pn_rgb_free(&img);
        free(part);
    }
    pn_rgb_free(&whole);
    free(b);
}

static void test_cut(void **state)
{
    (void)state;
    json_t *j = read_json("images/expected.json");
    const char *name;
    json_t *unused;
    json_object_foreach(json_object_get(j, "files"), name, unused)
        cut_everywhere(name);
    json_decref(j);
}

/* One byte changed at every place: any answer is allowed, but within the limits. (What this is
 * for is running under sanitizers; here it still finds crashes and endless loops.) */
static void test_damaged(void **state)
{
    (void)state;
    static const char *const names[] = {
        "progressive.jpg", "cmyk.jpg", "exif6.jpg", "exif6.png", "pal4t.png", "la8.png",
        "rgba16.png", "lace.gif", "os2.bmp", "rgb565.bmp", "lossyalpha.webp", "animpart.webp",
    };
    const struct pn_image_limits small = {.max_pixels = 1 << 16};
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        char path[256];
        snprintf(path, sizeof path, "images/%s", names[k]);
        size_t len;
        uint8_t *b = read_data(path, &len);
        for (size_t i = 0; i < len; i += len > 600 ? 3 : 1) {
            const uint8_t was = b[i];
            b[i] = (uint8_t)(i & 1 ? 0xff : was ^ 0x15);
            struct pn_rgb img;
            struct puna_error err;
            if (decode(&img, b, len, &small, &err) == 0)
                assert_true((int64_t)img.w * img.h <= small.max_pixels);
            pn_rgb_free(&img);
            b[i] = was;
        }
        free(b);
    }
}

/* ---- PNG made here */

static uint8_t *put32(uint8_t *o, uint32_t v)
{
    *o++ = (uint8_t)(v >> 24);
    *o++ = (uint8_t)(v >> 16);
    *o++ = (uint8_t)(v >> 8);
    *o++ = (uint8_t)v;
    return o;
}

static uint8_t *put_chunk(uint8_t *o, const char *type, const void *data, size_t n)
{
    o = put32(o, (uint32_t)n);
    memcpy(o, type, 4);
    if (n)
        memcpy(o + 4, data, n);
    return put32(o + 4 + n, (uint32_t)crc32(0, o, (uInt)(n + 4)));
}

/* A PNG of w x h with n_zero zero bytes as its (deflated) data. middle: chunks in front of the
 * data. */
static uint8_t *make_png(size_t *len, uint32_t w, uint32_t h, int depth, int color, size_t n_zero,
                         const uint8_t *middle, size_t n_middle)
{
    const uLong room = compressBound((uLong)n_zero);
    uint8_t *z = malloc(room), *zeros = calloc(n_zero ? n_zero : 1, 1);
    uint8_t *png = malloc(room + n_middle + 100);
    assert_true(z && zeros && png);
    uLongf n = room;
    assert_int_equal(compress2(z, &n, zeros, (uLong)n_zero, 9), Z_OK);
    memcpy(png, "\x89PNG\r\n\x1a\n", 8);
    uint8_t head[13] = {0};
    put32(put32(head, w), h);
    head[8] = (uint8_t)depth;
    head[9] = (uint8_t)color;
    uint8_t *o = put_chunk(png + 8, "IHDR", head, 13);
    if (n_middle)
        memcpy(o, middle, n_middle);
    o = put_chunk(o + n_middle, "IDAT", z, n);
    o = put_chunk(o, "IEND", NULL, 0);
    *len = (size_t)(o - png);
    free(zeros);
    free(z);
    return png;
}

static int png_code(uint32_t w, uint32_t h, int depth, int color, size_t n_zero)
{
    size_t len;
    uint8_t *png = make_png(&len, w, h, depth, color, n_zero, NULL, 0);
    const int rc = decode_code(png, len, NULL);
    free(png);
    return rc;
}

static void test_png_sizes(void **state)
{
    (void)state;
    assert_int_equal(png_code(10, 10, 8, 2, 310), 0);
    assert_int_equal(png_code(10, 10, 8, 2, 309), PUNA_E_FORMAT);
    assert_int_equal(png_code(10, 10, 8, 2, 311), PUNA_E_FORMAT);
    assert_int_equal(png_code(10, 10, 8, 2, 64 << 20), PUNA_E_FORMAT); /* 64 MiB in 64 KiB */
    assert_int_equal(png_code(0, 10, 8, 2, 310), PUNA_E_FORMAT);
    assert_int_equal(png_code(10, 0, 8, 2, 310), PUNA_E_FORMAT);
    assert_int_equal(png_code(65535, 65535, 1, 0, 100), PUNA_E_LIMIT);
    assert_int_equal(png_code(0x7fffffff, 0x7fffffff, 16, 6, 100), PUNA_E_LIMIT);
    assert_int_equal(png_code(0xffffffff, 1, 8, 2, 100), PUNA_E_LIMIT);
    assert_int_equal(png_code(10000001, 1, 1, 0, 1250002), PUNA_E_LIMIT);
    assert_int_equal(png_code(8192, 8192, 8, 2, 100), PUNA_E_FORMAT); /* 64 Mi: but short data */
    assert_int_equal(png_code(8193, 8192, 8, 2, 100), PUNA_E_LIMIT);
    for (int color = 0; color < 8; color++) { /* formats that do not exist */
        assert_int_equal(png_code(10, 10, 3, color, 310), PUNA_E_FORMAT);
        assert_int_equal(png_code(10, 10, 32, color, 310), PUNA_E_FORMAT);
    }
    assert_int_equal(png_code(10, 10, 4, 2, 310), PUNA_E_FORMAT);
    assert_int_equal(png_code(10, 10, 16, 3, 310), PUNA_E_FORMAT);
}

/* A strip ten million pixels long goes all the way to tiles. */
static void test_long_strip(void **state)
{
    (void)state;
    static const int32_t rh[8] = {1, 1, 1, 1, 2, 2, 3, 4}, rw[8] = {1, 2, 3, 4, 1, 2, 1, 1};
    static const float mean[3] = {0}, std[3] = {1, 1, 1};
    size_t len;
    uint8_t *png = make_png(&len, 9999999, 1, 1, 0, 1 + 1250000, NULL, 0);
    struct pn_rgb img;
    struct puna_error err;
    assert_int_equal(decode(&img, png, len, NULL, &err), 0);
    free(png);
    struct pn_tiling t;
    pn_tiling_plan(&t, img.w, img.h, 56, rh, rw, 8);
    assert_int_equal(t.new_w, 224);
    assert_int_equal(t.new_h, 1);
    float *tiles = malloc(4 * 3 * 56 * 56 * sizeof *tiles);
    assert_non_null(tiles);
    assert_int_equal(pn_image_tiles(tiles, &img, &t, 56, mean, std, &err), 0);
    for (int i = 0; i < 4 * 3 * 56 * 56; i++)
        assert_true(tiles[i] == 0.0f);
    free(tiles);
    pn_rgb_free(&img);
}

/* Compressed side chunks are never inflated; a wrong CRC counts where it matters. */
static void test_png_chunks(void **state)
{
    (void)state;
    const size_t n_bomb = 32 << 20;
    uLongf n = compressBound((uLong)n_bomb);
    uint8_t *z = malloc(n + 8), *zeros = calloc(n_bomb, 1);
    assert_true(z && zeros);
    memcpy(z, "icc\0\0", 5);
    assert_int_equal(compress2(z + 5, &n, zeros, (uLong)n_bomb, 9), Z_OK);
    free(zeros);
    uint8_t *middle = malloc(2 * (n + 5 + 12));
    assert_non_null(middle);
    uint8_t *end = put_chunk(put_chunk(middle, "iCCP", z, n + 5), "zTXt", z, n + 5);
    size_t len;
    uint8_t *png = make_png(&len, 10, 10, 8, 2, 310, middle, (size_t)(end - middle));
    assert_int_equal(decode_code(png, len, NULL), 0);
    png[8 + 25 + 20] ^= 1; /* inside iCCP: nobody looks */
    assert_int_equal(decode_code(png, len, NULL), 0);
    png[len - 12 - 1] ^= 1; /* IDAT's CRC */
    assert_int_equal(decode_code(png, len, NULL), PUNA_E_FORMAT);
    free(png);
    end = put_chunk(middle, "ABCD", z, 4); /* critical and unknown */
    png = make_png(&len, 10, 10, 8, 2, 310, middle, (size_t)(end - middle));
    assert_int_equal(decode_code(png, len, NULL), PUNA_E_UNSUPPORTED);
    free(png);
    static const uint8_t apple[] = "\x89PNG\r\n\x1a\n\0\0\0\4CgBI\x50\0\x20\2\0\0\0";
    assert_int_equal(decode_code(apple, sizeof apple, NULL), PUNA_E_UNSUPPORTED);
    end = put_chunk(middle, "PLTE", z, 4); /* not a multiple of 3 */
    png = make_png(&len, 10, 10, 8, 3, 110, middle, (size_t)(end - middle));
    assert_int_equal(decode_code(png, len, NULL), PUNA_E_FORMAT);
    free(png);
    assert_int_equal(png_code(10, 10, 8, 3, 110), PUNA_E_FORMAT); /* no palette at all */
    free(middle);
    free(z);
}

/* ---- limits */

static void test_limits(void **state)
{
    (void)state;
    static const char *const names[] = {"rgb8.png", "progressive.jpg", "plain4.gif", "rgb.bmp",
                                        "lossy.webp"};
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        char path[256];
        snprintf(path, sizeof path, "images/%s", names[k]);
        size_t len;
        uint8_t *b = read_data(path, &len);
        struct pn_rgb img;
        struct puna_error err;
        assert_int_equal(decode(&img, b, len, NULL, &err), 0);
        const int64_t n = (int64_t)img.w * img.h;
        pn_rgb_free(&img);
        const struct pn_image_limits exact = {.max_pixels = n, .max_bytes = len};
        const struct pn_image_limits pixels = {.max_pixels = n - 1}, bytes = {.max_bytes = len - 1};
        assert_int_equal(decode_code(b, len, &exact), 0);
        assert_int_equal(decode_code(b, len, &pixels), PUNA_E_LIMIT);
        assert_int_equal(decode_code(b, len, &bytes), PUNA_E_LIMIT);
        free(b);
    }
    /* The clock of this thread cannot stand still for 100 pictures. */
    static const char *const slow[] = {"rgb8.png", "progressive.jpg", "lossy.webp", "rgb.bmp",
                                       "plain4.gif"};
    const struct pn_image_limits no_time = {.max_seconds = 1e-12};
    for (size_t k = 0; k < sizeof slow / sizeof slow[0]; k++) {
        char path[256];
        snprintf(path, sizeof path, "images/%s", slow[k]);
        size_t len;
        uint8_t *b = read_data(path, &len);
        bool stopped = false;
        for (int i = 0; i < 100 && !stopped; i++)
            stopped = decode_code(b, len, &no_time) == PUNA_E_LIMIT;
        assert_true(stopped);
        free(b);
    }
}

/* A JPEG's last scan again and again: each repetition would cost a pass over all blocks. */
static void test_scan_bomb(void **state)
{
    (void)state;
    size_t len;
    uint8_t *b = read_data("images/progressive.jpg", &len);
    size_t scan = len - 2; /* the last start-of-scan marker */
    while (scan > 0 && !(b[scan] == 0xff && b[scan + 1] == 0xda))
        scan--;
    const size_t n_scan = len - 2 - scan, times = 600;
    uint8_t *bomb = malloc(len + times * n_scan);
    assert_non_null(bomb);
    memcpy(bomb, b, len - 2);
    size_t n = len - 2;
    for (size_t i = 0; i < times; i++, n += n_scan)
        memcpy(bomb + n, b + scan, n_scan);
    memcpy(bomb + n, "\xff\xd9", 2);
    assert_int_equal(decode_code(bomb, n + 2, NULL), PUNA_E_LIMIT);
    free(bomb);
    free(b);
}

/* Sizes in headers, patched into good files. */
static void test_header_sizes(void **state)
{
    (void)state;
    static const struct { const char *name; size_t at; int width, zero_code; } t[] = {
        {"plain4.gif", 6, 2, 0}, /* a screen of no size: the frame makes it larger */
        {"rgb.bmp", 18, 4, PUNA_E_FORMAT},
        {"lossless.webp", 21, 0, 0},
        {"rgb420.jpg", 0, 2, PUNA_E_FORMAT},
    };
    for (size_t k = 0; k < sizeof t / sizeof t[0]; k++) {
        char path[256];
        snprintf(path, sizeof path, "images/%s", t[k].name);
        size_t len;
        uint8_t *b = read_data(path, &len);
        size_t at = t[k].at;
        if (at == 0) { /* JPEG: height and width in the frame header */
            for (at = 2; !(b[at] == 0xff && b[at + 1] == 0xc0); at++)
                assert_true(at + 9 < len);
            at += 5;
        }
        const size_t n = t[k].width == 4 ? 8 : 4;
        uint8_t *was = malloc(n);
        assert_non_null(was);
        memcpy(was, b + at, n);
        if (t[k].width == 4) /* 65535 x 65535 in 32 bits each */
            memcpy(b + at, "\xff\xff\0\0\xff\xff\0\0", 8);
        else
            memset(b + at, 0xff, 4);
        if (t[k].width == 0) /* WebP: 16384 x 16384, the most there is; no alpha, version 0 */
            b[at + 3] = 0x0f;
        assert_int_equal(decode_code(b, len, NULL), PUNA_E_LIMIT);
        if (t[k].width != 0) {
            memset(b + at, 0, n);
            assert_int_equal(decode_code(b, len, NULL), t[k].zero_code);
        }
        memcpy(b + at, was, n);
        assert_int_equal(decode_code(b, len, NULL), 0);
        free(was);
        free(b);
    }
}

/* BMP: offsets and sizes that lie. */
static void test_bmp_headers(void **state)
{
    (void)state;
    size_t len;
    uint8_t *b = read_data("images/four.bmp", &len);
    static const struct { size_t at; uint8_t bytes[4]; int code; } t[] = {
        {10, {0xff, 0xff, 0xff, 0xff}, PUNA_E_FORMAT}, /* pixels outside */
        {10, {0, 0, 0, 0}, PUNA_E_FORMAT},
        {22, {0, 0, 0, 0x80}, PUNA_E_LIMIT},           /* height -2^31 */
        {18, {0xff, 0xff, 0xff, 0xff}, PUNA_E_FORMAT}, /* width -1 */
        {26, {2, 0, 4, 0}, PUNA_E_FORMAT},             /* planes */
        {26, {1, 0, 5, 0}, PUNA_E_FORMAT},             /* bits per pixel */
        {30, {1, 0, 0, 0}, PUNA_E_UNSUPPORTED},        /* run lengths */
        {30, {4, 0, 0, 0}, PUNA_E_UNSUPPORTED},        /* JPEG inside */
        {14, {41, 0, 0, 0}, PUNA_E_UNSUPPORTED},
        {46, {0xff, 0xff, 0xff, 0xff}, 0},             /* colours used: 4 bits have 16 */
    };
    for (size_t k = 0; k < sizeof t / sizeof t[0]; k++) {
        uint8_t was[4];
        memcpy(was, b + t[k].at, 4);
        memcpy(b + t[k].at, t[k].bytes, 4);
        assert_int_equal(decode_code(b, len, NULL), t[k].code);
        memcpy(b + t[k].at, was, 4);
    }
    free(b);
}

/* ---- things that are no pictures */

static void test_kinds(void **state)
{
    (void)state;
#define KIND(bytes, word) {bytes, sizeof bytes - 1, word}
    static const struct { const char *bytes; size_t n; const char *word; } t[] = {
        KIND("<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        KIND("\n  <HTML>", "HTML"),
        KIND("<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\"/>", "SVG"),
        KIND("<svg>", "SVG"),
        KIND("<?xml version=\"1.0\"?><rss/>", "XML"),
        KIND("BMW is a car maker", "text"),
        KIND("iVBORw0KGgoAAAANSUhEUg", "text"),
        KIND("data:image/png;base64,iVBORw0KGgo", "data: URL"),
        KIND("\0\0\0\x18" "ftypheic\0\0\0\0", "HEIC"),
        KIND("\0\0\0\x18" "ftypheix\0\0\0\0", "HEIC"),
        KIND("\0\0\0\x18" "ftypmif1\0\0\0\0", "HEIC or AVIF"),
        KIND("\0\0\0\x18" "ftypavif\0\0\0\0", "AVIF"),
        KIND("\0\0\0\x18" "ftypisom\0\0\0\0", "MP4"),
        KIND("II*\0\x08\0\0\0", "TIFF"),
        KIND("MM\0*\0\0\0\x08", "TIFF"),
        KIND("\xff\x0a\x01", "JPEG XL"),
        KIND("%PDF-1.7", "PDF"),
        KIND("PK\3\4", "ZIP"),
        KIND("8BPS\0\1", "Photoshop"),
        KIND("\x1f\x8b\x08", "gzip"),
        KIND("GGUF\3\0\0\0", "GGUF"),
        KIND("\x01\x02\x03\x04", "no file type"),
        KIND("RIFF\x10\0\0\0WAVEfmt ", "no file type"),
    };
#undef KIND
    for (size_t k = 0; k < sizeof t / sizeof t[0]; k++) {
        struct pn_rgb img;
        struct puna_error err;
        assert_int_equal(decode(&img, (const uint8_t *)t[k].bytes, t[k].n, NULL, &err),
                         PUNA_E_UNSUPPORTED);
        if (!strstr(err.message, t[k].word))
            fail_msg("no '%s' in: %s", t[k].word, err.message);
    }
    struct pn_rgb img;
    struct puna_error err;
    assert_int_equal(decode(&img, (const uint8_t *)"", 0, NULL, &err), PUNA_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "empty"));
    assert_int_equal(decode(&img, NULL, 0, NULL, &err), PUNA_E_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_png_sizes),
        cmocka_unit_test(test_long_strip),
        cmocka_unit_test(test_png_chunks),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_scan_bomb),
        cmocka_unit_test(test_header_sizes),
        cmocka_unit_test(test_bmp_headers),
        cmocka_unit_test(test_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
