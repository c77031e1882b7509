// Attention for AVX-512, all in f32.
#if defined(__x86_64__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#define ISA avx512
#define PAIRS 0
#define MR 12
#define KT 128
#define ST 128
#define RG 48
#include "attend_avx512.h"
#define VEXP2(x) vexp2(x)
#define MAC(acc, x, y) _mm512_fmadd_ps(x, y, acc)
#include "attend_tile.h"
#include "attend_blocks.h"
#include "attend_strided.h"
#include "attend_lines.h"

#define DISA avx512
#define VREDUCE4(dst, a, b, c, d) vreduce4(dst, a, b, c, d)
TARGET ALWAYS_INLINE __m256 vhalf(V x) { return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1)); }
TARGET ALWAYS_INLINE void vreduce4(float *dst, V a, V b, V c, V d) {
    __m256 x = _mm256_hadd_ps(_mm256_hadd_ps(vhalf(a), vhalf(b)), _mm256_hadd_ps(vhalf(c), vhalf(d)));
    _mm_storeu_ps(dst, _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)));
}
#include "attend_decode.h"
#endif
