/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/map.h"

static char dir[] = "/tmp/puna-map-XXXXXX";
static char path[64];

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(path, sizeof path, "%s/file", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(dir);
}

static void write_file(size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(fputc((int)(i % 251 + 1), f), (int)(i % 251 + 1));
    assert_int_equal(fclose(f), 0);
}

static void test_open_close(void **state)
{
    (void)state;
    struct puna_error err = { 0 };
    struct pn_map *m;
    write_file(10000);
    assert_int_equal(pn_map_open(&m, path, &err), 0);
    assert_int_equal(m->size, 10000);
    assert_string_equal(m->path, path);
    for (size_t i = 0; i < m->size; i++)
        assert_int_equal(m->data[i], i % 251 + 1);
    assert_false(pn_map_lost(m, NULL));
    pn_map_close(&m);
    assert_null(m);
    pn_map_close(&m);

    write_file(0);
    assert_int_equal(pn_map_open(&m, path, &err), 0);
    assert_int_equal(m->size, 0);
    assert_null(m->data);
    assert_false(pn_map_lost(m, NULL));
    pn_map_close(&m);
}

static void expect_error(const char *p, int code, const char *part)
{
    struct puna_error err = { 0 };
    struct pn_map *m = (struct pn_map *)&err;
    assert_int_equal(pn_map_open(&m, p, &err), code);
    assert_null(m);
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.message, p));
    assert_non_null(strstr(err.message, part));

    char *data = path;
    size_t len = 1;
    assert_int_equal(pn_read_file(&data, &len, p, 1000, &err), code);
    assert_null(data);
    assert_int_equal(len, 0);
    assert_non_null(strstr(err.message, part));
}

static void test_not_a_file(void **state)
{
    (void)state;
    char p[96];
    expect_error(dir, PUNA_E_IO, "is a directory");
    expect_error("/dev/zero", PUNA_E_IO, "is a device");
    (void)snprintf(p, sizeof p, "%s/absent", dir);
    expect_error(p, PUNA_E_NOT_FOUND, "no such file");
    write_file(1);
    (void)snprintf(p, sizeof p, "%s/below", path);
    expect_error(p, PUNA_E_NOT_FOUND, "no such file");
    (void)snprintf(p, sizeof p, "%s/fifo", dir);
    assert_int_equal(mkfifo(p, 0600), 0);
    expect_error(p, PUNA_E_IO, "FIFO");
    assert_int_equal(unlink(p), 0);
    (void)snprintf(p, sizeof p, "%s/loop", dir);
    assert_int_equal(symlink(p, p), 0);
    expect_error(p, PUNA_E_IO, "circle");
    assert_int_equal(unlink(p), 0);
    if (geteuid() != 0) { /* root reads everything */
        assert_int_equal(chmod(path, 0), 0);
        expect_error(path, PUNA_E_IO, "permission denied");
        assert_int_equal(chmod(path, 0600), 0);
    }
}

static void test_read_file(void **state)
{
    (void)state;
    struct puna_error err = { 0 };
    char *data;
    size_t len;
    write_file(1000);
    assert_int_equal(pn_read_file(&data, &len, path, 1000, &err), 0);
    assert_int_equal(len, 1000);
    assert_int_equal(data[1000], 0);
    assert_int_equal(data[999], (char)(999 % 251 + 1));
    free(data);
    assert_int_equal(pn_read_file(&data, &len, path, 999, &err), PUNA_E_LIMIT);
    assert_null(data);
    write_file(0);
    assert_int_equal(pn_read_file(&data, &len, path, 0, &err), 0);
    assert_int_equal(len, 0);
    assert_string_equal(data, "");
    free(data);
}

