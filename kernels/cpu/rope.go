package cpu

/*
#cgo noescape pbs_rope_append
#cgo nocallback pbs_rope_append
#include "rope.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
)

// ropeJob is one RopeAppend in flight; an item is a range of rows.
type ropeJob struct {
	set          C.int
	q, qkv, rope kernels.Tensor
	kv           kernels.KV
	first, block int
	args         C.struct_rope_args
}

// RopeAppend rotates q and k and stores k and v in the cache (arXiv 2104.09864); see kernels.Dense.
func (d *Device) RopeAppend(q, qkv, rope kernels.Tensor, kv kernels.KV, first int) {
	rows, headDim, kvHeads, heads := qkv.Rows(), kv.K.Cols(), kv.K.Dims[0], 0
	if !q.IsZero() {
		heads = q.Cols() / headDim
	}
	checkRope(d.compute, q, qkv, rope, kv, first, heads)
	if rows == 0 || d.Err() != nil {
		return
	}
	j := &d.rope
	*j = ropeJob{set: C.int(d.isa), q: q, qkv: qkv, rope: rope, kv: kv, first: first, block: max(1, rowWork/qkv.Cols())}
	j.args = C.struct_rope_args{
		head_dim: C.int64_t(headDim), heads: C.int64_t(heads), kv_heads: C.int64_t(kvHeads),
		qkv_stride: C.int64_t(qkv.Stride), q_stride: C.int64_t(q.Stride), table_stride: C.int64_t(rope.Stride),
		kv_stride: C.int64_t(kv.K.Stride), kv_head_stride: C.int64_t(kv.K.Dims[1] * kv.K.Stride),
	}
	if q.DType == kernels.BF16 {
		j.args.q_bf16 = 1
	}
	if kv.K.DType == kernels.BF16 {
		j.args.kv_bf16 = 1
	}
	d.pool.run(j, (rows+j.block-1)/j.block)
	*j = ropeJob{}
}

func (j *ropeJob) do(w, i int) {
	row := i * j.block
	rows := min(j.block, j.qkv.Rows()-row)
	var q unsafe.Pointer
	if !j.q.IsZero() {
		q = unsafe.Pointer(&j.q.Data[row*j.q.Stride*j.q.DType.Size()])
	}
	pos := (j.first + row) * j.kv.K.Stride * j.kv.K.DType.Size()
	C.pbs_rope_append(j.set, &j.args, q, (*C.float)(unsafe.Pointer(&j.qkv.Data[row*j.qkv.Stride*4])),
		(*C.float)(unsafe.Pointer(&j.rope.Data[(j.first+row)*j.rope.Stride*4])),
		unsafe.Pointer(&j.kv.K.Data[pos]), unsafe.Pointer(&j.kv.V.Data[pos]), C.int64_t(rows))
}

func checkRope(compute kernels.DType, q, qkv, rope kernels.Tensor, kv kernels.KV, first, heads int) {
	k, v := kv.K, kv.V
	switch {
	case qkv.DType != kernels.F32 || rope.DType != kernels.F32 || !q.IsZero() && q.DType != compute:
		panic(fmt.Sprintf("cpu: RopeAppend of qkv %v, rope %v, q %v: want F32, F32, %v", qkv.DType, rope.DType, q.DType, compute))
	case k.DType != v.DType || k.DType != kernels.BF16 && k.DType != kernels.F32 || k.Dims != v.Dims || k.Stride != v.Stride:
		panic(fmt.Sprintf("cpu: RopeAppend to keys %v %v, values %v %v", k.DType, k.Dims, v.DType, v.Dims))
	case k.Cols() < 2 || k.Cols()%2 != 0 || qkv.Cols() != (heads+2*k.Dims[0])*k.Cols() || rope.Cols() != k.Cols() ||
		!q.IsZero() && (q.Cols() != heads*k.Cols() || q.Rows() != qkv.Rows()):
		panic(fmt.Sprintf("cpu: RopeAppend of qkv %v, q %v, rope %v to keys %v", qkv.Dims, q.Dims, rope.Dims, k.Dims))
	case first < 0 || first+qkv.Rows() > k.Rows() || first+qkv.Rows() > rope.Rows():
		panic(fmt.Sprintf("cpu: RopeAppend of %d rows at %d to a cache of %d with %d positions", qkv.Rows(), first, k.Rows(), rope.Rows()))
	}
}
