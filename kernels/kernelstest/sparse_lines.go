package kernelstest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// lineCase is one shape of the operations on columns and diagonals.
type lineCase struct {
	sparseCase
	last int // queries looked at
}

func (c lineCase) String() string { return fmt.Sprintf("%v-last%d", c.sparseCase, c.last) }

// lineCases cross the numbers of keys and of queries looked at where tiles end. All else is drawn, alike every time: whole prompts and
// suffixes, heads, blocks.
func lineCases() []lineCase {
	var cases []lineCase
	rng := rand.New(rand.NewPCG(25, 0))
	n := 0
	for _, keys := range []int{1, 2, 127, 128, 129, 255, 256, 257, 383, 600} {
		for _, last := range []int{1, 15, 17, 47, 48, 49, 64, 128, 257} {
			if last > keys {
				continue
			}
			block := []int{16, 17, 64, 100, 128}[n%5]
			if last > block {
				block = last + n%2*3
			}
			c := drawCase(rng, block, block, keys, n%3)
			for c.rows < last || c.heads*last*keys*c.dim > 2e7 {
				c = drawCase(rng, block, block, keys, rng.IntN(2))
			}
			cases = append(cases, lineCase{c.whole(), last})
			n++
		}
	}
	for _, c := range []struct{ keys, rows, last int }{ // where the pieces end in which kernels take keys, 4096
		{4095, 64, 64}, {4096, 70, 70}, {4097, 64, 64}, {4100, 130, 130}, {8200, 20, 20}, {8193, 1, 1},
	} {
		block := max(64, c.last)
		cases = append(cases, lineCase{sparseCase{block: block, segment: block, lines: true, spans: []kernels.Span{{Hi: c.rows}},
			attendCase: attendCase{rows: c.rows, first: c.keys - c.rows, heads: 2, kvHeads: 1, dim: 32, kv: kernels.BF16, spread: 3}}, c.last})
	}
	// More distances than a piece has, and scores so wide that most probabilities vanish.
	return append(cases, lineCase{sparseCase{block: 4200, segment: 4200, lines: true, spans: []kernels.Span{{Hi: 4300}},
		attendCase: attendCase{rows: 4300, heads: 1, kvHeads: 1, dim: 2, kv: kernels.F32, spread: 2}}, 4200},
		lineCase{sparseCase{block: 64, segment: 64, lines: true, spans: []kernels.Span{{Hi: 90}},
			attendCase: attendCase{rows: 90, first: 300, heads: 2, kvHeads: 2, dim: 64, kv: kernels.BF16, spread: 300, integer: true}}, 64})
}

// whole is the case with one span, keys in their order and the tensors of lines.
func (c sparseCase) whole() sparseCase {
	c.permuted, c.lines, c.spans = false, true, []kernels.Span{{Hi: c.rows}}
	return c
}

func testRankLines(t *testing.T, dev kernels.Device) {
	for i, c := range lineCases() {
		t.Run(c.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(26, uint64(i)))
			q, k, v := c.inputs(dev, rng)
			p := c.plan(dev)
			scale := float32(1 / math.Sqrt(float64(c.dim)))
			if i%2 == 0 {
				scale /= 2
			}
			dev.RankLines(p, q.Tensor, kernels.KV{K: k.Tensor, V: v.Tensor}, c.last, scale)
			rank, slash := rankLines(p, &q, &k, c.last, float64(scale))
			tol := func(i, j int) float64 { return 1e-30 }
			Compare(t, Values(t, dev, p.Rank), rank, tol, c.rankError(dev))
			Compare(t, Values(t, dev, p.Slash), slash, tol, c.rankError(dev))
		})
	}
}

// masses fills a tensor of floats with the first n of every row drawn, the rest NaN.
func masses(dev kernels.Device, x kernels.Tensor, n int, draw func() float32) []float32 {
	data := filled(x, float32(math.NaN()))
	for i := range data {
		if i%x.Stride < n {
			data[i] = draw()
		}
	}
	upload(dev, x, data)
	return data
}

// lineRules are how many lines may be kept, given n keys.
func lineRules(n int) []kernels.Lines {
	return []kernels.Lines{
		{Columns: n / 7, Diagonals: n / 9, Sink: n / 20, Recent: n / 30}, {Columns: 3, Diagonals: 2, Sink: 1, Recent: 1},
		{Columns: 10, Diagonals: 10, Sink: 30, Recent: 100}, {Columns: n, Diagonals: n + 5}, {Columns: n / 2}, {Diagonals: 1 + n/3}, {},
	}
}

