/* SPDX-License-Identifier: Apache-2.0 */
/* The template's control flow, written out; comments name the template's variables. It was never
 * meant to be pretty: several of its corners (a list content printed as a Python repr, pictures
 * lost when tools are given) are reproduced because models have seen prompts made that way. */
#include "text/chat.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "text/pyfmt.h"

static const char default_date[] = "26 Jul 2024";

/* What message['content'] would be in Python. */
enum form { STRING, LIST, TREE };

struct view {
    const char *role;
    enum form form;
    const struct puna_part *parts; /* STRING: their texts, one after the other */
    size_t n_parts;
    json_t *tree;                  /* TREE: a list or an object */
    const char *tool_name;
    json_t *tool_arguments;
};

struct chat {
    struct pn_chat_text *out;
    const struct puna_chat_opts *opts;
    struct view *views;
    size_t n;
    json_t *tools;             /* an array, or NULL: none */
    bool has_system;           /* the first message is one */
    struct pn_buf system;      /* system_message: trimmed */
    bool has_images;
    struct pn_buf merged;      /* system_in_user: the new text, and ... */
    struct puna_part *patched; /* ... the parts it is in */
};

/* ---------------------------------------------------------------------------- input */

static bool is_picture(const struct puna_part *p)
{
    return !p->text;
}

static bool parse_json(json_t **out, const char *text, const char *what, struct puna_error *err)
{
    json_error_t e;
    *out = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (!*out)
        (void)pn_fail(err, PUNA_E_ARG, "%s: not valid JSON: %s, line %d column %d", what, e.text,
                      e.line, e.column);
    return *out != NULL;
}

static int read_message(struct view *v, const struct puna_message *m, size_t i,
                        struct puna_error *err)
{
    if (!m->role)
        return pn_fail(err, PUNA_E_ARG, "message %zu has no role", i + 1);
    *v = (struct view){ .role = m->role, .form = m->is_list ? LIST : STRING, .parts = m->parts,
                        .n_parts = m->n_parts, .tool_name = m->tool_name };
    for (size_t k = 0; k < m->n_parts; k++) {
        if (is_picture(&m->parts[k]))
            v->form = LIST;
    }
    if (m->content_json) {
        if ((strcmp(m->role, "tool") != 0 && strcmp(m->role, "ipython") != 0) || m->n_parts)
            return pn_fail(err, PUNA_E_ARG,
                           "message %zu: content as JSON is for the roles tool and ipython, and "
                           "instead of parts", i + 1);
        if (!parse_json(&v->tree, m->content_json, "the content of a tool message", err))
            return PUNA_E_ARG;
        v->form = TREE;
        if (!json_is_object(v->tree) && !json_is_array(v->tree) && !json_is_string(v->tree))
            return pn_fail(err, PUNA_E_ARG,
                           "message %zu: the content of a tool message is a string, a list or an "
                           "object", i + 1);
    }
    if (m->tool_name) {
        if (!m->tool_arguments)
            return pn_fail(err, PUNA_E_ARG,
                           "message %zu calls the tool '%s' without arguments; give "
                           "{} if it takes none",
                           i + 1, m->tool_name);
        if (!parse_json(&v->tool_arguments, m->tool_arguments, "the arguments of a tool call", err))
            return PUNA_E_ARG;
    }
    return 0;
}

static bool view_has_image(const struct view *v)
{
    for (size_t i = 0; i < v->n_parts; i++) {
        if (is_picture(&v->parts[i]))
            return true;
    }
    for (size_t i = 0; i < json_array_size(v->tree); i++) {
        const char *type = json_string_value(json_object_get(json_array_get(v->tree, i), "type"));
        if (type && strcmp(type, "image") == 0)
            return true;
    }
    return false;
}

/* All texts of a content, one after the other. */
static void put_texts(struct pn_buf *b, const struct view *v)
{
    for (size_t i = 0; i < v->n_parts; i++) {
        if (!is_picture(&v->parts[i]))
            (void)pn_buf_append(b, v->parts[i].text, v->parts[i].text_len);
    }
}

