// A small SIMT machine: kernels/cuda/src compiled by a C++ compiler runs on the host as a GPU would run it, for tests.
//
// Every thread of a block is a fiber. A fiber runs until it needs the others of its warp (shuffles, ldmatrix, mma) or of its
// block (barriers); what they do together happens once all have come. Races that a GPU may hide show here, since a thread runs ahead of
// the others as far as it can: asynchronous copies land only when they are waited for, shared memory starts as NaN, and the
// order of threads can be turned round. A warp whose threads wait for different things, and a block in which nothing can go on, end
// the process with the kernel's name.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

namespace simt {

struct Dim { unsigned x, y, z; };

struct Thread {
    Dim index;
    unsigned lane;
};

extern thread_local Thread *self;
extern thread_local Dim block_index, block_dim, grid_dim;

char *shared_memory();
void sync_block();
int sync_block_or(int value);
void sync_warp();
void sync_named(int barrier, int threads);
uint32_t shuffle(uint32_t value, uint32_t lane);
uint32_t ballot(bool value);
void ldmatrix(uint32_t *r, const void *row, bool transposed);
void mma_bf16(float *c, const uint32_t *a, uint32_t b0, uint32_t b1);
// An operand of wgmma in shared memory: bytes between parts of 64 columns, and between groups of eight rows.
struct Descriptor {
    const char *start;
    int apart, rows_apart;
};
// wgmma_queue adds to d[64][n], of which a thread holds its fragment: a from registers, then b is [16][n] in memory; else from memory, then b
// is [n][16]. It happens in wgmma_wait: sums change no earlier, and what memory holds then counts.
void wgmma_queue(float *d, int n, const uint32_t *a, Descriptor am, Descriptor bm, int more);
void wgmma_commit();
void wgmma_wait(int pending);
// Barriers of hopper.cuh. A copy of load_box lands when somebody waits for its barrier and cannot go on without it; at once where threads
// run backwards.
struct Barrier {
    uint16_t count, missing;
    uint32_t phase : 1, bytes : 31;
};
void barrier_init(Barrier *b, int arrivals);
void barrier_arrive(Barrier *b, int bytes);
void barrier_wait(Barrier *b, int parity);
void arrive_named(int barrier, int threads);
// A tensor map as ../../tensormap.go makes it for tests.
struct Map {
    const uint16_t *base;
    uint64_t dims[3], strides[2];  // elements; bytes of the outer two
    uint32_t box[3];
};
void load_box(void *to, const void *map, Barrier *b, int col, int row, int head);
void copy_async(void *shared, const void *global, int bytes);
void copy_commit();
void copy_wait(int pending);
// show_wgmma lets wgmma read what this thread's copies have brought to shared memory.
void show_wgmma();

// A kernel by name, and how many bytes of arguments it takes.
struct Kernel {
    const char *name;
    size_t args;
    void (*run)(const void *args);
    Kernel *next;
    Kernel(const char *name, size_t args, void (*run)(const void *));
};

}  // namespace simt

#define threadIdx (simt::self->index)
#define blockIdx (simt::block_index)
#define blockDim (simt::block_dim)
#define gridDim (simt::grid_dim)
