package model_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kernels/cpu"
	"github.com/pbs-run/pbs-run/loader"
	"github.com/pbs-run/pbs-run/model"
)

func randomIDs(n, vocab int) []int32 {
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = rng.Int32N(int32(vocab))
	}
	return ids
}

// lastLogits appends ids to the session and returns the logits of the last one.
func lastLogits(t *testing.T, s *model.Session, ids []int32) []float32 {
	t.Helper()
	var got []float32
	err := s.Logits(context.Background(), ids, []int{len(ids) - 1}, func(_ int, logits []float32) error {
		got = append(got, logits...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestPrefillDecode: the last logits of prefill(n+1), of prefill(n) + decode(1), and of two prefills over a cut prompt are
// those of one pass, at the edges of blocks.
func TestPrefillDecode(t *testing.T) {
	for _, name := range []string{"llama3-d128-bf16", "qwen2-d32-bf16-sharded"} {
		m, dev := open(t, name, cpu.Options{F32: true})
		s := session(t, m, dev, 300, 300, kernels.F32)
		for _, n := range []int{1, 2, 127, 128, 129, 255, 256, 257} {
			ids := randomIDs(n+1, m.Vocab)
			s.Truncate(0)
			whole := lastLogits(t, s, ids)
			s.Truncate(0)
			lastLogits(t, s, ids[:n])
			decoded := lastLogits(t, s, ids[n:])
			if worst, _ := distance(decoded, whole); !(worst <= 1e-4) {
				t.Errorf("%s, %d tokens + 1: logits differ by %g", name, n, worst)
			}
			s.Truncate(n / 2) // a following turn keeps the first half
			if worst, _ := distance(lastLogits(t, s, ids[n/2:]), whole); !(worst <= 1e-4) {
				t.Errorf("%s, %d tokens kept of %d: logits differ by %g", name, n/2, n+1, worst)
			}
			s.Truncate(0)
		}
	}
}

// TestLastLayer: computing the last layer for the wanted rows alone changes nothing in them.
func TestLastLayer(t *testing.T) {
	m, dev := open(t, "llama3-d32-bf16", cpu.Options{F32: true})
	s := session(t, m, dev, 400, 400, kernels.F32)
	ids := randomIDs(400, m.Vocab)
	for _, want := range [][]int32{{399}, {0}, {0, 1, 2, 7, 130, 131, 398}, {}} {
		s.WholeLastLayer = false
		got := logitsAt(t, s, ids, want)
		s.WholeLastLayer = true
		if worst, _ := distance(got, logitsAt(t, s, ids, want)); worst > 1e-5 {
			t.Errorf("positions %v: logits differ by %g", want, worst)
		}
	}
}

func TestThreadsAgree(t *testing.T) {
	ids := randomIDs(200, 512)
	var first []float32
	for _, threads := range []int{1, 2, 3} {
		m, dev := open(t, "qwen2-d32-bf16-sharded", cpu.Options{Threads: threads})
		got := lastLogits(t, session(t, m, dev, 200, 200, kernels.BF16), ids)
		if first == nil {
			first = got
		} else if worst, _ := distance(got, first); worst != 0 {
			t.Errorf("%d threads: logits differ by %g from those of one thread", threads, worst)
		}
	}
}

func TestLogitsArguments(t *testing.T) {
	m, dev := open(t, "llama-tied-bf16", cpu.Options{})
	s := session(t, m, dev, 20, 10, kernels.BF16)
	for _, c := range []struct {
		ids  []int32
		want []int
		err  string
	}{
		{nil, nil, "planned for 10"},
		{make([]int32, 11), nil, "planned for 10"},
		{[]int32{int32(m.Vocab)}, []int{0}, "outside the vocabulary"},
		{[]int32{-1}, []int{0}, "token id -1"},
		{[]int32{1, 2}, []int{1, 0}, "ascend"},
		{[]int32{1, 2}, []int{1, 1}, "ascend"},
		{[]int32{1, 2}, []int{2}, "ascend within 0 to 1"},
	} {
		err := s.Logits(context.Background(), c.ids, c.want, nil)
		if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("ids %v, positions %v: got error %v, want one with %q", c.ids, c.want, err, c.err)
		}
	}
	lastLogits(t, s, make([]int32, 10))
	lastLogits(t, s, make([]int32, 10))
	if err := s.Logits(context.Background(), []int32{1}, nil, nil); err == nil {
		t.Error("a full cache took another token")
	}
}

func TestCancel(t *testing.T) {
	m, dev := open(t, "llama3-d128-bf16", cpu.Options{})
	const n = 40000
	s := session(t, m, dev, n, n, kernels.BF16)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	err := s.Logits(ctx, randomIDs(n, m.Vocab), []int{n - 1}, func(int, []float32) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want %v", err, context.Canceled)
	}
	if d := time.Since(start); d > 15*time.Second {
		t.Errorf("took %v to stop", d)
	}
	s.Truncate(0)
	lastLogits(t, s, []int32{1, 2, 3}) // the session lives on
	for range 100 {                    // also where the interruption comes when all is done, or about to be
		ctx, cancel := context.WithCancel(context.Background())
		err := s.Logits(ctx, []int32{4}, []int{0}, func(int, []float32) error { cancel(); return nil })
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		s.Truncate(0)
		lastLogits(t, s, []int32{1, 2, 3})
		s.Truncate(0)
	}
}

func TestNotFinite(t *testing.T) {
	m, dev := open(t, "llama3-d128-f32", cpu.Options{F32: true})
	s := session(t, m, dev, 4, 4, kernels.F32)
	s.AfterLayer = func(layer int, resid kernels.Tensor) error {
		if layer == -1 {
			row := resid.Float32()
			row[len(row)-1] /= 0 // as an overflow would
			row[len(row)-1] -= row[len(row)-1]
		}
		return nil
	}
	err := s.Logits(context.Background(), []int32{1, 2}, []int{1}, func(int, []float32) error {
		t.Error("logits were handed out")
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "not finite") || !strings.Contains(err.Error(), "position 1") {
		t.Errorf("got error %v, want one that says position 1 is not finite", err)
	}
}

// TestStepAllocates: after the session has started, nothing is allocated per layer or per token.
func TestStepAllocates(t *testing.T) {
	m, dev := open(t, "qwen2-d32-bf16-sharded", cpu.Options{})
	s := session(t, m, dev, 200, 100, kernels.BF16)
	prompt := randomIDs(100, m.Vocab)
	allocs := func(tokens int) float64 {
		return testing.AllocsPerRun(10, func() {
			s.Truncate(0)
			if n := generate(t, s, prompt, tokens); n != tokens {
				t.Fatalf("%d tokens, want %d", n, tokens)
			}
		})
	}
	if few, many := allocs(2), allocs(80); few != many {
		t.Errorf("2 tokens take %v allocations, 80 take %v", few, many)
	}
}

// TestPrefillAllocates: no method allocates more in a prefill than dense attention, whose plan-less layers allocate nothing.
func TestPrefillAllocates(t *testing.T) {
	m, dev := open(t, "qwen2-d32-bf16-sharded", cpu.Options{})
	prompt := randomIDs(400, m.Vocab)
	allocs := func(spec string) float64 {
		method, err := attention.Parse(spec)
		if err != nil {
			t.Fatal(err)
		}
		needs := model.Needs{KV: kernels.BF16, Compute: dev.Compute(), Scratch: dev.Scratch, Methods: []attention.Method{method}}
		s, err := m.NewSession(m.NewPlan(len(prompt), len(prompt), needs))
		if err != nil {
			t.Fatal(err)
		}
		n := testing.AllocsPerRun(5, func() {
			s.Truncate(0)
			lastRow(t, s, prompt)
		})
		if d := s.Density()[0]; spec != "full" && d.Method == "full" {
			t.Errorf("%s fell back to dense attention", spec)
		}
		return n
	}
	dense := allocs("full")
	for _, spec := range []string{
		"pbs:block=16,segment=64", "pbs:block=16,segment=64,permute=off", "pbs+:block=16,segment=64", "meanpool:block=16", "xattention:block=16",
		"flexprefill:block=16,min=16", "flexprefill:block=16,min=16,tau=1", "minference:vertical=20,slash=120",
	} {
		if n := allocs(spec); n != dense {
			t.Errorf("%s: a prefill allocates %v times, a dense one %v times", spec, n, dense)
		}
	}
}

// lastRow is lastLogits without a copy of them.
func lastRow(t *testing.T, s *model.Session, ids []int32) {
	if err := s.Logits(context.Background(), ids, []int{len(ids) - 1}, func(int, []float32) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

func generate(t testing.TB, s *model.Session, prompt []int32, tokens int) (n int) {
	opt := model.Options{Sampling: model.Greedy(), MaxNew: tokens, IgnoreEOS: true}
	for _, err := range s.Generate(context.Background(), prompt, opt) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// BenchmarkDecode shows in its allocations per operation, of 100 tokens each, that a token costs none.
func BenchmarkDecode(b *testing.B) {
	m, dev := open(b, "llama3-d32-bf16", cpu.Options{})
	s := session(b, m, dev, 200, 100, kernels.BF16)
	prompt := randomIDs(100, m.Vocab)
	b.ReportAllocs()
	for b.Loop() {
		s.Truncate(0)
		generate(b, s, prompt, 100)
	}
}

func TestPlan(t *testing.T) {
	cfg, err := model.ReadConfig(writeConfig(t, baseConfig(), ""))
	if err != nil {
		t.Fatal(err)
	}
	needs := model.Needs{KV: kernels.BF16, Compute: kernels.F32, Weights: 1 << 20, Methods: []attention.Method{attention.Full{}}}
	check := func(n, maxNew int, extrapolate bool, free int64) error {
		return cfg.CheckLength(n, maxNew, extrapolate, free, needs)
	}
	const plenty = 1 << 40
	if err := check(900, 100, false, plenty); err != nil {
		t.Error(err)
	}
	if err := check(900, 101, false, plenty); err == nil || !strings.Contains(err.Error(), "900 tokens + 101 new tokens exceed the model's 1000 positions") {
		t.Errorf("beyond the context: got error %v", err)
	}
	if err := check(900, 101, false, plenty); !errors.Is(err, model.ErrTooLong) || strings.Contains(err.Error(), "--") {
		t.Errorf("beyond the context: got %v, want ErrTooLong without a command's flags", err)
	}
	for _, extrapolate := range []bool{false, true} {
		if err := check(900, math.MaxInt, extrapolate, plenty); err == nil || !strings.Contains(err.Error(), "new tokens: want") {
			t.Errorf("a sum that overflows: got error %v", err)
		}
	}
	if err := check(5000, 100, true, plenty); err != nil {
		t.Error(err)
	}
	if check(0, 1, false, plenty) == nil {
		t.Error("an empty prompt passed")
	}
	free := cfg.NewPlan(600, 500, needs).Total()
	if err := check(500, 100, false, free); err != nil {
		t.Error(err)
	}
	if err := check(600, 100, false, free); err == nil || !strings.Contains(err.Error(), "longest prompt that fits has 500 tokens") {
		t.Errorf("beyond the memory: got error %v, want one that names 500 tokens", err)
	}
}

// TestWeights: every way in which a checkpoint can disagree with its config is an error that names the tensor.
func TestWeights(t *testing.T) {
	dev, err := cpu.Open(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	for _, c := range []struct {
		name   string
		config func(map[string]any)
		specs  func([]loader.Spec) []loader.Spec
		err    string // "" for none
		warn   string
	}{
		{name: "whole"},
		{name: "missing", specs: without("model.layers.1.mlp.up_proj.weight"), err: "model.layers.1.mlp.up_proj.weight"},
		{name: "two missing", specs: func(s []loader.Spec) []loader.Spec {
			return without("model.norm.weight")(without("lm_head.weight")(s))
		}, err: "lm_head.weight"},
		{name: "misshapen", specs: with(loader.Spec{Name: "model.norm.weight", DType: kernels.F32, Dims: []int{63}}), err: "model.norm.weight"},
		{name: "bias that a Llama may have", specs: with(loader.Spec{Name: "model.layers.0.self_attn.q_proj.bias", DType: kernels.BF16, Dims: []int{64}})},
		{name: "decoder tensor nobody reads", specs: with(loader.Spec{Name: "model.layers.0.self_attn.q_norm.weight", DType: kernels.BF16, Dims: []int{16}}), err: "q_norm"},
		{name: "layer beyond the config", specs: with(loader.Spec{Name: "model.layers.2.mlp.up_proj.weight", DType: kernels.BF16, Dims: []int{16}}), err: "model.layers.2"},
		{name: "old buffer", specs: with(loader.Spec{Name: "model.layers.0.self_attn.rotary_emb.inv_freq", DType: kernels.F32, Dims: []int{8}})},
		{name: "other tensor", specs: with(loader.Spec{Name: "vision.proj.weight", DType: kernels.F32, Dims: []int{8}}), warn: "vision.proj.weight"},
		{name: "tied and separate head", config: func(m map[string]any) { m["tie_word_embeddings"] = true },
			specs: with(loader.Spec{Name: "lm_head.weight", DType: kernels.F32, Dims: []int{100, 64}}), warn: "lm_head.weight"},
		{name: "qwen without bias", config: func(m map[string]any) { m["architectures"] = []string{"Qwen2ForCausalLM"} },
			specs: without("model.layers.0.self_attn.k_proj.bias"), err: "k_proj.bias"},
		{name: "llama with attention_bias but none for o", config: func(m map[string]any) { m["attention_bias"] = true },
			specs: without("model.layers.1.self_attn.o_proj.bias"), err: "o_proj.bias"},
	} {
		config := baseConfig()
		if c.config != nil {
			c.config(config)
		}
		cfg, err := model.ReadConfig(writeConfig(t, config, ""))
		if err != nil {
			t.Fatal(err)
		}
		specs := cfg.Tensors(kernels.BF16)
		if c.specs != nil {
			specs = c.specs(specs)
		}
		ckpt, err := loader.Dummy(specs, 1)
		if err != nil {
			t.Fatal(err)
		}
		m, err := model.New(dev, cfg, ckpt)
		switch {
		case c.err == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: got error %v, want one with %q", c.name, err, c.err)
		case c.warn != "" && !strings.Contains(strings.Join(m.Warnings, "\n"), c.warn):
			t.Errorf("%s: got warnings %q, want one with %q", c.name, m.Warnings, c.warn)
		}
		ckpt.Close()
	}
}

// without drops a tensor, with adds one or takes the place of its namesake.
func without(name string) func([]loader.Spec) []loader.Spec {
	return func(specs []loader.Spec) []loader.Spec {
		var out []loader.Spec
		for _, s := range specs {
			if s.Name != name {
				out = append(out, s)
			}
		}
		return out
	}
}

func with(spec loader.Spec) func([]loader.Spec) []loader.Spec {
	return func(specs []loader.Spec) []loader.Spec { return append(without(spec.Name)(specs), spec) }
}

func TestDummyRuns(t *testing.T) {
	cfg, err := model.ReadConfig(writeConfig(t, baseConfig(), ""))
	if err != nil {
		t.Fatal(err)
	}
	dev, err := cpu.Open(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	ckpt, err := loader.Dummy(cfg.Tensors(kernels.BF16), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	m, err := model.New(dev, cfg, ckpt)
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.NewSession(m.NewPlan(110, 100, model.Needs{KV: kernels.BF16, Compute: dev.Compute(), Methods: []attention.Method{attention.Full{}}}))
	if err != nil {
		t.Fatal(err)
	}
	lastLogits(t, s, randomIDs(100, cfg.Vocab))
}

// TestStopAndMinNew: a stop token ends the answer as EOS does and is part of it; none comes before MinNew tokens.
func TestStopAndMinNew(t *testing.T) {
	m, dev := open(t, "llama3-d32-bf16", cpu.Options{F32: true})
	s := session(t, m, dev, 100, 100, kernels.F32)
	ids := randomIDs(20, m.Vocab)
	answer := func(opt model.Options) (got []int32) {
		opt.Sampling, opt.MaxNew, opt.IgnoreEOS = model.Greedy(), 8, true
		s.Truncate(0)
		for id, err := range s.Generate(context.Background(), ids, opt) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, id)
		}
		return got
	}
	free := answer(model.Options{})
	stop := free[3]
	if got := answer(model.Options{Stop: []int32{stop}}); !slices.Equal(got, free[:slices.Index(free, stop)+1]) {
		t.Errorf("with stop token %d: %v, without %v", stop, got, free)
	}
	if got := answer(model.Options{Stop: free[:1], MinNew: 1}); got[0] == free[0] {
		t.Errorf("the stop token came first: %v, without a least number %v", got, free)
	}
}
