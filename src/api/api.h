/* SPDX-License-Identifier: Apache-2.0 */
/* The public handle. */
#ifndef PN_API_H
#define PN_API_H

#include <puna.h>

#include <string.h>

#include "model/model.h"
#include "text/vocab.h"

struct puna_model {
    struct pn_model *m; /* const to everybody but the lazy read of the picture side */
    struct pn_vocab *vocab;
};

/* asked, or when it is 0 what PUNA_THREADS, OMP_NUM_THREADS or the machine say. */
int pn_choose_threads(int asked, int *out, struct puna_error *err);

/* Copy a caller's parameter struct over defaults: one built against an older header is shorter. */
#define PN_TAKE(dst, src) \
    memcpy(&(dst), (src), (src)->size && (src)->size < sizeof(dst) ? (src)->size : sizeof(dst))

/* Fill a caller's struct of `bytes` bytes from ours: no more than it has room for, and zeros where it is longer
 * (within reason: the size may be a field the caller forgot to set). */
#define PN_GIVE(p, bytes, src)                                                           \
    do {                                                                                 \
        const size_t ours_ = sizeof(src), said_ = (bytes);                               \
        const size_t have_ = said_ && said_ < 2 * ours_ ? said_ : ours_;                 \
        memset((p), 0, have_);                                                           \
        memcpy((p), &(src), have_ < ours_ ? have_ : ours_);                              \
        (p)->size = have_;                                                               \
    } while (0)

#endif
