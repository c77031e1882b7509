// What all kernels share: how a kernel is declared, conversions between dtypes, sums over a warp and a block.
//
// These files have two readers. nvcc makes GPU code of them; a C++ compiler makes host code, for tests, on the machine of
// ../simt/simt.h. Whatever is not plain C++ stands behind the functions of this file and of mma.cuh.
//
// A kernel takes one struct of arguments, which ../*.go mirror: 64-bit fields and addresses first, then 32-bit ones. Offsets that a
// sequence length multiplies are 64-bit.
#pragma once

#include <stdint.h>

#if defined(__CUDACC__)

#define DEVICE __device__ __forceinline__
#define METHOD __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define UNROLL_2 _Pragma("unroll 2")
#define UNROLL_4 _Pragma("unroll 4")
#define NO_UNROLL _Pragma("unroll 1")
// KERNEL(name, Args, threads, blocks): `threads` per block, at least `blocks` of which fit a multiprocessor.
#define KERNEL(name, Args, threads, blocks) \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name(const __grid_constant__ Args a)

DEVICE char *shared_memory() {
    extern __shared__ __align__(1024) char memory[];
    return memory;
}
DEVICE void sync_block() { __syncthreads(); }
DEVICE int sync_block_or(int x) { return __syncthreads_or(x); }
DEVICE void sync_warp() { __syncwarp(); }
DEVICE uint32_t shuffle(uint32_t x, int lane) { return __shfl_sync(~0u, x, lane); }
DEVICE uint32_t vote(bool x) { return __ballot_sync(~0u, x); }
DEVICE int popcount(uint32_t x) { return __popc(x); }
DEVICE int popcount64(uint64_t x) { return __popcll(x); }
DEVICE int lowest_bit64(uint64_t x) { return __ffsll(x) - 1; }
DEVICE uint32_t bits_of(float x) { return __float_as_uint(x); }
DEVICE float float_of(uint32_t u) { return __uint_as_float(u); }
// exp2_fast is good for two units in the last place; what is below 2^-126 becomes 0.
DEVICE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
// pack_bf16 rounds two floats to nearest even, lo in the low half.
DEVICE uint32_t pack_bf16(float lo, float hi) {
    uint32_t u;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(u) : "f"(hi), "f"(lo));
    return u;
}
DEVICE float widen_f16(uint16_t h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}
DEVICE void atomic_add(double *to, double x) { atomicAdd(to, x); }
DEVICE void atomic_or(uint32_t *to, uint32_t x) { atomicOr(to, x); }

#else

#include <math.h>
#include <string.h>

#include "simt.h"

#define DEVICE static inline
#define METHOD inline
#define UNROLL
#define UNROLL_2
#define UNROLL_4
#define NO_UNROLL
#define KERNEL(name, Args, threads, blocks)                                             \
    static void name(const Args &a);                                                    \
    static void run_##name(const void *args) { name(*static_cast<const Args *>(args)); } \
    static simt::Kernel kernel_##name(#name, sizeof(Args), run_##name);                 \
    static void name(const Args &a)

DEVICE char *shared_memory() { return simt::shared_memory(); }
DEVICE void sync_block() { simt::sync_block(); }
DEVICE int sync_block_or(int x) { return simt::sync_block_or(x); }
DEVICE void sync_warp() { simt::sync_warp(); }
DEVICE uint32_t shuffle(uint32_t x, int lane) { return simt::shuffle(x, lane); }
DEVICE uint32_t vote(bool x) { return simt::ballot(x); }
DEVICE int popcount(uint32_t x) { return __builtin_popcount(x); }
DEVICE int popcount64(uint64_t x) { return __builtin_popcountll(x); }
DEVICE int lowest_bit64(uint64_t x) { return __builtin_ctzll(x); }
DEVICE uint32_t bits_of(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}
DEVICE float float_of(uint32_t u) {
    float x;
    memcpy(&x, &u, 4);
    return x;
}
DEVICE float exp2_fast(float x) {
    float y = exp2f(x);
    return y < 0x1p-126f ? 0 : y;
}
DEVICE uint32_t narrow_bf16(float x) {
    uint32_t u = bits_of(x);
    return x != x ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
DEVICE uint32_t pack_bf16(float lo, float hi) { return narrow_bf16(lo) | narrow_bf16(hi) << 16; }
DEVICE float widen_f16(uint16_t h) {
    _Float16 x;
    memcpy(&x, &h, 2);
    return static_cast<float>(x);
}
DEVICE void atomic_add(double *to, double x) { *to += x; }  // a block runs on one host thread
DEVICE void atomic_or(uint32_t *to, uint32_t x) { *to |= x; }

template <class T> static inline T min(T a, T b) { return b < a ? b : a; }
template <class T> static inline T max(T a, T b) { return a < b ? b : a; }

#endif

#define INF float_of(0x7f800000)
static const float LOG2E = 1.4426950408889634f;

// Element types, as kernels.DType.
enum { F32 = 1, BF16 = 2, F16 = 3 };

DEVICE float widen_bf16(uint16_t h) { return float_of(static_cast<uint32_t>(h) << 16); }

// element i of an array of dtype.
DEVICE float element(const void *x, int dtype, int64_t i) {
    if (dtype == F32) return static_cast<const float *>(x)[i];
    uint16_t h = static_cast<const uint16_t *>(x)[i];
    return dtype == F16 ? widen_f16(h) : widen_bf16(h);
}

// store writes element i of an array of dtype F32 or BF16.
DEVICE void store(void *x, int dtype, int64_t i, float v) {
    if (dtype == F32) static_cast<float *>(x)[i] = v;
    else static_cast<uint16_t *>(x)[i] = static_cast<uint16_t>(pack_bf16(v, v));
}

DEVICE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

DEVICE int thread() { return threadIdx.x; }
DEVICE int threads() { return blockDim.x; }
DEVICE int lane() { return threadIdx.x % 32; }
DEVICE int warp() { return threadIdx.x / 32; }
// block_id counts the blocks of a one-dimensional grid that may have more of them than its x dimension takes.
DEVICE int64_t block_id() { return static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x; }

DEVICE float shuffle_float(float x, int from) { return float_of(shuffle(bits_of(x), from)); }

DEVICE float warp_sum(float x) {
    UNROLL for (int m = 16; m; m /= 2) x += shuffle_float(x, lane() ^ m);
    return x;
}
DEVICE float warp_max(float x) {
    UNROLL for (int m = 16; m; m /= 2) x = fmaxf(x, shuffle_float(x, lane() ^ m));
    return x;
}

// block_sum adds over a block, in one order; scratch holds a float per warp. All threads get the sum.
DEVICE float block_sum(float x, float *scratch) {
    x = warp_sum(x);
    sync_block();
    if (lane() == 0) scratch[warp()] = x;
    sync_block();
    float sum = 0;
    for (int w = 0; w < threads() / 32; w++) sum += scratch[w];
    return sum;
}
DEVICE float block_max(float x, float *scratch) {
    x = warp_max(x);
    sync_block();
    if (lane() == 0) scratch[warp()] = x;
    sync_block();
    float top = scratch[0];
    for (int w = 1; w < threads() / 32; w++) top = fmaxf(top, scratch[w]);
    return top;
}
