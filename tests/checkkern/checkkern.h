/* SPDX-License-Identifier: Apache-2.0 */
/* checkkern: every kernel of every usable tier against the scalar reference; and the kernel bench.
 *
 * Operands lie in arenas between unmapped pages, so that a byte read or written outside them is a
 * fault, and between canaries where they do not touch the arena's end. Each (tier, slot) starts
 * from its own seed: a failure is repeated by --cpu, --func and --seed alone. */
#ifndef CHECKKERN_H
#define CHECKKERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kern/kern.h"

enum ck_family {
    CK_MM, CK_MM_F32, CK_MM_BF16, CK_DEQUANT, CK_QUANT_ACT, CK_QUANT_Q8_0, CK_ROUND_ACT, CK_RMSNORM, CK_LAYERNORM,
    CK_ROPE, CK_SILU_MUL, CK_GELU, CK_AXPY, CK_ADD, CK_KV_PUT, CK_ATTN, CK_ATTN_BF16, CK_ATTN_MERGE,
    CK_ATTN_FINISH, CK_RESIZE, CK_PEAK, CK_FAMILY_COUNT
};

struct ck_slot {
    const char *name, *packer;
    size_t offset, size; /* in struct pn_kern */
    enum ck_family family;
    enum pn_type type;
};

/* One arena per operand. */
enum ck_arena {
    CK_W, CK_X, CK_OUT, CK_Q, CK_S32, CK_S16, CK_D, CK_A, CK_B, CK_C, CK_KS, CK_VS, CK_ARENA_COUNT
};
#define CK_ARENA_BYTES (8u << 20)

struct ck {
    const char *tier;
    const struct ck_slot *slot;
    const struct pn_kern *ref; /* scalar */
    const struct pn_kern *k;   /* under test */
    struct pn_tile tile;       /* of the kernel */
    bool blas;                 /* the openblas tier: products are close and may depend on m */
    double scale;              /* of the number of cases */
    uint64_t rng;
    int64_t cases;
    char what[160];    /* the case in hand, for messages */
    char failure[512]; /* first failure; empty: none */
};

/* ---- random numbers (splitmix64) ---- */
uint64_t ck_rand(struct ck *ck);
int32_t ck_range(struct ck *ck, int32_t lo, int32_t hi);            /* lo .. hi */
int32_t ck_pick(struct ck *ck, const int32_t *list, int32_t n);
float ck_uniform(struct ck *ck, float lo, float hi);
float ck_normal(struct ck *ck);                                     /* roughly: a sum of uniforms */
int32_t ck_count(const struct ck *ck, int32_t n);                   /* n scaled, at least 1 */
/* A vector in one of several shapes: noise, equal values, zeros, one spike, alternating signs,
 * tiny. */
void ck_vector(struct ck *ck, float *x, int64_t n);
/* A finite f16 scale: mostly ordinary of either sign, sometimes 0, denormal or large. */
uint16_t ck_f16_scale(struct ck *ck);

/* ---- memory ---- */
/* bytes in an arena, everything else there forgotten: ending at the unmapped page (as near as the
 * alignment allows), beginning right behind the one in front, or in the middle at an offset that is
 * only align-aligned; at random. */
void *ck_place(struct ck *ck, enum ck_arena arena, size_t bytes, size_t align);
bool ck_canaries(struct ck *ck); /* false, and a failure: somebody wrote beside an operand */
/* Fills with NaN of a recognisable kind, so that elements left unwritten show. */
void ck_poison(float *x, size_t n);
/* A large plain buffer for the reference's outputs, index 0..3. */
void *ck_scratch(int index);

/* ---- verdicts; all return false on failure ---- */
bool ck_fail(struct ck *ck, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void ck_case(struct ck *ck, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Same values: equal bits; any NaN equals any NaN, and the sign of zero is ignored (a kernel may
 * add a product with zero for a masked key, which can turn -0 into +0 and nothing else). */
bool ck_same(struct ck *ck, const char *name, const float *got, const float *want, size_t n);
bool ck_same_bytes(struct ck *ck, const char *name, const void *got, const void *want, size_t n);
/* A matrix [m][n] with leading dimension ld; columns n.. of a row must still be poison. */
bool ck_same_matrix(struct ck *ck, const float *got, const float *want, int32_t m, int32_t n,
                    size_t ld);
bool ck_gaps(struct ck *ck, const float *c, int32_t m, int32_t n, size_t ld);

/* ---- the tests, one per family ---- */
bool ck_mm(struct ck *ck);
bool ck_mm_f32(struct ck *ck);
bool ck_mm_bf16(struct ck *ck);
bool ck_dequant(struct ck *ck);
bool ck_quant_act(struct ck *ck);
bool ck_quant_q8_0(struct ck *ck);
bool ck_round_act(struct ck *ck);
bool ck_rmsnorm(struct ck *ck);
bool ck_layernorm(struct ck *ck);
bool ck_rope(struct ck *ck);
bool ck_silu_mul(struct ck *ck);
bool ck_gelu(struct ck *ck);
bool ck_axpy(struct ck *ck);
bool ck_add(struct ck *ck);
bool ck_kv_put(struct ck *ck);
bool ck_attn(struct ck *ck);
bool ck_attn_bf16(struct ck *ck);
bool ck_attn_merge(struct ck *ck);
bool ck_attn_finish(struct ck *ck);
bool ck_resize(struct ck *ck);
bool ck_peak(struct ck *ck);

/* Room for bf16 activations whose end is the arena's. */
void ck_place_act16(struct ck *ck, enum ck_arena arena, struct pn_act16 *a, int32_t m, int32_t k);
/* n_rows rows of k random weights: codes and scales of every shape. */
void ck_weights(struct ck *ck, enum pn_type type, uint8_t *w, int32_t n_rows, int32_t k,
                size_t row_bytes);

/* The slot as it is in k. */
struct pn_kern_any ck_kernel(const struct pn_kern *k, const struct ck_slot *slot);

/* ---- bench ---- */
/* threads: of products whose weights come from memory */
void ck_bench_begin(const struct pn_kern *k, int threads);
/* cols: of products, a multiple of PN_QK up to CK_MAX_COLS */
#define CK_COLS 4096 /* the default */
#define CK_MAX_COLS 32768
void ck_bench(const struct pn_kern *k, const struct ck_slot *slot, int32_t cols);

#endif
