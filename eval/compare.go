package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"text/tabwriter"
)

// resamples is how many times the bootstrap draws the samples anew.
const resamples = 10000

// A PairedReport says how runs over the same samples differ from the first of them.
type PairedReport struct {
	Benchmark  string      `json:"benchmark"`
	Base       string      `json:"base"`
	Confidence float64     `json:"confidence"`
	Resamples  int         `json:"resamples"`
	Seed       uint64      `json:"seed"`
	Runs       []PairedRun `json:"runs"`
}

// A PairedRun is the comparison of one run with the base.
type PairedRun struct {
	Name     string       `json:"name"`
	Warnings []string     `json:"warnings,omitempty"` // settings beside the attention that differ
	Tasks    []PairedTask `json:"tasks"`
	Overall  PairedTask   `json:"overall"` // the mean over the tasks, each of the same weight
}

// A PairedTask is the difference in one task, over the samples that both runs have. Scores are percent.
type PairedTask struct {
	Task       string  `json:"task"`
	Pairs      int     `json:"pairs"`
	Unpaired   int     `json:"unpaired,omitempty"` // samples that one of the runs lacks
	Base       float64 `json:"base"`               // mean score
	Score      float64 `json:"score"`              // mean score
	Difference float64 `json:"difference"`         // mean of the pairs' differences
	Low        float64 `json:"low"`                // of the confidence interval of the difference
	High       float64 `json:"high"`
	Better     int     `json:"better"` // pairs in which the run scores higher than the base
	Worse      int     `json:"worse"`
}

// Verdict says what the interval shows.
func (t PairedTask) Verdict() string {
	switch {
	case t.Pairs == 0:
		return "no pairs"
	case t.High < 0:
		return "worse"
	case t.Low > 0:
		return "better"
	}
	return "not told apart"
}

// samplesOf are the scores of a run, in percent, by task and ID, and the IDs in the order of the files.
type samplesOf struct {
	manifest Manifest
	tasks    []string
	ids      map[string][]string
	scores   map[string]map[string]float64
}

// Compare holds runs against the first of them, sample by sample. Folders are those of one method each. The interval of
// a mean difference comes from the percentile bootstrap over its pairs (Efron 1979), drawn from seed.
func Compare(ctx context.Context, folders []string, confidence float64, seed uint64) (PairedReport, error) {
	report := PairedReport{Base: folders[0], Confidence: confidence, Resamples: resamples, Seed: seed}
	if !(confidence > 0 && confidence < 1) {
		return report, fmt.Errorf("--confidence %g: want a share above 0 and below 1", confidence)
	}
	base, err := readSamples(ctx, folders[0])
	if err != nil {
		return report, err
	}
	report.Benchmark = base.manifest.Benchmark
	for _, folder := range folders[1:] {
		other, err := readSamples(ctx, folder)
		if err != nil {
			return report, err
		}
		run, err := compareRuns(base, other, confidence, seed)
		if err != nil {
			return report, fmt.Errorf("compare %s with %s: %w", folder, folders[0], err)
		}
		run.Name = folder
		report.Runs = append(report.Runs, run)
	}
	return report, nil
}

// readSamples scores a folder sample by sample.
func readSamples(ctx context.Context, folder string) (samplesOf, error) {
	s := samplesOf{ids: map[string][]string{}, scores: map[string]map[string]float64{}}
	var err error
	if s.manifest, err = readManifest(folder); err != nil {
		return s, fmt.Errorf("%w; want the folder of a method, below the --out of a run", err)
	}
	var lines bytes.Buffer
	if _, err := s.manifest.score(ctx, folder, &lines); err != nil {
		return s, fmt.Errorf("%s: %w", folder, err)
	}
	percent := 100.0
	if s.manifest.Benchmark == "ruler" {
		percent = 1 // its scores are that already
	}
	for line := range bytes.Lines(lines.Bytes()) {
		var l struct {
			ID      *string      `json:"_id"`
			Index   *json.Number `json:"index"`
			Dataset string       `json:"dataset"`
			Task    string       `json:"task"`
			Score   float64      `json:"score"`
		}
		if err := json.Unmarshal(line, &l); err != nil {
			return s, fmt.Errorf("%s: read scores: %w", folder, err)
		}
		task := l.Dataset + l.Task
		if s.manifest.Benchmark == "longbench-v2" {
			task = s.manifest.Benchmark
		}
		switch {
		case l.ID != nil:
			s.add(task, *l.ID, l.Score*percent)
		case l.Index != nil:
			s.add(task, l.Index.String(), l.Score*percent)
		default:
			return s, fmt.Errorf("%s: a prediction of %s has neither _id nor index", folder, task)
		}
	}
	return s, nil
}

func (s *samplesOf) add(task, id string, score float64) {
	if s.scores[task] == nil {
		s.tasks = append(s.tasks, task)
		s.scores[task] = map[string]float64{}
	}
	if _, twice := s.scores[task][id]; !twice {
		s.ids[task] = append(s.ids[task], id)
		s.scores[task][id] = score
	}
}

