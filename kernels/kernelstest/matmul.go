package kernelstest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// weightPart is a kernels.Part that the oracle can read.
type weightPart struct {
	w    Matrix
	bias *Matrix
}

// matmulCase is one shape of a product.
type matmulCase struct {
	rows, in int
	outs     []int // rows of each part
	dtype    kernels.DType
	bias     bool
	shift    int // bytes by which the weights are misaligned
	gap      int // elements between rows of x and of out
}

func (c matmulCase) String() string {
	s := fmt.Sprintf("%dx%dx%v-%v", c.rows, c.in, c.outs, c.dtype)
	if c.bias {
		s += "-bias"
	}
	if c.shift+c.gap > 0 {
		s += fmt.Sprintf("-shift%d-gap%d", c.shift, c.gap)
	}
	return s
}

// matmulCases are the edges of every tiling in use: rows around 8, 16 and 32 and their multiples, k and outputs that divide
// by nothing, and k beyond one packed chunk.
func matmulCases() []matmulCase {
	var cases []matmulCase
	dtypes := []kernels.DType{kernels.BF16, kernels.F32, kernels.F16}
	for i, rows := range []int{1, 2, 3, 5, 7, 8, 9, 31, 127, 128, 129, 255, 256, 257} {
		for j, in := range []int{1, 33, 80, 449} {
			cases = append(cases, matmulCase{rows: rows, in: in, outs: []int{61 + 16*j}, dtype: dtypes[(i+j)%3],
				bias: (i+j)%2 == 0, shift: i % 3, gap: (i + j) % 4})
		}
	}
	for _, dt := range dtypes {
		cases = append(cases,
			matmulCase{rows: 1, in: 144, outs: []int{448, 64, 65}, dtype: dt, bias: true, shift: 1},
			matmulCase{rows: 17, in: 144, outs: []int{448, 64, 65}, dtype: dt, bias: true, shift: 2, gap: 3},
			matmulCase{rows: 70, in: 2900, outs: []int{257}, dtype: dt, shift: 2},
			matmulCase{rows: 70, in: 2048, outs: []int{128, 32}, dtype: dt, bias: true},
			matmulCase{rows: 4, in: 2048, outs: []int{300}, dtype: dt})
	}
	return cases
}

// weights makes the parts of a Linear and what the oracle reads.
func (c matmulCase) weights(dev kernels.Device, rng *rand.Rand) (kernels.Linear, []weightPart) {
	var l kernels.Linear
	var parts []weightPart
	for _, out := range c.outs {
		p := weightPart{w: Weight(dev, rng, c.dtype, out, c.in, c.shift, 1)}
		part := kernels.Part{W: p.w.Tensor}
		if c.bias {
			b := Weight(dev, rng, c.dtype, 1, out, c.shift, 3)
			p.bias, part.Bias = &b, b.Tensor
		}
		l, parts = append(l, part), append(parts, p)
	}
	return l, parts
}

// roundoff is the relative error that a product of f32 sums may have in units of Σ|x·w|. Where products run in bf16, wider
// weights are rounded to it, each by up to 2⁻⁹, and those errors add up as their squares do: the worst of some 10⁵
// outputs stays below 6 standard deviations of it, and Σ|x·w|/√k is close to the root of the sum of squares.
//
// A Cutter loses half a unit in the last place of the sum so far, 2⁻²⁴ of it on average and always towards zero, after every eight
// products: k/8 times. The worst sums grow to some 4√k, 6/√k of Σ|x·w|, and are half of that on the way: √k · 2⁻²⁵ of it in all, or less.
func (c matmulCase) roundoff(dev kernels.Device) float64 {
	if dev.Compute() == kernels.BF16 && c.dtype != kernels.BF16 {
		return math.Min(0x1p-8, 6*0x1p-9/math.Sqrt(float64(c.in)))
	}
	if d, ok := dev.(Cutter); ok && d.CutsSums() {
		return 0x1p-21 + 0x1p-25*math.Sqrt(float64(c.in))
	}
	return 0x1p-21
}

