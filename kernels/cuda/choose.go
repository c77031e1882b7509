package cuda

import (
	"math"

	"github.com/pbs-run/pbs-run/kernels"
)

type blockScoreArgs struct {
	out, q, k, flags                               uintptr
	qHeadStride, kHeadStride, stride               int64
	head0, row0, rows, blocks, headDim, firstBlock int32
	scale                                          float32
	_                                              int32
}

type chooseArgs struct {
	weights, perm, keep, kept                                                                                        uintptr
	stride, permStride, keepHeadStride, keptHeadStride                                                               int64
	tau, density                                                                                                     float64
	_, row0, rows, firstBlock, block, segment, blocks, words, sorted, scores, own, keepFirst, counted, surplus, last int32
}

type stridedArgs struct {
	stats, q, k, perm                                                                    uintptr
	qStride, kvStride, kvHeadStride, permStride, statStride, first, lo, hi, sorted, keys int64
	_, group, width, block, segment, stride, row0, rows, blocks, span, own               int32
	c                                                                                    float32
}

type stridedWeightArgs struct {
	stats, weights                                                uintptr
	statStride, stride                                            int64
	row0, rows, block, segment, strideOf, firstBlock, blocks, own int32
}

// pickBytes is at least the size of Pick in pick.cuh.
const pickBytes = 2048 + 8 + 8 + 8 + 128 + 128

// chooser is what choices for rows of a plan have in common.
func chooser(p *kernels.Plan, rule kernels.Selection) chooseArgs {
	a := chooseArgs{
		keep: p.Keep.Addr, kept: p.Kept.Addr, keepHeadStride: int64(p.Keep.Dims[1] * p.Keep.Stride), keptHeadStride: int64(p.Kept.Stride),
		tau: rule.Tau, density: rule.Density, firstBlock: int32(p.FirstBlock()), block: int32(p.Block), segment: int32(p.Segment),
		blocks: int32(p.KeyBlocks()), words: int32(p.Keep.Stride), surplus: int32(rule.Surplus), last: int32(min(rule.Last, p.KeyBlocks())),
		own: flag(rule.Own), keepFirst: flag(rule.KeepFirst), counted: flag(rule.Counted), stride: int64(p.KeyBlocks()),
	}
	var sorted int64
	a.perm, a.permStride, sorted = permOf(p)
	a.sorted = int32(sorted)
	return a
}

