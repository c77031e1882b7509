// Attention: the choice of instruction set, and the merge of decode parts.
#include "attend.h"
#include <math.h>

#if defined(__x86_64__)
#define CHOOSE(isa, call)                                  \
    switch (isa) {                                         \
    case ATTEND_AVX2: call(avx2); break;                   \
    case ATTEND_AVX512: call(avx512); break;               \
    case ATTEND_AVX512BF16: call(avx512bf16); break;       \
    case ATTEND_AMX: call(amx); break;                     \
    default: call(portable);                               \
    }
#else
#define CHOOSE(isa, call) call(portable)
#endif

size_t pbs_attend_scratch(int isa, int64_t head_dim, int64_t rows) {
#define CALL(x) return pbs_attend_scratch_##x(head_dim, rows)
    CHOOSE(isa, CALL);
#undef CALL
}

void pbs_attend_begin(int isa, const struct attend_args *a, void *scratch, const void *q) {
#define CALL(x) pbs_attend_begin_##x(a, scratch, q)
    CHOOSE(isa, CALL);
#undef CALL
}

void pbs_attend_keys(int isa, const struct attend_args *a, void *scratch, const void *k, const void *v, int64_t k0, int64_t k1) {
#define CALL(x) pbs_attend_keys_##x(a, scratch, k, v, k0, k1)
    CHOOSE(isa, CALL);
#undef CALL
}

void pbs_attend_end(int isa, const struct attend_args *a, void *scratch, void *out) {
#define CALL(x) pbs_attend_end_##x(a, scratch, out)
    CHOOSE(isa, CALL);
#undef CALL
}

size_t pbs_blocks_scratch(int isa, int64_t head_dim, int64_t block, int64_t blocks) {
#define CALL(x) return pbs_blocks_scratch_##x(head_dim, block, blocks)
    CHOOSE(isa, CALL);
#undef CALL
}

void pbs_blocks_begin(int isa, const struct attend_args *a, const struct attend_blocks *b, void *scratch, const void *q) {
#define CALL(x) pbs_blocks_begin_##x(a, b, scratch, q)
    CHOOSE(isa, CALL);
#undef CALL
}

void pbs_blocks_keys(int isa, const struct attend_args *a, const struct attend_blocks *b, void *scratch, const void *k, const void *v,
                     int64_t j0, int64_t j1) {
#define CALL(x) pbs_blocks_keys_##x(a, b, scratch, k, v, j0, j1)
    CHOOSE(isa, CALL);
#undef CALL
}

void pbs_blocks_end(int isa, const struct attend_args *a, const struct attend_blocks *b, void *scratch, void *out) {
#define CALL(x) pbs_blocks_end_##x(a, b, scratch, out)
    CHOOSE(isa, CALL);
#undef CALL
}

void pbs_rank_keys(int isa, const struct attend_args *a, void *scratch, const void *k, int64_t k0, int64_t k1, float *stats, float *out,
                   int64_t out_stride) {
#define CALL(x) pbs_rank_keys_##x(a, scratch, k, k0, k1, stats, out, out_stride)
    CHOOSE(isa, CALL);
#undef CALL
}

size_t pbs_attend_decode_scratch(int64_t head_dim, int64_t positions, int64_t group) {
    int64_t dims = attend_round_up(head_dim, 32), heads = attend_round_up(group, 8);
    return (size_t)(positions * heads * (16 + 2 * dims) + 128 * dims) * 4;
}

void pbs_attend_decode(int isa, const struct attend_args *a, void *scratch, const void *q, const void *k, const void *v,
                       int64_t k0, int64_t k1, float *part) {
#if defined(__x86_64__)
    if (isa >= ATTEND_AVX512) pbs_attend_decode_avx512(a, scratch, q, k, v, k0, k1, part);
    else if (isa == ATTEND_AVX2) pbs_attend_decode_avx2(a, scratch, q, k, v, k0, k1, part);
    else
#endif
        pbs_attend_decode_portable(a, scratch, q, k, v, k0, k1, part);
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
