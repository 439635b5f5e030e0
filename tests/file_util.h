/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of the file room: a scratch directory, files in it, paths of the source tree. */
#ifndef TESTS_FILE_UTIL_H
#define TESTS_FILE_UTIL_H

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch[64];
#define SCRATCH_PATH (PATH_MAX + 64)

static inline int scratch_make(void **state)
{
    (void)state;
    (void)snprintf(scratch, sizeof scratch, "/tmp/puna-test-XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static inline int scratch_remove_entry(const char *path, const struct stat *st, int type,
                                       struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline int scratch_remove(void **state)
{
    (void)state;
    return nftw(scratch, scratch_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* A path in the scratch directory; four of them live at a time. */
static inline const char *in_scratch(const char *name)
{
    static char ring[4][SCRATCH_PATH];
    static unsigned turn;
    char *p = ring[turn++ % 4];
    (void)snprintf(p, SCRATCH_PATH, "%s/%s", scratch, name);
    return p;
}

static inline const char *in_srcdir(const char *name)
{
    static char path[PATH_MAX];
    const char *dir = getenv("PUNA_SRCDIR");
    (void)snprintf(path, sizeof path, "%s/%s", dir ? dir : ".", name);
    return path;
}

/* Parent directories are made. */
static inline void put_file(const char *name, const void *bytes, size_t n)
{
    char path[SCRATCH_PATH];
    (void)snprintf(path, sizeof path, "%s", in_scratch(name));
    for (char *s = path + strlen(scratch) + 1; (s = strchr(s, '/')); s++) {
        *s = 0;
        (void)mkdir(path, 0700);
        *s = '/';
    }
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) {
        perror(path);
        abort();
    }
}

static inline void put_text(const char *name, const char *text)
{
    put_file(name, text, strlen(text));
}

/* A safetensors file: this header, then n_data bytes 0, 1, 2... malloc'ed. */
static inline unsigned char *st_bytes(const char *header, size_t n_data, size_t *len)
{
    const size_t n = strlen(header);
    unsigned char *b = malloc(8 + n + n_data);
    if (!b)
        abort();
    for (int i = 0; i < 8; i++)
        b[i] = (unsigned char)((unsigned long long)n >> 8 * i);
    memcpy(b + 8, header, n);
    for (size_t i = 0; i < n_data; i++)
        b[8 + n + i] = (unsigned char)i;
    *len = 8 + n + n_data;
    return b;
}

static inline void put_st(const char *name, const char *header, size_t n_data)
{
    size_t len;
    unsigned char *b = st_bytes(header, n_data, &len);
    put_file(name, b, len);
    free(b);
}

#endif
