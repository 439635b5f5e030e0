/* SPDX-License-Identifier: Apache-2.0 */
/* Hyper-parameters, bound weights, and the forward passes. Immutable after pn_model_bind, except that the
 * small vectors of the picture side (norms, biases, gates of the vision tower and the cross layers) are
 * read from the file when the first picture comes: a text-only run then never touches those pages. */
#ifndef PN_MODEL_H
#define PN_MODEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "file/source.h"
#include "kern/kern.h"
#include "pool/pool.h"

struct puna_error;

#define PN_MAX_V_DIM 32768       /* vision width the encoder's scratch is made for */
#define PN_MAX_V_TOKENS (1 << 20) /* tokens of one picture */

struct pn_lora;

/* A matrix W[n][k] as it lies in the file. */
struct pn_weight {
    const uint8_t *data;
    size_t row_bytes;
    enum pn_type type;
    int32_t n, k;
    int32_t id;       /* 0 .. the model's n_weights - 1; the same for both uses of a tied embedding */
    const char *name; /* the tensor's name in Ollama's combined GGUF layout, whatever the file is */
    const struct pn_weight *next; /* bound before this one */
    const float *sums;    /* [n] of its rows, for inputs that are centred; NULL in all but copies (w8a8.c) */
    const struct pn_weight *origin; /* of a copy: the weight in floats; else NULL */
    struct pn_lora *lora; /* what adapters add to it; NULL: nothing */
};

/* A small vector: where it lies, and its f32 copy once read (text norms at open, the rest lazily). */
struct pn_vec {
    const struct pn_tensor *t;
    float *v; /* [n]; NULL until read */
    int32_t n;
};

struct pn_layer {
    bool cross;
    int32_t ord;                                    /* index among the layers of its kind */
    struct pn_vec attn_norm, ffn_norm;              /* [d_model] */
    struct pn_weight wq, wk, wv, wo;                /* [n_head*hd][d], [n_kv*hd][d] x2, [d][n_head*hd] */
    struct pn_weight gate, up, down;                /* [d_ff][d] x2, [d][d_ff] */
    struct pn_vec q_norm, k_norm;                   /* cross: [head_dim] */
    struct pn_vec attn_gate, mlp_gate;              /* cross: [1]; after reading: tanh applied */
};

struct pn_vlayer {
    struct pn_vec ln1_w, ln1_b, ln2_w, ln2_b;       /* [v_dim] */
    struct pn_weight wq, wk, wv, wo;                /* [v_dim][v_dim] */
    struct pn_weight fc1, fc2;                      /* [v_ff][v_dim], [v_dim][v_ff] */
    struct pn_vec fc1_b, fc2_b;
    struct pn_vec gate_attn, gate_ffn;              /* global layers: [1], tanh applied after reading */
};

struct pn_vision {
    int32_t grid, n_pos, n_pad;  /* patches per side; grid^2 + 1; zero tokens that fill a tile to 8 */
    int32_t n_out;               /* v_dim * (1 + n_inter) */
    struct pn_weight patch;      /* [v_dim][channels*patch*patch] */
    struct pn_vec class_embd, pre_ln_w, pre_ln_b, post_ln_w, post_ln_b;
    struct pn_weight pos_embd;   /* [n_pos][v_dim] */
    struct pn_weight tile_embd;  /* [n_ratio+1][v_tiles*n_pos*v_dim] */
    struct pn_weight pre_tile, post_tile; /* [n_ratio+1][v_tiles*v_dim] */
    struct pn_vec pos_gate;      /* after reading: 1 - tanh g */
    struct pn_vec tile_gate;     /* after reading: tanh g, of the same g (a tensor of its own in GGUF only) */
    struct pn_vec pre_gate, post_gate;
    struct pn_vlayer *local, *global;
    struct pn_weight proj;       /* [d_model][n_out] */
    struct pn_vec proj_b;
};

struct pn_model {
    struct pn_source *src;
    struct pn_hparams hp;
    struct pn_kern kern;
    int threads;
    struct pn_arena *mem;
    const struct pn_weight *weights; /* all matrices, last bound first */
    int32_t n_weights;
    struct pn_weight embd, output;
    struct pn_vec output_norm;
    struct pn_layer *layers;
    int32_t lora_rank;           /* the largest sum of a weight's adapter ranks; 0: no adapters */
    float *inv_freq;             /* [head_dim/2], llama3 scaling applied */
    bool rope_inter;
    struct pn_vision *vision;    /* NULL: text only */
    pthread_mutex_t lazy_lock;
    _Atomic bool lazy_done;
};

