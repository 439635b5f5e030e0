/* SPDX-License-Identifier: Apache-2.0 */
/* The text decoder: one pass over the layers for a batch of rows, by all threads of a team.
 *
 * A self layer is: norm | q k v, rope, store k v, attention | o, add | norm | gate, up, silu | down, add |
 * The bars are barriers: six per layer. With few rows (decode) every thread normalises them for itself, which is
 * cheaper than waiting, and four are left. Between q k v and attention there is none: the last product of a KV head
 * to be done stores its keys and values and signals that its attention may begin. Nor is there one before o and
 * down take rows in int8 or bf16: the last task to write a super-block of columns brings it to that form.
 *
 * A cross layer works on the rows that see a picture, gathered by index: under Meta's rule the others are
 * left untouched, attention and MLP both (Hugging Face lets rows before the first picture attend to every
 * picture's every token, padding tiles included, and zeroes only their MLP: hf_rows). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/model.h"

#define PRIVATE_ROWS 4 /* up to here each thread prepares a product's input for itself */

/* Rows of an index list that look at the same keys, and the work of one (KV head, block) task. */
struct block {
    int32_t row0, n_rows;      /* positions in the index list */
    int32_t stretch0, n_stretch; /* self: the segment; cross: pictures */
    bool all_keys;             /* cross, hf_rows: padding tiles too */
    int32_t chunk0, n_chunks;  /* of PN_ATTN_CHUNK keys, numbered over all blocks: slots for split attention */
};

struct rows {
    int32_t *index; /* [n] rows of the batch */
    int32_t n;
    struct block *blocks;
    int32_t n_blocks, n_chunks;
};

struct pn_scratch {
    int32_t max_rows, n_threads;
    float *x;        /* [rows][d] residual stream */
    float *xn;       /* [rows][d] normalised */
    float *q;        /* [rows][n_head*hd]; attention writes its output over it */
    float *k, *v;    /* [rows][n_kv*hd] */
    float *g;        /* [rows][d_ff] */
    float *cs, *sn;  /* [rows][hd/2] */
    float *lora;     /* pn_mm.lora */
    int32_t *pos, *seg; /* [rows] */
    uint8_t *forms;  /* int8 and bf16 forms of xn */
    uint8_t *forms_out; /* ... of q after attention, or of g */
    float *parts;    /* split attention: [n_parts] blocks of part rows */
    /* who is last (pn_last), and what has been signalled: see project, attention, mlp */
    _Atomic uint32_t *projected, *ready; /* [n_kv] tasks of a head's q k v; layers whose q k v are done */
    _Atomic uint32_t *split;             /* [PRIVATE_ROWS][n_kv] chunks of a block and head */
    _Atomic uint32_t *attended;          /* [rows][n_kv] heads of a block, by groups of whole super-blocks */
    _Atomic uint32_t *gated;             /* [d_ff/256] slabs of a super-block */
    size_t parts_floats;
    struct rows self, attn, mlp;
    struct thread {
        float *xn, *slab;
        uint8_t *forms;
        struct pn_attn_scratch attn;
    } *thread;
    void *mem;
};

/* All forms that the text's weights want. */
static int text_forms(const struct pn_model *m)
{
    const struct pn_mm mm = {.kern = &m->kern};
    const struct pn_weight *output = &m->output;
    int forms = pn_forms(&mm, 1, &output);
    for (int32_t i = 0; i < m->hp.n_layer; i++) {
        const struct pn_layer *l = &m->layers[i];
        forms |= pn_forms(&mm, 7, (const struct pn_weight *[]){&l->wq, &l->wk, &l->wv, &l->wo, &l->gate, &l->up,
                                                               &l->down});
    }
    return forms;
}

