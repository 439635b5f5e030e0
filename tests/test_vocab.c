/* SPDX-License-Identifier: Apache-2.0 */
/* The tokenizer against Hugging Face's ids: tiny-a's prompts, tricky strings for tiny-a's
 * vocabulary (tests/oracle/tokenizer_oracle.py), and Llama 3's own vocabulary where there is one
 * (PUNA_LLAMA3_TOKENIZER, tests/oracle/fetch-llama3-tokenizer.sh). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <puna.h>

#include "text/split.h"
#include "text_util.h"

static const char tiny_a[] = "tests/data/tiny-a/model/tokenizer.json";

static void encode(const struct pn_vocab *v, const char *s, size_t n, bool special,
                   struct pn_ids *ids)
{
    struct puna_error err = { 0 };
    ids->len = 0;
    if (pn_vocab_encode(v, s, n, special, ids, &err))
        fail_msg("%s", err.message);
}

/* The pieces of ids spell s again. */
static void check_spelling(const struct pn_vocab *v, const struct pn_ids *ids, const char *s,
                           size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < ids->len; i++) {
        size_t len;
        const char *piece = pn_vocab_piece(v, ids->v[i], &len);
        if (!piece || len > n - at || memcmp(piece, s + at, len) != 0)
            fail_msg("id %d (number %zu) does not spell byte %zu", ids->v[i], i, at);
        at += len;
    }
    assert_int_equal(at, n);
}

/* ---------------------------------------------------------------------------- goldens */

static size_t check_cases(const struct pn_vocab *v, const char *path, const char *key)
{
    json_t *file = read_json(path);
    const json_t *cases = json_object_get(file, "cases");
    struct pn_ids ids = { 0 };
    size_t i;
    json_t *c;
    json_array_foreach(cases, i, c) {
        const json_t *text = json_object_get(c, key), *want = json_object_get(c, "ids");
        const char *s = json_string_value(text);
        const size_t n = json_string_length(text);
        encode(v, s, n, true, &ids);
        bool same = ids.len == json_array_size(want);
        for (size_t k = 0; same && k < ids.len; k++)
            same = ids.v[k] == json_integer_value(json_array_get(want, k));
        if (!same)
            fail_msg("%s, case %zu: '%s'", path, i, s);
        check_spelling(v, &ids, s, n);
    }
    const size_t n = json_array_size(cases);
    pn_ids_free(&ids);
    json_decref(file);
    return n;
}

static void test_goldens(void **state)
{
    (void)state;
    struct pn_vocab *v = read_vocab(tiny_a);
    assert_int_equal(pn_vocab_size(v), 529);
    assert_int_equal(check_cases(v, "tests/data/tiny-a/cases.json", "prompt"), 13);
    assert_int_equal(check_cases(v, "tests/data/tokenizer-tiny-goldens.json", "text"), 300);
    pn_vocab_free(&v);
    assert_null(v);
    pn_vocab_free(&v);
}

static void test_llama3(void **state)
{
    (void)state;
    const char *path = getenv("PUNA_LLAMA3_TOKENIZER");
    if (!path) {
        printf("PUNA_LLAMA3_TOKENIZER is not set: Llama 3's own vocabulary is not tested "
               "(tests/oracle/fetch-llama3-tokenizer.sh gets it)\n");
        skip();
    }
    struct pn_vocab *v = read_vocab(path);
    assert_int_equal(pn_vocab_size(v), 128257);
    assert_int_equal(pn_vocab_special(v, "<|image|>"), 128256);
    assert_int_equal(check_cases(v, "tests/data/tokenizer-goldens.json", "text"), 33);
    pn_vocab_free(&v);
}

/* ---------------------------------------------------------------------------- questions */

