package benchmark

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/pbs-run/pbs-run/eval"
)

// LongBench2Task is the one task of LongBench-v2.
const LongBench2Task = "longbench-v2"

// Prompts of LongBench-v2: the names of its templates.
const (
	ZeroShot  = "0shot"
	NoContext = "0shot_no_context"
	CoT       = "0shot_cot" // two calls: a chain of thought, then the answer to it
)

// LongBench2 makes the task of LongBench-v2 (arXiv 2412.15204).
type LongBench2 struct {
	Source
	Protocol  string
	Config    string // folder with the templates: prompts/ of LongBench-v2, or a checkout of OpenCompass
	Prompt    string // ZeroShot, NoContext or CoT
	MaxLength int    // tokens of a prompt: as in LongBench
	Seed      uint64 // of the draws at temperature 0.1
	Model     string
	Tokens    Tokens
	Letter    func(response string) string // the choice that a response names, "" for none
}

// temperature2 is the temperature of the official script. OpenCompass is greedy.
const temperature2 = 0.1

// longBench2Row is a row as published.
type longBench2Row struct {
	ID         string `json:"_id"`
	Domain     string `json:"domain"`
	SubDomain  string `json:"sub_domain"`
	Difficulty string `json:"difficulty"`
	Length     string `json:"length"`
	Question   string `json:"question"`
	ChoiceA    string `json:"choice_A"`
	ChoiceB    string `json:"choice_B"`
	ChoiceC    string `json:"choice_C"`
	ChoiceD    string `json:"choice_D"`
	Answer     string `json:"answer"`
	Context    string `json:"context"`
}

// longBench2Line is a line of results/<model>.jsonl: the row, its context cut to 1,000 characters, and the answer.
type longBench2Line struct {
	longBench2Row
	ResponseCoT *string `json:"response_cot,omitempty"`
	Response    string  `json:"response"`
	Pred        *string `json:"pred"`
	Judge       bool    `json:"judge"`
	Error       string  `json:"error,omitempty"`
}

// templates2 are those of a run; answer is for the second call.
type templates2 struct{ first, answer string }

func (b LongBench2) templates() (t templates2, err error) {
	if b.Protocol == OpenCompass {
		if b.Prompt != ZeroShot {
			return t, fmt.Errorf("--protocol opencompass has one prompt; --cot and --no-context are the official script's")
		}
		t.first, err = openCompass2(b.Config)
		return t, err
	}
	if t.first, err = b.template(b.Prompt); err == nil && b.Prompt == CoT {
		t.answer, err = b.template(CoT + "_ans")
	}
	return t, err
}

func (b LongBench2) template(name string) (string, error) {
	_, data, err := findFile(b.Config, "prompts of LongBench-v2", longBenchWhere, below(name+".txt", ".", "prompts", "v2/prompts")...)
	return string(data), err
}

// openCompass2 reads OpenCompass' wording out of its config, or a file with the wording alone.
func openCompass2(config string) (string, error) {
	const name = "longbenchv2_gen_75fbba.py"
	folders := []string{".", "opencompass/configs/datasets/longbenchv2", "configs/datasets/longbenchv2"}
	places := append(below("longbenchv2.txt", "."), below(name, folders...)...)
	path, data, err := findFile(config, "OpenCompass' prompt of LongBench-v2", "github.com/open-compass/opencompass at tag 0.4.2", places...)
	if err != nil || !strings.HasSuffix(path, ".py") {
		return string(data), err
	}
	s := source{name: path, text: string(data)}
	if s.at = strings.Index(s.text, "prompt="); s.at < 0 {
		return "", fmt.Errorf("%s: no prompt= in it", path)
	}
	s.at += len("prompt=")
	return s.expression()
}

