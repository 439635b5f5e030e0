/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures as the model sees them, back as bytes and in the terminal. */
#ifndef PN_CLI_SHOW_H
#define PN_CLI_SHOW_H

#include "cli/common.h"
#include "cli/prompt.h"

/* A tile's pixels, RGB [tile][tile][3]: exactly the bytes that were normalised. */
void tile_rgb(const struct puna_encoded *e, int32_t tile, const struct puna_model_info *info, uint8_t *rgb);

/* Draw the picture on standard error in half blocks, when that is a terminal with 256 colours or more; else, on any
 * terminal, its name and size. A picture that cannot be read is left to whoever asks the model about it. */
void show_picture(const puna_model *m, const struct picture *pic, const struct puna_image_params *params);

#endif
