package cpu

/*
#cgo noescape pbs_pool_blocks
#cgo nocallback pbs_pool_blocks
#cgo noescape pbs_select_blocks
#cgo nocallback pbs_select_blocks
#include "attend_score.h"
#include "select.h"
*/
import "C"

import (
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
)

// selectBlocks is how many blocks an item pools or chooses for.
const selectBlocks = 16

// PoolBlocks averages queries and keys by blocks; see kernels.Sparse.
func (d *Device) PoolBlocks(p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
	p.CheckInputs("PoolBlocks", d.compute, q, kv)
	if d.Err() != nil {
		return
	}
	j := d.startSparse(p, q, kv)
	defer j.finish()
	j.runBlocks((*sparseJob).poolKeys, p.KeyBlocks())
	j.runBlocks((*sparseJob).poolQueries, p.QueryBlocks())
}

// runBlocks runs op for so many blocks of every head, some of one head in an item.
func (j *sparseJob) runBlocks(op func(j *sparseJob, w, i int), blocks int) {
	j.op = op
	j.d.pool.run(j, (blocks+selectBlocks-1)/selectBlocks*j.heads)
}

// item splits item i of runBlocks into a head and a range of its blocks.
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
	h, lo, hi := j.item(i, p.QueryBlocks())
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
		surplus: C.int64_t(j.rule.Surplus), tau: C.double(j.rule.Tau), density: C.double(j.rule.Density), last: C.int64_t(j.rule.Last), words: C.int64_t(p.Keep.Stride),
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
func (d *Device) SelectBlocks(p *kernels.Plan, rule kernels.Selection) {
	p.Check("SelectBlocks")
	if d.Err() != nil {
		return
	}
	j := d.startSparse(p, kernels.Tensor{}, kernels.KV{})
	defer j.finish()
	j.rule = rule
	j.divide(selectScratch(p.Shape()), 0)
	j.runBlocks((*sparseJob).selectRows, p.QueryBlocks())
}

// selectScratch is what weighing all key blocks takes.
func selectScratch(s kernels.PlanShape) int {
	return 4 * int(C.pbs_weigh_floats(C.int64_t(keyBlocks(s)), C.int64_t(s.HeadDim)))
}

func keyBlocks(s kernels.PlanShape) int { return (s.Capacity + s.Block - 1) / s.Block }

func (j *sparseJob) selectRows(w, i int) {
	p := j.plan
	h, lo, hi := j.item(i, p.QueryBlocks())
	C.pbs_select_blocks(j.set, j.choose(w), j.permOf(h), C.int64_t(p.Sorted()),
		(*C.float)(unsafe.Add(j.ofHead(p.QMean, h), 4*lo*p.QMean.Stride)), (*C.float)(j.ofHead(p.KMean, h)),
		C.int64_t(lo+p.FirstBlock()), C.int64_t(hi+p.FirstBlock()),
		(*C.uint64_t)(unsafe.Add(j.ofHead(p.Keep, h), 8*lo*p.Keep.Stride)), (*C.uint32_t)(unsafe.Add(j.ofHead(p.Kept, h), 4*lo)),
		(*C.float)(j.scratchOf(w)))
}
