/* SPDX-License-Identifier: Apache-2.0 */
/* The chat on a terminal. Each message is appended to one session, so that earlier turns are never
 * computed again; a message that could not be answered is taken back, so that the conversation in the
 * session is always the one on the screen. */
#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "base/outfile.h"
#include "cli/run.h"
#include "cli/show.h"

enum { HISTORY_LINES = 1000 };

struct chat {
    const struct run_settings *settings;
    const puna_model *m;
    puna_session *session;
    struct puna_gen_params params;
    struct pictures *queued; /* for the next message */
    struct opt_list paths;   /* their names; owned strings, longer-lived than the pictures */
    char *system;            /* NULL: none */
    struct pn_buf transcript;
    struct pn_buf history_path;
    EditLine *el;
    History *history;
    bool continued; /* the prompt for a further line of the same message */
};

/* ------------------------------------------------------------------------------------- line editing */

static char *prompt_text(EditLine *el)
{
    static char first[32], further[32];
    struct chat *c = NULL;
    el_get(el, EL_CLIENTDATA, &c);
    /* \1 brackets what takes no room on the line (EL_PROMPT_ESC) */
    const char *bold = term_style(STDOUT_FILENO, '1'), *off = term_style(STDOUT_FILENO, '0');
    snprintf(first, sizeof(first), "\1%s\1>\1%s\1 ", bold, off);
    snprintf(further, sizeof(further), "\1%s\1.\1%s\1 ", bold, off);
    return c->continued ? further : first;
}

/* libedit's own reader would block in read() when Ctrl-C came a moment before. */
static int read_character(EditLine *el, wchar_t *out)
{
    (void)el;
    char byte;
    mbstate_t state = { 0 };
    for (;;) {
        if (!term_wait_readable(STDIN_FILENO))
            return -1;
        const ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n <= 0)
            return n < 0 && errno == EINTR ? -1 : 0;
        const size_t used = mbrtowc(out, &byte, 1, &state);
        if (used == (size_t)-1)
            state = (mbstate_t){ 0 }; /* not a character: dropped */
        else if (used != (size_t)-2)
            return 1;
    }
}

static bool make_folders(const char *path)
{
    struct pn_buf part = { 0 };
    bool ok = true;
    for (const char *s = path; ok && (s = strchr(s + 1, '/')) != NULL;) {
        part.len = 0;
        ok = pn_buf_append(&part, path, (size_t)(s - path)) &&
             (mkdir(part.data, 0700) == 0 || errno == EEXIST);
    }
    pn_buf_free(&part);
    return ok;
}

/* XDG base directories: state is what survives a program but is worth nothing elsewhere. */
static void find_history(struct pn_buf *path)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (state != NULL && state[0] == '/')
        pn_buf_printf(path, "%s/puna/history", state);
    else if (home != NULL && home[0] == '/')
        pn_buf_printf(path, "%s/.local/state/puna/history", home);
}

