package tokenizer

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// gonja's lexer does not read string literals as Jinja2 does (escapes are undone in random
// order, some fail). So before gonja sees a template, every literal in it is taken out and
// numbered: 'text' becomes '0', and the compiler puts the text back into the parsed tree.

const maxTagNesting = 64

var endRaw = regexp.MustCompile(`\{%[-+]?\s*endraw\s*[-+]?%\}`)

// lifter takes the literals out of a template.
type lifter struct {
	src      string
	pos      int
	out      strings.Builder
	literals []string
}

// lift returns source with numbered literals, and the literals.
func lift(source string) (string, []string, error) {
	l := &lifter{src: source}
	for {
		i := strings.IndexByte(l.src[l.pos:], '{')
		if i < 0 || l.pos+i+1 >= len(l.src) {
			l.out.WriteString(l.src[l.pos:])
			return l.out.String(), l.literals, nil
		}
		l.copyTo(l.pos + i)
		var err error
		switch l.src[l.pos+1] {
		case '#':
			end := strings.Index(l.src[l.pos:], "#}")
			if end < 0 {
				return "", nil, l.errorf("comment without end")
			}
			l.copyTo(l.pos + end + 2)
		case '{', '%':
			err = l.tag(l.src[l.pos+1])
		default:
			l.copyTo(l.pos + 1)
		}
		if err != nil {
			return "", nil, err
		}
	}
}

func (l *lifter) copyTo(end int) {
	l.out.WriteString(l.src[l.pos:end])
	l.pos = end
}

func (l *lifter) errorf(format string, args ...any) error {
	return &templateError{1 + strings.Count(l.src[:l.pos], "\n"), fmt.Sprintf(format, args...)}
}

// tag copies a tag, {{ ... }} or {% ... %}, taking its literals out.
func (l *lifter) tag(opening byte) error {
	start := l.pos
	closing := "}}"
	if opening == '%' {
		closing = "%}"
	}
	l.copyTo(l.pos + 2)
	depth := 0
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		switch {
		case (opening == '%' || depth <= 0) && strings.HasPrefix(l.src[l.pos:], closing):
			l.copyTo(l.pos + 2)
			return l.raw(l.src[start:l.pos])
		case c == '\'' || c == '"':
			if err := l.literal(); err != nil {
				return err
			}
			continue
		case strings.IndexByte("([{", c) >= 0:
			if depth++; depth > maxTagNesting {
				return l.errorf("brackets nested deeper than %d", maxTagNesting)
			}
		case strings.IndexByte(")]}", c) >= 0:
			depth--
		}
		l.copyTo(l.pos + 1)
	}
	l.pos = start
	return l.errorf("tag without end")
}

// raw copies on to the end of a raw block, if tag starts one.
func (l *lifter) raw(tag string) error {
	if strings.Trim(tag, "{}%-+ \t\r\n") != "raw" {
		return nil
	}
	end := endRaw.FindStringIndex(l.src[l.pos:])
	if end == nil {
		return l.errorf("raw block without end")
	}
	l.copyTo(l.pos + end[1])
	return nil
}

// literal takes out the literal at pos, with those that follow it directly: as in Python
// they are one.
func (l *lifter) literal() error {
	start := l.pos
	var text strings.Builder
	for {
		quote := l.src[l.pos]
		end := l.pos + 1
		for end < len(l.src) && l.src[end] != quote {
			if l.src[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(l.src) {
			return l.errorf("string without end")
		}
		text.WriteString(unescape(l.src[l.pos+1 : end]))
		l.pos = end + 1
		rest := strings.TrimLeft(l.src[l.pos:], " \t\r\n")
		if rest == "" || rest[0] != '\'' && rest[0] != '"' {
			break
		}
		l.pos = len(l.src) - len(rest)
	}
	fmt.Fprintf(&l.out, "'%d'", len(l.literals))
	l.literals = append(l.literals, text.String())
	l.out.WriteString(strings.Repeat("\n", strings.Count(l.src[start:l.pos], "\n"))) // keeps line numbers
	return nil
}

// unescape undoes the escapes of a Python string literal. As there, an unknown one stays.
func unescape(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 || i+1 == len(s) {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		n := 2
		switch c := s[i+1]; c {
		case '\n':
		case '\\', '\'', '"':
			b.WriteByte(c)
		case 'a', 'b', 'f', 'n', 'r', 't', 'v':
			b.WriteByte("\a\b\f\n\r\t\v"[strings.IndexByte("abfnrtv", c)])
		default:
			var r rune
			if r, n = numericEscape(s[i:]); n > 0 {
				b.WriteRune(r)
			} else {
				b.WriteByte('\\')
				n = 1
			}
		}
		s = s[i+n:]
	}
}

// numericEscape reads \xhh, \uhhhh, \Uhhhhhhhh and \ooo; n is 0 where there is none.
func numericEscape(s string) (r rune, n int) {
	digits, base := 0, 16
	switch c := s[1]; {
	case c == 'x':
		n, digits = 2, 2
	case c == 'u':
		n, digits = 2, 4
	case c == 'U':
		n, digits = 2, 8
	case '0' <= c && c <= '7':
		n, base = 1, 8
		for digits < 3 && n+digits < len(s) && '0' <= s[n+digits] && s[n+digits] <= '7' {
			digits++
		}
	default:
		return 0, 0
	}
	if len(s) < n+digits {
		return 0, 0
	}
	value, err := strconv.ParseUint(s[n:n+digits], base, 32)
	if err != nil {
		return 0, 0
	}
	return rune(value), n + digits
}
