/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/err.h"
#include "file/gguf.h"
#include "mkgguf.h"

/* A buffer of exactly n bytes posing as a mapped file, so that a sanitizer sees any step outside. */
struct fake {
    struct pn_map map;
    uint8_t *copy;
};

static char fake_path[] = "x.gguf";

static struct fake fake_map(const uint8_t *bytes, size_t n)
{
    struct fake f = { .map = { .size = n, .path = fake_path, .slot = -1, .fd = -1 } };
    f.copy = malloc(n ? n : 1);
    assert_non_null(f.copy);
    memcpy(f.copy, bytes, n);
    f.map.data = n ? f.copy : NULL;
    return f;
}

/* Opening these bytes must fail with this code and a sentence that has this part. */
static void expect_bytes(const uint8_t *bytes, size_t n, int code, const char *part)
{
    struct fake f = fake_map(bytes, n);
    struct puna_error err = { 0 };
    struct pn_gguf *g = NULL;
    const int rc = pn_gguf_open(&g, &f.map, &err);
    if (rc != code || !strstr(err.message, part))
        fail_msg("wanted %d '%s', got %d '%s'", code, part, rc, err.message);
    assert_null(g);
    assert_non_null(strstr(err.message, fake_path));
    free(f.copy);
}

static void expect(const struct mkgguf *m, int code, const char *part)
{
    size_t n;
    uint8_t *bytes = mkgguf_bytes(m, 32, &n);
    expect_bytes(bytes, n, code, part);
    free(bytes);
}

static struct mkgguf *small(void)
{
    struct mkgguf *m = mkgguf_new();
    mkgguf_str(m, "general.architecture", "llama");
    mkgguf_u32(m, "a.u32", 7);
    mkgguf_strs(m, "a.strs", (const char *const[]){ "x", "", "yz" }, 3);
    mkgguf_i32s(m, "a.i32s", (const int32_t[]){ 1, -2, 3 }, 3);
    mkgguf_tensor(m, "t.0", PN_F32, 2, (const int64_t[]){ 5, 3 }, NULL);
    mkgguf_tensor(m, "t.1", PN_Q4_0, 1, (const int64_t[]){ 64 }, NULL);
    return m;
}

