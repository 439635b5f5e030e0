/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel table and its written contract.
 *
 * A tier (scalar, openblas, avx2, avxvnni, avx512, avx512vnni, avx512bf16, amx, neon, dotprod, i8mm)
 * fills slots of one struct, each tier overriding what it improves; pn_kern_select() builds the table.
 * The scalar reference (src/kern/kern_c.c) is the specification.
 *
 * THE RULES, for every kernel of every tier
 *  1. Bits. Every slot marked [exact] produces the bits of the scalar reference: the order of the
 *     float operations that reach one output is written here and is the same in all tiers (all have
 *     FMA; the reference uses fmaf). So what it gives does not depend on the tier, on the number of rows M
 *     in a call, on chunking or on the thread count. Slots marked [close] (bf16 dot products, AMX)
 *     are bounded, not equal, across tiers, but must still not depend on M.
 *     One exception: the mm_f32 slots of the portable openblas tier are [close] and may depend on M.
 *  2. Memory. Nothing is read or written outside the operands; not one byte past the last row (weights
 *     lie in a file map, the next page may not exist). Prefetches may go past it. Weights have no alignment
 *     beyond 2 bytes (1 for int8); activations, packed activations and outputs are at least 4-byte
 *     aligned; only buffers said to be 64-byte aligned are.
 *  3. Sizes. n, m, k, hd may be any value >= 1 that the formats allow (m == 0 and n == 0 are no-ops);
 *     odd sizes are the kernel's business.
 *  4. No aliasing between outputs and inputs unless said. No allocation, no global state, no printing.
 *     Scratch up to 128 KiB of stack is allowed (when optimised).
 *  5. One call runs on one thread. Threads split the n rows of a weight (each output element is
 *     computed by one call), never k.
 */
#ifndef PN_KERN_H
#define PN_KERN_H

#include <stddef.h>
#include <stdint.h>

#include "quant/types.h"

#define PN_QK 256 /* super-block: activations share one int8 scale per 256 columns */

/* ---- int8 activations, packed super-block-major so that a GEMM kernel's broadcasts stream ---- */
struct pn_act {
    int32_t m, k;  /* rows, columns */
    int32_t nb;    /* super-blocks: (k + 255) / 256; columns past k are zeros */
    int8_t *q;     /* [nb][m][256]  -127..127, 64-byte aligned */
    int16_t *s32;  /* [nb][m][8]    sums of 32 consecutive q */
    int16_t *s16;  /* [nb][m][16]   sums of 16 consecutive q */
    float *d;      /* [nb][m]       x ~ d * q */
};
/* Bytes of one buffer that holds all four arrays for (m, k), each aligned to 64; and its layout. */
size_t pn_act_bytes(int32_t m, int32_t k);
void pn_act_init(struct pn_act *a, void *buf, int32_t m, int32_t k);

/* ---- bf16 activations: rounded to nearest even (denormals may become zero), in blocks of columns, blocks outermost,
 * so that a product reads them from front to back. A block holds a row after another, or, where BFMMLA takes two
 * rows by four columns, pairs of rows: column c of row i of a block is at
 *   i * PN_ACT16_COLS + c                                                where PN_ACT16_ROWS is 1
 *   (i - i % 2) * PN_ACT16_COLS + (c - c % 4) * 2 + i % 2 * 4 + c % 4    where it is 2 */
#define PN_ACT16_COLS 128 /* of a block; divides PN_QK */
#ifdef __aarch64__
#define PN_ACT16_ROWS 2
#else
#define PN_ACT16_ROWS 1
#endif
struct pn_act16 {
    int32_t m, k;  /* rows, columns */
    int32_t nb;    /* blocks: (k + 127) / 128; columns past k are zeros */
    int32_t rows;  /* m rounded up to a multiple of PN_ACT16_ROWS; row m, if there, holds anything */
    uint16_t *x;   /* [nb][rows][128], 64-byte aligned */
};
size_t pn_act16_bytes(int32_t m, int32_t k);
void pn_act16_init(struct pn_act16 *a, void *buf, int32_t m, int32_t k);

