package eval

import (
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// The wording of the needle tasks with one key and one value asked for, from RULER (arXiv 2404.06654,
// github.com/NVIDIA/RULER, Apache-2.0). The plural in the needle is RULER's.
const (
	niahIntro = "A special magic number is hidden within the following text. Make sure to memorize it. " +
		"I will quiz you about the number afterwards.\n"
	niahNeedle   = "One of the special magic numbers for %s is: %s."
	niahQuestion = "What is the special magic number for %s mentioned in the provided text?"
	niahPrefix   = " The special magic number for %s mentioned in the provided text is"
)

// Keys are an adjective and a noun of these lists, one word per line. The demo model's tokenizer knows the words.
var (
	//go:embed words/adjectives.txt
	adjectives string
	//go:embed words/nouns.txt
	nouns string
)

// A needle is one fact to hide: the magic number of a key.
type needle struct{ key, value string }

func (n needle) String() string { return fmt.Sprintf(niahNeedle, n.key, n.value) }

// niahPrompt asks for the number of key, hidden in context.
func niahPrompt(context, key string) Prompt {
	return Prompt{
		User:   niahIntro + context + "\n" + fmt.Sprintf(niahQuestion, key),
		Prefix: fmt.Sprintf(niahPrefix, key),
	}
}

// niah returns the builder of an essay task: count needles with different keys and values at different depths, one
// of them asked for. The builder's size is the number of words of essay.
func niah(essay []string, count int) builder {
	return func(rng *rand.Rand, size int) (Prompt, []string) {
		needles := drawNeedles(rng, count)
		asked := needles[0]
		rng.Shuffle(count, func(i, j int) { needles[i], needles[j] = needles[j], needles[i] })
		texts := make([]string, count)
		for i, n := range needles {
			texts[i] = n.String()
		}
		return niahPrompt(haystack(essay, size, texts, drawDepths(rng, count)), asked.key), []string{asked.value}
	}
}

// drawNeedles returns count needles, no two with the same key or the same value.
func drawNeedles(rng *rand.Rand, count int) []needle {
	adjectives, nouns := strings.Fields(adjectives), strings.Fields(nouns)
	var needles []needle
	for len(needles) < count {
		n := needle{
			key:   adjectives[rng.IntN(len(adjectives))] + "-" + nouns[rng.IntN(len(nouns))],
			value: strconv.Itoa(1_000_000 + rng.IntN(9_000_000)),
		}
		if !slices.ContainsFunc(needles, func(m needle) bool { return m.key == n.key || m.value == n.value }) {
			needles = append(needles, n)
		}
	}
	return needles
}

// drawDepths returns count different depths in percent, ascending, of RULER's 40 points: 0 to 100 in equal steps,
// rounded.
func drawDepths(rng *rand.Rand, count int) []int {
	const points = 40
	depths := rng.Perm(points)[:count]
	for i, p := range depths {
		depths[i] = int(math.Round(float64(p) * 100 / (points - 1)))
	}
	slices.Sort(depths)
	return depths
}

// stream returns the random numbers of one sample. They depend on nothing else, so that any sample can be made
// alone.
func stream(seed uint64, task string, index int) *rand.Rand {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %d", seed, task, index))
	return rand.New(rand.NewPCG(binary.LittleEndian.Uint64(sum[:8]), binary.LittleEndian.Uint64(sum[8:16])))
}