static void put_le(uint8_t *p, uint64_t v, int n)
{
    for (int i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static void test_values(void **state)
{
    (void)state;
    struct mkgguf *m = small();
    mkgguf_i32(m, "b.i32", -5);
    mkgguf_u64(m, "b.u64", (uint64_t)1 << 40);
    mkgguf_u64(m, "b.huge", UINT64_MAX);
    mkgguf_f32(m, "b.f32", 1.5f);
    mkgguf_bool(m, "b.bool", true);
    mkgguf_f32s(m, "b.f32s", (const float[]){ 0.25f, -1e30f }, 2);
    mkgguf_raw(m, "b.u8", PN_GGUF_U8, "\xfe", 1);
    mkgguf_raw(m, "b.i8", PN_GGUF_I8, "\xfe", 1);
    mkgguf_raw(m, "b.u16", PN_GGUF_U16, "\xfe\xff", 2);
    mkgguf_raw(m, "b.i16", PN_GGUF_I16, "\xfe\xff", 2);
    mkgguf_raw(m, "b.i64", PN_GGUF_I64, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    mkgguf_raw(m, "b.f64", PN_GGUF_F64, "\0\0\0\0\0\0\x04\x40", 8);
    mkgguf_raw(m, "b.nan", PN_GGUF_F32, "\0\0\xc0\x7f", 4);
    mkgguf_raw(m, "b.u32s", PN_GGUF_ARR, "\4\0\0\0\1\0\0\0\0\0\0\0\xff\xff\xff\xff", 16);
    mkgguf_str(m, "b.empty", "");
    size_t n;
    uint8_t *bytes = mkgguf_bytes(m, 32, &n);
    struct fake f = fake_map(bytes, n);
    struct puna_error err = { 0 };
    struct pn_gguf *g;
    assert_int_equal(pn_gguf_open(&g, &f.map, &err), 0);
    assert_int_equal(g->version, 3);
    assert_int_equal(g->alignment, 32);
    assert_int_equal(g->n_kv, 19);

    static const struct { const char *key; int64_t v; } ints[] = {
        { "a.u32", 7 }, { "b.i32", -5 }, { "b.u64", (int64_t)1 << 40 }, { "b.u8", 254 },
        { "b.i8", -2 }, { "b.u16", 65534 }, { "b.i16", -2 }, { "b.i64", -1 },
    };
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) {
        int64_t v = 0;
        assert_int_equal(pn_gguf_int(g, ints[i].key, INT64_MIN, INT64_MAX, &v, &err), 1);
        assert_true(v == ints[i].v);
    }
    int64_t v = 42;
    assert_int_equal(pn_gguf_int(g, "absent", 0, 1, &v, &err), 0);
    assert_int_equal(v, 42);
    assert_int_equal(pn_gguf_int(g, "a.u32", 0, 6, &v, &err), PUNA_E_FORMAT);
    assert_string_equal(err.message, "x.gguf: key 'a.u32' is 7; 0 to 6 is possible");
    assert_int_equal(pn_gguf_int(g, "b.huge", 0, INT64_MAX, &v, &err), PUNA_E_FORMAT);
    assert_int_equal(pn_gguf_int(g, "b.f32", 0, 6, &v, &err), PUNA_E_FORMAT);
    assert_string_equal(err.message,
                        "x.gguf: key 'b.f32' is of type f32 where an integer is needed");
    assert_int_equal(pn_gguf_int(g, "a.i32s", 0, 6, &v, &err), PUNA_E_FORMAT);
    assert_string_equal(err.message,
                        "x.gguf: key 'a.i32s' is an array of i32 where an integer is needed");
    assert_int_equal(v, 42);

    double d = 0;
    assert_int_equal(pn_gguf_float(g, "b.f32", &d, &err), 1);
    assert_true(d == 1.5);
    assert_int_equal(pn_gguf_float(g, "b.f64", &d, &err), 1);
    assert_true(d == 2.5);
    assert_int_equal(pn_gguf_float(g, "b.i32", &d, &err), 1);
    assert_true(d == -5);
    assert_int_equal(pn_gguf_float(g, "b.nan", &d, &err), PUNA_E_FORMAT);
    assert_int_equal(pn_gguf_float(g, "b.bool", &d, &err), PUNA_E_FORMAT);
    assert_int_equal(pn_gguf_float(g, "absent", &d, &err), 0);

    bool b = false;
    assert_int_equal(pn_gguf_bool(g, "b.bool", &b, &err), 1);
    assert_true(b);
    assert_int_equal(pn_gguf_bool(g, "a.u32", &b, &err), PUNA_E_FORMAT);
    struct pn_str s;
    assert_int_equal(pn_gguf_str(g, "general.architecture", &s, &err), 1);
    assert_int_equal(s.len, 5);
    assert_memory_equal(s.s, "llama", 5);
    assert_int_equal(pn_gguf_str(g, "b.empty", &s, &err), 1);
    assert_int_equal(s.len, 0);
    assert_int_equal(pn_gguf_str(g, "a.strs", &s, &err), PUNA_E_FORMAT);

    const struct pn_str *strs, *again;
    size_t len;
    assert_int_equal(pn_gguf_strs(g, "a.strs", &strs, &len, &err), 1);
    assert_int_equal(len, 3);
    assert_int_equal(strs[1].len, 0);
    assert_memory_equal(strs[2].s, "yz", 2);
    assert_int_equal(pn_gguf_strs(g, "a.strs", &again, &len, &err), 1);
    assert_ptr_equal(again, strs);
    assert_int_equal(pn_gguf_strs(g, "a.i32s", &strs, &len, &err), PUNA_E_FORMAT);
    const int32_t *i32s;
    assert_int_equal(pn_gguf_i32s(g, "a.i32s", &i32s, &len, &err), 1);
    assert_int_equal(len, 3);
    assert_int_equal(i32s[1], -2);
    assert_int_equal(pn_gguf_i32s(g, "b.u32s", &i32s, &len, &err), PUNA_E_FORMAT);
    assert_string_equal(err.message, "x.gguf: element 0 of key 'b.u32s' is beyond 32 bits");
    assert_int_equal(pn_gguf_i32s(g, "b.f32s", &i32s, &len, &err), PUNA_E_FORMAT);
    const float *f32s;
    assert_int_equal(pn_gguf_f32s(g, "b.f32s", &f32s, &len, &err), 1);
    assert_true(f32s[0] == 0.25f && f32s[1] == -1e30f);
    assert_int_equal(pn_gguf_f32s(g, "absent", &f32s, &len, &err), 0);

    assert_int_equal(g->n_tensors, 2);
    const struct pn_tensor *t = g->tensors;
    assert_string_equal(t[0].name, "t.0");
    assert_int_equal(t[0].type, PN_F32);
    assert_int_equal(t[0].ndim, 2);
    assert_int_equal(t[0].ne[0], 5);
    assert_int_equal(t[0].ne[1], 3);
    assert_int_equal(t[0].ne[3], 1);
    assert_int_equal(t[0].n_bytes, 60);
    assert_int_equal(t[1].n_bytes, 36);
    assert_ptr_equal(t[1].data, t[0].data + 64);
    assert_int_equal(t[0].data[8], 1);
    pn_gguf_close(&g);
    assert_null(g);
    free(f.copy);
    free(bytes);
    mkgguf_free(m);
}

static void test_truncated_anywhere(void **state)
{
    (void)state;
    struct mkgguf *m = small();
    size_t n;
    uint8_t *bytes = mkgguf_bytes(m, 32, &n);
    expect_bytes(bytes, 0, PUNA_E_FORMAT, "the file is empty");
    for (size_t k = 1; k < n; k++)
        expect_bytes(bytes, k, PUNA_E_FORMAT, k < 4 ? "not a GGUF" : "");
    free(bytes);
    mkgguf_free(m);
}

/* Whatever a byte of the header becomes: an error, or tensors inside the file. */
static void test_every_byte_changed(void **state)
{
    (void)state;
    static const uint8_t values[] = { 0x00, 0x01, 0x7f, 0x80, 0xff };
    struct mkgguf *m = small();
    size_t n;
    uint8_t *bytes = mkgguf_bytes(m, 32, &n);
    struct fake f = fake_map(bytes, n);
    unsigned refused = 0;
    for (size_t k = 0; k < n; k++) {
        for (size_t i = 0; i < sizeof values; i++) {
            f.copy[k] = values[i];
            struct pn_gguf *g;
            if (pn_gguf_open(&g, &f.map, NULL) != 0) {
                refused++;
                continue;
            }
            for (size_t t = 0; t < g->n_tensors; t++) {
                const struct pn_tensor *x = &g->tensors[t];
                assert_true(x->data >= f.map.data);
                assert_true(x->n_bytes <= n - (size_t)(x->data - f.map.data));
            }
            pn_gguf_close(&g);
        }
        f.copy[k] = bytes[k];
    }
    assert_true(refused > 100);
    free(f.copy);
    free(bytes);
    mkgguf_free(m);
}

static void test_magic(void **state)
{
    (void)state;
    struct mkgguf *m = small();
    size_t n;
    uint8_t *b = mkgguf_bytes(m, 32, &n);
    static const struct { uint32_t version; const char *part; } versions[] = {
        { 0, "version 0" }, { 1, "version 1" }, { 4, "version 4" },
        { 0x03000000, "big-endian" }, { 0x02000000, "big-endian" },
    };
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        put_le(b + 4, versions[i].version, 4);
        expect_bytes(b, n, PUNA_E_UNSUPPORTED, versions[i].part);
    }
    put_le(b + 4, 2, 4); /* version 2 has the same layout */
    struct fake f = fake_map(b, n);
    struct pn_gguf *g;
    assert_int_equal(pn_gguf_open(&g, &f.map, NULL), 0);
    assert_int_equal(g->version, 2);
    pn_gguf_close(&g);
    free(f.copy);
    expect_bytes((const uint8_t *)"FUGG\0\0\0\3", 8, PUNA_E_FORMAT, "big-endian");
    expect_bytes((const uint8_t *)"tjgg\3\0\0\0", 8, PUNA_E_FORMAT, "before GGUF");
    expect_bytes((const uint8_t *)"\x10\0\0\0\0\0\0\0{\"a\"", 12, PUNA_E_FORMAT, "safetensors");
    static const char lfs[] = "version https://git-lfs.github.com/spec/v1\noid sha256:00\n";
    expect_bytes((const uint8_t *)lfs, sizeof lfs - 1, PUNA_E_FORMAT, "git lfs pull");
    free(b);
    mkgguf_free(m);
}

static const uint64_t absurd[] = { (uint64_t)1 << 31,  UINT32_MAX,         (uint64_t)1 << 32,
                                   (uint64_t)1 << 62,  (uint64_t)1 << 63,  UINT64_MAX,
                                   UINT64_MAX / 33 + 1, UINT64_MAX / 8 + 1 };

static void test_absurd_counts(void **state)
{
    (void)state;
    struct mkgguf *m = small();
    size_t n;
    uint8_t *b = mkgguf_bytes(m, 32, &n);
    for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++) {
        put_le(b + 8, absurd[i], 8);
        expect_bytes(b, n, PUNA_E_FORMAT, "tensors, more than");
        put_le(b + 8, 2, 8);
        put_le(b + 16, absurd[i], 8);
        expect_bytes(b, n, PUNA_E_FORMAT, "key-value pairs, more than");
        put_le(b + 16, 4, 8);
        put_le(b + 24, absurd[i], 8); /* length of the first key */
        expect_bytes(b, n, PUNA_E_FORMAT, "ends inside the key-value pairs");
        put_le(b + 24, 20, 8);
        put_le(b + 24 + 8 + 20 + 4, absurd[i], 8); /* length of the first value */
        expect_bytes(b, n, PUNA_E_FORMAT, "ends inside general.architecture");
        put_le(b + 24 + 8 + 20 + 4, 5, 8);
    }
    free(b);
    for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++) {
        for (uint32_t type = 0; type <= PN_GGUF_F64; type++) {
            uint8_t array[12] = { (uint8_t)type };
            put_le(array + 4, absurd[i], 8);
            struct mkgguf *a = mkgguf_new();
            mkgguf_raw(a, "arr", PN_GGUF_ARR, array, sizeof array);
            mkgguf_str(a, "pad", "................................................");
            expect(a, PUNA_E_FORMAT, type == PN_GGUF_ARR ? "array of arrays" : "ends inside arr");
            mkgguf_free(a);
        }
    }
    mkgguf_free(m);
}

