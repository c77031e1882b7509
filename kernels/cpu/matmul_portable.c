// Matrix products in plain C, for hosts without AVX2 and for other architectures. The inner loops have fixed lengths, so
// that compilers turn them into whatever vectors the target has.
#include "matmul.h"
#include <math.h>

enum { MR = 4, NR = 8 };

static void pack_w(void *dst, const void *w, int64_t stride, int32_t dtype, int64_t rows, int64_t k0, int64_t k, int64_t kmax) {
    float *d = dst;
    for (int64_t j = 0; j < NR; j++) {
        const char *row = (const char *)w + j * stride;
        for (int64_t i = 0; i < k; i++)
            d[i * NR + j] = j < rows && k0 + i < kmax ? pbs_element(row, dtype, k0 + i) : 0;
    }
}

static void pack_x(void *dst, const void *x, int64_t stride, int64_t rows, int64_t k, int64_t K) {
    float *d = dst;
    for (int64_t r = 0; r < MR; r++)
        for (int64_t i = 0; i < K; i++)
            d[i * MR + r] = r < rows && i < k ? pbs_element((const char *)x + r * stride, PBS_F32, i) : 0;
}

static void micro(const void *x, const void *w, int64_t k, float *c, int64_t ldc, int add, const char *next) {
    const float *a = x, *b = w;
    float sum[MR][NR] = {{0}};
    for (int64_t i = 0; i < k; i++, a += MR, b += NR)
        for (int r = 0; r < MR; r++)
            for (int j = 0; j < NR; j++)
                sum[r][j] += a[r] * b[j];
    for (int r = 0; r < MR; r++)
        for (int j = 0; j < NR; j++)
            c[r * ldc + j] = add ? c[r * ldc + j] + sum[r][j] : sum[r][j];
}

static void swiglu(void *out, int32_t dtype, const float *gate, const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float y = gate[i] / (1 + expf(-gate[i])) * up[i];
        if (dtype == PBS_F32)
            ((float *)out)[i] = y;
        else
            ((uint16_t *)out)[i] = pbs_to_bf16(y);
    }
}

// dot_chunk adds the products of n <= PBS_CHUNK elements to as many sums; x of bf16 weights is split.
static inline __attribute__((always_inline)) void dot_chunk(float *sum, const void *w, int32_t dtype, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        sum[i] += pbs_element(w, dtype, i) * x[dtype == PBS_BF16 ? i / 2 + i % 2 * (PBS_CHUNK / 2) : i];
}

static inline __attribute__((always_inline)) float dot_row(const char *w, int32_t dtype, const float *x, int64_t k) {
    float sum[PBS_CHUNK] = {0}, total = 0;
    int64_t i = 0, size = dtype == PBS_F32 ? 4 : 2;
    for (; i + PBS_CHUNK <= k; i += PBS_CHUNK)
        dot_chunk(sum, w + i * size, dtype, x + i, PBS_CHUNK);
    dot_chunk(sum, w + i * size, dtype, x + i, k - i);
    for (int l = 0; l < PBS_CHUNK; l++)
        total += sum[l];
    return total;
}

static void dot(float *sum, int64_t lds, const struct pbs_weights *w, int64_t n, const float *x, int64_t ldx, int64_t rows, int64_t k,
                int32_t hints) {
    (void)hints;
    for (int64_t r = 0; r < rows; r++, x += ldx, sum += lds)
        for (int64_t j = 0; j < n; j++) {
            const char *p = (const char *)w->w + j * w->stride;
            sum[j] = w->dtype == PBS_F32    ? dot_row(p, PBS_F32, x, k)
                     : w->dtype == PBS_BF16 ? dot_row(p, PBS_BF16, x, k)
                                            : dot_row(p, PBS_F16, x, k);
        }
}

const struct pbs_kernel pbs_kernel_portable = {
    .t = {.mr = MR, .nr = NR, .kc = 256, .nb = 128, .step = 1},
    .pack_w = pack_w,
    .pack_x = pack_x,
    .micro = micro,
    .swiglu = swiglu,
    .dot = dot,
};
