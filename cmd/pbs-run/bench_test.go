package main

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func benchPrefill(t *testing.T, args ...string) (r benchReport) {
	t.Helper()
	runJSON(t, &r, append([]string{"bench", "prefill", "--json", "--repeat", "1"}, args...)...)
	return r
}

func TestBenchPrefill(t *testing.T) {
	r := benchPrefill(t, "-m", models+"llama-f16", "--lengths", "64,1K", "--decode", "2")
	if len(r.Lengths) != 2 || r.Lengths[1].Tokens != 1024 || r.Lengths[1].Median <= 0 || r.Peak <= 0 || r.Lengths[0].PeakShare <= 0 || r.Lengths[0].DecodeRate <= 0 || r.Attention != "full" {
		t.Errorf("got %+v", r)
	}
	if r = benchPrefill(t, "-m", models+"llama-f16", "--lengths", "1K", "--decode", "0", "--attention", "pbs:block=32,segment=64,tau=0.5"); len(r.Lengths) != 1 || r.Lengths[0].Speedup != 0 || r.Lengths[0].Share.Attend <= 0 {
		t.Errorf("one method alone: %+v", r)
	}
}

// TestBenchMethods: full comes first even where it is given last, a forced density is met, and the shares of time are parts of
// a whole.
func TestBenchMethods(t *testing.T) {
	r := benchPrefill(t, "--load-format", "dummy", "-m", models+"llama3-d128-bf16", "--lengths", "2K,1K", "--decode", "0", "--force-density", "0.4", "--whole-last-layer",
		"--attention", "pbs:block=32,segment=64", "--attention", "meanpool:block=32", "--attention", "full")
	if len(r.Lengths) != 6 || len(r.BreakEven) != 2 || r.ForcedDensity != 0.4 {
		t.Fatalf("got %+v", r)
	}
	for i, l := range r.Lengths {
		want := []string{"full", "pbs:block=32,segment=64,tau=0.9,permute=on,first=on,density=0.4", "meanpool:block=32,tau=0.9,density=0.4"}[i%3]
		if l.Attention != want || l.Tokens != 1024<<(i/3) || l.Speedup <= 0 || l.Bound < 1 {
			t.Errorf("row %d: %+v", i, l)
		}
		if d := l.Density; i%3 == 0 && d != 1 || i%3 > 0 && math.Abs(d-0.4) > 0.05 {
			t.Errorf("row %d has density %g", i, d)
		}
		sum := l.Share.Permute + l.Share.Select + l.Share.Attend + l.Share.Linear
		if sum < 0.2 || sum > 1 || (l.Share.Permute > 0) != (i%3 == 1) || (l.Share.Select > 0) != (i%3 > 0) {
			t.Errorf("row %d: shares %+v", i, l.Share)
		}
	}
	stdout, _, err := pbsRun("", "bench", "prefill", "-m", models+"llama-f16", "--lengths", "512", "--repeat", "1", "--attention", "full", "--attention", "pbs", "--force-density", "0.3")
	if err != nil || !strings.Contains(stdout, "DENSITY FORCED to 0.3") || !strings.Contains(stdout, "speed-up") {
		t.Errorf("table: %v\n%s", err, stdout)
	}
}

// TestBenchLayers: --attention-layers and --force-density reach the layers they name, and the report says which those are.
func TestBenchLayers(t *testing.T) {
	args := []string{"-m", "../../demo/model", "--lengths", "1K", "--decode", "0", "--warmup", "0"}
	for _, c := range []struct {
		args   []string
		spec   string
		layers []string
		want   []float64 // density by layer
	}{
		{[]string{"--attention-layers", "1-2=pbs:density=0.6"}, "full",
			[]string{"1-2=pbs:block=128,segment=256,tau=0.9,permute=on,first=on,density=0.6"}, []float64{1, 0.6, 0.6, 1}},
		{[]string{"--attention", "meanpool", "--attention-layers", "0=pbs:tau=1", "--attention-layers", "3=full", "--force-density", "0.6"},
			"meanpool:block=128,tau=0.9,density=0.6", []string{"0=pbs:block=128,segment=256,tau=1,permute=on,first=on,density=0.6", "3=full"},
			[]float64{0.6, 0.6, 0.6, 1}},
		{[]string{"--attention", "full", "--attention-layers", "0-3=auto", "--force-density", "0.6"}, "full",
			[]string{"0-3=pbs:block=128,segment=256,tau=0.9,permute=on,first=on,last=2,density=0.6"}, []float64{0.8, 0.8, 0.8, 0.8}},
	} {
		r := benchPrefill(t, append(args, c.args...)...)
		l := r.Lengths[0]
		if l.Attention != c.spec || !slices.Equal(l.Layers, c.layers) || len(l.PerLayer) != len(c.want) {
			t.Fatalf("%v: %+v", c.args, l)
		}
		for i, d := range l.PerLayer {
			if math.Abs(d-c.want[i]) > 0.1 {
				t.Errorf("%v: layer %d has density %g, want %g", c.args, i, d, c.want[i])
			}
		}
	}
	// Beside others, full is what they are measured by.
	r := benchPrefill(t, append(args, "--attention", "full", "--attention", "pbs", "--attention-layers", "0-1=pbs:density=0.6")...)
	if full, pbs := r.Lengths[0], r.Lengths[1]; full.Density != 1 || full.Layers != nil || pbs.Layers == nil {
		t.Errorf("got %+v", r.Lengths)
	}
}

