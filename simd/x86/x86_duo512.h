/* SPDX-License-Identifier: Apache-2.0 */
/* Q6_K products with some activation rows: enough to pay for a tile of unpacked weights in L1, but too few to make
 * unpacking it cheap. So the next tile is unpacked, and what comes after it fetched, between the dot products of this
 * one: these occupy two of the vector pipes, shuffles, shifts and masks the others. The core looks only some forty dot
 * products ahead, so the two must lie side by side in the code.
 *
 * A vector of weights is eight columns of eight rows (x86_side512.h), not four of sixteen: a broadcast of eight
 * activations serves four dot products, two panels of two sides, where loads are what such a loop waits for;
 * transposing takes a step less; and there are enough sums for the latency of VPDPBUSD. Each sum is of half a sub-block
 * of a row, eight products, and so at most 8 * 32 * 127 < 2^15. Integer sums and the order of the float operations are
 * those of kern_avx512vnni.c: so are the bits.
 *
 * A tile is unpacked in four jobs, one with each of the first four register tiles, whose at most three rows leave
 * registers for it, or alone where there are fewer; the rows beyond twelve are a register tile without. */
#ifndef PN_X86_DUO512_H
#define PN_X86_DUO512_H

#include "x86_mm.h"
#include "x86_side512.h"

#define DUO_JOBS 4
#define DUO_JOB_MR 3 /* activation rows of a register tile with a job, at most */
#define DUO_MR 4     /* of one without */
#define DUO_MAX (DUO_JOBS * DUO_JOB_MR + DUO_MR)

struct duo_panel {
    uint8_t w[PN_QK / 8][2][64]; /* [k/8][side][row][8] */
    int16_t sc[16][LANES][2];    /* each scale twice */
    float d[LANES];
};

/* The columns of a half of the super-block: w[16 * half] .. of 16 rows. Meanwhile four lines are fetched from `ahead`,
 * four from ahead + step, and so on, eight times. */
struct duo_job {
    rows_t row;
    struct duo_panel *to;
    size_t half;
    const uint8_t *ahead;
    size_t step;
};
INLINE void duo_next_job(struct duo_job *j)
{
    j->ahead += 8 * j->step;
    j->half ^= 1;
    if (j->half == 0) {
        j->row = rows_skip(j->row, LANES, 0);
        j->to++;
    }
}

/* One side of a job in progress. */
struct duo_side {
    struct side_rows low, high; /* where the low bits are, and the high ones */
    struct side_steps steps;
    uint8_t (*w)[2][64];
    vi z[4], column;
    vi bits[4]; /* eight columns each of the high bits */
};
INLINE struct duo_side duo_first_side(const struct duo_job *j)
{
    struct duo_side s;
    s.steps = side_steps(j->row.step);
    s.low = side_rows(j->row.p + 64 * j->half, s.steps);
    s.high = side_rows(j->row.p + offsetof(struct pn_q6_k, qh) + 32 * j->half, s.steps);
    s.w = j->to->w + 16 * j->half;
    return s;
}
INLINE void duo_second_side(struct duo_side *s)
{
    side_skip(&s->low, 2 * (ptrdiff_t)s->steps.s1);
    side_skip(&s->high, 2 * (ptrdiff_t)s->steps.s1);
    s->w = (void *)s->w[0][1];
}

/* Step i = 0 .. 31, a constant, of a side. 32 bytes of each row at a time are transposed: the high bits, those of all
 * the half's columns; 32 bytes of low bits, twice, which with them give 32 columns and those 64 further. */
