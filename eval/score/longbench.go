package score

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/pbs-run/pbs-run/eval/metric"
)

// answered is what LongBench's scripts read of a row.
type answered struct {
	pred    string
	answers []string
	classes []string // the set's
	own     []string // the row's
	length  float64
}

// longBenchRows reads the rows of a set. The class list of the last one is everybody's, as in eval.py, where one
// variable holds it; OpenCompass takes each row's own.
func (s *scorer) longBenchRows(set set, buckets bool) ([]answered, error) {
	rows := make([]answered, len(set.rows))
	for i, r := range set.rows {
		a := &rows[i]
		if err := r.must(&a.pred, "pred", "prediction"); err != nil {
			return nil, err
		}
		if err := r.must(&a.answers, "answers"); err != nil {
			return nil, err
		}
		if set.name == "trec" || set.name == "lsht" {
			if err := r.must(&a.classes, "all_classes"); err != nil {
				return nil, err
			}
		}
		if buckets {
			if err := r.must(&a.length, "length"); err != nil {
				return nil, err
			}
		}
	}
	if s.Protocol == metric.OpenCompass {
		return rows, nil
	}
	last, others := rows[len(rows)-1].classes, 0
	for i := range rows {
		if !slices.Equal(rows[i].classes, last) {
			others++
		}
		rows[i].own, rows[i].classes = rows[i].classes, last
	}
	if others > 0 {
		s.report.Warnings = append(s.report.Warnings,
			fmt.Sprintf("%s: %d rows have other all_classes than the last, which counts for all in the score, as in eval.py", set.name, others))
	}
	return rows, nil
}

// longBenchTerms scores the rows of a set: what each adds to the sum.
func (s *scorer) longBenchTerms(l *metric.LongBench, set set, rows []answered) ([][]float64, error) {
	terms := make([][]float64, len(rows))
	err := s.each(set, func(i int) (err error) {
		terms[i], err = l.Terms(set.name, rows[i].pred, rows[i].answers, rows[i].classes)
		if err != nil {
			return set.rows[i].errorf("%w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, r := range set.rows {
		own := terms[i] // of a row by itself: a file's last class list is an accident of that file
		if a := rows[i]; a.own != nil && !slices.Equal(a.own, a.classes) {
			if own, err = l.Terms(set.name, a.pred, a.answers, a.own); err != nil {
				return nil, r.errorf("%w", err)
			}
		}
		if err := s.sample(r, set.name, "dataset", map[string]any{"score": l.RowScore(own)}); err != nil {
			return nil, err
		}
	}
	return terms, nil
}

// longBench is eval.py, or OpenCompass with its groups.
func (s *scorer) longBench() error {
	sets, err := s.read(layout{what: "data set", field: "dataset", names: metric.LongBenchDatasets(), find: first})
	if err != nil {
		return err
	}
	s.report.Unrounded = make(map[string]float64)
	l := metric.NewLongBench(s.Protocol, s.RecursionLimit)
	for _, set := range sets {
		rows, err := s.longBenchRows(set, false)
		if err != nil {
			return err
		}
		terms, err := s.longBenchTerms(l, set, rows)
		if err != nil {
			return err
		}
		sum, n := 0.0, float64(len(rows))
		for _, t := range slices.Concat(terms...) {
			sum += t
		}
		score := 100 * sum / n
		if s.Protocol == metric.OpenCompass {
			score = sum / n
			score *= 100
		}
		s.report.Unrounded[set.name] = score
		if s.Protocol == metric.THUDM {
			score = metric.Round(score, 2)
		}
		s.report.Scores.Lines = append(s.report.Scores.Lines, Line{set.name, []*float64{&score}})
	}
	if s.Protocol == metric.OpenCompass {
		s.report.Groups = groups(s.report.Unrounded)
	}
	return nil
}

// longBenchE is eval.py --e: the scores by length. On disk its data sets are called <name>_e, its predictions are not.
func (s *scorer) longBenchE() error {
	sets, err := s.read(layout{what: "data set", field: "dataset", names: metric.LongBenchEDatasets(), find: func(base string) string {
		return strings.TrimSuffix(first(base), "_e")
	}})
	if err != nil {
		return err
	}
	s.report.Scores.Columns = []string{"0-4k", "4-8k", "8k+"}
	l := metric.NewLongBench(metric.THUDM, s.RecursionLimit)
	for _, set := range sets {
		rows, err := s.longBenchRows(set, true)
		if err != nil {
			return err
		}
		terms, err := s.longBenchTerms(l, set, rows)
		if err != nil {
			return err
		}
		var buckets [3][]float64
		for i, r := range rows {
			b := 2
			if r.length < 4000 {
				b = 0
			} else if r.length < 8000 {
				b = 1
			}
			buckets[b] = append(buckets[b], terms[i]...)
		}
		line := Line{Name: set.name}
		for _, b := range buckets {
			var score *float64
			if mean := metric.RoundNumPy(100 * metric.MeanNumPy(b)); !math.IsNaN(mean) {
				score = &mean
			}
			line.Scores = append(line.Scores, score)
		}
		s.report.Scores.Lines = append(s.report.Scores.Lines, line)
	}
	return nil
}

// A group is an average of OpenCompass' summary (configs/summarizers/groups/longbench.py).
type group struct {
	name    string
	members []string // data sets, or groups before this one
}

// openCompassGroups are LongBench's categories, its two languages, and the mean of the categories.
func openCompassGroups() []group {
	var all []group
	whole := group{name: "longbench"}
	for _, c := range metric.LongBenchCategories() {
		all = append(all, group{"longbench_" + c.Name, c.Tasks})
		whole.members = append(whole.members, "longbench_"+c.Name)
	}
	return append(all, []group{
		{"longbench_zh", []string{"multifieldqa_zh", "dureader", "vcsum", "lsht", "passage_retrieval_zh", "lcc", "repobench-p"}},
		{"longbench_en", []string{"narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique", "gov_report",
			"qmsum", "multi_news", "trec", "triviaqa", "samsum", "passage_count", "passage_retrieval_en", "lcc", "repobench-p"}},
		whole,
	}...)
}

func groupNames() []string {
	var names []string
	for _, g := range openCompassGroups() {
		names = append(names, g.name)
	}
	return names
}

// groups are the plain means over the members; a group that lacks one is left out.
func groups(scores map[string]float64) map[string]float64 {
	means := make(map[string]float64)
next:
	for _, g := range openCompassGroups() {
		sum := 0.0
		for _, m := range g.members {
			score, ok := scores[m]
			if !ok {
				score, ok = means[m]
			}
			if !ok {
				continue next
			}
			sum += score
		}
		means[g.name] = sum / float64(len(g.members))
	}
	return means
}
