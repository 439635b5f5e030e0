/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/prompt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/map.h"
#include "cli/common.h"

enum { MAX_PICTURE_BYTES = 64 << 20, MAX_PROMPT_BYTES = 256 << 20 };

/* ------------------------------------------------------------------------------------- pictures */

int pictures_add(struct pictures *p, const char *path, struct puna_error *err)
{
    struct picture *v = realloc(p->v, (p->n + 1) * sizeof(*v));
    if (v == NULL)
        return pn_fail_memory(err, (p->n + 1) * sizeof(*v), "pictures");
    p->v = v;
    struct picture pic = { .path = path };
    const int rc = pn_read_file(&pic.bytes, &pic.len, path, MAX_PICTURE_BYTES, err);
    if (rc == 0)
        p->v[p->n++] = pic;
    return rc;
}

int pictures_load(struct pictures *out, const struct opt_list *paths, struct puna_error *err)
{
    *out = (struct pictures){ 0 };
    int rc = 0;
    for (size_t i = 0; i < paths->n && rc == 0; i++)
        rc = pictures_add(out, paths->v[i], err);
    if (rc != 0)
        pictures_free(out);
    return rc;
}

void pictures_free(struct pictures *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->v[i].bytes);
    free(p->v);
    *p = (struct pictures){ 0 };
}

/* ------------------------------------------------------------------------------------- text */

static int read_stdin(struct pn_buf *out, struct puna_error *err)
{
    char part[65536];
    for (;;) {
        if (!term_wait_readable(STDIN_FILENO))
            return pn_fail(err, PUNA_E_CANCELLED, "interrupted");
        const ssize_t n = read(STDIN_FILENO, part, sizeof(part));
        if (n == 0)
            return 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return pn_fail(err, PUNA_E_IO, "cannot read standard input: %s", strerror(errno));
        if (!pn_buf_append(out, part, (size_t)n))
            return pn_fail(err, PUNA_E_LIMIT, "standard input holds more than %d MiB of text",
                           MAX_PROMPT_BYTES >> 20);
    }
}

int prompt_read(struct pn_buf *out, const char *text, const char *file, bool use_stdin, bool *given,
                struct puna_error *err)
{
    *out = (struct pn_buf){ .max = MAX_PROMPT_BYTES };
    *given = true;
    int rc = 0;
    if (!pn_buf_str(out, text != NULL ? text : ""))
        return pn_fail(err, PUNA_E_LIMIT, "the prompt is too long");
    if (text != NULL)
        return 0;
    if (file != NULL) {
        char *bytes = NULL;
        size_t n;
        rc = pn_read_file(&bytes, &n, file, MAX_PROMPT_BYTES - 1, err);
        if (rc == 0 && !pn_buf_append(out, bytes, n))
            rc = pn_fail_memory(err, n, "the prompt");
        free(bytes);
    } else if (use_stdin) {
        rc = read_stdin(out, err);
    } else {
        *given = false;
    }
    if (rc != 0)
        pn_buf_free(out);
    return rc;
}

static const char *find_mark(const char *s, size_t n)
{
    return memmem(s, n, IMAGE_MARK, strlen(IMAGE_MARK));
}

int prompt_parts(struct puna_part **parts, size_t *n_out, const struct prompt *p,
                 struct puna_error *err)
{
    *parts = NULL;
    *n_out = 0;
    const char *end = p->text + p->len;
    size_t n_marks = 0;
    for (const char *s = p->text; (s = find_mark(s, (size_t)(end - s))) != NULL;
         s += strlen(IMAGE_MARK))
        n_marks++;
    const size_t n_pic = p->pictures->n;
    if (n_marks != 0 && n_marks != n_pic)
        return pn_fail(err, PUNA_E_ARG, "the text has %zu %s but %zu picture%s given", n_marks,
                       IMAGE_MARK, n_pic, n_pic == 1 ? " was" : "s were");

    struct puna_part *v = calloc(2 * n_pic + 1, sizeof(*v));
    if (v == NULL)
        return pn_fail_memory(err, (2 * n_pic + 1) * sizeof(*v), "the prompt");
    size_t n = 0;
    const char *s = p->text;
    for (size_t i = 0; i < n_pic; i++) {
        const char *mark = find_mark(s, (size_t)(end - s));
        if (mark != NULL) {
            if (mark > s)
                v[n++] = (struct puna_part){ .text = s, .text_len = (size_t)(mark - s) };
            s = mark + strlen(IMAGE_MARK);
        }
        v[n++] = (struct puna_part){ .image = p->pictures->v[i].bytes,
                                     .image_len = p->pictures->v[i].len };
    }
    if (s < end || n == 0)
        v[n++] = (struct puna_part){ .text = s, .text_len = (size_t)(end - s) };
    *parts = v;
    *n_out = n;
    return 0;
}