/* Carve the scratch out of one zeroed block, or count its bytes (mem NULL). */
static size_t layout(struct pn_scratch *s, const struct pn_model *m, int32_t rows, int32_t max_keys,
                     uint8_t *mem)
{
    const struct pn_hparams *hp = &m->hp;
    const size_t r = (size_t)rows, d = (size_t)hp->d_model, dq = (size_t)hp->n_head * (size_t)hp->head_dim,
                 kvh = (size_t)hp->n_kv_head, dkv = kvh * (size_t)hp->head_dim, ff = (size_t)hp->d_ff;
    const int forms = text_forms(m);
    size_t at = 0;
#define TAKE(ptr, bytes)                                \
    do {                                                \
        if (mem)                                        \
            (ptr) = (void *)(mem + at);                 \
        at += ((size_t)(bytes) + 63) & ~(size_t)63;     \
    } while (0)
    TAKE(s->x, r * d * 4);
    TAKE(s->xn, r * d * 4);
    TAKE(s->q, r * dq * 4);
    TAKE(s->k, r * dkv * 4);
    TAKE(s->v, r * dkv * 4);
    TAKE(s->g, r * ff * 4);
    TAKE(s->cs, r * (size_t)hp->head_dim * 2);
    TAKE(s->sn, r * (size_t)hp->head_dim * 2);
    TAKE(s->lora, PN_LORA_WEIGHTS * r * (size_t)m->lora_rank * 4);
    TAKE(s->pos, r * 4);
    TAKE(s->seg, r * 4);
    TAKE(s->forms, pn_forms_bytes(forms, rows, (int32_t)d));
    TAKE(s->forms_out, pn_forms_bytes(forms, rows, (int32_t)(dq > ff ? dq : ff)));
    TAKE(s->projected, kvh * 4);
    TAKE(s->ready, kvh * 4);
    TAKE(s->split, PRIVATE_ROWS * kvh * 4);
    TAKE(s->attended, r * kvh * 4);
    TAKE(s->gated, (ff + PN_QK - 1) / PN_QK * 4);
    /* one decode step of PRIVATE_ROWS rows against a full context */
    const size_t group = (size_t)(hp->n_head / hp->n_kv_head);
    const size_t chunks = (size_t)max_keys / PN_ATTN_CHUNK + 1;
    s->parts_floats = PRIVATE_ROWS * chunks * kvh * group * pn_attn_part_floats(hp->head_dim);
    TAKE(s->parts, s->parts_floats * 4);
    struct rows *lists[] = {&s->self, &s->attn, &s->mlp};
    for (int i = 0; i < 3; i++) {
        TAKE(lists[i]->index, r * 4);
        TAKE(lists[i]->blocks, r * sizeof(struct block));
    }
    for (int i = 0; i < s->n_threads; i++) {
        struct thread dummy, *th = s->thread ? &s->thread[i] : &dummy;
        TAKE(th->xn, PRIVATE_ROWS * d * 4);
        TAKE(th->forms, pn_forms_bytes(forms, PRIVATE_ROWS, (int32_t)d));
        TAKE(th->slab, pn_slab_floats(rows) * 4);
        float *attn = NULL;
        TAKE(attn, pn_attn_scratch_floats(hp->head_dim) * 4);
        if (mem)
            pn_attn_scratch_init(&th->attn, attn, hp->head_dim);
    }
#undef TAKE
    return at;
}

size_t pn_scratch_bytes(const struct pn_model *m, int32_t max_rows, int32_t max_keys)
{
    struct pn_scratch s = {.max_rows = max_rows, .n_threads = m->threads};
    return layout(&s, m, max_rows, max_keys, NULL);
}

