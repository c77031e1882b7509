package cpu

/*
#cgo noescape pbs_weigh_blocks
#cgo nocallback pbs_weigh_blocks
#include "select.h"
*/
import "C"

import (
	"fmt"
	"math"
	"math/bits"
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
)

// flexTokens is how many keys, or distances, make a block of the budget, whatever the size of blocks: the published code's.
const flexTokens = 128

// SelectFlex chooses blocks by a pattern of each head's own; see kernels.Sparse. An item is a head.
func (d *Device) SelectFlex(p *kernels.Plan, q kernels.Tensor, last int, rule kernels.Flex) {
	if last < 1 || last > p.Rows || p.Slash.IsZero() || p.Segment != p.Block || p.Permuted {
		panic(fmt.Sprintf("cpu: flex over %d of %d queries, blocks of %d in segments of %d, distances %v", last, p.Rows, p.Block, p.Segment, p.Slash.Dims))
	}
	if d.Err() != nil {
		return
	}
	headDim := p.KMean.Cols()
	j := d.startSparse(p, q, kernels.KV{K: p.KMean})
	defer j.finish()
	j.rule, j.flex, j.last, j.heads = kernels.Selection{}, rule, last, q.Cols()/headDim
	// Weights of keys, blocks, distances and pairs of blocks, and a bit for each; pages of pairs are touched by query-aware heads alone.
	n, blocks := p.Keys(), p.KeyBlocks()
	floats := headDim + 2*blocks + max(n, p.QueryBlocks()*blocks)
	if !j.reserve(4*floats + floats/8 + 64*8) {
		return
	}
	j.op = (*sparseJob).selectFlex
	d.pool.run(j, j.heads)
}

// flexScratch is what a head's choice needs for the moment.
type flexScratch struct {
	mean            []float32 // of the last queries
	vertical, slash []float32 // mass of key blocks and of diagonals of blocks
	weights         []float32 // of pairs of blocks
	memory          unsafe.Pointer
}

func (j *sparseJob) flexScratch(w int) flexScratch {
	p, at := j.plan, j.scratchOf(w)
	take := func(n int) []float32 {
		s := unsafe.Slice((*float32)(at), n)
		at = unsafe.Add(at, 4*n)
		return s
	}
	blocks := p.KeyBlocks()
	s := flexScratch{mean: take(p.KMean.Cols()), vertical: take(blocks), slash: take(blocks), weights: take(p.QueryBlocks() * blocks)}
	s.memory = unsafe.Add(j.scratchOf(w), roundUp(int(uintptr(at)-uintptr(j.scratchOf(w))), 64))
	return s
}

// bits are n cleared bits behind the weights.
func (s flexScratch) bits(n int) []uint64 {
	set := unsafe.Slice((*uint64)(s.memory), (n+63)/64)
	clear(set)
	return set
}

func (j *sparseJob) selectFlex(w, h int) {
	p, n, blocks := j.plan, j.plan.Keys(), j.plan.KeyBlocks()
	s := j.flexScratch(w)
	rank, slash := j.floats(p.Rank, h, n), j.floats(p.Slash, h, n)
	j.trueMean(h)
	sumBlocks(s.vertical, rank, p.Block)
	sumBlocks(s.slash, slash, p.Block)
	columns, diagonals := j.budget(s, rank), j.budget(s, slash)
	aware := j.flex.Gamma < 1 && j.divergence(w, h, s) < j.flex.Tau
	if aware {
		columns, diagonals = min(j.flex.Least, blocks), min(j.flex.Least, blocks)
	}
	s.vertical[0], s.slash[blocks-1] = math.MaxFloat32, math.MaxFloat32
	set := s.bits(blocks)
	pickHeaviest(s.slash, float64(diagonals), true, set)
	for row := range p.QueryBlocks() {
		shiftDown(j.keepRow(h, row), set, blocks-1-row-p.FirstBlock())
	}
	set = s.bits(blocks)
	pickHeaviest(s.vertical, float64(columns), true, set)
	for row := range p.QueryBlocks() {
		orUpTo(j.keepRow(h, row), set, row+p.FirstBlock())
	}
	if aware {
		j.keepPairs(w, h, s)
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
func (j *sparseJob) budget(s flexScratch, mass []float32) int {
	blocks := j.plan.KeyBlocks()
	if j.flex.Gamma >= 1 {
		return blocks
	}
	set, count := s.bits(len(mass)), 0
	pickHeaviest(mass, j.flex.Gamma, false, set)
	for _, w := range set {
		count += bits.OnesCount64(w)
	}
	return min(max(count/flexTokens+1, j.flex.Least), blocks)
}

// divergence is the root of the Jensen-Shannon divergence of the two views of key blocks: the last queries' mean with each
// block's mean key, and the last queries' probabilities.
func (j *sparseJob) divergence(w, h int, s flexScratch) float64 {
	p, a := j.plan, j.choose(w)
	a.block, a.segment, a.key_stride = C.int64_t(j.last), C.int64_t(j.last), C.int64_t(j.q.Stride)
	if a.dtype = C.PBS_F32; j.q.DType == kernels.BF16 {
		a.dtype = C.PBS_BF16
	}
	mean := (*C.float)(unsafe.SliceData(s.mean))
	C.pbs_pool_blocks(j.set, a, j.rowsAt(j.q, p.Rows-j.last, h), nil, 0, 0, C.int64_t(j.last), 0, 1, mean)
	guess := s.weights[:p.KeyBlocks()]
	C.pbs_weigh_blocks(j.set, a, mean, (*C.float)(j.ofHead(p.KMean, h)), C.int64_t(len(guess)), (*C.float)(unsafe.SliceData(guess)))
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

// keepPairs adds the heaviest pairs of blocks; the one that would pass Gamma is left out, as in the published code.
func (j *sparseJob) keepPairs(w, h int, s flexScratch) {
	p, blocks, a := j.plan, j.plan.KeyBlocks(), j.choose(w)
	clear(s.weights)
	for row := range p.QueryBlocks() {
		C.pbs_weigh_blocks(j.set, a, (*C.float)(unsafe.SliceData(j.mean(p.QMean, h, row))), (*C.float)(j.ofHead(p.KMean, h)),
			C.int64_t(row+p.FirstBlock()+1), (*C.float)(unsafe.SliceData(s.weights[row*blocks:])))
	}
	set, lightest := s.bits(len(s.weights)), -1
	pickHeaviest(s.weights, j.flex.Gamma*float64(p.QueryBlocks()), false, set)
	for i := range ones(set) {
		if lightest < 0 || s.weights[i] <= s.weights[lightest] {
			lightest = i
		}
	}
	if lightest >= 0 {
		set[lightest/64] &^= 1 << (lightest % 64)
	}
	for i := range ones(set) {
		if row, b := i/blocks, i%blocks; b <= row+p.FirstBlock() {
			setBit(j.keepRow(h, row), b)
		}
	}
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
