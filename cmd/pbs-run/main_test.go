package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pbs-run/pbs-run/internal/goldentest"
)

// TestMain lets tests start this program as a process of its own: the test binary with PBS_RUN_AS_MAIN set is pbs-run.
func TestMain(m *testing.M) {
	if os.Getenv("PBS_RUN_AS_MAIN") != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

func process(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "PBS_RUN_AS_MAIN=1")
	return cmd
}

// pbsRun runs a command in this process.
func pbsRun(stdin string, args ...string) (stdout, stderr string, err error) {
	var out, errOut bytes.Buffer
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&errOut)
	err = root.Execute()
	return out.String(), errOut.String(), err
}

const models = "../../testdata/models/"

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// runJSON runs a command in this process and decodes what it prints.
func runJSON(t *testing.T, into any, args ...string) {
	t.Helper()
	stdout, _, err := pbsRun("", args...)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(stdout), into); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
}

func jsonFile(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "v.json", string(b))
}

func TestGenerateIDs(t *testing.T) {
	for _, model := range []string{"llama3-d128-f32", "qwen2-d32-bf16-sharded"} {
		g := goldentest.Model(t, model)
		ids, want := g.Ints("len130.input_ids"), g.Ints("len130.greedy_tokens")
		var r map[string]any
		runJSON(t, &r, "generate", "--model", models+model, "--ids", jsonFile(t, ids), "--temperature", "0", "--ignore-eos",
			"--max-new-tokens", fmt.Sprint(len(want)), "--kv-dtype", "f32", "--json")
		for _, key := range []string{"prompt_tokens", "output_ids", "text", "finish_reason", "ttft_seconds", "prefill_tokens_per_second", "decode_tokens_per_second", "attention", "density", "density_per_layer", "precision", "peak_rss_bytes"} {
			if _, ok := r[key]; !ok {
				t.Errorf("%s: --json has no %s", model, key)
			}
		}
		if r["finish_reason"] != "length" || r["precision"] != "f32" || r["prompt_tokens"] != 130.0 {
			t.Errorf("%s: got %v", model, r)
		}
		for i, id := range r["output_ids"].([]any) {
			if id != float64(want[i]) {
				t.Errorf("%s: token %d is %v, want %d", model, i, id, want[i])
				break
			}
		}
	}
}

func TestLogits(t *testing.T) {
	const model = "llama-f16"
	g := goldentest.Model(t, model)
	ids, positions, want := g.Ints("len700.input_ids"), g.Ints("len700.positions"), g.Floats("len700.logits")
	out := filepath.Join(t.TempDir(), "a dir with blanks.safetensors")
	list := strings.Trim(strings.ReplaceAll(fmt.Sprint(positions), " ", ","), "[]")
	for _, spec := range []string{list, "all", "last"} {
		if _, _, err := pbsRun("", "logits", "--model", models+model, "--ids", jsonFile(t, ids), "--positions", spec, "--attention", "full", "--kv-dtype", "f32", "--out", out); err != nil {
			t.Fatal(err)
		}
		f := goldentest.Open(t, out)
		got, at := f.Floats("logits"), f.Ints("positions")
		vocab := len(want) / len(positions)
		for i, p := range positions {
			row := slices.Index(at, p)
			if spec == "last" && p != 699 {
				continue
			}
			if row < 0 {
				t.Fatalf("%s: position %d is not there", spec, p)
			}
			for j := range vocab {
				if g, w := got[row*vocab+j], want[i*vocab+j]; !(math.Abs(float64(g-w)) < 3e-4) {
					t.Fatalf("%s: position %d, token %d: %g, want %g", spec, p, j, g, w)
				}
			}
		}
	}
}

