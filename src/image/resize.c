/* SPDX-License-Identifier: Apache-2.0 */
/* Pillow's BILINEAR on 8-bit pixels, bit for bit: a triangle filter as wide as the shrink
 * factor, weights in fixed point with 22 fraction bits, rows first into 8 bits, then columns.
 *
 * The weights come from double arithmetic in one certain order; the build must not contract
 * a*b+c to fma (-ffp-contract=off, or any -std=c11), or single bytes come out different.
 *
 * Pillow 13 filters columns first where that is less work, which moves some bytes by 1; the model's
 * processor was made with, and is compared to, the order that held until 12.0. */
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "image/image.h"
#include "kern/kern.h"

enum { FRACTION = 22 };

/* No sum overflows for any length: rounding to at least 1 at most doubles a weight, so that the weights add
 * up to at most 2^23, and 255 * 2^23 + 2^21 < 2^31.
 *
 * Output i is the sum of weight[i*size + j] * input[first[i] + j], j < count[i]. */
struct taps {
    int32_t *first, *count, *weight;
    size_t size;
};

static void taps_free(struct taps *t)
{
    pn_free(t->first);
    pn_free(t->count);
    pn_free(t->weight);
}

static double triangle(double x)
{
    if (x < 0.0)
        x = -x;
    return x < 1.0 ? 1.0 - x : 0.0;
}

static int taps_make(struct taps *t, int32_t in, int32_t out, struct puna_error *err)
{
    const double scale = (double)in / out;
    const double support = scale < 1.0 ? 1.0 : scale;
    const double step = 1.0 / support;
    const int32_t whole = (int32_t)support;
    t->size = 2 * ((size_t)whole + ((double)whole < support)) + 1;
    double *w = pn_calloc_array(t->size, sizeof *w);
    t->first = pn_calloc_array((size_t)out, sizeof *t->first);
    t->count = pn_calloc_array((size_t)out, sizeof *t->count);
    size_t n;
    t->weight = NULL;
    if (pn_mul_size((size_t)out, t->size, &n))
        t->weight = pn_calloc_array(n, sizeof *t->weight);
    if (!w || !t->first || !t->count || !t->weight) {
        pn_free(w);
        taps_free(t);
        return pn_fail_memory(err, (size_t)out * t->size * sizeof *t->weight, "resizing a picture");
    }
    for (int32_t i = 0; i < out; i++) {
        const double center = (i + 0.5) * scale;
        int32_t lo = (int32_t)(center - support + 0.5);
        int32_t hi = (int32_t)(center + support + 0.5);
        lo = lo < 0 ? 0 : lo;
        hi = hi > in ? in : hi;
        double sum = 0.0;
        for (int32_t j = 0; j < hi - lo; j++) {
            w[j] = triangle((j + lo - center + 0.5) * step);
            sum += w[j];
        }
        int32_t *k = t->weight + (size_t)i * t->size;
        for (int32_t j = 0; j < hi - lo; j++) {
            const double v = sum != 0.0 ? w[j] / sum : w[j];
            k[j] = (int32_t)(0.5 + v * (1 << FRACTION)); /* v >= 0 */
        }
        t->first[i] = lo;
        t->count[i] = hi - lo;
    }
    pn_free(w);
    return PUNA_OK;
}

static int pass(struct pn_rgb *out, const struct pn_rgb *src, int32_t w, int32_t h, bool vertical,
                const struct pn_kern *kern, struct puna_error *err)
{
    struct taps t = {0};
    *out = (struct pn_rgb){.w = w, .h = h};
    const int rc = taps_make(&t, vertical ? src->h : src->w, vertical ? h : w, err);
    if (rc < 0)
        return rc;
    size_t n;
    out->px = pn_mul_size((size_t)w, (size_t)h, &n) ? pn_calloc_array(n, 3) : NULL;
    if (!out->px) {
        taps_free(&t);
        *out = (struct pn_rgb){0};
        return pn_fail_memory(err, (size_t)w * (size_t)h * 3, "a resized picture");
    }
    const size_t src_stride = 3 * (size_t)src->w, stride = 3 * (size_t)w;
    for (int32_t y = 0; y < h; y++) {
        uint8_t *o = out->px + (size_t)y * stride;
        if (vertical)
            kern->resize_down(o, src->px + (size_t)t.first[y] * src_stride, src_stride, stride,
                              t.weight + (size_t)y * t.size, t.count[y]);
        else
            kern->resize_across(o, src->px + (size_t)y * src_stride, w, src->w, t.first, t.count, t.weight,
                                t.size);
    }
    taps_free(&t);
    return PUNA_OK;
}

int pn_resize(struct pn_rgb *out, const struct pn_rgb *src, int32_t w, int32_t h,
              const struct pn_kern *kern, struct puna_error *err)
{
    struct pn_kern scalar;
    if (kern == NULL) {
        pn_kern_init_scalar(&scalar);
        kern = &scalar;
    }
    *out = (struct pn_rgb){0};
    if (w <= 0 || h <= 0 || src->w <= 0 || src->h <= 0)
        return pn_fail(err, PUNA_E_ARG, "resize: %d x %d to %d x %d: sizes must be positive",
                       (int)src->w, (int)src->h, (int)w, (int)h);
    if (w != src->w && h != src->h) {
        struct pn_rgb mid;
        int rc = pass(&mid, src, w, src->h, false, kern, err);
        if (rc == PUNA_OK) {
            rc = pass(out, &mid, w, h, true, kern, err);
            pn_rgb_free(&mid);
        }
        return rc;
    }
    if (w != src->w)
        return pass(out, src, w, h, false, kern, err);
    if (h != src->h)
        return pass(out, src, w, h, true, kern, err);
    const size_t n = (size_t)w * (size_t)h;
    out->px = pn_calloc_array(n, 3);
    if (!out->px)
        return pn_fail_memory(err, 3 * n, "a resized picture");
    memcpy(out->px, src->px, 3 * n);
    out->w = w;
    out->h = h;
    return PUNA_OK;
}
