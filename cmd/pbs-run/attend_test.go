package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pbs-run/pbs-run/internal/goldentest"
	"github.com/pbs-run/pbs-run/loader"
)

// TestAttendGolden: attend gives the order, the blocks and the output of the published code.
func TestAttendGolden(t *testing.T) { goldentest.RunPBS(t, testAttendGolden) }

func testAttendGolden(t *testing.T, c goldentest.PBS) {
	onOff := map[bool]string{true: "on", false: "off"}
	spec := fmt.Sprintf("pbs:block=%d,segment=%d,tau=%g,permute=%s,first=%s", c.Block, c.Segment, c.Tau, onOff[c.Permute], onOff[c.First])
	out := filepath.Join(t.TempDir(), "out.safetensors")
	var r attendReport
	runJSON(t, &r, "attend", "--input", c.Path, "--attention", spec, "--out", out)
	got := goldentest.Open(t, out)
	n := (c.Len + c.Block - 1) / c.Block
	perm, mask := got.Ints("perm", c.Heads, c.Len), got.Bytes("mask", c.Heads, n, n)
	if r.Dense != c.Dense {
		t.Errorf("dense is %v, want %v", r.Dense, c.Dense)
	}
	if c.Dense {
		if slices.Contains(mask, 0) || r.Density != 1 || perm[1] != 1 {
			t.Error("a dense fallback does not have every block, in order")
		}
	} else {
		if !slices.Equal(perm, c.Ints("key_perm", c.Heads, c.Len)) {
			t.Error("perm differs")
		}
		if !slices.Equal(mask, c.Bytes("block_mask", c.Heads, n, n)) {
			t.Error("mask differs")
		}
		if math.Abs(r.Density-c.Density.Density) > 1e-9 {
			t.Errorf("density %g, want %g", r.Density, c.Density.Density)
		}
		if c.Permute && c.Unpermuted != nil && (r.Unpermuted == nil || math.Abs(*r.Unpermuted-*c.Unpermuted) > 1e-9) {
			t.Errorf("density in order %v, want %g", r.Unpermuted, *c.Unpermuted)
		}
	}
	want, have := c.Floats("out_sparse", c.Heads, c.Len, c.Dim), got.Floats("out", c.Heads, c.Len, c.Dim)
	for i := range want {
		if !(math.Abs(float64(have[i]-want[i])) <= 2e-5) {
			t.Fatalf("output %d is %g, want %g", i, have[i], want[i])
		}
	}
}

// TestAttendMInference: attend gives the keys and distances of the published code, in a dense fallback too.
func TestAttendMInference(t *testing.T) {
	goldentest.Run(t, "baselines", func(t *testing.T, g goldentest.File) {
		var c struct {
			Heads     int `json:"num_heads"`
			Len       int `json:"seq_len"`
			Selectors map[string]struct {
				Vertical int `json:"vertical_size"`
				Slash    int `json:"slash_size"`
			}
		}
		g.JSON(&c)
		for name, s := range c.Selectors {
			if s.Vertical == 0 {
				continue
			}
			out := filepath.Join(t.TempDir(), "out.safetensors")
			var r attendReport
			runJSON(t, &r, "attend", "--input", g.Path, "--attention", fmt.Sprintf("minference:vertical=%d,slash=%d,scale=128", s.Vertical, s.Slash), "--out", out)
			got, blocks := goldentest.Open(t, out), (c.Len+63)/64
			vertical, slash := min(s.Vertical, c.Len), min(s.Slash, c.Len)
			if !slices.Equal(got.Ints("vertical", c.Heads, vertical), g.Ints(name+".vertical", c.Heads, vertical)) {
				t.Errorf("%s: vertical differs", name)
			}
			if !slices.Equal(got.Ints("slash", c.Heads, slash), g.Ints(name+".slash", c.Heads, slash)) {
				t.Errorf("%s: slash differs", name)
			}
			if dense := s.Slash >= c.Len; r.Dense != dense || dense && (r.Density != 1 || slices.Contains(got.Bytes("mask", c.Heads, blocks, blocks), 0)) {
				t.Errorf("%s: dense is %v, density %g", name, r.Dense, r.Density)
			}
		}
	})
}

// TestAttendDensity: the density of attend is that of the model, for a method whose single keys count too.
func TestAttendDensity(t *testing.T) {
	dir := t.TempDir()
	doc := writeFile(t, "doc", strings.Repeat("A goroutine is a function. ", 300))
	const spec = "minference:vertical=60,slash=120"
	args := []string{"-m", "../../demo/model", "-f", doc, "--no-chat-template", "--kv-dtype", "f32"}
	if _, _, err := pbsRun("", append([]string{"capture", "--layers", "0", "--out", dir}, args...)...); err != nil {
		t.Fatal(err)
	}
	var a attendReport
	runJSON(t, &a, "attend", "--input", filepath.Join(dir, "layer0.safetensors"), "--attention", spec)
	var g result
	runJSON(t, &g, append([]string{"generate", "-n", "1", "--json", "--attention", spec}, args...)...)
	if math.Abs(a.Density-g.PerLayer[0]) > 1e-12 || a.Density >= 0.95 {
		t.Errorf("attend says %g, generate %g", a.Density, g.PerLayer[0])
	}
}

