//go:build cuda

#include "shim.h"

#include <cuda.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static __thread CUcontext current;

int pbs_current(void *context) {
    if (current == (CUcontext)context) return 0;
    CUresult r = cuCtxSetCurrent((CUcontext)context);
    if (r == CUDA_SUCCESS) current = (CUcontext)context;
    return r;
}

#define CURRENT(context)               \
    do {                               \
        int r_ = pbs_current(context); \
        if (r_) return r_;             \
    } while (0)

const char *pbs_error(int code) {
    const char *name = NULL;
    if (cuGetErrorName((CUresult)code, &name) != CUDA_SUCCESS || !name) return "unknown error";
    return name;
}

int pbs_launch(void *context, void *function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned shared, void *stream, void *args) {
    CURRENT(context);
    // By the list of parameters, whose places the driver knows, and not by a buffer of all: on sm_90 parameters begin at 0x210, so that the
    // compiler puts one aligned to 64 bytes, as tensor maps must be, 48 bytes into the buffer.
    void *parameters[] = {args};
    return cuLaunchKernel((CUfunction)function, x, y, z, threads, 1, 1, shared, (CUstream)stream, parameters, NULL);
}

int pbs_shared(void *context, void *function, int bytes) {
    CURRENT(context);
    return cuFuncSetAttribute((CUfunction)function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes);
}