/* ---- KV cache layouts (one layer, one KV head; capacity rounded up to 64 keys, zero-initialised).
 * Keys lie in blocks of 16, so that 16 lanes hold 16 keys; values lie by key so that lanes hold
 * dimensions. The layouts are the same in every tier.
 *   F32, F16  K [cap/16][hd][16]              V [cap][hd]
 *   BF16      K [cap/16][hd2/2][16][2]        V [cap/2][hd][2]        hd2 = hd rounded up to even
 *   Q8_0      K int8 [cap/16][hd4/4][16][4]   V int8 [cap][hd4]       hd4 = hd rounded up to 4
 *             scale f32, one per key and head: ks [cap], vs [cap]: x ~ scale * q, scale = amax/127
 * Sizes: pn_kv_bytes. */
enum pn_kv_type { PN_KV_F32, PN_KV_F16, PN_KV_BF16, PN_KV_Q8, PN_KV_TYPE_COUNT };
struct pn_kv_view {
    enum pn_kv_type type;
    int32_t hd;
    void *k, *v;    /* 64-byte aligned */
    float *ks, *vs; /* Q8 only */
};
/* Bytes of K or of V for cap keys (cap a multiple of 64), rounded up to 64; scales not included. */
size_t pn_kv_k_bytes(enum pn_kv_type type, int32_t hd, int64_t cap);
size_t pn_kv_v_bytes(enum pn_kv_type type, int32_t hd, int64_t cap);

#define PN_ATTN_CHUNK 1024 /* keys per partial result; boundaries are absolute key indices */
#define PN_ATTN_TILE 64    /* keys per online-softmax step; boundaries are absolute key indices */
#define PN_ATTN_BF16_HD 128 /* dimensions of a head that attn_bf16 takes */

/* Partial attention result of one query row over one chunk: o unnormalised.
 * l is kept as 16 lanes (lane = key mod 16) and summed only by attn_finish. pad and o past hd are
 * unspecified. */
struct pn_attn_part { /* stride between rows: pn_attn_part_floats(hd) floats: m, pad[15], l[16], o[hd] */
    float m, pad[15];
    float l[16];
    float o[];
};
static inline size_t pn_attn_part_floats(int32_t hd)
{
    return 32 + (((size_t)hd + 15) & ~(size_t)15);
}

/* A product is a record in the table: the function, run, and its register tile, m rows of activations by n rows of
 * weights, whose sums one pass over columns keeps in registers where there are many of both (few may be multiplied in
 * other ways). tests/checkkern tries the sizes around it. 0 x 0: a library's, which does not say. */
struct pn_tile {
    int16_t m, n;
};

struct pn_kern {
    const char *tier;      /* the highest tier whose init ran */
    unsigned cpu_flags;    /* the flags it was selected for (enum pn_cpu_flag, src/cpu/cpu.h) */
    int prefer_int8;       /* 1: with many rows, mm of Q8_0 is the fastest product in this tier, also for float weights
                              that are brought to Q8_0 first */
    int prefer_f32;        /* 1: mm_f32 is the faster product in this tier, also for quantised weights: the
                              model should not quantise activations (openblas sets it) */

    /* y[m][n] (+ldc floats) = X[m][k] * W[n][k]^T, W: n rows of row_bytes in the file's format.
     * c is written, not added to. X: rows m0 .. m0+m-1 of the packed activations a. [exact]
     * Per output, over super-blocks b ascending, c starts at 0 and c = fma(t_b, d_b, c), with d_b the
     * activation scale and t_b, all integer sums exact in int32 (converted to f32, rounding to nearest):
     *   Q4_K, Q5_K, Q2_K   t = d * (float)I;  t = fma(-dmin, (float)J, t)
     *                      I = sum over sub-blocks of sc * (sum q*a),  J = sum of m * (sum a)
     *                      (Q2_K: sub-blocks of 16, s16; the others 32, s32)
     *   Q6_K, Q3_K, IQ4_XS t = d * (float)I, q already signed (offset removed), I as above
     *   Q4_0 Q5_0 Q8_0 IQ4_NL  t = 0; for g = 0..7: t = fma(d_g, (float)x_g, t), x_g = sum q*a over 32
     *   Q4_1 Q5_1          t = 0; for g: t = fma(d_g, (float)x_g, t); t = fma(m_g, (float)s32_g, t)
     * k is a multiple of the block; in 32-blocks types the last super-block may have fewer groups. */
    struct pn_kern_mm {
        void (*run)(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n, const struct pn_act *a,
                    int32_t m0, int32_t m);
        struct pn_tile tile;
    } mm[PN_TYPE_COUNT];

