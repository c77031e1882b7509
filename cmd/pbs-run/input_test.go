package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestOneBOS feeds plain text that brings the BOS that the tokenizer would add.
func TestOneBOS(t *testing.T) {
	const bos = "<|begin_of_text|>"
	for _, c := range []struct {
		text   string
		warns  bool
		tokens int // more than those of "hello"
	}{
		{"hello", false, 0},
		{bos + "hello", true, 0},
		{bos + bos + "hello", true, 1}, // what the user wrote twice stays written once more
		{"hello" + bos, false, 1},
		{bos, true, -3},
	} {
		stdout, stderr, err := pbsRun("", "generate", "--model", models+"llama-f16", "--no-chat-template", "-n", "1", "--seed", "1", "--json", c.text)
		if err != nil {
			t.Fatal(err)
		}
		var r result
		if err := json.Unmarshal([]byte(stdout), &r); err != nil {
			t.Fatal(err)
		}
		if got := r.PromptTokens - 4; got != c.tokens {
			t.Errorf("%q: %d tokens more than hello, want %d", c.text, got, c.tokens)
		}
		if got := strings.Contains(stderr, "no second one"); got != c.warns {
			t.Errorf("%q: stderr %q", c.text, stderr)
		}
	}
}
