/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics of answers against published examples and definitions; where each comes from stands beside it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/metric.h"

static double score1(enum metric metric, const char *prediction, const char *answer)
{
    const struct reference ref = { &answer, 1, NULL, 0 };
    return metric_score(metric, prediction, &ref);
}

/* github.com/google-research/pix2struct, pix2struct/metrics_test.py: over these eight pairs exact_match is 12.5, anls
 * 47.5 and relaxed_accuracy 62.5. */
static void pix2struct(void **state)
{
    (void)state;
    static const char *const pairs[8][2] = {
        { "abc", "abc" },   { "abc", "Abc" },   { "Abc", "abc" },   { "100%", "96%" },
        { "100%", "94%" },  { "100%", "0.96" }, { "100%", "0.94" }, { "Don't", "Won't" },
    };
    static const struct {
        enum metric metric;
        double mean;
    } want[] = { { METRIC_EXACT, 0.125 }, { METRIC_ANLS, 0.475 }, { METRIC_RELAXED, 0.625 } };
    for (size_t m = 0; m < 3; m++) {
        double sum = 0;
        for (size_t i = 0; i < 8; i++)
            sum += score1(want[m].metric, pairs[i][0], pairs[i][1]);
        assert_float_equal(sum / 8, want[m].mean, 1e-9);
    }
}

/* Masry et al., ChartQA (2022), section 5.1: within 5 % of the gold answer, other answers equal. */
static void relaxed(void **state)
{
    (void)state;
    assert_float_equal(score1(METRIC_RELAXED, "105", "100"), 1, 0);
    assert_float_equal(score1(METRIC_RELAXED, "95.0", "100"), 1, 0);
    assert_float_equal(score1(METRIC_RELAXED, "105.1", "100"), 0, 0);
    assert_float_equal(score1(METRIC_RELAXED, "-10", "-10.4"), 1, 0);
    assert_float_equal(score1(METRIC_RELAXED, "10", "-10"), 0, 0);
    assert_float_equal(score1(METRIC_RELAXED, "1e3", "1000"), 1, 0);
    assert_float_equal(score1(METRIC_RELAXED, "0", "0"), 1, 0);
    assert_float_equal(score1(METRIC_RELAXED, "0.01", "0"), 0, 0);
    assert_float_equal(score1(METRIC_RELAXED, " Yes\n", "yes"), 1, 0);
    assert_float_equal(score1(METRIC_RELAXED, "nan", "5"), 0, 0);
    assert_float_equal(score1(METRIC_RELAXED, "0x10", "16"), 0, 0);
    assert_float_equal(score1(METRIC_RELAXED, "\xc3\x84pfel", "\xc3\xa4PFEL"), 1, 0);
    const char *const years[] = { "2014", "twelve" };
    const struct reference ref = { years, 2, NULL, 0 };
    assert_float_equal(metric_score(METRIC_RELAXED, "twelve", &ref), 1, 0);
}

/* github.com/huggingface/evaluate, metrics/anls/README.md: its three questions; the second is 7 of 8 characters.
 * DocVQA (rrc.cvc.uab.es, ch=17): not case sensitive, the threshold is 0.5. */
static void anls(void **state)
{
    (void)state;
    const char *const broncos[] = { "Denver Broncos", "Denver R. Broncos" };
    const char *const lobo[] = { "Dear Dr. Lobo", "Dr. Lobo" };
    const struct reference a = { broncos, 2, NULL, 0 }, b = { lobo, 2, NULL, 0 };
    assert_float_equal(metric_score(METRIC_ANLS, "Denver Broncos", &a), 1, 0);
    assert_float_equal(score1(METRIC_ANLS, "12/15/89", "12/15/88"), 0.875, 1e-9);
    assert_float_equal(metric_score(METRIC_ANLS, "Dear dr. Lobo", &b), 1, 0);
    assert_float_equal(score1(METRIC_ANLS, "ab", "ac"), 0.5, 1e-9);
    assert_float_equal(score1(METRIC_ANLS, "abc", "axy"), 0, 0);
    assert_float_equal(score1(METRIC_ANLS, "kitten", "sitting"), 1 - 3.0 / 7, 1e-9);
    assert_float_equal(score1(METRIC_ANLS, "two  words", " Two words"), 1, 0);
    assert_float_equal(score1(METRIC_ANLS, "", ""), 1, 0);
    assert_float_equal(score1(METRIC_ANLS, "", "x"), 0, 0);
    /* characters, not bytes */
    assert_float_equal(score1(METRIC_ANLS, "h\xc3\xa0 n\xe1\xbb\x99i", "H\xc3\xa0 N\xe1\xbb\x98j"), 5.0 / 6, 1e-9);
    char *big = malloc(100001);
    assert_non_null(big);
    memset(big, 'x', 100000);
    big[100000] = '\0';
    assert_float_equal(score1(METRIC_ANLS, big, big), 1, 0);
    free(big);
}

static void normal(const char *answer, const char *want)
{
    char *got = metric_vqa_normal(answer);
    assert_non_null(got);
    assert_string_equal(got, want);
    free(got);
}

/* visualqa.org/evaluation.html: lower case; full stops go but in decimals; number words become digits; articles go;
 * apostrophes of contractions are put in; punctuation becomes a blank, but not between digits or beside a blank;
 * apostrophes and colons stay. */
