/* SPDX-License-Identifier: Apache-2.0 */
/* A picture alone, without a session: what the encoder sees and what it makes of it. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/err.h"
#include "session/session.h"

struct watch {
    puna_progress_fn fn;
    void *user;
    double last;
    _Atomic int cancel;
};

static void report(void *user, double done, double total)
{
    struct watch *w = user;
    const double now = pn_now();
    if (!w->fn || (done < total && now - w->last < 0.1))
        return;
    w->last = now;
    if (w->fn(w->user, "picture", done, total))
        w->cancel = 1;
}

int puna_encode_image(const puna_model *model, const void *bytes, size_t len,
                      const struct puna_image_params *params, int flags, puna_progress_fn progress,
                      void *user, struct puna_encoded *out, struct puna_error *err)
{
    memset(out, 0, sizeof *out);
    struct pn_model *m = model->m;
    const struct pn_hparams *hp = &m->hp;
    if (!m->vision)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s is a text model: it takes no pictures", m->src->path);
    const struct puna_image_params none = {0};
    const double t0 = pn_now();
    struct pn_rgb img = {0};
    struct pn_tiling t;
    int rc = pn_picture_load(m, params ? params : &none, bytes, len, &img, &t, &out->width, &out->height, err);
    if (rc)
        return rc;
    const size_t S = (size_t)hp->v_image, tiles = (size_t)hp->v_tiles;
    out->tile = hp->v_image;
    out->channels = hp->v_channels;
    out->max_tiles = hp->v_tiles;
    out->tiles_h = t.tiles_h;
    out->tiles_w = t.tiles_w;
    out->n_tiles = t.tiles_h * t.tiles_w;
    out->aspect_ratio_id = t.ratio_id;
    out->n_tokens = m->vision->n_pos;
    out->dim = m->vision->n_out;
    const size_t n_pixels = tiles * 3 * S * S;
    out->pixel_values = calloc(n_pixels, sizeof *out->pixel_values);
    if (!out->pixel_values)
        rc = pn_fail_memory(err, n_pixels * sizeof *out->pixel_values, "a picture's tiles");
    if (!rc)
        rc = pn_image_tiles(out->pixel_values, &img, &t, hp->v_image, hp->mean, hp->std, err);
    pn_rgb_free(&img);
    const double t1 = pn_now();
    out->preprocess_seconds = t1 - t0;
    if (!rc && (flags & PUNA_ENCODE_FEATURES)) {
        const size_t n = tiles * (size_t)out->n_tokens * (size_t)out->dim;
        out->vision_features = calloc(n, sizeof *out->vision_features);
        if (!out->vision_features)
            rc = pn_fail_memory(err, n * sizeof *out->vision_features, "a picture's features");
        bool full = flags & PUNA_ENCODE_FULL;
        struct watch watch = {.fn = progress, .user = user};
        if (!rc)
            rc = pn_vision_must_be_full(m, t.ratio_id, out->n_tiles, &full, err);
        if (!rc) {
            const struct pn_vision_job job = {.pixels = out->pixel_values,
                                              .tiles_h = t.tiles_h,
                                              .tiles_w = t.tiles_w,
                                              .ratio_id = t.ratio_id,
                                              .precise = flags & PUNA_ENCODE_PRECISE,
                                              .full = full,
                                              .features = out->vision_features,
                                              .cancel = &watch.cancel,
                                              .progress = report,
                                              .progress_user = &watch};
            rc = pn_vision_encode(m, &job, err);
        }
        out->encode_seconds = pn_now() - t1;
    }
    if (rc)
        puna_encoded_free(out);
    return rc;
}

void puna_encoded_free(struct puna_encoded *e)
{
    free(e->pixel_values);
    free(e->vision_features);
    memset(e, 0, sizeof *e);
}

int puna_png(uint8_t **out, size_t *len, const uint8_t *rgb, int32_t w, int32_t h, struct puna_error *err)
{
    return pn_png_encode(out, len, rgb, w, h, err);
}
