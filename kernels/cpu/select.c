// Choice among weights and sorting of segments, by the bits of the floats: for those that are not negative, the order of the
// bits is that of the numbers. Radix passes keep time linear whatever the input.
#include "select.h"
#include <math.h>
#include <string.h>

ALWAYS_INLINE uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

// heaviest_bits finds the bits of the lightest weight needed, eight at a time from the top: among the weights that share the
// bits found so far, buckets are passed from the heaviest down until their mass reaches what is missing. *missing
// becomes what weights of exactly these bits have to bring.
static uint32_t heaviest_bits(const float *weights, int64_t n, double *missing, int count) {
    uint32_t found = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        double mass[256] = {0};
        for (int64_t i = 0; i < n; i++) {
            uint32_t u = bits_of(weights[i]);
            if (shift == 24 || u >> (shift + 8) == found) mass[u >> shift & 255] += count ? 1 : weights[i];
        }
        int b = 255;
        for (; b > 0 && mass[b] < *missing; b--) *missing -= mass[b];
        found = found << 8 | (uint32_t)b;
    }
    return found;
}

void pbs_pick_heaviest(const float *weights, int64_t n, double mass, int count, uint64_t *keep) {
    if (n == 0 || mass <= 0) return;
    int all = !(mass < (double)INFINITY);
    uint32_t least = all ? 0 : heaviest_bits(weights, n, &mass, count);
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = bits_of(weights[i]);
        if (!all && (u < least || (u == least && mass <= 0))) continue;
        if (u == least) mass -= count ? 1 : weights[i];
        keep[i / 64] |= (uint64_t)1 << (i % 64);
    }
}

int64_t pbs_first_block(const struct select_args *a, const uint16_t *perm, int64_t sorted) {
    int64_t first = 0;
    if (perm && sorted > 0)
        while (perm[first] != 0) first++;
    return first / a->block;
}

ALWAYS_INLINE void select_set(uint64_t *keep, int64_t j) { keep[j / 64] |= (uint64_t)1 << (j % 64); }

static void keep_heaviest_left(const float *weights, int64_t n, uint64_t *keep) {
    int64_t best = -1;
    for (int64_t j = 0; j < n; j++)
        if (!(keep[j / 64] >> (j % 64) & 1) && (best < 0 || weights[j] > weights[best])) best = j;
    if (best >= 0) select_set(keep, best);
}

void pbs_choose_blocks(const struct select_args *a, int64_t first, int64_t i, float *weights, uint64_t *keep, uint32_t *kept) {
    int64_t blocks = (a->keys + a->block - 1) / a->block, per = a->segment / a->block, own = i / per * per, n = a->own ? i + 1 : own;
    double sum = 0;
    for (int64_t j = 0; j < n; j++) sum += weights[j];
    memset(keep, 0, a->words * 8);
    if (a->density > 0) {
        for (int64_t j = own; j < n; j++) weights[j] = INFINITY;  // what is kept anyway comes before all others
        if (a->keep_first && first < n) weights[first] = INFINITY;
        pbs_pick_heaviest(weights, n, rint(a->density * (i + 1)) - (a->own ? 0 : i - own + 1), 1, keep);
    } else {
        double mass = a->tau * sum;
        if (mass == 0) mass = __DBL_MIN__;  // tau 0 keeps the heaviest
        if (a->counted && a->keep_first && first < own && i >= a->surplus) mass -= weights[first], weights[first] = 0;
        for (int64_t j = own; a->counted && j < n; j++) mass -= weights[j], weights[j] = 0;
        if (a->tau >= 1 || !(sum < INFINITY)) mass = INFINITY;  // a NaN among the scores must show in the output
        pbs_pick_heaviest(weights, n, mass, 0, keep);
        if (i < a->surplus) keep_heaviest_left(weights, n, keep);
    }
    if (a->keep_first) select_set(keep, first);
    for (int64_t j = own; j < own + per && j < blocks; j++) select_set(keep, j);
    int64_t count = 0;
    for (int64_t w = 0; w < i / 64; w++) count += __builtin_popcountll(keep[w]);
    *kept = (uint32_t)(count + __builtin_popcountll(keep[i / 64] & (~(uint64_t)0 >> (63 - i % 64))));
}

void pbs_sort_segments(const float *scores, int64_t sorted, int64_t segment, uint16_t *perm, uint32_t *scratch) {
    uint32_t *from = scratch, *to = scratch + 2 * segment;  // pairs of inverted bits and place
    for (int64_t base = 0; base < sorted; base += segment) {
        uint32_t counts[4][256] = {{0}};
        for (int64_t i = 0; i < segment; i++) {
            uint32_t u = ~bits_of(scores[base + i]);
            from[2 * i] = u, from[2 * i + 1] = (uint32_t)i;
            for (int p = 0; p < 4; p++) counts[p][u >> 8 * p & 255]++;
        }
        for (int p = 0; p < 4; p++) {
            uint32_t *c = counts[p], sum = 0;
            if (c[from[0] >> 8 * p & 255] == segment) continue;  // all alike in these bits
            for (int b = 0; b < 256; b++) {
                uint32_t k = c[b];
                c[b] = sum, sum += k;
            }
            for (int64_t i = 0; i < segment; i++) {
                uint32_t at = c[from[2 * i] >> 8 * p & 255]++;
                to[2 * at] = from[2 * i], to[2 * at + 1] = from[2 * i + 1];
            }
            uint32_t *t = from;
            from = to, to = t;
        }
        for (int64_t i = 0; i < segment; i++) perm[base + i] = (uint16_t)from[2 * i + 1];
    }
}

#if defined(__x86_64__)
#define CHOOSE(isa, name, args)                                \
    if (isa >= PBS_AVX512) name##_avx512 args;                 \
    else if (isa == PBS_AVX2) name##_avx2 args;                \
    else name##_portable args;
#else
#define CHOOSE(isa, name, args) name##_portable args;
#endif

void pbs_pool_blocks(int isa, const struct select_args *a, const void *x, const uint16_t *perm, int64_t sorted, int64_t lo, int64_t hi,
                     int64_t j0, int64_t j1, float *means) {
    CHOOSE(isa, pbs_pool_blocks, (a, x, perm, sorted, lo, hi, j0, j1, means))
}

void pbs_select_blocks(int isa, const struct select_args *a, const uint16_t *perm, int64_t sorted, const float *q, const float *k, int64_t i0,
                       int64_t i1, uint64_t *keep, uint32_t *kept, float *scratch) {
    CHOOSE(isa, pbs_select_blocks, (a, perm, sorted, q, k, i0, i1, keep, kept, scratch))
}

void pbs_weigh_blocks(int isa, const struct select_args *a, const float *q, const float *k, int64_t n, float *weights) {
    CHOOSE(isa, pbs_weigh_blocks, (a, q, k, n, weights))
}