static void test_pieces(void **state)
{
    (void)state;
    struct pn_vocab *v = read_vocab(tiny_a);
    size_t n, n_special = 0, single[256] = { 0 };
    for (int32_t id = 0; id < (int32_t)pn_vocab_size(v); id++) {
        const char *s = pn_vocab_piece(v, id, &n);
        assert_non_null(s);
        n_special += pn_vocab_is_special(v, id);
        if (n == 1)
            single[(uint8_t)*s]++;
    }
    assert_int_equal(n_special, 17);
    for (int b = 0; b < 256; b++)
        assert_int_equal(single[b], 1); /* byte-to-unicode undone: every byte once */
    const int32_t eot = pn_vocab_special(v, "<|eot_id|>");
    assert_int_equal(eot, 521);
    assert_memory_equal(pn_vocab_piece(v, eot, &n), "<|eot_id|>", 10);
    assert_int_equal(n, 10);
    assert_true(pn_vocab_is_special(v, eot));
    assert_false(pn_vocab_is_special(v, 0));
    assert_int_equal(pn_vocab_special(v, "<|eot_id"), -1);
    assert_int_equal(pn_vocab_special(v, ""), -1);
    static const int32_t none[] = { -1, 529, INT32_MIN, INT32_MAX };
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        assert_null(pn_vocab_piece(v, none[i], &n));
        assert_int_equal(n, 0);
        assert_false(pn_vocab_is_special(v, none[i]));
    }
    pn_vocab_free(&v);
}

/* Specials in the text only when asked for; ids are appended; other texts stay what they are. */
static void test_special_parsing(void **state)
{
    (void)state;
    struct pn_vocab *v = read_vocab(tiny_a);
    struct pn_ids ids = { 0 };
    static const char text[] = "a<|eot_id|><|image|>\n<|eot_id|";
    encode(v, text, sizeof text - 1, false, &ids);
    check_spelling(v, &ids, text, sizeof text - 1);
    for (size_t i = 0; i < ids.len; i++)
        assert_false(pn_vocab_is_special(v, ids.v[i]));
    encode(v, text, sizeof text - 1, true, &ids);
    check_spelling(v, &ids, text, sizeof text - 1);
    assert_int_equal(ids.v[1], 521);
    assert_int_equal(ids.v[2], 528);
    const size_t n = ids.len;
    assert_int_equal(pn_vocab_encode(v, "", 0, true, &ids, NULL), 0);
    assert_int_equal(ids.len, n);
    assert_int_equal(pn_vocab_encode(v, "<|image|>", 9, true, &ids, NULL), 0);
    assert_int_equal(ids.len, n + 1);
    assert_int_equal(ids.v[n], 528);
    pn_ids_free(&ids);
    pn_vocab_free(&v);
}

/* ---------------------------------------------------------------------------- any bytes */

static uint32_t random_state;

static uint32_t next_random(uint32_t below)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(random_state >> 8) * below >> 24);
}

static void test_random_bytes(void **state)
{
    (void)state;
    struct pn_vocab *v = read_vocab(tiny_a);
    struct pn_ids ids = { 0 };
    random_state = 1;
    for (int round = 0; round < 3000; round++) {
        char s[64];
        const size_t n = next_random(sizeof s + 1);
        for (size_t i = 0; i < n; i++)
            s[i] = (char)(next_random(3) ? next_random(256) : 0xe2 + next_random(2) - 0x60);
        encode(v, s, n, true, &ids);
        check_spelling(v, &ids, s, n);
    }
    /* A byte that is not UTF-8 is a token of its own, and the text beside it is as if alone. */
    static const char *const bad[] = { "\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                       "\xe2\x82" };
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        char s[32];
        const size_t n = strlen(bad[k]);
        memcpy(s, " the", 4);
        memcpy(s + 4, bad[k], n);
        memcpy(s + 4 + n, " the", 4);
        encode(v, s, 4, true, &ids);
        const struct pn_ids alone = ids;
        ids = (struct pn_ids){ 0 };
        encode(v, s, 8 + n, true, &ids);
        assert_int_equal(ids.len, 2 * alone.len + n);
        assert_memory_equal(ids.v, alone.v, alone.len * sizeof *ids.v);
        assert_memory_equal(ids.v + alone.len + n, alone.v, alone.len * sizeof *ids.v);
        for (size_t i = 0; i < n; i++) {
            size_t len;
            assert_int_equal(*pn_vocab_piece(v, ids.v[alone.len + i], &len), bad[k][i]);
            assert_int_equal(len, 1);
        }
        free(alone.v);
    }
    pn_ids_free(&ids);
    pn_vocab_free(&v);
}

