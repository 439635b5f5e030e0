/* SPDX-License-Identifier: Apache-2.0 */
/* The image processor against transformers with Pillow: 58 sizes of a synthetic picture, the
 * pictures of the tiny-a model down to pixel_values, and the shapes from transformers' own
 * tests. */
#include "image_util.h"
#include "kern/kern.h"

static const int32_t ratio_h[8] = {1, 1, 1, 1, 2, 2, 3, 4};
static const int32_t ratio_w[8] = {1, 2, 3, 4, 1, 2, 1, 1};
static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
static const float deviation[3] = {0.26862954f, 0.26130258f, 0.27577711f};

static struct pn_rgb synthetic(int32_t w, int32_t h)
{
    struct pn_rgb img = {.w = w, .h = h, .px = pn_calloc_array((size_t)w * (size_t)h, 3)};
    assert_non_null(img.px);
    uint8_t *p = img.px;
    for (int32_t y = 0; y < h; y++) {
        for (int32_t x = 0; x < w; x++) {
            for (int32_t c = 0; c < 3; c++)
                *p++ = (uint8_t)(x * (3 + 2 * c) + y * (5 + 3 * c) + ((x * y) >> 4) * (c + 1));
        }
    }
    return img;
}

/* The kernels of the best tier here; checkkern compares the others with them. */
static const struct pn_kern *best(void)
{
    static struct pn_kern k;
    if (k.tier == NULL)
        assert_int_equal(pn_kern_select(&k, NULL, NULL), 0);
    return &k;
}

/* The value of one pixel of the canvas. */
static float at(const float *tiles, const struct pn_tiling *t, int32_t tile, int32_t x, int32_t y,
                int c)
{
    const size_t i = (size_t)((y / tile) * t->tiles_w + x / tile), s = (size_t)tile;
    return tiles[((i * 3 + (size_t)c) * s + (size_t)(y % tile)) * s + (size_t)(x % tile)];
}

static void check_golden(const json_t *g)
{
    struct puna_error err = {0};
    const int32_t w = (int32_t)get_int(g, "w"), h = (int32_t)get_int(g, "h");
    const int32_t tile = (int32_t)get_int(g, "tile");
    struct pn_rgb src = synthetic(w, h), small;
    struct pn_tiling t;
    pn_tiling_plan(&t, w, h, tile, ratio_h, ratio_w, 8);
    assert_int_equal(t.tiles_h, get_int(g, "tiles_h"));
    assert_int_equal(t.tiles_w, get_int(g, "tiles_w"));
    assert_int_equal(t.tiles_h * tile, get_int(g, "canvas_h"));
    assert_int_equal(t.tiles_w * tile, get_int(g, "canvas_w"));
    assert_int_equal(t.ratio_id, get_int(g, "aspect_ratio_id"));
    assert_int_equal(t.new_w, get_int(g, "new_w"));
    assert_int_equal(t.new_h, get_int(g, "new_h"));

    assert_int_equal(pn_resize(&small, &src, t.new_w, t.new_h, best(), &err), 0);
    char hex[65];
    pn_sha256_hex(hex, small.px, (size_t)small.w * (size_t)small.h * 3);
    assert_string_equal(hex, get_str(g, "resized_sha256"));
    int64_t sum[3] = {0};
    for (size_t i = 0; i < (size_t)small.w * (size_t)small.h * 3; i++)
        sum[i % 3] += small.px[i];
    for (size_t c = 0; c < 3; c++)
        assert_int_equal(sum[c],
                         json_integer_value(json_array_get(json_object_get(g, "resized_sum"), c)));
    pn_rgb_free(&small);

    const size_t n = (size_t)t.tiles_h * (size_t)t.tiles_w * 3 * (size_t)tile * (size_t)tile;
    float *tiles = malloc(n * sizeof *tiles);
    assert_non_null(tiles);
    assert_int_equal(pn_image_tiles(tiles, &src, &t, tile, mean, deviation, &err), 0);
    double total = 0.0;
    for (size_t i = 0; i < n; i++)
        total += tiles[i];
    const double want = json_real_value(json_object_get(g, "pixel_values_sum"));
    assert_true(total - want < 1e-3 && want - total < 1e-3);
    for (int c = 0; c < 3; c++) {
        const json_t *first = json_array_get(json_object_get(g, "first"), (size_t)c);
        const json_t *last = json_array_get(json_object_get(g, "last_real"), (size_t)c);
        const float a = at(tiles, &t, tile, 0, 0, c);
        const float b = at(tiles, &t, tile, t.tiles_w * tile - 1, t.tiles_h * tile - 1, c);
        assert_true(a == (float)json_real_value(first));
        assert_true(b == (float)json_real_value(last));
    }
    free(tiles);
    pn_rgb_free(&src);
}

