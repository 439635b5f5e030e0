/* SPDX-License-Identifier: Apache-2.0 */
/* EXIF orientation, by libexif. */
#include <libexif/exif-data.h>

#include <stdlib.h>
#include <string.h>

#include "image/decode.h"

/* A JPEG segment cannot hold more; PNG and WebP can, but the first directory lies in front. The cap
 * bounds what libexif allocates: it keeps each known tag once, each no larger than the block. */
#define EXIF_MAX 65527

int pn_exif_orientation(const uint8_t *b, size_t n)
{
    static const uint8_t prefix[6] = {'E', 'x', 'i', 'f', 0, 0};
    if (n >= 6 && memcmp(b, prefix, 6) == 0) {
        b += 6;
        n -= 6;
    }
    /* libexif would search other data for a JPEG; only a TIFF head is let through. */
    if (n < 14 || (memcmp(b, "II*\0", 4) != 0 && memcmp(b, "MM\0*", 4) != 0))
        return 1;
    if (n > EXIF_MAX)
        n = EXIF_MAX;
    uint8_t *block = malloc(n + 6);
    ExifData *data = block ? exif_data_new() : NULL;
    int orientation = 1;
    if (data) {
        memcpy(block, prefix, 6);
        memcpy(block + 6, b, n);
        exif_data_unset_option(data, EXIF_DATA_OPTION_FOLLOW_SPECIFICATION);
        exif_data_set_option(data, EXIF_DATA_OPTION_IGNORE_UNKNOWN_TAGS);
        exif_data_load_data(data, block, (unsigned)(n + 6));
        const ExifEntry *e = exif_content_get_entry(data->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION);
        if (e && e->format == EXIF_FORMAT_SHORT && e->components == 1 && e->size >= 2) {
            const ExifShort v = exif_get_short(e->data, exif_data_get_byte_order(data));
            if (v >= 1 && v <= 8)
                orientation = v;
        }
        exif_data_unref(data);
    }
    free(block);
    return orientation;
}
