package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pbs-run/pbs-run/kernels"
)

// BenchmarkSparse sets the steps of PBS-Attn at forced densities beside dense attention over the same tensors: 32 query heads, 8
// KV heads. Metrics are medians, as shares of dense attention's; -benchtime 5x takes five turns of all.
func BenchmarkSparse(b *testing.B) {
	benchDevices(b, func(b *testing.B, d *Device) {
		for _, n := range []int{16384, 32768} {
			for _, dim := range []int{64, 128} {
				b.Run(fmt.Sprintf("%dx%d", n, dim), func(b *testing.B) { benchSparse(b, d, n, dim) })
			}
		}
	})
}

func benchSparse(b *testing.B, d *Device, n, dim int) {
	const heads, kvHeads = 32, 8
	q, out := noise(d.Alloc(d.Compute(), n, heads*dim)), d.Alloc(d.Compute(), n, heads*dim)
	kv := kernels.KV{K: noise(d.Alloc(kernels.BF16, kvHeads, n, dim)), V: noise(d.Alloc(kernels.BF16, kvHeads, n, dim))}
	p := kernels.NewPlan(d, kernels.PlanShape{Heads: heads, KVHeads: kvHeads, HeadDim: dim, Capacity: n, Rows: n, Block: 128, Segment: 256})
	all := []kernels.Span{{Lo: 0, Hi: n}}
	took := map[string][]float64{}
	timed := func(name string, f func()) {
		start := time.Now()
		f()
		took[name] = append(took[name], time.Since(start).Seconds())
	}
	p.Begin(0, n)
	p.Permuted = true
	densities := []float64{0.1, 0.2, 0.3, 0.5, 1}
	for b.Loop() {
		timed("dense", func() { d.Attend(out, q, kv, 0) })
		timed("rank", func() { d.RankKeys(p, q, kv) })
		timed("sort", func() { d.SortKeys(p) })
		timed("pool", func() { d.PoolBlocks(p, q, kv) })
		timed("select", func() { d.SelectBlocks(p, kernels.Selection{Tau: 0.9, KeepFirst: true}) })
		for _, x := range densities {
			d.SelectBlocks(p, kernels.Selection{Density: x, KeepFirst: true})
			timed(fmt.Sprint("attend", x), func() { d.AttendBlocks(out, q, kv, p, all) })
		}
	}
	if err := d.Err(); err != nil {
		b.Fatal(err)
	}
	median := func(name string) float64 {
		t := slices.Sorted(slices.Values(took[name]))
		return (t[(len(t)-1)/2] + t[len(t)/2]) / 2
	}
	for name := range took {
		if name != "dense" {
			b.ReportMetric(100*median(name)/median("dense"), "%"+name)
		}
	}
	b.ReportMetric(median("dense"), "s/dense")
}

// BenchmarkTinyProbabilities has key 0 outdo all others by so many nats: at 84 their probabilities are barely normal numbers, and sums of their
// shares denormal ones.
func BenchmarkTinyProbabilities(b *testing.B) {
	const n, heads, kvHeads, dim = 8192, 8, 2, 64
	benchDevices(b, func(b *testing.B, d *Device) {
		for _, lead := range []float64{0, 84, 92} {
			q, kv, out := tinyShape(d, n, heads, kvHeads, dim, lead)
			p := kernels.NewPlan(d, kernels.PlanShape{
				Heads: heads, KVHeads: kvHeads, HeadDim: dim, Capacity: n, Rows: n, Block: 128, Segment: 128, Stride: 8, Lines: true,
			})
			p.Begin(0, n)
			for _, op := range []struct {
				name string
				run  func()
			}{
				{"RankKeys", func() { d.RankKeys(p, q, kv) }},
				{"RankLines", func() { d.RankLines(p, q, kv, 128, 0.125) }},
				{"SelectStrided", func() { d.SelectStrided(p, q, kv, 8, kernels.Selection{Tau: 0.9}) }},
				{"Attend", func() { d.Attend(out, q, kv, 0) }},
			} {
				b.Run(fmt.Sprintf("%s-lead%g", op.name, lead), func(b *testing.B) {
					for b.Loop() {
						op.run()
					}
				})
			}
		}
	})
}

// tinyShape makes normal queries and keys, but for their first dimension, in which key 0 and no other is large.
func tinyShape(d *Device, n, heads, kvHeads, dim int, lead float64) (q kernels.Tensor, kv kernels.KV, out kernels.Tensor) {
	rng := rand.New(rand.NewPCG(1, 3))
	normal := func(t kernels.Tensor, first func(row int) float64) kernels.Tensor {
		size := t.DType.Size()
		for i := 0; i < len(t.Data); i += size {
			x := rng.NormFloat64()
			if i/size%dim == 0 {
				x = first(i / size / dim)
			}
			u := math.Float32bits(float32(x))
			t.Data[i+size-1], t.Data[i+size-2] = byte(u>>24), byte(u>>16)
		}
		return t
	}
	q = normal(d.Alloc(d.Compute(), n, heads*dim), func(int) float64 { return 8 })
	kv.K = normal(d.Alloc(kernels.BF16, kvHeads, n, dim), func(row int) float64 {
		if row%n == 0 {
			return lead * math.Sqrt(float64(dim)) / 8
		}
		return 0
	})
	kv.V = noise(d.Alloc(kernels.BF16, kvHeads, n, dim))
	return q, kv, d.Alloc(d.Compute(), n, heads*dim)
}
