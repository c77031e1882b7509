package kernelstest

import (
	"math"
	"sort"

	"github.com/pbs-run/pbs-run/kernels"
)

// The operations of kernels.Sparse as their formulas say (arXiv 2510.21270). A kernels.Plan gives sizes and positions only;
// what its tensors hold is passed by itself, and an order lists for every head the key at each place.

// rankKeys is the mean over the last min(Block, Rows) queries of softmax(q·kᵀ/√d) over the keys of complete segments, future
// ones included: [heads][p.Sorted()].
func rankKeys(p *kernels.Plan, q, k *cube) [][]float64 {
	dim := k.Cols()
	heads, rows := q.Cols()/dim, min(p.Block, p.Rows)
	rank := make([][]float64, heads)
	for h := range rank {
		rank[h] = make([]float64, p.Sorted())
		for i := p.Rows - rows; i < p.Rows; i++ {
			prob := softmax(p.Sorted(), func(j int) float64 {
				return dot(q.row(0, i)[h*dim:(h+1)*dim], k.row(h/(heads/k.Dims[0]), j)) / math.Sqrt(float64(dim))
			})
			for j, x := range prob {
				rank[h][j] += x / float64(rows)
			}
		}
	}
	return rank
}

// sortKeys lists for every place the key there, counted from the start of its segment, by descending rank: [p.Sorted()].
func sortKeys(p *kernels.Plan, rank []float32) []uint16 {
	perm := make([]uint16, p.Sorted())
	for base := 0; base < p.Sorted(); base += p.Segment {
		segment := perm[base : base+p.Segment]
		for i := range segment {
			segment[i] = uint16(i)
		}
		sort.SliceStable(segment, func(a, b int) bool { return rank[base+int(segment[a])] > rank[base+int(segment[b])] })
	}
	return perm
}

// poolQueries is the sum of each query block over Block, [heads*query blocks][dim]; poolKeys that of each key block in the
// order given, [heads*key blocks][dim].
func poolQueries(p *kernels.Plan, q *cube, dim int) [][]float64 {
	var means [][]float64
	for h := range q.Cols() / dim {
		for b := range p.QueryBlocks() {
			mean := make([]float64, dim)
			for i := range p.Rows {
				if (p.First+i)/p.Block != p.FirstBlock()+b {
					continue
				}
				for d, x := range q.row(0, i)[h*dim : (h+1)*dim] {
					mean[d] += x / float64(p.Block)
				}
			}
			means = append(means, mean)
		}
	}
	return means
}

func poolKeys(p *kernels.Plan, k *cube, order [][]int) [][]float64 {
	var means [][]float64
	for h := range order {
		for b := range p.KeyBlocks() {
			mean := make([]float64, k.Cols())
			for place := b * p.Block; place < min((b+1)*p.Block, p.Keys()); place++ {
				for d, x := range k.row(h/(len(order)/k.Dims[0]), order[h][place]) {
					mean[d] += x / float64(p.Block)
				}
			}
			means = append(means, mean)
		}
	}
	return means
}

// candidates is how many key blocks query block i (an absolute one) may choose from, the first ones; own is the first block of
// its segment.
func candidates(p *kernels.Plan, i int, rule kernels.Selection) (n, own int) {
	per := p.Segment / p.Block
	own = i / per * per
	if rule.Own {
		return i + 1, own
	}
	return own, own
}

// heaviest lists the n first blocks by descending score, equal ones in order.
func heaviest(score []float64, n int) []int {
	blocks := make([]int, n)
	for j := range blocks {
		blocks[j] = j
	}
	sort.SliceStable(blocks, func(a, b int) bool { return score[blocks[a]] > score[blocks[b]] })
	return blocks
}

// selectBlocks is what query block i keeps, given the scores of all key blocks and the block that holds key 0: [key blocks].
func selectBlocks(p *kernels.Plan, i int, score []float64, first int, rule kernels.Selection) []bool {
	n, _ := candidates(p, i, rule)
	keep, _ := choose(p, i, softmax(n, func(j int) float64 { return score[j] }), first, rule)
	return keep
}

// kept counts the blocks j <= i of a row.
func kept(keep []bool, i int) int {
	n := 0
	for _, k := range keep[:i+1] {
		if k {
			n++
		}
	}
	return n
}

// sees says, for attention, whether the block of a key is one that a row's block keeps; keep is [heads][query blocks][key
// blocks].
func sees(p *kernels.Plan, order [][]int, keep [][][]bool) func(h, i, key int) bool {
	place := make([][]int, len(order))
	for h := range order {
		place[h] = make([]int, len(order[h]))
		for at, key := range order[h] {
			place[h][key] = at
		}
	}
	return func(h, i, key int) bool {
		return keep[h][(p.First+i)/p.Block-p.FirstBlock()][place[h][key]/p.Block]
	}
}
