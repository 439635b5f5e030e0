/* SPDX-License-Identifier: Apache-2.0 */
#include "pool/pool.h"

#include <omp.h>
#include <sched.h>

#ifdef __linux__
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define SPINS 2000 /* pauses before going to sleep: 20 to 80 microseconds */

void pn_pool_run(int threads, pn_team_fn fn, void *arg)
{
    struct pn_pool_shared shared;
    for (int i = 0; i < PN_POOL_STEPS; i++)
        atomic_init(&shared.counter[i].next, 0);
    atomic_init(&shared.arrived, 0);
    atomic_init(&shared.phase, 0);
    atomic_init(&shared.asleep, 0);
#pragma omp parallel num_threads(threads)
    {
        struct pn_team t = {omp_get_thread_num(), omp_get_num_threads(), 0, &shared};
        fn(&t, arg);
    }
}

static inline void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* yield is a no-op on most cores */
#endif
}

/* Sleep until woken, unless *word has changed from old already. May return early. */
static void sleep_on(_Atomic uint32_t *word, uint32_t old)
{
#ifdef __linux__
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
#else
    (void)word;
    (void)old;
    sched_yield();
#endif
}

static void wake_all(_Atomic uint32_t *word)
{
#ifdef __linux__
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
#else
    (void)word;
#endif
}

void pn_barrier(const struct pn_team *t)
{
    struct pn_pool_shared *s = t->shared;
    if (t->n == 1)
        return;
    const uint32_t old = atomic_load_explicit(&s->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&s->arrived, 1, memory_order_acq_rel) + 1 == (uint32_t)t->n) {
        atomic_store_explicit(&s->arrived, 0, memory_order_relaxed);
        /* phase before asleep, here and (the other way round) below: one of the two sees the other */
        atomic_store(&s->phase, old + 1);
        if (atomic_load(&s->asleep))
            wake_all(&s->phase);
        return;
    }
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&s->phase, memory_order_acquire) != old)
            return;
        pause_cpu();
    }
    atomic_fetch_add(&s->asleep, 1);
    while (atomic_load(&s->phase) == old)
        sleep_on(&s->phase, old);
    atomic_fetch_sub(&s->asleep, 1);
}
