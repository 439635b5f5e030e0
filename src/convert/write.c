/* SPDX-License-Identifier: Apache-2.0 */
/* The values on their way: read, checked, quantised and written in stretches of a quarter of a million, by all
 * threads. Every stretch has its place in the file, so the order in which they finish does not matter, and a thread
 * needs memory for one of them only. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/outfile.h"
#include "convert/convert.h"
#include "pool/pool.h"
#include "quant/blocks.h"
#include "quant/quantize.h"

#define STRETCH ((int64_t)1 << 18) /* values; a multiple of every block */

struct stretch {
    const struct pn_out_tensor *t;
    int64_t r0, n_rows, c0, n_cols;
};

struct work {
    const struct pn_plan *p;
    const struct pn_write *w;
    struct pn_outfile *out;   /* NULL: look only */
    size_t data_at;           /* where the data begins in the file */
    int64_t *first, n;        /* [p->n] number of each tensor's first stretch; stretches in all */
    _Atomic uint64_t *bad;    /* [p->n] values that are not finite; NULL: the first one ends the work */
    _Atomic uint64_t done;    /* values */
    double total;
    _Atomic bool stop;
    int *rc;                  /* [threads] */
    int64_t *failed_at;       /* [threads] the stretch it failed at */
    struct puna_error *errs;
};

static int64_t stretches_of(const struct pn_out_tensor *t)
{
    const int64_t cols = t->ne[0];
    if (cols > STRETCH)
        return t->n_rows * ((cols + STRETCH - 1) / STRETCH);
    const int64_t rows = STRETCH / cols;
    return (t->n_rows + rows - 1) / rows;
}

static struct stretch stretch_at(const struct work *k, int64_t i)
{
    size_t lo = 0, hi = k->p->n;
    while (hi - lo > 1) {
        const size_t mid = (lo + hi) / 2;
        if (k->first[mid] <= i)
            lo = mid;
        else
            hi = mid;
    }
    struct stretch s = {.t = &k->p->t[lo]};
    const int64_t cols = s.t->ne[0], at = i - k->first[lo];
    if (cols > STRETCH) {
        const int64_t per_row = (cols + STRETCH - 1) / STRETCH;
        s.r0 = at / per_row;
        s.n_rows = 1;
        s.c0 = at % per_row * STRETCH;
        s.n_cols = cols - s.c0 < STRETCH ? cols - s.c0 : STRETCH;
    } else {
        const int64_t rows = STRETCH / cols;
        s.r0 = at * rows;
        s.n_rows = s.t->n_rows - s.r0 < rows ? s.t->n_rows - s.r0 : rows;
        s.n_cols = cols;
    }
    return s;
}

/* Tell the kernel which pages come next, or that these will not be needed again. A neighbour's page that goes with
 * them is read back from the page cache. */
static void advise(const struct stretch *s, int advice)
{
    const struct pn_tensor *t = s->t->src;
    if (!t)
        return;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const size_t stride = pn_row_bytes(t->type, s->t->ne[0]), lead = pn_row_bytes(t->type, s->c0);
    const uintptr_t from = (uintptr_t)t->data + (size_t)s->r0 * stride + lead;
    const uintptr_t to = from + (size_t)(s->n_rows - 1) * stride + pn_row_bytes(t->type, s->n_cols);
    const uintptr_t start = from & ~(page - 1);
    (void)madvise((void *)start, to - start, advice);
}

static uint64_t count_bad(const float *x, int64_t n, float *largest)
{
    uint64_t bad = 0;
    float most = 0;
    for (int64_t i = 0; i < n; i++) {
        const float a = fabsf(x[i]);
        bad += !(a <= 3.402823466e38f);
        most = a > most ? a : most;
    }
    *largest = most;
    return bad;
}

/* First value that is not finite, for the message. */
static int fail_bad(const struct stretch *s, const float *x, struct puna_error *err)
{
    int64_t i = 0;
    while (isfinite(x[i]))
        i++;
    return pn_fail(err, PUNA_E_NUMERIC, "tensor '%s' has a value that is %s (row %" PRId64 ", column %" PRId64
                   "): the source is damaged; 'puna quantize --check' lists all such tensors",
                   s->t->src ? s->t->src->file_name : s->t->name, isnan(x[i]) ? "not a number" : "infinite",
                   s->r0 + i / s->n_cols, s->c0 + i % s->n_cols);
}

