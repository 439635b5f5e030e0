/* SPDX-License-Identifier: Apache-2.0 */
/* stb_image behind a door: PNG and BMP only, never the user's own bytes but a file that png.c or
 * bmp.c has checked and rebuilt. What that keeps away from stb_image: wrong CRCs (it does not
 * look), cut files (it reads zeros), short palettes (it reads indices past the end from its
 * stack), deflate bombs, BMP offsets and masks. GIF, where its open CVEs are (CVE-2023-45661 ...
 * 45667), is not compiled in; gif.c is our own. */
#include <string.h>

#include "base/mem.h"
#include "image/decode.h"

/* Zeroed memory: if it ever forgets a byte, the picture shows black and not somebody else's
 * data. */
static void *stb_realloc(void *p, size_t old_size, size_t new_size)
{
    uint8_t *q = pn_calloc_array(new_size, 1);
    if (q && p) {
        memcpy(q, p, old_size < new_size ? old_size : new_size);
        pn_free(p);
    }
    return q;
}

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#define STBI_MAX_DIMENSIONS PN_DEC_SIDE_CAP
#define STBI_ASSERT(x) ((void)(x))
#define STBI_MALLOC(n) pn_calloc_array((n), 1)
#define STBI_REALLOC_SIZED(p, old, n) stb_realloc((p), (old), (n))
#define STBI_REALLOC(p, n) stb_realloc((p), 0, (n)) /* defined because it must be; not called */
#define STBI_FREE(p) pn_free(p)

/* Not restored below: what it declares and does not define is noticed at the end of the file. */
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wcast-align"
#pragma GCC diagnostic ignored "-Wwrite-strings"
#include "stb_image.h" /* third_party/stb, or the system's: the build passes the folder */
#pragma GCC diagnostic pop

/* 16-bit channels to their high bytes, in place. stb_image would do it too, but loses the picture
 * when it cannot get the memory for a second one. */
static void halve(uint8_t *px, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t v;
        memcpy(&v, px + 2 * i, 2);
        px[i] = (uint8_t)(v >> 8);
    }
}

bool pn_stb_decode(struct pn_rgb *out, const uint8_t *bytes, size_t len, int n_comp, bool deep,
                   const char **reason)
{
    int w = 0, h = 0, n = 0;
    *reason = "larger than 2 GiB";
    if (len > INT32_MAX)
        return false;
    void *px = deep ? (void *)stbi_load_16_from_memory(bytes, (int)len, &w, &h, &n, n_comp)
                    : (void *)stbi_load_from_memory(bytes, (int)len, &w, &h, &n, n_comp);
    if (!px) {
        *reason = stbi_failure_reason();
        return false;
    }
    if (deep)
        halve(px, (size_t)w * (size_t)h * (size_t)n_comp);
    *out = (struct pn_rgb){.w = w, .h = h, .px = px};
    return true;
}
