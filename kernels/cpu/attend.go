package cpu

/*
#cgo LDFLAGS: -lm
#cgo noescape pbs_attend_scratch
#cgo nocallback pbs_attend_scratch
#cgo noescape pbs_attend_begin
#cgo nocallback pbs_attend_begin
#cgo noescape pbs_attend_keys
#cgo nocallback pbs_attend_keys
#cgo noescape pbs_attend_end
#cgo nocallback pbs_attend_end
#cgo noescape pbs_attend_decode_scratch
#cgo nocallback pbs_attend_decode_scratch
#cgo noescape pbs_attend_decode
#cgo nocallback pbs_attend_decode
#cgo noescape pbs_attend_merge
#cgo nocallback pbs_attend_merge
#include "attend.h"
*/
import "C"

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
)

const (
	// attendRows is how many rows (positions x query heads of one kv head) share a packed tile of keys. Packing costs
	// about a cycle per element and the products rows/16 to rows/8 cycles.
	attendRows = 512
	// attendChunk keys pass in one call into C (some 0.1 s at most), after which an Interrupt is seen.
	attendChunk = 16384
	// decodeRows is up to how many rows per kv head a call is decode: bound by reading the keys, which are split into at
	// most decodeParts ranges of at least decodeKeys, whatever the number of threads, so that results do not depend on it.
	decodeRows  = 32
	decodeKeys  = 1024
	decodeParts = 64
)

// attendJob is one Attend in flight: items are blocks of positions of one kv head, last positions first; in decode they are
// ranges of keys of one kv head, and then the merge of each kv head's ranges.
type attendJob struct {
	d        *Device
	out, q   kernels.Tensor
	kv       kernels.KV
	args     C.struct_attend_args // of the whole call; an item copies it
	set      C.int
	blocks   int // blocks of positions, or ranges of keys
	block    int // positions of a block, or keys of a range
	decode   bool
	merge    bool
	scratch  []byte
	share    int    // bytes of it that are a worker's own
	parts    []byte // [kvHeads, ranges, rows of a kv head * (2+headDim)] F32
	itemArgs []C.struct_attend_args
}

func newAttendJob(threads int) attendJob {
	return attendJob{itemArgs: make([]C.struct_attend_args, threads)}
}

// Attend is causal attention by tiles with an online softmax (arXiv 2205.14135, 2307.08691); see kernels.Dense.
func (d *Device) Attend(out, q kernels.Tensor, kv kernels.KV, first int) {
	rows, headDim, kvHeads := q.Rows(), kv.K.Cols(), kv.K.Dims[0]
	checkAttend(d.compute, out, q, kv, first)
	if rows == 0 || d.Err() != nil {
		return
	}
	j := &d.attend
	j.d, j.out, j.q, j.kv = d, out, q, kv
	j.set = d.attendSet()
	group := q.Cols() / headDim / kvHeads
	j.args = C.struct_attend_args{
		head_dim: C.int64_t(headDim), group: C.int64_t(group), positions: C.int64_t(rows), first: C.int64_t(first),
		q_stride: C.int64_t(q.Stride), out_stride: C.int64_t(out.Stride), kv_stride: C.int64_t(kv.K.Stride),
		scale: C.float(1 / math.Sqrt(float64(headDim))),
	}
	if kv.K.DType == kernels.F32 {
		j.args.kv_f32 = 1
	}
	if d.compute == kernels.BF16 {
		j.args.bf16 = 1
	}
	j.merge = false
	if j.decode = rows*group <= decodeRows || rows == 1; j.decode {
		j.runDecode(first + rows)
	} else {
		j.runPrefill()
	}
	j.out, j.q, j.kv = kernels.Tensor{}, kernels.Tensor{}, kernels.KV{}
}

func (j *attendJob) runPrefill() {
	rows, group, kvHeads := int(j.args.positions), int(j.args.group), j.kv.K.Dims[0]
	j.block = max(1, attendRows/group)
	for j.block > 32 && kvHeads*((rows+j.block-1)/j.block) < 16 {
		j.block = (j.block + 1) / 2
	}
	j.block = min(j.block, rows)
	j.blocks = (rows + j.block - 1) / j.block
	if j.reserve(int(C.pbs_attend_scratch(j.set, j.args.head_dim, C.int64_t(j.block*group)))) {
		j.d.pool.run(j, j.blocks*kvHeads)
	}
}

