package main

import (
	"io"
	"strings"

	"github.com/pbs-run/pbs-run/tokenizer"
)

// answer turns token ids into text, streams it unless quiet, and ends it before a stop string.
type answer struct {
	text   strings.Builder
	held   string // decoded, but perhaps the start of a stop string
	stream *tokenizer.Stream
	stops  []string
	to     io.Writer
	quiet  bool
	err    error // the first failure to write
}

func newAnswer(tok *tokenizer.Tokenizer, stops []string, to io.Writer, quiet bool) *answer {
	a := &answer{stops: stops, to: to, quiet: quiet}
	if tok != nil {
		a.stream = tok.NewStream(true)
	}
	return a
}

// add takes one more token and reports whether a stop string ended the answer. Without a tokenizer there is no text.
func (a *answer) add(id int32) (stopped bool, err error) {
	if a.stream == nil {
		return false, nil
	}
	piece, err := a.stream.Next(id)
	if err != nil {
		return false, err
	}
	a.held += piece
	for _, s := range a.stops {
		if i := strings.Index(a.held, s); i >= 0 && s != "" {
			a.held = a.held[:i]
			stopped = true
		}
	}
	keep := 0
	if !stopped {
		keep = a.mayStop()
	}
	a.emit(len(a.held) - keep)
	if stopped {
		a.stream = nil // what follows is not part of the answer
	}
	return stopped, a.err
}

// mayStop returns the length of the longest end of the held text that begins a stop string.
func (a *answer) mayStop() int {
	longest := 0
	for _, s := range a.stops {
		for n := min(len(s)-1, len(a.held)); n > longest; n-- {
			if strings.HasSuffix(a.held, s[:n]) {
				longest = n
			}
		}
	}
	return longest
}

func (a *answer) emit(n int) {
	piece := a.held[:n]
	a.held = a.held[n:]
	a.text.WriteString(piece)
	if !a.quiet && a.err == nil {
		_, a.err = io.WriteString(a.to, piece)
	}
}

// flush ends the text: what was held back is part of it.
func (a *answer) flush() {
	if a.stream != nil {
		a.held += a.stream.Flush()
	}
	a.emit(len(a.held))
	if !a.quiet && a.err == nil {
		_, a.err = io.WriteString(a.to, "\n")
	}
}
