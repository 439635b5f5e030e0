/* SPDX-License-Identifier: Apache-2.0 */
/* puna encode: what the vision encoder sees and what it makes of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "cli/common.h"
#include "base/outfile.h"
#include "cli/show.h"
#include "cli/st_write.h"

struct encode_settings {
    struct model_settings model;
    struct session_settings session;
    struct opt_list images;
    const char *out, *png;
    bool no_features, json;
};

static const struct encode_settings defaults;

#define T struct encode_settings
static const struct opt_spec options[] = {
    OPT_HEADING("Options"),
    OPTS_MODEL_NAME(T),
    OPT_ROW(T, images, OPT_LIST, "image", 'i', "IMAGE", "A picture; repeatable.", .dflt = ""),
    OPT_ROW(T, out, OPT_STRING, "output", 'o', "FILE", "The safetensors file to write.", .dflt = ""),
    OPT_ROW(T, png, OPT_STRING, "png", 0, "DIR",
            "Also write the tiles as pictures, DIR/NAME-tile0.png and so on; DIR is made if it "
            "is missing.", .dflt = ""),
    OPT_FLAG_ROW(T, no_features, "no-features", 0,
                 "Only decode, resize and cut into tiles: no vision encoder, no vision_features."),
    OPT_FLAG_ROW(T, json, "json", 0, "Say what was done as one JSON object."),
    OPT_HEADING("Computation"),
    OPTS_PRECISE(T),
    OPT_FLAG_ROW(T, session.full_tiles, "full-tiles", 0,
                 "Compute every empty tile by itself. Does not change the result."),
    OPTS_PICTURES(T),
    OPTS_MACHINE(T),
};
#undef T

enum { PIXEL_VALUES, NUM_TILES, ASPECT_RATIO_IDS, VISION_FEATURES };

static int write_tile(const struct puna_encoded *e, int32_t tile, const struct puna_model_info *info,
                      const char *path, struct puna_error *err)
{
    const size_t plane = (size_t)e->tile * (size_t)e->tile;
    uint8_t *rgb = calloc(plane, 3);
    if (rgb == NULL)
        return pn_fail_memory(err, 3 * plane, "a tile");
    tile_rgb(e, tile, info, rgb);
    uint8_t *png;
    size_t len;
    int rc = puna_png(&png, &len, rgb, e->tile, e->tile, err);
    free(rgb);
    if (rc == 0) {
        rc = pn_outfile_put(path, png, len, err);
        puna_free(png);
    }
    return rc;
}

/* File name without folders and ending. */
static size_t stem(const char *path, const char **start)
{
    *start = path_base(path);
    const char *dot = strrchr(*start, '.');
    return dot != NULL && dot > *start ? (size_t)(dot - *start) : strlen(*start);
}

static int write_tiles(const struct puna_encoded *e, const struct puna_model_info *info,
                       const char *dir, const char *image, struct puna_error *err)
{
    int rc = 0;
    for (int32_t k = 0; k < e->n_tiles && rc == 0; k++) {
        const char *name;
        const int len = (int)stem(image, &name);
        struct pn_buf path = { 0 };
        if (pn_buf_printf(&path, "%s/%.*s-tile%d.png", dir, len, name, (int)k))
            rc = write_tile(e, k, info, path.data, err);
        else
            rc = pn_fail_memory(err, 256, "a file name");
        pn_buf_free(&path);
    }
    return rc;
}

/* Two pictures of one name would overwrite each other's tiles. */
static int check_names(const struct opt_list *images)
{
    for (size_t i = 0; i < images->n; i++) {
        for (size_t j = 0; j < i; j++) {
            const char *a, *b;
            const size_t na = stem(images->v[i], &a), nb = stem(images->v[j], &b);
            if (na == nb && memcmp(a, b, na) == 0)
                return diag_usage("two pictures are called '%.*s', and --png names files by that",
                                  (int)na, a);
        }
    }
    return EXIT_OK;
}

static int put_picture(struct st_writer *w, const struct puna_encoded *e, bool features,
                       struct puna_error *err)
{
    const size_t n_pixels = (size_t)e->max_tiles * 3 * (size_t)e->tile * (size_t)e->tile;
    const int64_t n_tiles = e->n_tiles, ratio = e->aspect_ratio_id;
    int rc = st_put(w, PIXEL_VALUES, e->pixel_values, n_pixels, err);
    if (rc == 0)
        rc = st_put(w, NUM_TILES, &n_tiles, 1, err);
    if (rc == 0)
        rc = st_put(w, ASPECT_RATIO_IDS, &ratio, 1, err);
    if (rc == 0 && features)
        rc = st_put(w, VISION_FEATURES, e->vision_features,
                    (size_t)e->max_tiles * (size_t)e->n_tokens * (size_t)e->dim, err);
    return rc;
}

