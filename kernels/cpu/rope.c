// Rotary position embedding (arXiv 2104.09864), halves layout: element i pairs with i + head_dim/2. Bound by memory; the
// loops are left to the compiler's vectoriser, once per instruction set.
#include "rope.h"
#include <string.h>

#include "bf16.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE void store(void *restrict dst, const float *restrict src, int64_t n, int bf16) {
    if (!bf16) {
        memcpy(dst, src, n * 4);
        return;
    }
    uint16_t *d = dst;
    for (int64_t i = 0; i < n; i++) d[i] = bf16_narrow(src[i]);
}

ALWAYS_INLINE void rotate(void *restrict dst, const float *restrict x, const float *restrict table, int64_t half, int bf16) {
    const float *cos = table, *sin = table + half;
    if (bf16) {
        uint16_t *restrict d = dst;
        for (int64_t i = 0; i < half; i++) {
            d[i] = bf16_narrow(x[i] * cos[i] - x[i + half] * sin[i]);
            d[i + half] = bf16_narrow(x[i + half] * cos[i] + x[i] * sin[i]);
        }
    } else {
        float *restrict d = dst;
        for (int64_t i = 0; i < half; i++) {
            d[i] = x[i] * cos[i] - x[i + half] * sin[i];
            d[i + half] = x[i + half] * cos[i] + x[i] * sin[i];
        }
    }
}

ALWAYS_INLINE void append(const struct rope_args *a, char *q, const float *qkv, const float *table, char *k, char *v, int64_t rows) {
    int64_t half = a->head_dim / 2, q_size = a->q_bf16 ? 2 : 4, kv_size = a->kv_bf16 ? 2 : 4;
    for (int64_t r = 0; r < rows; r++, qkv += a->qkv_stride, table += a->table_stride) {
        const float *x = qkv;
        for (int64_t h = 0; h < a->heads; h++, x += a->head_dim)
            rotate(q + (r * a->q_stride + h * a->head_dim) * q_size, x, table, half, a->q_bf16);
        for (int64_t h = 0; h < a->kv_heads; h++, x += a->head_dim)
            rotate(k + (r * a->kv_stride + h * a->kv_head_stride) * kv_size, x, table, half, a->kv_bf16);
        for (int64_t h = 0; h < a->kv_heads; h++, x += a->head_dim)
            store(v + (r * a->kv_stride + h * a->kv_head_stride) * kv_size, x, a->head_dim, a->kv_bf16);
    }
}

#define VARIANT(name, target)                                                                                                     \
    target static void name(const struct rope_args *a, char *q, const float *qkv, const float *table, char *k, char *v, int64_t rows) { \
        append(a, q, qkv, table, k, v, rows);                                                                                     \
    }

VARIANT(append_portable, )
#if defined(__x86_64__)
VARIANT(append_avx2, __attribute__((target("avx2,fma"))))
VARIANT(append_avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))))
#endif

void pbs_rope_append(int isa, const struct rope_args *a, void *q, const float *qkv, const float *table, void *k, void *v, int64_t rows) {
#if defined(__x86_64__)
    if (isa >= 2) append_avx512(a, q, qkv, table, k, v, rows);
    else if (isa == 1) append_avx2(a, q, qkv, table, k, v, rows);
    else
#endif
        append_portable(a, q, qkv, table, k, v, rows);
}
