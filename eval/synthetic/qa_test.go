package synthetic

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// toySQuAD is a set of articles with five paragraphs each and two questions to a paragraph, one without an answer.
func toySQuAD(articles int) *Questions {
	q, err := parseSQuAD(toySQuADFile(articles))
	if err != nil {
		panic(err)
	}
	return q
}

func toySQuADFile(articles int) []byte {
	type m = map[string]any
	var data []m
	for a := range articles {
		var paragraphs []m
		for p := range 5 {
			place := fmt.Sprintf("place%dx%d", a, p)
			paragraphs = append(paragraphs, m{
				"context": fmt.Sprintf("Article %d, paragraph %d. The mill stood in %s.\n%s", a, p, place, strings.Repeat("It ground corn. ", 5+p)),
				"qas": []m{
					{"question": "Where did the mill of " + place + " stand?", "id": place, "is_impossible": false, "answers": []m{{"text": place, "answer_start": 40}, {"text": "in " + place}}},
					{"question": "When?", "is_impossible": true, "answers": []m{}},
				},
			})
		}
		data = append(data, m{"title": fmt.Sprint(a), "paragraphs": paragraphs})
	}
	b, _ := json.Marshal(m{"version": "v2.0", "data": data})
	return b
}

func toyHotpotQA(rows int) *Questions {
	q, err := parseHotpotQA(toyHotpotFile(rows))
	if err != nil {
		panic(err)
	}
	return q
}

func toyHotpotFile(rows int) []byte {
	type m = map[string]any
	var data []m
	for r := range rows {
		var context []any
		for d := range 10 {
			context = append(context, []any{fmt.Sprintf("Title %d", r*7+d), []string{fmt.Sprintf("Person%d was born in Town%d.", r*7+d, r*7+d), " A second sentence."}})
		}
		data = append(data, m{"_id": fmt.Sprint(r), "question": fmt.Sprintf("Where was Person%d born?", r*7+3), "answer": fmt.Sprintf("Town%d", r*7+3), "context": context})
	}
	b, _ := json.Marshal(data)
	return b
}

// parseQuestion takes a prompt of question answering apart: its documents, in order, and the question.
func parseQuestion(user, prefix string) (documents []string, question string, err error) {
	const instruction = "Answer the question based on the given documents. Only give me the answer and do not output any other words."
	whole := regexp.MustCompile(`(?s)^` + regexp.QuoteMeta(instruction) + `\n\nThe following are given documents\.\n\n(.*)\n\n` +
		regexp.QuoteMeta(instruction) + `\n\nQuestion: (.*)$`).FindStringSubmatch(user)
	if whole == nil || prefix != " Answer:" {
		return nil, "", fmt.Errorf("wording of %.300q, prefix %q", user, prefix)
	}
	rest := "\n\n" + whole[1]
	for i := 1; rest != ""; i++ {
		head := fmt.Sprintf("\n\nDocument %d:\n", i)
		if !strings.HasPrefix(rest, head) {
			return nil, "", fmt.Errorf("document %d begins %.40q", i, rest)
		}
		rest = rest[len(head):]
		end := strings.Index(rest, fmt.Sprintf("\n\nDocument %d:\n", i+1))
		if end < 0 {
			end = len(rest)
		}
		documents, rest = append(documents, rest[:end]), rest[end:]
	}
	return documents, whole[2], nil
}

func TestQuestionGrammar(t *testing.T) {
	for _, task := range []string{"qa_1", "qa_2"} {
		for i, r := range readRows[RULERRow](t, "ruler/"+task+".jsonl") {
			documents, _, err := parseQuestion(r.Input, r.AnswerPrefix)
			if err != nil || len(documents) < 5 {
				t.Errorf("%s RULER's row %d: %d documents, %v", task, i, len(documents), err)
			}
		}
		c := toyConfig(task, 3000, 2)
		set := map[string]*Questions{"qa_1": c.SQuAD, "qa_2": c.HotpotQA}[task]
		for i, s := range makeSamples(t, c, 60) {
			documents, text, err := parseQuestion(s.Prompt.User, s.Prompt.Prefix)
			if err != nil {
				t.Fatal(err)
			}
			asked := set.questions[i]
			if text != asked.text || !slices.Equal(s.Outputs, asked.answers) {
				t.Errorf("%s sample %d: question %q %q, want %q %q", task, i, text, s.Outputs, asked.text, asked.answers)
			}
			if d := slices.Sorted(slices.Values(documents)); len(slices.Compact(d)) != len(documents) {
				t.Errorf("%s sample %d: a document is there twice", task, i)
			}
			needed := slices.Clone(asked.gold)
			if len(documents) > len(asked.near) {
				needed = append(needed, asked.near...)
			}
			for _, d := range needed {
				if !slices.Contains(documents, set.documents[d]) {
					t.Errorf("%s sample %d: lacks document %q", task, i, set.documents[d])
				}
			}
		}
	}
}

