/* SPDX-License-Identifier: Apache-2.0 */
/* puna run: answer once, or chat. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "cli/run.h"
#include "cli/show.h"

static const struct run_settings defaults = {
    .temperature = NAN,
    .top_p = NAN,
    .top_k = -1,
    .repeat_penalty = 1,
    .repeat_last_n = 64,
    .max_tokens = -1,
    .logprobs = -1,
};

#define T struct run_settings
static const struct opt_spec options[] = {
    OPT_HEADING("Options"),
    OPTS_MODEL_NAME(T),
    OPT_ROW(T, images, OPT_LIST, "image", 'i', "IMAGE",
            "A picture (JPEG, PNG, WebP, GIF, BMP); repeatable.", .dflt = ""),
    OPT_ROW(T, text, OPT_STRING, "prompt", 'p', "TEXT", "The question.",
            .dflt = "standard input; on a terminal: a chat"),
    OPT_ROW(T, file, OPT_STRING, "prompt-file", 0, "FILE",
            "Read the question from FILE. One newline at its end, or at that of standard input, is "
            "left away.", .dflt = ""),
    OPT_ROW(T, system, OPT_STRING, "system", 0, "TEXT", "System message.", .dflt = ""),
    OPT_FLAG_ROW(T, system_in_user, "system-in-user", 0,
                 "With pictures, put the system message into the user's turn: the model's own "
                 "template refuses the two together."),
    OPT_FLAG_ROW(T, raw, "raw", 0,
                 "No chat template: <|begin_of_text|>, pictures, and the text with its special "
                 "tokens parsed. What base models get anyway."),
    OPT_FLAG_ROW(T, json, "json", 0,
                 "One JSON object at the end instead of text as it comes: text, finish, tokens, "
                 "pictures, timings, seed."),
    OPT_ROW(T, logprobs, OPT_INT, "logprobs", 0, "N",
            "With --json: log-probabilities of each token and of the N best instead.", .dflt = "none",
            .min = 0, .max = 20),
    OPT_FLAG_ROW(T, timings, "timings", 0, "Tell on standard error what took how long."),
    OPT_FLAG_ROW(T, show, "show", 0, "Draw the pictures on the terminal first, as the model sees them."),
    OPT_HEADING("Answer"),
    OPT_ROW(T, max_tokens, OPT_INT, "max-tokens", 'n', "N", "At most N tokens; -1: to the end of the context.",
            .min = -1, .max = INT32_MAX),
    OPT_ROW(T, stop, OPT_LIST, "stop", 0, "TEXT", "End the answer before TEXT; repeatable.", .dflt = ""),
    OPT_FLAG_ROW(T, ignore_eos, "ignore-eos", 0, "The model's end tokens are never chosen."),
    OPT_ROW(T, temperature, OPT_REAL, "temp", 0, "X", "Temperature; 0: always the likeliest token.",
            .dflt = "the model's", .min = 0, .max = 100),
    OPT_ROW(T, top_k, OPT_INT, "top-k", 0, "N", "Choose among the N likeliest; 0: off.",
            .dflt = "the model's", .min = 0, .max = INT32_MAX),
    OPT_ROW(T, top_p, OPT_REAL, "top-p", 0, "X",
            "Choose among the likeliest that together have probability X; 1: off.",
            .dflt = "the model's", .min = 0, .max = 1),
    OPT_ROW(T, min_p, OPT_REAL, "min-p", 0, "X",
            "Drop tokens less likely than X times the likeliest; 0: off.", .min = 0, .max = 1),
    OPT_ROW(T, repeat_penalty, OPT_REAL, "repeat-penalty", 0, "X",
            "Penalty for tokens among the last ones; 1: off.", .min = 0.01, .max = 100),
    OPT_ROW(T, repeat_last_n, OPT_INT, "repeat-last-n", 0, "N",
            "How many last tokens --repeat-penalty looks at; -1: all.", .min = -1, .max = INT32_MAX),
    OPT_ROW(T, presence_penalty, OPT_REAL, "presence-penalty", 0, "X",
            "Subtracted from the logit of each token of the answer so far.", .min = -100, .max = 100),
    OPT_ROW(T, frequency_penalty, OPT_REAL, "frequency-penalty", 0, "X",
            "The same, times how often the token has come.", .min = -100, .max = 100),
    OPT_ROW(T, logit_bias, OPT_LIST, "logit-bias", 0, "ID=BIAS",
            "Added to the logit of token ID; repeatable.", .dflt = ""),
    OPT_ROW(T, seed, OPT_SEED, "seed", 0, "N", "Same seed, same machine: same answer.",
            .dflt = "random; told by --json and --timings"),
    OPT_HEADING("Computation"),
    OPTS_CONTEXT(T),
    OPTS_PRECISE(T),
    OPTS_PICTURES(T),
    OPTS_MACHINE(T),
};
#undef T

/* ------------------------------------------------------------------------------------- settings */

