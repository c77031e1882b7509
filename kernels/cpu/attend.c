// Attention and scores on its tiles: the choice of instruction set, and the merge of decode parts.
#include "attend_score.h"
#include <math.h>

// What attend_tile.h, attend_blocks.h, attend_strided.h and attend_lines.h define for every instruction set.
#define EACH_KERNEL(X, isa)                                                                                             \
    X(pbs_attend_scratch, isa) X(pbs_attend_begin, isa) X(pbs_attend_keys, isa) X(pbs_attend_end, isa)                 \
    X(pbs_blocks_scratch, isa) X(pbs_blocks_begin, isa) X(pbs_blocks_keys, isa) X(pbs_blocks_end, isa)                 \
    X(pbs_strided_scratch, isa) X(pbs_strided_begin, isa) X(pbs_strided_keys, isa) X(pbs_strided_end, isa)             \
    X(pbs_rank_keys, isa) X(pbs_line_keys, isa)

#define FIELD(name, isa) __typeof__(name##_portable) *name;
#define ENTRY(name, isa) .name = name##_##isa,
#define SET(isa, decode) {EACH_KERNEL(ENTRY, isa) ENTRY(pbs_attend_decode, decode)}

static const struct {
    EACH_KERNEL(FIELD, )
    FIELD(pbs_attend_decode, )
} sets[] = {
    [ATTEND_PORTABLE] = SET(portable, portable),
#if defined(__x86_64__)
    [ATTEND_AVX2] = SET(avx2, avx2),
    [ATTEND_AVX512] = SET(avx512, avx512),
    [ATTEND_AVX512BF16] = SET(avx512bf16, avx512),
    [ATTEND_AMX] = SET(amx, avx512),
#endif
};

// RUN calls a kernel with denormal numbers off, see host.h.
//
// Where scores are spread most probabilities are tiny, and their products denormal numbers. None is missed: the sum of a row is at least 1
// in units of its running maximum, and as many keys as memory can hold, at less than 2^-126 each, stay far below its rounding. Ranks below
// 2^-126 tie, and then keys keep their order, where f32 with denormal numbers would tell them apart down to 2^-149.
#define RUN(name, ...)                     \
    do {                                   \
        fp_mode saved = denormals_off();   \
        sets[isa].name(__VA_ARGS__);       \
        fp_restore(saved);                 \
    } while (0)

size_t pbs_attend_scratch(int isa, int64_t head_dim, int64_t rows) { return sets[isa].pbs_attend_scratch(head_dim, rows); }

void pbs_attend_begin(int isa, const struct attend_args *a, void *scratch, const void *q) { RUN(pbs_attend_begin, a, scratch, q); }

void pbs_attend_keys(int isa, const struct attend_args *a, void *scratch, const void *k, const void *v, int64_t k0, int64_t k1) {
    RUN(pbs_attend_keys, a, scratch, k, v, k0, k1);
}

void pbs_attend_end(int isa, const struct attend_args *a, void *scratch, void *out) { RUN(pbs_attend_end, a, scratch, out); }

size_t pbs_blocks_scratch(int isa, int64_t head_dim, int64_t block, int64_t blocks) {
    return sets[isa].pbs_blocks_scratch(head_dim, block, blocks);
}

void pbs_blocks_begin(int isa, const struct attend_args *a, const struct attend_blocks *b, void *scratch, const void *q) {
    RUN(pbs_blocks_begin, a, b, scratch, q);
}

void pbs_blocks_keys(int isa, const struct attend_args *a, const struct attend_blocks *b, void *scratch, const void *k, const void *v,
                     int64_t j0, int64_t j1) {
    RUN(pbs_blocks_keys, a, b, scratch, k, v, j0, j1);
}

void pbs_blocks_end(int isa, const struct attend_args *a, const struct attend_blocks *b, void *scratch, void *out) {
    RUN(pbs_blocks_end, a, b, scratch, out);
}

void pbs_rank_keys(int isa, const struct attend_args *a, void *scratch, const void *k, int64_t k0, int64_t k1, float *stats, float *out,
                   int64_t out_stride) {
    RUN(pbs_rank_keys, a, scratch, k, k0, k1, stats, out, out_stride);
}

void pbs_line_keys(int isa, const struct attend_args *a, void *scratch, const void *k, int64_t k0, int64_t k1, float *stats, float *out,
                   int64_t out_stride, float *slash, int64_t slash_stride) {
    RUN(pbs_line_keys, a, scratch, k, k0, k1, stats, out, out_stride, slash, slash_stride);
}

size_t pbs_strided_scratch(int isa, const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s) {
    return sets[isa].pbs_strided_scratch(a, b, s);
}

void pbs_strided_begin(int isa, const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s, void *scratch,
                       const void *q) {
    RUN(pbs_strided_begin, a, b, s, scratch, q);
}

void pbs_strided_keys(int isa, const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s, void *scratch,
                      const void *k, int64_t c0, int64_t c1) {
    RUN(pbs_strided_keys, a, b, s, scratch, k, c0, c1);
}

void pbs_strided_end(int isa, const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s, void *scratch,
                     float *weights) {
    RUN(pbs_strided_end, a, b, s, scratch, weights);
}

size_t pbs_attend_decode_scratch(int64_t head_dim, int64_t positions, int64_t group) {
    int64_t dims = attend_round_up(head_dim, 32), heads = attend_round_up(group, 8);
    return (size_t)(positions * heads * (16 + 2 * dims) + 128 * dims) * 4;
}

void pbs_attend_decode(int isa, const struct attend_args *a, void *scratch, const void *q, const void *k, const void *v,
                       int64_t k0, int64_t k1, float *part) {
    RUN(pbs_attend_decode, a, scratch, q, k, v, k0, k1, part);
}

void pbs_attend_merge(const struct attend_args *a, const float *part, int64_t part_stride, int64_t parts, void *out) {
    for (int64_t r = 0; r < a->positions * a->group; r++, part += 2 + a->head_dim) {
        float top = ATTEND_LOWEST, sum = 0, acc[a->head_dim];
        memset(acc, 0, sizeof acc);
        for (int64_t i = 0; i < parts; i++) top = fmaxf(top, part[i * part_stride]);
        for (int64_t i = 0; i < parts; i++) {
            const float *p = part + i * part_stride;
            if (p[1] == 0) continue;  // a key range that lies wholly after the row
            float w = exp2f(p[0] - top);
            sum += w * p[1];
            for (int64_t d = 0; d < a->head_dim; d++) acc[d] += w * p[2 + d];
        }
        float inv = 1 / sum;
        int64_t at = r / a->group * a->out_stride + r % a->group * a->head_dim;
        for (int64_t d = 0; d < a->head_dim; d++) {
            if (a->bf16) ((uint16_t *)out)[at + d] = bf16_narrow(acc[d] * inv);
            else ((float *)out)[at + d] = acc[d] * inv;
        }
    }
}