static void describe(json_t *list, const struct puna_encoded *e, const char *path)
{
    if (list != NULL) {
        json_t *name = json_lossy(path, strlen(path));
        json_array_append_new(
            list, json_pack("{s:o, s:i, s:i, s:i, s:i, s:[i,i], s:f, s:f}", "file", name, "width",
                            (int)e->width, "height", (int)e->height, "tiles", (int)e->n_tiles,
                            "aspect_ratio_id", (int)e->aspect_ratio_id, "layout", (int)e->tiles_h,
                            (int)e->tiles_w, "preprocess_seconds", e->preprocess_seconds,
                            "encode_seconds", e->encode_seconds));
        return;
    }
    printf("%s: %dx%d, %d tile%s (%d high, %d wide), aspect ratio id %d, %.1f ms", path,
           (int)e->width, (int)e->height, (int)e->n_tiles, e->n_tiles == 1 ? "" : "s",
           (int)e->tiles_h, (int)e->tiles_w, (int)e->aspect_ratio_id, 1e3 * e->preprocess_seconds);
    if (e->vision_features != NULL)
        printf(" + %.2f s encoding", e->encode_seconds);
    putchar('\n');
}

static int encode_all(const struct encode_settings *s, const puna_model *m,
                      const struct pictures *pictures, json_t *list, struct puna_error *err)
{
    const struct puna_model_info info = model_info(m);
    if (!info.has_vision)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s is a text model: it has no vision encoder",
                       info.path);
    const struct puna_image_params params = image_params(&s->session);
    const int flags = (s->no_features ? 0 : PUNA_ENCODE_FEATURES) |
                      (s->session.precise ? PUNA_ENCODE_PRECISE : 0) |
                      (s->session.full_tiles ? PUNA_ENCODE_FULL : 0);
    const int64_t n = (int64_t)pictures->n, side = info.tile_size, tiles = info.max_tiles;
    const struct st_decl tensors[] = {
        [PIXEL_VALUES] = { "pixel_values", ST_F32, 5, { n, tiles, 3, side, side } },
        [NUM_TILES] = { "num_tiles", ST_I64, 1, { n } },
        [ASPECT_RATIO_IDS] = { "aspect_ratio_ids", ST_I64, 1, { n } },
        [VISION_FEATURES] = { "vision_features", ST_F32, 4,
                              { n, tiles, info.tokens_per_tile, info.v_out_dim } },
    };
    struct st_writer *w = NULL;
    int rc = 0;
    if (s->out != NULL)
        rc = st_create(&w, s->out, tensors, s->no_features ? 3 : 4, err);
    for (size_t i = 0; i < pictures->n && rc == 0; i++) {
        struct puna_encoded e = { 0 };
        struct puna_error why = { 0 };
        const struct picture *pic = &pictures->v[i];
        rc = puna_encode_image(m, pic->bytes, pic->len, &params, flags, term_progress, NULL, &e, &why);
        term_clear_progress();
        if (rc != 0)
            pn_fail(err, rc, "%s: %s", pic->path, why.message);
        if (rc == 0 && w != NULL)
            rc = put_picture(w, &e, !s->no_features, err);
        if (rc == 0 && s->png != NULL)
            rc = write_tiles(&e, &info, s->png, pic->path, err);
        if (rc == 0)
            describe(list, &e, pic->path);
        puna_encoded_free(&e);
        if (rc == 0 && term_interrupted())
            rc = pn_fail(err, PUNA_E_CANCELLED, "interrupted");
    }
    if (rc == 0 && w != NULL)
        rc = st_commit(&w, err);
    st_abort(&w);
    return rc;
}

static int run(const void *settings)
{
    const struct encode_settings *s = settings;
    if (s->images.n == 0)
        return diag_usage("which pictures? give -i IMAGE");
    if (s->out == NULL && s->png == NULL)
        return diag_usage("where should the answer go? give -o FILE or --png DIR");
    if (s->png != NULL && check_names(&s->images) != EXIT_OK)
        return EXIT_USAGE;

    struct puna_error err = { 0 };
    struct pictures pictures;
    puna_model *m = NULL;
    int rc = pictures_load(&pictures, &s->images, &err);
    if (rc == 0 && s->png != NULL && mkdir(s->png, 0777) != 0 && errno != EEXIST)
        rc = pn_fail(&err, PUNA_E_IO, "%s: cannot make the directory: %s", s->png, strerror(errno));
    int status = rc == 0 ? model_open(&m, &s->model) : diag_error(&err);
    json_t *list = s->json ? json_array() : NULL;
    if (status == EXIT_OK && (rc = encode_all(s, m, &pictures, list, &err)) != 0)
        status = diag_error(&err);
    if (status == EXIT_OK && s->json)
        status = print_json(json_pack("{s:O}", "pictures", list));
    json_decref(list);
    puna_model_close(&m);
    pictures_free(&pictures);
    return status;
}

const struct command cmd_encode = {
    .name = "encode",
    .usage = "[-m MODEL] -i IMAGE... (-o FILE | --png DIR) [options]",
    .summary = "Write a picture's tiles and vision features.",
    .details = "The file holds `pixel_values` F32 [n][tiles][3][side][side], `num_tiles` I64 [n], "
               "`aspect_ratio_ids` I64 [n] and `vision_features` F32 [n][tiles][tokens][features]; "
               "tiles that a picture does not have are zero. It appears only when it is complete. "
               "What was done is printed, one line for each picture.\n"
               "\n"
               "Examples:\n"
               "  puna encode -m llama3.2-vision -i a.jpg -i b.png -o out.safetensors\n"
               "  puna encode -m llama3.2-vision -i a.jpg --png tiles --no-features",
    .opts = options,
    .n_opts = sizeof(options) / sizeof(options[0]),
    .defaults = &defaults,
    .size = sizeof(defaults),
    .run = run,
};
