/* SPDX-License-Identifier: Apache-2.0 */
#include "file/store.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/mem.h"
#include "file/hparams.h"
#include "file/json.h"

#define MAX_HOST 350
#define MAX_PART 80
#define MAX_MANIFEST ((size_t)1 << 20)
#define MANIFEST_DEPTH 4

struct name {
    char part[MANIFEST_DEPTH][MAX_HOST + 1]; /* host, namespace, model, tag */
};

/* ---------------------------------------------------------------------------- names */

/* A part begins with a letter, digit or '_', so "." and ".." are none. */
static bool take_part(char *dst, const char *s, size_t n, size_t max, const char *also)
{
    if (n == 0 || n > max || !(isalnum((unsigned char)s[0]) || s[0] == '_'))
        return false;
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)s[i];
        if (c >= 0x80 || !(isalnum(c) || c == '-' || c == '_' || (c && strchr(also, c))))
            return false;
    }
    memcpy(dst, s, n);
    dst[n] = 0;
    return true;
}

static bool parse_name(struct name *out, const char *text)
{
    static const struct name defaults = {
        .part = { "registry.ollama.ai", "library", "", "latest" }
    };
    *out = defaults;
    const char *slash = strrchr(text, '/');
    const char *colon = strrchr(slash ? slash : text, ':');
    if (colon && !take_part(out->part[3], colon + 1, strlen(colon + 1), MAX_PART, "."))
        return false;
    const char *end = colon ? colon : text + strlen(text);
    for (int i = 2; i >= 0; i--) {
        const char *begin = end;
        while (begin > text && begin[-1] != '/')
            begin--;
        static const char *const also[] = { ".:", "", "." };
        if (!take_part(out->part[i], begin, (size_t)(end - begin), i == 0 ? MAX_HOST : MAX_PART,
                       also[i]))
            return false;
        if (begin == text)
            return true;
        end = begin - 1;
    }
    return false; /* more than three parts */
}

bool pn_store_is_name(const char *name)
{
    struct name n;
    return parse_name(&n, name);
}

/* ---------------------------------------------------------------------------- paths */

static char *join(const char *dir, const char *sub, const char *file)
{
    struct pn_buf b = { 0 };
    if (pn_buf_printf(&b, "%s/%s%s", dir, sub, file))
        return b.data;
    pn_buf_free(&b);
    return NULL;
}

static bool exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

/* dir/name, or an entry of dir that differs from it in case only. NULL: none, or no memory. */
static char *entry(const char *dir, const char *name)
{
    char *path = join(dir, "", name);
    if (!path || exists(path))
        return path;
    free(path);
    path = NULL;
    DIR *d = opendir(dir);
    if (!d)
        return NULL;
    for (const struct dirent *e; !path && (e = readdir(d));) {
        if (strcasecmp(e->d_name, name) == 0)
            path = join(dir, "", e->d_name);
    }
    (void)closedir(d);
    return path;
}

static char *find_manifest(const char *root, const struct name *n)
{
    char *path = join(root, "", "manifests");
    for (int i = 0; path && i < MANIFEST_DEPTH; i++) {
        char *next = entry(path, n->part[i]);
        free(path);
        path = next;
    }
    return path;
}

/* ---------------------------------------------------------------------------- manifest */

static bool take_digest(char hex[65], const char *digest)
{
    static const char prefix[] = "sha256:";
    if (!digest || strncmp(digest, prefix, sizeof prefix - 1) != 0)
        return false;
    digest += sizeof prefix - 1;
    if (strlen(digest) != 64)
        return false;
    for (int i = 0; i < 64; i++) {
        if (!isxdigit((unsigned char)digest[i]))
            return false;
        hex[i] = (char)tolower((unsigned char)digest[i]);
    }
    hex[64] = 0;
    return true;
}

/* Path of one layer's blob, present and complete. Early stores spelled "sha256:" in file names. */
static int find_blob(char **out, const char *root, const char *hex, int64_t size,
                     const char *manifest, struct puna_error *err)
{
    struct stat st;
    *out = join(root, "blobs/sha256-", hex);
    if (*out && stat(*out, &st) != 0) {
        free(*out);
        *out = join(root, "blobs/sha256:", hex);
        if (*out && stat(*out, &st) != 0) {
            free(*out);
            *out = NULL;
            return pn_fail(err, PUNA_E_NOT_FOUND, "%s/blobs/sha256-%s: named by %s, but not there; "
                           "pull the model again", root, hex, manifest);
        }
    }
    if (!*out)
        return pn_fail_memory(err, strlen(root) + 80, "a path");
    if (st.st_size == size)
        return 0;
    const int rc = pn_fail(err, PUNA_E_FORMAT, "%s: %jd bytes where the manifest says %" PRId64
                           "; the download is incomplete, pull the model again", *out,
                           (intmax_t)st.st_size, size);
    free(*out);
    *out = NULL;
    return rc;
}

