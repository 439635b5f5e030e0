/* SPDX-License-Identifier: Apache-2.0 */
/* WebP by libwebp. The animation decoder reads stills too and puts a smaller first frame where it
 * belongs; Pillow uses the same one, so the pixels are equal. */
#include <string.h>
#include <webp/decode.h>
#include <webp/demux.h>

#include "base/err.h"
#include "image/decode.h"

/* Bytes the RIFF header promises that are not there. */
static bool cut_short(const struct pn_dec *d)
{
    return d->n < 20 || (uint64_t)pn_le32(d->b + 4) + 8 > d->n;
}

static void find_orientation(const WebPAnimDecoder *dec, struct pn_dec *d)
{
    WebPChunkIterator it;
    if (WebPDemuxGetChunk(WebPAnimDecoderGetDemuxer(dec), "EXIF", 1, &it)) {
        d->orientation = pn_exif_orientation(it.chunk.bytes, it.chunk.size);
        WebPDemuxReleaseChunkIterator(&it);
    }
}

static int decode_first(struct pn_rgb *out, struct pn_dec *d, WebPAnimDecoder *dec)
{
    WebPAnimInfo info;
    uint8_t *rgba;
    int when;
    if (!WebPAnimDecoderGetInfo(dec, &info) || (int32_t)info.canvas_width != out->w ||
        (int32_t)info.canvas_height != out->h || !WebPAnimDecoderGetNext(dec, &rgba, &when))
        return pn_fail(d->err, PUNA_E_FORMAT, "WebP: the picture data is damaged; copy or download "
                       "the file again");
    const size_t n = (size_t)out->w * (size_t)out->h;
    pn_on_white(rgba, n); /* the decoder's own canvas, of which nothing else is wanted */
    memcpy(out->px, rgba, 3 * n);
    find_orientation(dec, d);
    return PUNA_OK;
}

int pn_webp_decode(struct pn_rgb *out, struct pn_dec *d)
{
    int w, h;
    if (cut_short(d))
        return pn_dec_truncated(d, "WebP", "the picture data");
    if (!WebPGetInfo(d->b, d->n, &w, &h))
        return pn_fail(d->err, PUNA_E_FORMAT, "WebP: the header is damaged; copy or download the "
                       "file again");
    const int rc = pn_dec_begin(out, d, "WebP", w, h);
    if (rc < 0)
        return rc;
    WebPAnimDecoderOptions opts;
    if (!WebPAnimDecoderOptionsInit(&opts))
        return pn_fail(d->err, PUNA_E_UNSUPPORTED, "WebP: this libwebpdemux is not the version "
                       "puna was built with; install the matching one");
    opts.color_mode = MODE_RGBA;
    opts.use_threads = 0; /* the CPU limit counts this thread */
    const WebPData data = {.bytes = d->b, .size = d->n};
    WebPAnimDecoder *dec = WebPAnimDecoderNew(&data, &opts);
    if (!dec)
        return pn_fail(d->err, PUNA_E_FORMAT, "WebP: the file is damaged, or memory is short for "
                       "%d x %d pixels", w, h);
    const int rc2 = decode_first(out, d, dec);
    WebPAnimDecoderDelete(dec);
    return rc2;
}
