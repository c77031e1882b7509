package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/eval"
	"github.com/pbs-run/pbs-run/eval/benchmark"
	"github.com/pbs-run/pbs-run/eval/metric"
)

// longBenchFlags are the flags of the commands of LongBench and LongBench-v2.
type longBenchFlags struct {
	evalFlags
	protocol  string
	config    string
	maxLength int
	cot       bool
	noContext bool
}

func (f *longBenchFlags) register(cmd *cobra.Command, config, maxLength string) {
	f.evalFlags.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.protocol, "protocol", benchmark.THUDM, "whose scripts to follow: thudm, or opencompass (0.4.2)")
	fl.StringVar(&f.config, "config", "", config)
	fl.IntVar(&f.maxLength, "max-length", 0, "`tokens` that a prompt is cut to: in its middle before the chat template (thudm), or at its start after it (opencompass); "+maxLength)
	must(cmd.MarkFlagRequired("data"))
}

func longBenchCommand(e bool) *cobra.Command {
	var f longBenchFlags
	name, title := "longbench", "LongBench (arXiv 2308.14508): 21 tasks in English, Chinese and code"
	if e {
		name, title = "longbench-e", "LongBench-E: 13 tasks of LongBench, scored by length"
	}
	cmd := &cobra.Command{
		Use:   name + " --model DIR --data DIR --config DIR [--tasks qasper,trec] [--attention full --attention pbs] --out DIR",
		Short: title,
		Long: title + `.

The data are the files of huggingface.co/datasets/THUDM/LongBench: data.zip, or its unpacked <task>.jsonl. The prompts are
those of github.com/THUDM/LongBench, whose checkout --config names.

  pbs-run eval ` + name + ` -m DIR --data LongBench-data --config LongBench --attention full --attention pbs --out runs/` + name,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.runEval(cmd.Context(), func(r *evalRun) (suite, error) { return f.longBench(r, e) }, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.register(cmd, "`folder` with dataset2prompt.json and dataset2maxlen.json: a checkout of github.com/THUDM/LongBench",
		"0 takes the official table's rule for the model's positions: 31500 for 32k, 127500 for 128k (opencompass: all positions)")
	return cmd
}

func (f *longBenchFlags) longBench(r *evalRun, e bool) (s suite, err error) {
	if err := f.checkProtocol(); err != nil {
		return s, err
	}
	if e && f.protocol != benchmark.THUDM {
		return s, errors.New("--protocol opencompass: OpenCompass has no LongBench-E; use thudm")
	}
	if f.maxLength == 0 && f.protocol == benchmark.THUDM {
		f.maxLength = benchmark.DefaultMaxLength(r.e.MaxPositions)
	}
	if f.maxLength == 0 {
		f.maxLength = r.e.MaxPositions
	}
	s = suite{benchmark: "longbench", protocol: f.protocol, settings: map[string]any{"max_length": f.maxLength}}
	if e {
		s.benchmark = "longbench-e"
	}
	s.tasks, err = benchmark.LongBench{
		Source: f.source(), E: e, Protocol: f.protocol, Config: f.config, MaxLength: f.maxLength, Model: r.name, Tokens: r.tokens(),
	}.Load(f.tasks)
	return s, err
}

func (f *longBenchFlags) checkProtocol() error {
	if f.protocol != benchmark.THUDM && f.protocol != benchmark.OpenCompass {
		return fmt.Errorf("--protocol %q: want thudm or opencompass", f.protocol)
	}
	return nil
}

func longBench2Command() *cobra.Command {
	var f longBenchFlags
	cmd := &cobra.Command{
		Use:   "longbench-v2 --model DIR --data DIR --config DIR [--cot] [--attention full --attention pbs] --out DIR",
		Short: "LongBench-v2 (arXiv 2412.15204): 503 questions with four choices",
		Long: `LongBench-v2 (arXiv 2412.15204): 503 questions with four choices.

The data are data.json of huggingface.co/datasets/THUDM/LongBench-v2. The prompts are those of github.com/THUDM/LongBench,
whose checkout --config names; with --protocol opencompass, that of a checkout of github.com/open-compass/opencompass.
Answers are drawn at temperature 0.1, as by the official script, from the seed and the question's _id (opencompass: greedily).

  pbs-run eval longbench-v2 -m DIR --data data.json --config LongBench --attention full --attention pbs --out runs/v2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.runEval(cmd.Context(), f.longBench2, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.register(cmd, "`folder` with 0shot.txt: a checkout of github.com/THUDM/LongBench, or of OpenCompass",
		"0 takes the official 120000, less where the model has fewer positions (opencompass: all positions)")
	cmd.Flags().BoolVar(&f.cot, "cot", false, "ask for a chain of thought first, then for the answer to it")
	cmd.Flags().BoolVar(&f.noContext, "no-context", false, "ask without the document")
	return cmd
}

// officialMaxLength2 is what LongBench-v2 cuts prompts to for models of 128k positions.
const officialMaxLength2 = 120000

func (f *longBenchFlags) longBench2(r *evalRun) (s suite, err error) {
	prompt := benchmark.ZeroShot
	switch {
	case f.cot && f.noContext:
		return s, errors.New("--cot and --no-context exclude each other")
	case f.cot:
		prompt = benchmark.CoT
	case f.noContext:
		prompt = benchmark.NoContext
	}
	if err := f.checkProtocol(); err != nil {
		return s, err
	}
	if len(f.tasks) > 0 && strings.Join(f.tasks, ",") != benchmark.LongBench2Task {
		return s, fmt.Errorf("--tasks %s: LongBench-v2 has one, %s", strings.Join(f.tasks, ","), benchmark.LongBench2Task)
	}
	if f.maxLength == 0 && f.protocol == benchmark.THUDM {
		f.maxLength = min(officialMaxLength2, benchmark.DefaultMaxLength(r.e.MaxPositions))
	}
	if f.maxLength == 0 {
		f.maxLength = r.e.MaxPositions
	}
	protocol, err := metric.ParseProtocol(f.protocol)
	if err != nil {
		return s, err
	}
	task, err := benchmark.LongBench2{
		Source: f.source(), Protocol: f.protocol, Config: f.config, Prompt: prompt, MaxLength: f.maxLength, Seed: f.seed, Model: r.name,
		Tokens: r.tokens(), Letter: metric.NewLongBench2(protocol).Letter,
	}.Load()
	return suite{
		benchmark: "longbench-v2", protocol: f.protocol, settings: map[string]any{"max_length": f.maxLength, "prompt": prompt}, tasks: []eval.Task{task},
	}, err
}
