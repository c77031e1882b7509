package benchmark

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// source reads the little of Python that templates are written in: assignments of dictionaries from text to text, the
// texts plain literals, side by side or added up. Comments are passed over.
type source struct {
	name string // of the file, for errors
	text string
	at   int
}

func (s *source) errorf(format string, args ...any) error {
	line := 1 + strings.Count(s.text[:s.at], "\n")
	return fmt.Errorf("%s line %d: %s", s.name, line, fmt.Sprintf(format, args...))
}

// dictionary returns the dictionary of texts that the file assigns to a variable.
func dictionary(name, text, variable string) (map[string]string, error) {
	s := &source{name: name, text: text}
	for {
		i := strings.Index(text[s.at:], variable)
		if i < 0 {
			return nil, fmt.Errorf("%s: no %s = {...} in it", name, variable)
		}
		start := s.at + i
		s.at = start + len(variable)
		if start > 0 && text[start-1] != '\n' {
			continue
		}
		if s.space(); s.take('=') {
			if s.space(); s.take('{') {
				return s.entries()
			}
		}
	}
}

// entries reads a dictionary behind its opening brace.
func (s *source) entries() (map[string]string, error) {
	all := map[string]string{}
	for {
		s.space()
		if s.take('}') {
			return all, nil
		}
		key, err := s.expression()
		if err != nil {
			return nil, err
		}
		if !s.take(':') {
			return nil, s.errorf("want : behind the key %q", key)
		}
		s.space()
		if all[key], err = s.expression(); err != nil {
			return nil, err
		}
		if !s.take(',') {
			s.space()
			if !s.take('}') {
				return nil, s.errorf("want , or } behind the text of %q", key)
			}
			return all, nil
		}
	}
}

// expression reads literals that stand side by side or are added up.
func (s *source) expression() (string, error) {
	var b strings.Builder
	for {
		literal, err := s.literal()
		if err != nil {
			return "", err
		}
		b.WriteString(literal)
		s.space()
		if s.take('+') {
			s.space()
		} else if !s.next(`"`) && !s.next(`'`) {
			return b.String(), nil
		}
	}
}

func (s *source) next(text string) bool { return strings.HasPrefix(s.text[s.at:], text) }

func (s *source) take(c byte) bool {
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

// space passes over white space and comments.
func (s *source) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n', '\\':
			s.at++
		case '#':
			if i := strings.IndexByte(s.text[s.at:], '\n'); i >= 0 {
				s.at += i
			} else {
				s.at = len(s.text)
			}
		default:
			return
		}
	}
}

// literal reads one text in single or double quotes.
func (s *source) literal() (string, error) {
	if !s.next(`"`) && !s.next(`'`) || s.next(`"""`) || s.next(`'''`) {
		return "", s.errorf("want a text in single or double quotes, not %.20q", s.text[s.at:])
	}
	quote := s.text[s.at]
	s.at++
	var b strings.Builder
	for {
		if s.at >= len(s.text) || s.text[s.at] == '\n' {
			return "", s.errorf("a text that does not end")
		}
		c := s.text[s.at]
		s.at++
		switch c {
		case quote:
			return b.String(), nil
		case '\\':
			if err := s.escape(&b); err != nil {
				return "", err
			}
		default:
			b.WriteByte(c)
		}
	}
}

// escape reads what follows a backslash in a literal. As in Python, one that means nothing stays.
func (s *source) escape(b *strings.Builder) error {
	if s.at >= len(s.text) {
		return s.errorf("a text that does not end")
	}
	c := s.text[s.at]
	s.at++
	if i := strings.IndexByte(`\'"abfnrtv`, c); i >= 0 {
		b.WriteByte("\\'\"\a\b\f\n\r\t\v"[i])
		return nil
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
	switch {
	case c == '\n':
		return nil // the literal goes on in the next line
	case digits > 0:
		if s.at+digits > len(s.text) {
			return s.errorf("a text that does not end")
		}
		r, err := strconv.ParseUint(s.text[s.at:s.at+digits], 16, 32)
		if err != nil || !utf8.ValidRune(rune(r)) {
			return s.errorf("escape \\%c%s", c, s.text[s.at:s.at+digits])
		}
		s.at += digits
		b.WriteRune(rune(r))
	case c >= '0' && c <= '7' || c == 'N':
		return s.errorf("escape \\%c: not supported", c)
	default:
		b.WriteByte('\\')
		b.WriteByte(c)
	}
	return nil
}
