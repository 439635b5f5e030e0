/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/term.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

double term_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ------------------------------------------------------------------------------------- signals */

static _Atomic(puna_session *) watched;
static atomic_bool watched_chat;
static volatile sig_atomic_t pending_signal;
/* The handler writes a byte here, so that poll() sees what a flag alone would not tell it: a signal
 * that came just before, or one that another thread took. */
static int wake_pipe[2] = { -1, -1 };

static void on_signal(int sig)
{
    const int saved_errno = errno;
    const bool chat = atomic_load(&watched_chat) && sig == SIGINT;
    if (pending_signal != 0 && !chat) {
        signal(sig, SIG_DFL);
        raise(sig);
        return;
    }
    pending_signal = sig;
    puna_session *s = atomic_load(&watched);
    if (s != NULL)
        puna_session_cancel(s);
    static const char note[] = "\nstopping; Ctrl-C again stops at once\n";
    const bool tell = !chat && sig == SIGINT && isatty(STDERR_FILENO);
    /* neither write can fail in a way that matters: a full pipe wakes as well */
    ssize_t ignored = write(wake_pipe[1], "", 1);
    ignored += tell ? write(STDERR_FILENO, note, sizeof(note) - 1) : 0;
    (void)ignored;
    errno = saved_errno;
}

void term_init(void)
{
    signal(SIGPIPE, SIG_IGN);
    if (pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        wake_pipe[0] = wake_pipe[1] = -1;
    static const int caught[] = { SIGINT, SIGTERM, SIGHUP };
    for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++) {
        struct sigaction old;
        /* one that the parent told us to ignore (nohup) stays ignored */
        if (sigaction(caught[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN)
            continue;
        /* no SA_RESTART: reading a prompt from standard input must come back */
        struct sigaction sa = { .sa_handler = on_signal };
        sigemptyset(&sa.sa_mask);
        sigaction(caught[i], &sa, NULL);
    }
}

void term_watch(puna_session *s, bool chat)
{
    atomic_store(&watched, s);
    atomic_store(&watched_chat, chat);
}

bool term_interrupted(void)
{
    return pending_signal != 0;
}

void term_clear_interrupt(void)
{
    char bytes[64];
    if (pending_signal != SIGINT)
        return;
    while (read(wake_pipe[0], bytes, sizeof(bytes)) > 0)
        ;
    pending_signal = 0;
}

bool term_wait_readable(int fd)
{
    struct pollfd p[] = { { .fd = fd, .events = POLLIN }, { .fd = wake_pipe[0], .events = POLLIN } };
    while (!term_interrupted()) {
        p[0].revents = 0;
        if (poll(p, 2, -1) > 0 && p[0].revents != 0 && p[1].revents == 0)
            return true;
    }
    return false;
}

void term_die_if_interrupted(void)
{
    const int sig = pending_signal;
    if (sig == 0)
        return;
    signal(sig, SIG_DFL);
    raise(sig);
}

/* ------------------------------------------------------------------------------------- style */

bool term_is_tty(int fd)
{
    const char *term = getenv("TERM");
    return isatty(fd) && (term == NULL || strcmp(term, "dumb") != 0);
}

const char *term_style(int fd, char sgr)
{
    const char *no_color = getenv("NO_COLOR");
    if (!term_is_tty(fd) || (no_color != NULL && no_color[0] != '\0'))
        return "";
    return sgr == '0' ? "\033[0m" : sgr == '1' ? "\033[1m" : "\033[2m";
}

/* ------------------------------------------------------------------------------------- progress */

static struct {
    bool off, shown;
    char phase[24];
    double started, drawn;
    double first; /* done when the phase was first seen: a rate counts from there */
} progress;

void term_no_progress(void)
{
    progress.off = true;
}

void term_clear_progress(void)
{
    if (progress.shown)
        fputs("\r\033[K", stderr);
    progress.shown = false;
}

static void format_rate(char *out, size_t cap, const char *phase, double rate, double total)
{
    if (strcmp(phase, "prefill") == 0)
        snprintf(out, cap, "  %.1f tok/s", rate);
    else if (total >= 1e6) /* bytes */
        snprintf(out, cap, "  %.0f MB/s", rate / 1e6);
    else
        out[0] = '\0';
}

static void draw(const char *phase, double done, double total, double now)
{
    struct winsize ws;
    const int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0 ? ws.ws_col : 80;
    const double part = done < total ? done / total : 1;
    const double seconds = now - progress.started;
    const double rate = seconds > 0 ? (done - progress.first) / seconds : 0;
    char speed[40] = "", left[40] = "", bar[64];
    if (rate > 0) {
        format_rate(speed, sizeof(speed), phase, rate, total);
        snprintf(left, sizeof(left), "  %.0f s left", (total - done) / rate);
    }
    const int fixed = (int)(strlen(phase) + strlen(speed) + strlen(left)) + 12;
    int width = columns - fixed;
    if (width > 40)
        width = 40;
    if (width < 0)
        width = 0;
    const int full = (int)(part * width);
    for (int i = 0; i < width; i++)
        bar[i] = i < full ? '#' : '.';
    bar[width] = '\0';
    fprintf(stderr, "\r%s [%s] %3.0f%%%s%s\033[K", phase, bar, 100 * part, speed, left);
    fflush(stderr);
    progress.shown = true;
}

int term_progress(void *user, const char *phase, double done, double total)
{
    (void)user;
    const double now = term_now();
    if (strcmp(phase, progress.phase) != 0 || done < progress.first) {
        snprintf(progress.phase, sizeof(progress.phase), "%s", phase);
        progress.started = now;
        progress.drawn = 0;
        progress.first = done;
    }
    if (done >= total) {
        term_clear_progress();
        progress.phase[0] = '\0';
    } else if (!progress.off && term_is_tty(STDERR_FILENO) && now - progress.started > 0.3 &&
               now - progress.drawn > 0.1) {
        draw(phase, done, total, now);
        progress.drawn = now;
    }
    return term_interrupted();
}
