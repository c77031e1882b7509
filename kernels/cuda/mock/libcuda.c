// A libcuda.so.1 for tests: the driver's calls that the CUDA backend makes, over host memory.
//
//   PBS_MOCK_LOG=FILE      every call, one a line; launches with geometry and arguments in hex
//   PBS_MOCK_FAIL=NAME:N:CODE   the N-th call of that name, from 1, fails; a CODE from 700 on is the device's end: all calls after it fail alike
//   PBS_MOCK_LACKS=KERNEL  no module has it
//   PBS_MOCK_DEVICES=N     how many GPUs there are (1)
//   PBS_MOCK_ARGS=N        how many bytes of arguments a launch logs where PBS_SIMT_LIB does not tell (0)
//   PBS_SIMT_LIB=FILE      kernels as package simt compiles them: launches run. Without it they do nothing
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
enum { OK = 0, INVALID = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, NOT_FOUND = 500, CAPTURE = 901 };

static FILE *out;
static int lost;
static const void *(*simt_kernel)(const char *);
static size_t (*simt_args)(const void *);
static void (*simt_launch)(const void *, unsigned, unsigned, unsigned, unsigned, unsigned, const void *, int, int);

typedef struct Call {
    const void *kernel;
    unsigned x, y, z, threads, shared;
    void *args;
    struct Call *next;
} Call;
static Call *captured, **tail;
static int capturing;

__attribute__((constructor)) static void start(void) {
    const char *log = getenv("PBS_MOCK_LOG"), *lib = getenv("PBS_SIMT_LIB");
    if (log) out = fopen(log, "a");
    void *simt = lib ? dlopen(lib, RTLD_NOW) : NULL;
    if (lib && !simt) fprintf(stderr, "mock libcuda: %s\n", dlerror()), abort();
    if (!simt) return;
    *(void **)&simt_kernel = dlsym(simt, "simt_kernel");
    *(void **)&simt_args = dlsym(simt, "simt_args");
    *(void **)&simt_launch = dlsym(simt, "simt_launch");
}

static int call(const char *name, const char *format, ...) {
    static struct { const char *name; int n; } seen[64];
    if (out) {
        va_list args;
        va_start(args, format);
        fprintf(out, "%s ", name);
        vfprintf(out, format, args);
        fputc('\n', out);
        fflush(out);
        va_end(args);
    }
    if (lost) return lost;
    int i = 0;
    while (seen[i].name && strcmp(seen[i].name, name)) i++;
    seen[i].name = name, seen[i].n++;
    const char *fail = getenv("PBS_MOCK_FAIL");
    size_t len = strlen(name);
    int nth, code;
    if (fail && !strncmp(fail, name, len) && fail[len] == ':' && sscanf(fail + len, ":%d:%d", &nth, &code) == 2 && seen[i].n == nth) {
        if (code >= 700) lost = code;
        return code;
    }
    return OK;
}

#define DO(...)                             \
    do {                                    \
        int r_ = call(__func__, __VA_ARGS__); \
        if (r_) return r_;                  \
    } while (0)

static size_t used;
static const size_t total = (size_t)1 << 34;

