package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/eval"
	"github.com/pbs-run/pbs-run/eval/synthetic"
	"github.com/pbs-run/pbs-run/model"
	"github.com/pbs-run/pbs-run/tokenizer"
)

func evalCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "eval",
		Short: "Run a benchmark and score it as its own scripts do",
	}
	cmd.AddCommand(rulerCommand())
	return cmd
}

// rulerFlags are the flags of eval ruler beside the engine's.
type rulerFlags struct {
	engineFlags
	eval.RULEROptions
	essay, squad, hotpotQA string
	json                   bool
}

func rulerCommand() *cobra.Command {
	var f rulerFlags
	cmd := &cobra.Command{
		Use:   "ruler --model DIR --tasks niah_single_2,niah_multikey_1 --length N --samples N --seed S",
		Short: "RULER (arXiv 2404.06654): its 13 tasks, made from a seed at any length",
		Long: `Make RULER prompts of a length from a seed, answer them greedily and score them by RULER's string match.
The essay that needles are hidden in is --essay, by default document.txt beside the model folder. Without --tasks all
run that need no file of questions: qa_1 needs --squad, the SQuAD v2 dev set, and qa_2 --hotpotqa, the HotpotQA
distractor dev set.

  pbs-run eval ruler -m DIR --essay book.txt --tasks niah_single_2 --length 16384 --samples 100 --attention pbs`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runRuler(cmd.Context(), &f, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.engineFlags.register(cmd, "full")
	fl := cmd.Flags()
	fl.StringSliceVar(&f.Tasks, "tasks", nil, "`tasks`, separated by commas (default all whose files are given)")
	fl.IntVar(&f.Length, "length", 4096, "`tokens` of prompt and answer together")
	fl.IntVar(&f.Samples, "samples", 100, "prompts per task")
	fl.Uint64VarP(&f.Seed, "seed", "s", 42, "seed of the prompts")
	fl.StringVar(&f.essay, "essay", "", "text `file` to hide needles in")
	fl.StringVar((*string)(&f.Keys), "keys", "", "`list` that needles' key words come from: wonderwords for RULER's own (default plain English words)")
	fl.StringVar(&f.squad, "squad", "", "`file` of questions for qa_1: SQuAD's dev-v2.0.json")
	fl.StringVar(&f.hotpotQA, "hotpotqa", "", "`file` of questions for qa_2: hotpot_dev_distractor_v1.json")
	fl.StringVar(&f.Out, "out", "", "`folder` for <task>.jsonl files with every prompt and prediction")
	registerJSON(cmd, &f.json)
	return cmd
}

// read fills the options from the files that the flags name.
func (f *rulerFlags) read(modelDir string) (err error) {
	if len(f.Tasks) == 0 {
		f.Tasks = slices.DeleteFunc(synthetic.RULERTasks(), func(task string) bool {
			return task == "qa_1" && f.squad == "" || task == "qa_2" && f.hotpotQA == ""
		})
	}
	if slices.ContainsFunc(f.Tasks, synthetic.NeedsEssay) {
		if f.Essay, err = eval.ReadEssay(f.essay, modelDir); err != nil {
			return err
		}
	}
	if f.squad != "" {
		if f.SQuAD, err = synthetic.ReadSQuAD(f.squad); err != nil {
			return err
		}
	}
	if f.hotpotQA != "" {
		f.HotpotQA, err = synthetic.ReadHotpotQA(f.hotpotQA)
	}
	return err
}

func runRuler(ctx context.Context, f *rulerFlags, stdout, stderr io.Writer) error {
	e, err := f.open()
	if err != nil {
		return err
	}
	defer e.close()
	if err := f.read(e.dir); err != nil {
		return err
	}
	tok, err := e.tokenizer()
	if err != nil {
		return err
	}
	defer tok.Close()
	s, err := e.session(f.Length, 0) // prompt and answer share the length
	if err != nil {
		return err
	}
	a := answerer{e: e, tok: tok, s: s}
	progress := func(eval.Progress) {}
	if bar := drawBar(stderr, int64(len(f.Tasks)*f.Samples), progressbar.OptionSetPredictTime(true)); bar != nil {
		progress = func(p eval.Progress) {
			bar.Describe(fmt.Sprintf("%s %d/%d, score %.2f", p.Task, p.Done, p.Samples, p.Score))
			_ = bar.Add(1) // a bar that cannot be drawn spoils nothing
		}
	}
	found, err := eval.RunRULER(ctx, f.RULEROptions, a.generate, a.count, progress)
	if err != nil && len(found.Tasks) == 0 {
		return err
	}
	r := rulerReport{e.dir, e.method.String(), minLength(e.method), e.setup(), found}
	return errors.Join(err, show(r, f.json, stdout))
}

// rulerReport is what eval ruler prints.
type rulerReport struct {
	Model     string `json:"model"`
	Attention string `json:"attention"`
	MinLength int    `json:"min_length,omitempty"`
	setup
	eval.RULERReport
}

func (r rulerReport) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "task\tlength\tsamples\tscore\tnulls\tfailed\tTTFT s\tseconds")
	for _, t := range r.Tasks {
		fmt.Fprintf(w, "%s\t%d\t%d\t%.2f\t%d\t%d\t%.2f\t%.0f\n", t.Task, t.Length, t.Samples, t.Score, t.Nulls, t.Failed, t.MeanTTFTSeconds, t.Seconds)
	}
	return w.Flush()
}

// answerer answers evaluation prompts, each in the same session from an empty cache.
type answerer struct {
	e   *engine
	tok *tokenizer.Tokenizer
	s   *model.Session
}

// ids renders p: the user's message through the chat template, then the start of the answer as it is.
func (a *answerer) ids(p eval.Prompt) ([]int32, error) {
	ids, err := a.tok.ChatIDs([]tokenizer.Message{{Role: "user", Content: p.User}}, tokenizer.ChatOptions{AddGenerationPrompt: true})
	if err != nil {
		return nil, err
	}
	prefix, err := a.tok.Encode(p.Prefix, tokenizer.EncodeOptions{})
	return append(ids, prefix...), err
}

func (a *answerer) count(p eval.Prompt) (int, error) {
	ids, err := a.ids(p)
	return len(ids), err
}

func (a *answerer) generate(ctx context.Context, p eval.Prompt, maxNew int) (eval.Output, error) {
	start := time.Now()
	ids, err := a.ids(p)
	if err != nil {
		return eval.Output{}, err
	}
	out := eval.Output{PromptTokens: len(ids)}
	a.s.Truncate(0)
	var text strings.Builder
	stream := a.tok.NewStream(true)
	greedy := model.Options{Sampling: model.Greedy(), MaxNew: maxNew}
	for id, err := range a.s.Generate(ctx, ids, greedy) {
		if err != nil {
			return out, err
		}
		if out.NewTokens == 0 {
			out.TTFT = time.Since(start)
		}
		out.NewTokens++
		piece, err := stream.Next(id)
		if err != nil {
			return out, err
		}
		text.WriteString(piece)
	}
	text.WriteString(stream.Flush())
	out.Text, out.Total = text.String(), time.Since(start)
	return out, nil
}
