package eval

import (
	"fmt"
	"strings"
	"unicode"
)

// toyCount counts one token for every three letters or digits begun and for every mark, and twelve for a chat
// template.
func toyCount(p Prompt) (int, error) {
	n, run := 12, 0
	for _, r := range p.User + p.Prefix {
		switch {
		case unicode.IsLetter(r) || unicode.IsNumber(r):
			if run%3 == 0 {
				n++
			}
			run++
			continue
		case !unicode.IsSpace(r):
			n++
		}
		run = 0
	}
	return n, nil
}

// toyEssay is text of sentences of 3 to 12 words that are all different; some words have a mark inside.
func toyEssay(sentences int) string {
	var b strings.Builder
	for i := range sentences {
		for j := range 3 + i*7%10 {
			fmt.Fprintf(&b, "w%d-%d \n", i, j)
		}
		fmt.Fprintf(&b, "end%d%c\t", i, ".?!"[i%3])
	}
	return b.String()
}
