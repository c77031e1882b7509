package cpu

/*
#cgo noescape pbs_blocks_scratch
#cgo nocallback pbs_blocks_scratch
#cgo noescape pbs_blocks_begin
#cgo nocallback pbs_blocks_begin
#cgo noescape pbs_blocks_keys
#cgo nocallback pbs_blocks_keys
#cgo noescape pbs_blocks_end
#cgo nocallback pbs_blocks_end
#cgo noescape pbs_rank_keys
#cgo nocallback pbs_rank_keys
#cgo noescape pbs_pool_blocks
#cgo nocallback pbs_pool_blocks
#cgo noescape pbs_select_blocks
#cgo nocallback pbs_select_blocks
#cgo noescape pbs_sort_segments
#cgo nocallback pbs_sort_segments
#include "attend_score.h"
#include "select.h"
*/
import "C"

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
)

const (
	// sparseState is how many elements of queries share a packed block of keys: their state should stay in the L2 cache.
	sparseState = 1 << 16
	// rankKeys is how many keys an item ranks: enough that packing the queries costs little.
	rankKeys = 4096
	// selectBlocks is how many blocks an item pools or chooses for.
	selectBlocks = 16
)

// sparseJob is one operation on a Plan in flight.
type sparseJob struct {
	d        *Device
	op       func(j *sparseJob, w, i int)
	plan     *kernels.Plan
	out, q   kernels.Tensor
	kv       kernels.KV
	span     kernels.Span
	ranges   []kernels.Span // of blocks
	rule     kernels.Selection
	args     C.struct_attend_args
	set      C.int
	heads    int
	group    int
	chunk    int // query blocks of an item of AttendBlocks
	chunks   int // items per head, or per kv head
	scratch  kernels.Tensor
	perWork  int
	stats    kernels.Tensor // of RankKeys: [kvHeads, ranges, rows, 2]
	stride   int            // of SelectStrided
	lines    kernels.Lines  // of SelectLines
	flex     kernels.Flex   // of SelectFlex
	last     int            // of SelectFlex
	beyond   kernels.Tensor // of RankLines: [ranges, heads, last], what a range of keys adds to distances of the next
	itemArgs []sparseArgs   // by worker, so that C is handed no Go stack
}

type sparseArgs struct {
	attend  C.struct_attend_args
	blocks  C.struct_attend_blocks
	choose  C.struct_select_args
	strided C.struct_attend_strided
}

func (j *sparseJob) do(w, i int) { j.op(j, w, i) }

// start fills in what all operations share.
func (d *Device) startSparse(p *kernels.Plan, q kernels.Tensor, kv kernels.KV) *sparseJob {
	j := &d.sparse
	j.d, j.plan, j.q, j.kv = d, p, q, kv
	j.set = C.int(d.isa)
	if d.compute == kernels.F32 {
		j.set = C.int(min(d.isa, avx512))
	}
	if len(j.itemArgs) == 0 {
		j.itemArgs = make([]sparseArgs, d.pool.threads)
	}
	headDim := kv.K.Cols()
	j.heads = q.Cols() / headDim
	j.group = j.heads / kv.K.Dims[0]
	j.args = C.struct_attend_args{
		head_dim: C.int64_t(headDim), group: 1, q_stride: C.int64_t(q.Stride), kv_stride: C.int64_t(kv.K.Stride),
		scale: C.float(1 / math.Sqrt(float64(headDim))),
	}
	if kv.K.DType == kernels.F32 {
		j.args.kv_f32 = 1
	}
	if d.compute == kernels.BF16 {
		j.args.bf16 = 1
	}
	return j
}

func (j *sparseJob) finish() {
	j.plan, j.out, j.q, j.kv, j.op = nil, kernels.Tensor{}, kernels.Tensor{}, kernels.KV{}, nil
}

// reserve makes room for n bytes of scratch per worker; it grows only when the shape does.
func (j *sparseJob) reserve(n int) bool {
	n = roundUp(n, 4096)
	if n > j.perWork {
		j.scratch = j.d.Alloc(kernels.F32, j.d.pool.threads, n/4)
		if j.perWork = n; j.scratch.IsZero() {
			j.perWork = 0
			return false
		}
	}
	return true
}