/* Bind names to views and check every shape against the hyper-parameters. Takes over src on success. */
int pn_model_bind(struct pn_model **out, struct pn_source *src, const struct pn_kern *kern, int threads,
                  struct puna_error *err);
void pn_model_free(struct pn_model **m);
/* Read the picture side's small vectors (once; thread-safe). */
int pn_model_vision_ready(struct pn_model *m, struct puna_error *err);

/* ---------------------------------------------------------------- adapters (lora.c) */

/* The product with W becomes x W^T + scale * (x A^T) B^T; the file's bytes stay as they are. */
struct pn_lora {
    struct pn_lora *next;  /* the next adapter of the same weight */
    struct pn_weight a, b; /* [r][k], [n][r] in F32, F16 or BF16; the rows of b ordered as the weight's */
    float scale;
};
/* Bind the source's adapters to m's weights, shapes checked. pn_model_bind does it last. */
int pn_model_attach_adapters(struct pn_model *m, struct puna_error *err);
/* What is to be merged into tensor t of m's source, or NULL. An adapter of a tied output matrix cannot be merged:
 * m->output.lora with hp.tied is for the caller to refuse. */
const struct pn_lora *pn_lora_of(struct pn_model *m, const struct pn_tensor *t);
/* dst[n] += scale * (row of B) A for every adapter in the list: dst holds columns col .. col+n-1 of row `row` of the
 * weight, in the file's order of rows. The sum goes over adapters, then ranks, ascending, one fma each. */
void pn_lora_add_row(const struct pn_kern *k, const struct pn_lora *lora, int64_t row, int64_t col, int64_t n,
                     float *dst);

/* ---------------------------------------------------------------- products (mm.c) */

/* Somebody who wants to see what goes into the products (importance statistics): n rows of w->k values, after
 * normalisation. Called by every thread of the team for each product, at the same time, so that they can share out
 * the columns; between two products of one weight lies a barrier. Rows that only fill up a picture are left out. */
struct pn_observer {
    void (*rows)(void *user, const struct pn_weight *w, const float *x, int32_t n, const struct pn_team *t);
    void *user;
};

#define PN_LORA_WEIGHTS 3 /* weights of one step */

/* What all products of a pass share. */
struct pn_mm {
    const struct pn_kern *kern;
    bool precise; /* f32 rows, no others */
    const struct pn_observer *observer; /* NULL: nobody looks */
    float *lora;  /* [PN_LORA_WEIGHTS][rows][lora_rank] for x A^T of a step; shared by the team */
};

/* Input rows as they stand in the pass: row i is x[index[i]] (index NULL: x[i]), k wide. */
struct pn_rows {
    const float *x;
    const int32_t *index;
    int32_t m, k;
};
/* What is done to them on the way. */
struct pn_norm {
    const float *w, *b; /* [k]; b NULL: RMSNorm, else LayerNorm */
    float eps;
};
/* Forms that weights want their input rows in; a step whose weights differ may need both. None: f32 as they are. */
enum { PN_FORM_INT8 = 1, PN_FORM_BF16 = 2 };
/* Where the prepared rows go: m rows of k floats, and pn_forms_bytes(.., m, k). */
struct pn_stage_mem {
    float *xn;
    uint8_t *forms;
    bool own; /* the thread's own: it prepares all rows for itself, and nobody waits */
};
/* Input rows of a product, in the forms its weights want. */
struct pn_in {
    const float *x; /* [m][k] */
    int32_t m, k;
    int forms;      /* which of act and act16 are there */
    struct pn_act act;
    struct pn_act16 act16;
    const float *centre; /* NULL, or [m]: act holds x - centre */
    const struct pn_in *redo; /* NULL, or the rows redo_rows once more, for the weights that w are copies of */
    const int32_t *redo_rows;
    int32_t fill;   /* the last rows that an observer is not told of */
};
/* One of the outputs of a step: c[m][w->n] = in * w^T (+ bias), then GELU when asked. */
struct pn_out {
    const struct pn_weight *w;
    float *c;
    const float *bias; /* NULL or [w->n] */
    bool gelu;
    const float *lora; /* set by pn_products_begin */
};
/* The outputs of a step brought to the next one's forms as they become ready, one super-block of columns at a time. */
struct pn_then {
    const struct pn_in *in; /* its x: the outputs */
    _Atomic uint32_t *done; /* per super-block, zeros before and after: tasks that are done */
};

