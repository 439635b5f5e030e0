/* SPDX-License-Identifier: Apache-2.0 */
/* puna tokenize: token ids and their pieces. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/common.h"
#include "cli/prompt.h"

struct tokenize_settings {
    struct model_settings model;
    const char *text, *file;
    bool json, no_special;
};

static const struct tokenize_settings defaults;

#define T struct tokenize_settings
static const struct opt_spec options[] = {
    OPT_HEADING("Options"),
    OPTS_MODEL_NAME(T),
    OPT_ROW(T, text, OPT_STRING, "prompt", 'p', "TEXT", "The text.", .dflt = "standard input"),
    OPT_ROW(T, file, OPT_STRING, "prompt-file", 0, "FILE",
            "Read the text from FILE, byte for byte.", .dflt = ""),
    OPT_FLAG_ROW(T, no_special, "no-special", 0,
                 "Text that looks like a special token, such as <|eot_id|>, is plain text."),
    OPT_FLAG_ROW(T, json, "json", 0, "One JSON object: {\"ids\": [...], \"pieces\": [...]}."),
    OPTS_MACHINE(T),
};
#undef T

/* In double quotes, with C escapes for what is not printable text. */
static void print_quoted(const char *s, size_t n)
{
    putchar('"');
    for (size_t i = 0; i < n;) {
        const unsigned char c = (unsigned char)s[i];
        const size_t len = utf8_length(s + i, n - i);
        if (c == '\n')
            fputs("\\n", stdout);
        else if (c == '\t')
            fputs("\\t", stdout);
        else if (c == '\r')
            fputs("\\r", stdout);
        else if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (len == 0 || c < 0x20 || c == 0x7f)
            printf("\\x%02x", c);
        else
            fwrite(s + i, 1, len, stdout);
        i += len ? len : 1;
    }
    putchar('"');
}

static int print_tokens(const puna_model *m, const int32_t *ids, size_t n, bool as_json)
{
    json_t *j_ids = as_json ? json_array() : NULL, *j_pieces = as_json ? json_array() : NULL;
    for (size_t i = 0; i < n; i++) {
        size_t len = 0;
        const char *piece = puna_token_bytes(m, ids[i], &len);
        if (as_json) {
            json_array_append_new(j_ids, json_integer(ids[i]));
            json_array_append_new(j_pieces, json_lossy(piece, len));
        } else {
            printf("%d\t", (int)ids[i]);
            print_quoted(piece, len);
            putchar('\n');
        }
    }
    return as_json ? print_json(json_pack("{s:o, s:o}", "ids", j_ids, "pieces", j_pieces)) : EXIT_OK;
}

static int run(const void *settings)
{
    const struct tokenize_settings *s = settings;
    struct puna_error err = { 0 };
    struct pn_buf text;
    bool given;
    if (s->text != NULL && s->file != NULL)
        return diag_usage("--prompt and --prompt-file exclude each other");
    if (prompt_read(&text, s->text, s->file, true, &given, &err) != 0)
        return diag_error(&err);

    puna_model *m = NULL;
    int32_t *ids = NULL;
    int status = model_open(&m, &s->model);
    if (status == EXIT_OK) {
        const int special = !s->no_special;
        int64_t n = puna_tokenize(m, text.data, text.len, special, NULL, 0, &err);
        if (n >= 0 && (ids = calloc((size_t)n + 1, sizeof(*ids))) == NULL)
            n = pn_fail_memory(&err, (size_t)n * sizeof(*ids), "token ids");
        if (n >= 0)
            n = puna_tokenize(m, text.data, text.len, special, ids, (size_t)n, &err);
        status = n < 0 ? diag_error(&err) : print_tokens(m, ids, (size_t)n, s->json);
    }
    free(ids);
    puna_model_close(&m);
    pn_buf_free(&text);
    return status;
}

const struct command cmd_tokenize = {
    .name = "tokenize",
    .usage = "[-m MODEL] [-p TEXT] [options]",
    .summary = "Print the token ids of a text and their pieces.",
    .details = "One token a line: the id, a tab, the piece in double quotes. Special tokens in the "
               "text, such as <|eot_id|>, are parsed unless --no-special is given. No "
               "<|begin_of_text|> is added.\n"
               "\n"
               "Examples:\n"
               "  puna tokenize -m llama3.2-vision -p 'How many tokens is this?'\n"
               "  puna tokenize -m model.gguf --json < README.md",
    .opts = options,
    .n_opts = sizeof(options) / sizeof(options[0]),
    .defaults = &defaults,
    .size = sizeof(defaults),
    .run = run,
};
