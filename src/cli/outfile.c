/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

static int fail_errno(struct puna_error *err, const struct outfile *out, const char *what)
{
    return pn_fail(err, PUNA_E_IO, "%s: cannot %s: %s", out->path, what, strerror(errno));
}

static void release(struct outfile *out)
{
    free(out->path);
    free(out->target);
    free(out->temp);
    *out = (struct outfile){ .fd = -1 };
}

void outfile_abort(struct outfile *out)
{
    if (out->fd < 0)
        return;
    close(out->fd);
    if (out->temp != NULL)
        unlink(out->temp);
    release(out);
}

int outfile_open(struct outfile *out, const char *path, struct puna_error *err)
{
    *out = (struct outfile){ .fd = -1, .path = strdup(path) };
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
            outfile_abort(out);
            return rc;
        }
    }
    if (rc != 0)
        release(out);
    return rc;
}

int outfile_write_at(struct outfile *out, const void *bytes, size_t n, uint64_t offset,
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

int outfile_write(struct outfile *out, const void *bytes, size_t n, struct puna_error *err)
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

int outfile_commit(struct outfile *out, struct puna_error *err)
{
    int rc = 0;
    if (out->temp != NULL && fsync(out->fd) != 0)
        rc = fail_errno(err, out, "write");
    else if (out->temp != NULL && rename(out->temp, out->target) != 0)
        rc = fail_errno(err, out, "rename the finished file");
    if (rc != 0) {
        outfile_abort(out);
        return rc;
    }
    if (close(out->fd) != 0)
        rc = fail_errno(err, out, "close");
    release(out);
    return rc;
}

int outfile_put(const char *path, const void *bytes, size_t n, struct puna_error *err)
{
    struct outfile out;
    int rc = outfile_open(&out, path, err);
    if (rc != 0)
        return rc;
    rc = outfile_write(&out, bytes, n, err);
    if (rc == 0)
        return outfile_commit(&out, err);
    outfile_abort(&out);
    return rc;
}