int pn_scratch_open(struct pn_scratch **out, const struct pn_model *m, int32_t max_rows, int32_t max_keys,
                    struct puna_error *err)
{
    *out = NULL;
    const size_t bytes = pn_scratch_bytes(m, max_rows, max_keys);
    struct pn_scratch *s = calloc(1, sizeof *s);
    if (s) {
        s->max_rows = max_rows;
        s->n_threads = m->threads;
        s->thread = calloc((size_t)m->threads, sizeof *s->thread);
        s->mem = pn_calloc_array(bytes, 1);
    }
    if (!s || !s->thread || !s->mem) {
        pn_scratch_close(&s);
        return pn_fail_memory(err, bytes, "scratch");
    }
    pn_huge_pages(s->mem, bytes);
    layout(s, m, max_rows, max_keys, s->mem);
    *out = s;
    return 0;
}

void pn_scratch_close(struct pn_scratch **s)
{
    if (*s) {
        free((*s)->thread);
        pn_free((*s)->mem);
        free(*s);
    }
    *s = NULL;
}

/* ------------------------------------------------------------------------- one pass */

struct pass {
    const struct pn_model *m;
    const struct pn_kern *kern;
    struct pn_mm mm;
    const struct pn_batch *b;
    struct pn_scratch *s;
    float *logits;
    const _Atomic int *cancel;
    _Atomic int stop;
};

static int32_t chunks_of(int32_t n_keys)
{
    return (n_keys + PN_ATTN_CHUNK - 1) / PN_ATTN_CHUNK;
}

static void add_block(struct rows *l, const struct pass *p, int32_t row0, int32_t n, int32_t stretch0,
                      int32_t n_stretch, bool all, int32_t most_keys)
{
    struct block *k = &l->blocks[l->n_blocks++];
    *k = (struct block){row0, n, stretch0, n_stretch, all, l->n_chunks, 0};
    if (most_keys) {
        k->n_chunks = chunks_of(most_keys);
    } else {
        for (int32_t i = 0; i < n_stretch; i++) {
            const struct pn_cross *c = p->b->cross[stretch0 + i];
            k->n_chunks += chunks_of(all ? c->n_keys_all : c->n_keys);
        }
    }
    l->n_chunks += k->n_chunks;
}

/* Which rows take part where, cut into blocks of at most PN_ATTN_ROWS query rows per KV head, or half as many where
 * there would be fewer than four blocks a thread. */
static void plan(struct pass *p)
{
    const struct pn_batch *b = p->b;
    struct pn_scratch *s = p->s;
    const int32_t group = p->m->hp.n_head / p->m->hp.n_kv_head;
    const int few = b->n_rows * p->m->hp.n_head < 4 * s->n_threads * PN_ATTN_ROWS;
    const int32_t block = few ? PN_ATTN_ROWS / 2 : PN_ATTN_ROWS, most = group < block ? block / group : 1;
    s->self.n = s->self.n_blocks = s->self.n_chunks = 0;
    s->attn.n = s->attn.n_blocks = s->attn.n_chunks = 0;
    s->mlp.n = 0;
    for (int32_t h = 0; h < p->m->hp.n_kv_head; h++)
        atomic_init(&s->ready[h], 0);
    for (int32_t g = 0; g < b->n_segs; g++) {
        const struct pn_segment *sg = &b->segs[g];
        for (int32_t i = 0; i < sg->n_rows; i++) {
            s->pos[sg->row0 + i] = sg->pos0 + i;
            s->seg[sg->row0 + i] = g;
        }
        for (int32_t i = 0; i < sg->n_rows; i += most) {
            const int32_t n = sg->n_rows - i < most ? sg->n_rows - i : most;
            add_block(&s->self, p, sg->row0 + i, n, g, 1, false, sg->pos0 + i + n);
        }
    }
    for (int32_t i = 0; i < b->n_rows; i++)
        s->self.index[s->self.n++] = i;
    int32_t lo = 0, hi = 0, first = 0;
    bool all = false;
    for (int32_t i = 0; i <= b->n_rows; i++) {
        int32_t row_lo = 0, row_hi = 0;
        bool row_all = false;
        if (i < b->n_rows) {
            row_lo = b->rows[i].img_lo;
            row_hi = b->rows[i].img_hi;
            if (row_lo < row_hi) {
                s->mlp.index[s->mlp.n++] = i;
            } else if (b->hf_rows && b->n_cross) {
                row_lo = 0;
                row_hi = b->n_cross;
                row_all = true;
            }
        }
        /* close the open block when this row looks elsewhere (or at nothing), or the block is full */
        if (first < s->attn.n && (i == b->n_rows || row_lo != lo || row_hi != hi || row_all != all ||
                                  s->attn.n - first == most)) {
            add_block(&s->attn, p, first, s->attn.n - first, lo, hi - lo, all, 0);
            first = s->attn.n;
        }
        if (row_lo < row_hi)
            s->attn.index[s->attn.n++] = i;
        lo = row_lo;
        hi = row_hi;
        all = row_all;
    }
}

