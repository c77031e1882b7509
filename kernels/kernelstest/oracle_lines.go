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
