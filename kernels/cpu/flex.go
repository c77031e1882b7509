package cpu

/*
#cgo noescape pbs_softmax_blocks
#cgo nocallback pbs_softmax_blocks
#cgo noescape pbs_keep_pairs
#cgo nocallback pbs_keep_pairs
#include "select.h"
*/
import "C"

import (
	"math"
	"math/bits"
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
)

// flexTokens is how many keys, or distances, make a block of the budget, whatever the size of blocks: the published code's.
const flexTokens = 128

// SelectFlex chooses blocks by a pattern of each head's own; see kernels.Sparse. An item is a head.
func (d *Device) SelectFlex(p *kernels.Plan, q kernels.Tensor, last int, rule kernels.Flex) {
	p.CheckQueries("SelectFlex", d.compute, q)
	p.CheckLines("SelectFlex")
	p.CheckLast("SelectFlex", last)
	rule.Check("SelectFlex")
	if d.Err() != nil {
		return
	}
	j := d.startSparse(p, q, kernels.KV{})
	defer j.finish()
	j.rule, j.flex, j.last = kernels.Selection{Own: true}, rule, last
	j.divide(flexScratch(p.Shape()), 0)
	j.op = (*sparseJob).selectFlex
	d.pool.run(j, j.heads)
}

// flexScratch is what flexHead holds.
func flexScratch(s kernels.PlanShape) int {
	return 8*((s.Capacity+63)/64+(keyBlocks(s)+63)/64) + 4*(s.HeadDim+2*keyBlocks(s)) + selectScratch(s)
}

// flexHead is what a head's choice needs for the moment.
type flexHead struct {
	keys, blocks    []uint64  // a bit each
	mean            []float32 // of the last queries
	vertical, slash []float32 // mass of key blocks and of diagonals of blocks
	weights         []float32 // of key blocks, and what weighing takes
}

func (j *sparseJob) flexHead(w int) flexHead {
	at, n, blocks := arena(j.scratchOf(w)), j.plan.Keys(), j.plan.KeyBlocks()
	return flexHead{
		keys: take[uint64](&at, (n+63)/64), blocks: take[uint64](&at, (blocks+63)/64), mean: take[float32](&at, j.plan.KMean.Cols()),
		vertical: take[float32](&at, blocks), slash: take[float32](&at, blocks), weights: take[float32](&at, selectScratch(j.plan.Shape())/4),
	}
}

func (j *sparseJob) selectFlex(w, h int) {
	p, n, blocks := j.plan, j.plan.Keys(), j.plan.KeyBlocks()
	s := j.flexHead(w)
	rank, slash := j.floats(p.Rank, h, n), j.floats(p.Slash, h, n)
	j.trueMean(h)
	sumBlocks(s.vertical, rank, p.Block)
	sumBlocks(s.slash, slash, p.Block)
	columns, diagonals, aware := blocks, blocks, false
	if j.flex.Gamma < 1 && !hasNaN(s.vertical) {
		if aware = j.divergence(w, h, s) < j.flex.Tau; aware {
			columns, diagonals = j.flex.Least, j.flex.Least
		} else {
			columns, diagonals = j.budget(s, rank), j.budget(s, slash)
		}
	}
	s.vertical[0], s.slash[blocks-1] = math.MaxFloat32, math.MaxFloat32
	j.pickHeaviest(s.slash, 0, blocks, float64(diagonals), true, s.blocks)
	for row := range p.QueryBlocks() {
		shiftDown(j.keepRow(h, row), s.blocks, blocks-1-row-p.FirstBlock())
	}
	clear(s.blocks)
	j.pickHeaviest(s.vertical, 0, blocks, float64(columns), true, s.blocks)
	for row := range p.QueryBlocks() {
		orUpTo(j.keepRow(h, row), s.blocks, row+p.FirstBlock())
	}
	if aware {
		C.pbs_keep_pairs(j.set, j.choose(w), (*C.float)(j.ofHead(p.QMean, h)), (*C.float)(j.ofHead(p.KMean, h)), C.int64_t(p.FirstBlock()),
			C.int64_t(p.KeyBlocks()), C.double(j.flex.Gamma*float64(p.QueryBlocks())),
			(*C.uint64_t)(unsafe.Pointer(unsafe.SliceData(j.keepRow(h, 0)))), (*C.float)(unsafe.SliceData(s.weights)))
	}
	for row := range p.QueryBlocks() {
		kept := 0
		for _, w := range j.keepRow(h, row) {
			kept += bits.OnesCount64(w)
		}
		*j.keptAt(h, row) = uint32(kept)
	}
}

