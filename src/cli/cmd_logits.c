/* SPDX-License-Identifier: Apache-2.0 */
/* puna logits: the logits of every position of a prompt, as a safetensors file. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/common.h"
#include "cli/prompt.h"
#include "cli/st_write.h"

struct logits_settings {
    struct model_settings model;
    struct session_settings session;
    struct opt_list images;
    const char *text, *file, *ids, *system, *out;
    bool raw, system_in_user;
};

static const struct logits_settings defaults;

#define T struct logits_settings
static const struct opt_spec options[] = {
    OPT_HEADING("Options"),
    OPTS_MODEL_NAME(T),
    OPT_ROW(T, images, OPT_LIST, "image", 'i', "IMAGE", "A picture; repeatable.", .dflt = ""),
    OPT_ROW(T, text, OPT_STRING, "prompt", 'p', "TEXT", "The prompt.", .dflt = ""),
    OPT_ROW(T, file, OPT_STRING, "prompt-file", 0, "FILE",
            "Read the prompt from FILE, byte for byte.", .dflt = ""),
    OPT_ROW(T, ids, OPT_STRING, "ids", 0, "LIST",
            "The prompt as token ids, separated by commas; each <|image|> id takes the next "
            "picture. Nothing is added.", .dflt = ""),
    OPT_ROW(T, out, OPT_STRING, "output", 'o', "FILE", "The safetensors file to write.", .dflt = ""),
    OPT_FLAG_ROW(T, raw, "raw", 0,
                 "No chat template: <|begin_of_text|>, pictures, and the text with its special "
                 "tokens parsed. What base models get anyway."),
    OPT_ROW(T, system, OPT_STRING, "system", 0, "TEXT", "System message.", .dflt = ""),
    OPT_FLAG_ROW(T, system_in_user, "system-in-user", 0,
                 "With pictures, put the system message into the user's turn."),
    OPT_HEADING("Computation"),
    OPTS_PRECISE(T),
    OPT_FLAG_ROW(T, session.hf_rows, "hf-rows", 0,
                 "Treat rows before a picture as Hugging Face does, not as Meta does."),
    OPT_ROW(T, session.chunk, OPT_INT, "chunk", 0, "N",
            "Tokens computed together. Does not change the result.", .dflt = "256", .min = 1,
            .max = 65536),
    OPT_FLAG_ROW(T, session.full_tiles, "full-tiles", 0,
                 "Compute every empty tile of a picture by itself. Does not change the result."),
    OPTS_CONTEXT(T),
    OPTS_PICTURES(T),
    OPTS_MACHINE(T),
};
#undef T

static int parse_ids(const char *list, int32_t **out, size_t *n_out)
{
    int32_t *ids = calloc(strlen(list) / 2 + 2, sizeof(*ids)); /* a digit and a comma each */
    if (ids == NULL)
        return diag("no memory for the token ids");
    size_t n = 0;
    const char *s = list;
    for (;;) {
        char *end;
        errno = 0;
        const long v = strtol(s, &end, 10);
        if (end == s || errno == ERANGE || v < 0 || v > INT32_MAX || (*end != ',' && *end != '\0')) {
            free(ids);
            return diag_usage("--ids takes token ids separated by commas, not '%.40s'", s);
        }
        ids[n++] = (int32_t)v;
        if (*end == '\0')
            break;
        s = end + 1;
    }
    *out = ids;
    *n_out = n;
    return EXIT_OK;
}

enum { TENSOR_LOGITS, TENSOR_IDS };

struct writing {
    struct st_writer *file;
    struct puna_error err; /* of a write inside the callback */
    int rc;
};

static int put_row(void *user, int32_t position, const float *logits, int32_t n_vocab)
{
    (void)position;
    struct writing *w = user;
    w->rc = st_put(w->file, TENSOR_LOGITS, logits, (size_t)n_vocab, &w->err);
    return w->rc != 0 || term_interrupted();
}