    /* The same product with f32 activations x[m][k] (+ldx floats) and weights of any type, each value
     * dequantised to f32 first (F32, F16, BF16 directly in registers; the others by tiles on the stack). [exact]
     * Per output: 16 lanes, lane i sums k = i, i+16, ... by fma ascending (missing columns count as 0);
     * then lanes are added pairwise: (i, i+8), (i, i+4), (i, i+2), (0, 1). */
    struct pn_kern_mm_f32 {
        void (*run)(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n, int32_t k, const float *x,
                    size_t ldx, int32_t m);
        struct pn_tile tile;
    } mm_f32[PN_TYPE_COUNT];

    /* Optional fast product with bf16 dot products for F16/BF16/F32 weights; run NULL: use mm_f32. [close]
     * X: all rows of a. The weights are rounded to bf16 as the activations are, products are exact, the sum is f32 in
     * any order that does not depend on m. */
    struct pn_kern_mm_bf16 {
        void (*run)(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n, const struct pn_act16 *a);
        struct pn_tile tile;
    } mm_bf16[PN_TYPE_COUNT];

    /* Row m_index of a, per super-block: amax = largest |x| (a NaN counts as larger than anything);
     * q = round-to-nearest-even(x * (127/amax)), d = amax/127 (IEEE divisions), and the sums. k = a->k.
     * amax < 1e-30: q = 0, d = 0. amax infinite or NaN: q = 0, d = NaN, so that damage shows in the
     * product instead of vanishing. [exact] */
    void (*quant_act)(struct pn_act *a, int32_t m_index, const float *x);
    /* n floats, a multiple of 32, to blocks of Q8_0: d = amax/127 rounded to f16, amax as above;
     * q = round-to-nearest-even(x * (1/d)), clamped to -127 .. 127. d == 0: q = 0. amax infinite or NaN, or d
     * beyond f16: q = 0, d = NaN. [exact] */
    void (*quant_q8_0)(void *dst, const float *x, int64_t n);
    /* Row m_index of a rounded to bf16, NaN and Inf kept; NULL where no mm_bf16 is. k = a->k. [close] */
    void (*round_act)(struct pn_act16 *a, int32_t m_index, const float *x);

    /* n elements (a multiple of the block) to f32. The value formulas: quant/blocks.h. [exact] */
    void (*dequant[PN_TYPE_COUNT])(float *dst, const void *src, int64_t n);

    /* y = x / sqrt(mean(x^2) + eps) * w. The sum of squares by the 16-lane rule of mm_f32;
     * r = 1/sqrtf(sum/n + eps) with IEEE sqrt and divisions; y = (x*r)*w. y == x allowed. [exact] */
    void (*rmsnorm)(float *y, const float *x, const float *w, int32_t n, float eps);
    /* mean, then variance of x-mean, both by the 16-lane rule; y = fma((x-mean)*r, w, b). y == x allowed. [exact] */
    void (*layernorm)(float *y, const float *x, const float *w, const float *b, int32_t n, float eps);

    /* Rotary embedding of one head, in place, hd even; cs = cos, sn = sin [hd/2]. [exact]
     * half:  pair (i, i+hd/2);  inter: pair (2i, 2i+1).
     * a' = fma(a, cos, -(b*sin)),  b' = fma(b, cos, a*sin). */
    void (*rope_half)(float *x, const float *cs, const float *sn, int32_t hd);
    void (*rope_inter)(float *x, const float *cs, const float *sn, int32_t hd);

