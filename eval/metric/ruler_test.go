package metric

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"
)

// goldenScores are predictions with what RULER's own scorer makes of them.
type goldenScores struct {
	Task     string
	Metric   string
	Examples []struct {
		Pred          string
		Postprocessed string
		Outputs       []string
		Score         float64 // percent
	}
	Score *float64 // percent, two decimals; the edge cases have none
	Nulls string   // "empty/all"
}

func TestScoresEqualRULERs(t *testing.T) {
	data, err := os.ReadFile("testdata/ruler.json")
	if err != nil {
		t.Fatal(err)
	}
	var tasks []goldenScores
	if err := json.Unmarshal(data, &tasks); err != nil {
		t.Fatal(err)
	}
	if len(tasks) != 15 {
		t.Fatalf("%d tasks in the golden file, want RULER's 13 and 2 of edge cases", len(tasks))
	}
	for _, task := range tasks {
		match := map[string]func(string, []string) float64{"string_match_all": MatchAll, "string_match_part": MatchPart}[task.Metric]
		sum, nulls := 0.0, 0
		for i, e := range task.Examples {
			pred := CleanPrediction(e.Pred)
			if pred != e.Postprocessed {
				t.Errorf("%s %d: cleaned %q to %q, want %q", task.Task, i, e.Pred, pred, e.Postprocessed)
			}
			if pred == "" {
				nulls++
			}
			score := match(pred, e.Outputs)
			sum += score
			if got := Percent(score, 1); math.Abs(got-e.Score) > 1e-9 {
				t.Errorf("%s %d: %q against %q scores %v, want %v", task.Task, i, pred, e.Outputs, got, e.Score)
			}
		}
		if task.Score == nil {
			continue
		}
		if got := Percent(sum, len(task.Examples)); got != *task.Score {
			t.Errorf("%s: %v, want %v", task.Task, got, *task.Score)
		}
		if got := fmt.Sprintf("%d/%d", nulls, len(task.Examples)); got != task.Nulls {
			t.Errorf("%s: nulls %s, want %s", task.Task, got, task.Nulls)
		}
	}
}

func TestMatchWithoutOutputs(t *testing.T) {
	if MatchAll("x", nil) != 0 || MatchPart("x", nil) != 0 {
		t.Error("a row without outputs must score 0")
	}
}

// The wanted values are Python's.
func TestRound2(t *testing.T) {
	for x, want := range map[float64]float64{
		2.675: 2.67, 0.125: 0.12, 0.375: 0.38, 66.66666666666667: 66.67, 33.333333333333336: 33.33, 0: 0, 100: 100, 1.005: 1,
	} {
		if got := Round(x, 2); got != want {
			t.Errorf("Round(%v, 2) = %v, want %v", x, got, want)
		}
	}
}

// The wanted values are Python's str.lower.
func TestLower(t *testing.T) {
	for s, want := range map[string]string{
		"ABC": "abc", "İstanbul": "i\u0307stanbul", "ΟΔΟΣ": "οδος", "ΣΑΣ ΣΑ": "σας σα", "Σ": "σ", "ΑΣ.Β": "ασ.β",
		"ΑΣ.": "ας.", "Α'Σ": "α'ς", "1Σ": "1σ", "Α\u0301Σ": "α\u0301ς", "STRASSE ẞ": "strasse ß", "\xffΑΣ": "\ufffdας",
	} {
		if got := lower(s); got != want {
			t.Errorf("lower(%q) = %q, want %q", s, got, want)
		}
	}
}

func TestCleanPrediction(t *testing.T) {
	for s, want := range map[string]string{
		"": "", " \x1f\u3000": "", "\x00a\tb\x01": "a\nb", "a\x1f\x20b\x1c": "a\n b", "\u00a0a\x7f": "a\x7f", "a\n b ": "a\n b",
	} {
		if got := CleanPrediction(s); got != want {
			t.Errorf("CleanPrediction(%q) = %q, want %q", s, got, want)
		}
	}
}