func (j *sparseJob) scratchOf(w int) unsafe.Pointer {
	return unsafe.Pointer(&j.scratch.Data[w*j.perWork])
}

// RankKeys scores keys; see kernels.Sparse. It passes over the keys twice: for each ranking query's maximum and sum, and then for
// the sums over queries. The scores themselves would be as large as the rows of a dense attention matrix.
func (d *Device) RankKeys(p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
	d.checkPlan(p, q, kv)
	if p.Sorted() == 0 || d.Err() != nil {
		return
	}
	j := d.startSparse(p, q, kv)
	defer j.finish()
	rows := min(p.Block, p.Rows)
	j.args.positions, j.args.group = C.int64_t(rows), C.int64_t(j.group)
	j.chunks = (p.Sorted() + rankKeys - 1) / rankKeys
	kvHeads := kv.K.Dims[0]
	statRows := rows * j.group
	if !j.reserve(int(C.pbs_attend_scratch(j.set, j.args.head_dim, C.int64_t(statRows)))) {
		return
	}
	if size := kvHeads * j.chunks * statRows * 2; size > len(j.stats.Data)/4 {
		if j.stats = d.Alloc(kernels.F32, size); j.stats.IsZero() {
			return
		}
	}
	j.op = func(j *sparseJob, w, i int) { j.rank(w, i, false) }
	d.pool.run(j, j.chunks*kvHeads)
	for h := range kvHeads {
		j.mergeStats(h, statRows, 1/float64(rows))
	}
	j.op = func(j *sparseJob, w, i int) { j.rank(w, i, true) }
	d.pool.run(j, j.chunks*kvHeads)
}

// statsOf is where the statistics of key range c of kv head h stand.
func (j *sparseJob) statsOf(h, c, rows int) []float32 {
	return j.stats.Float32()[(h*j.chunks+c)*rows*2:][:rows*2]
}

// mergeStats turns the statistics of all ranges into each row's maximum and weight, in the first range's place.
func (j *sparseJob) mergeStats(h, rows int, share float64) {
	first := j.statsOf(h, 0, rows)
	for r := range rows {
		top, sum := first[2*r], 0.0
		for c := range j.chunks {
			top = max(top, j.statsOf(h, c, rows)[2*r])
		}
		for c := range j.chunks {
			s := j.statsOf(h, c, rows)
			sum += math.Exp2(float64(s[2*r]-top)) * float64(s[2*r+1])
		}
		first[2*r], first[2*r+1] = top, float32(share/sum)
	}
}

func (j *sparseJob) rank(w, i int, sums bool) {
	a, p := &j.itemArgs[w].attend, j.plan
	*a = j.args
	h, c := i%j.kv.K.Dims[0], i/j.kv.K.Dims[0]
	rows := int(a.positions)
	q := j.rowsAt(j.q, p.Rows-rows, h*j.group)
	k0, k1 := c*rankKeys, min((c+1)*rankKeys, p.Sorted())
	at, out := c, (*C.float)(nil)
	if sums {
		at, out = 0, (*C.float)(j.ofHead(p.Rank, h*j.group))
	}
	stats := (*C.float)(unsafe.Pointer(unsafe.SliceData(j.statsOf(h, at, rows*j.group))))
	C.pbs_attend_begin(j.set, a, j.scratchOf(w), q)
	C.pbs_rank_keys(j.set, a, j.scratchOf(w), headAt(j.kv.K, h), C.int64_t(k0), C.int64_t(k1), stats, out, C.int64_t(p.Rank.Stride))
}

// SortKeys orders keys inside their segments; see kernels.Sparse.
func (d *Device) SortKeys(p *kernels.Plan) {
	if d.Err() != nil {
		return
	}
	j := &d.sparse
	j.d, j.plan, j.heads = d, p, p.Rank.Rows()
	defer j.finish()
	if !j.reserve(16 * p.Segment) {
		return
	}
	j.op = (*sparseJob).sort
	per := roundUp(rankKeys, p.Segment)
	j.chunks = (p.Sorted() + per - 1) / per
	d.pool.run(j, j.chunks*j.heads)
}

