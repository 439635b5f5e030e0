/* SPDX-License-Identifier: Apache-2.0 */
/* Byte-pair merging: the pair with the lowest rank first, the leftmost of equals, until no adjacent
 * pair has a merge. */
#ifndef PN_TEXT_BPE_H
#define PN_TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pn_merge {
    int32_t left, right; /* ids of the pair */
    int32_t id;          /* of the merged token */
    uint32_t rank;       /* position in the merges list */
};

/* All merges, ordered by (left, right); those of one left id are [first[left], first[left + 1]).
 * Sorted arrays rather than a hash table: half the memory, and no file can make look-ups slow. */
struct pn_bpe {
    struct pn_merge *merges;
    uint32_t *first; /* [n_ids + 1] */
    int32_t n_ids;
};

/* Takes the malloc'ed list of n merges over (freed by pn_bpe_free also on failure). All ids are
 * below n_ids. A pair listed twice keeps its last rank, as in HF tokenizers. False: no memory. */
bool pn_bpe_build(struct pn_bpe *b, struct pn_merge *merges, size_t n, int32_t n_ids);
void pn_bpe_free(struct pn_bpe *b);

/* Scratch of one pn_bpe_apply after another; zero-initialise. */
struct pn_bpe_work {
    int32_t *next, *prev;
    uint32_t *rank;
    size_t cap;
    uint64_t *heap;
    size_t heap_len, heap_cap;
};
void pn_bpe_work_free(struct pn_bpe_work *w);

/* Merge ids[0..n), n <= INT32_MAX, in place; *n_out: how many are left. O(n log n). False: no
 * memory (ids are unspecified then). */
bool pn_bpe_apply(const struct pn_bpe *b, int32_t *ids, size_t n, struct pn_bpe_work *w,
                  size_t *n_out);

#endif
