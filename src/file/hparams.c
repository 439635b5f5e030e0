/* SPDX-License-Identifier: Apache-2.0 */
#include "file/hparams.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/err.h"

void pn_hparams_init(struct pn_hparams *hp)
{
    *hp = (struct pn_hparams){
        .bos = -1, .pad = -1, .image_token = -1,
        .do_sample = true, .temperature = 0.6f, .top_p = 0.9f, .top_k = 0,
        .mean = { 0.48145466f, 0.4578275f, 0.40821073f },
        .std = { 0.26862954f, 0.26130258f, 0.27577711f },
    };
}

void pn_hparams_ratios(struct pn_hparams *hp)
{
    hp->n_ratio = 0;
    for (int32_t h = 1; h <= hp->v_tiles; h++) {
        for (int32_t w = 1; h * w <= hp->v_tiles && hp->n_ratio < PN_MAX_RATIOS; w++) {
            hp->ratio_h[hp->n_ratio] = h;
            hp->ratio_w[hp->n_ratio] = w;
            hp->n_ratio++;
        }
    }
}

void pn_hparams_sort_inter(struct pn_hparams *hp)
{
    for (int32_t i = 1; i < hp->n_inter; i++) {
        const int32_t v = hp->v_inter[i];
        int32_t k = i;
        for (; k > 0 && hp->v_inter[k - 1] > v; k--)
            hp->v_inter[k] = hp->v_inter[k - 1];
        hp->v_inter[k] = v;
    }
}

bool pn_hparams_add_eos(struct pn_hparams *hp, int32_t id)
{
    if (id < 0)
        return true;
    for (int32_t i = 0; i < hp->n_eos; i++) {
        if (hp->eos[i] == id)
            return true;
    }
    if (hp->n_eos == PN_MAX_EOS)
        return false;
    hp->eos[hp->n_eos++] = id;
    return true;
}

struct checker {
    const char *label;
    struct puna_error *err;
    int rc;
};

static void in_range(struct checker *c, const char *what, int64_t v, int64_t min, int64_t max)
{
    if (c->rc == 0 && (v < min || v > max))
        c->rc = pn_fail(c->err, PUNA_E_FORMAT, "%s: %s is %" PRId64 "; %" PRId64 " to %" PRId64
                        " is possible", c->label, what, v, min, max);
}

static void divides(struct checker *c, const char *what, int32_t v, const char *by_what, int32_t by)
{
    if (c->rc == 0 && v % by != 0)
        c->rc = pn_fail(c->err, PUNA_E_FORMAT, "%s: %s %" PRId32 " is not a multiple of %s%" PRId32,
                        c->label, what, v, by_what, by);
}

static void positive(struct checker *c, const char *what, float v, float below)
{
    if (c->rc == 0 && !(v > 0 && v < below))
        c->rc = pn_fail(c->err, PUNA_E_FORMAT, "%s: %s is %g; it must be positive and below %g",
                        c->label, what, (double)v, (double)below);
}

static void check_text(struct checker *c, const struct pn_hparams *hp)
{
    in_range(c, "the number of layers", hp->n_layer, 1, PN_MAX_LAYERS);
    in_range(c, "the model's width", hp->d_model, 1, PN_MAX_WIDTH);
    in_range(c, "the number of attention heads", hp->n_head, 1, PN_MAX_HEADS);
    in_range(c, "the number of key/value heads", hp->n_kv_head, 1, PN_MAX_HEADS);
    in_range(c, "the head size", hp->head_dim, 2, PN_MAX_HEAD_DIM);
    in_range(c, "the feed-forward width", hp->d_ff, 1, PN_MAX_FF);
    in_range(c, "the vocabulary size", hp->n_vocab, 1, PN_MAX_VOCAB);
    in_range(c, "the number of embedding rows", hp->n_embd_rows, hp->n_vocab, PN_MAX_VOCAB);
    in_range(c, "the context length", hp->n_ctx_train, 1, PN_MAX_CTX);
    if (c->rc)
        return;
    divides(c, "the number of attention heads", hp->n_head, "that of key/value heads, ",
            hp->n_kv_head);
    divides(c, "the head size", hp->head_dim, "", 2);
    positive(c, "the RMSNorm epsilon", hp->rms_eps, 1);
    positive(c, "the RoPE base", hp->rope_theta, 1e15f);
    if (!hp->rope_scaled)
        return;
    positive(c, "the RoPE scaling factor", hp->rope_factor, 1e6f);
    positive(c, "the RoPE low frequency factor", hp->rope_low, 1e6f);
    positive(c, "the RoPE high frequency factor", hp->rope_high, 1e6f);
    in_range(c, "the RoPE scaling's original context", hp->rope_orig_ctx, 1, PN_MAX_CTX);
    if (c->rc == 0 && hp->rope_high <= hp->rope_low)
        c->rc = pn_fail(c->err, PUNA_E_FORMAT, "%s: the RoPE high frequency factor %g is not above "
                        "the low one %g", c->label, (double)hp->rope_high, (double)hp->rope_low);
}