func flag(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

// rowsAtATime cuts a range of rows, of all heads, whose weights take that many bytes a row and head.
func rowsAtATime(heads int, bytes int64) int {
	return max(1, int(scoreBytes/max(bytes*int64(heads), 1)))
}

// SelectBlocks fills p.Keep and p.Kept; see kernels.Sparse.
func (d *Device) SelectBlocks(p *kernels.Plan, rule kernels.Selection) {
	p.Check("SelectBlocks")
	if d.failed() {
		return
	}
	heads, dim, blocks, rows := p.KMean.Dims[0], p.KMean.Cols(), p.KeyBlocks(), p.QueryBlocks()
	step := min(rowsAtATime(heads, 4*int64(blocks)), rows)
	a := chooser(p, rule)
	a.scores, a.weights = 1, d.reserve(scratchWeights, int64(heads)*int64(step)*int64(blocks)*4)
	for lo := 0; lo < rows; lo += step {
		n := min(step, rows-lo)
		a.row0, a.rows = int32(lo), int32(n)
		d.scoreBlocks(p, dim, a.weights, 0, 0, heads, lo, n, blocks)
		chosen := a
		launch(d, "choose_blocks", grid{n, heads, 1, 256, pickBytes}, &chosen)
	}
}

// scoreBlocks computes the scores of some rows and heads with all key blocks.
func (d *Device) scoreBlocks(p *kernels.Plan, dim int, out, flags uintptr, head, heads, row, rows, stride int) {
	launch(d, "score_blocks", grid{tiles(p.KeyBlocks(), 64), tiles(rows, 64), heads, 256, 2 * 16 * 68 * 4}, &blockScoreArgs{
		out: out, q: p.QMean.Addr, k: p.KMean.Addr, flags: flags, qHeadStride: int64(p.QMean.Dims[1] * p.QMean.Stride),
		kHeadStride: int64(p.KMean.Dims[1] * p.KMean.Stride), stride: int64(stride), head0: int32(head), row0: int32(row), rows: int32(rows),
		blocks: int32(p.KeyBlocks()), headDim: int32(dim), firstBlock: int32(p.FirstBlock()), scale: float32(1 / math.Sqrt(float64(dim))),
	})
}

// SelectStrided fills p.Keep and p.Kept by scores along antidiagonals; see kernels.Sparse.
func (d *Device) SelectStrided(p *kernels.Plan, q kernels.Tensor, kv kernels.KV, stride int, rule kernels.Selection) {
	p.CheckInputs("SelectStrided", kernels.BF16, q, kv)
	p.CheckStride("SelectStrided", stride)
	if d.failed() {
		return
	}
	r := d.read(q, kv, p.Keys(), false)
	per, blocks, queries := p.Block/stride, p.KeyBlocks(), p.QueryBlocks()
	span := stridedSpan(per)
	step := rowsAtATime(r.heads, (8*int64(per)+4)*int64(blocks))
	choose := chooser(p, rule)
	a := stridedArgs{
		q: r.q.at, k: r.k.at, qStride: int64(r.q.stride), kvStride: int64(r.k.stride), kvHeadStride: int64(r.k.headStride),
		statStride: int64(blocks), first: int64(p.First), keys: int64(p.Keys()), group: int32(r.group), width: r.width(),
		block: int32(p.Block), segment: int32(p.Segment), stride: int32(stride), blocks: int32(blocks), span: int32(span), own: flag(rule.Own),
		c: scaleOf(r.dim) / float32(stride),
	}
	a.perm, a.permStride, a.sorted = permOf(p)
	for lo := 0; lo < queries; lo += step {
		n := min(step, queries-lo)
		from := max((lo+p.FirstBlock())*p.Block, p.First)
		end := min((lo+n+p.FirstBlock())*p.Block, p.Keys())
		row0, rows := from/stride, (end-1)/stride+1-from/stride
		x := a
		x.lo, x.hi, x.row0, x.rows = int64(from), int64(end), int32(row0), int32(rows)
		x.stats = d.reserve(scratchStats, int64(r.heads)*int64(rows)*int64(blocks)*8)
		launch(d, r.tile.name("strided_scores"), grid{tiles(blocks, span), tiles(rows, 64), r.heads, 128, stridedShared(r.tile.dim, span)}, &x)
		d.pace(int64(r.heads) * int64(rows) * int64(blocks) * int64(p.Block) * int64(r.dim))
		c := choose
		c.weights, c.row0, c.rows = d.reserve(scratchWeights, int64(r.heads)*int64(n)*int64(blocks)*4), int32(lo), int32(n)
		launch(d, "strided_weights", grid{n, r.heads, 1, 256, 8 * per}, &stridedWeightArgs{
			stats: x.stats, weights: c.weights, statStride: x.statStride, stride: c.stride, row0: x.row0, rows: x.rows, block: x.block, segment: x.segment,
			strideOf: x.stride, firstBlock: int32(p.FirstBlock() + lo), blocks: x.blocks, own: x.own,
		})
		launch(d, "choose_blocks", grid{n, r.heads, 1, 256, pickBytes}, &c)
	}
}

// stridedSpan is how many key blocks of `per` strided keys a block of threads scores.
func stridedSpan(per int) int { return max(1, 64/per) }

// stridedShared is tiles of 64 strided queries and keys, or their scores and what was found in each key block.
func stridedShared(dim, span int) int {
	scores := 64 * 65 * 4
	if dim >= 128 {
		scores = 64 * dim * 4
	}
	return max(2*64*dim*2, scores+64*span*8)
}
