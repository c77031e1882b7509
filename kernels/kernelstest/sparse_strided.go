package kernelstest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// stridedCase is one shape of SelectStrided.
type stridedCase struct {
	sparseCase
	rules []kernels.Selection
}

func (c stridedCase) String() string { return fmt.Sprintf("%v-stride%d", c.sparseCase, c.stride) }

// stridedCases have as many strided keys as tiles have rows and columns, or one more or less, the last one whole or with
// positions missing. All else is drawn: whole prompts and suffixes, heads, orders.
func stridedCases() []stridedCase {
	var cases []stridedCase
	rng := rand.New(rand.NewPCG(21, 0))
	n := 0
	for _, block := range []int{16, 17, 48, 64, 128} {
		for _, strided := range []int{1, 2, 63, 127, 128, 129, 255, 256, 257} {
			strides := divisors(block, 32)
			stride := strides[rng.IntN(len(strides))]
			keys := strided*stride - n%2*rng.IntN(stride)
			c := drawCase(rng, block, block*[]int{1, 2, 4}[rng.IntN(3)], keys, n%3)
			for c.cost()/stride > 6e6 {
				c = drawCase(rng, block, c.segment, keys, rng.IntN(3))
			}
			c.spread, c.stride = 2, stride
			cases = append(cases, stridedCase{c, stridedRules(n)})
			n++
		}
	}
	return append(cases, // and more strided keys than any kernel takes in one piece, several words of Keep
		stridedCase{sparseCase{block: 16, segment: 64, stride: 1, permuted: true,
			attendCase: attendCase{rows: 20, first: 4115, heads: 2, kvHeads: 1, dim: 32, kv: kernels.BF16, spread: 2}}, stridedRules(1)},
		// more in one block, whose maximum then comes late
		stridedCase{sparseCase{block: 128, segment: 256, stride: 1, permuted: true,
			attendCase: attendCase{rows: 150, first: 650, heads: 2, kvHeads: 1, dim: 64, kv: kernels.BF16, spread: 4}}, stridedRules(2)},
		stridedCase{sparseCase{block: 16, segment: 16, stride: 8,
			attendCase: attendCase{rows: 1100, heads: 7, kvHeads: 1, dim: 64, kv: kernels.F32, spread: 2}}, stridedRules(0)})
}

// divisors are those of n up to most.
func divisors(n, most int) []int {
	var d []int
	for x := 1; x <= min(n, most); x++ {
		if n%x == 0 {
			d = append(d, x)
		}
	}
	return d
}

// stridedRules are the rules of XAttention, with and without its surplus, of PBS with such scores, and of a forced density, the n-th
// of each.
func stridedRules(n int) []kernels.Selection {
	tau := []float64{0.5, 0.8, 0.9, 0.97}[n%4]
	return []kernels.Selection{
		{Tau: tau, Own: true, KeepFirst: true, Counted: true},
		{Tau: tau, Own: true, KeepFirst: true, Counted: true, Surplus: 1 + n%7},
		{Tau: tau, Own: true, KeepFirst: n%2 == 0},
		{Tau: tau, KeepFirst: n%2 == 1},
		{Tau: tau, KeepFirst: true, Counted: true},
		{Tau: []float64{0, 1}[n%2], KeepFirst: true},
		{Tau: []float64{1, 0}[n%2], Own: true, KeepFirst: true, Counted: true},
		{Density: []float64{0.117, 0.371, 0.729, 1}[n%4], Own: n%8 < 4, KeepFirst: true},
		{Tau: tau, KeepFirst: true, Last: 1 + n%3},
		{Density: 0.117, Own: true, Last: 2},
	}
}