// Load makes the task.
func (b LongBench2) Load() (eval.Task, error) {
	task := eval.Task{
		Name: LongBench2Task, File: path.Join("results", b.Model+b.suffix()+".jsonl"), LineID: eval.LineID,
		Rules: eval.Rules{MaxNewTokens: 128, ChatTemplate: true, Temperature: temperature2},
	}
	if b.Protocol == OpenCompass {
		task.Rules = eval.Rules{MaxNewTokens: 2048, ChatTemplate: true, KeepSpecial: true}
	}
	t, err := b.templates()
	if err != nil {
		return task, err
	}
	if b.MaxLength < minMaxLength {
		return task, fmt.Errorf("--max-length %d: want at least %d", b.MaxLength, minMaxLength)
	}
	var rows []longBench2Row
	sum := newDigest()
	sum.add(b.Protocol, t.first, t.answer)
	task.Skipped, err = b.rows("data", func(row []byte) (string, func(), error) {
		var r longBench2Row
		if err := decode(row, &r, "_id", "difficulty", "length", "question", "choice_A", "choice_B", "choice_C", "choice_D", "answer", "context"); err != nil {
			return "", nil, err
		}
		if !slices.Contains([]string{"A", "B", "C", "D"}, r.Answer) {
			return "", nil, fmt.Errorf("field answer: %.20q: want A, B, C or D", r.Answer)
		}
		return r.ID, func() {
			sum.add(r.ID, b.fill(t.first, r))
			rows, task.IDs = append(rows, r), append(task.IDs, r.ID)
		}, nil
	})
	if err != nil {
		return task, err
	}
	task.Digest = sum.String()
	task.Bytes = func(i int) int { return len(t.first) + len(rows[i].Context) + len(rows[i].Question) + 4096 }
	task.Item = func(i int) eval.Item { return b.item(rows[i], t) }
	return task, nil
}

// suffix is what the official script adds to the name of the file.
func (b LongBench2) suffix() string {
	return map[string]string{CoT: "_cot", NoContext: "_no_context"}[b.Prompt]
}

// fill builds the prompt of a row, before it is cut.
func (b LongBench2) fill(template string, r longBench2Row) string {
	if b.Protocol == OpenCompass {
		return replaceInTurn(template, []pair{
			{"{question}", r.Question}, {"{context}", r.Context}, {"{answer}", ""}, {"{choice_A}", r.ChoiceA}, {"{choice_B}", r.ChoiceB},
			{"{choice_C}", r.ChoiceC}, {"{choice_D}", r.ChoiceD}, {"{difficulty}", r.Difficulty}, {"{length}", r.Length},
		})
	}
	return replaceInTurn(template, []pair{
		{"$DOC$", strip(r.Context)}, {"$Q$", strip(r.Question)}, {"$C_A$", strip(r.ChoiceA)}, {"$C_B$", strip(r.ChoiceB)},
		{"$C_C$", strip(r.ChoiceC)}, {"$C_D$", strip(r.ChoiceD)},
	})
}

// request makes a request of a filled template. call tells the draws of a row's first and second call apart.
func (b LongBench2) request(prompt, id string, call, maxNew int) (r eval.Request, err error) {
	if b.Protocol == OpenCompass {
		r = eval.Request{KeepLast: b.MaxLength, KeepSpecial: true}
	} else {
		r = eval.Request{Temperature: temperature2, Seed: drawSeed(b.Seed, id, call)}
		prompt, err = longBench2Cut.middle(b.Tokens, prompt, b.MaxLength)
	}
	r.MaxNew, r.User = maxNew, prompt
	return r, err
}

// drawSeed makes the draws of a call depend on the run's seed and the row alone, so that a run which goes on is the
// same run.
func drawSeed(seed uint64, id string, call int) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %s", seed, call, id))
	return binary.LittleEndian.Uint64(sum[:8])
}

func (b LongBench2) item(r longBench2Row, t templates2) eval.Item {
	maxNew := map[string]int{CoT: 1024, OpenCompass: 2048}
	first := max(128, maxNew[b.Prompt], maxNew[b.Protocol])
	item := eval.Item{
		ID:    r.ID,
		First: func() (eval.Request, error) { return b.request(b.fill(t.first, r), r.ID, 1, first) },
		Line:  func(answers []string, failure string) any { return b.line(r, answers, failure) },
	}
	if b.Prompt == CoT {
		item.Second = func(answer string) (eval.Request, error) {
			prompt := replaceInTurn(b.fill(t.answer, r), []pair{{"$COT$", strip(answer)}})
			return b.request(prompt, r.ID, 2, 128)
		}
	}
	return item
}

// line is what the official script writes of a row, and of a row without an answer, which it leaves out, that it is
// wrong.
func (b LongBench2) line(r longBench2Row, answers []string, failure string) any {
	l := longBench2Line{longBench2Row: r, Error: failure}
	l.Context = firstRunes(r.Context, 1000)
	if b.Prompt == CoT && len(answers) > 0 {
		thought := strip(answers[0])
		l.ResponseCoT, answers = &thought, answers[1:]
	}
	if failure != "" || len(answers) == 0 {
		return l
	}
	l.Response = strip(answers[0])
	if letter := b.Letter(l.Response); letter != "" {
		l.Pred, l.Judge = &letter, letter == r.Answer
	}
	return l
}

// strip is Python's str.strip: white space at both ends, the separators U+001C to U+001F too.
func strip(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return isSpace(r) })
}

// firstRunes returns the first n characters of s.
func firstRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}
