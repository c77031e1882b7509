// Causal attention (arXiv 2205.14135, 2307.08691): what Go and the C files of every instruction set agree on.
//
// A work item is one kv head and a block of positions; its rows are the query heads that read that kv head, position by
// position: row = (position - first)*group + head. A row keeps its running maximum, sum and output in the worker's scratch
// while tiles of keys pass by, so an item may be given its keys in several calls.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "bf16.h"
#include "host.h"

struct attend_args {
    int64_t head_dim;   // even
    int64_t group;      // query heads that share the kv head
    int64_t positions;  // query positions of the item
    int64_t first;      // position of its first row
    int64_t q_stride, out_stride, kv_stride;  // elements from one position to the next
    int32_t kv_f32;     // keys and values are F32, else BF16
    int32_t bf16;       // q and out are BF16, else F32
    float scale;        // of the scores, 1/sqrt(head_dim)
};

enum attend_isa { ATTEND_PORTABLE, ATTEND_AVX2, ATTEND_AVX512, ATTEND_AVX512BF16, ATTEND_AMX };

// Bytes of scratch (64-byte aligned) that an item of up to `rows` rows needs.
size_t pbs_attend_scratch(int isa, int64_t head_dim, int64_t rows);

// pbs_attend_begin packs the queries of an item (q points at its first position and head) and empties its state;
// pbs_attend_keys attends to keys [k0, k1) of the head at k and v, causally; pbs_attend_end writes the output rows.
void pbs_attend_begin(int isa, const struct attend_args *a, void *scratch, const void *q);
void pbs_attend_keys(int isa, const struct attend_args *a, void *scratch, const void *k, const void *v, int64_t k0, int64_t k1);
void pbs_attend_end(int isa, const struct attend_args *a, void *scratch, void *out);

// pbs_attend_decode attends the few rows of an item to keys [k0, k1) and writes for every row its maximum (in units of
// log2), its sum and its unnormalised output to part: [rows][2 + head_dim] floats. pbs_attend_merge combines the parts of
// consecutive key ranges, part_stride floats apart, into output rows.
size_t pbs_attend_decode_scratch(int64_t head_dim, int64_t positions, int64_t group);
void pbs_attend_decode(int isa, const struct attend_args *a, void *scratch, const void *q, const void *k, const void *v,
                       int64_t k0, int64_t k1, float *part);
void pbs_attend_merge(const struct attend_args *a, const float *part, int64_t part_stride, int64_t parts, void *out);

// attend_blocks is what block-sparse attention adds to attend_args: an item is then one query head (group is 1) and the
// positions of some query blocks, blocks being cut at absolute positions.
struct attend_blocks {
    int64_t block, segment;  // keys of each
    int64_t keys;            // all there are
    int64_t sorted;          // those in complete segments
    const uint16_t *perm;    // of the head: [sorted] key at each place, from the start of its segment; NULL where keys stand in order
    const uint64_t *keep;    // [query blocks of the item][words]: bit j keeps key block j
    int64_t words;
    const uint64_t *columns; // of the head: bit j lets every query see key j; NULL for none
};

// Scratch of an item of up to `blocks` query blocks; begin, keys and end are as those of dense attention, for key blocks [j0, j1).
size_t pbs_blocks_scratch(int isa, int64_t head_dim, int64_t block, int64_t blocks);
void pbs_blocks_begin(int isa, const struct attend_args *a, const struct attend_blocks *b, void *scratch, const void *q);
void pbs_blocks_keys(int isa, const struct attend_args *a, const struct attend_blocks *b, void *scratch, const void *k, const void *v,
                     int64_t j0, int64_t j1);
void pbs_blocks_end(int isa, const struct attend_args *a, const struct attend_blocks *b, void *scratch, void *out);

// pbs_rank_keys follows pbs_attend_begin for the queries that rank keys. Without out it writes for every row the maximum of
// its scores over keys [k0, k1), in units of log2, and the sum of their powers of two relative to it to stats: [rows][2]. With
// out, [group][out_stride], it takes from stats the maximum and a weight, and writes each key's weighted sum of probabilities.
void pbs_rank_keys(int isa, const struct attend_args *a, void *scratch, const void *k, int64_t k0, int64_t k1, float *stats, float *out,
                   int64_t out_stride);

#define ATTEND_KERNELS(isa)                                                                                              \
    size_t pbs_attend_scratch_##isa(int64_t head_dim, int64_t rows);                                                     \
    void pbs_attend_begin_##isa(const struct attend_args *a, void *scratch, const void *q);                              \
    void pbs_attend_keys_##isa(const struct attend_args *a, void *scratch, const void *k, const void *v, int64_t k0, int64_t k1); \
    void pbs_attend_end_##isa(const struct attend_args *a, void *scratch, void *out);                                    \
    size_t pbs_blocks_scratch_##isa(int64_t head_dim, int64_t block, int64_t blocks);                                    \
    void pbs_blocks_begin_##isa(const struct attend_args *a, const struct attend_blocks *b, void *scratch, const void *q); \
    void pbs_blocks_keys_##isa(const struct attend_args *a, const struct attend_blocks *b, void *scratch, const void *k, \
                               const void *v, int64_t j0, int64_t j1);                                                   \
    void pbs_blocks_end_##isa(const struct attend_args *a, const struct attend_blocks *b, void *scratch, void *out);     \
    void pbs_rank_keys_##isa(const struct attend_args *a, void *scratch, const void *k, int64_t k0, int64_t k1, float *stats, \
                             float *out, int64_t out_stride);
#define ATTEND_DECODE(isa)                                                                                               \
    void pbs_attend_decode_##isa(const struct attend_args *a, void *scratch, const void *q, const void *k, const void *v, \
                                 int64_t k0, int64_t k1, float *part);

ATTEND_KERNELS(portable)
ATTEND_KERNELS(avx2)
ATTEND_KERNELS(avx512)
ATTEND_KERNELS(avx512bf16)
ATTEND_KERNELS(amx)
ATTEND_DECODE(portable)
ATTEND_DECODE(avx2)
ATTEND_DECODE(avx512)

// A maximum no score reaches, yet finite: differences from it stay numbers.
#define ATTEND_LOWEST (-1e38f)
#define ATTEND_LOG2E 1.44269504088896341f

ALWAYS_INLINE int64_t attend_round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
