package benchmark

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pbs-run/pbs-run/eval"
)

// InfiniteBenchTasks are the tasks of InfiniteBench (arXiv 2402.13718), and the tokens that their answers may take.
func InfiniteBenchTasks() map[string]int {
	return map[string]int{
		"passkey": 6, "number_string": 12, "kv_retrieval": 50, "longbook_sum_eng": 1200, "longbook_choice_eng": 40,
		"longbook_qa_eng": 40, "longbook_qa_chn": 40, "longdialogue_qa_eng": 40, "math_find": 3, "math_calc": 30000,
		"code_run": 5, "code_debug": 5,
	}
}

// InfiniteBenchFamilies are the families of models that InfiniteBench has a wording for. Yi and ChatGLM share that of
// yarn-mistral.
func InfiniteBenchFamilies() []string { return []string{"yarn-mistral", "gpt4", "claude2", "kimi"} }

const infiniteWhere = "github.com/OpenBMB/InfiniteBench"

// InfiniteBenchMaxLength is the tokens that the official scripts cut prompts to.
func InfiniteBenchMaxLength(family string) int {
	if family == "gpt4" {
		return 127000
	}
	return 131072
}

// InfiniteBench makes the tasks of InfiniteBench.
type InfiniteBench struct {
	Source
	Config    string // checkout with src/prompt.py, or a JSON file {"family": {"task": "template"}}
	Family    string // of InfiniteBenchFamilies
	Chat      bool   // prompts go through the chat template, GPT-4's with the turns that its script puts before them
	MaxLength int    // tokens of a prompt, the middle cut out before the chat template
	Model     string // name of the folder of predictions
	Tokens    Tokens

	calculator string // GPT-4's system message for math_calc
}

// infiniteRow is a row as published.
type infiniteRow struct {
	ID      json.Number     `json:"id"`
	Context string          `json:"context"`
	Input   string          `json:"input"`
	Answer  json.RawMessage `json:"answer"` // text, or a list
	Options []string        `json:"options"`

	prompt string
	label  json.RawMessage
}

// infiniteLine is a line of <task>.jsonl.
type infiniteLine struct {
	Index json.Number     `json:"index"`
	Pred  string          `json:"pred"`
	Label json.RawMessage `json:"label"`
	Model string          `json:"model_name,omitempty"` // the official scorer has a rule for gpt4 alone
	Error string          `json:"error,omitempty"`
}

// MadeInfiniteLine is the line of a sample that was made, not read.
func MadeInfiniteLine(index int, pred string, outputs []string, failure string) any {
	label, err := json.Marshal(outputs)
	if err != nil {
		panic(err) // texts always encode
	}
	return infiniteLine{Index: json.Number(strconv.Itoa(index)), Pred: pred, Label: label, Error: failure}
}

// Templates reads the wording of the family.
func (b InfiniteBench) Templates() (map[string]string, error) {
	if !slices.Contains(InfiniteBenchFamilies(), b.Family) {
		return nil, fmt.Errorf("--templates %q: want one of %s", b.Family, strings.Join(InfiniteBenchFamilies(), ", "))
	}
	file, data, err := findFile(b.Config, "templates of InfiniteBench", infiniteWhere, "src/prompt.py", "prompt.py", "prompts.py", "prompts.json")
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(file, ".py") {
		return dictionary(file, string(data), strings.ReplaceAll(b.Family, "-", "_")+"_templates")
	}
	var families map[string]map[string]string
	if err := json.Unmarshal(data, &families); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if families[b.Family] == nil {
		return nil, fmt.Errorf("read %s: no templates for %s", file, b.Family)
	}
	return families[b.Family], nil
}

// Load makes the tasks called names.
func (b InfiniteBench) Load(names []string) ([]eval.Task, error) {
	templates, err := b.Templates()
	if err != nil {
		return nil, err
	}
	if b.MaxLength < minMaxLength {
		return nil, fmt.Errorf("--max-length %d: want at least %d", b.MaxLength, minMaxLength)
	}
	if b.Chat && slices.ContainsFunc(names, b.bare) {
		if b.calculator, err = b.systemMessage(); err != nil {
			return nil, err
		}
	}
	var tasks []eval.Task
	for _, name := range names {
		task, err := b.load(name, templates[name])
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, task)
	}
	return tasks, nil
}

// systemMessage reads what GPT-4's script tells the model before math_calc: the text in triple quotes of one function.
func (b InfiniteBench) systemMessage() (string, error) {
	file, data, err := findFile(b.Config, "system message of math_calc", infiniteWhere, "src/eval_utils.py", "eval_utils.py")
	if err != nil {
		return "", err
	}
	_, function, _ := strings.Cut(string(data), "def create_system_msg(")
	_, text, _ := strings.Cut(function, `"""`)
	text, _, closed := strings.Cut(text, `"""`)
	if !closed {
		return "", fmt.Errorf("%s: no text in triple quotes in create_system_msg", file)
	}
	return text, nil
}