/* Sizes at which anything quadratic would not come back. */
static void test_long(void **state)
{
    (void)state;
    struct pn_vocab *v = read_vocab(tiny_a);
    struct pn_ids ids = { 0 };
    enum { WORD = 10000000, RUN = 1000000 };
    char *s = malloc(WORD);
    assert_non_null(s);
    random_state = 2;
    for (size_t i = 0; i < WORD; i++)
        s[i] = (char)('a' + next_random(26));
    encode(v, s, WORD, true, &ids);
    check_spelling(v, &ids, s, WORD);
    static const char fill[] = "\n \t'7<.a\xff";
    for (size_t k = 0; k < sizeof fill - 1; k++) {
        memset(s, fill[k], RUN);
        encode(v, s, RUN, true, &ids);
        check_spelling(v, &ids, s, RUN);
        s[RUN - 1] = 'x'; /* white space, then a letter: \s+(?!\S) */
        encode(v, s, RUN, true, &ids);
        check_spelling(v, &ids, s, RUN);
    }
    for (size_t i = 0; i < RUN; i++)
        s[i] = "\xc2\xa0"[i % 2]; /* NBSP */
    encode(v, s, RUN, true, &ids);
    check_spelling(v, &ids, s, RUN);
    free(s);
    struct puna_error err = { 0 };
    const size_t n = ids.len;
    assert_int_equal(pn_vocab_encode(v, "", (size_t)INT32_MAX + 1, true, &ids, &err), PUNA_E_LIMIT);
    assert_int_equal(ids.len, n);
    pn_ids_free(&ids);
    pn_vocab_free(&v);
}

/* ---------------------------------------------------------------------------- splitting */

/* Ends of the pieces of a text; returns how many. */
static size_t split(const char *regex, const char *s, size_t n, size_t *ends, size_t cap)
{
    struct pn_split *sp;
    struct pn_split_run *r = NULL;
    struct puna_error err = { 0 };
    if (pn_split_new(&sp, regex, strlen(regex), "test", &err) || pn_split_begin(&r, sp, &err))
        fail_msg("%s", err.message);
    pn_split_text(r, s, n);
    size_t k = 0, at = 0, len;
    int rc;
    while ((rc = pn_split_next(r, &len, &err)) == 1) {
        assert_true(len > 0 && len <= n - at && k < cap);
        ends[k++] = at += len;
    }
    if (rc)
        fail_msg("%s", err.message);
    assert_int_equal(at, n);
    pn_split_end(r);
    pn_split_free(sp);
    return k;
}

static void expect_split(const char *regex, const char *s, const char *want)
{
    size_t ends[64], at = 0;
    const size_t k = split(regex, s, strlen(s), ends, 64);
    char got[256];
    size_t n = 0;
    for (size_t i = 0; i < k; i++) {
        for (; at < ends[i]; at++)
            got[n++] = s[at];
        got[n++] = '|';
    }
    got[n] = 0;
    assert_string_equal(got, want);
}

/* The scanner and PCRE2 agree on the expression the scanner is written for. (U+180E is left out:
 * PCRE2 takes it for white space, Unicode and the reference do not.) */
static void test_scanner(void **state)
{
    (void)state;
    char by_pcre2[512];
    (void)snprintf(by_pcre2, sizeof by_pcre2, "(?:%s)", pn_split_llama3);
    static const char *const bits[] = {
        "a", "Z", "the", "\xc3\xa9", "\xe6\x97\xa5", "\xe0\xa4\xa8", "\xe0\xa5\x8d", "\xc7\x85",
        "1", "23", "\xc2\xbd", "\xd9\xa3", "\xe2\x85\xa7", "\xf0\x9d\x9f\x98", " ", "  ", "\n",
        "\r", "\t", "\x0b", "\x0c", "\x1c", "\xc2\x85", "\xc2\xa0", "\xe1\x9a\x80", "\xe2\x80\x83",
        "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80", ".", "_",
        "'", "'s", "'S", "'\xc5\xbf", "\xc5\xbf", "'t", "'Re", "'vE", "'M", "'lL", "'l", "'D", "'r",
        "\xf0\x9f\x98\x80", "\xcc\x81", "\xe2\x80\x8b", "\xe2\x80\x8d", "\xef\xbb\xbf", "\x00",
        "\x7f", "\xee\x80\x80", "\xff", "\xe2\x80", "\xed\xa0\x80",
    };
    random_state = 3;
    for (int round = 0; round < 4000; round++) {
        char s[256];
        size_t n = 0;
        const uint32_t pieces = 1 + next_random(24);
        for (uint32_t i = 0; i < pieces; i++) {
            const char *b = bits[next_random(sizeof bits / sizeof *bits)];
            const size_t k = *b ? strlen(b) : 1;
            memcpy(s + n, b, k);
            n += k;
        }
        size_t a[256], b[256];
        const size_t na = split(pn_split_llama3, s, n, a, 256), nb = split(by_pcre2, s, n, b, 256);
        if (na != nb || memcmp(a, b, na * sizeof *a) != 0) {
            for (size_t i = 0; i < n; i++)
                printf("\\x%02x", (uint8_t)s[i]);
            fail_msg("round %d: the scanner cuts elsewhere than PCRE2", round);
        }
    }
    expect_split(pn_split_llama3, "Hi there  x\n \n y12345'LL?!\r\n",
                 "Hi| there| | x|\n \n| y|123|45|'LL|?!\r\n|");
}