// TestInterruptBench: Ctrl-C stops a comparison with exit code 130, while it measures the machine's peak as in a prefill.
func TestInterruptBench(t *testing.T) {
	for _, wait := range []time.Duration{200, 900} {
		cmd := process("bench", "prefill", "-m", "../../demo/model", "--lengths", "4K", "--repeat", "10000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(wait * time.Millisecond)
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupt {
			t.Errorf("after %v ms: %v, want exit code %d", int(wait), err, exitInterrupt)
		}
	}
}

// TestCalibrate: what --calibrate stores is what --attention auto goes by, for the same threads and method alone, and a broken file is an
// error, which --calibrate finds before it measures.
func TestCalibrate(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	demo := "../../demo/model"
	for range 2 { // the second replaces the first
		r := benchPrefill(t, "-m", demo, "--lengths", "256,512", "--decode", "0", "--calibrate", "--prompt-file", "../../demo/document.txt", "--threads", "1", "--device", "cpu")
		if r.Calibration == "" || len(r.BreakEven) != 1 {
			t.Fatalf("got %+v", r)
		}
	}
	path := filepath.Join(cache, "pbs-run", "calibration.json")
	list, err := readCalibrations(path)
	if err != nil || len(list) != 1 || list[0].Threads != 1 || list[0].MinLength < 256 || list[0].MinLength > 513 || len(list[0].Measured) != 2 {
		t.Fatalf("stored %+v, %v", list, err)
	}
	doc := writeFile(t, "doc", strings.Repeat("A goroutine is a function. ", 150))
	generate := func(threads string) (result, error) {
		stdout, _, err := pbsRun("", "generate", "-m", demo, "-f", doc, "-n", "1", "--json", "--attention", "auto", "--threads", threads)
		var r result
		if err == nil {
			err = json.Unmarshal([]byte(stdout), &r)
		}
		return r, err
	}
	if r, err := generate("1"); err != nil || r.MinLength != list[0].MinLength {
		t.Errorf("calibrated: min length %d, want %d, %v", r.MinLength, list[0].MinLength, err)
	}
	if r, err := generate("2"); err != nil || r.MinLength != autoDefault {
		t.Errorf("other threads: min length %d, want %d, %v", r.MinLength, autoDefault, err)
	}
	list[0].Method = "pbs"
	if err := saveCalibration(path, list[0]); err != nil {
		t.Fatal(err)
	}
	if r, err := generate("1"); err != nil || r.MinLength != autoDefault {
		t.Errorf("another method: min length %d, want %d, %v", r.MinLength, autoDefault, err)
	}
	if err := os.WriteFile(path, []byte("[{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := generate("1"); err == nil || !strings.Contains(err.Error(), "calibration.json") {
		t.Errorf("a broken file: %v", err)
	}
	_, stderr, err := pbsRun("", "bench", "prefill", "-m", demo, "--lengths", "256", "--calibrate")
	if err == nil || !strings.Contains(err.Error(), "calibration.json") || strings.Contains(stderr, "run 1") {
		t.Errorf("a broken file: %v\n%s", err, stderr)
	}
}

func TestBreakEven(t *testing.T) {
	p := func(tokens int, full, sparse float64) point { return point{Tokens: tokens, Full: full, Sparse: sparse} }
	for _, c := range []struct {
		points  []point
		tokens  int
		crossed bool
	}{
		{[]point{p(1000, 1, 2), p(4000, 2, 1)}, 2000, true},
		{[]point{p(1000, 2, 1), p(2000, 1, 1), p(4000, 2, 1)}, 2000, true}, // a tie is no win
		{[]point{p(1000, 2, 1), p(2000, 3, 1)}, 1000, false},
		{[]point{p(1000, 1, 2), p(2000, 2, 3)}, 0, false},
		{[]point{p(1000, 2, 1), p(2000, 2, 3)}, 0, false},
	} {
		if tokens, crossed := breakEven(c.points); tokens != c.tokens || crossed != c.crossed {
			t.Errorf("%v: %d, %v, want %d, %v", c.points, tokens, crossed, c.tokens, c.crossed)
		}
	}
	if q := quantile([]float64{4, 1, 2, 3, 5}, 0.1); math.Abs(q-1.4) > 1e-12 {
		t.Errorf("10th percentile %g, want 1.4", q)
	}
	if m := median([]float64{4, 1, 2, 3}); m != 2.5 {
		t.Errorf("median %g, want 2.5", m)
	}
}

func TestBenchAttention(t *testing.T) {
	args := []string{"bench", "attention", "--heads", "4", "--kv-heads", "2", "--head-dim", "32", "--lengths", "2K", "--repeat", "1",
		"--attention", "pbs:block=32,segment=64", "--attention", "meanpool:block=32", "--density", "0.2,1"}
	var r attentionReport
	runJSON(t, &r, append(args, "--json")...)
	if len(r.Rows) != 5 || r.Rows[0].Attention != "full" || r.Rows[0].OfDense != 1 {
		t.Fatalf("got %+v", r)
	}
	for i, row := range r.Rows[1:] {
		if want := []float64{0.2, 1}[i%2]; math.Abs(row.Density-want) > 0.03 || !row.Forced || row.GFLOPS <= 0 || row.Seconds.Select <= 0 || row.Total < row.Seconds.Attend {
			t.Errorf("row %d: %+v", i, row)
		}
	}
	// By its own rule, the made-up layer has something to choose, and permutation helps.
	runJSON(t, &r, append(args[:len(args)-2:len(args)-2], "--json", "--attention", "pbs:block=32,segment=64,permute=off")...)
	if on, off := r.Rows[1].Density, r.Rows[3].Density; on > 0.95 || on >= off {
		t.Errorf("density %g, in order %g", on, off)
	}
	if stdout, _, err := pbsRun("", args...); err != nil || !strings.Contains(stdout, " forced") {
		t.Errorf("table: %v\n%s", err, stdout)
	}
}
