/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/common.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"

/* ------------------------------------------------------------------------------------- the model */

const char *const cross_rows_names[] = { "default", "plain", "permuted", NULL };

void model_params(struct puna_model_params *p, const struct model_settings *s)
{
    puna_model_params_init(p);
    p->projector = s->projector;
    p->cpu = s->cpu;
    p->cross_permuted = s->cross_rows - 1; /* -1: as is usual for the kind of file */
    p->threads = (int)s->threads;
    p->progress = term_progress;
    if (s->no_progress)
        term_no_progress();
}

/* DIR or DIR:SCALE; a directory that is called so wins. The path is to be freed. */
static int parse_lora(struct puna_lora *lora, const char *word)
{
    struct stat st;
    const char *colon = stat(word, &st) == 0 ? NULL : strrchr(word, ':');
    double scale = 1;
    if (colon != NULL) {
        char *end;
        scale = strtod(colon + 1, &end);
        if (end == colon + 1 || *end != '\0')
            colon = NULL; /* the colon belongs to the name */
        else if (!(fabs(scale) <= 1e6))
            return diag_usage("--lora takes a scale from -1e6 to 1e6, not '%s'", colon + 1);
    }
    const size_t n = colon != NULL ? (size_t)(colon - word) : strlen(word);
    if (n == 0)
        return diag_usage("--lora takes DIR or DIR:SCALE, not '%s'", word);
    char *path = strndup(word, n);
    if (path == NULL)
        return diag("no memory for the options");
    *lora = (struct puna_lora){ .path = path, .scale = colon != NULL ? (float)scale : 1.0f };
    return EXIT_OK;
}

int loras_parse(struct puna_lora **out, const struct model_settings *s)
{
    *out = calloc(s->lora.n + 1, sizeof(**out));
    int status = *out != NULL ? EXIT_OK : diag("no memory for the options");
    for (size_t i = 0; status == EXIT_OK && i < s->lora.n; i++)
        status = parse_lora(&(*out)[i], s->lora.v[i]);
    return status;
}

void loras_free(struct puna_lora *loras, size_t n)
{
    for (size_t i = 0; loras != NULL && i < n; i++)
        free((char *)(uintptr_t)loras[i].path);
    free(loras);
}

int model_open(puna_model **out, const struct model_settings *s)
{
    struct puna_model_params params;
    struct puna_error err = { 0 };
    struct puna_lora *loras;
    *out = NULL;
    model_params(&params, s);
    int status = loras_parse(&loras, s);
    if (status == EXIT_OK) {
        params.loras = loras;
        params.n_loras = s->lora.n;
        const int rc = puna_model_open(out, s->name, &params, &err);
        term_clear_progress();
        status = rc == 0 ? EXIT_OK : diag_error(&err);
    }
    loras_free(loras, s->lora.n);
    return status;
}

struct puna_model_info model_info(const puna_model *m)
{
    struct puna_model_info info = { .size = sizeof(info) };
    puna_model_get_info(m, &info);
    return info;
}

/* ------------------------------------------------------------------------------------- the session */

const char *const kv_type_names[] = {
    [PUNA_KV_F16] = "f16", [PUNA_KV_F32] = "f32", [PUNA_KV_BF16] = "bf16", [PUNA_KV_Q8_0] = "q8_0",
    NULL,
};

struct puna_image_params image_params(const struct session_settings *s)
{
    return (struct puna_image_params){
        .max_pixels = s->max_pixels,
        .keep_orientation = s->keep_orientation,
    };
}

void session_params(struct puna_session_params *p, const struct session_settings *s)
{
    puna_session_params_init(p);
    p->ctx = (int32_t)s->ctx;
    p->kv_type = s->kv_type;
    p->chunk = (int32_t)s->chunk;
    p->precise = s->precise;
    p->hf_rows = s->hf_rows;
    p->full_tiles = s->full_tiles;
    p->image = image_params(s);
    p->progress = term_progress;
}

/* ------------------------------------------------------------------------------------- odds and ends */

void format_bytes(char *out, size_t cap, double bytes)
{
    static const char *const unit[] = { "B", "kB", "MB", "GB", "TB" };
    size_t u = 0;
    while (bytes >= 1000 && u + 1 < sizeof(unit) / sizeof(unit[0])) {
        bytes /= 1000;
        u++;
    }
    snprintf(out, cap, u == 0 ? "%.0f %s" : bytes < 10 ? "%.2f %s" : "%.1f %s", bytes, unit[u]);
}

size_t utf8_length(const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80)
        return 1;
    const size_t len = s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : (s[0] & 0xf0) == 0xe0 ? 3
                       : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : 0;
    if (len == 0 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    /* overlong, surrogates, beyond U+10FFFF */
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return len;
}

json_t *json_lossy(const char *s, size_t n)
{
    struct pn_buf b = { 0 };
    pn_buf_str(&b, "");
    for (size_t i = 0; i < n;) {
        const size_t len = utf8_length(s + i, n - i);
        if (len == 0)
            pn_buf_str(&b, "\xef\xbf\xbd");
        else
            pn_buf_append(&b, s + i, len);
        i += len ? len : 1;
    }
    json_t *j = b.failed ? NULL : json_stringn(b.data, b.len);
    pn_buf_free(&b);
    return j;
}

int print_json(json_t *value)
{
    if (value == NULL)
        return diag("no memory for the JSON answer");
    /* a write error stays in stdout's error flag and is told at the program's end */
    (void)json_dumpf(value, stdout, JSON_REAL_PRECISION(9));
    json_decref(value);
    putchar('\n');
    return EXIT_OK;
}

const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}
