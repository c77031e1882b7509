package eval

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Options say what Run runs, and where its files go.
type Options struct {
	Folder   string   // for manifest, predictions and times of one method
	Manifest Manifest // all but Tasks, which Run fills in
	Tasks    []Task
	Limit    int // items of each task; 0 for all
	Shard    Shard
	Force    bool // go on in a folder whose manifest differs
	Progress func(Progress)
	Warn     func(string)
}

// Progress tells how far a run has come, after each sample.
type Progress struct {
	Task           string
	Done, Items    int // of the task
	AllDone, All   int // of all tasks
	Failed         int // of all tasks
	New            int // samples of this run: the others were there
	LastGeneration Output
}

// A Count of a task's samples.
type TaskCount struct {
	Task        string `json:"task"`
	Items       int    `json:"items"`  // asked for
	Done        int    `json:"done"`   // fewer if the run was stopped
	Failed      int    `json:"failed"` // of those done; they count as wrong
	FirstError  string `json:"first_error,omitempty"`
	SkippedRows int    `json:"skipped_rows,omitempty"` // rows of the data that --skip-bad left out
}

// sameFailures is how many samples in a row may fail alike before a run ends: then it is not the samples.
const sameFailures = 5

// Run answers the samples of each task in turn, in their order, and writes one line per sample to its prediction file.
// Samples whose lines are there already are not run again, so that a run which was killed goes on where it stopped. A
// sample that gen fails on gets a line too, which counts as wrong. When ctx ends, Run returns its cause; what was done
// is on the disk.
func Run(ctx context.Context, opt Options, gen Generate) ([]TaskCount, error) {
	held, err := lock(opt.Folder)
	if err != nil {
		return nil, err
	}
	defer held.Close()
	m := opt.Manifest
	m.Shard, m.Tasks = opt.Shard.String(), map[string]TaskInfo{}
	for _, t := range opt.Tasks {
		if len(t.IDs) == 0 {
			return nil, fmt.Errorf("task %s: its data set has no rows", t.Name)
		}
		m.Tasks[t.Name] = TaskInfo{t.File, len(t.IDs), t.Digest, t.Rules, len(t.Skipped)}
	}
	if m, err = m.agree(opt.Folder, opt.Force); err != nil {
		return nil, err
	}
	if err := m.write(opt.Folder); err != nil {
		return nil, err
	}
	r := runner{opt: opt, gen: gen, counts: make([]TaskCount, len(opt.Tasks))}
	return r.run(ctx)
}

// runner is a run in progress.
type runner struct {
	opt      Options
	gen      Generate
	files    []*predictions // by task
	times    *times
	counts   []TaskCount
	new      int
	failures int // in a row, all with the text lastError
	last     string
}

func (r *runner) run(ctx context.Context) (counts []TaskCount, err error) {
	if err := r.open(); err != nil {
		return nil, errors.Join(err, r.close())
	}
	defer func() { err = errors.Join(err, r.close()) }()
	for t, task := range r.opt.Tasks {
		for _, i := range r.opt.Shard.items(len(task.IDs), r.opt.Limit) {
			if r.files[t].done[task.IDs[i]] {
				continue
			}
			if err := context.Cause(ctx); err != nil {
				return r.counts, err
			}
			if err := r.sample(ctx, t, task.Item(i)); err != nil {
				return r.counts, err
			}
		}
	}
	return r.counts, nil
}

// open opens every task's file, before any work is done, and counts what is there.
func (r *runner) open() (err error) {
	if r.times, err = openTimes(filepath.Join(r.opt.Folder, timesName)); err != nil {
		return err
	}
	for t, task := range r.opt.Tasks {
		path := filepath.Join(r.opt.Folder, task.File)
		p, err := openPredictions(path, task)
		if err != nil {
			return err
		}
		r.files = append(r.files, p)
		c := &r.counts[t]
		c.Task, c.SkippedRows = task.Name, len(task.Skipped)
		for _, i := range r.opt.Shard.items(len(task.IDs), r.opt.Limit) {
			c.Items++
			if id := task.IDs[i]; p.done[id] {
				c.Done++
				if why := p.failed[id]; why != "" {
					c.fail(id, why)
				}
			}
		}
		if p.repeated > 0 {
			r.warn("%s: %d lines repeat the sample of an earlier one, which counts", path, p.repeated)
		}
		if p.foreign > 0 {
			r.warn("%s: %d lines are of samples that the data does not have", path, p.foreign)
		}
	}
	return nil
}

func (r *runner) close() error {
	var errs []error
	for _, f := range r.files {
		errs = append(errs, f.close())
	}
	if r.times != nil {
		errs = append(errs, r.times.close())
	}
	return errors.Join(errs...)
}

func (r *runner) warn(format string, args ...any) {
	if r.opt.Warn != nil {
		r.opt.Warn(fmt.Sprintf(format, args...))
	}
}

func (c *TaskCount) fail(id, why string) {
	c.Failed++
	if c.FirstError == "" {
		c.FirstError = fmt.Sprintf("sample %s: %s", id, why)
	}
}

// sample answers one item and writes its line.
func (r *runner) sample(ctx context.Context, t int, item Item) error {
	start := time.Now()
	answers, out, failure := r.answer(ctx, item)
	if err := context.Cause(ctx); err != nil {
		return err // an answer that was cut short is none
	}
	c, why := &r.counts[t], ""
	if failure != nil {
		why = failure.Error()
		c.fail(item.ID, why)
	}
	if err := r.files[t].append(item.ID, item.Line(answers, why)); err != nil {
		return err
	}
	c.Done++
	r.new++
	r.times.add(Timing{
		Task: c.Task, ID: item.ID, PromptTokens: out.PromptTokens, NewTokens: out.NewTokens,
		TTFTSeconds: out.TTFT.Seconds(), Seconds: time.Since(start).Seconds(), Failed: failure != nil,
	})
	r.report(t, out)
	return r.stopIfAllFail(why)
}

// answer makes an item's requests. Its Output adds up both where there are two; the time to first token is the first's.
func (r *runner) answer(ctx context.Context, item Item) (answers []string, sum Output, err error) {
	request, err := item.First()
	if err != nil {
		return nil, sum, err
	}
	if sum, err = r.gen(ctx, request); err != nil || item.Second == nil {
		return append(answers, sum.Text), sum, err
	}
	answers = append(answers, sum.Text)
	if request, err = item.Second(sum.Text); err != nil {
		return answers, sum, err
	}
	second, err := r.gen(ctx, request)
	sum.NewTokens += second.NewTokens
	return append(answers, second.Text), sum, err
}

func (r *runner) report(t int, out Output) {
	if r.opt.Progress == nil {
		return
	}
	p := Progress{Task: r.counts[t].Task, Done: r.counts[t].Done, Items: r.counts[t].Items, New: r.new, LastGeneration: out}
	for _, c := range r.counts {
		p.AllDone += c.Done
		p.All += c.Items
		p.Failed += c.Failed
	}
	r.opt.Progress(p)
}

// stopIfAllFail ends the run where it is plainly not the samples that fail.
func (r *runner) stopIfAllFail(why string) error {
	if why == "" || why != r.last {
		r.failures = 0
	}
	r.last = why
	if why == "" {
		return nil
	}
	if r.failures++; r.failures < sameFailures {
		return nil
	}
	return fmt.Errorf("%d samples in a row failed alike, the run ends: %s; remove their lines from the predictions to run them again", sameFailures, why)
}
