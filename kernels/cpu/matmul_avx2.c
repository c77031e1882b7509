// Matrix products with AVX2 and FMA in f32. The micro kernel keeps 6×16 sums in 12 of the 16 registers: 12 FMA per
// 2 vectors of w and 6 broadcasts of x, so that the two FMA ports and not the two load ports are the limit.
#if defined(__x86_64__)
#include "matmul.h"
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define INLINE static inline __attribute__((always_inline, target("avx2,fma,f16c")))

// SHARE is the part of the next strip, in bytes per k, that each of a strip's micro kernels prefetches into L2.
enum { MR = 6, NR = 16, NB = 128, SHARE = 4 * MR * NR / NB };

// load8 reads elements [i, i+8) of a row as f32.
INLINE __m256 load8(const char *row, int32_t dtype, int64_t i) {
    if (dtype == PBS_F32)
        return _mm256_loadu_ps((const float *)(row + 4 * i));
    __m128i h = _mm_loadu_si128((const __m128i *)(row + 2 * i));
    if (dtype == PBS_F16)
        return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

// transpose8 turns rows into columns.
INLINE void transpose8(__m256 v[8]) {
    __m256 a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0x44);
            b[i + 2 * j + 1] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0xee);
        }
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        v[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

INLINE void pack8(float *dst, const char *w, int64_t stride, int32_t dtype, int64_t rows, int64_t k0, int64_t k, int64_t kmax) {
    int64_t i = 0, whole = k0 + k <= kmax ? k : kmax - k0;
    for (; i + 8 <= whole; i += 8) {
        __m256 v[8];
        for (int j = 0; j < 8; j++)
            v[j] = j < rows ? load8(w + j * stride, dtype, k0 + i) : _mm256_setzero_ps();
        transpose8(v);
        for (int j = 0; j < 8; j++)
            _mm256_storeu_ps(dst + (i + j) * NR, v[j]);
    }
    for (; i < k; i++)
        for (int j = 0; j < 8; j++)
            dst[i * NR + j] = j < rows && i < whole ? pbs_element(w + j * stride, dtype, k0 + i) : 0;
}

TARGET static void pack_w(void *dst, const void *w, int64_t stride, int32_t dtype, int64_t rows, int64_t k0, int64_t k, int64_t kmax) {
    for (int j = 0; j < NR; j += 8) {
        float *d = (float *)dst + j;
        const char *row = (const char *)w + j * stride;
        if (dtype == PBS_F32)
            pack8(d, row, stride, PBS_F32, rows - j, k0, k, kmax);
        else if (dtype == PBS_BF16)
            pack8(d, row, stride, PBS_BF16, rows - j, k0, k, kmax);
        else
            pack8(d, row, stride, PBS_F16, rows - j, k0, k, kmax);
    }
}

TARGET static void pack_x(void *dst, const void *x, int64_t stride, int64_t rows, int64_t k, int64_t K) {
    (void)K; // step is 1: there is nothing to pad
    float *d = dst;
    const char *row[MR];
    for (int64_t r = 0; r < MR; r++)
        row[r] = (const char *)x + (r < rows ? r : 0) * stride; // rows that are not there repeat the first: their sums are dropped
    for (int64_t i = 0; i < k; i++)
        for (int r = 0; r < MR; r++)
            d[i * MR + r] = pbs_element(row[r], PBS_F32, i);
}

TARGET static void micro(const void *x, const void *w, int64_t k, float *c, int64_t ldc, int add, const char *next) {
    const float *a = x, *b = w;
    __m256 s[MR][2];
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++) {
        _mm_prefetch((const char *)(c + r * ldc), _MM_HINT_T0);
        _mm_prefetch((const char *)(c + r * ldc + NR - 1), _MM_HINT_T0);
        s[r][0] = s[r][1] = _mm256_setzero_ps();
    }
#pragma GCC unroll 4
    for (int64_t i = 0; i < k; i++, a += MR, b += NR) {
        __m256 b0 = _mm256_load_ps(b), b1 = _mm256_load_ps(b + 8);
        _mm_prefetch((const char *)(b + 16 * NR), _MM_HINT_T0);
        _mm_prefetch(next + SHARE * i, _MM_HINT_T1);
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++) {
            __m256 v = _mm256_broadcast_ss(a + r);
            s[r][0] = _mm256_fmadd_ps(v, b0, s[r][0]);
            s[r][1] = _mm256_fmadd_ps(v, b1, s[r][1]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++, c += ldc)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++)
            _mm256_storeu_ps(c + 8 * j, add ? _mm256_add_ps(_mm256_loadu_ps(c + 8 * j), s[r][j]) : s[r][j]);
}

// exp8 is exp within 2 units in the last place (Cephes' polynomial), for |x| <= 87.
INLINE __m256 exp8(__m256 x) {
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 f = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    f = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), f);
    __m256 p = _mm256_set1_ps(1.9875691500e-4f);
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.3981999507e-3f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(8.3334519073e-3f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(4.1665795894e-2f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.6666665459e-1f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(5.0000001201e-1f));
    p = _mm256_fmadd_ps(_mm256_mul_ps(p, f), f, _mm256_add_ps(f, _mm256_set1_ps(1)));
    __m256i e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(p, _mm256_castsi256_ps(e));
}

TARGET static void swiglu(void *out, int32_t dtype, const float *gate, const float *up, int64_t n) {
    (void)dtype;
    float *o = out; // without bf16 products the device computes in f32 throughout
    const __m256 limit = _mm256_set1_ps(87), one = _mm256_set1_ps(1), sign = _mm256_set1_ps(-0.0f);
    for (int64_t i = 0; i < n; i += 8) {
        float g8[8] = {0}, u8[8] = {0}, o8[8];
        const float *g = gate + i, *u = up + i;
        int64_t left = n - i;
        if (left < 8) {
            __builtin_memcpy(g8, g, 4 * left);
            __builtin_memcpy(u8, u, 4 * left);
            g = g8, u = u8;
        }
        __m256 v = _mm256_loadu_ps(g);
        __m256 t = _mm256_max_ps(_mm256_sub_ps(_mm256_setzero_ps(), limit), _mm256_min_ps(limit, _mm256_xor_ps(v, sign)));
        v = _mm256_mul_ps(_mm256_div_ps(v, _mm256_add_ps(one, exp8(t))), _mm256_loadu_ps(u));
        if (left >= 8) {
            _mm256_storeu_ps(o + i, v);
            continue;
        }
        _mm256_storeu_ps(o8, v);
        __builtin_memcpy(o + i, o8, 4 * left);
    }
}

const struct pbs_kernel pbs_kernel_avx2 = {
    .t = {.mr = MR, .nr = NR, .kc = 512, .nb = NB, .step = 1},
    .pack_w = pack_w,
    .pack_x = pack_x,
    .micro = micro,
    .swiglu = swiglu,
    .dot = pbs_dot_avx2,
};
#endif
