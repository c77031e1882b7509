// The driver of matrix products: one panel of weight rows is packed into the worker's L2 cache, widened or paired as the
// kernel wants it, and every strip of x passes over it. k is cut into chunks where a panel would not fit; then sums are
// kept in out (or in scratch for SwiGLU) between chunks.
#include "matmul.h"
#include <string.h>

const struct pbs_kernel *pbs_kernel_of(int32_t kernel) {
    switch (kernel) {
#if defined(__x86_64__)
    case PBS_AVX2:
        return &pbs_kernel_avx2;
    case PBS_AVX512:
        return &pbs_kernel_avx512;
    case PBS_AVX512BF16:
        return &pbs_kernel_avx512bf16;
    case PBS_AMX:
        return &pbs_kernel_amx;
#endif
    default:
        return &pbs_kernel_portable;
    }
}

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// dwords is the packed length of a row of k elements, chunk the part of it that is packed at a time.
static int64_t dwords(const struct pbs_tiling *t, int64_t k) { return round_up(t->bf16 ? (k + 1) / 2 : k, t->step); }

static int64_t chunk(const struct pbs_tiling *t, int64_t K) {
    int64_t chunks = (K + t->kc - 1) / t->kc;
    return round_up((K + chunks - 1) / chunks, t->step);
}

struct pbs_tiling pbs_gemm_tiling(int32_t kernel) { return pbs_kernel_of(kernel)->t; }

// Scratch holds the packed panel, one tile for edges and, for SwiGLU, sums of one strip or of all rows.
static int64_t sums_size(const struct pbs_tiling *t, int64_t rows, int64_t K) {
    return (K <= t->kc ? t->mr : round_up(rows, t->mr)) * t->nb;
}

int64_t pbs_gemm_scratch(int32_t kernel, int32_t mode, int64_t rows, int64_t k) {
    const struct pbs_tiling *t = &pbs_kernel_of(kernel)->t;
    int64_t sums = mode == PBS_SWIGLU ? sums_size(t, rows, dwords(t, k)) : 0;
    return 4 * (t->kc * t->nb + t->mr * t->nr + sums);
}

void pbs_gemm_pack_x(int32_t kernel, void *dst, const void *x, int64_t ldx, int64_t rows, int64_t k) {
    const struct pbs_kernel *g = pbs_kernel_of(kernel);
    int64_t K = dwords(&g->t, k), size = g->t.bf16 ? 2 : 4;
    for (int64_t r = 0; r < rows; r += g->t.mr) {
        int64_t n = rows - r < g->t.mr ? rows - r : g->t.mr;
        g->pack_x((char *)dst + 4 * r * K, (const char *)x + r * ldx * size, ldx * size, n, k, K);
    }
}

// pack fills the panel with dwords [k0, k0 + kl) of the weight rows of p.
static void pack(const struct pbs_kernel *g, const struct pbs_product *p, float *panel, int64_t k0, int64_t kl) {
    int per = g->t.bf16 ? 2 : 1;
    for (int h = 0; h < (p->mode == PBS_SWIGLU ? 2 : 1); h++) {
        const struct pbs_weights *w = &p->w[h];
        for (int64_t j = 0; j < p->n; j += g->t.nr) {
            int64_t rows = p->n - j < g->t.nr ? p->n - j : g->t.nr;
            g->pack_w(panel, (const char *)w->w + j * w->stride, w->stride, w->dtype, rows, k0 * per, kl * per, p->k);
            panel += g->t.nr * kl;
        }
    }
}

static void add_bias(float *c, const struct pbs_weights *w, int64_t n) {
    for (int64_t j = 0; j < n; j++)
        c[j] += pbs_element(w->bias, w->bias_dtype, j);
}

// strip is one strip of packed x on its way over a panel.
struct strip {
    const void *x;
    const char *next; // the strip after it, of which each micro kernel prefetches share bytes
    int64_t share, row, rows;
    int add, last; // c holds earlier chunks (or what to add to); this is the last chunk
};

// store_strip multiplies one strip with the panel into rows of out.
static void store_strip(const struct pbs_kernel *g, const struct pbs_product *p, const struct strip *s, const float *panel,
                        int64_t kl, float *tile) {
    int64_t mr = g->t.mr, nr = g->t.nr;
    const char *next = s->next;
    float *c = (float *)p->out + s->row * p->ldo;
    for (int64_t j = 0; j < p->n; j += nr, panel += nr * kl, next += s->share) {
        int64_t cols = p->n - j < nr ? p->n - j : nr;
        if (s->rows == mr && cols == nr) {
            g->micro(s->x, panel, kl, c + j, p->ldo, s->add, next);
            continue;
        }
        g->micro(s->x, panel, kl, tile, nr, 0, next);
        for (int64_t r = 0; r < s->rows; r++)
            for (int64_t i = 0; i < cols; i++) {
                float *o = &c[r * p->ldo + j + i];
                *o = s->add ? *o + tile[r * nr + i] : tile[r * nr + i];
            }
    }
    if (s->last && p->w[0].bias)
        for (int64_t r = 0; r < s->rows; r++)
            add_bias(c + r * p->ldo, &p->w[0], p->n);
}

// swiglu_strip multiplies one strip with the panel of gate and up into sums [mr, 2·cols] and, at the last chunk, writes out.
static void swiglu_strip(const struct pbs_kernel *g, const struct pbs_product *p, const struct strip *s, const float *panel,
                         int64_t kl, float *sums) {
    int64_t nr = g->t.nr, cols = round_up(p->n, nr), size = p->out_dtype == PBS_F32 ? 4 : 2;
    const char *next = s->next;
    for (int64_t j = 0; j < 2 * cols; j += nr, panel += nr * kl, next += s->share)
        g->micro(s->x, panel, kl, sums + j, 2 * cols, s->add, next);
    for (int64_t r = 0; s->last && r < s->rows; r++, sums += 2 * cols) {
        for (int h = 0; h < 2; h++)
            if (p->w[h].bias)
                add_bias(sums + h * cols, &p->w[h], p->n);
        g->swiglu((char *)p->out + (s->row + r) * p->ldo * size, p->out_dtype, sums, sums + cols, p->n);
    }
}

void pbs_gemm(struct pbs_product p) {
    const struct pbs_kernel *g = pbs_kernel_of(p.kernel);
    int64_t mr = g->t.mr, K = dwords(&g->t, p.k), kc = chunk(&g->t, K), cols = 2 * round_up(p.n, g->t.nr);
    float *panel = p.scratch, *tile = panel + g->t.kc * g->t.nb, *sums = tile + mr * g->t.nr;
    if (g->begin)
        g->begin();
    for (int64_t k0 = 0; k0 < K; k0 += kc) {
        int64_t kl = K - k0 < kc ? K - k0 : kc;
        int first = k0 == 0, last = k0 + kl == K;
        pack(g, &p, panel, k0, kl);
        for (int64_t r = 0; r < p.rows; r += mr) {
            const char *x = (const char *)p.x + 4 * (r * K + k0 * mr);
            struct strip s = {
                .x = x, .next = x + 4 * mr * K, .share = 4 * mr * kl * g->t.nr / g->t.nb,
                .row = r, .rows = p.rows - r < mr ? p.rows - r : mr, .add = !first || p.mode == PBS_ADD, .last = last,
            };
            if (p.mode == PBS_SWIGLU)
                swiglu_strip(g, &p, &s, panel, kl, sums + (kc < K ? r * cols : 0));
            else
                store_strip(g, &p, &s, panel, kl, tile);
        }
    }
    if (g->end)
        g->end();
}
