package tokenizer

import (
	"runtime"
	"slices"
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

// limits are the sizes, in bytes, from which a text is treated so.
type limits struct {
	piece int // a longer text is cut
	word  int // a longer word is merged here, not by the library
}

func longTexts() limits { return limits{piece: 256 << 10, word: 1 << 20} }

// encodeLong is e.encode for texts of any length.
func (t *Tokenizer) encodeLong(e *engine, text string) ([]int32, error) {
	if len(text) <= t.limits.piece || !t.spec.cuttable() {
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
			if len(piece) > t.limits.word && t.plainWords(piece) {
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

// plainWords reports whether a piece is words only, the same before and after
// normalisation.
func (t *Tokenizer) plainWords(piece string) bool {
	for i, r := range piece {
		if r >= utf8.RuneSelf && t.spec.normalised || t.marks[r] && t.addedTokenAt(piece[i:]) > 0 {
			return false
		}
	}
	return true
}

// pieceEnd returns where to cut the first piece off text: the last good place before
// limits.piece, or the first after.
func (t *Tokenizer) pieceEnd(text string) int {
	if len(text) <= t.limits.piece {
		return len(text)
	}
	for i := t.limits.piece; i > t.limits.piece/2; i-- {
		if t.cutAt(text, i) {
			return i
		}
	}
	for i := t.limits.piece + 1; i < len(text); i++ {
		if t.cutAt(text, i) {
			return i
		}
	}
	return len(text)
}

// cutAt reports whether text can be cut before byte i: a word starts there, or an added
// token starts or ends there, and no added token reaches over it.
func (t *Tokenizer) cutAt(text string, i int) bool {
	if !utf8.RuneStart(text[i]) {
		return false
	}
	before, _ := utf8.DecodeLastRuneInString(text[:i])
	after, _ := utf8.DecodeRuneInString(text[i:])
	cut := startsWord(before, after, t.spec.pattern) || t.addedTokenAt(text[i:]) > 0
	if !cut && !t.ends[text[i-1]] {
		return false
	}
	for j := i - 1; j >= 0 && i-j <= t.longestAdded(); j-- {
		switch n := t.addedTokenAt(text[j:]); {
		case n > i-j:
			return false
		case n == i-j:
			cut = true
		}
	}
	return cut
}

func (t *Tokenizer) longestAdded() int {
	if len(t.addedLengths) == 0 {
		return 0
	}
	return t.addedLengths[len(t.addedLengths)-1]
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

// startsWord reports whether the regex starts a word between two characters wherever they
// stand: at a space after anything that is no white space, after a line's end (for GPT-2's
// that depends on more), and between a letter or digit and what is neither. It answers only
// for characters whose classes no version of Unicode disputes and which normalisation
// leaves alone.
func startsWord(before, after rune, pattern string) bool {
	switch {
	case after == ' ':
		return !unicode.IsSpace(before)
	case before == '\n':
		return pattern != patternGPT2 && after < utf8.RuneSelf && !unicode.IsSpace(after)
	case isAlpha(before) || 0x4E00 <= before && before <= 0x9FFF:
		return after < utf8.RuneSelf && !isAlpha(after) || 0x3001 <= after && after <= 0x3002 || after == 0xFF0C
	}
	return '0' <= before && before <= '9' && isAlpha(after)
}

func isAlpha(r rune) bool { return 'a' <= r|0x20 && r|0x20 <= 'z' && r < utf8.RuneSelf }

// encodeWords encodes a piece that could not be cut: it splits it into words as the regex
// does, gives runs of words to the library and merges the very long ones here.
func (t *Tokenizer) encodeWords(e *engine, text string) ([]int32, error) {
	var ids []int32
	library := func(run string) error {
		found, err := e.encode(run)
		ids = append(ids, found...)
		return err
	}
	start, last, pos := 0, 0, 0 // text[start:pos] waits for the library, its last word at last
	flush := func() error {
		// Two words of white space in a row are two because of what follows them.
		before, _ := utf8.DecodeLastRuneInString(text[start:last])
		after, _ := utf8.DecodeRuneInString(text[last:pos])
		if unicode.IsSpace(before) && unicode.IsSpace(after) {
			if err := library(text[start:last]); err != nil {
				return err
			}
			start = last
		}
		err := library(text[start:pos])
		start = pos
		return err
	}
	for pos < len(text) {
		n := word(text[pos:], t.spec.pattern)
		long := n > t.limits.word
		if long || pos-start > t.limits.piece {
			if err := flush(); err != nil {
				return nil, err
			}
		}
		if long {
			ids = append(ids, t.merger().merge(t.unmask(e, text[pos:pos+n]))...)
			start += n
		}
		last = max(pos, start)
		pos += n
	}
	err := flush()
	return ids, err
}

// unmask turns the stand-ins of a masked engine's text back.
func (t *Tokenizer) unmask(e *engine, text string) string {
	if e == t.engine {
		return text
	}
	return standIns{e.firstStandIn, t.originals()}.restore(text)
}
