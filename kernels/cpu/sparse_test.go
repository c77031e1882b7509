package cpu

import (
	"bytes"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// sparsePrefill is all operations on a Plan, one after the other, over a prefill of two spans.
func sparsePrefill(d *Device, p *kernels.Plan, out, q kernels.Tensor, kv kernels.KV, first int) {
	spans := [...]kernels.Span{{Lo: 3, Hi: 40}, {Lo: q.Rows() - 60, Hi: q.Rows()}}
	p.Begin(first, q.Rows())
	p.Permuted = true
	d.RankKeys(p, q, kv)
	d.SortKeys(p)
	d.PoolBlocks(p, q, kv, spans[:])
	d.SelectBlocks(p, kernels.Selection{Tau: 0.5, KeepFirst: true}, spans[:])
	d.AttendBlocks(out, q, kv, p, spans[:])
}

func sparseShape(d *Device) (p *kernels.Plan, out, q kernels.Tensor, kv kernels.KV, first int) {
	const rows, heads, kvHeads, dim = 700, 8, 2, 64
	first = 4200
	out, q, kv = attendShape(d, kernels.BF16, rows, first, heads, kvHeads, dim)
	p = kernels.NewPlan(d, kernels.PlanShape{Heads: heads, HeadDim: dim, Capacity: first + rows, Rows: rows, Block: 16, Segment: 32})
	return p, out, q, kv, first
}

// Results are the same bits whatever the number of threads, by which the query blocks of an item are chosen.
func TestSparseThreads(t *testing.T) {
	var want [][]byte
	for _, threads := range []int{1, 2, 7} {
		n := 0
		devices(t, threads, func(t *testing.T, d *Device) {
			p, out, q, kv, first := sparseShape(d)
			sparsePrefill(d, p, out, q, kv, first)
			got := bytes.Join([][]byte{out.Data, p.Rank.Data, p.Perm.Data, p.QMean.Data, p.KMean.Data, p.Keep.Data, p.Kept.Data}, nil)
			if threads == 1 {
				want = append(want, got)
			} else if !bytes.Equal(got, want[n]) {
				t.Errorf("%d threads differ from one", threads)
			}
			n++
		})
	}
}

// No operation allocates once its shape has been seen.
func TestSparseAllocs(t *testing.T) {
	devices(t, 2, func(t *testing.T, d *Device) {
		p, out, q, kv, first := sparseShape(d)
		if n := testing.AllocsPerRun(3, func() { sparsePrefill(d, p, out, q, kv, first) }); n != 0 {
			t.Errorf("allocates %g times", n)
		}
	})
}
