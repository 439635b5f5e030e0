/* SPDX-License-Identifier: Apache-2.0 */
/* JPEG by libjpeg-turbo with its default settings, which are Pillow's: accurate integer DCT, fancy
 * upsampling, block smoothing. The pixels are equal to Pillow's to the bit. */
#include <stdio.h> /* jpeglib.h needs it first */

#include <jpeglib.h>
#include <jerror.h>
#include <setjmp.h>
#include <string.h>

#include "base/err.h"
#include "image/decode.h"

/* More than any real progressive file has (about 10); each scan may visit every block again. */
#define MAX_SCANS 500

/* Everything libjpeg's callbacks need. They get back to it from cinfo->client_data. */
struct job {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    struct pn_dec *dec;
    struct pn_rgb *out;
    int status; /* the error already reported, or 0 */
};

static void on_error(j_common_ptr cinfo)
{
    struct job *job = cinfo->client_data;
    if (job->status == 0) {
        char text[JMSG_LENGTH_MAX];
        cinfo->err->format_message(cinfo, text);
        int code = PUNA_E_FORMAT;
        switch (cinfo->err->msg_code) {
        case JERR_OUT_OF_MEMORY:
            code = PUNA_E_MEMORY;
            break;
        case JERR_ARITH_NOTIMPL:
        case JERR_BAD_PRECISION:
        case JERR_CONVERSION_NOTIMPL:
        case JERR_SOF_UNSUPPORTED:
            code = PUNA_E_UNSUPPORTED;
            break;
        case JERR_IMAGE_TOO_BIG:
            code = PUNA_E_LIMIT;
            break;
        default:
            break;
        }
        job->status = pn_fail(job->dec->err, code, "JPEG: %s", text);
    }
    longjmp(job->escape, 1);
}

/* Warnings (level < 0) are ignored as Pillow ignores them: the picture is complete but damaged
 * here and there. The exception is the end of the data, where libjpeg would go on with a made-up
 * end marker and grey pixels. */
static void on_message(j_common_ptr cinfo, int level)
{
    struct job *job = cinfo->client_data;
    if (level < 0 && cinfo->err->msg_code == JWRN_JPEG_EOF) {
        job->status = pn_dec_truncated(job->dec, "JPEG", "the picture data");
        longjmp(job->escape, 1);
    }
}

static void no_output(j_common_ptr cinfo)
{
    (void)cinfo;
}

/* libjpeg calls this for every row of blocks of every scan. */
static void on_progress(j_common_ptr cinfo)
{
    struct job *job = cinfo->client_data;
    if (job->cinfo.input_scan_number > MAX_SCANS) {
        job->status = pn_fail(job->dec->err, PUNA_E_LIMIT, "JPEG: more than %d scans; save the "
                              "picture again with another program", MAX_SCANS);
        longjmp(job->escape, 1);
    }
    if (pn_dec_late(job->dec)) {
        job->status = pn_dec_too_slow(job->dec, "JPEG");
        longjmp(job->escape, 1);
    }
}

/* The first EXIF segment, without letting libjpeg keep copies of all of them. */
static int find_orientation(const uint8_t *b, size_t n)
{
    size_t at = 2;
    while (at + 4 <= n && b[at] == 0xff) {
        const uint8_t marker = b[at + 1];
        if (marker == 0xff) { /* fill byte */
            at++;
            continue;
        }
        if (marker == 0xda || marker == 0xd9 || marker < 0xc0)
            break;
        const size_t len = pn_be16(b + at + 2);
        if (len < 2 || len > n - at - 2)
            break;
        if (marker == 0xe1 && len >= 8 && memcmp(b + at + 4, "Exif\0\0", 6) == 0)
            return pn_exif_orientation(b + at + 4, len - 2);
        at += 2 + len;
    }
    return 1;
}

