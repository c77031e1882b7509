// What C kernels share: names of instruction sets and element types, and what only the operating system can say or do.
#pragma once
#include <stddef.h>

// Instruction sets, weakest first; each includes those before it. The Go type isa has the same values.
enum { PBS_PORTABLE, PBS_AVX2, PBS_AVX512, PBS_AVX512BF16, PBS_AMX };

// Element types, with the values of kernels.DType.
enum { PBS_F32 = 1, PBS_BF16, PBS_F16 };

// pbs_request_amx asks for the right to use AMX tiles in every thread of this process; 0 when granted.
int pbs_request_amx(void);

// pbs_advise_huge asks for huge pages behind [p, p+n); p is page aligned.
void pbs_advise_huge(void *p, size_t n);
