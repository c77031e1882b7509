// What C kernels share: names of instruction sets and element types, and what only the operating system can say or do.
#pragma once
#include <stddef.h>
#include <stdint.h>

// Instruction sets, weakest first; each includes those before it. The Go type isa has the same values.
enum { PBS_PORTABLE, PBS_AVX2, PBS_AVX512, PBS_AVX512BF16, PBS_AMX };

// Element types, with the values of kernels.DType.
enum { PBS_F32 = 1, PBS_BF16, PBS_F16 };

// pbs_request_amx asks for the right to use AMX tiles in every thread of this process; 0 when granted.
int pbs_request_amx(void);

// pbs_spin looks at *word until it is no longer seen, at most n times: some 10 to 40 ns each.
void pbs_spin(const uint32_t *word, uint32_t seen, int64_t n);

// pbs_advise_huge asks for huge pages behind [p, p+n); p is page aligned.
void pbs_advise_huge(void *p, size_t n);

#define ALWAYS_INLINE static inline __attribute__((always_inline))
