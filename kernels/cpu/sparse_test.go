package cpu

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// sparsePrefill is all operations on a Plan, one after the other, over a prefill that attends for two spans.
func sparsePrefill(d *Device, p *kernels.Plan, out, q kernels.Tensor, kv kernels.KV, first int) {
	spans := [...]kernels.Span{{Lo: 3, Hi: 40}, {Lo: q.Rows() - 60, Hi: q.Rows()}}
	p.Begin(first, q.Rows())
	p.Permuted = true
	d.RankKeys(p, q, kv)
	d.SortKeys(p)
	d.PoolBlocks(p, q, kv)
	d.SelectBlocks(p, kernels.Selection{Tau: 0.5, KeepFirst: true})
	d.AttendBlocks(out, q, kv, p, spans[:])
}

func sparseShape(d *Device) (p *kernels.Plan, out, q kernels.Tensor, kv kernels.KV, first int) {
	const rows, heads, kvHeads, dim = 700, 8, 2, 64
	first = 4200
	out, q, kv = attendShape(d, kernels.BF16, rows, first, heads, kvHeads, dim)
	p = kernels.NewPlan(d, kernels.PlanShape{Heads: heads, KVHeads: kvHeads, HeadDim: dim, Capacity: first + rows, Rows: rows, Block: 16, Segment: 32})
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

// No operation on a plan allocates, be it for the first time: all it works in is the plan's.
func TestSparseAllocs(t *testing.T) {
	devices(t, 2, func(t *testing.T, d *Device) {
		p, out, q, kv, first := sparseShape(d)
		before := len(d.maps)
		sparsePrefill(d, p, out, q, kv, first)
		if n := testing.AllocsPerRun(3, func() { sparsePrefill(d, p, out, q, kv, first) }); n != 0 || len(d.maps) > before {
			t.Errorf("allocates %g times, maps memory %d times", n, len(d.maps)-before)
		}
		for _, s := range selections {
			p, q, kv := selectShape(d, s.segment, 300, 77, 8, 2, 64)
			before := len(d.maps)
			if n := testing.AllocsPerRun(3, func() { s.choose(d, p, q, kv) }); n != 0 || len(d.maps) > before {
				t.Errorf("%s allocates %g times, maps memory %d times", s.name, n, len(d.maps)-before)
			}
		}
	})
}

// A plan's scratch lasts for whatever shape its operations run in: blocks and prompts of all sizes, of which only the largest was announced.
func TestScratchSuffices(t *testing.T) {
	devices(t, 3, func(t *testing.T, d *Device) {
		for _, s := range []kernels.PlanShape{
			{Heads: 8, KVHeads: 2, HeadDim: 64, Capacity: 5000, Rows: 700, Block: 16, Segment: 16, Stride: 1, Lines: true},
			{Heads: 4, KVHeads: 4, HeadDim: 32, Capacity: 3000, Rows: 3000, Block: 128, Segment: 128, Stride: 128, Lines: true},
			{Heads: 7, KVHeads: 1, HeadDim: 96, Capacity: 900, Rows: 900, Block: 600, Segment: 600, Stride: 8, Lines: true},
			{Heads: 2, KVHeads: 1, HeadDim: 256, Capacity: 1000, Rows: 900, Block: 48, Segment: 96, Stride: 3},
		} {
			p := kernels.NewPlan(d, s)
			for _, n := range []int{s.Capacity, s.Capacity / 2, s.Block + 1} {
				rows := min(n, s.Rows)
				out, q, kv := attendShape(d, kernels.BF16, rows, n-rows, s.Heads, s.KVHeads, s.HeadDim)
				p.Begin(n-rows, rows)
				if s.Lines {
					last := min(s.Block, rows)
					d.RankLines(p, q, kv, last, 0.1)
					d.SelectLines(p, kernels.Lines{Columns: 9, Diagonals: 9, Recent: 1})
					p.Begin(n-rows, rows)
					d.PoolBlocks(p, q, kv)
					d.SelectFlex(p, q, last, kernels.Flex{Gamma: 0.5, Tau: 1, Least: 1})
				}
				p.Permuted = !s.Lines
				d.RankKeys(p, q, kv)
				d.SortKeys(p)
				d.PoolBlocks(p, q, kv)
				d.SelectBlocks(p, kernels.Selection{Tau: 0.5})
				d.SelectStrided(p, q, kv, s.Stride, kernels.Selection{Tau: 0.5, Own: true})
				d.AttendBlocks(out, q, kv, p, []kernels.Span{{Hi: rows}})
				if err := d.Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// Probabilities that are tiny count as 0, which spares some processors most of the time; Go computes on as ever.
func TestDenormals(t *testing.T) {
	const n = 700
	devices(t, 1, func(t *testing.T, d *Device) {
		q, kv, out := tinyShape(d, n, 4, 2, 64, 84)
		p := kernels.NewPlan(d, kernels.PlanShape{Heads: 4, KVHeads: 2, HeadDim: 64, Capacity: n, Rows: n, Block: 64, Segment: 64, Lines: true})
		p.Begin(0, n)
		tiny := func(name string, x kernels.Tensor) {
			for i, v := range x.Float32() {
				if v > 0 && v < 0x1p-126 {
					t.Fatalf("%s[%d] is %g", name, i, v)
				}
			}
		}
		d.RankKeys(p, q, kv)
		tiny("RankKeys", p.Rank)
		d.RankLines(p, q, kv, 64, 0.125)
		tiny("RankLines", p.Rank)
		tiny("RankLines by distance", p.Slash)
		d.Attend(out, q, kv, 0)
		d.Attend(out.Slice(0, 1), q.Slice(n-1, n), kv, n-1)
		if x := math.Float32frombits(uint32(d.Threads())); x/2*2 == x || x == 0 { // 2⁻¹⁴⁹: half of it rounds to 0, but it is not 0
			t.Errorf("Go sees %g as 0", x)
		}
	})
}

// A plan whose bits and bytes are more than 2^31: what a block keeps is written where it stands, and found there for the last query.
func TestLongPlan(t *testing.T) {
	const n, heads, dim, block = 1 << 20, 5, 8, 16
	d, err := Open(Options{Threads: 2, F32: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	p := kernels.NewPlan(d, kernels.PlanShape{Heads: heads, KVHeads: 1, HeadDim: dim, Capacity: n, Rows: n, Block: block, Segment: 2 * block})
	if p.Keep.Bytes() <= math.MaxInt32 {
		t.Fatalf("%d bytes of blocks", p.Keep.Bytes())
	}
	// The memory of rows nobody asks for is never touched.
	q, out := d.Alloc(kernels.F32, n, heads*dim), d.Alloc(kernels.F32, n, heads*dim)
	noise(q.Slice(n-block, n))
	kv := kernels.KV{K: noise(d.Alloc(kernels.BF16, 1, n, dim)), V: noise(d.Alloc(kernels.BF16, 1, n, dim))}
	p.Begin(n-block, block) // to choose for all queries would touch the whole plan
	p.Permuted = true
	end := q.Slice(n-block, n)
	d.RankKeys(p, end, kv)
	d.SortKeys(p)
	d.PoolBlocks(p, end, kv)
	d.SelectBlocks(p, kernels.Selection{Tau: 1})
	row := 8 * p.Keep.Stride
	for h := range heads {
		if kept := binary.LittleEndian.Uint32(p.Kept.Data[4*h*p.Kept.Stride:]); kept != n/block {
			t.Errorf("head %d keeps %d blocks of %d", h, kept, n/block)
		}
		keep := p.Keep.Data[h*p.Keep.Dims[1]*row:]
		copy(keep[(n/block-1)*row:][:row], keep[:row])
		clear(keep[:row])
	}
	p.Begin(0, n)
	p.Permuted = true
	d.AttendBlocks(out, q, kv, p, []kernels.Span{{Lo: n - 1, Hi: n}})
	want := d.Alloc(kernels.F32, 1, heads*dim)
	d.Attend(want, q.Slice(n-1, n), kv, n-1)
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	for i, x := range out.Slice(n-1, n).Float32() {
		if w := want.Float32()[i]; !(math.Abs(float64(x-w)) <= 1e-5) {
			t.Errorf("%d: %g, dense %g", i, x, w)
		}
	}
}
