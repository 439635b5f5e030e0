/* SPDX-License-Identifier: Apache-2.0 */
/* The definitions: VQAv2: visualqa.org/evaluation.html and its evaluation program (answers are always normalised
 * here, on both sides, as that page says). ChartQA: Masry et al. 2022, section 5.1, in the form of pix2struct's
 * metrics. ANLS: Biten et al. 2019, with DocVQA's treatment of case and white space. Choices: the evaluation program
 * of MMMU, but what that guesses at random counts as wrong here, and the ending that Llama's prompts ask for ("the
 * best answer is B") goes before everything. tests/test_metric.c has published examples of each. */
#include "cli/metric.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"

const char *const metric_names[] = { "exact", "relaxed", "anls", "vqa", "choice", NULL };

bool metric_is_graded(enum metric metric)
{
    return metric == METRIC_ANLS || metric == METRIC_VQA;
}

/* ------------------------------------------------------------------------------------- text */

struct view {
    const char *s;
    size_t n;
};

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct view trim(const char *s)
{
    while (is_space(*s))
        s++;
    size_t n = strlen(s);
    while (n > 0 && is_space(s[n - 1]))
        n--;
    return (struct view){ s, n };
}

static bool equal(struct view a, struct view b)
{
    return a.n == b.n && memcmp(a.s, b.s, a.n) == 0;
}

/* Code points in lower case, runs of white space as one blank when asked; what is no UTF-8 counts byte by byte. */
struct points {
    int32_t *v;
    size_t n;
};

static struct points lower(struct view t, bool one_blank)
{
    struct points p = { calloc(t.n + 1, sizeof(*p.v)), 0 };
    for (size_t i = 0; p.v != NULL && i < t.n;) {
        utf8proc_int32_t c;
        const utf8proc_ssize_t n =
            utf8proc_iterate((const utf8proc_uint8_t *)t.s + i, (utf8proc_ssize_t)(t.n - i), &c);
        if (n <= 0)
            c = (unsigned char)t.s[i];
        i += n > 0 ? (size_t)n : 1;
        const bool blank = c < 128 && is_space((char)c);
        if (one_blank && blank && p.n > 0 && p.v[p.n - 1] == ' ')
            continue;
        p.v[p.n++] = one_blank && blank ? ' ' : utf8proc_tolower(c);
    }
    return p;
}

static double equal_but_for_case(struct view a, struct view b)
{
    const struct points x = lower(a, false), y = lower(b, false);
    const double same = x.v == NULL || y.v == NULL ? -1
                        : x.n == y.n && memcmp(x.v, y.v, x.n * sizeof(*x.v)) == 0;
    free(x.v);
    free(y.v);
    return same;
}

/* ------------------------------------------------------------------------------------- ChartQA */

/* A decimal number, with a per cent sign a hundredth of it. */
static bool read_number(struct view t, double *out)
{
    char text[64];
    if (t.n == 0 || t.n >= sizeof(text))
        return false;
    memcpy(text, t.s, t.n);
    text[t.n] = '\0';
    const bool percent = text[t.n - 1] == '%';
    if (percent)
        text[t.n - 1] = '\0';
    if (strspn(text, "0123456789+-.eE") != strlen(text)) /* no hexadecimal, no "nan" */
        return false;
    char *end;
    *out = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(*out))
        return false;
    *out /= percent ? 100 : 1;
    return true;
}

static double relaxed(struct view prediction, struct view target)
{
    double p, t;
    if (read_number(prediction, &p) && read_number(target, &t) && t != 0)
        return fabs(p - t) / fabs(t) <= 0.05;
    return equal_but_for_case(prediction, target);
}

/* ------------------------------------------------------------------------------------- DocVQA */

enum { MAX_POINTS = 4096 }; /* of an answer, so that the distance stays cheap; answers have a few dozen */

