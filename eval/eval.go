// Package eval runs long-context benchmarks over any model: it hands prompts to a function that generates, keeps what
// comes back in the benchmarks' own layouts, so that a run may stop and go on at any time, and reports the scores. It
// imports no part of the engine.
package eval

import "github.com/pbs-run/pbs-run/eval/synthetic"

// A Prompt is one user message and the start of the answer.
type Prompt = synthetic.Prompt
