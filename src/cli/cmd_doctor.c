/* SPDX-License-Identifier: Apache-2.0 */
/* puna doctor: what this machine offers and what puna makes of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/common.h"

struct doctor_settings {
    const char *cpu;
    int64_t threads;
    bool quick, json;
};

static const struct doctor_settings defaults;

#define T struct doctor_settings
static const struct opt_spec options[] = {
    OPT_HEADING("Options"),
    OPT_FLAG_ROW(T, quick, "quick", 0, "Do not measure, which takes about a second."),
    OPT_FLAG_ROW(T, json, "json", 0, "One JSON object."),
    OPT_ROW(T, threads, OPT_INT, "threads", 't', "N", "Measure with N threads.",
            .dflt = "the CPUs this process may use", .min = 1, .max = 4096),
    OPT_ROW(T, cpu, OPT_STRING, "cpu", 0, "NAME", "Show and measure this kernel tier.",
            .dflt = "PUNA_CPU, else the best"),
};
#undef T

enum { MAX_CACHES = 8 };

struct cache {
    int level;
    char type[16], size[16]; /* "Data", "Instruction", "Unified"; as sysfs writes it: "32K" */
    char shared_by[64];      /* CPUs: "0-1" */
};

/* First line of a small file under /sys or /proc; false: no such file. */
static bool read_line(const char *path, char *out, size_t cap)
{
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return false;
    const bool ok = fgets(out, (int)cap, f) != NULL;
    fclose(f);
    if (ok)
        out[strcspn(out, "\n")] = '\0';
    return ok;
}

static int find_caches(struct cache *caches)
{
    int n = 0;
    for (; n < MAX_CACHES; n++) {
        struct cache *c = &caches[n];
        char path[96], level[16];
        const char *const base = "/sys/devices/system/cpu/cpu0/cache/index";
        snprintf(path, sizeof(path), "%s%d/level", base, n);
        if (!read_line(path, level, sizeof(level)))
            break;
        c->level = (int)strtol(level, NULL, 10);
        snprintf(path, sizeof(path), "%s%d/type", base, n);
        if (!read_line(path, c->type, sizeof(c->type)))
            c->type[0] = '\0';
        snprintf(path, sizeof(path), "%s%d/size", base, n);
        if (!read_line(path, c->size, sizeof(c->size)))
            c->size[0] = '\0';
        snprintf(path, sizeof(path), "%s%d/shared_cpu_list", base, n);
        if (!read_line(path, c->shared_by, sizeof(c->shared_by)))
            c->shared_by[0] = '\0';
    }
    return n;
}

/* x86 says "model name"; elsewhere the machine's name from the device tree must do. */
static void cpu_name(char *out, size_t cap)
{
    char line[256];
    snprintf(out, cap, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        const char *colon = strstr(line, ": ");
        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(out, cap, "%s", colon + 2);
            fclose(f);
            return;
        }
    }
    if (f != NULL)
        fclose(f);
    if (read_line("/proc/device-tree/model", line, sizeof(line)))
        snprintf(out, cap, "%s", line);
}