static void tensor_case(uint32_t type, uint32_t ndim, const uint64_t *ne, uint64_t offset,
                        size_t n_data, int code, const char *part)
{
    static const uint8_t zeros[4096];
    struct mkgguf *m = mkgguf_new();
    mkgguf_tensor_raw(m, "t", type, ndim, ne, offset, zeros, n_data);
    mkgguf_str(m, "k", "v");
    expect(m, code, part);
    mkgguf_free(m);
}

static void test_shapes(void **state)
{
    (void)state;
    const uint64_t two[] = { 32, 2, 1, 1, 1, 1, 1, 1 };
    static const uint32_t ndims[] = { 0, 5, 0x80000000u, UINT32_MAX };
    for (size_t i = 0; i < 4; i++)
        tensor_case(PN_F32, ndims[i], two, 0, 256, PUNA_E_FORMAT, "dimensions; 1 to 4");
    for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++) {
        tensor_case(PN_F32, 1, &absurd[i], 0, 256, PUNA_E_FORMAT, "tensor 't' has");
        for (size_t k = 0; k < sizeof absurd / sizeof absurd[0]; k++) {
            const uint64_t ne[] = { absurd[i], absurd[k], absurd[i], absurd[k] };
            tensor_case(PN_Q4_0, 2, ne, 0, 256, PUNA_E_FORMAT, "tensor 't' has");
            tensor_case(PN_F16, 4, ne, 0, 256, PUNA_E_FORMAT, "tensor 't' has");
        }
    }
    /* Products that wrap around 2^64 to something small: 0, 1 and 4. */
    tensor_case(PN_F32, 3, (const uint64_t[]){ 64, 0x100000000u, 0x100000000u }, 0, 256,
                PUNA_E_FORMAT, "more elements than");
    tensor_case(PN_F32, 2, (const uint64_t[]){ 3, 0xaaaaaaaaaaaaaaabu }, 0, 256, PUNA_E_FORMAT,
                "tensor 't' has a dimension of");
    tensor_case(PN_F32, 2, (const uint64_t[]){ 5, 0x3333333333333334u }, 0, 256, PUNA_E_FORMAT,
                "more elements than");
    tensor_case(PN_F32, 2, (const uint64_t[]){ 32, 0 }, 0, 256, PUNA_E_FORMAT, "dimension of 0");
    tensor_case(PN_Q4_K, 1, (const uint64_t[]){ 128 }, 0, 256, PUNA_E_FORMAT,
                "not a multiple of the 256");
    tensor_case(16, 1, (const uint64_t[]){ 256 }, 0, 256, PUNA_E_UNSUPPORTED, "type 16");
    tensor_case(UINT32_MAX, 1, (const uint64_t[]){ 256 }, 0, 256, PUNA_E_UNSUPPORTED, "type 4294");
}

