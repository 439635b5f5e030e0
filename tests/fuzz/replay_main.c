/* SPDX-License-Identifier: Apache-2.0 */
/* A plain main for fuzz targets: runs LLVMFuzzerTestOneInput on every file named, and on every
 * file in the folders named (not their subfolders), in name order. Without arguments, on the folder
 * $PUNA_SRCDIR/tests/fuzz/corpus/NAME, where fuzz_NAME is the program. Fails when there was no input. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Number of inputs run, or -1. The buffer is exactly as large as the file, so that valgrind or
 * AddressSanitizer see a read one byte past it. */
static int replay_file(const char *path, size_t size)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    uint8_t *data = malloc(size > 0 ? size : 1);
    const size_t got = data ? fread(data, 1, size, f) : 0;
    fclose(f);
    if (!data || got != size) {
        fprintf(stderr, "%s: cannot read %zu bytes\n", path, size);
        free(data);
        return -1;
    }
    (void)LLVMFuzzerTestOneInput(data, size);
    free(data);
    return 1;
}

static int replay(const char *path, int depth)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    if (S_ISREG(st.st_mode)) {
        return replay_file(path, (size_t)st.st_size);
    }
    if (!S_ISDIR(st.st_mode) || depth > 0) {
        return 0;
    }
    struct dirent **names = NULL;
    const int n = scandir(path, &names, NULL, alphasort);
    int count = n < 0 ? -1 : 0;
    for (int i = 0; i < n; i++) {
        char file[PATH_MAX];
        const int len = snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
        if (count >= 0 && names[i]->d_name[0] != '.') {
            const int one = len > 0 && (size_t)len < sizeof file ? replay(file, depth + 1) : -1;
            count = one < 0 ? -1 : count + one;
        }
        free(names[i]);
    }
    free(names);
    return count;
}

int main(int argc, char **argv)
{
    int total = 0;
    if (argc < 2) {
        const char *top = getenv("PUNA_SRCDIR");
        const char *name = strrchr(argv[0], '/');
        name = name ? name + 1 : argv[0];
        char dir[PATH_MAX];
        const int len = snprintf(dir, sizeof dir, "%s/tests/fuzz/corpus/%s", top ? top : ".",
                                 strncmp(name, "fuzz_", 5) == 0 ? name + 5 : name);
        total = len > 0 && (size_t)len < sizeof dir ? replay(dir, 0) : -1;
    }
    for (int i = 1; i < argc && total >= 0; i++) {
        const int n = replay(argv[i], 0);
        total = n < 0 ? -1 : total + n;
    }
    if (total <= 0) {
        fprintf(stderr, "%s: no inputs were run\n", argv[0]);
        return 1;
    }
    printf("%d inputs\n", total);
    return 0;
}
