package metric

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// The files in testdata hold synthetic texts with what the official Python functions make of them.

// golden calls check for each row of a file of JSON lines, of which there must be at least want.
func golden[T any](t *testing.T, name string, want int, check func(t *testing.T, row T)) {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	n := 0
	for ; lines.Scan(); n++ {
		var row T
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatalf("%s:%d: %v", name, n+1, err)
		}
		check(t, row)
	}
	if err := lines.Err(); err != nil || n < want {
		t.Errorf("%s: %d rows, want at least %d: %v", name, n, want, err)
	}
}

func TestLongBench(t *testing.T) {
	type row struct {
		ID          string
		Dataset     string
		Prediction  string
		Answers     []string
		Classes     []string `json:"all_classes"`
		Score       float64
		Levenshtein *float64 `json:"score_levenshtein"`
		OpenCompass *float64 `json:"score_opencompass"`
	}
	official, open := NewLongBench(THUDM, 0), NewLongBench(OpenCompass, 0)
	seen := make(map[string]bool)
	golden(t, "longbench.jsonl", 583, func(t *testing.T, r row) {
		seen[r.Dataset] = true
		check := func(l *LongBench, want float64) {
			got, err := l.Score(r.Dataset, r.Prediction, r.Answers, r.Classes)
			if err != nil || got != want {
				t.Errorf("%s %s: %v, %v, want %v", r.ID, l.protocol, got, err, want)
			}
		}
		check(official, r.Score)
		if r.OpenCompass != nil {
			check(open, *r.OpenCompass)
		}
		if r.Levenshtein != nil {
			check(open, *r.Levenshtein)
		}
	})
	if len(seen) != len(LongBenchDatasets()) {
		t.Errorf("%d data sets, want %d", len(seen), len(LongBenchDatasets()))
	}
}

func TestRecursionLimit(t *testing.T) {
	type row struct {
		Dataset    string
		Prediction string
		Answers    []string
		Official   float64 `json:"score_official"`
		Unlimited  float64 `json:"score_without_limit"`
	}
	limited, unlimited := NewLongBench(THUDM, 1000), NewLongBench(THUDM, 0)
	golden(t, "recursion.jsonl", 22, func(t *testing.T, r row) {
		if got, err := limited.Score(r.Dataset, r.Prediction, r.Answers, nil); err != nil || got != r.Official {
			t.Errorf("%s %.20q: %v, %v, want %v", r.Dataset, r.Prediction, got, err, r.Official)
		}
		if got, err := unlimited.Score(r.Dataset, r.Prediction, r.Answers, nil); err != nil || got != r.Unlimited {
			t.Errorf("%s %.20q without limit: %v, %v, want %v", r.Dataset, r.Prediction, got, err, r.Unlimited)
		}
	})
}

func TestLetter(t *testing.T) {
	type row struct {
		Response, Stripped string
		Pred               *string
		OpenCompass        string `json:"opencompass_first_option"`
	}
	official, open := NewLongBench2(THUDM), NewLongBench2(OpenCompass)
	golden(t, "letters.jsonl", 118, func(t *testing.T, r row) {
		want := ""
		if r.Pred != nil {
			want = *r.Pred
		}
		if got := official.Letter(r.Response); got != want {
			t.Errorf("%q: %q, want %q", r.Response, got, want)
		}
		if got := open.Letter(r.Response); got != r.OpenCompass {
			t.Errorf("opencompass: %q: %q, want %q", r.Response, got, r.OpenCompass)
		}
	})
}

func TestInfiniteBench(t *testing.T) {
	type row struct {
		Task        string
		Prediction  string
		GroundTruth json.RawMessage `json:"ground_truth"`
		Model       string          `json:"model_name"`
		Score       float64
		Error       string
	}
	golden(t, "infinitebench.jsonl", 156, func(t *testing.T, r row) {
		got, err := InfiniteBench(r.Task, r.Prediction, r.GroundTruth, r.Model)
		if got != r.Score || (err != nil) != (r.Error != "") {
			t.Errorf("%s %q %s: %v, %v, want %v %s", r.Task, r.Prediction, r.GroundTruth, got, err, r.Score, r.Error)
		}
	})
}

func TestNormalize(t *testing.T) {
	type row struct{ Text, Normalized string }
	golden(t, "normalize_answer.jsonl", 135, func(t *testing.T, r row) {
		if got := strings.Join(normalize(r.Text), " "); got != r.Normalized {
			t.Errorf("%q: %q, want %q", r.Text, got, r.Normalized)
		}
	})
	golden(t, "normalize_zh.jsonl", 98, func(t *testing.T, r row) {
		if got := normalizeChinese(r.Text); got != r.Normalized {
			t.Errorf("Chinese: %q: %q, want %q", r.Text, got, r.Normalized)
		}
	})
}

func TestFuzzRatio(t *testing.T) {
	type row struct {
		A, B        string
		Difflib     float64  `json:"fuzz_ratio"`
		Levenshtein float64  `json:"fuzz_ratio_levenshtein"`
		Ratio       *float64 `json:"difflib_ratio"`
	}
	golden(t, "fuzz_ratio.jsonl", 219, func(t *testing.T, r row) {
		if got := fuzzRatio(r.A, r.B, false); got != r.Difflib {
			t.Errorf("%q %q: %v, want %v", r.A, r.B, got, r.Difflib)
		}
		if got := fuzzRatio(r.A, r.B, true); got != r.Levenshtein {
			t.Errorf("Levenshtein: %q %q: %v, want %v", r.A, r.B, got, r.Levenshtein)
		}
		if r.Ratio != nil && r.A+r.B != "" {
			if got := difflibRatio([]rune(r.A), []rune(r.B)); got != *r.Ratio {
				t.Errorf("difflib: %q %q: %v, want %v", r.A, r.B, got, *r.Ratio)
			}
		}
	})
}

func TestRougeL(t *testing.T) {
	type row struct {
		Hyp, Ref string
		F        float64
	}
	golden(t, "rouge_l.jsonl", 59, func(t *testing.T, r row) {
		if got := rougeL(r.Hyp, r.Ref, 0); got != r.F {
			t.Errorf("%q %q: %v, want %v", r.Hyp, r.Ref, got, r.F)
		}
	})
}

func TestRounding(t *testing.T) {
	var want struct {
		Means []struct {
			Scores []float64
			V1, E  float64
		}
		Values []struct {
			X     float64
			Two   float64 `json:"python_round_2"`
			NumPy float64 `json:"numpy_round_2"`
			One   float64 `json:"python_round_1"`
		}
	}
	data, err := os.ReadFile("testdata/rounding.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	if len(want.Means) < 40 || len(want.Values) < 83 {
		t.Fatalf("%d means, %d values", len(want.Means), len(want.Values))
	}
	for _, m := range want.Means {
		n := float64(len(m.Scores))
		if v1, e := Round(100*sum(0, m.Scores)/n, 2), RoundNumPy(100*MeanNumPy(m.Scores)); v1 != m.V1 || e != m.E {
			t.Errorf("%v: %v, %v, want %v, %v", m.Scores, v1, e, m.V1, m.E)
		}
	}
	for _, v := range want.Values {
		if two, numPy, one := Round(v.X, 2), RoundNumPy(v.X), Round(v.X, 1); two != v.Two || numPy != v.NumPy || one != v.One {
			t.Errorf("%v: %v %v %v, want %+v", v.X, two, numPy, one, v)
		}
	}
}