INLINE void duo_step(struct duo_side *s, int i)
{
    const vi m15 = vi_set1_8(15), m48 = vi_set1_8(48);
    const int part = i < 8 ? 0 : i < 20 ? 1 : 2, k = part == 0 ? i : (i - 8) % 12;
    if (k < 4) {
        side_load(s->z, k, part == 0 ? s->high : s->low, s->steps, part == 2 ? 32 : 0);
        return;
    }
    const int n = part == 0 ? k - 4 : (k - 4) / 2, j = side_octet(n);
    const int upper = part != 0 && k % 2; /* nibbles */
    if (!upper)
        s->column = side_columns(s->z, n);
    if (part == 0) {
        s->bits[j] = s->column;
        return;
    }
    const vi bits = s->bits[j], low = upper ? vi_srl(s->column, 4) : s->column;
    const vi high = !upper ? vi_sll(bits, part == 1 ? 4 : 2) : part == 1 ? bits : vi_srl(bits, 2);
    vi_store(s->w[4 * (part - 1) + j + 8 * upper], vi_or(vi_and(low, m15), vi_and(high, m48)));
}

/* The scales and d: the last 18 bytes of the block, of 32 transposed. Not inlined: it would take the registers of the
 * products. */
static __attribute__((noinline)) void duo_header(struct duo_panel *p, rows_t row)
{
    enum { AT = sizeof(struct pn_q6_k) - 32, SCALES = offsetof(struct pn_q6_k, scales) - AT };
    vi c[8];
    columns8(c, row, AT);
    PRAGMA_UNROLL
    for (int g = 0; g < 16; g++) {
        const int byte = (SCALES + g) % 4;
        vi_store(p->sc[g], _mm512_srai_epi16(vi_shuffle(c[(SCALES + g) / 4], bytes16(-1, byte, -1, byte)), 8));
    }
    vi_store_f16(p->d, vi_srl(c[7], 16));
}

/* What the sums of a row's half sub-blocks start at: -32 times those of its activations; twice. */
INLINE void duo_start(int32_t start[16][4], const int8_t *q)
{
    PRAGMA_UNROLL
    for (int k = 0; k < 4; k++) {
        const vi fours = _mm512_dpbusd_epi32(vi_set1_32(0), vi_set1_8(32), _mm512_load_si512(q + 64 * k));
        const vi eights = _mm512_add_epi32(fours, _mm512_shuffle_epi32(fours, _MM_PERM_BADC));
        vi_store(start[4 * k], vi_sub_32(vi_set1_32(0), eights));
    }
}

/* c[n * mr][NR] += one super-block, by n register tiles, each with a job if with_jobs. mr and with_jobs are constants
 * at every call. q, d: of the activation rows. */
