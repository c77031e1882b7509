package score

import (
	"fmt"
	"strings"

	"github.com/pbs-run/pbs-run/eval/metric"
)

// rulerTasks are RULER's 13 tasks.
func rulerTasks() []string {
	return []string{"niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2", "niah_multikey_3",
		"niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe", "qa_1", "qa_2"}
}

// ruler is RULER's evaluate.py. A task may lie in chunks, <task>-<number>.jsonl.
func (s *scorer) ruler() error {
	sets, err := s.read(layout{what: "task", field: "task", names: rulerTasks(), find: chunkTask, parts: func(a, b string) bool {
		return chunkTask(a) != first(a) && chunkTask(b) != first(b)
	}})
	if err != nil {
		return err
	}
	s.report.Nulls = make(map[string]string)
	total := 0.0
	for _, set := range sets {
		score, err := s.rulerTask(set)
		if err != nil {
			return err
		}
		total += score
		s.report.Scores.Lines = append(s.report.Scores.Lines, Line{set.name, []*float64{&score}})
	}
	if n := len(rulerTasks()); len(sets) == n {
		overall := metric.Round(total/float64(n), 2)
		s.report.Overall = &overall
	}
	return nil
}

// chunkTask is the task of a file or of one chunk.
func chunkTask(base string) string {
	stem := first(base)
	task := strings.TrimRight(stem, "0123456789")
	if task != stem && strings.HasSuffix(task, "-") {
		return strings.TrimSuffix(task, "-")
	}
	return stem
}

// rulerTask returns the score of one task in percent.
func (s *scorer) rulerTask(set set) (float64, error) {
	match := metric.MatchAll
	if strings.HasPrefix(set.name, "qa_") {
		match = metric.MatchPart
	}
	sum, nulls := 0.0, 0
	for _, r := range set.rows {
		var pred string
		if err := r.must(&pred, "pred", "prediction"); err != nil {
			return 0, err
		}
		var outputs []string
		if name, err := r.get(&outputs, "outputs"); err != nil {
			return 0, err
		} else if name == "" {
			outputs = []string{""}
			if err := r.must(&outputs[0], "output"); err != nil {
				return 0, err
			}
		}
		pred = metric.CleanPrediction(pred)
		if pred == "" {
			nulls++
		}
		score := match(pred, outputs)
		sum += score
		if err := s.sample(r, set.name, "task", map[string]any{"score": metric.Percent(score, 1)}); err != nil {
			return 0, err
		}
	}
	s.report.Nulls[set.name] = fmt.Sprintf("%d/%d", nulls, len(set.rows))
	return metric.Percent(sum, len(set.rows)), nil
}
