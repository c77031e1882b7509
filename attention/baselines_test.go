package attention_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/internal/goldentest"
	"github.com/pbs-run/pbs-run/kernels"
)

// selector is what a baseline's JSON says of one of its settings.
type selector struct {
	Block     int     `json:"block_size"`
	Threshold float64 `json:"threshold"`
	Stride    int     `json:"stride"`
	Gamma     float64 `json:"gamma"`
	Tau       float64 `json:"tau"`
	MinBlocks int     `json:"min_budget_blocks"`
	Vertical  int     `json:"vertical_size"`
	Slash     int     `json:"slash_size"`
}

// method is the method that has these settings, as a user would write them; nil where there is none.
func (s selector) method(t *testing.T, name string) attention.Method {
	t.Helper()
	spec := ""
	switch {
	case strings.HasPrefix(name, "meanpool"):
		spec = fmt.Sprintf("meanpool:block=%d,tau=%v", s.Block, s.Threshold)
	case strings.HasPrefix(name, "xattn"):
		spec = fmt.Sprintf("xattention:block=%d,stride=%d,threshold=%v", s.Block, s.Stride, s.Threshold)
	case strings.HasPrefix(name, "flexprefill"):
		spec = fmt.Sprintf("flexprefill:block=%d,gamma=%v,tau=%v,min=%d", s.Block, s.Gamma, s.Tau, s.MinBlocks*s.Block)
	default:
		return nil
	}
	m, err := attention.Parse(spec)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// baseline is a case of testdata/baselines.
type baseline struct {
	goldentest.File `json:"-"`
	Heads           int                 `json:"num_heads"`
	KVHeads         int                 `json:"num_kv_heads"`
	Dim             int                 `json:"head_dim"`
	Len             int                 `json:"seq_len"`
	Selectors       map[string]selector `json:"selectors"`
}

// runBaselines calls f for each case on each instruction set of the host.
func runBaselines(t *testing.T, f func(t *testing.T, dev kernels.Device, c baseline, q kernels.Tensor, kv kernels.KV)) {
	forEachSet(t, func(t *testing.T, dev kernels.Device) {
		goldentest.Run(t, "baselines", func(t *testing.T, g goldentest.File) {
			c := baseline{File: g}
			g.JSON(&c)
			q, kv := tensors(dev, c.Floats("q"), c.Floats("k"), c.Floats("v"), c.Heads, c.KVHeads, c.Len, c.Dim)
			f(t, dev, c, q, kv)
		})
	})
}

// plan allocates what m needs.
func (c baseline) plan(dev kernels.Device, m attention.Method) *kernels.Plan {
	return kernels.NewPlan(dev, m.Layout().Shape(kernels.PlanShape{Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.Dim, Capacity: c.Len, Rows: c.Len}))
}

// The published code of the other methods keeps the same blocks, but for one or two near a tie.
func TestGoldenBaselines(t *testing.T) {
	runBaselines(t, func(t *testing.T, dev kernels.Device, c baseline, q kernels.Tensor, kv kernels.KV) {
		for _, name := range slices.Sorted(maps.Keys(c.Selectors)) {
			m := c.Selectors[name].method(t, name)
			if m == nil {
				continue
			}
			want := c.Bytes(name + ".mask")
			t.Run(name, func(t *testing.T) {
				p := c.plan(dev, m)
				out := dev.Alloc(kernels.F32, c.Len, c.Heads*c.Dim)
				attention.Prefill(dev, m, p, out, q, kv, 0, []kernels.Span{{Lo: 0, Hi: c.Len}})
				if err := dev.Err(); err != nil || p.Dense {
					t.Fatal(err, p.Dense)
				}
				checkBaseline(t, p, c.Heads, want)
			})
		}
	})
}

// checkBaseline compares the causal blocks of want [heads, blocks, blocks].
func checkBaseline(t *testing.T, p *kernels.Plan, heads int, want []byte) {
	t.Helper()
	blocks, wrong := p.KeyBlocks(), 0
	for h := range heads {
		for i := range blocks {
			for j := range i + 1 {
				if kept(p, h, i, j) != (want[(h*blocks+i)*blocks+j] == 1) {
					wrong++
				}
			}
		}
	}
	t.Logf("%d of %d blocks differ", wrong, heads*blocks*(blocks+1)/2)
	if wrong > 2 {
		t.Errorf("%d of %d blocks differ, want at most 2", wrong, heads*blocks*(blocks+1)/2)
	}
}

// kept reports whether row i of p, counted from the first query block, keeps key block j for head h.
func kept(p *kernels.Plan, h, i, j int) bool {
	return p.Keep.Data[(h*p.Keep.Dims[1]+i)*p.Keep.Stride*8+j/8]>>(j%8)&1 == 1
}

// The published MInference takes the same columns and distances. It divides scores by √128 whatever the head dimension.
func TestGoldenMInference(t *testing.T) {
	runBaselines(t, func(t *testing.T, dev kernels.Device, c baseline, q kernels.Tensor, kv kernels.KV) {
		for name, s := range c.Selectors {
			if s.Vertical == 0 {
				continue
			}
			p := c.plan(dev, attention.MInference{Vertical: s.Vertical, Slash: s.Slash})
			p.Begin(0, c.Len)
			dev.RankLines(p, q, kv, 64, float32(1/math.Sqrt(128)))
			dev.SelectLines(p, kernels.Lines{Columns: s.Vertical, Diagonals: s.Slash, Sink: 30, Recent: 100})
			if err := dev.Err(); err != nil {
				t.Fatal(err)
			}
			for h := range c.Heads {
				checkLines(t, p.Columns, h, c, name+".vertical")
				checkLines(t, p.Diagonals, h, c, name+".slash")
			}
		}
	})
}

// checkLines compares the bits of head h in set with the tensor of that name, [heads, lines].
func checkLines(t *testing.T, set kernels.Tensor, h int, c baseline, name string) {
	t.Helper()
	want, missing, n := c.Ints(name), 0, 0
	per := len(want) / c.Heads
	for _, x := range want[h*per : (h+1)*per] {
		if !bitSet(set, h, int(x)) {
			missing++
		}
	}
	for x := range c.Len {
		if bitSet(set, h, x) {
			n++
		}
	}
	if missing > 0 || n != per {
		t.Errorf("head %d: %d of %s, want %d; %d are missing", h, n, name, per, missing)
	}
}

func bitSet(set kernels.Tensor, h, i int) bool { return set.Data[h*set.Stride*8+i/8]>>(i%8)&1 == 1 }