static int parse_bias(const char *s, struct puna_logit_bias *out)
{
    char *end;
    errno = 0;
    const long id = strtol(s, &end, 10);
    if (end != s && *end == '=' && errno == 0 && id >= 0 && id <= INT32_MAX) {
        const char *number = end + 1;
        const float bias = strtof(number, &end);
        if (end != number && *end == '\0' && isfinite(bias)) {
            *out = (struct puna_logit_bias){ (int32_t)id, bias };
            return EXIT_OK;
        }
    }
    return diag_usage("--logit-bias takes ID=BIAS, such as 128009=-2.5, not '%s'", s);
}

static uint64_t random_seed(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        seed = (uint64_t)(term_now() * 1e9);
    return seed & ((UINT64_C(1) << 53) - 1); /* exact in any JSON reader */
}

/* bias: [s->logit_bias.n], kept by the caller as long as the parameters. */
static void generation_params(struct puna_gen_params *p, const struct run_settings *s,
                              const puna_model *m, const struct puna_logit_bias *bias)
{
    puna_gen_params_init(p, m);
    if (!isnan(s->temperature))
        p->temperature = (float)s->temperature;
    if (!isnan(s->top_p))
        p->top_p = (float)s->top_p;
    if (s->top_k >= 0)
        p->top_k = (int32_t)s->top_k;
    p->max_tokens = (int32_t)s->max_tokens;
    p->min_p = (float)s->min_p;
    p->repeat_penalty = (float)s->repeat_penalty;
    p->repeat_last_n = (int32_t)s->repeat_last_n;
    p->presence_penalty = (float)s->presence_penalty;
    p->frequency_penalty = (float)s->frequency_penalty;
    p->seed = s->seed.given ? s->seed.value : random_seed();
    p->logit_bias = bias;
    p->n_logit_bias = s->logit_bias.n;
    p->stop = s->stop.v;
    p->n_stop = s->stop.n;
    p->ignore_eos = s->ignore_eos;
    p->top_logprobs = (int32_t)s->logprobs;
}

/* ------------------------------------------------------------------------------------- the answer */

static json_t *json_logprob(float logprob)
{
    return isfinite(logprob) ? json_real((double)logprob) : json_null();
}

static json_t *json_token(const puna_model *m, int32_t id, float logprob)
{
    size_t len = 0;
    const char *bytes = puna_token_bytes(m, id, &len);
    return json_pack("{s:i, s:o, s:o}", "id", (int)id, "text", json_lossy(bytes, len), "logprob",
                     json_logprob(logprob));
}

int answer_piece(void *user, const struct puna_piece *piece)
{
    struct answer *a = user;
    term_clear_progress();
    pn_buf_append(&a->text, piece->text, piece->text_len);
    /* the last piece may be only text, held back for a stop string that did not come */
    const bool token = piece->id >= 0;
    if (token && a->ids != NULL)
        json_array_append_new(a->ids, json_integer(piece->id));
    if (token && a->logprobs != NULL) {
        json_t *top = json_array();
        for (int32_t i = 0; i < piece->n_top; i++)
            json_array_append_new(top, json_token(a->model, piece->top[i].id, piece->top[i].logprob));
        json_t *entry = json_token(a->model, piece->id, piece->logprob);
        json_object_set_new(entry, "top", top);
        json_array_append_new(a->logprobs, entry);
    }
    if (a->stream) {
        fwrite(piece->text, 1, piece->text_len, stdout);
        a->stream_broken = fflush(stdout) != 0 || ferror(stdout);
    }
    return a->stream_broken || a->text.failed;
}

static double rate(double n, double seconds)
{
    return seconds > 0 ? n / seconds : 0;
}

/* Tokens a second after the first, which comes with the prompt. */
static double decode_rate(const struct puna_gen_result *r)
{
    return r->n_generated > 1 ? rate(r->n_generated - 1, r->decode_seconds) : 0;
}