/* Normalised input of the next products: with few rows each thread prepares all of them for itself. */
static struct pn_in stage(struct pass *p, struct pn_team *t, const struct rows *rows, const struct pn_vec *norm,
                          int n_w, const struct pn_weight *const *w)
{
    struct pn_scratch *s = p->s;
    const struct thread *th = &s->thread[t->tid];
    const bool own = rows->n <= PRIVATE_ROWS;
    const struct pn_stage_mem mem = {own ? th->xn : s->xn, own ? th->forms : s->forms, own};
    const struct pn_rows x = {s->x, rows->index, rows->n, w[0]->k};
    const struct pn_norm rms = {norm->v, NULL, p->m->hp.rms_eps};
    return pn_stage(&p->mm, t, &x, &rms, pn_forms(&p->mm, n_w, w), &mem);
}

/* Input of o and down: x, and room for the form that w wants, which the step before fills in. */
static struct pn_in inner(struct pass *p, const float *x, int32_t m, const struct pn_weight *w)
{
    return pn_in_of(x, m, w->k, pn_forms(&p->mm, 1, &w), p->s->forms_out);
}

/* x[index[i]] += scale * (in * w^T) */
static void add_to_x(struct pass *p, struct pn_team *t, const struct pn_in *in, const struct pn_weight *w,
                     const struct rows *to, float scale)
{
    pn_product_add(&p->mm, t, in, w, NULL, scale, p->s->x, to->index, p->s->thread[t->tid].slab);
}

/* x += scale * down(silu(gate(norm x)) * up(norm x)) for the rows of the list */
static void mlp(struct pass *p, struct pn_team *t, const struct pn_layer *l, const struct rows *rows, float scale)
{
    struct pn_scratch *s = p->s;
    const struct pn_weight *w[] = {&l->gate, &l->up};
    const struct pn_in in = stage(p, t, rows, &l->ffn_norm, 2, w);
    const struct pn_in mid = inner(p, s->g, rows->n, &l->down);
    const struct pn_then then = {&mid, s->gated};
    pn_product_swiglu(&p->mm, t, &in, &l->gate, &l->up, s->g, &then, s->thread[t->tid].slab);
    add_to_x(p, t, &mid, &l->down, rows, scale);
}

/* ------------------------------------------------------------------------- attention */

/* The block's query rows of KV head h, rotated or normalised, scaled, gathered into scratch: row i*group+g. */
static void gather_q(struct pass *p, struct pn_attn_scratch *as, const struct pn_layer *l,
                     const struct block *bl, int32_t h)
{
    const struct pn_hparams *hp = &p->m->hp;
    const int32_t hd = hp->head_dim, group = hp->n_head / hp->n_kv_head;
    const float scale = 1.0f / sqrtf((float)hd);
    for (int32_t i = 0; i < bl->n_rows; i++) {
        const size_t at = (size_t)(bl->row0 + i);
        for (int32_t g = 0; g < group; g++) {
            const float *src = p->s->q + (at * (size_t)hp->n_head + (size_t)(h * group + g)) * (size_t)hd;
            float *q = as->q + (size_t)(i * group + g) * (size_t)hd;
            if (l->cross) {
                p->kern->rmsnorm(q, src, l->q_norm.v, hd, hp->rms_eps);
            } else {
                const size_t half = (size_t)hd / 2;
                memcpy(q, src, (size_t)hd * sizeof *q);
                (p->m->rope_inter ? p->kern->rope_inter : p->kern->rope_half)(
                    q, p->s->cs + at * half, p->s->sn + at * half, hd);
            }
            for (int32_t d = 0; d < hd; d++)
                q[d] *= scale;
        }
    }
}

