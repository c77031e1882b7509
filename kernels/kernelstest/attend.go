package kernelstest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// cube is a tensor [heads, rows, cols] (heads = 1 for a matrix) in host memory with its copy on a device.
type cube struct {
	kernels.Tensor           // on the device
	x              []float64 // [heads][rows][cols], as rounded to the dtype
}

func (c *cube) row(h, i int) []float64 {
	n := c.Dims[2]
	return c.x[(h*c.Dims[1]+i)*n : (h*c.Dims[1]+i+1)*n]
}

// fill makes a tensor whose element (h, i, j) is f(h, i, j) rounded to dt, rows stride elements apart with NaN in between.
func fill(dev kernels.Device, dt kernels.DType, heads, rows, cols, stride int, f func(h, i, j int) float64) cube {
	c := cube{Tensor: dev.Alloc(dt, heads, rows, stride), x: make([]float64, heads*rows*cols)}
	host := make([]byte, heads*rows*stride*dt.Size())
	for n := range heads * rows {
		for j := range stride {
			v := math.NaN()
			if j < cols {
				v = f(n/rows, n%rows, j)
			}
			b := host[(n*stride+j)*dt.Size():]
			put(b, dt, v)
			if j < cols {
				c.x[n*cols+j] = value(b, dt)
			}
		}
	}
	dev.Upload(c.Tensor, host)
	c.Dims[2] = cols
	return c
}

// set changes element (h, i, j) of a tensor without gaps.
func (c *cube) set(dev kernels.Device, h, i, j int, v float64) {
	c.row(h, i)[j] = v
	host := make([]byte, c.Bytes())
	for n, x := range c.x {
		put(host[n*c.DType.Size():], c.DType, x)
	}
	dev.Upload(c.Tensor, host)
}

// attention is softmax(q·kᵀ/√d)·v for row i of q at position first+i, over those keys up to its own that sees lets query head
// h see, or all of them: [rows][heads*headDim].
func attention(q, k, v *cube, first int, sees func(h, i, key int) bool) [][]float64 {
	dim := k.Cols()
	heads := q.Cols() / dim
	out := make([][]float64, q.Rows())
	for i := range out {
		out[i] = make([]float64, q.Cols())
		for h := range heads {
			kv := h / (heads / k.Dims[0])
			var keys []int
			for j := range first + i + 1 {
				if sees == nil || sees(h, i, j) {
					keys = append(keys, j)
				}
			}
			p := softmax(len(keys), func(n int) float64 {
				return dot(q.row(0, i)[h*dim:(h+1)*dim], k.row(kv, keys[n])) / math.Sqrt(float64(dim))
			})
			for n, j := range keys {
				for d, x := range v.row(kv, j) {
					out[i][h*dim+d] += p[n] * x
				}
			}
		}
	}
	return out
}

func dot(x, y []float64) float64 {
	var sum float64
	for i, v := range x {
		sum += v * y[i]
	}
	return sum
}

