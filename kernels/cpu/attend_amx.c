// Attention for AMX: both products in tiles of 16 rows by 32 bf16, sums in f32, softmax in AVX-512.
#if defined(__x86_64__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,amx-tile,amx-bf16")))
#define ISA amx
#define PAIRS 1
#define MR 16
#define KT 256
#define ST 128
#define RG 32
#include "amx.h"
#include "attend_avx512.h"
#define VEXP2(x) vexp2_coarse(x)
#define VNARROW(dst, lo, hi) _mm512_storeu_si512(dst, (__m512i)_mm512_cvtne2ps_pbh(hi, lo))
#define OWN_PRODUCTS
#define PRODUCTS_BEGIN() tiles_begin()
#define PRODUCTS_END() _tile_release()
#define OWN_RANKING(positions) ((positions) % NR == 0)

struct tile;
struct attend_args;
TARGET static void tiles_begin(void);
TARGET static void products_scores(const struct tile *t, int64_t row0, int64_t rows, int64_t key0, int64_t n);
TARGET static void products_outputs(const struct tile *t, int64_t row0, int64_t rows, int64_t key0, int64_t n, int rescale);
TARGET static void rank_queries(const struct attend_args *a, void *scratch, const void *k, int64_t k0, int64_t k1, float *stats, float *out,
                                int64_t out_stride);
#include "attend_tile.h"

// The tile intrinsics do not say that they read memory.
#define FENCE() __asm__ volatile("" ::: "memory")

// All eight tiles are 16 rows of 64 bytes: 0-3 hold a 32x32 block of sums, 4-5 its rows, 6-7 its columns.
TARGET static void tiles_begin(void) { amx_configure(); }

// Adds a*b over steps of 32 to the tiles: a has rows of lda dwords, b panels of NR columns.
TARGET ALWAYS_INLINE void tiles_multiply(const float *a, int64_t lda, const float *b, int64_t steps, int two) {
    for (int64_t i = 0; i < steps; i++, a += 16, b += 16 * NR) {
        _tile_loadd(4, a, lda * 4);
        _tile_loadd(6, b, NR * 4);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + 16, NR * 4);
        _tile_dpbf16ps(1, 4, 7);
        if (two) {
            _tile_loadd(5, a + 16 * lda, lda * 4);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
}

TARGET ALWAYS_INLINE void tiles_zero(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

TARGET ALWAYS_INLINE void tiles_store(float *c, int64_t ldc, int two) {
    _tile_stored(0, c, ldc * 4);
    _tile_stored(1, c + 16, ldc * 4);
    if (two) {
        _tile_stored(2, c + 16 * ldc, ldc * 4);
        _tile_stored(3, c + 16 * ldc + 16, ldc * 4);
    }
}

TARGET static void products_scores(const struct tile *t, int64_t row0, int64_t rows, int64_t key0, int64_t n) {
    FENCE();
    for (int64_t key = 0; key < n; key += NR)
        for (int64_t r = 0; r < rows; r += 32) {
            const float *q = t->q + (row0 + r) * t->dims_pad, *k = t->k + (key0 + key) * t->dims_pad;
            int two = rows - r > 16;
            tiles_zero();
            if (two) tiles_multiply(q, t->dims_pad, k, t->dims_pad / 16, 1);
            else tiles_multiply(q, t->dims_pad, k, t->dims_pad / 16, 0);
            tiles_store(t->scores + r * ST + key, ST, two);
        }
}

TARGET static void products_outputs(const struct tile *t, int64_t row0, int64_t rows, int64_t key0, int64_t n, int rescale) {
    for (int64_t r = 0; rescale && r < rows; r++) {
        float *o = t->out + (row0 + r) * t->cols;
        if (t->alpha[r] == 1) continue;
        for (int64_t c = 0; c < t->cols; c += VL) VSTORE(o + c, _mm512_mul_ps(VLOAD(o + c), VSET1(t->alpha[r])));
    }
    FENCE();
    int64_t steps = (n + NR - 1) / NR;
    for (int64_t col = 0; col < t->cols; col += NR)
        for (int64_t r = 0; r < rows; r += 32) {
            const float *p = t->scores + r * ST, *v = t->v + col * VKEYS + key0 / 2 * NR;
            float *o = t->out + (row0 + r) * t->cols + col;
            int two = rows - r > 16;
            _tile_loadd(0, o, t->cols * 4);
            _tile_loadd(1, o + 16, t->cols * 4);
            if (two) {
                _tile_loadd(2, o + 16 * t->cols, t->cols * 4);
                _tile_loadd(3, o + 16 * t->cols + 16, t->cols * 4);
                tiles_multiply(p, ST, v, steps, 1);
            } else tiles_multiply(p, ST, v, steps, 0);
            tiles_store(o, t->cols, two);
        }
}

#include "attend_blocks.h"
#include "attend_strided.h"
#include "attend_lines.h"
#include "rank_amx.h"
#endif