func TestErrors(t *testing.T) {
	ids := jsonFile(t, []int{1, 2, 3})
	const demo, huge = "../../demo/model", "9223372036854775807"
	llama, llamaCopy := models+"llama-f16", t.TempDir()
	if err := os.CopyFS(llamaCopy, os.DirFS(llama)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"generate"}, "model"},
		{[]string{"generate", "-m", "../../no/such/model", "hi"}, "no/such/model"},
		{[]string{"generate", "-m", llama}, "prompt is empty"},
		{[]string{"generate", "-m", llama, ""}, "prompt is empty"},
		{[]string{"generate", "-m", llama, "-f", "nosuchfile"}, "nosuchfile"},
		{[]string{"generate", "-m", llama, "--ids", ids, "hi"}, "exclude each other"},
		{[]string{"generate", "-m", llama, "--ids", writeFile(t, "x", "[]")}, "no token id"},
		{[]string{"generate", "-m", llama, "--ids", writeFile(t, "x", "{}")}, "x"},
		{[]string{"generate", "-m", llama, "--ids", writeFile(t, "x", "[1, 512]")}, "token id 512"},
		{[]string{"generate", "-m", llama, "--ids", writeFile(t, "x", "[1, null]")}, "null at byte 4"},
		{[]string{"generate", "-m", llama, "--ids", writeFile(t, "x", "null")}, "null at byte 0"},
		{[]string{"generate", "-m", llama, "--messages", writeFile(t, "x", "[]")}, "no message"},
		{[]string{"generate", "-m", llama, "--attention", "dense", "hi"}, `attention "dense": unknown method`},
		{[]string{"generate", "-m", llama, "--attention", "full:x=1", "hi"}, "full has no setting"},
		{[]string{"generate", "-m", llama, "--device", "cuda", "hi"}, "make cuda builds"},
		{[]string{"generate", "-m", llama, "--device", "gpu", "hi"}, "want auto, cpu, cuda or cuda:i"},
		{[]string{"generate", "-m", llama, "--device", "cpu:1", "hi"}, "want auto, cpu, cuda or cuda:i"},
		{[]string{"generate", "-m", llama, "--device", "cuda:-1", "hi"}, "cuda:N"},
		{[]string{"generate", "-m", llama, "--device", "cuda", "--precision", "f32", "hi"}, "computes in bf16"},
		{[]string{"generate", "-m", llama, "--precision", "fp8", "hi"}, "--precision"},
		{[]string{"generate", "-m", llama, "--kv-dtype", "int8", "hi"}, "--kv-dtype"},
		{[]string{"generate", "-m", llama, "--threads", "-1", "hi"}, "threads -1"},
		{[]string{"generate", "-m", llama, "--load-format", "gguf", "hi"}, "--load-format"},
		{[]string{"generate", "-m", llama, "--max-new-tokens", "0", "hi"}, "--max-new-tokens"},
		{[]string{"generate", "-m", llama, "--temperature", "-1", "hi"}, "temperature -1"},
		{[]string{"generate", "-m", llama, "--temperature", "NaN", "hi"}, "temperature NaN"},
		{[]string{"generate", "-m", llama, "--top-k", "-1", "hi"}, "top_k -1"},
		{[]string{"generate", "-m", llama, "--top-p", "0", "hi"}, "top_p 0"},
		{[]string{"generate", "-m", llama, "--top-p", "1.1", "hi"}, "top_p 1.1"},
		{[]string{"generate", "-m", llama, "--truncate", "left", "hi"}, "--truncate"},
		{[]string{"generate", "-m", llama, "--needle", "hi"}, "--needle needs --prompt-file"},
		{[]string{"generate", "-m", llama, "--max-new-tokens", "4096", "hi"}, "exceed the model's 4096 positions"},
		{[]string{"generate", "-m", llama, "--max-new-tokens", "1000000000", "--allow-extrapolation", "hi"}, "longest prompt that fits"},
		{[]string{"generate", "-m", llama, "--min-length", "-1", "hi"}, "--min-length -1"},
		{[]string{"generate", "-m", llama, "--questions", ids}, "--prompt-file"},
		{[]string{"generate", "-m", llama, "-f", ids, "--questions", ids, "hi"}, "--questions excludes"},
		{[]string{"generate", "-m", llama, "-f", ids, "--questions", writeFile(t, "x", "\n \n")}, "no question"},
		{[]string{"generate", "-m", llama, "-f", ids, "--questions", "nosuchfile"}, "nosuchfile"},
		{[]string{"logits", "-m", llama, "--ids", ids, "--out", "/nonexistent/x"}, "/nonexistent/x"},
		{[]string{"logits", "-m", llama, "--ids", ids, "--out", "x", "--positions", "3"}, "outside 0 to 2"},
		{[]string{"logits", "-m", llama, "--ids", ids, "--out", "x", "--positions", "1,b"}, "--positions"},
		{[]string{"logits", "-m", llama, "--ids", ids, "--out", "x", "--positions", "2-1"}, "2-1 runs backwards"},
		{[]string{"attend", "--input", "nosuchfile"}, "nosuchfile"},
		{[]string{"attend", "--input", ids}, ids},
		{[]string{"attend", "--input", llama + "/model.safetensors"}, "no tensor \"q\""},
		{[]string{"attend", "--input", badQKV(t, 2, 2, 9, 8, 32)}, "9 queries, 8 keys"},
		{[]string{"attend", "--input", badQKV(t, 3, 2, 8, 8, 32)}, "3 query heads, 2 key heads"},
		{[]string{"attend", "--input", badQKV(t, 2, 2, 8, 8, 31)}, "head dim 31"},
		{[]string{"attend", "--input", badQKV(t, 2, 2, 8, 8, 32)}, "v holds NaN"},
		{[]string{"attend", "--input", ids, "--attention", "auto"}, "name a method"},
		{[]string{"attend", "--input", ids, "--attention", "pbs:tau=NaN"}, "tau=NaN"},
		{[]string{"attend", "--input", badQKV(t, 2, 2, 8, 8, 32), "--block", "0"}, "--block 0"},
		{[]string{"capture", "-m", llama, "--layers", "2", "--out", "x", "hi"}, "--layers \"2\""},
		{[]string{"capture", "-m", llama, "--layers", "0", "--out", ids, "hi"}, "--out"},
		{[]string{"perplexity", "-m", llama}, "--text-file"},
		{[]string{"perplexity", "-m", llama, "--ids", ids, "--length", "1"}, "--length 1"},
		{[]string{"perplexity", "-m", llama, "--ids", ids, "--length", "4"}, "3 tokens"},
		{[]string{"tokenize", "-m", llama, "--decode"}, "JSON array"},
		{[]string{"eval", "ruler", "-m", llama}, "--essay"},
		{[]string{"eval", "ruler", "-m", llama, "--essay", "nosuchfile"}, "nosuchfile"},
		{[]string{"bench", "prefill", "-m", llama, "--lengths", "12x"}, "--lengths"},
		{[]string{"bench", "prefill"}, "--model"},
		{[]string{"bench", "prefill", "-m", llama, "--config", "llama-3.2-1b"}, "--load-format dummy"},
		{[]string{"bench", "prefill", "-m", llama, "--config", "llama-3.2-1b", "--load-format", "dummy"}, "exclude each other"},
		{[]string{"bench", "prefill", "--config", "gpt-2", "--load-format", "dummy"}, "--config \"gpt-2\": want one of llama-3.1-8b"},
		{[]string{"bench", "prefill", "-m", llama, "--load-format", "dummy", "--layers", "3"}, "--layers 3"},
		{[]string{"bench", "prefill", "-m", llama, "--layers", "1"}, "--load-format dummy"},
		{[]string{"bench", "prefill", "-m", llama, "--attention", "nosuchmethod"}, "nosuchmethod"},
		{[]string{"bench", "prefill", "-m", llama, "--force-density", "1.5"}, "--force-density 1.5"},
		{[]string{"bench", "prefill", "-m", llama, "--calibrate", "--attention", "pbs"}, "--calibrate"},
		{[]string{"bench", "prefill", "-m", llama, "--calibrate", "--force-density", "0.3"}, "--calibrate"},
		{[]string{"bench", "prefill", "-m", llama, "--attention", "full", "--force-density", "0.3"}, "every layer is full"},
		{[]string{"bench", "prefill", "-m", llama, "--attention", "pbs", "--attention", "pbs"}, "pbs is given twice"},
		{[]string{"bench", "prefill", "-m", llama, "--prompt-file", "nosuchfile"}, "nosuchfile"},
		{[]string{"bench", "attention", "--lengths", "0"}, "--lengths"},
		{[]string{"bench", "attention", "--heads", "3", "--kv-heads", "2", "--lengths", "64"}, "--heads"},
		{[]string{"bench", "attention", "--density", "0"}, "--density 0"},
		{[]string{"bench", "attention", "--lengths", "512", "--heads", huge, "--kv-heads", huge}, "--heads 9223372036854775807: want 1 to 4096"},
		{[]string{"bench", "attention", "--lengths", "16384K", "--heads", "1099511627776", "--kv-heads", "1"}, "--heads 1099511627776: want 1 to 4096"},
		{[]string{"bench", "attention", "--lengths", "512", "--kv-heads", huge}, "--kv-heads 9223372036854775807: want 1 to 4096"},
		{[]string{"bench", "attention", "--lengths", "18014398509481985K"}, "--lengths \"18014398509481985K\""},
		{[]string{"bench", "prefill", "-m", llama, "--lengths", "16385K"}, "up to 16384K"},
		{[]string{"bench", "prefill", "-m", llama, "--lengths", "64", "--decode", huge}, "want 2147483648 or fewer in all"},
		{[]string{"generate", "-m", llama, "-n", huge, "hi"}, "--max-new-tokens 9223372036854775807: want 1 to 1073741824"},
		{[]string{"attend", "--input", badQKV(t, 2, 2, 8, 8, 32), "--attention", "full", "--block", huge}, "--block 9223372036854775807: want 1 to 16777216"},
		{[]string{"eval", "ruler", "-m", demo, "--samples", huge, "--tasks", "vt"}, "--samples 9223372036854775807: want 1 to 1048576"},
		{[]string{"eval", "infinitebench", "-m", demo, "--length", "512", "--samples", huge}, "--samples 9223372036854775807: want 1 to 1048576"},
		{[]string{"bench", "attention", "--attention", "pbs:density=0.5", "--density", "0.5"}, "--density: 0.5 cannot be forced on pbs:density=0.5"},
		{[]string{"bench", "attention", "--attention", "xattention", "--density", "0.5"}, "--density: 0.5 cannot be forced on xattention"},
		{[]string{"bench", "attention", "--attention", "nosuchmethod", "--density", "0.5"}, `unknown method "nosuchmethod"`},
		{[]string{"bench", "attention", "--input", "nosuchfile"}, "nosuchfile"},
		{[]string{"attend", "--input", ids, "--out", "/nonexistent/x"}, "/nonexistent/x"},
		{[]string{"attend", "--input", ids, "--out", filepath.Dir(ids) + "/./v.json"}, "overwrite the input"},
		{[]string{"logits", "-m", llama, "--ids", ids, "--out", ids}, "overwrite the input"},
		{[]string{"logits", "-m", llamaCopy, "--ids", ids, "--out", llamaCopy + "/config.json"}, "overwrite the input"},
		{[]string{"logits", "-m", "nosuchmodel", "--ids", ids, "--out", llama}, "a folder; name a file"},
		{[]string{"eval", "ruler", "-m", llama, "--data", ids, "--dump-prompts", ids}, "overwrite the input"},
		{[]string{"eval", "ruler", "-m", llama, "--essay", ids, "--dump-prompts", ids}, "overwrite the input"},
		{[]string{"bench", "attention", "--attention", "auto"}, "--attention auto: chosen by the time of a model's whole prefill"},
		{[]string{"bench", "attention", "--input", ids, "--heads", "8"}, "--input and --heads exclude each other"},
		{[]string{"bench", "attention", "--input", ids, "--kv-heads", "8"}, "--input and --kv-heads exclude each other"},
		{[]string{"bench", "attention", "--input", ids, "--head-dim", "8"}, "--input and --head-dim exclude each other"},
		{[]string{"bench", "attention", "--input", ids, "--kv-dtype", "f32"}, "--input and --kv-dtype exclude each other"},
		{[]string{"nosuchcommand"}, "nosuchcommand"},
		{[]string{"bench", "prefil"}, `unknown command "prefil" for "pbs-run bench"; did you mean prefill?`},
		{[]string{"eval", "rulr"}, "did you mean ruler?"},
	} {
		stdout, _, err := pbsRun("", c.args...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got error %v, want one with %q", c.args, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: the error has several lines: %q", c.args, err)
		}
		if stdout != "" {
			t.Errorf("%v: printed %q beside the error", c.args, stdout)
		}
	}
	if _, err := os.Stat("x"); err == nil {
		t.Error("a failed logits left a file")
	}
	t.Setenv("PBS_CPU", "sse2")
	if _, _, err := pbsRun("", "generate", "-m", llama, "hi"); err == nil || !strings.Contains(err.Error(), "sse2") {
		t.Errorf("PBS_CPU=sse2: got error %v", err)
	}
}

