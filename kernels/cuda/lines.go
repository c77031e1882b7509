package cuda

import (
	"math"

	"github.com/pbs-run/pbs-run/kernels"
)

type lineArgs struct {
	rank, slash, columns, diagonals, places, offsets, perBlock, keep, kept     uintptr
	rankStride, lineWords, keepHeadStride, keptHeadStride, keys                int64
	words, blocks, block, firstBlock, columnCount, diagonalCount, sink, recent int32
}

type flexArgs struct {
	rank, slash, q, qMean, kMean, scratch, aware, vertical, diagonal, weights, pairs, keep, kept      uintptr
	rankStride, qStride, qHeadStride, kHeadStride, keepHeadStride, keptHeadStride, keys, weightStride int64
	gamma, tau                                                                                        float64
	head0, words, blocks, block, firstBlock, rows, headDim, last, least                               int32
	scale                                                                                             float32
}

// SelectLines chooses columns and diagonals; see kernels.Sparse.
func (d *Device) SelectLines(p *kernels.Plan, lines kernels.Lines) {
	p.CheckLines("SelectLines")
	lines.Check("SelectLines")
	if d.failed() {
		return
	}
	p.Striped = true
	heads, n, blocks, words := p.Rank.Rows(), p.Keys(), p.KeyBlocks(), p.Keep.Stride
	places := int64(heads) * 8 * int64(p.Columns.Stride)
	offsets := int64(heads) * 8 * int64(words)
	at := d.reserve(scratchLists, places+offsets+int64(heads)*4*int64(blocks))
	columns, diagonals := min(lines.Columns, n), min(lines.Diagonals, n)
	a := &lineArgs{
		rank: p.Rank.Addr, slash: p.Slash.Addr, columns: p.Columns.Addr, diagonals: p.Diagonals.Addr, places: at, offsets: at + uintptr(places),
		perBlock: at + uintptr(places+offsets), keep: p.Keep.Addr, kept: p.Kept.Addr,
		rankStride: int64(p.Rank.Stride), lineWords: int64(p.Columns.Stride), keepHeadStride: int64(p.Keep.Dims[1] * words), keptHeadStride: int64(p.Kept.Stride),
		keys: int64(n), words: int32(words), blocks: int32(blocks), block: int32(p.Block), firstBlock: int32(p.FirstBlock()),
		columnCount: int32(columns), diagonalCount: int32(diagonals), sink: int32(min(lines.Sink, columns)), recent: int32(min(lines.Recent, diagonals)),
	}
	launch(d, "select_lines", grid{heads, 1, 1, 1024, pickBytes}, a)
	launch(d, "line_rows", grid{p.QueryBlocks(), heads, 1, 128, warpScratch}, a)
}

// SelectFlex chooses blocks by a pattern of each head's own; see kernels.Sparse.
func (d *Device) SelectFlex(p *kernels.Plan, q kernels.Tensor, last int, rule kernels.Flex) {
	p.CheckQueries("SelectFlex", kernels.BF16, q)
	p.CheckLines("SelectFlex")
	p.CheckLast("SelectFlex", last)
	rule.Check("SelectFlex")
	if d.failed() {
		return
	}
	heads, dim, n, blocks, words, rows := p.Rank.Rows(), p.KMean.Cols(), p.Keys(), p.KeyBlocks(), p.Keep.Stride, p.QueryBlocks()
	stride := (blocks + 63) &^ 63
	step := headsAtATime(heads, 4*int64(rows)*int64(stride))
	mean, bits := int64(heads)*int64(3*blocks+dim)*4, int64(heads)*8*int64(words)
	at := d.reserve(scratchSmall, mean+2*bits+int64(heads)*4)
	a := flexArgs{
		rank: p.Rank.Addr, slash: p.Slash.Addr, q: q.Slice(p.Rows-last, p.Rows).Addr, qMean: p.QMean.Addr, kMean: p.KMean.Addr,
		scratch: at, vertical: at + uintptr(mean), diagonal: at + uintptr(mean+bits), aware: at + uintptr(mean+2*bits),
		weights: d.reserve(scratchWeights, int64(step)*int64(rows)*int64(stride)*4),
		pairs:   d.reserve(scratchLists, max(int64(step)*int64(rows)*int64(stride)/8, int64(heads)*int64(n+31)/32*4)),
		keep:    p.Keep.Addr, kept: p.Kept.Addr,
		rankStride: int64(p.Rank.Stride), qStride: int64(q.Stride), qHeadStride: int64(p.QMean.Dims[1] * p.QMean.Stride),
		kHeadStride: int64(p.KMean.Dims[1] * p.KMean.Stride), keepHeadStride: int64(p.Keep.Dims[1] * words), keptHeadStride: int64(p.Kept.Stride),
		keys: int64(n), weightStride: int64(stride), gamma: rule.Gamma, tau: rule.Tau,
		words: int32(words), blocks: int32(blocks), block: int32(p.Block), firstBlock: int32(p.FirstBlock()), rows: int32(rows), headDim: int32(dim),
		last: int32(last), least: int32(rule.Least), scale: float32(1 / math.Sqrt(float64(dim))),
	}
	launch(d, "flex_head", grid{heads, 1, 1, 256, pickBytes}, &a)
	for h := 0; h < heads; h += step {
		count := min(step, heads-h)
		x := a
		x.head0 = int32(h)
		d.scoreBlocks(p, dim, a.weights, a.aware, h, count, 0, rows, stride)
		launch(d, "flex_softmax", grid{rows, count, 1, 256, pickBytes}, &x)
		launch(d, "flex_pairs", grid{count, 1, 1, 1024, pickBytes + 8*1024}, &x)
		launch(d, "flex_rows", grid{rows, count, 1, 128, warpScratch}, &x)
	}
}
