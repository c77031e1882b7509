// Matrix products with AVX-512: in f32 with FMA, and in bf16 with dot products of pairs (vdpbf16ps), which sum in f32. Both
// keep 12×32 sums in 24 of the 32 registers and read operands as dwords, so that packing is the same for both.
#if defined(__x86_64__)
#include "matmul_avx512.h"

// SHARE is the part of the next strip, in bytes per dword of k, that each of a strip's micro kernels prefetches into L2.
enum { MR = 12, NR = 32, NB = 128, SHARE = 4 * MR * NR / NB };

TARGET512 static void pack_w_f32(void *dst, const void *w, int64_t stride, int32_t dtype, int64_t rows, int64_t k0, int64_t k,
                                 int64_t kmax) {
    for (int j = 0; j < NR; j += 16) {
        float *d = (float *)dst + j;
        const char *row = (const char *)w + j * stride;
        for (int64_t i = 0; i < k; i += 16) {
            __m512i v[16];
            __mmask16 m = first16(kmax - k0 - i);
            for (int r = 0; r < 16; r++)
                v[r] = r < rows - j ? _mm512_castps_si512(load16(m, row + r * stride, dtype, k0 + i)) : _mm512_setzero_si512();
            transpose16(v);
            for (int r = 0; r < 16 && i + r < k; r++)
                _mm512_store_si512(d + (i + r) * NR, v[r]);
        }
    }
}

// pack_x_dwords interleaves the dwords of up to MR rows; masked stores keep out of the next strip.
TARGET512 static void pack_x_dwords(uint32_t *dst, const char *x, int64_t stride, int64_t rows, int64_t bytes, int64_t K) {
    for (int64_t i = 0; i < K; i += 16) {
        __m512i v[16];
        for (int r = 0; r < 16; r++)
            v[r] = r < rows ? _mm512_maskz_loadu_epi16(first32((bytes - 4 * i) / 2), x + r * stride + 4 * i) : _mm512_setzero_si512();
        transpose16(v);
        for (int r = 0; r < 16 && i + r < K; r++)
            _mm512_mask_storeu_epi32(dst + (i + r) * MR, (1 << MR) - 1, v[r]);
    }
}

TARGET512 static void pack_x_f32(void *dst, const void *x, int64_t stride, int64_t rows, int64_t k, int64_t K) {
    pack_x_dwords(dst, x, stride, rows, 4 * k, K);
}

TARGET512 static void pack_x_bf16(void *dst, const void *x, int64_t stride, int64_t rows, int64_t k, int64_t K) {
    pack_x_dwords(dst, x, stride, rows, 2 * k, K);
}

// MICRO is one micro kernel: zero the sums, add MR outer products per dword of k, store. w comes from L2 and is prefetched
// 1 KiB ahead. Unrolling leaves the two FMA ports to the FMAs: without it loop counters take 8% of them.
#define MICRO(NAME, TARGET, MULTIPLY)                                                                                                 \
    TARGET static void NAME(const void *x, const void *w, int64_t k, float *c, int64_t ldc, int add, const char *next) {              \
        const float *a = x, *b = w;                                                                                                   \
        __m512 s[MR][2];                                                                                                              \
        _Pragma("GCC unroll 12") for (int r = 0; r < MR; r++) {                                                                       \
            _mm_prefetch((const char *)(c + r * ldc), _MM_HINT_T0);                                                                   \
            _mm_prefetch((const char *)(c + r * ldc + 16), _MM_HINT_T0);                                                              \
            s[r][0] = s[r][1] = _mm512_setzero_ps();                                                                                  \
        }                                                                                                                             \
        _Pragma("GCC unroll 4") for (int64_t i = 0; i < k; i++, a += MR, b += NR) {                                                   \
            __m512 b0 = _mm512_load_ps(b), b1 = _mm512_load_ps(b + 16);                                                               \
            _mm_prefetch((const char *)(b + 8 * NR), _MM_HINT_T0);                                                                    \
            _mm_prefetch((const char *)(b + 8 * NR + 16), _MM_HINT_T0);                                                               \
            _mm_prefetch(next + SHARE * i, _MM_HINT_T1);                                                                              \
            _Pragma("GCC unroll 12") for (int r = 0; r < MR; r++) {                                                                   \
                __m512 v = _mm512_set1_ps(a[r]);                                                                                      \
                s[r][0] = MULTIPLY(s[r][0], v, b0);                                                                                   \
                s[r][1] = MULTIPLY(s[r][1], v, b1);                                                                                   \
            }                                                                                                                         \
        }                                                                                                                             \
        _Pragma("GCC unroll 12") for (int r = 0; r < MR; r++, c += ldc)                                                               \
            _Pragma("GCC unroll 2") for (int j = 0; j < 2; j++)                                                                       \
                _mm512_storeu_ps(c + 16 * j, add ? _mm512_add_ps(_mm512_loadu_ps(c + 16 * j), s[r][j]) : s[r][j]);                    \
    }

#define FMA(s, a, b) _mm512_fmadd_ps(a, b, s)
#define DOT_PAIRS(s, a, b) _mm512_dpbf16_ps(s, (__m512bh)(a), (__m512bh)(b))

MICRO(micro_f32, TARGET512, FMA)
MICRO(micro_bf16, TARGET512BF16, DOT_PAIRS)

// exp16 is exp within 2 units in the last place (Cephes' polynomial).
INLINE512 __m512 exp16(__m512 x) {
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 f = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    f = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), f);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(p, f), f, _mm512_add_ps(f, _mm512_set1_ps(1)));
    return _mm512_scalef_ps(p, n);
}

TARGET512 void pbs_swiglu_avx512(void *out, int32_t dtype, const float *gate, const float *up, int64_t n) {
    const __m512 limit = _mm512_set1_ps(87);
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 m = first16(n - i);
        __m512 g = _mm512_maskz_loadu_ps(m, gate + i);
        __m512 t = _mm512_max_ps(_mm512_set1_ps(-87), _mm512_min_ps(limit, _mm512_sub_ps(_mm512_setzero_ps(), g)));
        __m512 y = _mm512_div_ps(g, _mm512_add_ps(_mm512_set1_ps(1), exp16(t)));
        y = _mm512_mul_ps(y, _mm512_maskz_loadu_ps(m, up + i));
        if (dtype == PBS_F32)
            _mm512_mask_storeu_ps((float *)out + i, m, y);
        else
            _mm256_mask_storeu_epi16((uint16_t *)out + i, m, round_bf16(y));
    }
}

const struct pbs_kernel pbs_kernel_avx512 = {
    .t = {.mr = MR, .nr = NR, .kc = 512, .nb = NB, .step = 1},
    .pack_w = pack_w_f32,
    .pack_x = pack_x_f32,
    .micro = micro_f32,
    .swiglu = pbs_swiglu_avx512,
    .dot = pbs_dot_avx512,
};

const struct pbs_kernel pbs_kernel_avx512bf16 = {
    .t = {.mr = MR, .nr = NR, .kc = 512, .nb = NB, .bf16 = 1, .step = 1},
    .pack_w = pbs_pack_w_pairs,
    .pack_x = pack_x_bf16,
    .micro = micro_bf16,
    .swiglu = pbs_swiglu_avx512,
    .dot = pbs_dot_avx512,
};
#endif
