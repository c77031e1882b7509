// RMSNorm (arXiv 1910.07467, eq. 4). Compilers vectorise these loops well, so one text serves every instruction set.
#include "norm.h"
#include <math.h>
#include <string.h>

#include "bf16.h"

enum { LANES = 32 };  // independent sums: enough to hide the latency of adds, and they keep rounding small in long rows

static inline __attribute__((always_inline)) float widen_half(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff, u;
    float f;
    if (magnitude >= 0x7c00) u = sign | 0x7f800000 | (magnitude & 0x3ff) << 13;
    else if (magnitude >= 0x400) u = sign | ((magnitude << 13) + 0x38000000);
    else {  // subnormal: magnitude * 2^-24
        f = (float)magnitude * 0x1p-24f;
        return sign ? -f : f;
    }
    memcpy(&f, &u, 4);
    return f;
}

static inline __attribute__((always_inline)) float weight_at(const char *w, int dtype, int64_t i) {
    float f;
    uint16_t h;
    if (dtype == NORM_F32) {
        memcpy(&f, w + 4 * i, 4);
        return f;
    }
    memcpy(&h, w + 2 * i, 2);
    if (dtype == NORM_F16) return widen_half(h);
    return bf16_widen(h);
}

static inline __attribute__((always_inline)) void norm_rows(void *out, int out_dtype, int64_t out_stride, const float *x, int64_t x_stride,
                                                            const char *weight, int weight_dtype, int64_t rows, int64_t n, float eps) {
    for (int64_t r = 0; r < rows; r++, x += x_stride) {
        float sums[LANES] = {0};
        int64_t i = 0;
        for (; i + LANES <= n; i += LANES)
            for (int l = 0; l < LANES; l++) sums[l] += x[i + l] * x[i + l];
        double sum = 0;
        for (int l = 0; l < LANES; l++) sum += sums[l];
        for (; i < n; i++) sum += (double)x[i] * x[i];
        float scale = (float)(1 / sqrt(sum / (double)n + eps));
        if (out_dtype == NORM_F32) {
            float *o = (float *)out + r * out_stride;
            for (i = 0; i < n; i++) o[i] = x[i] * scale * weight_at(weight, weight_dtype, i);
        } else {
            uint16_t *o = (uint16_t *)out + r * out_stride;
            for (i = 0; i < n; i++) o[i] = bf16_narrow(x[i] * scale * weight_at(weight, weight_dtype, i));
        }
    }
}

// The dtypes become constants of each loop.
#define VARIANT(name, target)                                                                                                   \
    target static void name(void *out, int od, int64_t os, const float *x, int64_t xs, const void *w, int wd, int64_t rows,     \
                            int64_t n, float eps) {                                                                             \
        if (od == NORM_F32 && wd == NORM_F32) norm_rows(out, NORM_F32, os, x, xs, w, NORM_F32, rows, n, eps);                   \
        else if (od == NORM_F32 && wd == NORM_BF16) norm_rows(out, NORM_F32, os, x, xs, w, NORM_BF16, rows, n, eps);            \
        else if (od == NORM_F32) norm_rows(out, NORM_F32, os, x, xs, w, NORM_F16, rows, n, eps);                                \
        else if (wd == NORM_F32) norm_rows(out, NORM_BF16, os, x, xs, w, NORM_F32, rows, n, eps);                               \
        else if (wd == NORM_BF16) norm_rows(out, NORM_BF16, os, x, xs, w, NORM_BF16, rows, n, eps);                             \
        else norm_rows(out, NORM_BF16, os, x, xs, w, NORM_F16, rows, n, eps);                                                   \
    }

VARIANT(norm_portable, )
#if defined(__x86_64__)
VARIANT(norm_avx2, __attribute__((target("avx2,fma,f16c"))))
VARIANT(norm_avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c"))))
#endif

void pbs_rms_norm(int isa, void *out, int out_dtype, int64_t out_stride, const float *x, int64_t x_stride, const void *weight,
                  int weight_dtype, int64_t rows, int64_t n, float eps) {
#if defined(__x86_64__)
    if (isa >= 2) norm_avx512(out, out_dtype, out_stride, x, x_stride, weight, weight_dtype, rows, n, eps);
    else if (isa == 1) norm_avx2(out, out_dtype, out_stride, x, x_stride, weight, weight_dtype, rows, n, eps);
    else
#endif
        norm_portable(out, out_dtype, out_stride, x, x_stride, weight, weight_dtype, rows, n, eps);
}
