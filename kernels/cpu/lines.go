package cpu

/*
#cgo noescape pbs_pick_heaviest
#cgo nocallback pbs_pick_heaviest
#include "select.h"
*/
import "C"

import (
	"math/bits"
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
)

// SelectLines chooses columns and diagonals; see kernels.Sparse. It is work of the size of the prompt per head.
func (d *Device) SelectLines(p *kernels.Plan, lines kernels.Lines) {
	p.CheckLines("SelectLines")
	lines.Check("SelectLines")
	if d.Err() != nil {
		return
	}
	p.Striped = true
	j := d.startSparse(p, kernels.Tensor{}, kernels.KV{})
	defer j.finish()
	j.lines = lines
	j.divide(linesScratch(p.Shape()), 0)
	j.op = (*sparseJob).selectLines
	d.pool.run(j, j.heads)
}

// linesScratch is a number and two bits for each key block.
func linesScratch(s kernels.PlanShape) int { return 4*keyBlocks(s) + 16*((keyBlocks(s)+63)/64) + 64 }

func (j *sparseJob) selectLines(w, h int) {
	p, n, blocks := j.plan, j.plan.Keys(), j.plan.KeyBlocks()
	columns, diagonals := j.words(p.Columns, h, n), j.words(p.Diagonals, h, n)
	rank, slash := j.floats(p.Rank, h, n), j.floats(p.Slash, h, n)
	count := lineCount(rank, j.lines.Columns)
	sink := min(j.lines.Sink, count)
	for x := range sink {
		setBit(columns, x)
	}
	j.pickHeaviest(rank, sink, n, float64(count-sink), true, columns)
	count = lineCount(slash, j.lines.Diagonals)
	recent := min(j.lines.Recent, count)
	for x := range recent {
		setBit(diagonals, n-1-x)
	}
	j.pickHeaviest(slash, 0, n-recent, float64(count-recent), true, diagonals)
	reverseBits(diagonals, n)

	// Blocks that hold pairs d positions apart are one diagonal of blocks, or two.
	at := arena(j.scratchOf(w))
	offsets, single, perBlock := take[uint64](&at, (blocks+63)/64), take[uint64](&at, (blocks+63)/64), take[uint32](&at, blocks)
	for d := range ones(diagonals) {
		setBit(offsets, d/p.Block)
		setBit(offsets, min((d+p.Block-1)/p.Block, blocks-1))
	}
	reverseBits(offsets, blocks)
	for c := range ones(columns) {
		perBlock[c/p.Block]++
		setBit(single, c/p.Block)
	}
	for row := range p.QueryBlocks() {
		i, keep, outside := row+p.FirstBlock(), j.keepRow(h, row), 0
		shiftDown(keep, offsets, blocks-1-i)
		*j.keptAt(h, row) = 0
		for w := range i/64 + 1 {
			*j.keptAt(h, row) += uint32(bits.OnesCount64(keep[w]))
			for left := single[w] &^ keep[w]; left != 0; left &= left - 1 {
				if b := w*64 + bits.TrailingZeros64(left); b <= i {
					outside += int(perBlock[b])
				}
			}
		}
		*j.keptAt(h, row) += uint32((outside + p.Block - 1) / p.Block)
	}
}

// lineCount is how many lines of the masses x to keep: all where there are no more than n, or where masses are NaN, which must show in
// the output.
func lineCount(x []float32, n int) int {
	if hasNaN(x) {
		return len(x)
	}
	return min(n, len(x))
}

// hasNaN reports whether one of the masses x, which are not negative, is NaN.
func hasNaN(x []float32) bool {
	sum := float32(0)
	for _, v := range x {
		sum += v
	}
	return sum != sum
}

// floats are the first n numbers of head h in a tensor [heads, capacity].
func (j *sparseJob) floats(t kernels.Tensor, h, n int) []float32 {
	return unsafe.Slice((*float32)(j.ofHead(t, h)), n)
}

// keepRow is a row of p.Keep, keptAt the count of what it keeps.
func (j *sparseJob) keepRow(h, row int) []uint64 {
	t := j.plan.Keep
	return unsafe.Slice((*uint64)(unsafe.Add(headAt(t, h), 8*row*t.Stride)), t.Stride)
}

func (j *sparseJob) keptAt(h, row int) *uint32 {
	return (*uint32)(unsafe.Add(j.ofHead(j.plan.Kept, h), 4*row))
}

// words are the bits of head h for n positions in a tensor [heads, words], cleared.
func (j *sparseJob) words(t kernels.Tensor, h, n int) []uint64 {
	w := unsafe.Slice((*uint64)(j.ofHead(t, h)), t.Stride)
	clear(w)
	return w[:(n+63)/64]
}

// pickHeaviest is pbs_pick_heaviest on slices, for the weights [lo, hi).
func (j *sparseJob) pickHeaviest(weights []float32, lo, hi int, mass float64, count bool, keep []uint64) {
	byCount := C.int(0)
	if count {
		byCount = 1
	}
	C.pbs_pick_heaviest(j.set, (*C.float)(unsafe.Pointer(unsafe.SliceData(weights))), C.int64_t(lo), C.int64_t(hi), C.double(mass), byCount,
		(*C.uint64_t)(unsafe.Pointer(unsafe.SliceData(keep))))
}

// ones yields the bits that are set, in order.
func ones(words []uint64) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for w, left := range words {
			for ; left != 0; left &= left - 1 {
				if !yield(w*64 + bits.TrailingZeros64(left)) {
					return
				}
			}
		}
	}
}

func setBit(words []uint64, i int) { words[i/64] |= 1 << (i % 64) }

// shiftDown sets dst to src moved down by n bits.
func shiftDown(dst, src []uint64, n int) {
	clear(dst)
	for i := n / 64; i < len(src); i++ {
		dst[i-n/64] = src[i] >> (n % 64)
		if i+1 < len(src) {
			dst[i-n/64] |= src[i+1] << (64 - n%64) // all bits are gone where n%64 is 0
		}
	}
}

// reverseBits makes bit i of the first n bits n-1-i.
func reverseBits(words []uint64, n int) {
	for lo, hi := 0, n-1; lo < hi; lo, hi = lo+1, hi-1 {
		a, b := words[lo/64]>>(lo%64)&1, words[hi/64]>>(hi%64)&1
		if a != b {
			words[lo/64] ^= 1 << (lo % 64)
			words[hi/64] ^= 1 << (hi % 64)
		}
	}
}
