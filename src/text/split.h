/* SPDX-License-Identifier: Apache-2.0 */
/* The pre-tokenizer: cuts text into the pieces that BPE works on. It is a regular expression,
 * applied from left to right; each match is a piece, and so is what lies between two matches.
 *
 * Llama 3's own expression runs as a hand-written scanner: linear for every input (the expression,
 * taken literally, looks for a newline behind every space of a long run of spaces) and several
 * times faster. Any other expression goes through PCRE2.
 *
 * Characters: the scanner asks utf8proc, so code points assigned after its Unicode version are
 * neither letters nor numbers, whatever a newer reference says. PCRE2's \s also takes U+180E, which
 * has been no white space in Unicode since 6.3; the scanner does not.
 *
 * A byte that is not part of valid UTF-8 is a piece of its own, and text on both of its sides is
 * cut as if it ended there. */
#ifndef PN_TEXT_SPLIT_H
#define PN_TEXT_SPLIT_H

#include <stddef.h>

struct puna_error;

/* The expressions of Llama 3 and of GPT-2 (what ByteLevel with use_regex does). */
extern const char pn_split_llama3[];
extern const char pn_split_gpt2[];

struct pn_split; /* a compiled expression: immutable, any number of threads */

/* label names the file in errors. PUNA_E_FORMAT when the expression does not compile. */
int pn_split_new(struct pn_split **out, const char *regex, size_t len, const char *label,
                 struct puna_error *err);
void pn_split_free(struct pn_split *s);

/* One pass over a text. The text must stay in place until pn_split_end. */
struct pn_split_run;
int pn_split_begin(struct pn_split_run **out, const struct pn_split *s, struct puna_error *err);
void pn_split_text(struct pn_split_run *r, const char *text,
                   size_t n); /* start (again) with a text */
/* 1 and the length of the next piece (pieces are contiguous, never empty); 0 at the end;
 * PUNA_E_LIMIT when the expression takes too many steps. */
int pn_split_next(struct pn_split_run *r, size_t *len, struct puna_error *err);
void pn_split_end(struct pn_split_run *r);

#endif
