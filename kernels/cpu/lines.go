package cpu

/*
#cgo noescape pbs_line_keys
#cgo nocallback pbs_line_keys
#cgo noescape pbs_pick_heaviest
#cgo nocallback pbs_pick_heaviest
#include "attend_score.h"
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

// RankLines sums the last queries' probabilities by key and by distance; see kernels.Sparse. It passes over the keys as RankKeys
// does. A range of keys adds to distances that the next range adds to as well: these stand apart until all are done.
func (d *Device) RankLines(p *kernels.Plan, q kernels.Tensor, kv kernels.KV, last int, scale float32) {
	d.checkPlan(p, q, kv)
	if last < 1 || last > p.Rows || p.Slash.IsZero() {
		panic(fmt.Sprintf("cpu: lines of %d of %d queries in a plan with distances %v", last, p.Rows, p.Slash.Dims))
	}
	if d.Err() != nil {
		return
	}
	j := d.startSparse(p, q, kv)
	defer j.finish()
	j.args.positions, j.args.group, j.args.first = C.int64_t(last), C.int64_t(j.group), C.int64_t(p.Keys()-last)
	j.args.scale = C.float(scale)
	j.chunks = (p.Keys() + rankKeys - 1) / rankKeys
	kvHeads := kv.K.Dims[0]
	rows := last * j.group
	if !j.reserve(j.lineScratch() + 4*j.group*(rankKeys+last)) {
		return
	}
	if size := kvHeads * j.chunks * rows * 2; size > len(j.stats.Data)/4 {
		if j.stats = d.Alloc(kernels.F32, size); j.stats.IsZero() {
			return
		}
	}
	if size := j.heads * j.chunks * last; size > len(j.beyond.Data)/4 {
		if j.beyond = d.Alloc(kernels.F32, size); j.beyond.IsZero() {
			return
		}
	}
	j.op = func(j *sparseJob, w, i int) { j.rankLines(w, i, false) }
	d.pool.run(j, j.chunks*kvHeads)
	for h := range kvHeads {
		j.mergeStats(h, rows, 1/float64(last))
	}
	j.op = func(j *sparseJob, w, i int) { j.rankLines(w, i, true) }
	d.pool.run(j, j.chunks*kvHeads)
	for c := 1; c < j.chunks; c++ {
		for h := range j.heads {
			slash := j.floats(p.Slash, h, p.Keys())[c*rankKeys:]
			for x, more := range j.beyondOf(c-1, h)[:min(last-1, len(slash))] {
				slash[x] += more
			}
		}
	}
}

// lineScratch is where the distances of an item begin in its scratch.
func (j *sparseJob) lineScratch() int {
	return roundUp(int(C.pbs_attend_scratch(j.set, j.args.head_dim, j.args.positions*j.args.group)), 64)
}

// floats are the first n numbers of head h in a tensor [heads, capacity].
func (j *sparseJob) floats(t kernels.Tensor, h, n int) []float32 {
	return unsafe.Slice((*float32)(j.ofHead(t, h)), n)
}

// beyondOf is what range c of keys adds to the distances of range c+1 for query head h.
func (j *sparseJob) beyondOf(c, h int) []float32 {
	last := int(j.args.positions)
	return j.beyond.Float32()[(c*j.heads+h)*last:][:last]
}

func (j *sparseJob) rankLines(w, i int, sums bool) {
	a, p := &j.itemArgs[w].attend, j.plan
	*a = j.args
	kvHeads := j.kv.K.Dims[0]
	h, c := i%kvHeads, i/kvHeads
	last := int(a.positions)
	k0, k1 := c*rankKeys, min((c+1)*rankKeys, p.Keys())
	at, out := c, (*C.float)(nil)
	if sums {
		at, out = 0, (*C.float)(j.ofHead(p.Rank, h*j.group))
	}
	stats := (*C.float)(unsafe.Pointer(unsafe.SliceData(j.statsOf(h, at, last*j.group))))
	slash := unsafe.Add(j.scratchOf(w), j.lineScratch())
	C.pbs_attend_begin(j.set, a, j.scratchOf(w), j.rowsAt(j.q, p.Rows-last, h*j.group))
	C.pbs_line_keys(j.set, a, j.scratchOf(w), headAt(j.kv.K, h), C.int64_t(k0), C.int64_t(k1), stats, out, C.int64_t(p.Rank.Stride),
		(*C.float)(slash), C.int64_t(rankKeys+last))
	for g := 0; sums && g < j.group; g++ {
		from := unsafe.Slice((*float32)(unsafe.Add(slash, 4*g*(rankKeys+last))), k1-k0+last-1)
		copy(j.floats(p.Slash, h*j.group+g, p.Keys())[k0:k1], from)
		copy(j.beyondOf(c, h*j.group+g), from[k1-k0:])
	}
}

// SelectLines chooses columns and diagonals; see kernels.Sparse. It is work of the size of the prompt per head.
func (d *Device) SelectLines(p *kernels.Plan, lines kernels.Lines) {
	if p.Columns.IsZero() || p.Segment != p.Block || p.Permuted {
		panic(fmt.Sprintf("cpu: columns %v in a plan of blocks of %d in segments of %d", p.Columns.Dims, p.Block, p.Segment))
	}
	if d.Err() != nil {
		return
	}
	p.Striped = true
	j := &d.sparse
	defer j.finish()
	j.d, j.plan, j.lines, j.heads = d, p, lines, p.Rank.Rows()
	if !j.reserve(4*p.Keys() + 8*p.KeyBlocks() + 64) {
		return
	}
	j.op = (*sparseJob).selectLines
	d.pool.run(j, j.heads)
}

func (j *sparseJob) selectLines(w, h int) {
	p, n := j.plan, j.plan.Keys()
	scratch := unsafe.Slice((*float32)(j.scratchOf(w)), n)
	columns, diagonals := j.words(p.Columns, h, n), j.words(p.Diagonals, h, n)
	copy(scratch, j.floats(p.Rank, h, n))
	count := min(j.lines.Columns, n)
	for x := range min(j.lines.Sink, count) {
		scratch[x] = math.MaxFloat32
	}
	pickHeaviest(scratch, float64(count), true, columns)
	copy(scratch, j.floats(p.Slash, h, n))
	count = min(j.lines.Diagonals, n)
	for x := range min(j.lines.Recent, count) {
		scratch[n-1-x] = math.MaxFloat32
	}
	pickHeaviest(scratch, float64(count), true, diagonals)
	reverseBits(diagonals, n)

	// Blocks that hold pairs d positions apart are one diagonal of blocks, or two.
	blocks := p.KeyBlocks()
	offsets, single := j.blockBits(w, 0), j.blockBits(w, 1)
	for d := range ones(diagonals) {
		setBit(offsets, d/p.Block)
		setBit(offsets, min((d+p.Block-1)/p.Block, blocks-1))
	}
	reverseBits(offsets, blocks)
	perBlock := unsafe.Slice((*uint32)(j.scratchOf(w)), blocks)
	clear(perBlock)
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

// blockBits is a cleared set of key blocks, the i-th in a worker's scratch behind one float per key.
func (j *sparseJob) blockBits(w, i int) []uint64 {
	words := (j.plan.KeyBlocks() + 63) / 64
	set := unsafe.Slice((*uint64)(unsafe.Add(j.scratchOf(w), roundUp(4*j.plan.Keys(), 64)+8*i*words)), words)
	clear(set)
	return set
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

// pickHeaviest is pbs_pick_heaviest on slices.
func pickHeaviest(weights []float32, mass float64, count bool, keep []uint64) {
	byCount := C.int(0)
	if count {
		byCount = 1
	}
	C.pbs_pick_heaviest((*C.float)(unsafe.Pointer(unsafe.SliceData(weights))), C.int64_t(len(weights)), C.double(mass), byCount,
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
