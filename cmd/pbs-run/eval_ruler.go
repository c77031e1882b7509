package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/eval"
	"github.com/pbs-run/pbs-run/eval/benchmark"
	"github.com/pbs-run/pbs-run/eval/synthetic"
)

// rulerFlags are the flags of eval ruler.
type rulerFlags struct {
	evalFlags
	length                 int
	samples                int
	words                  string
	essay, squad, hotpotQA string
}

func rulerCommand() *cobra.Command {
	var f rulerFlags
	cmd := &cobra.Command{
		Use:   "ruler --model DIR --length N [--tasks niah_single_2,vt] [--samples N] [--attention full --attention pbs] --out DIR",
		Short: "RULER (arXiv 2404.06654): its 13 tasks, made from a seed at any length",
		Long: `Make RULER prompts of a length from a seed, answer them greedily and score them by RULER's string match.
The essay that needles are hidden in is --essay, by default document.txt beside the model folder. Without --tasks all
run that need no file of questions: qa_1 needs --squad, the SQuAD v2 dev set, and qa_2 --hotpotqa, the HotpotQA
distractor dev set. With --data the prompts are those that RULER's own scripts have made: <task>/validation.jsonl.

  pbs-run eval ruler -m DIR --essay book.txt --tasks niah_single_2 --length 16384 --samples 100 --attention full --attention pbs --out runs/ruler`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.runEval(cmd.Context(), f.load, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.IntVar(&f.length, "length", 4096, "`tokens` of prompt and answer together")
	fl.IntVar(&f.samples, "samples", 100, "prompts per task that are made (RULER: 500)")
	fl.StringVar(&f.essay, "essay", "", "text `file` to hide needles in")
	fl.StringVar(&f.words, "words", "", "`list` of words for needles' keys and cwe: wonderwords for RULER's own (default plain English)")
	fl.StringVar(&f.squad, "squad", "", "`file` of questions for qa_1: SQuAD's dev-v2.0.json")
	fl.StringVar(&f.hotpotQA, "hotpotqa", "", "`file` of questions for qa_2: hotpot_dev_distractor_v1.json")
	return cmd
}

// maxSamples bounds the prompts that are made for a task.
const maxSamples = 1 << 20

func (f *rulerFlags) load(r *evalRun) (suite, error) {
	if f.data != "" {
		return f.read(r)
	}
	if err := checkApart("--dump-prompts", f.dump, f.essay, f.squad, f.hotpotQA); err != nil {
		return suite{}, err
	}
	if err := checkWithin(within{"--samples", f.samples, 1, maxSamples}); err != nil {
		return suite{}, err
	}
	if len(f.tasks) == 0 {
		f.tasks = slices.DeleteFunc(synthetic.RULERTasks(), func(task string) bool {
			return task == "qa_1" && f.squad == "" || task == "qa_2" && f.hotpotQA == ""
		})
	}
	c := synthetic.Config{Length: f.length, Seed: f.seed, Words: synthetic.Words(f.words)}
	files, err := f.files(&c, r.e.dir)
	if err != nil {
		return suite{}, err
	}
	s := suite{benchmark: "ruler", settings: map[string]any{"length": f.length, "samples": f.samples}, length: f.length}
	for _, name := range f.tasks {
		if c.Task = name; c.Check() != nil {
			return s, c.Check()
		}
	}
	for _, name := range f.tasks {
		c.Task = name
		task, err := r.made(c, f.samples, func(s synthetic.Sample, pred, failure string) any {
			return benchmark.RULERLine{Index: s.Index, Pred: pred, Outputs: s.Outputs, Length: s.Tokens + s.MaxNew, Error: failure}
		}, files...)
		if err != nil {
			return s, err
		}
		s.tasks = append(s.tasks, task)
	}
	return s, nil
}

// files reads the files that the tasks need into c, and returns what the prompts depend on of them.
func (f *rulerFlags) files(c *synthetic.Config, modelDir string) (from []string, err error) {
	if slices.ContainsFunc(f.tasks, synthetic.NeedsEssay) {
		if c.Essay, err = eval.ReadEssay(f.essay, modelDir); err != nil {
			return nil, err
		}
		from = append(from, "essay", c.Essay)
	}
	if f.squad != "" {
		if c.SQuAD, err = synthetic.ReadSQuAD(f.squad); err != nil {
			return nil, err
		}
	}
	if f.hotpotQA != "" {
		if c.HotpotQA, err = synthetic.ReadHotpotQA(f.hotpotQA); err != nil {
			return nil, err
		}
	}
	for _, path := range []string{f.squad, f.hotpotQA} {
		if path == "" {
			continue
		}
		sum, err := fileSHA256(path)
		if err != nil {
			return nil, err
		}
		from = append(from, "questions", sum)
	}
	return from, nil
}

// answerTokens are RULER's tokens_to_generate.
func answerTokens(task string) int {
	switch task {
	case "vt":
		return 30
	case "cwe":
		return 120
	case "fwe":
		return 50
	case "qa_1", "qa_2":
		return 32
	}
	return 128
}

// read takes the prompts from --data.
func (f *rulerFlags) read(r *evalRun) (suite, error) {
	if len(f.tasks) == 0 {
		f.tasks = synthetic.RULERTasks()
	}
	s := suite{benchmark: "ruler", settings: map[string]any{}}
	for _, name := range f.tasks {
		if !slices.Contains(synthetic.RULERTasks(), name) {
			return s, fmt.Errorf("unknown task %q; known are %s", name, strings.Join(synthetic.RULERTasks(), ", "))
		}
		task, err := benchmark.RULER{Source: f.source(), Model: r.name}.Load(name, answerTokens(name))
		if err != nil {
			return s, err
		}
		s.tasks = append(s.tasks, task)
	}
	return s, nil
}
