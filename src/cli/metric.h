/* SPDX-License-Identifier: Apache-2.0 */
/* How good an answer is: the metrics by which vision models are compared. */
#ifndef PN_CLI_METRIC_H
#define PN_CLI_METRIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum metric {
    METRIC_EXACT,   /* equal to one of the answers, white space around left away */
    METRIC_RELAXED, /* ChartQA: numbers within 5 % (per cent signs understood), else equal but for case */
    METRIC_ANLS,    /* DocVQA: 1 - edit distance / length of the longer, 0 below one half; best answer counts */
    METRIC_VQA,     /* VQAv2: min(1, people who gave that answer / 3) over all sets of nine of ten people */
    METRIC_CHOICE   /* MMMU, AI2D: the letter of the right choice */
};
extern const char *const metric_names[]; /* NULL-terminated */
bool metric_is_graded(enum metric metric); /* between 0 and 1, not one of the two */

struct reference {
    const char *const *answers; /* [n_answers] */
    size_t n_answers;
    const char *const *choices; /* [n_choices] METRIC_CHOICE: their texts; 0: letters A to H */
    size_t n_choices;
};
/* 0 to 1; negative: no memory. METRIC_CHOICE: an answer is a letter or a choice's text. */
double metric_score(enum metric metric, const char *prediction, const struct reference *ref);

/* The choice (0: A) that an answer in words means, or -1. */
int metric_choice(const char *prediction, const struct reference *ref);
/* An answer as VQAv2's evaluation compares it; malloc'ed. NULL: no memory. */
char *metric_vqa_normal(const char *answer);

/* 95 % confidence intervals of a mean. */
struct interval {
    double low, high;
};
/* Wilson's score interval for k of n. */
struct interval interval_wilson(double k, uint64_t n);
/* By the normal distribution, from the sum and the sum of squares of n values, cut to 0 .. 1; Wilson's when all values
 * are equal, which says nothing about their spread. */
struct interval interval_normal(double sum, double squares, uint64_t n);

#endif
