/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/dataset.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/map.h"
#include "cli/common.h"

enum { MAX_DATASET_BYTES = 1 << 30, MAX_RECORD_PICTURES = 256 };

struct line {
    const char *s;
    size_t len, number;
};

struct dataset {
    char *path, *bytes;
    size_t dir_len; /* of the path, with the slash */
    struct line *lines;
    size_t n;
};

bool dataset_name(const char *path)
{
    const size_t n = strlen(path), m = strlen(".jsonl");
    return n > m && strcmp(path + n - m, ".jsonl") == 0;
}

static bool is_blank(const char *s, size_t n)
{
    while (n > 0 && (*s == ' ' || *s == '\t' || *s == '\r'))
        s++, n--;
    return n == 0;
}

static int split_lines(struct dataset *d, size_t len, struct puna_error *err)
{
    size_t number = 0, cap = 0;
    for (const char *s = d->bytes, *end = s + len; s < end;) {
        const char *nl = memchr(s, '\n', (size_t)(end - s));
        const size_t n = (size_t)((nl != NULL ? nl : end) - s);
        number++;
        if (!is_blank(s, n)) {
            if (d->n == cap) {
                cap = cap ? 2 * cap : 64;
                struct line *v = realloc(d->lines, cap * sizeof(*v));
                if (v == NULL)
                    return pn_fail_memory(err, cap * sizeof(*v), "the data set");
                d->lines = v;
            }
            d->lines[d->n++] = (struct line){ s, n, number };
        }
        s += n + 1;
    }
    return d->n > 0 ? 0 : pn_fail(err, PUNA_E_FORMAT, "%s holds no records", d->path);
}

int dataset_open(struct dataset **out, const char *path, struct puna_error *err)
{
    *out = NULL;
    struct dataset *d = calloc(1, sizeof(*d));
    size_t len = 0;
    int rc = 0;
    if (d == NULL || (d->path = strdup(path)) == NULL)
        rc = pn_fail_memory(err, sizeof(*d), "the data set");
    if (rc == 0)
        rc = pn_read_file(&d->bytes, &len, path, MAX_DATASET_BYTES, err);
    if (rc == 0)
        rc = split_lines(d, len, err);
    if (rc != 0) {
        dataset_close(&d);
        return rc;
    }
    d->dir_len = (size_t)(path_base(path) - path);
    *out = d;
    return 0;
}

void dataset_close(struct dataset **d)
{
    if (*d != NULL) {
        free((*d)->path);
        free((*d)->bytes);
        free((*d)->lines);
        free(*d);
    }
    *d = NULL;
}

size_t dataset_count(const struct dataset *d)
{
    return d->n;
}

int record_fail(const struct dataset *d, const struct record *r, int rc, struct puna_error *err)
{
    const struct puna_error why = *err;
    return pn_fail(err, rc, "%s:%zu: %s", d->path, d->lines[r->index].number, why.message);
}

static int bad(const struct dataset *d, const struct record *r, const char *what, struct puna_error *err)
{
    pn_fail(err, PUNA_E_FORMAT, "%s", what);
    return record_fail(d, r, PUNA_E_FORMAT, err);
}

/* A string of the object; NULL when absent. */
static int get_string(const struct dataset *d, const struct record *r, const char *key, const char **out,
                      struct puna_error *err)
{
    const json_t *v = json_object_get(r->json, key);
    *out = NULL;
    if (v == NULL || json_is_null(v))
        return 0;
    *out = json_string_value(v);
    if (*out != NULL)
        return 0;
    pn_fail(err, PUNA_E_FORMAT, "\"%s\" is not a string", key);
    return record_fail(d, r, PUNA_E_FORMAT, err);
}

static int add_path(const struct dataset *d, struct record *r, const char *name, struct puna_error *err)
{
    const size_t dir = name[0] == '/' ? 0 : d->dir_len, n = strlen(name);
    char *path = malloc(dir + n + 1);
    if (path == NULL)
        return pn_fail_memory(err, dir + n + 1, "a picture's name");
    memcpy(path, d->path, dir);
    memcpy(path + dir, name, n + 1);
    r->paths[r->n_paths++] = path;
    return 0;
}

