// Pooling of blocks and choice among them, included once per instruction set after its vec_*.h and with SISA, its name, and SLEVEL,
// its number. Arithmetic is f32; sums over positions run in order, so that means are the same to the bit in every set.
#include "select.h"
#include <math.h>

#define SCAT2(a, b) a##b
#define SCAT(a, b) SCAT2(a, b)

ALWAYS_INLINE float select_element(const char *row, int32_t dtype, int64_t d) {
    if (dtype == PBS_F32) return ((const float *)row)[d];
    return bf16_widen(((const uint16_t *)row)[d]);
}

// A row of x at place base+i of the order.
#define POOL_ROW(i) (x + (perm ? segment + perm[base + (i)] : base + (i)) * step)

// pool_columns sums `pairs` pairs of vectors of each row from column d on. The next segment is prefetched front to back, as rows in
// a sorted order give hardware no stream to follow.
TARGET ALWAYS_INLINE void pool_columns(const struct select_args *a, const char *x, const uint16_t *perm, int64_t segment, int64_t base, int64_t n,
                                       float *mean, int32_t dtype, int64_t d, int pairs) {
    int64_t size = dtype == PBS_F32 ? 4 : 2, step = a->key_stride * size;
    float inv = 1 / (float)a->block, sums[2 * VL];
    V s[4][2];
    for (int p = 0; p < pairs; p++) s[p][0] = s[p][1] = VSET1(0);
    for (int64_t i = 0; i < n; i++) {
        const char *row = POOL_ROW(i) + d * size, *ahead = x + (base + a->segment + i) * step + d * size;
#pragma GCC unroll 4
        for (int p = 0; p < pairs; p++) {
            V lo, hi;
            if (dtype == PBS_F32) lo = VLOAD((const float *)row + 2 * VL * p), hi = VLOAD((const float *)row + 2 * VL * p + VL);
            else VPAIR(row + 4 * VL * p, lo, hi);
            s[p][0] = VADD(s[p][0], lo), s[p][1] = VADD(s[p][1], hi);
        }
        for (int64_t l = 0; l < 2 * VL * size * pairs; l += 64) __builtin_prefetch(ahead + l, 0, 2);
    }
#pragma GCC unroll 4
    for (int p = 0; p < pairs; p++) {
        VSTORE(sums, s[p][0]), VSTORE(sums + VL, s[p][1]);
        for (int i = 0; i < 2 * VL; i++) mean[d + 2 * VL * p + i] = inv * (dtype == PBS_F32 ? sums[i] : sums[i / 2 + i % 2 * VL]);
    }
}

// pool_rows sums n rows of x, at places [base, base+n) of the order, into mean.
TARGET ALWAYS_INLINE void pool_rows(const struct select_args *a, const char *x, const uint16_t *perm, int64_t segment, int64_t base, int64_t n,
                                    float *mean, int32_t dtype) {
    int64_t step = a->key_stride * (dtype == PBS_F32 ? 4 : 2), d = 0;
    for (; d + 8 * VL <= a->head_dim; d += 8 * VL) pool_columns(a, x, perm, segment, base, n, mean, dtype, d, 4);
    for (; d + 4 * VL <= a->head_dim; d += 4 * VL) pool_columns(a, x, perm, segment, base, n, mean, dtype, d, 2);
    for (; d + 2 * VL <= a->head_dim; d += 2 * VL) pool_columns(a, x, perm, segment, base, n, mean, dtype, d, 1);
    for (; d < a->head_dim; d++) {
        float s = 0;
        for (int64_t i = 0; i < n; i++) s += select_element(POOL_ROW(i), dtype, d);
        mean[d] = s * (1 / (float)a->block);
    }
}

