package benchmark

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/pbs-run/pbs-run/eval"
)

// LongBenchTasks are the data sets of LongBench (arXiv 2308.14508) in the order of its scripts.
func LongBenchTasks() []string {
	return []string{
		"narrativeqa", "qasper", "multifieldqa_en", "multifieldqa_zh", "hotpotqa", "2wikimqa", "musique",
		"dureader", "gov_report", "qmsum", "multi_news", "vcsum", "trec", "triviaqa", "samsum", "lsht",
		"passage_count", "passage_retrieval_en", "passage_retrieval_zh", "lcc", "repobench-p",
	}
}

// LongBenchETasks are those of LongBench-E, whose files are called <task>_e.
func LongBenchETasks() []string {
	return []string{
		"qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "gov_report", "multi_news", "trec", "triviaqa", "samsum",
		"passage_count", "passage_retrieval_en", "lcc", "repobench-p",
	}
}

// withoutTemplate are the data sets whose prompts the official script gives to the model as they are.
func withoutTemplate(task string) bool {
	return slices.Contains([]string{"trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p"}, task)
}

// Protocols: whose scripts a run follows where they differ.
const (
	THUDM       = "thudm"       // github.com/THUDM/LongBench
	OpenCompass = "opencompass" // github.com/open-compass/opencompass 0.4.2, which papers on sparse attention use
)

const longBenchWhere = "github.com/THUDM/LongBench"

// LongBench makes the tasks of LongBench and LongBench-E.
type LongBench struct {
	Source
	E         bool
	Protocol  string
	Config    string // folder with dataset2prompt.json and dataset2maxlen.json
	MaxLength int    // tokens of a prompt: THUDM cuts the middle out before the chat template, OpenCompass the start after it
	Model     string // name of the folder of predictions
	Tokens    Tokens
}

// longBenchRow is a row as published.
type longBenchRow struct {
	Input      string   `json:"input"`
	Context    string   `json:"context"`
	Answers    []string `json:"answers"`
	Length     int      `json:"length"`
	AllClasses []string `json:"all_classes"`
	ID         string   `json:"_id"`
}

// longBenchLine is a line of pred/<model>/<task>.jsonl.
type longBenchLine struct {
	Pred       string   `json:"pred"`
	Answers    []string `json:"answers"`
	AllClasses []string `json:"all_classes"`
	Length     int      `json:"length"`
	ID         string   `json:"_id"`
	Error      string   `json:"error,omitempty"`
}

// Load makes the tasks called names; none stands for all.
func (b LongBench) Load(names []string) ([]eval.Task, error) {
	all := LongBenchTasks()
	if b.E {
		all = LongBenchETasks()
	}
	if len(names) == 0 {
		names = all
	}
	prompts, lengths, err := b.config()
	if err != nil {
		return nil, err
	}
	if b.MaxLength < minMaxLength {
		return nil, fmt.Errorf("--max-length %d: want at least %d", b.MaxLength, minMaxLength)
	}
	var tasks []eval.Task
	for _, name := range names {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("unknown task %q; known are %s", name, strings.Join(all, ", "))
		}
		template, ok := prompts[name]
		if !ok {
			return nil, fmt.Errorf("--config %s: no prompt for %s in dataset2prompt.json", b.Config, name)
		}
		if lengths[name] <= 0 {
			return nil, fmt.Errorf("--config %s: no length for %s in dataset2maxlen.json", b.Config, name)
		}
		task, err := b.load(name, template, lengths[name])
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, task)
	}
	return tasks, nil
}

// config reads the official prompts and lengths, with what OpenCompass changed in them.
func (b LongBench) config() (prompts map[string]string, lengths map[string]int, err error) {
	folders := []string{".", "config", "LongBench/config", "v1"}
	for name, into := range map[string]any{"dataset2prompt.json": &prompts, "dataset2maxlen.json": &lengths} {
		path, data, err := findFile(b.Config, "prompts of LongBench", longBenchWhere, below(name, folders...)...)
		if err != nil {
			return nil, nil, err
		}
		if err := json.Unmarshal(data, into); err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", path, err)
		}
	}
	if b.Protocol == OpenCompass {
		prompts["narrativeqa"] = strings.ReplaceAll(prompts["narrativeqa"], "asconcisely", "as concisely")
		prompts["qasper"] = prompts["hotpotqa"]
		prompts["multi_news"] += "\n"
		lengths["qasper"] = 32
	}
	return prompts, lengths, nil
}

func (b LongBench) load(name, template string, maxNew int) (eval.Task, error) {
	file, folder := name, "pred"
	if b.E {
		file, folder = name+"_e", "pred_e"
	}
	rules := eval.Rules{MaxNewTokens: maxNew, ChatTemplate: b.Protocol == OpenCompass || !withoutTemplate(name), KeepSpecial: b.Protocol == OpenCompass}
	if name == "samsum" && b.Protocol != OpenCompass {
		rules.MinNewTokens, rules.StopNewline = 1, true
	}
	task := eval.Task{Name: name, File: path.Join(folder, b.Model, name+".jsonl"), Rules: rules, LineID: eval.LineID}
	var rows []longBenchRow
	sum := newDigest()
	sum.add(b.Protocol, template)
	var err error
	task.Skipped, err = b.rows(file, func(row []byte) (string, func(), error) {
		var r longBenchRow
		if err := decode(row, &r, "input", "context", "answers", "length", "_id"); err != nil {
			return "", nil, err
		}
		prompt, err := b.fill(template, r)
		if err != nil {
			return "", nil, err
		}
		return r.ID, func() {
			sum.add(r.ID, prompt)
			rows, task.IDs = append(rows, r), append(task.IDs, r.ID)
		}, nil
	})
	if err != nil {
		return task, err
	}
	task.Digest = sum.String()
	task.Bytes = func(i int) int { return len(template) + len(rows[i].Context) + len(rows[i].Input) }
	task.Item = func(i int) eval.Item { return b.item(rows[i], template, rules) }
	return task, nil
}

// fill builds the prompt of a row, before it is cut.
func (b LongBench) fill(template string, r longBenchRow) (string, error) {
	if b.Protocol == OpenCompass {
		return replaceInTurn(template, []pair{{"{input}", r.Input}, {"{context}", r.Context}, {"{answers}", ""}}), nil
	}
	return fill(template, map[string]string{"context": r.Context, "input": r.Input})
}

func (b LongBench) item(r longBenchRow, template string, rules eval.Rules) eval.Item {
	return eval.Item{
		ID: r.ID,
		First: func() (eval.Request, error) {
			request := eval.Request{
				Plain: !rules.ChatTemplate, MaxNew: rules.MaxNewTokens, MinNew: rules.MinNewTokens,
				StopNewline: rules.StopNewline, KeepSpecial: rules.KeepSpecial,
			}
			prompt, err := b.fill(template, r)
			if b.Protocol == OpenCompass {
				request.KeepLast = b.MaxLength
			} else if err == nil {
				prompt, err = longBenchCut.middle(b.Tokens, prompt, b.MaxLength)
			}
			request.User = prompt
			return request, err
		},
		Line: func(answers []string, failure string) any {
			line := longBenchLine{Answers: r.Answers, AllClasses: r.AllClasses, Length: r.Length, ID: r.ID, Error: failure}
			if failure == "" {
				line.Pred = answers[0]
			}
			return line
		},
	}
}