// TestGroups: a command that only holds others shows its help.
func TestGroups(t *testing.T) {
	for name, want := range map[string]string{"bench": "bench prefill", "eval": "Available Commands", "attention": "flexprefill"} {
		if stdout, _, err := pbsRun("", name); err != nil || !strings.Contains(stdout, want) {
			t.Errorf("%s: printed %q, %v", name, stdout, err)
		}
	}
}

// badQKV makes an input for attend with a NaN at its end.
func badQKV(t *testing.T, heads, kvHeads, queries, keys, dim int) string {
	return writeQKV(t, "F32", heads, kvHeads, queries, keys, dim, func(i int) uint32 {
		if i == dim*(heads*queries+2*kvHeads*keys)-1 {
			return 0x7fc00000
		}
		return 0x3f800000
	})
}

func TestTruncateMiddle(t *testing.T) {
	f := generateFlags{truncate: "middle"}
	ids := []int32{1, 2, 3, 4, 5, 6, 7}
	if got, n := f.cut(slices.Clone(ids), 5); !slices.Equal(got, []int32{1, 2, 5, 6, 7}) || n != 2 {
		t.Errorf("cut to 5: got %v, dropped %d", got, n)
	}
	if got, n := f.cut(ids, 7); len(got) != 7 || n != 0 {
		t.Errorf("cut to 7: got %v, dropped %d", got, n)
	}
	doc := writeFile(t, "doc", strings.Repeat("words and words. ", 2000))
	args := []string{"generate", "-m", models + "llama-f16", "-f", doc, "-n", "3", "--temperature", "0", "--json", "What?"}
	if _, _, err := pbsRun("", args...); err == nil || !strings.Contains(err.Error(), "--allow-extrapolation; --truncate middle cuts") {
		t.Errorf("a prompt that is too long: got error %v", err)
	}
	if _, _, err := pbsRun("", "capture", "-m", models+"llama-f16", "-f", doc, "--layers", "0", "--out", t.TempDir()); err == nil || strings.Contains(err.Error(), "--truncate") || !strings.HasSuffix(err.Error(), "--allow-extrapolation") {
		t.Errorf("a prompt that is too long, in a command that cuts none: got error %v", err)
	}
	stdout, stderr, err := pbsRun("", append(args, "--truncate", "middle")...)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stdout, `"prompt_tokens":4093`) || !strings.Contains(stderr, "cut") {
		t.Errorf("--truncate middle: got %s, and on stderr %s", stdout, stderr)
	}
}

