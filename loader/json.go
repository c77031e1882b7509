package loader

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of every JSON file of a model. Tokenizers, the deepest ones, stay under ten levels.
const maxDepth = 64

// ReadJSON decodes the JSON file at path into v, as encoding/json does, but refuses what that package lets through: a file
// that is not a regular one or is larger than limit bytes, text that is not UTF-8, nesting beyond 64 levels, a key given
// twice in one object, and anything after the value. Errors name the file and, where there is one, the field.
func ReadJSON(path string, limit int64, v any) error {
	data, err := readFile(path, limit)
	if err != nil {
		return err
	}
	if err := checkJSON(data); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			return fmt.Errorf("read %s: field %s: cannot use JSON %s as %s", path, wrong.Field, wrong.Value, wrong.Type)
		}
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// readFile reads a regular file of at most limit bytes. A pipe or a device under a model's file name would block or never
// end, so it is refused before it is opened.
func readFile(path string, limit int64) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, reason(err))
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", path)
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("read %s: %d bytes, more than the %d allowed", path, st.Size(), limit)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, reason(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, reason(err))
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: more than the %d bytes allowed", path, limit)
	}
	return data, nil
}

// reason strips the operation and path that os errors carry, since the messages here name them already.
func reason(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// checkJSON reports why data is not one strict JSON value: see ReadJSON.
func checkJSON(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("not UTF-8")
	}
	s := scanner{buf: data}
	if err := s.value(); err != nil {
		return err
	}
	if s.space(); s.pos != len(s.buf) {
		return s.errorf("text after the JSON value")
	}
	return nil
}

// scanner walks JSON text (RFC 8259) strictly. The text must be valid UTF-8.
type scanner struct {
	buf   []byte
	pos   int
	depth int
}

func (s *scanner) errorf(format string, args ...any) error {
	line := 1 + bytes.Count(s.buf[:s.pos], []byte("\n"))
	return fmt.Errorf("line %d, byte %d: %s", line, s.pos, fmt.Sprintf(format, args...))
}

func (s *scanner) space() {
	for s.pos < len(s.buf) && strings.IndexByte(" \t\r\n", s.buf[s.pos]) >= 0 {
		s.pos++
	}
}

// peek skips white space and returns the next byte, 0 at the end of the text.
func (s *scanner) peek() byte {
	s.space()
	if s.pos == len(s.buf) {
		return 0
	}
	return s.buf[s.pos]
}

// expect consumes c, after white space.
func (s *scanner) expect(c byte) error {
	if s.peek() != c || s.pos == len(s.buf) {
		if s.pos == len(s.buf) {
			return s.errorf("want %q, found the end", c)
		}
		return s.errorf("want %q, found %q", c, rune(s.buf[s.pos]))
	}
	s.pos++
	return nil
}

// value consumes any value, checking every object in it for duplicate keys.
func (s *scanner) value() error {
	switch c := s.peek(); {
	case c == '{':
		return s.object(func(string) error { return s.value() })
	case c == '[':
		return s.array(s.value)
	case c == '"':
		_, err := s.str()
		return err
	case c == '-' || c >= '0' && c <= '9':
		_, err := s.number()
		return err
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(s.buf[s.pos:], []byte(word)) {
			s.pos += len(word)
			return nil
		}
	}
	return s.errorf("want a JSON value")
}

// object consumes an object; member consumes the value of each key.
func (s *scanner) object(member func(key string) error) error {
	if err := s.open('{'); err != nil {
		return err
	}
	seen := map[string]struct{}{}
	for first := true; ; first = false {
		if done, err := s.next('}', first); done || err != nil {
			return err
		}
		s.space()
		key, err := s.str()
		if err != nil {
			return err
		}
		if _, ok := seen[key]; ok {
			return s.errorf("key %q given twice", short(key))
		}
		seen[key] = struct{}{}
		if err := s.expect(':'); err != nil {
			return err
		}
		if err := member(key); err != nil {
			return err
		}
	}
}

// array consumes an array; element consumes each of its values.
func (s *scanner) array(element func() error) error {
	if err := s.open('['); err != nil {
		return err
	}
	for first := true; ; first = false {
		if done, err := s.next(']', first); done || err != nil {
			return err
		}
		if err := element(); err != nil {
			return err
		}
	}
}

func (s *scanner) open(c byte) error {
	if err := s.expect(c); err != nil {
		return err
	}
	if s.depth++; s.depth > maxDepth {
		return s.errorf("nested deeper than %d levels", maxDepth)
	}
	return nil
}

// next consumes what stands before a member: nothing before the first, a comma before the others, or the closing byte.
func (s *scanner) next(closing byte, first bool) (done bool, err error) {
	if s.peek() == closing && s.pos < len(s.buf) {
		s.pos++
		s.depth--
		return true, nil
	}
	if first {
		return false, nil
	}
	return false, s.expect(',')
}

// str consumes a string and returns its text. Half a surrogate pair, which encoding/json would silently replace, is an
// error: two names could become one.
func (s *scanner) str() (string, error) {
	if s.pos == len(s.buf) || s.buf[s.pos] != '"' {
		return "", s.errorf("want a string")
	}
	start, escaped := s.pos, false
	for i := start + 1; i < len(s.buf); i++ {
		switch c := s.buf[i]; {
		case c == '\\':
			escaped = true
			i++
		case c < 0x20:
			s.pos = i
			return "", s.errorf("control character in a string")
		case c == '"':
			s.pos = i + 1
			if !escaped {
				return string(s.buf[start+1 : i]), nil
			}
			return s.unescape(s.buf[start : i+1])
		}
	}
	s.pos = len(s.buf)
	return "", s.errorf("string without an end")
}

func (s *scanner) unescape(quoted []byte) (string, error) {
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return "", s.errorf("bad escape in a string")
	}
	plain := bytes.ToLower(quoted)
	replaced := strings.Count(text, "\ufffd")
	if replaced > bytes.Count(plain, []byte("\ufffd"))+bytes.Count(plain, []byte(`\ufffd`)) {
		return "", s.errorf("half a surrogate pair in a string")
	}
	return text, nil
}

// number consumes a number and returns its text.
func (s *scanner) number() (string, error) {
	start := s.pos
	digits := func() bool {
		from := s.pos
		for s.pos < len(s.buf) && s.buf[s.pos] >= '0' && s.buf[s.pos] <= '9' {
			s.pos++
		}
		return s.pos > from
	}
	one := func(set string) bool {
		ok := s.pos < len(s.buf) && strings.IndexByte(set, s.buf[s.pos]) >= 0
		if ok {
			s.pos++
		}
		return ok
	}
	one("-")
	ok := one("0") || digits()
	if ok && one(".") {
		ok = digits()
	}
	if ok && one("eE") {
		one("+-")
		ok = digits()
	}
	if !ok {
		return "", s.errorf("want a number")
	}
	return string(s.buf[start:s.pos]), nil
}

// short shortens text from a file for use in an error message.
func short(text string) string {
	const limit = 120
	if len(text) <= limit {
		return text
	}
	cut := limit
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "..."
}

// quoteAll lists names for an error message, at most eight of them.
func quoteAll(names []string) string {
	const limit = 8
	slices.Sort(names)
	var b strings.Builder
	for i, name := range names {
		if i == limit {
			fmt.Fprintf(&b, " and %d more", len(names)-limit)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", short(name))
	}
	return b.String()
}
