package eval

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/pbs-run/pbs-run/eval/metric"
	"github.com/pbs-run/pbs-run/eval/score"
)

// A Comparison is the results of several methods over the same samples.
type Comparison struct {
	Tasks   []TaskScore `json:"tasks"` // flat, for scripts: method by method
	Results []Result    `json:"results"`
	Lines   []Line      `json:"lines"`
	Times   []Speed     `json:"times"`
	Base    string      `json:"base"` // the method that differences are to: full, or the first
}

// A TaskScore is one score of one method.
type TaskScore struct {
	Task      string   `json:"task"`
	Attention string   `json:"attention"`
	Samples   int      `json:"samples"`
	Score     *float64 `json:"score"` // nil where there are no samples of the kind
}

// A Line is one score by every method; nil where a method has none.
type Line struct {
	Name        string     `json:"name"`
	Rows        int        `json:"rows,omitempty"`
	Scores      []*float64 `json:"scores"`
	Differences []*float64 `json:"differences"` // to Base
}

// Speed is what the samples of one method took, where that is known.
type Speed struct {
	Name         string  `json:"name"`
	Samples      int     `json:"samples"`
	PromptTokens float64 `json:"mean_prompt_tokens"`
	TTFTSeconds  float64 `json:"mean_ttft_seconds"`
	Seconds      float64 `json:"seconds"` // of all samples
}

// Table sets results side by side.
func Table(results []Result) Comparison {
	c := Comparison{Results: results}
	base := max(0, slices.IndexFunc(results, func(r Result) bool { return r.Manifest.Attention.Spec == "full" }))
	if len(results) > 0 {
		c.Base = results[base].Name
	}
	for i, r := range results {
		c.Times = append(c.Times, speed(r))
		for _, s := range scores(r.Scores) {
			c.Tasks = append(c.Tasks, TaskScore{Task: s.name, Attention: r.Manifest.Attention.Spec, Samples: s.rows, Score: s.score})
		}
		for _, l := range flatten(r.Scores) {
			at := slices.IndexFunc(c.Lines, func(have Line) bool { return have.Name == l.name })
			if at < 0 {
				at = len(c.Lines)
				c.Lines = append(c.Lines, Line{Name: l.name, Rows: l.rows, Scores: make([]*float64, len(results)), Differences: make([]*float64, len(results))})
			}
			c.Lines[at].Scores[i] = l.score
		}
	}
	for _, l := range c.Lines {
		for i := range results {
			if a, b := l.Scores[i], l.Scores[base]; i != base && a != nil && b != nil {
				d := *a - *b
				l.Differences[i] = &d
			}
		}
	}
	return c
}

// speed adds up the times of a result's samples.
func speed(r Result) Speed {
	s := Speed{Name: r.Name}
	all, err := readTimes(filepath.Join(r.Folder, timesName))
	if err != nil {
		return s // nothing but this depends on it
	}
	good := 0
	for _, task := range all {
		for _, t := range task {
			s.Samples++
			s.Seconds += t.Seconds
			if !t.Failed {
				good++
				s.PromptTokens += float64(t.PromptTokens)
				s.TTFTSeconds += t.TTFTSeconds
			}
		}
	}
	s.PromptTokens /= float64(max(1, good))
	s.TTFTSeconds /= float64(max(1, good))
	return s
}

// flat is one score of a report.
type flat struct {
	name  string
	rows  int
	score *float64
}

// flatten lists the scores of a report by task, by category, and overall.
func flatten(r *score.Report) []flat {
	all := scores(r)
	if r == nil || r.Benchmark == "longbench-v2" {
		return all
	}
	return append(all, means(r)...)
}

// scores lists the scores that a report has: one or more for each task, or those of LongBench-v2.
func scores(r *score.Report) []flat {
	if r == nil {
		return nil
	}
	var all []flat
	for _, l := range r.Scores.Lines {
		for i, s := range l.Scores {
			f := flat{l.Name, r.Rows[l.Name], s}
			switch {
			case r.Benchmark == "longbench-v2":
				f.name = r.Scores.Columns[i]
			case len(r.Scores.Columns) > 0:
				f.name += " " + r.Scores.Columns[i]
			}
			all = append(all, f)
		}
	}
	return all
}

