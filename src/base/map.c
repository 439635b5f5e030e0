/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

/* ---------------------------------------------------------------------------- SIGBUS guard */

/* The only mutable globals of the library: a signal handler has no other way to find its data.
 * A slot is taken by a compare-and-swap on `taken`; `start` is written last and cleared first, so
 * the handler, which reads start, size and start again, never pairs a start with another map's
 * size. */
#define N_SLOTS 512
#define NOT_LOST SIZE_MAX

static struct {
    _Atomic int taken;
    _Atomic uintptr_t start; /* 0: the handler passes over this slot */
    _Atomic size_t size;
    _Atomic size_t lost; /* offset of the first page that was missing, NOT_LOST */
} slots[N_SLOTS];

static struct sigaction previous;
static size_t page_size;
static pthread_once_t guard_once = PTHREAD_ONCE_INIT;

static bool patch_page(uintptr_t addr)
{
    for (int i = 0; i < N_SLOTS; i++) {
        const uintptr_t start = atomic_load(&slots[i].start);
        const size_t size = atomic_load(&slots[i].size);
        if (!start || addr < start || addr - start >= size ||
            atomic_load(&slots[i].start) != start)
            continue;
        const uintptr_t page = addr - addr % page_size;
        /* One page only: after an I/O error the pages behind it may still be good. */
        if (mmap((void *)page, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                 0) == MAP_FAILED)
            return false;
        const size_t offset = page - start;
        size_t seen = atomic_load(&slots[i].lost);
        while (offset < seen && !atomic_compare_exchange_weak(&slots[i].lost, &seen, offset))
            ;
        return true;
    }
    return false;
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
    const int saved = errno;
    const bool fault = info->si_code > 0; /* not sent by kill() and its like */
    if (fault && patch_page((uintptr_t)info->si_addr)) {
        errno = saved;
        return;
    }
    errno = saved;
    if ((previous.sa_flags & SA_SIGINFO) && previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_sigaction(sig, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(sig);
    } else if (fault || previous.sa_handler == SIG_DFL) {
        /* Die as without a handler: delivered when this one returns. */
        (void)signal(sig, SIG_DFL);
        (void)raise(sig);
    }
}

static void install_guard(void)
{
    page_size = (size_t)sysconf(_SC_PAGESIZE);
    struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    sigemptyset(&sa.sa_mask);
    (void)sigaction(SIGBUS, NULL, &previous);
    (void)sigaction(SIGBUS, &sa, NULL);
}

void pn_map_guard(void)
{
    (void)pthread_once(&guard_once, install_guard);
}

/* -1 when the table is full: such a map works, but is not guarded. */
static int slot_take(const void *data, size_t size)
{
    for (int i = 0; i < N_SLOTS; i++) {
        int free_slot = 0;
        if (atomic_compare_exchange_strong(&slots[i].taken, &free_slot, 1)) {
            atomic_store(&slots[i].lost, NOT_LOST);
            atomic_store(&slots[i].size, size);
            atomic_store(&slots[i].start, (uintptr_t)data);
            return i;
        }
    }
    return -1;
}

/* ---------------------------------------------------------------------------- files */

static int fail_open(const char *path, int error, struct puna_error *err)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return pn_fail(err, PUNA_E_NOT_FOUND, "%s: no such file", path);
    case EACCES:
    case EPERM:
        return pn_fail(err, PUNA_E_IO, "%s: permission denied; check the owner and mode of the "
                       "file and its directories", path);
    case ELOOP:
        return pn_fail(err, PUNA_E_IO, "%s: symbolic links that lead in a circle", path);
    case EMFILE:
    case ENFILE:
        return pn_fail(err, PUNA_E_IO, "%s: too many open files; raise `ulimit -n`", path);
    default:
        return pn_fail(err, PUNA_E_IO, "%s: cannot open: %s", path, strerror(error));
    }
}

