/* SPDX-License-Identifier: Apache-2.0 */
/* Commands and their options as data. One table per command drives parsing, the --help text and the
 * defaults shown in it, so that the three cannot disagree: the defaults are the initial values of
 * the command's own struct, and parsing overwrites them in place. */
#ifndef PN_CLI_OPTS_H
#define PN_CLI_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum opt_kind {
    OPT_SECTION, /* a heading in --help; only name is used */
    OPT_FLAG,    /* bool */
    OPT_STRING,  /* const char *, into argv */
    OPT_LIST,    /* struct opt_list, repeatable */
    OPT_INT,     /* int64_t in [min, max] */
    OPT_REAL,    /* double in [min, max]; never NaN or infinite */
    OPT_SEED,    /* struct opt_seed */
    OPT_CHOICE   /* int, index into choices (NULL-terminated) */
};

/* Table rows. T: the command's struct, f: its field. */
#define OPT_HEADING(p_title) { .name = (p_title), .kind = OPT_SECTION }
#define OPT_ROW(T, f, p_kind, p_name, p_letter, p_arg, p_help, ...)                                    \
    {                                                                                              \
        .name = (p_name), .letter = (p_letter), .kind = (p_kind), .offset = offsetof(T, f),        \
        .arg = (p_arg), .help = (p_help), __VA_ARGS__                                              \
    }
#define OPT_FLAG_ROW(T, f, p_name, p_letter, p_help)                                               \
    OPT_ROW(T, f, OPT_FLAG, p_name, p_letter, NULL, p_help, .dflt = NULL)

struct opt_list {
    const char **v; /* [n], into argv */
    size_t n;
};

struct opt_seed {
    bool given;
    uint64_t value;
};

struct opt_spec {
    const char *name;
    char letter; /* short form; 0: none */
    enum opt_kind kind;
    size_t offset;    /* into the command's struct */
    const char *arg;  /* what --help calls the value */
    const char *help; /* one or more sentences without the default */
    const char *dflt; /* the default in words; NULL: printed from the value, "": not shown */
    double min, max;
    const char *const *choices;
};

struct command {
    const char *name;
    const char *usage;   /* after "puna NAME " */
    const char *summary; /* one line */
    const char *details; /* paragraphs for --help, wrapped there; lines that begin with a blank stay */
    const struct opt_spec *opts;
    size_t n_opts;
    size_t min_args, max_args; /* positional arguments */
    size_t args_offset;        /* struct opt_list that receives them */
    const void *defaults;
    size_t size; /* of the command's struct */
    int (*run)(const void *settings); /* the exit status */
};

enum opts_result { OPTS_RUN, OPTS_HELP, OPTS_USAGE };

/* Parse argv[1..] (argv[0] is the command's name) into settings, which holds the defaults. A mistake
 * is told on stderr. Lists are allocated; opts_free() releases them in every case. */
enum opts_result opts_parse(const struct command *cmd, int argc, char **argv, void *settings);
void opts_free(const struct command *cmd, void *settings);

void opts_help(const struct command *cmd);
/* Text wrapped at 79 columns, every line indented; lines that begin with a blank are kept as they
 * are. column: where the cursor already stands. */
void opts_wrap(const char *text, size_t indent, size_t column);

/* The name closest to `given` (at most 2 edits, or a prefix), or NULL. next() walks the candidates. */
const char *opts_closest(const char *given, const char *(*next)(const void *user, size_t i),
                         const void *user);

#endif