// softmax is exp(score(i)) over the sum of those of all n.
func softmax(n int, score func(i int) float64) []float64 {
	p := make([]float64, n)
	top, sum := math.Inf(-1), 0.0
	for i := range p {
		p[i] = score(i)
		top = max(top, p[i])
	}
	for i := range p {
		p[i] = math.Exp(p[i] - top)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

// attendCase is one shape of Attend. spread is the standard deviation of scores before the softmax; integer makes q and k
// whole numbers, whose products are exact in every dtype, so that large scores are no excuse for a large error.
type attendCase struct {
	rows, first, heads, kvHeads, dim int
	kv                               kernels.DType
	gap                              int // elements between rows of q, of out, of k and of v
	alias                            bool
	spread                           float64
	integer                          bool
}

func (c attendCase) String() string {
	s := fmt.Sprintf("%d@%d-%d/%dx%d-%v", c.rows, c.first, c.heads, c.kvHeads, c.dim, c.kv)
	if c.gap > 0 {
		s += fmt.Sprintf("-gap%d", c.gap)
	}
	if c.alias {
		s += "-alias"
	}
	if c.spread != 1 {
		s += fmt.Sprintf("-spread%g", c.spread)
	}
	return s
}

func attendCases() []attendCase {
	var cases []attendCase
	dims := []int{32, 64, 80, 96, 128, 256}
	groups := []int{1, 4, 7}
	dtypes := []kernels.DType{kernels.BF16, kernels.F32}
	for i, rows := range []int{1, 2, 3, 5, 16, 17, 31, 33, 127, 128, 129, 255, 256, 257} {
		for j, first := range []int{0, []int{1, 127, 128, 200}[i%4]} {
			kvHeads := 1 + (i+j)%2
			cases = append(cases, attendCase{rows: rows, first: first, heads: kvHeads * groups[(i+j)%3], kvHeads: kvHeads,
				dim: dims[(i+2*j)%6], kv: dtypes[(i/2+j)%2], gap: 2 * ((i + j) % 3), alias: i%2 == 0, spread: 1})
		}
	}
	for i, dim := range dims {
		cases = append(cases,
			attendCase{rows: 1, first: 2500, heads: 2 * groups[i%3], kvHeads: 2, dim: dim, kv: dtypes[i%2], spread: 1},
			attendCase{rows: 9, first: 1100, heads: groups[i%3], kvHeads: 1, dim: dim, kv: dtypes[i%2], spread: 3},
			attendCase{rows: 150, first: 100, heads: 4, kvHeads: 2, dim: dim, kv: dtypes[(i+1)%2], spread: 4})
	}
	return append(cases,
		attendCase{rows: 1000, heads: 2, kvHeads: 1, dim: 64, kv: kernels.BF16, spread: 1},
		attendCase{rows: 70, heads: 2, kvHeads: 1, dim: 2, kv: kernels.F32, spread: 1},
		attendCase{rows: 70, heads: 2, kvHeads: 1, dim: 34, kv: kernels.BF16, spread: 1},
		attendCase{rows: 300, first: 300, heads: 2, kvHeads: 2, dim: 64, kv: kernels.BF16, spread: 4000, integer: true},
		attendCase{rows: 4, first: 1300, heads: 4, kvHeads: 1, dim: 128, kv: kernels.BF16, spread: 4000, integer: true},
		attendCase{rows: 300, first: 300, heads: 2, kvHeads: 2, dim: 64, kv: kernels.F32, spread: 0})
}

// inputs makes q and a cache whose rows past the last visible key are NaN. Where products run in bf16 and scores are wide, a
// cache of F32 holds what bf16 can hold: rounding it would move the scores further than the tolerance.
func (c attendCase) inputs(dev kernels.Device, rng *rand.Rand) (q, k, v cube) {
	// q·k/√d of independent normal q and k has the standard deviation std(q)·std(k).
	std := math.Sqrt(c.spread)
	normal := func(h, i, j int) float64 {
		x := rng.NormFloat64() * std
		if c.integer {
			x = math.Round(x)
		}
		if c.spread > 1 && dev.Compute() == kernels.BF16 {
			x = float64(math.Float32frombits(uint32(bf16(float32(x))) << 16))
		}
		return x
	}
	keys := c.first + c.rows
	cached := func(f func(h, i, j int) float64) func(h, i, j int) float64 {
		return func(h, i, j int) float64 {
			if i >= keys {
				return math.NaN()
			}
			return f(h, i, j)
		}
	}
	q = fill(dev, dev.Compute(), 1, c.rows, c.heads*c.dim, c.heads*c.dim+c.gap, normal)
	k = fill(dev, c.kv, c.kvHeads, keys+3, c.dim, c.dim+c.gap, cached(normal))
	v = fill(dev, c.kv, c.kvHeads, keys+3, c.dim, c.dim+c.gap, cached(func(h, i, j int) float64 { return rng.NormFloat64() }))
	return q, k, v
}

func testAttend(t *testing.T, dev kernels.Device) {
	for i, c := range attendCases() {
		t.Run(c.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, uint64(i)))
			q, k, v := c.inputs(dev, rng)
			want := attention(&q, &k, &v, c.first, nil)
			out := q.Tensor
			if !c.alias {
				empty := fill(dev, dev.Compute(), 1, c.rows, c.heads*c.dim, c.heads*c.dim+c.gap, func(h, i, j int) float64 { return 7 })
				out = empty.Tensor
			}
			dev.Attend(out, q.Tensor, kernels.KV{K: k.Tensor, V: v.Tensor}, c.first)
			compareAttention(t, dev, Values(t, dev, out), want)
		})
	}
	t.Run("NaN", func(t *testing.T) { testAttendNaN(t, dev) })
	t.Run("LastRow", func(t *testing.T) { testAttendLastRow(t, dev) })
}

