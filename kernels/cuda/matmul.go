package cuda

import (
	"fmt"

	"github.com/pbs-run/pbs-run/kernels"
)

type matmulArgs struct {
	out, x, w, up, bias, upBias                 uintptr
	outStride, xStride, wStride, upStride, rows int64
	n, k, biasDType, upBiasDType, add, swiglu   int32
}

type biasArgs struct {
	out, bias   uintptr
	outStride   int64
	cols, dtype int32
}

type combineArgs struct {
	out, gate, up, gateBias, upBias     uintptr
	outStride, stride                   int64
	cols, gateBiasDType, upBiasDType, _ int32
}

const (
	// gemvRows is the most rows that are computed one weight row at a time: up to here reading the weights is the limit.
	gemvRows = 8
	// gemmTile is rows and columns of a block of gemm_128; a block of gemm_swiglu has half the columns.
	gemmTile = 128
	// gemmShared is two stages of a tile of x and one of w, 64 columns each.
	gemmShared = 2 * 2 * gemmTile * 64 * 2
	// combineBytes bounds the gate and up products in f32 between cuBLASLt and swiglu_combine: they should stay in the L2 cache.
	combineBytes = 32 << 20
)

// MatMul computes out = x·wᵀ + bias; see kernels.Dense.
func (d *Device) MatMul(out, x kernels.Tensor, w kernels.Linear) { d.product(out, x, w, false) }

// MatMulAdd computes out += x·wᵀ + bias; see kernels.Dense.
func (d *Device) MatMulAdd(out, x kernels.Tensor, w kernels.Linear) { d.product(out, x, w, true) }

func (d *Device) product(out, x kernels.Tensor, w kernels.Linear, add bool) {
	kernels.CheckProduct(kernels.BF16, kernels.F32, out, x, w)
	if x.Rows() == 0 || d.failed() {
		return
	}
	xm := d.aligned(scratchX, x, x.Rows(), x.Cols())
	col := 0
	for i := range w {
		part := &w[i]
		wm := d.aligned(scratchW, part.W, part.W.Rows(), part.W.Cols())
		a := &matmulArgs{
			out: out.Addr + uintptr(4*col), x: xm.at, w: wm.at, outStride: int64(out.Stride), xStride: int64(xm.stride), wStride: int64(wm.stride),
			rows: int64(x.Rows()), n: int32(part.W.Rows()), k: int32(xm.cols),
		}
		if add {
			a.add = 1
		}
		a.bias, a.biasDType = biasOf(part.Bias)
		d.multiply(a)
		col += part.W.Rows()
	}
}

// multiply chooses who computes a product.
func (d *Device) multiply(a *matmulArgs) {
	defer d.pace(a.work())
	if a.rows > gemvRows && !d.NoLibGEMM && d.library(product{
		out: a.out, x: a.x, w: a.w, outStride: int(a.outStride), xStride: int(a.xStride), wStride: int(a.wStride),
		rows: int(a.rows), n: int(a.n), k: int(a.k), add: a.add != 0,
	}) {
		if a.bias != 0 {
			launch(d, "add_bias", grid{int(a.rows), 1, 1, 256, 0}, &biasArgs{a.out, a.bias, a.outStride, a.n, a.biasDType})
		}
		return
	}
	name, g := gemmGrid(int(a.rows), int(a.n), false)
	launch(d, name, g, a)
}

// work is the multiply-adds of one of the products.
func (a *matmulArgs) work() int64 { return a.rows * int64(a.n) * int64(a.k) }

// library has cuBLASLt compute a product, if it is there and can.
func (d *Device) library(p product) bool {
	if d.failed() {
		return true
	}
	done, err := d.drv.gemm(p)
	if err != nil {
		d.fail(fmt.Errorf("cuda: cublasLt product [%d, %d] x [%d, %d]: %w", p.rows, p.k, p.n, p.k, err))
	}
	return done || err != nil
}

