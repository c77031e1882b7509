package attention_test

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nlpodyssey/safetensors"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kernels/cpu"
)

// golden is a file of reference data: what the published PBS-Attn code computed.
type golden struct {
	t    *testing.T
	data safetensors.SafeTensors
}

func readGolden(t *testing.T, path string, info any) golden {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g := golden{t: t}
	if g.data, err = safetensors.Deserialize(b); err != nil {
		t.Fatal(err)
	}
	if b, err = os.ReadFile(strings.TrimSuffix(path, ".safetensors") + ".json"); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, info); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g golden) bytes(name string) []byte {
	g.t.Helper()
	v, ok := g.data.Tensor(name)
	if !ok {
		g.t.Fatalf("no tensor %s", name)
	}
	return v.Data()
}

// floats returns an F32 or BF16 tensor.
func (g golden) floats(name string) []float32 {
	g.t.Helper()
	v, _ := g.data.Tensor(name)
	b := g.bytes(name)
	if v.DType() == safetensors.BF16 {
		out := make([]float32, len(b)/2)
		for i := range out {
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16)
		}
		return out
	}
	out := make([]float32, len(b)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return out
}

func (g golden) ints(name string) []int32 {
	g.t.Helper()
	b := g.bytes(name)
	out := make([]int32, len(b)/4)
	for i := range out {
		out[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return out
}

// pbsCase is the JSON of an op-level case.
type pbsCase struct {
	Heads   int     `json:"num_heads"`
	KVHeads int     `json:"num_kv_heads"`
	Dim     int     `json:"head_dim"`
	Len     int     `json:"seq_len"`
	Block   int     `json:"block_size"`
	Segment int     `json:"segment_size"`
	Tau     float64 `json:"tau"`
	Permute bool    `json:"permute"`
	First   bool    `json:"force_first_block"`
	Dense   bool    `json:"falls_back_to_full"`
	Density struct {
		Density float64 `json:"density"`
		Kept    []int   `json:"selected_causal_blocks"`
	} `json:"density"`
}

// forEachSet runs f on an f32 device of every instruction set of the host.
func forEachSet(t *testing.T, f func(t *testing.T, dev kernels.Device)) {
	for _, set := range []string{"portable", "avx2", "avx512"} {
		dev, err := cpu.Open(cpu.Options{Threads: 2, ISA: set, F32: true})
		if err != nil {
			t.Logf("%s: not run: %v", set, err)
			continue
		}
		t.Run(set, func(t *testing.T) { f(t, dev) })
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	}
}

// tensors places q [heads, n, dim] as rows of all heads, and k and v as a cache.
func tensors(dev kernels.Device, q, k, v []float32, heads, kvHeads, n, dim int) (kernels.Tensor, kernels.KV) {
	rows := make([]float32, len(q))
	for h := range heads {
		for i := range n {
			copy(rows[(i*heads+h)*dim:][:dim], q[(h*n+i)*dim:])
		}
	}
	return dev.Place(kernels.FromFloat32(rows, n, heads*dim)), kernels.KV{
		K: dev.Place(kernels.FromFloat32(k, kvHeads, n, dim)), V: dev.Place(kernels.FromFloat32(v, kvHeads, n, dim)),
	}
}

func TestGoldenPBS(t *testing.T) {
	paths, _ := filepath.Glob("../testdata/pbs/*.safetensors")
	if len(paths) == 0 {
		t.Fatal("no golden cases")
	}
	forEachSet(t, func(t *testing.T, dev kernels.Device) {
		for _, path := range paths {
			t.Run(strings.TrimSuffix(filepath.Base(path), ".safetensors"), func(t *testing.T) { testGoldenPBS(t, dev, path) })
		}
	})
}

func testGoldenPBS(t *testing.T, dev kernels.Device, path string) {
	var c pbsCase
	g := readGolden(t, path, &c)
	m := attention.PBS{Block: c.Block, Segment: c.Segment, Tau: c.Tau, Permute: c.Permute, First: c.First}
	q, kv := tensors(dev, g.floats("q"), g.floats("k"), g.floats("v"), c.Heads, c.KVHeads, c.Len, c.Dim)
	p := kernels.NewPlan(dev, m.Layout().Shape(kernels.PlanShape{Heads: c.Heads, HeadDim: c.Dim, Capacity: c.Len, Rows: c.Len}))
	out := dev.Alloc(kernels.F32, c.Len, c.Heads*c.Dim)
	attention.Prefill(dev, m, p, out, q, kv, 0, []kernels.Span{{Lo: 0, Hi: c.Len}})
	if err := dev.Err(); err != nil {
		t.Fatal(err)
	}
	if p.Dense != c.Dense {
		t.Fatalf("dense is %v, want %v", p.Dense, c.Dense)
	}
	if !c.Dense {
		checkPerm(t, p, c, g.ints("key_perm"))
		checkMask(t, p, c, g.bytes("block_mask"))
	}
	checkOutput(t, out.Float32(), g.floats("out_sparse"), c)
}

func checkPerm(t *testing.T, p *kernels.Plan, c pbsCase, want []int32) {
	t.Helper()
	wrong := 0
	for h := range c.Heads {
		for i := range c.Len {
			got := int32(i)
			if p.Permuted && i < p.Sorted() {
				got = int32(i/c.Segment*c.Segment) + int32(binary.LittleEndian.Uint16(p.Perm.Data[2*(h*p.Perm.Stride+i):]))
			}
			if got != want[h*c.Len+i] {
				wrong++
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d keys stand at another place", wrong, c.Heads*c.Len)
	}
}

func checkMask(t *testing.T, p *kernels.Plan, c pbsCase, want []byte) {
	t.Helper()
	blocks, wrong, causal := p.KeyBlocks(), 0, 0
	for h := range c.Heads {
		kept := 0
		for i := range blocks {
			row := p.Keep.Data[(h*p.Keep.Dims[1]+i)*p.Keep.Stride*8:]
			n := 0
			for j := range blocks {
				keep := row[j/8] >> (j % 8) & 1
				if keep != want[(h*blocks+i)*blocks+j] {
					wrong++
				}
				if j <= i {
					n += bits.OnesCount8(keep)
				}
			}
			if got := binary.LittleEndian.Uint32(p.Kept.Data[4*(h*p.Kept.Stride+i):]); int(got) != n {
				t.Errorf("head %d row %d: counted %d kept blocks, there are %d", h, i, got, n)
			}
			kept += n
		}
		if kept != c.Density.Kept[h] {
			t.Errorf("head %d keeps %d causal blocks, want %d", h, kept, c.Density.Kept[h])
		}
		causal += kept
	}
	if wrong > 0 {
		t.Errorf("%d of %d blocks differ", wrong, c.Heads*blocks*blocks)
	}
	if got := float64(causal) / float64(c.Heads*blocks*(blocks+1)/2); math.Abs(got-c.Density.Density) > 1e-12 {
		t.Errorf("density %v, want %v", got, c.Density.Density)
	}
}

func checkOutput(t *testing.T, got, want []float32, c pbsCase) {
	t.Helper()
	worst := 0.0
	for h := range c.Heads {
		for i := range c.Len {
			for d := range c.Dim {
				diff := math.Abs(float64(got[(i*c.Heads+h)*c.Dim+d] - want[(h*c.Len+i)*c.Dim+d]))
				if worst = max(worst, diff); math.IsNaN(diff) {
					t.Fatalf("head %d, position %d is NaN", h, i)
				}
			}
		}
	}
	if worst > 2e-5 {
		t.Errorf("outputs differ by up to %.3g, want at most 2e-5", worst)
	}
}
