package cpu

/*
#cgo noescape pbs_rank_keys
#cgo nocallback pbs_rank_keys
#cgo noescape pbs_line_keys
#cgo nocallback pbs_line_keys
#cgo noescape pbs_sort_segments
#cgo nocallback pbs_sort_segments
#include "attend_score.h"
#include "select.h"
*/
import "C"

import (
	"math"
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
)

// rankKeys is how many keys an item ranks: enough that packing the queries costs little.
const rankKeys = 4096

// RankKeys scores keys; see kernels.Sparse.
func (d *Device) RankKeys(p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
	p.CheckInputs("RankKeys", d.compute, q, kv)
	if p.Sorted() == 0 || d.Err() != nil {
		return
	}
	j := d.startSparse(p, q, kv)
	defer j.finish()
	j.keys, j.distance = p.Sorted(), false
	j.rank(min(p.Block, p.Rows))
}

// RankLines sums the last queries' probabilities by key and by distance; see kernels.Sparse. A range of keys adds to distances that
// the next range adds to as well: these stand apart until all are done.
func (d *Device) RankLines(p *kernels.Plan, q kernels.Tensor, kv kernels.KV, last int, scale float32) {
	p.CheckInputs("RankLines", d.compute, q, kv)
	p.CheckLines("RankLines")
	p.CheckLast("RankLines", last)
	if d.Err() != nil {
		return
	}
	j := d.startSparse(p, q, kv)
	defer j.finish()
	j.keys, j.distance = p.Keys(), true
	j.args.first, j.args.scale = C.int64_t(p.Keys()-last), C.float(scale)
	j.rank(last)
	for c := 1; c < j.chunks; c++ {
		for h := range j.heads {
			slash := j.floats(p.Slash, h, p.Keys())[c*rankKeys:]
			for x, more := range j.beyondOf(c-1, h)[:min(last-1, len(slash))] {
				slash[x] += more
			}
		}
	}
}

// rank passes over the keys twice: for the maximum and the sum of each of the last rows queries, and then for the sums over queries. The
// scores themselves would be as large as the rows of a dense attention matrix.
func (j *sparseJob) rank(rows int) {
	j.divide(j.d.rankScratch(j.plan.Shape(), rows))
	j.args.positions, j.args.group = C.int64_t(rows), C.int64_t(j.group)
	j.chunks = (j.keys + rankKeys - 1) / rankKeys
	kvHeads := j.heads / j.group
	j.op, j.sums = (*sparseJob).rankItem, false
	j.d.pool.run(j, j.chunks*kvHeads)
	for h := range kvHeads {
		j.mergeStats(h, 1/float64(rows))
	}
	j.sums = true
	j.d.pool.run(j, j.chunks*kvHeads)
}

// rankScratch is a worker's tile of queries and keys and, for distances, its item's sums; and in common the statistics of rows queries and
// what ranges add to the distances of the next.
func (d *Device) rankScratch(s kernels.PlanShape, rows int) (share, common int) {
	group, chunks := s.Heads/s.KVHeads, (s.Capacity+rankKeys-1)/rankKeys
	share, common = d.tileScratch(s.HeadDim, rows*group), 8*chunks*s.Heads*rows
	if s.Lines {
		share, common = share+4*group*(rankKeys+rows), common+4*chunks*s.Heads*rows
	}
	return share, common
}

// tileScratch is what rows queries of dim dimensions and a tile of keys take.
func (d *Device) tileScratch(dim, rows int) int {
	return roundUp(int(C.pbs_attend_scratch(d.attendSet(), C.int64_t(dim), C.int64_t(rows))), 64)
}

// statsOf is where the statistics of key range c of kv head h stand: the maximum and the sum of each row.
func (j *sparseJob) statsOf(h, c int) []float32 {
	n := 2 * int(j.args.positions*j.args.group)
	return j.commonFloats((h*j.chunks+c)*n, n)
}

