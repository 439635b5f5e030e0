/* SPDX-License-Identifier: Apache-2.0 */
/* puna synth: a random model of a real shape. */
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/mem.h"
#include "cli/common.h"

struct synth_settings {
    struct opt_list args;
    const char *arch, *type;
    int64_t layers;
    struct opt_seed seed;
    bool dry_run, no_progress;
};

static const struct synth_settings defaults = { .type = "Q4_K_M" };

#define T struct synth_settings
static const struct opt_spec options[] = {
    OPT_HEADING("Options"),
    OPT_ROW(T, arch, OPT_STRING, "arch", 0, "NAME", "11b, 11b-base, 90b, 8b, 3b or 1b.", .dflt = ""),
    OPT_ROW(T, type, OPT_STRING, "type", 0, "TYPE", "Number format of the weights: Q4_K_M, Q8_0, F16...",
            .dflt = "Q4_K_M"),
    OPT_ROW(T, layers, OPT_INT, "layers", 0, "N",
            "Cut the text stack to its first N layers, cross-attention layers included.",
            .dflt = "all", .min = 1, .max = 1024),
    OPT_ROW(T, seed, OPT_SEED, "seed", 0, "N", "Same seed, same file.", .dflt = "0"),
    OPT_FLAG_ROW(T, dry_run, "dry-run", 0, "Only say how large the file would be."),
    OPT_FLAG_ROW(T, no_progress, "no-progress", 0, "No progress line on the terminal."),
};
#undef T

/* Free space where the file would lie; false: unknown. */
static bool free_bytes(const char *path, double *bytes)
{
    struct pn_buf dir = { 0 };
    const size_t n = (size_t)(path_base(path) - path);
    struct statvfs st;
    const bool ok = pn_buf_append(&dir, n ? path : ".", n ? n : 1) && statvfs(dir.data, &st) == 0;
    if (ok)
        *bytes = (double)st.f_bavail * (double)st.f_frsize;
    pn_buf_free(&dir);
    return ok;
}

static int run(const void *settings)
{
    const struct synth_settings *s = settings;
    if (s->arch == NULL)
        return diag_usage("which shape? give --arch 11b, 11b-base, 90b, 8b, 3b or 1b");
    if (s->no_progress)
        term_no_progress();
    const char *path = s->args.v[0];
    const int layers = (int)s->layers;
    struct puna_error err = { 0 };
    size_t bytes = 0;
    if (puna_synth(s->arch, s->type, layers, s->seed.value, path, 1, &bytes, NULL, NULL, &err) != 0)
        return diag_error(&err);
    char size[32], room[32];
    format_bytes(size, sizeof(size), (double)bytes);
    printf("%s: %s, %s, ", path, s->arch, s->type);
    if (layers > 0)
        printf("%d layers", layers);
    else
        printf("all layers");
    printf(", %s (%zu bytes)\n", size, bytes);
    if (s->dry_run)
        return EXIT_OK;
    fflush(stdout);

    double available;
    if (free_bytes(path, &available) && available < (double)bytes) {
        format_bytes(room, sizeof(room), available);
        return diag("%s: needs %s but only %s are free there", path, size, room);
    }
    const int rc = puna_synth(s->arch, s->type, layers, s->seed.value, path, 0, &bytes,
                              term_progress, NULL, &err);
    term_clear_progress();
    return rc == 0 ? EXIT_OK : diag_error(&err);
}

const struct command cmd_synth = {
    .name = "synth",
    .usage = "--arch NAME [--type TYPE] [--layers N] OUT.gguf",
    .summary = "Write a random model of a real shape, for measuring.",
    .details = "For measuring speed and memory without weights: the file has the shapes, formats and "
               "layout of the real model, and random numbers in it. What it answers is noise. It "
               "appears under its name only when it is complete.\n"
               "\n"
               "Examples:\n"
               "  puna synth --arch 11b --type Q4_K_M 11b.gguf\n"
               "  puna synth --arch 90b --type Q4_K_M --layers 10 --dry-run x.gguf",
    .opts = options,
    .n_opts = sizeof(options) / sizeof(options[0]),
    .min_args = 1,
    .max_args = 1,
    .args_offset = offsetof(struct synth_settings, args),
    .defaults = &defaults,
    .size = sizeof(defaults),
    .run = run,
};
