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

	"github.com/nlpodyssey/safetensors"

	"github.com/pbs-run/pbs-run/loader"
)

// file is a safetensors file in memory.
type file struct {
	t    *testing.T
	data safetensors.SafeTensors
}

func readTensors(t *testing.T, path string) file {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := safetensors.Deserialize(b)
	if err != nil {
		t.Fatal(err)
	}
	return file{t, st}
}

func (f file) bytes(name, dtype string, dims ...uint64) []byte {
	f.t.Helper()
	v, ok := f.data.Tensor(name)
	if !ok || v.DType().String() != dtype || !slices.Equal(v.Shape(), dims) {
		f.t.Fatalf("tensor %s: %v, %v %v, want %s %v", name, ok, v.DType(), v.Shape(), dtype, dims)
	}
	return v.Data()
}

// TestAttendGolden: attend gives the order, the blocks and the output of the published code.
func TestAttendGolden(t *testing.T) {
	paths, _ := filepath.Glob("../../testdata/pbs/*.json")
	if len(paths) == 0 {
		t.Fatal("no golden cases")
	}
	for _, path := range paths {
		path = strings.TrimSuffix(path, ".json")
		t.Run(filepath.Base(path), func(t *testing.T) { testAttendGolden(t, path) })
	}
}

func testAttendGolden(t *testing.T, path string) {
	var c struct {
		Heads   uint64  `json:"num_heads"`
		Dim     uint64  `json:"head_dim"`
		Len     uint64  `json:"seq_len"`
		Block   uint64  `json:"block_size"`
		Segment int     `json:"segment_size"`
		Tau     float64 `json:"tau"`
		Permute bool    `json:"permute"`
		First   bool    `json:"force_first_block"`
		Dense   bool    `json:"falls_back_to_full"`
		Density struct {
			Density float64 `json:"density"`
		} `json:"density"`
		Unpermuted *float64 `json:"density_without_permutation"`
	}
	b, err := os.ReadFile(path + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	onOff := map[bool]string{true: "on", false: "off"}
	spec := fmt.Sprintf("pbs:block=%d,segment=%d,tau=%g,permute=%s,first=%s", c.Block, c.Segment, c.Tau, onOff[c.Permute], onOff[c.First])
	out := filepath.Join(t.TempDir(), "out.safetensors")
	stdout, _, err := pbsRun("", "attend", "--input", path+".safetensors", "--attention", spec, "--out", out)
	if err != nil {
		t.Fatal(err)
	}
	var r attendReport
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatal(err)
	}
	golden, got := readTensors(t, path+".safetensors"), readTensors(t, out)
	n := (c.Len + c.Block - 1) / c.Block
	perm, mask := got.bytes("perm", "I32", c.Heads, c.Len), got.bytes("mask", "U8", c.Heads, n, n)
	if r.Dense != c.Dense {
		t.Errorf("dense is %v, want %v", r.Dense, c.Dense)
	}
	if c.Dense {
		if slices.Contains(mask, 0) || r.Density != 1 || binary.LittleEndian.Uint32(perm[4:]) != 1 {
			t.Error("a dense fallback does not have every block, in order")
		}
	} else {
		if !slices.Equal(perm, golden.bytes("key_perm", "I32", c.Heads, c.Len)) {
			t.Error("perm differs")
		}
		if !slices.Equal(mask, golden.bytes("block_mask", "U8", c.Heads, n, n)) {
			t.Error("mask differs")
		}
		if math.Abs(r.Density-c.Density.Density) > 1e-9 {
			t.Errorf("density %g, want %g", r.Density, c.Density.Density)
		}
		if c.Permute && c.Unpermuted != nil && (r.Unpermuted == nil || math.Abs(*r.Unpermuted-*c.Unpermuted) > 1e-9) {
			t.Errorf("density in order %v, want %g", r.Unpermuted, *c.Unpermuted)
		}
	}
	want, have := golden.bytes("out_sparse", "F32", c.Heads, c.Len, c.Dim), got.bytes("out", "F32", c.Heads, c.Len, c.Dim)
	for i := 0; i < len(want); i += 4 {
		a, b := math.Float32frombits(binary.LittleEndian.Uint32(have[i:])), math.Float32frombits(binary.LittleEndian.Uint32(want[i:]))
		if !(math.Abs(float64(a-b)) <= 2e-5) {
			t.Fatalf("output %d is %g, want %g", i/4, a, b)
		}
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
	outs := map[string][]byte{}
	for dtype, path := range inputs {
		out := filepath.Join(t.TempDir(), "out.safetensors")
		if _, _, err := pbsRun("", "attend", "--input", path, "--attention", "full", "--block", "64", "--out", out); err != nil {
			t.Fatal(err)
		}
		f := readTensors(t, out)
		outs[dtype] = f.bytes("out", "F32", 4, 200, 32)
		if slices.Contains(f.bytes("mask", "U8", 4, 4, 4), 0) {
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
	stdout, _, err := pbsRun("", "attend", "--input", suffix, "--attention", "pbs:block=16,segment=32,tau=1", "--out", filepath.Join(t.TempDir(), "o"))
	if err != nil {
		t.Fatal(err)
	}
	var r attendReport
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || r.Density != 1 || r.ErrorMax > 1e-5 || r.Dense || r.Queries != 40 {
		t.Errorf("tau of 1 over a suffix: %s, %v", stdout, err)
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
	// The same method inside the model, which computes of the last layer its last block alone: compare layer 1.
	stdout, _, err = pbsRun("", "attend", "--input", filepath.Join(dir, "layer1.safetensors"), "--attention", "pbs:block=32,segment=64,tau=0.8")
	if err != nil {
		t.Fatal(err)
	}
	var r attendReport
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatal(err)
	}
	stdout, _, err = pbsRun("", "generate", "-m", "../../demo/model", "-f", doc, "--no-chat-template", "-n", "1", "--kv-dtype", "f32",
		"--attention", "full", "--attention-layers", "1=pbs:block=32,segment=64,tau=0.8", "--json", "--stats")
	if err != nil {
		t.Fatal(err)
	}
	var g result
	if err := json.Unmarshal([]byte(stdout), &g); err != nil {
		t.Fatal(err)
	}
	if math.Abs(g.PerLayer[1]-r.Density) > 1e-12 || math.Abs(g.UnpermutedPerLayer[1]-*r.Unpermuted) > 1e-12 || r.ErrorFro <= 0 || r.ErrorFro > 1 {
		t.Errorf("attend: density %g, in order %g, error %g; generate: %g, %g", r.Density, *r.Unpermuted, r.ErrorFro, g.PerLayer[1], g.UnpermutedPerLayer[1])
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 2 {
		t.Errorf("the folder holds %v", left)
	}
}

// TestPerplexity: against float64 over transformers' logits, of which the first four positions are there, and over all those
// that logits writes.
func TestPerplexity(t *testing.T) {
	const model = "llama3-d32-f32"
	perplexity := func(ids any, args ...string) perplexityReport {
		t.Helper()
		stdout, _, err := pbsRun("", append([]string{"perplexity", "-m", models + model, "--ids", jsonFile(t, ids), "--kv-dtype", "f32", "--json"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		var r perplexityReport
		if err := json.Unmarshal([]byte(stdout), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	mean := func(logits, ids, positions []uint32) float64 {
		vocab, sum, n := len(logits)/len(positions), 0.0, 0
		for i, p := range positions {
			if int(p)+1 >= len(ids) {
				continue
			}
			total := 0.0
			for _, w := range logits[i*vocab:][:vocab] {
				total += math.Exp(float64(math.Float32frombits(w)))
			}
			sum += math.Log(total) - float64(math.Float32frombits(logits[i*vocab+int(ids[p+1])]))
			n++
		}
		return sum / float64(n)
	}
	ids, positions, logits := goldenTensor(t, model, "len7.input_ids"), goldenTensor(t, model, "len7.positions"), goldenTensor(t, model, "len7.logits")
	if !slices.Equal(positions[:4], []uint32{0, 1, 2, 3}) {
		t.Fatalf("golden positions %v", positions)
	}
	if got, want := perplexity(ids[:5]).NLL, mean(logits, ids[:5], positions); math.Abs(got-want) > 1e-5 {
		t.Errorf("golden logits: mean NLL %g, want %g", got, want)
	}
	ids = goldenTensor(t, model, "len1500.input_ids")
	out := filepath.Join(t.TempDir(), "logits.safetensors")
	const n = 900
	if _, _, err := pbsRun("", "logits", "-m", models+model, "--ids", jsonFile(t, ids[:n]), "--positions", "all", "--kv-dtype", "f32", "--out", out); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	every := make([]uint32, n)
	for i := range every {
		every[i] = uint32(i)
	}
	r := perplexity(ids, "--length", fmt.Sprint(n))
	if want := mean(words(t, b, "logits"), ids[:n], every); math.Abs(r.NLL-want) > 1e-6 || math.Abs(r.Perplexity-math.Exp(want)) > 1e-3 || r.Tokens != n {
		t.Errorf("mean NLL %g, want %g", r.NLL, want)
	}
	sparse := perplexity(ids, "--attention", "pbs:block=16,segment=32,tau=0.5")
	if sparse.Density >= 0.95 || sparse.NLL == r.NLL {
		t.Errorf("pbs: density %g", sparse.Density)
	}
	if _, _, err := pbsRun("", "perplexity", "-m", models+model, "--ids", jsonFile(t, ids), "--length", "1501"); err == nil || !strings.Contains(err.Error(), "1500 tokens") {
		t.Errorf("a length beyond the text: %v", err)
	}
}