/* A list content as the Python object it is: [{'type': 'image'}, {'type': 'text', 'text': ...}]. */
static void put_list(struct pn_buf *b, const struct view *v, bool repr)
{
    void (*put_string)(struct pn_buf *, const char *, size_t) =
        repr ? pn_py_repr_string : pn_py_json_string;
    (void)pn_buf_str(b, "[");
    for (size_t i = 0; i < v->n_parts; i++) {
        const struct puna_part *p = &v->parts[i];
        (void)pn_buf_str(b, i ? ", {" : "{");
        put_string(b, "type", 4);
        (void)pn_buf_str(b, ": ");
        put_string(b, is_picture(p) ? "image" : "text", is_picture(p) ? 5 : 4);
        if (!is_picture(p)) {
            (void)pn_buf_str(b, ", ");
            put_string(b, "text", 4);
            (void)pn_buf_str(b, ": ");
            put_string(b, p->text, p->text_len);
        }
        (void)pn_buf_str(b, "}");
    }
    (void)pn_buf_str(b, "]");
}

/* content|trim: str(content).strip(). */
static void put_trimmed(struct pn_buf *b, const struct view *v)
{
    struct pn_buf all = { 0 };
    if (v->form == LIST)
        put_list(&all, v, true);
    else if (v->form == STRING)
        put_texts(&all, v);
    else if (json_is_string(v->tree))
        (void)pn_buf_append(&all, json_string_value(v->tree), json_string_length(v->tree));
    else
        pn_py_repr(&all, v->tree);
    const char *s = all.data;
    size_t n = all.len;
    if (n)
        pn_py_strip(&s, &n);
    (void)pn_buf_append(b, s, n);
    b->failed |= all.failed;
    pn_buf_free(&all);
}

/* ---------------------------------------------------------------------------- output */

static void span(struct chat *c, const char *token)
{
    struct pn_chat_text *o = c->out;
    if (o->n_spans == o->cap_spans) {
        const size_t cap = o->cap_spans ? o->cap_spans * 2 : 32;
        struct pn_span *s = realloc(o->spans, cap * sizeof *s);
        if (!s) {
            o->text.failed = true;
            return;
        }
        o->spans = s;
        o->cap_spans = cap;
    }
    o->spans[o->n_spans++] = (struct pn_span){ o->text.len, strlen(token),
                                               strcmp(token, "<|image|>") == 0 };
    (void)pn_buf_str(&o->text, token);
}

static void text(struct chat *c, const char *s)
{
    (void)pn_buf_str(&c->out->text, s);
}

static void header(struct chat *c, const char *role)
{
    span(c, "<|start_header_id|>");
    text(c, role);
    span(c, "<|end_header_id|>");
    text(c, "\n\n");
}

static void put_tools(struct chat *c)
{
    for (size_t i = 0; i < json_array_size(c->tools); i++) {
        pn_py_json(&c->out->text, json_array_get(c->tools, i), 4);
        text(c, "\n\n");
    }
}

static const char call_format[] = "Respond in the format {\"name\": function name, \"parameters\": "
                                  "dictionary of argument name and its value}."
                                  "Do not use variables.\n\n";

static void put_system_block(struct chat *c)
{
    header(c, "system");
    if (c->tools)
        text(c, "Environment: ipython\n");
    text(c, "Cutting Knowledge Date: December 2023\nToday Date: ");
    text(c, c->opts->date ? c->opts->date : default_date);
    text(c, "\n\n");
    if (c->tools && c->opts->tools_in_system) {
        text(c,
             "You have access to the following functions. To call a function, please respond with "
             "JSON for a function call.");
        text(c, call_format);
        put_tools(c);
    }
    (void)pn_buf_append(&c->out->text, c->system.data, c->system.len);
    span(c, "<|eot_id|>");
}

static void put_tool_turn(struct chat *c, const struct view *first)
{
    header(c, "user");
    text(c,
         "Given the following functions, please respond with a JSON for a function call with its "
         "proper arguments that best answers the given prompt.\n\n");
    text(c, call_format);
    put_tools(c);
    put_trimmed(&c->out->text, first);
    span(c, "<|eot_id|>");
}

