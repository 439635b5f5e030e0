/* SPDX-License-Identifier: Apache-2.0 */
/* Every picture in tests/data/images against Pillow's bytes (expected.json, made by
 * tests/oracle/image_oracle.py), and the PNG writer. */
#include <zlib.h>

#include "image_util.h"

static int hex_digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static bool close_to(const uint8_t *px, size_t n, const char *hex, int tolerance)
{
    if (strlen(hex) != 2 * n)
        return false;
    for (size_t i = 0; i < n; i++) {
        const int d = px[i] - (hex_digit(hex[2 * i]) * 16 + hex_digit(hex[2 * i + 1]));
        if (d > tolerance || d < -tolerance)
            return false;
    }
    return true;
}

static void test_pictures(void **state)
{
    (void)state;
    json_t *j = read_json("images/expected.json");
    const char *name;
    json_t *want;
    size_t n_files = 0, n_bad = 0;
    json_object_foreach(json_object_get(j, "files"), name, want) {
        char path[256];
        snprintf(path, sizeof path, "images/%s", name);
        size_t len;
        uint8_t *b = read_data(path, &len);
        struct puna_error err = {0};
        struct pn_rgb img;
        n_files++;
        if (pn_image_decode(&img, b, len, NULL, &err) != 0) {
            print_error("%s: %s\n", name, err.message);
            n_bad++;
        } else if (img.w != get_int(want, "width") || img.h != get_int(want, "height")) {
            print_error("%s: %d x %d\n", name, img.w, img.h);
            n_bad++;
        } else {
            const size_t n = (size_t)img.w * (size_t)img.h * 3;
            char hex[65];
            pn_sha256_hex(hex, img.px, n);
            const json_t *bytes = json_object_get(want, "hex");
            const bool ok = bytes ? close_to(img.px, n, json_string_value(bytes),
                                             (int)get_int(want, "tolerance"))
                                  : strcmp(hex, get_str(want, "sha256")) == 0;
            if (!ok) {
                print_error("%s: other pixels\n", name);
                n_bad++;
            }
        }
        pn_rgb_free(&img);
        free(b);
    }
    assert_true(n_files >= 100);
    assert_int_equal(n_bad, 0);
    json_decref(j);
}

/* All eight EXIF orientations hold the same pixels in another order; switched off, none is
 * applied. */
static void test_orientation(void **state)
{
    (void)state;
    struct puna_error err = {0};
    const struct pn_image_limits off = {.keep_orientation = true};
    for (int o = 1; o <= 8; o++) {
        char path[64];
        snprintf(path, sizeof path, "images/exif%d.jpg", o);
        size_t len;
        uint8_t *b = read_data(path, &len);
        struct pn_rgb upright, stored;
        assert_int_equal(pn_image_decode(&upright, b, len, NULL, &err), 0);
        assert_int_equal(pn_image_decode(&stored, b, len, &off, &err), 0);
        assert_int_equal(stored.w, 17);
        assert_int_equal(stored.h, 11);
        assert_int_equal(upright.w, o >= 5 ? 11 : 17);
        assert_int_equal(upright.h, o >= 5 ? 17 : 11);
        /* where the stored picture's first pixel, the top left of the sensor, has gone */
        const size_t w = (size_t)upright.w, last = w * (size_t)upright.h - 1;
        const size_t corner[4] = {last - (w - 1), 0, w - 1, last}; /* 4 and 8; 1, 5; 2, 6; 3, 7 */
        assert_memory_equal(upright.px + 3 * corner[o % 4], stored.px, 3);
        pn_rgb_free(&upright);
        pn_rgb_free(&stored);
        free(b);
    }
}

static void test_no_output_on_failure(void **state)
{
    (void)state;
    struct pn_rgb img = {.w = 1, .h = 1};
    /* err may be NULL */
    const uint8_t x = 'x';
    assert_int_equal(pn_image_decode(&img, &x, 1, NULL, NULL), PUNA_E_UNSUPPORTED);
    assert_null(img.px);
    assert_int_equal(img.w, 0);
}

/* ---- the writer, read back by our own reader (stb_image) and by plain zlib */

static void test_png_round_trip(void **state)
{
    (void)state;
    static const int32_t sizes[][2] = {{1, 1}, {1, 50}, {50, 1}, {64, 48}, {333, 17}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (int kind = 0; kind < 3; kind++) {
            const int32_t w = sizes[s][0], h = sizes[s][1];
            const size_t n = (size_t)w * (size_t)h * 3;
            uint8_t *px = malloc(n);
            assert_non_null(px);
            uint32_t seed = 1;
            for (size_t i = 0; i < n; i++) {
                seed = seed * 1664525u + 1013904223u;
                px[i] = (uint8_t)(kind == 0 ? 200 : kind == 1 ? i / 3 : seed >> 24);
            }
            struct puna_error err = {0};
            uint8_t *png;
            size_t len;
            assert_int_equal(pn_png_encode(&png, &len, px, w, h, &err), 0);
            struct pn_rgb img;
            if (pn_image_decode(&img, png, len, NULL, &err) != 0)
                fail_msg("%d x %d: %s", w, h, err.message);
            assert_int_equal(img.w, w);
            assert_int_equal(img.h, h);
            assert_memory_equal(img.px, px, n);
            if (kind == 1 && n > 5000)
                assert_true(len < n / 8); /* gradients: the filters must work */
            /* the end chunk, and the CRC of the header by zlib */
            assert_memory_equal(png + len - 12, "\0\0\0\0IEND\xae\x42\x60\x82", 12);
            const uint32_t crc = (uint32_t)crc32(0, png + 12, 17);
            assert_int_equal(png[29], crc >> 24);
            assert_int_equal(png[32], crc & 255);
            pn_rgb_free(&img);
            free(png);
            free(px);
        }
    }
}

static void test_png_arguments(void **state)
{
    (void)state;
    struct puna_error err = {0};
    uint8_t *png = (uint8_t *)&err;
    size_t len = 1;
    const uint8_t px[3] = {0};
    assert_int_equal(pn_png_encode(&png, &len, px, 0, 1, &err), PUNA_E_ARG);
    assert_null(png);
    assert_int_equal(pn_png_encode(&png, &len, px, INT32_MAX, INT32_MAX, &err), PUNA_E_LIMIT);
    assert_null(png);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pictures),
        cmocka_unit_test(test_orientation),
        cmocka_unit_test(test_no_output_on_failure),
        cmocka_unit_test(test_png_round_trip),
        cmocka_unit_test(test_png_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
