// Matrix products with AMX tiles: bf16 operands, sums in f32. The micro kernel keeps 32×32 sums in four tiles; each step
// over 16 pairs of k loads two tiles of x and two of w for four products. x tiles are 16 rows of 64 bytes as they come, w
// tiles hold pairs of k in rows, which is what pbs_pack_w_pairs makes of weight rows.
#if defined(__x86_64__)
#include "amx.h"
#include "matmul_avx512.h"
#include <string.h>

#define TARGET_AMX __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl")))

enum { MR = 32, NR = 32, PAIRS = 16 };

// pair16 reads elements [i, i+32) of a row as 16 pairs of bf16, rounding wider types.
INLINE512 __m512i pair16(const char *row, int32_t dtype, int64_t i, int64_t kmax) {
    if (dtype == PBS_BF16)
        return _mm512_maskz_loadu_epi16(first32(kmax - i), row + 2 * i);
    __m256i lo = round_bf16(load16(first16(kmax - i), row, dtype, i));
    __m256i hi = round_bf16(load16(first16(kmax - i - 16), row, dtype, i + 16));
    return _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1);
}

INLINE512 void pack_pairs(char *dst, const char *w, int64_t stride, int32_t dtype, int64_t rows, int64_t k0, int64_t k, int64_t kmax, int tiles) {
    for (int64_t i = 0; i < k; i += 2 * PAIRS)
        for (int64_t j = 0; j < NR; j += 16) {
            __m512i v[16];
            for (int r = 0; r < 16; r++)
                v[r] = r < rows - j ? pair16(w + (j + r) * stride, dtype, k0 + i, kmax) : _mm512_setzero_si512();
            transpose16(v);
            for (int r = 0; r < 16 && i + 2 * r < k; r++)
                _mm512_store_si512(dst + 4 * (tiles ? i / 2 * NR + j * PAIRS + r * 16 : (i / 2 + r) * NR + j), v[r]);
        }
}

TARGET512 static void pack_w(void *dst, const void *w, int64_t stride, int32_t dtype, int64_t rows, int64_t k0, int64_t k,
                                int64_t kmax) {
    if (dtype == PBS_BF16)
        pack_pairs(dst, w, stride, PBS_BF16, rows, k0, k, kmax, 1);
    else if (dtype == PBS_F32)
        pack_pairs(dst, w, stride, PBS_F32, rows, k0, k, kmax, 1);
    else
        pack_pairs(dst, w, stride, PBS_F16, rows, k0, k, kmax, 1);
}

TARGET512 void pbs_pack_w_pairs(void *dst, const void *w, int64_t stride, int32_t dtype, int64_t rows, int64_t k0, int64_t k,
                                int64_t kmax) {
    if (dtype == PBS_BF16)
        pack_pairs(dst, w, stride, PBS_BF16, rows, k0, k, kmax, 0);
    else if (dtype == PBS_F32)
        pack_pairs(dst, w, stride, PBS_F32, rows, k0, k, kmax, 0);
    else
        pack_pairs(dst, w, stride, PBS_F16, rows, k0, k, kmax, 0);
}

TARGET512 static void pack_x(void *dst, const void *x, int64_t stride, int64_t rows, int64_t k, int64_t K) {
    for (int64_t r = 0; r < MR; r++) {
        const char *row = (const char *)x + r * stride;
        for (int64_t i = 0; i < K; i += PAIRS) {
            __mmask32 m = r < rows ? first32(k - 2 * i) : 0;
            _mm512_store_si512((char *)dst + 4 * (i * MR + r * PAIRS), _mm512_maskz_loadu_epi16(m, row + 4 * i));
        }
    }
}

TARGET_AMX static void begin(void) { amx_configure(); }

TARGET_AMX static void end(void) { _tile_release(); }

TARGET_AMX static void micro(const void *x, const void *w, int64_t k, float *c, int64_t ldc, int add, const char *next) {
    const char *a = x, *b = w;
    float *c1 = c + 16 * ldc;
    int64_t line = 4 * ldc;
    if (add) {
        _tile_loadd(0, c, line);
        _tile_loadd(1, c + 16, line);
        _tile_loadd(2, c1, line);
        _tile_loadd(3, c1 + 16, line);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t i = 0; i < k; i += PAIRS, a += 4 * MR * PAIRS, b += 4 * NR * PAIRS, next += 256) {
        _mm_prefetch(next, _MM_HINT_T1);
        _mm_prefetch(next + 64, _MM_HINT_T1);
        _mm_prefetch(next + 128, _MM_HINT_T1);
        _mm_prefetch(next + 192, _MM_HINT_T1);
        _tile_loadd(4, a, 64);
        _tile_loadd(6, b, 64);
        _tile_loadd(7, b + 1024, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + 1024, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, line);
    _tile_stored(1, c + 16, line);
    _tile_stored(2, c1, line);
    _tile_stored(3, c1 + 16, line);
}

const struct pbs_kernel pbs_kernel_amx = {
    .t = {.mr = MR, .nr = NR, .kc = 1024, .nb = 256, .bf16 = 1, .step = PAIRS},
    .pack_w = pack_w,
    .pack_x = pack_x,
    .micro = micro,
    .swiglu = pbs_swiglu_avx512,
    .dot = pbs_dot_avx512,
    .begin = begin,
    .end = end,
};
#endif
