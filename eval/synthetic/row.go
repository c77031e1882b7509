package synthetic

import (
	"fmt"
	"strings"
)

// A RULERRow is a sample as a line of RULER's own files has it. RULER's needle rows have the answer's character
// position as their index, by a slip; here it is the sample's.
type RULERRow struct {
	Index               int      `json:"index"`
	Input               string   `json:"input"`
	Outputs             []string `json:"outputs"`
	Length              int      `json:"length"`              // tokens, those to be generated included
	LengthWithTemplate  int      `json:"length_w_model_temp"` // the same with the chat template
	AnswerPrefix        string   `json:"answer_prefix"`
	TokenPositionAnswer *int     `json:"token_position_answer,omitempty"` // tokens before the first answer; needle tasks alone
}

// RULERRow returns the line of a sample of RULER. It counts the tokens of one or two prompts.
func (g *Generator) RULERRow(s Sample) (RULERRow, error) {
	template, err := g.count(Prompt{})
	if err != nil {
		return RULERRow{}, fmt.Errorf("count tokens of an empty prompt: %w", err)
	}
	row := RULERRow{
		Index: s.Index, Input: s.Prompt.User, Outputs: s.Outputs, AnswerPrefix: s.Prompt.Prefix,
		Length: s.Tokens + s.MaxNew - template, LengthWithTemplate: s.Tokens + s.MaxNew,
	}
	if _, ok := needleTask(g.task.name); ok {
		n, err := g.count(Prompt{User: s.Prompt.User[:strings.Index(s.Prompt.User, s.Outputs[0])]})
		if err != nil {
			return RULERRow{}, fmt.Errorf("count tokens before the answer of %s sample %d: %w", g.task.name, s.Index, err)
		}
		n -= template
		row.TokenPositionAnswer = &n
	}
	return row, nil
}

// An InfiniteRow is a sample as a line of InfiniteBench's files has it.
type InfiniteRow struct {
	ID      int      `json:"id"`
	Context string   `json:"context"`
	Input   string   `json:"input"`
	Answer  []string `json:"answer"`
	Options []string `json:"options"` // always empty
}

// InfiniteRow returns the line of a sample of InfiniteBench.
func (s Sample) InfiniteRow() InfiniteRow {
	return InfiniteRow{ID: s.Index, Context: s.Context, Input: s.Input, Answer: s.Outputs, Options: []string{}}
}
