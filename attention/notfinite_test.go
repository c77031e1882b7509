package attention_test

import (
	"math"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
)

// sparseSpecs are all sparse methods, small enough for a few hundred tokens.
var sparseSpecs = [...]string{
	"pbs:block=32,segment=64", "pbs:block=32,segment=64,permute=off", "pbs:block=32,segment=64,last=2", "pbs+:block=32,segment=64", "meanpool:block=32",
	"xattention:block=32", "flexprefill:block=32,min=32", "flexprefill:block=32,min=32,tau=1", "minference:vertical=20,slash=120",
}

// A key that is NaN makes every query that may see it NaN, whatever a method would have kept, and none before it; a query that is NaN
// is so alone.
func TestNaNShows(t *testing.T) {
	forEachSet(t, func(t *testing.T, dev kernels.Device) {
		for _, spec := range sparseSpecs {
			m, err := attention.Parse(spec)
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range []int{0, 70, 133, 299} {
				c := newSmall(2, 1, 32, 0, 300, 1)
				c.k[at*c.dim+3] = float32(math.NaN())
				out, _ := c.run(t, dev, m)
				c.checkNaN(t, spec, out, func(_, i int) bool { return i >= at })
				c = newSmall(2, 1, 32, 0, 300, 1)
				c.q[at*c.dim+3] = float32(math.NaN()) // of head 0
				out, _ = c.run(t, dev, m)
				c.checkNaN(t, spec, out, func(h, i int) bool { return h == 0 && i == at })
			}
		}
	})
}

func (c small) checkNaN(t *testing.T, spec string, out []float32, want func(h, i int) bool) {
	t.Helper()
	for n, x := range out {
		if i, h := n/c.dim/c.heads, n/c.dim%c.heads; (x != x) != want(h, i) {
			t.Fatalf("%s: query %d of head %d is %g", spec, i, h, x)
		}
	}
}

// Keys and queries that are infinite, and scores too large for a float, end in numbers or NaN, and every order of keys is still one.
func TestInfinite(t *testing.T) {
	inf := float32(math.Inf(1))
	forEachSet(t, func(t *testing.T, dev kernels.Device) {
		for _, spec := range sparseSpecs {
			m, err := attention.Parse(spec)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range []float32{inf, -inf, math.MaxFloat32} {
				c := newSmall(2, 1, 32, 0, 300, 1)
				for _, at := range []int{5, 160, 299} {
					c.k[at*c.dim], c.q[at*c.dim] = x, x
				}
				_, p := c.run(t, dev, m)
				if !p.Permuted {
					continue
				}
				for h := range c.heads {
					seen := make([]bool, p.Sorted())
					for i := range seen {
						at := 2 * (h*p.Perm.Stride + i)
						key := i/p.Segment*p.Segment + int(p.Perm.Data[at]) + int(p.Perm.Data[at+1])<<8
						if key >= len(seen) || seen[key] {
							t.Fatalf("%s: place %d of head %d holds key %d", spec, i, h, key)
						}
						seen[key] = true
					}
				}
			}
		}
	})
}
