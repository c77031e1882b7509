// Attention for AVX2 and FMA.
#if defined(__x86_64__)
#include "attend.h"
#include "vec_avx2.h"

#define ISA avx2
#define PAIRS 0
#define MR 6
#define KT 128
#define ST 128
#define RG 48
#define VEXP2(x) vexp2(x)
#define VVISIBLE(s, kpos, pos) vvisible(s, kpos, pos)
#define MAC(acc, x, y) _mm256_fmadd_ps(x, y, acc)
#define TRANSPOSE(dst, src, ld) transpose(dst, src, ld)

TARGET ALWAYS_INLINE V vvisible(V s, const int32_t *kpos, int32_t pos) {
    __m256i hidden = _mm256_cmpgt_epi32(_mm256_loadu_si256((const __m256i *)kpos), _mm256_set1_epi32(pos));
    return _mm256_blendv_ps(s, VSET1(-__builtin_inff()), _mm256_castsi256_ps(hidden));
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

TARGET ALWAYS_INLINE void transpose(float *dst, const float *src, int64_t ld) {
    V r[8], t[8];
    for (int i = 0; i < 4; i++) {  // rows i and i+4 share a register, so that two rounds of 128-bit shuffles finish the job
        r[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(src + i * ld)), _mm_loadu_ps(src + (i + 4) * ld), 1);
        r[i + 4] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(src + i * ld + 4)), _mm_loadu_ps(src + (i + 4) * ld + 4), 1);
    }
    for (int h = 0; h < 8; h += 4) {
        t[0] = _mm256_unpacklo_ps(r[h], r[h + 1]), t[1] = _mm256_unpackhi_ps(r[h], r[h + 1]);
        t[2] = _mm256_unpacklo_ps(r[h + 2], r[h + 3]), t[3] = _mm256_unpackhi_ps(r[h + 2], r[h + 3]);
        VSTORE(dst + (h + 0) * 16, _mm256_shuffle_ps(t[0], t[2], 0x44));
        VSTORE(dst + (h + 1) * 16, _mm256_shuffle_ps(t[0], t[2], 0xee));
        VSTORE(dst + (h + 2) * 16, _mm256_shuffle_ps(t[1], t[3], 0x44));
        VSTORE(dst + (h + 3) * 16, _mm256_shuffle_ps(t[1], t[3], 0xee));
    }
}

#include "attend_tile.h"
#include "attend_blocks.h"
#include "attend_strided.h"
#include "attend_lines.h"

#define DISA avx2
#define VREDUCE4(dst, a, b, c, d) vreduce4(dst, a, b, c, d)
TARGET ALWAYS_INLINE void vreduce4(float *dst, V a, V b, V c, V d) {
    V x = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(dst, _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)));
}
#include "attend_decode.h"
#endif