/* Keys of stretch i of the block for KV head h; sets the rows' key counts. */
static struct pn_keys stretch(struct pass *p, struct pn_attn_scratch *as, const struct pn_layer *l,
                              const struct block *bl, int32_t i, int32_t h)
{
    const int32_t kvh = p->m->hp.n_kv_head, group = p->m->hp.n_head / kvh;
    const size_t at = (size_t)l->ord * (size_t)kvh + (size_t)h;
    if (l->cross) {
        const struct pn_cross *c = p->b->cross[bl->stretch0 + i];
        for (int32_t r = 0; r < bl->n_rows * group; r++)
            as->n_keys[r] = bl->all_keys ? c->n_keys_all : c->n_keys;
        return (struct pn_keys){c->kv[at], bl->all_keys ? c->bias : NULL};
    }
    for (int32_t r = 0; r < bl->n_rows * group; r++)
        as->n_keys[r] = p->s->pos[bl->row0 + r / group] + 1;
    return (struct pn_keys){p->b->segs[bl->stretch0].kv->view[at], NULL};
}

static bool use_bf16(const struct pass *p, const struct pn_keys *k)
{
    return !p->b->precise && pn_attn_is_bf16(p->kern, &k->kv);
}

/* Finished rows of head h go back over the q they came from; the last head of those that share super-blocks of
 * columns brings these to the form that o wants. */
static void scatter_out(struct pass *p, const float *acc, const struct rows *rows, const struct block *bl, int32_t h,
                        const struct pn_in *out)
{
    const struct pn_hparams *hp = &p->m->hp;
    const int32_t hd = hp->head_dim, group = hp->n_head / hp->n_kv_head;
    for (int32_t i = 0; i < bl->n_rows; i++)
        for (int32_t g = 0; g < group; g++)
            p->kern->attn_finish(p->s->q + ((size_t)(bl->row0 + i) * (size_t)hp->n_head +
                                            (size_t)(h * group + g)) * (size_t)hd,
                                 acc + (size_t)(i * group + g) * pn_attn_part_floats(hd), hd);
    if (!out->forms)
        return;
    int32_t n = 1; /* heads of a group whose columns are whole super-blocks; the last group may have fewer */
    while (n * group * hd % PN_QK)
        n++;
    const int32_t kvh = hp->n_kv_head, first = h / n * n, end = first + n < kvh ? first + n : kvh;
    if (pn_last(&p->s->attended[(bl - rows->blocks) * kvh + first], (uint32_t)(end - first))) {
        const int32_t b0 = first * group * hd / PN_QK, b1 = (end * group * hd + PN_QK - 1) / PN_QK;
        pn_prepare(&p->mm, out, bl->row0, bl->n_rows, b0, b1 - b0);
    }
}

/* Keys and values of all rows of a segment, for one KV head, into the cache. */
static void store_kv(struct pass *p, const struct pn_layer *l, const struct pn_segment *sg, int32_t h)
{
    const struct pn_hparams *hp = &p->m->hp;
    const size_t hd = (size_t)hp->head_dim, half = hd / 2;
    const struct pn_kv_view *kv = &sg->kv->view[(size_t)l->ord * (size_t)hp->n_kv_head + (size_t)h];
    for (int32_t i = 0; i < sg->n_rows; i++) {
        const size_t r = (size_t)(sg->row0 + i), at = (r * (size_t)hp->n_kv_head + (size_t)h) * hd;
        (p->m->rope_inter ? p->kern->rope_inter : p->kern->rope_half)(
            p->s->k + at, p->s->cs + r * half, p->s->sn + r * half, hp->head_dim);
        p->kern->kv_put(kv, sg->pos0 + i, p->s->k + at, p->s->v + at);
    }
}