static void test_places(void **state)
{
    (void)state;
    const uint64_t ne[] = { 64 };
    tensor_case(PN_F32, 1, ne, 0, 255, PUNA_E_FORMAT, "beyond the file's end");
    tensor_case(PN_F32, 1, ne, 32, 256, PUNA_E_FORMAT, "beyond the file's end");
    tensor_case(PN_F32, 1, ne, 16, 512, PUNA_E_FORMAT, "not a multiple of the alignment 32");
    for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++)
        tensor_case(PN_F32, 1, ne, absurd[i] & ~(uint64_t)31, 512, PUNA_E_FORMAT, "beyond");
    tensor_case(PN_F32, 1, ne, UINT64_MAX - 255, 512, PUNA_E_FORMAT, "beyond the file's end");

    static const uint8_t zeros[1024];
    for (uint64_t second = 0; second <= 288; second += 32) {
        struct mkgguf *m = mkgguf_new();
        mkgguf_tensor_raw(m, "late", PN_F32, 1, ne, second, zeros, 1024);
        mkgguf_tensor_raw(m, "early", PN_F32, 1, ne, 0, zeros, 0);
        if (second < 256) {
            expect(m, PUNA_E_FORMAT, "overlap");
        } else { /* touching, or with a gap */
            size_t n;
            uint8_t *bytes = mkgguf_bytes(m, 32, &n);
            struct fake f = fake_map(bytes, n);
            struct pn_gguf *g;
            assert_int_equal(pn_gguf_open(&g, &f.map, NULL), 0);
            assert_ptr_equal(g->tensors[0].data, g->tensors[1].data + second);
            pn_gguf_close(&g);
            free(f.copy);
            free(bytes);
        }
        mkgguf_free(m);
    }
}

