package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pbs-run/pbs-run/eval/metric"
	"github.com/pbs-run/pbs-run/eval/synthetic"
)

// RULEROptions say what RunRULER runs.
type RULEROptions struct {
	Tasks    []string // of synthetic.RULERTasks
	Length   int      // tokens of prompt and answer together, at most
	Samples  int      // per task
	Seed     uint64
	Essay    string               // the text needles are hidden in
	Words    synthetic.Words      // of needles' keys and of cwe
	SQuAD    *synthetic.Questions // for qa_1
	HotpotQA *synthetic.Questions // for qa_2
	Out      string               // folder for one <task>.jsonl with every prediction; "" for none
}

func (opt RULEROptions) config(task string) synthetic.Config {
	return synthetic.Config{
		Task: task, Length: opt.Length, Seed: opt.Seed,
		Essay: opt.Essay, Words: opt.Words, SQuAD: opt.SQuAD, HotpotQA: opt.HotpotQA,
	}
}

// A RULERReport is the result of a run, task by task.
type RULERReport struct {
	Seed  uint64       `json:"seed"`
	Tasks []TaskReport `json:"tasks"`
	Score float64      `json:"score"` // mean over the tasks, 0 to 100
}

// A TaskReport is the result of one task. Score is RULER's: in percent, two decimals.
type TaskReport struct {
	Task             string  `json:"task"`
	Length           int     `json:"length"`
	Samples          int     `json:"samples"` // done: fewer than asked for if the run was stopped
	Score            float64 `json:"score"`
	Nulls            int     `json:"nulls"`  // empty predictions, failed samples among them
	Failed           int     `json:"failed"` // samples without a prediction; they count as wrong
	FirstError       string  `json:"first_error,omitempty"`
	MeanPromptTokens float64 `json:"mean_prompt_tokens"`
	MeanTTFTSeconds  float64 `json:"mean_ttft_seconds"` // over the samples that did not fail
	Seconds          float64 `json:"seconds"`           // wall time, making the prompts included
}

// A prediction is one line of <task>.jsonl. The names up to length are those of RULER's own files; length is
// that of the prompt and the tokens to generate.
type prediction struct {
	Index        int      `json:"index"`
	Pred         string   `json:"pred"`
	Outputs      []string `json:"outputs"`
	Input        string   `json:"input"`
	AnswerPrefix string   `json:"answer_prefix"`
	Length       int      `json:"length"`
	NewTokens    int      `json:"new_tokens"`
	Score        float64  `json:"score"` // 0 to 1
	TTFTSeconds  float64  `json:"ttft_seconds"`
	Seconds      float64  `json:"seconds"`
	Error        string   `json:"error,omitempty"`
}

// RunRULER makes, answers and scores the samples of each task in turn; progress (nil for none) is told after each.
// A sample that gen fails on counts as wrong and is reported. When ctx ends, the report of what is done so far comes
// back with ctx's error. A <task>.jsonl that is there already is an error: nothing is overwritten.
func RunRULER(ctx context.Context, opt RULEROptions, gen Generate, count Count, progress func(Progress)) (RULERReport, error) {
	report := RULERReport{Seed: opt.Seed}
	if err := opt.check(); err != nil {
		return report, err
	}
	for _, name := range opt.Tasks {
		task, err := runTask(ctx, opt, name, gen, count, progress)
		if task.Samples > 0 {
			report.Tasks = append(report.Tasks, task)
		}
		if err != nil {
			report.Score = meanScore(report.Tasks)
			return report, err
		}
	}
	report.Score = meanScore(report.Tasks)
	return report, nil
}

// check finds what is wrong with the options before any work is done.
func (opt RULEROptions) check() error {
	if len(opt.Tasks) == 0 {
		return fmt.Errorf("ruler: no tasks; pass --tasks")
	}
	if opt.Samples <= 0 {
		return fmt.Errorf("ruler: --samples %d: must be at least 1", opt.Samples)
	}
	seen := map[string]bool{}
	for _, name := range opt.Tasks {
		if !slices.Contains(synthetic.RULERTasks(), name) {
			return fmt.Errorf("ruler: unknown task %q; known are %s", name, strings.Join(synthetic.RULERTasks(), ", "))
		}
		if err := opt.config(name).Check(); err != nil {
			return fmt.Errorf("ruler: %w", err)
		}
		if seen[name] {
			return fmt.Errorf("ruler: task %s is named twice", name)
		}
		seen[name] = true
		if opt.Out == "" {
			continue
		}
		if _, err := os.Lstat(opt.file(name)); err == nil {
			return fmt.Errorf("ruler: %s exists; remove it or pass another --out", opt.file(name))
		}
	}
	return nil
}

