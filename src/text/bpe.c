/* SPDX-License-Identifier: Apache-2.0 */
#include "text/bpe.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------- the merges */

/* One stable counting-sort pass by the left or the right id; first[id] becomes the start of id's
 * group. */
static void sort_pass(struct pn_merge *to, const struct pn_merge *from, size_t n, uint32_t *first,
                      int32_t n_ids, bool by_left)
{
    memset(first, 0, ((size_t)n_ids + 1) * sizeof *first);
    for (size_t i = 0; i < n; i++)
        first[by_left ? from[i].left : from[i].right]++;
    uint32_t sum = 0;
    for (int32_t id = 0; id <= n_ids; id++) {
        const uint32_t count = first[id];
        first[id] = sum;
        sum += count;
    }
    for (size_t i = 0; i < n; i++)
        to[first[by_left ? from[i].left : from[i].right]++] = from[i];
    /* Every start has moved to its group's end, which is the next group's start. */
    memmove(first + 1, first, (size_t)n_ids * sizeof *first);
    first[0] = 0;
}

bool pn_bpe_build(struct pn_bpe *b, struct pn_merge *merges, size_t n, int32_t n_ids)
{
    *b = (struct pn_bpe){ .merges = merges, .n_ids = n_ids };
    struct pn_merge *tmp = n <= UINT32_MAX ? malloc((n ? n : 1) * sizeof *tmp) : NULL;
    b->first = malloc(((size_t)n_ids + 1) * sizeof *b->first);
    if (!tmp || !b->first) {
        free(tmp);
        return false;
    }
    if (n) {
        sort_pass(tmp, merges, n, b->first, n_ids, false);
        sort_pass(merges, tmp, n, b->first, n_ids, true);
    } else {
        memset(b->first, 0, ((size_t)n_ids + 1) * sizeof *b->first);
    }
    free(tmp);
    return true;
}

void pn_bpe_free(struct pn_bpe *b)
{
    free(b->merges);
    free(b->first);
    *b = (struct pn_bpe){ 0 };
}

static const struct pn_merge *find(const struct pn_bpe *b, int32_t left, int32_t right)
{
    /* Upper bound: the last of equal pairs, which stable sorting left in file order. */
    uint32_t lo = b->first[left], hi = b->first[left + 1];
    const uint32_t start = lo;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (b->merges[mid].right <= right)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo > start && b->merges[lo - 1].right == right ? &b->merges[lo - 1] : NULL;
}

/* ---------------------------------------------------------------------------- merging */

/* Symbols are a doubly linked list over the positions of the text's bytes; rank[i] is that of the
 * pair which symbol i begins. The pair to merge next is the smallest by (rank, position), so it is
 * also smaller than the pairs on its two sides: only such pairs need to be in the heap. That keeps
 * the heap, whose cache misses are nearly all of the time of a long piece, at a third of the size,
 * and few entries are out of date when they come up.
 *
 * The heap (four children per node) holds rank << 32 | position. Entries are not removed when their
 * pair changes; they are recognised by a rank that is no longer the position's. */

#define NO_MERGE UINT32_MAX

static void sift_down(uint64_t *h, size_t n, size_t i)
{
    const uint64_t key = h[i];
    for (size_t first; (first = 4 * i + 1) < n;) {
        const size_t end = n - first < 4 ? n : first + 4;
        size_t least = first;
        for (size_t c = first + 1; c < end; c++)
            least = h[c] < h[least] ? c : least;
        if (key <= h[least])
            break;
        h[i] = h[least];
        i = least;
    }
    h[i] = key;
}

static uint64_t heap_pop(struct pn_bpe_work *w)
{
    const uint64_t top = w->heap[0];
    w->heap[0] = w->heap[--w->heap_len];
    if (w->heap_len)
        sift_down(w->heap, w->heap_len, 0);
    return top;
}

