package model_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nlpodyssey/safetensors"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kernels/cpu"
	"github.com/pbs-run/pbs-run/model"
)

// pbsRun is a whole model with PBS-Attn in every layer, as the published patch of transformers ran it.
type pbsRun struct {
	golden
	info struct {
		Model   string    `json:"model"`
		Block   int       `json:"block_size"`
		Segment int       `json:"segment_size"`
		Tau     float64   `json:"tau"`
		First   bool      `json:"force_first_block"`
		Density []float64 `json:"density_per_layer"`
	}
}

func readPBSRun(t *testing.T, path string) *pbsRun {
	t.Helper()
	r := &pbsRun{golden: golden{t: t}}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if r.data, err = safetensors.Deserialize(b); err != nil {
		t.Fatal(err)
	}
	if b, err = os.ReadFile(strings.TrimSuffix(path, ".safetensors") + ".json"); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &r.info); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestGoldenPBS compares logits and the density of every layer, with the last layer whole and with no more of it than the last
// token needs.
func TestGoldenPBS(t *testing.T) {
	paths, _ := filepath.Glob("../testdata/e2e/*.safetensors")
	if len(paths) == 0 {
		t.Fatal("no golden runs")
	}
	for _, isa := range isas() {
		for _, path := range paths {
			t.Run(isa+"/"+strings.TrimSuffix(filepath.Base(path), ".safetensors"), func(t *testing.T) { testGoldenPBS(t, path, isa) })
		}
	}
}

func testGoldenPBS(t *testing.T, path, isa string) {
	r := readPBSRun(t, path)
	m, dev := open(t, r.info.Model, cpu.Options{ISA: isa, F32: true})
	ids, positions, want := r.ints("input_ids"), r.ints("positions"), r.floats("logits")
	method := attention.PBS{Block: r.info.Block, Segment: r.info.Segment, Tau: r.info.Tau, Permute: true, First: r.info.First}
	s, err := m.NewSession(m.NewPlan(len(ids), len(ids), model.Needs{KV: kernels.F32, Compute: dev.Compute(), Scratch: dev.Scratch, Methods: []attention.Method{method}}))
	if err != nil {
		t.Fatal(err)
	}
	s.WholeLastLayer = true
	if worst, _ := distance(logitsAt(t, s, ids, positions), want); !(worst <= maxLogitError) {
		t.Errorf("logits differ by %g, want at most %g", worst, maxLogitError)
	}
	for i, d := range s.Density() {
		if math.Abs(d.Mean()-r.info.Density[i]) > 1e-12 {
			t.Errorf("layer %d: density %v, want %v", i, d.Mean(), r.info.Density[i])
		}
	}
	last := slices.Index(positions, int32(len(ids)-1))
	s.WholeLastLayer = false
	if worst, _ := distance(logitsAt(t, s, ids, positions[last:last+1]), want[last*m.Vocab:][:m.Vocab]); !(worst <= maxLogitError) {
		t.Errorf("logits of the last token alone differ by %g, want at most %g", worst, maxLogitError)
	}
}