static double edit_distance(const struct points *a, const struct points *b, uint32_t *row)
{
    for (size_t j = 0; j <= b->n; j++)
        row[j] = (uint32_t)j;
    for (size_t i = 1; i <= a->n; i++) {
        uint32_t diagonal = row[0];
        row[0] = (uint32_t)i;
        for (size_t j = 1; j <= b->n; j++) {
            const uint32_t above = row[j], least = above < row[j - 1] ? above : row[j - 1];
            const uint32_t replaced = diagonal + (a->v[i - 1] != b->v[j - 1]);
            row[j] = replaced < least + 1 ? replaced : least + 1;
            diagonal = above;
        }
    }
    return row[b->n];
}

static double anls(struct view prediction, struct view target)
{
    struct points p = lower(prediction, true), t = lower(target, true);
    p.n = p.n < MAX_POINTS ? p.n : MAX_POINTS;
    t.n = t.n < MAX_POINTS ? t.n : MAX_POINTS;
    uint32_t *row = calloc(t.n + 1, sizeof(*row));
    double score = -1;
    if (p.v != NULL && t.v != NULL && row != NULL) {
        const size_t longer = p.n > t.n ? p.n : t.n;
        score = longer > 0 ? 1 - edit_distance(&p, &t, row) / (double)longer : 1;
        if (score < 0.5)
            score = 0;
    }
    free(p.v);
    free(t.v);
    free(row);
    return score;
}

/* ------------------------------------------------------------------------------------- VQAv2 */

/* Contractions as they are written; one with a single apostrophe missing is taken for it. */
static const char contractions[] =
    " ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't "
    "needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've "
    "somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll "
    "that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've "
    "weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll "
    "why're why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've ";

/* word is `full` without one of its apostrophes. */
static bool lacks_one(struct view word, struct view full)
{
    if (full.n != word.n + 1)
        return false;
    size_t i = 0;
    while (i < word.n && word.s[i] == full.s[i])
        i++;
    return full.s[i] == '\'' && memcmp(word.s + i, full.s + i + 1, word.n - i) == 0;
}

static struct view written_out(struct view word)
{
    static const char *const numbers[] = { "zero", "one", "two",   "three", "four", "five",
                                           "six",  "seven", "eight", "nine",  "ten" };
    static const char *const digits[] = { "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10" };
    static const char *const articles[] = { "a", "an", "the" };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (equal(word, trim(numbers[i])))
            return trim(digits[i]);
    if (equal(word, trim("none")))
        return trim("0");
    for (size_t i = 0; i < sizeof(articles) / sizeof(articles[0]); i++)
        if (equal(word, trim(articles[i])))
            return trim("");
    for (const char *s = contractions + 1; *s != '\0';) {
        const struct view full = { s, strcspn(s, " ") };
        if (lacks_one(word, full))
            return full;
        s += full.n + 1;
    }
    return word;
}

/* Punctuation goes, or becomes a blank where it stands between two words: decided for the whole answer, as the
 * evaluation program does. Apostrophes and colons stay. */
static bool strip_punctuation(struct pn_buf *out, struct view t)
{
    static const char marks[] = ";/[]\"{}()=+\\_-><@`,?!";
    bool number_comma = false, at_edge[sizeof(marks)] = { false };
    for (size_t i = 0; i < t.n; i++) {
        const char *m = t.s[i] ? strchr(marks, t.s[i]) : NULL;
        if (m == NULL)
            continue;
        const bool before = i > 0 && t.s[i - 1] == ' ', after = i + 1 < t.n && t.s[i + 1] == ' ';
        at_edge[m - marks] |= before || after;
        number_comma |= *m == ',' && i > 0 && i + 1 < t.n && isdigit((unsigned char)t.s[i - 1]) &&
                        isdigit((unsigned char)t.s[i + 1]);
    }
    for (size_t i = 0; i < t.n; i++) {
        const char *m = t.s[i] ? strchr(marks, t.s[i]) : NULL;
        if (m != NULL) {
            if (!at_edge[m - marks] && !number_comma)
                pn_buf_append(out, " ", 1);
        } else {
            pn_buf_append(out, t.s + i, 1);
        }
    }
    /* full stops that no digit follows */
    size_t n = 0;
    for (size_t i = 0; i < out->len; i++)
        if (out->data[i] != '.' || (i + 1 < out->len && isdigit((unsigned char)out->data[i + 1])))
            out->data[n++] = out->data[i];
    out->len = n;
    return !out->failed;
}