func (b InfiniteBench) load(name, template string) (eval.Task, error) {
	maxNew, ok := InfiniteBenchTasks()[name]
	if !ok {
		return eval.Task{}, fmt.Errorf("unknown task %q of InfiniteBench", name)
	}
	task := eval.Task{Name: name, File: path.Join("pred", b.Model, name+".jsonl"), LineID: eval.LineIndex, Rules: eval.Rules{MaxNewTokens: maxNew, ChatTemplate: b.Chat}}
	if template == "" && !b.bare(name) {
		return task, fmt.Errorf("--config %s: no template for %s of the family %s", b.Config, name, b.Family)
	}
	var rows []infiniteRow
	sum := newDigest()
	sum.add(b.Family, strconv.FormatBool(b.Chat), b.calculator)
	var err error
	task.Skipped, err = b.rows(name, func(row []byte) (string, func(), error) {
		r, err := b.row(name, template, row)
		if err != nil {
			return "", nil, err
		}
		return r.ID.String(), func() {
			sum.add(r.ID.String(), r.prompt)
			rows, task.IDs = append(rows, r), append(task.IDs, r.ID.String())
		}, nil
	})
	if err != nil {
		return task, err
	}
	task.Digest = sum.String()
	task.Bytes = func(i int) int { return len(rows[i].prompt) + 1024 }
	task.Item = func(i int) eval.Item { return b.item(name, rows[i], maxNew) }
	return task, nil
}

// bare tells of a task whose prompt is its context alone.
func (b InfiniteBench) bare(task string) bool { return b.Family == "gpt4" && task == "math_calc" }

// row reads a row and builds its prompt, which then has the context in the row's place.
func (b InfiniteBench) row(name, template string, data []byte) (r infiniteRow, err error) {
	if err := decode(data, &r, "id", "context", "input", "answer"); err != nil {
		return r, err
	}
	if r.label, err = r.labelOf(name); err != nil {
		return r, err
	}
	if r.prompt, err = b.fill(name, template, r); err != nil {
		return r, err
	}
	r.Context = ""
	return r, nil
}

// labelOf is what a prediction is held against: of a choice the option's text and its letter.
func (r infiniteRow) labelOf(task string) (json.RawMessage, error) {
	if task != "code_debug" && task != "longbook_choice_eng" {
		return r.Answer, nil
	}
	var answer string
	if json.Unmarshal(r.Answer, &answer) != nil {
		var list []string
		if err := json.Unmarshal(r.Answer, &list); err != nil || len(list) == 0 || len(list) > 2 {
			return nil, fmt.Errorf("field answer: %.40s: want a text, or a list of one or two", r.Answer)
		}
		if len(list) == 2 && slices.Contains([]string{"A", "B", "C", "D"}, list[1]) {
			return r.Answer, nil
		}
		if len(list) == 2 {
			return nil, fmt.Errorf("field answer: %.40s: the second is no letter A to D", r.Answer)
		}
		answer = list[0]
	}
	i := slices.Index(r.Options, answer)
	if i < 0 || i > 3 {
		return nil, fmt.Errorf("field answer: %.40q is none of the four options", answer)
	}
	return json.Marshal([]string{answer, "ABCD"[i : i+1]})
}

// What two tasks take from their questions.
var (
	functionCall = regexp.MustCompile(`func_[0-9]+\(-?[0-9]+\)`)
	wantedNumber = regexp.MustCompile(`The .+ of`)
)

// fill builds the prompt of a row, before it is cut.
func (b InfiniteBench) fill(task, template string, r infiniteRow) (string, error) {
	if b.bare(task) {
		return r.Context, nil
	}
	fields := map[string]string{"context": r.Context}
	switch task {
	case "code_run":
		call := functionCall.FindString(r.Input)
		if call == "" {
			return "", fmt.Errorf("field input: %.40q calls no func_N(x)", r.Input)
		}
		fields["func_call"] = call
		fields["func"], _, _ = strings.Cut(call, "(")
	case "code_debug", "longbook_choice_eng":
		if len(r.Options) < 4 {
			return "", errors.New("field options: want four")
		}
		for i, letter := range []string{"A", "B", "C", "D"} {
			fields["OPTION_"+letter] = r.Options[i]
		}
		if task == "longbook_choice_eng" {
			fields["question"] = r.Input
		}
	case "longbook_qa_eng", "longbook_qa_chn":
		fields["question"] = r.Input
	case "math_find":
		wanted := wantedNumber.FindString(r.Input)
		if wanted == "" {
			return "", fmt.Errorf("field input: %.40q names no number, as in The ... of", r.Input)
		}
		wanted = strings.ToLower(wanted)
		fields["prefix"] = "What is " + strings.TrimSuffix(wanted, " of") + " in the following list?"
		fields["input"] = r.Input
	case "longbook_sum_eng", "longdialogue_qa_eng", "math_calc":
	default:
		fields["input"] = r.Input
	}
	return fill(template, fields)
}

// turns are what GPT-4's script puts before the prompt.
func (b InfiniteBench) turns(task string) []eval.Message {
	if !b.Chat || b.Family != "gpt4" {
		return nil
	}
	if task != "math_calc" {
		return []eval.Message{{Role: "system", Content: "You are a helpful assistant"}}
	}
	return []eval.Message{
		{Role: "system", Content: b.calculator},
		{Role: "user", Content: "1 + 2 - 4 - 10"},
		{Role: "system", Content: "[1, 3, -1, -11]"},
	}
}

func (b InfiniteBench) item(task string, r infiniteRow, maxNew int) eval.Item {
	rule := infiniteCut
	if b.Family == "gpt4" {
		rule = infiniteChatCut
	}
	return eval.Item{
		ID: r.ID.String(),
		First: func() (eval.Request, error) {
			prompt, err := rule.middle(b.Tokens, r.prompt, b.MaxLength)
			request := eval.Request{Before: b.turns(task), Plain: !b.Chat, MaxNew: maxNew}
			request.User = prompt
			return request, err
		},
		Line: func(answers []string, failure string) any {
			line := infiniteLine{Index: r.ID, Label: r.label, Error: failure}
			if b.Family == "gpt4" {
				line.Model = b.Family
			}
			if failure == "" {
				line.Pred = answers[0]
			}
			return line
		},
	}
}