func (j *sparseJob) sort(w, i int) {
	p := j.plan
	h, per := i%j.heads, roundUp(rankKeys, p.Segment)
	lo := i / j.heads * per
	n := min(per, p.Sorted()-lo)
	scores := unsafe.Add(j.ofHead(p.Rank, h), 4*lo)
	perm := unsafe.Add(j.ofHead(p.Perm, h), 2*lo)
	C.pbs_sort_segments((*C.float)(scores), C.int64_t(n), C.int64_t(p.Segment), (*C.uint16_t)(perm), (*C.uint32_t)(j.scratchOf(w)))
}

// PoolBlocks averages queries and keys by blocks; see kernels.Sparse.
func (d *Device) PoolBlocks(p *kernels.Plan, q kernels.Tensor, kv kernels.KV, spans []kernels.Span) {
	d.checkPlan(p, q, kv)
	if d.Err() != nil {
		return
	}
	j := d.startSparse(p, q, kv)
	defer j.finish()
	j.op = (*sparseJob).poolKeys
	j.chunks = (p.KeyBlocks() + selectBlocks - 1) / selectBlocks
	d.pool.run(j, j.chunks*j.heads)
	j.op = (*sparseJob).poolQueries
	for _, j.span = range j.blockSpans(spans) {
		j.chunks = (j.span.Hi - j.span.Lo + selectBlocks - 1) / selectBlocks
		d.pool.run(j, j.chunks*j.heads)
	}
}

// blockSpans are the ranges of query blocks, counted from the first, that meet spans of rows.
func (j *sparseJob) blockSpans(spans []kernels.Span) []kernels.Span {
	out, p := j.ranges[:0], j.plan
	for _, s := range spans {
		lo, hi := (p.First+s.Lo)/p.Block-p.FirstBlock(), (p.First+s.Hi-1)/p.Block-p.FirstBlock()+1
		if n := len(out); n > 0 && lo < out[n-1].Hi {
			lo = out[n-1].Hi
		}
		if lo < hi {
			out = append(out, kernels.Span{Lo: lo, Hi: hi})
		}
	}
	j.ranges = out
	return out
}

// item splits item i into a head and a range of the span's blocks.
func (j *sparseJob) item(i, blocks int) (head, lo, hi int) {
	lo = i / j.heads * selectBlocks
	return i % j.heads, lo, min(lo+selectBlocks, blocks)
}

func (j *sparseJob) poolKeys(w, i int) {
	p := j.plan
	h, lo, hi := j.item(i, p.KeyBlocks())
	a := j.choose(w)
	C.pbs_pool_blocks(j.set, a, headAt(j.kv.K, h/j.group), j.permOf(h), C.int64_t(p.Sorted()), 0, C.int64_t(p.Keys()), C.int64_t(lo), C.int64_t(hi),
		(*C.float)(unsafe.Add(j.ofHead(p.KMean, h), 4*lo*p.KMean.Stride)))
}

func (j *sparseJob) poolQueries(w, i int) {
	p := j.plan
	h, lo, hi := j.item(i, j.span.Hi-j.span.Lo)
	lo, hi = lo+j.span.Lo, hi+j.span.Lo
	a := j.choose(w)
	a.key_stride = C.int64_t(j.q.Stride)
	if a.dtype = C.PBS_F32; j.q.DType == kernels.BF16 {
		a.dtype = C.PBS_BF16
	}
	C.pbs_pool_blocks(j.set, a, j.rowsAt(j.q, 0, h), nil, 0, C.int64_t(p.First), C.int64_t(p.Keys()), C.int64_t(lo+p.FirstBlock()), C.int64_t(hi+p.FirstBlock()),
		(*C.float)(unsafe.Add(j.ofHead(p.QMean, h), 4*lo*p.QMean.Stride)))
}

