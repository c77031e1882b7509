package kernelstest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// keep plants p.Keep: each block with the probability share, but the own segment whole, and at least one earlier block.
func (c sparseCase) keep(dev kernels.Device, rng *rand.Rand, p *kernels.Plan, share float64) [][][]bool {
	keep := make([][][]bool, c.heads)
	bits := filled(p.Keep, uint64(0))
	for h := range keep {
		for b := range p.QueryBlocks() {
			row := make([]bool, p.KeyBlocks())
			_, own := candidates(p, p.FirstBlock()+b, kernels.Selection{})
			for j := range row {
				row[j] = rng.Float64() < share || j >= own && j < own+p.Segment/p.Block
			}
			if own > 0 {
				row[rng.IntN(own)] = true
			}
			keep[h] = append(keep[h], row)
			copy(bits[(h*p.Keep.Dims[1]+b)*p.Keep.Stride:], packed(row, p.Keep.Stride))
		}
	}
	upload(dev, p.Keep, bits)
	return keep
}

func testAttendBlocks(t *testing.T, dev kernels.Device) {
	// Beyond the edges of blocks and segments: segments of whole panels that share a piece of work, several words of Keep, a
	// piece of more than 16K keys, large scores, equal ones.
	cases := []sparseCase{{block: 64, segment: 64, permuted: true, spans: []kernels.Span{{Hi: 320}},
		attendCase: attendCase{rows: 320, heads: 8, kvHeads: 2, dim: 32, kv: kernels.BF16, spread: 1}}}
	for _, c := range []attendCase{
		{rows: 50, first: 2050, heads: 4, kvHeads: 2, dim: 64, kv: kernels.BF16, spread: 1},
		{rows: 20, first: 16*1024 + 40, heads: 1, kvHeads: 1, dim: 32, kv: kernels.BF16, spread: 1},
		{rows: 80, first: 220, heads: 2, kvHeads: 2, dim: 64, kv: kernels.BF16, spread: 4000, integer: true},
		{rows: 150, first: 150, heads: 2, kvHeads: 2, dim: 64, kv: kernels.F32},
		{rows: 100, heads: 2, kvHeads: 1, dim: 2, kv: kernels.F32, spread: 1},
		{rows: 100, heads: 2, kvHeads: 1, dim: 34, kv: kernels.BF16, spread: 1},
	} {
		cases = append(cases, sparseCase{attendCase: c, block: 16, segment: 64, permuted: true, spans: []kernels.Span{{Hi: c.rows}}})
	}
	cases = append(cases, sparseCases()...)
	for i, c := range cases {
		t.Run(c.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(18, uint64(i)))
			q, k, v := c.inputs(dev, rng)
			p := c.plan(dev)
			order := c.order(dev, rng, p)
			keep := c.keep(dev, rng, p, 0.6)
			out := q.Tensor
			if !c.alias {
				out = c.empty(dev)
			}
			before := Values(t, dev, out)
			dev.AttendBlocks(out, q.Tensor, kernels.KV{K: k.Tensor, V: v.Tensor}, p, c.spans)
			c.compare(t, dev, Values(t, dev, out), attention(&q, &k, &v, c.first, sees(p, order, keep)), before)
		})
	}
	t.Run("Columns", func(t *testing.T) { testAttendColumns(t, dev) })
	t.Run("Dense", func(t *testing.T) { testAttendBlocksDense(t, dev) })
	t.Run("NaN", func(t *testing.T) { testAttendBlocksNaN(t, dev) })
}

// testAttendColumns plants single columns too: few, and as many as fill tiles; in the rows' own blocks, which count as kept even
// where Keep does not say so, and in blocks that are kept.
func testAttendColumns(t *testing.T, dev kernels.Device) {
	for i, c := range lineCases() {
		if i%2 == 0 || c.cost() > 4e6 {
			continue
		}
		t.Run(c.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(29, uint64(i)))
			q, k, v := c.inputs(dev, rng)
			p := c.plan(dev)
			p.Striped = true
			inBlock := sees(p, c.order(dev, rng, p), c.keep(dev, rng, p, 0.3))
			columns, bits := make([][]bool, c.heads), filled(p.Columns, uint64(0))
			for h := range columns {
				for range p.Keys() {
					columns[h] = append(columns[h], rng.Float64() < []float64{0.02, 0.3, 0.9}[h%3])
				}
				copy(bits[h*p.Columns.Stride:], packed(columns[h], p.Columns.Stride))
			}
			upload(dev, p.Columns, bits)
			want := attention(&q, &k, &v, c.first, func(h, i, key int) bool { return columns[h][key] || inBlock(h, i, key) })
			if rng.IntN(2) == 0 {
				c.forgetOwn(t, dev, p)
			}
			out := c.empty(dev)
			before := Values(t, dev, out)
			dev.AttendBlocks(out, q.Tensor, kernels.KV{K: k.Tensor, V: v.Tensor}, p, c.spans)
			c.compare(t, dev, Values(t, dev, out), want, before)
		})
	}
}

