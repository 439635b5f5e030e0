/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/err.h"
#include "text/chat.h"

int64_t puna_tokenize(const puna_model *m, const char *text, size_t len, int special, int32_t *ids,
                      size_t cap, struct puna_error *err)
{
    struct pn_ids l = {0};
    const int rc = pn_vocab_encode(m->vocab, text, len, special != 0, &l, err);
    const int64_t n = rc ? rc : (int64_t)l.len;
    if (!rc && cap && l.len)
        memcpy(ids, l.v, (l.len < cap ? l.len : cap) * sizeof *ids);
    pn_ids_free(&l);
    return n;
}

const char *puna_token_bytes(const puna_model *m, int32_t id, size_t *len)
{
    return pn_vocab_piece(m->vocab, id, len);
}

int puna_token_is_special(const puna_model *m, int32_t id)
{
    return pn_vocab_is_special(m->vocab, id);
}

int32_t puna_token_special(const puna_model *m, const char *name)
{
    return pn_vocab_special(m->vocab, name);
}

size_t puna_utf8_complete(const char *s, size_t n)
{
    return pn_utf8_complete(s, n);
}

int puna_chat_render(char **out, size_t *len, const struct puna_message *messages, size_t n,
                     const struct puna_chat_opts *opts, struct puna_error *err)
{
    *out = NULL;
    struct pn_chat_text t = {0};
    struct puna_chat_opts o = {.size = sizeof o};
    if (opts)
        PN_TAKE(o, opts);
    int rc = pn_chat_render(&t, messages, n, &o, err);
    if (!rc) {
        *out = malloc(t.text.len + 1);
        if (!*out) {
            rc = pn_fail_memory(err, t.text.len + 1, "the rendered prompt");
        } else {
            if (t.text.len)
                memcpy(*out, t.text.data, t.text.len);
            (*out)[t.text.len] = 0;
            *len = t.text.len;
        }
    }
    pn_chat_text_free(&t);
    return rc;
}

void puna_free(void *p)
{
    free(p);
}