/* What the products before attention are cut into: tasks of KV head after KV head. */
struct projection {
    struct pn_out *out; /* q; k and v too in a self layer */
    int n_out;
    int32_t slab[3], end[3]; /* weight rows of a task; tasks of a head in this output and those before */
};

static int32_t tasks_of_head(const struct projection *pr)
{
    return pr->end[pr->n_out - 1];
}

static struct projection cut_by_head(const struct pass *p, const struct pn_team *t, struct pn_out *out, int n_out,
                                     int32_t m)
{
    struct projection pr = {.out = out, .n_out = n_out};
    for (int j = 0, end = 0; j < n_out; j++) {
        const int32_t rows = out[j].w->n / p->m->hp.n_kv_head;
        pr.slab[j] = pn_slab_rows(out[j].w->n, m, t->n);
        pr.end[j] = end += (rows + pr.slab[j] - 1) / pr.slab[j];
    }
    return pr;
}

/* Task i; the last of its head lets the head's attention begin. */
static void project(struct pass *p, struct pn_team *t, const struct pn_layer *l, const struct pn_in *in,
                    const struct projection *pr, int32_t i, uint32_t layer)
{
    const int32_t per_head = tasks_of_head(pr), h = i / per_head, at = i % per_head;
    int j = 0;
    while (at >= pr->end[j])
        j++;
    const int32_t rows = pr->out[j].w->n / p->m->hp.n_kv_head;
    const int32_t n0 = (at - (j ? pr->end[j - 1] : 0)) * pr->slab[j], n1 = n0 + pr->slab[j];
    pn_product_rows(&p->mm, in, &pr->out[j], h * rows + n0, h * rows + (n1 < rows ? n1 : rows));
    if (!pn_last(&p->s->projected[h], (uint32_t)per_head))
        return;
    for (int32_t g = 0; !l->cross && g < p->b->n_segs; g++)
        store_kv(p, l, &p->b->segs[g], h);
    pn_signal(t, &p->s->ready[h], layer);
}

/* Attention of a block of rows with the keys of KV head h. */
static void attend(struct pass *p, struct pn_team *t, const struct pn_layer *l, const struct rows *rows,
                   const struct block *bl, int32_t h, const struct pn_in *out)
{
    struct pn_attn_scratch *as = &p->s->thread[t->tid].attn;
    gather_q(p, as, l, bl, h);
    for (int32_t j = 0; j < bl->n_stretch; j++) {
        const struct pn_keys ks = stretch(p, as, l, bl, j, h);
        pn_attn_rows(p->kern, as, bl->n_rows * (p->m->hp.n_head / p->m->hp.n_kv_head), &ks, j == 0, use_bf16(p, &ks));
    }
    scatter_out(p, as->acc, rows, bl, h, out);
}

/* Long contexts and more threads than KV heads: the keys are cut at chunk borders, one task per chunk, and the last
 * of a block's chunks merges them in order. The same operations in the same order as pn_attn_rows, so the same
 * bits. */
