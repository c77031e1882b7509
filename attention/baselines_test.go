package attention_test

import (
	"fmt"
	"math"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
)

// selector is what a baseline's JSON says of one of its settings.
type selector struct {
	Block     int     `json:"block_size"`
	Threshold float64 `json:"threshold"`
	Stride    int     `json:"stride"`
	Chunk     int     `json:"chunk_size"`
	Gamma     float64 `json:"gamma"`
	Tau       float64 `json:"tau"`
	MinBlocks int     `json:"min_budget_blocks"`
	Vertical  int     `json:"vertical_size"`
	Slash     int     `json:"slash_size"`
}

// method is the method that has these settings; nil where there is none.
func (s selector) method(name string) attention.Method {
	switch {
	case strings.HasPrefix(name, "meanpool"):
		return attention.MeanPool{Block: s.Block, Tau: s.Threshold}
	case strings.HasPrefix(name, "xattn"):
		return attention.XAttention{Block: s.Block, Stride: s.Stride, Threshold: s.Threshold, Chunk: s.Chunk}
	}
	if strings.HasPrefix(name, "flexprefill") {
		return attention.FlexPrefill{Block: s.Block, Gamma: s.Gamma, Tau: s.Tau, Min: s.MinBlocks * s.Block}
	}
	return nil
}

// baseline is the JSON of a case of testdata/baselines.
type baseline struct {
	Heads     int                 `json:"num_heads"`
	KVHeads   int                 `json:"num_kv_heads"`
	Dim       int                 `json:"head_dim"`
	Len       int                 `json:"seq_len"`
	Selectors map[string]selector `json:"selectors"`
}

// The published code of the other methods keeps the same blocks, but for one or two near a tie.
func TestGoldenBaselines(t *testing.T) {
	paths, _ := filepath.Glob("../testdata/baselines/*.safetensors")
	if len(paths) == 0 {
		t.Fatal("no golden cases")
	}
	forEachSet(t, func(t *testing.T, dev kernels.Device) {
		for _, path := range paths {
			var c baseline
			g := readGolden(t, path, &c)
			q, kv := tensors(dev, g.floats("q"), g.floats("k"), g.floats("v"), c.Heads, c.KVHeads, c.Len, c.Dim)
			names := make([]string, 0, len(c.Selectors))
			for name := range c.Selectors {
				names = append(names, name)
			}
			sort.Strings(names)
			for _, name := range names {
				m := c.Selectors[name].method(name)
				if m == nil {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s", strings.TrimSuffix(filepath.Base(path), ".safetensors"), name), func(t *testing.T) {
					p := kernels.NewPlan(dev, m.Layout().Shape(kernels.PlanShape{Heads: c.Heads, HeadDim: c.Dim, Capacity: c.Len, Rows: c.Len}))
					out := dev.Alloc(kernels.F32, c.Len, c.Heads*c.Dim)
					attention.Prefill(dev, m, p, out, q, kv, 0, []kernels.Span{{Lo: 0, Hi: c.Len}})
					if err := dev.Err(); err != nil || p.Dense {
						t.Fatal(err, p.Dense)
					}
					checkBaseline(t, p, c, g, name)
				})
			}
		}
	})
}

func checkBaseline(t *testing.T, p *kernels.Plan, c baseline, g golden, name string) {
	t.Helper()
	want, blocks, wrong := g.bytes(name+".mask"), p.KeyBlocks(), 0
	for h := range c.Heads {
		for i := range blocks {
			for j := range i + 1 {
				if kept(p, h, i, j) != (want[(h*blocks+i)*blocks+j] == 1) {
					wrong++
				}
			}
		}
	}
	t.Logf("%d of %d blocks differ", wrong, c.Heads*blocks*(blocks+1)/2)
	if wrong > 2 {
		t.Errorf("%d of %d blocks differ, want at most 2", wrong, c.Heads*blocks*(blocks+1)/2)
	}
}

// kept reports whether row i of p, counted from the first query block, keeps key block j for head h.
func kept(p *kernels.Plan, h, i, j int) bool {
	return p.Keep.Data[(h*p.Keep.Dims[1]+i)*p.Keep.Stride*8+j/8]>>(j%8)&1 == 1
}

// The published MInference takes the same columns and distances. It divides scores by √128 whatever the head dimension.
func TestGoldenMInference(t *testing.T) {
	paths, _ := filepath.Glob("../testdata/baselines/*.safetensors")
	forEachSet(t, func(t *testing.T, dev kernels.Device) {
		for _, path := range paths {
			var c baseline
			g := readGolden(t, path, &c)
			q, kv := tensors(dev, g.floats("q"), g.floats("k"), g.floats("v"), c.Heads, c.KVHeads, c.Len, c.Dim)
			for name, s := range c.Selectors {
				if s.Vertical == 0 {
					continue
				}
				m := attention.MInference{Vertical: s.Vertical, Slash: s.Slash}
				p := kernels.NewPlan(dev, m.Layout().Shape(kernels.PlanShape{Heads: c.Heads, HeadDim: c.Dim, Capacity: c.Len, Rows: c.Len}))
				p.Begin(0, c.Len)
				dev.RankLines(p, q, kv, 64, float32(1/math.Sqrt(128)))
				dev.SelectLines(p, kernels.Lines{Columns: s.Vertical, Diagonals: s.Slash, Sink: 30, Recent: 100})
				if err := dev.Err(); err != nil {
					t.Fatal(err)
				}
				for h := range c.Heads {
					checkLines(t, p.Columns, h, g.ints(name+".vertical"), c, path, name+".vertical")
					checkLines(t, p.Diagonals, h, g.ints(name+".slash"), c, path, name+".slash")
				}
			}
		}
	})
}

// checkLines compares the bits of head h in set with want [heads, lines].
func checkLines(t *testing.T, set kernels.Tensor, h int, want []int32, c baseline, path, name string) {
	t.Helper()
	per, missing, n := len(want)/c.Heads, 0, 0
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
		t.Errorf("%s, head %d: %d of %s, want %d; %d are missing", filepath.Base(path), h, n, name, per, missing)
	}
}

func bitSet(set kernels.Tensor, h, i int) bool { return set.Data[h*set.Stride*8+i/8]>>(i%8)&1 == 1 }