static int read_layer(struct pn_store_model *m, const json_t *layer, const char *root,
                      const char *manifest, struct puna_error *err)
{
    static const char prefix[] = "application/vnd.ollama.image.";
    const char *type = json_string_value(json_object_get(layer, "mediaType"));
    if (!type || strncmp(type, prefix, sizeof prefix - 1) != 0)
        return 0;
    type += sizeof prefix - 1;
    const bool is_model = strcmp(type, "model") == 0;
    char **slot = is_model                            ? &m->model
                  : strcmp(type, "projector") == 0 ? &m->projector
                  : strcmp(type, "params") == 0    ? &m->params
                                                   : NULL;
    if (strcmp(type, "adapter") == 0 || strcmp(type, "tensor") == 0)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s: layers of type '%s' are not supported",
                       manifest, type);
    if (!slot)
        return 0; /* template, license and the like */
    if (*slot)
        return pn_fail(err, PUNA_E_UNSUPPORTED, "%s: more than one layer of type '%s'", manifest,
                       type);
    char hex[65];
    const json_t *size = json_object_get(layer, "size");
    if (!take_digest(hex, json_string_value(json_object_get(layer, "digest"))) ||
        !json_is_integer(size) || json_integer_value(size) < 0)
        return pn_fail(err, PUNA_E_FORMAT, "%s: the %s layer lacks a sha256 digest or a size",
                       manifest, type);
    if (is_model)
        memcpy(m->digest, hex, sizeof hex);
    return find_blob(slot, root, hex, json_integer_value(size), manifest, err);
}

static int read_manifest(struct pn_store_model *m, const char *root, const char *path,
                         struct puna_error *err)
{
    char *data;
    size_t len;
    int rc = pn_read_file(&data, &len, path, MAX_MANIFEST, err);
    if (rc != 0)
        return rc;
    struct pn_json j = { .label = path, .err = err };
    json_t *rootj = pn_json_parse(&j, data, len);
    free(data);
    if (!rootj)
        return j.rc;
    const json_t *layers = json_object_get(rootj, "layers");
    for (size_t i = 0; rc == 0 && i < json_array_size(layers); i++)
        rc = read_layer(m, json_array_get(layers, i), root, path, err);
    json_decref(rootj);
    if (rc == 0 && !m->model)
        rc = pn_fail(err, PUNA_E_FORMAT, "%s: the manifest names no model layer", path);
    return rc;
}

/* ---------------------------------------------------------------------------- lookup */

/* The stores to look in, at most 3; false when memory is short. */
static bool list_roots(char *roots[3], size_t *n)
{
    *n = 0;
    const char *env = getenv("OLLAMA_MODELS");
    if (env && *env && !(roots[(*n)++] = strdup(env)))
        return false;
    const char *home = getenv("HOME");
    if (home && *home && !(roots[(*n)++] = join(home, ".ollama/", "models")))
        return false;
    return (roots[(*n)++] = strdup("/usr/share/ollama/.ollama/models")) != NULL;
}

static int fail_not_found(const char *name, char *const *roots, size_t n, struct puna_error *err)
{
    struct pn_buf places = { 0 };
    for (size_t i = 0; i < n; i++)
        (void)pn_buf_printf(&places, "%s%s", i ? ", " : "", roots[i]);
    const int rc = pn_fail(err, PUNA_E_NOT_FOUND,
                           "%s: no such file or directory, and no Ollama model of that name in %s; "
                           "give a path, or fetch it with `ollama pull %s`", name,
                           places.data ? places.data : "the Ollama store", name);
    pn_buf_free(&places);
    return rc;
}

int pn_store_find(struct pn_store_model **out, const char *name, struct puna_error *err)
{
    *out = NULL;
    struct name n;
    if (!parse_name(&n, name))
        return pn_fail(err, PUNA_E_NOT_FOUND, "%s: no such file or directory", name);
    char *roots[3] = { 0 };
    size_t n_roots;
    struct pn_store_model *m = calloc(1, sizeof *m);
    int rc = 0;
    if (!m || !list_roots(roots, &n_roots)) {
        rc = pn_fail_memory(err, sizeof *m, "the Ollama store");
        goto done;
    }
    for (size_t i = 0; i < n_roots; i++) {
        char *manifest = find_manifest(roots[i], &n);
        if (!manifest)
            continue;
        rc = read_manifest(m, roots[i], manifest, err);
        free(manifest);
        if (rc == 0) {
            *out = m;
            m = NULL;
        }
        goto done;
    }
    rc = fail_not_found(name, roots, n_roots, err);
done:
    pn_store_free(&m);
    for (size_t i = 0; i < 3; i++)
        free(roots[i]);
    return rc;
}

void pn_store_free(struct pn_store_model **mp)
{
    struct pn_store_model *m = *mp;
    if (!m)
        return;
    free(m->model);
    free(m->projector);
    free(m->params);
    free(m);
    *mp = NULL;
}

int pn_store_params(struct pn_hparams *hp, const char *json, size_t len, const char *label,
                    struct puna_error *err)
{
    struct pn_json j = { .label = label, .err = err };
    json_t *root = pn_json_parse(&j, json, len);
    (void)pn_json_float(&j, root, "temperature", 0, 100, &hp->temperature);
    (void)pn_json_float(&j, root, "top_p", 0, 1, &hp->top_p);
    (void)pn_json_int(&j, root, "top_k", 0, PN_MAX_VOCAB, &hp->top_k);
    json_decref(root);
    return j.rc;
}
