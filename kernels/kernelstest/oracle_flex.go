package kernelstest

import (
	"math"
	"slices"

	"github.com/pbs-run/pbs-run/kernels"
)

// flexHead is what FlexPrefill chooses by for a head (arXiv 2502.20766, algorithms 2 to 4, with what kernels.Sparse says of them), and what it
// chooses.
type flexHead struct {
	p            *kernels.Plan
	rule         kernels.Flex
	rank, slash  []float32   // mass of keys and of distances under the last queries: [keys]
	lastMean     []float64   // of these queries
	qMean, kMean [][]float64 // of all blocks

	keep  [][]bool // [query blocks][key blocks]
	aware bool
	slack float64 // by how much some number would have to change for another choice, relative to what it is compared with
}

// choose fills in what the head keeps. The last key block's mean is a sum over Block yet.
func (f *flexHead) choose() {
	p, blocks := f.p, f.p.KeyBlocks()
	for range p.QueryBlocks() {
		f.keep = append(f.keep, make([]bool, blocks))
	}
	if size := p.Keys() - (blocks-1)*p.Block; size < p.Block {
		last := slices.Clone(f.kMean[blocks-1])
		for d := range last {
			last[d] *= float64(p.Block) / float64(size)
		}
		f.kMean = append(slices.Clone(f.kMean[:blocks-1]), last)
	}
	vertical, distance := f.byBlock(f.rank), f.byBlock(f.slash)
	f.slack = math.Inf(1)
	if f.rule.Gamma >= 1 || slices.ContainsFunc(vertical, math.IsNaN) {
		f.keepLines(vertical, distance, blocks, blocks)
		return
	}
	js := math.Sqrt(divergence(f.pooled(f.lastMean, blocks), vertical))
	f.near(js, f.rule.Tau)
	if f.aware = js < f.rule.Tau; f.aware {
		f.keepLines(vertical, distance, min(f.rule.Least, blocks), min(f.rule.Least, blocks))
		f.keepPairs()
	} else {
		f.keepLines(vertical, distance, f.budget(f.rank), f.budget(f.slash))
	}
}

func (f *flexHead) near(x, y float64) {
	f.slack = min(f.slack, math.Abs(x-y)/max(math.Abs(y), 1e-3))
}

// pooled is the softmax of a mean query's scores with the means of the first n key blocks.
func (f *flexHead) pooled(q []float64, n int) []float64 {
	return softmax(n, func(b int) float64 { return dot(q, f.kMean[b]) / math.Sqrt(float64(len(q))) })
}

func (f *flexHead) byBlock(x []float32) []float64 {
	sums := make([]float64, f.p.KeyBlocks())
	for i := range f.p.Keys() {
		sums[i/f.p.Block] += float64(x[i])
	}
	return sums
}

// divergence is that of Jensen and Shannon.
func divergence(x, y []float64) float64 {
	sum := 0.0
	for i := range x {
		for _, v := range []float64{x[i], y[i]} {
			if v > 0 {
				sum += v * math.Log(2*v/(x[i]+y[i])) / 2
			}
		}
	}
	return sum
}

// budget is a 128th of how many keys or distances it takes to reach gamma, plus one.
func (f *flexHead) budget(x []float32) int {
	w := make([]float64, f.p.Keys())
	for i := range w {
		w[i] = float64(x[i])
	}
	count, sum := 0, 0.0
	for _, i := range heaviest(w, len(w)) {
		if f.near(sum, f.rule.Gamma); sum >= f.rule.Gamma {
			break
		}
		sum += w[i]
		count++
	}
	f.near(sum, f.rule.Gamma)
	return min(max(count/128+1, f.rule.Least), f.p.KeyBlocks())
}

// keepLines keeps the heaviest columns and diagonals of blocks, block 0 and the main diagonal first. Place x of distances by blocks is
// diagonal KeyBlocks-1-x.
func (f *flexHead) keepLines(vertical, distance []float64, columns, diagonals int) {
	blocks := f.p.KeyBlocks()
	vertical[0], distance[blocks-1] = math.Inf(1), math.Inf(1)
	top := func(x []float64, n int) []int {
		order := heaviest(x, len(x))
		if n > 0 && n < len(x) && x[order[n-1]] != x[order[n]] {
			f.near(x[order[n-1]], x[order[n]])
		}
		return order[:n]
	}
	for row := range f.keep {
		a := f.p.FirstBlock() + row
		for _, b := range top(vertical, columns) {
			f.keep[row][b] = f.keep[row][b] || b <= a
		}
		for _, x := range top(distance, diagonals) {
			if d := blocks - 1 - x; d <= a {
				f.keep[row][a-d] = true
			}
		}
	}
}

// keepPairs keeps, of all pairs of a query block and a key block up to it, the heaviest whose sum stays within gamma of the whole.
func (f *flexHead) keepPairs() {
	var weights []float64
	var pairs [][2]int
	for row := range f.keep {
		for b, x := range f.pooled(f.qMean[row], f.p.FirstBlock()+row+1) {
			weights, pairs = append(weights, x), append(pairs, [2]int{row, b})
		}
	}
	sum, whole := 0.0, f.rule.Gamma*float64(len(f.keep))
	order := heaviest(weights, len(weights))
	for at, i := range order {
		sum += weights[i]
		if f.near(sum, whole); sum > whole {
			if at > 0 && weights[order[at-1]] != weights[i] {
				f.near(weights[order[at-1]], weights[i])
			}
			return
		}
		f.keep[pairs[i][0]][pairs[i][1]] = true
	}
}
