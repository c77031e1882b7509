package cuda

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/internal/goldentest"
	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kernels/cpu"
	"github.com/pbs-run/pbs-run/loader"
	"github.com/pbs-run/pbs-run/model"
)

// TestGoldenOnHost holds whole models and PBS choices, computed by the kernels as compiled for the host, to reference data, as
// TestGolden does on a GPU with longer prompts.
func TestGoldenOnHost(t *testing.T) {
	t.Run("Logits", func(t *testing.T) {
		for _, name := range []string{"llama3-d128-bf16", "qwen2-d32-bf16-sharded", "llama-f16"} {
			d, _ := openHost(t)
			testGoldenLogits(t, d, name, []int{7, 130})
		}
	})
	t.Run("PBS", func(t *testing.T) {
		d, _ := openHost(t)
		testGoldenPBS(t, d, 400)
	})
}

// testGoldenLogits compares logits with those of Hugging Face transformers in float32: the error may be 1.5 times that of its own run
// in bf16. Tokens after the prompt come one at a time, so that decode is held to the same.
func testGoldenLogits(t *testing.T, d *Device, name string, lengths []int) {
	t.Run(name, func(t *testing.T) {
		var info struct {
			Runs map[string]struct {
				BF16RMS float64 `json:"err_bf16run_vs_f32_logits_rms"`
			} `json:"runs"`
		}
		data := goldentest.Model(t, name)
		data.JSON(&info)
		dir := goldentest.Path(t, "models", name)
		cfg, err := model.ReadConfig(dir)
		if err != nil {
			t.Fatal(err)
		}
		ckpt, err := loader.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer ckpt.Close()
		s := fullSession(t, d, cfg, ckpt, lengths[len(lengths)-1])
		for _, n := range lengths {
			p := fmt.Sprintf("len%d.", n)
			ids, positions, want := data.Ints(p+"input_ids"), data.Ints(p+"positions"), data.Floats(p+"logits")
			for _, prompt := range []int{n, n - 4} {
				s.Truncate(0)
				var sum float64
				count := 0
				visit := func(at int) func(i int, logits []float32) error {
					return func(i int, logits []float32) error {
						for row, p := range positions {
							if int(p) != at+i {
								continue
							}
							for j, x := range logits {
								diff := float64(x - want[row*len(logits)+j])
								sum += diff * diff
								count++
							}
						}
						return nil
					}
				}
				var wanted []int
				for _, p := range positions {
					if int(p) < prompt {
						wanted = append(wanted, int(p))
					}
				}
				if err := s.Logits(context.Background(), ids[:prompt], wanted, visit(0)); err != nil {
					t.Fatal(err)
				}
				for i := prompt; i < n; i++ {
					if err := s.Logits(context.Background(), ids[i:i+1], []int{0}, visit(i)); err != nil {
						t.Fatal(err)
					}
				}
				rms, bar := math.Sqrt(sum/float64(count)), 1.5*info.Runs[fmt.Sprint(n)].BF16RMS
				t.Logf("%d tokens, %d of them one by one: rms %.4f of %.4f over %d logits", n, n-prompt, rms, bar, count)
				if !(rms <= bar) {
					t.Errorf("%d tokens: rms error %g, want at most %g", n, rms, bar)
				}
			}
		}
	})
}

// testGoldenPBS compares the order of keys and the kept blocks of the published code's cases of up to that many tokens with those of the
// CPU on the same inputs, rounded to bf16: at most one place or block in a thousand may differ, where rounding decides.
func testGoldenPBS(t *testing.T, d *Device, most int) {
	ran := 0
	goldentest.RunPBS(t, func(t *testing.T, c goldentest.PBS) {
		if c.Len > most || c.Dense {
			t.SkipNow()
		}
		ran++
		host, err := cpu.Open(cpu.Options{Threads: 1, F32: true})
		if err != nil {
			t.Fatal(err)
		}
		defer host.Close()
		m := attention.PBS{Block: c.Block, Segment: c.Segment, Tau: c.Tau, Permute: c.Permute, First: c.First}
		q, k, v := c.Floats("q"), c.Floats("k"), c.Floats("v")
		var perms [2][]byte
		var keeps [2][]byte
		for i, dev := range []kernels.Device{host, d} {
			put := func(x []float32, dt kernels.DType, dims ...int) kernels.Tensor {
				to := dev.Alloc(dt, dims...)
				var raw []byte
				for _, f := range x {
					u := math.Float32bits(f)
					u = (u + 0x7fff + u>>16&1) &^ 0xffff
					if dt == kernels.BF16 {
						raw = binary.LittleEndian.AppendUint16(raw, uint16(u>>16))
					} else {
						raw = binary.LittleEndian.AppendUint32(raw, u)
					}
				}
				dev.Upload(to, raw)
				return to
			}
			rows := make([]float32, len(q))
			for h := range c.Heads {
				for i := range c.Len {
					copy(rows[(i*c.Heads+h)*c.Dim:][:c.Dim], q[(h*c.Len+i)*c.Dim:])
				}
			}
			p := kernels.NewPlan(dev, m.Layout().Shape(kernels.PlanShape{Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.Dim, Capacity: c.Len, Rows: c.Len}))
			out := dev.Alloc(dev.Compute(), c.Len, c.Heads*c.Dim)
			kv := kernels.KV{K: put(k, kernels.BF16, c.KVHeads, c.Len, c.Dim), V: put(v, kernels.BF16, c.KVHeads, c.Len, c.Dim)}
			attention.Prefill(dev, m, p, out, put(rows, dev.Compute(), c.Len, c.Heads*c.Dim), kv, 0, []kernels.Span{{Lo: 0, Hi: c.Len}})
			perms[i], keeps[i] = make([]byte, p.Perm.Bytes()), make([]byte, p.Keep.Bytes())
			if err := dev.Download(perms[i], p.Perm); err != nil {
				t.Fatal(err)
			}
			if err := dev.Download(keeps[i], p.Keep); err != nil {
				t.Fatal(err)
			}
		}
		places, blocks := 0, 0
		for i := 0; i < len(perms[0]); i += 2 {
			if !bytes.Equal(perms[0][i:i+2], perms[1][i:i+2]) {
				places++
			}
		}
		total := 0
		for i, x := range keeps[0] {
			blocks += bits.OnesCount8(x ^ keeps[1][i])
			total += bits.OnesCount8(x)
		}
		t.Logf("%d of %d places, %d of %d kept blocks differ", places, len(perms[0])/2, blocks, total)
		if places*1000 > len(perms[0])/2 || blocks*1000 > total {
			t.Error("too many")
		}
	})
	if ran == 0 {
		t.Fatal("no golden cases")
	}
}

// fullSession is a session of up to so many tokens by full attention.
func fullSession(t *testing.T, d *Device, cfg model.Config, ckpt *loader.Checkpoint, tokens int) *model.Session {
	t.Helper()
	m, err := model.New(d, cfg, ckpt)
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.NewSession(m.NewPlan(tokens, tokens, model.Needs{KV: kernels.BF16, Compute: d.Compute(), Methods: []attention.Method{attention.Full{}}}))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
