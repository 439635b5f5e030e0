/* SPDX-License-Identifier: Apache-2.0 */
/* Tiers by name, and the table for one: the scalar reference, then each tier it builds on, lowest
 * first, then itself. A tier that is asked for and cannot be had is an error, never ignored: a
 * test run of "avx512" must not quietly test something else. */
#include <config.h>

#include "kern/kern.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cpu/cpu.h"

#if defined(PN_HAVE_AVX2)
#define INIT_AVX2 pn_kern_init_avx2
#else
#define INIT_AVX2 NULL
#endif
#if defined(PN_HAVE_AVXVNNI)
#define INIT_AVXVNNI pn_kern_init_avxvnni
#else
#define INIT_AVXVNNI NULL
#endif
#if defined(PN_HAVE_AVX512)
#define INIT_AVX512 pn_kern_init_avx512
#else
#define INIT_AVX512 NULL
#endif
#if defined(PN_HAVE_AVX512VNNI)
#define INIT_AVX512VNNI pn_kern_init_avx512vnni
#else
#define INIT_AVX512VNNI NULL
#endif
#if defined(PN_HAVE_AVX512BF16)
#define INIT_AVX512BF16 pn_kern_init_avx512bf16
#else
#define INIT_AVX512BF16 NULL
#endif
#if defined(PN_HAVE_AMX)
#define INIT_AMX pn_kern_init_amx
#else
#define INIT_AMX NULL
#endif
#if defined(PN_HAVE_NEON)
#define INIT_NEON pn_kern_init_neon
#else
#define INIT_NEON NULL
#endif
#if defined(PN_HAVE_DOTPROD)
#define INIT_DOTPROD pn_kern_init_dotprod
#else
#define INIT_DOTPROD NULL
#endif
#if defined(PN_HAVE_I8MM)
#define INIT_I8MM pn_kern_init_i8mm
#else
#define INIT_I8MM NULL
#endif

static const struct tier {
    const char *name;
    enum pn_tier base; /* the tier it builds on */
    unsigned flag;     /* its own CPU flag; the base's are needed as well */
    void (*init)(struct pn_kern *k); /* NULL: not built */
} tiers[PN_TIER_COUNT] = {
    [PN_TIER_SCALAR] = { "scalar", PN_TIER_SCALAR, 0, pn_kern_init_scalar },
    [PN_TIER_OPENBLAS] = { "openblas", PN_TIER_SCALAR, 0, pn_kern_init_openblas },
    [PN_TIER_AVX2] = { "avx2", PN_TIER_SCALAR, PN_CPU_AVX2, INIT_AVX2 },
    [PN_TIER_AVXVNNI] = { "avxvnni", PN_TIER_AVX2, PN_CPU_AVXVNNI, INIT_AVXVNNI },
    [PN_TIER_AVX512] = { "avx512", PN_TIER_AVX2, PN_CPU_AVX512, INIT_AVX512 },
    [PN_TIER_AVX512VNNI] = { "avx512vnni", PN_TIER_AVX512, PN_CPU_AVX512VNNI, INIT_AVX512VNNI },
    [PN_TIER_AVX512BF16] = { "avx512bf16", PN_TIER_AVX512VNNI, PN_CPU_AVX512BF16, INIT_AVX512BF16 },
    [PN_TIER_AMX] = { "amx", PN_TIER_AVX512BF16, PN_CPU_AMX, INIT_AMX },
    [PN_TIER_NEON] = { "neon", PN_TIER_SCALAR, PN_CPU_NEON, INIT_NEON },
    [PN_TIER_DOTPROD] = { "dotprod", PN_TIER_NEON, PN_CPU_DOTPROD, INIT_DOTPROD },
    [PN_TIER_I8MM] = { "i8mm", PN_TIER_DOTPROD, PN_CPU_I8MM, INIT_I8MM },
};

const char *pn_tier_name(enum pn_tier t)
{
    return tiers[t].name;
}

int pn_tier_by_name(const char *name)
{
    for (int t = 0; t < PN_TIER_COUNT; t++) {
        if (strcmp(tiers[t].name, name) == 0)
            return t;
    }
    return -1;
}

int pn_tier_built(enum pn_tier t)
{
    return tiers[t].init != NULL;
}

static unsigned tier_flags(enum pn_tier t)
{
    unsigned flags = 0;
    for (; t != PN_TIER_SCALAR; t = tiers[t].base)
        flags |= tiers[t].flag;
    return flags;
}

int pn_tier_usable(enum pn_tier t)
{
    const unsigned need = tier_flags(t);
    return (pn_cpu_detect() & need) == need;
}

