package eval

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runWith runs all samples and returns the folder.
func runWith(t *testing.T, spec string, change func(*Options), gen Generate) string {
	t.Helper()
	opt := testOptions(filepath.Join(t.TempDir(), spec))
	opt.Manifest.Attention.Spec = spec
	if change != nil {
		change(&opt)
	}
	mustReport(t, opt.Folder, mustRun(t, opt, gen))
	return opt.Folder
}

func compare(t *testing.T, folders ...string) PairedReport {
	t.Helper()
	r, err := Compare(context.Background(), folders, 0.95, 1)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func right(_ context.Context, r Request) (Output, error) { return Output{Text: r.User}, nil }

func TestCompare(t *testing.T) {
	hundred := func(o *Options) { o.Tasks = []Task{testTask("vt", 100), testTask("cwe", 100)} }
	base := runWith(t, "full", hundred, right)
	// vt: one answer in ten is wrong. cwe: all are right.
	worse := runWith(t, "pbs", hundred, func(ctx context.Context, r Request) (Output, error) {
		if strings.HasPrefix(r.User, "vt") && strings.HasSuffix(r.User, "7") {
			return Output{Text: "?"}, nil
		}
		return right(ctx, r)
	})
	r := compare(t, base, worse)
	run := r.Runs[0]
	vt, cwe := run.Tasks[0], run.Tasks[1]
	if vt.Task != "vt" || vt.Pairs != 100 || vt.Base != 100 || vt.Score != 90 || vt.Difference != -10 || vt.Worse != 10 || vt.Better != 0 || vt.Verdict() != "worse" {
		t.Errorf("vt %+v", vt)
	}
	// The spread of a mean of 100 such differences is 3: 95 % of the draws lie within about 1.96 of it.
	if math.Abs(vt.Low - -16) > 1.5 || math.Abs(vt.High - -5) > 1.5 {
		t.Errorf("interval %g to %g", vt.Low, vt.High)
	}
	if cwe.Low != 0 || cwe.High != 0 || cwe.Verdict() != "not told apart" {
		t.Errorf("cwe %+v", cwe)
	}
	if o := run.Overall; o.Difference != -5 || o.Pairs != 200 || math.Abs(o.Low-vt.Low/2) > 1e-9 || o.Verdict() != "worse" {
		t.Errorf("overall %+v", o)
	}
	if again := compare(t, base, worse); jsonOf(t, again) != jsonOf(t, r) {
		t.Error("the same seed gives another interval")
	}
	back := compare(t, worse, base, worse)
	if back.Runs[0].Tasks[0].Verdict() != "better" || back.Runs[1].Overall.Verdict() != "not told apart" || len(back.Runs[0].Warnings) != 0 {
		t.Errorf("the other way round %+v", back)
	}
	var table bytes.Buffer
	if err := r.Print(&table); err != nil || !strings.Contains(table.String(), "-10.00") || !strings.Contains(table.String(), "worse") {
		t.Errorf("table %s, %v", table.String(), err)
	}
}

// TestCompareFewer: pairs are the samples that both runs have, and what else differs is said.
func TestCompareFewer(t *testing.T) {
	base := runWith(t, "full", nil, right)
	limited := runWith(t, "pbs", func(o *Options) { o.Limit, o.Manifest.Seed = 5, 9 }, right)
	run := compare(t, base, limited).Runs[0]
	if run.Tasks[1].Pairs != 5 || run.Tasks[1].Unpaired != 7 || run.Overall.Unpaired != 9 || len(run.Warnings) != 1 || run.Warnings[0] != "seed is 9, there 1" {
		t.Errorf("%+v", run)
	}
}

func TestCompareRefuses(t *testing.T) {
	base := runWith(t, "full", nil, right)
	other := runWith(t, "pbs", func(o *Options) { o.Tasks = []Task{testTask("fwe", 3)} }, right)
	for want, folders := range map[string][]string{
		"no sample in common": {base, other}, "want the folder of a method": {base, t.TempDir()}, "read manifest": {filepath.Join(base, "absent"), base},
	} {
		if _, err := Compare(context.Background(), folders, 0.95, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := Compare(context.Background(), []string{base, base}, 1, 1); err == nil {
		t.Error("--confidence 1: no error")
	}
	m, err := readManifest(other)
	if err != nil {
		t.Fatal(err)
	}
	m.Benchmark = "infinitebench"
	if err := m.write(other); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(other, "pred/m/fwe.jsonl"), filepath.Join(other, "pred/m/passkey.jsonl")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "pred/m/passkey.jsonl"), []byte(`{"index":0,"pred":"1","label":["1"]}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Compare(context.Background(), []string{base, other}, 0.95, 1); err == nil || !strings.Contains(err.Error(), "benchmarks are ruler and infinitebench") {
		t.Errorf("%v", err)
	}
}

// TestTable: methods stand beside each other with their differences to full, wherever full stands.
func TestTable(t *testing.T) {
	var results []Result
	for _, spec := range []string{"pbs", "full"} {
		opt := testOptions(filepath.Join(t.TempDir(), spec))
		opt.Manifest.Attention.Spec = spec
		gen := right
		if spec == "pbs" {
			gen = echo
		}
		r := mustReport(t, opt.Folder, mustRun(t, opt, gen))
		r.Name = spec
		results = append(results, r)
	}
	c := Table(results)
	var table bytes.Buffer
	if err := c.Print(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"vt                   7     85.71  -14.29  100.00", "[mean of 2 scores]         88.69  -11.31  100.00", "[multi-hop-tracing]"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s", want, table.String())
		}
	}
	if strings.Contains(table.String(), "[aggregation]") {
		t.Error("a category without all its tasks is shown")
	}
}

func TestLongest(t *testing.T) {
	tasks := testOptions("").Tasks // Bytes is 10·i: 110 at most
	rendered := 0
	render := func(r Request) (Rendering, error) {
		rendered++
		return Rendering{Tokens: 1000}, nil
	}
	if n := Longest(tasks, 0, Shard{}, render); n != 1005 || rendered != 1 {
		t.Errorf("%d tokens, %d prompts rendered", n, rendered)
	}
	rendered = 0
	if n := Longest(tasks, 0, Shard{}, func(r Request) (Rendering, error) { rendered++; return Rendering{Tokens: 3}, nil }); n != 8 || rendered != 19 {
		t.Errorf("%d tokens, %d prompts rendered", n, rendered)
	}
}

func TestDumpPrompts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prompts.jsonl")
	render := func(r Request) (Rendering, error) { return Rendering{Text: "<s>" + r.User, Tokens: 4}, nil }
	if err := DumpPrompts(context.Background(), path, testOptions("").Tasks, 2, Shard{}, render); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	lines := strings.Split(string(data), "\n")
	want := `{"task":"vt","_id":"1","prompt_sha256":"` + SHA256("vt-1") + `","sha256":"` + SHA256("<s>vt-1") + `","tokens":4,"max_new_tokens":5,"text":"<s>vt-1"}`
	if err != nil || len(lines) != 5 || lines[1] != want {
		t.Errorf("%v, %s, want %s", err, lines[1], want)
	}
	// One that is stopped leaves what was there.
	ctx, stop := context.WithCancel(context.Background())
	err = DumpPrompts(ctx, path, testOptions("").Tasks, 2, Shard{}, func(r Request) (Rendering, error) { stop(); return render(r) })
	left, _ := os.ReadFile(path)
	files, _ := os.ReadDir(filepath.Dir(path))
	if !errors.Is(err, context.Canceled) || !bytes.Equal(left, data) || len(files) != 1 {
		t.Errorf("stopped: %v, %d bytes of %d left, %d files", err, len(left), len(data), len(files))
	}
}