static bool append_words(struct pn_buf *out, struct pn_buf *text)
{
    pn_buf_append(text, "", 1); /* ends it */
    for (char *s = text->failed ? NULL : text->data; s != NULL; s++)
        if (*s >= 'A' && *s <= 'Z')
            *s = (char)(*s - 'A' + 'a');
        else if (*s == '\0')
            break;
    for (const char *s = text->failed ? "" : text->data; *s != '\0';) {
        while (is_space(*s))
            s++;
        const char *end = s;
        while (*end != '\0' && !is_space(*end))
            end++;
        const struct view word = written_out((struct view){ s, (size_t)(end - s) });
        if (word.n > 0) {
            pn_buf_str(out, out->len > 0 ? " " : "");
            pn_buf_append(out, word.s, word.n);
        }
        s = end;
    }
    return !out->failed && !text->failed;
}

char *metric_vqa_normal(const char *answer)
{
    struct pn_buf flat = { 0 }, plain = { 0 }, out = { 0 };
    const struct view t = trim(answer);
    pn_buf_append(&flat, t.s, t.n);
    for (size_t i = 0; i < flat.len && !flat.failed; i++)
        if (flat.data[i] == '\n' || flat.data[i] == '\t')
            flat.data[i] = ' ';
    pn_buf_str(&out, "");
    pn_buf_str(&plain, "");
    const bool ok = !flat.failed && !plain.failed && strip_punctuation(&plain, (struct view){ flat.data, flat.len }) &&
                    append_words(&out, &plain);
    pn_buf_free(&flat);
    pn_buf_free(&plain);
    if (!ok)
        pn_buf_free(&out);
    return ok ? out.data : NULL;
}

/* 1 equal after normalisation, 0 not, -1 no memory */
static int vqa_equal(const char *normal, const char *answer)
{
    char *other = metric_vqa_normal(answer);
    const int same = other == NULL ? -1 : strcmp(normal, other) == 0;
    free(other);
    return same;
}

static double vqa(const char *prediction, const struct reference *ref)
{
    char *normal = metric_vqa_normal(prediction);
    size_t said = 0;
    bool ok = normal != NULL;
    for (size_t i = 0; ok && i < ref->n_answers; i++) {
        const int same = vqa_equal(normal, ref->answers[i]);
        ok = same >= 0;
        said += same > 0;
    }
    free(normal);
    if (!ok)
        return -1;
    const double n = (double)ref->n_answers, k = (double)said;
    if (ref->n_answers < 2)
        return k; /* nobody is left when the one is left out */
    /* leave each one out: those who said it have k - 1 others, the rest have k */
    return (k * fmin(1, (k - 1) / 3) + (n - k) * fmin(1, k / 3)) / n;
}

/* ------------------------------------------------------------------------------------- choices */

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || (c & 0x80) != 0 || c == '\'';
}

/* The choice whose letter stands at s, or -1. */
static int letter(char c, int n)
{
    return c >= 'A' && c < 'A' + n ? c - 'A' : -1;
}

/* Behind "answer is" or "answer:", over blanks and marks. */
static int said_outright(const char *text, int n)
{
    int found = -1;
    for (const char *s = text; (s = strcasestr(s, "answer")) != NULL;) {
        s += strlen("answer");
        const char *at = s + strspn(s, " ");
        if (strncasecmp(at, "is", 2) == 0 && !is_word(at[2]))
            at += 2;
        else if (*at != ':')
            continue;
        at += strspn(at, " :*(\"\n");
        if (letter(*at, n) >= 0 && !is_word(at[1]))
            found = letter(*at, n);
    }
    return found;
}

