package kernelstest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

func testPoolBlocks(t *testing.T, dev kernels.Device) {
	cases := append(sparseCases(),
		sparseCase{attendCase: attendCase{rows: 700, first: 70, heads: 3, kvHeads: 1, dim: 34, kv: kernels.BF16, spread: 1}, block: 16, segment: 32,
			permuted: true})
	for i, c := range cases {
		t.Run(c.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(15, uint64(i)))
			q, k, v := c.inputs(dev, rng)
			p := c.plan(dev)
			order := c.order(dev, rng, p)
			dev.PoolBlocks(p, q.Tensor, kernels.KV{K: k.Tensor, V: v.Tensor})
			queries, keys := poolQueries(p, &q, c.dim), poolKeys(p, &k, order)
			compareMeans(t, Values(t, dev, flat(p.QMean)), queries, p.QMean.Dims[1], p.QueryBlocks())
			compareMeans(t, Values(t, dev, flat(p.KMean)), keys, p.KMean.Dims[1], p.KeyBlocks())
		})
	}
}

// compareMeans compares the first `blocks` of every head's `capacity` means; the others must still be NaN.
func compareMeans(t *testing.T, got, want [][]float64, capacity, blocks int) {
	t.Helper()
	all := make([][]float64, len(got))
	for n := range all {
		if h, b := n/capacity, n%capacity; b < blocks {
			all[n] = want[h*blocks+b]
		}
	}
	Compare(t, got, all, func(i, j int) float64 { return 1e-6 }, 1e-6)
}

// selectCase is a Plan whose pooled queries and keys are planted.
type selectCase struct {
	sparseCase
	order [][]int
	score [][][]float64 // [heads][query blocks][key blocks]
}

// margin is how far from each other scores are, and sums of probabilities from every tau, so that no rounding changes a choice.
const margin = 2e-5

var taus = [...]float64{0, 0.5, 0.9, 0.99, 1}

// plant draws means until every choice is clear. key makes the pooled keys, NaN and infinities included.
func (c sparseCase) plant(dev kernels.Device, rng *rand.Rand, p *kernels.Plan, key func(h, j, d int) float64) selectCase {
	s := selectCase{sparseCase: c, order: c.order(dev, rng, p), score: make([][][]float64, c.heads)}
	k, q := filled(p.KMean, float32(math.NaN())), filled(p.QMean, float32(math.NaN()))
	for h := range s.score {
		keys := make([][]float64, p.KeyBlocks())
		for j := range keys {
			for d := range c.dim {
				x := float32(key(h, j, d))
				keys[j] = append(keys[j], float64(x))
				k[(h*p.KMean.Dims[1]+j)*c.dim+d] = x
			}
		}
		for b := range p.QueryBlocks() {
			row := q[(h*p.QMean.Dims[1]+b)*c.dim:][:c.dim]
			score := make([]float64, len(keys))
			for drawn := false; !drawn || !isClear(score, p, p.FirstBlock()+b); drawn = true {
				query := make([]float64, c.dim)
				for d := range query {
					row[d] = float32(rng.NormFloat64() * 1.5)
					if d == 0 {
						row[d] = 1 // so that an infinite key has a score of its sign
					}
					query[d] = float64(row[d])
				}
				for j := range keys {
					score[j] = dot(query, keys[j]) / math.Sqrt(float64(c.dim))
				}
			}
			s.score[h] = append(s.score[h], score)
		}
	}
	upload(dev, p.KMean, k)
	upload(dev, p.QMean, q)
	return s
}

// isClear looks at both sets of candidates that query block i may have. Equal scores are as clear as distant ones, and no
// other queries would make them clearer.
func isClear(score []float64, p *kernels.Plan, i int) bool {
	for _, own := range []bool{false, true} {
		n, _ := candidates(p, i, kernels.Selection{Own: own})
		order, mass := heaviest(score, n), 0.0
		prob := softmax(n, func(j int) float64 { return score[j] })
		if n > 0 && score[order[0]] == score[order[n-1]] {
			continue
		}
		for at, j := range order {
			if next := at + 1; next < n && score[j] != score[order[next]] && score[j]-score[order[next]] < margin {
				return false
			}
			mass += prob[j]
			for _, tau := range taus[1:4] {
				if math.Abs(mass-tau) < margin {
					return false
				}
			}
		}
	}
	return true
}

func testSelectBlocks(t *testing.T, dev kernels.Device) {
	cases := append(sparseCases(), // and rows of several words of Keep
		sparseCase{attendCase: attendCase{rows: 16*140 + 3, heads: 2, dim: 32}, block: 16, segment: 32, permuted: true},
		sparseCase{attendCase: attendCase{rows: 16 * 129, first: 17, heads: 2, dim: 64}, block: 16, segment: 64, permuted: true})
	for i, c := range cases {
		t.Run(c.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(16, uint64(i)))
			p := c.plan(dev)
			s := c.plant(dev, rng, p, func(h, j, d int) float64 { return rng.NormFloat64() * 1.5 })
			for n, rule := range selections() {
				if n%8 == i%8 || p.KeyBlocks() > 64 || rule.Last > 0 { // over the cases, all
					s.check(t, dev, p, rule)
				}
			}
		})
	}
	for _, kind := range []string{"equal", "-Inf", "all -Inf", "NaN"} {
		t.Run(kind, func(t *testing.T) { testSelectOdd(t, dev, kind) })
	}
}

