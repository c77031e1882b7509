// What gorgonia.org/cu lacks: launches, shared memory beyond 48 KiB, pinned memory, graphs by capture, cuBLASLt.
// Every function makes the context current on the calling thread first, so that Go may call from any.
#pragma once
#include <stddef.h>
#include <stdint.h>

// Functions return a CUresult, 0 for success, unless they say otherwise.
int pbs_current(void *context);
const char *pbs_error(int code);
// pbs_launch queues a kernel of one parameter, of which the driver copies as many bytes as the kernel takes.
int pbs_launch(void *context, void *function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned shared, void *stream, void *args);
int pbs_shared(void *context, void *function, int bytes);
int pbs_pinned(void *context, size_t bytes, void **host, uintptr_t *device);
int pbs_unpin(void *context, void *host);
// pbs_tensor_map encodes 128 bytes for boxes of [.., rows, cols] of bf16: dims and box innermost first, strides in bytes, 128-byte swizzle.
int pbs_tensor_map(void *context, uintptr_t base, const uint64_t dims[3], const uint64_t strides[2], const uint32_t box[3], void *map);
int pbs_capture(void *context, void *stream);
int pbs_captured(void *context, void *stream, void **graph_exec);
int pbs_replay(void *context, void *graph_exec, void *stream);
int pbs_drop_graph(void *context, void *graph_exec);

// pbs_clocks asks NVML, opened at run time, for the clocks of a CUDA device in MHz (multiprocessors, the most they may have, memory) and for what
// holds them down. It returns an error of NVML, or -1 without it.
int pbs_clocks(int device, unsigned mhz[3], unsigned long long *held);

// cuBLASLt, opened at run time. pbs_lt_open returns 0 and a handle, or why not: 1 no library, 2 too old, 3 it refuses.
int pbs_lt_open(void *context, void **handle, int *version);
void pbs_lt_close(void *context, void *handle);
// pbs_lt_plan prepares out[rows, n] = x[rows, k] w[n, k]ᵀ (+ out) for bf16 x and w and f32 out at addresses that these numbers of bytes divide; a status of
// cuBLAS, 15: not supported.
int pbs_lt_plan(void *context, void *handle, int64_t rows, int64_t n, int64_t k, int64_t out_stride, int64_t x_stride, int64_t w_stride, uint32_t out_align,
                uint32_t x_align, uint32_t w_align, size_t workspace, void **plan);
int pbs_lt_run(void *context, void *handle, void *plan, uintptr_t out, uintptr_t x, uintptr_t w, float beta, uintptr_t workspace, size_t bytes, void *stream);
void pbs_lt_drop(void *plan);
