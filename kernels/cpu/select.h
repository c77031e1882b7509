// Scores and choice of blocks: what every instruction set offers (select_*.c include select_blocks.h), and the arguments.
#pragma once
#include "host.h"
#include <stdint.h>

struct select_args {
    int64_t head_dim, block, segment;
    int64_t keys;        // all there are
    int64_t key_stride;  // elements between rows of k; of q where queries are pooled
    int32_t dtype;       // of those: PBS_F32 or PBS_BF16
    float scale;         // of the scores, 1/sqrt(head_dim)
    double tau;          // probability mass to keep; 1 or more keeps all
    double density;      // above 0: the share of causal blocks to keep instead
    int32_t own;         // the query block and what comes before it are candidates, not earlier segments alone
    int32_t keep_first;  // always keep the block that holds key 0
    int32_t counted;     // the blocks that are kept always count towards tau before all others
    int64_t surplus;     // query blocks before this one keep a block more than tau needs, and only their own is counted
    int64_t last;        // so many of the last query blocks keep all
    int64_t words;       // of a row of keep
};

// So many query blocks are weighed at once.
enum { PBS_WEIGH_ROWS = 16 };

// pbs_weigh_floats is what the weights of so many key blocks take, and pbs_weigh_stride a row of them.
ALWAYS_INLINE int64_t pbs_weigh_stride(int64_t blocks) { return (blocks + 15) / 16 * 16; }
ALWAYS_INLINE int64_t pbs_weigh_floats(int64_t blocks, int64_t head_dim) {
    return PBS_WEIGH_ROWS * pbs_weigh_stride(blocks) + 16 * head_dim;
}

// pbs_candidates is how many key blocks query block i chooses from: the first ones.
ALWAYS_INLINE int64_t pbs_candidates(const struct select_args *a, int64_t i) {
    int64_t per = a->segment / a->block;
    return a->own ? i + 1 : i / per * per;
}

// pbs_pool_blocks writes the sums of blocks [j0, j1) over the block's size to means: [j1-j0][head_dim]. x points at position
// lo of the head, and positions end before hi; perm, unless NULL (then lo is 0), is the order of the first `sorted` ones.
#define SELECT_KERNELS(isa)                                                                                                         \
    void pbs_pool_blocks_##isa(const struct select_args *a, const void *x, const uint16_t *perm, int64_t sorted, int64_t lo, int64_t hi, \
                               int64_t j0, int64_t j1, float *means);                                                               \
    void pbs_weigh_blocks_##isa(const struct select_args *a, const float *q, const float *k, int64_t i0, int64_t i1, float *weights, \
                                int64_t stride);                                                                                    \
    double pbs_mass_from_##isa(const float *weights, int64_t n, int32_t least, int count);

SELECT_KERNELS(portable)
SELECT_KERNELS(avx2)
SELECT_KERNELS(avx512)

void pbs_pool_blocks(int isa, const struct select_args *a, const void *x, const uint16_t *perm, int64_t sorted, int64_t lo, int64_t hi,
                     int64_t j0, int64_t j1, float *means);

// pbs_select_blocks fills keep and kept for query blocks [i0, i1) from the pooled queries q [i1-i0][head_dim] and keys k [key
// blocks][head_dim], in scratch of pbs_weigh_floats.
void pbs_select_blocks(int isa, const struct select_args *a, const uint16_t *perm, int64_t sorted, const float *q, const float *k, int64_t i0,
                       int64_t i1, uint64_t *keep, uint32_t *kept, float *scratch);

// pbs_weigh_blocks writes e to the scores of up to PBS_WEIGH_ROWS query blocks [i0, i1) with the candidates of each, relative to its highest,
// to rows of weights [PBS_WEIGH_ROWS][stride], behind which it works.
void pbs_weigh_blocks(int isa, const struct select_args *a, const float *q, const float *k, int64_t i0, int64_t i1, float *weights, int64_t stride);

// pbs_softmax_blocks writes the softmax of query block i's scores to the first row of such weights.
void pbs_softmax_blocks(int isa, const struct select_args *a, const float *q, const float *k, int64_t i, float *weights, int64_t stride);

// pbs_mass_from is the sum of the weights whose bits are at least these, or with count their number.

// pbs_first_block is the block that holds key 0.
int64_t pbs_first_block(const struct select_args *a, const uint16_t *perm, int64_t sorted);

// pbs_choose_blocks fills the row of query block i by the rule of a. weights [key blocks], of which those of the candidates are
// read and some overwritten, are none of them negative; first is the block that holds key 0.
void pbs_choose_blocks(int isa, const struct select_args *a, int64_t first, int64_t i, float *weights, uint64_t *keep, uint32_t *kept);

// pbs_pick_heaviest sets the bits of the fewest of the weights [lo, hi), none negative, that together reach `mass`, heaviest first and
// among equals the first; all of them where they fall short. With count, each weighs one towards mass.
void pbs_pick_heaviest(int isa, const float *weights, int64_t lo, int64_t hi, double mass, int count, uint64_t *keep);

// pbs_keep_pairs sets, for query blocks [i0, i1) from the pooled queries q [i1-i0][head_dim], the bits of those pairs with a key block up to
// their own that together stay below `mass`, heaviest first; they weigh the softmax of the query block's scores. A query block whose
// scores are NaN keeps all. keep is the row of i0, and a->own is set. Pairs are weighed anew in each of five passes, in scratch of
// pbs_weigh_floats, as there may be millions.
void pbs_keep_pairs(int isa, const struct select_args *a, const float *q, const float *k, int64_t i0, int64_t i1, double mass, uint64_t *keep,
                    float *scratch);

// pbs_sort_segments writes for each segment of `sorted` scores the places by descending score; equal ones keep their order.
// scratch holds 4 * segment dwords.
void pbs_sort_segments(const float *scores, int64_t sorted, int64_t segment, uint16_t *perm, uint32_t *scratch);