    /* y = silu(g) * u = g / (1 + exp(-g)) * u, exp as pn_expf in kern_math.h. y == g or u allowed. [exact] */
    void (*silu_mul)(float *y, const float *g, const float *u, int32_t n);
    /* y = 0.5 x (1 + erf(x / sqrt 2)), erf as pn_erff in kern_math.h (|error| <= 2e-7). y == x allowed. [exact] */
    void (*gelu)(float *y, const float *x, int32_t n);
    /* y += s * x, one fma per element. [exact] */
    void (*axpy)(float *y, const float *x, float s, int32_t n);
    /* y += x. [exact] */
    void (*add)(float *y, const float *x, int32_t n);

    /* Store one key and one value row (f32 [hd]) at position pos of a KV view. [exact]
     * F16, BF16: round to nearest even, denormals kept; Q8: q and scale by the rule of quant_act, over
     * the hd values. Padding (odd hd) is left as it is or written with zeros. */
    void (*kv_put)(const struct pn_kv_view *kv, int64_t pos, const float *k, const float *v);

    /* Attention of nq query rows over keys key0 .. key0+PN_ATTN_CHUNK-1 of one KV head (key0 a multiple of
     * PN_ATTN_CHUNK). q: f32 rows [nq][hd] (+ldq floats), already multiplied by the softmax scale.
     * Row i sees keys j < n_keys[i] (n_keys may be <= key0: the row's part then stays empty: m = -INFINITY,
     * l = 0, o = 0). bias: NULL, or one f32 per absolute key added to the score (log multiplicity).
     * part: [nq] rows of pn_attn_part_floats(hd) floats, written. Keys up to the end of the last tile
     * of 64 may be read (capacity is a multiple of 64) and are finite. [exact] for F32, F16, Q8 and BF16:
     *   score_j = 0; for d ascending: score = fma(q_d, k_jd, score); (Q8: k_jd = (float)int8, then
     *   score *= ks_j);  score += bias_j
     *   per tile of 64 keys: mt = max over its visible keys; if mt > m: c = exp(m - mt), l *= c, o *= c, m = mt
     *   p_j = exp(score_j - m), 0 where not visible;  l[j mod 16] += p_j, j ascending;
     *   (Q8: p_j *= vs_j after l);  o_d = fma(p_j, v_jd, o_d), j ascending
     * The first tile starts from m = -INFINITY (c = 0). exp is pn_expf. */
    void (*attn)(float *part, const float *q, size_t ldq, int32_t nq, const int32_t *n_keys,
                 const struct pn_kv_view *kv, int64_t key0, const float *bias);
    /* Optional: the same for F16, BF16 and Q8 with bf16 products, hd up to PN_ATTN_BF16_HD; NULL: use attn. [close]
     * q, k, p (Q8: p * vs) and v are rounded to bf16, to nearest even (k and v of BF16 and Q8 are exact; denormals
     * may become zero); products are exact, sums f32 in an order that depends on hd alone; exp may be off by 2^-13,
     * and m be larger than the largest score by up to 8; scores relative to an earlier m are rounded once more. */
    void (*attn_bf16)(float *part, const float *q, size_t ldq, int32_t nq, const int32_t *n_keys,
                      const struct pn_kv_view *kv, int64_t key0, const float *bias);
    /* acc = acc merged with part (both one row): mn = max(ma, mp); l, o scaled by exp(m - mn) each
     * and added (fma(lp, cp, la*ca)); an empty part changes nothing, an empty acc becomes part. [exact] */
    void (*attn_merge)(float *acc, const float *part, int32_t hd);
    /* out[hd] = o / sum(l); lanes added pairwise as in mm_f32; an empty row gives zeros. [exact] */
    void (*attn_finish)(float *out, const float *acc, int32_t hd);

