package attention_test

import (
	"math"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
)

// blockSums sums x by blocks.
func blockSums(x []float64, block int) []float64 {
	out := make([]float64, (len(x)+block-1)/block)
	for i, v := range x {
		out[i/block] += v
	}
	return out
}

// cover is how many of x, largest first, it takes to reach mass.
func cover(x []float64, mass float64) int {
	sum := 0.0
	for n, i := range order(x) {
		if sum += x[i]; sum > mass {
			return n + 1
		}
	}
	return len(x)
}

// means are the means of head h's queries over positions [lo, hi), divided by size, and of its keys over each block.
func (c small) queryMean(h, lo, hi, size int) []float64 {
	out := make([]float64, c.dim)
	for i := max(lo, c.first); i < min(hi, c.keys()); i++ {
		for d, x := range row(c.q, h, c.keys(), i, c.dim) {
			out[d] += float64(x) / float64(size)
		}
	}
	return out
}

func (c small) keyMeans(h, block int) [][]float64 {
	out := make([][]float64, (c.keys()+block-1)/block)
	for b := range out {
		out[b] = make([]float64, c.dim)
		hi := min((b+1)*block, c.keys())
		for j := b * block; j < hi; j++ {
			for d, x := range row(c.k, h/(c.heads/c.kvHeads), c.keys(), j, c.dim) {
				out[b][d] += float64(x) / float64(hi-b*block)
			}
		}
	}
	return out
}

// pooled is the softmax of a mean query's scores with mean keys.
func pooled(q []float64, k [][]float64) []float64 {
	out := make([]float64, len(k))
	for b := range k {
		for d := range q {
			out[b] += q[d] * k[b][d] / math.Sqrt(float64(len(q)))
		}
	}
	return softmax(out)
}

// flex is the set of pairs of query and key blocks that FlexPrefill keeps for head h by its definition, and how near a decision
// came to going the other way.
func (c small) flex(m attention.FlexPrefill, h int) (keep map[[2]int]bool, aware bool, slack float64) {
	n := c.keys()
	blocks, last, first := (n+m.Block-1)/m.Block, min(m.Block, c.rows), c.first/m.Block
	column, distance := c.lines(h, last, 1)
	place := make([]float64, n) // distances from the far end
	for x := range place {
		place[x] = distance[n-1-x]
	}
	vertical, slash := blockSums(column, m.Block), blockSums(place, m.Block)
	least := (m.Min + m.Block - 1) / m.Block
	columns := min(max(cover(column, m.Gamma)/128+1, least), blocks)
	diagonals := min(max(cover(place, m.Gamma)/128+1, least), blocks)

	keys := c.keyMeans(h, m.Block)
	js := 0.0
	for b, x := range pooled(c.queryMean(h, n-last, n, last), keys) {
		y := vertical[b]
		js += x*math.Log(2*x/(x+y))/2 + y*math.Log(2*y/(x+y))/2
	}
	keep, aware, slack = map[[2]int]bool{}, math.Sqrt(js) < m.Tau, math.Abs(math.Sqrt(js)-m.Tau)
	if aware {
		columns, diagonals = min(least, blocks), min(least, blocks)
	}
	vertical[0], slash[blocks-1] = math.Inf(1), math.Inf(1)
	for a := first; a < blocks; a++ {
		for _, b := range order(vertical)[:columns] {
			if b <= a {
				keep[[2]int{a, b}] = true
			}
		}
		for _, x := range order(slash)[:diagonals] {
			if o := blocks - 1 - x; o <= a {
				keep[[2]int{a, a - o}] = true
			}
		}
	}
	if !aware {
		return keep, aware, slack
	}
	var weights []float64
	var pairs [][2]int
	for a := first; a < blocks; a++ {
		for b, x := range pooled(c.queryMean(h, a*m.Block, (a+1)*m.Block, m.Block), keys[:a+1]) {
			weights, pairs = append(weights, x), append(pairs, [2]int{a, b})
		}
	}
	sum, whole := 0.0, m.Gamma*float64(blocks-first)
	for _, i := range order(weights) {
		sum += weights[i]
		slack = min(slack, math.Abs(sum-whole))
		if sum <= whole {
			keep[pairs[i]] = true
		}
	}
	return keep, aware, slack
}

func TestFlexPrefill(t *testing.T) {
	forEachSet(t, func(t *testing.T, dev kernels.Device) {
		awares, others := 0, 0
		for _, m := range []attention.FlexPrefill{
			{Block: 32, Gamma: 0.6, Tau: 0, Min: 1}, {Block: 32, Gamma: 0.6, Tau: 1, Min: 1}, {Block: 16, Gamma: 0.9, Tau: 0.3, Min: 48},
		} {
			for _, c := range smalls() {
				out, p := c.run(t, dev, m)
				for h := range c.heads {
					want, aware, slack := c.flex(m, h)
					if aware {
						awares++
					} else {
						others++
					}
					for a := p.FirstBlock(); a < p.KeyBlocks() && slack > 1e-5; a++ {
						for b := range p.KeyBlocks() {
							if kept(p, h, a-p.FirstBlock(), b) != want[[2]int{a, b}] {
								t.Errorf("%v on %v: head %d (aware: %v), blocks %d, %d: want %v", m, c, h, aware, a, b, want[[2]int{a, b}])
							}
						}
					}
				}
				c.check(t, out, func(h, i, j int) bool { return kept(p, h, i/m.Block-p.FirstBlock(), j/m.Block) })
				c.same(t, dev, m, out)
			}
		}
		if awares == 0 || others == 0 {
			t.Errorf("%d query-aware and %d other heads", awares, others)
		}
	})
}
