// RMSNorm by rows.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum norm_dtype { NORM_F32 = 1, NORM_BF16, NORM_F16 };  // as kernels.DType

// out = x / sqrt(mean(x^2) + eps) * weight for `rows` rows of n values; strides in elements. out is F32 or BF16, x F32, the
// weight of any dtype.
void pbs_rms_norm(int isa, void *out, int out_dtype, int64_t out_stride, const float *x, int64_t x_stride, const void *weight,
                  int weight_dtype, int64_t rows, int64_t n, float eps);