func (j *attendJob) runDecode(keys int) {
	kvHeads := j.kv.K.Dims[0]
	j.block = max(decodeKeys, (keys+decodeParts-1)/decodeParts)
	j.blocks = (keys + j.block - 1) / j.block
	rows := int(j.args.positions * j.args.group)
	if !j.reserve(int(C.pbs_attend_decode_scratch(j.args.head_dim, j.args.positions, j.args.group))) {
		return
	}
	if !j.d.grow(&j.parts, 4*kvHeads*decodeParts*rows*(2+int(j.args.head_dim))) {
		return
	}
	j.d.pool.run(j, j.blocks*kvHeads)
	j.merge = true
	j.d.pool.run(j, kvHeads)
}

// attendSet is the set whose kernels attend: those of f32 end with AVX-512.
func (d *Device) attendSet() C.int { return C.int(d.kernel()) }

// reserve makes room for n bytes of scratch per worker. They depend on heads, not on prompts: at most some MiB in all.
func (j *attendJob) reserve(n int) bool {
	j.share = roundUp(n, pageBytes)
	return j.d.grow(&j.scratch, j.share*j.d.pool.threads)
}

func (j *attendJob) do(w, i int) {
	a := &j.itemArgs[w]
	*a = j.args
	kvHeads := j.kv.K.Dims[0]
	h, block := i%kvHeads, i/kvHeads
	scratch := unsafe.Pointer(&j.scratch[w*j.share])
	k, v := headAt(j.kv.K, h), headAt(j.kv.V, h)
	switch {
	case j.merge:
		partRows := int(a.positions*a.group) * (2 + int(a.head_dim))
		part := (*C.float)(unsafe.Pointer(&j.parts[4*h*j.blocks*partRows]))
		C.pbs_attend_merge(a, part, C.int64_t(partRows), C.int64_t(j.blocks), j.at(j.out, 0, h))
	case j.decode:
		k0 := block * j.block
		k1 := min(k0+j.block, int(a.first+a.positions))
		partRows := int(a.positions*a.group) * (2 + int(a.head_dim))
		part := (*C.float)(unsafe.Pointer(&j.parts[4*(h*j.blocks+block)*partRows]))
		C.pbs_attend_decode(j.set, a, scratch, j.at(j.q, 0, h), k, v, C.int64_t(k0), C.int64_t(k1), part)
	default:
		p0 := (j.blocks - 1 - block) * j.block
		p1 := min(p0+j.block, int(a.positions))
		a.positions, a.first = C.int64_t(p1-p0), a.first+C.int64_t(p0)
		C.pbs_attend_begin(j.set, a, scratch, j.at(j.q, p0, h))
		last := int(a.first + a.positions)
		for k0 := 0; k0 < last && !j.d.stopped.Load(); k0 += attendChunk {
			C.pbs_attend_keys(j.set, a, scratch, k, v, C.int64_t(k0), C.int64_t(min(k0+attendChunk, last)))
		}
		C.pbs_attend_end(j.set, a, scratch, j.at(j.out, p0, h))
	}
}

// headAt is the address of kv head h of t, at is that of row p and the first query head of kv head h in a matrix.
func headAt(t kernels.Tensor, h int) unsafe.Pointer {
	return unsafe.Pointer(&t.Data[h*t.Dims[1]*t.Stride*t.DType.Size()])
}

func (j *attendJob) at(t kernels.Tensor, p, h int) unsafe.Pointer {
	return unsafe.Pointer(&t.Data[(p*t.Stride+h*int(j.args.group*j.args.head_dim))*t.DType.Size()])
}

func checkAttend(compute kernels.DType, out, q kernels.Tensor, kv kernels.KV, first int) {
	k, v := kv.K, kv.V
	switch {
	case q.DType != compute || out.DType != compute:
		panic(fmt.Sprintf("cpu: Attend of q %v, out %v: want %v", q.DType, out.DType, compute))
	case k.DType != v.DType || k.DType != kernels.BF16 && k.DType != kernels.F32 || k.Dims != v.Dims || k.Stride != v.Stride:
		panic(fmt.Sprintf("cpu: Attend with keys %v %v, values %v %v", k.DType, k.Dims, v.DType, v.Dims))
	case k.Cols() < 2 || k.Cols()%2 != 0 || q.Cols()%(k.Cols()*k.Dims[0]) != 0 || q.Cols() != out.Cols() || q.Rows() != out.Rows():
		panic(fmt.Sprintf("cpu: Attend of q %v, out %v with keys %v", q.Dims, out.Dims, k.Dims))
	case first < 0 || first+q.Rows() > k.Rows() || first+q.Rows() > math.MaxInt32-attendChunk:
		panic(fmt.Sprintf("cpu: Attend of %d rows at %d in a cache of %d", q.Rows(), first, k.Rows()))
	}
}
