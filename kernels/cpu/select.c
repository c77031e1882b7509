// Choice among weights and sorting of segments, by the bits of the floats: for those that are not negative, the order of the
// bits is that of the numbers. Bisection and radix passes over them keep time linear whatever the input.
#include "select.h"
#include <math.h>
#include <string.h>

#if defined(__x86_64__)
#define CHOOSE(isa, name, args) \
    (isa >= PBS_AVX512 ? name##_avx512 args : isa == PBS_AVX2 ? name##_avx2 args : name##_portable args)
#else
#define CHOOSE(isa, name, args) name##_portable args
#endif

ALWAYS_INLINE uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

// weight_bits are those of a weight, which is not negative; NaN, whatever its sign, is the heaviest.
ALWAYS_INLINE int32_t weight_bits(float f) { return (int32_t)(bits_of(f) & INT32_MAX); }

// heaviest finds the bits of the lightest weight needed, eight at a time from the top: among the weights that share the
// bits found so far, buckets are passed from the heaviest down until their mass reaches what is missing, which becomes
// what weights of exactly these bits have to bring. Each round is shown all weights, and then ends.
struct heaviest {
    double missing, mass[256];
    uint32_t found;
    int shift;
};

ALWAYS_INLINE void heaviest_see(struct heaviest *h, const float *weights, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = bits_of(weights[i]);
        if (h->shift == 24 || u >> (h->shift + 8) == h->found) h->mass[u >> h->shift & 255] += weights[i];
    }
}

static void heaviest_end_round(struct heaviest *h) {
    int b = 255;
    for (; b > 0 && h->mass[b] < h->missing; b--) h->missing -= h->mass[b];
    h->found = h->found << 8 | (uint32_t)b;
    h->shift -= 8;
    memset(h->mass, 0, sizeof h->mass);
}

ALWAYS_INLINE void select_set(uint64_t *keep, int64_t j) { keep[j / 64] |= (uint64_t)1 << (j % 64); }

ALWAYS_INLINE double mass_from(int isa, const float *weights, int64_t n, int32_t least, int count) {
    return CHOOSE(isa, pbs_mass_from, (weights, n, least, count));
}

void pbs_pick_heaviest(int isa, const float *weights, int64_t lo, int64_t hi, double mass, int count, uint64_t *keep) {
    if (lo >= hi || mass <= 0) return;
    int all = !(mass < (double)INFINITY);
    int32_t lightest = INT32_MAX, top = 0;
    for (int64_t i = lo; i < hi; i++) {
        int32_t u = weight_bits(weights[i]);
        lightest = u < lightest ? u : lightest, top = u > top ? u : top;
    }
    // Weights of at least the least bits reach the mass, or all fall short; those of at least the bits above lack something.
    int64_t least = lightest, above = (int64_t)top + 1;
    double missing = mass;
    while (!all && above - least > 1) {
        int64_t mid = (least + above) / 2;
        double lacks = mass - mass_from(isa, weights + lo, hi - lo, (int32_t)mid, count);
        if (!(lacks <= 0)) above = mid, missing = lacks;
        else least = mid;
    }
    for (int64_t i = lo; i < hi; i++) {
        int32_t u = weight_bits(weights[i]);
        if (!all && (u < least || (u == least && missing <= 0))) continue;
        if (u == least) missing -= count ? 1 : weights[i];
        select_set(keep, i);
    }
}

// normalise divides n weights by their sum.
static void normalise(float *weights, int64_t n) {
    double sum = 0;
    for (int64_t j = 0; j < n; j++) sum += weights[j];
    for (int64_t j = 0; j < n; j++) weights[j] = (float)(weights[j] / sum);
}

void pbs_softmax_blocks(int isa, const struct select_args *a, const float *q, const float *k, int64_t i, float *weights, int64_t stride) {
    pbs_weigh_blocks(isa, a, q, k, i, i + 1, weights, stride);
    normalise(weights, pbs_candidates(a, i));
}

// weigh_next is the row of weights of query block i for one that takes [i0, i1) in order: it weighs as many as fit where the last ones are used up.
static float *weigh_next(int isa, const struct select_args *a, const float *q, const float *k, int64_t i0, int64_t i, int64_t i1, float *scratch) {
    int64_t row = (i - i0) % PBS_WEIGH_ROWS, end = i + PBS_WEIGH_ROWS < i1 ? i + PBS_WEIGH_ROWS : i1, stride = pbs_weigh_stride(i1);
    if (row == 0) pbs_weigh_blocks(isa, a, q + (i - i0) * a->head_dim, k, i, end, scratch, stride);
    return scratch + row * stride;
}

