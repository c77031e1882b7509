package attention_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
)

// small is a prefill small enough for definitions in float64: rows queries after first cached keys.
type small struct {
	heads, kvHeads, dim int
	first, rows         int
	q, k, v             []float32 // [heads, first+rows, dim], [kvHeads, first+rows, dim]
}

// newSmall draws queries and keys of which some are strong, so that attention is uneven.
func newSmall(heads, kvHeads, dim, first, rows int, seed uint64) small {
	rng := rand.New(rand.NewPCG(seed, 1))
	n := first + rows
	draw := func(heads int, strong float64) []float32 {
		x := make([]float32, heads*n*dim)
		for h := range heads {
			for i := range n {
				s := 1.0
				if rng.Float64() < 0.1 {
					s = strong
				}
				for d := range dim {
					x[(h*n+i)*dim+d] = float32(s * (rng.NormFloat64() + 0.7*math.Cos(float64(d+i/40*h))))
				}
			}
		}
		return x
	}
	return small{heads: heads, kvHeads: kvHeads, dim: dim, first: first, rows: rows, q: draw(heads, 1.5), k: draw(kvHeads, 2), v: draw(kvHeads, 1)}
}

func (c small) String() string {
	return fmt.Sprintf("%d+%d,%d/%d,d%d", c.first, c.rows, c.heads, c.kvHeads, c.dim)
}

func (c small) keys() int { return c.first + c.rows }

func row(x []float32, h, n, i, dim int) []float32 { return x[(h*n+i)*dim:][:dim] }

// score is the scaled product of head h's query at position i with key j.
func (c small) score(h, i, j int) float64 {
	q, k, s := row(c.q, h, c.keys(), i, c.dim), row(c.k, h/(c.heads/c.kvHeads), c.keys(), j, c.dim), 0.0
	for d := range q {
		s += float64(q[d]) * float64(k[d])
	}
	return s / math.Sqrt(float64(c.dim))
}

// softmax replaces x by its softmax; -Inf gets nothing.
func softmax(x []float64) []float64 {
	top, sum := slices.Max(x), 0.0
	for i := range x {
		x[i] = math.Exp(x[i] - top)
		sum += x[i]
	}
	for i := range x {
		x[i] /= sum
	}
	return x
}

// order lists the indices of x, largest value first.
func order(x []float64) []int {
	out := make([]int, len(x))
	for i := range out {
		out[i] = i
	}
	slices.SortStableFunc(out, func(a, b int) int { return cmp.Compare(x[b], x[a]) })
	return out
}

// run computes c's outputs for spans on dev, [rows, heads·dim]; NaN where nobody asked.
func (c small) run(t *testing.T, dev kernels.Device, m attention.Method, spans ...kernels.Span) ([]float32, *kernels.Plan) {
	t.Helper()
	q, kv := tensors(dev, c.q, c.k, c.v, c.heads, c.kvHeads, c.keys(), c.dim)
	out := dev.Alloc(kernels.F32, c.rows, c.heads*c.dim)
	for i := range out.Float32() {
		out.Float32()[i] = float32(math.NaN())
	}
	q = q.Slice(c.first, c.keys())
	if len(spans) == 0 {
		spans = []kernels.Span{{Lo: 0, Hi: c.rows}}
	} else { // queries that the method does not ask for do not exist
		all := dev.Alloc(kernels.F32, c.rows, c.heads*c.dim)
		for i := range all.Float32() {
			all.Float32()[i] = float32(math.NaN())
		}
		for _, s := range attention.Queries(nil, m, c.first, c.rows, spans) {
			copy(all.Float32()[s.Lo*c.heads*c.dim:s.Hi*c.heads*c.dim], q.Float32()[s.Lo*c.heads*c.dim:])
		}
		q = all
	}
	var p *kernels.Plan
	if s := m.Layout().Shape(kernels.PlanShape{Heads: c.heads, KVHeads: c.kvHeads, HeadDim: c.dim, Capacity: c.keys(), Rows: c.rows}); s.Block > 0 {
		p = kernels.NewPlan(dev, s)
	}
	attention.Prefill(dev, m, p, out, q, kv, c.first, spans)
	if err := dev.Err(); err != nil {
		t.Fatal(err)
	}
	return out.Float32(), p
}

// check compares out with softmax over the keys that sees lets a query see.
func (c small) check(t *testing.T, out []float32, sees func(h, i, j int) bool) {
	t.Helper()
	worst := 0.0
	for h := range c.heads {
		for i := c.first; i < c.keys(); i++ {
			p := make([]float64, i+1)
			for j := range p {
				if p[j] = math.Inf(-1); sees(h, i, j) {
					p[j] = c.score(h, i, j)
				}
			}
			softmax(p)
			for d := range c.dim {
				want := 0.0
				for j := range p {
					want += p[j] * float64(row(c.v, h/(c.heads/c.kvHeads), c.keys(), j, c.dim)[d])
				}
				if diff := math.Abs(want - float64(out[((i-c.first)*c.heads+h)*c.dim+d])); !(diff <= worst) {
					worst = diff
				}
			}
		}
	}
	if !(worst <= 3e-5) {
		t.Errorf("%v: outputs differ by %.3g", c, worst)
	}
}

// same checks that rows of spans are as they are when all rows are asked for.
func (c small) same(t *testing.T, dev kernels.Device, m attention.Method, whole []float32) {
	t.Helper()
	spans := []kernels.Span{{Lo: 3, Hi: 5}, {Lo: c.rows - 1, Hi: c.rows}}
	part, _ := c.run(t, dev, m, spans...)
	for _, s := range spans {
		for i := s.Lo * c.heads * c.dim; i < s.Hi*c.heads*c.dim; i++ {
			if !(math.Abs(float64(part[i]-whole[i])) <= 1e-5) {
				t.Fatalf("%v: row %d alone gives %v, with the others %v", c, i/(c.heads*c.dim), part[i], whole[i])
			}
		}
	}
}

// smalls are prefills with a tail, with a prefix that ends inside a block, and without either.
func smalls() []small {
	return []small{
		newSmall(4, 2, 32, 0, 300, 1), newSmall(2, 1, 64, 0, 256, 2), newSmall(3, 1, 16, 0, 261, 3),
		newSmall(4, 2, 32, 133, 200, 4), newSmall(2, 2, 32, 64, 99, 5), newSmall(4, 1, 32, 190, 131, 6),
	}
}