EXPORT int cuInit(unsigned flags) { DO("%u", flags); return OK; }
EXPORT int cuDeviceGetCount(int *n) {
    DO(" ");
    const char *s = getenv("PBS_MOCK_DEVICES");
    *n = s ? atoi(s) : 1;
    return OK;
}
EXPORT int cuDeviceGet(int *d, int i) { DO("%d", i); *d = i; return OK; }
EXPORT int cuDeviceGetName(char *name, int n, int d) { DO("%d", d); snprintf(name, n, "Mock"); return OK; }
EXPORT int cuDeviceGetAttribute(int *value, int which, int d) {
    DO("%d %d", which, d);
    const char *major = getenv("PBS_MOCK_MAJOR");
    *value = which == 75 ? (major ? atoi(major) : 9) : which == 76 ? 0 : which == 16 ? 4 : which == 97 ? 227 << 10 : 0;
    return OK;
}
EXPORT int cuDeviceGetPCIBusId(char *address, int n, int d) { DO("%d", d); snprintf(address, n, "0000:%02x:00.0", 0x1b + d); return OK; }
static intptr_t modules = 0x4000, first_module;
EXPORT int cuDevicePrimaryCtxRetain(void **ctx, int d) { DO("%d", d); *ctx = (void *)0x1000, first_module = modules; return OK; }
EXPORT int cuDevicePrimaryCtxRelease_v2(int d) { DO("%d", d); return OK; }
static __thread void *current;
EXPORT int cuCtxSetCurrent(void *ctx) { DO("%p", ctx); current = ctx; return OK; }
EXPORT int cuCtxGetCurrent(void **ctx) { *ctx = current; return OK; }
EXPORT int cuStreamCreate(void **s, unsigned flags) { DO("%u", flags); *s = (void *)0x2000; return OK; }
EXPORT int cuStreamSynchronize(void *s) { DO("%p", s); return OK; }
EXPORT int cuEventCreate(void **e, unsigned flags) { DO("%u", flags); *e = (void *)0x3000; return OK; }
EXPORT int cuEventRecord(void *e, void *s) { DO("%p %p", e, s); return OK; }
EXPORT int cuEventSynchronize(void *e) { DO("%p", e); return OK; }
EXPORT int cuEventElapsedTime_v2(float *ms, void *a, void *b) { DO("%p %p", a, b); *ms = 1; return OK; }
EXPORT int cuModuleLoadData(void **m, const void *image) {
    DO("%08x", *(const unsigned *)image);
    *m = (void *)modules++;
    return OK;
}
static char *functions[256];
EXPORT int cuModuleGetFunction(void **f, void *m, const char *name) {
    DO("%p %s", m, name);
    const char *lacks = getenv("PBS_MOCK_LACKS");
    if ((intptr_t)m != first_module || (lacks && !strcmp(lacks, name))) return NOT_FOUND;  // the first module of a context has all
    int i = 0;
    while (functions[i] && strcmp(functions[i], name)) i++;
    if (!functions[i]) functions[i] = strdup(name);
    *f = (void *)(intptr_t)(0x5000 + i);
    return OK;
}
EXPORT int cuFuncSetAttribute(void *f, int which, int value) { DO("%s %d %d", functions[(intptr_t)f - 0x5000], which, value); return OK; }
EXPORT int cuMemGetInfo_v2(size_t *free, size_t *all) { DO(" "); *free = total - used, *all = total; return OK; }
EXPORT int cuMemAlloc_v2(uintptr_t *p, size_t n) {
    DO("%zu", n);
    size_t *b = aligned_alloc(256, (n + 511) / 256 * 256);
    if (!b || used + n > total) return OUT_OF_MEMORY;
    *b = n, used += n;
    *p = (uintptr_t)b + 256;
    memset((void *)*p, 0xff, n < 1 << 20 ? n : 1 << 20);
    return OK;
}
EXPORT int cuMemFree_v2(uintptr_t p) { DO(" "); used -= *(size_t *)(p - 256); free((void *)(p - 256)); return OK; }
EXPORT int cuMemHostAlloc(void **p, size_t n, unsigned flags) { DO("%zu %u", n, flags); *p = aligned_alloc(4096, n); return OK; }
EXPORT int cuMemHostGetDevicePointer_v2(uintptr_t *d, void *p, unsigned flags) { DO("%u", flags); *d = (uintptr_t)p; return OK; }
EXPORT int cuMemFreeHost(void *p) { DO(" "); free(p); return OK; }
EXPORT int cuMemcpyHtoDAsync_v2(uintptr_t d, const void *p, size_t n, void *s) { DO("%zu %p", n, s); memcpy((void *)d, p, n); return OK; }
EXPORT int cuMemcpyDtoHAsync_v2(void *p, uintptr_t d, size_t n, void *s) { DO("%zu %p", n, s); memcpy(p, (void *)d, n); return OK; }
EXPORT int cuMemsetD8Async(uintptr_t d, unsigned char c, size_t n, void *s) { DO("%u %zu %p", c, n, s); memset((void *)d, c, n); return OK; }
EXPORT int cuGetErrorName(int code, const char **name) {
    *name = code == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : code == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : code == 719 ? "CUDA_ERROR_LAUNCH_FAILED" : code == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_UNKNOWN";
    return OK;
}
EXPORT int cuGetErrorString(int code, const char **name) { return cuGetErrorName(code, name); }

