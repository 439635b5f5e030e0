/* SPDX-License-Identifier: Apache-2.0 */
/* The official Llama 3.2 Vision Instruct chat template, built in: byte for byte what Hugging Face's
 * apply_chat_template renders, corners included.
 *
 * CONTENT
 *   A message without pictures whose is_list is 0 is a string: the texts of its parts, one after
 *   the other. With a picture, or with is_list, it is a list. The template prints a list as a
 *   Python repr where it expects a string: in the system message, and in the first message when
 *   tools are put into it (which loses that message's pictures: compare the image spans with the
 *   pictures given).
 * TOOLS
 *   "tool" and "ipython" messages are printed as JSON, a string as a quoted one. A message with
 *   tool_name is a tool call, whatever its role and parts.
 *
 * Beyond the template:
 * SYSTEM_IN_USER
 *   With pictures the template refuses a system message that is not blank. This puts its trimmed
 *   text into the first user message: behind the pictures that stand before its first text, an
 *   empty line between the two texts. Without pictures: no effect.
 * NO_BOS
 *   A later turn: no <|begin_of_text|>; and the system block, which every rendering without
 *   pictures begins with, only if the messages begin with a system message or the tools go there
 *   (tools_in_system). */
#ifndef PN_TEXT_CHAT_H
#define PN_TEXT_CHAT_H

#include <puna.h>

#include "base/mem.h"
#include "text/vocab.h"

/* The rendered prompt, and where its control tokens lie: only these spans may become special
 * tokens; everything else is text, whatever it looks like. */
struct pn_span {
    size_t off, len;
    bool image; /* this span is <|image|> */
};
struct pn_chat_text {
    struct pn_buf text;
    struct pn_span *spans;
    size_t n_spans, cap_spans;
};
void pn_chat_text_free(struct pn_chat_text *t);

/* Render messages by the template (reference/llama-3.2-vision.md section 5.3). opts NULL: defaults.
 * PUNA_E_ARG with the template's own sentence for what it refuses (system message with a picture
 * ...). */
int pn_chat_render(struct pn_chat_text *out, const struct puna_message *messages, size_t n,
                   const struct puna_chat_opts *opts, struct puna_error *err);
/* ids of a rendered prompt: spans as specials (must exist in v), the rest as plain text, where text
 * between two spans is one piece for the BPE. */
int pn_chat_encode(const struct pn_vocab *v, const struct pn_chat_text *t, struct pn_ids *out,
                   struct puna_error *err);

#endif
