package score

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pbs-run/pbs-run/eval/metric"
)

// testdata holds synthetic predictions in the layouts of the official scripts with what those scripts, unchanged, wrote.

func readJSON(t *testing.T, path string, to any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, to); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// scored is a report as its readers see it, and the samples.
func scored(t *testing.T, o Options) (map[string]any, []map[string]any) {
	t.Helper()
	var samples bytes.Buffer
	o.Samples = &samples
	r, err := Score(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var report map[string]any
	if err := json.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	var rows []map[string]any
	for line := range bytes.Lines(samples.Bytes()) {
		var row map[string]any
		if err := json.Unmarshal(line, &row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return report, rows
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\ngot  %v\nwant %v", what, got, want)
	}
}

func TestLongBenchRuns(t *testing.T) {
	for _, run := range []string{"all", "third", "lastclasses"} {
		var want struct {
			Result, Unrounded map[string]any
			N                 map[string]any
		}
		readJSON(t, "testdata/longbench/"+run+".result.json", &want)
		got, samples := scored(t, Options{Benchmark: "longbench", Protocol: metric.THUDM, Pred: "testdata/longbench/" + run})
		if len(want.Result) == 0 {
			t.Fatalf("%s: nothing is wanted", run)
		}
		same(t, run, got["scores"], any(want.Result))
		if warned := len(got["warnings"].([]any)) > 0; warned != (run == "lastclasses") {
			t.Errorf("%s: warnings %q", run, got["warnings"])
		}
		if run != "all" {
			continue
		}
		same(t, "unrounded", got["unrounded"], any(want.Unrounded))
		same(t, "rows", got["rows"], any(want.N))
		if len(samples) != 571 || samples[0]["score"] == nil || samples[0]["dataset"] != "narrativeqa" {
			t.Errorf("%d samples, the first %v", len(samples), samples[0])
		}
	}
}

func TestLongBenchOpenCompass(t *testing.T) {
	var want struct{ Datasets, Groups map[string]any }
	readJSON(t, "testdata/longbench/all.opencompass.json", &want)
	got, _ := scored(t, Options{Benchmark: "longbench", Protocol: metric.OpenCompass, Pred: "testdata/longbench/all"})
	same(t, "scores", got["scores"], any(want.Datasets))
	same(t, "groups", got["groups"], any(want.Groups))
}

func TestLongBenchERuns(t *testing.T) {
	for _, run := range []string{"all_e", "gap_e"} {
		var want struct{ Result map[string]any }
		readJSON(t, "testdata/longbench/"+run+".result.json", &want)
		got, _ := scored(t, Options{Benchmark: "longbench-e", Protocol: metric.THUDM, Pred: "testdata/longbench/" + run})
		same(t, run, got["scores"], any(want.Result))
	}
}

// TestRoundings has a mean that Python and NumPy round otherwise: LongBench rounds as the one, LongBench-E as the other.
func TestRoundings(t *testing.T) {
	dir := t.TempDir()
	row, err := json.Marshal(map[string]any{"pred": "1" + strings.Repeat(" 2", 3999), "answers": []string{"1"}, "length": 4000})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "passage_count.jsonl"), string(row))
	got, _ := scored(t, Options{Benchmark: "longbench", Protocol: metric.THUDM, Pred: dir})
	same(t, "longbench", got["scores"], any(map[string]any{"passage_count": 0.03}))
	got, _ = scored(t, Options{Benchmark: "longbench-e", Pred: dir})
	same(t, "longbench-e", got["scores"], any(map[string]any{"passage_count": map[string]any{"0-4k": nil, "4-8k": 0.02, "8k+": nil}}))
}

