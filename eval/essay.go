package eval

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// ReadEssay reads the plain text that needles are hidden in. An empty path stands for the text that lies beside the
// model: document.txt in the folder above modelDir, where the demo model has it.
func ReadEssay(path, modelDir string) (string, error) {
	if path == "" {
		path = filepath.Join(modelDir, "..", "document.txt")
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("find essay: no %s: pass --essay FILE, any plain text (the repository has demo/document.txt)", path)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read essay: %w", err)
	}
	if !utf8.Valid(text) {
		return "", fmt.Errorf("read essay %s: not UTF-8 text", path)
	}
	if len(strings.Fields(string(text))) == 0 {
		return "", fmt.Errorf("read essay %s: no words in it", path)
	}
	return string(text), nil
}

// haystack returns the first size words of the essay, taken again from its start when it is too short, with a blank
// between two words and the needles among them. As in RULER, needle i stands before sentence number
// sentences*depths[i]/100; depths ascend. The joining is RULER's too: a needle at the very start has a blank before
// it, and one at the very end a blank behind it.
func haystack(essay []string, size int, needles []string, depths []int) string {
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
