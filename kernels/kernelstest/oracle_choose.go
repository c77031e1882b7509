package kernelstest

import (
	"math"

	"github.com/pbs-run/pbs-run/kernels"
)

// choose is what query block i (an absolute one) keeps by a rule when its candidates weigh w, and how clear that is: no relative
// error of the weights below slack changes it. first is the block that holds key 0.
func choose(p *kernels.Plan, i int, w []float64, first int, rule kernels.Selection) (keep []bool, slack float64) {
	keep, slack = make([]bool, p.KeyBlocks()), math.Inf(1)
	own := i * p.Block / p.Segment * p.Segment / p.Block
	always := func(j int) bool { return j >= own && j < own+p.Segment/p.Block || rule.KeepFirst && j == first }
	whole := 0.0
	for _, x := range w {
		whole += x
	}
	apart := func(a, b int) {
		if w[a] != w[b] {
			slack = min(slack, (w[a]-w[b])/(w[a]+w[b]))
		}
	}
	if i >= p.KeyBlocks()-rule.Last {
		for j := range keep {
			keep[j] = j < len(w) || always(j)
		}
		return keep, slack
	}
	order, taken := heaviest(w, len(w)), 0
	if rule.Density > 0 {
		for j := range keep {
			keep[j] = always(j)
		}
		left := int(math.Round(rule.Density*float64(i+1))) - kept(keep, i)
		last := -1
		for _, j := range order {
			switch {
			case keep[j]:
			case left > 0:
				keep[j], last = true, j
				left--
			case last >= 0:
				apart(last, j)
				last = -1
			}
		}
		return keep, slack
	}
	// What counts before all others is no longer up for choice. Rows before Surplus count their own segment alone.
	mass, free, counted := 0.0, order[:0:0], false
	for _, j := range order {
		if rule.Counted && (j >= own || always(j) && i >= rule.Surplus) {
			mass, counted = mass+w[j], true
		} else {
			free = append(free, j)
		}
	}
	// A mass of NaN reaches nothing, so that then all are taken.
	for rule.Tau < 1 {
		if taken > 0 || counted {
			slack = min(slack, math.Abs(mass-rule.Tau*whole)/(mass*(1-rule.Tau)+rule.Tau*(whole-mass)))
			if mass >= rule.Tau*whole {
				break
			}
		}
		if taken == len(free) {
			break
		}
		mass += w[free[taken]]
		taken++
	}
	if rule.Tau >= 1 {
		taken = len(free)
	}
	if i < rule.Surplus && taken < len(free) {
		taken++
	}
	for _, j := range free[:taken] {
		keep[j] = true
	}
	if taken > 0 && taken < len(free) {
		apart(free[taken-1], free[taken])
	}
	for j := range keep {
		keep[j] = keep[j] || always(j)
	}
	return keep, slack
}

// stridedWeights is what key blocks weigh for query block i (an absolute one) of query head h (arXiv 2503.16428): with
// A_rc = Σ_t q[rσ+σ-1-t]·k[cσ+t] / (σ√d), a position without query or key counting as 0, and P_r the softmax of A_r over its
// strided keys c, the sum of P_rc over the block's strided rows r that hold a query and the key block's c. A row's strided keys are those
// up to its own, or those of earlier segments. order is the head's order of keys.
func stridedWeights(p *kernels.Plan, i int, q, k *cube, h int, order []int, stride int, own bool) []float64 {
	dim := k.Cols()
	kv := h / (q.Cols() / dim / k.Dims[0])
	n := i * p.Block / p.Segment * p.Segment / p.Block
	if own {
		n = i + 1
	}
	w := make([]float64, n)
	for r := i * p.Block / stride; r < (i+1)*p.Block/stride; r++ {
		keys := n * p.Block / stride
		if own {
			keys = r + 1
		}
		if (r+1)*stride <= p.First || r*stride >= p.Keys() {
			continue
		}
		prob := softmax(keys, func(c int) float64 {
			score := 0.0
			for t := range stride {
				if row, place := r*stride+stride-1-t, c*stride+t; row >= p.First && row < p.Keys() && place < p.Keys() {
					score += dot(q.row(0, row-p.First)[h*dim:(h+1)*dim], k.row(kv, order[place]))
				}
			}
			return score / (float64(stride) * math.Sqrt(float64(dim)))
		})
		for c, x := range prob {
			w[c*stride/p.Block] += x
		}
	}
	return w
}
