/* SPDX-License-Identifier: Apache-2.0 */
/* Looks into safetensors files for the tests.
 *   stcat list FILE                        name, type and shape of each tensor, one a line
 *   stcat ints FILE NAME                   the values of an I64 tensor, separated by blanks
 *   stcat zeros FILE NAME FIRST COUNT      exit 1 unless COUNT F32 values from FIRST on are zero
 *   stcat diff TOLERANCE FILE NAME FILE NAME [FIRST COUNT]
 *                                          largest |difference| of two F32 tensors of one shape, or of
 *                                          COUNT values from FIRST on; exit 1 beyond tolerance
 *   stcat cosine LEAST FILE NAME FILE NAME 1 - the cosine of two F32 tensors of one shape; exit 1 below LEAST */
#include <math.h>
#include <puna.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/st_read.h"

static struct st_file *opened[2]; /* what main closes at the end */
static int n_opened;

static const struct st_view *tensor(const char *path, const char *name, const char *dtype)
{
    struct puna_error err = { 0 };
    if (n_opened == 2 || st_open(&opened[n_opened], path, &err) != 0) {
        fprintf(stderr, "stcat: %s\n", err.message);
        exit(1);
    }
    const struct st_view *v = st_find(opened[n_opened++], name);
    if (v == NULL || strcmp(v->dtype, dtype) != 0) {
        fprintf(stderr, "stcat: %s: no %s tensor '%s'\n", path, dtype, name);
        exit(1);
    }
    return v;
}

static int list(const char *path)
{
    struct puna_error err = { 0 };
    struct st_file *f;
    if (st_open(&f, path, &err) != 0) {
        fprintf(stderr, "stcat: %s\n", err.message);
        return 1;
    }
    for (size_t i = 0; i < st_count(f); i++) {
        const struct st_view *v = st_at(f, i);
        printf("%s %s [", v->name, v->dtype);
        for (int k = 0; k < v->ndim; k++)
            printf("%s%lld", k ? "," : "", (long long)v->shape[k]);
        puts("]");
    }
    st_close(&f);
    return 0;
}

static int ints(const char *path, const char *name)
{
    const struct st_view *v = tensor(path, name, "I64");
    for (size_t i = 0; i < v->n; i++)
        printf("%s%lld", i ? " " : "", (long long)st_i64(v, i));
    putchar('\n');
    return 0;
}

/* The range [first, first + count) of a command line, or all of v. */
static void range(const struct st_view *v, char **args, int n, size_t *first, size_t *count)
{
    *first = n == 2 ? strtoull(args[0], NULL, 10) : 0;
    *count = n == 2 ? strtoull(args[1], NULL, 10) : v->n;
    if (*count == 0 || *first > v->n || *count > v->n - *first) {
        fprintf(stderr, "stcat: %s has %zu values\n", v->name, v->n);
        exit(1);
    }
}

static int zeros(char **args)
{
    const struct st_view *v = tensor(args[0], args[1], "F32");
    size_t first, count;
    range(v, args + 2, 2, &first, &count);
    for (size_t i = first; i < first + count; i++) {
        if (st_f32(v, i) != 0) {
            fprintf(stderr, "stcat: %s[%zu] = %g\n", v->name, i, (double)st_f32(v, i));
            return 1;
        }
    }
    return 0;
}

/* FILE NAME FILE NAME: two tensors of one shape. */
static void pair(char **args, const struct st_view **a, const struct st_view **b)
{
    *a = tensor(args[0], args[1], "F32");
    *b = tensor(args[2], args[3], "F32");
    if ((*a)->ndim != (*b)->ndim || memcmp((*a)->shape, (*b)->shape, sizeof((*a)->shape)) != 0) {
        fprintf(stderr, "stcat: %s and %s have different shapes\n", (*a)->name, (*b)->name);
        exit(1);
    }
}

static int cosine(char **args)
{
    const struct st_view *a, *b;
    double aa = 0, bb = 0, ab = 0;
    pair(args + 1, &a, &b);
    for (size_t i = 0; i < a->n; i++) {
        const double x = (double)st_f32(a, i), y = (double)st_f32(b, i);
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    const double cos = ab / sqrt(aa * bb);
    printf("%.3e\n", 1 - cos);
    return cos >= strtod(args[0], NULL) ? 0 : 1;
}

static int diff(char **args, int n)
{
    const struct st_view *a, *b;
    pair(args + 1, &a, &b);
    size_t first, count;
    range(a, args + 5, n - 5, &first, &count);
    double worst = 0;
    for (size_t i = first; i < first + count; i++) {
        const double d = fabs((double)st_f32(a, i) - (double)st_f32(b, i));
        if (!(d <= worst))
            worst = d; /* NaN stays */
    }
    printf("%.3e\n", worst);
    return worst <= strtod(args[0], NULL) ? 0 : 1;
}

static int obey(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "list") == 0 && argc == 3)
        return list(argv[2]);
    if (strcmp(what, "ints") == 0 && argc == 4)
        return ints(argv[2], argv[3]);
    if (strcmp(what, "zeros") == 0 && argc == 6)
        return zeros(argv + 2);
    if (strcmp(what, "diff") == 0 && (argc == 7 || argc == 9))
        return diff(argv + 2, argc - 2);
    if (strcmp(what, "cosine") == 0 && argc == 7)
        return cosine(argv + 2);
    fprintf(stderr, "stcat: called wrongly\n");
    return 2;
}

int main(int argc, char **argv)
{
    const int status = obey(argc, argv);
    for (int i = 0; i < n_opened; i++)
        st_close(&opened[i]);
    return status;
}