func TestStopString(t *testing.T) {
	args := []string{"generate", "-m", models + "llama-f16", "--temperature", "0", "--ignore-eos", "-n", "30", "--json", "Hello"}
	text := func(args []string) (string, string) {
		var r result
		runJSON(t, &r, args...)
		return r.Text, r.FinishReason
	}
	whole, reason := text(args)
	if reason != "length" || len(whole) < 20 {
		t.Fatalf("got %q, %s", whole, reason)
	}
	stop := strings.ToValidUTF8(whole[8:14], "")
	got, reason := text(append(args, "--stop", stop))
	if want := whole[:strings.Index(whole, stop)]; got != want || reason != "stop" {
		t.Errorf("stop at %q of %q: got %q, %s, want %q", stop, whole, got, reason, want)
	}
}

func TestSeeds(t *testing.T) {
	args := []string{"generate", "-m", models + "llama-f16", "--temperature", "1", "-n", "20", "Hello"}
	sample := func(seed string) string {
		stdout, _, err := pbsRun("", append(args, "--seed", seed)...)
		if err != nil {
			t.Fatal(err)
		}
		return stdout
	}
	stdout, stderr, err := pbsRun("", args...) // a seed that nobody gave is printed and can be given
	if err != nil {
		t.Fatal(err)
	}
	_, seed, ok := strings.Cut(strings.TrimSpace(stderr), "seed ")
	if again := sample(seed); !ok || again != stdout {
		t.Errorf("seed %q: %q and %q", seed, stdout, again)
	}
	if a, b := sample("1"), sample("1"); a != b {
		t.Errorf("same seed, %q and %q", a, b)
	}
	if a, b := sample("1"), sample("2"); a == b {
		t.Errorf("two seeds, both %q", a)
	}
}

