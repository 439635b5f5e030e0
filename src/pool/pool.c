/* SPDX-License-Identifier: Apache-2.0 */
#include "pool/pool.h"

#include <omp.h>

void pn_pool_run(int threads, pn_team_fn fn, void *arg)
{
    struct pn_pool_shared shared;
    for (int i = 0; i < PN_POOL_STEPS; i++)
        atomic_init(&shared.counter[i].next, 0);
#pragma omp parallel num_threads(threads)
    {
        struct pn_team t = {omp_get_thread_num(), omp_get_num_threads(), 0, &shared};
        fn(&t, arg);
    }
}

void pn_barrier(const struct pn_team *t)
{
    if (t->n > 1) {
#pragma omp barrier
    }
}