/* ------------------------------------------------------------------------------------- sessions */

/* The library sees bytes. When it refused, say which file it was. */
static int name_picture(const puna_model *m, const struct prompt *p, int rc, struct puna_error *err)
{
    for (size_t i = 0; i < p->pictures->n; i++) {
        const struct picture *pic = &p->pictures->v[i];
        struct puna_encoded e = { 0 };
        struct puna_error why = { 0 };
        if (puna_encode_image(m, pic->bytes, pic->len, &p->image, 0, NULL, NULL, &e, &why) == rc)
            return pn_fail(err, rc, "%s: %s", pic->path, why.message);
        puna_encoded_free(&e);
    }
    return rc;
}

static int append_chat(puna_session *s, const puna_model *m, const struct prompt *p,
                       struct puna_error *err)
{
    struct puna_part *parts;
    size_t n_parts;
    int rc = prompt_parts(&parts, &n_parts, p, err);
    if (rc != 0)
        return rc;
    const struct puna_part system = { .text = p->system,
                                      .text_len = p->system ? strlen(p->system) : 0 };
    const struct puna_message messages[2] = {
        { .role = "system", .parts = &system, .n_parts = 1 },
        /* a string for the template when it is only text, a list otherwise, as chat clients send it */
        { .role = "user", .parts = parts, .n_parts = n_parts, .is_list = p->pictures->n > 0 },
    };
    const struct puna_chat_opts opts = {
        .size = sizeof(opts),
        .system_in_user = p->system_in_user,
    };
    const size_t skip = p->system == NULL;
    rc = puna_session_chat(s, messages + skip, 2 - skip, &opts, err);
    free(parts);
    return rc == 0 ? 0 : name_picture(m, p, rc, err);
}

int prompt_append_ids(puna_session *s, const puna_model *m, const int32_t *ids, size_t n,
                      const struct pictures *pictures, struct puna_error *err)
{
    const int32_t image = model_info(m).image_token;
    size_t n_marks = 0;
    for (size_t i = 0; i < n; i++)
        n_marks += image >= 0 && ids[i] == image;
    if (n_marks != pictures->n)
        return pn_fail(err, PUNA_E_ARG, "the prompt has %zu %s token%s but %zu picture%s given",
                       n_marks, IMAGE_MARK, n_marks == 1 ? "" : "s", pictures->n,
                       pictures->n == 1 ? " was" : "s were");
    for (size_t i = 0; i < pictures->n; i++) {
        const struct picture *pic = &pictures->v[i];
        struct puna_error why = { 0 };
        const int rc = puna_session_image(s, pic->bytes, pic->len, &why);
        if (rc != 0)
            return pn_fail(err, rc, "%s: %s", pic->path, why.message);
    }
    return puna_session_tokens(s, ids, n, err);
}

static int append_raw(puna_session *s, const puna_model *m, const struct prompt *p,
                      struct puna_error *err)
{
    const struct puna_model_info info = model_info(m);
    const int64_t n_text = puna_tokenize(m, p->text, p->len, 1, NULL, 0, err);
    if (n_text < 0)
        return (int)n_text;
    /* pictures that the text does not place come first, after BOS */
    const size_t n_front = find_mark(p->text, p->len) == NULL ? p->pictures->n : 0;
    const size_t cap = 1 + n_front + (size_t)n_text;
    int32_t *ids = calloc(cap, sizeof(*ids));
    if (ids == NULL)
        return pn_fail_memory(err, cap * sizeof(*ids), "the prompt");
    int32_t *text = ids + 1 + n_front;
    const int64_t got = puna_tokenize(m, p->text, p->len, 1, text, (size_t)n_text, err);
    int rc = got < 0 ? (int)got : 0;
    if (rc == 0) {
        const size_t skip = n_text > 0 && info.bos >= 0 && text[0] == info.bos; /* never a second one */
        size_t n = 0;
        if (info.bos >= 0)
            ids[n++] = info.bos;
        for (size_t i = 0; i < n_front; i++)
            ids[n++] = info.image_token;
        memmove(ids + n, text + skip, ((size_t)n_text - skip) * sizeof(*ids));
        n += (size_t)n_text - skip;
        rc = prompt_append_ids(s, m, ids, n, p->pictures, err);
    }
    free(ids);
    return rc;
}

int prompt_append(puna_session *s, const puna_model *m, const struct prompt *p,
                  struct puna_error *err)
{
    const struct puna_model_info info = model_info(m);
    if (p->pictures->n != 0 && !info.has_vision)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s is a text model: it takes no pictures", info.path);
    return p->raw ? append_raw(s, m, p, err) : append_chat(s, m, p, err);
}