static bool editor_open(struct chat *c)
{
    HistEvent ev;
    c->el = el_init("puna", stdin, stdout, stderr);
    c->history = history_init();
    if (c->el == NULL || c->history == NULL) {
        diag("cannot set up line editing on this terminal");
        return false;
    }
    history(c->history, &ev, H_SETSIZE, HISTORY_LINES);
    history(c->history, &ev, H_SETUNIQUE, 1);
    find_history(&c->history_path);
    if (c->history_path.len > 0)
        history(c->history, &ev, H_LOAD, c->history_path.data);
    el_set(c->el, EL_CLIENTDATA, c);
    el_set(c->el, EL_GETCFN, read_character);
    el_set(c->el, EL_PROMPT_ESC, prompt_text, '\1');
    el_set(c->el, EL_EDITOR, "emacs");
    el_set(c->el, EL_HIST, history, c->history);
    el_set(c->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    return true;
}

static void editor_close(struct chat *c)
{
    HistEvent ev;
    if (c->history != NULL && c->history_path.len > 0 && make_folders(c->history_path.data))
        history(c->history, &ev, H_SAVE, c->history_path.data);
    if (c->history != NULL)
        history_end(c->history);
    if (c->el != NULL)
        el_end(c->el);
    pn_buf_free(&c->history_path);
}

enum line { LINE_TEXT, LINE_EMPTY, LINE_END };

/* One message, its lines joined by newlines. */
static enum line read_message(struct chat *c, struct pn_buf *message)
{
    HistEvent ev;
    message->len = 0;
    pn_buf_str(message, "");
    c->continued = false;
    for (;;) {
        int n = 0;
        const char *line = el_gets(c->el, &n);
        if (line == NULL && term_interrupted()) {
            /* Ctrl-C drops what was typed; SIGTERM and SIGHUP stay pending and end the program */
            term_clear_interrupt();
            el_reset(c->el);
            putchar('\n');
            return term_interrupted() ? LINE_END : LINE_EMPTY;
        }
        if (line == NULL || n <= 0)
            return LINE_END;
        size_t len = strcspn(line, "\r\n");
        const bool more = len > 0 && line[len - 1] == '\\';
        pn_buf_append(message, line, more ? len - 1 : len);
        if (!more)
            break;
        pn_buf_str(message, "\n");
        c->continued = true;
    }
    if (message->len == 0)
        return LINE_EMPTY;
    history(c->history, &ev, H_ENTER, message->data);
    return LINE_TEXT;
}

/* ------------------------------------------------------------------------------------- transcript */

static void note_turn(struct chat *c, const char *role, const char *text, size_t len)
{
    pn_buf_printf(&c->transcript, "## %s\n\n", role);
    if (strcmp(role, "user") == 0) {
        for (size_t i = 0; i < c->queued->n; i++)
            pn_buf_printf(&c->transcript, "![](%s)\n\n", c->queued->v[i].path);
    }
    pn_buf_append(&c->transcript, text, len);
    pn_buf_str(&c->transcript, "\n\n");
}

static void drop_queue(struct chat *c)
{
    pictures_free(c->queued);
    for (size_t i = 0; i < c->paths.n; i++)
        free((char *)c->paths.v[i]);
    c->paths.n = 0;
}

/* ------------------------------------------------------------------------------------- a turn */

static int32_t context_size(const struct chat *c)
{
    const int32_t trained = model_info(c->m).n_ctx_train;
    return c->settings->session.ctx > 0 ? (int32_t)c->settings->session.ctx
           : trained < 4096             ? trained
                                        : 4096;
}


static int append_message(struct chat *c, const struct pn_buf *message, struct puna_error *err)
{
    const struct prompt prompt = {
        .text = message->data,
        .len = message->len,
        .pictures = c->queued,
        .system = puna_session_length(c->session) == 0 ? c->system : NULL,
        .system_in_user = c->settings->system_in_user,
        .image = image_params(&c->settings->session),
    };
    return prompt_append(c->session, c->m, &prompt, err);
}

static void take_back(struct chat *c, int32_t length)
{
    struct puna_error err = { 0 };
    if (puna_session_rewind(c->session, length, &err) != 0)
        diag_error(&err);
}

static void tell_end(const struct chat *c, const struct puna_gen_result *r)
{
    if (r->finish == PUNA_FINISH_CANCELLED)
        diag("stopped");
    else if (r->finish == PUNA_FINISH_LENGTH &&
             puna_session_length(c->session) >= context_size(c))
        diag("the context of %d tokens is full: /clear begins a new conversation, and --ctx N makes "
             "room for more", (int)context_size(c));
    else if (r->finish == PUNA_FINISH_LENGTH)
        diag("the answer reached -n %d tokens", (int)c->params.max_tokens);
    if (c->settings->timings)
        print_timings(r, 0, c->params.seed);
}

/* Answer the message, or take it back. */
static void take_turn(struct chat *c, const struct pn_buf *message)
{
    struct puna_error err = { 0 };
    struct puna_gen_result result = { 0 };
    struct answer a = { .model = c->m, .stream = true };
    const int32_t before = puna_session_length(c->session);

    term_watch(c->session, true);
    int rc = append_message(c, message, &err);
    if (rc == 0) {
        rc = puna_generate(c->session, &c->params, answer_piece, &a, &result, &err);
        term_clear_progress();
    }
    term_watch(NULL, true); /* a Ctrl-C at the prompt must not cancel the next answer */
    term_clear_interrupt();
    if (a.text.len > 0 && a.text.data[a.text.len - 1] != '\n')
        putchar('\n');
    /* an interrupted prefill reports an error, an interrupted answer a finish reason; what counts is
     * whether there is an answer to keep */
    const bool stopped = rc == PUNA_E_CANCELLED || (rc == 0 && result.finish == PUNA_FINISH_CANCELLED);
    if (stopped && a.text.len == 0) {
        take_back(c, before);
        diag("stopped before the answer began; the message is taken back");
    } else if (rc != 0 && !stopped) {
        take_back(c, before);
        diag_error(&err);
        if (rc == PUNA_E_CONTEXT && before > 0)
            diag("the conversation so far takes %d tokens: /clear begins a new one", (int)before);
    } else {
        note_turn(c, "user", message->data, message->len);
        note_turn(c, "assistant", a.text.data != NULL ? a.text.data : "", a.text.len);
        if (stopped)
            result.finish = PUNA_FINISH_CANCELLED;
        tell_end(c, &result);
        c->params.seed++; /* the same question again may have another answer */
    }
    drop_queue(c);
    pn_buf_free(&a.text);
}

/* ------------------------------------------------------------------------------------- commands */

/* A file name as typed or dropped on the terminal: blanks around it, quotes, backslashes, ~/. */
static char *file_name(const char *s)
{
    struct pn_buf out = { 0 };
    s += strspn(s, " \t");
    const char *home = getenv("HOME");
    if (s[0] == '~' && s[1] == '/' && home != NULL) {
        pn_buf_str(&out, home);
        s++;
    }
    char quote = 0;
    size_t keep = out.len; /* blanks after this length are not part of the name */
    for (; *s != '\0'; s++) {
        bool literal = quote != 0;
        if (quote != 0 && *s == quote) {
            quote = 0;
            keep = out.len;
            continue;
        }
        if (quote == 0 && (*s == '\'' || *s == '"')) {
            quote = *s;
            continue;
        }
        if (quote != '\'' && *s == '\\' && s[1] != '\0') {
            s++;
            literal = true;
        }
        pn_buf_append(&out, s, 1);
        if (literal || (*s != ' ' && *s != '\t'))
            keep = out.len;
    }
    if (out.failed || keep == 0) {
        pn_buf_free(&out);
        return NULL;
    }
    out.data[keep] = '\0';
    return out.data;
}

/* Decode it now, without the encoder: a broken picture is told at once, not with the message. */
static void queue_picture(struct chat *c, const char *arg)
{
    struct puna_error err = { 0 };
    char *path = file_name(arg);
    if (path == NULL) {
        diag("which picture? /image FILE");
        return;
    }
    const char **v = realloc(c->paths.v, (c->paths.n + 1) * sizeof(*v));
    if (v != NULL)
        c->paths.v = v;
    if (v == NULL || pictures_add(c->queued, path, &err) != 0) {
        if (v == NULL)
            pn_fail_memory(&err, sizeof(*v), "a picture");
        diag_error(&err);
        free(path);
        return;
    }
    struct picture *pic = &c->queued->v[c->queued->n - 1];
    const struct puna_image_params params = image_params(&c->settings->session);
    struct puna_encoded e = { 0 };
    if (puna_encode_image(c->m, pic->bytes, pic->len, &params, 0, NULL, NULL, &e, &err) != 0) {
        diag("%s: %s", path, err.message);
        free(pic->bytes);
        c->queued->n--;
        free(path);
        return;
    }
    c->paths.v[c->paths.n++] = path;
    if (c->settings->show)
        show_picture(c->m, pic, &params);
    printf("%s: %dx%d, goes with the next message\n", path, (int)e.width, (int)e.height);
    puna_encoded_free(&e);
}

static void clear_conversation(struct chat *c)
{
    take_back(c, 0);
    c->transcript.len = 0;
    drop_queue(c);
}

static void set_system(struct chat *c, const char *arg)
{
    arg += strspn(arg, " \t");
    char *text = arg[0] != '\0' ? strdup(arg) : NULL;
    free(c->system);
    c->system = text;
    clear_conversation(c);
    puts(text != NULL ? "system message set; the conversation begins anew"
                      : "no system message; the conversation begins anew");
}

static void save(struct chat *c, const char *arg)
{
    struct puna_error err = { 0 };
    char *path = file_name(arg);
    if (path == NULL)
        diag("where to? /save FILE");
    else if (pn_outfile_put(path, c->transcript.len > 0 ? c->transcript.data : "", c->transcript.len,
                         &err) != 0)
        diag_error(&err);
    else
        printf("saved to %s\n", path);
    free(path);
}

static void print_commands(void)
{
    puts("/image FILE    a picture for the next message\n"
         "/system TEXT   set the system message; begins a new conversation\n"
         "/clear         forget the conversation\n"
         "/save FILE     write the conversation to FILE as Markdown\n"
         "/exit          leave (also Ctrl-D)\n"
         "A line that ends in \\ goes on with the next one. A message that begins with a blank is\n"
         "sent as it is, even if a / follows. Ctrl-C stops an answer.");
}

/* line begins with '/'. false: leave. */
static bool obey(struct chat *c, const char *line)
{
    const size_t n = strcspn(line, " \t\n");
    const char *arg = line + n;
#define IS(word) (n == strlen(word) && memcmp(line, word, n) == 0)
    if (IS("/exit") || IS("/quit") || IS("/bye"))
        return false;
    if (IS("/image"))
        queue_picture(c, arg);
    else if (IS("/clear"))
        clear_conversation(c);
    else if (IS("/system"))
        set_system(c, arg);
    else if (IS("/save"))
        save(c, arg);
    else if (IS("/help") || IS("/?"))
        print_commands();
    else
        diag("there is no %.*s; /help lists the commands", (int)n, line);
#undef IS
    return true;
}

/* ------------------------------------------------------------------------------------- the loop */

/* libedit reads characters by the locale; in the C locale it would drop everything but ASCII. */
static void use_utf8(void)
{
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

int repl(const struct run_settings *s, const puna_model *m, puna_session *session,
         const struct puna_gen_params *params, struct pictures *pictures)
{
    struct chat c = {
        .settings = s,
        .m = m,
        .session = session,
        .params = *params,
        .queued = pictures,
        .system = s->system != NULL ? strdup(s->system) : NULL,
    };
    struct pn_buf message = { 0 };
    use_utf8();
    int status = editor_open(&c) ? EXIT_OK : EXIT_FAILED;
    if (status == EXIT_OK)
        printf("%s%s, /help for help%s\n", term_style(STDOUT_FILENO, '2'),
               path_base(model_info(m).path), term_style(STDOUT_FILENO, '0'));
    term_watch(NULL, true);
    for (bool on = status == EXIT_OK; on;) {
        fflush(stdout);
        switch (read_message(&c, &message)) {
        case LINE_END:
            putchar('\n');
            on = false;
            break;
        case LINE_EMPTY:
            break;
        case LINE_TEXT:
            if (message.data[0] == '/')
                on = obey(&c, message.data);
            else
                take_turn(&c, &message);
            on = on && !term_interrupted();
            break;
        }
    }
    term_watch(NULL, false);
    editor_close(&c);
    drop_queue(&c);
    free(c.paths.v);
    free(c.system);
    pn_buf_free(&c.transcript);
    pn_buf_free(&message);
    return status;
}
