/* SPDX-License-Identifier: Apache-2.0 */
/* The machine as puna sees it. */
#include "api/api.h"
#include "cpu/cpu.h"
#include "kern/kern.h"
#include "kern/measure.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

const char *puna_version(void)
{
    return PACKAGE_VERSION;
}

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "another compiler"
#endif

const char *puna_build_info(void)
{
    return "puna " PACKAGE_VERSION ", " COMPILER ", tiers: scalar openblas"
#ifdef PN_HAVE_AVX2
           " avx2"
#endif
#ifdef PN_HAVE_AVXVNNI
           " avxvnni"
#endif
#ifdef PN_HAVE_AVX512
           " avx512"
#endif
#ifdef PN_HAVE_AVX512VNNI
           " avx512vnni"
#endif
#ifdef PN_HAVE_AVX512BF16
           " avx512bf16"
#endif
#ifdef PN_HAVE_AMX
           " amx"
#endif
#ifdef PN_HAVE_NEON
           " neon"
#endif
#ifdef PN_HAVE_DOTPROD
           " dotprod"
#endif
#ifdef PN_HAVE_I8MM
           " i8mm"
#endif
        ;
}

const char *puna_tier(int i, int *built, int *usable)
{
    if (i < 0 || i >= PN_TIER_COUNT)
        return NULL;
    if (built)
        *built = pn_tier_built((enum pn_tier)i);
    if (usable)
        *usable = pn_tier_usable((enum pn_tier)i);
    return pn_tier_name((enum pn_tier)i);
}

const char *puna_tier_chosen(const char *cpu, struct puna_error *err)
{
    struct pn_kern k;
    return pn_kern_select(&k, cpu, err) == PUNA_OK ? k.tier : NULL;
}

int puna_kernel_slot(const char *tier, int i, struct puna_kernel *out)
{
    struct pn_kern_slot s;
    if (pn_kern_slot(tier, i, &s))
        return -1;
    const struct puna_kernel k = {.slot = s.name, .tier = s.tier, .packer = s.packer, .tile_m = s.tile.m,
                                  .tile_n = s.tile.n};
    PN_GIVE(out, out->size, k);
    return 0;
}

int puna_cpu_count(void)
{
    return pn_cpu_count();
}

static struct puna_ceilings ceilings(const struct pn_kern *k, int threads)
{
    struct pn_ceilings c;
    pn_measure_ceilings(k, threads, &c);
    return (struct puna_ceilings){c.read_gbs, c.int8_gops, c.bf16_gops, c.f32_gops};
}

void puna_measure_ceilings(const char *cpu, int threads, struct puna_ceilings *out)
{
    struct pn_kern k;
    *out = (struct puna_ceilings){0};
    if (!pn_kern_select(&k, cpu, NULL))
        *out = ceilings(&k, threads > 0 ? threads : pn_cpu_count());
}

void puna_model_ceilings(const puna_model *model, struct puna_ceilings *out)
{
    *out = ceilings(&model->m->kern, model->m->threads);
}

double puna_measure_reads(const puna_model *model)
{
    const struct pn_model *m = model->m;
    struct pn_bytes b[7 * PN_MAX_LAYERS + 1];
    size_t n = 0;
    for (int32_t i = 0; i < m->hp.n_layer; i++) {
        const struct pn_layer *l = &m->layers[i];
        const struct pn_weight *const w[] = {&l->wq, &l->wk, &l->wv, &l->wo, &l->gate, &l->up, &l->down};
        for (size_t j = 0; !l->cross && j < sizeof w / sizeof *w; j++)
            b[n++] = (struct pn_bytes){w[j]->data, (size_t)w[j]->n * w[j]->row_bytes};
    }
    b[n++] = (struct pn_bytes){m->output.data, (size_t)m->output.n * m->output.row_bytes};
    return pn_measure_reads(b, n, m->threads);
}
