// Scores on the tiles of attention: the choice of instruction set.
#include "attend_score.h"

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

size_t pbs_strided_scratch(int isa, const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s) {
#define CALL(x) return pbs_strided_scratch_##x(a, b, s)
    CHOOSE(isa, CALL);
#undef CALL
}

void pbs_strided_begin(int isa, const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s, void *scratch,
                       const void *q) {
#define CALL(x) pbs_strided_begin_##x(a, b, s, scratch, q)
    CHOOSE(isa, CALL);
#undef CALL
}

void pbs_strided_keys(int isa, const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s, void *scratch,
                      const void *k, int64_t c0, int64_t c1) {
#define CALL(x) pbs_strided_keys_##x(a, b, s, scratch, k, c0, c1)
    CHOOSE(isa, CALL);
#undef CALL
}

void pbs_strided_end(int isa, const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s, void *scratch,
                     float *weights) {
#define CALL(x) pbs_strided_end_##x(a, b, s, scratch, weights)
    CHOOSE(isa, CALL);
#undef CALL
}

void pbs_line_keys(int isa, const struct attend_args *a, void *scratch, const void *k, int64_t k0, int64_t k1, float *stats, float *out,
                   int64_t out_stride, float *slash, int64_t slash_stride) {
#define CALL(x) pbs_line_keys_##x(a, scratch, k, k0, k1, stats, out, out_stride, slash, slash_stride)
    CHOOSE(isa, CALL);
#undef CALL
}