void print_timings(const struct puna_gen_result *r, double load_seconds, uint64_t seed)
{
    fflush(stdout); /* the answer comes first, also where both go to one file */
    if (r->n_images > 0)
        diag("%d picture%s (%d from the cache) in %.2f s", (int)r->n_images,
             r->n_images == 1 ? "" : "s", (int)r->n_images_cached, r->image_seconds);
    diag("prompt %d tokens in %.2f s (%.1f tok/s), answer %d tokens in %.2f s (%.1f tok/s)",
         (int)r->n_prompt, r->prefill_seconds, rate(r->n_prompt, r->prefill_seconds),
         (int)r->n_generated, r->decode_seconds, decode_rate(r));
    diag("first token after %.2f s, model opened in %.2f s, seed %llu", r->first_token_seconds,
         load_seconds, (unsigned long long)seed);
}

static json_t *json_answer(struct answer *a, const struct puna_gen_result *r, double load_seconds,
                           uint64_t seed)
{
    static const char *const finish[] = { [PUNA_FINISH_STOP] = "stop",
                                          [PUNA_FINISH_LENGTH] = "length",
                                          [PUNA_FINISH_CANCELLED] = "cancelled" };
    json_t *tokens = json_pack("{s:i, s:i, s:O}", "prompt", (int)r->n_prompt, "generated",
                               (int)r->n_generated, "ids", a->ids);
    json_t *pictures = json_pack("{s:i, s:i}", "count", (int)r->n_images, "cached",
                                 (int)r->n_images_cached);
    json_t *timings = json_pack(
        "{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "load_seconds", load_seconds, "image_seconds",
        r->image_seconds, "prefill_seconds", r->prefill_seconds, "decode_seconds", r->decode_seconds,
        "first_token_seconds", r->first_token_seconds, "prefill_tokens_per_second",
        rate(r->n_prompt, r->prefill_seconds), "decode_tokens_per_second",
        decode_rate(r));
    json_t *j = json_pack("{s:o, s:s, s:o, s:o, s:o, s:I}", "text",
                          json_lossy(a->text.data ? a->text.data : "", a->text.len), "finish",
                          finish[r->finish], "tokens", tokens, "pictures", pictures, "timings",
                          timings, "seed", (json_int_t)seed);
    if (r->stop_string != NULL)
        json_object_set_new(j, "stop_string", json_lossy(r->stop_string, strlen(r->stop_string)));
    if (a->logprobs != NULL)
        json_object_set(j, "logprobs", a->logprobs);
    return j;
}

static int answer_once(const struct run_settings *s, const puna_model *m, puna_session *session,
                       const struct puna_gen_params *params, double load_seconds)
{
    struct puna_error err = { 0 };
    struct puna_gen_result result = { 0 };
    struct answer a = { .model = m, .stream = !s->json };
    if (s->json)
        a.ids = json_array();
    if (s->logprobs >= 0)
        a.logprobs = json_array();
    const int rc = puna_generate(session, params, answer_piece, &a, &result, &err);
    term_clear_progress();

    int status = EXIT_OK;
    if (a.stream && a.text.len > 0 && a.text.data[a.text.len - 1] != '\n')
        putchar('\n'); /* also after an answer that broke off, so that the error stands alone */
    if (rc != 0)
        status = diag_error(&err);
    else if (a.text.failed)
        status = diag("no memory for the answer");
    else if (s->json)
        status = print_json(json_answer(&a, &result, load_seconds, params->seed));
    if (rc == 0 && s->timings)
        print_timings(&result, load_seconds, params->seed);
    json_decref(a.ids);
    json_decref(a.logprobs);
    pn_buf_free(&a.text);
    return status;
}

/* ------------------------------------------------------------------------------------- the command */

static int check_settings(const struct run_settings *s)
{
    if (s->text != NULL && s->file != NULL)
        return diag_usage("--prompt and --prompt-file exclude each other");
    if (s->logprobs >= 0 && !s->json)
        return diag_usage("--logprobs needs --json");
    if (s->raw && s->system != NULL)
        return diag_usage("--raw has no chat template to put --system into");
    return EXIT_OK;
}

/* Things the model decides: a base model has no chat, a template has its rules. */
static int check_model(const struct run_settings *s, const puna_model *m, bool chat, bool *raw)
{
    const struct puna_model_info info = model_info(m);
    *raw = s->raw || !info.is_chat;
    if (chat && !info.is_chat)
        return diag("%s is a base model, which continues text but does not chat; give -p TEXT", info.path);
    if (!info.is_chat && s->system != NULL)
        return diag("%s is a base model and takes no --system message", info.path);
    if (!info.is_chat && !s->raw && term_is_tty(STDERR_FILENO))
        diag("note: this is a base model, so the text goes in as it is, without a chat template");
    return EXIT_OK;
}