/* The last letter that stands alone, in parentheses if asked. */
static int last_letter(const char *text, int n, bool in_parentheses)
{
    int found = -1;
    for (const char *s = text; *s != '\0'; s++) {
        const char before = s > text ? s[-1] : ' ', after = s[1];
        const bool fits = in_parentheses ? before == '(' && after == ')' : !is_word(before) && !is_word(after);
        if (letter(*s, n) >= 0 && fits)
            found = letter(*s, n);
    }
    return found;
}

/* The choice whose text comes last. */
static int last_text(const char *text, const struct reference *ref)
{
    int found = -1;
    const char *best = NULL;
    for (size_t i = 0; i < ref->n_choices; i++) {
        if (ref->choices[i][0] == '\0')
            continue;
        const char *last = NULL;
        for (const char *s = text; (s = strcasestr(s, ref->choices[i])) != NULL; s++)
            last = s;
        if (last != NULL && (best == NULL || last > best)) {
            best = last;
            found = (int)i;
        }
    }
    return found;
}

int metric_choice(const char *prediction, const struct reference *ref)
{
    const int n = ref->n_choices == 0 ? 8 : ref->n_choices < 26 ? (int)ref->n_choices : 26;
    int c = said_outright(prediction, n);
    if (c < 0)
        c = last_letter(prediction, n, true);
    if (c < 0)
        c = last_letter(prediction, n, false);
    return c >= 0 ? c : last_text(prediction, ref);
}

static double choice(const char *prediction, const struct reference *ref)
{
    const int said = metric_choice(prediction, ref);
    for (size_t i = 0; i < ref->n_answers; i++) {
        const struct view a = trim(ref->answers[i]);
        if (said >= 0 && a.n == 1 && a.s[0] == 'A' + said)
            return 1;
        if (said >= 0 && (size_t)said < ref->n_choices && equal(a, trim(ref->choices[said])))
            return 1;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------- all of them */

double metric_score(enum metric metric, const char *prediction, const struct reference *ref)
{
    if (metric == METRIC_VQA)
        return vqa(prediction, ref);
    if (metric == METRIC_CHOICE)
        return choice(prediction, ref);
    const struct view p = trim(prediction);
    double best = 0;
    for (size_t i = 0; i < ref->n_answers; i++) {
        const struct view a = trim(ref->answers[i]);
        const double s = metric == METRIC_EXACT     ? equal(p, a)
                         : metric == METRIC_RELAXED ? relaxed(p, a)
                                                    : anls(p, a);
        if (s < 0)
            return s;
        best = s > best ? s : best;
    }
    return best;
}

#define Z95 1.959963984540054

struct interval interval_wilson(double k, uint64_t count)
{
    if (count == 0)
        return (struct interval){ 0, 1 };
    const double n = (double)count, p = k / n, z2 = Z95 * Z95 / n;
    const double middle = (p + z2 / 2) / (1 + z2);
    const double half = Z95 * sqrt(p * (1 - p) / n + z2 / (4 * n)) / (1 + z2);
    /* exact at the ends, where rounding would leave a trace */
    return (struct interval){ k <= 0 ? 0 : middle - half, k >= n ? 1 : middle + half };
}

struct interval interval_normal(double sum, double squares, uint64_t count)
{
    const double n = (double)count, mean = count > 0 ? sum / n : 0, var = count > 0 ? squares / n - mean * mean : 0;
    if (count < 2 || var <= 1e-12)
        return interval_wilson(sum, count);
    const double half = Z95 * sqrt(var / (n - 1));
    return (struct interval){ fmax(mean - half, 0), fmin(mean + half, 1) };
}