/* One row on its way: y = norm(x), k wide. */
void pn_norm_row(const struct pn_mm *mm, const struct pn_norm *norm, float *y, const float *x, int32_t k);
/* All forms that n weights want. */
int pn_forms(const struct pn_mm *mm, int n, const struct pn_weight *const *w);
size_t pn_forms_bytes(int forms, int32_t m, int32_t k);
/* Rows x in forms that have their place in mem (64-byte aligned) and are still to be filled. */
struct pn_in pn_in_of(const float *x, int32_t m, int32_t k, int forms, uint8_t *mem);
/* Fill super-blocks b0 .. b0+n_b-1 of rows row0 .. row0+m-1 of the forms. */
void pn_prepare(const struct pn_mm *mm, const struct pn_in *in, int32_t row0, int32_t m, int32_t b0, int32_t n_b);
/* Rows normalised and in all forms; ends with a barrier unless mem->own. An index needs a norm. */
struct pn_in pn_stage(const struct pn_mm *mm, struct pn_team *t, const struct pn_rows *rows,
                      const struct pn_norm *norm, int forms, const struct pn_stage_mem *mem);
/* All outputs (at most PN_LORA_WEIGHTS) in one step, shared out by slabs of weight rows. Ends with a barrier. */
void pn_products(const struct pn_mm *mm, struct pn_team *t, const struct pn_in *in, int n_out, struct pn_out *out);
/* The same for a caller who shares out the work himself: first begin, in every thread (a barrier when there are
 * adapters), then columns [n0, n1) of an output at a time. */
void pn_products_begin(const struct pn_mm *mm, struct pn_team *t, const struct pn_in *in, int n_out,
                       struct pn_out *out);
void pn_product_rows(const struct pn_mm *mm, const struct pn_in *in, const struct pn_out *o, int32_t n0, int32_t n1);
/* Weight rows per task: small enough to balance, large enough that weights stream in long runs (decode) and a tile
 * of 32 rows is never cut (prefill). */
int32_t pn_slab_rows(int32_t n, int32_t m, int n_threads);
/* x[index[i]] += scale * (in * w^T (+ bias)), index NULL: x[i]. slab: the thread's own pn_slab_floats(m). Ends with a
 * barrier. */
void pn_product_add(const struct pn_mm *mm, struct pn_team *t, const struct pn_in *in, const struct pn_weight *w,
                    const float *bias, float scale, float *x, const int32_t *index, float *slab);
/* c[m][gate->n] = silu(in * gate^T) * (in * up^T), then in then->in's forms. Ends with a barrier. */
void pn_product_swiglu(const struct pn_mm *mm, struct pn_team *t, const struct pn_in *in,
                       const struct pn_weight *gate, const struct pn_weight *up, float *c,
                       const struct pn_then *then, float *slab);
/* Floats of a thread's slab for up to m rows. */
size_t pn_slab_floats(int32_t m);
/* Row r of w (columns col .. col+n) to f32; col and n multiples of the block. */
void pn_weight_row(const struct pn_kern *k, const struct pn_weight *w, int64_t r, int64_t col, int64_t n,
                   float *dst);

/* ---------------------------------------------------------------- float weights in int8 (w8a8.c) */

/* Whether products of many rows with w are fastest so. Never while somebody observes them. */
bool pn_w8_takes(const struct pn_mm *mm, const struct pn_weight *w);
/* A weight's copy in Q8_0. */
struct pn_w8 {
    struct pn_weight w; /* to multiply with, once filled; for rows of pn_w8_stage */
    uint8_t *data;
    float *sums;
};
size_t pn_w8_bytes(const struct pn_weight *w); /* a multiple of 64 */
struct pn_w8 pn_w8_at(const struct pn_weight *w, uint8_t *mem);
/* Fill n of them, in one step. Ends with a barrier. */
void pn_w8_fill(const struct pn_mm *mm, struct pn_team *t, int n, const struct pn_w8 *to);

