// Package eval runs long-context benchmarks over any model: it makes the prompts, hands them to a function that
// generates, and scores what comes back as the benchmark's own scorer does. It imports no part of the engine.
package eval

// A Prompt is one user message and the start of the answer. The message goes through the model's chat template;
// the prefix stands behind the template's assistant header as it is, leading blank included, and the model
// continues it.
type Prompt struct {
	User   string
	Prefix string
}

// Count returns the tokens of the rendered prompt, exactly as Generate would see it: template, special tokens and
// prefix included.
type Count func(p Prompt) (int, error)

// A Sample is one item of a task.
type Sample struct {
	Index   int
	Prompt  Prompt
	Outputs []string // what a right answer holds
	Tokens  int      // Count of Prompt
	MaxNew  int      // tokens the answer may take
}