static void put_message(struct chat *c, const struct view *v)
{
    struct pn_buf *b = &c->out->text;
    if (v->tool_name) {
        header(c, "assistant");
        (void)pn_buf_printf(b, "{\"name\": \"%s\", \"parameters\": ", v->tool_name);
        pn_py_json(b, v->tool_arguments, 0);
        text(c, "}");
    } else if (strcmp(v->role, "tool") == 0 || strcmp(v->role, "ipython") == 0) {
        header(c, "ipython");
        if (v->form == TREE) {
            pn_py_json(b, v->tree, 0);
        } else if (v->form == LIST) {
            put_list(b, v, false);
        } else { /* a string is iterable, so the template prints it as JSON, too */
            struct pn_buf all = { 0 };
            put_texts(&all, v);
            pn_py_json_string(b, all.data, all.len);
            b->failed |= all.failed;
            pn_buf_free(&all);
        }
    } else {
        header(c, v->role);
        for (size_t i = 0; i < v->n_parts; i++) {
            if (is_picture(&v->parts[i]))
                span(c, "<|image|>");
            else
                (void)pn_buf_append(b, v->parts[i].text, v->parts[i].text_len);
        }
    }
    span(c, "<|eot_id|>");
}

/* ---------------------------------------------------------------------------- system_in_user */

/* Put the system text in front of the first text of the first user turn, behind the pictures that
 * stand before it, with an empty line in between; a turn of pictures alone gets it as its text. */
static int move_system(struct chat *c, struct view *views, size_t n, struct puna_error *err)
{
    struct view *u = NULL;
    for (size_t i = 0; i < n && !u; i++) {
        if (strcmp(views[i].role, "user") == 0 && !views[i].tool_name)
            u = &views[i];
    }
    if (!u)
        return pn_fail(err, PUNA_E_ARG, "there is no user message that could take the system text");
    c->patched = calloc(u->n_parts + 1, sizeof *c->patched);
    if (!c->patched)
        return pn_fail_memory(err, (u->n_parts + 1) * sizeof *c->patched, "the prompt");
    size_t at = 0;
    while (at < u->n_parts && is_picture(&u->parts[at]))
        at++;
    const bool has_text = at < u->n_parts;
    (void)pn_buf_append(&c->merged, c->system.data, c->system.len);
    if (has_text) {
        (void)pn_buf_str(&c->merged, "\n\n");
        (void)pn_buf_append(&c->merged, u->parts[at].text, u->parts[at].text_len);
    }
    if (c->merged.failed)
        return pn_fail_memory(err, c->merged.len, "the prompt");
    if (u->n_parts)
        memcpy(c->patched, u->parts, u->n_parts * sizeof *c->patched);
    c->patched[at] = (struct puna_part){ .text = c->merged.data, .text_len = c->merged.len };
    u->parts = c->patched;
    u->n_parts += !has_text;
    c->system.len = 0;
    return 0;
}

/* ---------------------------------------------------------------------------- rendering */

static int prepare(struct chat *c, const struct puna_message *messages, size_t n,
                   struct puna_error *err)
{
    if (n == 0)
        return pn_fail(err, PUNA_E_ARG, "a conversation needs at least one message");
    c->views = calloc(n, sizeof *c->views);
    if (!c->views)
        return pn_fail_memory(err, n * sizeof *c->views, "the prompt");
    for (c->n = 0; c->n < n; c->n++) {
        const int rc = read_message(&c->views[c->n], &messages[c->n], c->n, err);
        if (rc) {
            c->n++; /* what it holds is freed, too */
            return rc;
        }
    }
    if (c->opts->tools_json) {
        if (!parse_json(&c->tools, c->opts->tools_json, "the tools", err))
            return PUNA_E_ARG;
        if (json_is_null(c->tools))
            c->tools = NULL; /* static in jansson */
        else if (!json_is_array(c->tools))
            return pn_fail(err, PUNA_E_ARG, "the tools are not a JSON array");
    }
    return 0;
}

