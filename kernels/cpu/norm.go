package cpu

/*
#cgo noescape pbs_rms_norm
#cgo nocallback pbs_rms_norm
#include "norm.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
)

// normJob is one RMSNorm in flight; an item is a range of rows.
type normJob struct {
	set            C.int
	out, x, weight kernels.Tensor
	eps            C.float
	block          int // rows of an item
}

// rowWork is about how many elements an item of a cheap row-wise operation takes: some 10 µs, well above the cost of a call.
const rowWork = 1 << 16

// RMSNorm computes out = x / sqrt(mean(x²) + eps) · weight (arXiv 1910.07467, eq. 4); see kernels.Dense. out may be x.
func (d *Device) RMSNorm(out, x, weight kernels.Tensor, eps float32) {
	rows, n := x.Rows(), x.Cols()
	if x.DType != kernels.F32 || out.DType != kernels.F32 && out.DType != d.compute || out.Dims != x.Dims ||
		weight.Dims != [3]int{1, 1, n} || weight.DType < kernels.F32 || weight.DType > kernels.F16 {
		panic(fmt.Sprintf("cpu: RMSNorm of x %v %v, out %v %v, weight %v %v", x.DType, x.Dims, out.DType, out.Dims, weight.DType, weight.Dims))
	}
	if rows*n == 0 || d.Err() != nil {
		return
	}
	j := &d.norm
	*j = normJob{set: C.int(d.isa), out: out, x: x, weight: weight, eps: C.float(eps), block: max(1, rowWork/n)}
	d.pool.run(j, (rows+j.block-1)/j.block)
	*j = normJob{}
}

func (j *normJob) do(w, i int) {
	row := i * j.block
	rows := min(j.block, j.x.Rows()-row)
	out := unsafe.Pointer(&j.out.Data[row*j.out.Stride*j.out.DType.Size()])
	x := (*C.float)(unsafe.Pointer(&j.x.Data[row*j.x.Stride*4]))
	C.pbs_rms_norm(j.set, out, C.int(j.out.DType), C.int64_t(j.out.Stride), x, C.int64_t(j.x.Stride),
		unsafe.Pointer(&j.weight.Data[0]), C.int(j.weight.DType), C.int64_t(rows), C.int64_t(j.x.Cols()), j.eps)
}