func selections() []kernels.Selection {
	var rules []kernels.Selection
	for n := range 4 {
		rule := kernels.Selection{Own: n&1 > 0, KeepFirst: n&2 > 0}
		for _, rule.Tau = range taus {
			rules = append(rules, rule)
		}
		for _, rule.Density = range []float64{0.013, 0.117, 0.371, 0.729, 1} { // no multiple of these is halfway
			rules = append(rules, rule)
		}
	}
	// The last query blocks keep all: one, of which few queries may be there, more, and more than there are.
	return append(rules, kernels.Selection{Tau: 0.5, Last: 1}, kernels.Selection{Tau: 0, KeepFirst: true, Last: 2},
		kernels.Selection{Tau: 0.9, Own: true, Last: 2}, kernels.Selection{Density: 0.117, KeepFirst: true, Last: 3},
		kernels.Selection{Tau: 0.5, Own: true, KeepFirst: true, Last: math.MaxInt32}, kernels.Selection{Density: 0.371, Own: true, Last: 1})
}

// check selects by rule and compares bits and counts.
func (s selectCase) check(t *testing.T, dev kernels.Device, p *kernels.Plan, rule kernels.Selection) {
	t.Helper()
	erase(dev, p)
	dev.SelectBlocks(p, rule)
	err := s.compareKept(t, dev, p, func(h, b int) ([]bool, bool) {
		return selectBlocks(p, p.FirstBlock()+b, s.score[h][b], firstBlock(p, s.order[h]), rule), true
	})
	if err != nil {
		t.Fatalf("%+v, %v", rule, err)
	}
}

// erase overwrites what a selection is to fill in.
func erase(dev kernels.Device, p *kernels.Plan) {
	upload(dev, p.Keep, filled(p.Keep, uint64(unwritten)))
	upload(dev, p.Kept, filled(p.Kept, uint32(unwritten)))
}

// firstBlock is the block that holds key 0 in an order of keys.
func firstBlock(p *kernels.Plan, order []int) int { return slices.Index(order, 0) / p.Block }

// compareKept compares the bits and counts of a selection with what want says of query block b of head h, unless it says
// that the choice is not clear; what lies behind the query blocks must still be as erase left it.
func (c sparseCase) compareKept(t *testing.T, dev kernels.Device, p *kernels.Plan, want func(h, b int) (keep []bool, clear bool)) error {
	t.Helper()
	bits, counts := download[uint64](t, dev, p.Keep), download[uint32](t, dev, p.Kept)
	for n := range p.Kept.Rows() * p.Kept.Cols() {
		h, b := n/p.Kept.Cols(), n%p.Kept.Cols()
		got, count := bits[n*p.Keep.Stride:(n+1)*p.Keep.Stride], uint32(unwritten)
		row := make([]uint64, len(got))
		if b < p.QueryBlocks() {
			keep, clear := want(h, b)
			if !clear {
				continue
			}
			row, count = packed(keep, len(got)), uint32(kept(keep, p.FirstBlock()+b))
		} else {
			for w := range row {
				row[w] = unwritten
			}
		}
		if !slices.Equal(got, row) || counts[n] != count {
			return fmt.Errorf("head %d, row %d: keeps %x, counts %d, want %x, %d", h, b, got, counts[n], row, count)
		}
	}
	return nil
}

// packed is a row of Keep.
func packed(keep []bool, words int) []uint64 {
	row := make([]uint64, words)
	for j, k := range keep {
		if k {
			row[j/64] |= 1 << (j % 64)
		}
	}
	return row
}

// testSelectOdd: equal scores are taken in order; what weighs nothing goes last; where a softmax is NaN all is kept, in the rows
// concerned.
func testSelectOdd(t *testing.T, dev kernels.Device, kind string) {
	c := sparseCase{attendCase: attendCase{rows: 16 * 37, heads: 2, dim: 64}, block: 16, segment: 32, permuted: true}
	rng := rand.New(rand.NewPCG(17, 0))
	p := c.plan(dev)
	s := c.plant(dev, rng, p, func(h, j, d int) float64 {
		switch {
		case kind == "equal" && h == 1:
			return float64(d%5) - 2
		case kind == "-Inf" && d == 0 && j%3 == 1, kind == "all -Inf" && d == 0 && j < 8:
			return math.Inf(-1)
		case kind == "NaN" && h == 1 && j == 6 && d == 63:
			return math.NaN()
		}
		return rng.NormFloat64()
	})
	for _, rule := range selections() {
		// Whether n of 2n equal weights are half, rounding decides; density says nothing of a softmax that is NaN.
		if kind == "equal" && (rule.Tau == 0.5 || rule.Tau == 0.9) || (kind == "NaN" || kind == "all -Inf") && rule.Density > 0 {
			continue
		}
		s.check(t, dev, p, rule)
	}
	if kind == "equal" {
		for _, tau := range []float64{0.37, 0.773} {
			s.check(t, dev, p, kernels.Selection{Tau: tau})
		}
	}
}