static void read_rgb(struct job *job)
{
    const size_t stride = 3 * (size_t)job->out->w;
    while (job->cinfo.output_scanline < job->cinfo.output_height) {
        JSAMPROW row = job->out->px + stride * job->cinfo.output_scanline;
        (void)jpeg_read_scanlines(&job->cinfo, &row, 1);
    }
}

static void read_grey(struct job *job)
{
    const size_t w = (size_t)job->out->w;
    while (job->cinfo.output_scanline < job->cinfo.output_height) {
        uint8_t *px = job->out->px + 3 * w * job->cinfo.output_scanline;
        JSAMPROW row = px + 2 * w; /* read into the last third, spread from the front */
        (void)jpeg_read_scanlines(&job->cinfo, &row, 1);
        for (size_t x = 0; x < w; x++) {
            const uint8_t v = row[x];
            px[3 * x] = v;
            px[3 * x + 1] = v;
            px[3 * x + 2] = v;
        }
    }
}

/* Adobe writes CMYK inverted and everybody follows; Pillow takes every four-component JPEG that
 * way. With ink i = 255 - stored: rgb = (255 - k) - c * (255 - k) / 255, rounded. */
static void read_cmyk(struct job *job)
{
    const size_t w = (size_t)job->out->w;
    JSAMPARRAY line = job->cinfo.mem->alloc_sarray((j_common_ptr)&job->cinfo, JPOOL_IMAGE,
                                                   (JDIMENSION)(4 * w), 1);
    while (job->cinfo.output_scanline < job->cinfo.output_height) {
        uint8_t *px = job->out->px + 3 * w * job->cinfo.output_scanline;
        (void)jpeg_read_scanlines(&job->cinfo, line, 1);
        for (size_t x = 0; x < w; x++) {
            const uint32_t nk = line[0][4 * x + 3];
            for (size_t c = 0; c < 3; c++) {
                const uint32_t t = (255u - line[0][4 * x + c]) * nk + 128u;
                const uint32_t ink = ((t >> 8) + t) >> 8;
                px[3 * x + c] = (uint8_t)(nk > ink ? nk - ink : 0);
            }
        }
    }
}

/* Nothing local is needed after a longjmp: all state is in the job. */
static int decode(struct job *job)
{
    struct jpeg_decompress_struct *const c = &job->cinfo;
    if (setjmp(job->escape) != 0)
        return job->status;
    jpeg_create_decompress(c);
    c->progress = &job->progress;
    jpeg_mem_src(c, job->dec->b, job->dec->n);
    (void)jpeg_read_header(c, TRUE);
    switch (c->num_components) {
    case 1: c->out_color_space = JCS_GRAYSCALE; break;
    case 3: c->out_color_space = JCS_RGB; break;
    case 4: c->out_color_space = JCS_CMYK; break;
    default:
        return pn_fail(job->dec->err, PUNA_E_UNSUPPORTED, "JPEG: %d colour components; save it as "
                       "RGB or grey", c->num_components);
    }
    const int rc = pn_dec_begin(job->out, job->dec, "JPEG", c->image_width, c->image_height);
    if (rc < 0)
        return rc;
    (void)jpeg_start_decompress(c);
    if (c->num_components == 1)
        read_grey(job);
    else if (c->num_components == 3)
        read_rgb(job);
    else
        read_cmyk(job);
    (void)jpeg_finish_decompress(c);
    return PUNA_OK;
}

int pn_jpeg_decode(struct pn_rgb *out, struct pn_dec *d)
{
    struct job job = {.dec = d, .out = out};
    job.cinfo.err = jpeg_std_error(&job.errors);
    job.cinfo.client_data = &job;
    job.errors.error_exit = on_error;
    job.errors.emit_message = on_message;
    job.errors.output_message = no_output;
    job.progress.progress_monitor = on_progress;
    const int rc = decode(&job);
    jpeg_destroy_decompress(&job.cinfo);
    if (rc == PUNA_OK)
        d->orientation = find_orientation(d->b, d->n);
    return rc;
}
