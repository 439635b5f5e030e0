/* SPDX-License-Identifier: Apache-2.0 */
/* Read-only shared mapping of a regular file.
 *
 * A file that shrinks while mapped would kill the process by SIGBUS. pn_map_guard() installs a
 * handler (once per process, chaining to the previous one for addresses that are not ours) that puts
 * a zero page under the faulting address and remembers the loss; computation goes on with zeros and
 * the next pn_map_lost() check turns it into an error. No longjmp, so it is safe inside OpenMP. */
#ifndef PN_BASE_MAP_H
#define PN_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct puna_error;

struct pn_map {
    const uint8_t *data; /* NULL when size == 0 */
    size_t size;
    char *path;
    int slot; /* index in the guard's table, -1: none */
    int fd;   /* kept open: pn_map_lost asks for the size */
};

/* PUNA_E_NOT_FOUND, PUNA_E_IO (directory, FIFO, device, permission: each its own sentence),
 * PUNA_E_MEMORY. On failure *out is NULL. */
int pn_map_open(struct pn_map **out, const char *path, struct puna_error *err);
void pn_map_close(struct pn_map **map); /* NULL and *map == NULL allowed; nulls the pointer */

void pn_map_guard(void);
/* True when part of the file vanished since it was mapped; *offset: the first byte that was missed. */
bool pn_map_lost(const struct pn_map *map, size_t *offset);

/* Whole small file into a fresh NUL-terminated buffer (free with free()); refuses more than max. */
int pn_read_file(char **out, size_t *len, const char *path, size_t max_bytes,
                 struct puna_error *err);

#endif
