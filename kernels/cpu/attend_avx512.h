// What the AVX-512 variants of attention share.
#pragma once
#include "attend.h"
#include "vec_avx512.h"

#define VVISIBLE(s, kpos, pos) \
    _mm512_mask_blend_ps(_mm512_cmpgt_epi32_mask(_mm512_loadu_si512(kpos), _mm512_set1_epi32(pos)), s, VSET1(-__builtin_inff()))
#define TRANSPOSE(dst, src, ld) transpose(dst, src, ld)

// vexp2 within 7.5e-5, a sixteenth of the rounding to bf16 to come.
TARGET ALWAYS_INLINE V vexp2_coarse(V x) {
    V r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    V p = VFMA(VSET1(0.0780245215f), r, VSET1(0.226067156f));
    p = VFMA(p, r, VSET1(0.695833564f));
    p = VFMA(p, r, VSET1(0.999925196f));
    return _mm512_scalef_ps(p, x);
}

TARGET ALWAYS_INLINE void transpose_rows(float *dst, const V r[16]) {
    V t[16];
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {  // 4x4 blocks inside each 128-bit lane
        V a = _mm512_unpacklo_ps(r[i], r[i + 1]), b = _mm512_unpackhi_ps(r[i], r[i + 1]);
        V c = _mm512_unpacklo_ps(r[i + 2], r[i + 3]), d = _mm512_unpackhi_ps(r[i + 2], r[i + 3]);
        t[i] = _mm512_shuffle_ps(a, c, 0x44), t[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm512_shuffle_ps(b, d, 0x44), t[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {  // then the lanes; t[4*i+j] holds columns j, j+4, j+8, j+12 of rows 4i..4i+3
        V a = _mm512_shuffle_f32x4(t[j], t[4 + j], 0x88), b = _mm512_shuffle_f32x4(t[j], t[4 + j], 0xdd);
        V c = _mm512_shuffle_f32x4(t[8 + j], t[12 + j], 0x88), d = _mm512_shuffle_f32x4(t[8 + j], t[12 + j], 0xdd);
        VSTORE(dst + (j + 0) * 32, _mm512_shuffle_f32x4(a, c, 0x88));
        VSTORE(dst + (j + 4) * 32, _mm512_shuffle_f32x4(b, d, 0x88));
        VSTORE(dst + (j + 8) * 32, _mm512_shuffle_f32x4(a, c, 0xdd));
        VSTORE(dst + (j + 12) * 32, _mm512_shuffle_f32x4(b, d, 0xdd));
    }
}

TARGET ALWAYS_INLINE void transpose(float *dst, const float *src, int64_t ld) {
    V r[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) r[i] = VLOAD(src + i * ld);
    transpose_rows(dst, r);
}

#if PAIRS
// Keys and values that are bf16 already, in rows of whole vectors, need no stage: pack_keys turns 16 rows into columns,
// pack_values interleaves two, and each line of the cache is read once.
#define PACK_DIRECT(head_dim) ((head_dim) % 32 == 0)
TARGET ALWAYS_INLINE void pack_keys(float *dst, const char *const rows[16], int64_t dims) {
    for (int64_t d = 0; d < dims; d += 16) {
        V r[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) r[i] = VLOAD((const float *)rows[i] + d);
        transpose_rows(dst + d * 32, r);
    }
}
TARGET ALWAYS_INLINE void pack_values(uint32_t *dst, int64_t step, const char *even, const char *odd, int64_t cols) {
    const __m512i order = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2,
                                           33, 1, 32, 0);
    const __m512i upper = _mm512_add_epi16(order, _mm512_set1_epi16(16));
    for (int64_t c = 0; c < cols; c += 32, dst += step) {
        __m512i e = _mm512_loadu_si512(even + 2 * c), o = _mm512_loadu_si512(odd + 2 * c);
        _mm512_storeu_si512(dst, _mm512_permutex2var_epi16(e, order, o));
        _mm512_storeu_si512(dst + 16, _mm512_permutex2var_epi16(e, upper, o));
    }
}
#endif
