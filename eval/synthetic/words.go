package synthetic

import (
	_ "embed"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// The plain lists are this project's own, one word per line. The wonderwords lists are those of the Python package
// wonderwords 3.0.1 that RULER draws from (MIT, words/wonderwords/LICENSE), one word or phrase per line.
var (
	//go:embed words/adjectives.txt
	plainAdjectives string
	//go:embed words/nouns.txt
	plainNouns string
	//go:embed words/wonderwords/adjectives.txt
	wonderAdjectives string
	//go:embed words/wonderwords/nouns.txt
	wonderNouns string
	//go:embed words/wonderwords/verbs.txt
	wonderVerbs string
)

// lines splits a list. Some lines of wonderwords end in a blank, which does not belong to the word.
func lines(list string) []string {
	words := strings.Split(strings.TrimSuffix(list, "\n"), "\n")
	for i, w := range words {
		words[i] = strings.TrimRight(w, " ")
	}
	return words
}

// A vocabulary is the words that needles' keys and the lists of cwe are made of.
type vocabulary struct {
	adjectives, nouns []string
	all               []string // sorted, each once
}

func newVocabulary(w Words) (vocabulary, error) {
	switch w {
	case PlainWords:
		v := vocabulary{adjectives: lines(plainAdjectives), nouns: lines(plainNouns)}
		v.all = sorted(v.adjectives, v.nouns)
		return v, nil
	case Wonderwords:
		v := vocabulary{adjectives: lines(wonderAdjectives), nouns: lines(wonderNouns)}
		v.all = sorted(v.adjectives, v.nouns, lines(wonderVerbs))
		return v, nil
	}
	return vocabulary{}, fmt.Errorf("--words %s: unknown; leave it out, or take %s", w, Wonderwords)
}

// sorted returns the words of all lists, each once.
func sorted(lists ...[]string) []string {
	words := slices.Concat(lists...)
	slices.Sort(words)
	return slices.Compact(words)
}

// pair returns an adjective and a noun as one word.
func (v vocabulary) pair(rng *rand.Rand) string {
	adjective := v.adjectives[rng.IntN(len(v.adjectives))]
	return adjective + "-" + v.nouns[rng.IntN(len(v.nouns))]
}

// atLeast returns need different words or more: all there are, then those of more in random order, then pairs.
func (v vocabulary) atLeast(rng *rand.Rand, need int, more []string) []string {
	if need <= len(v.all) {
		return v.all
	}
	words := slices.Clone(v.all)
	seen := make(map[string]bool, need)
	for _, w := range words {
		seen[w] = true
	}
	more = slices.Clone(more)
	rng.Shuffle(len(more), func(i, j int) { more[i], more[j] = more[j], more[i] })
	for len(words) < need {
		var w string
		if len(more) > 0 {
			w, more = more[0], more[1:]
		} else {
			w = v.pair(rng)
		}
		if !seen[w] {
			seen[w] = true
			words = append(words, w)
		}
	}
	return words
}
