/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a GGUF file: the reader and every getter on every key over an exact buffer; then, as a
 * file, the way to a model source. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "file/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned sink; /* keeps the reads */

static void read_key(struct pn_gguf *g, const char *key)
{
    int64_t i;
    double d;
    bool b;
    struct pn_str s;
    const struct pn_str *strs;
    const int32_t *i32s;
    const float *f32s;
    size_t n;
    (void)pn_gguf_int(g, key, INT32_MIN, INT32_MAX, &i, NULL);
    (void)pn_gguf_float(g, key, &d, NULL);
    (void)pn_gguf_bool(g, key, &b, NULL);
    if (pn_gguf_str(g, key, &s, NULL) > 0 && s.len)
        sink += (unsigned)s.s[s.len - 1];
    if (pn_gguf_strs(g, key, &strs, &n, NULL) > 0) {
        for (size_t k = 0; k < n; k++)
            sink += strs[k].len ? (unsigned)strs[k].s[strs[k].len - 1] : 0;
    }
    if (pn_gguf_i32s(g, key, &i32s, &n, NULL) > 0 && n)
        sink += (unsigned)i32s[n - 1];
    if (pn_gguf_f32s(g, key, &f32s, &n, NULL) > 0 && n)
        sink += f32s[n - 1] > 0;
}

static void open_source(const uint8_t *data, size_t size)
{
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (fd >= 0 && write(fd, data, size) == (ssize_t)size) {
        struct pn_source *s;
        struct puna_error err;
        if (pn_source_open(&s, path, NULL, &err) == 0) {
            /* What was promised: everything within bounds. */
            const struct pn_hparams *hp = &s->hp;
            if (hp->n_layer < 1 || hp->n_layer > PN_MAX_LAYERS || hp->n_inter > PN_MAX_INTER ||
                hp->n_ratio > PN_MAX_RATIOS || hp->n_eos > PN_MAX_EOS || hp->head_dim < 1 ||
                hp->n_head % hp->n_kv_head != 0)
                abort();
            for (int32_t k = 0; k < hp->n_inter; k++)
                if (hp->v_inter[k] < 0 || hp->v_inter[k] >= hp->v_layer)
                    abort();
        }
        pn_source_close(&s);
    }
    if (fd >= 0)
        (void)close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char name[] = "fuzz.gguf";
    const struct pn_map map = { .data = data, .size = size, .path = name, .slot = -1, .fd = -1 };
    struct pn_gguf *g;
    if (pn_gguf_open(&g, &map, NULL) != 0)
        return 0;
    for (size_t i = 0; i < g->n_kv; i++)
        read_key(g, g->kv[i].key);
    for (size_t i = 0; i < g->n_tensors; i++) {
        const struct pn_tensor *t = &g->tensors[i];
        if (t->data < data || t->n_bytes > size - (size_t)(t->data - data))
            abort();
        sink += t->n_bytes ? t->data[t->n_bytes - 1] : 0;
    }
    pn_gguf_close(&g);
    open_source(data, size);
    return 0;
}