/* A descriptor of a regular file and its size; anything else is refused before it can block. */
static int open_regular(int *out, size_t *size, const char *path, struct puna_error *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return errno == ENXIO ? pn_fail(err, PUNA_E_IO, "%s: a socket or device without a driver, "
                                        "not a regular file", path)
                              : fail_open(path, errno, err);
    struct stat st;
    int rc = 0;
    if (fstat(fd, &st) != 0)
        rc = pn_fail(err, PUNA_E_IO, "%s: cannot stat: %s", path, strerror(errno));
    else if (S_ISDIR(st.st_mode))
        rc = pn_fail(err, PUNA_E_IO, "%s: is a directory where a file is needed", path);
    else if (S_ISFIFO(st.st_mode))
        rc = pn_fail(err, PUNA_E_IO, "%s: is a pipe (FIFO), not a regular file", path);
    else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
        rc = pn_fail(err, PUNA_E_IO, "%s: is a device, not a regular file", path);
    else if (!S_ISREG(st.st_mode))
        rc = pn_fail(err, PUNA_E_IO, "%s: is not a regular file", path);
    else if ((uintmax_t)st.st_size > SIZE_MAX / 2)
        rc = pn_fail(err, PUNA_E_MEMORY, "%s: %jd bytes do not fit this machine's address space",
                     path, (intmax_t)st.st_size);
    if (rc != 0) {
        (void)close(fd);
        return rc;
    }
    *out = fd;
    *size = (size_t)st.st_size;
    return 0;
}

int pn_map_open(struct pn_map **out, const char *path, struct puna_error *err)
{
    *out = NULL;
    int fd;
    size_t size;
    int rc = open_regular(&fd, &size, path, err);
    if (rc != 0)
        return rc;
    struct pn_map *m = calloc(1, sizeof *m);
    if (!m || !(m->path = strdup(path))) {
        free(m);
        (void)close(fd);
        return pn_fail_memory(err, sizeof *m + strlen(path), "a file mapping");
    }
    m->fd = fd;
    m->size = size;
    m->slot = -1;
    if (size > 0) {
        void *p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            const int error = errno;
            rc = pn_fail(err, error == ENOMEM ? PUNA_E_MEMORY : PUNA_E_IO,
                         "%s: cannot map %zu bytes: %s", path, size, strerror(error));
            pn_map_close(&m);
            return rc;
        }
        /* What is not cached yet is read in pieces of 2 MiB, which some file systems keep together; then reading
         * the weights takes one page table walk in 2 MiB instead of 4 KiB. */
        pn_huge_pages(p, size);
        m->data = p;
        m->slot = slot_take(p, size);
    }
    *out = m;
    return 0;
}

void pn_map_close(struct pn_map **map)
{
    struct pn_map *m = *map;
    if (!m)
        return;
    if (m->slot >= 0)
        atomic_store(&slots[m->slot].start, 0);
    if (m->data)
        (void)munmap((void *)(uintptr_t)m->data, m->size);
    if (m->slot >= 0)
        atomic_store(&slots[m->slot].taken, 0);
    (void)close(m->fd);
    free(m->path);
    free(m);
    *map = NULL;
}

bool pn_map_lost(const struct pn_map *map, size_t *offset)
{
    size_t lost = map->slot >= 0 ? atomic_load(&slots[map->slot].lost) : NOT_LOST;
    /* The rest of a cut page reads as zeros without a fault, so the size is asked for as well. */
    struct stat st;
    if (fstat(map->fd, &st) == 0 && (uintmax_t)st.st_size < map->size &&
        (size_t)st.st_size < lost)
        lost = (size_t)st.st_size;
    if (lost == NOT_LOST)
        return false;
    if (offset)
        *offset = lost;
    return true;
}

int pn_read_file(char **out, size_t *len, const char *path, size_t max_bytes,
                 struct puna_error *err)
{
    *out = NULL;
    *len = 0;
    int fd;
    size_t size;
    int rc = open_regular(&fd, &size, path, err);
    if (rc != 0)
        return rc;
    char *data = NULL;
    size_t n = 0;
    if (size > max_bytes) {
        rc = pn_fail(err, PUNA_E_LIMIT, "%s: %zu bytes; at most %zu are read from such a file",
                     path, size, max_bytes);
        goto done;
    }
    data = malloc(size + 1);
    if (!data) {
        rc = pn_fail_memory(err, size, path);
        goto done;
    }
    while (n < size) {
        const ssize_t got = read(fd, data + n, size - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            rc = pn_fail(err, PUNA_E_IO, "%s: cannot read: %s", path, strerror(errno));
            goto done;
        }
        if (got == 0)
            break; /* shrank since fstat: what is left is the file */
        n += (size_t)got;
    }
    data[n] = 0;
    *out = data;
    *len = n;
    data = NULL;
done:
    free(data);
    (void)close(fd);
    return rc;
}
