package attention_test

import (
	"slices"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
)

// What a method would keep with the keys in order is what it keeps with permute=off, by its own scores.
func TestChooseUnpermuted(t *testing.T) {
	on := attention.PBS{Block: 16, Segment: 64, Tau: 0.7, Permute: true, First: true}
	off := on
	off.Permute = false
	forEachSet(t, func(t *testing.T, dev kernels.Device) {
		for _, c := range smalls() {
			q, kv := tensors(dev, c.q, c.k, c.v, c.heads, c.kvHeads, c.keys(), c.dim)
			q = q.Slice(c.first, c.keys())
			for _, m := range []struct{ on, off attention.Method }{
				{on, off},
				{attention.PBSPlus{PBS: on, Stride: 4}, attention.PBSPlus{PBS: off, Stride: 4}},
				{attention.DenseBelow{Method: on, Tokens: c.keys()}, off},
			} {
				_, want := c.run(t, dev, m.off)
				_, p := c.run(t, dev, m.on)
				if slices.Equal(p.Keep.Data, want.Keep.Data) {
					t.Errorf("%v on %v: permutation changes nothing", m.on, c)
				}
				if !attention.ChooseUnpermuted(dev, m.on, p, q, kv, c.first) || p.Permuted || p.Dense {
					t.Errorf("%v on %v: not chosen, or with keys out of order", m.on, c)
				}
				if !slices.Equal(p.Keep.Data, want.Keep.Data) || !slices.Equal(p.Kept.Data, want.Kept.Data) {
					t.Errorf("%v on %v: keeps other blocks than with permute=off", m.on, c)
				}
			}
			for _, m := range []attention.Method{
				off, attention.Full{}, attention.MeanPool{Block: 16, Tau: 0.5}, attention.PBS{Block: 128, Segment: 512, Permute: true},
				attention.DenseBelow{Method: on, Tokens: c.keys() + 1},
			} {
				if attention.ChooseUnpermuted(dev, m, nil, q, kv, c.first) {
					t.Errorf("%v on %v: reorders no keys", m, c)
				}
			}
		}
	})
}
