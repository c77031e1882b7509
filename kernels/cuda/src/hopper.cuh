// What sm_90a adds: wgmma, which a warpgroup of four warps issues together with operands in shared memory and waits for later; copies by
// the tensor memory accelerator (TMA); barriers in shared memory; registers that move from one warpgroup to another.
//
// Tiles are [rows][64] of bf16, rows of 128 bytes whose chunks of 16 are swizzled by row (the hardware's 128-byte swizzle: address bits
// 4-6 exclusive-or bits 7-9), from an address that 1024 divides; a tile of more columns is several of these one after the other. Warp w
// of a warpgroup holds rows 16w..16w+15 of the sums, as fragments C of mma.cuh.
//
// A Barrier counts arrivals and the bytes of copies. Its phases alternate between parity 0, the first, and 1; arrive() takes part in the
// phase at hand, wait(p) returns once the last phase of parity p has ended. So a fresh barrier lets wait(1) pass: what an owner of an
// empty buffer wants.
#pragma once

#include "mma.cuh"

// A tensor map as cuTensorMapEncodeTiled makes it: [heads][rows][cols] of bf16, boxes of [1][rows][64], 128-byte swizzle.
struct alignas(64) TensorMap {
    uint64_t words[16];
};

#if defined(__CUDACC__)

struct Barrier {
    uint64_t state;
};
typedef uint64_t Descriptor;

// describe is the descriptor of a tile: `apart` bytes between its parts of 64 columns, for tiles read across.
DEVICE Descriptor describe(const void *tile, int apart) {
    return (static_cast<uint64_t>(shared_address(tile) & 0x3ffff) >> 4) | static_cast<uint64_t>(apart >> 4) << 16 | 64ull << 32 | 1ull << 62;
}
DEVICE Descriptor advance(Descriptor d, int bytes) { return d + (bytes >> 4); }

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

DEVICE void init(Barrier &b, int arrivals) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&b)), "r"(arrivals) : "memory"); }
// Barriers of this thread's init become visible to copies; a block's barrier after it shows them to the other threads.
DEVICE void init_done() { asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;" ::: "memory"); }
DEVICE void arrive(Barrier &b) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&b)) : "memory"); }
// arrive_expecting also has the phase last until that many bytes have been copied.
DEVICE void arrive_expecting(Barrier &b, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&b)), "r"(bytes) : "memory");
}
// wait gives up after five seconds, in which nothing on a GPU should have to wait: a fault of the kernel is then an error, not a hang. A
// clock tells, since how long one try sleeps is the hardware's choice.
DEVICE void wait(Barrier &b, int parity) {
    for (uint64_t begin = 0;;) {
        uint32_t done;
        asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                     : "=r"(done)
                     : "r"(shared_address(&b)), "r"(parity)
                     : "memory");
        if (done) return;
        uint64_t now;
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
        if (!begin) begin = now;
        if (now - begin > 5000000000) asm volatile("st.global.u32 [%0], %1;" ::"l"(0ull), "r"(parity) : "memory");
    }
}
// load_box copies a box from (col, row, head) of a map; what lies outside of the tensor becomes zero, and counts as copied.
DEVICE void load_box(void *to, const TensorMap &m, Barrier &b, int col, int row, int head) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(shared_address(to)),
                 "l"(&m), "r"(shared_address(&b)), "r"(col), "r"(row), "r"(head)
                 : "memory");
}
template <int N> DEVICE void give_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)); }
template <int N> DEVICE void take_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)); }
// What was written to shared memory by threads becomes visible to wgmma.
DEVICE void wgmma_visible() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// wgmma_begin: registers written before may be operands and sums of what follows.
DEVICE void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// wgmma_wait waits for all but the last N groups.
template <int N> DEVICE void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }

#else  // other images hold the kernels empty

DEVICE void init(Barrier &b, int arrivals) {}
DEVICE void init_done() {}
DEVICE void arrive(Barrier &b) {}
DEVICE void arrive_expecting(Barrier &b, int bytes) {}
DEVICE void wait(Barrier &b, int parity) {}
DEVICE void load_box(void *to, const TensorMap &m, Barrier &b, int col, int row, int head) {}
template <int N> DEVICE void give_registers() {}
template <int N> DEVICE void take_registers() {}
DEVICE void wgmma_visible() {}
DEVICE void wgmma_begin() {}
DEVICE void wgmma_commit() {}
template <int N> DEVICE void wgmma_wait() {}

#endif