static double memory_bytes(void)
{
    return (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
}

/* ------------------------------------------------------------------------------------- text */

static void print_text(const struct doctor_settings *s, int threads, const char *tier,
                       const struct puna_ceilings *peak)
{
    char name[256], mem[32];
    cpu_name(name, sizeof(name));
    format_bytes(mem, sizeof(mem), memory_bytes());
    printf("puna       %s\nBuilt      %s\n", puna_version(), puna_build_info());
    printf("CPU        %s\nCores      %ld online, %d usable by this process\nMemory     %s\n", name,
           sysconf(_SC_NPROCESSORS_ONLN), puna_cpu_count(), mem);

    struct cache caches[MAX_CACHES];
    const int n = find_caches(caches);
    if (n > 0)
        printf("\nCaches of the first CPU\n");
    for (int i = 0; i < n; i++)
        printf("  L%d %-12s %8s  shared by CPUs %s\n", caches[i].level, caches[i].type,
               caches[i].size, caches[i].shared_by);

    printf("\nKernel tiers\n");
    const char *t;
    int built, usable;
    for (int i = 0; (t = puna_tier(i, &built, &usable)) != NULL; i++)
        printf("  %-12s %s%s\n", t,
               !built ? "not built" : usable ? "usable" : "built, but not on this CPU",
               strcmp(t, tier) == 0 ? ", chosen" : "");

    printf("\nKernels chosen (products: register tile, activations x weights, and what packs the activations)\n");
    struct puna_kernel k = { .size = sizeof(k) };
    for (int i = 0; puna_kernel_slot(s->cpu, i, &k) == 0; i++) {
        if (k.tile_m == 0)
            printf("  %-20s %s\n", k.slot, k.tier != NULL ? k.tier : "-");
        else
            printf("  %-20s %-12s %d x %d%s%s\n", k.slot, k.tier, k.tile_m, k.tile_n,
                   k.packer != NULL ? ", " : "", k.packer != NULL ? k.packer : "");
    }

    if (!s->quick) {
        printf("\nMeasured with %d thread%s\n  memory, sequential read  %8.1f GB/s\n", threads,
               threads == 1 ? "" : "s", peak->read_gbs);
        const struct {
            const char *what;
            double gops;
        } rows[] = { { "int8", peak->int8_gops }, { "bf16", peak->bf16_gops },
                     { "f32", peak->f32_gops } };
        for (size_t i = 0; i < 3; i++) {
            printf("  multiply-add, %-10s ", rows[i].what);
            if (rows[i].gops > 0)
                printf("%8.1f GOPS\n", rows[i].gops);
            else
                printf("no such instruction\n");
        }
        printf("  so an 11B model in Q4_K_M, which reads 4.6 GB for a token (5.6 GB with a picture), "
               "decodes\n  at most %.1f (%.1f) tok/s\n",
               peak->read_gbs / 4.6, peak->read_gbs / 5.6);
    }
    printf("\nRecommended\n  --threads %d%s\n", puna_cpu_count(),
           puna_cpu_count() < sysconf(_SC_NPROCESSORS_ONLN)
               ? "  (the process may not use all CPUs: affinity or cgroup quota)"
               : "  (the default)");
    printf("  --kv-type f16  (the default; q8_0 halves it, for long contexts)\n");
}

/* ------------------------------------------------------------------------------------- JSON */

static json_t *report(const struct doctor_settings *s, int threads, const char *tier,
                      const struct puna_ceilings *peak)
{
    char name[256];
    cpu_name(name, sizeof(name));
    json_t *tiers = json_array(), *slots = json_object(), *products = json_object(), *caches = json_array();
    const char *t;
    int built, usable;
    for (int i = 0; (t = puna_tier(i, &built, &usable)) != NULL; i++)
        json_array_append_new(tiers, json_pack("{s:s, s:b, s:b}", "name", t, "built", built,
                                               "usable", usable));
    struct puna_kernel k = { .size = sizeof(k) };
    for (int i = 0; puna_kernel_slot(s->cpu, i, &k) == 0; i++) {
        json_object_set_new(slots, k.slot, k.tier != NULL ? json_string(k.tier) : json_null());
        if (k.tile_m > 0)
            json_object_set_new(products, k.slot,
                                json_pack("{s:[i, i], s:s?}", "tile", k.tile_m, k.tile_n, "packer", k.packer));
    }
    struct cache found[MAX_CACHES];
    const int n = find_caches(found);
    for (int i = 0; i < n; i++)
        json_array_append_new(caches, json_pack("{s:i, s:s, s:s, s:s}", "level", found[i].level,
                                                "type", found[i].type, "size", found[i].size,
                                                "shared_by", found[i].shared_by));
    json_t *j = json_pack("{s:s, s:s, s:o, s:I, s:i, s:f, s:o, s:s, s:o, s:o, s:o, s:{s:i, s:s}}",
                          "version", puna_version(), "build", puna_build_info(), "cpu",
                          json_lossy(name, strlen(name)), "cpus_online",
                          (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "cpus_usable",
                          puna_cpu_count(), "memory_bytes", memory_bytes(), "caches", caches, "tier",
                          tier, "tiers", tiers, "kernels", slots, "products", products, "recommended",
                          "threads", puna_cpu_count(), "kv_type", "f16");
    if (!s->quick)
        json_object_set_new(j, "measured",
                            json_pack("{s:i, s:f, s:f, s:f, s:f}", "threads", threads, "read_gbs",
                                      peak->read_gbs, "int8_gops", peak->int8_gops, "bf16_gops",
                                      peak->bf16_gops, "f32_gops", peak->f32_gops));
    return j;
}

static int run(const void *settings)
{
    const struct doctor_settings *s = settings;
    struct puna_error err;
    const char *tier = puna_tier_chosen(s->cpu, &err);
    if (tier == NULL)
        return diag_error(&err);
    const int threads = s->threads > 0 ? (int)s->threads : puna_cpu_count();
    struct puna_ceilings peak = { 0 };
    if (!s->quick)
        puna_measure_ceilings(tier, threads, &peak);
    if (s->json)
        return print_json(report(s, threads, tier, &peak));
    print_text(s, threads, tier, &peak);
    return EXIT_OK;
}

const struct command cmd_doctor = {
    .name = "doctor",
    .usage = "[options]",
    .summary = "Show the CPU, the kernels chosen and the machine's limits.",
    .details = "Which kernel tiers were built and which this CPU can run, the tier chosen for each "
               "kernel (of products also the register tile, rows of activations by rows of weights, "
               "and the kernel that packs activations for it), cores and caches, and the measured "
               "ceilings: memory bandwidth, which bounds the tokens per second of an answer, and "
               "multiply-add rates, which bound the reading of prompts and pictures.\n"
               "\n"
               "Examples:\n"
               "  puna doctor\n"
               "  puna doctor --quick --json",
    .opts = options,
    .n_opts = sizeof(options) / sizeof(options[0]),
    .defaults = &defaults,
    .size = sizeof(defaults),
    .run = run,
};
