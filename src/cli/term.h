/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal: a progress line on stderr, emphasis, and interruption by Ctrl-C. */
#ifndef PN_CLI_TERM_H
#define PN_CLI_TERM_H

#include <puna.h>

#include <stdbool.h>

/* Signal handlers: SIGPIPE is ignored (a write then fails and is noticed); the first SIGINT, SIGTERM
 * or SIGHUP is remembered and cancels the watched session, the second one kills. */
void term_init(void);

/* Cancel this session when interrupted; NULL: none. chat: Ctrl-C stops the answer, as often as it is
 * pressed, and does not announce itself. */
void term_watch(puna_session *s, bool chat);
bool term_interrupted(void);
/* Forget a Ctrl-C; SIGTERM and SIGHUP stay. */
void term_clear_interrupt(void);
/* Wait until fd can be read: true, or until interrupted: false. Whichever thread the signal hits, and
 * however shortly before the call, it is not missed. */
bool term_wait_readable(int fd);
/* End as the signal would have ended the program, so that the caller's shell sees it. */
void term_die_if_interrupted(void);

/* A puna_progress_fn: one line on stderr with bar, rate and time left, when stderr is a terminal and
 * the work takes longer than a blink. Non-zero once interrupted. */
int term_progress(void *user, const char *phase, double done, double total);
void term_clear_progress(void);
void term_no_progress(void);

bool term_is_tty(int fd);
/* SGR sequence ("1" bold, "2" faint, "0" off) for a terminal that wants it, else "". */
const char *term_style(int fd, char sgr);

double term_now(void); /* seconds, monotonic */

#endif