// compareAttention allows f32 arithmetic 2e-5; bf16 products 2.5e-2, with the rounding of an output, and, over all elements,
// 5e-3 of the norm: about twice what a kernel with f32 scores and sums and bf16 probabilities and outputs was seen to need.
func compareAttention(t *testing.T, dev kernels.Device, got, want [][]float64) {
	t.Helper()
	tol := 2e-5
	if dev.Compute() == kernels.BF16 {
		tol = 2.5e-2
	}
	Compare(t, got, want, func(i, j int) float64 { return tol }, roundoff(dev.Compute(), 0))
	var diff, norm float64
	for i := range want {
		for j, w := range want[i] {
			diff += (got[i][j] - w) * (got[i][j] - w)
			norm += w * w
		}
	}
	if dev.Compute() == kernels.BF16 && diff > 5e-3*5e-3*norm {
		t.Errorf("relative L2 error %.3g, want at most 5e-3", math.Sqrt(diff/norm))
	}
}

// testAttendNaN plants NaN and infinity in a key, in a value and in a query: rows that see them are NaN in the heads and
// dimensions concerned, and all others are what they would be without.
func testAttendNaN(t *testing.T, dev kernels.Device) {
	const bad = 75 // position
	for _, where := range []string{"q", "k", "v", "v-inf"} {
		for _, rows := range []int{4, 140} {
			c := attendCase{rows: rows, first: bad - 2, heads: 4, kvHeads: 2, dim: 64, kv: kernels.BF16, spread: 1}
			rng := rand.New(rand.NewPCG(4, uint64(rows)))
			q, k, v := c.inputs(dev, rng)
			want := attention(&q, &k, &v, c.first, nil)
			switch where {
			case "q":
				q.set(dev, 0, 2, 64+5, math.NaN())
			case "k":
				k.set(dev, 1, bad, 5, math.NaN())
			case "v":
				v.set(dev, 1, bad, 5, math.NaN())
			case "v-inf":
				v.set(dev, 1, bad, 5, math.Inf(1))
			}
			out := fill(dev, dev.Compute(), 1, rows, 256, 256, func(h, i, j int) float64 { return 7 })
			dev.Attend(out.Tensor, q.Tensor, kernels.KV{K: k.Tensor, V: v.Tensor}, c.first)
			got := Values(t, dev, out.Tensor)
			for i := range got {
				for j, g := range got[i] {
					hit := map[string]bool{"q": i == 2 && j/64 == 1, "k": i >= 2 && j >= 128, "v": i >= 2 && j >= 128 && j%64 == 5,
						"v-inf": i >= 2 && j >= 128 && j%64 == 5}[where]
					if finite := !math.IsNaN(g) && !math.IsInf(g, 0); finite == hit {
						t.Fatalf("%s at position %d, %d rows: (%d, %d) is %g", where, bad, rows, i, j, g)
					}
					if hit {
						got[i][j], want[i][j] = 0, 0
					}
				}
			}
			compareAttention(t, dev, got, want)
		}
	}
}

// testAttendLastRow: the last of n+1 rows is what one row at position n gives.
func testAttendLastRow(t *testing.T, dev kernels.Device) {
	for _, rows := range []int{40, 257, 1200} {
		c := attendCase{rows: rows, heads: 8, kvHeads: 2, dim: 64, kv: kernels.BF16, spread: 2}
		q, k, v := c.inputs(dev, rand.New(rand.NewPCG(5, uint64(rows))))
		kv := kernels.KV{K: k.Tensor, V: v.Tensor}
		all := fill(dev, dev.Compute(), 1, rows, 512, 512, func(h, i, j int) float64 { return 7 })
		dev.Attend(all.Tensor, q.Tensor, kv, 0)
		last := q.Tensor.Slice(rows-1, rows)
		dev.Attend(last, last, kv, rows-1)
		compareAttention(t, dev, Values(t, dev, last), Values(t, dev, all.Tensor.Slice(rows-1, rows)))
	}
}
