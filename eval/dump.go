package eval

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
)

// dumped is one line of a file of prompts.
type dumped struct {
	Task         string `json:"task"`
	ID           string `json:"_id"`
	PromptSHA256 string `json:"prompt_sha256"` // of the prompt before the chat template, cut to length
	SHA256       string `json:"sha256"`        // of text
	Tokens       int    `json:"tokens"`
	MaxNew       int    `json:"max_new_tokens"`
	Text         string `json:"text"` // as the model reads it
	Error        string `json:"error,omitempty"`
}

// DumpPrompts writes the first prompt of every item that a run takes to a file: its text as the model reads it, how
// many tokens that is, and its hash. The file is there whole or not at all.
func DumpPrompts(ctx context.Context, path string, tasks []Task, limit int, shard Shard, render Render) error {
	err := replaceFile(path, func(to io.Writer) error { return dumpAll(ctx, to, tasks, limit, shard, render) })
	if err != nil {
		return fmt.Errorf("dump prompts: %w", err)
	}
	return nil
}

func dumpAll(ctx context.Context, to io.Writer, tasks []Task, limit int, shard Shard, render Render) error {
	w := bufio.NewWriter(to)
	for _, task := range tasks {
		for _, i := range shard.items(len(task.IDs), limit) {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			line, err := encodeLine(dump(task.Name, task.Item(i), render))
			if err != nil {
				return err
			}
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
	}
	return w.Flush()
}

func dump(task string, item Item, render Render) dumped {
	d := dumped{Task: task, ID: item.ID}
	r, err := item.First()
	if err == nil {
		d.PromptSHA256, d.MaxNew = SHA256(r.User), r.MaxNew
		var prompt Rendering
		if prompt, err = render(r); err == nil {
			d.Text, d.Tokens, d.SHA256 = prompt.Text, prompt.Tokens, SHA256(prompt.Text)
		}
	}
	if err != nil {
		d.Error = err.Error()
	}
	return d
}

// SHA256 is the hash of text in hex.
func SHA256(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