// hold keeps the compiler from moving uses of sums over a wait, which does not name them.
template <int T> DEVICE void hold(float (&x)[T][4]) {
    UNROLL for (int i = 0; i < T; i++) asm volatile("" : "+f"(x[i][0]), "+f"(x[i][1]), "+f"(x[i][2]), "+f"(x[i][3])::"memory");
}
// Barriers of `threads` threads by number, 0 being sync_block's: who arrives goes on, who meets waits.
DEVICE void arrive_named(int barrier, int threads) { asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory"); }
DEVICE void meet_named(int barrier, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory"); }

#else

typedef simt::Barrier Barrier;
typedef simt::Descriptor Descriptor;
DEVICE Descriptor describe(const void *tile, int apart) { return {static_cast<const char *>(tile), apart, 1024}; }
DEVICE Descriptor advance(Descriptor d, int bytes) { return {d.start + bytes, d.apart, d.rows_apart}; }
DEVICE void wgmma_visible() { simt::show_wgmma(); }
DEVICE void wgmma_begin() {}
DEVICE void init(Barrier &b, int arrivals) { simt::barrier_init(&b, arrivals); }
DEVICE void init_done() {}
DEVICE void arrive(Barrier &b) { simt::barrier_arrive(&b, 0); }
DEVICE void arrive_expecting(Barrier &b, int bytes) { simt::barrier_arrive(&b, bytes); }
DEVICE void wait(Barrier &b, int parity) { simt::barrier_wait(&b, parity); }
DEVICE void load_box(void *to, const TensorMap &m, Barrier &b, int col, int row, int head) { simt::load_box(to, m.words, &b, col, row, head); }
template <int N> DEVICE void give_registers() {}
template <int N> DEVICE void take_registers() {}
DEVICE void wgmma_commit() { simt::wgmma_commit(); }
template <int N> DEVICE void wgmma_wait() { simt::wgmma_wait(N); }
template <int T> DEVICE void hold(float (&)[T][4]) {}
DEVICE void arrive_named(int barrier, int threads) { simt::arrive_named(barrier, threads); }
DEVICE void meet_named(int barrier, int threads) { simt::sync_named(barrier, threads); }

#endif

// Products go in groups: wgmma_begin, products, wgmma_commit, and some time later wgmma_wait and hold.
#if defined(__CUDACC__) && defined(__CUDA_ARCH_FEAT_SM90_ALL)

#define PBS_F4(x) "+f"((x)[0]), "+f"((x)[1]), "+f"((x)[2]), "+f"((x)[3])

// s[64][128] = (more ? s : 0) + a[64][16] b[128][16]^T.
DEVICE void queue_scores(float (&s)[16][4], Descriptor a, Descriptor b, int more) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, %64, %65, p, 1, 1, 0, 0;\n}"
                 : PBS_F4(s[0]), PBS_F4(s[1]), PBS_F4(s[2]), PBS_F4(s[3]), PBS_F4(s[4]), PBS_F4(s[5]), PBS_F4(s[6]), PBS_F4(s[7]), PBS_F4(s[8]), PBS_F4(s[9]), PBS_F4(s[10]), PBS_F4(s[11]), PBS_F4(s[12]), PBS_F4(s[13]), PBS_F4(s[14]), PBS_F4(s[15])
                 : "l"(a), "l"(b), "r"(more));
}
// o[64][128] or o[64][64] += p[64][16] v[16][..], p as fragments A in registers.
DEVICE void queue_outputs(float (&o)[16][4], const uint32_t (&p)[4], Descriptor v) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
                 : PBS_F4(o[0]), PBS_F4(o[1]), PBS_F4(o[2]), PBS_F4(o[3]), PBS_F4(o[4]), PBS_F4(o[5]), PBS_F4(o[6]), PBS_F4(o[7]), PBS_F4(o[8]), PBS_F4(o[9]), PBS_F4(o[10]), PBS_F4(o[11]), PBS_F4(o[12]), PBS_F4(o[13]), PBS_F4(o[14]), PBS_F4(o[15])
                 : "r"(p[0]), "r"(p[1]), "r"(p[2]), "r"(p[3]), "l"(v));
}
DEVICE void queue_outputs(float (&o)[8][4], const uint32_t (&p)[4], Descriptor v) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
                 : PBS_F4(o[0]), PBS_F4(o[1]), PBS_F4(o[2]), PBS_F4(o[3]), PBS_F4(o[4]), PBS_F4(o[5]), PBS_F4(o[6]), PBS_F4(o[7])
                 : "r"(p[0]), "r"(p[1]), "r"(p[2]), "r"(p[3]), "l"(v));
}

#elif defined(__CUDACC__)

DEVICE void queue_scores(float (&s)[16][4], Descriptor a, Descriptor b, int more) {}
template <int T> DEVICE void queue_outputs(float (&o)[T][4], const uint32_t (&p)[4], Descriptor v) {}

#else

DEVICE void queue_scores(float (&s)[16][4], Descriptor a, Descriptor b, int more) { simt::wgmma_queue(s[0], 128, nullptr, a, b, more); }
template <int T> DEVICE void queue_outputs(float (&o)[T][4], const uint32_t (&p)[4], Descriptor v) { simt::wgmma_queue(o[0], T * 8, p, v, v, 1); }

#endif
