// Package synthetic makes the prompts of the long-context benchmarks that are made by rule: the 13 tasks of RULER
// (arXiv 2404.06654, github.com/NVIDIA/RULER) and three of InfiniteBench (arXiv 2402.13718,
// github.com/OpenBMB/InfiniteBench). A sample comes from a seed and its index alone, at any length and with any
// tokenizer.
//
// Wording, layout, amounts and answers are those of the benchmarks' own generators. What differs, on purpose:
//   - The random numbers. Python's are not reproduced, so the rows are of the same kind but not the same.
//   - RULER orders needles, words and documents by one shuffle for all samples of a run; here each sample has its
//     own, so that it can be made alone. The filler lines of the worked example in vt are drawn anew as well.
//   - No needle but the one asked for has its key or its value. RULER leaves that to chance.
//   - Words are plain English by default, which spares small vocabularies; Config.Words has RULER's own lists.
//   - Sentences of an essay end at a full stop, question or exclamation mark; RULER asks nltk.
//   - Where cwe needs more words than the lists have, pairs of them are added; RULER takes a longer list then.
//   - The search for the amount of filling goes in steps of 1/256 of an estimate.
package synthetic

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// A Prompt is one user message and the start of the answer. The message goes through the model's chat template;
// the prefix stands behind the template's assistant header as it is, leading blank included, and the model
// continues it.
type Prompt struct {
	User   string
	Prefix string
}

// Count returns the tokens of a rendered prompt: template, special tokens and prefix included.
type Count func(Prompt) (int, error)

// A Config says which samples a Generator makes.
type Config struct {
	Task   string // of RULERTasks or InfiniteBenchTasks
	Length int    // tokens of the rendered prompt and the answer together, at most
	Seed   uint64

	Essay    string     // plain text that needles are hidden in, for the tasks that NeedsEssay names
	Words    Words      // of needles' keys and of cwe
	SQuAD    *Questions // for qa_1
	HotpotQA *Questions // for qa_2
	Template string     // InfiniteBench: wording with {context} and {input}; "" for that of the gpt4 family
}

// Words names the lists of words that needles' keys and cwe are made of.
type Words string

const (
	// PlainWords are this project's own: 300 adjectives and 440 nouns in everyday use, which the small vocabulary of
	// the demo model has. Where cwe needs more, wonderwords follow.
	PlainWords Words = ""
	// Wonderwords are RULER's: the adjectives, nouns and, for cwe, verbs of the Python package of that name.
	Wonderwords Words = "wonderwords"
)

// A Sample is one item of a task.
type Sample struct {
	Index   int
	Prompt  Prompt
	Outputs []string // what a right answer holds
	Tokens  int      // Count of Prompt
	MaxNew  int      // tokens the answer may take

	Context, Input string // fields of InfiniteBench's rows; empty for RULER
}

// RULERTasks are RULER's tasks, in its order.
func RULERTasks() []string {
	return []string{
		"niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2", "niah_multikey_3",
		"niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe", "qa_1", "qa_2",
	}
}

// InfiniteBenchTasks are the tasks of InfiniteBench whose rows are made by rule; the others have files.
func InfiniteBenchTasks() []string { return []string{"passkey", "number_string", "kv_retrieval"} }

// NeedsEssay reports whether a task hides its needles in Config.Essay.
func NeedsEssay(task string) bool {
	spec, ok := needleTask(task)
	return ok && spec.haystack == essayHaystack
}

// An item is a sample before its tokens are counted.
type item struct {
	prompt         Prompt
	outputs        []string
	context, input string // InfiniteBench alone
}

// A builder makes sample index with size units of filling. More units never make a shorter text, whatever the draws
// of random numbers, but for the small differences between one word or number and another.
type builder func(rng *rand.Rand, index, size int) item

// A task is how one benchmark task is made.
type task struct {
	name    string
	maxNew  int // tokens_to_generate
	probe   int // units of filling that the first estimate is made with
	samples int // samples there are; 0 for no end
	build   builder
}

// newTask prepares the task of a Config.
func newTask(c Config, count Count) (task, error) {
	if spec, ok := needleTask(c.Task); ok {
		return newNeedleTask(c, spec)
	}
	switch c.Task {
	case "vt":
		return newTraceTask(c, count)
	case "cwe":
		return newCommonWordsTask(c)
	case "fwe":
		return newFrequentWordsTask(c), nil
	case "qa_1":
		return newQuestionTask(c.Task, c.SQuAD, squad)
	case "qa_2":
		return newQuestionTask(c.Task, c.HotpotQA, hotpotQA)
	case "passkey", "number_string", "kv_retrieval":
		return newInfiniteTask(c)
	}
	return task{}, fmt.Errorf("unknown task %q; known are %s", c.Task,
		strings.Join(slices.Concat(RULERTasks(), InfiniteBenchTasks()), ", "))
}