INLINE void duo_tiles(int mr, int with_jobs, int32_t n, const struct duo_panel *t, const int8_t *q, const float *d,
                      struct duo_job *job, float *c)
{
    int32_t start[DUO_MR][16][4] __attribute__((aligned(64)));
    for (; n > 0; n--, q += mr * PN_QK, d += mr, c += mr * NR) {
        if (with_jobs && job->half == 0)
            duo_header(job->to, job->row);
        __m512i tot[DUO_MR][2];
        PRAGMA_UNROLL
        for (int i = 0; i < mr; i++) {
            duo_start(start[i], q + PN_QK * i);
            side_clear(2, tot[i]);
        }
        struct duo_side side;
        const uint8_t *ahead = job->ahead;
        const size_t step = job->step;
        if (with_jobs) {
            side = duo_first_side(job);
            duo_next_job(job);
        }
        for (int half = 0; half < 2; half++) { /* of the products; of the job it is a side */
            const uint8_t *w0 = t[0].w[16 * half][0], *w1 = t[1].w[16 * half][0];
            const int16_t(*sc0)[LANES][2] = t[0].sc + 8 * half, (*sc1)[LANES][2] = t[1].sc + 8 * half;
            PRAGMA_UNROLL
            for (int g = 0; g < 8; g++) {
                __m512i x0[DUO_MR][2], x1[DUO_MR][2]; /* of both panels */
                PRAGMA_UNROLL
                for (int i = 0; i < mr; i++)
                    x0[i][0] = x0[i][1] = x1[i][0] = x1[i][1] = bcast8_once(start[i][8 * half + g]);
                PRAGMA_UNROLL
                for (int k = 2 * g; k < 2 * (g + 1); k++) {
                    const __m512i u0[2] = { load_once(w0 + 128 * k), load_once(w0 + 128 * k + 64) };
                    const __m512i u1[2] = { load_once(w1 + 128 * k), load_once(w1 + 128 * k + 64) };
                    PRAGMA_UNROLL
                    for (int i = 0; i < mr; i++) {
                        const __m512i b = bcast8_once(q + PN_QK * i + 128 * half + 8 * k);
                        side_dots(x0[i], u0, b);
                        side_dots(x1[i], u1, b);
                        if (with_jobs && i == 0) /* and the other step after the last row's products */
                            duo_step(&side, 2 * k);
                    }
                    if (k % 2 == 1)
                        short_jump();
                    if (with_jobs) {
                        duo_step(&side, 2 * k + 1);
                        _mm_prefetch((const char *)ahead + 64 * (k % 4), _MM_HINT_T0);
                        if (k % 4 == 3)
                            ahead += step;
                    }
                }
                const __m512i s0 = _mm512_load_si512(sc0[g]), s1 = _mm512_load_si512(sc1[g]);
                PRAGMA_UNROLL
                for (int i = 0; i < mr; i++) {
                    tot[i][0] = side_scaled(tot[i][0], x0[i], s0);
                    tot[i][1] = side_scaled(tot[i][1], x1[i], s1);
                }
            }
            if (with_jobs && half == 0)
                duo_second_side(&side);
        }
        const __m512 d0 = _mm512_load_ps(t[0].d), d1 = _mm512_load_ps(t[1].d);
        PRAGMA_UNROLL
        for (int i = 0; i < mr; i++) {
            const __m512 da = _mm512_set1_ps(d[i]);
            const __m512 y0 = _mm512_mul_ps(d0, _mm512_cvtepi32_ps(tot[i][0])),
                         y1 = _mm512_mul_ps(d1, _mm512_cvtepi32_ps(tot[i][1]));
            _mm512_store_ps(c + NR * i, _mm512_fmadd_ps(y0, da, _mm512_load_ps(c + NR * i)));
            _mm512_store_ps(c + NR * i + 16, _mm512_fmadd_ps(y1, da, _mm512_load_ps(c + NR * i + 16)));
        }
    }
}

typedef void duo_fn(int32_t n, const struct duo_panel *t, const int8_t *q, const float *d, struct duo_job *job,
                    float *c);
#define DUO(mr, with_jobs)                                                                                       \
    static __attribute__((noinline)) void duo_##mr##_##with_jobs(                                                \
        int32_t n, const struct duo_panel *t, const int8_t *q, const float *d, struct duo_job *job, float *c)    \
    {                                                                                                            \
        duo_tiles(mr, with_jobs, n, t, q, d, job, c);                                                            \
    }
DUO(1, 0)
DUO(2, 0)
DUO(3, 0)
DUO(4, 0)
DUO(1, 1)
DUO(2, 1)
DUO(3, 1)
static duo_fn *const duo_rest[DUO_MR + 1] = { NULL, duo_1_0, duo_2_0, duo_3_0, duo_4_0 };
static duo_fn *const duo_jobs[DUO_JOB_MR + 1] = { NULL, duo_1_1, duo_2_1, duo_3_1 };

/* n jobs beside which there is nothing to multiply */
static __attribute__((noinline)) void duo_unpack(int32_t n, struct duo_job *job)
{
    for (; n > 0; n--, duo_next_job(job)) {
        struct duo_side side = duo_first_side(job);
        if (job->half == 0)
            duo_header(job->to, job->row);
        const rows_t ahead = { job->ahead, job->step };
        for (int i = 0; i < 2; i++, duo_second_side(&side)) {
            PRAGMA_UNROLL /* of 16: so much gcc unrolls */
            for (int k = 0; k < 16; k++)
                duo_step(&side, k);
            fetch_rows(ahead, 8, 4, 2 * i, 4); /* not all at once, then some would be dropped */
            PRAGMA_UNROLL
            for (int k = 16; k < 32; k++)
                duo_step(&side, k);
            fetch_rows(ahead, 8, 4, 2 * i + 1, 4);
        }
    }
}