// choose are the arguments for pooling keys and choosing blocks.
func (j *sparseJob) choose(w int) *C.struct_select_args {
	a, p := &j.itemArgs[w].choose, j.plan
	*a = C.struct_select_args{
		head_dim: j.args.head_dim, block: C.int64_t(p.Block), segment: C.int64_t(p.Segment), keys: C.int64_t(p.Keys()),
		key_stride: j.args.kv_stride, dtype: C.PBS_BF16, scale: j.args.scale,
		surplus: C.int64_t(j.rule.Surplus), tau: C.double(j.rule.Tau), density: C.double(j.rule.Density), words: C.int64_t(p.Keep.Stride),
	}
	if j.kv.K.DType == kernels.F32 {
		a.dtype = C.PBS_F32
	}
	if j.rule.Own {
		a.own = 1
	}
	if j.rule.KeepFirst {
		a.keep_first = 1
	}
	if j.rule.Counted {
		a.counted = 1
	}
	return a
}

// SelectBlocks chooses key blocks for query blocks; see kernels.Sparse.
func (d *Device) SelectBlocks(p *kernels.Plan, rule kernels.Selection, spans []kernels.Span) {
	if d.Err() != nil {
		return
	}
	j := &d.sparse
	defer j.finish()
	j.d, j.plan, j.rule, j.heads = d, p, rule, p.KMean.Dims[0]
	j.set = C.int(d.isa)
	headDim := p.KMean.Cols()
	j.args = C.struct_attend_args{head_dim: C.int64_t(headDim), scale: C.float(1 / math.Sqrt(float64(headDim)))}
	if len(j.itemArgs) == 0 {
		j.itemArgs = make([]sparseArgs, d.pool.threads)
	}
	if !j.reserve(4 * p.KeyBlocks()) {
		return
	}
	j.op = (*sparseJob).selectRows
	for _, j.span = range j.blockSpans(spans) {
		j.chunks = (j.span.Hi - j.span.Lo + selectBlocks - 1) / selectBlocks
		d.pool.run(j, j.chunks*j.heads)
	}
}

func (j *sparseJob) selectRows(w, i int) {
	p := j.plan
	h, lo, hi := j.item(i, j.span.Hi-j.span.Lo)
	lo, hi = lo+j.span.Lo, hi+j.span.Lo
	C.pbs_select_blocks(j.set, j.choose(w), j.permOf(h), C.int64_t(p.Sorted()),
		(*C.float)(unsafe.Add(j.ofHead(p.QMean, h), 4*lo*p.QMean.Stride)), (*C.float)(j.ofHead(p.KMean, h)),
		C.int64_t(lo+p.FirstBlock()), C.int64_t(hi+p.FirstBlock()),
		(*C.uint64_t)(unsafe.Add(j.ofHead(p.Keep, h), 8*lo*p.Keep.Stride)), (*C.uint32_t)(unsafe.Add(j.ofHead(p.Kept, h), 4*lo)),
		(*C.float)(j.scratchOf(w)))
}

// AttendBlocks attends to the kept blocks; see kernels.Sparse.
func (d *Device) AttendBlocks(out, q kernels.Tensor, kv kernels.KV, p *kernels.Plan, spans []kernels.Span) {
	d.checkPlan(p, q, kv)
	checkAttend(d.compute, out, q, kv, p.First)
	if d.Err() != nil {
		return
	}
	j := d.startSparse(p, q, kv)
	defer j.finish()
	j.out = out
	j.args.out_stride = C.int64_t(out.Stride)
	j.op = (*sparseJob).attend
	for _, j.span = range spans {
		blocks := (p.First+j.span.Hi-1)/p.Block - (p.First+j.span.Lo)/p.Block + 1
		rows := sparseState / int(j.args.head_dim)
		if d.compute == kernels.BF16 {
			rows *= 2
		}
		j.chunk = max(1, min(rows/p.Block, (blocks*j.heads+8*d.pool.threads-1)/(8*d.pool.threads)))
		j.chunks = (blocks + j.chunk - 1) / j.chunk
		if !j.reserve(int(C.pbs_blocks_scratch(j.set, j.args.head_dim, C.int64_t(p.Block), C.int64_t(j.chunk)))) {
			return
		}
		d.pool.run(j, j.chunks*j.heads)
	}
}

