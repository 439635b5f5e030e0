/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/opts.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { MAX_OPTS = 64, WIDTH = 79, HELP_COLUMN = 26 };

/* ------------------------------------------------------------------------------------- parsing */

static void *field(void *settings, const struct opt_spec *o)
{
    return (char *)settings + o->offset;
}

static bool list_add(struct opt_list *list, const char *value)
{
    const char **v = realloc(list->v, (list->n + 1) * sizeof(*v));
    if (v == NULL) {
        diag("no memory for the options");
        return false;
    }
    list->v = v;
    list->v[list->n++] = value;
    return true;
}

static bool parse_int(const struct opt_spec *o, const char *s, int64_t *out)
{
    char *end;
    errno = 0;
    const long long v = strtoll(s, &end, 10);
    if (end == s || *end != '\0') {
        diag("--%s takes a whole number, not '%s'", o->name, s);
        return false;
    }
    if (errno == ERANGE || (double)v < o->min || (double)v > o->max) {
        diag("--%s takes a whole number from %.0f to %.0f, not %s", o->name, o->min, o->max, s);
        return false;
    }
    *out = v;
    return true;
}

static bool parse_real(const struct opt_spec *o, const char *s, double *out)
{
    char *end;
    const double v = strtod(s, &end);
    if (end == s || *end != '\0' || !isfinite(v)) {
        diag("--%s takes a number, not '%s'", o->name, s);
        return false;
    }
    if (v < o->min || v > o->max) {
        diag("--%s takes a number from %g to %g, not %s", o->name, o->min, o->max, s);
        return false;
    }
    *out = v;
    return true;
}

static bool parse_seed(const struct opt_spec *o, const char *s, struct opt_seed *out)
{
    char *end;
    errno = 0;
    const unsigned long long v = strtoull(s, &end, 10);
    /* strtoull takes "-1" and wraps it */
    if (end == s || *end != '\0' || errno == ERANGE || v > INT64_MAX || strchr(s, '-') != NULL) {
        diag("--%s takes a whole number from 0 to %" PRId64 ", not '%s'", o->name, INT64_MAX, s);
        return false;
    }
    *out = (struct opt_seed){ .given = true, .value = v };
    return true;
}

static bool parse_choice(const struct opt_spec *o, const char *s, int *out)
{
    char all[256] = "";
    size_t len = 0;
    for (int i = 0; o->choices[i] != NULL; i++) {
        if (strcmp(o->choices[i], s) == 0) {
            *out = i;
            return true;
        }
        const int n = snprintf(all + len, sizeof(all) - len, "%s%s", i ? ", " : "", o->choices[i]);
        len += (n > 0 && (size_t)n < sizeof(all) - len) ? (size_t)n : 0;
    }
    diag("--%s takes one of %s, not '%s'", o->name, all, s);
    return false;
}

static bool parse_value(const struct opt_spec *o, void *settings, const char *s)
{
    void *dst = field(settings, o);
    switch (o->kind) {
    case OPT_FLAG:
        *(bool *)dst = true;
        return true;
    case OPT_STRING:
        *(const char **)dst = s;
        return true;
    case OPT_LIST:
        return list_add(dst, s);
    case OPT_INT:
        return parse_int(o, s, dst);
    case OPT_REAL:
        return parse_real(o, s, dst);
    case OPT_SEED:
        return parse_seed(o, s, dst);
    case OPT_CHOICE:
        return parse_choice(o, s, dst);
    case OPT_SECTION:
        break;
    }
    return false;
}

static const char *next_option(const void *user, size_t i)
{
    const struct command *cmd = user;
    if (i == cmd->n_opts)
        return "help";
    if (i > cmd->n_opts)
        return NULL;
    return cmd->opts[i].kind == OPT_SECTION ? "" : cmd->opts[i].name;
}

static void unknown_option(const struct command *cmd, const char *word, int letter)
{
    if (letter != 0) {
        diag("there is no option -%c; see 'puna %s --help'", letter, cmd->name);
        return;
    }
    char name[64];
    const size_t len = strcspn(word + 2, "=");
    snprintf(name, sizeof(name), "%.*s", (int)(len < 60 ? len : 60), word + 2);
    const char *near = opts_closest(name, next_option, cmd);
    if (near != NULL)
        diag("there is no option --%s; did you mean --%s?", name, near);
    else
        diag("there is no option --%s; see 'puna %s --help'", name, cmd->name);
}

