/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands of the puna program share. Everything that the program keeps between calls is in
 * main.c (the command's name) and term.c (interruption): commands themselves are plain functions. */
#ifndef PN_CLI_CLI_H
#define PN_CLI_CLI_H

#include <puna.h>

#include "base/err.h"
#include "cli/opts.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

extern const struct command cmd_run, cmd_logits, cmd_encode, cmd_tokenize, cmd_verify, cmd_info,
    cmd_doctor, cmd_quantize, cmd_synth, cmd_bench, cmd_imatrix, cmd_perplexity,
    cmd_score;

/* "puna COMMAND: sentence" on stderr; a progress line that stands there is cleared first. Returns
 * EXIT_FAILED. */
int diag(const char *fmt, ...) PN_PRINTF(1, 2);
/* The same from err; returns EXIT_FAILED. */
int diag_error(const struct puna_error *err);
/* A mistake in how the command was called, with a pointer to --help; returns EXIT_USAGE. */
int diag_usage(const char *fmt, ...) PN_PRINTF(1, 2);

#endif
