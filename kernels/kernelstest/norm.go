package kernelstest

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// rmsNorm is x / √(mean(x²) + eps) · weight by rows.
func rmsNorm(x, weight *cube, eps float64) [][]float64 {
	out := make([][]float64, x.Rows())
	for i := range out {
		var sum float64
		for _, v := range x.row(0, i) {
			sum += v * v
		}
		scale := 1 / math.Sqrt(sum/float64(x.Cols())+eps)
		for j, v := range x.row(0, i) {
			out[i] = append(out[i], v*scale*weight.row(0, 0)[j])
		}
	}
	return out
}

func testRMSNorm(t *testing.T, dev kernels.Device) {
	dtypes := []kernels.DType{kernels.F32, kernels.BF16, kernels.F16}
	n := 0
	for _, rows := range []int{1, 2, 129, 700} {
		for _, cols := range []int{1, 31, 32, 33, 96, 127, 128, 448, 2048} {
			for _, to := range []kernels.DType{kernels.F32, dev.Compute()} {
				dt, std := dtypes[n%3], []float64{1, 1e-3, 3e4}[n/3%3]
				n++
				t.Run(fmt.Sprintf("%dx%d-%v-%v-std%g", rows, cols, dt, to, std), func(t *testing.T) {
					rng := rand.New(rand.NewPCG(6, uint64(n)))
					gap := n % 3
					x := fill(dev, kernels.F32, 1, rows, cols, cols+gap, func(h, i, j int) float64 { return rng.NormFloat64() * std })
					// Weights as small as the subnormals of F16, too.
					w := fill(dev, dt, 1, 1, cols, cols, func(h, i, j int) float64 { return rng.NormFloat64() * math.Ldexp(1, -j%24) })
					out := fill(dev, to, 1, rows, cols, cols+gap, func(h, i, j int) float64 { return 7 })
					dev.RMSNorm(out.Tensor, x.Tensor, w.Tensor, 1e-5)
					Compare(t, Values(t, dev, out.Tensor), rmsNorm(&x, &w, 1e-5), nil, roundoff(to, 1e-6))
				})
			}
		}
	}
	t.Run("NaN", func(t *testing.T) { testRMSNormNaN(t, dev) })
}

// roundoff is the relative error of arithmetic in f32 whose result is rounded to dt.
func roundoff(dt kernels.DType, f32 float64) float64 {
	if dt == kernels.BF16 {
		return f32 + 0x1p-8
	}
	return f32
}

// testRMSNormNaN: a NaN, whatever its bits, makes its row NaN and no other; zero rows stay zero.
func testRMSNormNaN(t *testing.T, dev kernels.Device) {
	x := fill(dev, kernels.F32, 1, 8, 96, 96, func(h, i, j int) float64 { return float64(i % 2) })
	for i, bits := range oddNaNs {
		setBits(dev, x.Tensor, 2*i+1, 95, bits)
	}
	w := fill(dev, kernels.F32, 1, 1, 96, 96, func(h, i, j int) float64 { return 2 })
	out := fill(dev, dev.Compute(), 1, 8, 96, 96, func(h, i, j int) float64 { return 7 })
	dev.RMSNorm(out.Tensor, x.Tensor, w.Tensor, 1e-6)
	for i, row := range Values(t, dev, out.Tensor) {
		for j, v := range row {
			if nan := i/2 < len(oddNaNs) && i%2 == 1; nan != math.IsNaN(v) || i%2 == 0 && v != 0 {
				t.Fatalf("(%d, %d) is %g", i, j, v)
			}
		}
	}
}

// oddNaNs are those that careless rounding to bf16 turns into zero, minus zero and infinity.
var oddNaNs = [...]uint32{0x7fffffff, 0xffffffff, 0x7f800001}

// setBits sets element (i, j) of an F32 matrix on the device.
func setBits(dev kernels.Device, x kernels.Tensor, i, j int, bits uint32) {
	x = x.Slice(i, i+1)
	if x.Data != nil {
		x.Data = x.Data[4*j:]
	}
	if x.Addr != 0 {
		x.Addr += uintptr(4 * j)
	}
	dev.Upload(x, binary.LittleEndian.AppendUint32(nil, bits))
}
