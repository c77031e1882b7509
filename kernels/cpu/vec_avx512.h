// AVX-512 vectors under the names that the templates attend_tile.h, attend_decode.h and dot.h use. The file that includes
// this defines TARGET, as some add instructions for bf16 to it.
#pragma once
#include "host.h"
#include <immintrin.h>

#define V __m512
#define VL 16
#define VLOAD(p) _mm512_loadu_ps(p)
#define VSTORE(p, v) _mm512_storeu_ps(p, v)
#define VSET1(x) _mm512_set1_ps(x)
#define VBCAST(p) _mm512_set1_ps(*(p))
#define VFMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define VADD(a, b) _mm512_add_ps(a, b)
#define VMAX(a, b) _mm512_max_ps(a, b)
#define VHMAX(v) _mm512_reduce_max_ps(v)
#define VHSUM(v) _mm512_reduce_add_ps(v)
#define VANY_ABOVE(v, x) _mm512_cmp_ps_mask(v, _mm512_set1_ps(x), _CMP_GT_OQ)
#define VPAIR(p, lo, hi) vpair(p, &(lo), &(hi))
#define VHALF(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))

// The even and the odd ones of 32 bf16.
TARGET ALWAYS_INLINE void vpair(const char *p, V *lo, V *hi) {
    __m512i x = _mm512_loadu_si512(p);
    *lo = _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
    *hi = _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32((int)0xffff0000)));
}

// 2^x by floor and remainder in [0, 1); scalef takes the floor itself, gives 0 for -inf, and NaN stays NaN. The polynomial
// is minimax: within 2 ulp.
TARGET ALWAYS_INLINE V vexp2(V x) {
    V r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    V p = VFMA(VSET1(0.00187757669f), r, VSET1(0.00898933969f));
    p = VFMA(p, r, VSET1(0.0558263175f));
    p = VFMA(p, r, VSET1(0.240153611f));
    p = VFMA(p, r, VSET1(0.693153083f));
    p = VFMA(p, r, VSET1(0.99999994f));
    return _mm512_scalef_ps(p, x);
}