// Gold documents first, then the article's own, then any; beyond all, all again.
func TestPick(t *testing.T) {
	q := toySQuAD(4)
	asked := q.questions[7]
	for size := range 50 {
		docs := q.pick(stream(1, "pick", size), asked, size)
		count := map[int]int{}
		for _, d := range docs {
			count[d]++
		}
		near := 0
		for _, d := range asked.near {
			near += min(1, count[d])
		}
		fewest := 1 + size - len(count)
		if size >= len(q.documents) {
			fewest = (1 + size) - len(q.documents)
		}
		if len(docs) != 1+size || count[asked.gold[0]] == 0 || near != min(size, 4) || 1+size-len(count) != fewest || len(count) != min(1+size, len(q.documents)) {
			t.Errorf("size %d: %d documents, %d different, %d of the article", size, len(docs), len(count), near)
		}
	}
	first := map[int]int{}
	for i := range 400 {
		docs := q.pick(stream(1, "place", i), asked, 9)
		first[slices.Index(docs, asked.gold[0])]++
	}
	for place := range 10 {
		if first[place] < 20 || first[place] > 65 {
			t.Errorf("gold document stands at place %d in %d of 400", place, first[place])
		}
	}
}

func TestQuestionFiles(t *testing.T) {
	const s = `{"data": [{"paragraphs": [{"context": "c", "qas": [%s]}]}]}`
	for _, c := range []struct {
		parse func([]byte) (*Questions, error)
		file  string
		want  string
	}{
		{parseSQuAD, ``, "unexpected end"},
		{parseSQuAD, "{\n\"data\": [\n}", "line 3, byte 13: invalid character"},
		{parseSQuAD, "{\"data\":\n[{\"paragraphs\": 7}]}", "line 2, byte 26: field data.paragraphs is of the wrong type: number"},
		{parseSQuAD, "\xff", "UTF-8"},
		{parseSQuAD, `[]`, "outermost value is of the wrong type: array"},
		{parseSQuAD, `{}`, "data: no question"},
		{parseSQuAD, `{"data": [{"paragraphs": [{}]}]}`, "data[0].paragraphs[0].context: missing"},
		{parseSQuAD, fmt.Sprintf(s, ``), "no question"},
		{parseSQuAD, fmt.Sprintf(s, `{"question": "q", "answers": [{"text": "a"}]}`), "data[0].paragraphs[0].qas[0].is_impossible: missing"},
		{parseSQuAD, fmt.Sprintf(s, `{"question": "q", "is_impossible": false, "answers": []}`), "qas[0].answers: missing"},
		{parseSQuAD, fmt.Sprintf(s, `{"question": "q", "is_impossible": false, "answers": [{"text": ""}]}`), "qas[0].answers: missing"},
		{parseSQuAD, fmt.Sprintf(s, `{"question": "", "is_impossible": false, "answers": [{"text": "a"}]}`), "qas[0].question: missing"},
		{parseSQuAD, fmt.Sprintf(s, `{"question": "q", "is_impossible": true}`), "no question with an answer"},
		{parseHotpotQA, `{}`, "outermost value is of the wrong type: object"},
		{parseHotpotQA, "[{},\n{\"answer\": []}]", "line 2, byte 17: field answer is of the wrong type: array"},
		{parseHotpotQA, `[]`, "no question"},
		{parseHotpotQA, `[{"question": "q", "answer": "a", "context": []}]`, "[0].context: missing"},
		{parseHotpotQA, `[{"question": "q", "answer": "a", "context": [["t"]]}]`, "must be [title"},
		{parseHotpotQA, `[{"question": "q", "answer": "a", "context": [[1, ["s"]]]}]`, "must be [title"},
		{parseHotpotQA, `[{"question": "q", "answer": "a", "context": [["t", "s"]]}]`, "must be [title"},
		{parseHotpotQA, `[{"question": "q", "context": [["t", ["s"]]]}]`, "[0].answer: missing"},
		{parseHotpotQA, `[{"answer": "a", "context": [["t", ["s"]]]}]`, "[0].question: missing"},
	} {
		if _, err := c.parse([]byte(c.file)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.file, err, c.want)
		}
	}
	path := filepath.Join(t.TempDir(), "squad.json")
	if _, err := ReadSQuAD(path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), squad.url) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, toySQuADFile(3), 0o600); err != nil {
		t.Fatal(err)
	}
	if q, err := ReadSQuAD(path); err != nil || len(q.questions) != 15 || len(q.documents) != 15 {
		t.Errorf("SQuAD: %+v, %v", q, err)
	}
	if _, err := ReadHotpotQA(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "HotpotQA") {
		t.Errorf("SQuAD as HotpotQA: %v", err)
	}
}

func FuzzQuestions(f *testing.F) {
	f.Add(toySQuADFile(1))
	f.Add(toyHotpotFile(2))
	f.Add([]byte(`[{"question": "q", "answer": "a", "context": [["t", ["s"]]]}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, parse := range []func([]byte) (*Questions, error){parseSQuAD, parseHotpotQA} {
			q, err := parse(data)
			if err != nil {
				continue
			}
			for _, asked := range q.questions {
				for _, size := range []int{0, 1, 30} {
					if docs := q.pick(stream(1, "fuzz", 0), asked, size); len(docs) != len(asked.gold)+size {
						t.Errorf("%d documents", len(docs))
					}
				}
			}
		}
	})
}
