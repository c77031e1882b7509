package tokenizer

import (
	"runtime"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
)

// The library keeps some 200 bytes for every byte of a text it encodes and works on one
// core, and its regex engine gives up on a run of ten million spaces. So a long text is cut
// into pieces that are encoded on all cores. It is cut only where the regex that splits the
// text into words must start a new word whatever stands before and after, which is known
// for the regexes below; with any other regex the text goes to the library in one piece.
const (
	patternLlama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen2  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternGPT2   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
)

const (
	pieceBytes = 256 << 10
	wordBytes  = 1 << 20 // a longer word is merged here, not by the library
)

// encodeLong is e.encode for texts of any length.
func (t *Tokenizer) encodeLong(e *engine, text string) ([]int32, error) {
	if len(text) <= pieceBytes || !t.spec.cuttable() {
		return e.encode(text)
	}
	var pieces []string
	for text != "" {
		n := t.pieceEnd(text)
		pieces = append(pieces, text[:n])
		text = text[n:]
	}
	results := make([][]int32, len(pieces))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, piece := range pieces {
		group.Go(func() (err error) {
			if len(piece) > wordBytes && (!t.spec.normalised || isASCII(piece)) {
				results[i], err = t.encodeWords(e, piece)
			} else {
				results[i], err = e.encode(piece)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(results...), nil
}

// cuttable reports whether the rules of startsWord hold for this tokenizer.
func (s *spec) cuttable() bool {
	if s.prefixSpace || s.pattern != patternLlama3 && s.pattern != patternQwen2 && s.pattern != patternGPT2 {
		return false
	}
	for _, a := range s.added {
		r, _ := utf8.DecodeRuneInString(a.Content)
		if a.SingleWord || a.LStrip || a.RStrip || a.Norm && s.normalised || class(r) != other {
			return false // it takes what is around it, or its stand-in changes the words
		}
	}
	return true
}

// pieceEnd returns where to cut the first piece off text: the last good place before
// pieceBytes, or the first after.
func (t *Tokenizer) pieceEnd(text string) int {
	if len(text) <= pieceBytes {
		return len(text)
	}
	for i := pieceBytes; i > pieceBytes/2; i-- {
		if t.cutAt(text, i) {
			return i
		}
	}
	for i := pieceBytes + 1; i < len(text); i++ {
		if t.cutAt(text, i) {
			return i
		}
	}
	return len(text)
}

// cutAt reports whether text can be cut before byte i: a word starts there, or an added
// token does, and no added token reaches over it.
func (t *Tokenizer) cutAt(text string, i int) bool {
	if !utf8.RuneStart(text[i]) {
		return false
	}
	before, _ := utf8.DecodeLastRuneInString(text[:i])
	after, _ := utf8.DecodeRuneInString(text[i:])
	if !startsWord(before, after) && !(t.marks[after] && t.addedTokenAt(text[i:]) > 0) {
		return false
	}
	if len(t.addedLengths) == 0 {
		return true
	}
	longest := t.addedLengths[len(t.addedLengths)-1]
	for j := max(0, i-longest+1); j < i; j++ {
		if utf8.RuneStart(text[j]) && t.addedTokenAt(text[j:]) > i-j {
			return false
		}
	}
	return true
}

// addedTokenAt returns the length of the longest added token that text starts with.
func (t *Tokenizer) addedTokenAt(text string) int {
	if r, _ := utf8.DecodeRuneInString(text); !t.marks[r] {
		return 0
	}
	for _, n := range slices.Backward(t.addedLengths) {
		if n <= len(text) && t.addedSet[text[:n]] {
			return n
		}
	}
	return 0
}

// startsWord reports whether the three regexes above start a word between two characters
// wherever they stand: at a space after anything that is no white space, after a line's
// end, and between a letter or digit and what is neither. It answers only for characters
// whose classes no version of Unicode disputes and which normalisation leaves alone.
func startsWord(before, after rune) bool {
	switch {
	case after == ' ':
		return !unicode.IsSpace(before)
	case before == '\n':
		return after < utf8.RuneSelf && !unicode.IsSpace(after)
	case isAlpha(before) || 0x4E00 <= before && before <= 0x9FFF:
		return after < utf8.RuneSelf && !isAlpha(after) || 0x3001 <= after && after <= 0x3002 || after == 0xFF0C
	}
	return '0' <= before && before <= '9' && isAlpha(after)
}

func isAlpha(r rune) bool { return 'a' <= r|0x20 && r|0x20 <= 'z' && r < utf8.RuneSelf }

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// encodeWords encodes a piece that could not be cut: it splits it into words as the regex
// does, gives runs of words to the library and merges the very long ones here.
func (t *Tokenizer) encodeWords(e *engine, text string) ([]int32, error) {
	var ids []int32
	start, pos := 0, 0 // text[start:pos] waits for the library
	flush := func() error {
		found, err := e.encode(text[start:pos])
		ids = append(ids, found...)
		start = pos
		return err
	}
	for pos < len(text) {
		n := word(text[pos:], t.spec.pattern)
		if n > wordBytes || pos-start > pieceBytes {
			if err := flush(); err != nil {
				return nil, err
			}
		}
		if n > wordBytes {
			word := text[pos : pos+n]
			if e != t.engine {
				word = t.unmask(e, word)
			}
			ids = append(ids, t.merger().merge(word)...)
			start += n
		}
		pos += n
	}
	err := flush()
	return ids, err
}

// unmask turns the stand-ins of a masked engine's text back.
func (t *Tokenizer) unmask(e *engine, text string) string {
	return standIns{e.firstStandIn, t.originals()}.restore(text)
}