static bool heap_push(struct pn_bpe_work *w, uint64_t key)
{
    if (w->heap_len == w->heap_cap) {
        const size_t cap = w->heap_cap ? w->heap_cap * 2 : 64;
        uint64_t *heap = realloc(w->heap, cap * sizeof *heap);
        if (!heap)
            return false;
        w->heap = heap;
        w->heap_cap = cap;
    }
    uint64_t *h = w->heap;
    size_t i = w->heap_len++;
    for (; i > 0 && key < h[(i - 1) / 4]; i = (i - 1) / 4)
        h[i] = h[(i - 1) / 4];
    h[i] = key;
    return true;
}

/* Put pair i into the heap if it is smaller than its neighbours (equal ranks: the left one is). */
static bool consider(struct pn_bpe_work *w, int32_t i)
{
    if (i < 0 || w->rank[i] == NO_MERGE || (w->prev[i] >= 0 && w->rank[w->prev[i]] <= w->rank[i]) ||
        (w->next[i] >= 0 && w->rank[w->next[i]] < w->rank[i]))
        return true;
    return heap_push(w, (uint64_t)w->rank[i] << 32 | (uint32_t)i);
}

static bool reserve(struct pn_bpe_work *w, size_t n)
{
    if (n <= w->cap)
        return true;
    const size_t cap = n < 64 ? 64 : n;
    free(w->next);
    free(w->prev);
    free(w->rank);
    w->next = malloc(cap * sizeof *w->next);
    w->prev = malloc(cap * sizeof *w->prev);
    w->rank = malloc(cap * sizeof *w->rank);
    w->cap = w->next && w->prev && w->rank ? cap : 0;
    return w->cap != 0;
}

void pn_bpe_work_free(struct pn_bpe_work *w)
{
    free(w->next);
    free(w->prev);
    free(w->rank);
    free(w->heap);
    *w = (struct pn_bpe_work){ 0 };
}

static uint32_t rank_of(const struct pn_bpe *b, int32_t left, int32_t right)
{
    const struct pn_merge *m = find(b, left, right);
    return m ? m->rank : NO_MERGE;
}

bool pn_bpe_apply(const struct pn_bpe *b, int32_t *ids, size_t n, struct pn_bpe_work *w,
                  size_t *n_out)
{
    *n_out = n;
    if (n < 2)
        return true;
    if (!reserve(w, n))
        return false;
    int32_t *next = w->next, *prev = w->prev;
    uint32_t *rank = w->rank;
    w->heap_len = 0;
    for (size_t i = 0; i < n; i++) {
        next[i] = i + 1 < n ? (int32_t)i + 1 : -1;
        prev[i] = (int32_t)i - 1;
        rank[i] = i + 1 < n ? rank_of(b, ids[i], ids[i + 1]) : NO_MERGE;
    }
    for (size_t i = 0; i < n; i++) {
        if (!consider(w, (int32_t)i))
            return false;
    }
    while (w->heap_len) {
        const uint64_t top = heap_pop(w);
        const int32_t at = (int32_t)(top & 0x7fffffff);
        if (rank[at] != top >> 32)
            continue;
        const int32_t gone = next[at], left = prev[at], right = next[gone];
        ids[at] = find(b, ids[at], ids[gone])->id;
        rank[gone] = NO_MERGE;
        next[at] = right;
        if (right >= 0)
            prev[right] = at;
        rank[at] = right >= 0 ? rank_of(b, ids[at], ids[right]) : NO_MERGE;
        if (left >= 0)
            rank[left] = rank_of(b, ids[left], ids[at]);
        /* Two new pairs, and on each side one that has a new neighbour. */
        if (!consider(w, at) || !consider(w, right) || !consider(w, left) ||
            (left >= 0 && !consider(w, prev[left])))
            return false;
    }
    size_t k = 0;
    for (int32_t i = 0; i >= 0; i = next[i])
        ids[k++] = ids[i];
    *n_out = k;
    return true;
}
