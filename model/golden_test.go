package model_test

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/internal/goldentest"
	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kernels/cpu"
	"github.com/pbs-run/pbs-run/loader"
	"github.com/pbs-run/pbs-run/model"
)

var goldenModels = []string{
	"llama3-d32-bf16", "llama3-d32-f32", "llama3-d128-bf16", "llama3-d128-f32", "llama-tied-bf16", "llama-f16", "qwen2-d32-bf16-sharded",
}

// bf16RMS is how far the reference's own bfloat16 runs are from its float32 ones, by prompt length.
func bf16RMS(g goldentest.File) map[int]float64 {
	var info struct {
		Runs map[int]struct {
			RMS float64 `json:"err_bf16run_vs_f32_logits_rms"`
		} `json:"runs"`
	}
	g.JSON(&info)
	rms := map[int]float64{}
	for n, run := range info.Runs {
		rms[n] = run.RMS
	}
	return rms
}

// isas are the instruction sets this host has.
func isas() []string {
	var have []string
	for _, isa := range []string{"portable", "avx2", "avx512", "amx"} {
		if dev, err := cpu.Open(cpu.Options{ISA: isa}); err == nil {
			dev.Close()
			have = append(have, isa)
		}
	}
	return have
}

// forEachModel runs f for every reference model on every instruction set.
func forEachModel(t *testing.T, f func(t *testing.T, isa, name string)) {
	for _, isa := range isas() {
		for _, name := range goldenModels {
			t.Run(isa+"/"+name, func(t *testing.T) { f(t, isa, name) })
		}
	}
}

// open loads a golden model on a device that lives until the test ends.
func open(t testing.TB, name string, opt cpu.Options) (*model.Model, *cpu.Device) {
	t.Helper()
	return openDir(t, goldentest.Path(t, "models", name), opt)
}

func openDir(t testing.TB, dir string, opt cpu.Options) (*model.Model, *cpu.Device) {
	t.Helper()
	cfg, err := model.ReadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := cpu.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	ckpt, err := loader.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ckpt.Close() })
	m, err := model.New(dev, cfg, ckpt)
	if err != nil {
		t.Fatal(err)
	}
	return m, dev
}

func session(t testing.TB, m *model.Model, dev *cpu.Device, capacity, rows int, kv kernels.DType) *model.Session {
	t.Helper()
	s, err := m.NewSession(m.NewPlan(capacity, rows, model.Needs{KV: kv, Compute: dev.Compute(), Methods: []attention.Method{attention.Full{}}}))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// distance returns the largest and the root mean square difference.
func distance(got, want []float32) (worst, rms float64) {
	for i := range got {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if !(d <= worst) {
			worst = d
		}
		rms += d * d
	}
	return worst, math.Sqrt(rms / float64(len(got)))
}

// The bars of float32 arithmetic. The reference is itself within 1.3e-4 of exact arithmetic.
const (
	maxLogitError  = 3e-4
	maxHiddenError = 3e-4
)

func TestGoldenLogits(t *testing.T) {
	forEachModel(t, func(t *testing.T, isa, name string) {
		g := goldentest.Model(t, name)
		m, dev := open(t, name, cpu.Options{ISA: isa, F32: true})
		s := session(t, m, dev, 1500, 1500, kernels.F32)
		for _, n := range []int{1, 7, 130, 700, 1500} {
			p := fmt.Sprintf("len%d.", n)
			ids, want := g.Ints(p+"input_ids"), g.Floats(p+"logits")
			got := logitsAt(t, s, ids, g.Ints(p+"positions"))
			worst, _ := distance(got, want)
			t.Logf("%d tokens: worst difference %.1e", n, worst)
			if !(worst <= maxLogitError) {
				t.Errorf("%d tokens: logits differ by %g, want at most %g", n, worst, maxLogitError)
			}
		}
	})
}

func logitsAt(t *testing.T, s *model.Session, ids, positions []int32) []float32 {
	t.Helper()
	var want []int
	for _, p := range positions {
		want = append(want, int(p))
	}
	var got []float32
	s.Truncate(0)
	err := s.Logits(context.Background(), ids, want, func(_ int, logits []float32) error {
		got = append(got, logits...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestGoldenHidden(t *testing.T) {
	for _, name := range goldenModels {
		t.Run(name, func(t *testing.T) {
			g := goldentest.Model(t, name)
			m, dev := open(t, name, cpu.Options{F32: true})
			s := session(t, m, dev, 700, 700, kernels.F32)
			s.WholeLastLayer = true
			ids, positions := g.Ints("len700.input_ids"), g.Ints("len700.positions")
			want, hidden := g.Floats("len700.hidden"), m.Hidden
			s.AfterLayer = func(layer int, resid kernels.Tensor) error {
				for i, p := range positions {
					got := resid.Slice(int(p), int(p)+1).Float32()
					ref := want[((layer+1)*len(positions)+i)*hidden:][:hidden]
					if worst, _ := distance(got, ref); !(worst <= maxHiddenError) {
						return fmt.Errorf("after layer %d, position %d: differs by %g", layer, p, worst)
					}
				}
				return nil
			}
			logitsAt(t, s, ids, positions)
		})
	}
}

// TestGoldenReduced holds reduced precision to the error of the reference's own bfloat16 run: no more of it with f32
// arithmetic over a bf16 cache, 1.5 times with bf16 products.
func TestGoldenReduced(t *testing.T) {
	forEachModel(t, func(t *testing.T, isa, name string) {
		g := goldentest.Model(t, name)
		bars := bf16RMS(g)
		for _, f32 := range []bool{true, false} {
			m, dev := open(t, name, cpu.Options{ISA: isa, F32: f32})
			limit := 1.5
			if dev.Compute() == kernels.F32 {
				limit = 1
			}
			s := session(t, m, dev, 1500, 1500, kernels.BF16)
			for _, n := range []int{7, 130, 700, 1500} {
				p := fmt.Sprintf("len%d.", n)
				_, rms := distance(logitsAt(t, s, g.Ints(p+"input_ids"), g.Ints(p+"positions")), g.Floats(p+"logits"))
				bar := limit * bars[n]
				t.Logf("f32 %v, %d tokens: rms %.4f of %.4f", f32, n, rms, bar)
				if !(rms <= bar) {
					t.Errorf("f32 %v, %d tokens: rms error %g, want at most %g", f32, n, rms, bar)
				}
			}
		}
	})
}

func TestGoldenGreedy(t *testing.T) {
	forEachModel(t, func(t *testing.T, isa, name string) {
		g := goldentest.Model(t, name)
		m, dev := open(t, name, cpu.Options{ISA: isa, F32: true})
		s := session(t, m, dev, 800, 700, kernels.F32)
		for _, n := range []int{7, 130, 700} {
			p := fmt.Sprintf("len%d.", n)
			want, margin := g.Ints(p+"greedy_tokens"), g.Floats(p+"greedy_margin")
			s.Truncate(0)
			opt := model.Options{Sampling: model.Greedy(), MaxNew: len(want), IgnoreEOS: true}
			i := 0
			for id, err := range s.Generate(context.Background(), g.Ints(p+"input_ids"), opt) {
				if err != nil {
					t.Fatal(err)
				}
				if margin[i] < 2*maxLogitError {
					break // a tie: what follows is not comparable
				}
				if id != want[i] {
					t.Fatalf("%d tokens: token %d is %d, want %d", n, i, id, want[i])
				}
				i++
			}
			if i == 0 {
				t.Errorf("%d tokens: nothing was compared", n)
			}
		}
	})
}
