// Matrix products out = x·wᵀ: the one driver (matmul.c) and what each instruction set gives it.
//
// The driver works on packed operands made of dwords: one f32, or a pair of bf16 that are neighbours in k. With K the
// number of dwords in a row,
//   packed x  [strips][K][mr]     strips of mr rows (AMX: [strips][K/16][mr][16], rows of 64 bytes as tiles want them)
//   packed w  [columns/nr][K][nr] one panel of weight rows, in the worker's scratch
// so that a micro kernel reads both front to back. Rows, columns and k beyond the matrix are zero.
#pragma once
#include "host.h"
#include <stdint.h>

// How a host's caches want few rows multiplied: a row of x overflows L1; its own prefetcher does better than ours.
enum { PBS_WIDE = 1, PBS_NO_PREFETCH = 2 };

// What becomes of a product.
enum { PBS_STORE, PBS_ADD, PBS_SWIGLU };

// pbs_weights are consecutive rows of one weight matrix [rows, k]; w and bias may have any alignment.
struct pbs_weights {
    const void *w;
    const void *bias; // one per row, or NULL
    int64_t stride;   // bytes between rows
    int32_t dtype, bias_dtype;
};

// pbs_product is one item of work: rows of x times n weight rows, or n rows of gate and n of up.
struct pbs_product {
    struct pbs_weights w[2]; // the second is up; w[0] is gate then
    int64_t n, k, rows;
    const void *x;     // packed for pbs_gemm; as pbs_gemv_x leaves it for pbs_gemv, ldx elements between rows
    const void *split; // the same for weights in bf16, split, for pbs_gemv
    int64_t ldx;
    void *out; // f32, or bf16 for PBS_SWIGLU where out_dtype says so
    int64_t ldo;
    int32_t kernel, mode, out_dtype;
    int32_t hints; // of pbs_gemv
    void *scratch; // of the worker, 64-byte aligned, pbs_gemm_scratch bytes
};

// pbs_tiling is how a kernel cuts a product; kc counts dwords, nb columns.
struct pbs_tiling {
    int64_t mr, nr, kc, nb;
    int32_t bf16; // x and w are packed as pairs of bf16
    int32_t step; // K is padded to a multiple of this many dwords
};

struct pbs_tiling pbs_gemm_tiling(int32_t kernel);

// pbs_gemm_pack_x packs rows of x [rows, k] (f32, or bf16 for a bf16 kernel) into whole strips at dst.
void pbs_gemm_pack_x(int32_t kernel, void *dst, const void *x, int64_t ldx, int64_t rows, int64_t k);
int64_t pbs_gemm_scratch(int32_t kernel, int32_t mode, int64_t rows, int64_t k);
void pbs_gemm(struct pbs_product p);

// pbs_gemv computes the same for few rows of x, reading each weight once from memory.
void pbs_gemv(struct pbs_product p);

// pbs_widen writes n elements of src as f32.
void pbs_widen(float *dst, const void *src, int32_t dtype, int64_t n);

// PBS_CHUNK is the unit of pbs_gemv's x, which zeros fill up to a multiple of it.
#define PBS_CHUNK 32

// pbs_gemv_x writes a row of k elements as f32 for pbs_gemv. For weights in bf16 each chunk is split: even elements first.
void pbs_gemv_x(float *dst, const void *src, int32_t dtype, int64_t k, int split);

// pbs_kernel is what an instruction set provides.
struct pbs_kernel {
    struct pbs_tiling t;
    // pack_w writes nr columns [k][nr] from rows < nr weight rows, elements [k0, k0 + k) of which the matrix has those < kmax.
    void (*pack_w)(void *dst, const void *w, int64_t stride, int32_t dtype, int64_t rows, int64_t k0, int64_t k, int64_t kmax);
    // pack_x writes one strip of K dwords from rows <= mr rows of k elements.
    void (*pack_x)(void *dst, const void *x, int64_t stride, int64_t rows, int64_t k, int64_t K);
    // micro computes c[mr][nr] = (add ? c : 0) + x·w over k dwords, and meanwhile prefetches into L2 what it can of next.
    void (*micro)(const void *x, const void *w, int64_t k, float *c, int64_t ldc, int add, const char *next);
    // swiglu writes silu(gate)·up.
    void (*swiglu)(void *out, int32_t dtype, const float *gate, const float *up, int64_t n);
    // dot multiplies rows (1 to 4) of x, as pbs_gemv_x leaves them, with n weight rows: sum[row*lds + column].
    void (*dot)(float *sum, int64_t lds, const struct pbs_weights *w, int64_t n, const float *x, int64_t ldx, int64_t rows, int64_t k,
                int32_t hints);
    // begin and end surround the micro kernels of one item; NULL where nothing is to be done.
    void (*begin)(void);
    void (*end)(void);
};

const struct pbs_kernel *pbs_kernel_of(int32_t kernel);

extern const struct pbs_kernel pbs_kernel_portable;
#if defined(__x86_64__)
extern const struct pbs_kernel pbs_kernel_avx2, pbs_kernel_avx512, pbs_kernel_avx512bf16, pbs_kernel_amx;

void pbs_dot_avx2(float *sum, int64_t lds, const struct pbs_weights *w, int64_t n, const float *x, int64_t ldx, int64_t rows, int64_t k,
                  int32_t hints);
void pbs_dot_avx512(float *sum, int64_t lds, const struct pbs_weights *w, int64_t n, const float *x, int64_t ldx, int64_t rows, int64_t k,
                    int32_t hints);
#endif

// Scalar conversions for edges, where vectors do not fit.
static inline float pbs_bits_to_float(uint32_t u) {
    float f;
    __builtin_memcpy(&f, &u, 4);
    return f;
}

static inline uint32_t pbs_float_to_bits(float f) {
    uint32_t u;
    __builtin_memcpy(&u, &f, 4);
    return u;
}

static inline float pbs_half(uint16_t h) {
    // The exponent moves from bias 15 to 127 by a multiplication, which also makes subnormals right.
    float f = pbs_bits_to_float((uint32_t)(h & 0x7fff) << 13) * 0x1p112f;
    uint32_t u = pbs_float_to_bits(f);
    u |= (h & 0x7c00) == 0x7c00 ? 0x7f800000u : 0; // infinities and NaN
    return pbs_bits_to_float(u | (uint32_t)(h & 0x8000) << 16);
}

static inline uint16_t pbs_to_bf16(float f) {
    uint32_t u = pbs_float_to_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000) // a NaN stays one
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

// pbs_element reads element i of a row that may have any alignment.
static inline float pbs_element(const void *row, int32_t dtype, int64_t i) {
    const char *p = row;
    uint32_t u;
    uint16_t h;
    if (dtype == PBS_F32) {
        __builtin_memcpy(&u, p + 4 * i, 4);
        return pbs_bits_to_float(u);
    }
    __builtin_memcpy(&h, p + 2 * i, 2);
    return dtype == PBS_BF16 ? pbs_bits_to_float((uint32_t)h << 16) : pbs_half(h);
}