// attend computes one head's rows of some query blocks, the last ones first.
func (j *sparseJob) attend(w, i int) {
	args, p := &j.itemArgs[w], j.plan
	a, b := &args.attend, &args.blocks
	h, chunk := i%j.heads, j.chunks-1-i/j.heads
	block0 := (p.First+j.span.Lo)/p.Block + chunk*j.chunk
	lo, hi := max(block0*p.Block, p.First+j.span.Lo), min((block0+j.chunk)*p.Block, p.First+j.span.Hi)
	*a = j.args
	a.first, a.positions = C.int64_t(lo), C.int64_t(hi-lo)
	*b = C.struct_attend_blocks{
		block: C.int64_t(p.Block), segment: C.int64_t(p.Segment), keys: C.int64_t(p.Keys()), sorted: C.int64_t(p.Sorted()),
		words: C.int64_t(p.Keep.Stride),
	}
	b.perm = j.permOf(h)
	if p.Striped {
		b.columns = (*C.uint64_t)(j.ofHead(p.Columns, h))
	}
	b.keep = (*C.uint64_t)(unsafe.Add(j.ofHead(p.Keep, h), 8*(block0-p.FirstBlock())*p.Keep.Stride))
	scratch, k, v := j.scratchOf(w), headAt(j.kv.K, h/j.group), headAt(j.kv.V, h/j.group)
	C.pbs_blocks_begin(j.set, a, b, scratch, j.rowsAt(j.q, lo-p.First, h))
	blocks, step := (hi+p.Block-1)/p.Block, max(1, attendChunk/p.Block)
	for j0 := 0; j0 < blocks && !j.d.stopped.Load(); j0 += step {
		C.pbs_blocks_keys(j.set, a, b, scratch, k, v, C.int64_t(j0), C.int64_t(min(j0+step, blocks)))
	}
	C.pbs_blocks_end(j.set, a, b, scratch, j.rowsAt(j.out, lo-p.First, h))
}

// rowsAt is the address of row r and query head h in a matrix.
func (j *sparseJob) rowsAt(t kernels.Tensor, r, h int) unsafe.Pointer {
	return unsafe.Pointer(&t.Data[(r*t.Stride+h*int(j.args.head_dim))*t.DType.Size()])
}

// ofHead is the address of head h in a tensor of the plan.
func (j *sparseJob) ofHead(t kernels.Tensor, h int) unsafe.Pointer {
	if t.Dims[0] == 1 { // [heads, capacity]
		return unsafe.Pointer(&t.Data[h*t.Stride*t.DType.Size()])
	}
	return headAt(t, h)
}

func (j *sparseJob) permOf(h int) *C.uint16_t {
	if !j.plan.Permuted {
		return nil
	}
	return (*C.uint16_t)(j.ofHead(j.plan.Perm, h))
}

func (d *Device) checkPlan(p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
	headDim, kvHeads := kv.K.Cols(), kv.K.Dims[0]
	heads := q.Cols() / headDim
	switch {
	case q.Rows() != p.Rows || p.Rows < 1 || p.First < 0 || p.Keys() > kv.K.Rows() || p.Keys() > p.Rank.Cols():
		panic(fmt.Sprintf("cpu: plan of %d rows at %d for q %v, keys %v and a capacity of %d", p.Rows, p.First, q.Dims, kv.K.Dims, p.Rank.Cols()))
	case q.DType != d.compute || q.Cols()%(headDim*kvHeads) != 0 || heads != p.Rank.Rows() || headDim != p.KMean.Cols() || p.QueryBlocks() > p.QMean.Rows():
		panic(fmt.Sprintf("cpu: plan of %v means, %v queries for q %v %v and keys %v", p.KMean.Dims, p.QMean.Dims, q.DType, q.Dims, kv.K.Dims))
	}
}