static void test_goldens(void **state)
{
    (void)state;
    json_t *j = read_json("image-goldens.json");
    const json_t *cases = json_object_get(j, "cases");
    assert_int_equal(json_array_size(cases), 58);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_golden(json_array_get(cases, i));
    json_decref(j);
}

/* ---- tiny-a */

struct tensor {
    const float *v;
    int64_t shape[5];
};

static struct tensor find_tensor(const uint8_t *file, size_t len, const json_t *header,
                                 size_t start, const char *name)
{
    struct tensor t = {0};
    const json_t *e = json_object_get(header, name);
    if (!e)
        return t;
    assert_string_equal(get_str(e, "dtype"), "F32");
    const json_t *shape = json_object_get(e, "shape"), *off = json_object_get(e, "data_offsets");
    assert_int_equal(json_array_size(shape), 5);
    for (size_t i = 0; i < 5; i++)
        t.shape[i] = json_integer_value(json_array_get(shape, i));
    const size_t from = (size_t)json_integer_value(json_array_get(off, 0)) + start;
    assert_true(from < len && from % sizeof(float) == 0);
    t.v = (const float *)(const void *)(file + from);
    return t;
}

/* One picture: its tiles equal to the bit, and the missing tiles of the reference all zero. */
static size_t check_picture(const char *name, const float *want, int64_t max_tiles, int32_t tile)
{
    struct puna_error err = {0};
    char path[256];
    snprintf(path, sizeof path, "tiny-a/images/%s.png", name);
    size_t len;
    uint8_t *b = read_data(path, &len);
    struct pn_rgb img;
    if (pn_image_decode(&img, b, len, NULL, &err) != 0)
        fail_msg("%s: %s", name, err.message);
    free(b);
    struct pn_tiling t;
    pn_tiling_plan(&t, img.w, img.h, tile, ratio_h, ratio_w, 8);
    const size_t n = (size_t)(t.tiles_h * t.tiles_w * 3 * tile * tile);
    float *tiles = malloc(n * sizeof *tiles);
    assert_non_null(tiles);
    assert_int_equal(pn_image_tiles(tiles, &img, &t, tile, mean, deviation, &err), 0);
    if (memcmp(tiles, want, n * sizeof *tiles) != 0)
        fail_msg("%s: pixel_values differ", name);
    for (size_t i = n; i < (size_t)(max_tiles * 3 * tile * tile); i++)
        assert_true(want[i] == 0.0f);
    free(tiles);
    pn_rgb_free(&img);
    return 1;
}

static void test_tiny_a(void **state)
{
    (void)state;
    size_t len;
    uint8_t *file = read_data("tiny-a/golden.safetensors", &len);
    uint64_t n_header = 0;
    assert_true(len > 8);
    for (int i = 0; i < 8; i++)
        n_header |= (uint64_t)file[i] << 8 * i;
    assert_true(n_header < len - 8);
    json_t *header = json_loadb((const char *)file + 8, (size_t)n_header, 0, NULL);
    assert_non_null(header);
    json_t *cases = read_json("tiny-a/cases.json");
    const json_t *list = json_object_get(cases, "cases");
    size_t n_pictures = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *c = json_array_get(list, i), *images = json_object_get(c, "images");
        char key[256];
        snprintf(key, sizeof key, "%s/pixel_values", get_str(c, "name"));
        const struct tensor t = find_tensor(file, len, header, 8 + (size_t)n_header, key);
        assert_int_equal(t.v ? t.shape[0] : 0, json_array_size(images));
        for (size_t k = 0; k < json_array_size(images); k++) {
            const size_t each = (size_t)(t.shape[1] * t.shape[2] * t.shape[3] * t.shape[4]);
            n_pictures += check_picture(json_string_value(json_array_get(images, k)),
                                        t.v + k * each, t.shape[1], (int32_t)t.shape[3]);
        }
    }
    assert_int_equal(n_pictures, 16);
    json_decref(cases);
    json_decref(header);
    free(file);
}

