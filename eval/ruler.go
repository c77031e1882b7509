package eval

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/pbs-run/pbs-run/eval/metric"
)

// RULERTasks are the tasks of RULER (arXiv 2404.06654) that RunRULER knows.
func RULERTasks() []string { return []string{"niah_single_2", "niah_multikey_1"} }

// A builder makes the prompt of one sample, and what a right answer holds, with size units of filling. The same
// random numbers give the same sample but for the filling. More units never make a shorter text.
type builder func(rng *rand.Rand, size int) (Prompt, []string)

// A rulerTask is one of RULER's tasks.
type rulerTask struct {
	name   string
	maxNew int                                         // tokens_to_generate
	match  func(pred string, outputs []string) float64 // MatchAll or MatchPart
	probe  int                                         // units of filling that the first estimate is made with
	build  builder
}

// newRULERTask returns the task called name over the words of an essay.
func newRULERTask(name string, essay []string) (rulerTask, error) {
	switch name {
	case "niah_single_2":
		return rulerTask{name, 128, metric.MatchAll, 500, niah(essay, 1)}, nil
	case "niah_multikey_1":
		return rulerTask{name, 128, metric.MatchAll, 500, niah(essay, 4)}, nil
	}
	return rulerTask{}, fmt.Errorf("ruler: unknown task %q; known are %s", name, strings.Join(RULERTasks(), ", "))
}

// maxLength bounds the prompts' lengths in tokens, far beyond any model, so that a slip of the keyboard does not
// fill the memory.
const maxLength = 1 << 22

// A Generator makes the samples of one RULER task at one length, each from the seed and its index alone.
type Generator struct {
	task   rulerTask
	count  Count
	length int
	seed   uint64
	size   int // units of filling that fit with sample 0
	step   int // units to take away where another sample is longer
}

// NewGenerator prepares a task: it finds how much of essay fits in a prompt of at most length tokens, those to be
// generated included. RULER's way: an estimate from a first prompt, then a binary search up to three times that
// much. Here its steps are 1/256 of the estimate, so that a search counts about ten prompts at any length and
// leaves at most 1 % of the length unused where the text is even.
func NewGenerator(task, essay string, length int, seed uint64, count Count) (*Generator, error) {
	words := strings.Fields(essay)
	if len(words) == 0 {
		return nil, fmt.Errorf("ruler: the essay has no words; pass --essay FILE")
	}
	t, err := newRULERTask(task, words)
	if err != nil {
		return nil, err
	}
	if length > maxLength {
		return nil, fmt.Errorf("ruler: --length %d: at most %d", length, maxLength)
	}
	g := &Generator{task: t, count: count, length: length, seed: seed}
	bare, err := g.tokens(0)
	if err != nil {
		return nil, err
	}
	if bare > length {
		return nil, fmt.Errorf("ruler: %s takes %d tokens without any filling, %d of them for the answer: --length %d is too short",
			task, bare, t.maxNew, length)
	}
	first, err := g.tokens(t.probe)
	if err != nil {
		return nil, err
	}
	estimate := int(float64(t.probe) * float64(length) / float64(first))
	g.step = max(1, estimate/256)
	if err := g.search(3 * estimate / g.step); err != nil {
		return nil, err
	}
	return g, nil
}

// search sets size to the largest multiple of step, up to limit steps, that fits.
func (g *Generator) search(limit int) error {
	fits, over := 0, limit+1
	for over-fits > 1 {
		middle := (fits + over) / 2
		n, err := g.tokens(middle * g.step)
		if err != nil {
			return err
		}
		if n <= g.length {
			fits = middle
		} else {
			over = middle
		}
	}
	g.size = fits * g.step
	return nil
}

// tokens returns the length of sample 0 with size units of filling, the answer included.
func (g *Generator) tokens(size int) (int, error) {
	s, err := g.sample(0, size)
	return s.Tokens + s.MaxNew, err
}

// sample makes sample index with size units of filling and counts its tokens.
func (g *Generator) sample(index, size int) (Sample, error) {
	p, outputs := g.task.build(stream(g.seed, g.task.name, index), size)
	n, err := g.count(p)
	if err != nil {
		return Sample{}, fmt.Errorf("ruler: count tokens of %s sample %d: %w", g.task.name, index, err)
	}
	return Sample{Index: index, Prompt: p, Outputs: outputs, Tokens: n, MaxNew: g.task.maxNew}, nil
}

// Sample makes sample index. Its prompt and its answer together take at most the length asked for.
func (g *Generator) Sample(index int) (Sample, error) {
	for size := g.size; size >= 0; size -= g.step { // size is a multiple of step
		s, err := g.sample(index, size)
		if err != nil || s.Tokens+s.MaxNew <= g.length {
			return s, err
		}
	}
	return Sample{}, fmt.Errorf("ruler: %s sample %d does not fit even without filling: --length %d is too short",
		g.task.name, index, g.length)
}
