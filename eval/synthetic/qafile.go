package synthetic

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// A source says where a question answering set comes from.
type source struct{ name, flag, url string }

var (
	squad    = source{"SQuAD v2 dev set", "--squad", "https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v2.0.json"}
	hotpotQA = source{"HotpotQA distractor dev set", "--hotpotqa", "http://curtis.ml.cmu.edu/datasets/hotpot/hotpot_dev_distractor_v1.json"}
)

// ReadSQuAD reads the questions that have an answer, and all paragraphs, of a file in SQuAD v2's layout.
func ReadSQuAD(path string) (*Questions, error) { return readQuestions(path, squad, parseSQuAD) }

// ReadHotpotQA reads a file in the layout of HotpotQA's distractor setting.
func ReadHotpotQA(path string) (*Questions, error) {
	return readQuestions(path, hotpotQA, parseHotpotQA)
}

func readQuestions(path string, from source, parse func([]byte) (*Questions, error)) (*Questions, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the %s (it is at %s): %w", from.name, from.url, err)
	}
	q, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("read %s as the %s: %w", path, from.name, err)
	}
	return q, nil
}

type squadFile struct {
	Data []struct {
		Paragraphs []struct {
			Context string `json:"context"`
			QAs     []struct {
				Question     string `json:"question"`
				IsImpossible *bool  `json:"is_impossible"`
				Answers      []struct {
					Text string `json:"text"`
				} `json:"answers"`
			} `json:"qas"`
		} `json:"paragraphs"`
	} `json:"data"`
}

func parseSQuAD(data []byte) (*Questions, error) {
	var file squadFile
	if err := decode(data, &file); err != nil {
		return nil, err
	}
	var all documents
	for i, article := range file.Data {
		for j, p := range article.Paragraphs {
			if strings.TrimSpace(p.Context) == "" {
				return nil, fmt.Errorf("data[%d].paragraphs[%d].context: missing or empty", i, j)
			}
			all.texts = append(all.texts, p.Context)
		}
	}
	all.sort()
	var questions []question
	for i, article := range file.Data {
		var near []int
		for _, p := range article.Paragraphs {
			near = append(near, all.index(p.Context))
		}
		for j, p := range article.Paragraphs {
			gold := all.index(p.Context)
			others := slices.DeleteFunc(slices.Clone(near), func(d int) bool { return d == gold })
			for k, qa := range p.QAs {
				at := fmt.Sprintf("data[%d].paragraphs[%d].qas[%d]", i, j, k)
				if qa.IsImpossible == nil {
					return nil, fmt.Errorf("%s.is_impossible: missing (SQuAD v1 has no such field; take v2)", at)
				}
				if *qa.IsImpossible {
					continue
				}
				q := question{text: qa.Question, gold: []int{gold}, near: others}
				for _, a := range qa.Answers {
					q.answers = append(q.answers, a.Text)
				}
				if err := q.check(at, "answers"); err != nil {
					return nil, err
				}
				questions = append(questions, q)
			}
		}
	}
	return newQuestions(all, questions, "data")
}

type hotpotRow struct {
	Question string           `json:"question"`
	Answer   string           `json:"answer"`
	Context  []hotpotDocument `json:"context"`
}

// A hotpotDocument is [title, [sentence, ...]].
type hotpotDocument struct {
	title     string
	sentences []string
}

func (d *hotpotDocument) UnmarshalJSON(b []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(b, &parts); err != nil || len(parts) != 2 {
		return errors.New("context: each entry must be [title, [sentence, ...]]")
	}
	if json.Unmarshal(parts[0], &d.title) != nil || json.Unmarshal(parts[1], &d.sentences) != nil {
		return errors.New("context: each entry must be [title, [sentence, ...]]")
	}
	return nil
}

func (d hotpotDocument) String() string { return d.title + "\n" + strings.Join(d.sentences, "") }

func parseHotpotQA(data []byte) (*Questions, error) {
	var rows []hotpotRow
	if err := decode(data, &rows); err != nil {
		return nil, err
	}
	var all documents
	for _, r := range rows {
		for _, d := range r.Context {
			all.texts = append(all.texts, d.String())
		}
	}
	all.sort()
	var questions []question
	for i, r := range rows {
		q := question{text: r.Question, answers: []string{r.Answer}}
		for _, d := range r.Context {
			q.gold = append(q.gold, all.index(d.String()))
		}
		at := fmt.Sprintf("[%d]", i)
		if len(q.gold) == 0 {
			return nil, fmt.Errorf("%s.context: missing or empty", at)
		}
		if err := q.check(at, "answer"); err != nil {
			return nil, err
		}
		questions = append(questions, q)
	}
	return newQuestions(all, questions, "the list")
}

// check finds what a question at a place in its file lacks.
func (q question) check(at, answers string) error {
	if strings.TrimSpace(q.text) == "" {
		return fmt.Errorf("%s.question: missing or empty", at)
	}
	if len(q.answers) == 0 || slices.ContainsFunc(q.answers, func(a string) bool { return strings.TrimSpace(a) == "" }) {
		return fmt.Errorf("%s.%s: missing or empty", at, answers)
	}
	return nil
}

func newQuestions(all documents, questions []question, field string) (*Questions, error) {
	if len(questions) == 0 {
		return nil, fmt.Errorf("%s: no question with an answer in it", field)
	}
	return &Questions{documents: all.texts, questions: questions}, nil
}

// documents are texts that can be found by their index, once sorted.
type documents struct{ texts []string }

func (d *documents) sort() {
	slices.Sort(d.texts)
	d.texts = slices.Compact(d.texts)
}

func (d *documents) index(text string) int {
	i, _ := slices.BinarySearch(d.texts, text)
	return i
}

// decode reads one JSON value; its errors name the line.
func decode(data []byte, to any) error {
	if !utf8.Valid(data) {
		return errors.New("not UTF-8 text")
	}
	err := json.Unmarshal(data, to)
	line := func(offset int64) int { return 1 + bytes.Count(data[:min(offset, int64(len(data)))], []byte("\n")) }
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("line %d, byte %d: %w", line(syntax.Offset), syntax.Offset, err)
	case errors.As(err, &kind):
		field := "the file's outermost value"
		if kind.Field != "" {
			field = "field " + kind.Field
		}
		return fmt.Errorf("line %d, byte %d: %s is of the wrong type: %s", line(kind.Offset), kind.Offset, field, kind.Value)
	}
	return err
}
