package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// testLine is a line of predictions that the scorer of RULER reads.
type testLine struct {
	Index   int      `json:"index"`
	Pred    string   `json:"pred"`
	Outputs []string `json:"outputs"`
	Error   string   `json:"error,omitempty"`
}

// testTask is a task of n samples; the right answer to sample i is "<name>-<i>".
func testTask(name string, n int) Task {
	t := Task{
		Name: name, File: filepath.Join("pred", "m", name+".jsonl"), Digest: "d", LineID: LineIndex,
		Rules: Rules{MaxNewTokens: 5}, Bytes: func(i int) int { return 10 * i },
	}
	for i := range n {
		t.IDs = append(t.IDs, fmt.Sprint(i))
	}
	t.Item = func(i int) Item {
		return Item{
			ID:    t.IDs[i],
			First: func() (Request, error) { return Request{Prompt: Prompt{User: name + "-" + t.IDs[i]}, MaxNew: 5}, nil },
			Line: func(answers []string, failure string) any {
				l := testLine{Index: i, Outputs: []string{name + "-" + t.IDs[i]}, Error: failure}
				if failure == "" {
					l.Pred = answers[0]
				}
				return l
			},
		}
	}
	return t
}

// echo answers right, but for prompts that end with a 3.
func echo(_ context.Context, r Request) (Output, error) {
	if strings.HasSuffix(r.User, "3") {
		return Output{Text: "wrong"}, nil
	}
	return Output{Text: r.User, PromptTokens: 7, NewTokens: 2, TTFT: time.Second, Total: 2 * time.Second}, nil
}

func testOptions(folder string) Options {
	return Options{
		Folder: folder, Tasks: []Task{testTask("vt", 7), testTask("cwe", 12)},
		Manifest: Manifest{Benchmark: "ruler", Model: ModelInfo{Name: "m", SHA256: "s"}, Attention: AttentionInfo{Spec: "full"},
			Settings: map[string]any{"length": 9}, Code: "c1", Seed: 1, Precision: "f32", Machine: map[string]any{"threads": 1}},
	}
}

