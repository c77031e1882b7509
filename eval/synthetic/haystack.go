package synthetic

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// noise is the filler of RULER and InfiniteBench, from the passkey task of arXiv 2305.16300.
const noise = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."

// hideInEssay returns the first size words of the essay, taken again from its start when it is too short, with a
// blank between two words and the needles among them. As in RULER, needle i stands before sentence number
// sentences*depths[i]/100; depths ascend. The joining is RULER's too: a needle at the very start has a blank before
// it, and one at the very end a blank behind it.
func hideInEssay(essay []string, size int, needles []string, depths []int) string {
	words := make([]string, size)
	for n := 0; n < size; {
		n += copy(words[n:], essay)
	}
	starts := sentenceStarts(words)
	sentences := len(starts) - 1
	parts := make([]string, 0, 2*len(needles)+1)
	from := 0
	for i, needle := range needles {
		to := starts[sentences*depths[i]/100]
		parts = append(parts, strings.Join(words[from:to], " "), needle)
		from = to
	}
	parts = append(parts, strings.Join(words[from:], " "))
	return strings.Join(parts, " ")
}

// sentenceStarts returns the index of each sentence's first word and, at the end, the number of words. A sentence
// ends with a word that ends in a full stop, question or exclamation mark.
func sentenceStarts(words []string) []int {
	var starts []int
	for i := range words {
		if i == 0 || strings.ContainsRune(".?!", rune(words[i-1][len(words[i-1])-1])) {
			starts = append(starts, i)
		}
	}
	return append(starts, len(words))
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

// hideInLines joins lines, with the needles as lines of their own before line number at.
func hideInLines(lines []string, at int, needles []string) string {
	return strings.Join(slices.Insert(lines, min(at, len(lines)), needles...), "\n")
}
