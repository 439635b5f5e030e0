/* SPDX-License-Identifier: Apache-2.0 */
/* What a session will cost in memory, and what the machine has. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "session/session.h"

double pn_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* First number of the file, or of its line that starts with key; -1 when there is none ("max"). */
static int64_t number_in(const char *path, const char *key)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return -1;
    char line[256];
    int64_t value = -1;
    while (fgets(line, sizeof line, f)) {
        const char *p = line;
        if (key) {
            if (strncmp(line, key, strlen(key)))
                continue;
            p += strlen(key);
        }
        char *end;
        const long long v = strtoll(p, &end, 10);
        if (end != p)
            value = v;
        break; /* the first line, or the key's */
    }
    fclose(f);
    return value;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* What a cgroup's limit leaves beside memory that cannot be reclaimed; SIZE_MAX: no limit. */
static size_t group_left(const char *dir, const char *limit_file, const char *usage_file, const char *cache_key)
{
    char path[1400];
    snprintf(path, sizeof path, "%s/%s", dir, limit_file);
    const int64_t limit = number_in(path, NULL);
    snprintf(path, sizeof path, "%s/%s", dir, usage_file);
    const int64_t usage = number_in(path, NULL);
    snprintf(path, sizeof path, "%s/memory.stat", dir);
    const int64_t cache = number_in(path, cache_key);
    if (limit < 0 || usage < 0)
        return SIZE_MAX;
    /* cgroup v1 says "no limit" by a number next to INT64_MAX: nothing is added to it */
    const int64_t used = cache > 0 && cache < usage ? usage - cache : cache > 0 ? 0 : usage;
    return limit > used ? (size_t)(limit - used) : 0;
}

size_t pn_memory_available(void)
{
    size_t have = SIZE_MAX;
    const int64_t kib = number_in("/proc/meminfo", "MemAvailable:");
    if (kib >= 0)
        have = (size_t)kib * 1024;
    /* cgroup v2: every group from ours up to the root may have a limit; v1 shows its own at the mount */
    FILE *f = fopen("/proc/self/cgroup", "r");
    char line[1024] = "", dir[1200];
    while (f && fgets(line, sizeof line, f) && strncmp(line, "0::", 3))
        line[0] = 0;
    if (f)
        fclose(f);
    line[strcspn(line, "\n")] = 0;
    snprintf(dir, sizeof dir, "/sys/fs/cgroup%s", strncmp(line, "0::", 3) ? "" : line + 3);
    for (;;) {
        have = min_size(have, group_left(dir, "memory.max", "memory.current", "file "));
        char *slash = strrchr(dir, '/');
        if (!slash || strlen(dir) <= strlen("/sys/fs/cgroup"))
            break;
        *slash = 0;
    }
    have = min_size(have, group_left("/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                     "memory.usage_in_bytes", "total_cache "));
    return have;
}

int pn_session_plan(const struct pn_model *m, const struct puna_session_params *par,
                    struct puna_memory_plan *plan)
{
    static const enum pn_kv_type types[] = {PN_KV_F16, PN_KV_F32, PN_KV_BF16, PN_KV_Q8};
    const bool precise = par->precise;
    const enum pn_kv_type kv = precise ? PN_KV_F32 : types[par->kv_type & 3];
    const int32_t ctx = par->ctx > 0 ? par->ctx : m->hp.n_ctx_train < 4096 ? m->hp.n_ctx_train : 4096;
    const int32_t chunk = par->chunk > 0 ? par->chunk : 256;
    memset(plan, 0, sizeof *plan);
    for (size_t i = 0; i < m->src->n_maps; i++)
        plan->file_bytes += m->src->maps[i]->size;
    plan->kv_bytes = pn_kv_total_bytes(&m->hp, kv, ctx);
    plan->scratch_bytes = pn_scratch_bytes(m, chunk < ctx ? chunk : ctx, ctx) +
                          (size_t)m->hp.n_vocab * sizeof(float);
    if (m->vision) {
        const int32_t t = m->hp.v_tiles;
        plan->cross_bytes_per_image = pn_cross_bytes(m, kv, t, par->hf_rows, par->full_tiles);
        plan->vision_scratch_bytes = pn_vision_scratch_bytes(m, t, precise, par->full_tiles, par->hf_rows);
    }
    plan->available_bytes = par->max_memory ? par->max_memory : pn_memory_available();
    return 0;
}
