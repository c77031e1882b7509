package synthetic

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// RULER's wording of common and frequent words extraction (Apache-2.0).
const (
	commonIntro = "Below is a numbered list of words. In these words, some appear more often than others. " +
		"Memorize the ones that appear most often.\n"
	commonQuestion = "\nQuestion: What are the 10 most common words in the above list?"
	commonPrefix   = " Answer: The top 10 words that appear most often in the list are:"

	frequentIntro = "Read the following coded text and track the frequency of each coded word. " +
		"Find the three most frequently appeared coded words. "
	frequentQuestion = "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. " +
		"What are the three most frequently appeared words in the above coded text?"
	frequentPrefix = " Answer: According to the coded text above, the three most frequently appeared words are:"
)

// common is how many words of cwe are common.
const common = 10

// A wordList is how a list of cwe is made.
type wordList struct{ words, commonRepeats, otherRepeats int }

// draw returns a numbered list of l.words words of pool in random order, and the common ones among them.
func (l wordList) draw(rng *rand.Rand, pool []string) (list string, commonWords []string) {
	pool = slices.Clone(pool)
	rng.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
	commonWords = pool[:common]
	words := slices.Concat(slices.Repeat(commonWords, l.commonRepeats), slices.Repeat(pool[common:l.words], l.otherRepeats))
	rng.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
	return number(words), commonWords
}

// number writes words as "1. first 2. second".
func number(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strconv.Itoa(i+1) + ". " + w)
	}
	return b.String()
}

// newCommonWordsTask returns cwe: ten words come often, the others seldom, after a worked example. The unit of
// filling is an uncommon word. Below 4,096 tokens RULER has fewer repeats.
func newCommonWordsTask(c Config) (task, error) {
	words, err := newVocabulary(c.Words)
	if err != nil {
		return task{}, err
	}
	more := sorted(lines(wonderAdjectives), lines(wonderNouns), lines(wonderVerbs))
	example, main := wordList{40, 10, 3}, wordList{0, 30, 3}
	if c.Length < 4096 {
		example, main = wordList{20, 3, 1}, wordList{0, 6, 1}
	}
	build := func(rng *rand.Rand, _, size int) item {
		worked, answer := example.draw(rng, words.all)
		l := main
		l.words = common + size
		list, commonWords := l.draw(rng, words.atLeast(rng, l.words, more))
		return item{
			prompt: Prompt{
				User: commonIntro + worked + commonQuestion + commonPrefix + " " + number(answer) + "\n" +
					commonIntro + list + commonQuestion,
				Prefix: commonPrefix,
			},
			outputs: commonWords,
		}
	}
	return task{name: c.Task, maxNew: 120, probe: 400, build: build}, nil
}

const (
	zeta2         = math.Pi * math.Pi / 6 // Riemann's zeta of 2, the sum of k^-2
	frequentWords = 100                   // drawn at least, so that the fourth word comes more often than the fifth
)

// newFrequentWordsTask returns fwe: coded words whose frequency falls with the square of their rank; the first rank
// is dots. The unit of filling is one expected word.
func newFrequentWordsTask(c Config) task {
	const maxNew = 50
	vocabulary := max(5, (c.Length-maxNew)/50)
	build := func(rng *rand.Rand, _, size int) item {
		coded := []string{"..."}
		seen := map[string]bool{}
		for len(coded) < vocabulary {
			if w := drawLetters(rng, 'a', 6); !seen[w] {
				seen[w] = true
				coded = append(coded, w)
			}
		}
		words := zipf(coded, frequentWords+size)
		rng.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
		return item{
			prompt:  Prompt{User: frequentIntro + strings.Join(words, " ") + frequentQuestion, Prefix: frequentPrefix},
			outputs: coded[1:4],
		}
	}
	return task{name: c.Task, maxNew: maxNew, probe: 500, build: build}
}

// zipf repeats word k of coded, from 1, n * k^-2 / zeta(2) times, rounded down.
func zipf(coded []string, n int) []string {
	words := make([]string, 0, n)
	for i, w := range coded {
		times := int(float64(n) * math.Pow(float64(i+1), -2) / zeta2)
		words = append(words, slices.Repeat([]string{w}, times)...)
	}
	return words
}
