package cpu

import (
	"fmt"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// BenchmarkAttend is causal attention of a whole prompt: 32 query heads over 8 kv heads, a bf16 cache. The work counted is
// 4·heads·headDim·n²/2; %peak is of the f32 FMA peak of the set in use, measured in the same run.
func BenchmarkAttend(b *testing.B) {
	benchDevices(b, func(b *testing.B, d *Device) {
		peak := d.FMAPeak()
		for _, dim := range []int{64, 128} {
			for _, n := range []int{2048, 8192} {
				out, q, kv := attendShape(d, kernels.BF16, n, 0, 32, 8, dim)
				b.Run(fmt.Sprintf("d%d-%d", dim, n), func(b *testing.B) {
					for b.Loop() {
						d.Attend(out, q, kv, 0)
					}
					gflops := 2 * 32 * float64(dim) * float64(n) * float64(n) * float64(b.N) / 1e9 / b.Elapsed().Seconds()
					b.ReportMetric(gflops, "GFLOP/s")
					b.ReportMetric(100*gflops/peak, "%peak")
				})
			}
		}
	})
}

// BenchmarkAttendDecode is one row over a long bf16 cache, far larger than the caches of the processor.
func BenchmarkAttendDecode(b *testing.B) {
	benchDevices(b, func(b *testing.B, d *Device) {
		const n, dim, kvHeads, layers = 32768, 128, 8, 4
		peak, err := d.ReadBandwidth(1 << 29)
		if err != nil {
			b.Fatal(err)
		}
		for _, heads := range []int{8, 32, 56} {
			var kvs []kernels.KV
			var out, q kernels.Tensor
			for range layers {
				var kv kernels.KV
				out, q, kv = attendShape(d, kernels.BF16, 1, n-1, heads, kvHeads, dim)
				kvs = append(kvs, kv)
			}
			b.Run(fmt.Sprintf("%dheads", heads), func(b *testing.B) {
				for b.Loop() {
					for _, kv := range kvs {
						d.Attend(out, q, kv, n-1)
					}
				}
				gbs := float64(4*n*dim*kvHeads*layers) * float64(b.N) / 1e9 / b.Elapsed().Seconds()
				b.ReportMetric(gbs, "GB/s")
				b.ReportMetric(100*gbs/peak, "%bandwidth")
			})
		}
	})
}
