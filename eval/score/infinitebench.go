package score

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/pbs-run/pbs-run/eval/metric"
)

// infiniteBench is InfiniteBench's compute_scores.py: the mean of the rows of preds_<task>.jsonl, 0 to 1. The folder is
// called after the model, which matters where that is gpt4; a row may have its own model_name.
func (s *scorer) infiniteBench() error {
	names := slices.Concat(metric.InfiniteBenchTasks(), []string{"kv_retrieval_prefix", "kv_retrieval_both"})
	sets, err := s.read(layout{what: "task", field: "task", names: names, find: func(base string) string {
		return strings.TrimPrefix(first(base), "preds_")
	}})
	if err != nil {
		return err
	}
	s.report.Scores.decimals = 4
	s.report.Errors = make(map[string]int)
	for _, set := range sets {
		score, err := s.infiniteBenchTask(set)
		if err != nil {
			return err
		}
		s.report.Scores.Lines = append(s.report.Scores.Lines, Line{set.name, []*float64{&score}})
	}
	return nil
}

// infiniteBenchTask returns the mean of a task's rows. One on which the official script fails counts 0.
func (s *scorer) infiniteBenchTask(set set) (float64, error) {
	scores, failed := make([]float64, len(set.rows)), make([]error, len(set.rows))
	err := s.each(set, func(i int) error {
		r := set.rows[i]
		var pred string
		if err := r.must(&pred, "prediction", "pred"); err != nil {
			return err
		}
		model := filepath.Base(filepath.Dir(r.file))
		if _, err := r.get(&model, "model_name"); err != nil {
			return err
		}
		label, ok := r.fields["ground_truth"]
		if !ok {
			label, ok = r.fields["label"]
		}
		if !ok {
			return r.errorf("no field ground_truth or label")
		}
		scores[i], failed[i] = metric.InfiniteBench(set.name, pred, label, model)
		return nil
	})
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for i, r := range set.rows {
		sum += scores[i]
		more := map[string]any{"score": scores[i]}
		if failed[i] != nil {
			s.report.Errors[set.name]++
			more["error"] = failed[i].Error()
		}
		if err := s.sample(r, set.name, "task", more); err != nil {
			return 0, err
		}
	}
	return sum / float64(len(set.rows)), nil
}