func (opt RULEROptions) file(task string) string { return filepath.Join(opt.Out, task+".jsonl") }

func meanScore(tasks []TaskReport) float64 {
	sum := 0.0
	for _, t := range tasks {
		sum += t.Score
	}
	return metric.Round(sum/float64(max(1, len(tasks))), 2)
}

// runTask runs one task. Its report counts the samples done, whatever ended the run.
func runTask(ctx context.Context, opt RULEROptions, name string, gen Generate, count Count, progress func(Progress)) (report TaskReport, err error) {
	t := tally{report: TaskReport{Task: name, Length: opt.Length}, start: time.Now()}
	g, err := synthetic.New(opt.config(name), count)
	if err != nil {
		return t.report, fmt.Errorf("ruler: %w", err)
	}
	if n := g.Samples(); n > 0 && opt.Samples > n {
		return t.report, fmt.Errorf("ruler: --samples %d: the file of %s has only %d questions", opt.Samples, name, n)
	}
	match := metric.MatchAll
	if strings.HasPrefix(name, "qa_") {
		match = metric.MatchPart
	}
	var file *os.File
	if opt.Out != "" {
		if file, err = createNew(opt.file(name)); err != nil {
			return t.report, err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
	}
	for i := range opt.Samples {
		s, err := g.Sample(i)
		if err != nil {
			return t.report, fmt.Errorf("ruler: %w", err)
		}
		out, genErr := gen(ctx, s.Prompt, s.MaxNew)
		if err := ctx.Err(); err != nil {
			return t.report, err
		}
		if genErr == nil && out.PromptTokens != s.Tokens {
			return t.report, fmt.Errorf("ruler: %s sample %d: counted as %d tokens, generated from %d: the two must render alike",
				name, i, s.Tokens, out.PromptTokens)
		}
		p := t.add(s, out, genErr, match)
		if file != nil {
			if err := writeLine(file, p); err != nil {
				return t.report, err
			}
		}
		if progress != nil {
			progress(Progress{Task: name, Done: t.report.Samples, Samples: opt.Samples, Failed: t.report.Failed, Score: t.report.Score})
		}
	}
	return t.report, nil
}

// A tally is a TaskReport in the making, with the sums behind its means.
type tally struct {
	report              TaskReport
	start               time.Time
	score, tokens, ttft float64
}

// add scores one sample into the report and returns its line for the file.
func (t *tally) add(s synthetic.Sample, out Output, genErr error, match func(string, []string) float64) prediction {
	p := prediction{
		Index: s.Index, Pred: out.Text, Outputs: s.Outputs, Input: s.Prompt.User, AnswerPrefix: s.Prompt.Prefix,
		Length: s.Tokens + s.MaxNew, NewTokens: out.NewTokens, TTFTSeconds: out.TTFT.Seconds(), Seconds: out.Total.Seconds(),
	}
	r := &t.report
	pred := metric.CleanPrediction(out.Text)
	if genErr != nil {
		p.Error, p.Pred, pred = genErr.Error(), "", ""
		r.Failed++
		if r.FirstError == "" {
			r.FirstError = fmt.Sprintf("sample %d: %v", s.Index, genErr)
		}
	} else {
		p.Score = match(pred, s.Outputs)
		t.ttft += p.TTFTSeconds
	}
	if pred == "" {
		r.Nulls++
	}
	r.Samples++
	t.score += p.Score
	t.tokens += float64(s.Tokens)
	r.Score = metric.Percent(t.score, r.Samples)
	r.MeanPromptTokens = t.tokens / float64(r.Samples)
	r.MeanTTFTSeconds = t.ttft / float64(max(1, r.Samples-r.Failed))
	r.Seconds = time.Since(t.start).Seconds()
	return p
}

// createNew opens a file that must not be there yet, and its folder.
func createNew(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("ruler: make --out folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("ruler: create predictions: %w", err)
	}
	return f, nil
}

// writeLine writes one prediction as one line, in one write, so that a stopped run leaves whole lines.
func writeLine(f *os.File, p prediction) error {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(p); err != nil {
		return fmt.Errorf("ruler: encode prediction %d: %w", p.Index, err)
	}
	if _, err := f.Write(line.Bytes()); err != nil {
		return fmt.Errorf("ruler: write prediction %d: %w", p.Index, err)
	}
	return nil
}
