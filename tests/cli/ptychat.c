/* SPDX-License-Identifier: Apache-2.0 */
/* ptychat SCRIPT COMMAND [ARG]...: runs a command on a terminal of its own and talks to it. Lines of
 * the script:
 *   expect TEXT   wait until TEXT appears in what came since the last expect
 *   bytes N       wait until N bytes have come since the last expect
 *   send TEXT     type TEXT and Return
 *   key C         type one control character: "c" is Ctrl-C
 *   idle          wait until nothing has come for a moment
 * Everything that the command writes is copied to standard output. The exit status is the command's, or 99
 * with a sentence when an expectation was not met within a minute, or the command did not end within one
 * after the script; it is killed then, as it may ignore that its terminal is gone. */
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <stdbool.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 60 /* seconds */, IDLE_MS = 300, MISSED = 99, CAP = 1 << 20 };

static int terminal;
static char seen[CAP + 1]; /* since the last expect */
static size_t n_seen;
static bool closed;

/* Take what comes within ms; false: nothing came. */
static bool take(int ms)
{
    struct pollfd p = { .fd = terminal, .events = POLLIN };
    if (closed || poll(&p, 1, ms) <= 0)
        return false;
    char part[4096];
    const ssize_t n = read(terminal, part, sizeof(part));
    if (n <= 0) { /* EIO: the other side is gone */
        closed = true;
        return false;
    }
    fwrite(part, 1, (size_t)n, stdout);
    if (n_seen + (size_t)n > CAP)
        n_seen = 0;
    memcpy(seen + n_seen, part, (size_t)n);
    n_seen += (size_t)n;
    return true;
}

static time_t deadline;

static bool late(void)
{
    return time(NULL) > deadline;
}

static bool expect(const char *text)
{
    for (;;) {
        char *at = memmem(seen, n_seen, text, strlen(text));
        if (at != NULL) {
            at += strlen(text);
            n_seen -= (size_t)(at - seen);
            memmove(seen, at, n_seen);
            return true;
        }
        if (closed || late())
            return false;
        take(1000);
    }
}

static bool type(const char *text, size_t n)
{
    return write(terminal, text, n) == (ssize_t)n;
}

static bool obey(char *line)
{
    deadline = time(NULL) + PATIENCE;
    line[strcspn(line, "\n")] = '\0';
    char *arg = strchr(line, ' ');
    if (arg != NULL)
        *arg++ = '\0';
    if (strcmp(line, "expect") == 0 && arg != NULL)
        return expect(arg);
    if (strcmp(line, "bytes") == 0 && arg != NULL) {
        const size_t wanted = strtoull(arg, NULL, 10);
        while (n_seen < wanted) {
            if (closed || late())
                return false;
            take(1000);
        }
        return true;
    }
    if (strcmp(line, "send") == 0)
        return (arg == NULL || type(arg, strlen(arg))) && type("\r", 1);
    if (strcmp(line, "key") == 0 && arg != NULL) {
        const char c = (char)(arg[0] & 0x1f);
        return type(&c, 1);
    }
    if (strcmp(line, "idle") == 0) {
        while (take(IDLE_MS))
            if (late())
                return false;
        return true;
    }
    return false;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    FILE *script = fopen(argv[1], "re");
    if (script == NULL) {
        perror(argv[1]);
        return 2;
    }
    const struct winsize size = { .ws_row = 24, .ws_col = 200 };
    const pid_t pid = forkpty(&terminal, NULL, NULL, &size);
    if (pid < 0) {
        perror("forkpty");
        return 2;
    }
    if (pid == 0) {
        signal(SIGINT, SIG_DFL); /* ignored where the tests run in the background */
        signal(SIGQUIT, SIG_DFL);
        signal(SIGHUP, SIG_DFL); /* and under nohup */
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    char line[4096];
    int number = 0, status = 0;
    bool met = true;
    while (met && fgets(line, sizeof(line), script) != NULL) {
        number++;
        char copy[4096];
        memcpy(copy, line, sizeof(copy));
        met = obey(copy);
        if (!met)
            printf("\nptychat: line %d was not met: %s", number, line);
    }
    fclose(script);
    deadline = time(NULL) + PATIENCE;
    while (met && !closed) {
        take(1000);
        if (!closed && late()) {
            printf("\nptychat: the command did not end after the script\n");
            met = false;
        }
    }
    if (!met)
        kill(pid, SIGKILL);
    close(terminal);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!met)
        return MISSED;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
