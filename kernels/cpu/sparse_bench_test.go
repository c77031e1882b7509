package cpu

import (
	"fmt"
	"testing"
	"time"

	"github.com/pbs-run/pbs-run/kernels"
)

// BenchmarkSparse sets the steps of PBS-Attn at forced densities beside dense attention over the same tensors: 32 query heads, 8
// KV heads. Metrics are shares of the dense time.
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
	p := kernels.NewPlan(d, kernels.PlanShape{Heads: heads, HeadDim: dim, Capacity: n, Rows: n, Block: 128, Segment: 256})
	all := []kernels.Span{{Lo: 0, Hi: n}}
	took := map[string]time.Duration{}
	timed := func(name string, f func()) {
		start := time.Now()
		f()
		took[name] += time.Since(start)
	}
	p.Begin(0, n)
	p.Permuted = true
	densities := []float64{0.1, 0.2, 0.3, 0.5, 1}
	for b.Loop() {
		timed("dense", func() { d.Attend(out, q, kv, 0) })
		timed("rank", func() { d.RankKeys(p, q, kv) })
		timed("sort", func() { d.SortKeys(p) })
		timed("pool", func() { d.PoolBlocks(p, q, kv, all) })
		timed("select", func() { d.SelectBlocks(p, kernels.Selection{Tau: 0.9, KeepFirst: true}, all) })
		for _, x := range densities {
			d.SelectBlocks(p, kernels.Selection{Density: x, KeepFirst: true}, all)
			timed(fmt.Sprint("attend", x), func() { d.AttendBlocks(out, q, kv, p, all) })
		}
	}
	if err := d.Err(); err != nil {
		b.Fatal(err)
	}
	for name, t := range took {
		if name != "dense" {
			b.ReportMetric(100*t.Seconds()/took["dense"].Seconds(), "%"+name)
		}
	}
	b.ReportMetric(took["dense"].Seconds()/float64(b.N), "s/dense")
}
