/* SPDX-License-Identifier: Apache-2.0 */
/* checkkern [--cpu NAME] [--func SUBSTR] [--seed N] [--scale F] [--list] [--bench] [--threads N] [--cols N]
 * Exit 0: every kernel of every tier that can run here agrees with the scalar reference. */
#include <config.h>

#include <errno.h>
#include <getopt.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "checkkern.h"
#include <puna.h>

static const struct ck_slot slots[] = {
#define PN_SLOT(name, member, family, type, precision, packer)                                              \
    { name, packer, offsetof(struct pn_kern, member), sizeof ((struct pn_kern *)NULL)->member, CK_##family, \
      (enum pn_type)(type) },
#include "kern/kern_list.inc"
#undef PN_SLOT
};
enum { N_SLOTS = sizeof slots / sizeof slots[0] };

static bool (*const family_test[CK_FAMILY_COUNT])(struct ck *ck) = {
    [CK_MM] = ck_mm,
    [CK_MM_F32] = ck_mm_f32,
    [CK_MM_BF16] = ck_mm_bf16,
    [CK_DEQUANT] = ck_dequant,
    [CK_QUANT_ACT] = ck_quant_act,
    [CK_QUANT_Q8_0] = ck_quant_q8_0,
    [CK_ROUND_ACT] = ck_round_act,
    [CK_RMSNORM] = ck_rmsnorm,
    [CK_LAYERNORM] = ck_layernorm,
    [CK_ROPE] = ck_rope,
    [CK_SILU_MUL] = ck_silu_mul,
    [CK_GELU] = ck_gelu,
    [CK_AXPY] = ck_axpy,
    [CK_ADD] = ck_add,
    [CK_KV_PUT] = ck_kv_put,
    [CK_ATTN] = ck_attn,
    [CK_ATTN_BF16] = ck_attn_bf16,
    [CK_ATTN_MERGE] = ck_attn_merge,
    [CK_ATTN_FINISH] = ck_attn_finish,
    [CK_RESIZE] = ck_resize,
    [CK_PEAK] = ck_peak,
};

struct pn_kern_any ck_kernel(const struct pn_kern *k, const struct ck_slot *slot)
{
    return pn_kern_at(k, slot->offset, slot->size);
}

/* ---- the table: every kernel in it is listed, every product has its tile and its packer ---- */

static const struct ck_slot *slot_at(size_t offset)
{
    for (int i = 0; i < N_SLOTS; i++)
        if (slots[i].offset == offset)
            return &slots[i];
    return NULL;
}

static const struct ck_slot *slot_named(const char *name)
{
    for (int i = 0; i < N_SLOTS; i++)
        if (strcmp(slots[i].name, name) == 0)
            return &slots[i];
    return NULL;
}

/* All products but OpenBLAS's */
static bool needs_tile(const struct ck_slot *s, const char *tier)
{
    return s->size == sizeof(struct pn_kern_any) && !(s->family == CK_MM_F32 && strcmp(tier, "openblas") == 0);
}

/* Returns the number of complaints. */
static int check_table(const struct pn_kern *k, const char *tier)
{
    int bad = 0;
    for (size_t at = offsetof(struct pn_kern, mm), size; at < sizeof *k; at += size) {
        const struct ck_slot *s = slot_at(at);
        size = s != NULL ? s->size : sizeof(void (*)(void));
        const struct pn_kern_any kernel = pn_kern_at(k, at, size);
        if (kernel.run == NULL)
            continue;
        if (s == NULL) {
            printf("  tier %s: the kernel at offset %zu of pn_kern is not in kern_list.inc\n", tier, at);
            bad++;
            continue;
        }
        if (needs_tile(s, tier) && (kernel.tile.m <= 0 || kernel.tile.n <= 0)) {
            printf("  tier %s: %s has a register tile of %d x %d\n", tier, s->name, kernel.tile.m, kernel.tile.n);
            bad++;
        }
        const struct ck_slot *packer = s->packer != NULL ? slot_named(s->packer) : NULL;
        if (s->packer != NULL && (packer == NULL || ck_kernel(k, packer).run == NULL)) {
            printf("  tier %s: %s without %s\n", tier, s->name, s->packer);
            bad++;
        }
    }
    return bad;
}

/* ---- faults, and loops without end, are charged to the kernel under test ---- */

enum { TIME_LIMIT = 600 }; /* seconds for one slot: foreign CPUs under qemu are slow */

static sigjmp_buf fault_jump;
static volatile sig_atomic_t fault_armed;

static void on_fault(int sig)
{
    if (!fault_armed) {
        signal(sig, SIG_DFL);
        raise(sig);
        return;
    }
    siglongjmp(fault_jump, sig);
}

static void catch_faults(void)
{
    static uint8_t stack[65536];
    const stack_t ss = { .ss_sp = stack, .ss_size = sizeof stack };
    sigaltstack(&ss, NULL); /* a kernel may overflow the stack */
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_fault;
    sa.sa_flags = SA_ONSTACK | SA_NODEFER;
    const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGALRM };
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &sa, NULL);
}

