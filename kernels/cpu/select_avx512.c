// Pooling and choice of blocks: AVX-512.
#if defined(__x86_64__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#include "bf16.h"
#include "vec_avx512.h"

#define SISA avx512
#define SLEVEL PBS_AVX512
#include "select_blocks.h"
#endif
