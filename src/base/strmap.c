/* SPDX-License-Identifier: Apache-2.0 */
/* The string map of base/mem.h: open addressing with linear probing, at most 2/3 full. The hash is
 * SipHash-1-3 (Aumasson and Bernstein 2012) under a random key. */
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

struct entry {
    const char *key; /* NULL: free */
    size_t len;
    uint32_t hash;
    uint32_t value;
};

struct pn_map_str {
    struct entry *e;
    size_t cap, used; /* cap: a power of two */
    uint64_t k0, k1;
};

static uint64_t rotl(uint64_t x, int b)
{
    return x << b | x >> (64 - b);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

/* Words in host byte order: the value never leaves the process. */
static uint32_t hash_key(const struct pn_map_str *m, const char *key, size_t len)
{
    uint64_t v[4] = { m->k0 ^ 0x736f6d6570736575u, m->k1 ^ 0x646f72616e646f6du,
                      m->k0 ^ 0x6c7967656e657261u, m->k1 ^ 0x7465646279746573u };
    size_t i = 0;
    for (; i + 8 <= len; i += 8) {
        uint64_t w;
        memcpy(&w, key + i, 8);
        v[3] ^= w;
        sip_round(v);
        v[0] ^= w;
    }
    uint64_t last = 0;
    if (len > i)
        memcpy(&last, key + i, len - i);
    last ^= (uint64_t)len << 56;
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int r = 0; r < 3; r++)
        sip_round(v);
    const uint64_t h = v[0] ^ v[1] ^ v[2] ^ v[3];
    return (uint32_t)(h ^ h >> 32);
}

static struct entry *find(const struct pn_map_str *m, const char *key, size_t len, uint32_t hash)
{
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct entry *e = &m->e[i];
        if (!e->key || (e->hash == hash && e->len == len && memcmp(e->key, key, len) == 0))
            return e;
    }
}

struct pn_map_str *pn_map_str_new(size_t n_expected)
{
    size_t need;
    if (!pn_mul_size(n_expected, 3, &need))
        return NULL;
    size_t cap = 16;
    while (cap < need / 2 + 1) {
        if (!pn_mul_size(cap, 2, &cap))
            return NULL;
    }
    size_t bytes;
    if (!pn_mul_size(cap, sizeof(struct entry), &bytes) || bytes > PTRDIFF_MAX)
        return NULL;
    struct pn_map_str *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->cap = cap;
    m->e = calloc(cap, sizeof *m->e);
    if (!m->e) {
        free(m);
        return NULL;
    }
    uint64_t seed[2];
    if (getrandom(seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) {
        struct timespec ts = { 0 }; /* early boot: addresses and time are the next best thing */
        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        seed[0] = (uint64_t)(uintptr_t)m ^ (uint64_t)ts.tv_nsec << 32;
        seed[1] = (uint64_t)(uintptr_t)&ts ^ (uint64_t)ts.tv_sec;
    }
    m->k0 = seed[0];
    m->k1 = seed[1];
    return m;
}

static bool grow(struct pn_map_str *m)
{
    const struct pn_map_str old = *m;
    size_t cap;
    if (!pn_mul_size(old.cap, 2, &cap))
        return false;
    struct entry *e = calloc(cap, sizeof *e);
    if (!e)
        return false;
    m->e = e;
    m->cap = cap;
    for (size_t i = 0; i < old.cap; i++) {
        if (old.e[i].key)
            *find(m, old.e[i].key, old.e[i].len, old.e[i].hash) = old.e[i];
    }
    free(old.e);
    return true;
}

int pn_map_str_put(struct pn_map_str *m, const char *key, size_t len, uint32_t value)
{
    const uint32_t hash = hash_key(m, key, len);
    struct entry *e = find(m, key, len, hash);
    if (e->key)
        return 0;
    if (m->used + 1 > m->cap / 3 * 2) {
        if (!grow(m))
            return -1;
        e = find(m, key, len, hash);
    }
    *e = (struct entry){ .key = key, .len = len, .hash = hash, .value = value };
    m->used++;
    return 1;
}

int64_t pn_map_str_get(const struct pn_map_str *m, const char *key, size_t len)
{
    const struct entry *e = find(m, key, len, hash_key(m, key, len));
    return e->key ? (int64_t)e->value : -1;
}

void pn_map_str_free(struct pn_map_str *m)
{
    if (!m)
        return;
    free(m->e);
    free(m);
}
