// Products of few rows with AVX-512.
#if defined(__x86_64__)
#include "matmul.h"
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#include "vec_avx512.h"

#define DOT_AHEAD 2816
#define DOT_STEP 512
#define DOT pbs_dot_avx512
#include "dot.h"
#endif
