package kernelstest

import (
	"math"
	"slices"

	"github.com/pbs-run/pbs-run/kernels"
)

// rankLines is, for the last queries, the mean of their causal softmax of scale·q·k by key and by distance, where place x
// stands for that of p.Keys()-1-x positions (arXiv 2407.02490, 2502.20766): both [heads][p.Keys()].
func rankLines(p *kernels.Plan, q, k *cube, last int, scale float64) (rank, slash [][]float64) {
	dim, n := k.Cols(), p.Keys()
	heads := q.Cols() / dim
	rank, slash = make([][]float64, heads), make([][]float64, heads)
	for h := range heads {
		rank[h], slash[h] = make([]float64, n), make([]float64, n)
		for i := n - last; i < n; i++ {
			prob := softmax(i+1, func(j int) float64 {
				return scale * dot(q.row(0, i-p.First)[h*dim:(h+1)*dim], k.row(h/(heads/k.Dims[0]), j))
			})
			for j, x := range prob {
				rank[h][j] += x / float64(last)
				slash[h][n-1-(i-j)] += x / float64(last)
			}
		}
	}
	return rank, slash
}

// picked marks the n of x that weigh most, the first of equal ones, after those that must be among them.
func picked(x []float32, n int, must func(i int) bool) []bool {
	w := make([]float64, len(x))
	for i := range x {
		if w[i] = float64(x[i]); must(i) {
			w[i] = math.Inf(1)
		}
	}
	set := make([]bool, len(x))
	for _, i := range heaviest(w, len(w))[:min(n, len(w))] {
		set[i] = true
	}
	return set
}

// selectLines is the columns and the distances of a head that lines keeps by its masses: both [p.Keys()].
func selectLines(p *kernels.Plan, rank, slash []float32, lines kernels.Lines) (columns, diagonals []bool) {
	n := p.Keys()
	columns = picked(rank[:n], lines.Columns, func(j int) bool { return j < lines.Sink })
	diagonals = picked(slash[:n], lines.Diagonals, func(x int) bool { return n-1-x < min(lines.Recent, lines.Diagonals) })
	slices.Reverse(diagonals)
	return columns, diagonals
}

// lineBlocks is the key blocks that a diagonal passes through in query block i (an absolute one), and how many blocks they make together
// with the columns that lie in others up to i.
func lineBlocks(p *kernels.Plan, i int, columns, diagonals []bool) (keep []bool, count int) {
	keep = make([]bool, p.KeyBlocks())
	for query := i * p.Block; query < (i+1)*p.Block; query++ {
		for d, on := range diagonals {
			if on && d <= query {
				keep[(query-d)/p.Block] = true
			}
		}
	}
	single := 0
	for j, on := range columns {
		if on && j/p.Block <= i && !keep[j/p.Block] {
			single++
		}
	}
	return keep, kept(keep, i) + (single+p.Block-1)/p.Block
}

// flexChoice is what FlexPrefill keeps for a head (arXiv 2502.20766, algorithms 2 to 4, with what kernels.Sparse says of them).
type flexChoice struct {
	keep  [][]bool // [query blocks][key blocks]
	aware bool
	slack float64 // by how much some number would have to change, relative to what it is compared with
}

// selectFlex chooses for a head, given the mass of keys and of distances under the last queries, the sum of these, and the means
// of all blocks, of which the last one's is a sum over Block yet.
func selectFlex(p *kernels.Plan, rank, slash []float32, lastMean []float64, qMean, kMean [][]float64, rule kernels.Flex) flexChoice {
	n, blocks, first := p.Keys(), p.KeyBlocks(), p.FirstBlock()
	c := flexChoice{slack: math.Inf(1)}
	near := func(x, y float64) { c.slack = min(c.slack, math.Abs(x-y)/max(math.Abs(y), 1e-3)) }

	means := slices.Clone(kMean)
	if size := n - (blocks-1)*p.Block; size < p.Block {
		means[blocks-1] = slices.Clone(means[blocks-1])
		for d := range means[blocks-1] {
			means[blocks-1][d] *= float64(p.Block) / float64(size)
		}
	}
	pooled := func(q []float64, n int) []float64 {
		return softmax(n, func(b int) float64 { return dot(q, means[b]) / math.Sqrt(float64(len(q))) })
	}
	byBlock := func(x []float32) []float64 {
		sums := make([]float64, blocks)
		for i := range n {
			sums[i/p.Block] += float64(x[i])
		}
		return sums
	}
	budget := func(x []float32) int {
		w := make([]float64, n)
		for i := range w {
			w[i] = float64(x[i])
		}
		count, sum := 0, 0.0
		for _, i := range heaviest(w, n) {
			if near(sum, rule.Gamma); sum >= rule.Gamma {
				break
			}
			sum += w[i]
			count++
		}
		near(sum, rule.Gamma)
		return min(max(count/128+1, rule.Least), blocks)
	}
	columns, diagonals := budget(rank), budget(slash)
	vertical, byDistance := byBlock(rank), byBlock(slash)

	js := 0.0
	for b, x := range pooled(lastMean, blocks) {
		y := vertical[b]
		if x > 0 {
			js += x * math.Log(2*x/(x+y)) / 2
		}
		if y > 0 {
			js += y * math.Log(2*y/(x+y)) / 2
		}
	}
	c.aware = math.Sqrt(js) < rule.Tau
	near(math.Sqrt(js), rule.Tau)
	if c.aware {
		columns, diagonals = min(rule.Least, blocks), min(rule.Least, blocks)
	}
	if rule.Gamma >= 1 {
		c.aware, c.slack, columns, diagonals = false, math.Inf(1), blocks, blocks
	}
	// Place x of the distances by blocks is block diagonal blocks-1-x.
	vertical[0], byDistance[blocks-1] = math.Inf(1), math.Inf(1)
	top := func(x []float64, n int) []int {
		order := heaviest(x, len(x))
		if n < len(x) && x[order[n-1]] != x[order[n]] {
			near(x[order[n-1]], x[order[n]])
		}
		return order[:n]
	}
	for row := range p.QueryBlocks() {
		a, keep := first+row, make([]bool, blocks)
		for _, b := range top(vertical, columns) {
			keep[b] = keep[b] || b <= a
		}
		for _, x := range top(byDistance, diagonals) {
			if d := blocks - 1 - x; d <= a {
				keep[a-d] = true
			}
		}
		c.keep = append(c.keep, keep)
	}
	if !c.aware {
		return c
	}
	var weights []float64
	var pairs [][2]int
	for row := range p.QueryBlocks() {
		for b, x := range pooled(qMean[row], first+row+1) {
			weights, pairs = append(weights, x), append(pairs, [2]int{row, b})
		}
	}
	sum, whole := 0.0, rule.Gamma*float64(p.QueryBlocks())
	order := heaviest(weights, len(weights))
	for at, i := range order {
		sum += weights[i]
		near(sum, whole)
		if sum > whole {
			if at > 0 && weights[order[at-1]] != weights[i] {
				near(weights[order[at-1]], weights[i])
			}
			break
		}
		c.keep[pairs[i][0]][pairs[i][1]] = true
	}
	return c
}
