package cpu

/*
#cgo noescape pbs_strided_scratch
#cgo nocallback pbs_strided_scratch
#cgo noescape pbs_strided_begin
#cgo nocallback pbs_strided_begin
#cgo noescape pbs_strided_keys
#cgo nocallback pbs_strided_keys
#cgo noescape pbs_strided_end
#cgo nocallback pbs_strided_end
#cgo noescape pbs_first_block
#cgo nocallback pbs_first_block
#cgo noescape pbs_choose_blocks
#cgo nocallback pbs_choose_blocks
#include "attend_score.h"
#include "select.h"
*/
import "C"

import (
	"math"
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
)

// stridedRows is how many strided rows, of all heads of an item, share a packed tile of strided keys.
const stridedRows = 512

// SelectStrided scores blocks along antidiagonals and chooses among them; see kernels.Sparse. An item scores some query blocks
// against all keys in its scratch and chooses at once, so that the scores of all blocks never stand in memory together.
func (d *Device) SelectStrided(p *kernels.Plan, q kernels.Tensor, kv kernels.KV, stride int, rule kernels.Selection) {
	p.CheckInputs("SelectStrided", d.compute, q, kv)
	p.CheckStride("SelectStrided", stride)
	if d.Err() != nil {
		return
	}
	j := d.startSparse(p, q, kv)
	defer j.finish()
	j.rule, j.stride = rule, stride
	j.args.scale = C.float(1 / math.Sqrt(float64(j.args.head_dim)) / float64(stride))
	group := 1
	if !p.Permuted { // heads that share keys also share their packed tiles
		group = j.group
	}
	j.args.group = C.int64_t(group)
	j.divide(d.stridedScratch(p.Shape()), 0)
	j.op = (*sparseJob).selectStrided
	blocks := p.QueryBlocks()
	j.chunk = min(stridedChunk(p.Shape(), group), (blocks*j.heads/group+8*d.pool.threads-1)/(8*d.pool.threads))
	j.chunks = (blocks + j.chunk - 1) / j.chunk
	d.pool.run(j, j.chunks*(j.heads/group))
}

// stridedChunk is how many query blocks an item of group heads takes at most.
func stridedChunk(s kernels.PlanShape, group int) int {
	return max(1, stridedRows/(group*s.Block/s.Stride))
}

// stridedScratch is what an item works in, of the heads that share keys or of one, and the weights of its query blocks.
func (d *Device) stridedScratch(s kernels.PlanShape) int {
	most := 0
	for _, group := range [...]int{1, s.Heads / s.KVHeads} {
		chunk := stridedChunk(s, group)
		a := C.struct_attend_args{head_dim: C.int64_t(s.HeadDim), group: C.int64_t(group), positions: C.int64_t(chunk * s.Block)}
		b := C.struct_attend_blocks{block: C.int64_t(s.Block), keys: C.int64_t(s.Capacity)}
		most = max(most, d.stridedTile(&a, &b, &C.struct_attend_strided{stride: C.int64_t(s.Stride)})+4*group*chunk*keyBlocks(s))
	}
	return most
}

func (d *Device) stridedTile(a *C.struct_attend_args, b *C.struct_attend_blocks, s *C.struct_attend_strided) int {
	return roundUp(int(C.pbs_strided_scratch(d.attendSet(), a, b, s)), 64)
}

// describe fills in what an item says of the plan and the stride; h is its first query head.
func (j *sparseJob) describe(args *sparseArgs, h int) {
	p := j.plan
	args.blocks = C.struct_attend_blocks{
		block: C.int64_t(p.Block), segment: C.int64_t(p.Segment), keys: C.int64_t(p.Keys()), sorted: C.int64_t(p.Sorted()),
	}
	args.blocks.perm = j.permOf(h)
	args.strided = C.struct_attend_strided{stride: C.int64_t(j.stride)}
	if j.rule.Own {
		args.strided.own = 1
	}
}

// selectStrided chooses for some query blocks of the heads that share an order of keys, the last blocks first.
func (j *sparseJob) selectStrided(w, i int) {
	args, p, group := &j.itemArgs[w], j.plan, int(j.args.group)
	h, chunk := i%(j.heads/group)*group, j.chunks-1-i/(j.heads/group)
	lo := p.FirstBlock() + chunk*j.chunk
	hi := min(lo+j.chunk, p.KeyBlocks())
	first, end := max(lo*p.Block, p.First), min(hi*p.Block, p.Keys())
	args.attend = j.args
	a, b, s := &args.attend, &args.blocks, &args.strided
	a.first, a.positions = C.int64_t(first), C.int64_t(end-first)
	j.describe(args, h)
	scratch, k := j.scratchOf(w), headAt(j.kv.K, h/j.group)
	C.pbs_strided_begin(j.set, a, b, s, scratch, j.rowsAt(j.q, first-p.First, h))
	for c0, keys := 0, (end+j.stride-1)/j.stride; c0 < keys && !j.d.stopped.Load(); c0 += rankKeys {
		C.pbs_strided_keys(j.set, a, b, s, scratch, k, C.int64_t(c0), C.int64_t(min(c0+rankKeys, keys)))
	}
	weights := unsafe.Add(scratch, j.d.stridedTile(a, b, s))
	C.pbs_strided_end(j.set, a, b, s, scratch, (*C.float)(weights))
	choose := j.choose(w)
	for g := range group {
		firstKey := C.pbs_first_block(choose, j.permOf(h+g), C.int64_t(p.Sorted()))
		for i := lo; i < hi; i++ {
			row := i - p.FirstBlock()
			C.pbs_choose_blocks(j.set, choose, firstKey, C.int64_t(i), (*C.float)(weights),
				(*C.uint64_t)(unsafe.Add(j.ofHead(p.Keep, h+g), 8*row*p.Keep.Stride)), (*C.uint32_t)(unsafe.Add(j.ofHead(p.Kept, h+g), 4*row)))
			weights = unsafe.Add(weights, 4*p.KeyBlocks())
		}
	}
}
