/* SPDX-License-Identifier: Apache-2.0 */
/* jsonget FILE [PATH]: FILE ("-": standard input) must be one JSON value and nothing else. Prints what
 * PATH ("cases.0.ids") leads to: strings raw, lists of numbers separated by blanks, everything
 * else as JSON. Exit 1 when it is not JSON or the path leads nowhere. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const json_t *step(const json_t *at, const char *key, size_t len)
{
    char name[128];
    if (len >= sizeof(name))
        return NULL;
    memcpy(name, key, len);
    name[len] = '\0';
    return json_is_array(at) ? json_array_get(at, strtoull(name, NULL, 10)) : json_object_get(at, name);
}

static void print(const json_t *v)
{
    if (json_is_string(v)) {
        fwrite(json_string_value(v), 1, json_string_length(v), stdout);
    } else if (json_is_array(v) && json_is_number(json_array_get(v, 0))) {
        for (size_t i = 0; i < json_array_size(v); i++) {
            fputs(i ? " " : "", stdout);
            json_dumpf(json_array_get(v, i), stdout, JSON_ENCODE_ANY);
        }
    } else {
        json_dumpf(v, stdout, JSON_ENCODE_ANY);
    }
    putchar('\n');
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3)
        return 2;
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
    json_error_t err;
    json_t *root = strcmp(argv[1], "-") == 0 ? json_loadf(stdin, flags, &err)
                                             : json_load_file(argv[1], flags, &err);
    if (root == NULL) {
        fprintf(stderr, "jsonget: %s: line %d: %s\n", argv[1], err.line, err.text);
        return 1;
    }
    const json_t *at = root;
    for (const char *key = argc == 3 ? argv[2] : ""; at != NULL && *key != '\0';) {
        const size_t len = strcspn(key, ".");
        at = step(at, key, len);
        key += len + (key[len] == '.');
    }
    if (at == NULL) {
        fprintf(stderr, "jsonget: there is no %s\n", argv[2]);
        json_decref(root);
        return 1;
    }
    print(at);
    json_decref(root);
    return 0;
}