// trueMean divides the sum of the last key block by the keys it has.
func (j *sparseJob) trueMean(h int) {
	p := j.plan
	if size := p.Keys() - (p.KeyBlocks()-1)*p.Block; size < p.Block {
		for i, x := range j.mean(p.KMean, h, p.KeyBlocks()-1) {
			j.mean(p.KMean, h, p.KeyBlocks()-1)[i] = x * float32(p.Block) / float32(size)
		}
	}
}

func (j *sparseJob) mean(t kernels.Tensor, h, i int) []float32 {
	return unsafe.Slice((*float32)(unsafe.Add(headAt(t, h), 4*i*t.Stride)), t.Cols())
}

func sumBlocks(sums, x []float32, block int) {
	for b := range sums {
		sum := 0.0
		for _, v := range x[b*block : min((b+1)*block, len(x))] {
			sum += float64(v)
		}
		sums[b] = float32(sum)
	}
}

// budget is how many blocks the keys or distances that reach Gamma are worth.
func (j *sparseJob) budget(s flexHead, mass []float32) int {
	clear(s.keys)
	j.pickHeaviest(mass, 0, len(mass), j.flex.Gamma, false, s.keys)
	count := 0
	for _, w := range s.keys {
		count += bits.OnesCount64(w)
	}
	return max(count/flexTokens+1, j.flex.Least)
}

// divergence is the root of the Jensen-Shannon divergence of the two views of key blocks: the last queries' mean with each
// block's mean key, and the last queries' probabilities.
func (j *sparseJob) divergence(w, h int, s flexHead) float64 {
	p, a := j.plan, j.choose(w)
	a.block, a.segment, a.key_stride = C.int64_t(j.last), C.int64_t(j.last), C.int64_t(j.q.Stride)
	if a.dtype = C.PBS_F32; j.q.DType == kernels.BF16 {
		a.dtype = C.PBS_BF16
	}
	mean := (*C.float)(unsafe.SliceData(s.mean))
	C.pbs_pool_blocks(j.set, a, j.rowsAt(j.q, p.Rows-j.last, h), nil, 0, 0, C.int64_t(j.last), 0, 1, mean)
	guess := s.weights[:p.KeyBlocks()]
	C.pbs_softmax_blocks(j.set, a, mean, (*C.float)(j.ofHead(p.KMean, h)), C.int64_t(len(guess)-1), (*C.float)(unsafe.SliceData(guess)),
		C.pbs_weigh_stride(C.int64_t(len(guess))))
	sum := 0.0
	for b := range guess {
		x, y := float64(guess[b]), float64(s.vertical[b])
		m := (x + y) / 2
		if x > 0 {
			sum += 0.5 * x * math.Log(x/m)
		}
		if y > 0 {
			sum += 0.5 * y * math.Log(y/m)
		}
	}
	return math.Sqrt(max(sum, 0))
}

// orUpTo adds bits 0..last of src to dst.
func orUpTo(dst, src []uint64, last int) {
	for w := range last/64 + 1 {
		mask := ^uint64(0)
		if w == last/64 {
			mask >>= 63 - last%64
		}
		dst[w] |= src[w] & mask
	}
}