// beyondOf is what range c of keys adds to the distances of range c+1 for query head h.
func (j *sparseJob) beyondOf(c, h int) []float32 {
	last := int(j.args.positions)
	return j.commonFloats(2*j.chunks*j.heads*last+(c*j.heads+h)*last, last)
}

func (j *sparseJob) commonFloats(at, n int) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(&j.common[4*at])), n)
}

// mergeStats turns the statistics of all ranges into each row's maximum and weight, in the first range's place.
func (j *sparseJob) mergeStats(h int, share float64) {
	first := j.statsOf(h, 0)
	for r := 0; r < len(first); r += 2 {
		top, sum := first[r], 0.0
		for c := range j.chunks {
			top = max(top, j.statsOf(h, c)[r])
		}
		for c := range j.chunks {
			s := j.statsOf(h, c)
			sum += math.Exp2(float64(s[r]-top)) * float64(s[r+1])
		}
		first[r], first[r+1] = top, float32(share/sum)
	}
}

// rankItem ranks a range of keys by the heads that read them.
func (j *sparseJob) rankItem(w, i int) {
	a, p := &j.itemArgs[w].attend, j.plan
	*a = j.args
	kvHeads, rows := j.heads/j.group, int(j.args.positions)
	h, c := i%kvHeads, i/kvHeads
	k0, k1 := c*rankKeys, min((c+1)*rankKeys, j.keys)
	stats, out := j.statsOf(h, c), (*C.float)(nil)
	if j.sums {
		stats, out = j.statsOf(h, 0), (*C.float)(j.ofHead(p.Rank, h*j.group))
	}
	scratch, k, to := j.scratchOf(w), headAt(j.kv.K, h), (*C.float)(unsafe.SliceData(stats))
	C.pbs_attend_begin(j.set, a, scratch, j.rowsAt(j.q, p.Rows-rows, h*j.group))
	if !j.distance {
		C.pbs_rank_keys(j.set, a, scratch, k, C.int64_t(k0), C.int64_t(k1), to, out, C.int64_t(p.Rank.Stride))
		return
	}
	stride := rankKeys + rows
	slash := unsafe.Add(scratch, j.d.tileScratch(int(a.head_dim), rows*j.group))
	C.pbs_line_keys(j.set, a, scratch, k, C.int64_t(k0), C.int64_t(k1), to, out, C.int64_t(p.Rank.Stride), (*C.float)(slash), C.int64_t(stride))
	for g := 0; j.sums && g < j.group; g++ {
		from := unsafe.Slice((*float32)(unsafe.Add(slash, 4*g*stride)), k1-k0+rows-1)
		copy(j.floats(p.Slash, h*j.group+g, p.Keys())[k0:k1], from)
		copy(j.beyondOf(c, h*j.group+g), from[k1-k0:])
	}
}

// SortKeys orders keys inside their segments; see kernels.Sparse.
func (d *Device) SortKeys(p *kernels.Plan) {
	p.Check("SortKeys")
	if d.Err() != nil {
		return
	}
	j := d.startSparse(p, kernels.Tensor{}, kernels.KV{})
	defer j.finish()
	j.divide(sortScratch(p.Shape()), 0)
	j.op = (*sparseJob).sort
	per := roundUp(rankKeys, p.Segment)
	j.chunks = (p.Sorted() + per - 1) / per
	d.pool.run(j, j.chunks*j.heads)
}

// sortScratch is two lists of keys with their ranks.
func sortScratch(s kernels.PlanShape) int { return 16 * s.Segment }

func (j *sparseJob) sort(w, i int) {
	p := j.plan
	h, per := i%j.heads, roundUp(rankKeys, p.Segment)
	lo := i / j.heads * per
	n := min(per, p.Sorted()-lo)
	scores := unsafe.Add(j.ofHead(p.Rank, h), 4*lo)
	perm := unsafe.Add(j.ofHead(p.Perm, h), 2*lo)
	C.pbs_sort_segments((*C.float)(scores), C.int64_t(n), C.int64_t(p.Segment), (*C.uint16_t)(perm), (*C.uint32_t)(j.scratchOf(w)))
}