static void test_alignment(void **state)
{
    (void)state;
    static const uint32_t bad[] = { 0, 3, 33, 0x80000000u, UINT32_MAX, 0x200000 };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct mkgguf *m = mkgguf_new();
        mkgguf_u32(m, "general.alignment", bad[i]);
        mkgguf_tensor(m, "t", PN_F32, 1, (const int64_t[]){ 4 }, NULL);
        expect(m, PUNA_E_FORMAT, "'general.alignment' is");
        mkgguf_free(m);
    }
    struct mkgguf *m = mkgguf_new();
    mkgguf_str(m, "general.alignment", "32");
    expect(m, PUNA_E_FORMAT, "'general.alignment' is of type string");
    mkgguf_free(m);
    for (uint32_t a = 1; a <= 4096; a *= 2) {
        m = mkgguf_new();
        mkgguf_u32(m, "general.alignment", a);
        mkgguf_tensor(m, "t", PN_F32, 1, (const int64_t[]){ 4 }, "0123456789abcdef");
        size_t n;
        uint8_t *bytes = mkgguf_bytes(m, a, &n);
        struct fake f = fake_map(bytes, n);
        struct pn_gguf *g;
        assert_int_equal(pn_gguf_open(&g, &f.map, NULL), 0);
        assert_int_equal(g->alignment, a);
        assert_memory_equal(g->tensors[0].data, "0123456789abcdef", 16);
        pn_gguf_close(&g);
        free(f.copy);
        free(bytes);
        mkgguf_free(m);
    }
}

