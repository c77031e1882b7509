// A libcublasLt for tests: the calls that the CUDA backend makes, on host memory, in column-major order as the real one has it.
//
//   PBS_MOCK_LOG=FILE   every product: what was promised of addresses, dimensions, leading dimensions, beta
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
enum { OK = 0, NOT_INITIALIZED = 1, INVALID = 7, R_32F = 0, R_16BF = 14, COMPUTE_32F = 68, TRANSA = 3, OP_T = 1, WORKSPACE = 1, ALIGN_A = 5 };

typedef struct { int compute, scale, op[2]; } Desc;
typedef struct { int type; uint64_t rows, cols; int64_t ld; } Layout;
typedef struct { uint64_t workspace; uint32_t align[4]; } Pref;
typedef struct { uint64_t data[8]; } Algo;  // what Pref holds
typedef struct { Algo algo; size_t workspace; int state; float waves; int reserved[4]; } Result;

// lost reports whether the calling thread has no context: the real library would take the one of GPU 0.
static int lost(void) {
    int (*get)(void **) = (int (*)(void **))dlsym(RTLD_DEFAULT, "cuCtxGetCurrent");
    void *ctx = NULL;
    return !get || get(&ctx) || !ctx;
}

EXPORT int cublasLtCreate(void **h) { *h = malloc(1); return OK; }
EXPORT int cublasLtDestroy(void *h) { free(h); return OK; }
EXPORT size_t cublasLtGetVersion(void) { return 130000; }
EXPORT int cublasLtMatmulDescCreate(Desc **d, int compute, int scale) {
    *d = calloc(1, sizeof **d);
    (*d)->compute = compute, (*d)->scale = scale;
    return OK;
}
EXPORT int cublasLtMatmulDescSetAttribute(Desc *d, int which, const int32_t *value, size_t n) {
    if ((which != TRANSA && which != TRANSA + 1) || n != 4) return INVALID;
    d->op[which - TRANSA] = *value;
    return OK;
}
EXPORT int cublasLtMatmulDescDestroy(Desc *d) { free(d); return OK; }
EXPORT int cublasLtMatrixLayoutCreate(Layout **l, int type, uint64_t rows, uint64_t cols, int64_t ld) {
    if (ld < (int64_t)rows) return INVALID;
    *l = malloc(sizeof **l);
    **l = (Layout){type, rows, cols, ld};
    return OK;
}
EXPORT int cublasLtMatrixLayoutDestroy(Layout *l) { free(l); return OK; }
EXPORT int cublasLtMatmulPreferenceCreate(Pref **p) {
    *p = malloc(sizeof **p);
    **p = (Pref){0, {256, 256, 256, 256}};
    return OK;
}
EXPORT int cublasLtMatmulPreferenceSetAttribute(Pref *p, int which, const void *value, size_t n) {
    if (which == WORKSPACE && n == 8) memcpy(&p->workspace, value, 8);
    else if (which >= ALIGN_A && which < ALIGN_A + 4 && n == 4) memcpy(&p->align[which - ALIGN_A], value, 4);
    else return INVALID;
    return OK;
}
EXPORT int cublasLtMatmulPreferenceDestroy(Pref *p) { free(p); return OK; }

static int fits(const Desc *d, const Layout *a, const Layout *b, const Layout *c) {
    return d->compute == COMPUTE_32F && d->scale == R_32F && d->op[0] == OP_T && d->op[1] == 0 && a->type == R_16BF && b->type == R_16BF && c->type == R_32F &&
           a->rows == b->rows && a->cols == c->rows && b->cols == c->cols;
}
EXPORT int cublasLtMatmulAlgoGetHeuristic(void *h, Desc *d, Layout *a, Layout *b, Layout *c, Layout *o, Pref *p, int want, Result *found, int *count) {
    if (lost()) return NOT_INITIALIZED;
    if (want != 1 || c != o || !fits(d, a, b, c)) return INVALID;
    memset(found, 0, sizeof *found);
    memcpy(&found->algo, p, sizeof *p);
    *count = 1;
    return OK;
}

static float widen(uint16_t x) {
    uint32_t u = (uint32_t)x << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
EXPORT int cublasLtMatmul(void *h, Desc *d, const float *alpha, const uint16_t *a, Layout *al, const uint16_t *b, Layout *bl, const float *beta, const float *c,
                          Layout *cl, float *out, Layout *ol, const Algo *algo, void *workspace, size_t bytes, void *stream) {
    Pref p;
    memcpy(&p, algo, sizeof p);
    const char *log = getenv("PBS_MOCK_LOG");
    FILE *f = log ? fopen(log, "a") : NULL;
    if (f) {
        fprintf(f, "cublasLtMatmul align %u %u %u %u m %lu n %lu k %lu ld %ld %ld %ld beta %g\n", p.align[0], p.align[1], p.align[2], p.align[3], cl->rows, cl->cols,
                al->rows, al->ld, bl->ld, cl->ld, *beta);
        fclose(f);
    }
    if (lost()) return NOT_INITIALIZED;
    if (!fits(d, al, bl, cl) || *alpha != 1 || c != out || cl != ol || bytes < p.workspace || (uintptr_t)workspace % 256) return INVALID;
    // As a kernel that reads more at a time than it may: an error, and not another algorithm.
    if ((uintptr_t)a % p.align[0] || (uintptr_t)b % p.align[1] || (uintptr_t)c % p.align[2] || (uintptr_t)out % p.align[3]) return INVALID;
    for (uint64_t j = 0; j < cl->cols; j++)
        for (uint64_t i = 0; i < cl->rows; i++) {
            float sum = 0, *to = &out[j * cl->ld + i];
            for (uint64_t k = 0; k < al->rows; k++) sum += widen(a[i * al->ld + k]) * widen(b[j * bl->ld + k]);
            *to = *beta == 0 ? sum : sum + *beta * *to;
        }
    return OK;
}
