package cpu

/*
#cgo noescape pbs_blocks_scratch
#cgo nocallback pbs_blocks_scratch
#cgo noescape pbs_blocks_begin
#cgo nocallback pbs_blocks_begin
#cgo noescape pbs_blocks_keys
#cgo nocallback pbs_blocks_keys
#cgo noescape pbs_blocks_end
#cgo nocallback pbs_blocks_end
#include "attend_score.h"
#include "select.h"
*/
import "C"

import (
	"math"
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
)

// sparseState is how many elements of queries share a packed block of keys: their state should stay in the L2 cache.
const sparseState = 1 << 16

// sparseJob is one operation on a Plan in flight.
type sparseJob struct {
	d        *Device
	op       func(j *sparseJob, w, i int)
	plan     *kernels.Plan
	out, q   kernels.Tensor
	kv       kernels.KV
	span     kernels.Span // of AttendBlocks
	rule     kernels.Selection
	args     C.struct_attend_args
	set      C.int
	heads    int
	group    int
	chunk    int           // query blocks of an item of AttendBlocks
	chunks   int           // items per head, or per kv head
	share    int           // bytes of the plan's scratch that are a worker's own
	common   []byte        // and the rest of it
	keys     int           // of RankKeys and RankLines
	distance bool          // of RankLines: by distance too
	sums     bool          // of both: the second pass
	stride   int           // of SelectStrided
	lines    kernels.Lines // of SelectLines
	flex     kernels.Flex  // of SelectFlex
	last     int           // of SelectFlex
	itemArgs []sparseArgs  // by worker, so that C is handed no Go stack
}

type sparseArgs struct {
	attend  C.struct_attend_args
	blocks  C.struct_attend_blocks
	choose  C.struct_select_args
	strided C.struct_attend_strided
}

func newSparseJob(threads int) sparseJob { return sparseJob{itemArgs: make([]sparseArgs, threads)} }

func (j *sparseJob) do(w, i int) { j.op(j, w, i) }

// start fills in what operations on a plan share. q and kv are zero Tensors where an operation takes none.
func (d *Device) startSparse(p *kernels.Plan, q kernels.Tensor, kv kernels.KV) *sparseJob {
	j := &d.sparse
	j.d, j.plan, j.q, j.kv = d, p, q, kv
	j.set = d.attendSet()
	s := p.Shape()
	j.heads, j.group = s.Heads, s.Heads/s.KVHeads
	j.args = C.struct_attend_args{
		head_dim: C.int64_t(s.HeadDim), group: 1, q_stride: C.int64_t(q.Stride), kv_stride: C.int64_t(kv.K.Stride),
		scale: C.float(1 / math.Sqrt(float64(s.HeadDim))),
	}
	if kv.K.DType == kernels.F32 {
		j.args.kv_f32 = 1
	}
	if d.compute == kernels.BF16 {
		j.args.bf16 = 1
	}
	return j
}

func (j *sparseJob) finish() {
	j.plan, j.out, j.q, j.kv, j.op, j.common = nil, kernels.Tensor{}, kernels.Tensor{}, kernels.KV{}, nil, nil
}

// AttendBlocks attends to the kept blocks; see kernels.Sparse.
func (d *Device) AttendBlocks(out, q kernels.Tensor, kv kernels.KV, p *kernels.Plan, spans []kernels.Span) {
	p.CheckAttend(d.compute, out, q, kv, spans)
	checkAttend(d.compute, out, q, kv, p.First)
	if d.Err() != nil {
		return
	}
	j := d.startSparse(p, q, kv)
	defer j.finish()
	j.out = out
	j.args.out_stride = C.int64_t(out.Stride)
	j.op = (*sparseJob).attend
	for _, j.span = range spans {
		if j.span.Lo == j.span.Hi {
			continue
		}
		blocks := (p.First+j.span.Hi-1)/p.Block - (p.First+j.span.Lo)/p.Block + 1
		j.chunk = min(d.attendChunk(p.Shape()), (blocks*j.heads+8*d.pool.threads-1)/(8*d.pool.threads))
		j.chunks = (blocks + j.chunk - 1) / j.chunk
		j.divide(d.blocksScratch(p.Shape(), j.chunk), 0)
		d.pool.run(j, j.chunks*j.heads)
	}
}

// attendChunk is how many query blocks an item of AttendBlocks takes at most, blocksScratch what an item of so many works in.
func (d *Device) attendChunk(s kernels.PlanShape) int {
	rows := sparseState / s.HeadDim
	if d.compute == kernels.BF16 {
		rows *= 2
	}
	return max(1, rows/s.Block)
}

func (d *Device) blocksScratch(s kernels.PlanShape, chunk int) int {
	return int(C.pbs_blocks_scratch(d.attendSet(), C.int64_t(s.HeadDim), C.int64_t(s.Block), C.int64_t(chunk)))
}

// attend computes one head's rows of some query blocks, the last ones first.
func (j *sparseJob) attend(w, i int) {
	args, p := &j.itemArgs[w], j.plan
	a, b := &args.attend, &args.blocks
	h, chunk := i%j.heads, j.chunks-1-i/j.heads
	block0 := (p.First+j.span.Lo)/p.Block + chunk*j.chunk
	lo, hi := max(block0*p.Block, p.First+j.span.Lo), min((block0+j.chunk)*p.Block, p.First+j.span.Hi)
	*a = j.args
	a.first, a.positions = C.int64_t(lo), C.int64_t(hi-lo)
	*b = C.struct_attend_blocks{
		block: C.int64_t(p.Block), segment: C.int64_t(p.Segment), keys: C.int64_t(p.Keys()), sorted: C.int64_t(p.Sorted()),
		words: C.int64_t(p.Keep.Stride),
	}
	b.perm = j.permOf(h)
	if p.Striped {
		b.columns = (*C.uint64_t)(j.ofHead(p.Columns, h))
	}
	b.keep = (*C.uint64_t)(unsafe.Add(j.ofHead(p.Keep, h), 8*(block0-p.FirstBlock())*p.Keep.Stride))
	scratch, k, v := j.scratchOf(w), headAt(j.kv.K, h/j.group), headAt(j.kv.V, h/j.group)
	C.pbs_blocks_begin(j.set, a, b, scratch, j.rowsAt(j.q, lo-p.First, h))
	blocks, step := (hi+p.Block-1)/p.Block, max(1, attendChunk/p.Block)
	for j0 := 0; j0 < blocks && !j.d.stopped.Load(); j0 += step {
		C.pbs_blocks_keys(j.set, a, b, scratch, k, v, C.int64_t(j0), C.int64_t(min(j0+step, blocks)))
	}
	C.pbs_blocks_end(j.set, a, b, scratch, j.rowsAt(j.out, lo-p.First, h))
}

// rowsAt is the address of row r and query head h in a matrix.
func (j *sparseJob) rowsAt(t kernels.Tensor, r, h int) unsafe.Pointer {
	return unsafe.Pointer(&t.Data[(r*t.Stride+h*int(j.args.head_dim))*t.DType.Size()])
}

// ofHead is the address of head h in a tensor of the plan.
func (j *sparseJob) ofHead(t kernels.Tensor, h int) unsafe.Pointer {
	if t.Dims[0] == 1 { // [heads, capacity]
		return unsafe.Pointer(&t.Data[h*t.Stride*t.DType.Size()])
	}
	return headAt(t, h)
}

func (j *sparseJob) permOf(h int) *C.uint16_t {
	if !j.plan.Permuted {
		return nil
	}
	return (*C.uint16_t)(j.ofHead(j.plan.Perm, h))
}