static int with_session(const struct run_settings *s, const puna_model *m, struct pn_buf *text,
                        struct pictures *pictures, bool chat, double load_seconds)
{
    bool raw;
    if (check_model(s, m, chat, &raw) != EXIT_OK)
        return EXIT_FAILED;
    struct puna_logit_bias *bias = calloc(s->logit_bias.n + 1, sizeof(*bias));
    if (bias == NULL)
        return diag("no memory for the options");
    int status = EXIT_OK;
    for (size_t i = 0; i < s->logit_bias.n && status == EXIT_OK; i++)
        status = parse_bias(s->logit_bias.v[i], &bias[i]);

    struct puna_error err = { 0 };
    struct puna_gen_params generation;
    struct puna_session_params params;
    puna_session *session = NULL;
    generation_params(&generation, s, m, bias);
    session_params(&params, &s->session);
    if (status == EXIT_OK && puna_session_open(&session, m, &params, &err) != 0)
        status = diag_error(&err);
    const struct puna_image_params image = image_params(&s->session);
    for (size_t i = 0; status == EXIT_OK && s->show && i < pictures->n; i++)
        show_picture(m, &pictures->v[i], &image);
    if (status == EXIT_OK && chat) {
        status = repl(s, m, session, &generation, pictures);
    } else if (status == EXIT_OK) {
        term_watch(session, false);
        const struct prompt prompt = {
            .text = text->data,
            .len = text->len,
            .pictures = pictures,
            .system = s->system,
            .system_in_user = s->system_in_user,
            .image = image,
            .raw = raw,
        };
        status = prompt_append(session, m, &prompt, &err) != 0
                     ? diag_error(&err)
                     : answer_once(s, m, session, &generation, load_seconds);
    }
    term_watch(NULL, false);
    puna_session_close(&session);
    free(bias);
    return status;
}

static int run(const void *settings)
{
    const struct run_settings *s = settings;
    int status = check_settings(s);
    if (status != EXIT_OK)
        return status;

    struct puna_error err = { 0 };
    struct pictures pictures;
    struct pn_buf text = { 0 };
    const bool on_terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !s->json;
    bool given = false;
    int rc = pictures_load(&pictures, &s->images, &err);
    if (rc == 0)
        rc = prompt_read(&text, s->text, s->file, !on_terminal, &given, &err);
    if (rc != 0) {
        pictures_free(&pictures);
        return diag_error(&err);
    }
    /* the newline that echo and editors put at the end is not part of a question */
    if (s->text == NULL && text.len > 0 && text.data[text.len - 1] == '\n')
        text.data[--text.len] = '\0';
    puna_model *m = NULL;
    if (given && text.len == 0 && pictures.n == 0) {
        status = diag_usage("there is nothing to answer: the prompt is empty");
    } else if (!given && s->raw) {
        status = diag_usage("--raw does not chat; give -p TEXT");
    } else {
        const double start = term_now();
        status = model_open(&m, &s->model);
        if (status == EXIT_OK)
            status = with_session(s, m, &text, &pictures, !given, term_now() - start);
    }
    puna_model_close(&m);
    pn_buf_free(&text);
    pictures_free(&pictures);
    return status;
}

const struct command cmd_run = {
    .name = "run",
    .usage = "[-m MODEL] [-i IMAGE]... [-p TEXT] [options]",
    .summary = "Answer a question about pictures and text, or chat.",
    .details =
        "The answer is printed as it comes. Pictures go before the text unless TEXT holds "
        "<|image|>: then each <|image|> takes the next picture. Without a question on the command "
        "line it is read from standard input; on a terminal a chat begins, with line editing, "
        "history and the commands /image FILE, /clear, /save FILE, /system TEXT, /help and /exit. "
        "In the chat a line that ends in a backslash goes on with the next one, Ctrl-C stops an "
        "answer, and Ctrl-D leaves.\n"
        "\n"
        "MODEL is a Hugging Face directory, a .gguf file, or an Ollama name found in "
        "$OLLAMA_MODELS, ~/.ollama/models or /usr/share/ollama/.ollama/models.\n"
        "\n"
        "Examples:\n"
        "  puna run -m llama3.2-vision -i cat.jpg -p 'What is in this picture?'\n"
        "  puna run -m MODEL -i a.png -i b.png -p 'Is <|image|> like <|image|>?'\n"
        "  puna run -m llama3.2-vision\n"
        "  echo 'Why is the sky blue?' | puna run -m model.gguf --temp 0 --json",
    .opts = options,
    .n_opts = sizeof(options) / sizeof(options[0]),
    .defaults = &defaults,
    .size = sizeof(defaults),
    .run = run,
};
