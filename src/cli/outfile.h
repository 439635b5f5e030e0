/* SPDX-License-Identifier: Apache-2.0 */
/* A file that appears under its name only when it is complete: written to a neighbour, synced, renamed.
 * A name that exists and is no regular file (/dev/null, a terminal) is written to directly, since
 * renaming over a device would replace it. */
#ifndef PN_CLI_OUTFILE_H
#define PN_CLI_OUTFILE_H

#include <stddef.h>
#include <stdint.h>

struct puna_error;

struct outfile {
    int fd;
    char *path; /* as given, for messages */
    char *target; /* symbolic links resolved */
    char *temp; /* NULL: written directly */
};

/* 0, or PUNA_E_IO / PUNA_E_MEMORY with a sentence; then out->fd is -1 and nothing is left behind. */
int outfile_open(struct outfile *out, const char *path, struct puna_error *err);
int outfile_write_at(struct outfile *out, const void *bytes, size_t n, uint64_t offset,
                     struct puna_error *err);
int outfile_write(struct outfile *out, const void *bytes, size_t n, struct puna_error *err);
/* Sync, rename, close. On failure the file is removed, as by outfile_abort. */
int outfile_commit(struct outfile *out, struct puna_error *err);
/* Remove what was written. After a commit, or on a zeroed struct with fd -1: nothing. */
void outfile_abort(struct outfile *out);

/* All at once. */
int outfile_put(const char *path, const void *bytes, size_t n, struct puna_error *err);

#endif