// Cutter is a device that may cut the bits of a sum that do not fit instead of rounding it, as NVIDIA's tensor cores do (Fasi, Higham,
// Mikaitis, Pranesh 2021, doi:10.7717/peerj-cs.330).
type Cutter interface{ CutsSums() bool }

func testMatMul(t *testing.T, dev kernels.Device) {
	for i, c := range matmulCases() {
		t.Run(c.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			l, parts := c.weights(dev, rng)
			x := Random(dev, rng, dev.Compute(), c.rows, c.in, c.in+c.gap, 1)
			want, norm := product(&x, parts)
			eps := c.roundoff(dev)
			tol := func(i, j int) float64 { return norm[i][j] * eps }
			out := Random(dev, rng, kernels.F32, c.rows, l.Out(), l.Out()+c.gap, 5)
			dev.MatMul(out.Tensor, x.Tensor, l)
			Compare(t, Values(t, dev, out.Tensor), want, tol, 0x1p-22)

			dev.Upload(out.Tensor, out.host)
			dev.MatMulAdd(out.Tensor, x.Tensor, l)
			for i := range want {
				for j := range want[i] {
					want[i][j] += out.Value(i, j)
					norm[i][j] += math.Abs(out.Value(i, j))
				}
			}
			Compare(t, Values(t, dev, out.Tensor), want, tol, 0x1p-22)
		})
	}
}

func testSwiGLU(t *testing.T, dev kernels.Device) {
	for i, c := range matmulCases() {
		t.Run(c.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(2, uint64(i)))
			gate, gateParts := c.weights(dev, rng)
			up, upParts := c.weights(dev, rng)
			// Gate values of a few units show the curve of silu.
			x := Random(dev, rng, dev.Compute(), c.rows, c.in, c.in+c.gap, 3/math.Sqrt(float64(c.in)))
			g, gn := product(&x, gateParts)
			u, un := product(&x, upParts)
			want := make([][]float64, c.rows)
			for i := range want {
				for j := range g[i] {
					want[i] = append(want[i], silu(g[i][j])*u[i][j])
				}
			}
			// |silu'| <= 1.1, and exp, division and product are good for a few units in the last place.
			eps := c.roundoff(dev)
			tol := func(i, j int) float64 {
				return eps * (1.1*gn[i][j]*math.Abs(u[i][j]) + math.Abs(silu(g[i][j]))*un[i][j])
			}
			rounding := 0x1p-20
			if dev.Compute() == kernels.BF16 {
				rounding = 0x1p-8 // out itself
			}
			out := Random(dev, rng, dev.Compute(), c.rows, gate.Out(), gate.Out()+c.gap, 5)
			dev.SwiGLU(out.Tensor, x.Tensor, gate, up)
			Compare(t, Values(t, dev, out.Tensor), want, tol, rounding)
		})
	}
}

func testEmbed(t *testing.T, dev kernels.Device) {
	for i, dt := range []kernels.DType{kernels.F32, kernels.BF16, kernels.F16} {
		for _, n := range []int{1, 2, 31, 32, 33, 129} {
			t.Run(fmt.Sprintf("%v-%d", dt, n), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(3, uint64(i)))
				table := Weight(dev, rng, dt, 57, 83, i, 0.01)
				out := Random(dev, rng, kernels.F32, n, 83, 85, 1)
				ids := make([]int32, n)
				want := make([][]float64, n)
				for i := range ids {
					ids[i] = int32(rng.IntN(57))
					for j := range 83 {
						want[i] = append(want[i], table.Value(int(ids[i]), j))
					}
				}
				dev.Embed(out.Tensor, table.Tensor, ids)
				Compare(t, Values(t, dev, out.Tensor), want, nil, 0)
			})
		}
	}
}