    /* Pictures, bytes [pixel][3], by the taps of src/image/resize.c: weights with 22 fraction bits whose sums with
     * bytes fit int32. [exact]
     * across: one row of w pixels from one of in_w,
     *   out[3 x + c] = byte((2^21 + sum over j < count[x] of weight[x * size + j] * in[3 (first[x] + j) + c]) >> 22)
     * down: n_bytes bytes of one row from n rows stride bytes apart,
     *   out[i] = byte((2^21 + sum over j < n of weight[j] * in[j * stride + i]) >> 22)
     * byte clamps to 0 .. 255; weights are >= 0. */
    void (*resize_across)(uint8_t *out, const uint8_t *in, int32_t w, int32_t in_w, const int32_t *first,
                          const int32_t *count, const int32_t *weight, size_t size);
    void (*resize_down)(uint8_t *out, const uint8_t *in, size_t stride, size_t n_bytes, const int32_t *weight,
                        int32_t n);

    /* Optional: a loop of at least iters independent multiply-adds of the tier's fastest kind, operands
     * in registers; returns the operations done (2 per multiply-add of one lane) so that ops / time is
     * the peak of one core. NULL: the tier has no such instruction (or leaves the lower tier's). The
     * result must depend on the loop (a volatile sink), or the compiler removes it. */
    uint64_t (*peak_int8)(uint64_t iters);
    uint64_t (*peak_bf16)(uint64_t iters);
    uint64_t (*peak_f32)(uint64_t iters);
};

/* CPU tiers. pn_cpu_detect() looks at CPUID and XCR0, or getauxval; see src/cpu/cpu.h. */
enum pn_tier {
    PN_TIER_SCALAR, PN_TIER_OPENBLAS,
    PN_TIER_AVX2, PN_TIER_AVXVNNI, PN_TIER_AVX512, PN_TIER_AVX512VNNI, PN_TIER_AVX512BF16, PN_TIER_AMX,
    PN_TIER_NEON, PN_TIER_DOTPROD, PN_TIER_I8MM,
    PN_TIER_COUNT
};

struct puna_error;
/* Fill *k for tier `name` (NULL or "": PUNA_CPU from the environment, else the best this CPU has).
 * A tier that is unknown, not built, or that this CPU lacks is an error (PUNA_E_UNSUPPORTED). */
int pn_kern_select(struct pn_kern *k, const char *name, struct puna_error *err);
/* Name of a tier; whether it is built into this library; whether this CPU can run it. */
const char *pn_tier_name(enum pn_tier t);
int pn_tier_built(enum pn_tier t);
int pn_tier_usable(enum pn_tier t);
/* The tier called name, or -1. */
int pn_tier_by_name(const char *name);

/* What a slot begins with, whatever its function's type; one that is no product is the function alone. */
struct pn_kern_any {
    void (*run)(void);
    struct pn_tile tile;
};
/* The slot of so many bytes at offset of k. */
struct pn_kern_any pn_kern_at(const struct pn_kern *k, size_t offset, size_t size);

struct pn_kern_slot {
    const char *name;
    const char *tier;   /* whose kernel fills it; NULL: an optional slot that is empty, and the rest is 0 */
    const char *packer; /* the slot that packs activations for it, or NULL */
    struct pn_tile tile;
};
/* Slot i = 0, 1, ... of the table that pn_kern_select(name) builds. Returns 0, or -1: no more slots, or no such
 * tier here. */
int pn_kern_slot(const char *name, int i, struct pn_kern_slot *out);

/* One per tier; each overrides slots of a table that lower tiers have filled. */
void pn_kern_init_scalar(struct pn_kern *k);
void pn_kern_init_openblas(struct pn_kern *k);
void pn_kern_init_avx2(struct pn_kern *k);
void pn_kern_init_avxvnni(struct pn_kern *k);
void pn_kern_init_avx512(struct pn_kern *k);
void pn_kern_init_avx512vnni(struct pn_kern *k);
void pn_kern_init_avx512bf16(struct pn_kern *k);
void pn_kern_init_amx(struct pn_kern *k);
void pn_kern_init_neon(struct pn_kern *k);
void pn_kern_init_dotprod(struct pn_kern *k);
void pn_kern_init_i8mm(struct pn_kern *k);

#endif