static void test_other_expressions(void **state)
{
    (void)state;
    expect_split(pn_split_gpt2, "I'll  do it 12345!!\n\n x", "I|'ll| | do| it| 12345|!!|\n\n| x|");
    expect_split("\\d", "a1b22", "a|1|b|2|2|");
    expect_split("x", "abc", "abc|");
    expect_split("", "abc", "a|b|c|");
    expect_split("b*", "abbc", "a|bb|c|");
    expect_split("(?<=b)c", "acbc\xff" "bc", "acb|c|\xff|b|c|");
    expect_split("(?<=c)b", "c\xff" "b", "c|\xff|b|"); /* text ends at a byte that is not UTF-8 */

    /* Pieces far longer than the window PCRE2 looks through, exact; and an expression that scans to
     * the end of the text from every position comes back. */
    enum { LONG = 300000 };
    char *s = malloc(2 * LONG);
    assert_non_null(s);
    memset(s, 'a', LONG);
    memset(s + LONG, ' ', LONG);
    s[2 * LONG - 1] = 'x';
    size_t ends[3];
    assert_int_equal(split(pn_split_gpt2, s, 2 * LONG, ends, 3), 3);
    assert_int_equal(ends[0], LONG);
    assert_int_equal(ends[1], 2 * LONG - 2);
    size_t *many = malloc(LONG * sizeof *many);
    assert_non_null(many);
    assert_int_equal(split("a*b|a", s, LONG, many, LONG), LONG);
    free(many);

    struct pn_split *sp;
    struct pn_split_run *r;
    struct puna_error err = { 0 };
    assert_int_equal(pn_split_new(&sp, "(a", 2, "FILE", &err), PUNA_E_FORMAT);
    assert_non_null(strstr(err.message, "FILE: the split expression does not compile"));
    assert_null(sp);
    char *big = calloc(1, 100000);
    assert_int_equal(pn_split_new(&sp, big, 100000, "FILE", &err), PUNA_E_FORMAT);
    free(big);
    assert_int_equal(pn_split_new(&sp, "(a+)+[bc]", 9, "FILE", &err), 0);
    assert_int_equal(pn_split_begin(&r, sp, &err), 0);
    pn_split_text(r, s, 100);
    size_t len;
    assert_int_equal(pn_split_next(r, &len, &err), PUNA_E_LIMIT);
    assert_non_null(strstr(err.message, "gives up on this text"));
    pn_split_end(r);
    pn_split_free(sp);
    free(s);
}

/* ---------------------------------------------------------------------------- files */

static void expect_json(json_t *j, int code, const char *words)
{
    char *s = json_dumps(j, JSON_ENSURE_ASCII);
    struct pn_vocab *v;
    struct puna_error err = { 0 };
    const int rc = pn_vocab_from_json(&v, s, strlen(s), "FILE", &err);
    if (rc != code ||
        (rc && (!strstr(err.message, words) || strncmp(err.message, "FILE: ", 6) != 0)))
        fail_msg("want %d '%s', got %d '%s'", code, words, rc, err.message);
    if (rc)
        assert_null(v);
    pn_vocab_free(&v);
    free(s);
}

/* One change each to a good file. path: member names with '/' between them; value: JSON; NULL:
 * away. */