// forgetOwn clears the bits of every row's own block, which is its segment.
func (c sparseCase) forgetOwn(t *testing.T, dev kernels.Device, p *kernels.Plan) {
	bits := download[uint64](t, dev, p.Keep)
	for h := range c.heads {
		for b := range p.QueryBlocks() {
			j := p.FirstBlock() + b
			bits[(h*p.Keep.Dims[1]+b)*p.Keep.Stride+j/64] &^= 1 << (j % 64)
		}
	}
	upload(dev, p.Keep, bits)
}

// empty is an output that nothing has been written to.
func (c sparseCase) empty(dev kernels.Device) kernels.Tensor {
	x := fill(dev, dev.Compute(), 1, c.rows, c.heads*c.dim, c.heads*c.dim+c.gap, func(h, i, j int) float64 { return 7 })
	return x.Tensor
}

// compare compares the rows of the case's spans; the others have to be as before, to the bit.
func (c sparseCase) compare(t *testing.T, dev kernels.Device, got, want, before [][]float64) {
	t.Helper()
	var gotIn, wantIn [][]float64
	for i := range got {
		if c.inSpan(i) {
			gotIn, wantIn = append(gotIn, got[i]), append(wantIn, want[i])
			continue
		}
		for j, x := range got[i] {
			if math.Float64bits(x) != math.Float64bits(before[i][j]) {
				t.Fatalf("row %d is not in a span; its element %d became %g", i, j, x)
			}
		}
	}
	compareAttention(t, dev, gotIn, wantIn)
}

// testAttendBlocksDense: where all blocks are kept, be it by a tau of 1, the result is that of Attend.
func testAttendBlocksDense(t *testing.T, dev kernels.Device) {
	for i, c := range sparseCases() {
		if i%6 != 0 {
			continue
		}
		t.Run(c.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(19, uint64(i)))
			q, k, v := c.inputs(dev, rng)
			kv := kernels.KV{K: k.Tensor, V: v.Tensor}
			dense, out := c.empty(dev), c.empty(dev)
			before := Values(t, dev, out)
			dev.Attend(dense, q.Tensor, kv, c.first)
			want := Values(t, dev, dense)
			for n := range want {
				want[n] = want[n][:c.heads*c.dim]
			}

			p := c.plan(dev)
			c.order(dev, rng, p)
			c.keep(dev, rng, p, 1)
			dev.AttendBlocks(out, q.Tensor, kv, p, c.spans)
			c.compare(t, dev, Values(t, dev, out), want, before)

			p = c.plan(dev)
			if p.Permuted {
				dev.RankKeys(p, q.Tensor, kv)
				dev.SortKeys(p)
			}
			dev.PoolBlocks(p, q.Tensor, kv)
			dev.SelectBlocks(p, kernels.Selection{Tau: 1})
			out = c.empty(dev)
			dev.AttendBlocks(out, q.Tensor, kv, p, c.spans)
			c.compare(t, dev, Values(t, dev, out), want, before)
		})
	}
}

// testAttendBlocksNaN plants NaN and infinity in a key and in a value of a middle segment: the rows that see the key, which
// the order of keys puts anywhere in it, are NaN in the heads and dimensions concerned, and all others are what they would be without.
func testAttendBlocksNaN(t *testing.T, dev kernels.Device) {
	for _, first := range []int{0, 70} {
		for _, where := range []string{"k", "v", "v-inf"} {
			for _, kvType := range []kernels.DType{kernels.BF16, kernels.F32} {
				t.Run(fmt.Sprintf("%s-%v@%d", where, kvType, first), func(t *testing.T) {
					c := sparseCase{attendCase: attendCase{rows: 200 - first, first: first, heads: 4, kvHeads: 2, dim: 64, kv: kvType, spread: 1},
						block: 16, segment: 64, permuted: true}
					c.spans = []kernels.Span{{Hi: c.rows}}
					c.testNaN(t, dev, where)
				})
			}
		}
	}
}

func (c sparseCase) testNaN(t *testing.T, dev kernels.Device, where string) {
	const bad, dim = 100, 5 // of kv head 1
	rng := rand.New(rand.NewPCG(20, 0))
	q, k, v := c.inputs(dev, rng)
	p := c.plan(dev)
	visible := sees(p, c.order(dev, rng, p), c.keep(dev, rng, p, 0.6))
	want := attention(&q, &k, &v, c.first, visible)
	switch where {
	case "k":
		k.set(dev, 1, bad, dim, math.NaN())
	case "v":
		v.set(dev, 1, bad, dim, math.NaN())
	case "v-inf":
		v.set(dev, 1, bad, dim, math.Inf(1))
	}
	out := c.empty(dev)
	dev.AttendBlocks(out, q.Tensor, kernels.KV{K: k.Tensor, V: v.Tensor}, p, c.spans)
	got := Values(t, dev, out)
	for i := range got {
		for j, g := range got[i] {
			h := j / c.dim
			hit := c.first+i >= bad && h/2 == 1 && visible(h, i, bad) && (where == "k" || j%c.dim == dim)
			if finite := !math.IsNaN(g) && !math.IsInf(g, 0); finite == hit {
				t.Fatalf("(%d, %d) is %g", i, j, g)
			}
			if hit {
				got[i][j], want[i][j] = 0, 0
			}
		}
	}
	compareAttention(t, dev, got, want)
}