static void attend_chunk(struct pass *p, struct pn_team *t, const struct pn_layer *l, const struct rows *rows,
                         int32_t chunk, int32_t h, const struct pn_in *out)
{
    struct pn_attn_scratch *as = &p->s->thread[t->tid].attn;
    const int32_t kvh = p->m->hp.n_kv_head, hd = p->m->hp.head_dim, group = p->m->hp.n_head / kvh;
    const size_t pf = pn_attn_part_floats(hd), slot = (size_t)(PRIVATE_ROWS * group) * pf, stride = (size_t)kvh * slot;
    const struct block *bl = rows->blocks;
    while (bl->chunk0 + bl->n_chunks <= chunk)
        bl++;
    int32_t rest = chunk - bl->chunk0, st = 0;
    if (l->cross)
        for (;; st++) {
            const struct pn_cross *c = p->b->cross[bl->stretch0 + st];
            const int32_t n = chunks_of(bl->all_keys ? c->n_keys_all : c->n_keys);
            if (rest < n)
                break;
            rest -= n;
        }
    gather_q(p, as, l, bl, h);
    const struct pn_keys ks = stretch(p, as, l, bl, st, h);
    float *parts = p->s->parts + (size_t)h * slot;
    (use_bf16(p, &ks) ? p->kern->attn_bf16 : p->kern->attn)(parts + (size_t)chunk * stride, as->q, (size_t)hd,
                                                            bl->n_rows * group, as->n_keys, &ks.kv,
                                                            (int64_t)rest * PN_ATTN_CHUNK, ks.bias);
    if (!pn_last(&p->s->split[(bl - rows->blocks) * kvh + h], (uint32_t)bl->n_chunks))
        return;
    float *acc = parts + (size_t)bl->chunk0 * stride;
    for (int32_t c = 1; c < bl->n_chunks; c++)
        for (int32_t r = 0; r < bl->n_rows * group; r++)
            p->kern->attn_merge(acc + (size_t)r * pf, acc + (size_t)c * stride + (size_t)r * pf, hd);
    scatter_out(p, acc, rows, bl, h, out);
}

/* q = in * wq^T (k, v likewise, into the cache), then attention over q, its output in the form that o wants */
static void attention(struct pass *p, struct pn_team *t, const struct pn_layer *l, const struct rows *rows,
                      const struct pn_in *in, struct pn_out *outs, int n_out, const struct pn_in *out)
{
    const struct pn_scratch *s = p->s;
    const int32_t kvh = p->m->hp.n_kv_head, group = p->m->hp.n_head / kvh;
    const int64_t n_tasks = (int64_t)rows->n_blocks * kvh;
    const size_t slot = (size_t)(PRIVATE_ROWS * group) * pn_attn_part_floats(p->m->hp.head_dim);
    const bool split = rows->n <= PRIVATE_ROWS && rows->n_chunks > rows->n_blocks && n_tasks % t->n &&
                       n_tasks < 8 * t->n && (size_t)rows->n_chunks * (size_t)kvh * slot <= s->parts_floats;
    const uint32_t layer = (uint32_t)(l - p->m->layers) + 1;
    pn_products_begin(&p->mm, t, in, n_out, outs);
    const struct projection pr = cut_by_head(p, t, outs, n_out, in->m);
    const int64_t first = (int64_t)tasks_of_head(&pr) * kvh;
    const int64_t end = first + (split ? (int64_t)rows->n_chunks * kvh : n_tasks);
    int64_t i;
    for (pn_step(t); (i = pn_next(t)) < end;) {
        if (i < first) {
            project(p, t, l, in, &pr, (int32_t)i, layer);
            continue;
        }
        const int32_t part = (int32_t)((i - first) / kvh), h = (int32_t)((i - first) % kvh);
        pn_await(t, &s->ready[h], layer);
        if (split)
            attend_chunk(p, t, l, rows, part, h, out);
        else
            attend(p, t, l, rows, &rows->blocks[rows->n_blocks - 1 - part], h, out); /* the longest first */
    }
    pn_barrier(t);
}

/* ------------------------------------------------------------------------- layers */