enum opts_result opts_parse(const struct command *cmd, int argc, char **argv, void *settings)
{
    enum { FIRST_LONG = 256, HELP = FIRST_LONG + MAX_OPTS };
    struct option longs[MAX_OPTS + 2];
    char shorts[2 * MAX_OPTS + 4] = ":h"; /* ':': tell a missing value from an unknown option */
    size_t n_long = 0, n_short = 2;

    for (size_t i = 0; i < cmd->n_opts && i < MAX_OPTS; i++) {
        const struct opt_spec *o = &cmd->opts[i];
        if (o->kind == OPT_SECTION)
            continue;
        const int has_arg = o->kind == OPT_FLAG ? no_argument : required_argument;
        longs[n_long++] = (struct option){ o->name, has_arg, NULL, FIRST_LONG + (int)i };
        if (o->letter != 0) {
            shorts[n_short++] = o->letter;
            if (o->kind != OPT_FLAG)
                shorts[n_short++] = ':';
        }
    }
    shorts[n_short] = '\0';
    longs[n_long++] = (struct option){ "help", no_argument, NULL, HELP };
    longs[n_long] = (struct option){ NULL, 0, NULL, 0 };

    opterr = 0;
    optind = 0; /* glibc: start afresh */
    for (;;) {
        const int c = getopt_long(argc, argv, shorts, longs, NULL);
        if (c == -1)
            break;
        if (c == 'h' || c == HELP)
            return OPTS_HELP;
        if (c == ':') {
            diag("option %s needs a value", argv[optind - 1]);
            return OPTS_USAGE;
        }
        if (c == '?') {
            /* getopt tells three mistakes apart by optopt: a value for a long option that takes
             * none, an unknown letter, and (0) an unknown long option, whose word it has passed */
            if (optopt >= HELP)
                diag("option --help takes no value");
            else if (optopt >= FIRST_LONG)
                diag("option --%s takes no value", cmd->opts[optopt - FIRST_LONG].name);
            else
                unknown_option(cmd, argv[optind - 1], optopt);
            return OPTS_USAGE;
        }
        const struct opt_spec *hit = NULL;
        for (size_t i = 0; i < cmd->n_opts && hit == NULL; i++) {
            const struct opt_spec *o = &cmd->opts[i];
            if (o->kind != OPT_SECTION && (c == FIRST_LONG + (int)i || c == o->letter))
                hit = o;
        }
        if (hit == NULL || !parse_value(hit, settings, optarg))
            return OPTS_USAGE;
    }

    const size_t n_args = (size_t)(argc - optind);
    if (n_args < cmd->min_args) {
        diag("something is missing; usage: puna %s %s", cmd->name, cmd->usage);
        return OPTS_USAGE;
    }
    if (n_args > cmd->max_args) {
        diag("'%s' is one argument too many; usage: puna %s %s", argv[optind + (int)cmd->max_args],
             cmd->name, cmd->usage);
        return OPTS_USAGE;
    }
    for (size_t i = 0; i < n_args; i++) {
        if (!list_add((struct opt_list *)((char *)settings + cmd->args_offset),
                      argv[optind + (int)i]))
            return OPTS_USAGE;
    }
    return OPTS_RUN;
}

void opts_free(const struct command *cmd, void *settings)
{
    for (size_t i = 0; i < cmd->n_opts; i++) {
        if (cmd->opts[i].kind == OPT_LIST)
            free(((struct opt_list *)field(settings, &cmd->opts[i]))->v);
    }
    if (cmd->max_args > 0)
        free(((struct opt_list *)((char *)settings + cmd->args_offset))->v);
}

/* ------------------------------------------------------------------------------------- help */