static int render(struct chat *c, struct puna_error *err)
{
    struct view *views = c->views; /* messages, the system message taken off */
    size_t n = c->n;
    c->has_system = strcmp(views[0].role, "system") == 0;
    if (c->has_system) {
        views++;
        n--;
    }
    for (size_t i = 0; i < n; i++)
        c->has_images |= view_has_image(&views[i]);
    if (c->has_system) {
        struct view system = c->views[0];
        if (c->has_images && c->opts->system_in_user)
            system.form = STRING; /* a list's repr helps nobody inside a user's turn */
        put_trimmed(&c->system, &system);
    }
    if (c->has_images && c->system.len) {
        if (!c->opts->system_in_user)
            return pn_fail(
                err, PUNA_E_ARG,
                "Prompting with images is incompatible with system messages. (puna can put "
                "the system text into the first user message instead: --system-in-user)");
        const int rc = move_system(c, views, n, err);
        if (rc)
            return rc;
    }
    if (!c->opts->no_bos)
        span(c, "<|begin_of_text|>");
    const bool repeat = !c->opts->no_bos || c->has_system || (c->tools && c->opts->tools_in_system);
    if (!c->has_images && repeat)
        put_system_block(c);
    if (c->tools && !c->opts->tools_in_system) {
        if (n == 0)
            return pn_fail(err, PUNA_E_ARG,
                           "Cannot put tools in the first user message when there's "
                           "no first user message!");
        put_tool_turn(c, &views[0]);
        views++;
        n--;
    }
    for (size_t i = 0; i < n; i++)
        put_message(c, &views[i]);
    if (!c->opts->no_generation_prompt)
        header(c, "assistant");
    if (c->out->text.failed || c->system.failed)
        return pn_fail_memory(err, c->out->text.len, "the prompt");
    return 0;
}

int pn_chat_render(struct pn_chat_text *out, const struct puna_message *messages, size_t n,
                   const struct puna_chat_opts *opts, struct puna_error *err)
{
    *out = (struct pn_chat_text){ 0 };
    const struct puna_chat_opts defaults = { .size = sizeof defaults };
    struct chat c = { .out = out, .opts = opts ? opts : &defaults };
    int rc = prepare(&c, messages, n, err);
    if (rc == 0)
        rc = render(&c, err);
    for (size_t i = 0; i < c.n; i++) {
        json_decref(c.views[i].tree);
        json_decref(c.views[i].tool_arguments);
    }
    free(c.views);
    free(c.patched);
    json_decref(c.tools);
    pn_buf_free(&c.system);
    pn_buf_free(&c.merged);
    if (rc)
        pn_chat_text_free(out);
    return rc;
}

void pn_chat_text_free(struct pn_chat_text *t)
{
    pn_buf_free(&t->text);
    free(t->spans);
    *t = (struct pn_chat_text){ 0 };
}

int pn_chat_encode(const struct pn_vocab *v, const struct pn_chat_text *t, struct pn_ids *out,
                   struct puna_error *err)
{
    const size_t before = out->len;
    int rc = 0;
    size_t at = 0;
    for (size_t i = 0; rc == 0 && i <= t->n_spans; i++) {
        const size_t end = i < t->n_spans ? t->spans[i].off : t->text.len;
        if (end > at)
            rc = pn_vocab_encode(v, t->text.data + at, end - at, false, out, err);
        if (rc || i == t->n_spans)
            break;
        char name[32];
        const size_t len = t->spans[i].len;
        memcpy(name, t->text.data + end, len);
        name[len] = 0;
        const int32_t id = pn_vocab_special(v, name);
        if (id < 0)
            rc = pn_fail(err, PUNA_E_UNSUPPORTED,
                         "the model's vocabulary has no token %s, which the chat template needs; "
                         "use the model without the template",
                         name);
        else if (!pn_ids_push(out, id))
            rc = pn_fail_memory(err, sizeof id, "tokenizing the prompt");
        at = end + len;
    }
    if (rc)
        out->len = before;
    return rc;
}
