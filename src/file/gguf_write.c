/* SPDX-License-Identifier: Apache-2.0 */
#include "file/gguf_write.h"

#include <string.h>

/* GGUF is little-endian whatever the host is. */
static void put_int(struct pn_buf *b, uint64_t v, size_t bytes)
{
    uint8_t le[8];
    for (size_t i = 0; i < bytes; i++)
        le[i] = (uint8_t)(v >> (8 * i));
    pn_buf_append(b, le, bytes);
}

static void put_text(struct pn_buf *b, const char *s, size_t len)
{
    put_int(b, len, 8);
    pn_buf_append(b, s, len);
}

static void put_key(struct pn_gguf_head *h, const char *key, uint32_t type)
{
    put_text(&h->kv, key, strlen(key));
    put_int(&h->kv, type, 4);
    h->n_kv++;
}

static void put_array(struct pn_gguf_head *h, const char *key, uint32_t type, size_t n)
{
    put_key(h, key, PN_GGUF_ARR);
    put_int(&h->kv, type, 4);
    put_int(&h->kv, n, 8);
}

void pn_gguf_put_u32(struct pn_gguf_head *h, const char *key, uint32_t v)
{
    put_key(h, key, PN_GGUF_U32);
    put_int(&h->kv, v, 4);
}

void pn_gguf_put_f32(struct pn_gguf_head *h, const char *key, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_key(h, key, PN_GGUF_F32);
    put_int(&h->kv, bits, 4);
}

void pn_gguf_put_bool(struct pn_gguf_head *h, const char *key, bool v)
{
    put_key(h, key, PN_GGUF_BOOL);
    put_int(&h->kv, v, 1);
}

void pn_gguf_put_str(struct pn_gguf_head *h, const char *key, const char *s, size_t len)
{
    put_key(h, key, PN_GGUF_STR);
    put_text(&h->kv, s, len);
}

void pn_gguf_put_i32s(struct pn_gguf_head *h, const char *key, const int32_t *v, size_t n)
{
    put_array(h, key, PN_GGUF_I32, n);
    for (size_t i = 0; i < n; i++)
        put_int(&h->kv, (uint32_t)v[i], 4);
}

void pn_gguf_put_strs(struct pn_gguf_head *h, const char *key, const struct pn_str *v, size_t n)
{
    put_array(h, key, PN_GGUF_STR, n);
    for (size_t i = 0; i < n; i++)
        put_text(&h->kv, v[i].s, v[i].len);
}

void pn_gguf_put_copy(struct pn_gguf_head *h, const struct pn_gguf_kv *kv)
{
    if (kv->is_array)
        put_array(h, kv->key, kv->type, (size_t)kv->n);
    else
        put_key(h, kv->key, kv->type);
    if (!kv->is_array && kv->type == PN_GGUF_STR)
        put_int(&h->kv, kv->n_bytes, 8);
    pn_buf_append(&h->kv, kv->data, kv->n_bytes);
}

size_t pn_gguf_put_tensor(struct pn_gguf_head *h, const char *name, enum pn_type type, int ndim, const int64_t *ne,
                          size_t n_bytes)
{
    const size_t at = h->data_bytes;
    put_text(&h->table, name, strlen(name));
    put_int(&h->table, (uint64_t)ndim, 4);
    for (int d = 0; d < ndim; d++)
        put_int(&h->table, (uint64_t)ne[d], 8);
    put_int(&h->table, type, 4);
    put_int(&h->table, at, 8);
    h->n_tensors++;
    h->data_bytes += (n_bytes + PN_GGUF_ALIGN - 1) / PN_GGUF_ALIGN * PN_GGUF_ALIGN;
    return at;
}

bool pn_gguf_head_finish(const struct pn_gguf_head *h, struct pn_buf *whole)
{
    static const char zeros[PN_GGUF_ALIGN];
    pn_buf_append(whole, "GGUF", 4);
    put_int(whole, 3, 4);
    put_int(whole, h->n_tensors, 8);
    put_int(whole, h->n_kv, 8);
    pn_buf_append(whole, h->kv.data, h->kv.len);
    pn_buf_append(whole, h->table.data, h->table.len);
    pn_buf_append(whole, zeros, (PN_GGUF_ALIGN - whole->len % PN_GGUF_ALIGN) % PN_GGUF_ALIGN);
    return !h->kv.failed && !h->table.failed && !whole->failed;
}

void pn_gguf_head_free(struct pn_gguf_head *h)
{
    pn_buf_free(&h->kv);
    pn_buf_free(&h->table);
}
