// AVX2 vectors under the names that the templates attend_tile.h, attend_decode.h and dot.h use.
#pragma once
#include "host.h"
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define V __m256
#define VL 8
#define VLOAD(p) _mm256_loadu_ps(p)
#define VSTORE(p, v) _mm256_storeu_ps(p, v)
#define VSET1(x) _mm256_set1_ps(x)
#define VBCAST(p) _mm256_broadcast_ss(p)
#define VFMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define VADD(a, b) _mm256_add_ps(a, b)
#define VMAX(a, b) _mm256_max_ps(a, b)
#define VHMAX(v) vhmax(v)
#define VHSUM(v) vhsum(v)
#define VANY_ABOVE(v, x) _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_set1_ps(x), _CMP_GT_OQ))
#define VPAIR(p, lo, hi) vpair(p, &(lo), &(hi))
#define VHALF(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))

TARGET ALWAYS_INLINE float vhmax(V v) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

TARGET ALWAYS_INLINE float vhsum(V v) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

// The even and the odd ones of 16 bf16.
TARGET ALWAYS_INLINE void vpair(const char *p, V *lo, V *hi) {
    __m256i x = _mm256_loadu_si256((const __m256i *)p);
    *lo = _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
    *hi = _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32((int)0xffff0000)));
}

// 2^x for x <= 2^7, within 2 ulp; 0 below 2^-127, NaN stays NaN. Adding the magic number rounds x to an integer n and leaves
// n + 127 in the low bits; what remains, in [-1/2, 1/2], goes through a minimax polynomial (7.5e-8).
TARGET ALWAYS_INLINE V vexp2(V x) {
    x = _mm256_max_ps(VSET1(-127), x);
    V magic = VSET1(12582912.0f + 127), y = _mm256_add_ps(x, magic), r = _mm256_sub_ps(x, _mm256_sub_ps(y, magic));
    V p = VFMA(VSET1(0.00132764725f), r, VSET1(0.00967554096f));
    p = VFMA(p, r, VSET1(0.0555071309f));
    p = VFMA(p, r, VSET1(0.240221202f));
    p = VFMA(p, r, VSET1(0.693146944f));
    p = VFMA(p, r, VSET1(1.00000012f));
    return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(y), 23)));
}
