/* SPDX-License-Identifier: Apache-2.0 */
/* A file that appears under its name only when it is complete: written to a neighbour, synced, renamed.
 * A name that exists and is no regular file (/dev/null, a terminal) is written to directly, since
 * renaming over a device would replace it. */
#ifndef PN_BASE_OUTFILE_H
#define PN_BASE_OUTFILE_H

#include <stddef.h>
#include <stdint.h>

struct puna_error;

struct pn_outfile {
    int fd;
    char *path; /* as given, for messages */
    char *target; /* symbolic links resolved */
    char *temp; /* NULL: written directly */
};

/* 0, or PUNA_E_IO / PUNA_E_MEMORY with a sentence; then out->fd is -1 and nothing is left behind. */
int pn_outfile_open(struct pn_outfile *out, const char *path, struct puna_error *err);
int pn_outfile_write_at(struct pn_outfile *out, const void *bytes, size_t n, uint64_t offset,
                     struct puna_error *err);
int pn_outfile_write(struct pn_outfile *out, const void *bytes, size_t n, struct puna_error *err);
/* Make it n bytes long, zeros until written, and claim the room, so that a full disk shows before the work and not
 * after it. What is written directly is left alone. */
int pn_outfile_reserve(struct pn_outfile *out, uint64_t n, struct puna_error *err);
/* Sync, rename, sync the directory, close. On failure the file is removed, as by pn_outfile_abort. */
int pn_outfile_commit(struct pn_outfile *out, struct puna_error *err);
/* Remove what was written. After a commit, or on a zeroed struct with fd -1: nothing. */
void pn_outfile_abort(struct pn_outfile *out);

/* All at once. */
int pn_outfile_put(const char *path, const void *bytes, size_t n, struct puna_error *err);

#endif
