package synthetic

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// RULER's wording of variable tracing (Apache-2.0).
const (
	traceIntro    = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
	traceQuestion = "\nQuestion: Find all variables that are assigned the value %s in the text above."
	tracePrefix   = " Answer: According to the chain(s) of variable assignment in the text above, " +
		"%d variables are assigned the value %s, they are: "
)

const (
	traceVariables = 5   // one that is given a number, and 4 hops
	exampleTokens  = 500 // at most, of the worked example in vt without its answer and the chat template
	exampleNoise   = 5   // lines of noise in it at least, so that each assignment has its place
)

// A chain is variables that all have one value: the first is given it, each other takes it from the one before.
type chain struct {
	names []string
	value string
}

// drawChain draws a chain whose names have the given number of capital letters. A name VAR would be misread.
func drawChain(rng *rand.Rand, letters int) chain {
	c := chain{value: strconv.Itoa(10000 + rng.IntN(89999))}
	for len(c.names) < traceVariables {
		name := drawLetters(rng, 'A', letters)
		if name != "VAR" && !slices.Contains(c.names, name) {
			c.names = append(c.names, name)
		}
	}
	return c
}

// drawLetters returns n random letters of the 26 from first on.
func drawLetters(rng *rand.Rand, first byte, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(rng.IntN(26))
	}
	return string(b)
}

// assignments are the lines that say the chain. All but the first end in a blank, as RULER's do.
func (c chain) assignments() []string {
	lines := []string{"VAR " + c.names[0] + " = " + c.value}
	for i, name := range c.names[1:] {
		lines = append(lines, "VAR "+name+" = VAR "+c.names[i]+" ")
	}
	return lines
}

// prompt hides the chain, in its order, before different ones of noiseLines lines of noise.
func (c chain) prompt(rng *rand.Rand, noiseLines int) Prompt {
	assignments := c.assignments()
	places := rng.Perm(noiseLines)[:len(assignments)]
	slices.Sort(places)
	var b strings.Builder
	b.WriteString(traceIntro)
	for i := range noiseLines {
		if len(places) > 0 && places[0] == i {
			b.WriteString(assignments[0] + "\n")
			places, assignments = places[1:], assignments[1:]
		}
		b.WriteString(noise)
		if i < noiseLines-1 {
			b.WriteByte('\n')
		}
	}
	fmt.Fprintf(&b, traceQuestion, c.value)
	return Prompt{User: b.String(), Prefix: fmt.Sprintf(tracePrefix, len(c.names), c.value)}
}

// newTraceTask returns vt. A worked example of about exampleTokens stands before the question; how much noise fits
// in it is found once.
func newTraceTask(c Config, count Count) (task, error) {
	template, err := count(Prompt{})
	if err != nil {
		return task{}, fmt.Errorf("count tokens of an empty prompt: %w", err)
	}
	example, err := largest(exampleNoise, exampleTokens, func(noiseLines int) (bool, error) {
		rng := stream(c.Seed, "vt example", 0)
		p := drawChain(rng, 3).prompt(rng, noiseLines)
		n, err := count(Prompt{User: p.User + p.Prefix})
		return n-template <= exampleTokens, err
	})
	if err != nil {
		return task{}, fmt.Errorf("count tokens of vt's example: %w", err)
	}
	build := func(rng *rand.Rand, _, size int) item {
		asked, worked := drawChain(rng, 5), drawChain(rng, 3)
		for worked.value == asked.value {
			worked = drawChain(rng, 3)
		}
		e := worked.prompt(rng, example)
		p := asked.prompt(rng, size+len(asked.names))
		p.User = e.User + e.Prefix + " " + strings.Join(worked.names, " ") + "\n\n" + p.User
		return item{prompt: p, outputs: asked.names}
	}
	return task{name: c.Task, maxNew: 30, probe: 100, build: build}, nil
}