/* Lines are fetched in the order of the file, those of the next NR rows. Where these and what is in use are more than
 * half of Zen 5's L2, which then drops some too early, those of the same rows so many super-blocks on: more with few
 * activation rows, which take less time. */
#define DUO_AHEAD(m) ((m) < 8 ? 5 : 3)
#define DUO_L2 (512 * 1024)

/* n: a multiple of NR; 0 < m <= DUO_MAX */
static __attribute__((noinline)) void mm_duo_q6_k(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,
                                                  const struct pn_act *a, int32_t m0, int32_t m)
{
    const size_t block = sizeof(struct pn_q6_k);
    struct duo_panel t[2][2] __attribute__((aligned(64)));
    float acc[DUO_MAX * NR] __attribute__((aligned(64)));
    const bool large = 2 * NR * row_bytes + (size_t)m * (size_t)a->k > DUO_L2;
    /* register tiles with a job: n_larger of mr + 1 rows, then n_smaller of mr, which with few rows is 0 */
    const int32_t m_jobs = m < DUO_JOBS * DUO_JOB_MR ? m : DUO_JOBS * DUO_JOB_MR;
    const int32_t mr = m_jobs / DUO_JOBS, n_larger = m_jobs % DUO_JOBS, n_smaller = DUO_JOBS - n_larger;
    const int32_t m_larger = (mr + 1) * n_larger;
    int now = 0;
    duo_unpack(DUO_JOBS, &(struct duo_job){ { w, row_bytes }, t[0], 0, w, 0 });
    for (int32_t n0 = 0; n0 < n; n0 += NR) {
        const uint8_t *wr = (const uint8_t *)w + (size_t)n0 * row_bytes, *coming = wr + NR * row_bytes;
        const uint8_t *after = n0 + NR < n ? coming : wr; /* what is unpacked last is multiplied by nobody */
        memset(acc, 0, (size_t)m * NR * sizeof *acc);
        for (int32_t b = 0; b < a->nb; b++, now ^= 1) {
            struct duo_job job = { { b + 1 < a->nb ? wr + (size_t)(b + 1) * block : after, row_bytes }, t[1 - now], 0,
                                   coming + (size_t)b * NR * block, block };
            if (large) {
                const int32_t soon = b + DUO_AHEAD(m);
                job.ahead = soon < a->nb ? wr + (size_t)soon * block : coming + (size_t)(soon - a->nb) * block;
                job.step = row_bytes;
            }
            if (b + 1 == a->nb) /* to be written soon */
                for (int32_t i = 0; i < m; i++)
                    fetch_lines((const uint8_t *)(c + (size_t)i * ldc + n0), NR / 16);
            const size_t r0 = (size_t)b * (size_t)a->m + (size_t)m0;
            const int8_t *q = a->q + r0 * PN_QK;
            const float *d = a->d + r0;
            if (n_larger > 0)
                duo_jobs[mr + 1](n_larger, t[now], q, d, &job, acc);
            if (mr > 0)
                duo_jobs[mr](n_smaller, t[now], q + m_larger * PN_QK, d + m_larger, &job, acc + m_larger * NR);
            else
                duo_unpack(n_smaller, &job);
            if (m > m_jobs)
                duo_rest[m - m_jobs](1, t[now], q + m_jobs * PN_QK, d + m_jobs, &job, acc + m_jobs * NR);
        }
        for (int32_t i = 0; i < m; i++)
            put_sums(c + (size_t)i * ldc + n0, acc + (size_t)i * NR, NR, NR);
    }
}

#endif
