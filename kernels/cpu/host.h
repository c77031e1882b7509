// What C kernels share: names of instruction sets and element types, and what only the operating system can say or do.
#pragma once
#include <stddef.h>
#include <stdint.h>

// Instruction sets, weakest first; each includes those before it. The Go type isa has the same values.
enum { PBS_PORTABLE, PBS_AVX2, PBS_AVX512, PBS_AVX512BF16, PBS_AMX };

// Element types, with the values of kernels.DType.
enum { PBS_F32 = 1, PBS_BF16, PBS_F16 };

// Built with -DPBS_SOFT_AMX, the kernels for AMX run on tiles in plain C (amx.h), and every host with AVX-512 bf16 is taken to have AMX.
#ifdef PBS_SOFT_AMX
enum { PBS_SOFT_TILES = 1 };
#else
enum { PBS_SOFT_TILES = 0 };
#endif

// pbs_request_amx asks for the right to use AMX tiles in every thread of this process; 0 when granted.
int pbs_request_amx(void);

// pbs_spin looks at *word until it is no longer seen, at most n times: some 10 to 40 ns each.
void pbs_spin(const uint32_t *word, uint32_t seen, int64_t n);

// pbs_advise_huge asks for huge pages behind [p, p+n); p is page aligned.
void pbs_advise_huge(void *p, size_t n);

#define ALWAYS_INLINE static inline __attribute__((always_inline))

// denormals_off makes this thread's floating point take denormal numbers, those below 2^-126, for 0 and yield 0 in their place, until fp_restore is
// given what it returned. Intel's processors take over a hundred cycles for an instruction that meets one.
#if defined(__x86_64__)
typedef uint32_t fp_mode;
ALWAYS_INLINE fp_mode denormals_off(void) {
    fp_mode saved = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(saved | 0x8040);  // DAZ, FTZ
    return saved;
}
ALWAYS_INLINE void fp_restore(fp_mode saved) { __builtin_ia32_ldmxcsr(saved); }
#elif defined(__aarch64__)
typedef uint64_t fp_mode;
ALWAYS_INLINE fp_mode denormals_off(void) {
    fp_mode saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    __asm__ volatile("msr fpcr, %0" : : "r"(saved | 1 << 24));  // FZ
    return saved;
}
ALWAYS_INLINE void fp_restore(fp_mode saved) { __asm__ volatile("msr fpcr, %0" : : "r"(saved)); }
#else
typedef int fp_mode;
ALWAYS_INLINE fp_mode denormals_off(void) { return 0; }
ALWAYS_INLINE void fp_restore(fp_mode saved) { (void)saved; }
#endif
