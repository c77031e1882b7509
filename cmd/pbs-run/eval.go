package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/eval"
	"github.com/pbs-run/pbs-run/eval/benchmark"
	"github.com/pbs-run/pbs-run/loader"
)

func evalCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "eval",
		Short: "Run a benchmark and score it as its own scripts do",
		Long: `Run LongBench, LongBench-v2, RULER or InfiniteBench with the prompts, truncation and metrics of the official scripts.

Every --attention has a folder below --out: the predictions in the benchmark's own layout, manifest.json with every setting,
results.json, and times.jsonl. A run that was stopped or killed goes on where it was when the same command is given again.
--shard i/n runs one of n parts, as in a job array; eval merge joins them. See docs/evaluation.md.`,
	})
	cmd.AddCommand(longBenchCommand(false), longBenchCommand(true), longBench2Command(), rulerCommand(), infiniteBenchCommand(),
		mergeCommand(), compareCommand(), scoreCommand())
	return cmd
}

// evalFlags are the flags of every benchmark's command.
type evalFlags struct {
	engineFlags
	specs   []string
	data    string
	out     string
	dump    string
	tasks   []string
	limit   int
	shard   string
	seed    uint64
	skipBad bool
	force   bool
	json    bool
}

func (f *evalFlags) register(cmd *cobra.Command) {
	f.registerShared(cmd)
	fl := cmd.Flags()
	fl.StringArrayVar(&f.specs, "attention", []string{"full"}, "`method` of the prefill, as for generate; may be repeated: each runs all samples, one after another")
	fl.StringVar(&f.data, "data", "", "`folder` with the data set as downloaded: JSON Lines, zip, JSON or Parquet")
	fl.StringVar(&f.out, "out", "", "`folder` for predictions and results (default: none are kept)")
	fl.StringVar(&f.dump, "dump-prompts", "", "write every prompt to a JSONL `file` before the run: text, number of tokens, SHA-256")
	fl.StringSliceVar(&f.tasks, "tasks", nil, "`tasks`, separated by commas (default all)")
	fl.IntVar(&f.limit, "limit", 0, "samples of each task, the first ones; 0 for all")
	fl.StringVar(&f.shard, "shard", "", "run part `i/n` of the samples, i from 0")
	fl.Uint64VarP(&f.seed, "seed", "s", 42, "seed of every random draw")
	fl.BoolVar(&f.skipBad, "skip-bad", false, "leave out rows of the data that cannot be used, and count them")
	fl.BoolVar(&f.force, "force", false, "go on in a folder whose manifest differs; the difference is noted there")
	registerJSON(cmd, &f.json)
	must(cmd.MarkFlagRequired("model"))
}

// source is where a benchmark's rows come from.
func (f *evalFlags) source() benchmark.Source {
	return benchmark.Source{Data: f.data, SkipBad: f.skipBad}
}

// suite is what a benchmark's command has evalRun run.
type suite struct {
	benchmark string
	protocol  string         // "" where there is one
	settings  map[string]any // for the manifest
	tasks     []eval.Task
	length    int // tokens of the longest prompt and answer; 0 to find out
}

// evalRun is a benchmark's command at work.
type evalRun struct {
	*evalFlags
	*answerer
	shard      eval.Shard
	contenders []contender
	name       string // of the model, for files
	stderr     io.Writer
}

// runEval opens the model, has load make the tasks, runs them by every method, and reports.
func (f *evalFlags) runEval(ctx context.Context, load func(*evalRun) (suite, error), stdout, stderr io.Writer) error {
	shard, err := eval.ParseShard(f.shard)
	if err != nil {
		return err
	}
	if f.limit < 0 {
		return fmt.Errorf("--limit %d: want 0 (all) or more", f.limit)
	}
	if err := f.checkFolders(); err != nil {
		return err
	}
	if err := checkOut("--dump-prompts", f.dump, f.data); err != nil {
		return err
	}
	if f.out == "" {
		if f.out, err = os.MkdirTemp("", "pbs-run-eval-"); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
		defer os.RemoveAll(f.out)
	}
	f.attention = f.specs[0]
	e, err := heed(ctx, f.open)
	if err != nil {
		return err
	}
	defer e.close()
	tok, err := e.tokenizer()
	if err != nil {
		return err
	}
	defer func() {
		if ctx.Err() == nil { // or heed may have left something that uses it
			tok.Close()
		}
	}()
	a, err := newAnswerer(e, tok)
	if err != nil {
		return err
	}
	r := &evalRun{evalFlags: f, answerer: a, shard: shard, stderr: stderr}
	if r.name, err = modelName(f.model); err != nil {
		return err
	}
	if err := r.resolve(); err != nil {
		return err
	}
	s, err := heed(ctx, func() (suite, error) { return load(r) })
	if err != nil {
		return err
	}
	return r.runSuite(ctx, s, stdout)
}

// modelName is the last part of a folder or of org/name.
func modelName(model string) (string, error) {
	path, err := filepath.Abs(model)
	return filepath.Base(path), err
}

// methodFolder is the folder of a method: as it was given, in letters that every file system takes.
func methodFolder(spec string) string {
	return regexp.MustCompile(`[^A-Za-z0-9.=+,_-]`).ReplaceAllString(spec, "_")
}