func mustRun(t *testing.T, opt Options, gen Generate) []TaskCount {
	t.Helper()
	counts, err := Run(context.Background(), opt, gen)
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

// contents are the files of a folder that must be the same whenever the answers are: all but the times and the lock.
func contents(t *testing.T, folder string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == timesName || d.Name() == ".lock" {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(folder, path)
		all[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func mustReport(t *testing.T, folder string, counts []TaskCount) Result {
	t.Helper()
	r, err := Report(context.Background(), folder, "full", counts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRun(t *testing.T) {
	opt := testOptions(filepath.Join(t.TempDir(), "new", "full"))
	var told []Progress
	opt.Progress = func(p Progress) { told = append(told, p) }
	counts := mustRun(t, opt, echo)
	if len(told) != 19 || told[18].AllDone != 19 || told[18].All != 19 || told[18].New != 19 || told[18].Task != "cwe" || told[18].Done != 12 {
		t.Errorf("progress %+v", told[len(told)-1])
	}
	r := mustReport(t, opt.Folder, counts)
	if !r.Complete || len(r.Counts) != 2 || *r.Scores.Scores.Lines[0].Scores[0] != 85.71 {
		t.Errorf("result %+v", r)
	}
	file := contents(t, opt.Folder)["pred/m/vt.jsonl"]
	if !strings.HasPrefix(file, `{"index":0,"pred":"vt-0","outputs":["vt-0"]}`+"\n") || strings.Count(file, "\n") != 7 {
		t.Errorf("predictions %s", file)
	}
	times, err := readTimes(filepath.Join(opt.Folder, timesName))
	if err != nil || times["cwe"]["4"].PromptTokens != 7 || times["cwe"]["4"].TTFTSeconds != 1 {
		t.Errorf("times %v, %v", times["cwe"]["4"], err)
	}
	// Nothing is left to do, so nothing is run.
	never := func(context.Context, Request) (Output, error) { t.Error("ran a sample again"); return Output{}, nil }
	before := contents(t, opt.Folder)
	mustReport(t, opt.Folder, mustRun(t, opt, never))
	if !maps.Equal(before, contents(t, opt.Folder)) {
		t.Error("a run with nothing to do changed files")
	}
}

// TestFailures is rows 46 and 47 of the faults: samples that fail and empty answers are written, count as wrong, and
// are told.
func TestFailures(t *testing.T) {
	opt := testOptions(t.TempDir())
	gen := func(ctx context.Context, r Request) (Output, error) {
		switch {
		case strings.HasSuffix(r.User, "2"):
			return Output{Text: "half an ans"}, errors.New("out of memory")
		case strings.HasSuffix(r.User, "4"):
			return Output{Text: ""}, nil
		case strings.HasSuffix(r.User, "5"):
			return Output{Text: ".,;"}, nil
		}
		return Output{Text: r.User}, nil
	}
	item := opt.Tasks[0].Item
	opt.Tasks[0].Item = func(i int) Item {
		it := item(i)
		if i == 6 {
			it.First = func() (Request, error) { return Request{}, errors.New("no prompt") }
		}
		return it
	}
	r := mustReport(t, opt.Folder, mustRun(t, opt, gen))
	vt := r.Counts[0]
	if vt.Done != 7 || vt.Failed != 2 || vt.FirstError != "sample 2: out of memory" || *r.Scores.Scores.Lines[0].Scores[0] != 42.86 || !r.Complete {
		t.Errorf("%+v, scores %v", vt, *r.Scores.Scores.Lines[0].Scores[0])
	}
	file := contents(t, opt.Folder)["pred/m/vt.jsonl"]
	if !strings.Contains(file, `{"index":2,"pred":"","outputs":["vt-2"],"error":"out of memory"}`) || !strings.Contains(file, `"error":"no prompt"`) {
		t.Errorf("predictions %s", file)
	}
	// A run that goes on counts them again, and does not run them.
	if again := mustRun(t, opt, echo); again[0] != vt {
		t.Errorf("counted %+v, then %+v", vt, again[0])
	}
	var table bytes.Buffer
	if err := Table([]Result{r}).Print(&table); err != nil || !strings.Contains(table.String(), "vt: 2 samples failed and count as wrong; the first: sample 2: out of memory") {
		t.Errorf("table %s, %v", table.String(), err)
	}
}

// TestAllFail: when every sample fails alike it is not the samples, and a run of days must not write that all are wrong.
func TestAllFail(t *testing.T) {
	opt := testOptions(t.TempDir())
	calls := 0
	counts, err := Run(context.Background(), opt, func(context.Context, Request) (Output, error) {
		calls++
		return Output{}, errors.New("device lost")
	})
	if err == nil || !strings.Contains(err.Error(), "5 samples in a row failed alike") || calls != 5 || counts[0].Failed != 5 {
		t.Errorf("%v after %d calls, %+v", err, calls, counts)
	}
	n := 0
	opt = testOptions(t.TempDir())
	mustRun(t, opt, func(context.Context, Request) (Output, error) { n++; return Output{}, fmt.Errorf("failure %d", n) })
}

// TestStopped: Ctrl-C leaves whole lines, the report says that it is partial, and the same command goes on.
func TestStopped(t *testing.T) {
	opt := testOptions(t.TempDir())
	ctx, stop := context.WithCancelCause(context.Background())
	calls := 0
	counts, err := Run(ctx, opt, func(ctx context.Context, r Request) (Output, error) {
		if calls++; calls == 10 {
			stop(errors.New("interrupt"))
			return Output{Text: "cut sho"}, nil
		}
		return echo(ctx, r)
	})
	if err == nil || err.Error() != "interrupt" || counts[0].Done != 7 || counts[1].Done != 2 {
		t.Fatalf("%v, %+v", err, counts)
	}
	r := mustReport(t, opt.Folder, counts)
	var table bytes.Buffer
	if err := Table([]Result{r}).Print(&table); err != nil || r.Complete || !strings.Contains(table.String(), "PARTIAL: cwe has 2 of 12 samples") {
		t.Errorf("%v, table %s", err, table.String())
	}
	mustReport(t, opt.Folder, mustRun(t, opt, echo))
	whole := testOptions(t.TempDir())
	mustReport(t, whole.Folder, mustRun(t, whole, echo))
	if !maps.Equal(contents(t, opt.Folder), contents(t, whole.Folder)) {
		t.Error("stopped and gone on is not the same as run at once")
	}
}

// TestTornLine is row 41 of the faults: what a kill or a power cut leaves of the last line is dropped, and its sample
// run again; a broken line before it is an error.
func TestTornLine(t *testing.T) {
	whole := testOptions(t.TempDir())
	mustReport(t, whole.Folder, mustRun(t, whole, echo))
	want := contents(t, whole.Folder)
	file := want["pred/m/cwe.jsonl"]
	last := strings.LastIndex(file[:len(file)-1], "\n") + 1
	for _, cut := range []int{last, last + 1, len(file) - 2, len(file) - 1} {
		for _, more := range []string{"", "\x00\x00\x00", "\x00\x00\n"} {
			if cut == last && more == "" {
				continue
			}
			opt := testOptions(t.TempDir())
			mustRun(t, opt, echo)
			if err := os.WriteFile(filepath.Join(opt.Folder, "pred/m/cwe.jsonl"), []byte(file[:cut]+more), 0o600); err != nil {
				t.Fatal(err)
			}
			mustReport(t, opt.Folder, mustRun(t, opt, echo))
			if !maps.Equal(contents(t, opt.Folder), want) {
				t.Fatalf("cut at byte %d, then %q: not the same as run at once", cut-last, more)
			}
		}
	}
	path := filepath.Join(whole.Folder, "pred/m/cwe.jsonl")
	if err := os.WriteFile(path, []byte("{\"index\":0,\n"+file), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), whole, echo); err == nil || !strings.Contains(err.Error(), "cwe.jsonl: line 1: unexpected end of JSON") {
		t.Errorf("a broken first line: %v", err)
	}
}

// TestRepeatedLines is row 44 of the faults.
func TestRepeatedLines(t *testing.T) {
	opt := testOptions(t.TempDir())
	mustRun(t, opt, echo)
	path := filepath.Join(opt.Folder, "pred/m/vt.jsonl")
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, append(data, "{\"index\":0,\"pred\":\"other\",\"outputs\":[\"x\"]}\n{\"index\":99}\n"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	var warned []string
	opt.Warn = func(text string) { warned = append(warned, text) }
	if counts := mustRun(t, opt, echo); counts[0].Done != 7 {
		t.Errorf("%+v", counts)
	}
	if len(warned) != 2 || !strings.Contains(warned[0], "1 lines repeat") || !strings.Contains(warned[1], "1 lines are of samples that the data does not have") {
		t.Errorf("warnings %q", warned)
	}
}

// TestManifest is row 43 of the faults: a run with other settings may not go on in a folder.
func TestManifest(t *testing.T) {
	opt := testOptions(t.TempDir())
	mustRun(t, opt, echo)
	for want, change := range map[string]func(*Options){
		`attention.spec is "pbs", there "full"`:          func(o *Options) { o.Manifest.Attention.Spec = "pbs" },
		`attention.min_length is 5, there not set`:       func(o *Options) { o.Manifest.Attention.MinLength = 5 },
		`model.sha256 is "other", there "s"`:             func(o *Options) { o.Manifest.Model.SHA256 = "other" },
		`code is "c2", there "c1"`:                       func(o *Options) { o.Manifest.Code = "c2" },
		`seed is 2, there 1`:                             func(o *Options) { o.Manifest.Seed = 2 },
		`settings.length is 10, there 9`:                 func(o *Options) { o.Manifest.Settings = map[string]any{"length": 10} },
		`tasks.cwe.prompts_sha256 is "other", there "d"`: func(o *Options) { o.Tasks[1].Digest = "other" },
		`tasks.vt.rules.max_new_tokens is 6, there 5`:    func(o *Options) { o.Tasks[0].Rules.MaxNewTokens = 6 },
		`tasks.vt.items is 8, there 7`:                   func(o *Options) { o.Tasks[0] = testTask("vt", 8) },
		`precision is "bf16", there "f32"`:               func(o *Options) { o.Manifest.Precision = "bf16" },
		`protocol is "opencompass", there not set`:       func(o *Options) { o.Manifest.Protocol = "opencompass" },
		`shard is "0/2", there not set`:                  func(o *Options) { o.Shard = Shard{0, 2} },
	} {
		other := testOptions(opt.Folder)
		change(&other)
		never := func(context.Context, Request) (Output, error) { t.Errorf("%s: ran", want); return Output{}, nil }
		if _, err := Run(context.Background(), other, never); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--force") {
			t.Errorf("%v, want %s", err, want)
		}
	}
	machine := testOptions(opt.Folder)
	machine.Manifest.Machine = map[string]any{"threads": 64}
	mustRun(t, machine, echo)
	fewer := testOptions(opt.Folder)
	fewer.Tasks = append(fewer.Tasks[:1], testTask("fwe", 3))
	mustRun(t, fewer, echo)
	m, err := readManifest(opt.Folder)
	if got := strings.Join(slices.Sorted(maps.Keys(m.Tasks)), ","); got != "cwe,fwe,vt" || err != nil {
		t.Errorf("tasks %s, %v", got, err)
	}
	forced := testOptions(opt.Folder)
	forced.Manifest.Code, forced.Force = "c2", true
	mustRun(t, forced, echo)
	if m, err = readManifest(opt.Folder); err != nil || len(m.Forced) != 1 || m.Forced[0] != `code is "c2", there "c1"` {
		t.Errorf("forced %q, %v", m.Forced, err)
	}
	if err := os.WriteFile(filepath.Join(opt.Folder, manifestName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), opt, echo); err == nil || !strings.Contains(err.Error(), "manifest.json") {
		t.Errorf("a broken manifest: %v", err)
	}
}

// TestLock is row 42 of the faults.
func TestLock(t *testing.T) {
	opt := testOptions(t.TempDir())
	_, err := Run(context.Background(), opt, func(ctx context.Context, r Request) (Output, error) {
		if _, err := Run(ctx, testOptions(opt.Folder), echo); err == nil || !strings.Contains(err.Error(), "another eval writes into "+opt.Folder) {
			t.Errorf("second writer: %v", err)
		}
		return echo(ctx, r)
	})
	if err != nil {
		t.Error(err)
	}
}

// TestLimitAndShard: a limit may be raised later; a shard has its items only.
func TestLimitAndShard(t *testing.T) {
	opt := testOptions(t.TempDir())
	opt.Limit = 2
	if counts := mustRun(t, opt, echo); counts[0].Items != 2 || counts[1].Done != 2 {
		t.Errorf("%+v", counts)
	}
	opt.Limit = 0
	ran := 0
	counts := mustRun(t, opt, func(ctx context.Context, r Request) (Output, error) { ran++; return echo(ctx, r) })
	if ran != 15 || counts[0].Done != 7 {
		t.Errorf("ran %d, %+v", ran, counts)
	}
	if got := fmt.Sprint(Shard{1, 3}.items(8, 0), Shard{}.items(3, 9), Shard{2, 3}.items(9, 5), Shard{2, 3}.items(2, 0)); got != "[1 4 7] [0 1 2] [2] []" {
		t.Error(got)
	}
	for text, want := range map[string]Shard{"": {}, "0/1": {0, 1}, "3/4": {3, 4}} {
		if got, err := ParseShard(text); got != want || err != nil {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"4/4", "1", "a/b", "-1/2", "0/0", "1/99999", "0/4x"} {
		if got, err := ParseShard(text); err == nil {
			t.Errorf("%q: %v, no error", text, got)
		}
	}
}

// runShards runs a folder's worth of shards.
func runShards(t *testing.T, out string, n int, change func(i int, o *Options)) {
	t.Helper()
	for i := range n {
		opt := testOptions("")
		opt.Shard = Shard{i, n}
		opt.Folder = filepath.Join(out, opt.Shard.Folder(), "full")
		if change != nil {
			change(i, &opt)
		}
		mustReport(t, opt.Folder, mustRun(t, opt, echo))
	}
}

// TestMerge: shards merged are what one run writes.
func TestMerge(t *testing.T) {
	whole := testOptions(filepath.Join(t.TempDir(), "full"))
	one := mustReport(t, whole.Folder, mustRun(t, whole, echo))
	for _, n := range []int{1, 2, 5, 9} { // 9: some shards have none of the 7 items of vt
		out := t.TempDir()
		runShards(t, out, n, nil)
		merged, err := Merge(context.Background(), out, false)
		if err != nil {
			t.Fatal(err)
		}
		got, want := contents(t, filepath.Join(out, "full")), contents(t, whole.Folder)
		for _, file := range []string{"pred/m/vt.jsonl", "pred/m/cwe.jsonl"} {
			if got[file] != want[file] {
				t.Errorf("%d shards: %s: %s, want %s", n, file, got[file], want[file])
			}
		}
		if a, b := jsonOf(t, merged[0].Scores), jsonOf(t, one.Scores); a != b || jsonOf(t, merged[0].Counts) != jsonOf(t, one.Counts) || !merged[0].Complete {
			t.Errorf("%d shards: %s, want %s", n, a, b)
		}
		if _, err := Merge(context.Background(), out, false); err != nil {
			t.Errorf("merge again: %v", err)
		}
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestMergeRefuses(t *testing.T) {
	merge := func(out string, want string) {
		t.Helper()
		if _, err := Merge(context.Background(), out, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	merge(t.TempDir(), "want one shard-0-of-N")
	out := t.TempDir()
	runShards(t, out, 3, nil)
	if err := os.RemoveAll(filepath.Join(out, "shard-1-of-3")); err != nil {
		t.Fatal(err)
	}
	merge(out, "shard 1 of 3 is missing")
	out = t.TempDir()
	runShards(t, out, 2, func(i int, o *Options) { o.Manifest.Seed += uint64(i) })
	merge(out, "seed is 2, there 1")
	if r, err := Merge(context.Background(), out, true); err != nil || len(r[0].Manifest.Forced) != 1 {
		t.Errorf("forced: %v, %v", r, err)
	}
	out = t.TempDir()
	runShards(t, out, 2, func(i int, o *Options) {
		if i == 1 {
			o.Tasks = o.Tasks[:1]
		}
	})
	merge(out, "other tasks")
	out = t.TempDir()
	runShards(t, out, 2, nil)
	single := testOptions(filepath.Join(out, "full"))
	mustReport(t, single.Folder, mustRun(t, single, echo))
	merge(out, "holds a run of its own")
}
