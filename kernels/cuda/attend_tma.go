package cuda

import (
	"fmt"
)

// tmaArgs is TmaArgs in attend_tma.cuh.
type tmaArgs struct {
	q, k, v tensorMap
	attendArgs
}

type oddArgs struct {
	x, odd                   uintptr
	stride, headStride, rows int64
	heads, cols              int32
}

// controlBytes is at least the size of Control in attend_tma.cuh.
const controlBytes = 256

// tmaStages is STAGES in attend_tma.cuh.
const tmaStages = 3

// tmaShared is queries, the stages of keys and values, and what the warps tell each other: 224.25 of a block's 227 KiB at head dim 128. A
// multiprocessor takes one block, as its registers would have it anyway.
func tmaShared(dim int) int { return (1+2*tmaStages)*tmaTile*dim*2 + controlBytes }

// tmaGrid is an attention kernel's geometry for three warpgroups: one that copies, two that compute.
func tmaGrid(g grid, dim int) grid {
	g.threads, g.shared = 384, tmaShared(dim)
	return g
}

// byTMA readies the attention kernels of sm_90a for r, if they are wanted and serve: tensor maps, and whether values are finite.
func (d *Device) byTMA(r *queries, rows, keys int) {
	if !d.TMA || d.props.Major != 9 || d.props.Minor != 0 || r.tile.dim > 128 || d.failed() {
		return
	}
	kvHeads, width := r.heads/r.group, int(r.width())
	q := r.q
	q.headStride = width
	maps := new(tmaArgs)
	for _, m := range []struct {
		to    *tensorMap
		shape mapShape
	}{{&maps.q, mapOf(q, r.heads, rows, width)}, {&maps.k, mapOf(r.k, kvHeads, keys, width)}, {&maps.v, mapOf(r.v, kvHeads, keys, width)}} {
		var err error
		if *m.to, err = d.drv.tensorMap(m.shape); err != nil {
			d.fail(fmt.Errorf("cuda: tensor map of %v with strides of %v bytes: %w", m.shape.dims, m.shape.strides, err))
			return
		}
	}
	at := d.reserve(scratchOdd, 4)
	if d.failed() {
		return
	}
	if err := d.drv.clear(at, 4); err != nil {
		d.fail(fmt.Errorf("cuda: clear 4 bytes: %w", err))
		return
	}
	launch(d, "find_odd", grid{min(8*d.props.SMs, tiles(kvHeads*keys*width/8, 256)), 1, 1, 256, 0}, &oddArgs{
		x: r.v.at, odd: at, stride: int64(r.v.stride), headStride: int64(r.v.headStride), rows: int64(keys), heads: int32(kvHeads), cols: int32(width),
	})
	maps.odd = at
	r.tma = maps
}

// launchAttend queues the kernel for the device. That of attend_tma.cuh leaves values that are not finite to the one behind it.
func (d *Device) launchAttend(kernel string, r queries, a *attendArgs) {
	g := attendGrid(r, int(a.tiles))
	if r.tma != nil {
		a.odd = r.tma.odd
		x := *r.tma
		x.attendArgs = *a
		launch(d, r.tile.name(kernel+"_tma"), tmaGrid(g, r.tile.dim), &x)
	}
	launch(d, r.tile.name(kernel), g, a)
}
