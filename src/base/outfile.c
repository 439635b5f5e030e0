/* SPDX-License-Identifier: Apache-2.0 */
#include "base/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

static int fail_errno(struct puna_error *err, const struct pn_outfile *out, const char *what)
{
    return pn_fail(err, PUNA_E_IO, "%s: cannot %s: %s", out->path, what, strerror(errno));
}

static void release(struct pn_outfile *out)
{
    free(out->path);
    free(out->target);
    free(out->temp);
    *out = (struct pn_outfile){ .fd = -1 };
}

void pn_outfile_abort(struct pn_outfile *out)
{
    if (out->fd < 0)
        return;
    close(out->fd);
    if (out->temp != NULL)
        unlink(out->temp);
    release(out);
}

int pn_outfile_open(struct pn_outfile *out, const char *path, struct puna_error *err)
{
    *out = (struct pn_outfile){ .fd = -1, .path = strdup(path) };
    if (out->path == NULL)
        return pn_fail_memory(err, strlen(path) + 1, "a file name");

    struct stat st;
    const bool exists = stat(path, &st) == 0;
    int rc = 0;
    if (exists && !S_ISREG(st.st_mode)) {
        if (S_ISDIR(st.st_mode))
            rc = pn_fail(err, PUNA_E_IO, "%s: cannot write: it is a directory", path);
        else if ((out->fd = open(path, O_WRONLY | O_CLOEXEC)) < 0)
            rc = fail_errno(err, out, "write");
        if (rc != 0)
            release(out);
        return rc;
    }

    out->target = exists ? realpath(path, NULL) : strdup(path);
    if (out->target == NULL || asprintf(&out->temp, "%s.XXXXXX", out->target) < 0) {
        out->temp = NULL; /* asprintf leaves it undefined */
        rc = pn_fail_memory(err, strlen(path) + 8, "a file name");
    } else if ((out->fd = mkostemp(out->temp, O_CLOEXEC)) < 0) {
        rc = fail_errno(err, out, "create it");
    } else {
        /* mkstemp gives 0600; a new file gets what open() would have given it */
        const mode_t mask = umask(0);
        umask(mask);
        if (fchmod(out->fd, exists ? st.st_mode & 07777 : 0666 & ~mask) != 0) {
            rc = fail_errno(err, out, "set its permissions");
            pn_outfile_abort(out);
            return rc;
        }
    }
    if (rc != 0)
        release(out);
    return rc;
}

int pn_outfile_write_at(struct pn_outfile *out, const void *bytes, size_t n, uint64_t offset,
                     struct puna_error *err)
{
    const char *p = bytes;
    while (n > 0) {
        const ssize_t k = pwrite(out->fd, p, n, (off_t)offset);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0) {
            if (k == 0)
                errno = ENOSPC;
            return fail_errno(err, out, "write");
        }
        p += k;
        n -= (size_t)k;
        offset += (uint64_t)k;
    }
    return 0;
}

int pn_outfile_write(struct pn_outfile *out, const void *bytes, size_t n, struct puna_error *err)
{
    const char *p = bytes;
    while (n > 0) {
        const ssize_t k = write(out->fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return fail_errno(err, out, "write");
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

int pn_outfile_reserve(struct pn_outfile *out, uint64_t n, struct puna_error *err)
{
    if (out->temp == NULL)
        return 0;
#ifdef __linux__
    if (n > 0 && fallocate(out->fd, 0, 0, (off_t)n) != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
        return fail_errno(err, out, "reserve room for it");
#endif
    return ftruncate(out->fd, (off_t)n) != 0 ? fail_errno(err, out, "reserve room for it") : 0;
}

/* The new name is an entry of the directory: it survives a power cut once that is on disk, too. */
static int sync_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
    const int fd = dir != NULL ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    free(dir);
    if (fd < 0)
        return errno == EACCES ? 0 : -1; /* one may write to a directory that one may not read */
    /* some file systems have no such thing */
    const int rc = fsync(fd) != 0 && errno != EINVAL && errno != ENOSYS ? -1 : 0;
    close(fd);
    return rc;
}

int pn_outfile_commit(struct pn_outfile *out, struct puna_error *err)
{
    int rc = 0;
    if (out->temp != NULL && fsync(out->fd) != 0)
        rc = fail_errno(err, out, "write");
    else if (out->temp != NULL && rename(out->temp, out->target) != 0)
        rc = fail_errno(err, out, "rename the finished file");
    else if (out->temp != NULL && sync_directory(out->target) != 0)
        rc = fail_errno(err, out, "write its directory");
    if (rc != 0) {
        pn_outfile_abort(out);
        return rc;
    }
    if (close(out->fd) != 0)
        rc = fail_errno(err, out, "close");
    release(out);
    return rc;
}

int pn_outfile_put(const char *path, const void *bytes, size_t n, struct puna_error *err)
{
    struct pn_outfile out;
    int rc = pn_outfile_open(&out, path, err);
    if (rc != 0)
        return rc;
    rc = pn_outfile_write(&out, bytes, n, err);
    if (rc == 0)
        return pn_outfile_commit(&out, err);
    pn_outfile_abort(&out);
    return rc;
}