void opts_wrap(const char *text, size_t indent, size_t column)
{
    while (*text != '\0') {
        const char *eol = strchrnul(text, '\n');
        if (*text == ' ' || *text == '\n') {
            printf("%.*s\n", (int)(eol - text), text);
            text = *eol == '\n' ? eol + 1 : eol;
            continue;
        }
        while (text < eol) {
            const size_t word = strcspn(text, " \n");
            if (column > indent && column + 1 + word > WIDTH) {
                putchar('\n');
                column = 0;
            }
            if (column < indent)
                printf("%*s", (int)(indent - column), "");
            else if (column > indent)
                putchar(' ');
            column = (column < indent ? indent : column + (column > indent)) + word;
            printf("%.*s", (int)word, text);
            text += word;
            text += strspn(text, " ");
        }
        putchar('\n');
        column = 0;
        if (*text == '\n')
            text++;
    }
}

static void show_default(const struct opt_spec *o, const void *settings, char *out, size_t cap)
{
    const void *src = (const char *)settings + o->offset;
    out[0] = '\0';
    if (o->dflt != NULL) {
        if (o->dflt[0] != '\0')
            snprintf(out, cap, " [default: %s]", o->dflt);
        return;
    }
    if (o->kind == OPT_INT)
        snprintf(out, cap, " [default: %" PRId64 "]", *(const int64_t *)src);
    else if (o->kind == OPT_REAL)
        snprintf(out, cap, " [default: %g]", *(const double *)src);
    else if (o->kind == OPT_CHOICE)
        snprintf(out, cap, " [default: %s]", o->choices[*(const int *)src]);
}

void opts_help(const struct command *cmd)
{
    printf("Usage: puna %s %s\n\n", cmd->name, cmd->usage);
    opts_wrap(cmd->summary, 0, 0);
    if (cmd->details != NULL) {
        putchar('\n');
        opts_wrap(cmd->details, 0, 0);
    }
    for (size_t i = 0; i < cmd->n_opts; i++) {
        const struct opt_spec *o = &cmd->opts[i];
        if (o->kind == OPT_SECTION) {
            printf("\n%s:\n", o->name);
            continue;
        }
        char left[80], right[1024], dflt[96];
        int n = snprintf(left, sizeof(left), "  %c%c%c --%s%s%s", o->letter ? '-' : ' ',
                         o->letter ? o->letter : ' ', o->letter ? ',' : ' ', o->name,
                         o->kind == OPT_FLAG ? "" : "=", o->kind == OPT_FLAG ? "" : o->arg);
        show_default(o, cmd->defaults, dflt, sizeof(dflt));
        snprintf(right, sizeof(right), "%s%s", o->help, dflt);
        if (n >= HELP_COLUMN - 1) { /* too long to share its line */
            puts(left);
            n = 0;
        } else {
            fputs(left, stdout);
        }
        opts_wrap(right, HELP_COLUMN, (size_t)n);
    }
    printf("%s  -h, --help              Print this text and exit.\n",
           cmd->n_opts == 0 ? "\nOptions:\n" : "");
}

/* ------------------------------------------------------------------------------------- hints */

/* Levenshtein distance; both at most 63 bytes, longer words never match anything. */
static size_t edits(const char *a, const char *b)
{
    enum { CAP = 64 };
    const size_t na = strlen(a), nb = strlen(b);
    if (na >= CAP || nb >= CAP)
        return CAP;
    size_t row[CAP];
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            const size_t above = row[j];
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (above + 1 < best)
                best = above + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
            diagonal = above;
        }
    }
    return row[nb];
}

const char *opts_closest(const char *given, const char *(*next)(const void *user, size_t i),
                         const void *user)
{
    const char *best = NULL;
    size_t best_edits = 3;
    const char *name;
    for (size_t i = 0; (name = next(user, i)) != NULL; i++) {
        if (name[0] == '\0')
            continue;
        size_t d = edits(given, name);
        const size_t n = strlen(given);
        /* "--temperature" for --temp, and "--repeat" for --repeat-penalty */
        if (d > 1 && n >= 3 && (strncmp(given, name, n) == 0 ||
                                (strlen(name) >= 3 && strncmp(given, name, strlen(name)) == 0)))
            d = 1;
        if (d < best_edits && d < strlen(name)) {
            best = name;
            best_edits = d;
        }
    }
    return best;
}
