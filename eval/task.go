package eval

import (
	"context"
	"time"
)

// A Message is a turn of a conversation.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// A Request is one call of the model: what goes in, and the rule by which the answer ends.
type Request struct {
	Prompt
	Before      []Message // turns in front of the prompt's message, a system message above all
	Plain       bool      // the prompt's text goes in as it is, without the chat template
	KeepLast    int       // drop tokens at the left of the rendered prompt beyond so many; 0 drops none
	MaxNew      int       // tokens the answer may take
	MinNew      int       // tokens before which nothing may end it
	StopNewline bool      // the token that a lone newline is ends it too, and is part of it
	KeepSpecial bool      // special tokens stay in the text, but for those that end an answer: the text ends before the first
	Temperature float64   // 0 takes the likeliest token
	Seed        uint64    // of the draws
}

// An Output is what a model made of a Request.
type Output struct {
	Text         string        // the continuation alone, without the prefix
	PromptTokens int           // tokens of the rendered prompt, prefix included
	NewTokens    int           // tokens generated
	TTFT         time.Duration // from the call to the first token
	Total        time.Duration // from the call to the last token
}

// Generate answers one request. An error spoils that sample, not the run, unless ctx has ended.
type Generate func(ctx context.Context, r Request) (Output, error)

// A Rendering is a prompt as the model reads it.
type Rendering struct {
	Text   string // special tokens written out
	Tokens int
}

// Render renders the prompt of a request as Generate does.
type Render func(r Request) (Rendering, error)

// An Item is one sample of a task.
type Item struct {
	ID    string
	First func() (Request, error) // makes the request, its prompt cut to length
	// Second, if set, makes another request of the answer to the first. The item's answer is then that to the second.
	Second func(answer string) (Request, error)
	// Line is what the prediction file holds of the item: a struct. answers has those that were given, in order; after
	// a failure, which the line tells, fewer.
	Line func(answers []string, failure string) any
}

// A Task is what one prediction file is made of: a data set of LongBench, a task of RULER.
type Task struct {
	Name    string
	File    string   // of the predictions, relative to the method's folder
	IDs     []string // of all items, in order; no two alike
	Digest  string   // SHA-256 of all that the prompts are made from
	Rules   Rules
	Skipped []string                          // why rows were left out
	Item    func(i int) Item                  // item i
	Bytes   func(i int) int                   // about the length of its prompt before it is cut
	LineID  func(line []byte) (string, error) // the ID that a line of the prediction file is of
}

// Rules are the settings of a task that its requests have in common, as the manifest holds them.
type Rules struct {
	MaxNewTokens int     `json:"max_new_tokens"`
	MinNewTokens int     `json:"min_new_tokens,omitempty"`
	StopNewline  bool    `json:"stop_at_newline,omitempty"`
	ChatTemplate bool    `json:"chat_template"`
	Temperature  float64 `json:"temperature"`
	KeepSpecial  bool    `json:"keep_special_tokens,omitempty"`
}
