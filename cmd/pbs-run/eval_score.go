package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/eval/metric"
	"github.com/pbs-run/pbs-run/eval/score"
	"github.com/pbs-run/pbs-run/loader"
)

// scoreFlags are the flags of eval score.
type scoreFlags struct {
	score.Options
	protocol string
	samples  string
	json     bool
}

func scoreCommand() *cobra.Command {
	var f scoreFlags
	cmd := &cobra.Command{
		Use:   "score --benchmark NAME --pred DIR|FILE",
		Short: "Score predictions, anybody's, as the benchmark's own scripts do",
		Long: `Score predictions that lie in the layout of the benchmark's own scripts, and report what those would report,
to the last digit. Nothing but the files is needed: no model, no data set, no Python.

  longbench      DIR = pred/MODEL: <dataset>.jsonl with pred, answers, all_classes
  longbench-e    DIR = pred_e/MODEL: the same with length
  longbench-v2   DIR = results, or FILE = results/MODEL.jsonl: judge, or answer and pred or response; difficulty, length
  ruler          DIR: <task>.jsonl with pred, outputs
  infinitebench  DIR = results/MODEL: preds_<task>.jsonl or <task>.jsonl with prediction, ground_truth or label

A FILE that is called otherwise names the data set (or task) of each row in a field dataset (or task).

  pbs-run eval score --benchmark longbench --pred pred/llama --json
  pbs-run eval score --benchmark longbench-v2 --protocol opencompass --pred results/llama.jsonl --samples judged.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runScore(cmd.Context(), &f, cmd.OutOrStdout())
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.Benchmark, "benchmark", "", strings.Join(score.Benchmarks(), ", "))
	fl.StringVar(&f.protocol, "protocol", string(metric.THUDM), "of longbench and longbench-v2: thudm, the authors' scripts, or opencompass, version 0.4.2")
	fl.StringVar(&f.Pred, "pred", "", "`folder` of .jsonl files with predictions, or one file")
	fl.StringVar(&f.samples, "samples", "", "`file` for each row with its own score, and for longbench-v2 its letter")
	fl.IntVar(&f.RecursionLimit, "rouge-recursion-limit", 0,
		"score 0 where Python with this recursion `limit` (its default is 1000) fails on long sentences; 0: no limit")
	registerJSON(cmd, &f.json)
	for _, name := range []string{"benchmark", "pred"} {
		_ = cmd.MarkFlagRequired(name) // the flag is there
	}
	return cmd
}

func runScore(ctx context.Context, f *scoreFlags, stdout io.Writer) error {
	var err error
	if f.Protocol, err = metric.ParseProtocol(f.protocol); err != nil {
		return fmt.Errorf("--protocol: %w", err)
	}
	if f.RecursionLimit < 0 {
		return errors.New("--rouge-recursion-limit: want 0 or more")
	}
	var samples bytes.Buffer
	if f.samples != "" {
		if err := checkApart("--samples", f.samples, f.Pred); err != nil {
			return err
		}
		if f.samples, err = loader.OutFile(f.samples); err != nil {
			return fmt.Errorf("--samples: %w", err)
		}
		f.Samples = &samples
	}
	found, err := score.Score(ctx, f.Options)
	if err != nil {
		return err
	}
	if f.samples != "" {
		if err := writeWhole(f.samples, samples.Bytes()); err != nil {
			return fmt.Errorf("--samples: %w", err)
		}
	}
	return show(scoreReport{found}, f.json, stdout)
}

// scoreReport is what eval score prints.
type scoreReport struct{ *score.Report }

func (r scoreReport) print(to io.Writer) error { return r.Print(to) }
