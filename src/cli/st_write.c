/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/st_write.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/outfile.h"

struct st_tensor {
    uint64_t start, end, at; /* bytes in the file */
    size_t width;            /* of one value */
};

struct st_writer {
    struct pn_outfile file;
    struct st_tensor tensor[ST_MAX_TENSORS];
    size_t n;
};

static const struct {
    const char *name;
    size_t width;
} dtypes[] = { [ST_F32] = { "F32", 4 }, [ST_I64] = { "I64", 8 } };

static bool tensor_bytes(const struct st_decl *d, size_t *bytes)
{
    *bytes = dtypes[d->dtype].width;
    for (int k = 0; k < d->ndim; k++) {
        if (d->shape[k] < 0 || !pn_mul_size(*bytes, (size_t)d->shape[k], bytes))
            return false;
    }
    return true;
}

/* The 8-byte length and the JSON, padded with blanks so that the values start at a multiple of 8. */
static int build_header(struct pn_buf *head, struct st_writer *w, const struct st_decl *tensors,
                        struct puna_error *err)
{
    static const char length_goes_here[8];
    pn_buf_append(head, length_goes_here, sizeof(length_goes_here));
    size_t total = 0;
    for (size_t i = 0; i < w->n; i++) {
        const struct st_decl *d = &tensors[i];
        size_t bytes, end;
        if (!tensor_bytes(d, &bytes) || !pn_add_size(total, bytes, &end))
            return pn_fail(err, PUNA_E_LIMIT, "tensor '%s' is too large to be written", d->name);
        pn_buf_printf(head, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "{", d->name,
                      dtypes[d->dtype].name);
        for (int k = 0; k < d->ndim; k++)
            pn_buf_printf(head, "%s%lld", k ? "," : "", (long long)d->shape[k]);
        pn_buf_printf(head, "],\"data_offsets\":[%zu,%zu]}", total, end);
        w->tensor[i] = (struct st_tensor){ .start = total, .end = end, .at = total,
                                           .width = dtypes[d->dtype].width };
        total = end;
    }
    pn_buf_str(head, "}");
    while (head->len % 8 != 0 && pn_buf_str(head, " "))
        ;
    if (head->failed)
        return pn_fail_memory(err, 4096, "a file header");
    for (size_t i = 0; i < w->n; i++) {
        w->tensor[i].start += head->len;
        w->tensor[i].end += head->len;
        w->tensor[i].at += head->len;
    }
    const uint64_t length = head->len - 8; /* configure refuses big-endian hosts */
    memcpy(head->data, &length, 8);
    return 0;
}

int st_create(struct st_writer **out, const char *path, const struct st_decl *tensors, size_t n,
              struct puna_error *err)
{
    *out = NULL;
    struct st_writer *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return pn_fail_memory(err, sizeof(*w), "a file writer");
    w->n = n < ST_MAX_TENSORS ? n : ST_MAX_TENSORS;
    struct pn_buf head = { 0 };
    int rc = build_header(&head, w, tensors, err);
    if (rc == 0)
        rc = pn_outfile_open(&w->file, path, err);
    if (rc == 0 && (rc = pn_outfile_write_at(&w->file, head.data, head.len, 0, err)) != 0)
        pn_outfile_abort(&w->file);
    pn_buf_free(&head);
    if (rc != 0)
        free(w);
    else
        *out = w;
    return rc;
}

static int check_room(const struct st_tensor *t, size_t n, size_t *bytes, struct puna_error *err)
{
    if (!pn_mul_size(n, t->width, bytes) || *bytes > t->end - t->at)
        return pn_fail(err, PUNA_E_ARG, "more values than the tensor's shape holds");
    return 0;
}

int st_put(struct st_writer *w, size_t i, const void *values, size_t n, struct puna_error *err)
{
    struct st_tensor *t = &w->tensor[i];
    size_t bytes;
    int rc = check_room(t, n, &bytes, err);
    if (rc == 0)
        rc = pn_outfile_write_at(&w->file, values, bytes, t->at, err);
    if (rc == 0)
        t->at += bytes;
    return rc;
}

int st_skip(struct st_writer *w, size_t i, size_t n, struct puna_error *err)
{
    static const uint8_t zeros[65536];
    struct st_tensor *t = &w->tensor[i];
    size_t bytes;
    int rc = check_room(t, n, &bytes, err);
    while (rc == 0 && bytes > 0) {
        const size_t part = bytes < sizeof(zeros) ? bytes : sizeof(zeros);
        rc = pn_outfile_write_at(&w->file, zeros, part, t->at, err);
        t->at += part;
        bytes -= part;
    }
    return rc;
}

int st_commit(struct st_writer **w, struct puna_error *err)
{
    struct st_writer *s = *w;
    int rc = 0;
    for (size_t i = 0; i < s->n && rc == 0; i++) {
        if (s->tensor[i].at != s->tensor[i].end)
            rc = pn_fail(err, PUNA_E_ARG, "%s: values of tensor %zu are missing", s->file.path, i);
    }
    if (rc == 0)
        rc = pn_outfile_commit(&s->file, err);
    st_abort(w);
    return rc;
}

void st_abort(struct st_writer **w)
{
    if (*w == NULL)
        return;
    pn_outfile_abort(&(*w)->file);
    free(*w);
    *w = NULL;
}
