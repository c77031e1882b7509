// Prefill attention by warps with roles for sm_90a (attend_tma.cuh). Other images hold it empty.
#include "attend_tma.cuh"

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define ON_SM90(body)
#else
#define ON_SM90(body) body
#endif

// A grid of (tiles · group, kv heads), as in attend.cu.
KERNEL(attend_tma_64, TmaArgs, 384, 1) { ON_SM90((attend_tma<64, false>(a))); }
KERNEL(attend_tma_128, TmaArgs, 384, 1) { ON_SM90((attend_tma<128, false>(a))); }
KERNEL(attend_blocks_tma_64, TmaArgs, 384, 1) { ON_SM90((attend_tma<64, true>(a))); }
KERNEL(attend_blocks_tma_128, TmaArgs, 384, 1) { ON_SM90((attend_tma<128, true>(a))); }

// find_odd sets *odd where a matrix of bf16 holds NaN or infinity: blocks of 256, in turns over chunks of 8 elements.
struct OddArgs {
    const uint16_t *x;  // [heads][rows][cols], rows 16-byte aligned
    int32_t *odd;
    int64_t stride, head_stride, rows;
    int32_t heads, cols;
};

KERNEL(find_odd, OddArgs, 256, 1) {
    struct alignas(16) Chunk {
        uint32_t u[4];
    };
    int64_t per_row = a.cols / 8, per_head = a.rows * per_row, step = static_cast<int64_t>(gridDim.x) * 256;
    bool odd = false;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * 256 + thread(); i < a.heads * per_head; i += step) {
        int64_t row = i % per_head / per_row;
        Chunk x = *reinterpret_cast<const Chunk *>(a.x + i / per_head * a.head_stride + row * a.stride + i % per_row * 8);
        UNROLL for (int k = 0; k < 4; k++) odd |= !is_finite_bf16(x.u[k]) || !is_finite_bf16(x.u[k] >> 16);
    }
    if (odd) *a.odd = 1;
}
