package cuda

import "github.com/pbs-run/pbs-run/kernels"

type drawArgs struct {
	out, levels, state uintptr
	words              int64
	mask, wide         int32
}

// Draw makes a tensor of random values on the GPU; see kernels.Drawer.
func (d *Device) Draw(dt kernels.DType, dims []int, r kernels.Recipe) kernels.Tensor {
	if r.Levels == nil {
		return d.Alloc(dt, dims...)
	}
	t := kernels.Outline(dt, dims...)
	words := (int64(t.Bytes()) + 7) / 8
	b, ok := d.take(8 * words)
	if !ok {
		return kernels.Tensor{}
	}
	levels := kernels.Outline(dt, len(r.Levels)/dt.Size())
	levels.Addr = d.reserve(scratchSmall, int64(len(r.Levels)))
	d.Upload(levels, r.Levels)
	launch(d, "draw", grid{int(min(int64(8*d.props.SMs), (words+255)/256)), 1, 1, 256, 0}, &drawArgs{
		out: b.at, levels: levels.Addr, state: uintptr(r.State), words: words, mask: int32(levels.Cols() - 1), wide: flag(dt == kernels.F32),
	})
	if d.onPlace != nil {
		d.onPlace(int64(t.Bytes()))
	}
	if t.Addr = b.at; d.failed() {
		return kernels.Tensor{}
	}
	return t
}

var _ kernels.Drawer = (*Device)(nil)