static void vqa_normal(void **state)
{
    (void)state;
    normal("Yes.", "yes");
    normal("The Two of a kind", "2 of kind");
    normal("none", "0");
    normal("ten", "10");
    normal("3.5", "3.5");
    normal("3.5.", "3.5");
    normal("dont know", "don't know");
    normal("couldnt've", "couldn't've");
    normal("couldn'tve", "couldn't've");
    normal("oclock", "o'clock");
    normal("twas", "'twas");
    normal("it's", "it's");
    normal("10:30", "10:30");
    normal("1,000", "1000");
    normal("black, white", "black white");
    normal("black,white", "black white");
    normal("red-and-white", "red and white");
    normal("\"stop\"", "stop");
    normal("a\nb\tc", "b c");
    normal("an", "");
    normal("", "");
    normal("?", "");
    normal("\xc3\x89t\xc3\xa9 (summer)", "\xc3\x89t\xc3\xa9 summer");
}

/* The same page: accuracy = min(people who said it / 3, 1), averaged over the ten sets of nine people: 1, 2, 3, 4 of
 * ten give 0.3, 0.6, 0.9, 1 (also the soft scores of Teney et al. 2018 and TextVQA's). */
static void vqa(void **state)
{
    (void)state;
    const char *people[10];
    static const double want[] = { 0, 0.3, 0.6, 0.9, 1, 1, 1, 1, 1, 1, 1 };
    for (size_t said = 0; said <= 10; said++) {
        for (size_t i = 0; i < 10; i++)
            people[i] = i < said ? "The cat." : "dog";
        const struct reference ref = { people, 10, NULL, 0 };
        assert_float_equal(metric_score(METRIC_VQA, "Cat", &ref), want[said], 1e-9);
    }
    assert_float_equal(score1(METRIC_VQA, "two", "2"), 1, 0);
    assert_float_equal(score1(METRIC_VQA, "two", "3"), 0, 0);
}

/* github.com/MMMU-Benchmark/MMMU, eval/eval_utils.py, parse_multi_choice_response: a letter in parentheses, else one
 * that stands alone, the last of several; else the text of a choice. */
static void choice(void **state)
{
    (void)state;
    const char *const animals[] = { "cat", "dog", "a sea horse", "" };
    const struct reference ref = { NULL, 0, animals, 4 };
    static const struct {
        const char *text;
        int want;
    } cases[] = {
        { "B", 1 },
        { "B.", 1 },
        { "(C)", 2 },
        { "It is (A) or rather (B)", 1 },
        { "A B", 1 },
        { "**D**", 3 },
        { "E", -1 },
        { "b", -1 },
        { "The animal in the picture is a Dog.", 1 },
        { "cat? no, a sea horse", 2 },
        { "Apple", -1 },
        { "(A) is wrong. The best answer is C.", 2 },
        { "Answer: (D) because of B", 3 },
        { "the answer isnt known: B", 1 },
        { "", -1 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (metric_choice(cases[i].text, &ref) != cases[i].want)
            fail_msg("'%s': %d", cases[i].text, metric_choice(cases[i].text, &ref));
    const char *b = "B", *dog = "dog";
    const struct reference by_letter = { &b, 1, animals, 4 }, by_text = { &dog, 1, animals, 4 };
    assert_float_equal(metric_score(METRIC_CHOICE, "(B)", &by_letter), 1, 0);
    assert_float_equal(metric_score(METRIC_CHOICE, "A", &by_letter), 0, 0);
    assert_float_equal(metric_score(METRIC_CHOICE, "Answer: B", &by_text), 1, 0);
    assert_float_equal(score1(METRIC_CHOICE, "It must be F", "F"), 1, 0);
}

/* R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), table
 * I, method 3. */
static void wilson(void **state)
{
    (void)state;
    static const struct {
        double k;
        uint64_t n;
        double low, high;
    } cases[] = {
        { 81, 263, 0.2553, 0.3662 }, { 15, 148, 0.0624, 0.1605 }, { 0, 20, 0, 0.1611 }, { 1, 29, 0.0061, 0.1718 },
    };
    for (size_t i = 0; i < 4; i++) {
        const struct interval c = interval_wilson(cases[i].k, cases[i].n);
        assert_float_equal(c.low, cases[i].low, 6e-5);
        assert_float_equal(c.high, cases[i].high, 6e-5);
    }
    assert_float_equal(interval_wilson(20, 20).high, 1, 0);
    assert_float_equal(interval_wilson(0, 0).high, 1, 0);
    /* 0.3, 0.6, 0.9 : mean 0.6, standard deviation 0.3 */
    const struct interval c = interval_normal(1.8, 0.09 + 0.36 + 0.81, 3);
    assert_float_equal(c.low, 0.6 - 1.959964 * 0.3 / 1.7320508, 1e-6);
    assert_float_equal(c.high, 0.6 + 1.959964 * 0.3 / 1.7320508, 1e-6);
    assert_float_equal(interval_normal(20, 20, 20).low, 1 - 0.1611, 6e-5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pix2struct), cmocka_unit_test(relaxed), cmocka_unit_test(anls),   cmocka_unit_test(vqa_normal),
        cmocka_unit_test(vqa),        cmocka_unit_test(choice),  cmocka_unit_test(wilson),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