static void test_names(void **state)
{
    (void)state;
    struct mkgguf *m = small();
    mkgguf_u32(m, "a.u32", 8);
    expect(m, PUNA_E_FORMAT, "key 'a.u32' appears twice");
    mkgguf_free(m);
    m = small();
    mkgguf_tensor(m, "t.1", PN_F32, 1, (const int64_t[]){ 4 }, NULL);
    expect(m, PUNA_E_FORMAT, "tensor 't.1' appears twice");
    mkgguf_free(m);
    m = mkgguf_new();
    mkgguf_u32(m, "", 8);
    expect(m, PUNA_E_FORMAT, "1 to 4096 are sane");
    mkgguf_free(m);
    m = mkgguf_new();
    mkgguf_u32(m, "a\x1b[2J", 8);
    expect(m, PUNA_E_FORMAT, "contains byte 27");
    mkgguf_free(m);
    m = mkgguf_new();
    mkgguf_raw(m, "k", 13, "\0\0\0\0\0\0\0\0", 8);
    expect(m, PUNA_E_FORMAT, "key 'k' has unknown type 13");
    mkgguf_free(m);
    m = mkgguf_new();
    mkgguf_raw(m, "k", PN_GGUF_BOOL, "\2..............", 16);
    expect(m, PUNA_E_FORMAT, "a bool of value 2");
    mkgguf_free(m);
    m = mkgguf_new();
    mkgguf_raw(m, "k", PN_GGUF_ARR, "\x0d\0\0\0\0\0\0\0\0\0\0\0", 12);
    expect(m, PUNA_E_FORMAT, "an array of an unknown type (type 13)");
    mkgguf_free(m);
    char name[300];
    memset(name, 'n', sizeof name);
    name[256] = 0;
    m = mkgguf_new();
    mkgguf_tensor(m, name, PN_F32, 1, (const int64_t[]){ 4 }, NULL);
    expect(m, PUNA_E_FORMAT, "the name of a tensor has 256 bytes");
    mkgguf_free(m);
}

static void test_split_shards(void **state)
{
    (void)state;
    struct mkgguf *m = small();
    mkgguf_raw(m, "split.count", PN_GGUF_U16, "\3\0", 2);
    expect(m, PUNA_E_UNSUPPORTED, "one of 3 parts");
    mkgguf_free(m);
}

/* The size of the real vocabulary. No time is asserted; it is printed. */
static void test_real_size(void **state)
{
    (void)state;
    enum { TOKENS = 128257, MERGES = 280147 };
    char(*text)[16] = calloc(MERGES, sizeof *text);
    const char **list = calloc(MERGES, sizeof *list);
    assert_true(text && list);
    for (int i = 0; i < MERGES; i++) {
        (void)snprintf(text[i], sizeof text[i], "t%d %d", i, i % 977);
        list[i] = text[i];
    }
    struct mkgguf *m = mkgguf_new();
    mkgguf_strs(m, "tokens", list, TOKENS);
    mkgguf_strs(m, "merges", list, MERGES);
    for (int i = 0; i < 1496; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "blk.%d.weight", i);
        mkgguf_tensor(m, name, PN_F32, 1, (const int64_t[]){ 8 }, NULL);
    }
    size_t n;
    uint8_t *bytes = mkgguf_bytes(m, 32, &n);
    struct fake f = fake_map(bytes, n);
    struct timespec a, b;
    (void)clock_gettime(CLOCK_MONOTONIC, &a);
    struct pn_gguf *g;
    const struct pn_str *strs;
    size_t len;
    assert_int_equal(pn_gguf_open(&g, &f.map, NULL), 0);
    assert_int_equal(pn_gguf_strs(g, "tokens", &strs, &len, NULL), 1);
    assert_int_equal(len, TOKENS);
    assert_int_equal(pn_gguf_strs(g, "merges", &strs, &len, NULL), 1);
    (void)clock_gettime(CLOCK_MONOTONIC, &b);
    print_message("header of %zu bytes: %.2f ms\n", n,
                  (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6);
    assert_int_equal(len, MERGES);
    for (int i = 0; i < MERGES; i += 1009) {
        assert_int_equal(strs[i].len, strlen(text[i]));
        assert_memory_equal(strs[i].s, text[i], strs[i].len);
    }
    pn_gguf_close(&g);
    free(f.copy);
    free(bytes);
    mkgguf_free(m);
    free(list);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),        cmocka_unit_test(test_truncated_anywhere),
        cmocka_unit_test(test_every_byte_changed), cmocka_unit_test(test_magic),
        cmocka_unit_test(test_absurd_counts), cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_places),        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_names),         cmocka_unit_test(test_split_shards),
        cmocka_unit_test(test_real_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
