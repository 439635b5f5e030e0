/* SPDX-License-Identifier: Apache-2.0 */
#include "file/json.h"

#include <inttypes.h>
#include <math.h>

#include "base/err.h"

/* v as an integer where it is a whole number, for a tree whose integers were read as doubles. Takes v. */
static json_t *whole(json_t *v)
{
    if (json_is_real(v) && fabs(json_real_value(v)) < 0x1p53 &&
        json_real_value(v) == floor(json_real_value(v))) {
        json_t *n = json_integer((json_int_t)json_real_value(v));
        json_decref(v);
        return n;
    }
    const char *key;
    json_t *child;
    size_t i;
    /* nested as deep as jansson lets a file be (2048); replacing a value is allowed while iterating */
    json_object_foreach(v, key, child)
        if (!json_is_string(child))
            (void)json_object_set_new(v, key, whole(json_incref(child)));
    json_array_foreach(v, i, child)
        if (!json_is_string(child))
            (void)json_array_set_new(v, i, whole(json_incref(child)));
    return v;
}

json_t *pn_json_parse(struct pn_json *j, const char *data, size_t len)
{
    if (j->rc)
        return NULL;
    json_error_t e;
    json_t *root = json_loadb(data, len, JSON_REJECT_DUPLICATES, &e);
    /* transformers writes 10^30 where a tokenizer has no limit: such numbers stay doubles */
    if (!root && j->huge_ok && json_error_code(&e) == json_error_numeric_overflow) {
        root = json_loadb(data, len, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &e);
        root = root ? whole(root) : NULL;
    }
    if (!root) {
        j->rc = json_error_code(&e) == json_error_out_of_memory
                    ? pn_fail_memory(j->err, len, j->label)
                    : pn_fail(j->err, PUNA_E_FORMAT, "%s: broken JSON in line %d, column %d: %s",
                              j->label, e.line, e.column, e.text);
        return NULL;
    }
    if (!json_is_object(root)) {
        j->rc = pn_fail(j->err, PUNA_E_FORMAT, "%s: a JSON object is needed", j->label);
        json_decref(root);
        return NULL;
    }
    return root;
}

static const json_t *member(const struct pn_json *j, const json_t *o, const char *key)
{
    if (j->rc)
        return NULL;
    const json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

static bool fail_type(struct pn_json *j, const char *key, const char *wanted)
{
    j->rc = pn_fail(j->err, PUNA_E_FORMAT, "%s: '%s' must be %s", j->label, key, wanted);
    return false;
}

const json_t *pn_json_object(struct pn_json *j, const json_t *o, const char *key)
{
    const json_t *v = member(j, o, key);
    if (v && !json_is_object(v)) {
        (void)fail_type(j, key, "an object");
        return NULL;
    }
    return v;
}

static bool to_int(struct pn_json *j, const json_t *v, const char *key, int64_t min, int64_t max,
                   int32_t *out)
{
    if (!json_is_integer(v))
        return fail_type(j, key, "an integer");
    const json_int_t x = json_integer_value(v);
    if (x < min || x > max) {
        j->rc = pn_fail(j->err, PUNA_E_FORMAT,
                        "%s: '%s' is %" JSON_INTEGER_FORMAT "; %" PRId64 " to %" PRId64
                        " is possible", j->label, key, x, min, max);
        return false;
    }
    *out = (int32_t)x;
    return true;
}

bool pn_json_int(struct pn_json *j, const json_t *o, const char *key, int64_t min, int64_t max,
                 int32_t *out)
{
    const json_t *v = member(j, o, key);
    return v && to_int(j, v, key, min, max, out);
}

bool pn_json_float(struct pn_json *j, const json_t *o, const char *key, double min, double max,
                   float *out)
{
    const json_t *v = member(j, o, key);
    if (!v)
        return false;
    if (!json_is_number(v))
        return fail_type(j, key, "a number");
    const double x = json_number_value(v);
    if (!(x >= min && x <= max)) {
        j->rc = pn_fail(j->err, PUNA_E_FORMAT, "%s: '%s' is %g; %g to %g is possible", j->label,
                        key, x, min, max);
        return false;
    }
    *out = (float)x;
    return true;
}

bool pn_json_bool(struct pn_json *j, const json_t *o, const char *key, bool *out)
{
    const json_t *v = member(j, o, key);
    if (!v)
        return false;
    if (!json_is_boolean(v))
        return fail_type(j, key, "true or false");
    *out = json_is_true(v);
    return true;
}

bool pn_json_str(struct pn_json *j, const json_t *o, const char *key, const char **out)
{
    const json_t *v = member(j, o, key);
    if (!v)
        return false;
    if (!json_is_string(v))
        return fail_type(j, key, "a string");
    *out = json_string_value(v);
    return true;
}

bool pn_json_ints(struct pn_json *j, const json_t *o, const char *key, int64_t min, int64_t max,
                  bool one_ok, int32_t *out, int32_t cap, int32_t *n)
{
    const json_t *v = member(j, o, key);
    if (!v)
        return false;
    if (one_ok && json_is_integer(v)) {
        *n = 1;
        return to_int(j, v, key, min, max, out);
    }
    if (!json_is_array(v))
        return fail_type(j, key, one_ok ? "an integer or a list of integers"
                                        : "a list of integers");
    if (json_array_size(v) > (size_t)cap) {
        j->rc = pn_fail(j->err, PUNA_E_FORMAT, "%s: '%s' has %zu elements; at most %" PRId32
                        " are possible", j->label, key, json_array_size(v), cap);
        return false;
    }
    *n = (int32_t)json_array_size(v);
    for (int32_t i = 0; i < *n; i++) {
        if (!to_int(j, json_array_get(v, (size_t)i), key, min, max, &out[i]))
            return false;
    }
    return true;
}
