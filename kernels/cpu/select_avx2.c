// Pooling and choice of blocks: AVX2 and FMA.
#if defined(__x86_64__)

#include "bf16.h"
#include "vec_avx2.h"

#define SISA avx2
#define SLEVEL PBS_AVX2
#include "select_blocks.h"
#endif