// writeQKV makes an input of one type.
func writeQKV(t *testing.T, dtype string, heads, kvHeads, queries, keys, dim int, value func(i int) uint32) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), dtype+".safetensors")
	list := []loader.Out{{Name: "q", DType: dtype, Dims: []int{heads, queries, dim}}, {Name: "k", DType: dtype, Dims: []int{kvHeads, keys, dim}}, {Name: "v", DType: dtype, Dims: []int{kvHeads, keys, dim}}}
	w, err := loader.Create(path, list)
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for _, o := range list {
		for range o.Dims[0] * o.Dims[1] * o.Dims[2] {
			var b []byte
			if b = binary.LittleEndian.AppendUint32(nil, value(i)); dtype != "F32" {
				b = b[:2]
			}
			if _, err := w.Write(b); err != nil {
				t.Fatal(err)
			}
			i++
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAttendInputs: all three types of input give the same result for values that all can hold, and a suffix of queries gives
// the end of what all queries give.
func TestAttendInputs(t *testing.T) {
	f16 := []uint32{0x0000, 0x3c00, 0xbc00, 0x3800, 0x4000, 0xc200, 0x2c00, 0xb400} // 0 1 -1 .5 2 -3 .0625 -.25
	f32 := []float32{0, 1, -1, .5, 2, -3, .0625, -.25}
	at := func(i int) int { return (i*7919 + i/13*31 + i/257) % 8 }
	inputs := map[string]string{
		"F16":  writeQKV(t, "F16", 4, 2, 200, 200, 32, func(i int) uint32 { return f16[at(i)] }),
		"BF16": writeQKV(t, "BF16", 4, 2, 200, 200, 32, func(i int) uint32 { return math.Float32bits(f32[at(i)]) >> 16 }),
		"F32":  writeQKV(t, "F32", 4, 2, 200, 200, 32, func(i int) uint32 { return math.Float32bits(f32[at(i)]) }),
	}
	outs := map[string][]float32{}
	for dtype, path := range inputs {
		out := filepath.Join(t.TempDir(), "out.safetensors")
		if _, _, err := pbsRun("", "attend", "--input", path, "--attention", "full", "--block", "64", "--out", out); err != nil {
			t.Fatal(err)
		}
		f := goldentest.Open(t, out)
		outs[dtype] = f.Floats("out", 4, 200, 32)
		if slices.Contains(f.Bytes("mask", 4, 4, 4), 0) {
			t.Error("full does not keep every block")
		}
	}
	if !slices.Equal(outs["F16"], outs["F32"]) || !slices.Equal(outs["BF16"], outs["F32"]) {
		t.Error("the type of the input changes the output")
	}
	for h, want := range map[uint16]float32{0x0001: 1. / (1 << 24), 0x83ff: -1023. / (1 << 24), 0x7bff: 65504, 0x0400: 1. / (1 << 14), 0xfc00: float32(math.Inf(-1))} {
		if got := fromF16(h); got != want {
			t.Errorf("F16 %#04x is %g, want %g", h, got, want)
		}
	}
	if fromF16(0x7e00) == fromF16(0x7e00) {
		t.Error("an F16 NaN is a number")
	}
	suffix := writeQKV(t, "F32", 2, 2, 40, 200, 32, func(i int) uint32 { return math.Float32bits(f32[at(i)]) })
	var r attendReport
	runJSON(t, &r, "attend", "--input", suffix, "--attention", "pbs:block=16,segment=32,tau=1", "--out", filepath.Join(t.TempDir(), "o"))
	if r.Density != 1 || r.ErrorMax > 1e-5 || r.Dense || r.Queries != 40 {
		t.Errorf("tau of 1 over a suffix: %+v", r)
	}
}

func TestCapture(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	doc := writeFile(t, "doc", strings.Repeat("A goroutine is a function. ", 100))
	stdout, _, err := pbsRun("", "capture", "-m", "../../demo/model", "-f", doc, "--no-chat-template", "--layers", "3,1", "--out", dir, "--kv-dtype", "f32")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "layer1.safetensors") + "\n" + filepath.Join(dir, "layer3.safetensors") + "\n"; stdout != want {
		t.Errorf("printed %q, want %q", stdout, want)
	}
	// The same method inside the model.
	var r attendReport
	runJSON(t, &r, "attend", "--input", filepath.Join(dir, "layer1.safetensors"), "--attention", "pbs:block=32,segment=64,tau=0.8")
	var g result
	runJSON(t, &g, "generate", "-m", "../../demo/model", "-f", doc, "--no-chat-template", "-n", "1", "--kv-dtype", "f32",
		"--attention", "full", "--attention-layers", "1=pbs:block=32,segment=64,tau=0.8", "--json", "--stats")
	if math.Abs(g.PerLayer[1]-r.Density) > 1e-12 || math.Abs(g.UnpermutedPerLayer[1]-*r.Unpermuted) > 1e-12 || r.ErrorFro <= 0 || r.ErrorFro > 1 {
		t.Errorf("attend: density %g, in order %g, error %g; generate: %g, %g", r.Density, *r.Unpermuted, r.ErrorFro, g.PerLayer[1], g.UnpermutedPerLayer[1])
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 2 {
		t.Errorf("the folder holds %v", left)
	}
	var keys [3][]float32
	for i, seed := range []string{"1", "1", "2"} { // --needle hides another number elsewhere for another seed
		dir := t.TempDir()
		if _, _, err := pbsRun("", "capture", "-m", "../../demo/model", "-f", doc, "--needle", "--seed", seed, "--layers", "0", "--out", dir); err != nil {
			t.Fatal(err)
		}
		keys[i] = goldentest.Open(t, filepath.Join(dir, "layer0.safetensors")).Floats("k")
	}
	if !slices.Equal(keys[0], keys[1]) || slices.Equal(keys[0], keys[2]) {
		t.Error("the needle does not come from the seed")
	}
}
