// Rotary position embedding, and the storing of keys and values.
#pragma once
#include <stddef.h>
#include <stdint.h>

struct rope_args {
    int64_t head_dim, heads, kv_heads;
    int64_t qkv_stride, q_stride, table_stride, kv_stride, kv_head_stride;  // elements
    int32_t q_bf16, kv_bf16;                                               // else F32
};

// pbs_rope_append handles `rows` rows; qkv, q and table point at the first of them, k and v at its position in kv head 0. The
// q heads are rotated into q, the k heads into k, and the v heads are stored in v.
void pbs_rope_append(int isa, const struct rope_args *a, void *q, const float *qkv, const float *table, void *k, void *v, int64_t rows);
