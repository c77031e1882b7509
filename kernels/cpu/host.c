#define _GNU_SOURCE
#include "host.h"
#include <sched.h>
#include <sys/mman.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

int pbs_request_amx(void) {
#if defined(PBS_SOFT_AMX)
    return 0;
#elif defined(__linux__) && defined(__x86_64__)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) != 0;
#else
    return 1;
#endif
}

void pbs_advise_huge(void *p, size_t n) {
#if defined(MADV_HUGEPAGE)
    madvise(p, n, MADV_HUGEPAGE);
#endif
}

void pbs_spin(const uint32_t *word, uint32_t seen, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != seen) return;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("isb"); // as long as a pause; yield is a no-op on most cores
#endif
    }
    sched_yield(); // perhaps what it waits for has no CPU
}
