/* SPDX-License-Identifier: Apache-2.0 */
/* Reading values out of JSON files that are not trusted. The first failure fills err and sticks in
 * rc; later calls do nothing, so that a reader of twenty fields checks once. An absent or null
 * member leaves *out as it was, which is how defaults are given. */
#ifndef PN_FILE_JSON_H
#define PN_FILE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

struct puna_error;

struct pn_json {
    const char *label; /* the file, for messages */
    struct puna_error *err;
    int rc;
    bool huge_ok; /* integers beyond int64 are read as doubles instead of refused */
};

/* The object in data[0..len), or NULL with j->rc set. Duplicate members, invalid UTF-8 and nesting
 * beyond jansson's limit (2048) are refused. Release with json_decref. */
json_t *pn_json_parse(struct pn_json *j, const char *data, size_t len);

/* Member as an object (borrowed), NULL when absent. */
const json_t *pn_json_object(struct pn_json *j, const json_t *o, const char *key);
/* True when present; min..max inclusive. */
bool pn_json_int(struct pn_json *j, const json_t *o, const char *key, int64_t min, int64_t max,
                 int32_t *out);
bool pn_json_float(struct pn_json *j, const json_t *o, const char *key, double min, double max,
                   float *out);
bool pn_json_bool(struct pn_json *j, const json_t *o, const char *key, bool *out);
/* Borrowed string. */
bool pn_json_str(struct pn_json *j, const json_t *o, const char *key, const char **out);
/* A list of integers, or (one_ok) a single one. At most cap. */
bool pn_json_ints(struct pn_json *j, const json_t *o, const char *key, int64_t min, int64_t max,
                  bool one_ok, int32_t *out, int32_t cap, int32_t *n);

#endif