void pbs_keep_pairs(int isa, const struct select_args *a, const float *q, const float *k, int64_t i0, int64_t i1, double mass, uint64_t *keep,
                    float *scratch) {
    struct heaviest h = {.missing = mass, .shift = 24};
    for (int last = 0; !last;) {
        last = h.shift < 0;
        for (int64_t i = i0; i < i1; i++) {
            float *weights = weigh_next(isa, a, q, k, i0, i, i1, scratch);
            normalise(weights, i + 1);
            int nan = weights[0] != weights[0];
            if (!last && !nan) heaviest_see(&h, weights, i + 1);
            for (int64_t j = 0; last && j <= i; j++) {
                uint32_t u = bits_of(weights[j]);
                // The pair that would reach the mass is left out, and so are all others of its weight.
                if (nan || u > h.found || (u == h.found && (h.missing -= weights[j]) > 0)) select_set(keep + (i - i0) * a->words, j);
            }
        }
        if (!last) heaviest_end_round(&h);
    }
}

int64_t pbs_first_block(const struct select_args *a, const uint16_t *perm, int64_t sorted) {
    int64_t first = 0;
    if (perm && sorted > 0)
        while (perm[first] != 0) first++;
    return first / a->block;
}

static void keep_heaviest_left(const float *weights, int64_t n, uint64_t *keep) {
    int64_t best = -1;
    for (int64_t j = 0; j < n; j++)
        if (!(keep[j / 64] >> (j % 64) & 1) && (best < 0 || weights[j] > weights[best])) best = j;
    if (best >= 0) select_set(keep, best);
}

void pbs_choose_blocks(int isa, const struct select_args *a, int64_t first, int64_t i, float *weights, uint64_t *keep, uint32_t *kept) {
    int64_t blocks = (a->keys + a->block - 1) / a->block, per = a->segment / a->block, own = i / per * per, n = pbs_candidates(a, i);
    int all = i >= blocks - a->last;
    double sum = 0;
    for (int64_t j = 0; j < n; j++) sum += weights[j];
    memset(keep, 0, a->words * 8);
    if (a->density > 0 && !all) {
        for (int64_t j = own; j < n; j++) weights[j] = INFINITY;  // what is kept anyway comes before all others
        if (a->keep_first && first < n) weights[first] = INFINITY;
        pbs_pick_heaviest(isa, weights, 0, n, rint(a->density * (i + 1)) - (a->own ? 0 : i - own + 1), 1, keep);
    } else {
        double mass = a->tau * sum;
        if (mass == 0) mass = __DBL_MIN__;  // tau 0 keeps the heaviest
        if (a->counted && a->keep_first && first < own && i >= a->surplus) mass -= weights[first], weights[first] = 0;
        for (int64_t j = own; a->counted && j < n; j++) mass -= weights[j], weights[j] = 0;
        if (all || a->tau >= 1 || !(sum < INFINITY)) mass = INFINITY;  // a NaN among the scores must show in the output
        pbs_pick_heaviest(isa, weights, 0, n, mass, 0, keep);
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

void pbs_pool_blocks(int isa, const struct select_args *a, const void *x, const uint16_t *perm, int64_t sorted, int64_t lo, int64_t hi,
                     int64_t j0, int64_t j1, float *means) {
    CHOOSE(isa, pbs_pool_blocks, (a, x, perm, sorted, lo, hi, j0, j1, means));
}

void pbs_select_blocks(int isa, const struct select_args *a, const uint16_t *perm, int64_t sorted, const float *q, const float *k, int64_t i0,
                       int64_t i1, uint64_t *keep, uint32_t *kept, float *scratch) {
    int64_t first = pbs_first_block(a, perm, sorted);
    for (int64_t i = i0; i < i1; i++, keep += a->words, kept++)
        pbs_choose_blocks(isa, a, first, i, weigh_next(isa, a, q, k, i0, i, i1, scratch), keep, kept);
}

void pbs_weigh_blocks(int isa, const struct select_args *a, const float *q, const float *k, int64_t i0, int64_t i1, float *weights,
                      int64_t stride) {
    CHOOSE(isa, pbs_weigh_blocks, (a, q, k, i0, i1, weights, stride));
}
