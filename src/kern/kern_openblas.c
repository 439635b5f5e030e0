/* SPDX-License-Identifier: Apache-2.0 */
/* The portable fast path, for CPUs without hand-written kernels: mm_f32 by OpenBLAS. Weights are
 * dequantised into a panel on the stack, panel by panel, and multiplied by cblas_sgemm. BLAS sums
 * in an order of its own, which may depend on m: these slots are [close] (kern.h, rule 1).
 *
 * puna's own threads split the rows of a weight, so each BLAS call must use one thread. OpenBLAS
 * keeps that number for the whole process: choosing this tier sets it to 1 also for the program's
 * other uses of BLAS. */
#include "kern/kern.h"

#include <cblas.h>

#include "kern/kern_c.h"

/* 128 KiB of f32. 512 columns keep the products long; 64 rows reuse each row of x. */
enum { PANEL_ROWS = 64, PANEL_COLS = 512 };

static void mm_f32_panels(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,
                          int32_t k, const float *x, size_t ldx, int32_t m, enum pn_type type)
{
    float panel[PANEL_ROWS * PANEL_COLS];
    const uint8_t *rows = w;
    for (int32_t j0 = 0; j0 < n; j0 += PANEL_ROWS) {
        const int32_t nj = n - j0 < PANEL_ROWS ? n - j0 : PANEL_ROWS;
        for (int32_t k0 = 0; k0 < k; k0 += PANEL_COLS) {
            const int32_t nk = k - k0 < PANEL_COLS ? k - k0 : PANEL_COLS;
            const size_t skip = pn_row_bytes(type, k0);
            for (int32_t j = 0; j < nj; j++)
                pn_dequant_c[type](panel + (size_t)j * PANEL_COLS,
                                   rows + (size_t)(j0 + j) * row_bytes + skip, nk);
            const float beta = k0 == 0 ? 0.0f : 1.0f; /* 0: c is written, whatever it held */
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, nj, nk, 1.0f, x + k0,
                        (blasint)ldx, panel, PANEL_COLS, beta, c + j0, (blasint)ldc);
        }
    }
}

#define MM_F32(type)                                                                              \
    static void mm_f32_##type(float *c, size_t ldc, const void *w, size_t row_bytes, int32_t n,   \
                              int32_t k, const float *x, size_t ldx, int32_t m)                   \
    {                                                                                             \
        if (n > 0 && m > 0)                                                                       \
            mm_f32_panels(c, ldc, w, row_bytes, n, k, x, ldx, m, PN_##type);                      \
    }
MM_F32(F32)
MM_F32(F16)
MM_F32(BF16)
MM_F32(Q4_0)
MM_F32(Q4_1)
MM_F32(Q5_0)
MM_F32(Q5_1)
MM_F32(Q8_0)
MM_F32(IQ4_NL)
MM_F32(Q2_K)
MM_F32(Q3_K)
MM_F32(Q4_K)
MM_F32(Q5_K)
MM_F32(Q6_K)
MM_F32(IQ4_XS)

void pn_kern_init_openblas(struct pn_kern *k)
{
    openblas_set_num_threads(1);
    k->prefer_f32 = 1;
    /* the register tiles are the library's */
#define TYPED(type) k->mm_f32[PN_##type] = (struct pn_kern_mm_f32){ mm_f32_##type, { 0, 0 } }
    TYPED(F32);
    TYPED(F16);
    TYPED(BF16);
    TYPED(Q4_0);
    TYPED(Q4_1);
    TYPED(Q5_0);
    TYPED(Q5_1);
    TYPED(Q8_0);
    TYPED(IQ4_NL);
    TYPED(Q2_K);
    TYPED(Q3_K);
    TYPED(Q4_K);
    TYPED(Q5_K);
    TYPED(Q6_K);
    TYPED(IQ4_XS);
#undef TYPED
}
