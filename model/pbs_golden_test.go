package model_test

import (
	"math"
	"slices"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/internal/goldentest"
	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kernels/cpu"
	"github.com/pbs-run/pbs-run/model"
)

// pbsRun is a whole model with PBS-Attn in every layer, as the published patch of transformers ran it.
type pbsRun struct {
	goldentest.File `json:"-"`
	Model           string    `json:"model"`
	Block           int       `json:"block_size"`
	Segment         int       `json:"segment_size"`
	Tau             float64   `json:"tau"`
	First           bool      `json:"force_first_block"`
	Density         []float64 `json:"density_per_layer"`
}

// TestGoldenPBS compares logits and the density of every layer, with the last layer whole and with no more of it than the last
// token needs.
func TestGoldenPBS(t *testing.T) {
	for _, isa := range isas() {
		t.Run(isa, func(t *testing.T) {
			goldentest.Run(t, "e2e", func(t *testing.T, g goldentest.File) {
				r := pbsRun{File: g}
				g.JSON(&r)
				testGoldenPBS(t, r, isa)
			})
		})
	}
}

func testGoldenPBS(t *testing.T, r pbsRun, isa string) {
	m, dev := open(t, r.Model, cpu.Options{ISA: isa, F32: true})
	ids, positions, want := r.Ints("input_ids"), r.Ints("positions"), r.Floats("logits")
	method := attention.PBS{Block: r.Block, Segment: r.Segment, Tau: r.Tau, Permute: true, First: r.First}
	s, err := m.NewSession(m.NewPlan(len(ids), len(ids), model.Needs{KV: kernels.F32, Compute: dev.Compute(), Scratch: dev.Scratch, Methods: []attention.Method{method}}))
	if err != nil {
		t.Fatal(err)
	}
	s.WholeLastLayer = true
	if worst, _ := distance(logitsAt(t, s, ids, positions), want); !(worst <= maxLogitError) {
		t.Errorf("logits differ by %g, want at most %g", worst, maxLogitError)
	}
	checkDensity(t, s, r.Density)
	last := slices.Index(positions, int32(len(ids)-1))
	s.WholeLastLayer = false
	if worst, _ := distance(logitsAt(t, s, ids, positions[last:last+1]), want[last*m.Vocab:][:m.Vocab]); !(worst <= maxLogitError) {
		t.Errorf("logits of the last token alone differ by %g, want at most %g", worst, maxLogitError)
	}
	checkDensity(t, s, r.Density)
}

func checkDensity(t *testing.T, s *model.Session, want []float64) {
	t.Helper()
	for i, d := range s.Density() {
		if math.Abs(d.Mean()-want[i]) > 1e-12 {
			t.Errorf("layer %d: density %v, want %v", i, d.Mean(), want[i])
		}
	}
}
