package cuda

import "github.com/pbs-run/pbs-run/kernels"

type columnArgs struct {
	bits, list, count   uintptr
	words, stride, keys int64
}

// AttendBlocks attends to the kept blocks; see kernels.Sparse.
func (d *Device) AttendBlocks(out, q kernels.Tensor, kv kernels.KV, p *kernels.Plan, spans []kernels.Span) {
	p.CheckAttend(kernels.BF16, out, q, kv, spans)
	checkAttend(out, q, kv, p.First)
	if d.failed() {
		return
	}
	r := d.read(q, kv, p.Keys(), true)
	d.byTMA(&r, q.Rows(), p.Keys())
	var list columnArgs
	if p.Striped {
		list = columnArgs{
			bits: p.Columns.Addr, list: d.reserve(scratchLists, int64(r.heads)*int64(p.Keys())*4), count: d.reserve(scratchSmall, int64(r.heads)*4),
			words: int64(p.Columns.Stride), stride: int64(p.Keys()), keys: int64(p.Keys()),
		}
		launch(d, "list_columns", grid{r.heads, 1, 1, 1024, warpScratch}, &list)
	}
	for _, s := range spans {
		if s.Lo == s.Hi {
			continue
		}
		a := d.attendArgs(out, r, p.First, s)
		a.perm, a.permStride, _ = permOf(p)
		a.keep, a.words, a.keepHeadStride = p.Keep.Addr, int32(p.Keep.Stride), int64(p.Keep.Dims[1]*p.Keep.Stride)
		a.columns, a.columnCount, a.columnStride = list.list, list.count, list.stride
		a.block, a.segment = int32(p.Block), int32(p.Segment)
		blocks := (p.First+s.Hi-1)/p.Block - (p.First+s.Lo)/p.Block + 1
		a.tiles = int32(blocks * tiles(p.Block, r.tile.rows))
		d.launchAttend("attend_blocks", r, a)
	}
}
