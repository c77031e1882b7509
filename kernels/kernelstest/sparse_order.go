package kernelstest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

func testRankKeys(t *testing.T, dev kernels.Device) {
	// Beyond the edges of blocks and segments: more keys than any kernel ranks in one piece, and scores so wide that most
	// probabilities vanish.
	cases := append(sparseCases(),
		sparseCase{block: 16, segment: 32,
			attendCase: attendCase{rows: 9, first: 9300, heads: 2, kvHeads: 1, dim: 32, kv: kernels.BF16, spread: 3}},
		sparseCase{block: 16, segment: 64,
			attendCase: attendCase{rows: 40, first: 300, heads: 2, kvHeads: 2, dim: 64, kv: kernels.BF16, spread: 300, integer: true}},
		sparseCase{block: 96, segment: 96, attendCase: attendCase{rows: 100, first: 4300, heads: 7, kvHeads: 1, dim: 64, kv: kernels.BF16, spread: 3}})
	for i, c := range cases {
		t.Run(c.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(12, uint64(i)))
			q, k, v := c.inputs(dev, rng)
			p := c.plan(dev)
			dev.RankKeys(p, q.Tensor, kernels.KV{K: k.Tensor, V: v.Tensor})
			Compare(t, Values(t, dev, p.Rank), rankKeys(p, &q, &k), func(i, j int) float64 { return 1e-30 }, c.rankError(dev))
		})
	}
}

// rankError is the relative error of a rank: that of f32 exponents, which grows with them; of an exponential that is good
// enough for bf16; or of keys rounded to bf16.
func (c sparseCase) rankError(dev kernels.Device) float64 {
	switch {
	case dev.Compute() == kernels.F32:
		return 1e-5 + 1e-6*c.spread
	case c.kv == kernels.BF16 || c.spread > 1:
		return 3e-4
	}
	return 1e-2
}

// testSortKeys plants ranks: some equal, some neighbours, zero and subnormal ones, infinity.
func testSortKeys(t *testing.T, dev kernels.Device) {
	for i, c := range []sparseCase{
		{attendCase: attendCase{rows: 15, heads: 2}, block: 16, segment: 16},
		{attendCase: attendCase{rows: 1, first: 15, heads: 2}, block: 16, segment: 16},
		{attendCase: attendCase{rows: 4, first: 130, heads: 7}, block: 16, segment: 32},
		{attendCase: attendCase{rows: 96 * 90, heads: 3}, block: 48, segment: 96},
		{attendCase: attendCase{rows: 4300, heads: 4}, block: 64, segment: 256},
		{attendCase: attendCase{rows: 2000, first: 3000, heads: 1}, block: 128, segment: 512},
		{attendCase: attendCase{rows: 1<<16 + 77, heads: 1}, block: 128, segment: kernels.MaxSegment},
	} {
		for _, kind := range []string{"distinct", "few", "mixed"} {
			c.dim = 2
			t.Run(fmt.Sprintf("%d/%d-%d-%s", c.block, c.segment, c.first+c.rows, kind), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(13, uint64(i)))
				p := c.plan(dev)
				rank := filled(p.Rank, float32(math.NaN()))
				next := rng.Perm(1 << 17)
				for n := range rank {
					if n%p.Rank.Stride >= p.Sorted() {
						continue
					}
					switch rank[n] = math.Float32frombits(0x3c000000 + uint32(next[n%p.Rank.Stride])); {
					case kind == "few" || kind == "mixed" && n%3 == 0:
						rank[n] = []float32{0, 0, 1e-44, 3e-39, 1e-5, 0.5, 0.5, float32(math.Inf(1))}[rng.IntN(8)]
					case kind == "mixed" && n%3 == 1:
						rank[n] = rng.Float32()
					}
				}
				upload(dev, p.Rank, rank)
				upload(dev, p.Perm, filled(p.Perm, uint16(unwritten&0xffff)))
				dev.SortKeys(p)
				checkPerm(t, p, download[uint16](t, dev, p.Perm), rank)
			})
		}
	}
	t.Run("NaN", func(t *testing.T) { testSortKeysNaN(t, dev) })
}

func checkPerm(t *testing.T, p *kernels.Plan, perm []uint16, rank []float32) {
	t.Helper()
	for h := range p.Perm.Rows() {
		row := perm[h*p.Perm.Stride : (h+1)*p.Perm.Stride]
		for i, want := range sortKeys(p, rank[h*p.Rank.Stride:(h+1)*p.Rank.Stride]) {
			if row[i] != want {
				t.Fatalf("head %d: key %d stands at place %d of its segment, want %d", h, row[i], i%p.Segment, want)
			}
		}
		for i, got := range row[p.Sorted():] {
			if got != unwritten&0xffff {
				t.Fatalf("head %d: place %d of the tail is written", h, i)
			}
		}
	}
}

// testSortKeysNaN: whatever NaNs the ranks are, every key has one place.
func testSortKeysNaN(t *testing.T, dev kernels.Device) {
	c := sparseCase{attendCase: attendCase{rows: 256, heads: 3, dim: 2}, block: 16, segment: 64}
	rng := rand.New(rand.NewPCG(14, 0))
	p := c.plan(dev)
	rank := filled(p.Rank, float32(math.NaN()))
	for n := range rank {
		if n > p.Rank.Stride { // the first head has nothing else
			rank[n] = []float32{rng.Float32(), math.Float32frombits(oddNaNs[n%len(oddNaNs)]), float32(math.NaN())}[rng.IntN(3)]
		}
	}
	upload(dev, p.Rank, rank)
	dev.SortKeys(p)
	perm := download[uint16](t, dev, p.Perm)
	for h := range c.heads {
		for base := 0; base < p.Sorted(); base += p.Segment {
			segment := slices.Clone(perm[h*p.Perm.Stride+base:][:p.Segment])
			slices.Sort(segment)
			for i, key := range segment {
				if int(key) != i {
					t.Fatalf("head %d, segment at %d: key %d is missing or stands twice", h, base, i)
				}
			}
		}
	}
}
