/* SPDX-License-Identifier: Apache-2.0 */
/* First frame of a GIF. Our own reader and not stb_image's: that one draws cut files without a
 * word, gives up on pictures that never clear their code table, and has open CVEs. What is drawn
 * follows Pillow: transparent pixels are white, what the frame does not cover is transparent, or
 * colour 0 if the file has no transparency; without any palette an index is a grey value. */
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "image/decode.h"

enum { MAX_CODES = 4096 };

struct gif {
    const struct pn_dec *d;
    size_t at;       /* next byte of the file */
    int transparent; /* index, or -1 */
    const uint8_t *palette;
    size_t n_colors; /* of the palette */
};

/* Bits of the picture data, out of sub-blocks of at most 255 bytes. */
struct bits {
    struct gif *g;
    size_t left; /* bytes left in this sub-block */
    uint32_t acc;
    int n_acc;
    bool ended; /* terminator seen, or the file is over */
};

static int cut(const struct gif *g, const char *where)
{
    return pn_dec_truncated(g->d, "GIF", where);
}

static bool has(const struct gif *g, size_t n)
{
    return g->d->n - g->at >= n;
}

static bool next_byte(struct bits *s, uint8_t *v)
{
    struct gif *g = s->g;
    if (s->left == 0) {
        if (s->ended || !has(g, 1) || g->d->b[g->at] == 0) {
            s->ended = true;
            return false;
        }
        s->left = g->d->b[g->at++];
    }
    if (!has(g, 1)) {
        s->ended = true;
        return false;
    }
    *v = g->d->b[g->at++];
    s->left--;
    return true;
}

/* Next code of n bits, or -1 at the end of the data. */
static int next_code(struct bits *s, int n)
{
    while (s->n_acc < n) {
        uint8_t v;
        if (!next_byte(s, &v))
            return -1;
        s->acc |= (uint32_t)v << s->n_acc;
        s->n_acc += 8;
    }
    const int code = (int)(s->acc & ((1u << n) - 1));
    s->acc >>= n;
    s->n_acc -= n;
    return code;
}

/* A string of the LZW table is the string of its prefix and one more index. */
struct lzw {
    uint16_t prefix[MAX_CODES];
    uint8_t last[MAX_CODES], first[MAX_CODES];
    uint8_t stack[MAX_CODES];
};

/* Fills idx[n] with colour indices. */
static int unpack(struct gif *g, uint8_t *idx, size_t n, int min_bits)
{
    const int clear = 1 << min_bits, end = clear + 1;
    struct bits s = {.g = g};
    struct lzw t;
    for (int i = 0; i < clear; i++) {
        t.prefix[i] = 0;
        t.last[i] = t.first[i] = (uint8_t)i;
    }
    int width = min_bits + 1, next = clear + 2, before = -1;
    size_t done = 0, checked = 0;
    while (done < n) {
        const int code = next_code(&s, width);
        if (code < 0 || code == end)
            return cut(g, "the picture data");
        if (g->at - checked > 65536) {
            checked = g->at;
            if (pn_dec_late(g->d))
                return pn_dec_too_slow(g->d, "GIF");
        }
        if (code == clear) {
            width = min_bits + 1;
            next = clear + 2;
            before = -1;
            continue;
        }
        /* A code may be the one that this very step defines, no later one. */
        if (code > next || (code == next && (before < 0 || next == MAX_CODES)) ||
            (before < 0 && code > end))
            return pn_fail(g->d->err, PUNA_E_FORMAT, "GIF: the compressed data is wrong; the file "
                           "is damaged, copy or download it again");
        if (before >= 0 && next < MAX_CODES) {
            t.prefix[next] = (uint16_t)before;
            t.first[next] = t.first[before];
            t.last[next] = t.first[code == next ? before : code];
            next++;
            if (next == 1 << width && width < 12)
                width++;
        }
        size_t depth = 0;
        int c = code;
        for (; c > end; c = t.prefix[c]) /* prefixes are always smaller: this ends */
            t.stack[depth++] = t.last[c];
        t.stack[depth++] = (uint8_t)c;
        while (depth > 0 && done < n)
            idx[done++] = t.stack[--depth];
        before = code;
    }
    return PUNA_OK;
}

static bool skip_blocks(struct gif *g)
{
    while (has(g, 1)) {
        const size_t n = g->d->b[g->at++];
        if (n == 0)
            return true;
        if (!has(g, n))
            return false;
        g->at += n;
    }
    return false;
}

static bool take_palette(struct gif *g, uint8_t flags)
{
    const size_t n = (size_t)2 << (flags & 7);
    if (!has(g, 3 * n))
        return false;
    g->palette = g->d->b + g->at;
    g->n_colors = n;
    g->at += 3 * n;
    return true;
}