static void run(const Call *c) {
    if (simt_launch && c->kernel) simt_launch(c->kernel, c->x, c->y, c->z, c->threads, c->shared, c->args, 1, 0);
}

EXPORT int cuLaunchKernel(void *f, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *s, void **params, void **extra) {
    // A buffer of all parameters would have to leave the gaps that the compiler leaves before aligned ones, which differ by architecture.
    if (!params || extra || by != 1 || bz != 1) return INVALID;
    const char *name = functions[(intptr_t)f - 0x5000], *bytes = getenv("PBS_MOCK_ARGS");
    const void *kernel = simt_kernel ? simt_kernel(name) : NULL;
    size_t n = kernel ? simt_args(kernel) : bytes ? (size_t)atoi(bytes) : 0;
    char hex[1025] = "";
    for (size_t i = 0; i < n && i < 512; i++) sprintf(hex + 2 * i, "%02x", ((unsigned char *)params[0])[i]);
    DO("%s %u,%u,%u %u %u %s", name, x, y, z, bx, shared, hex);
    Call *c = malloc(sizeof *c);
    *c = (Call){kernel, x, y, z, bx, shared, malloc(n), NULL};
    memcpy(c->args, params[0], n);
    if (capturing) {
        *tail = c, tail = &c->next;
        return OK;
    }
    run(c);
    free(c->args), free(c);
    return OK;
}

// A map is laid out as simt's Map.
EXPORT int cuTensorMapEncodeTiled(void *map, int type, unsigned rank, void *base, const uint64_t *dims, const uint64_t *strides, const uint32_t *box,
                                  const uint32_t *steps, int interleave, int swizzle, int promotion, int fill) {
    DO("%d %u %p dims %lu %lu %lu strides %lu %lu box %u %u %u steps %u %u %u %d %d %d %d", type, rank, base, dims[0], dims[1], dims[2], strides[0], strides[1],
       box[0], box[1], box[2], steps[0], steps[1], steps[2], interleave, swizzle, promotion, fill);
    // What the driver refuses.
    if ((uintptr_t)map % 64 || (uintptr_t)base % 16 || strides[0] % 16 || strides[1] % 16 || strides[0] >> 40 || strides[1] >> 40) return INVALID;
    for (int i = 0; i < 3; i++)
        if (dims[i] == 0 || dims[i] >> 32 || box[i] == 0 || box[i] > 256) return INVALID;
    if (box[0] * 2 > 128) return INVALID;
    memset(map, 0, 128);
    memcpy(map, &base, 8), memcpy((char *)map + 8, dims, 24), memcpy((char *)map + 32, strides, 16), memcpy((char *)map + 48, box, 12);
    return OK;
}

EXPORT int cuStreamBeginCapture_v2(void *s, int mode) {
    DO("%p %d", s, mode);
    capturing = 1, captured = NULL, tail = &captured;
    return OK;
}
EXPORT int cuStreamEndCapture(void *s, void **graph) { DO("%p", s); capturing = 0, *graph = captured; return OK; }
EXPORT int cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long flags) { DO("%llu", flags); *exec = graph; return OK; }
EXPORT int cuGraphDestroy(void *graph) { DO(" "); return OK; }
EXPORT int cuGraphLaunch(void *exec, void *s) {
    DO("%p", s);
    for (Call *c = exec; c; c = c->next) run(c);
    return OK;
}
EXPORT int cuGraphExecDestroy(void *exec) { DO(" "); return OK; }