struct pn_w8_rule {
    float limit;  /* of the rounding error's energy, relative to the rows', on average; for one row three times it */
    bool centred; /* the rows are nowhere smaller than least, but not symmetric: their middle is taken off first */
    float least;
};
#define PN_W8_REDO 32 /* rows that may be beyond the limit */
struct pn_w8_mem {
    float *xn;      /* [m][k], with a norm */
    uint8_t *forms; /* pn_forms_bytes(PN_FORM_INT8, m, k) */
    float *centre, *noise; /* [m] each */
    float *redo;    /* [PN_W8_REDO][k] */
    uint8_t *redo_forms; /* pn_forms_bytes(the floats' forms, PN_W8_REDO, k) */
    float *row;     /* [k], the thread's own */
};
/* Rows in int8, and those of them that int8 holds badly as the float weights want them. */
struct pn_w8_in {
    struct pn_in in, redo;
    int32_t redo_rows[PN_W8_REDO];
};
/* Rows (without an index) normalised and in int8, and whether they can be multiplied so: false in all threads or none,
 * and then out->in.x, the rows normalised, is all that is of use. forms: what the float weights want. Ends with a
 * barrier. */
bool pn_w8_stage(const struct pn_mm *mm, struct pn_team *t, const struct pn_rows *rows, const struct pn_norm *norm,
                 const struct pn_w8_rule *rule, int forms, const struct pn_w8_mem *mem, struct pn_w8_in *out);

/* ---------------------------------------------------------------- attention over a KV store (attn.c) */

#define PN_ATTN_ROWS 256 /* query rows per task at most */

/* Scratch of one thread. */
struct pn_attn_scratch {
    float *q;    /* [PN_ATTN_ROWS][hd] */
    float *part; /* [PN_ATTN_ROWS] parts */
    float *acc;
    int32_t *n_keys; /* [PN_ATTN_ROWS] */
};
size_t pn_attn_scratch_floats(int32_t hd);
void pn_attn_scratch_init(struct pn_attn_scratch *s, float *mem, int32_t hd);

/* One stretch of keys a set of rows looks at. */
struct pn_keys {
    struct pn_kv_view kv;
    const float *bias; /* NULL or [cap] */
};
/* Whether the tier has a bf16 kernel for such keys. What uses it must use it for every row. */
bool pn_attn_is_bf16(const struct pn_kern *k, const struct pn_kv_view *kv);
/* acc (already holding earlier stretches unless first) takes in keys [0, n_keys[i]) of ks for nq rows of s->q. */
void pn_attn_rows(const struct pn_kern *k, struct pn_attn_scratch *s, int32_t nq, const struct pn_keys *ks,
                  bool first, bool bf16);

/* ---------------------------------------------------------------- text decoder (forward.c) */

/* K/V of one picture for all cross layers: built by pn_vision_encode, immutable afterwards. */
struct pn_cross {
    int32_t n_keys;      /* real tiles * n_pos */
    int32_t n_keys_all;  /* plus padding tiles (hf_rows only) */
    float *bias;         /* [n_keys_all]: log multiplicity (hf_rows only), else NULL */
    struct pn_kv_view *kv; /* [n_cross][n_kv_head] */
    void *mem;
    size_t bytes;
};

/* KV cache of one sequence. */
struct pn_kv {
    enum pn_kv_type type;
    int32_t cap;
    struct pn_kv_view *view; /* [self layer ordinal][n_kv_head] */
    void *mem;
    size_t bytes;
    bool huge; /* huge pages have been asked for */
};
size_t pn_kv_total_bytes(const struct pn_hparams *hp, enum pn_kv_type type, int32_t cap);
int pn_kv_open(struct pn_kv **out, const struct pn_hparams *hp, enum pn_kv_type type, int32_t cap,
               struct puna_error *err);
void pn_kv_close(struct pn_kv **kv);
/* Before positions up to n_keys are written. Asks for huge pages once a head's keys are as large as four of them (in
 * f16 32768 keys), so that attention waits for fewer page table walks; each head's last page, of 2 MiB then, is memory
 * that the system hands out early. */
