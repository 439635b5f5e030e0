/* SPDX-License-Identifier: Apache-2.0 */
/* puna: one program, one command per file. Exit status: 0 ok, 1 failed, 2 called wrongly. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/term.h"

static const struct command *const commands[] = {
    &cmd_run,  &cmd_info,   &cmd_tokenize, &cmd_logits, &cmd_encode,
    &cmd_verify, &cmd_bench, &cmd_doctor,   &cmd_quantize, &cmd_synth,
    &cmd_imatrix, &cmd_perplexity, &cmd_score,
};
enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static const char *current_command; /* for messages; NULL: none chosen yet */

PN_PRINTF(2, 0) static void vdiag(const char *tail, const char *fmt, va_list ap)
{
    term_clear_progress();
    fprintf(stderr, "puna%s%s: ", current_command ? " " : "",
            current_command ? current_command : "");
    vfprintf(stderr, fmt, ap);
    if (tail != NULL)
        fprintf(stderr, "; see 'puna %s --help'", tail);
    fputc('\n', stderr);
}

int diag(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vdiag(NULL, fmt, ap);
    va_end(ap);
    return EXIT_FAILED;
}

int diag_error(const struct puna_error *err)
{
    return diag("%s", err->message);
}

int diag_usage(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vdiag(current_command, fmt, ap);
    va_end(ap);
    return EXIT_USAGE;
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    }
    return NULL;
}

static const char *next_command(const void *user, size_t i)
{
    (void)user;
    return i < N_COMMANDS ? commands[i]->name : i == N_COMMANDS ? "help" : NULL;
}

static void print_help(void)
{
    puts("Usage: puna COMMAND [options]\n"
         "\n"
         "Llama 3.2 Vision on ordinary CPUs: pictures and text in, text out.\n"
         "\n"
         "Commands:");
    for (size_t i = 0; i < N_COMMANDS; i++)
        printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    puts("  help       Explain a command: puna help COMMAND.\n"
         "\n"
         "Options:\n"
         "  -h, --help              Print this text and exit.\n"
         "  -V, --version           Print the version and what was built in, and exit.\n"
         "\n"
         "MODEL, where a command takes one, is a Hugging Face directory, a .gguf file, or an\n"
         "Ollama name such as llama3.2-vision, found in the Ollama store; left out, it is the\n"
         "small demonstration model that comes with puna.\n"
         "\n"
         "Environment:\n"
         "  PUNA_THREADS            Threads, as --threads.\n"
         "  PUNA_CPU                Kernel tier, as --cpu.\n"
         "  PUNA_DEMO_MODEL         The demonstration model's file.\n"
         "  OLLAMA_MODELS           The Ollama store.\n"
         "  NO_COLOR                No colours on the terminal.\n"
         "\n"
         "Exit status: 0 ok, 1 failed, 2 called wrongly.");
}

/* Write errors on stdout show up here at the latest: a full disk, a closed pipe. */
static int finish_stdout(int status)
{
    const bool failed = ferror(stdout) != 0;
    errno = EIO; /* what is left to say when only an earlier write failed */
    if (fflush(stdout) == 0 && !failed)
        return status;
    if (status == EXIT_OK)
        return diag("cannot write the answer to standard output: %s", strerror(errno));
    return status;
}

static int run_command(const struct command *cmd, int argc, char **argv)
{
    current_command = cmd->name;
    void *settings = malloc(cmd->size);
    if (settings == NULL)
        return diag("no memory");
    memcpy(settings, cmd->defaults, cmd->size);
    int status = EXIT_USAGE;
    switch (opts_parse(cmd, argc, argv, settings)) {
    case OPTS_HELP:
        opts_help(cmd);
        status = EXIT_OK;
        break;
    case OPTS_RUN:
        status = cmd->run(settings);
        break;
    case OPTS_USAGE:
        break;
    }
    opts_free(cmd, settings);
    free(settings);
    return status;
}

static int unknown_command(const char *name)
{
    const char *near = opts_closest(name, next_command, NULL);
    if (near != NULL)
        diag("there is no command '%s'; did you mean '%s'?", name, near);
    else
        diag("there is no command '%s'; 'puna --help' lists them", name);
    return EXIT_USAGE;
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        diag("which command? 'puna --help' lists them");
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        printf("puna %s\n%s\n", puna_version(), puna_build_info());
        return EXIT_OK;
    }
    const bool help = strcmp(word, "help") == 0;
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 ||
        (help && (argc == 2 || strcmp(argv[2], "help") == 0))) {
        print_help();
        return EXIT_OK;
    }
    if (word[0] == '-') {
        diag("there is no option %s before the command; see 'puna --help'", word);
        return EXIT_USAGE;
    }
    const struct command *cmd = find_command(help ? argv[2] : word);
    if (cmd == NULL)
        return unknown_command(help ? argv[2] : word);
    if (help) {
        opts_help(cmd);
        return EXIT_OK;
    }
    return run_command(cmd, argc - 1, argv + 1);
}

/* A standard stream that the caller closed would be taken by the next file opened, and what is meant
 * for the reader would go into that file. The wrong mode makes its use the error that it is. */
static void hold_standard_streams(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            _exit(EXIT_FAILED);
    }
}

/* A program that is not (yet) where it was configured to be installed finds the demonstration model beside itself: in
 * the source tree it was built in, or in the tree it was moved with. */
static void find_demo_model(void)
{
    static const char *const places[] = { "../share/puna/models/demo.gguf", "../models/demo/demo.gguf",
                                          "models/demo/demo.gguf" };
    char path[4096];
    const ssize_t n = readlink("/proc/self/exe", path, sizeof(path));
    if (getenv("PUNA_DEMO_MODEL") != NULL || n <= 0 || n == (ssize_t)sizeof(path))
        return;
    path[n] = '\0';
    char *dir_end = strrchr(path, '/');
    for (size_t i = 0; dir_end != NULL && i < sizeof(places) / sizeof(places[0]); i++) {
        const size_t at = (size_t)(dir_end + 1 - path), len = strlen(places[i]) + 1;
        if (at + len > sizeof(path))
            continue;
        memcpy(path + at, places[i], len);
        if (access(path, R_OK) == 0) {
            setenv("PUNA_DEMO_MODEL", path, 0);
            return;
        }
    }
}

int main(int argc, char **argv)
{
    hold_standard_streams();
    setlocale(LC_CTYPE, ""); /* line editing; numbers stay in the C locale */
    term_init();
    find_demo_model();
    const int status = finish_stdout(dispatch(argc, argv));
    term_die_if_interrupted();
    return status;
}
