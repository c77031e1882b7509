// Tensor cores as sm_80 and up have them: mma.sync m16n8k16 in bf16 with f32 sums, fed by ldmatrix and cp.async, and tiles of
// bf16 in shared memory laid out for them.
//
// Fragments (lane l, g = l/4, t = 2(l%4)):
//   A [16][16]  a[0] row g columns t t+1, a[1] row g+8, a[2] and a[3] the same rows, columns 8 further
//   B [16][8]   b[0] rows t t+1 column g, b[1] rows 8 further; with B = Xᵀ, row g of X
//   C [16][8]   c[0] c[1] row g columns t t+1, c[2] c[3] row g+8
#pragma once

#include "common.cuh"

#if defined(__CUDACC__)

DEVICE uint32_t shared_address(const void *p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// ldmatrix loads four 8x8 matrices, whose rows lanes 0-7, 8-15, 16-23 and 24-31 point at.
DEVICE void ldmatrix(uint32_t (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
DEVICE void ldmatrix_trans(uint32_t (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// copy_async copies 16 aligned bytes to shared memory, of which those after `bytes` become zero.
DEVICE void copy_async(void *shared, const void *global, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes) : "memory");
}
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING> DEVICE void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory"); }

#else

DEVICE void ldmatrix(uint32_t (&r)[4], const void *row) { simt::ldmatrix(r, row, false); }
DEVICE void ldmatrix_trans(uint32_t (&r)[4], const void *row) { simt::ldmatrix(r, row, true); }
DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) { simt::mma_bf16(c, a, b0, b1); }
DEVICE void copy_async(void *shared, const void *global, int bytes) { simt::copy_async(shared, global, bytes); }
DEVICE void copy_commit() { simt::copy_commit(); }
template <int PENDING> DEVICE void copy_wait() { simt::copy_wait(PENDING); }

#endif

// A tile is [rows][W] of bf16, W a multiple of 64. Chunks of 16 bytes are swizzled by row, so that the eight rows of an 8x8 matrix
// lie in different banks.
template <int W> DEVICE int tile_at(int row, int chunk) { return row * W + ((chunk ^ (row & 7)) * 8); }

// Rows is a matrix of bf16 whose rows are 16-byte aligned and whose number of columns is a multiple of 8: ../pack.go makes it
// so where a caller's is not.
struct Rows {
    const uint16_t *base;
    int64_t stride;  // elements
    int32_t cols;
};

// load_chunk copies columns [8·chunk, 8·chunk+8) of a row to a tile; zeros if there is no such row or chunk.
DEVICE void load_chunk(uint16_t *to, const Rows &m, int64_t row, int chunk, bool there) {
    there = there && chunk * 8 < m.cols;
    copy_async(to, m.base + (there ? row * m.stride + chunk * 8 : 0), there ? 16 : 0);
}

// load_tile copies rows [row, row+N) and columns [col, col+W) to a tile with THREADS threads; rows from `end` on are zero.
template <int N, int W, int THREADS> DEVICE void load_tile(uint16_t *tile, const Rows &m, int64_t row, int64_t end, int col) {
    UNROLL_2 for (int i = 0; i < N * W / 8 / THREADS; i++) {
        int n = i * THREADS + thread(), r = n / (W / 8), c = n % (W / 8);
        load_chunk(tile + tile_at<W>(r, c), m, row + r, col / 8 + c, row + r < end);
    }
}

// fragment_a loads A fragments of rows [row, row+16), columns [16k, 16k+16) of a tile.
template <int W> DEVICE void fragment_a(uint32_t (&a)[4], const uint16_t *tile, int row, int k) {
    ldmatrix(a, tile + tile_at<W>(row + lane() % 16, 2 * k + lane() / 16));
}
// fragment_b loads what two B fragments of Xᵀ need, columns of Xᵀ being rows [row, row+16) of a tile of X, rows its columns
// [16k, 16k+16): b[0] b[1] of the first eight columns, b[2] b[3] of the others.
template <int W> DEVICE void fragment_b(uint32_t (&b)[4], const uint16_t *tile, int row, int k) {
    ldmatrix(b, tile + tile_at<W>(row + lane() % 8 + lane() / 16 * 8, 2 * k + lane() / 8 % 2));
}
// fragment_v is fragment_b of X itself: rows [row, row+16) of the tile, columns [16n, 16n+16).
template <int W> DEVICE void fragment_v(uint32_t (&b)[4], const uint16_t *tile, int row, int n) {
    ldmatrix_trans(b, tile + tile_at<W>(row + lane() % 16, 2 * n + lane() / 16));
}