static void test_refused_files(void **state)
{
    (void)state;
#define AB "{\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": []}"
#define ADDED(s) "[{\"id\": " s "}]"
    static const struct { const char *path, *value; int code; const char *words; } cases[] = {
        { "model", NULL, PUNA_E_FORMAT, "has no 'model'" },
        { "model", "3", PUNA_E_FORMAT, "malformed" },
        { "model/type", "\"Unigram\"", PUNA_E_UNSUPPORTED, "not of type BPE" },
        { "model/vocab", NULL, PUNA_E_FORMAT, "no 'vocab'" },
        { "model/vocab", "[]", PUNA_E_FORMAT, "malformed" },
        { "model/vocab/the", "\"1\"", PUNA_E_FORMAT, "malformed" },
        { "model/vocab/the", "1.5", PUNA_E_FORMAT, "malformed" },
        { "model/vocab/zz", "-1", PUNA_E_FORMAT, "token id -1 is out of range" },
        { "model/vocab/zz", "1048576", PUNA_E_FORMAT, "token id 1048576 is out of range" },
        { "model/vocab/zz", "99999999999999999", PUNA_E_FORMAT, "out of range" },
        { "model/vocab/zz", "5", PUNA_E_FORMAT, "token id 5 is given to two tokens" },
        { "model/vocab/zz", "1000", 0, NULL }, /* holes are allowed */
        { "model/vocab/!", NULL, PUNA_E_FORMAT, "no token for the byte 0x21" },
        { "model", AB, PUNA_E_FORMAT, "no token for the byte 0x00" },
        { "model/merges", NULL, PUNA_E_FORMAT, "no 'merges'" },
        { "model/merges", "{}", PUNA_E_FORMAT, "malformed" },
        { "model/merges", "[1]", PUNA_E_FORMAT, "malformed" },
        { "model/merges", "[\"ab\"]", PUNA_E_FORMAT, "not two pieces" },
        { "model/merges", "[\"zz a\"]", PUNA_E_FORMAT, "the left part is not a token" },
        { "model/merges", "[\"a b c\"]", PUNA_E_FORMAT, "the right part is not a token" },
        { "model/merges", "[\"q z\"]", PUNA_E_FORMAT,
          "merge 0 ('q' + 'z'): the result is not a token" },
        { "model/merges", "[[\"q\"]]", PUNA_E_FORMAT, "malformed" },
        { "model/merges", "[[\"q\", \"z\", \"x\"]]", PUNA_E_FORMAT, "malformed" },
        { "model/merges", "[]", 0, NULL },
        { "model/byte_fallback", "true", PUNA_E_UNSUPPORTED, "'byte_fallback'" },
        { "model/dropout", "0.1", PUNA_E_UNSUPPORTED, "'dropout'" },
        { "model/end_of_word_suffix", "\"</w>\"", PUNA_E_UNSUPPORTED, "'end_of_word_suffix'" },
        { "model/end_of_word_suffix", "\"\"", 0, NULL },
        { "model/continuing_subword_prefix", "\"##\"", PUNA_E_UNSUPPORTED, "'continuing_subword" },
        { "normalizer", "{\"type\": \"NFC\"}", PUNA_E_UNSUPPORTED, "'normalizer'" },
        { "decoder", NULL, PUNA_E_UNSUPPORTED, "decoder is not ByteLevel" },
        { "decoder", "{\"type\": \"Metaspace\"}", PUNA_E_UNSUPPORTED, "decoder is not ByteLevel" },
        { "pre_tokenizer", NULL, PUNA_E_UNSUPPORTED, "pre_tokenizer" },
        { "pre_tokenizer", "{\"type\": \"Whitespace\"}", PUNA_E_UNSUPPORTED, "pre_tokenizer" },
        { "pre_tokenizer", "{\"type\": \"ByteLevel\", \"add_prefix_space\": true}",
          PUNA_E_UNSUPPORTED, "pre_tokenizer" },
        { "pre_tokenizer", "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}", 0, NULL },
        { "added_tokens", NULL, 0, NULL },
        { "added_tokens", "3", PUNA_E_FORMAT, "not a list" },
        { "added_tokens", "[3]", PUNA_E_FORMAT, "no id or no content" },
        { "added_tokens", ADDED("5, \"content\": \"x\""), PUNA_E_FORMAT,
          "added token 'x' has id 5, which the vocabulary gives to" },
        { "added_tokens", ADDED("65, \"content\": \"A\""), 0, NULL }, /* the same token */
        { "added_tokens", "[{\"id\": 600, \"content\": \"x\"}, {\"id\": 601, \"content\": \"x\"}]",
          PUNA_E_FORMAT, "special token 'x' is listed twice, as id 600 and id 601" },
        { "added_tokens", "[{\"id\": 600, \"content\": \"x\"}, {\"id\": 600, \"content\": \"y\"}]",
          PUNA_E_FORMAT, "token id 600 is given to two tokens, 'x' and 'y'" },
        { "added_tokens", ADDED("600, \"content\": \"x\", \"lstrip\": true"), PUNA_E_UNSUPPORTED,
          "'x' is matched by" },
        { "added_tokens", ADDED("600, \"content\": \"\""), 0, NULL }, /* never found in a text */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *j = read_json(tiny_a), *at = j;
        char path[64];
        (void)snprintf(path, sizeof path, "%s", cases[i].path);
        char *name = path;
        for (char *slash; (slash = strchr(name, '/')) != NULL; name = slash + 1) {
            *slash = 0;
            at = json_object_get(at, name);
        }
        if (cases[i].value)
            json_object_set_new(at, name, json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
        else
            json_object_del(at, name);
        if (strcmp(cases[i].path, "model/vocab/!") == 0)
            json_array_clear(json_object_get(json_object_get(j, "model"), "merges"));
        expect_json(j, cases[i].code, cases[i].words);
        json_decref(j);
    }
}

static void test_long_tokens(void **state)
{
    (void)state;
    static const struct { size_t n; int code; } cases[] = {
        { 1024, 0 }, { 1025, PUNA_E_FORMAT }, { 1000000, PUNA_E_FORMAT },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *s = malloc(cases[i].n + 1);
        assert_non_null(s);
        memset(s, 'q', cases[i].n);
        s[cases[i].n] = 0;
        json_t *j = read_json(tiny_a);
        json_object_set_new(json_object_get(json_object_get(j, "model"), "vocab"), s,
                            json_integer(700));
        expect_json(j, cases[i].code, "bytes long; puna takes at most 1024");
        json_decref(j);
        j = read_json(tiny_a);
        json_array_append_new(json_object_get(j, "added_tokens"),
                              json_pack("{sisssb}", "id", 700, "content", s, "special", 1));
        expect_json(j, cases[i].code, "bytes long; puna takes at most 1024");
        json_decref(j);
        free(s);
    }
}

/* Texts no JSON library writes: cut anywhere, members twice, deep nesting. */
static void test_malformed_text(void **state)
{
    (void)state;
    size_t n;
    char *s = read_data(tiny_a, &n);
    struct pn_vocab *v;
    size_t end = n;
    while (s[end - 1] != '}')
        end--;
    for (size_t cut = 0; cut < end; cut++) {
        char *part = malloc(cut ? cut : 1); /* its own block: a sanitizer sees a read behind it */
        assert_non_null(part);
        memcpy(part, s, cut);
        struct puna_error err = { 0 };
        const int rc = pn_vocab_from_json(&v, part, cut, "FILE", &err);
        if (rc != PUNA_E_FORMAT || v)
            fail_msg("cut at byte %zu: %d '%s'", cut, rc, err.message);
        free(part);
    }
    free(s);
    static const struct { const char *text, *words; } cases[] = {
        { "{\"model\": {}, \"model\": {}}", "'model' is given twice" },
        { "{} x", "malformed at byte" },
        { "[]", "malformed at byte 0" },
        { "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"a\": 1}, \"merges\": []}, "
          "\"decoder\": "
          "{\"type\": \"ByteLevel\"}, \"pre_tokenizer\": {\"type\": \"ByteLevel\", "
          "\"add_prefix_space\": false}}",
          "token 'a' is listed twice, as id 0 and id 1" },
        { "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"\\ud800\": 0}, \"merges\": []}, "
          "\"decoder\": "
          "{\"type\": \"ByteLevel\"}, \"pre_tokenizer\": {\"type\": \"ByteLevel\", "
          "\"add_prefix_space\": false}}",
          "malformed" },
        { "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"\xff\": 0}, \"merges\": []}, \"decoder\": "
          "{\"type\": \"ByteLevel\"}, \"pre_tokenizer\": {\"type\": \"ByteLevel\", "
          "\"add_prefix_space\": false}}",
          "malformed" },
        { "{\"a\\q\": 1}", "malformed" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct puna_error err = { 0 };
        assert_int_equal(pn_vocab_from_json(&v, cases[i].text, strlen(cases[i].text), "FILE", &err),
                         PUNA_E_FORMAT);
        if (!strstr(err.message, cases[i].words))
            fail_msg("want '%s', got '%s'", cases[i].words, err.message);
    }
    enum { DEEP = 1000000 };
    char *deep = malloc(DEEP);
    assert_non_null(deep);
    for (size_t i = 0; i < DEEP; i += 5)
        memcpy(deep + i, "{\"a\":", 5);
    assert_int_equal(pn_vocab_from_json(&v, deep, DEEP, "FILE", NULL), PUNA_E_FORMAT);
    memset(deep, '[', DEEP);
    memcpy(deep, "{\"added_tokens\":", 16);
    memset(deep + DEEP / 2 + 8, ']', DEEP / 2 - 8);
    deep[DEEP - 1] = '}';
    assert_int_equal(pn_vocab_from_json(&v, deep, DEEP, "FILE", NULL), PUNA_E_FORMAT);
    free(deep);
}

/* The same vocabulary as arrays, with merges as pairs, with the members in another order and with
 * specials among the pieces gives the same ids. */
static void test_other_forms(void **state)
{
    (void)state;
    json_t *j = read_json(tiny_a), *model = json_object_get(j, "model");
    json_t *vocab = json_object_get(model, "vocab"), *merges = json_object_get(model, "merges");
    json_t *added = json_object_get(j, "added_tokens");

    struct pn_str pieces[529] = { { 0 } }, pairs[1024];
    int32_t types[529];
    const char *key;
    json_t *t;
    size_t i;
    json_object_foreach(vocab, key, t) {
        pieces[json_integer_value(t)] = (struct pn_str){ key, strlen(key) };
        types[json_integer_value(t)] = 1;
    }
    json_array_foreach(added, i, t) {
        const json_int_t id = json_integer_value(json_object_get(t, "id"));
        key = json_string_value(json_object_get(t, "content"));
        pieces[id] = (struct pn_str){ key, strlen(key) };
        types[id] = i % 2 ? 3 : 4;
    }
    assert_true(json_array_size(merges) <= 1024);
    json_t *as_pairs = json_array();
    json_array_foreach(merges, i, t) {
        const char *s = json_string_value(t), *space = strchr(s, ' ');
        pairs[i] = (struct pn_str){ s, strlen(s) };
        json_array_append_new(as_pairs, json_pack("[s#s]", s, (int)(space - s), space + 1));
    }
    const struct pn_vocab_src src = { .pieces = pieces, .types = types, .n_pieces = 529,
                                      .merges = pairs, .n_merges = json_array_size(merges) };
    struct pn_vocab *v;
    struct puna_error err = { 0 };
    if (pn_vocab_from_arrays(&v, &src, &err))
        fail_msg("%s", err.message);
    assert_int_equal(check_cases(v, "tests/data/tiny-a/cases.json", "prompt"), 13);
    assert_int_equal(check_cases(v, "tests/data/tokenizer-tiny-goldens.json", "text"), 300);
    assert_true(pn_vocab_is_special(v, 512) && pn_vocab_is_special(v, 513));
    pn_vocab_free(&v);

    /* Arrays that are wrong. */
    const struct { size_t at; struct pn_str piece; int32_t type; const char *words; } bad[] = {
        { 300, { "a", 1 }, 1, "is listed twice" },
        { 528, { "<|eot_id|>", 10 }, 3, "'<|eot_id|>' is listed twice" },
        { 65, { "", 0 }, 1, "no token for the byte 0x41" },
    };
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct pn_str was = pieces[bad[i].at];
        const int32_t type = types[bad[i].at];
        pieces[bad[i].at] = bad[i].piece;
        types[bad[i].at] = bad[i].type;
        struct pn_vocab_src no_merges = src;
        no_merges.n_merges = 0;
        assert_int_equal(pn_vocab_from_arrays(&v, &no_merges, &err), PUNA_E_FORMAT);
        if (!strstr(err.message, bad[i].words))
            fail_msg("want '%s', got '%s'", bad[i].words, err.message);
        assert_null(v);
        pieces[bad[i].at] = was;
        types[bad[i].at] = type;
    }
    pairs[1] = (struct pn_str){ "the", 3 };
    assert_int_equal(pn_vocab_from_arrays(&v, &src, &err), PUNA_E_FORMAT);
    assert_non_null(strstr(err.message, "merge 1 ('the') is not two pieces"));
    assert_int_equal(pn_vocab_from_arrays(&v, &(struct pn_vocab_src){ 0 }, &err), PUNA_E_FORMAT);

    /* Pairs; merges before the vocabulary; a special repeated in the vocabulary; indented. */
    json_object_set_new(vocab, "<|eot_id|>", json_integer(521));
    json_t *other = json_pack("{sssOsbsO}", "type", "BPE", "merges", as_pairs, "ignore_merges", 1,
                              "vocab", vocab);
    json_object_set_new(j, "model", other);
    char *s = json_dumps(j, JSON_INDENT(2));
    if (pn_vocab_from_json(&v, s, strlen(s), "t", &err))
        fail_msg("%s", err.message);
    assert_int_equal(check_cases(v, "tests/data/tokenizer-tiny-goldens.json", "text"), 300);
    pn_vocab_free(&v);
    free(s);
    json_decref(as_pairs);
    json_decref(j);
}

/* Merging rules on a vocabulary made for it: 256 bytes, then "ab" "abc" "bc" "aa" "aaaa". */
static void test_merging(void **state)
{
    (void)state;
    json_t *j = read_json(tiny_a), *model = json_object_get(j, "model");
    json_t *vocab = json_object_get(model, "vocab");
    const char *key;
    json_t *id;
    void *next;
    json_object_foreach_safe(vocab, next, key, id) {
        if (json_integer_value(id) >= 256)
            json_object_del(vocab, key);
    }
    static const char *const tokens[] = { "ab", "abc", "bc", "aa", "aaaa", "xyz" };
    for (int i = 0; i < 6; i++)
        json_object_set_new(vocab, tokens[i], json_integer(300 + i));
    json_object_set_new(j, "added_tokens", json_loads("[{\"id\": 400, \"content\": \"<s>\"}, "
        "{\"id\": 401, \"content\": \"<s><t>\"}, {\"id\": 402, \"content\": \"<s>a\"}, "
        "{\"id\": 403, \"content\": \"xyz!\"}]", 0, NULL));
    /* "b c" wins over "a b" where both could go; "ab c" is reached only without a "bc". */
    json_object_set_new(model, "merges",
                        json_loads("[\"b c\", \"a b\", \"a a\", \"aa aa\", \"ab c\"]", 0, NULL));
    static const struct { const char *text; bool ignore; int32_t ids[8]; size_t n; } cases[] = {
        { "abc", false, { 'a', 302 }, 2 },
        { "abc", true, { 301 }, 1 }, /* the whole piece is a token */
        { "abcd", true, { 'a', 302, 'd' }, 3 },
        { "abd", true, { 300, 'd' }, 2 },
        { "aaa", true, { 303, 'a' }, 2 }, /* the leftmost pair first */
        { "aaaaa", true, { 304, 'a' }, 2 },
        { "aaaaaaaab", true, { 304, 303, 'a', 300 }, 4 },
        { "xyz", true, { 305 }, 1 }, /* no merge leads there */
        { "xyz", false, { 'x', 'y', 'z' }, 3 },
        /* the longest special */
        { "<s>x<s><t><s>aa<s", true, { 400, 'x', 401, 402, 'a', '<', 's' }, 7 },
        { "xyz!", true, { 403 }, 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_object_set_new(model, "ignore_merges", json_boolean(cases[i].ignore));
        char *s = json_dumps(j, 0);
        struct pn_vocab *v;
        struct puna_error err = { 0 };
        struct pn_ids ids = { 0 };
        if (pn_vocab_from_json(&v, s, strlen(s), "t", &err))
            fail_msg("%s", err.message);
        encode(v, cases[i].text, strlen(cases[i].text), true, &ids);
        if (ids.len != cases[i].n || memcmp(ids.v, cases[i].ids, ids.len * sizeof *ids.v) != 0)
            fail_msg("'%s' (%d): %zu ids, first %d", cases[i].text, cases[i].ignore, ids.len,
                     ids.v[0]);
        size_t n;
        assert_null(pn_vocab_piece(v, 299, &n)); /* a hole */
        pn_ids_free(&ids);
        pn_vocab_free(&v);
        free(s);
    }
    json_decref(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens),
        cmocka_unit_test(test_llama3),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_special_parsing),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_scanner),
        cmocka_unit_test(test_other_expressions),
        cmocka_unit_test(test_refused_files),
        cmocka_unit_test(test_long_tokens),
        cmocka_unit_test(test_malformed_text),
        cmocka_unit_test(test_other_forms),
        cmocka_unit_test(test_merging),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