static int write_logits(puna_session *s, const char *path, int32_t n_vocab, struct puna_error *err)
{
    const int32_t n = puna_session_length(s);
    const struct st_decl tensors[] = {
        [TENSOR_LOGITS] = { "logits", ST_F32, 2, { n, n_vocab } },
        [TENSOR_IDS] = { "ids", ST_I64, 1, { n } },
    };
    struct writing w = { 0 };
    int rc = st_create(&w.file, path, tensors, 2, err);
    for (int32_t i = 0; i < n && rc == 0; i++) {
        const int64_t id = puna_session_token(s, i);
        rc = st_put(w.file, TENSOR_IDS, &id, 1, err);
    }
    if (rc == 0)
        rc = puna_session_eval(s, put_row, &w, err);
    if (w.rc != 0) { /* eval only knows that it was asked to stop */
        rc = w.rc;
        *err = w.err;
    }
    term_clear_progress();
    if (rc == 0)
        rc = st_commit(&w.file, err);
    st_abort(&w.file);
    return rc;
}

static int compute(const struct logits_settings *s, const puna_model *m, const struct prompt *prompt,
                   const int32_t *ids, size_t n_ids)
{
    struct puna_error err = { 0 };
    struct puna_session_params params;
    session_params(&params, &s->session);
    puna_session *session = NULL;
    int rc = puna_session_open(&session, m, &params, &err);
    if (rc == 0) {
        term_watch(session, false);
        rc = ids != NULL ? prompt_append_ids(session, m, ids, n_ids, prompt->pictures, &err)
                         : prompt_append(session, m, prompt, &err);
    }
    if (rc == 0)
        rc = write_logits(session, s->out, model_info(m).n_vocab, &err);
    term_watch(NULL, false);
    puna_session_close(&session);
    return rc == 0 ? EXIT_OK : diag_error(&err);
}

static int run(const void *settings)
{
    const struct logits_settings *s = settings;
    if (s->out == NULL)
        return diag_usage("where should the logits go? give -o FILE");
    if ((s->text != NULL) + (s->file != NULL) + (s->ids != NULL) != 1)
        return diag_usage("give one of --prompt, --prompt-file and --ids");
    int32_t *ids = NULL;
    size_t n_ids = 0;
    int status = s->ids != NULL ? parse_ids(s->ids, &ids, &n_ids) : EXIT_OK;
    if (status != EXIT_OK)
        return status;

    struct puna_error err = { 0 };
    struct pictures pictures = { 0 };
    struct pn_buf text = { 0 };
    puna_model *m = NULL;
    bool given;
    int rc = pictures_load(&pictures, &s->images, &err);
    if (rc == 0 && ids == NULL)
        rc = prompt_read(&text, s->text, s->file, false, &given, &err);
    status = rc == 0 ? model_open(&m, &s->model) : diag_error(&err);
    if (status == EXIT_OK) {
        const struct prompt prompt = {
            .text = text.data,
            .len = text.len,
            .pictures = &pictures,
            .system = s->system,
            .system_in_user = s->system_in_user,
            .image = image_params(&s->session),
            .raw = s->raw || !model_info(m).is_chat,
        };
        status = compute(s, m, &prompt, ids, n_ids);
    }
    puna_model_close(&m);
    pn_buf_free(&text);
    pictures_free(&pictures);
    free(ids);
    return status;
}

const struct command cmd_logits = {
    .name = "logits",
    .usage = "[-m MODEL] (-p TEXT | --ids LIST) [-i IMAGE]... -o FILE [options]",
    .summary = "Write the logits of every position of a prompt.",
    .details = "The file holds two tensors: `logits`, F32 [tokens][vocabulary], and `ids`, I64 "
               "[tokens], the prompt as it was computed. Pictures go before the text unless it "
               "holds <|image|>: then each <|image|> takes the next picture. The file appears only "
               "when it is complete.\n"
               "\n"
               "Examples:\n"
               "  puna logits -m llama3.2-vision -i cat.jpg -p 'A cat?' -o out.safetensors\n"
               "  puna logits -m DIR --ids 128000,791,6864 --precise -o out.safetensors",
    .opts = options,
    .n_opts = sizeof(options) / sizeof(options[0]),
    .defaults = &defaults,
    .size = sizeof(defaults),
    .run = run,
};
