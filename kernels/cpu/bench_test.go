package cpu

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// benchDevices calls f with a Device on all CPUs for every set and precision of this host.
func benchDevices(b *testing.B, f func(b *testing.B, d *Device)) {
	for _, o := range []Options{{ISA: "avx2", F32: true}, {ISA: "avx512", F32: true}, {ISA: "avx512"}, {ISA: "amx"}, {ISA: "portable"}} {
		d, err := Open(o)
		if err != nil {
			b.Logf("%s: not run: %v", o.ISA, err)
			continue
		}
		b.Run(fmt.Sprintf("%v-%v", d.ISA(), d.Compute()), func(b *testing.B) { f(b, d) })
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// noise fills a tensor with values of the size of weights.
func noise(t kernels.Tensor) kernels.Tensor {
	rng := rand.New(rand.NewPCG(1, 2))
	size := t.DType.Size()
	for i := 0; i < len(t.Data); i += size {
		u := rng.Uint32()
		t.Data[i+size-1] = byte(u&0x80 | 0x3c) // ±2⁻⁷ and its neighbours
		t.Data[i+size-2] = byte(u >> 8)
	}
	return t
}

// BenchmarkMatMul multiplies x [m, k] by bf16 weights [n, k] of Llama-3.2-1B's layers.
func BenchmarkMatMul(b *testing.B) {
	benchDevices(b, func(b *testing.B, d *Device) {
		peak := d.FMAPeak()
		for _, m := range []int{1024, 2048} {
			for _, kn := range [][2]int{{2048, 2048}, {2048, 3072}, {2048, 8192}, {8192, 2048}} {
				k, n := kn[0], kn[1]
				x, out := noise(d.Alloc(d.Compute(), m, k)), d.Alloc(kernels.F32, m, n)
				w := kernels.Linear{{W: noise(d.Alloc(kernels.BF16, n, k))}}
				b.Run(fmt.Sprintf("%dx%dx%d", m, k, n), func(b *testing.B) {
					d.MatMul(out, x, w) // touches every page for the first time
					for b.Loop() {
						d.MatMul(out, x, w)
					}
					gflops := 2 * float64(m) * float64(k) * float64(n) * float64(b.N) / 1e9 / b.Elapsed().Seconds()
					b.ReportMetric(gflops, "GFLOP/s")
					b.ReportMetric(100*gflops/peak, "%peak")
				})
			}
		}
	})
}

// BenchmarkSwiGLU runs the fused gate and up products of Llama-3.2-1B.
func BenchmarkSwiGLU(b *testing.B) {
	benchDevices(b, func(b *testing.B, d *Device) {
		peak := d.FMAPeak()
		const m, k, n = 1024, 2048, 8192
		x, out := noise(d.Alloc(d.Compute(), m, k)), d.Alloc(d.Compute(), m, n)
		gate := kernels.Linear{{W: noise(d.Alloc(kernels.BF16, n, k))}}
		up := kernels.Linear{{W: noise(d.Alloc(kernels.BF16, n, k))}}
		d.SwiGLU(out, x, gate, up)
		for b.Loop() {
			d.SwiGLU(out, x, gate, up)
		}
		gflops := 4 * float64(m*k*n) * float64(b.N) / 1e9 / b.Elapsed().Seconds()
		b.ReportMetric(gflops, "GFLOP/s")
		b.ReportMetric(100*gflops/peak, "%peak")
	})
}

// BenchmarkDecode multiplies few rows by 1 GiB of bf16 weights, which come from memory each time.
func BenchmarkDecode(b *testing.B) {
	benchDevices(b, func(b *testing.B, d *Device) {
		const k, n, layers = 2048, 8192, 32
		peak, err := d.ReadBandwidth(k * n * 2 * layers)
		if err != nil {
			b.Fatal(err)
		}
		w := noise(d.Alloc(kernels.BF16, layers*n, k))
		for _, rows := range []int{1, 2, 4, 8} {
			x, out := noise(d.Alloc(d.Compute(), rows, k)), d.Alloc(kernels.F32, rows, n)
			b.Run(fmt.Sprint(rows), func(b *testing.B) {
				for b.Loop() {
					for l := range layers {
						d.MatMul(out, x, kernels.Linear{{W: w.Slice(l*n, (l+1)*n)}})
					}
				}
				gbs := float64(len(w.Data)) * float64(b.N) / 1e9 / b.Elapsed().Seconds()
				b.ReportMetric(gbs, "GB/s")
				b.ReportMetric(100*gbs/peak, "%bandwidth")
			})
		}
	})
}
