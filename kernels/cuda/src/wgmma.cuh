// Tensor cores of sm_90a: wgmma, which a warpgroup of four warps issues together, with operands in shared memory.
//
// Tiles for it are [rows][64] of bf16, rows of 128 bytes whose chunks of 16 are swizzled by row (the hardware's 128-byte swizzle: address bits
// 4-6 exclusive-or bits 7-9), from an address that 1024 divides; a tile of more columns is several of these one after the other. A warp
// of the warpgroup holds rows 16w..16w+15 of the sums, as fragments C of mma.cuh.
#pragma once

#include "mma.cuh"

#if defined(__CUDACC__)

typedef uint64_t Descriptor;

// describe is the descriptor of a tile: `apart` bytes between its parts of 64 columns, for tiles read across.
DEVICE Descriptor describe(const void *tile, int apart) {
    return (static_cast<uint64_t>(shared_address(tile) & 0x3ffff) >> 4) | static_cast<uint64_t>(apart >> 4) << 16 | 64ull << 32 | 1ull << 62;
}
DEVICE Descriptor advance(Descriptor d, int bytes) { return d + (bytes >> 4); }

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

#define PBS_F4(x) "+f"((x)[0]), "+f"((x)[1]), "+f"((x)[2]), "+f"((x)[3])

// What was written to shared memory by threads becomes visible to wgmma.
DEVICE void wgmma_visible() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
DEVICE void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_end() { asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory"); }

// s[64][64] = (more ? s : 0) + a[64][16] b[64][16]^T.
DEVICE void wgmma_scores(float (&s)[8][4], Descriptor a, Descriptor b, int more) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, p, 1, 1, 0, 0;\n}"
                 : PBS_F4(s[0]), PBS_F4(s[1]), PBS_F4(s[2]), PBS_F4(s[3]), PBS_F4(s[4]), PBS_F4(s[5]), PBS_F4(s[6]), PBS_F4(s[7])
                 : "l"(a), "l"(b), "r"(more));
}

// o[64][128] += p[64][16] v[16][128], p as fragments A in registers.
DEVICE void wgmma_outputs(float (&o)[16][4], const uint32_t (&p)[4], Descriptor v) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
                 : PBS_F4(o[0]), PBS_F4(o[1]), PBS_F4(o[2]), PBS_F4(o[3]), PBS_F4(o[4]), PBS_F4(o[5]), PBS_F4(o[6]), PBS_F4(o[7]), PBS_F4(o[8]), PBS_F4(o[9]), PBS_F4(o[10]), PBS_F4(o[11]), PBS_F4(o[12]), PBS_F4(o[13]), PBS_F4(o[14]), PBS_F4(o[15])
                 : "r"(p[0]), "r"(p[1]), "r"(p[2]), "r"(p[3]), "l"(v));
}

#else  // other images hold the kernels empty

DEVICE void wgmma_visible() {}
DEVICE void wgmma_begin() {}
DEVICE void wgmma_end() {}
DEVICE void wgmma_scores(float (&s)[8][4], Descriptor a, Descriptor b, int more) {}
DEVICE void wgmma_outputs(float (&o)[16][4], const uint32_t (&p)[4], Descriptor v) {}

#endif
#else

typedef simt::Descriptor Descriptor;
DEVICE Descriptor describe(const void *tile, int apart) { return {static_cast<const char *>(tile), apart, 1024}; }
DEVICE Descriptor advance(Descriptor d, int bytes) { return {d.start + bytes, d.apart, d.rows_apart}; }
DEVICE void wgmma_visible() {}
DEVICE void wgmma_begin() {}
DEVICE void wgmma_end() {}
DEVICE void wgmma_scores(float (&s)[8][4], Descriptor a, Descriptor b, int more) { simt::wgmma(s[0], 64, nullptr, a, b, more); }
DEVICE void wgmma_outputs(float (&o)[16][4], const uint32_t (&p)[4], Descriptor v) { simt::wgmma(o[0], 128, p, v, v, 1); }

#endif
