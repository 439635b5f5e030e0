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

void pn_signal(const struct pn_team *t, _Atomic uint32_t *word, uint32_t value)
{
    /* the word before asleep, here and (the other way round) below: one of the two threads sees the other */
    atomic_store(word, value);
    if (atomic_load(&t->shared->asleep))
        wake_all(word);
}

void pn_await(const struct pn_team *t, _Atomic uint32_t *word, uint32_t value)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) == value)
            return;
        pause_cpu();
    }
    atomic_fetch_add(&t->shared->asleep, 1);
    for (uint32_t now; (now = atomic_load(word)) != value;)
        sleep_on(word, now);
    atomic_fetch_sub(&t->shared->asleep, 1);
}

void pn_barrier(const struct pn_team *t)
{
    struct pn_pool_shared *s = t->shared;
    if (t->n == 1)
        return;
    const uint32_t next = atomic_load_explicit(&s->phase, memory_order_relaxed) + 1;
    if (pn_last(&s->arrived, (uint32_t)t->n))
        pn_signal(t, &s->phase, next);
    else
        pn_await(t, &s->phase, next);
}
