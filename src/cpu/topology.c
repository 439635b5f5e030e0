/* SPDX-License-Identifier: Apache-2.0 */
/* How many CPUs: affinity, cgroup quota, cores. Reads small kernel files; what cannot be read or
 * understood does not limit. */
#include "cpu/cpu.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 4096

/* First bytes of a small file as a string; false when it cannot be read. */
static bool read_text(const char *path, char *text, size_t size)
{
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return false;
    const size_t n = fread(text, 1, size - 1, f);
    text[n] = '\0';
    fclose(f);
    return n > 0;
}

/* ---- cgroup quota ---- */

/* CPUs for quota microseconds per period, rounded up. */
static int quota_cpus(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return 0;
    const long long n = (quota - 1) / period + 1;
    return n > INT_MAX ? 0 : (int)n;
}

/* Limit of one cgroup directory; 0: none. */
static int directory_cpus(const char *dir, bool v2)
{
    char path[PATH_BYTES + 32], text[64], text2[64], *rest;
    if (v2) {
        snprintf(path, sizeof path, "%s/cpu.max", dir); /* "150000 100000" or "max 100000" */
        if (!read_text(path, text, sizeof text) || strncmp(text, "max", 3) == 0)
            return 0;
        const long long quota = strtoll(text, &rest, 10);
        return quota_cpus(quota, strtoll(rest, NULL, 10));
    }
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", dir); /* -1: no limit */
    if (!read_text(path, text, sizeof text))
        return 0;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", dir);
    if (!read_text(path, text2, sizeof text2))
        return 0;
    return quota_cpus(strtoll(text, NULL, 10), strtoll(text2, NULL, 10));
}

static int smaller_limit(int a, int b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
}

/* Smallest limit of root + group and all directories above it up to root: a child cannot exceed its
 * parents. Inside a container the path may not exist below the mount; then only root counts. */
static int hierarchy_cpus(const char *root, const char *group, bool v2)
{
    char dir[PATH_BYTES];
    const size_t root_len = strlen(root);
    if ((size_t)snprintf(dir, sizeof dir, "%s%s", root, group) >= sizeof dir)
        return 0;
    int limit = 0;
    for (;;) {
        limit = smaller_limit(limit, directory_cpus(dir, v2));
        char *slash = strrchr(dir, '/');
        if (slash == NULL || (size_t)(slash - dir) < root_len)
            return limit;
        *slash = '\0';
    }
}

/* True when the comma-separated list has the item "cpu". */
static bool lists_cpu(const char *list)
{
    for (const char *p = list; p != NULL; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, "cpu", 3) == 0 && (p[3] == ',' || p[3] == '\0'))
            return true;
    }
    return false;
}

int pn_cgroup_cpus(const char *cgroup_file, const char *mount)
{
    FILE *f = fopen(cgroup_file, "re");
    if (f == NULL)
        return 0;
    int limit = 0;
    char line[PATH_BYTES], root[PATH_BYTES];
    while (fgets(line, sizeof line, f) != NULL) { /* "0::/a/b" or "4:cpu,cpuacct:/a/b" */
        line[strcspn(line, "\n")] = '\0';
        char *list = strchr(line, ':');
        char *group = list != NULL ? strchr(list + 1, ':') : NULL;
        if (group == NULL)
            continue;
        *group++ = '\0';
        list++;
        if (*list == '\0') {
            limit = smaller_limit(limit, hierarchy_cpus(mount, group, true));
        } else if (lists_cpu(list)) {
            if ((size_t)snprintf(root, sizeof root, "%s/cpu", mount) < sizeof root)
                limit = smaller_limit(limit, hierarchy_cpus(root, group, false));
        }
    }
    fclose(f);
    return limit;
}

/* ---- affinity and cores ---- */

/* The affinity mask, as large as this kernel needs; NULL: unknown. Free with CPU_FREE. */
static cpu_set_t *affinity_mask(int *n_cpus)
{
    for (int n = 1024; n <= 1 << 20; n *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)n);
        if (set == NULL)
            return NULL;
        if (sched_getaffinity(0, CPU_ALLOC_SIZE((size_t)n), set) == 0) {
            *n_cpus = n;
            return set;
        }
        CPU_FREE(set);
        if (errno != EINVAL) /* EINVAL: the mask is too small */
            return NULL;
    }
    return NULL;
}

int pn_cpu_count(void)
{
    int n_cpus, count = 0;
    cpu_set_t *set = affinity_mask(&n_cpus);
    if (set != NULL) {
        count = CPU_COUNT_S(CPU_ALLOC_SIZE((size_t)n_cpus), set);
        CPU_FREE(set);
    } else {
        const long online = sysconf(_SC_NPROCESSORS_ONLN);
        count = online > 0 && online < INT_MAX ? (int)online : 1;
    }
    count = smaller_limit(count, pn_cgroup_cpus("/proc/self/cgroup", "/sys/fs/cgroup"));
    return count > 0 ? count : 1;
}

/* True when a CPU of the mask below `cpu` is named in the list "0-1,64": it shares cpu's core. */
static bool lower_sibling(const char *list, int cpu, const cpu_set_t *set, size_t set_bytes)
{
    for (const char *p = list; *p >= '0' && *p <= '9';) {
        char *rest;
        const long first = strtol(p, &rest, 10);
        long last = first;
        if (*rest == '-')
            last = strtol(rest + 1, &rest, 10);
        for (long i = first; i <= last && i < cpu; i++) {
            if (i >= 0 && CPU_ISSET_S((size_t)i, set_bytes, set))
                return true;
        }
        p = *rest == ',' ? rest + 1 : rest;
    }
    return false;
}

int pn_cpu_cores(void)
{
    int n_cpus, cores = 0;
    cpu_set_t *set = affinity_mask(&n_cpus);
    if (set == NULL)
        return pn_cpu_count();
    const size_t set_bytes = CPU_ALLOC_SIZE((size_t)n_cpus);
    for (int i = 0; i < n_cpus; i++) {
        if (!CPU_ISSET_S((size_t)i, set_bytes, set))
            continue;
        char path[96], text[256];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
                 i);
        if (!read_text(path, text, sizeof text) || !lower_sibling(text, i, set, set_bytes))
            cores++;
    }
    CPU_FREE(set);
    return cores > 0 ? cores : 1;
}

/* sysfs first: sysconf trusts CPUID, which in virtual machines tells of the host's whole cache. */
unsigned long pn_cpu_last_cache(void)
{
    unsigned long best = 0;
    for (int i = 0; i < 8; i++) {
        char path[96], text[64], *unit;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        if (!read_text(path, text, sizeof text))
            break;
        unsigned long bytes = strtoul(text, &unit, 10); /* "32768K" */
        bytes *= *unit == 'K' ? 1024ul : *unit == 'M' ? 1024ul * 1024 : 1;
        best = bytes > best ? bytes : best;
    }
#if defined(_SC_LEVEL3_CACHE_SIZE)
    if (best == 0) {
        const long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
        best = bytes > 0 ? (unsigned long)bytes : 0;
    }
#endif
    return best;
}
