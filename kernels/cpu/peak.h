// What the host can do at best, to set beside what the kernels do.
#pragma once
#include "host.h"
#include <stdint.h>

// pbs_peak does multiply-adds in registers alone, as the products of a kernel would, and returns how many floating-point
// operations it did, some 10⁸ for each of n.
double pbs_peak(int32_t kernel, int64_t n);

// pbs_read reads [p, p+n) once, n a multiple of 4096, and returns something that depends on every byte.
uint64_t pbs_read(const void *p, int64_t n);
