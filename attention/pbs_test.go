package attention_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
)

// blockMethods are methods over blocks of 16 with a given tau.
func blockMethods(tau float64) []attention.Method {
	return []attention.Method{
		attention.PBS{Block: 16, Segment: 16, Tau: tau, Permute: true, First: true},
		attention.PBS{Block: 16, Segment: 64, Tau: tau, Permute: true},
		attention.PBS{Block: 16, Segment: 32, Tau: tau, First: true},
		attention.PBS{Block: 16, Segment: 32, Tau: tau, Permute: true, Last: 2},
		attention.MeanPool{Block: 16, Tau: tau},
		attention.MeanPool{Block: 16, Tau: tau, Last: 1},
	}
}

func drawSpans(rng *rand.Rand, rows int) []kernels.Span {
	var spans []kernels.Span
	for lo := rng.IntN(rows); lo < rows && len(spans) < 4; {
		hi := lo + 1 + rng.IntN(min(40, rows-lo))
		spans = append(spans, kernels.Span{Lo: lo, Hi: hi})
		lo = hi + 1 + rng.IntN(30)
	}
	return spans
}

// prompt is a cache of keys and values and the queries of its last rows: 4 heads of 32 over 2 kv heads.
type prompt struct {
	first, rows int
	q           []float32
	kv          kernels.KV
}

func newPrompt(dev kernels.Device, rng *rand.Rand, first, rows int) prompt {
	normal := func(n int) []float32 {
		x, mean := make([]float32, n), 0.0
		for i := range x {
			if i%512 == 0 { // means that differ make some blocks weigh little
				mean = rng.NormFloat64()
			}
			x[i] = float32(mean + rng.NormFloat64())
		}
		return x
	}
	keys := first + rows
	place := func(x []float32) kernels.Tensor { return dev.Place(kernels.FromFloat32(x, 2, keys, 32)) }
	return prompt{first, rows, normal(rows * 128), kernels.KV{K: place(normal(keys * 64)), V: place(normal(keys * 64))}}
}

// prefill runs m for spans; rows outside them stay zero.
func (p prompt) prefill(dev kernels.Device, m attention.Method, q []float32, spans []kernels.Span) []float32 {
	var plan *kernels.Plan
	if shape := m.Layout().Shape(kernels.PlanShape{Heads: 4, KVHeads: 2, HeadDim: 32, Capacity: p.first + p.rows, Rows: p.rows}); shape.Block > 0 {
		plan = kernels.NewPlan(dev, shape)
	}
	out := dev.Alloc(kernels.F32, p.rows, 128)
	attention.Prefill(dev, m, plan, out, dev.Place(kernels.FromFloat32(q, p.rows, 128)), p.kv, p.first, spans)
	return out.Float32()
}

// With a tau of 1 every method is dense attention.
func TestTauOneIsDense(t *testing.T) {
	forEachSet(t, func(t *testing.T, dev kernels.Device) {
		rng := rand.New(rand.NewPCG(2, 2))
		for range 20 {
			p := newPrompt(dev, rng, rng.IntN(2)*rng.IntN(100), 1+rng.IntN(200))
			spans := drawSpans(rng, p.rows)
			want := p.prefill(dev, attention.Full{}, p.q, spans)
			for _, m := range blockMethods(1) {
				for i, got := range p.prefill(dev, m, p.q, spans) {
					if !(math.Abs(float64(got-want[i])) < 2e-5) {
						t.Fatalf("%v, %d rows at %d, spans %v: row %d is %g, want %g", m, p.rows, p.first, spans, i/128, got, want[i])
					}
				}
			}
		}
	})
}

// Prefill reads no more queries than Queries says: with NaN in all others its results are the same bits.
func TestQueriesSuffice(t *testing.T) {
	forEachSet(t, func(t *testing.T, dev kernels.Device) {
		rng := rand.New(rand.NewPCG(3, 3))
		for range 20 {
			p := newPrompt(dev, rng, rng.IntN(2)*rng.IntN(100), 1+rng.IntN(200))
			spans := drawSpans(rng, p.rows)
			for _, m := range blockMethods(0.8) {
				q := make([]float32, len(p.q))
				for i := range q {
					q[i] = float32(math.NaN())
				}
				for _, s := range attention.Queries(nil, m, p.first, p.rows, spans) {
					copy(q[s.Lo*128:s.Hi*128], p.q[s.Lo*128:])
				}
				all, some := p.prefill(dev, m, p.q, spans), p.prefill(dev, m, q, spans)
				if !bytes.Equal(kernels.FromFloat32(all, len(all)).Data, kernels.FromFloat32(some, len(some)).Data) {
					t.Fatalf("%v, %d rows at %d, spans %v: other queries change the result", m, p.rows, p.first, spans)
				}
			}
		}
	})
}
