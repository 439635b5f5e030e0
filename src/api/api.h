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

/* Copy a caller's parameter struct over defaults: one built against an older header is shorter. */
#define PN_TAKE(dst, src) \
    memcpy(&(dst), (src), (src)->size && (src)->size < sizeof(dst) ? (src)->size : sizeof(dst))

/* Fill a caller's struct of `bytes` bytes from ours: no more than it has room for, and zeros where it is longer. */
#define PN_GIVE(p, bytes, src)                                                        \
    do {                                                                              \
        const size_t have_ = (bytes), ours_ = sizeof(src), n_ = have_ < ours_ ? have_ : ours_; \
        memset((p), 0, have_);                                                        \
        memcpy((p), &(src), n_);                                                      \
        (p)->size = have_;                                                            \
    } while (0)

#endif