// gemmGrid is the kernel and geometry of a product of our own.
func gemmGrid(rows, n int, swiglu bool) (string, grid) {
	switch {
	case rows == 1:
		return "gemv_1", grid{(n + 7) / 8, 1, 1, 256, 0}
	case rows <= gemvRows:
		return "gemv_8", grid{(n + 7) / 8, 1, 1, 256, 0}
	case swiglu:
		return "gemm_swiglu", grid{tiles(rows, gemmTile) * tiles(n, gemmTile/2), 1, 1, 256, gemmShared}
	}
	return "gemm_128", grid{tiles(rows, gemmTile) * tiles(n, gemmTile), 1, 1, 256, gemmShared}
}

// tiles is how many tiles of that size n takes.
func tiles(n, size int) int { return (n + size - 1) / size }

// SwiGLU computes out = silu(x·gateᵀ) ⊙ (x·upᵀ); see kernels.Dense.
func (d *Device) SwiGLU(out, x kernels.Tensor, gate, up kernels.Linear) {
	kernels.CheckSwiGLU(kernels.BF16, out, x, gate, up)
	if x.Rows() == 0 || d.failed() {
		return
	}
	xm := d.aligned(scratchX, x, x.Rows(), x.Cols())
	col := 0
	for i := range gate {
		g, u := &gate[i], &up[i]
		gm := d.aligned(scratchW, g.W, g.W.Rows(), g.W.Cols())
		um := d.aligned(scratchV, u.W, u.W.Rows(), u.W.Cols())
		a := &matmulArgs{
			out: out.Addr + uintptr(2*col), x: xm.at, w: gm.at, up: um.at, outStride: int64(out.Stride), xStride: int64(xm.stride),
			wStride: int64(gm.stride), upStride: int64(um.stride), rows: int64(x.Rows()), n: int32(g.W.Rows()), k: int32(xm.cols), swiglu: 1,
		}
		a.bias, a.biasDType = biasOf(g.Bias)
		a.upBias, a.upBiasDType = biasOf(u.Bias)
		if a.rows <= gemvRows || d.NoLibGEMM || !d.combine(a) {
			name, geometry := gemmGrid(int(a.rows), int(a.n), true)
			launch(d, name, geometry, a)
		}
		d.pace(2 * a.work())
		col += g.W.Rows()
	}
}

// combine computes SwiGLU from two products of cuBLASLt, some columns at a time.
func (d *Device) combine(a *matmulArgs) bool {
	rows, n := int(a.rows), int(a.n)
	step := combineStep(rows, n)
	at := d.reserve(scratchScores, int64(rows)*int64(step)*8)
	for lo := 0; lo < n; lo += step {
		cols := min(step, n-lo)
		p := product{out: at, x: a.x, w: a.w + uintptr(2*lo*int(a.wStride)), outStride: step, xStride: int(a.xStride), wStride: int(a.wStride), rows: rows, n: cols, k: int(a.k)}
		if !d.library(p) {
			return false
		}
		p.out, p.w, p.wStride = at+uintptr(4*rows*step), a.up+uintptr(2*lo*int(a.upStride)), int(a.upStride)
		d.library(p)
		c := &combineArgs{
			out: a.out + uintptr(2*lo), gate: at, up: p.out, outStride: a.outStride, stride: int64(step), cols: int32(cols),
			gateBiasDType: a.biasDType, upBiasDType: a.upBiasDType,
		}
		if a.bias != 0 {
			c.gateBias = a.bias + uintptr(lo*kernels.DType(a.biasDType).Size())
		}
		if a.upBias != 0 {
			c.upBias = a.upBias + uintptr(lo*kernels.DType(a.upBiasDType).Size())
		}
		launch(d, "swiglu_combine", grid{rows, 1, 1, 256, 0}, c)
	}
	return true
}

// combineStep is how many columns of gate and up are computed at a time: a multiple of gemmTile.
func combineStep(rows, n int) int {
	step := max(gemmTile, combineBytes/(8*rows)/gemmTile*gemmTile)
	if step >= n {
		return (n + 7) &^ 7
	}
	// Even pieces.
	pieces := tiles(n, step)
	return tiles(tiles(n, pieces), gemmTile) * gemmTile
}

func biasOf(t kernels.Tensor) (uintptr, int32) {
	if t.IsZero() {
		return 0, 0
	}
	return t.Addr, int32(t.DType)
}
