// Scores of keys and blocks on the tiles of attention, beside those of attend.h: what Go and the C files of every instruction
// set (attend_*.c include attend_strided.h and attend_lines.h) agree on.
#pragma once
#include "attend.h"

// attend_strided is what scores along antidiagonals add to attend_args, of which first and positions are those of the item's
// queries, and to attend_blocks. `stride` positions make a strided row or key: row r holds positions [r*stride, (r+1)*stride).
struct attend_strided {
    int64_t stride;
    int32_t own;  // a row sees strided keys up to its own; otherwise those of earlier segments
};

// An item is the query heads that read one kv head (one head alone where keys are permuted) and some query blocks. begin packs
// its queries, keys takes strided keys [c0, c1) in, and end writes for every head and query block what each key block weighs, over
// the strided rows the sum of their softmax: [group][query blocks][key blocks]. scratch is 64-byte aligned.
size_t pbs_strided_scratch(int isa, const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s);
void pbs_strided_begin(int isa, const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s, void *scratch,
                       const void *q);
void pbs_strided_keys(int isa, const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s, void *scratch,
                      const void *k, int64_t c0, int64_t c1);
void pbs_strided_end(int isa, const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s, void *scratch,
                     float *weights);

// pbs_line_keys is pbs_rank_keys with a causal mask for queries that end at the last key. Each key's weighted sum of
// probabilities goes to out, and each distance's to slash: [group][slash_stride], whose place x of range [k0, k1) is the distance
// of x - (positions-1) + k0 from the last position; it has k1-k0 + positions-1 places.
void pbs_line_keys(int isa, const struct attend_args *a, void *scratch, const void *k, int64_t k0, int64_t k1, float *stats, float *out,
                   int64_t out_stride, float *slash, int64_t slash_stride);

#define SCORE_KERNELS(isa)                                                                                                       \
    size_t pbs_strided_scratch_##isa(const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s); \
    void pbs_strided_begin_##isa(const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s,     \
                                 void *scratch, const void *q);                                                                  \
    void pbs_strided_keys_##isa(const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s,      \
                                void *scratch, const void *k, int64_t c0, int64_t c1);                                           \
    void pbs_strided_end_##isa(const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s,       \
                               void *scratch, float *weights);                                                                   \
    void pbs_line_keys_##isa(const struct attend_args *a, void *scratch, const void *k, int64_t k0, int64_t k1, float *stats,    \
                             float *out, int64_t out_stride, float *slash, int64_t slash_stride);

SCORE_KERNELS(portable)
SCORE_KERNELS(avx2)
SCORE_KERNELS(avx512)
SCORE_KERNELS(avx512bf16)
SCORE_KERNELS(amx)
