// Attention for AVX-512 with bf16 dot products: pairs of dimensions or keys per lane, sums in f32, probabilities in bf16.
#if defined(__x86_64__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")))
#define ISA avx512bf16
#define PAIRS 1
#define MR 12
#define KT 256
#define ST 256
#define RG 48
#include "attend_avx512.h"
#define VEXP2(x) vexp2_coarse(x)
#define MAC(acc, x, y) _mm512_dpbf16_ps(acc, (__m512bh)(x), (__m512bh)(y))
#define VNARROW(dst, lo, hi) _mm512_storeu_si512(dst, (__m512i)_mm512_cvtne2ps_pbh(hi, lo))
#include "attend_tile.h"
#include "attend_blocks.h"
#include "attend_strided.h"
#include "attend_lines.h"
#endif
