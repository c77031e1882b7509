package cuda

import "github.com/pbs-run/pbs-run/kernels"

type packArgs struct {
	out, x                                uintptr
	xStride, xHeadStride, rows, outStride int64
	cols, width, dtype                    int32
}

// matrix is [heads, rows, cols] of bf16 as the tensor cores' kernels read it: rows begin at 16-byte addresses and cols is a multiple
// of 8.
type matrix struct {
	at                 uintptr
	stride, headStride int // elements
	cols               int
}

// aligned returns the first rows of t's heads as such a matrix: t itself where it is one, else a packed copy in scratch memory. unit is how
// many columns begin at an aligned address too, as a head of the queries does.
func (d *Device) aligned(kind int, t kernels.Tensor, rows, unit int) matrix {
	cols := t.Cols()
	if isAligned(t, unit) {
		return matrix{t.Addr, t.Stride, t.Dims[1] * t.Stride, cols}
	}
	d.step.unfit = d.step.unfit || d.step.active
	// Units, not rows, are packed, so that each is filled up for itself.
	units, width := cols/unit, (unit+7)&^7
	at := d.reserve(kind, int64(t.Dims[0])*int64(rows)*int64(units*width)*2)
	for u := range units {
		launch(d, "pack", grid{t.Dims[0] * rows, 1, 1, 256, 0}, &packArgs{
			out: at + uintptr(u*width*2), x: t.Addr + uintptr(u*unit*t.DType.Size()), xStride: int64(t.Stride), xHeadStride: int64(t.Dims[1] * t.Stride),
			rows: int64(rows), cols: int32(unit), width: int32(width), dtype: int32(t.DType), outStride: int64(units * width),
		})
	}
	return matrix{at, units * width, rows * units * width, units * width}
}

func isAligned(t kernels.Tensor, unit int) bool {
	return t.DType == kernels.BF16 && t.Addr%16 == 0 && t.Stride%8 == 0 && unit%8 == 0
}