static int get_paths(const struct dataset *d, struct record *r, struct puna_error *err)
{
    const json_t *v = json_object_get(r->json, "image");
    if (v == NULL)
        v = json_object_get(r->json, "images");
    if (v == NULL || json_is_null(v))
        return 0;
    const size_t n = json_is_array(v) ? json_array_size(v) : 1;
    if (n > MAX_RECORD_PICTURES)
        return bad(d, r, "more than 256 pictures", err);
    r->paths = calloc(n + 1, sizeof(*r->paths));
    if (r->paths == NULL)
        return pn_fail_memory(err, n * sizeof(*r->paths), "the pictures' names");
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        const char *name = json_string_value(json_is_array(v) ? json_array_get(v, i) : v);
        rc = name != NULL ? add_path(d, r, name, err)
                          : bad(d, r, "\"image\" is neither a file name nor a list of them", err);
    }
    return rc;
}

int record_read(const struct dataset *d, size_t i, struct record *r, struct puna_error *err)
{
    *r = (struct record){ .index = i, .text = d->lines[i].s, .len = d->lines[i].len };
    json_error_t why;
    /* jansson itself limits nesting, refuses duplicates when asked, and checks UTF-8 */
    r->json = json_loadb(r->text, r->len, JSON_REJECT_DUPLICATES, &why);
    if (r->json == NULL) {
        pn_fail(err, PUNA_E_FORMAT, "no JSON: %s", why.text);
        return record_fail(d, r, PUNA_E_FORMAT, err);
    }
    if (!json_is_object(r->json))
        return bad(d, r, "the line is not a JSON object", err);
    int rc = get_string(d, r, "prompt", &r->prompt, err);
    if (rc == 0 && r->prompt == NULL)
        rc = get_string(d, r, "question", &r->prompt, err);
    if (rc == 0)
        rc = get_string(d, r, "system", &r->system, err);
    return rc == 0 ? get_paths(d, r, err) : rc;
}

int record_pictures(struct record *r, struct puna_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < r->n_paths && rc == 0; i++)
        rc = pictures_add(&r->pictures, r->paths[i], err);
    return rc;
}

void record_free(struct record *r)
{
    pictures_free(&r->pictures);
    for (size_t i = 0; i < r->n_paths; i++)
        free(r->paths[i]);
    free(r->paths);
    json_decref(r->json);
    *r = (struct record){ 0 };
}

int record_append_prompt(puna_session *s, const puna_model *m, const struct record *r, const char *suffix,
                         struct puna_error *err)
{
    struct pn_buf text = { 0 };
    pn_buf_str(&text, r->prompt != NULL ? r->prompt : "");
    pn_buf_str(&text, suffix != NULL ? suffix : "");
    const struct prompt prompt = {
        .text = text.data,
        .len = text.len,
        .pictures = &r->pictures,
        .system = r->system,
        .system_in_user = r->n_paths > 0, /* the template refuses the two apart */
        .raw = !model_info(m).is_chat,
    };
    const int rc = text.failed ? pn_fail(err, PUNA_E_MEMORY, "no memory for the prompt")
                               : prompt_append(s, m, &prompt, err);
    pn_buf_free(&text);
    return rc;
}

int answer_tokens(const puna_model *m, const char *text, size_t len, int32_t **ids, size_t *n,
                  struct puna_error *err)
{
    *ids = NULL;
    *n = 0;
    const int64_t count = puna_tokenize(m, text, len, 0, NULL, 0, err);
    if (count < 0)
        return (int)count;
    int32_t *v = calloc((size_t)count + 1, sizeof(*v));
    if (v == NULL)
        return pn_fail_memory(err, ((size_t)count + 1) * sizeof(*v), "the answer");
    const int64_t got = puna_tokenize(m, text, len, 0, v, (size_t)count, err);
    if (got < 0) {
        free(v);
        return (int)got;
    }
    *n = (size_t)count;
    const int32_t end = model_info(m).is_chat ? puna_token_special(m, "<|eot_id|>") : -1;
    if (end >= 0)
        v[(*n)++] = end;
    *ids = v;
    return 0;
}