// checkFolders finds methods that would share a folder.
func (f *evalFlags) checkFolders() error {
	if len(f.specs) == 0 {
		return errors.New("--attention: want at least one method")
	}
	seen := map[string]bool{}
	for _, spec := range f.specs {
		if seen[methodFolder(spec)] {
			return fmt.Errorf("--attention %s is given twice", spec)
		}
		seen[methodFolder(spec)] = true
	}
	return nil
}

// resolve finds the methods that --attention names.
func (r *evalRun) resolve() error {
	for _, spec := range r.specs {
		c := contender{spec: spec}
		var err error
		if c.method, err = r.e.methodOf(spec, r.e.Config); err != nil {
			return err
		}
		if c.methods, err = r.e.layerMethods(c.method, r.e.Config, 0); err != nil {
			return err
		}
		r.contenders = append(r.contenders, c)
	}
	return nil
}

func (r *evalRun) runSuite(ctx context.Context, s suite, stdout io.Writer) error {
	for _, t := range s.tasks {
		for _, why := range t.Skipped {
			fmt.Fprintf(r.stderr, "pbs-run: warning: --skip-bad: %s\n", why)
		}
	}
	if r.dump != "" {
		path, err := loader.OutFile(r.dump)
		if err == nil {
			err = eval.DumpPrompts(ctx, path, s.tasks, r.limit, r.shard, r.render)
		}
		if err != nil {
			return err
		}
	}
	if err := r.openSession(ctx, s); err != nil {
		return err
	}
	m, err := heed(ctx, func() (eval.Manifest, error) { return r.manifest(s) })
	if err != nil {
		return err
	}
	var found []eval.Result
	for _, c := range r.contenders {
		result, err := r.runMethod(ctx, s, m, c)
		if result.Counts != nil {
			found = append(found, result)
		}
		if err != nil {
			return errors.Join(err, r.show(found, stdout))
		}
	}
	return r.show(found, stdout)
}

// openSession makes a session for the longest prompt by the method that needs most.
func (r *evalRun) openSession(ctx context.Context, s suite) (err error) {
	length := s.length
	if length == 0 {
		if length, err = heed(ctx, func() (int, error) { return eval.Longest(s.tasks, r.limit, r.shard, r.render), nil }); err != nil {
			return err
		}
	}
	length = max(length, 1)
	for _, c := range r.contenders {
		if _, err := r.e.checkLength(length, 0, c.methods); err != nil {
			return err
		}
	}
	r.s, err = r.e.session(length, 0) // prompt and answer share it
	return err
}

// manifest is that of all methods, but for the attention.
func (r *evalRun) manifest(s suite) (m eval.Manifest, err error) {
	setup := r.e.setup()
	s.settings["chat_template_date"] = templateDate
	m = eval.Manifest{
		Benchmark: s.benchmark, Protocol: s.protocol, Precision: setup.Precision, KVDType: setup.KVDType, Seed: r.seed,
		Model: eval.ModelInfo{Name: r.name}, Settings: s.settings,
		Machine: map[string]any{"isa": setup.ISA, "threads": setup.Threads},
	}
	if m.Code, err = codeVersion(); err != nil {
		return m, err
	}
	if r.loadFormat == "dummy" {
		m.Model.SHA256 = "dummy weights"
	} else if m.Model.SHA256, err = modelSHA256(r.e.dir); err != nil {
		return m, err
	}
	config, err := os.ReadFile(filepath.Join(r.e.dir, "config.json"))
	if err != nil {
		return m, fmt.Errorf("read model's config: %w", err)
	}
	m.Model.Config = json.RawMessage(config)
	return m, nil
}

// runMethod runs all tasks by one method and scores what is there.
func (r *evalRun) runMethod(ctx context.Context, s suite, m eval.Manifest, c contender) (result eval.Result, err error) {
	if err := r.s.SetMethods(c.methods); err != nil {
		return result, err
	}
	used := methodsUsed(c.method, c.methods)
	m.Attention = eval.AttentionInfo{Spec: used.Attention, MinLength: used.MinLength, Layers: used.Layers}
	folder := filepath.Join(r.out, r.shard.Folder(), methodFolder(c.spec))
	meter := newMeter(r.stderr, s.benchmark+" "+c.spec)
	counts, err := eval.Run(ctx, eval.Options{
		Folder: folder, Manifest: m, Tasks: s.tasks, Limit: r.limit, Shard: r.shard, Force: r.force, Progress: meter.show,
		Warn: func(text string) { fmt.Fprintln(r.stderr, "pbs-run: warning:", text) },
	}, r.generate)
	meter.close()
	if counts == nil {
		return result, err
	}
	// The scores of what is done are worth having even if the run was stopped.
	result, scoreErr := eval.Report(context.WithoutCancel(ctx), folder, c.spec, counts)
	return result, errors.Join(err, scoreErr)
}

// show prints the table, or the JSON.
func (r *evalRun) show(results []eval.Result, stdout io.Writer) error {
	if len(results) == 0 {
		return nil
	}
	return show(evalTable{eval.Table(results)}, r.json, stdout)
}

// evalTable is a report.
type evalTable struct{ eval.Comparison }

func (t evalTable) print(to io.Writer) error { return t.Print(to) }