func TestTokenize(t *testing.T) {
	const text = "Hello, wörld 123\x00 <|eot_id|>"
	stdout, _, err := pbsRun(text, "tokenize", "-m", models+"llama-f16")
	if err != nil {
		t.Fatal(err)
	}
	back, _, err := pbsRun(stdout, "tokenize", "-m", models+"llama-f16", "--decode")
	if err != nil {
		t.Fatal(err)
	}
	if back != text {
		t.Errorf("got %q back, want %q", back, text)
	}
	if stdout, _, err = pbsRun("", "tokenize", "-m", models+"llama-f16"); err != nil || stdout != "[]\n" {
		t.Errorf("no text: got %q, %v", stdout, err)
	}
	if stdout, _, err = pbsRun("[]", "tokenize", "-m", models+"llama-f16", "--decode"); err != nil || stdout != "" {
		t.Errorf("no ids: got %q, %v", stdout, err)
	}
	for _, ids := range []string{"null", "[1,null]", "[1,]", "[1.5]", `["1"]`, "[4294967296]", "[-1]"} {
		if stdout, _, err := pbsRun(ids, "tokenize", "-m", models+"llama-f16", "--decode"); err == nil || stdout != "" {
			t.Errorf("%s: got %q, %v, want an error", ids, stdout, err)
		}
	}
}

