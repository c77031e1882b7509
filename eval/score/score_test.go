package score

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pbs-run/pbs-run/eval/metric"
)

const qa = `{"pred":"x","answers":["x"],"all_classes":null,"length":1}`

// TestBadInput has what must be an error, and the words it must say.
func TestBadInput(t *testing.T) {
	deep := `{"pred":` + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000) + `}`
	for name, c := range map[string]struct {
		benchmark string
		files     map[string]string // name -> content
		want      string
	}{
		"bad JSON":            {"longbench", map[string]string{"hotpotqa.jsonl": qa + "\n{]\n"}, "hotpotqa.jsonl:2: invalid character"},
		"torn last line":      {"longbench", map[string]string{"hotpotqa.jsonl": qa + "\n" + qa[:20]}, "hotpotqa.jsonl:2: unexpected end of JSON input; the last line is cut off"},
		"no object":           {"longbench", map[string]string{"hotpotqa.jsonl": "\n\n[1]\n"}, "hotpotqa.jsonl:3: a array where map"},
		"null":                {"longbench", map[string]string{"hotpotqa.jsonl": "null\n"}, "hotpotqa.jsonl:1: null where an object belongs"},
		"deep":                {"longbench", map[string]string{"hotpotqa.jsonl": deep + "\n"}, "hotpotqa.jsonl:1: "},
		"no UTF-8":            {"longbench", map[string]string{"hotpotqa.jsonl": "{\"pred\":\"\xff\"}\n"}, "hotpotqa.jsonl:1: no UTF-8"},
		"missing field":       {"longbench", map[string]string{"hotpotqa.jsonl": qa + "\n" + `{"pred":"x"}` + "\n"}, "hotpotqa.jsonl:2: no field answers"},
		"null field":          {"longbench", map[string]string{"hotpotqa.jsonl": `{"pred":null,"answers":[]}` + "\n"}, "hotpotqa.jsonl:1: pred is null"},
		"wrong type":          {"longbench", map[string]string{"hotpotqa.jsonl": `{"pred":"x","answers":"x"}` + "\n"}, "hotpotqa.jsonl:1: answers: a string where []string belongs"},
		"no classes":          {"longbench", map[string]string{"trec.jsonl": qa + "\n"}, "trec.jsonl:1: all_classes is null"},
		"no paragraph":        {"longbench", map[string]string{"passage_retrieval_en.jsonl": qa + "\n" + qa + "\n"}, `no number behind "Paragraph"`},
		"no length":           {"longbench-e", map[string]string{"qasper.jsonl": `{"pred":"x","answers":[]}` + "\n"}, "qasper.jsonl:1: no field length"},
		"no rows":             {"longbench", map[string]string{"hotpotqa.jsonl": "\n"}, "hotpotqa.jsonl: no rows"},
		"no file":             {"longbench", map[string]string{"result.json": "{}"}, "no .jsonl files"},
		"no data set":         {"longbench", map[string]string{"other.jsonl": qa + "\n"}, "no file is called after a data set"},
		"two files":           {"longbench-e", map[string]string{"qasper.jsonl": qa + "\n", "qasper_e.jsonl": qa + "\n"}, "qasper is in qasper.jsonl already"},
		"chunks and whole":    {"ruler", map[string]string{"vt.jsonl": `{"pred":"","outputs":[]}` + "\n", "vt-0.jsonl": `{"pred":"","outputs":[]}` + "\n"}, "already"},
		"no outputs":          {"ruler", map[string]string{"vt.jsonl": `{"pred":""}` + "\n"}, "vt.jsonl:1: no field output"},
		"no label":            {"infinitebench", map[string]string{"preds_passkey.jsonl": `{"prediction":""}` + "\n"}, "preds_passkey.jsonl:1: no field ground_truth or label"},
		"nothing to judge":    {"longbench-v2", map[string]string{"m.jsonl": `{"difficulty":"easy","length":"short","answer":"A"}` + "\n"}, "m.jsonl:1: no field response or pred"},
		"judge is no boolean": {"longbench-v2", map[string]string{"m.jsonl": `{"difficulty":"easy","length":"short","judge":"yes"}` + "\n"}, "m.jsonl:1: judge: a string where bool belongs"},
		"unknown":             {"longbench-v3", map[string]string{"m.jsonl": qa + "\n"}, `unknown benchmark "longbench-v3"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, content := range c.files {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Score(t.Context(), Options{Benchmark: c.benchmark, Protocol: metric.THUDM, Pred: dir})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestEmptyAnswers has rows that score 0 and stay in the mean: an empty prediction, one of marks alone (on which rouge
// raises an error) and no answers.
func TestEmptyAnswers(t *testing.T) {
	for _, dataset := range []string{"gov_report", "vcsum", "hotpotqa", "multifieldqa_zh", "passage_count"} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, dataset+".jsonl"), `{"pred":"","answers":["1"]}`, `{"pred":"...","answers":["1"]}`, `{"pred":"1","answers":[]}`,
			`{"pred":"1","answers":["1"]}`)
		got, samples := scored(t, Options{Benchmark: "longbench", Protocol: metric.THUDM, Pred: dir})
		same(t, dataset, got["scores"], any(map[string]any{dataset: 25.0}))
		if len(samples) != 4 {
			t.Errorf("%s: %d samples", dataset, len(samples))
		}
	}
}

// TestRepeatedID counts a row once; rows without _id are never repetitions.
func TestRepeatedID(t *testing.T) {
	dir := t.TempDir()
	right, wrong := `{"_id":"1","pred":"x","answers":["x"]}`, `{"_id":"1","pred":"y","answers":["x"]}`
	write(t, filepath.Join(dir, "hotpotqa.jsonl"), right, wrong, right)
	write(t, filepath.Join(dir, "qasper.jsonl"), wrong, qa, qa)
	got, samples := scored(t, Options{Benchmark: "longbench", Protocol: metric.THUDM, Pred: dir})
	same(t, "scores", got["scores"], any(map[string]any{"hotpotqa": 100.0, "qasper": 66.67}))
	same(t, "rows", got["rows"], any(map[string]any{"hotpotqa": 1.0, "qasper": 3.0}))
	warnings := got["warnings"].([]any)
	if len(warnings) != 1 || !strings.Contains(warnings[0].(string), "2 rows repeat an _id") || len(samples) != 4 {
		t.Errorf("warnings %q, %d samples", warnings, len(samples))
	}
}

// TestOtherFiles skips in a folder, with a warning, what is not the benchmark's; a file alone may name the data set in
// its rows.
func TestOtherFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "hotpotqa.jsonl"), qa)
	mixed := filepath.Join(dir, "mixed.jsonl")
	write(t, mixed, `{"dataset":"lcc","pred":"x","answers":["x"],"_id":"1"}`, `{"dataset":"hotpotqa","pred":"","answers":["x"],"_id":"1"}`)
	got, _ := scored(t, Options{Benchmark: "longbench", Protocol: metric.THUDM, Pred: dir})
	same(t, "folder", got["scores"], any(map[string]any{"hotpotqa": 100.0}))
	if w := got["warnings"].([]any); len(w) != 1 || !strings.Contains(w[0].(string), "mixed.jsonl: no data set of this benchmark; skipped") {
		t.Errorf("warnings %q", w)
	}
	got, _ = scored(t, Options{Benchmark: "longbench", Protocol: metric.THUDM, Pred: mixed})
	same(t, "file", got["scores"], any(map[string]any{"hotpotqa": 0.0, "lcc": 100.0}))
}

func TestProtocols(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "vt.jsonl"), qa)
	for benchmark, p := range map[string]metric.Protocol{"ruler": metric.OpenCompass, "longbench": "", "longbench-v2": "other"} {
		if _, err := Score(t.Context(), Options{Benchmark: benchmark, Protocol: p, Pred: dir}); err == nil || !strings.Contains(err.Error(), "protocol") {
			t.Errorf("%s with %q: %v", benchmark, p, err)
		}
	}
}

// TestJudge lets the judge of a row decide as result.py does, and says where it is odd.
func TestJudge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.json")
	write(t, path, `[{"difficulty":"easy","length":"short","answer":"A","pred":"B","judge":true},`,
		`{"difficulty":"easy","length":"short","answer":"A","pred":null,"judge":1},`,
		`{"difficulty":"easy","length":"short","answer":"A","pred":"A","judge":false}]`)
	got, samples := scored(t, Options{Benchmark: "longbench-v2", Protocol: metric.THUDM, Pred: path})
	if got["scores"].(map[string]any)["Overall"] != 66.7 || got["compensated"].(map[string]any)["Overall"] != 41.7 || samples[0]["score"] != 1.0 {
		t.Errorf("%v %v", got, samples)
	}
	if w := got["warnings"].([]any); len(w) != 1 || !strings.Contains(w[0].(string), "m: 3 rows have a judge") {
		t.Errorf("warnings %q", w)
	}
}

// TestLooseRows has rows without difficulty or length, which count overall alone.
func TestLooseRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.jsonl")
	write(t, path, `{"answer":"A","response":"The correct answer is A"}`, `{"answer":"A","response":"","difficulty":"easy","length":"long"}`)
	got, _ := scored(t, Options{Benchmark: "longbench-v2", Protocol: metric.THUDM, Pred: path})
	same(t, "scores", got["scores"], any(map[string]any{"Overall": 50.0, "Easy": 0.0, "Hard": nil, "Short": nil, "Medium": nil, "Long": 0.0}))
	if w := got["warnings"].([]any); len(w) != 1 || !strings.Contains(w[0].(string), "m: 1 rows have no difficulty or no length") {
		t.Errorf("warnings %q", w)
	}
}

func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	_, err := Score(ctx, Options{Benchmark: "longbench", Protocol: metric.THUDM, Pred: "testdata/longbench/third"})
	if !errors.Is(err, stop) {
		t.Errorf("%v, want %v", err, stop)
	}
}

// TestPrint has a table with everything that a table may have.
func TestPrint(t *testing.T) {
	one := 1.0
	r := Report{Benchmark: "b", Scores: Table{Columns: []string{"x", "y"}, Lines: []Line{{"m", []*float64{&one, nil}}}, decimals: 1},
		Rows: map[string]int{"m": 4}, Missing: map[string]int{"m": 3}, Unread: map[string]int{"m": 2}, Errors: map[string]int{"m": 1},
		Nulls: map[string]string{"m": "1/4"}, Groups: map[string]float64{"longbench": 2}, Overall: &one, Warnings: []string{"w"}}
	var b bytes.Buffer
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	want := "b          x    y  rows\n" +
		"m          1.0  -  4  3 missing  2 without a letter  1 errors  1/4 empty\n" +
		"longbench  2.00\noverall    1.00\nwarning: w\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", &b, want)
	}
}

// FuzzRows reads and scores any file: no panic, and each row of the file counts or is an error.
func FuzzRows(f *testing.F) {
	for _, s := range []string{qa, "[" + qa + "]", "{", "[", "[[]]", "null", "\xff", `{"pred":"1","answers":["1","Paragraph 1"],"all_classes":["1"],"length":4000}`,
		`{"pred":"A","answer":"A","judge":true,"difficulty":"easy","length":"long","_id":1}` + "\n" + `{"_id":1}`,
		`{"prediction":"1","ground_truth":[1],"outputs":["1"]}`, `{"prediction":"","ground_truth":null}`} {
		f.Add(s)
	}
	folder := f.TempDir()
	f.Fuzz(func(t *testing.T, content string) {
		for benchmark, file := range map[string]string{"longbench": "trec.jsonl", "longbench-e": "passage_retrieval_en.jsonl", "longbench-v2": "m.jsonl",
			"ruler": "qa_1.jsonl", "infinitebench": "math_calc.jsonl"} {
			path := filepath.Join(folder, file)
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			r, err := Score(t.Context(), Options{Benchmark: benchmark, Protocol: metric.THUDM, Pred: path})
			if err != nil {
				continue
			}
			if _, err := json.Marshal(r); err != nil {
				t.Errorf("%s %q: %v", benchmark, content, err)
			}
			if len(r.Rows) != 1 || len(r.Scores.Lines) != 1 {
				t.Errorf("%s %q: %+v", benchmark, content, r)
			}
		}
	})
}

// Rows of one file keep their order in the samples, and each is scored by its own class list, whatever the last line's.
func TestSamplesOfMixedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mixed.jsonl")
	rows := `{"dataset":"trec","pred":"Water sport","answers":["Water sport"],"all_classes":["Sport","Water sport","Water sport"],"n":0}
{"dataset":"hotpotqa","pred":"yes","answers":["yes"],"n":1}
{"dataset":"trec","pred":"City","answers":["City"],"all_classes":["City","Sport","Water sport"],"n":2}
`
	if err := os.WriteFile(path, []byte(rows), 0o644); err != nil {
		t.Fatal(err)
	}
	got, samples := scored(t, Options{Benchmark: "longbench", Protocol: metric.THUDM, Pred: path})
	if len(samples) != 3 {
		t.Fatalf("%d samples, want 3", len(samples))
	}
	for i, want := range []float64{0.5, 1, 1} {
		if s := samples[i]; s["n"] != float64(i) || s["score"] != want {
			t.Errorf("sample %d: %v, want score %v", i, s, want)
		}
	}
	if trec := got["scores"].(map[string]any)["trec"]; trec != 100. {
		t.Errorf("trec: %v, want 100 by the last line's classes", trec)
	}
}
