package attention_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
)

// antidiagonal is what each key block weighs for query block a of head h by the definition in XAttention and PBSPlus: sums
// over antidiagonals of keys in the order of perm, softmax over the strided keys that sees lets a strided row see.
func (c small) antidiagonal(h, a, block, stride int, perm []int, sees func(r, s int) bool) []float64 {
	n := c.keys()
	blocks, strided := (n+block-1)/block, (n+stride-1)/stride
	out := make([]float64, blocks)
	for r := a * block / stride; r < (a+1)*block/stride && r < strided; r++ {
		if (r+1)*stride <= c.first {
			continue // a row before the first query
		}
		scores, any := make([]float64, strided), false
		for s := range scores {
			if !sees(r, s) {
				scores[s] = math.Inf(-1)
				continue
			}
			any = true
			for t := range stride {
				if i, place := r*stride+stride-1-t, s*stride+t; i >= c.first && i < n && place < n {
					scores[s] += c.score(h, i, perm[place]) / float64(stride)
				}
			}
		}
		if !any {
			continue
		}
		for s, p := range softmax(scores) {
			out[s*stride/block] += p
		}
	}
	return out
}

func identity(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	return p
}

// permOf is head h's order of keys in p.
func permOf(p *kernels.Plan, h int) []int {
	perm := identity(p.Keys())
	for i := range p.Sorted() {
		if p.Permuted {
			perm[i] = i/p.Segment*p.Segment + int(binary.LittleEndian.Uint16(p.Perm.Data[2*(h*p.Perm.Stride+i):]))
		}
	}
	return perm
}

// compareMask compares row a of head h with want, but where want's decision hung on less than slack.
func compareMask(t *testing.T, c small, p *kernels.Plan, h, a int, want map[int]bool, slack float64) {
	t.Helper()
	if slack < 1e-5 {
		return
	}
	for j := range p.KeyBlocks() {
		if kept(p, h, a-p.FirstBlock(), j) != want[j] {
			t.Errorf("%v: head %d, query block %d, key block %d: kept is %v", c, h, a, j, !want[j])
		}
	}
}

func TestXAttention(t *testing.T) {
	m := attention.XAttention{Block: 32, Stride: 8, Threshold: 0.8}
	forEachSet(t, func(t *testing.T, dev kernels.Device) {
		for _, c := range smalls() {
			out, p := c.run(t, dev, m)
			for h := range c.heads {
				for a := p.FirstBlock(); a < p.KeyBlocks(); a++ {
					w := c.antidiagonal(h, a, m.Block, m.Stride, identity(c.keys()), func(r, s int) bool { return s <= r })
					sum := 0.0
					for _, x := range w {
						sum += x
					}
					// All of these prompts are within the published code's first chunk: block 0 is weighed like any other, and one
					// block follows the one that crosses the threshold.
					keep, mass, last := map[int]bool{a: true}, w[a], false
					slack := math.Abs(mass - m.Threshold*sum)
					for _, j := range order(w) {
						if keep[j] || last || j > a {
							continue
						}
						last = mass >= m.Threshold*sum
						keep[j] = true
						mass += w[j]
						if !last {
							slack = min(slack, math.Abs(mass-m.Threshold*sum))
						}
					}
					keep[0] = true
					compareMask(t, c, p, h, a, keep, slack)
				}
			}
			c.check(t, out, func(h, i, j int) bool { return kept(p, h, i/m.Block-p.FirstBlock(), j/m.Block) })
			c.same(t, dev, m, out)
		}
	})
}

func TestPBSPlus(t *testing.T) {
	forEachSet(t, func(t *testing.T, dev kernels.Device) {
		for _, permute := range []bool{true, false} {
			m := attention.PBSPlus{PBS: attention.PBS{Block: 16, Segment: 64, Tau: 0.7, Permute: permute, First: true}, Stride: 4}
			for _, c := range smalls() {
				out, p := c.run(t, dev, m)
				for h := range c.heads {
					perm, first := permOf(p, h), 0
					for perm[first] != 0 {
						first++
					}
					for a := p.FirstBlock(); a < p.KeyBlocks(); a++ {
						own := a * m.Block / m.Segment * m.Segment
						w := c.antidiagonal(h, a, m.Block, m.Stride, perm, func(r, s int) bool { return s*m.Stride < own })
						sum := 0.0
						for _, x := range w {
							sum += x
						}
						keep, mass, slack := map[int]bool{}, 0.0, 1.0
						for _, j := range order(w[:own/m.Block]) {
							if mass < m.Tau*sum {
								keep[j] = true
								mass += w[j]
								slack = min(slack, math.Abs(mass-m.Tau*sum))
							}
						}
						keep[first/m.Block] = true
						for j := own / m.Block; j < (own+m.Segment)/m.Block && j < p.KeyBlocks(); j++ {
							keep[j] = true
						}
						compareMask(t, c, p, h, a, keep, slack)
					}
				}
				at := make([][]int, c.heads) // place of each key
				for h := range at {
					at[h] = make([]int, c.keys())
					for place, j := range permOf(p, h) {
						at[h][j] = place
					}
				}
				c.check(t, out, func(h, i, j int) bool { return kept(p, h, i/m.Block-p.FirstBlock(), at[h][j]/m.Block) })
				c.same(t, dev, m, out)
			}
		}
	})
}