func TestLongBench2Runs(t *testing.T) {
	var want map[string]struct{ Result, Compensated, OpenCompass map[string]any }
	readJSON(t, "testdata/longbench2/aggregate.json", &want)
	if len(want) != 5 {
		t.Fatalf("%d runs", len(want))
	}
	folder := map[metric.Protocol]map[string]any{}
	for _, p := range []metric.Protocol{metric.THUDM, metric.OpenCompass} {
		got, _ := scored(t, Options{Benchmark: "longbench-v2", Protocol: p, Pred: "testdata/longbench2/results"})
		folder[p] = got["scores"].(map[string]any)
	}
	for run, w := range want {
		file := "testdata/longbench2/results/" + run + ".jsonl"
		got, samples := scored(t, Options{Benchmark: "longbench-v2", Protocol: metric.THUDM, Pred: file})
		same(t, run, got["scores"], any(w.Result))
		same(t, run+" in its folder", folder[metric.THUDM][run], any(w.Result))
		same(t, run+" compensated", got["compensated"], any(w.Compensated))
		for _, s := range samples {
			if s["letter"] != s["pred"] || s["score"] != map[any]any{true: 1.0, false: 0.0}[s["judge"]] {
				t.Errorf("%s: sample %v", run, s)
			}
		}
		got, _ = scored(t, Options{Benchmark: "longbench-v2", Protocol: metric.OpenCompass, Pred: file})
		same(t, run+" by OpenCompass", got["scores"], any(w.OpenCompass))
		same(t, run+" by OpenCompass in its folder", folder[metric.OpenCompass][run], any(w.OpenCompass))
	}
}

// TestLongBench2Responses has rows with a response alone: the letter is found in it.
func TestLongBench2Responses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.v1.jsonl")
	write(t, path, `{"_id":"1","difficulty":"easy","length":"short","answer":"A","response":"The correct answer is (A)"}`,
		`{"_id":"2","difficulty":"odd","length":"huge","answer":"B","response":"it is B"}`)
	got, samples := scored(t, Options{Benchmark: "longbench-v2", Protocol: metric.THUDM, Pred: path})
	same(t, "scores", got["scores"], any(map[string]any{"Overall": 50.0, "Easy": 100.0, "Hard": 0.0, "Short": 100.0, "Medium": nil, "Long": 0.0}))
	same(t, "missing", got["missing"], any(map[string]any{"m.v1": 501.0}))
	same(t, "unread", got["unread"], any(map[string]any{"m.v1": 1.0}))
	if samples[0]["letter"] != "A" || samples[1]["letter"] != nil {
		t.Errorf("letters %v", samples)
	}
	got, _ = scored(t, Options{Benchmark: "longbench-v2", Protocol: metric.OpenCompass, Pred: path})
	same(t, "OpenCompass", got["scores"], any(map[string]any{"accuracy": 100.0, "accuracy_easy": 100.0, "accuracy_short": 100.0}))
}

func TestRULERFolder(t *testing.T) {
	var tasks []struct {
		Task     string
		Examples []struct {
			Pred    string
			Outputs []string
			Score   float64
		}
		Score *float64
		Nulls string
	}
	readJSON(t, "../metric/testdata/ruler.json", &tasks)
	dir, want, nulls, total := t.TempDir(), map[string]any{}, map[string]any{}, 0.0
	var each []float64
	for _, task := range tasks {
		if task.Score == nil { // edge cases, which are no task
			continue
		}
		var lines []string
		for i, e := range task.Examples {
			line, _ := json.Marshal(map[string]any{"index": 7, "pred": e.Pred, "input": "x", "outputs": e.Outputs, "others": map[string]any{"id": i}})
			lines = append(lines, string(line))
			each = append(each, e.Score)
		}
		if task.Task == "vt" { // as a run in chunks leaves it
			write(t, filepath.Join(dir, "vt-0.jsonl"), lines[:2]...)
			write(t, filepath.Join(dir, "vt-1.jsonl"), lines[2:]...)
		} else {
			write(t, filepath.Join(dir, task.Task+".jsonl"), lines...)
		}
		want[task.Task], nulls[task.Task] = *task.Score, task.Nulls
		total += *task.Score
	}
	got, samples := scored(t, Options{Benchmark: "ruler", Pred: dir})
	same(t, "scores", got["scores"], any(want))
	same(t, "nulls", got["nulls"], any(nulls))
	same(t, "overall", got["overall"], any(metric.Round(total/13, 2)))
	var scores []float64
	for _, s := range samples {
		scores = append(scores, s["score"].(float64))
	}
	same(t, "samples", scores, each)
}