// compareRuns pairs the samples of two runs. The attention may differ; prompts may not.
func compareRuns(base, other samplesOf, confidence float64, seed uint64) (run PairedRun, err error) {
	a, b := base.manifest, other.manifest
	if a.Benchmark != b.Benchmark {
		return run, fmt.Errorf("the benchmarks are %s and %s", a.Benchmark, b.Benchmark)
	}
	b.Attention, b.Shard = a.Attention, a.Shard
	run.Warnings = b.differences(a)
	var draws [][]float64
	for _, task := range base.tasks {
		if other.scores[task] == nil {
			continue
		}
		t, drawn := pairTask(task, base, other, confidence, seed)
		run.Tasks = append(run.Tasks, t)
		if t.Pairs > 0 {
			draws = append(draws, drawn)
		}
	}
	if len(draws) == 0 {
		return run, errors.New("they have no sample in common")
	}
	run.Overall = overall(run.Tasks, draws, confidence)
	return run, nil
}

// pairTask compares one task. drawn are the bootstrap's mean differences, in the order they were drawn.
func pairTask(task string, base, other samplesOf, confidence float64, seed uint64) (t PairedTask, drawn []float64) {
	t.Task = task
	var differences []float64
	for _, id := range base.ids[task] {
		b, ok := other.scores[task][id]
		if !ok {
			t.Unpaired++
			continue
		}
		a := base.scores[task][id]
		t.Pairs++
		t.Base += a
		t.Score += b
		if b > a {
			t.Better++
		} else if b < a {
			t.Worse++
		}
		differences = append(differences, b-a)
	}
	t.Unpaired += len(other.ids[task]) - t.Pairs
	if t.Pairs == 0 {
		return t, nil
	}
	t.Base /= float64(t.Pairs)
	t.Score /= float64(t.Pairs)
	t.Difference = meanOf(differences)
	drawn = bootstrap(differences, seed, task)
	t.Low, t.High = interval(drawn, confidence)
	return t, drawn
}

// bootstrap draws the pairs of a task anew, with replacement, and returns the mean difference of each draw.
func bootstrap(differences []float64, seed uint64, task string) []float64 {
	h := fnv.New64a()
	h.Write([]byte(task))
	rng := rand.New(rand.NewPCG(seed, h.Sum64()))
	means := make([]float64, resamples)
	n := len(differences)
	for i := range means {
		sum := 0.0
		for range n {
			sum += differences[rng.IntN(n)]
		}
		means[i] = sum / float64(n)
	}
	return means
}

// interval is the middle share of the drawn values.
func interval(drawn []float64, confidence float64) (low, high float64) {
	sorted := slices.Sorted(slices.Values(drawn))
	cut := int((1 - confidence) / 2 * float64(len(sorted)))
	return sorted[cut], sorted[len(sorted)-1-cut]
}

// overall is the mean over the tasks. Its draws are those of the tasks, averaged: the tasks are drawn independently.
func overall(tasks []PairedTask, draws [][]float64, confidence float64) PairedTask {
	o := PairedTask{Task: "overall"}
	n := 0.0
	for _, t := range tasks {
		o.Pairs += t.Pairs
		o.Unpaired += t.Unpaired
		o.Better += t.Better
		o.Worse += t.Worse
		if t.Pairs > 0 {
			n++
			o.Base += t.Base
			o.Score += t.Score
			o.Difference += t.Difference
		}
	}
	o.Base, o.Score, o.Difference = o.Base/n, o.Score/n, o.Difference/n
	means := make([]float64, resamples)
	for i := range means {
		for _, d := range draws {
			means[i] += d[i] / n
		}
	}
	o.Low, o.High = interval(means, confidence)
	return o
}

// Print writes the report as a table for each run.
func (r PairedReport) Print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s, base %s; intervals of %g %% from %d bootstrap draws, seed %d\n", r.Benchmark, r.Base, 100*r.Confidence, r.Resamples, r.Seed)
	for _, run := range r.Runs {
		fmt.Fprintf(w, "\n%s\ntask\tpairs\tbase\tscore\tdifference\tinterval\tbetter\tworse\tverdict\n", run.Name)
		for _, t := range append(slices.Clone(run.Tasks), run.Overall) {
			fmt.Fprintf(w, "%s\t%d\t%.2f\t%.2f\t%+.2f\t%+.2f to %+.2f\t%d\t%d\t%s\n", t.Task, t.Pairs, t.Base, t.Score, t.Difference, t.Low, t.High, t.Better, t.Worse, t.Verdict())
		}
		if run.Overall.Unpaired > 0 {
			fmt.Fprintf(w, "%d samples that only one of the two has are left out\n", run.Overall.Unpaired)
		}
		if len(run.Warnings) > 0 {
			fmt.Fprintf(w, "beside the attention differ: %s\n", strings.Join(run.Warnings, "; "))
		}
	}
	return w.Flush()
}
