package kernelstest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// rotated is x rotated by the angles of a row of the table: element i pairs with i+len(x)/2.
func rotated(x, table []float64) []float64 {
	half := len(x) / 2
	out := make([]float64, len(x))
	for i := range half {
		cos, sin := table[i], table[half+i]
		out[i] = x[i]*cos - x[half+i]*sin
		out[half+i] = x[half+i]*cos + x[i]*sin
	}
	return out
}

// ropeCase is one shape of RopeAppend; capacity is that of the cache beyond the rows appended.
type ropeCase struct {
	rows, first, heads, kvHeads, dim, gap int
	kv                                    kernels.DType
}

func testRopeAppend(t *testing.T, dev kernels.Device) {
	dtypes := []kernels.DType{kernels.BF16, kernels.F32}
	dims := []int{2, 32, 64, 80, 128, 256}
	for i, rows := range []int{1, 2, 17, 127, 128, 129, 300} {
		for j, first := range []int{0, 1, 255} {
			c := ropeCase{rows, first, []int{4, 7, 0}[j], 1 + (i+j)%2, dims[(i+j)%6], (i + j) % 3, dtypes[(i+j)%2]}
			t.Run(fmt.Sprintf("%d@%d-%d/%dx%d-%v-gap%d", rows, first, c.heads, c.kvHeads, c.dim, c.kv, c.gap), func(t *testing.T) {
				c.test(t, dev)
			})
		}
	}
}

func (c ropeCase) test(t *testing.T, dev kernels.Device) {
	rng := rand.New(rand.NewPCG(7, uint64(c.rows)))
	cols, end := (c.heads+2*c.kvHeads)*c.dim, c.first+c.rows
	qkv := fill(dev, kernels.F32, 1, c.rows, cols, cols+c.gap, func(h, i, j int) float64 {
		if i == c.rows/2 && j%c.dim == 0 {
			return math.NaN() // in every head: it may reach only element 0 and its pair
		}
		return rng.NormFloat64()
	})
	for h := range c.heads + 2*c.kvHeads {
		setBits(dev, qkv.Tensor, c.rows/2, h*c.dim, oddNaNs[h%len(oddNaNs)])
	}
	table := fill(dev, kernels.F32, 1, end+2, c.dim, c.dim, func(h, i, j int) float64 {
		angle := float64(i) / float64(1+j%(c.dim/2))
		if j < c.dim/2 {
			return math.Cos(angle)
		}
		return math.Sin(angle)
	})
	k := fill(dev, c.kv, c.kvHeads, end+2, c.dim, c.dim+c.gap, func(h, i, j int) float64 { return 7 })
	v := fill(dev, c.kv, c.kvHeads, end+2, c.dim, c.dim+c.gap, func(h, i, j int) float64 { return 7 })
	var q cube
	if c.heads > 0 {
		q = fill(dev, dev.Compute(), 1, c.rows, c.heads*c.dim, c.heads*c.dim+c.gap, func(h, i, j int) float64 { return 7 })
	}
	dev.RopeAppend(q.Tensor, qkv.Tensor, table.Tensor, kernels.KV{K: k.Tensor, V: v.Tensor}, c.first)

	head := func(i, n int) []float64 { return qkv.row(0, i)[n*c.dim : (n+1)*c.dim] }
	if c.heads > 0 {
		want := make([][]float64, c.rows)
		for i := range want {
			for n := range c.heads {
				want[i] = append(want[i], rotated(head(i, n), table.row(0, c.first+i))...)
			}
		}
		compareNaN(t, Values(t, dev, q.Tensor), want, roundoff(dev.Compute(), 0))
	}
	// The cache: what was there before stays, outside the rows appended.
	wantK, wantV := make([][]float64, c.kvHeads*(end+2)), make([][]float64, c.kvHeads*(end+2))
	for n := range wantK {
		h, i := n/(end+2), n%(end+2)-c.first
		if i < 0 || i >= c.rows {
			wantK[n], wantV[n] = k.row(h, i+c.first), v.row(h, i+c.first)
			continue
		}
		wantK[n] = rotated(head(i, c.heads+h), table.row(0, c.first+i))
		wantV[n] = head(i, c.heads+c.kvHeads+h)
	}
	compareNaN(t, Values(t, dev, flat(k.Tensor)), wantK, roundoff(c.kv, 0))
	compareNaN(t, Values(t, dev, flat(v.Tensor)), wantV, roundoff(c.kv, 0))
}

// flat is a [heads, rows, cols] tensor as a matrix of heads·rows rows.
func flat(x kernels.Tensor) kernels.Tensor {
	x.Dims = [3]int{1, x.Dims[0] * x.Dims[1], x.Dims[2]}
	return x
}

// compareNaN is Compare where NaN is wanted in some places, and nowhere else.
func compareNaN(t *testing.T, got, want [][]float64, eps float64) {
	t.Helper()
	for i := range want {
		for j, w := range want[i] {
			if math.IsNaN(w) != math.IsNaN(got[i][j]) {
				t.Fatalf("(%d, %d) is %g, want %g", i, j, got[i][j], w)
			}
			if math.IsNaN(w) {
				got[i][j], want[i][j] = 0, 0
			}
		}
	}
	Compare(t, got, want, func(i, j int) float64 { return 1e-6 }, eps)
}