// testSelectLines plants masses, distinct ones and few of which many are equal.
func testSelectLines(t *testing.T, dev kernels.Device) {
	for i, c := range lineCases() {
		if i%2 == 1 && c.first+c.rows < 4000 || c.rows*(c.first+c.rows) > 2e6 {
			continue
		}
		t.Run(c.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(27, uint64(i)))
			p := c.plan(dev)
			n := p.Keys()
			for r, lines := range lineRules(n) {
				draw := rng.Float32
				if (i/2+r)%2 == 0 {
					draw = func() float32 { return []float32{0, 0, 1e-44, 1e-5, 0.5}[rng.IntN(5)] }
				}
				rank, slash := masses(dev, p.Rank, n, draw), masses(dev, p.Slash, n, draw)
				erase(dev, p)
				p.Striped = false
				dev.SelectLines(p, lines)
				c.checkLines(t, dev, p, lines, rank, slash)
			}
		})
	}
	t.Run("NaN", func(t *testing.T) { testLinesNaN(t, dev) })
}

// testLinesNaN: a head whose masses hold a NaN keeps everything, so that it shows; others choose as ever.
func testLinesNaN(t *testing.T, dev kernels.Device) {
	c := lineCase{sparseCase{attendCase: attendCase{rows: 200, first: 33, heads: 3, dim: 2}, block: 16, segment: 16, lines: true}, 16}
	rng := rand.New(rand.NewPCG(30, 0))
	p := c.plan(dev)
	n := p.Keys()
	rank, slash := masses(dev, p.Rank, n, rng.Float32), masses(dev, p.Slash, n, rng.Float32)
	rank[p.Rank.Stride+70], slash[p.Slash.Stride+90] = float32(math.NaN()), float32(math.NaN()) // of head 1
	upload(dev, p.Rank, rank)
	upload(dev, p.Slash, slash)
	lines := kernels.Lines{Columns: 20, Diagonals: 10, Sink: 3, Recent: 2}
	dev.SelectLines(p, lines)
	columns, diagonals, words := download[uint64](t, dev, p.Columns), download[uint64](t, dev, p.Diagonals), p.Columns.Stride
	for h := range c.heads {
		wantColumns, wantDiagonals := selectLines(p, rank[h*p.Rank.Stride:], slash[h*p.Slash.Stride:], lines)
		for i := range n {
			wantColumns[i], wantDiagonals[i] = wantColumns[i] || h == 1, wantDiagonals[i] || h == 1
		}
		if !slices.Equal(columns[h*words:(h+1)*words], packed(wantColumns, words)) || !slices.Equal(diagonals[h*words:(h+1)*words], packed(wantDiagonals, words)) {
			t.Errorf("head %d: columns %x, diagonals %x", h, columns[h*words:(h+1)*words], diagonals[h*words:(h+1)*words])
		}
	}
}

func (c lineCase) checkLines(t *testing.T, dev kernels.Device, p *kernels.Plan, lines kernels.Lines, rank, slash []float32) {
	t.Helper()
	if !p.Striped {
		t.Fatal("the plan says nothing of columns")
	}
	gotColumns, gotDiagonals := download[uint64](t, dev, p.Columns), download[uint64](t, dev, p.Diagonals)
	bits, counts := download[uint64](t, dev, p.Keep), download[uint32](t, dev, p.Kept)
	words := p.Columns.Stride
	for h := range c.heads {
		columns, diagonals := selectLines(p, rank[h*p.Rank.Stride:], slash[h*p.Slash.Stride:], lines)
		if got, want := gotColumns[h*words:(h+1)*words], packed(columns, words); !slices.Equal(got, want) {
			t.Fatalf("%+v, head %d: columns %x, want %x", lines, h, got, want)
		}
		if got, want := gotDiagonals[h*words:(h+1)*words], packed(diagonals, words); !slices.Equal(got, want) {
			t.Fatalf("%+v, head %d: diagonals %x, want %x", lines, h, got, want)
		}
		for b := range p.Kept.Cols() {
			n := h*p.Kept.Cols() + b
			got := bits[n*p.Keep.Stride:][:p.Keep.Stride]
			want, count := filled(p.Keep, uint64(unwritten))[:p.Keep.Stride], uint32(unwritten)
			if b < p.QueryBlocks() {
				keep, k := lineBlocks(p, p.FirstBlock()+b, columns, diagonals)
				want, count = packed(keep, p.Keep.Stride), uint32(k)
			}
			if !slices.Equal(got, want) || counts[n] != count {
				t.Fatalf("%+v, head %d, row %d: keeps %x, counts %d, want %x, %d", lines, h, b, got, counts[n], want, count)
			}
		}
	}
}
