// Prefill attention on sm_90a: attend.cuh with wgmma, two warpgroups of 64 rows each. Other images hold it empty.
#include "attend.cuh"

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define ON_SM90(body)
#else
#define ON_SM90(body) body
#endif

KERNEL(attend_sm90_128, AttendArgs, 256, 2) { ON_SM90((attend<128, 128, 64, false, true>(a))); }
KERNEL(attend_blocks_sm90_128, AttendArgs, 256, 2) { ON_SM90((attend<128, 128, 64, true, true>(a))); }
