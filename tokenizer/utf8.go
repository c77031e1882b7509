package tokenizer

import (
	"strings"
	"unicode/utf8"
)

const replacement = "\uFFFD"

// ValidUTF8 returns s with every maximal ill-formed part replaced by one U+FFFD, as Rust's
// from_utf8_lossy, Python's errors="replace" and the Unicode standard (section 3.9, "U+FFFD
// substitution of maximal subparts") do it. Go's own conversions write one per byte.
func ValidUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + len(s)/8)
	for s != "" {
		n, valid, _ := prefix(s)
		if valid {
			b.WriteString(s[:n])
		} else {
			b.WriteString(replacement)
		}
		s = s[n:]
	}
	return b.String()
}

// prefix measures the first part of a non-empty s: one well-formed character (valid), or
// one maximal ill-formed part. cut says that the ill-formed part ends with s and that more
// bytes could make it well-formed.
func prefix(s string) (n int, valid, cut bool) {
	if r, size := utf8.DecodeRuneInString(s); r != utf8.RuneError || size > 1 {
		return size, true, false
	}
	need, low, high := 0, byte(0x80), byte(0xBF)
	switch c := s[0]; {
	case 0xC2 <= c && c <= 0xDF:
		need = 2
	case 0xE0 <= c && c <= 0xEF:
		need = 3
		if c == 0xE0 { // shorter forms exist
			low = 0xA0
		} else if c == 0xED { // surrogates
			high = 0x9F
		}
	case 0xF0 <= c && c <= 0xF4:
		need = 4
		if c == 0xF0 {
			low = 0x90
		} else if c == 0xF4 { // beyond U+10FFFF
			high = 0x8F
		}
	default:
		return 1, false, false
	}
	for n = 1; n < need; n++ {
		if n == len(s) {
			return n, false, true
		}
		if s[n] < low || s[n] > high {
			return n, false, false
		}
		low, high = 0x80, 0xBF
	}
	panic("tokenizer: a well-formed character was not decoded")
}