static bool run_slot(struct ck *ck)
{
    const int sig = sigsetjmp(fault_jump, 1);
    if (sig != 0) {
        fault_armed = 0;
        alarm(0);
        return ck_fail(ck, "signal %d (%s)", sig, strsignal(sig));
    }
    fault_armed = 1;
    alarm(TIME_LIMIT);
    const bool ok = family_test[ck->slot->family](ck);
    alarm(0);
    fault_armed = 0;
    return ok;
}

/* ---- one tier ---- */

struct options {
    const char *cpu, *func;
    uint64_t seed;
    double scale;
    bool list, bench;
    int threads; /* of the bench */
    int cols;    /* of its products */
};

static uint64_t hash_name(const char *s)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (; *s != '\0'; s++)
        h = (h ^ (uint8_t)*s) * 1099511628211u;
    return h;
}

static bool is_wanted(const struct options *o, int i)
{
    return o->func == NULL || strstr(slots[i].name, o->func) != NULL;
}

/* Kernels that this tier itself brings: --func-filtered, in list order. */
static bool is_own(const struct options *o, const char *tier, int i)
{
    struct pn_kern_slot s;
    return is_wanted(o, i) && pn_kern_slot(tier, i, &s) == 0 && s.tier != NULL && strcmp(s.tier, tier) == 0;
}

static void list_slot(const struct pn_kern *k, const char *tier, int i)
{
    const struct pn_tile tile = ck_kernel(k, &slots[i]).tile;
    if (tile.m > 0)
        printf("  %-12s %-16s %d x %d\n", tier, slots[i].name, tile.m, tile.n);
    else
        printf("  %-12s %s\n", tier, slots[i].name);
}

/* Returns whether the kernel in slot i of k agrees with the reference. */
static bool check_slot(const struct options *o, const struct pn_kern *ref, const struct pn_kern *k, const char *tier,
                       int i)
{
    struct ck ck = { .tier = tier, .slot = &slots[i], .ref = ref, .k = k, .scale = o->scale };
    ck.tile = ck_kernel(k, &slots[i]).tile;
    ck.blas = strcmp(tier, "openblas") == 0;
    ck.rng = o->seed ^ hash_name(slots[i].name);
    const bool ok = run_slot(&ck);
    printf("  %-12s %-16s %6lld cases  %s\n", tier, slots[i].name, (long long)ck.cases, ok ? "ok" : "FAILED");
    if (!ok)
        printf("      %s\n      again: checkkern --cpu %s --func %s --seed %llu --scale %g\n", ck.failure, tier,
               slots[i].name, (unsigned long long)o->seed, o->scale);
    fflush(stdout);
    return ok;
}

/* Returns the number of failures; adds to *n_kernels. */
static int check_tier(const struct options *o, const struct pn_kern *ref, const char *tier,
                      int *n_kernels)
{
    struct pn_kern k;
    struct puna_error err = { 0 };
    if (pn_kern_select(&k, tier, &err) != 0) {
        printf("%s: %s\n", tier, err.message);
        return 1;
    }
    int failures = check_table(&k, tier);
    for (int i = 0; i < N_SLOTS; i++) {
        if (!is_own(o, tier, i))
            continue;
        ++*n_kernels;
        if (o->list) {
            list_slot(&k, tier, i);
            continue;
        }
        if (o->bench) {
            ck_bench(&k, &slots[i], o->cols);
            continue;
        }
        if (!check_slot(o, ref, &k, tier, i))
            failures++;
    }
    return failures;
}

/* ---- the amx tier over a model of its instructions ---- */

#define AMX_MODEL_NAME "amx-model"

#ifdef PN_HAVE_AVX512BF16
void pn_kern_init_amx_model(struct pn_kern *k); /* simd/x86/kern_amx.c, built with AMX_MODEL */

/* Returns the number of failures; adds to *n_kernels. Nothing on a CPU where the base cannot run. */
static int check_amx_model(const struct options *o, const struct pn_kern *ref, int *n_kernels)
{
    struct pn_kern base, k;
    if (!pn_tier_usable(PN_TIER_AVX512BF16) || pn_kern_select(&base, "avx512bf16", NULL) != 0) {
        printf("%-12s not run: this CPU lacks what it builds on\n", AMX_MODEL_NAME);
        return 0;
    }
    k = base;
    pn_kern_init_amx_model(&k);
    int failures = check_table(&k, AMX_MODEL_NAME);
    for (int i = 0; i < N_SLOTS; i++) {
        if (!is_wanted(o, i) || ck_kernel(&k, &slots[i]).run == ck_kernel(&base, &slots[i]).run)
            continue;
        ++*n_kernels;
        if (o->list)
            list_slot(&k, AMX_MODEL_NAME, i);
        else if (!check_slot(o, ref, &k, AMX_MODEL_NAME, i))
            failures++;
    }
    return failures;
}
#else
static int check_amx_model(const struct options *o, const struct pn_kern *ref, int *n_kernels)
{
    (void)o;
    (void)ref;
    (void)n_kernels;
    printf("%-12s not run: not built\n", AMX_MODEL_NAME);
    return 0;
}
#endif