static void self_layer(struct pass *p, struct pn_team *t, const struct pn_layer *l)
{
    struct pn_scratch *s = p->s;
    const struct rows *rows = &s->self;
    const struct pn_weight *w[] = {&l->wq, &l->wk, &l->wv};
    const struct pn_in in = stage(p, t, rows, &l->attn_norm, 3, w), out = inner(p, s->q, rows->n, &l->wo);
    attention(p, t, l, rows, &in, (struct pn_out[]){{.w = &l->wq, .c = s->q}, {.w = &l->wk, .c = s->k},
                                                    {.w = &l->wv, .c = s->v}}, 3, &out);
    add_to_x(p, t, &out, &l->wo, rows, 1.0f);
    mlp(p, t, l, rows, 1.0f);
}

static void cross_layer(struct pass *p, struct pn_team *t, const struct pn_layer *l)
{
    struct pn_scratch *s = p->s;
    const struct rows *rows = &s->attn;
    const struct pn_weight *w[] = {&l->wq};
    const struct pn_in in = stage(p, t, rows, &l->attn_norm, 1, w), out = inner(p, s->q, rows->n, &l->wo);
    attention(p, t, l, rows, &in, &(struct pn_out){.w = &l->wq, .c = s->q}, 1, &out);
    add_to_x(p, t, &out, &l->wo, rows, l->attn_gate.v[0]);
    if (s->mlp.n)
        mlp(p, t, l, &s->mlp, l->mlp_gate.v[0]);
}

static void embed(struct pass *p, struct pn_team *t)
{
    struct pn_scratch *s = p->s;
    const struct pn_hparams *hp = &p->m->hp;
    const int32_t half = hp->head_dim / 2;
    int64_t i;
    for (pn_step(t); (i = pn_next(t)) < p->b->n_rows;) {
        pn_weight_row(p->kern, &p->m->embd, p->b->rows[i].token, 0, hp->d_model,
                      s->x + (size_t)i * (size_t)hp->d_model);
        for (int32_t d = 0; d < half; d++) {
            const float a = (float)s->pos[i] * p->m->inv_freq[d];
            s->cs[i * half + d] = cosf(a);
            s->sn[i * half + d] = sinf(a);
        }
    }
    pn_barrier(t);
}

static void forward(struct pn_team *t, void *arg)
{
    struct pass *p = arg;
    const struct pn_model *m = p->m;
    struct pn_scratch *s = p->s;
    embed(p, t);
    for (int32_t i = 0; i < m->hp.n_layer; i++) {
        const struct pn_layer *l = &m->layers[i];
        /* One thread looks; the layer's barriers make all see the same answer at the next layer's start. */
        if (atomic_load_explicit(&p->stop, memory_order_relaxed) == i + 1)
            return;
        if (t->tid == 0 && p->cancel && atomic_load_explicit(p->cancel, memory_order_relaxed))
            atomic_store_explicit(&p->stop, i + 2, memory_order_relaxed);
        if (!l->cross)
            self_layer(p, t, l);
        else if (s->attn.n)
            cross_layer(p, t, l);
        else
            pn_barrier(t); /* keeps the cancel protocol: a barrier between two looks */
    }
    const int32_t first = p->b->first_logit_row, n = p->b->n_rows - first;
    if (n <= 0)
        return;
    const struct pn_weight *w[] = {&m->output};
    const struct pn_in in = stage(p, t, &(struct rows){.index = s->self.index + first, .n = n}, &m->output_norm, 1, w);
    pn_products(&p->mm, t, &in, 1, &(struct pn_out){.w = &m->output, .c = p->logits});
}

int pn_forward(const struct pn_model *m, const struct pn_batch *b, struct pn_scratch *s, float *logits,
               const _Atomic int *cancel)
{
    struct pass p = {.m = m, .kern = &m->kern, .mm = {&m->kern, b->precise, b->observer, s->lora},
                     .b = b, .s = s, .logits = logits, .cancel = cancel};
    plan(&p);
    pn_pool_run(m->threads, forward, &p);
    return atomic_load(&p.stop) ? PUNA_E_CANCELLED : 0;
}
