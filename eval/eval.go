// Package eval runs long-context benchmarks over any model: it makes the prompts, hands them to a function that
// generates, and scores what comes back as the benchmark's own scorer does. It imports no part of the engine.
package eval

import (
	"context"
	"time"

	"github.com/pbs-run/pbs-run/eval/synthetic"
)

// A Prompt is one user message and the start of the answer.
type Prompt = synthetic.Prompt

// An Output is what a model made of a Prompt.
type Output struct {
	Text         string        // the continuation alone, without the prefix and without special tokens
	PromptTokens int           // tokens of the rendered prompt, prefix included
	NewTokens    int           // tokens generated
	TTFT         time.Duration // from the call to the first token
	Total        time.Duration // from the call to the last token
}

// Generate answers one prompt greedily with at most maxNew tokens. An error spoils that sample, not the run.
type Generate func(ctx context.Context, p Prompt, maxNew int) (Output, error)

// Count returns the tokens of the rendered prompt, exactly as Generate would see it: template, special tokens and
// prefix included.
type Count = synthetic.Count

// Progress tells how far a run has come, after each sample.
type Progress struct {
	Task    string
	Done    int
	Samples int
	Failed  int
	Score   float64 // of the samples done, 0 to 100
}
