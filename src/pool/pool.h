/* SPDX-License-Identifier: Apache-2.0 */
/* One OpenMP parallel region, many steps inside it.
 *
 * A forward pass is one function run by every thread of a team. Its steps are loops over tasks taken from a
 * counter (so that a slow or preempted core does not hold up the rest), separated by barriers. A task always
 * computes the same outputs whatever thread takes it, so results do not depend on the thread count.
 *
 *     for (pn_step(t); (i = pn_next(t)) < n_tasks;) work(i);
 *     pn_barrier(t);
 *
 * Where only some of a step's tasks need the results of some others, one step does for both: the last of those
 * others to finish (pn_last) continues with the work itself, or signals a word that later tasks await. Tasks are
 * begun in order, so a task may await what earlier ones signal, provided these wait for nothing. */
#ifndef PN_POOL_H
#define PN_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PN_POOL_STEPS 8 /* counters in flight; two would do, as steps are separated by barriers */

struct pn_pool_shared {
    struct {
        _Atomic int64_t next;
        char pad[64 - sizeof(int64_t)];
    } counter[PN_POOL_STEPS];
    /* the barrier: threads that have arrived; its number so far */
    _Atomic uint32_t arrived;
    char pad1[60];
    _Atomic uint32_t phase;
    char pad2[60];
    _Atomic uint32_t asleep; /* threads, waiting for whatever word */
};

struct pn_team {
    int tid, n;    /* this thread, threads in the team */
    uint32_t step; /* steps begun so far: the same in every thread */
    struct pn_pool_shared *shared;
};

typedef void (*pn_team_fn)(struct pn_team *t, void *arg);

/* Run fn on `threads` threads and wait. Fewer threads than asked may run (OpenMP's right). */
void pn_pool_run(int threads, pn_team_fn fn, void *arg);

/* All threads of the team reach this before any goes on. Waits by spinning for some tens of microseconds, then
 * asleep: OpenMP's own barrier spins for milliseconds, which on a busy machine keeps the thread that is waited
 * for off the CPU (ten times slower at a load of 8 on two cores). */
void pn_barrier(const struct pn_team *t);

/* Set *word to value, for those who await it; and wait, as a barrier does, until *word is value. What the signalling
 * thread wrote before, the waiting one sees. */
void pn_signal(const struct pn_team *t, _Atomic uint32_t *word, uint32_t value);
void pn_await(const struct pn_team *t, _Atomic uint32_t *word, uint32_t value);

/* True in the last of n calls, which sees what the others' threads wrote; *count is 0 before the first call and
 * again after the last. */
static inline bool pn_last(_Atomic uint32_t *count, uint32_t n)
{
    if (atomic_fetch_add_explicit(count, 1, memory_order_acq_rel) + 1 != n)
        return false;
    atomic_store_explicit(count, 0, memory_order_relaxed);
    return true;
}

/* Begin a step. All threads call it, and a barrier lies between any two steps: thread 0 clears the next step's
 * counter in this one, which the barrier makes visible before anyone takes from it. */
static inline void pn_step(struct pn_team *t)
{
    t->step++;
    /* The next step's counter is nobody's now: its last user was PN_POOL_STEPS steps ago. */
    if (t->tid == 0)
        atomic_store_explicit(&t->shared->counter[(t->step + 1) % PN_POOL_STEPS].next, 0,
                              memory_order_relaxed);
}
static inline int64_t pn_next(struct pn_team *t)
{
    return atomic_fetch_add_explicit(&t->shared->counter[t->step % PN_POOL_STEPS].next, 1,
                                     memory_order_relaxed);
}

#endif
