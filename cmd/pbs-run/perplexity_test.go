package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pbs-run/pbs-run/internal/goldentest"
	"github.com/pbs-run/pbs-run/model"
)

// TestPerplexityGolden: transformers' figures, below and beyond the tiles of rows.
func TestPerplexityGolden(t *testing.T) {
	b, err := os.ReadFile(goldentest.Path(t, "perplexity.json"))
	if err != nil {
		t.Fatal(err)
	}
	var table map[string]map[int]float64 // model and length
	if err := json.Unmarshal(b, &table); err != nil || len(table) == 0 {
		t.Fatalf("perplexity.json: %v, %d models", err, len(table))
	}
	for name, byLength := range table {
		cfg, err := model.ReadConfig(models + name)
		if err != nil {
			t.Fatal(err)
		}
		for n, want := range byLength {
			ids := make([]int, n)
			for i := range ids {
				ids[i] = (i*i/7 + 31*i) % cfg.Vocab // as testdata/perplexity.py does
			}
			var r perplexityReport
			runJSON(t, &r, "perplexity", "-m", models+name, "--ids", jsonFile(t, ids), "--attention", "full", "--kv-dtype", "f32", "--json")
			if !(math.Abs(r.NLL-want) <= 2e-6) || r.Tokens != n {
				t.Errorf("%s, %d tokens: mean NLL %.9g, want %.9g", name, r.Tokens, r.NLL, want)
			}
		}
	}
}

// TestPerplexity: against float64 over transformers' logits, of which the first four positions are there, and over all those
// that logits writes.
func TestPerplexity(t *testing.T) {
	const name = "llama3-d32-f32"
	perplexity := func(ids any, args ...string) (r perplexityReport) {
		t.Helper()
		runJSON(t, &r, append([]string{"perplexity", "-m", models + name, "--ids", jsonFile(t, ids), "--kv-dtype", "f32", "--json"}, args...)...)
		return r
	}
	mean := func(logits []float32, ids, positions []int32) float64 {
		vocab, sum, n := len(logits)/len(positions), 0.0, 0
		for i, p := range positions {
			if int(p)+1 >= len(ids) {
				continue
			}
			total := 0.0
			for _, l := range logits[i*vocab:][:vocab] {
				total += math.Exp(float64(l))
			}
			sum += math.Log(total) - float64(logits[i*vocab+int(ids[p+1])])
			n++
		}
		return sum / float64(n)
	}
	g := goldentest.Model(t, name)
	ids, positions, logits := g.Ints("len7.input_ids"), g.Ints("len7.positions"), g.Floats("len7.logits")
	if !slices.Equal(positions[:4], []int32{0, 1, 2, 3}) {
		t.Fatalf("golden positions %v", positions)
	}
	if got, want := perplexity(ids[:5]).NLL, mean(logits, ids[:5], positions); math.Abs(got-want) > 1e-5 {
		t.Errorf("golden logits: mean NLL %g, want %g", got, want)
	}
	ids = g.Ints("len1500.input_ids")
	out := filepath.Join(t.TempDir(), "logits.safetensors")
	const n = 900
	if _, _, err := pbsRun("", "logits", "-m", models+name, "--ids", jsonFile(t, ids[:n]), "--positions", "all", "--kv-dtype", "f32", "--out", out); err != nil {
		t.Fatal(err)
	}
	written := goldentest.Open(t, out)
	r := perplexity(ids, "--length", fmt.Sprint(n))
	if want := mean(written.Floats("logits"), ids[:n], written.Ints("positions")); math.Abs(r.NLL-want) > 1e-6 || math.Abs(r.Perplexity-math.Exp(want)) > 1e-3 || r.Tokens != n {
		t.Errorf("mean NLL %g, want %g", r.NLL, want)
	}
	sparse := perplexity(ids, "--attention", "pbs:block=16,segment=32,tau=0.5")
	if sparse.Density >= 0.95 || sparse.NLL == r.NLL {
		t.Errorf("pbs: density %g", sparse.Density)
	}
	if _, _, err := pbsRun("", "perplexity", "-m", models+name, "--ids", jsonFile(t, ids), "--length", "1501"); err == nil || !strings.Contains(err.Error(), "1500 tokens") {
		t.Errorf("a length beyond the text: %v", err)
	}
}

// TestPerplexityOverflow: a perplexity beyond float64 is left out, and the mean NLL is there.
func TestPerplexityOverflow(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(models+"llama3-d32-f32")); err != nil {
		t.Fatal(err)
	}
	scaleNorm(t, dir, 1e6)
	args := []string{"perplexity", "-m", dir, "--ids", jsonFile(t, []int{1, 2, 3, 4}), "--kv-dtype", "f32"}
	var r map[string]any
	runJSON(t, &r, append(args, "--json")...)
	nll, ok := r["mean_nll"].(float64)
	if _, has := r["perplexity"]; has || !ok || nll < 710 {
		t.Errorf("got %v", r)
	}
	if stdout, _, err := pbsRun("", args...); err != nil || !strings.HasPrefix(stdout, "perplexity +Inf (mean NLL ") {
		t.Errorf("printed %q, %v", stdout, err)
	}
}

// scaleNorm sets every weight of the final norm of an F32 model to x.
func scaleNorm(t *testing.T, dir string, x float32) {
	t.Helper()
	info := tensorIn(t, dir, "model.norm.weight")
	b, err := os.ReadFile(info.File)
	if err != nil {
		t.Fatal(err)
	}
	for i := info.Offset; i < info.Offset+info.Bytes; i += 4 {
		binary.LittleEndian.PutUint32(b[i:], math.Float32bits(x))
	}
	if err := os.WriteFile(info.File, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