static void check_vision(struct checker *c, const struct pn_hparams *hp)
{
    in_range(c, "the tile size", hp->v_image, 1, PN_MAX_IMAGE);
    in_range(c, "the patch size", hp->v_patch, 1, hp->v_image);
    in_range(c, "the number of picture channels", hp->v_channels, 3, 3);
    in_range(c, "the vision width", hp->v_dim, 1, PN_MAX_WIDTH);
    in_range(c, "the number of vision heads", hp->v_head, 1, PN_MAX_HEADS);
    in_range(c, "the vision feed-forward width", hp->v_ff, 1, PN_MAX_FF);
    in_range(c, "the number of vision layers", hp->v_layer, 1, PN_MAX_VLAYERS);
    in_range(c, "the number of global vision layers", hp->v_global, 1, PN_MAX_VLAYERS);
    in_range(c, "the largest number of tiles", hp->v_tiles, 1, PN_MAX_TILES);
    in_range(c, "the number of aspect ratios", hp->n_ratio, 1, PN_MAX_RATIOS);
    in_range(c, "the number of intermediate layers", hp->n_inter, 0, PN_MAX_INTER);
    in_range(c, "the number of cross-attention layers", hp->n_cross, 1, hp->n_layer);
    if (c->rc)
        return;
    divides(c, "the tile size", hp->v_image, "the patch size, ", hp->v_patch);
    divides(c, "the vision width", hp->v_dim, "the number of vision heads, ", hp->v_head);
    in_range(c, "the vision head size", hp->v_dim / hp->v_head, 1, PN_MAX_HEAD_DIM);
    positive(c, "the vision LayerNorm epsilon", hp->v_eps, 1);
    for (int32_t i = 0; i < hp->n_inter; i++)
        in_range(c, "an entry of the sorted list of intermediate layers", hp->v_inter[i],
                 i ? hp->v_inter[i - 1] + 1 : 0, hp->v_layer - 1);
    for (int32_t i = 0; i < hp->n_ratio; i++) {
        const int32_t h = hp->ratio_h[i], w = hp->ratio_w[i];
        in_range(c, "an aspect ratio's height in tiles", h, 1, hp->v_tiles);
        in_range(c, "an aspect ratio's width in tiles", w, 1, hp->v_tiles);
        in_range(c, "an aspect ratio's number of tiles", (int64_t)h * w, 1, hp->v_tiles);
        for (int32_t k = 0; c->rc == 0 && k < i; k++) {
            if (hp->ratio_h[k] == h && hp->ratio_w[k] == w)
                c->rc = pn_fail(c->err, PUNA_E_FORMAT, "%s: the aspect ratio %" PRId32 "x%" PRId32
                                " is listed twice", c->label, h, w);
        }
    }
    for (int i = 0; i < 3; i++) {
        positive(c, "a picture normalisation's standard deviation", hp->std[i], 1e6f);
        if (c->rc == 0 && !(fabsf(hp->mean[i]) < 1e6f))
            c->rc = pn_fail(c->err, PUNA_E_FORMAT, "%s: a picture normalisation's mean is %g",
                            c->label, (double)hp->mean[i]);
    }
}

int pn_hparams_check(const struct pn_hparams *hp, const char *label, struct puna_error *err)
{
    struct checker c = { .label = label, .err = err };
    check_text(&c, hp);
    if (hp->vision)
        check_vision(&c, hp);
    const int64_t last = (int64_t)hp->n_embd_rows - 1;
    in_range(&c, "the token id of begin-of-text", hp->bos, -1, last);
    in_range(&c, "the token id of padding", hp->pad, -1, last);
    in_range(&c, "the token id of a picture", hp->image_token, hp->vision ? 0 : -1, last);
    for (int32_t i = 0; i < hp->n_eos; i++)
        in_range(&c, "a token id that ends an answer", hp->eos[i], 0, last);
    return c.rc;
}
