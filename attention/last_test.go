package attention_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
)

// lastMethods keep all in the last n query blocks.
func lastMethods(block, n int) []attention.Method {
	pbs := attention.PBS{Block: block, Segment: 2 * block, Tau: 0.2, Permute: true, First: true, Last: n}
	off := pbs
	off.Permute = false
	return []attention.Method{pbs, off, attention.PBSPlus{PBS: pbs, Stride: 8}, attention.MeanPool{Block: block, Tau: 0.2, Last: n}}
}

// With last=n the rows of the last n query blocks are those of dense attention, all others the same bits as without: for whole prompts and
// for suffixes that start inside a block or end in a few rows of one, asked for at once or in part.
func TestLast(t *testing.T) {
	forEachSet(t, func(t *testing.T, dev kernels.Device) {
		rng := rand.New(rand.NewPCG(4, 4))
		for i, keys := range []int{1, 127, 128, 129, 255, 256, 257, 300} {
			for _, first := range []int{0, keys / 3, max(0, keys-9)} {
				p := newPrompt(dev, rng, first, keys-first)
				block := []int{16, 32, 128}[(i+first)%3]
				spans := [][]kernels.Span{{{Lo: 0, Hi: p.rows}}, {{Lo: p.rows - 1, Hi: p.rows}}, drawSpans(rng, p.rows)}[(i+first/2)%3]
				for n := range 4 {
					for m, method := range lastMethods(block, n) {
						p.checkLast(t, dev, method, lastMethods(block, 0)[m], block, n, spans)
					}
				}
			}
		}
	})
}

func (p prompt) checkLast(t *testing.T, dev kernels.Device, m, without attention.Method, block, n int, spans []kernels.Span) {
	t.Helper()
	got, dense, plain := p.prefill(dev, m, p.q, spans), p.prefill(dev, attention.Full{}, p.q, spans), p.prefill(dev, without, p.q, spans)
	blocks := (p.first + p.rows + block - 1) / block
	for i, x := range got {
		row := i / 128
		if !slices.ContainsFunc(spans, func(s kernels.Span) bool { return row >= s.Lo && row < s.Hi }) {
			continue
		}
		if last := (p.first+row)/block >= blocks-n; last && !(math.Abs(float64(x-dense[i])) < 2e-5) || !last && x != plain[i] {
			t.Fatalf("%v, %d rows at %d, spans %v: row %d is %g, dense %g, without %g", m, p.rows, p.first, spans, row, x, dense[i], plain[i])
		}
	}
}

// A large last is dense attention throughout.
func TestLastOfAll(t *testing.T) {
	m, err := attention.Parse(fmt.Sprintf("pbs:block=16,segment=32,tau=0,last=%d", math.MaxInt32))
	if err != nil {
		t.Fatal(err)
	}
	forEachSet(t, func(t *testing.T, dev kernels.Device) {
		p := newPrompt(dev, rand.New(rand.NewPCG(5, 5)), 50, 130)
		spans := []kernels.Span{{Lo: 0, Hi: 130}}
		want := p.prefill(dev, attention.Full{}, p.q, spans)
		for i, got := range p.prefill(dev, m, p.q, spans) {
			if !(math.Abs(float64(got-want[i])) < 2e-5) {
				t.Fatalf("row %d is %g, want %g", i/128, got, want[i])
			}
		}
	})
}