static int convert(struct work *k, const struct stretch *s, float *x, uint8_t *bytes, struct puna_error *err)
{
    const struct pn_out_tensor *t = s->t;
    const int64_t n = s->n_rows * s->n_cols;
    float largest;
    advise(s, MADV_WILLNEED);
    pn_plan_values(k->p, k->w->kern, t, s->r0, s->n_rows, s->c0, s->n_cols, x);
    const uint64_t bad = count_bad(x, n, &largest);
    if (bad && k->bad)
        k->bad[t - k->p->t] += bad;
    else if (bad)
        return fail_bad(s, x, err);
    if (k->out) {
        if (largest > 65504.0f && t->type != PN_F32 && t->type != PN_BF16)
            return pn_fail(err, PUNA_E_NUMERIC, "tensor '%s' has a value of %g, which is too large for %s; keep it "
                           "in BF16 with --override '%s=BF16'", t->name, (double)largest, pn_type_info(t->type)->name,
                           t->name);
        const size_t row = pn_row_bytes(t->type, s->n_cols);
        for (int64_t r = 0; r < s->n_rows; r++) {
            const void *same = pn_plan_bytes(k->p, t, s->r0 + r, s->c0);
            if (same)
                memcpy(bytes + (size_t)r * row, same, row);
            else
                pn_quantize_row(t->type, bytes + (size_t)r * row, x + r * s->n_cols, s->n_cols,
                                t->importance ? t->importance + s->c0 : NULL);
        }
        const size_t at = k->data_at + t->offset + pn_row_bytes(t->type, t->ne[0]) * (size_t)s->r0 +
                          pn_row_bytes(t->type, s->c0);
        const int rc = pn_outfile_write_at(k->out, bytes, row * (size_t)s->n_rows, at, err);
        if (rc)
            return rc;
    }
    advise(s, MADV_DONTNEED);
    return 0;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void run(struct pn_team *team, void *arg)
{
    struct work *k = arg;
    struct puna_error *err = &k->errs[team->tid];
    float *x = malloc((size_t)STRETCH * sizeof *x);
    uint8_t *bytes = k->out ? malloc((size_t)STRETCH * sizeof *x) : NULL;
    const char *phase = k->out ? "quantize" : "check";
    double told = now();
    int64_t i = -1;
    int rc = x && (bytes || !k->out) ? 0 : pn_fail_memory(err, (size_t)STRETCH * 2 * sizeof *x, "values");
    /* stretches are taken in order: when one fails, all before it are done or in work, so the earliest failure is
     * the same for any number of threads */
    for (pn_step(team); rc == 0 && !k->stop && (i = pn_next(team)) < k->n;) {
        const struct stretch s = stretch_at(k, i);
        rc = convert(k, &s, x, bytes, err);
        k->done += (uint64_t)(s.n_rows * s.n_cols);
        if (team->tid == 0 && k->w->progress && now() - told > 0.1) {
            told = now();
            if (rc == 0 && k->w->progress(k->w->progress_user, phase, (double)k->done, k->total))
                rc = pn_fail(err, PUNA_E_CANCELLED, "cancelled");
        }
    }
    if (rc) {
        k->stop = true;
        k->rc[team->tid] = rc;
        k->failed_at[team->tid] = i;
    }
    free(x);
    free(bytes);
}

static int run_all(struct work *k, struct puna_error *err)
{
    const char *phase = k->out ? "quantize" : "check";
    const int n = k->w->threads;
    int rc = 0;
    k->first = pn_calloc_array(k->p->n, sizeof *k->first);
    k->rc = pn_calloc_array((size_t)n, sizeof *k->rc);
    k->failed_at = pn_calloc_array((size_t)n, sizeof *k->failed_at);
    k->errs = pn_calloc_array((size_t)n, sizeof *k->errs);
    if (!k->first || !k->rc || !k->failed_at || !k->errs) {
        rc = pn_fail_memory(err, k->p->n * sizeof *k->first, "the list of work");
    } else {
        for (size_t i = 0; i < k->p->n; i++) {
            k->first[i] = k->n;
            k->n += stretches_of(&k->p->t[i]);
            k->total += (double)(k->p->t[i].n_rows * k->p->t[i].ne[0]);
        }
        pn_pool_run(n, run, k);
        int worst = -1;
        for (int i = 0; i < n; i++)
            if (k->rc[i] && (worst < 0 || k->failed_at[i] < k->failed_at[worst]))
                worst = i;
        if (worst >= 0) {
            rc = k->rc[worst];
            if (err)
                *err = k->errs[worst];
        }
        if (rc == 0 && k->w->progress && k->w->progress(k->w->progress_user, phase, k->total, k->total))
            rc = pn_fail(err, PUNA_E_CANCELLED, "cancelled");
    }
    pn_free(k->first);
    pn_free(k->rc);
    pn_free(k->failed_at);
    pn_free(k->errs);
    return rc ? rc : pn_source_check_lost(k->p->src, err);
}

int pn_plan_write(const struct pn_plan *p, const struct pn_gguf_head *h, const char *path, const struct pn_write *w,
                  struct puna_error *err)
{
    struct pn_buf head = {0};
    struct pn_outfile out = {.fd = -1};
    int rc = pn_gguf_head_finish(h, &head) ? pn_outfile_open(&out, path, err)
                                           : pn_fail_memory(err, h->kv.len + h->table.len, "the header");
    if (rc == 0) {
        struct work k = {.p = p, .w = w, .out = &out, .data_at = head.len};
        rc = pn_outfile_reserve(&out, head.len + h->data_bytes, err);
        if (rc == 0)
            rc = pn_outfile_write_at(&out, head.data, head.len, 0, err);
        if (rc == 0)
            rc = run_all(&k, err);
        if (rc == 0)
            rc = pn_outfile_commit(&out, err);
        else
            pn_outfile_abort(&out);
    }
    pn_buf_free(&head);
    return rc;
}

int pn_plan_scan(const struct pn_plan *p, const struct pn_write *w, uint64_t *bad, struct puna_error *err)
{
    struct work k = {.p = p, .w = w};
    k.bad = pn_calloc_array(p->n, sizeof *k.bad);
    if (!k.bad)
        return pn_fail_memory(err, p->n * sizeof *k.bad, "the counts");
    const int rc = run_all(&k, err);
    for (size_t i = 0; i < p->n; i++)
        bad[i] = k.bad[i];
    pn_free((void *)k.bad);
    return rc;
}