func TestInfiniteBenchFile(t *testing.T) {
	const path = "../metric/testdata/infinitebench.jsonl"
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, errors := map[string][]float64{}, 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var row struct {
			Task, Error string
			Score       float64
		}
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		want[row.Task] = append(want[row.Task], row.Score)
		if row.Error != "" {
			errors++
		}
	}
	got, samples := scored(t, Options{Benchmark: "infinitebench", Pred: path})
	means := map[string]any{}
	for task, scores := range want {
		sum := 0.0
		for _, s := range scores {
			sum += s
		}
		means[task] = sum / float64(len(scores))
	}
	same(t, "scores", got["scores"], any(means))
	for _, s := range samples {
		task := s["task"].(string)
		if s["score"] != want[task][0] {
			t.Errorf("%v: want %v", s, want[task][0])
		}
		want[task] = want[task][1:]
	}
	n := 0.0
	for _, e := range got["errors"].(map[string]any) {
		n += e.(float64)
	}
	if n != float64(errors) || errors == 0 {
		t.Errorf("%v errors, want %d", n, errors)
	}
}

// TestInfiniteBenchGPT4 has the model's name in the folder's, where math_calc drops the first number.
func TestInfiniteBenchGPT4(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gpt4")
	write(t, filepath.Join(dir, "preds_math_calc.jsonl"), "", `{"id":0,"prediction":"1 2 3","label":[2,3]}`, "")
	got, _ := scored(t, Options{Benchmark: "infinitebench", Pred: dir})
	same(t, "scores", got["scores"], any(map[string]any{"math_calc": 1.0}))
}

func write(t testing.TB, path string, lines ...string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, l := range lines {
		fmt.Fprintln(&b, l)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkScore5000 scores a whole LongBench: 5,000 rows whose texts are as long as real ones.
func BenchmarkScore5000(b *testing.B) {
	dir := b.TempDir()
	for _, d := range metric.LongBenchDatasets() {
		data, err := os.ReadFile("testdata/longbench/all/" + d + ".jsonl")
		if err != nil {
			b.Fatal(err)
		}
		var rows []map[string]any
		for line := range bytes.Lines(data) {
			var row map[string]any
			if err := json.Unmarshal(line, &row); err != nil {
				b.Fatal(err)
			}
			rows = append(rows, row)
		}
		var lines []string
		for i := range 239 {
			row := rows[i%len(rows)]
			if slices.Contains([]string{"gov_report", "qmsum", "multi_news", "vcsum", "dureader"}, d) {
				pred, answer := "", ""
				for k := range 8 {
					other := rows[(i+k)%len(rows)]
					pred += other["pred"].(string) + "\n"
					if a := other["answers"].([]any); len(a) > 0 {
						answer += a[0].(string) + "\n"
					}
				}
				row = map[string]any{"pred": pred, "answers": []string{answer}, "all_classes": nil, "length": 1}
			}
			line, err := json.Marshal(row)
			if err != nil {
				b.Fatal(err)
			}
			lines = append(lines, string(line))
		}
		write(b, filepath.Join(dir, d+".jsonl"), lines...)
	}
	for b.Loop() {
		r, err := Score(b.Context(), Options{Benchmark: "longbench", Protocol: metric.THUDM, Pred: dir})
		if err != nil || r.Rows["lcc"] != 239 {
			b.Fatal(err, r)
		}
	}
}
