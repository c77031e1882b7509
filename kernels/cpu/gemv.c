// Products of few rows of x: one pass over the weights, some rows of them at a time.
#include "matmul.h"
#include <string.h>

// ROWS of x share a pass over a block of weight rows: COLS, or fewer where more than one pass needs them and a block of BLOCK
// bytes should stay in the L2 cache.
enum { ROWS = 4, COLS = 64, BLOCK = 1 << 18 };

// finish makes what becomes of sums [ROWS][COLS] of n columns from j on.
static void finish(const struct pbs_kernel *g, const struct pbs_product *p, float sums[2][ROWS * COLS], int64_t row, int64_t rows, int64_t j,
                   int64_t n) {
    for (int h = 0; h < (p->mode == PBS_SWIGLU ? 2 : 1); h++)
        for (int64_t r = 0; p->w[h].bias && r < rows; r++)
            for (int64_t i = 0; i < n; i++)
                sums[h][r * COLS + i] += pbs_element(p->w[h].bias, p->w[h].bias_dtype, j + i);
    for (int64_t r = 0; r < rows; r++) {
        const float *sum = sums[0] + r * COLS;
        int64_t at = (row + r) * p->ldo + j;
        float *out = (float *)p->out + at;
        if (p->mode == PBS_SWIGLU)
            g->swiglu((char *)p->out + at * (p->out_dtype == PBS_F32 ? 4 : 2), p->out_dtype, sum, sums[1] + r * COLS, n);
        else if (p->mode == PBS_ADD)
            for (int64_t i = 0; i < n; i++) out[i] += sum[i];
        else
            memcpy(out, sum, 4 * n);
    }
}

void pbs_gemv(struct pbs_product p) {
    const struct pbs_kernel *g = pbs_kernel_of(p.kernel);
    int64_t cols = BLOCK / (p.k * 4) + 1;
    if (cols > COLS || p.rows <= ROWS) cols = COLS;
    for (int64_t j = 0; j < p.n; j += cols) {
        int64_t n = p.n - j < cols ? p.n - j : cols;
        for (int64_t row = 0; row < p.rows; row += ROWS) {
            int64_t rows = p.rows - row < ROWS ? p.rows - row : ROWS;
            float sums[2][ROWS * COLS];
            for (int h = 0; h < (p.mode == PBS_SWIGLU ? 2 : 1); h++) {
                struct pbs_weights w = p.w[h];
                w.w = (const char *)w.w + j * w.stride;
                const float *x = w.dtype == PBS_BF16 ? p.split : p.x;
                g->dot(sums[h], COLS, &w, n, x + row * p.ldx, p.ldx, rows, p.k, p.hints);
            }
            finish(g, &p, sums, row, rows, j, n);
        }
    }
}

void pbs_widen(float *dst, const void *src, int32_t dtype, int64_t n) {
    if (dtype == PBS_F32)
        memcpy(dst, src, 4 * n);
    else if (dtype == PBS_BF16)
        for (int64_t i = 0; i < n; i++)
            dst[i] = pbs_element(src, PBS_BF16, i);
    else
        for (int64_t i = 0; i < n; i++)
            dst[i] = pbs_element(src, PBS_F16, i);
}

void pbs_gemv_x(float *dst, const void *src, int32_t dtype, int64_t k, int split) {
    for (int64_t i = 0; i < k; i += PBS_CHUNK, dst += PBS_CHUNK) {
        float x[PBS_CHUNK] = {0};
        pbs_widen(x, (const char *)src + i * (dtype == PBS_F32 ? 4 : 2), dtype, k - i < PBS_CHUNK ? k - i : PBS_CHUNK);
        for (int e = 0; e < PBS_CHUNK / 2; e++) {
            dst[split ? e : 2 * e] = x[2 * e];
            dst[split ? PBS_CHUNK / 2 + e : 2 * e + 1] = x[2 * e + 1];
        }
    }
}