TARGET void SCAT(pbs_pool_blocks_, SISA)(const struct select_args *a, const void *x, const uint16_t *perm, int64_t sorted, int64_t lo, int64_t hi,
                                         int64_t j0, int64_t j1, float *means) {
    for (int64_t j = j0; j < j1; j++, means += a->head_dim) {
        int64_t base = j * a->block, end = base + a->block, segment = base / a->segment * a->segment;
        const uint16_t *p = base < sorted ? perm : NULL;
        if (base < lo) base = lo;
        if (end > hi) end = hi;
        base -= lo, end -= lo;
        if (a->dtype == PBS_F32) pool_rows(a, x, p, segment, base, end - base, means, PBS_F32);
        else pool_rows(a, x, p, segment, base, end - base, means, PBS_BF16);
    }
}

// Half as many floats as a vector holds, which widened fill one.
typedef int32_t half_ints __attribute__((vector_size(2 * VL)));
typedef float half_floats __attribute__((vector_size(2 * VL)));
typedef double doubles __attribute__((vector_size(4 * VL)));

TARGET double SCAT(pbs_mass_from_, SISA)(const float *weights, int64_t n, int32_t least, int count) {
    doubles lanes[2] = {{0}};
    half_ints numbers = {0};
    double sum = 0;
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++) {
            half_ints bits, heavy;
            memcpy(&bits, weights + i + p * VL / 2, sizeof bits);
            heavy = (bits & INT32_MAX) >= least;
            if (count) numbers -= heavy;
            else lanes[p] += __builtin_convertvector((half_floats)(bits & heavy), doubles);
        }
    for (; i < n; i++) {
        int32_t u;
        memcpy(&u, weights + i, 4);
        sum += (u & INT32_MAX) < least ? 0 : count ? 1 : weights[i];
    }
    lanes[0] += lanes[1];
    for (int l = 0; l < VL / 2; l++) sum += count ? numbers[l] : lanes[0][l];
    return sum;
}

// score_keys writes the scores of some queries with VL keys, whose dimensions lie in panel [head_dim][VL].
TARGET ALWAYS_INLINE void score_keys(const float *panel, const float *q, int64_t head_dim, float *scores, int64_t stride, int rows) {
    V s[8];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) s[r] = VSET1(0);
    for (int64_t d = 0; d < head_dim; d++) {
        V k = VLOAD(panel + d * VL);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) s[r] = VFMA(VBCAST(q + r * head_dim + d), k, s[r]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) VSTORE(scores + r * stride, s[r]);
}

// weigh turns n products into powers of two relative to the highest; c is scale*log2(e).
TARGET ALWAYS_INLINE void weigh(float *weights, int64_t n, float c) {
    V top = VSET1(-INFINITY), cv = VSET1(c);
    for (int64_t j = n; j % VL; j++) weights[j] = -INFINITY;
    for (int64_t j = 0; j < n; j += VL) top = VMAX(VLOAD(weights + j), top);
    V shift = VSET1(-VHMAX(top) * c);
    for (int64_t j = 0; j < n; j += VL) VSTORE(weights + j, vexp2(VFMA(VLOAD(weights + j), cv, shift)));
}

TARGET void SCAT(pbs_weigh_blocks_, SISA)(const struct select_args *a, const float *q, const float *k, int64_t i0, int64_t i1, float *weights,
                                          int64_t stride) {
    float *panel = weights + PBS_WEIGH_ROWS * stride;
    int64_t dims = a->head_dim, n = pbs_candidates(a, i1 - 1);
    for (int64_t j = 0; j < n; j += VL) {
        for (int64_t l = 0; l < VL; l++)
            for (int64_t d = 0; d < dims; d++) panel[d * VL + l] = j + l < n ? k[(j + l) * dims + d] : 0;
        int64_t r = 0;
        for (; r + 8 <= i1 - i0; r += 8) score_keys(panel, q + r * dims, dims, weights + r * stride + j, stride, 8);
        for (; r < i1 - i0; r++) score_keys(panel, q + r * dims, dims, weights + r * stride + j, stride, 1);
    }
    for (int64_t i = i0; i < i1; i++) weigh(weights + (i - i0) * stride, pbs_candidates(a, i), a->scale * (float)M_LOG2E);
}
