// Package score scores the predictions of a benchmark, anybody's, in the layout that the benchmark's own scripts write,
// and reports what those scripts report.
package score

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sync/errgroup"

	"github.com/pbs-run/pbs-run/eval/metric"
)

// Benchmarks are the names of what Score knows.
func Benchmarks() []string {
	return []string{"longbench", "longbench-e", "longbench-v2", "ruler", "infinitebench"}
}

// Options say what to score.
type Options struct {
	Benchmark string          // one of Benchmarks
	Protocol  metric.Protocol // of longbench and longbench-v2
	Pred      string          // a folder of .jsonl files, or one file
	// RecursionLimit is that of Python, which makes its ROUGE give 0 to long sentences; 0 for none.
	RecursionLimit int
	// Samples, if not nil, gets every row that counts with its own score, one JSON object on a line, in the order of the files.
	Samples io.Writer
}

// A Report is the scores of a benchmark.
type Report struct {
	Benchmark string          `json:"benchmark"`
	Protocol  metric.Protocol `json:"protocol,omitempty"`
	Pred      string          `json:"pred"`
	Scores    Table           `json:"scores"` // as the official result file has them
	// Unrounded are LongBench's scores before they are rounded.
	Unrounded map[string]float64 `json:"unrounded,omitempty"`
	// Groups are the averages of OpenCompass' summary of LongBench, without those that lack a member.
	Groups map[string]float64 `json:"groups,omitempty"`
	// Compensated are LongBench v2's scores where a row without a letter counts as a guess of four, 0.25.
	Compensated Table `json:"compensated,omitzero"`
	// Overall is the mean of RULER's 13 tasks, where all are there.
	Overall *float64          `json:"overall,omitempty"`
	Nulls   map[string]string `json:"nulls,omitempty"` // RULER's empty predictions, "of/all"
	Rows    map[string]int    `json:"rows"`            // that count
	// Missing are the rows of LongBench v2's 503 that a file lacks. They do not count.
	Missing  map[string]int `json:"missing,omitempty"`
	Unread   map[string]int `json:"unread,omitempty"` // rows of LongBench v2 without a letter; they count as wrong
	Errors   map[string]int `json:"errors,omitempty"` // rows on which InfiniteBench's script fails; they count 0
	Warnings []string       `json:"warnings"`
}

// A Table has a line for each data set, task or file of models.
type Table struct {
	Columns  []string // empty where a line has one number
	Lines    []Line
	decimals int  // in print
	flat     bool // there is one line, and the JSON is its columns alone
	sparse   bool // the JSON leaves columns of no rows out
}

// A Line is the scores of one name. A nil score is that of no rows.
type Line struct {
	Name   string
	Scores []*float64
}

// IsZero tells whether there is nothing in the table.
func (t Table) IsZero() bool { return len(t.Lines) == 0 }

// MarshalJSON writes name -> number, or name -> column -> number or null.
func (t Table) MarshalJSON() ([]byte, error) {
	all := make(map[string]any, len(t.Lines))
	for _, l := range t.Lines {
		if len(t.Columns) == 0 {
			all[l.Name] = l.Scores[0]
			continue
		}
		columns := make(map[string]*float64, len(t.Columns))
		for i, c := range t.Columns {
			if l.Scores[i] != nil || !t.sparse {
				columns[c] = l.Scores[i]
			}
		}
		if t.flat {
			return json.Marshal(columns)
		}
		all[l.Name] = columns
	}
	return json.Marshal(all)
}

