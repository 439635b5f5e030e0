/* SPDX-License-Identifier: Apache-2.0 */
#include "text/bpe.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------- the merges */

/* One stable counting-sort pass by the left or the right id; first[id] becomes the start of id's group. */
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

/* The heap holds rank << 32 | position of the pair's left symbol: the smallest is the next merge.
 * Entries are not removed when their pair goes away; they are recognised when they come up. */

static bool heap_append(struct pn_bpe_work *w, uint64_t key)
{
    if (w->heap_len == w->heap_cap) {
        const size_t cap = w->heap_cap ? w->heap_cap * 2 : 64;
        uint64_t *heap = realloc(w->heap, cap * sizeof *heap);
        if (!heap)
            return false;
        w->heap = heap;
        w->heap_cap = cap;
    }
    w->heap[w->heap_len++] = key;
    return true;
}

static void sift_up(uint64_t *h, size_t i)
{
    const uint64_t key = h[i];
    while (i > 0 && key < h[(i - 1) / 2]) {
        h[i] = h[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h[i] = key;
}

static void sift_down(uint64_t *h, size_t n, size_t i)
{
    const uint64_t key = h[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && h[child + 1] < h[child])
            child++;
        if (key <= h[child])
            break;
        h[i] = h[child];
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

static bool heap_push(struct pn_bpe_work *w, const struct pn_merge *m, int32_t pos)
{
    if (!m)
        return true;
    if (!heap_append(w, (uint64_t)m->rank << 32 | (uint32_t)pos))
        return false;
    sift_up(w->heap, w->heap_len - 1);
    return true;
}

static bool reserve(struct pn_bpe_work *w, size_t n)
{
    if (n <= w->cap)
        return true;
    const size_t cap = n < 64 ? 64 : n;
    free(w->next);
    free(w->prev);
    w->next = malloc(cap * sizeof *w->next);
    w->prev = malloc(cap * sizeof *w->prev);
    w->cap = w->next && w->prev ? cap : 0;
    return w->cap != 0;
}

void pn_bpe_work_free(struct pn_bpe_work *w)
{
    free(w->next);
    free(w->prev);
    free(w->heap);
    *w = (struct pn_bpe_work){ 0 };
}

#define GONE (-2) /* next[] of a symbol that was merged into the one on its left */

bool pn_bpe_apply(const struct pn_bpe *b, int32_t *ids, size_t n, struct pn_bpe_work *w, size_t *n_out)
{
    *n_out = n;
    if (n < 2)
        return true;
    if (!reserve(w, n))
        return false;
    int32_t *next = w->next, *prev = w->prev;
    w->heap_len = 0;
    for (size_t i = 0; i < n; i++) {
        next[i] = i + 1 < n ? (int32_t)i + 1 : -1;
        prev[i] = (int32_t)i - 1;
        const struct pn_merge *m = i + 1 < n ? find(b, ids[i], ids[i + 1]) : NULL;
        if (m && !heap_append(w, (uint64_t)m->rank << 32 | i))
            return false;
    }
    for (size_t i = w->heap_len / 2; i-- > 0;)
        sift_down(w->heap, w->heap_len, i);

    while (w->heap_len) {
        const uint64_t top = heap_pop(w);
        const int32_t at = (int32_t)(top & 0x7fffffff);
        const int32_t right = next[at];
        if (right < 0)
            continue; /* gone, or nothing follows any more */
        const struct pn_merge *m = find(b, ids[at], ids[right]);
        if (!m || m->rank != top >> 32)
            continue; /* one of the two has grown since */
        ids[at] = m->id;
        next[at] = next[right];
        next[right] = GONE;
        if (next[at] >= 0) {
            prev[next[at]] = at;
            if (!heap_push(w, find(b, ids[at], ids[next[at]]), at))
                return false;
        }
        if (prev[at] >= 0 && !heap_push(w, find(b, ids[prev[at]], ids[at]), prev[at]))
            return false;
    }
    size_t k = 0;
    for (int32_t i = 0; i >= 0; i = next[i])
        ids[k++] = ids[i];
    *n_out = k;
    return true;
}
