// Row-wise work, bound by memory: embedding, RMSNorm, RoPE with the append to the cache, bias, the combination of SwiGLU, packing.
#include "common.cuh"

// embed: out[i] = table[ids[i]], one block of 256 a row.
struct EmbedArgs {
    float *out;
    const void *table;
    const int32_t *ids;
    int64_t out_stride, table_stride;
    int32_t cols, dtype;
};

KERNEL(embed, EmbedArgs, 256, 1) {
    int64_t row = block_id();
    int64_t from = a.ids[row] * a.table_stride;
    for (int i = thread(); i < a.cols; i += threads()) a.out[row * a.out_stride + i] = element(a.table, a.dtype, from + i);
}

// rms_norm: out = x / sqrt(mean(x²) + eps) · weight (arXiv 1910.07467, eq. 4), one block of 256 a row.
struct NormArgs {
    void *out;
    const float *x;
    const void *weight;
    int64_t out_stride, x_stride;
    int32_t cols, out_dtype, weight_dtype;
    float eps;
};

KERNEL(rms_norm, NormArgs, 256, 1) {
    float *scratch = reinterpret_cast<float *>(shared_memory());
    int64_t row = block_id();
    const float *x = a.x + row * a.x_stride;
    float sum = 0;
    for (int i = thread(); i < a.cols; i += threads()) sum += x[i] * x[i];
    float scale = 1 / sqrtf(block_sum(sum, scratch) / static_cast<float>(a.cols) + a.eps);
    for (int i = thread(); i < a.cols; i += threads())
        store(a.out, a.out_dtype, row * a.out_stride + i, x[i] * scale * element(a.weight, a.weight_dtype, i));
}

// rope_append: rotates q and k (arXiv 2104.09864; element i pairs with i+head_dim/2) and stores k and v in the cache, one block
// of 256 a row. Row i stands at position first+i, or at[0]+i where at is given.
struct RopeArgs {
    void *q;
    const float *qkv, *rope;
    void *k, *v;
    const int64_t *at;
    int64_t q_stride, qkv_stride, rope_stride, kv_stride, kv_head_stride, first;
    int32_t heads, kv_heads, head_dim, kv_dtype;
};

KERNEL(rope_append, RopeArgs, 256, 1) {
    int64_t row = block_id(), pos = (a.at ? *a.at : a.first) + row;
    const float *x = a.qkv + row * a.qkv_stride, *cos = a.rope + pos * a.rope_stride;
    int half = a.head_dim / 2, rotated = (a.heads + a.kv_heads) * half;
    for (int i = thread(); i < rotated; i += threads()) {
        int h = i / half, d = i % half, from = h * a.head_dim + d;
        float lo = x[from], hi = x[from + half], c = cos[d], s = cos[half + d];
        float first = lo * c - hi * s, second = hi * c + lo * s;
        void *to = a.q;
        int dtype = BF16;
        int64_t at = row * a.q_stride + from;
        if (h >= a.heads) to = a.k, dtype = a.kv_dtype, at = (h - a.heads) * a.kv_head_stride + pos * a.kv_stride + d;
        store(to, dtype, at, first);
        store(to, dtype, at + half, second);
    }
    x += 2 * rotated;
    for (int i = thread(); i < a.kv_heads * a.head_dim; i += threads())
        store(a.v, a.kv_dtype, i / a.head_dim * a.kv_head_stride + pos * a.kv_stride + i % a.head_dim, x[i]);
}

// add_bias: out[i][j] += bias[j], where a product has left out its bias; one block of 256 a row.
struct BiasArgs {
    float *out;
    const void *bias;
    int64_t out_stride;
    int32_t cols, dtype;
};

KERNEL(add_bias, BiasArgs, 256, 1) {
    float *out = a.out + block_id() * a.out_stride;
    for (int i = thread(); i < a.cols; i += threads()) out[i] += element(a.bias, a.dtype, i);
}

// swiglu_combine: out = silu(gate + its bias) · (up + its bias) from products in f32, one block of 256 a row.
struct CombineArgs {
    uint16_t *out;
    const float *gate, *up;
    const void *gate_bias, *up_bias;  // or null
    int64_t out_stride, stride;
    int32_t cols, gate_bias_dtype, up_bias_dtype;
};

KERNEL(swiglu_combine, CombineArgs, 256, 1) {
    int64_t row = block_id();
    for (int i = thread(); i < a.cols; i += threads()) {
        float g = a.gate[row * a.stride + i], u = a.up[row * a.stride + i];
        if (a.gate_bias) g += element(a.gate_bias, a.gate_bias_dtype, i);
        if (a.up_bias) u += element(a.up_bias, a.up_bias_dtype, i);
        store(a.out, BF16, row * a.out_stride + i, g / (1 + expf(-g)) * u);
    }
}

// pack: rows of any alignment and dtype as bf16, their columns filled up with zeros to `width`; one block of 256 a row. Rows come in
// `heads` groups of `rows`.
struct PackArgs {
    uint16_t *out;
    const void *x;
    int64_t x_stride, x_head_stride, rows, out_stride;
    int32_t cols, width, dtype;
};

KERNEL(pack, PackArgs, 256, 1) {
    int64_t row = block_id(), from = row / a.rows * a.x_head_stride + row % a.rows * a.x_stride;
    for (int i = thread(); i < a.width; i += threads()) store(a.out, BF16, row * a.out_stride + i, i < a.cols ? element(a.x, a.dtype, from + i) : 0);
}
