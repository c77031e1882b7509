package cpu

import (
	"bytes"
	"fmt"
	"math/bits"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// selections are the operations that choose what a prefill attends to.
var selections = []struct {
	name    string
	segment int
	choose  func(d *Device, p *kernels.Plan, q kernels.Tensor, kv kernels.KV)
}{
	{"strided", 64, func(d *Device, p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
		d.SelectStrided(p, q, kv, 8, kernels.Selection{Tau: 0.8, Own: true, KeepFirst: true, Counted: true})
	}},
	{"permuted strided", 128, func(d *Device, p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
		d.RankKeys(p, q, kv)
		d.SortKeys(p)
		p.Permuted = true
		d.SelectStrided(p, q, kv, 8, kernels.Selection{Tau: 0.8, KeepFirst: true})
	}},
	{"lines", 64, func(d *Device, p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
		d.RankLines(p, q, kv, 64, 0.125)
		d.SelectLines(p, kernels.Lines{Columns: 100, Diagonals: 30, Recent: 20})
	}},
	{"flex", 64, func(d *Device, p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
		d.RankLines(p, q, kv, 64, 0.125)
		d.PoolBlocks(p, q, kv)
		d.SelectFlex(p, q, 64, kernels.Flex{Gamma: 0.8, Tau: 0.4, Least: 1})
	}},
}

// selectShape is a plan of blocks of 64 and its inputs: the same values, whatever the device computes in.
func selectShape(d *Device, segment, rows, first, heads, kvHeads, dim int) (p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
	_, q, kv = attendShape(d, kernels.BF16, rows, first, heads, kvHeads, dim)
	for _, t := range []kernels.Tensor{q, kv.K} {
		for i := t.DType.Size() - 1; i < len(t.Data); i += t.DType.Size() {
			t.Data[i] += 3 // times 2⁶, so that scores differ, yet few probabilities are denormal, which are slow
		}
	}
	shape := kernels.PlanShape{
		Heads: heads, KVHeads: kvHeads, HeadDim: dim, Capacity: first + rows, Rows: rows, Block: 64, Segment: segment, Stride: 8, Lines: true,
	}
	p = kernels.NewPlan(d, shape)
	p.Begin(first, rows)
	return p, q, kv
}

// What is kept is the same bits whatever the number of threads, and nothing is allocated once the shape has been seen.
func TestSelectThreads(t *testing.T) {
	const rows, first = 700, 77
	for _, s := range selections {
		var want [][]byte
		for _, threads := range []int{1, 3} {
			n := 0
			devices(t, threads, func(t *testing.T, d *Device) {
				p, q, kv := selectShape(d, s.segment, rows, first, 8, 2, 64)
				s.choose(d, p, q, kv)
				if threads == 1 {
					want = append(want, bytes.Clone(p.Keep.Data))
				} else if !bytes.Equal(p.Keep.Data, want[n]) {
					t.Errorf("%s: %d threads keep other blocks than one", s.name, threads)
				}
				n++
				if n := testing.AllocsPerRun(30, func() { s.choose(d, p, q, kv) }); n != 0 {
					t.Errorf("%s allocates %g times", s.name, n)
				}
			})
		}
	}
}

// Sets that compute in bf16 keep nearly the same blocks as the plain C kernels in f32.
func TestSelectSets(t *testing.T) {
	const rows, first, heads = 900, 0, 4
	for _, s := range selections {
		var want []byte
		devices(t, 2, func(t *testing.T, d *Device) {
			p, q, kv := selectShape(d, s.segment, rows, first, heads, 2, 64)
			s.choose(d, p, q, kv)
			if err := d.Err(); err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = bytes.Clone(p.Keep.Data)
			}
			differ, kept := 0, 0
			for i, b := range p.Keep.Data {
				differ += bits.OnesCount8(b ^ want[i])
				kept += bits.OnesCount8(b)
			}
			if 20*differ > kept {
				t.Errorf("%s: %d of %d kept blocks differ from those of plain C", s.name, differ, kept)
			}
		})
	}
}

// BenchmarkSelect is what a method spends before it attends, on the prompt of BenchmarkAttend.
func BenchmarkSelect(b *testing.B) {
	benchDevices(b, func(b *testing.B, d *Device) {
		for _, n := range []int{2048, 16384} {
			for _, s := range selections {
				p, q, kv := selectShape(d, s.segment, n, 0, 32, 8, 64)
				b.Run(fmt.Sprintf("%s-%d", s.name, n), func(b *testing.B) {
					for b.Loop() {
						p.Begin(0, n)
						s.choose(d, p, q, kv)
					}
				})
			}
		}
	})
}
