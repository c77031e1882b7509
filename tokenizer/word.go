package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Classes of characters that the regexes tell apart.
const (
	letter = iota
	number
	newline
	space // white space but CR and LF
	other
)

func class(r rune) int {
	switch {
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	case r == '\r' || r == '\n':
		return newline
	case unicode.IsSpace(r):
		return space
	}
	return other
}

// word returns the length of the first match of one of the regexes of cut.go in a
// non-empty text. Their alternatives are tried in order, as a backtracking engine does.
func word(text, pattern string) int {
	if n := contraction(text, pattern != patternGPT2); n > 0 {
		return n
	}
	first, size := utf8.DecodeRuneInString(text)
	c, after := class(first), -1
	if size < len(text) {
		r, _ := utf8.DecodeRuneInString(text[size:])
		after = class(r)
	}
	gpt2 := pattern == patternGPT2
	prefixed := 0 // length of what the letters or the rest may have in front
	if c == space && (!gpt2 || first == ' ') || c == other && !gpt2 {
		prefixed = size
	}
	switch {
	case c == letter:
		return run(text, 0, letter)
	case prefixed > 0 && after == letter:
		return run(text, size, letter)
	case c == number && gpt2:
		return run(text, 0, number)
	case c == number && pattern == patternQwen2:
		return size
	case c == number:
		return upTo(text, number, 3)
	case gpt2 && first == ' ' && after == number:
		return run(text, size, number)
	case c == other || first == ' ' && after == other:
		n := run(text, 0, other)
		if c != other {
			n = run(text, size, other)
		}
		if gpt2 {
			return n
		}
		return run(text, n, newline)
	}
	return blank(text, gpt2)
}

// blank matches \s*[\r\n]+|\s+(?!\S)|\s+ at white space (the first not for GPT-2).
func blank(text string, gpt2 bool) int {
	end, lastNewline, last := 0, 0, 0
	for end < len(text) {
		r, size := utf8.DecodeRuneInString(text[end:])
		c := class(r)
		if c != space && c != newline {
			break
		}
		last = end
		end += size
		if c == newline {
			lastNewline = end
		}
	}
	switch {
	case lastNewline > 0 && !gpt2:
		return lastNewline
	case end < len(text) && last > 0:
		return last // the white space before a word belongs to the word
	}
	return end
}

// contraction matches 's|'t|'re|'ve|'m|'ll|'d at the start.
func contraction(text string, anyCase bool) int {
	if text[0] != '\'' {
		return 0
	}
	for _, tail := range []string{"s", "t", "re", "ve", "m", "ll", "d"} {
		if n := 1 + len(tail); len(text) >= n && (text[1:n] == tail || anyCase && strings.EqualFold(text[1:n], tail)) {
			return n
		}
	}
	return 0
}

// run returns the end of the run of class want that starts at from.
func run(text string, from, want int) int {
	for from < len(text) {
		r, size := utf8.DecodeRuneInString(text[from:])
		if class(r) != want {
			break
		}
		from += size
	}
	return from
}

// upTo returns the length of the first at most limit characters of class want.
func upTo(text string, want, limit int) (n int) {
	for range limit {
		r, size := utf8.DecodeRuneInString(text[n:])
		if size == 0 || class(r) != want {
			break
		}
		n += size
	}
	return n
}