/* Bases first. One that was left out of the build is passed over: what it improves stays scalar. */
static void init_chain(struct pn_kern *k, enum pn_tier t)
{
    enum pn_tier chain[PN_TIER_COUNT];
    int n = 0;
    for (; t != PN_TIER_SCALAR; t = tiers[t].base)
        chain[n++] = t;
    pn_kern_init_scalar(k);
    while (n > 0) {
        const struct tier *tier = &tiers[chain[--n]];
        if (tier->init == NULL)
            continue;
        tier->init(k);
        k->tier = tier->name;
    }
    k->cpu_flags = pn_cpu_detect();
}

/* The highest tier with kernels of its own; without any, OpenBLAS carries the products. Where VDPBF16PS is slow,
 * avx512bf16 has to be asked for. */
static enum pn_tier best_tier(void)
{
    const int slow_bf16 = (pn_cpu_detect() & PN_CPU_SLOW_DPBF16) != 0;
    for (int t = PN_TIER_COUNT - 1; t > PN_TIER_OPENBLAS; t--) {
        if (pn_tier_built((enum pn_tier)t) && pn_tier_usable((enum pn_tier)t) &&
            !(t == PN_TIER_AVX512BF16 && slow_bf16))
            return (enum pn_tier)t;
    }
    return PN_TIER_OPENBLAS;
}

static int fail_tier(struct puna_error *err, const char *name, const char *why)
{
    struct pn_buf list = { 0 };
    for (int t = 0; t < PN_TIER_COUNT; t++) {
        if (pn_tier_built((enum pn_tier)t) && pn_tier_usable((enum pn_tier)t))
            pn_buf_printf(&list, "%s%s", list.len > 0 ? ", " : "", tiers[t].name);
    }
    const int code = pn_fail(err, PUNA_E_UNSUPPORTED, "CPU tier '%.40s' %s; available here: %s",
                             name, why, list.data != NULL ? list.data : "none");
    pn_buf_free(&list);
    return code;
}

/* The tier for a name as pn_kern_select takes it, or a negative error. */
static int find_tier(const char *name, struct puna_error *err)
{
    if (name == NULL || *name == '\0')
        name = getenv("PUNA_CPU");
    if (name == NULL || *name == '\0')
        return (int)best_tier();
    const int t = pn_tier_by_name(name);
    if (t < 0)
        return fail_tier(err, name, "is unknown");
    if (!pn_tier_built((enum pn_tier)t))
        return fail_tier(err, name, "is not built into this library");
    if (!pn_tier_usable((enum pn_tier)t))
        return fail_tier(err, name, "needs instructions that this CPU does not have");
    return t;
}

int pn_kern_select(struct pn_kern *k, const char *name, struct puna_error *err)
{
    const int t = find_tier(name, err);
    if (t < 0)
        return t;
    init_chain(k, (enum pn_tier)t);
    return PUNA_OK;
}

/* ---- what a slot holds ---- */

static const struct {
    const char *name, *packer;
    size_t offset, size; /* in struct pn_kern */
} slots[] = {
#define PN_SLOT(name, member, family, type, precision, packer) \
    { name, packer, offsetof(struct pn_kern, member), sizeof ((struct pn_kern *)NULL)->member },
#include "kern/kern_list.inc"
#undef PN_SLOT
};

#define IS_RECORD(type)                                                                                       \
    _Static_assert(sizeof(struct type) == sizeof(struct pn_kern_any) && offsetof(struct type, run) == 0 &&    \
                       offsetof(struct type, tile) == offsetof(struct pn_kern_any, tile),                     \
                   "begins as a slot does")
IS_RECORD(pn_kern_mm);
IS_RECORD(pn_kern_mm_f32);
IS_RECORD(pn_kern_mm_bf16);

struct pn_kern_any pn_kern_at(const struct pn_kern *k, size_t offset, size_t size)
{
    struct pn_kern_any any = { NULL, { 0, 0 } };
    memcpy(&any, (const char *)k + offset, size);
    return any;
}

int pn_kern_slot(const char *name, int i, struct pn_kern_slot *out)
{
    const int selected = find_tier(name, NULL);
    if (selected < 0 || i < 0 || (size_t)i >= sizeof slots / sizeof slots[0])
        return -1;
    struct pn_kern k;
    init_chain(&k, (enum pn_tier)selected);
    const struct pn_kern_any kernel = pn_kern_at(&k, slots[i].offset, slots[i].size);
    *out = (struct pn_kern_slot){ .name = slots[i].name };
    if (kernel.run == NULL)
        return 0;
    /* Go down while the tier below has the same kernel. */
    enum pn_tier t = (enum pn_tier)selected;
    while (t != PN_TIER_SCALAR) {
        init_chain(&k, tiers[t].base);
        if (pn_kern_at(&k, slots[i].offset, slots[i].size).run != kernel.run)
            break;
        t = tiers[t].base;
    }
    out->tier = tiers[t].name;
    out->packer = slots[i].packer;
    out->tile = kernel.tile;
    return 0;
}
