package synthetic

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// maxLength bounds the prompts' lengths in tokens, far beyond any model, so that a slip of the keyboard does not
// fill the memory.
const maxLength = 1 << 22

// A Generator makes the samples of one task at one length, each from the seed and its index alone.
type Generator struct {
	task   task
	count  Count
	length int
	seed   uint64
	size   int // units of filling that fit with sample 0
	step   int // units to take away where another sample is longer
}

// Check finds what is wrong with a Config but for its length, at little cost.
func (c Config) Check() error {
	_, err := newTask(c, func(Prompt) (int, error) { return 0, nil })
	return err
}

// New prepares a task: it finds how much filling fits in a prompt of at most Length tokens, those to be generated
// included. RULER's way: an estimate from a first prompt, then a binary search up to three times that much. Here
// its steps are 1/256 of the estimate, so that a search counts about ten prompts at any length and leaves at most
// 1 % of the length unused where the filling is even.
func New(c Config, count Count) (*Generator, error) {
	if c.Length > maxLength {
		return nil, fmt.Errorf("%s: --length %d: at most %d", c.Task, c.Length, maxLength)
	}
	t, err := newTask(c, count)
	if err != nil {
		return nil, err
	}
	g := &Generator{task: t, count: count, length: c.Length, seed: c.Seed}
	bare, err := g.tokens(0)
	if err != nil {
		return nil, err
	}
	if bare > c.Length {
		return nil, fmt.Errorf("%s takes %d tokens without any filling, %d of them for the answer: --length %d is too short",
			c.Task, bare, t.maxNew, c.Length)
	}
	first, err := g.tokens(t.probe)
	if err != nil {
		return nil, err
	}
	estimate := int(float64(t.probe) * float64(c.Length) / float64(first))
	g.step = max(1, estimate/256)
	steps, err := largest(0, 3*estimate/g.step, func(steps int) (bool, error) {
		n, err := g.tokens(steps * g.step)
		return n <= g.length, err
	})
	g.size = steps * g.step
	return g, err
}

// largest returns the largest number up to high that fits, by halving; low is known to fit.
func largest(low, high int, fits func(int) (bool, error)) (int, error) {
	over := high + 1
	for over-low > 1 {
		middle := (low + over) / 2
		ok, err := fits(middle)
		if err != nil {
			return 0, err
		}
		if ok {
			low = middle
		} else {
			over = middle
		}
	}
	return low, nil
}

// Samples returns how many samples there are; 0 means any number.
func (g *Generator) Samples() int { return g.task.samples }

// tokens returns the length of sample 0 with size units of filling, the answer included.
func (g *Generator) tokens(size int) (int, error) {
	s, err := g.sample(0, size)
	return s.Tokens + s.MaxNew, err
}

// sample makes sample index with size units of filling and counts its tokens.
func (g *Generator) sample(index, size int) (Sample, error) {
	it := g.task.build(stream(g.seed, g.task.name, index), index, size)
	n, err := g.count(it.prompt)
	if err != nil {
		return Sample{}, fmt.Errorf("count tokens of %s sample %d: %w", g.task.name, index, err)
	}
	return Sample{
		Index: index, Prompt: it.prompt, Outputs: it.outputs, Tokens: n, MaxNew: g.task.maxNew,
		Context: it.context, Input: it.input,
	}, nil
}

// Sample makes sample index, from 0. Its prompt and its answer together take at most the length asked for.
func (g *Generator) Sample(index int) (Sample, error) {
	if g.task.samples > 0 && index >= g.task.samples {
		return Sample{}, fmt.Errorf("%s sample %d: the file has only %d questions", g.task.name, index, g.task.samples)
	}
	for size := g.size; size >= 0; size -= g.step { // size is a multiple of step
		s, err := g.sample(index, size)
		if err != nil || s.Tokens+s.MaxNew <= g.length {
			return s, err
		}
	}
	return Sample{}, fmt.Errorf("%s sample %d does not fit even without filling: --length %d is too short",
		g.task.name, index, g.length)
}

// stream returns the random numbers of one sample. They depend on nothing else, so that any sample can be made
// alone.
func stream(seed uint64, task string, index int) *rand.Rand {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %d", seed, task, index))
	return rand.New(rand.NewPCG(binary.LittleEndian.Uint64(sum[:8]), binary.LittleEndian.Uint64(sum[8:16])))
}
