package synthetic

import (
	_ "embed"
	"fmt"
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

// keyWords returns the adjectives and nouns that keys are made of.
func keyWords(k KeyWords) (adjectives, nouns []string, err error) {
	switch k {
	case PlainKeys:
		return lines(plainAdjectives), lines(plainNouns), nil
	case WonderwordsKeys:
		return lines(wonderAdjectives), lines(wonderNouns), nil
	}
	return nil, nil, fmt.Errorf("--keys %s: unknown; leave it out, or take %s", k, WonderwordsKeys)
}

// allWords returns all words of wonderwords, sorted, each once.
func allWords() []string {
	words := slices.Concat(lines(wonderAdjectives), lines(wonderNouns), lines(wonderVerbs))
	slices.Sort(words)
	return slices.Compact(words)
}