static int usage(const char *name)
{
    fprintf(stderr,
            "Usage: %s [--cpu TIER] [--func SUBSTR] [--seed N] [--scale F] [--list]\n"
            "       [--bench [--threads N] [--cols N]]\n"
            "  --cpu TIER    only this tier, or amx-model; an error when it cannot run here\n"
            "  --func SUBSTR only slots whose name contains SUBSTR\n"
            "  --seed N      repeat a run (printed by each run)\n"
            "  --scale F     number of cases, 1 is the default (or PUNA_CHECK_SCALE)\n"
            "  --list        list kernels and the register tiles of products, run nothing\n"
            "  --bench       measure instead of test\n"
            "  --threads N   with --bench: products and attention over what comes from memory run on N threads\n"
            "  --cols N      with --bench: columns of products, a multiple of 256; 4096 is the default\n",
            name);
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option longopts[] = {
        { "cpu", required_argument, NULL, 'c' },  { "func", required_argument, NULL, 'f' },
        { "seed", required_argument, NULL, 's' }, { "scale", required_argument, NULL, 'S' },
        { "list", no_argument, NULL, 'l' },       { "bench", no_argument, NULL, 'b' },
        { "threads", required_argument, NULL, 't' }, { "cols", required_argument, NULL, 'k' },
        { NULL, 0, NULL, 0 }
    };
    struct options o = { .seed = (uint64_t)time(NULL), .scale = 1, .threads = 1, .cols = CK_COLS };
    const char *scale = getenv("PUNA_CHECK_SCALE");
    if (scale != NULL)
        o.scale = strtod(scale, NULL);
    for (int c; (c = getopt_long(argc, argv, "", longopts, NULL)) != -1;) {
        switch (c) {
        case 'c':
            o.cpu = optarg;
            break;
        case 'f':
            o.func = optarg;
            break;
        case 's':
            o.seed = strtoull(optarg, NULL, 0);
            break;
        case 'S':
            o.scale = strtod(optarg, NULL);
            break;
        case 'l':
            o.list = true;
            break;
        case 'b':
            o.bench = true;
            break;
        case 't':
            o.threads = atoi(optarg);
            break;
        case 'k':
            o.cols = atoi(optarg);
            break;
        default:
            return usage(argv[0]);
        }
    }
    if (optind < argc || !(o.scale > 0) || o.threads < 1 || o.threads > 256 || o.cols < 256 || o.cols % 256 != 0 ||
        o.cols > CK_MAX_COLS)
        return usage(argv[0]);
    const bool only_model = o.cpu != NULL && strcmp(o.cpu, AMX_MODEL_NAME) == 0;
    if (o.cpu != NULL && !only_model && pn_tier_by_name(o.cpu) < 0) {
        fprintf(stderr, "%s: no tier '%s'\n", argv[0], o.cpu);
        return 2;
    }

    struct pn_kern ref;
    if (pn_kern_select(&ref, "scalar", NULL) != 0)
        return 1;
    int failures = check_table(&ref, "scalar"), total = 0;
    if (o.bench) {
        struct pn_kern best;
        if (pn_kern_select(&best, o.cpu, NULL) == 0)
            ck_bench_begin(&best, o.threads);
    } else {
        printf("seed %llu, scale %g\n", (unsigned long long)o.seed, o.scale);
        catch_faults();
    }
    for (int t = 0; t < PN_TIER_COUNT; t++) {
        const char *tier = pn_tier_name((enum pn_tier)t);
        if (o.cpu != NULL && strcmp(o.cpu, tier) != 0)
            continue;
        if (t == PN_TIER_SCALAR && o.cpu == NULL && !o.bench && !o.list)
            continue; /* it is the reference; test_kern compares it with mathematics */
        if (o.cpu == NULL && (!pn_tier_built((enum pn_tier)t) || !pn_tier_usable((enum pn_tier)t))) {
            printf("%-12s not run: %s\n", tier,
                   pn_tier_built((enum pn_tier)t) ? "this CPU lacks it" : "not built");
            continue;
        }
        int n = 0;
        const int bad = check_tier(&o, &ref, tier, &n);
        if (!o.list && !o.bench)
            printf("%-12s %d kernels, %d failed\n", tier, n, bad);
        failures += bad;
        total += n;
    }
    /* Where the CPU has AMX the tier itself has just run. */
    if (!o.bench && (only_model || (o.cpu == NULL && !pn_tier_usable(PN_TIER_AMX)))) {
        int n = 0;
        const int bad = check_amx_model(&o, &ref, &n);
        if (!o.list)
            printf("%-12s %d kernels, %d failed: the code of tier amx over a model of its instructions\n",
                   AMX_MODEL_NAME, n, bad);
        failures += bad;
        total += n;
    }
    if (total == 0) {
        printf("no kernel matched: nothing was checked\n");
        return 1;
    }
    return failures > 0 ? 1 : 0;
}
