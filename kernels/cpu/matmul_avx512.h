// Vector helpers of the AVX-512 and AMX kernels.
#pragma once
#include "matmul.h"
#include <immintrin.h>

#define TARGET512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#define TARGET512BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")))
#define INLINE512 static inline __attribute__((always_inline, target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))

void pbs_swiglu_avx512(void *out, int32_t dtype, const float *gate, const float *up, int64_t n);

// pbs_pack_w_pairs packs 32 columns of pairs of bf16, the layout of vdpbf16ps and of the right-hand tiles of AMX.
void pbs_pack_w_pairs(void *dst, const void *w, int64_t stride, int32_t dtype, int64_t rows, int64_t k0, int64_t k, int64_t kmax);

// first16 and first32 are masks of the first n lanes, any n.
INLINE512 __mmask16 first16(int64_t n) { return n >= 16 ? 0xffff : n <= 0 ? 0 : (1u << n) - 1; }
INLINE512 __mmask32 first32(int64_t n) { return n >= 32 ? 0xffffffffu : n <= 0 ? 0 : (1u << n) - 1; }

// load16 reads elements i, i+1, ... of a row as f32, those that m selects.
INLINE512 __m512 load16(__mmask16 m, const char *row, int32_t dtype, int64_t i) {
    if (dtype == PBS_F32)
        return _mm512_maskz_loadu_ps(m, row + 4 * i);
    __m256i h = _mm256_maskz_loadu_epi16(m, row + 2 * i);
    if (dtype == PBS_F16)
        return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

// round_bf16 rounds to nearest even; a NaN stays one.
INLINE512 __m256i round_bf16(__m512 v) {
    __m512i u = _mm512_castps_si512(v);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i up = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    __m512i nan = _mm512_srli_epi32(_mm512_or_si512(u, _mm512_set1_epi32(0x400000)), 16);
    return _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(_mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), up, nan));
}

// transpose16 turns rows of dwords into columns.
INLINE512 void transpose16(__m512i v[16]) {
    __m512i a[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        v[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    // v[4g+c] now holds, in its 128-bit lane l, column 4l+c of rows 4g..4g+3.
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        a[c] = _mm512_shuffle_i32x4(v[c], v[4 + c], 0x88);
        a[4 + c] = _mm512_shuffle_i32x4(v[c], v[4 + c], 0xdd);
        a[8 + c] = _mm512_shuffle_i32x4(v[8 + c], v[12 + c], 0x88);
        a[12 + c] = _mm512_shuffle_i32x4(v[8 + c], v[12 + c], 0xdd);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        v[c] = _mm512_shuffle_i32x4(a[c], a[8 + c], 0x88);
        v[8 + c] = _mm512_shuffle_i32x4(a[c], a[8 + c], 0xdd);
        v[4 + c] = _mm512_shuffle_i32x4(a[4 + c], a[12 + c], 0x88);
        v[12 + c] = _mm512_shuffle_i32x4(a[4 + c], a[12 + c], 0xdd);
    }
}