func testSelectStrided(t *testing.T, dev kernels.Device) {
	rows, unclear := 0, 0
	for i, c := range stridedCases() {
		t.Run(c.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(22, uint64(i)))
			q, k, v := c.inputs(dev, rng)
			r, u := c.check(t, dev, c.plan(dev), rng, &q, &k, &v)
			rows, unclear = rows+r, unclear+u
		})
	}
	if 10*unclear > rows {
		t.Errorf("%d of %d choices are too close to call: the cases test little", unclear, rows)
	}
	t.Run("equal", func(t *testing.T) { testStridedEqual(t, dev) })
	t.Run("NaN", func(t *testing.T) { testStridedNaN(t, dev) })
}

// strideError is the relative error of a weight: that of f32, or of an exponential good enough for bf16 beside it.
func strideError(dev kernels.Device) float64 {
	if dev.Compute() == kernels.F32 {
		return 1e-5
	}
	return 1e-4
}

// check compares the choices of all rules, and counts them and those that rounding may change.
func (c stridedCase) check(t *testing.T, dev kernels.Device, p *kernels.Plan, rng *rand.Rand, q, k, v *cube) (rows, unclear int) {
	t.Helper()
	order := c.order(dev, rng, p)
	weights := map[string][]float64{}
	for _, rule := range c.rules {
		erase(dev, p)
		dev.SelectStrided(p, q.Tensor, kernels.KV{K: k.Tensor, V: v.Tensor}, c.stride, rule)
		err := c.compareKept(t, dev, p, func(h, b int) ([]bool, bool) {
			i, key := p.FirstBlock()+b, fmt.Sprint(h, b, rule.Own)
			if weights[key] == nil {
				weights[key] = stridedWeights(p, i, q, k, h, order[h], c.stride, rule.Own)
			}
			keep, slack := choose(p, i, weights[key], firstBlock(p, order[h]), rule)
			rows++
			if slack < strideError(dev) {
				unclear++
			}
			return keep, !(slack < strideError(dev))
		})
		if err != nil {
			t.Errorf("%+v, %v", rule, err)
		}
	}
	return rows, unclear
}

// testStridedEqual: without queries all strided keys weigh the same, and blocks are taken in order.
func testStridedEqual(t *testing.T, dev kernels.Device) {
	c := stridedCase{sparseCase{block: 16, segment: 32, stride: 4, permuted: true,
		attendCase: attendCase{rows: 16 * 37, heads: 4, kvHeads: 2, dim: 64, kv: kernels.BF16, spread: 1}},
		[]kernels.Selection{{Tau: 0.37}, {Tau: 0.773, KeepFirst: true}, {Density: 0.371}, {Tau: 0}}}
	rng := rand.New(rand.NewPCG(23, 0))
	_, k, v := c.inputs(dev, rng)
	q := fill(dev, dev.Compute(), 1, c.rows, c.heads*c.dim, c.heads*c.dim, func(h, i, j int) float64 { return 0 })
	if rows, unclear := c.check(t, dev, c.plan(dev), rng, &q, &k, &v); 10*unclear > rows {
		t.Errorf("%d of %d choices are too close to call", unclear, rows)
	}
}

// testStridedNaN: a key or a query that is NaN makes the rows that meet it keep all, and no others.
func testStridedNaN(t *testing.T, dev kernels.Device) {
	for _, where := range []string{"q", "k"} {
		t.Run(where, func(t *testing.T) {
			c := stridedCase{sparseCase{block: 16, segment: 32, stride: 8, permuted: true,
				attendCase: attendCase{rows: 230, first: 70, heads: 4, kvHeads: 2, dim: 64, kv: kernels.BF16, spread: 2}},
				[]kernels.Selection{{Tau: 0.5}, {Tau: 0.8, Own: true, KeepFirst: true, Counted: true}}}
			rng := rand.New(rand.NewPCG(24, 0))
			q, k, v := c.inputs(dev, rng)
			if where == "q" {
				q.set(dev, 0, 60, 64+5, math.NaN())
			} else {
				k.set(dev, 1, 150, 5, math.NaN())
			}
			c.check(t, dev, c.plan(dev), rng, &q, &k, &v)
		})
	}
}