void pn_kv_expect(struct pn_kv *kv, int32_t n_keys);
/* Noise of unit variance into positions pos0 .. pos0+n-1 of every layer and head, for measuring. */
void pn_kv_noise(struct pn_kv *kv, const struct pn_model *m, int32_t pos0, int32_t n);
/* Views into mem for n_sets x n_kv_head (K, V, scales one after another); returns the bytes they take;
 * view == NULL: count only. */
size_t pn_kv_layout(struct pn_kv_view *view, uint8_t *mem, int32_t n_sets, int32_t n_kv_head,
                    enum pn_kv_type type, int32_t hd, int64_t cap);

/* Rows of one forward pass. A segment is consecutive tokens of one sequence; several sequences may
 * share a pass (their rows share the products). */
struct pn_segment {
    struct pn_kv *kv;
    int32_t row0, n_rows, pos0;
};
struct pn_row {
    int32_t token;
    int32_t img_lo, img_hi; /* pictures [img_lo, img_hi) of `cross` are visible; lo == hi: none */
};
struct pn_batch {
    const struct pn_row *rows; /* [n_rows] */
    int32_t n_rows;
    const struct pn_segment *segs;
    int32_t n_segs;
    struct pn_cross *const *cross; /* all pictures the rows refer to */
    int32_t n_cross;
    bool precise, hf_rows;
    const struct pn_observer *observer; /* NULL: none */
    int32_t first_logit_row; /* logits wanted for rows first .. n_rows-1; n_rows: none */
};

struct pn_scratch; /* buffers for up to max_rows rows and sequences of up to max_keys tokens */
size_t pn_scratch_bytes(const struct pn_model *m, int32_t max_rows, int32_t max_keys);
int pn_scratch_open(struct pn_scratch **out, const struct pn_model *m, int32_t max_rows, int32_t max_keys,
                    struct puna_error *err);
void pn_scratch_close(struct pn_scratch **s);

/* Run the batch; logits [n_rows - first_logit_row][n_vocab]. cancel (may be NULL) is looked at once per
 * layer: PUNA_E_CANCELLED leaves the KV rows of the batch undefined (they are beyond the sequence's length). */
int pn_forward(const struct pn_model *m, const struct pn_batch *b, struct pn_scratch *s, float *logits,
               const _Atomic int *cancel);

/* ---------------------------------------------------------------- vision encoder (vision.c) */

struct pn_vision_job {
    const float *pixels;      /* [tiles_h*tiles_w][3][S][S] */
    int32_t tiles_h, tiles_w, ratio_id;
    bool precise;
    bool full;                /* no empty-tile reduction (see pn_vision_must_be_full) */
    enum pn_kv_type kv_type;  /* of the cross K/V */
    bool hf_rows;             /* padding tiles' K/V too */
    float *features;          /* NULL or [n real tiles][n_pos][n_out] */
    struct pn_cross *cross;   /* NULL or an allocated store to fill (pn_cross_open) */
    const struct pn_observer *observer; /* NULL: none */
    const _Atomic int *cancel;
    void (*progress)(void *user, double done, double total); /* from the calling thread; may be NULL */
    void *progress_user;
};
int pn_cross_open(struct pn_cross **out, const struct pn_model *m, enum pn_kv_type type, int32_t n_tiles,
                  bool hf_rows, bool full, struct puna_error *err);
void pn_cross_close(struct pn_cross **c);
size_t pn_cross_bytes(const struct pn_model *m, enum pn_kv_type type, int32_t n_tiles, bool hf_rows,
                      bool full);
/* Bytes the encoder takes for a picture while it works, its pixels included. */
size_t pn_vision_scratch_bytes(const struct pn_model *m, int32_t n_tiles, bool precise, bool full,
                               bool hf_rows);
/* Sets *full when this ratio's rows of the tile tables forbid the empty-tile reduction. */
int pn_vision_must_be_full(struct pn_model *m, int32_t ratio_id, int32_t n_tiles, bool *full,
                           struct puna_error *err);
/* Whether any float weights of the tower are multiplied in int8. */
bool pn_vision_is_int8(const struct pn_model *m);
int pn_vision_encode(struct pn_model *m, const struct pn_vision_job *job, struct puna_error *err);

#endif