int pbs_pinned(void *context, size_t bytes, void **host, uintptr_t *device) {
    CURRENT(context);
    CUresult r = cuMemHostAlloc(host, bytes, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
    if (r != CUDA_SUCCESS) return r;
    CUdeviceptr at = 0;
    r = cuMemHostGetDevicePointer(&at, *host, 0);
    *device = (uintptr_t)at;
    return r;
}

int pbs_unpin(void *context, void *host) {
    CURRENT(context);
    return cuMemFreeHost(host);
}

int pbs_tensor_map(void *context, uintptr_t base, const uint64_t dims[3], const uint64_t strides[2], const uint32_t box[3], void *map) {
    CURRENT(context);
    CUtensorMap m;  // aligned, as what `map` points at may not be
    cuuint32_t steps[3] = {1, 1, 1};
    cuuint64_t d[3] = {dims[0], dims[1], dims[2]}, s[2] = {strides[0], strides[1]};
    cuuint32_t b[3] = {box[0], box[1], box[2]};
    CUresult r = cuTensorMapEncodeTiled(&m, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, (void *)base, d, s, b, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                        CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    memcpy(map, &m, sizeof m);
    return r;
}

int pbs_capture(void *context, void *stream) {
    CURRENT(context);
    return cuStreamBeginCapture((CUstream)stream, CU_STREAM_CAPTURE_MODE_RELAXED);
}

int pbs_captured(void *context, void *stream, void **graph_exec) {
    CURRENT(context);
    CUgraph graph = NULL;
    CUresult r = cuStreamEndCapture((CUstream)stream, &graph);
    if (r != CUDA_SUCCESS) return r;
    r = cuGraphInstantiateWithFlags((CUgraphExec *)graph_exec, graph, 0);
    cuGraphDestroy(graph);
    return r;
}

int pbs_replay(void *context, void *graph_exec, void *stream) {
    CURRENT(context);
    return cuGraphLaunch((CUgraphExec)graph_exec, (CUstream)stream);
}

int pbs_drop_graph(void *context, void *graph_exec) {
    CURRENT(context);
    return cuGraphExecDestroy((CUgraphExec)graph_exec);
}

// NVML's interface as far as it is used. Devices are numbered in another order there: the address on the bus names them.
static struct {
    int (*init)(void);
    int (*by_address)(const char *, void **);
    int (*clock)(void *, int, unsigned *);
    int (*max_clock)(void *, int, unsigned *);
    int (*reasons)(void *, unsigned long long *);
} nvml;

int pbs_clocks(int device, unsigned mhz[3], unsigned long long *held) {
    static const char *const names[] = {"nvmlInit_v2", "nvmlDeviceGetHandleByPciBusId_v2", "nvmlDeviceGetClockInfo", "nvmlDeviceGetMaxClockInfo",
                                        "nvmlDeviceGetCurrentClocksThrottleReasons"};
    enum { SM = 1, MEMORY = 2 };
    static int status = -2;  // not tried
    if (status == -2) {
        void *lib = dlopen("libnvidia-ml.so.1", RTLD_NOW), **to = (void **)&nvml;
        status = lib ? 0 : -1;
        for (size_t i = 0; status == 0 && i < sizeof names / sizeof *names; i++)
            if (!(to[i] = dlsym(lib, names[i]))) status = -1;
        if (status == 0) status = nvml.init();
    }
    if (status) return status;
    char address[32];
    void *handle = NULL;
    if (cuDeviceGetPCIBusId(address, sizeof address, device) != CUDA_SUCCESS) return 999;
    int r = nvml.by_address(address, &handle);
    if (!r) r = nvml.clock(handle, SM, &mhz[0]);
    if (!r) r = nvml.max_clock(handle, SM, &mhz[1]);
    if (!r) r = nvml.clock(handle, MEMORY, &mhz[2]);
    if (!r) r = nvml.reasons(handle, held);
    return r;
}

// cuBLASLt's interface as far as it is used: the same in versions 12 and 13.
typedef void *Handle;
enum { R_32F = 0, R_16BF = 14, COMPUTE_32F = 68, DESC_TRANSA = 3, OP_T = 1, PREF_WORKSPACE = 1, PREF_ALIGN_A = 5, NOT_SUPPORTED = 15 };
typedef struct { uint64_t data[8]; } Algo;
typedef struct {
    Algo algo;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
} Heuristic;
_Static_assert(sizeof(Heuristic) == 96, "cublasLtMatmulHeuristicResult_t");

static struct {
    int (*create)(Handle *);
    int (*destroy)(Handle);
    size_t (*version)(void);
    int (*desc_create)(void **, int, int);
    int (*desc_set)(void *, int, const void *, size_t);
    int (*desc_destroy)(void *);
    int (*layout_create)(void **, int, uint64_t, uint64_t, int64_t);
    int (*layout_destroy)(void *);
    int (*pref_create)(void **);
    int (*pref_set)(void *, int, const void *, size_t);
    int (*pref_destroy)(void *);
    int (*heuristic)(Handle, void *, void *, void *, void *, void *, void *, int, Heuristic *, int *);
    int (*matmul)(Handle, void *, const void *, const void *, void *, const void *, void *, const void *, const void *, void *, void *, void *, const Algo *,
                  void *, size_t, void *);
} lt;

int pbs_lt_open(void *context, void **handle, int *version) {
    static const char *const libs[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
    static const char *const names[] = {"cublasLtCreate", "cublasLtDestroy", "cublasLtGetVersion", "cublasLtMatmulDescCreate", "cublasLtMatmulDescSetAttribute",
                                        "cublasLtMatmulDescDestroy", "cublasLtMatrixLayoutCreate", "cublasLtMatrixLayoutDestroy", "cublasLtMatmulPreferenceCreate",
                                        "cublasLtMatmulPreferenceSetAttribute", "cublasLtMatmulPreferenceDestroy", "cublasLtMatmulAlgoGetHeuristic", "cublasLtMatmul"};
    if (pbs_current(context)) return 3;
    void *lib = NULL;
    for (int i = 0; i < 3 && !lib; i++) lib = dlopen(libs[i], RTLD_NOW);
    if (!lib) return 1;
    void **to = (void **)&lt;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!(to[i] = dlsym(lib, names[i]))) return 2;
    *version = (int)lt.version();
    return lt.create(handle) ? 3 : 0;
}

void pbs_lt_close(void *context, void *handle) {
    pbs_current(context);
    lt.destroy(handle);
}

typedef struct {
    void *desc, *w, *x, *out;
    Algo algo;
} Plan;

int pbs_lt_plan(void *context, void *handle, int64_t rows, int64_t n, int64_t k, int64_t out_stride, int64_t x_stride, int64_t w_stride, uint32_t out_align,
                uint32_t x_align, uint32_t w_align, size_t workspace, void **plan) {
    if (pbs_current(context)) return 1;
    // Column-major, as cuBLAS sees them: outᵀ[n, rows] = (wᵀ[k, n])ᵀ · xᵀ[k, rows].
    Plan *p = calloc(1, sizeof *p);
    if (!p) return NOT_SUPPORTED;
    int32_t transposed = OP_T;
    void *pref = NULL;
    Heuristic found;
    int count = 0;
    int r = lt.desc_create(&p->desc, COMPUTE_32F, R_32F);
    if (!r) r = lt.desc_set(p->desc, DESC_TRANSA, &transposed, sizeof transposed);
    if (!r) r = lt.layout_create(&p->w, R_16BF, k, n, w_stride);
    if (!r) r = lt.layout_create(&p->x, R_16BF, k, rows, x_stride);
    if (!r) r = lt.layout_create(&p->out, R_32F, n, rows, out_stride);
    if (!r) r = lt.pref_create(&pref);
    if (!r) r = lt.pref_set(pref, PREF_WORKSPACE, &workspace, sizeof workspace);
    // Of matrices A, B, C and D; without them the algorithm may be one for addresses that 256 divides.
    uint32_t align[4] = {w_align, x_align, out_align, out_align};
    for (int i = 0; i < 4 && !r; i++) r = lt.pref_set(pref, PREF_ALIGN_A + i, &align[i], sizeof align[i]);
    if (!r) r = lt.heuristic(handle, p->desc, p->w, p->x, p->out, p->out, pref, 1, &found, &count);
    if (pref) lt.pref_destroy(pref);
    if (!r) r = count == 0 ? NOT_SUPPORTED : found.state;
    if (r) {
        pbs_lt_drop(p);
        return r;
    }
    p->algo = found.algo;
    *plan = p;
    return 0;
}

int pbs_lt_run(void *context, void *handle, void *plan, uintptr_t out, uintptr_t x, uintptr_t w, float beta, uintptr_t workspace, size_t bytes, void *stream) {
    if (pbs_current(context)) return 1;
    Plan *p = plan;
    float alpha = 1;
    return lt.matmul(handle, p->desc, &alpha, (void *)w, p->w, (void *)x, p->x, &beta, (void *)out, p->out, (void *)out, p->out, &p->algo, (void *)workspace, bytes,
                     stream);
}

void pbs_lt_drop(void *plan) {
    Plan *p = plan;
    if (p->out) lt.layout_destroy(p->out);
    if (p->x) lt.layout_destroy(p->x);
    if (p->w) lt.layout_destroy(p->w);
    if (p->desc) lt.desc_destroy(p->desc);
    free(p);
}
