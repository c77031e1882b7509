// Products of few rows with AVX2 and FMA.
#if defined(__x86_64__)
#include "matmul.h"
#include "vec_avx2.h"
#include <string.h>

#define DOT_AHEAD 2560
#define DOT_STEP 256
#define DOT pbs_dot_avx2
#include "dot.h"
#endif