// Score reads the predictions and scores them. A file that cannot be read whole is an error that names file and line.
func Score(ctx context.Context, o Options) (*Report, error) {
	r := &Report{Benchmark: o.Benchmark, Pred: o.Pred, Rows: make(map[string]int), Warnings: []string{}}
	var err error
	switch {
	case o.Benchmark == "longbench" || o.Benchmark == "longbench-v2":
		r.Protocol, err = metric.ParseProtocol(string(o.Protocol))
	case o.Protocol == metric.OpenCompass:
		err = errors.New("protocol opencompass is for longbench and longbench-v2")
	}
	if err != nil {
		return nil, err
	}
	r.Scores.decimals = 2
	s := scorer{ctx: ctx, Options: o, report: r}
	switch o.Benchmark {
	case "longbench":
		err = s.longBench()
	case "longbench-e":
		err = s.longBenchE()
	case "longbench-v2":
		err = s.longBench2()
	case "ruler":
		err = s.ruler()
	case "infinitebench":
		err = s.infiniteBench()
	default:
		err = fmt.Errorf("unknown benchmark %q; known are %s", o.Benchmark, strings.Join(Benchmarks(), ", "))
	}
	if err == nil {
		err = s.writeSamples()
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// A scorer fills a report.
type scorer struct {
	ctx context.Context
	Options
	report  *Report
	samples []sample
}

// A sample is a row for Samples.
type sample struct {
	row
	json []byte
}

// read returns the sets of the predictions and notes their rows.
func (s *scorer) read(l layout) ([]set, error) {
	f, err := l.read(s.Pred)
	if err != nil {
		return nil, err
	}
	s.report.Warnings = append(s.report.Warnings, f.warnings...)
	for _, set := range f.sets {
		s.report.Rows[set.name] = len(set.rows)
	}
	return f.sets, nil
}

// each calls do with the index of every row of a set, on all processors.
func (s *scorer) each(set set, do func(i int) error) error {
	g, ctx := errgroup.WithContext(s.ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	const chunk = 16
	for start := 0; start < len(set.rows); start += chunk {
		g.Go(func() error {
			for i := start; i < min(start+chunk, len(set.rows)); i++ {
				if err := context.Cause(ctx); err != nil {
					return err
				}
				if err := do(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// sample takes a row for Samples: its fields, the name of its set in the field what unless it has such a field, and more.
func (s *scorer) sample(r row, name, what string, more map[string]any) error {
	if s.Samples == nil {
		return nil
	}
	fields := map[string]any{what: name}
	for k, v := range r.fields {
		fields[k] = v
	}
	maps.Copy(fields, more)
	var line bytes.Buffer
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false)
	err := e.Encode(fields)
	s.samples = append(s.samples, sample{r, line.Bytes()})
	return err
}

// writeSamples writes what sample took, file by file, in the order of the lines.
func (s *scorer) writeSamples() error {
	order := make(map[string]int)
	for i, sample := range s.samples {
		if _, ok := order[sample.file]; !ok {
			order[sample.file] = i
		}
	}
	slices.SortStableFunc(s.samples, func(a, b sample) int {
		return cmp.Or(cmp.Compare(order[a.file], order[b.file]), cmp.Compare(a.line, b.line))
	})
	for _, sample := range s.samples {
		if _, err := s.Samples.Write(sample.json); err != nil {
			return err
		}
	}
	return nil
}

// Print writes the report as a table.
func (r *Report) Print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	columns := "score"
	if len(r.Scores.Columns) > 0 {
		columns = strings.Join(r.Scores.Columns, "\t")
	}
	fmt.Fprintf(w, "%s\t%s\trows\n", r.Benchmark, columns)
	for _, l := range r.Scores.Lines {
		fmt.Fprintf(w, "%s", l.Name)
		for _, s := range l.Scores {
			if s == nil {
				fmt.Fprint(w, "\t-")
			} else {
				fmt.Fprintf(w, "\t%.*f", r.Scores.decimals, *s)
			}
		}
		fmt.Fprintf(w, "\t%d", r.Rows[l.Name])
		if n := r.Missing[l.Name]; n > 0 {
			fmt.Fprintf(w, "\t%d missing", n)
		}
		if n := r.Unread[l.Name]; n > 0 {
			fmt.Fprintf(w, "\t%d without a letter", n)
		}
		if n := r.Errors[l.Name]; n > 0 {
			fmt.Fprintf(w, "\t%d errors", n)
		}
		if n := r.Nulls[l.Name]; n != "" {
			fmt.Fprintf(w, "\t%s empty", n)
		}
		fmt.Fprintln(w)
	}
	for _, g := range groupNames() {
		if mean, ok := r.Groups[g]; ok {
			fmt.Fprintf(w, "%s\t%.2f\n", g, mean)
		}
	}
	if r.Overall != nil {
		fmt.Fprintf(w, "overall\t%.2f\n", *r.Overall)
	}
	for _, warning := range r.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	return w.Flush()
}
