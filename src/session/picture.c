/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures of a session: decoded when added (so that errors come early), encoded when the first token that sees
 * them is computed, kept by content as cross-attention keys and values while memory lasts. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/sha256.h"
#include "session/session.h"

#define KEEP_UNUSED 4 /* encoded pictures kept although the conversation no longer holds them */

int pn_picture_load(const struct pn_model *m, const struct puna_image_params *par, const void *bytes,
                    size_t len, struct pn_rgb *img, struct pn_tiling *tiling, int32_t *w, int32_t *h,
                    struct puna_error *err)
{
    const struct pn_hparams *hp = &m->hp;
    const struct pn_image_limits lim = {par->max_pixels, par->max_bytes, par->max_seconds,
                                        par->keep_orientation != 0};
    struct pn_rgb raw = {0};
    int rc = pn_image_decode(&raw, bytes, len, &lim, err);
    if (rc)
        return rc;
    *w = raw.w;
    *h = raw.h;
    pn_tiling_plan(tiling, raw.w, raw.h, hp->v_image, hp->ratio_h, hp->ratio_w, hp->n_ratio);
    rc = pn_resize(img, &raw, tiling->new_w, tiling->new_h, &m->kern, err);
    pn_rgb_free(&raw);
    return rc;
}

static void picture_free(struct pn_picture *p)
{
    pn_rgb_free(&p->rgb);
    pn_cross_close(&p->cross);
    free(p);
}

/* Drop the longest unused pictures beyond those worth keeping. */
static void trim(puna_session *s)
{
    for (;;) {
        struct pn_picture **oldest = NULL;
        int n = 0;
        for (struct pn_picture **p = &s->pictures; *p; p = &(*p)->next)
            if (!(*p)->refs) {
                n++;
                if (!oldest || (*p)->used < (*oldest)->used)
                    oldest = p;
            }
        if (n <= KEEP_UNUSED)
            return;
        struct pn_picture *dead = *oldest;
        *oldest = dead->next;
        picture_free(dead);
    }
}

int pn_picture_get(puna_session *s, const void *bytes, size_t len, struct pn_picture **out,
                   struct puna_error *err)
{
    *out = NULL;
    if (!s->m->vision)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s is a text model: it takes no pictures",
                       s->m->src->path);
    uint8_t key[32];
    pn_sha256(key, bytes, len);
    key[0] ^= s->par.image.keep_orientation != 0; /* the same bytes may give other pixels */
    for (struct pn_picture *p = s->pictures; p; p = p->next)
        if (!memcmp(p->key, key, sizeof key)) {
            p->refs++;
            p->used = ++s->clock;
            *out = p;
            return 0;
        }
    struct pn_picture *p = calloc(1, sizeof *p);
    if (!p)
        return pn_fail_memory(err, sizeof *p, "a picture");
    memcpy(p->key, key, sizeof key);
    int32_t w, h;
    int rc = pn_picture_load(s->m, &s->par.image, bytes, len, &p->rgb, &p->tiling, &w, &h, err);
    if (rc) {
        picture_free(p);
        return rc;
    }
    p->refs = 1;
    p->used = ++s->clock;
    p->next = s->pictures;
    s->pictures = p;
    *out = p;
    return 0;
}

void pn_picture_unref(puna_session *s, struct pn_picture *p)
{
    p->refs--;
    trim(s);
}

void pn_pictures_free(puna_session *s)
{
    while (s->pictures) {
        struct pn_picture *p = s->pictures;
        s->pictures = p->next;
        picture_free(p);
    }
}

static void report(void *user, double done, double total)
{
    pn_session_report(user, "picture", done, total);
}

static size_t cross_total(const puna_session *s)
{
    size_t n = 0;
    for (const struct pn_picture *p = s->pictures; p; p = p->next)
        n += p->cross ? p->cross->bytes : 0;
    return n;
}

/* Drop keys and values that no row still to be computed can see, longest unused first, until `need` bytes fit:
 * pictures the conversation does not hold, then those before the last run. A rewind makes them again. */
static bool make_room(puna_session *s, size_t need)
{
    for (;;) {
        if (s->planned + cross_total(s) + need <= s->budget)
            return true;
        struct pn_picture *oldest = NULL;
        for (struct pn_picture *p = s->pictures; p; p = p->next) {
            bool needed = !p->cross;
            for (int32_t i = s->first_needed; i < s->n_placed; i++)
                needed |= s->placed[i] == p;
            if (!needed && (!oldest || (p->refs == 0) > (oldest->refs == 0) ||
                            ((p->refs == 0) == (oldest->refs == 0) && p->used < oldest->used)))
                oldest = p;
        }
        if (!oldest)
            return false;
        pn_cross_close(&oldest->cross);
    }
}

static double mib(size_t bytes)
{
    return (double)bytes / (1 << 20);
}

int pn_picture_encode(puna_session *s, struct pn_picture *p, struct puna_error *err)
{
    if (p->cross)
        return 0;
    const double t0 = pn_now();
    struct pn_model *m = s->m;
    const bool precise = s->par.precise, hf = s->par.hf_rows;
    const int32_t S = m->hp.v_image, n = p->tiling.tiles_h * p->tiling.tiles_w;
    bool full = s->par.full_tiles;
    int rc = pn_vision_must_be_full(m, p->tiling.ratio_id, n, &full, err);
    if (rc)
        return rc;
    const size_t need = pn_cross_bytes(m, s->kv_type, n, hf, full) +
                        pn_vision_scratch_bytes(m, n, precise, full, hf);
    if (!make_room(s, need))
        return pn_fail(err, PUNA_E_MEMORY,
                       "this picture needs %.1f MiB of memory beside the %.1f MiB in use, %.1f MiB can be had; "
                       "use a smaller context, fewer or smaller pictures, or --kv-type q8_0",
                       mib(need), mib(s->planned + cross_total(s)), mib(s->budget));
    float *pixels = pn_calloc_array((size_t)n * 3 * (size_t)S * (size_t)S, sizeof *pixels);
    if (!pixels)
        return pn_fail_memory(err, (size_t)n * 3 * (size_t)S * (size_t)S * sizeof *pixels, "a picture's tiles");
    struct pn_cross *cross = NULL;
    rc = pn_image_tiles(pixels, &p->rgb, &p->tiling, S, m->hp.mean, m->hp.std, err);
    if (!rc)
        rc = pn_cross_open(&cross, m, s->kv_type, n, hf, full, err);
    if (!rc) {
        const struct pn_vision_job job = {.pixels = pixels,
                                          .tiles_h = p->tiling.tiles_h,
                                          .tiles_w = p->tiling.tiles_w,
                                          .ratio_id = p->tiling.ratio_id,
                                          .precise = precise,
                                          .full = full,
                                          .kv_type = s->kv_type,
                                          .hf_rows = hf,
                                          .cross = cross,
                                          .observer = s->observer,
                                          .cancel = &s->cancel,
                                          .progress = report,
                                          .progress_user = s};
        rc = pn_vision_encode(m, &job, err);
    }
    pn_free(pixels);
    if (rc) {
        pn_cross_close(&cross);
        return rc;
    }
    p->cross = cross;
    s->n_encoded++;
    s->image_seconds += pn_now() - t0;
    return 0;
}