/* Up to the first image descriptor; g->at is then behind its ','. */
static int find_frame(struct gif *g)
{
    for (;;) {
        if (!has(g, 1))
            return cut(g, "front of the first picture");
        const uint8_t kind = g->d->b[g->at++];
        if (kind == ',')
            return PUNA_OK;
        if (kind == ';')
            return pn_fail(g->d->err, PUNA_E_FORMAT, "GIF: there is no picture in the file");
        if (kind != '!') /* Pillow, too, passes over bytes between blocks */
            continue;
        if (!has(g, 1))
            return cut(g, "an extension");
        const uint8_t label = g->d->b[g->at++];
        if (label == 0xf9 && has(g, 5) && g->d->b[g->at] >= 4)
            g->transparent = (g->d->b[g->at + 1] & 1) ? g->d->b[g->at + 4] : -1;
        if (!skip_blocks(g))
            return cut(g, "an extension");
    }
}

static void make_colors(const struct gif *g, uint8_t colors[256][3])
{
    memset(colors, 0, 3 * (size_t)256);
    for (size_t i = 0; i < 256; i++) {
        if (!g->palette)
            memset(colors[i], (int)i, 3);
        else if (i < g->n_colors)
            memcpy(colors[i], g->palette + 3 * i, 3);
    }
    if (g->transparent >= 0)
        memset(colors[g->transparent], 255, 3);
}

struct frame {
    size_t x, y, w, h;
    bool interlaced;
};

static size_t row_of(size_t i, const struct frame *f)
{
    static const uint8_t start[4] = {0, 4, 2, 1}, step[4] = {8, 8, 4, 2};
    if (!f->interlaced)
        return i;
    for (int pass = 0; pass < 4; pass++) {
        const size_t rows = (f->h + step[pass] - 1 - start[pass]) / step[pass];
        if (i < rows)
            return start[pass] + i * step[pass];
        i -= rows;
    }
    return 0; /* not reached: the passes have h rows together */
}

static int draw(struct gif *g, struct pn_rgb *out, const struct frame *f, int min_bits)
{
    uint8_t colors[256][3];
    make_colors(g, colors);
    const size_t w = (size_t)out->w, h = (size_t)out->h;
    uint8_t *idx = pn_calloc_array(f->w * f->h, 1); /* not more than out has */
    if (!idx)
        return pn_fail_memory(g->d->err, f->w * f->h, "decoding a GIF");
    const int rc = unpack(g, idx, f->w * f->h, min_bits);
    if (rc == PUNA_OK) {
        const uint8_t *back = colors[g->transparent >= 0 ? g->transparent : 0];
        for (size_t i = 0; i < w * h; i++)
            memcpy(out->px + 3 * i, back, 3);
        for (size_t i = 0; i < f->h; i++) {
            uint8_t *o = out->px + 3 * (w * (f->y + row_of(i, f)) + f->x);
            for (size_t x = 0; x < f->w; x++)
                memcpy(o + 3 * x, colors[idx[i * f->w + x]], 3);
        }
    }
    pn_free(idx);
    return rc;
}

int pn_gif_decode(struct pn_rgb *out, struct pn_dec *d)
{
    struct gif g = {.d = d, .at = 13, .transparent = -1};
    if (d->n < 13)
        return cut(&g, "the header");
    size_t w = pn_le16(d->b + 6), h = pn_le16(d->b + 8);
    if ((d->b[10] & 0x80) && !take_palette(&g, d->b[10]))
        return cut(&g, "the palette");
    int rc = find_frame(&g);
    if (rc < 0)
        return rc;
    if (!has(&g, 9))
        return cut(&g, "the frame header");
    const uint8_t *p = d->b + g.at;
    g.at += 9;
    const struct frame f = {pn_le16(p), pn_le16(p + 2), pn_le16(p + 4), pn_le16(p + 6),
                            (p[8] & 0x40) != 0};
    if ((p[8] & 0x80) && !take_palette(&g, p[8]))
        return cut(&g, "the palette");
    if (!has(&g, 1))
        return cut(&g, "the picture data");
    const int min_bits = d->b[g.at++];
    if (f.w == 0 || f.h == 0 || min_bits < 1 || min_bits > 8)
        return pn_fail(d->err, PUNA_E_FORMAT, "GIF: the first frame's header is wrong; the file is "
                       "damaged");
    /* A frame that sticks out makes the picture larger. */
    w = f.x + f.w > w ? f.x + f.w : w;
    h = f.y + f.h > h ? f.y + f.h : h;
    rc = pn_dec_begin(out, d, "GIF", (int64_t)w, (int64_t)h);
    return rc < 0 ? rc : draw(&g, out, &f, min_bits);
}
