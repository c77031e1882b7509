package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pbs-run/pbs-run/eval"
	"github.com/pbs-run/pbs-run/eval/benchmark"
	"github.com/pbs-run/pbs-run/internal/testfiles"
	"github.com/pbs-run/pbs-run/model"
	"github.com/pbs-run/pbs-run/tokenizer"
)

// evalResult is what the commands print with --json, as far as tests look.
type evalResult struct {
	Results []struct {
		Name     string
		Complete bool
		Manifest struct {
			Protocol  string
			Attention struct{ Spec string }
			Settings  map[string]any
			Tasks     map[string]struct{ Items int }
		}
		Counts []struct {
			Task                string
			Items, Done, Failed int
		}
	}
	Tasks []struct {
		Task, Attention string
		Samples         int
		Score           *float64
	}
	Lines []struct {
		Name        string
		Scores      []*float64
		Differences []*float64
	}
}

func evalJSON(t *testing.T, args ...string) evalResult {
	t.Helper()
	var r evalResult
	runJSON(t, &r, append([]string{"eval"}, append(args, "--json")...)...)
	return r
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// longBenchWording is a synthetic config for two tasks.
func longBenchWording(t *testing.T) string {
	t.Helper()
	return testfiles.Tree(t, map[string]string{
		"dataset2prompt.json": `{"samsum": "Sum up {context} {input}", "hotpotqa": "Read {context} and answer {input}"}`,
		"dataset2maxlen.json": `{"samsum": 12, "hotpotqa": 6}`,
		"prompts/0shot.txt":   "$DOC$ $Q$ $C_A$ $C_B$ $C_C$ $C_D$", "prompts/0shot_cot.txt": "$DOC$ $Q$", "prompts/0shot_cot_ans.txt": "$COT$ $Q$",
	})
}

const rows = "../../eval/benchmark/testdata/"

// TestEvalLongBench runs two methods over two tasks, dumps the prompts, goes on after a limit, and compares.
func TestEvalLongBench(t *testing.T) {
	out, dump := t.TempDir(), filepath.Join(t.TempDir(), "prompts.jsonl")
	args := []string{"longbench", "-m", models + "llama-f16", "--data", rows + "longbench", "--config", longBenchWording(t), "--tasks", "hotpotqa,samsum",
		"--attention", "pbs:block=16,segment=32", "--attention", "full", "--max-length", "400", "--out", out}
	r := evalJSON(t, append(args, "--limit", "2", "--dump-prompts", dump)...)
	if len(r.Results) != 2 || !r.Results[0].Complete || r.Results[1].Counts[1].Done != 2 || r.Results[1].Counts[1].Failed != 0 ||
		r.Results[0].Manifest.Settings["max_length"] != 400.0 || !strings.HasPrefix(r.Results[0].Manifest.Attention.Spec, "pbs:block=16,segment=32,") ||
		r.Lines[0].Name != "hotpotqa" || r.Lines[0].Differences[0] == nil || r.Lines[0].Differences[1] != nil {
		t.Errorf("%+v", r)
	}
	if got := r.Tasks; len(got) != 4 || got[0].Task != "hotpotqa" || got[3].Task != "samsum" || got[3].Attention != "full" || got[3].Samples != 2 || *got[3].Score != *r.Lines[1].Scores[1] {
		t.Errorf("tasks %+v, lines %+v", got, r.Lines)
	}
	prompts := read(t, dump)
	if strings.Count(prompts, "\n") != 4 || !strings.Contains(prompts, `"task":"samsum"`) {
		t.Errorf("dumped %s", prompts)
	}
	r = evalJSON(t, args...)
	if r.Results[0].Counts[0].Done != 4 || r.Results[0].Manifest.Tasks["samsum"].Items != 4 {
		t.Errorf("without the limit: %+v", r)
	}
	if got := read(t, out, "full/pred/llama-f16/samsum.jsonl"); strings.Count(got, "\n") != 4 || !strings.Contains(got, `"all_classes":null,"length":`) {
		t.Errorf("predictions %s", got)
	}
	stdout, _, err := pbsRun("", "eval", "compare", filepath.Join(out, "full"), filepath.Join(out, "pbs_block=16,segment=32"))
	if err != nil || !strings.Contains(stdout, "hotpotqa") || !strings.Contains(stdout, "overall") {
		t.Errorf("compare: %v\n%s", err, stdout)
	}
	if _, _, err = pbsRun("", append([]string{"eval"}, append(args, "--max-length", "300")...)...); err == nil || !strings.Contains(err.Error(), "settings.max_length is 300, there 400") {
		t.Errorf("other settings: %v", err)
	}
}

// TestEvalShards: two shards merged are the files of one run, and OpenCompass' protocol runs.
func TestEvalShards(t *testing.T) {
	out, config := t.TempDir(), longBenchWording(t)
	run := func(more ...string) evalResult {
		return evalJSON(t, append([]string{"longbench", "-m", models + "llama-f16", "--data", rows + "longbench", "--config", config, "--tasks", "hotpotqa",
			"--protocol", "opencompass"}, more...)...)
	}
	whole := t.TempDir()
	e := evalJSON(t, "longbench-e", "-m", models+"llama-f16", "--data", rows+"longbench", "--config", config, "--tasks", "hotpotqa", "--limit", "1")
	if e.Results[0].Manifest.Protocol != "thudm" || len(e.Lines) != 4 || !strings.HasPrefix(e.Lines[0].Name, "hotpotqa 0-4k") {
		t.Errorf("LongBench-E: %+v", e)
	}
	r := run("--out", whole)
	run("--out", out, "--shard", "0/2")
	run("--out", out, "--shard", "1/2")
	var merged evalResult
	runJSON(t, &merged, "eval", "merge", out, "--json")
	if r.Results[0].Manifest.Protocol != "opencompass" || len(merged.Results) != 1 || !merged.Results[0].Complete || merged.Results[0].Counts[0].Done != 4 {
		t.Errorf("%+v", merged)
	}
	const file = "full/pred/llama-f16/hotpotqa.jsonl"
	if got, want := read(t, out, file), read(t, whole, file); got != want {
		t.Errorf("merged %s, want %s", got, want)
	}
}

// TestEvalLongBench2 draws at temperature 0.1, and draws the same again.
func TestEvalLongBench2(t *testing.T) {
	var files [2]string
	for i := range files {
		out := t.TempDir()
		r := evalJSON(t, "longbench-v2", "-m", models+"llama-f16", "--data", rows+"longbench_v2", "--config", longBenchWording(t), "--limit", "2", "--cot", "--max-length", "300", "--out", out)
		if r.Results[0].Counts[0].Done != 2 || r.Lines[0].Name != "Overall" {
			t.Errorf("%+v", r)
		}
		files[i] = read(t, out, "full/results/llama-f16_cot.jsonl")
	}
	if files[0] != files[1] || !strings.Contains(files[0], `"response_cot":`) || !strings.Contains(files[0], `"judge":`) {
		t.Errorf("%s\nthen %s", files[0], files[1])
	}
}

func TestEvalInfiniteBench(t *testing.T) {
	config := filepath.Join(testfiles.Tree(t, map[string]string{"p.json": `{"yarn-mistral": {"passkey": "{context} {input}"}}`}), "p.json")
	out := t.TempDir()
	r := evalJSON(t, "infinitebench", "-m", models+"llama-f16", "--data", rows+"infinitebench", "--config", config, "--tasks", "passkey", "--limit", "1", "--out", out)
	if r.Results[0].Counts[0].Failed != 0 || !strings.Contains(read(t, out, "full/pred/llama-f16/passkey.jsonl"), `"label":["28724"]`) {
		t.Errorf("%+v", r)
	}
	r = evalJSON(t, "infinitebench", "-m", models+"llama-f16", "--length", "1500", "--samples", "2", "--tasks", "passkey")
	if len(r.Results) != 1 || r.Results[0].Counts[0].Done != 2 {
		t.Errorf("made: %+v", r)
	}
}

func TestEvalRuler(t *testing.T) {
	essay := writeFile(t, "essay", strings.Repeat("The quick brown fox jumps over the lazy dog. ", 200))
	out := t.TempDir()
	r := evalJSON(t, "ruler", "-m", models+"llama-f16", "--essay", essay, "--tasks", "niah_single_2,niah_multikey_1", "--length", "2500", "--samples", "2", "--seed", "3", "--out", out)
	if len(r.Results[0].Counts) != 2 || r.Results[0].Counts[1].Done != 2 || r.Results[0].Counts[0].Failed != 0 {
		t.Errorf("%+v", r)
	}
	if b := read(t, out, "full/pred/llama-f16/niah_multikey_1.jsonl"); strings.Count(b, "\n") != 2 || !strings.HasPrefix(b, `{"index":0,"pred":"`) {
		t.Errorf("predictions: %s", b)
	}
	data := testfiles.Tree(t, map[string]string{"vt/validation.jsonl": `{"index":7,"input":"in","outputs":["A"],"length":9,"answer_prefix":" Answer:"}`})
	if r = evalJSON(t, "ruler", "-m", models+"llama-f16", "--data", data, "--tasks", "vt"); r.Results[0].Counts[0].Done != 1 {
		t.Errorf("from RULER's rows: %+v", r)
	}
}

func TestEvalErrors(t *testing.T) {
	base := []string{"-m", models + "llama-f16", "--data", rows + "longbench"}
	wording := longBenchWording(t)
	for want, args := range map[string][]string{
		"pass --config DIR, a checkout of github.com/THUDM/LongBench": append([]string{"longbench"}, base...),
		`unknown task "nosuch"`:            append([]string{"longbench", "--config", wording, "--tasks", "nosuch"}, base...),
		`--protocol "other"`:               append([]string{"longbench", "--config", wording, "--protocol", "other"}, base...),
		"OpenCompass has no LongBench-E":   append([]string{"longbench-e", "--config", wording, "--protocol", "opencompass"}, base...),
		"is given twice":                   append([]string{"longbench", "--config", wording, "--attention", "full", "--attention", "full"}, base...),
		`--shard "2/2"`:                    append([]string{"longbench", "--config", wording, "--shard", "2/2"}, base...),
		"--limit -1":                       append([]string{"longbench", "--config", wording, "--limit", "-1"}, base...),
		`"nosuch"`:                         append([]string{"longbench", "--config", wording, "--attention", "nosuch"}, base...),
		"--cot and --no-context":           append([]string{"longbench-v2", "--config", wording, "--cot", "--no-context"}, base...),
		"LongBench-v2 has one":             append([]string{"longbench-v2", "--config", wording, "--tasks", "qasper"}, base...),
		"find data set data":               append([]string{"longbench-v2", "--config", wording}, base...),
		"pass --data DIR, or --length N":   {"infinitebench", "-m", models + "llama-f16"},
		"cannot be made":                   {"infinitebench", "-m", models + "llama-f16", "--length", "1000", "--tasks", "code_run"},
		`--chat-template "no"`:             append([]string{"infinitebench", "--chat-template", "no"}, base...),
		"exceed the model's 4096 position": {"ruler", "-m", models + "llama-f16", "--length", "5000", "--tasks", "niah_single_1"},
	} {
		if _, _, err := pbsRun("", append([]string{"eval"}, args...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}

// TestEvalInterrupt: Ctrl-C ends a run with exit code 130 and a table that says it is partial; the same command goes on.
func TestEvalInterrupt(t *testing.T) {
	out := t.TempDir()
	args := []string{"eval", "ruler", "-m", models + "llama-f16", "--tasks", "niah_single_1", "--length", "3000", "--samples", "400", "--threads", "1", "--out", out}
	cmd := process(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(out, "full/pred/llama-f16/niah_single_1.jsonl")
	for range 600 {
		if b, err := os.ReadFile(file); err == nil && bytes.Count(b, []byte("\n")) > 1 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupt {
		t.Fatalf("%v; stderr %s", err, &stderr)
	}
	if !strings.Contains(stdout.String(), "PARTIAL: niah_single_1 has ") || !strings.Contains(read(t, out, "full/results.json"), `"complete": false`) {
		t.Errorf("printed %s", &stdout)
	}
	before := strings.Count(read(t, file), "\n")
	r := evalJSON(t, append(args[1:], "--limit", "1")...)
	if after := strings.Count(read(t, file), "\n"); after != before || r.Results[0].Counts[0].Done != 1 {
		t.Errorf("%d lines, then %d; %+v", before, after, r)
	}
}

// TestAnswerer: what a request asks for is what the model gets.
func TestAnswerer(t *testing.T) {
	tok, err := tokenizer.Load(models + "llama-f16")
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	cfg, err := model.ReadConfig(models + "llama-f16")
	if err != nil {
		t.Fatal(err)
	}
	a, err := newAnswerer(&engine{Model: &model.Model{Config: cfg}}, tok)
	if err != nil {
		t.Fatal(err)
	}
	opt := a.options(eval.Request{MaxNew: 3, MinNew: 1, StopNewline: true, Temperature: 0.1, Seed: 7})
	if opt.MaxNew != 3 || opt.MinNew != 1 || len(opt.Stop) != 1 || opt.Temperature != 0.1 || opt.Seed != 7 || opt.TopP != 1 || opt.RepetitionPenalty != 1 {
		t.Errorf("options %+v", opt)
	}
	render := func(r eval.Request) eval.Rendering {
		got, err := a.render(r)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	user := eval.Request{Prompt: eval.Prompt{User: "Hello", Prefix: " The"}}
	chat := render(user)
	user.Before = []eval.Message{{Role: "system", Content: "Be brief"}}
	withSystem := render(user)
	user.Before, user.KeepLast = nil, 3
	cut := render(user)
	user.Plain = true
	plain := render(user)
	const bos = "<|begin_of_text|>"
	if !strings.HasSuffix(chat.Text, " The") || strings.Count(chat.Text, bos) != 1 || plain.Text != bos+"Hello The" ||
		!strings.Contains(withSystem.Text, "Be brief") || !strings.HasSuffix(chat.Text, cut.Text) || cut.Tokens >= chat.Tokens {
		t.Errorf("chat %q, with a system message %q, cut %q, plain %q", chat.Text, withSystem.Text, cut.Text, plain.Text)
	}
	ids, err := tok.Encode("answer", tokenizer.EncodeOptions{AddSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	ids = append(append(ids, cfg.EOS[0]), ids...)
	special, err := a.text(ids, true)
	without, err2 := a.text(ids, false)
	if special != bos+"answer" || without != "answeranswer" || err != nil || err2 != nil {
		t.Errorf("answer with special tokens %q, without %q", special, without)
	}
}

// BenchmarkPrompt builds LongBench prompts of 128K tokens, cut from twice that, with the demo model's tokenizer: filled,
// tokenized, cut, decoded, rendered and tokenized again. Beside the prefill of such a prompt it is to be nothing.
func BenchmarkPrompt(b *testing.B) {
	tok, err := tokenizer.Load("../../demo/model")
	if err != nil {
		b.Fatal(err)
	}
	defer tok.Close()
	a, err := newAnswerer(nil, tok)
	if err != nil {
		b.Fatal(err)
	}
	document, err := os.ReadFile("../../demo/document.txt")
	if err != nil {
		b.Fatal(err)
	}
	row, err := json.Marshal(map[string]any{"context": strings.Repeat(string(document), 11), "input": "Q?", "answers": []string{"A"}, "length": 1, "_id": "1"})
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	for name, data := range map[string][]byte{
		"hotpotqa.jsonl": row, "dataset2prompt.json": []byte(`{"hotpotqa": "{context} {input}"}`), "dataset2maxlen.json": []byte(`{"hotpotqa": 32}`),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	tasks, err := benchmark.LongBench{Source: benchmark.Source{Data: dir}, Protocol: benchmark.THUDM, Config: dir, MaxLength: 127500, Tokens: a.tokens()}.Load([]string{"hotpotqa"})
	if err != nil {
		b.Fatal(err)
	}
	tokens := 0
	for b.Loop() {
		request, err := tasks[0].Item(0).First()
		if err != nil {
			b.Fatal(err)
		}
		ids, err := a.ids(request)
		if err != nil {
			b.Fatal(err)
		}
		tokens = len(ids)
	}
	if tokens < 127400 || tokens > 127700 {
		b.Fatalf("%d tokens", tokens)
	}
	b.ReportMetric(float64(tokens)*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}
