package attention_test

import (
	"encoding/binary"
	"math"
	"math/bits"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/internal/goldentest"
	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kernels/cpu"
)

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
	forEachSet(t, func(t *testing.T, dev kernels.Device) {
		goldentest.RunPBS(t, func(t *testing.T, c goldentest.PBS) { testGoldenPBS(t, dev, c) })
	})
}

func testGoldenPBS(t *testing.T, dev kernels.Device, c goldentest.PBS) {
	m := attention.PBS{Block: c.Block, Segment: c.Segment, Tau: c.Tau, Permute: c.Permute, First: c.First}
	q, kv := tensors(dev, c.Floats("q"), c.Floats("k"), c.Floats("v"), c.Heads, c.KVHeads, c.Len, c.Dim)
	p := kernels.NewPlan(dev, m.Layout().Shape(kernels.PlanShape{Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.Dim, Capacity: c.Len, Rows: c.Len}))
	out := dev.Alloc(kernels.F32, c.Len, c.Heads*c.Dim)
	attention.Prefill(dev, m, p, out, q, kv, 0, []kernels.Span{{Lo: 0, Hi: c.Len}})
	if err := dev.Err(); err != nil {
		t.Fatal(err)
	}
	if p.Dense != c.Dense {
		t.Fatalf("dense is %v, want %v", p.Dense, c.Dense)
	}
	if !c.Dense {
		checkPerm(t, p, c, c.Ints("key_perm"))
		checkMask(t, p, c, c.Bytes("block_mask"))
	}
	checkOutput(t, out.Float32(), c.Floats("out_sparse"), c)
}

func checkPerm(t *testing.T, p *kernels.Plan, c goldentest.PBS, want []int32) {
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

func checkMask(t *testing.T, p *kernels.Plan, c goldentest.PBS, want []byte) {
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

func checkOutput(t *testing.T, got, want []float32, c goldentest.PBS) {
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
