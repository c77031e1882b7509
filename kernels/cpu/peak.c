// Register-only loops. Each keeps enough independent sums in flight to hide the latency of its multiply-add (4 to 6 cycles on
// two ports; 52 cycles for a tile product).
#include "peak.h"

static volatile float sink; // results go here, so that the loops stay

enum { ROUNDS = 1 << 18 };

#define REPEAT12(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

// The loop of one vector type: s0..s11 += a·b. The compiler may not see what a and b are, nor that all sums are the same.
#define DECLARE(I)                                                                                                                    \
    VECTOR s##I = ZERO;                                                                                                               \
    __asm__("" : "+m"(s##I));
#define STEP(I) s##I = MULTIPLY_ADD(a, b, s##I);
#define TOTAL(I) t = ADD(t, s##I);
#define LOOP                                                                                                                          \
    REPEAT12(DECLARE)                                                                                                                 \
    for (int64_t i = 0; i < n * ROUNDS; i++) {                                                                                        \
        REPEAT12(STEP)                                                                                                                \
    }                                                                                                                                 \
    VECTOR t = ZERO;                                                                                                                  \
    REPEAT12(TOTAL)

typedef float lanes4 __attribute__((vector_size(16)));

static double peak_portable(int64_t n) {
    lanes4 a = {1, 2, 3, 4}, b = {4, 3, 2, 1};
    __asm__("" : "+m"(a), "+m"(b));
#define VECTOR lanes4
#define ZERO {0}
#define MULTIPLY_ADD(a, b, s) (s + a * b)
#define ADD(a, b) (a + b)
    for (int64_t r = 0; r < 4; r++) { // as many operations as AVX-512 does in one round
        LOOP
        sink = t[0];
        a[0] += t[0];
    }
#undef VECTOR
#undef ZERO
#undef MULTIPLY_ADD
#undef ADD
    return 2.0 * 4 * 12 * 4 * ROUNDS * n;
}

#if defined(__x86_64__)
#include "amx.h"

__attribute__((target("avx2,fma"))) static double peak_avx2(int64_t n) {
    __m256 a = _mm256_set1_ps(sink), b = _mm256_set1_ps(sink);
#define VECTOR __m256
#define ZERO _mm256_setzero_ps()
#define MULTIPLY_ADD(a, b, s) _mm256_fmadd_ps(a, b, s)
#define ADD(a, b) _mm256_add_ps(a, b)
    LOOP
#undef VECTOR
#undef ZERO
#undef MULTIPLY_ADD
#undef ADD
    sink = _mm256_cvtss_f32(t);
    return 2.0 * 8 * 12 * ROUNDS * n;
}

__attribute__((target("avx512f"))) static double peak_avx512(int64_t n) {
    __m512 a = _mm512_set1_ps(sink), b = _mm512_set1_ps(sink);
#define VECTOR __m512
#define ZERO _mm512_setzero_ps()
#define MULTIPLY_ADD(a, b, s) _mm512_fmadd_ps(a, b, s)
#define ADD(a, b) _mm512_add_ps(a, b)
    LOOP
#undef MULTIPLY_ADD
    sink = _mm512_cvtss_f32(t);
    return 2.0 * 16 * 12 * ROUNDS * n;
}

__attribute__((target("avx512f,avx512bf16"))) static double peak_avx512bf16(int64_t n) {
    __m512bh a = (__m512bh)_mm512_set1_ps(sink), b = (__m512bh)_mm512_set1_ps(sink);
#define MULTIPLY_ADD(a, b, s) _mm512_dpbf16_ps(s, a, b)
    LOOP
    sink = _mm512_cvtss_f32(t);
    return 2.0 * 32 * 12 * ROUNDS * n;
}

__attribute__((target("amx-tile,amx-bf16,avx512f"))) static double peak_amx(int64_t n) {
    amx_configure();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (int64_t i = 0; i < n * (ROUNDS / 32); i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
    return 2.0 * 16 * 16 * 32 * 4 * (ROUNDS / 32) * n;
}
#endif

double pbs_peak(int32_t kernel, int64_t n) {
    switch (kernel) {
#if defined(__x86_64__)
    case PBS_AVX2:
        return peak_avx2(n);
    case PBS_AVX512:
        return peak_avx512(n);
    case PBS_AVX512BF16:
        return peak_avx512bf16(n);
    case PBS_AMX:
        return peak_amx(n);
#endif
    default:
        return peak_portable(n);
    }
}

uint64_t pbs_read(const void *p, int64_t n) {
    const char *q = p;
    uint64_t sum[8] = {0};
    for (int64_t i = 0; i < n; i += 64, q += 64) {
        __builtin_prefetch(q + 2048);
        for (int j = 0; j < 8; j++)
            sum[j] ^= ((const uint64_t *)q)[j];
    }
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}
