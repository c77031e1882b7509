package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/eval"
	"github.com/pbs-run/pbs-run/eval/benchmark"
	"github.com/pbs-run/pbs-run/eval/synthetic"
)

// infiniteFlags are the flags of eval infinitebench.
type infiniteFlags struct {
	evalFlags
	config    string
	family    string
	chat      string
	maxLength int
	length    int
	samples   int
}

func infiniteBenchCommand() *cobra.Command {
	var f infiniteFlags
	cmd := &cobra.Command{
		Use:   "infinitebench --model DIR --data DIR --config DIR [--tasks passkey,kv_retrieval] [--attention full --attention pbs] --out DIR",
		Short: "InfiniteBench (arXiv 2402.13718): 12 tasks of more than 100K tokens",
		Long: `InfiniteBench (arXiv 2402.13718): 12 tasks of more than 100K tokens.

The data are the <task>.jsonl of huggingface.co/datasets/xinrongzhang2022/InfiniteBench. The prompts are those of
github.com/OpenBMB/InfiniteBench, whose checkout --config names; --templates picks the family of models they were written for.
Without --data the tasks passkey, number_string and kv_retrieval are made from --seed, at --length tokens.

  pbs-run eval infinitebench -m DIR --data InfiniteBench-data --config InfiniteBench --templates gpt4 --attention pbs --out runs/ib
  pbs-run eval infinitebench -m DIR --length 65536 --samples 50 --attention full --attention pbs --out runs/passkey`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.runEval(cmd.Context(), f.load, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.config, "config", "", "`folder` with src/prompt.py, a checkout of github.com/OpenBMB/InfiniteBench, or a JSON file {family: {task: template}}")
	fl.StringVar(&f.family, "templates", "yarn-mistral", "`family` of the prompts: yarn-mistral (Yi and ChatGLM too), gpt4, claude2 or kimi")
	fl.StringVar(&f.chat, "chat-template", "auto", "always, never, or auto: for all families but yarn-mistral, whose scripts have none")
	fl.IntVar(&f.maxLength, "max-length", 0, "`tokens` that a prompt is cut to, in its middle, before the chat template; 0 takes the official 131072 (gpt4: 127000), less where the model has fewer positions")
	fl.IntVar(&f.length, "length", 0, "make the prompts, of so many `tokens` with the answer, instead of reading --data")
	fl.IntVar(&f.samples, "samples", 100, "prompts per task that are made")
	return cmd
}

func (f *infiniteFlags) load(r *evalRun) (s suite, err error) {
	switch {
	case f.data != "" && f.length > 0:
		return s, errors.New("--data and --length exclude each other: prompts are read or made")
	case f.data == "" && f.length == 0:
		return s, errors.New("pass --data DIR, or --length N to make the prompts of the retrieval tasks")
	case f.length > 0:
		return f.generate(r)
	}
	if f.maxLength == 0 {
		f.maxLength = min(benchmark.InfiniteBenchMaxLength(f.family), benchmark.DefaultMaxLength(r.e.MaxPositions))
	}
	b := benchmark.InfiniteBench{
		Source: f.source(), Config: f.config, Family: f.family, MaxLength: f.maxLength, Model: r.name, Tokens: r.tokens(),
	}
	switch f.chat {
	case "auto":
		b.Chat = f.family != "yarn-mistral"
	case "always", "never":
		b.Chat = f.chat == "always"
	default:
		return s, fmt.Errorf("--chat-template %q: want auto, always or never", f.chat)
	}
	if len(f.tasks) == 0 {
		f.tasks = slices.Sorted(maps.Keys(benchmark.InfiniteBenchTasks()))
	}
	s = suite{benchmark: "infinitebench", settings: map[string]any{"max_length": f.maxLength, "templates": f.family}}
	s.tasks, err = b.Load(f.tasks)
	return s, err
}

// generate makes the tasks whose rows are made by rule.
func (f *infiniteFlags) generate(r *evalRun) (s suite, err error) {
	if err := checkWithin(within{"--samples", f.samples, 1, maxSamples}); err != nil {
		return s, err
	}
	templates := map[string]string{}
	if f.config != "" {
		if templates, err = (benchmark.InfiniteBench{Config: f.config, Family: f.family}).Templates(); err != nil {
			return s, err
		}
	}
	if len(f.tasks) == 0 {
		f.tasks = synthetic.InfiniteBenchTasks()
	}
	s = suite{benchmark: "infinitebench", settings: map[string]any{"length": f.length, "samples": f.samples}, length: f.length}
	for _, name := range f.tasks {
		if !slices.Contains(synthetic.InfiniteBenchTasks(), name) {
			return s, fmt.Errorf("task %q cannot be made, it needs --data; %v can", name, synthetic.InfiniteBenchTasks())
		}
		c := synthetic.Config{Task: name, Length: f.length, Seed: f.seed, Template: templates[name]}
		task, err := r.made(c, f.samples, func(s synthetic.Sample, pred, failure string) any {
			return benchmark.MadeInfiniteLine(s.Index, pred, s.Outputs, failure)
		}, templates[name])
		if err != nil {
			return s, err
		}
		s.tasks = append(s.tasks, task)
	}
	return s, nil
}

// made is a task whose samples are made from the seed. from is all that they depend on beside the fields of c that are
// numbers or names.
func (r *evalRun) made(c synthetic.Config, samples int, line func(s synthetic.Sample, pred, failure string) any, from ...string) (task eval.Task, err error) {
	g, err := synthetic.New(c, r.count)
	if err != nil {
		return task, err
	}
	if n := g.Samples(); n > 0 {
		samples = min(samples, n)
	}
	first, err := g.Sample(0)
	if err != nil {
		return task, err
	}
	task = eval.Task{
		Name: c.Task, File: "pred/" + r.name + "/" + c.Task + ".jsonl", LineID: eval.LineIndex,
		Rules:  eval.Rules{MaxNewTokens: first.MaxNew, ChatTemplate: true},
		Digest: benchmark.Digest(append([]string{c.Task, strconv.Itoa(c.Length), strconv.FormatUint(c.Seed, 10), string(c.Words)}, from...)...),
		Bytes:  func(int) int { return 0 }, // the length is known
	}
	for i := range samples {
		task.IDs = append(task.IDs, strconv.Itoa(i))
	}
	task.Item = func(i int) eval.Item {
		s := synthetic.Sample{Index: i}
		return eval.Item{
			ID: task.IDs[i],
			First: func() (request eval.Request, err error) {
				s, err = g.Sample(i)
				return eval.Request{Prompt: s.Prompt, MaxNew: s.MaxNew}, err
			},
			Line: func(answers []string, failure string) any {
				pred := ""
				if failure == "" {
					pred = answers[0]
				}
				return line(s, pred, failure)
			},
		}
	}
	return task, nil
}