/* ---- shapes: transformers' test_image_processing_mllama.py, and the corners of the rule */

static void test_plans(void **state)
{
    (void)state;
    static const struct { int32_t w, h, tile, th, tw, id, nw, nh; } want[] = {
        {80, 95, 50, 2, 2, 6, 80, 95},         {101, 50, 50, 1, 3, 3, 101, 50},
        {20, 39, 50, 1, 1, 1, 25, 50},         {51, 20, 50, 1, 2, 2, 51, 20},
        {150, 150, 50, 2, 2, 6, 100, 100},     {23, 49, 50, 1, 1, 1, 23, 50},
        {1, 1, 224, 1, 1, 1, 224, 224},        {100, 1, 224, 1, 1, 1, 224, 2},
        {9999999, 1, 224, 1, 4, 4, 896, 1},    {1, 9999999, 224, 4, 1, 8, 1, 896},
        {1, 9999, 448, 4, 1, 8, 1, 1792},      {2000, 300, 560, 1, 4, 4, 2000, 300},
        {127, 1999, 448, 4, 1, 8, 113, 1792},  {640, 480, 560, 1, 2, 2, 640, 480},
        {4032, 3024, 560, 2, 2, 6, 1120, 840}, {449, 448, 448, 1, 2, 2, 449, 448},
    };
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        struct pn_tiling t;
        pn_tiling_plan(&t, want[i].w, want[i].h, want[i].tile, ratio_h, ratio_w, 8);
        const int32_t got[6] = {t.tiles_h, t.tiles_w, t.ratio_id, t.new_w, t.new_h, 0};
        const int32_t exp[6] = {want[i].th, want[i].tw, want[i].id, want[i].nw, want[i].nh, 0};
        if (memcmp(got, exp, sizeof got) != 0)
            fail_msg("%d x %d: %d x %d tiles, id %d, %d x %d", want[i].w, want[i].h, got[0], got[1],
                     got[2], got[3], got[4]);
    }
    /* Another list: one ratio only, and equal scales, where the smaller area must win. */
    struct pn_tiling t;
    const int32_t one = 1, h2[3] = {2, 1, 2}, w2[3] = {2, 2, 1};
    pn_tiling_plan(&t, 1000, 10, 56, &one, &one, 1);
    assert_int_equal(t.ratio_id, 1);
    assert_int_equal(t.new_w, 56);
    assert_int_equal(t.new_h, 1);
    pn_tiling_plan(&t, 112, 56, 56, h2, w2, 3);
    assert_int_equal(t.ratio_id, 2);
    pn_tiling_plan(&t, 56, 112, 56, h2, w2, 3);
    assert_int_equal(t.ratio_id, 3);
}

static void test_resize_corners(void **state)
{
    (void)state;
    struct puna_error err = {0};
    struct pn_rgb src = synthetic(5, 4), out;
    assert_int_equal(pn_resize(&out, &src, 5, 4, best(), &err), 0); /* a copy */
    assert_memory_equal(out.px, src.px, 60);
    assert_ptr_not_equal(out.px, src.px);
    pn_rgb_free(&out);
    assert_int_equal(pn_resize(&out, &src, 0, 4, best(), &err), PUNA_E_ARG);
    assert_null(out.px);
    assert_int_equal(pn_resize(&out, &src, 3, -1, best(), &err), PUNA_E_ARG);
    /* White stays white at every scale: the weights must not lose a unit. */
    memset(src.px, 255, 60);
    for (int32_t w = 1; w < 40; w++) {
        assert_int_equal(pn_resize(&out, &src, w, 41 - w, best(), &err), 0);
        for (size_t i = 0; i < (size_t)(w * (41 - w) * 3); i++)
            assert_int_equal(out.px[i], 255);
        pn_rgb_free(&out);
    }
    const struct pn_tiling wrong = {1, 1, 1, 57, 56};
    float dummy = 0;
    assert_int_equal(pn_image_tiles(&dummy, &src, &wrong, 56, mean, deviation, &err), PUNA_E_ARG);
    pn_rgb_free(&src);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens),
        cmocka_unit_test(test_tiny_a),
        cmocka_unit_test(test_plans),
        cmocka_unit_test(test_resize_corners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