func TestInspectAndVerify(t *testing.T) {
	stdout, _, err := pbsRun("", "inspect", "-m", models+"qwen2-d32-bf16-sharded")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Qwen2ForCausalLM", "weights BF16", "context limit", "512K"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("inspect has no %q:\n%s", want, stdout)
		}
	}
	if stdout, _, err = pbsRun("", "verify", "-m", models+"qwen2-d32-bf16-sharded", "--values"); err != nil || !strings.HasSuffix(stdout, "ok\n") {
		t.Errorf("verify: %v\n%s", err, stdout)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(models+"llama-f16")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "model.safetensors")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint16(b[len(b)-2:], 0x7e00) // an f16 NaN
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if stdout, _, err = pbsRun("", "verify", "-m", dir, "--values"); err == nil || !strings.Contains(stdout, "NaN") {
		t.Errorf("a NaN weight: %v\n%s", err, stdout)
	}
	if _, _, err = pbsRun("", "verify", "-m", dir); err != nil {
		t.Errorf("without --values: %v", err)
	}
	if err := os.WriteFile(path, b[:len(b)-100], 0o644); err != nil {
		t.Fatal(err)
	}
	if stdout, _, err = pbsRun("", "verify", "-m", dir); err == nil || !strings.Contains(stdout, "problem") {
		t.Errorf("a truncated file: %v\n%s", err, stdout)
	}
}

// TestDemo: the demo model finds a needle in the demo document.
func TestDemo(t *testing.T) {
	right := 0
	for _, seed := range []string{"1", "2", "3"} {
		stdout, stderr, err := pbsRun("", "generate", "-m", "../../demo/model", "-f", "../../demo/document.txt", "--needle", "--seed", seed)
		if err == nil && strings.Contains(stdout, "Question: ") && strings.Contains(stderr, "RIGHT") {
			right++
		}
	}
	if right < 2 {
		t.Errorf("%d of 3 needles found", right)
	}
}
