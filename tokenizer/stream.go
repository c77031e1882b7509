package tokenizer

import "strings"

// A Stream turns token ids into text as they come, never half a UTF-8 character. The
// pieces it returns, the one from Flush included, add up to Decode of all the ids. Its cost
// is that of the bytes it passes on. Use it from one goroutine.
type Stream struct {
	t           *Tokenizer
	skipSpecial bool
	pending     string // the start of a character whose other bytes have not come, at most 3
}

// NewStream returns a Stream; skipSpecial is as in Decode.
func (t *Tokenizer) NewStream(skipSpecial bool) *Stream {
	return &Stream{t: t, skipSpecial: skipSpecial}
}

// Next takes one id and returns the text that is now complete, often none. A negative id is
// an error.
func (s *Stream) Next(id int32) (string, error) {
	token, err := s.t.bytes(id, s.skipSpecial)
	if err != nil {
		return "", err
	}
	text := s.pending + token
	s.pending = ""
	done := len(text)
	for i := 1; i <= min(3, len(text)); i++ { // an incomplete character starts in the last 3 bytes
		if n, _, cut := prefix(text[len(text)-i:]); cut && n == i {
			done = len(text) - i
		}
	}
	s.pending = strings.Clone(text[done:])
	return ValidUTF8(text[:done]), nil
}

// Flush ends the text: it returns U+FFFD for a character that was never completed.
func (s *Stream) Flush() string {
	rest := ValidUTF8(s.pending)
	s.pending = ""
	return rest
}
