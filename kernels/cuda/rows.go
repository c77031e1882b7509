package cuda

import (
	"fmt"
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
)

type embedArgs struct {
	out, table, ids        uintptr
	outStride, tableStride int64
	cols, dtype            int32
}

// Embed gathers rows of table; see kernels.Dense. An id outside the table panics.
func (d *Device) Embed(out, table kernels.Tensor, ids []int32) {
	kernels.CheckMatrix("table", table, table.DType, table.Rows(), table.Cols())
	kernels.CheckMatrix("out", out, kernels.F32, len(ids), table.Cols())
	for i, id := range ids {
		if id < 0 || int(id) >= table.Rows() {
			panic(fmt.Sprintf("cuda: id %d at %d of a table of %d rows", id, i, table.Rows()))
		}
	}
	if len(ids) == 0 || d.failed() {
		return
	}
	at := d.stepAt()
	if at != 0 {
		if len(ids) != 1 {
			panic("cuda: a decode step of more than one row")
		}
		d.embed(out, table, at+8, 1)
		return
	}
	at = d.reserve(scratchIDs, int64(4*len(ids)))
	d.Upload(kernels.Tensor{DType: kernels.U32, Dims: [3]int{1, 1, len(ids)}, Stride: len(ids), Addr: at},
		unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(ids))), 4*len(ids)))
	d.embed(out, table, at, len(ids))
}

func (d *Device) embed(out, table kernels.Tensor, ids uintptr, rows int) {
	launch(d, "embed", grid{rows, 1, 1, 256, 0}, &embedArgs{
		out: out.Addr, table: table.Addr, ids: ids, outStride: int64(out.Stride), tableStride: int64(table.Stride),
		cols: int32(table.Cols()), dtype: int32(table.DType),
	})
}

type normArgs struct {
	out, x, weight              uintptr
	outStride, xStride          int64
	cols, outDType, weightDType int32
	eps                         float32
}

// warpScratch is the shared memory that sums over a block need.
const warpScratch = 32 * 4

// RMSNorm normalises rows; see kernels.Dense. out may be x.
func (d *Device) RMSNorm(out, x, weight kernels.Tensor, eps float32) {
	rows, n := x.Rows(), x.Cols()
	if x.DType != kernels.F32 || out.DType != kernels.F32 && out.DType != kernels.BF16 || out.Dims != x.Dims ||
		weight.Dims != [3]int{1, 1, n} || weight.DType < kernels.F32 || weight.DType > kernels.F16 {
		panic(fmt.Sprintf("cuda: RMSNorm of x %v %v, out %v %v, weight %v %v", x.DType, x.Dims, out.DType, out.Dims, weight.DType, weight.Dims))
	}
	if n == 0 {
		return
	}
	launch(d, "rms_norm", grid{rows, 1, 1, 256, warpScratch}, &normArgs{
		out: out.Addr, x: x.Addr, weight: weight.Addr, outStride: int64(out.Stride), xStride: int64(x.Stride),
		cols: int32(n), outDType: int32(out.DType), weightDType: int32(weight.DType), eps: eps,
	})
}

type ropeArgs struct {
	q, qkv, rope, k, v, at                                        uintptr
	qStride, qkvStride, ropeStride, kvStride, kvHeadStride, first int64
	heads, kvHeads, headDim, kvDType                              int32
}

// RopeAppend rotates q and k and stores k and v in the cache; see kernels.Dense.
func (d *Device) RopeAppend(q, qkv, rope kernels.Tensor, kv kernels.KV, first int) {
	k, v, heads := kv.K, kv.V, 0
	if !q.IsZero() {
		heads = q.Cols() / k.Cols()
	}
	switch {
	case qkv.DType != kernels.F32 || rope.DType != kernels.F32 || !q.IsZero() && q.DType != kernels.BF16:
		panic(fmt.Sprintf("cuda: RopeAppend of qkv %v, rope %v, q %v: want F32, F32, BF16", qkv.DType, rope.DType, q.DType))
	case k.DType != v.DType || k.DType != kernels.BF16 && k.DType != kernels.F32 || k.Dims != v.Dims || k.Stride != v.Stride:
		panic(fmt.Sprintf("cuda: RopeAppend to keys %v %v, values %v %v", k.DType, k.Dims, v.DType, v.Dims))
	case k.Cols() < 2 || k.Cols()%2 != 0 || qkv.Cols() != (heads+2*k.Dims[0])*k.Cols() || rope.Cols() != k.Cols() ||
		!q.IsZero() && (q.Cols() != heads*k.Cols() || q.Rows() != qkv.Rows()):
		panic(fmt.Sprintf("cuda: RopeAppend of qkv %v, q %v, rope %v to keys %v", qkv.Dims, q.Dims, rope.Dims, k.Dims))
	case first < 0 || first+qkv.Rows() > k.Rows() || first+qkv.Rows() > rope.Rows():
		panic(fmt.Sprintf("cuda: RopeAppend of %d rows at %d to a cache of %d with %d positions", qkv.Rows(), first, k.Rows(), rope.Rows()))
	}
	launch(d, "rope_append", grid{qkv.Rows(), 1, 1, 256, 0}, &ropeArgs{
		q: q.Addr, qkv: qkv.Addr, rope: rope.Addr, k: k.Addr, v: v.Addr, at: d.stepAt(),
		qStride: int64(q.Stride), qkvStride: int64(qkv.Stride), ropeStride: int64(rope.Stride), kvStride: int64(k.Stride),
		kvHeadStride: int64(k.Dims[1] * k.Stride), first: int64(first),
		heads: int32(heads), kvHeads: int32(k.Dims[0]), headDim: int32(k.Cols()), kvDType: int32(k.DType),
	})
}
