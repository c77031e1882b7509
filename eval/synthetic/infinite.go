package synthetic

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
)

// InfiniteBench's wording of the prompts for the gpt4 family (MIT). Config.Template takes the place of these.
const (
	passkeyTemplate = "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. " +
		"I will quiz you about the important information there.\n\n{context}\n\n{input}"
	numberTemplate = "There is an important info hidden inside a lot of irrelevant text. Find it. " +
		"I will quiz you about the important information there.\n\n{context}\n\n{input}"
	pairsTemplate = "Extract the value corresponding to the specified key in the JSON object below.\n\n{context}\n\n{input}"
)

// newInfiniteTask returns one of InfiniteBenchTasks, laid out as construct_synthetic_dataset.py does. The unit of
// filling is a line of noise, or a pair of a key and a value. InfiniteBench puts its answers at even steps of depth;
// here so many parts of the text as there are samples hold about one answer each, however many there are.
func newInfiniteTask(c Config) (task, error) {
	t := task{name: c.Task, probe: 100}
	var template string
	var build func(rng *rand.Rand, depth float64, size int) item
	switch c.Task {
	case "passkey":
		t.maxNew, template = 6, passkeyTemplate
		build = hiddenDigits("pass key", func(rng *rand.Rand) string { return digits(rng, 5) })
	case "number_string":
		t.maxNew, template = 12, numberTemplate
		build = hiddenDigits("sequence of digits", doubledDigits)
	case "kv_retrieval":
		t.maxNew, template = 50, pairsTemplate
		build = pairs
	}
	if c.Template != "" {
		template = c.Template
		for _, field := range []string{"{context}", "{input}"} {
			if !strings.Contains(template, field) {
				return task{}, fmt.Errorf("%s: the template has no %s", c.Task, field)
			}
		}
	}
	start := stream(c.Seed, c.Task+" depth", 0).Float64()
	t.build = func(rng *rand.Rand, index, size int) item {
		_, depth := math.Modf(start + float64(index)*(math.Phi-1)) // steps by the golden ratio spread most evenly
		it := build(rng, depth, size)
		it.prompt.User = strings.NewReplacer("{context}", it.context, "{input}", it.input).Replace(template)
		return it
	}
	return t, nil
}

// hiddenDigits returns how a text of noise is made with what, a random string of digits, said twice in one line.
func hiddenDigits(what string, draw func(*rand.Rand) string) func(*rand.Rand, float64, int) item {
	return func(rng *rand.Rand, depth float64, size int) item {
		key := draw(rng)
		before := int(depth * float64(size+1))
		line := "The " + what + " is " + key + ". Remember it. " + key + " is the " + what + ".\n"
		return item{
			context: strings.Repeat(noise+"\n", before) + line + strings.Repeat(noise+"\n", size-before),
			input:   "What is the " + what + "?",
			outputs: []string{key},
		}
	}
}

// digits returns n random digits.
func digits(rng *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = '0' + byte(rng.IntN(10))
	}
	return string(b)
}

// doubledDigits returns ten digits: five random ones, and five times one of those there are is doubled in its place.
func doubledDigits(rng *rand.Rand) string {
	s := digits(rng, 5)
	for len(s) < 10 {
		i := rng.IntN(len(s))
		s = s[:i] + s[i:i+1] + s[i:]
	}
	return s
}

// pairs makes a JSON object of size+1 pairs of UUIDs and asks for the value of one key.
func pairs(rng *rand.Rand, depth float64, size int) item {
	asked := int(depth * float64(size+1))
	var it item
	var b strings.Builder
	b.WriteString("JSON data:\n{")
	for i := range size + 1 {
		key, value := uuid(rng), uuid(rng)
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(`"` + key + `": "` + value + `"`)
		if i == asked {
			it.input = "\nKey: \"" + key + "\"\nThe value associated with the specified key is: "
			it.outputs = []string{value}
		}
	}
	it.context = b.String() + "}"
	return it
}
