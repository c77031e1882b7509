package cuda

import (
	"math/bits"

	"github.com/pbs-run/pbs-run/kernels"
)

type scoreArgs struct {
	out, q, k                                            uintptr
	qStride, kvStride, kvHeadStride, stride, keys, first int64
	rows, head0, group, width, causal                    int32
	_                                                    int32
}

type sumArgs struct {
	scores, stats, keysOut, slashOut uintptr
	stride, keys, outStride          int64
	rows, heads                      int32
	c, share                         float32
}

type sortArgs struct {
	rank, perm, scratch    uintptr
	rankStride, permStride int64
	segment, width         int32
}

type poolArgs struct {
	out, x, perm                                                                       uintptr
	xStride, xHeadStride, outHeadStride, outStride, permStride, sorted, lo, hi, block0 int64
	group, block, segment, headDim, dtype                                              int32
	_                                                                                  int32
}

// scoreBytes bounds the scores that stand in memory at a time, but for what one head needs.
const scoreBytes = 256 << 20

// headsAtATime is how many heads, each with that many bytes of scores, are computed together.
func headsAtATime(heads int, bytes int64) int {
	return max(1, min(heads, int(scoreBytes/max(bytes, 1))))
}

// RankKeys fills p.Rank; see kernels.Sparse.
func (d *Device) RankKeys(p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
	p.CheckInputs("RankKeys", kernels.BF16, q, kv)
	if p.Sorted() == 0 || d.failed() {
		return
	}
	rows := min(p.Block, p.Rows)
	d.lines(p, q, kv, rows, p.Sorted(), false, scaleOf(kv.K.Cols()))
}

// RankLines fills p.Rank and p.Slash; see kernels.Sparse.
func (d *Device) RankLines(p *kernels.Plan, q kernels.Tensor, kv kernels.KV, last int, scale float32) {
	p.CheckInputs("RankLines", kernels.BF16, q, kv)
	p.CheckLines("RankLines")
	p.CheckLast("RankLines", last)
	if !d.failed() {
		d.lines(p, q, kv, last, p.Keys(), true, scale*1.4426950408889634)
	}
}

// lines sums the softmax of the last rows' scores over the first keys by key, and by distance where causal. c is the scale of scores times
// log2 e.
func (d *Device) lines(p *kernels.Plan, q kernels.Tensor, kv kernels.KV, rows, keys int, causal bool, c float32) {
	r := d.read(q.Slice(p.Rows-rows, p.Rows), kv, keys, false)
	stride := (keys + 3) &^ 3
	step := headsAtATime(r.heads, int64(rows)*int64(stride)*4)
	scores := d.reserve(scratchScores, int64(step)*int64(rows)*int64(stride)*4)
	stats := d.reserve(scratchStats, int64(step)*int64(rows)*8)
	for h := 0; h < r.heads; h += step {
		n := min(step, r.heads-h)
		a := &scoreArgs{
			out: scores, q: r.q.at, k: r.k.at, qStride: int64(r.q.stride), kvStride: int64(r.k.stride), kvHeadStride: int64(r.k.headStride),
			stride: int64(stride), keys: int64(keys), first: int64(p.Keys() - rows), rows: int32(rows), head0: int32(h), group: int32(r.group), width: r.width(),
		}
		s := &sumArgs{
			scores: scores, stats: stats, keysOut: p.Rank.Addr + uintptr(4*h*p.Rank.Stride), stride: int64(stride), keys: int64(keys),
			outStride: int64(p.Rank.Stride), rows: int32(rows), heads: int32(n), c: c, share: 1 / float32(rows),
		}
		if causal {
			a.causal, s.slashOut = 1, p.Slash.Addr+uintptr(4*h*p.Slash.Stride)
		}
		launch(d, r.tile.name("score_rows"), grid{tiles(keys, 64), tiles(rows, 64), n, 128, 2 * 64 * r.tile.dim * 2}, a)
		d.pace(int64(n) * int64(rows) * int64(keys) * int64(r.dim))
		launch(d, "row_stats", grid{n * rows, 1, 1, 256, warpScratch}, s)
		launch(d, "line_sums", grid{tiles(keys, 256), n, 1, 256, 0}, s)
	}
}

// sortShared is the longest segment, filled up to a power of two, that is sorted in shared memory: 64 KiB of it.
const sortShared = 8192

// SortKeys fills p.Perm; see kernels.Sparse.
func (d *Device) SortKeys(p *kernels.Plan) {
	p.Check("SortKeys")
	if p.Sorted() == 0 || d.failed() {
		return
	}
	segments, heads, width := p.Sorted()/p.Segment, p.Rank.Rows(), powerOfTwo(p.Segment)
	a := &sortArgs{
		rank: p.Rank.Addr, perm: p.Perm.Addr, rankStride: int64(p.Rank.Stride), permStride: int64(p.Perm.Stride),
		segment: int32(p.Segment), width: int32(width),
	}
	g := grid{segments, heads, 1, 256, 8 * width}
	if width > sortShared {
		g.shared, a.scratch = 0, d.reserve(scratchScores, int64(heads)*int64(segments)*int64(width)*8)
	}
	launch(d, "sort_segments", g, a)
}

// powerOfTwo is the least power of two from n on.
func powerOfTwo(n int) int { return 1 << bits.Len(uint(n-1)) }

// PoolBlocks fills p.QMean and p.KMean; see kernels.Sparse.
func (d *Device) PoolBlocks(p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
	p.CheckInputs("PoolBlocks", kernels.BF16, q, kv)
	dim, heads := kv.K.Cols(), p.Rank.Rows()
	keys := &poolArgs{
		out: p.KMean.Addr, x: kv.K.Addr, xStride: int64(kv.K.Stride), xHeadStride: int64(kv.K.Dims[1] * kv.K.Stride),
		outHeadStride: int64(p.KMean.Dims[1] * p.KMean.Stride), outStride: int64(p.KMean.Stride), hi: int64(p.Keys()),
		group: int32(heads / kv.K.Dims[0]), block: int32(p.Block), segment: int32(p.Segment), headDim: int32(dim), dtype: int32(kv.K.DType),
	}
	keys.perm, keys.permStride, keys.sorted = permOf(p)
	launch(d, "pool_blocks", grid{p.KeyBlocks(), heads, 1, 128, 0}, keys)
	launch(d, "pool_blocks", grid{p.QueryBlocks(), heads, 1, 128, 0}, &poolArgs{
		out: p.QMean.Addr, x: q.Addr, xStride: int64(q.Stride), xHeadStride: int64(dim),
		outHeadStride: int64(p.QMean.Dims[1] * p.QMean.Stride), outStride: int64(p.QMean.Stride), lo: int64(p.First), hi: int64(p.Keys()),
		block0: int64(p.FirstBlock()), group: 1, block: int32(p.Block), segment: int32(p.Segment), headDim: int32(dim), dtype: int32(q.DType),
	})
}

// permOf is the order of keys: its address, 0 for their own, the elements of a head, and how many keys it orders.
func permOf(p *kernels.Plan) (at uintptr, stride, sorted int64) {
	if !p.Permuted {
		return 0, 0, 0
	}
	return p.Perm.Addr, int64(p.Perm.Stride), int64(p.Sorted())
}