static void test_shrink(void **state)
{
    (void)state;
    pn_map_guard();
    pn_map_guard(); /* once per process, however often asked */
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t size = 8 * page;
    struct puna_error err = { 0 };
    struct pn_map *other, *m;
    write_file(size);
    assert_int_equal(pn_map_open(&other, "/proc/self/exe", &err), 0);
    assert_int_equal(pn_map_open(&m, path, &err), 0);
    assert_false(pn_map_lost(m, NULL));
    /* Cut inside page 2. */
    assert_int_equal(truncate(path, (off_t)(2 * page + 100)), 0);
    size_t offset = 0;
    assert_true(pn_map_lost(m, &offset)); /* seen before anybody faults */
    assert_int_equal(offset, 2 * page + 100);
    /* Reading on gives zeros, not a signal; in any order. */
    volatile const uint8_t *d = m->data;
    assert_int_equal(d[7 * page + 5], 0);
    assert_int_equal(d[3 * page], 0);
    assert_int_equal(d[2 * page + 99], (2 * page + 99) % 251 + 1);
    assert_int_equal(d[2 * page + 100], 0);
    assert_int_equal(d[page], page % 251 + 1);
    assert_true(pn_map_lost(m, &offset));
    assert_int_equal(offset, 2 * page + 100);
    /* The loss stays known when the file grows back: pages were replaced meanwhile. */
    assert_int_equal(truncate(path, (off_t)size), 0);
    assert_true(pn_map_lost(m, &offset));
    assert_int_equal(offset, 3 * page);
    assert_false(pn_map_lost(other, NULL));
    pn_map_close(&m);
    /* A slot used again starts clean. */
    write_file(size);
    assert_int_equal(pn_map_open(&m, path, &err), 0);
    assert_false(pn_map_lost(m, NULL));
    pn_map_close(&m);
    pn_map_close(&other);
}

/* The child must die by SIGBUS: the handler is for our maps only. */
static void child_foreign_fault(void)
{
    const int fd = open(path, O_RDONLY);
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const volatile char *p = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
    pn_map_guard();
    (void)alarm(20); /* a handler that returns without a cure would loop */
    _exit(truncate(path, 0) == 0 && p[0] ? 1 : 2);
}

static void child_sent(void)
{
    pn_map_guard();
    (void)kill(getpid(), SIGBUS);
    _exit(1);
}

static void exit_42(int sig)
{
    (void)sig;
    _exit(42);
}

static void child_chained(void)
{
    struct sigaction sa = { .sa_handler = exit_42 };
    (void)sigaction(SIGBUS, &sa, NULL);
    child_foreign_fault();
}

static int run_child(void (*body)(void))
{
    write_file(1000);
    (void)fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        struct sigaction sa = { .sa_handler = SIG_DFL }; /* a sanitizer may have one of its own */
        (void)sigaction(SIGBUS, &sa, NULL);
        body();
        _exit(3);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* First in the list: the guard must not be installed in the parent yet. */
static void test_chain(void **state)
{
    (void)state;
    int status = run_child(child_foreign_fault);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
    status = run_child(child_sent);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
    status = run_child(child_chained);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
}

static void test_many_maps(void **state)
{
    (void)state;
    enum { N = 600 }; /* more than the guard's table holds */
    static struct pn_map *m[N];
    struct puna_error err = { 0 };
    write_file(100);
    for (int i = 0; i < N; i++)
        assert_int_equal(pn_map_open(&m[i], path, &err), 0);
    assert_int_equal(m[N - 1]->slot, -1);
    assert_int_equal(m[N - 1]->data[3], 4);
    assert_int_equal(truncate(path, 50), 0);
    size_t offset = 0;
    assert_true(pn_map_lost(m[N - 1], &offset)); /* by size, even without a slot */
    assert_int_equal(offset, 50);
    for (int i = 0; i < N; i++)
        pn_map_close(&m[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain),      cmocka_unit_test(test_open_close),
        cmocka_unit_test(test_not_a_file), cmocka_unit_test(test_read_file),
        cmocka_unit_test(test_shrink),     cmocka_unit_test(test_many_maps),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
