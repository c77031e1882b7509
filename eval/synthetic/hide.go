package synthetic

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// A Hidden is a document with one needle in it, and the question that only the needle answers.
type Hidden struct {
	Document string // the document, unchanged but for the needle
	Question string
	Answer   string // the seven digits a right answer holds
	Offset   int    // byte of Document where the needle starts
	Prompt   Prompt // document and question in RULER's wording
}

// HideNeedle hides one needle of RULER's kind in document, at a place and with a key and number drawn from seed.
// It stands, after a blank, behind the first sentence that ends at or after a random byte; where none does, as a
// line of its own behind the line the byte is in. Nothing else of the document changes.
func HideNeedle(document string, seed uint64) (Hidden, error) {
	if strings.TrimSpace(document) == "" {
		return Hidden{}, fmt.Errorf("hide needle: the document is empty")
	}
	rng := stream(seed, "needle", 0)
	words, err := newVocabulary(PlainWords)
	if err != nil {
		return Hidden{}, err
	}
	m := needleMaker{needleSpec: needleSpec{keys: 1, values: 1, queries: 1}, words: words}
	n, err := m.foreign(rng, document)
	if err != nil {
		return Hidden{}, err
	}
	from := rng.IntN(len(document))
	at, gap := sentenceEnd(document, from), " "
	if at < 0 {
		at, gap = lineEnd(document, from), "\n"
	}
	h := Hidden{
		Document: document[:at] + gap + n.String() + document[at:],
		Question: wording(needleQuestion, n.kind, n.key, true),
		Answer:   n.value,
		Offset:   at + len(gap),
	}
	h.Prompt = m.prompt(h.Document, []needle{n})
	return h, nil
}

// foreign draws a needle whose key and value the document does not hold already.
func (m needleMaker) foreign(rng *rand.Rand, document string) (needle, error) {
	for range 100 {
		n := m.draw(rng)[0]
		if !strings.Contains(document, n.key) && !strings.Contains(document, n.value) {
			return n, nil
		}
	}
	return needle{}, fmt.Errorf("hide needle: the document holds every key and number tried; take another seed")
}

// sentenceEnd returns the first offset from `from` on where a sentence ends: behind a full stop, question or
// exclamation mark and before white space; -1 if there is none.
func sentenceEnd(document string, from int) int {
	for i := from + 1; i < len(document); i++ {
		if strings.IndexByte(".?!", document[i-1]) >= 0 && strings.IndexByte(" \t\r\n", document[i]) >= 0 {
			return i
		}
	}
	return -1
}

// lineEnd returns the first offset from `from` on that a line ends at, its newline not included.
func lineEnd(document string, from int) int {
	if i := strings.IndexByte(document[from:], '\n'); i >= 0 {
		return from + i
	}
	return len(document)
}