// categories are LongBench's and RULER's (arXiv 2404.06654, section 3).
func categories(benchmark string) []metric.Category {
	switch benchmark {
	case "longbench":
		return metric.LongBenchCategories()
	case "ruler":
		return []metric.Category{
			{Name: "retrieval", Tasks: []string{"niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2",
				"niah_multikey_3", "niah_multivalue", "niah_multiquery"}},
			{Name: "multi-hop-tracing", Tasks: []string{"vt"}},
			{Name: "aggregation", Tasks: []string{"cwe", "fwe"}},
			{Name: "question-answering", Tasks: []string{"qa_1", "qa_2"}},
		}
	}
	return nil
}

// means are the plain means of a report's categories, those left out that lack a task, and of the whole: of LongBench's
// six categories where all are there, else of the tasks.
func means(r *score.Report) []flat {
	scores := map[string]float64{}
	var tasks, groups []float64
	for _, l := range r.Scores.Lines {
		for _, s := range l.Scores {
			if s != nil {
				scores[l.Name] = *s
				tasks = append(tasks, *s)
			}
		}
	}
	var all []flat
	for _, c := range categories(r.Benchmark) {
		var members []float64
		for _, t := range c.Tasks {
			if s, ok := scores[t]; ok {
				members = append(members, s)
			}
		}
		if len(members) == len(c.Tasks) {
			mean := meanOf(members)
			groups = append(groups, mean)
			all = append(all, flat{name: "[" + c.Name + "]", score: &mean})
		}
	}
	if len(tasks) > 0 {
		name, mean := fmt.Sprintf("[mean of %d scores]", len(tasks)), meanOf(tasks)
		if r.Benchmark == "longbench" && len(groups) == len(categories(r.Benchmark)) {
			name, mean = "[mean of 6 categories]", meanOf(groups)
		}
		all = append(all, flat{name: name, score: &mean})
	}
	return all
}

func meanOf(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// Print writes the comparison as a table, and what is to be known beside the scores.
func (c Comparison) Print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	head := []string{"task", "rows"}
	for _, r := range c.Results {
		head = append(head, r.Name)
		if r.Name != c.Base {
			head = append(head, "- "+c.Base)
		}
	}
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, l := range c.Lines {
		cells := []string{l.Name, ""}
		if l.Rows > 0 {
			cells[1] = fmt.Sprint(l.Rows)
		}
		for i, r := range c.Results {
			cells = append(cells, c.number(l.Scores[i], "%.*f"))
			if r.Name != c.Base {
				cells = append(cells, c.number(l.Differences[i], "%+.*f"))
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var notes bytes.Buffer
	for i, r := range c.Results {
		r.note(&notes, c.Times[i])
	}
	_, err := to.Write(notes.Bytes())
	return err
}

// number prints a score: InfiniteBench's are shares of one, the others percent.
func (c Comparison) number(x *float64, format string) string {
	if x == nil {
		return "-"
	}
	digits := 2
	if c.Results[0].Manifest.Benchmark == "infinitebench" {
		digits = 4
	}
	return fmt.Sprintf(format, digits, *x)
}

// note tells what a reader of a method's scores must know.
func (r Result) note(w io.Writer, s Speed) {
	m := r.Manifest
	fmt.Fprintf(w, "%s: %s, %s, KV %s", r.Name, m.Attention.Spec, m.Precision, m.KVDType)
	if m.Protocol != "" {
		fmt.Fprintf(w, ", protocol %s", m.Protocol)
	}
	if s.Samples > 0 {
		fmt.Fprintf(w, ", mean prompt %.0f tokens, mean TTFT %.2f s, %.0f s in all", s.PromptTokens, s.TTFTSeconds, s.Seconds)
	}
	fmt.Fprintln(w)
	for _, c := range r.Counts {
		if c.Done < c.Items {
			fmt.Fprintf(w, "  PARTIAL: %s has %d of %d samples; the same command goes on\n", c.Task, c.Done, c.Items)
		}
		if c.Failed > 0 {
			fmt.Fprintf(w, "  %s: %d samples failed and count as wrong; the first: %s\n", c.Task, c.Failed, c.FirstError)
		}
		if c.SkippedRows > 0 {
			fmt.Fprintf(w, "  %s: --skip-bad left out %d rows of the data\n", c.Task, c.SkippedRows)
		}
	}
	for _, f := range m.Forced {
		fmt.Fprintf(w, "  --force: %s\n", f)
	}
	if r.Scores != nil {
		for _, warning := range r.Scores.Warnings {
			fmt.Fprintf(w, "  %s\n", warning)
		}
	}
}
