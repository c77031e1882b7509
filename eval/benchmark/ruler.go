package benchmark

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pbs-run/pbs-run/eval"
)

// RULER makes the tasks of RULER (arXiv 2404.06654) from rows that RULER's own scripts have generated: files
// <task>/validation.jsonl or <task>.jsonl.
type RULER struct {
	Source
	Model string // name of the folder of predictions
}

// rulerRow is a row as RULER's scripts write it. Its index is left aside: in the needle tasks it is the answer's place in
// the text, by a slip, and may come twice. Old rows have no answer prefix: their input ends with it.
type rulerRow struct {
	Input   string   `json:"input"`
	Outputs []string `json:"outputs"`
	Length  int      `json:"length"`
	Prefix  string   `json:"answer_prefix"`

	index int
}

// RULERLine is a line of <task>.jsonl.
type RULERLine struct {
	Index   int      `json:"index"` // of the row, from 0
	Pred    string   `json:"pred"`
	Outputs []string `json:"outputs"`
	Length  int      `json:"length,omitempty"` // of prompt and answer, as the task was made for
	Error   string   `json:"error,omitempty"`
}

// Load makes the task called name, whose answers take at most maxNew tokens.
func (b RULER) Load(name string, maxNew int) (eval.Task, error) {
	task := eval.Task{Name: name, File: path.Join("pred", b.Model, name+".jsonl"), LineID: eval.LineIndex,
		Rules: eval.Rules{MaxNewTokens: maxNew, ChatTemplate: true}}
	var rows []rulerRow
	sum := newDigest()
	source, err := b.source(name)
	if err != nil {
		return task, err
	}
	at := -1
	task.Skipped, err = source.rows(name, func(row []byte) (string, func(), error) {
		r := rulerRow{}
		at++
		if err := decode(row, &r, "input", "outputs"); err != nil {
			return "", nil, err
		}
		if len(r.Outputs) == 0 {
			return "", nil, fmt.Errorf("field outputs: empty")
		}
		r.index = at
		id := strconv.Itoa(at)
		return id, func() {
			sum.add(id, r.Input, r.Prefix)
			rows, task.IDs = append(rows, r), append(task.IDs, id)
		}, nil
	})
	if err != nil {
		return task, err
	}
	task.Digest = sum.String()
	task.Bytes = func(i int) int { return len(rows[i].Input) + len(rows[i].Prefix) }
	task.Item = func(i int) eval.Item {
		r := rows[i]
		return eval.Item{
			ID: task.IDs[i],
			First: func() (eval.Request, error) {
				return eval.Request{Prompt: eval.Prompt{User: r.Input, Prefix: r.Prefix}, MaxNew: maxNew}, nil
			},
			Line: func(answers []string, failure string) any {
				line := RULERLine{Index: r.index, Outputs: r.Outputs, Length: r.Length, Error: failure}
				if failure == "" {
					line.Pred = answers[0]
				}
				return line
			},
		}
	}
	return task, nil
}

// source finds the file of a task that has a folder of its own, as RULER's scripts make them.
func (b RULER) source(name string) (Source, error) {
	s := b.Source
	files, err := filepath.Glob(filepath.Join(b.Data, name, "*.jsonl"))
	if err != nil || len(files) == 0 {
		return s, err
	}
	if official := filepath.Join(b.Data, name, "validation.jsonl"); slices.Contains(files, official) {
		files = []string{official}
	}
	if len(files) > 1 {
		return s, fmt.Errorf("task %s: %s are too many: pass one with --data and --tasks %s", name, strings.Join(files, ", "), name)
	}
	s.Data = files[0]
	return s, nil
}
