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
