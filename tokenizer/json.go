package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"
)

const (
	maxFileBytes = 256 << 20 // the largest published tokenizer.json is under 40 MB
	maxJSONDepth = 64
)

// readFile reads a whole JSON or template file of bounded size.
func readFile(path string) ([]byte, error) {
	if info, err := os.Stat(path); err == nil {
		if !info.Mode().IsRegular() { // opening a pipe would block
			return nil, fmt.Errorf("open %s: not a regular file", path)
		}
		if info.Size() > maxFileBytes {
			return nil, fmt.Errorf("read %s: %d bytes, more than the %d allowed", path, info.Size(), maxFileBytes)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFileBytes))
}

// scanJSON refuses what Go's and Rust's JSON readers see differently or suffer from:
// invalid UTF-8, deep nesting, and NUL characters in strings, which the C interface cannot
// pass on and which make the Rust library abort when it reports an error about them.
func scanJSON(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("not valid UTF-8")
	}
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			if bytes.HasPrefix(data[i:], []byte(`\u0000`)) {
				return fmt.Errorf(`string with a NUL character (\u0000) at byte %d`, i)
			}
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxJSONDepth {
				return fmt.Errorf("nested deeper than %d at byte %d", maxJSONDepth, i)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	if !json.Valid(data) {
		var v any // for the error's text
		return json.Unmarshal(data, &v)
	}
	return nil
}

// member is one key of an object with its value.
type member struct {
	key   string
	value json.RawMessage
}

// object splits a JSON object into its members, in order. Unlike a Go struct it matches
// keys exactly, and it refuses a key that comes twice.
func object(data []byte) ([]member, error) {
	dec := json.NewDecoder(bytes.NewReader(orNull(data)))
	if t, err := dec.Token(); err != nil {
		return nil, err
	} else if t != json.Delim('{') {
		return nil, fmt.Errorf("want an object, have %s", kind(data))
	}
	var members []member
	seen := map[string]bool{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		m := member{key: key.(string)}
		if err := dec.Decode(&m.value); err != nil {
			return nil, err
		}
		if seen[m.key] {
			return nil, fmt.Errorf("key %q comes twice", m.key)
		}
		seen[m.key] = true
		members = append(members, m)
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	return members, nil
}

// fields is a small JSON object by key.
type fields map[string]json.RawMessage

func fieldsOf(data []byte) (fields, error) {
	members, err := object(data)
	return byKey(members), err
}

func byKey(members []member) fields {
	f := make(fields, len(members))
	for _, m := range members {
		f[m.key] = m.value
	}
	return f
}

// has reports whether key is there and not null.
func (f fields) has(key string) bool { return !isNull(f[key]) }

// object returns a field that is an object, or an error that names it.
func (f fields) object(key string) (fields, error) {
	inner, err := fieldsOf(f[key])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return inner, nil
}

// text returns a string field, or an error that names it.
func (f fields) text(key string) (string, error) {
	var s *string
	if err := json.Unmarshal(orNull(f[key]), &s); err != nil || s == nil {
		return "", fmt.Errorf("%s: want a string, have %s", key, kind(f[key]))
	}
	return *s, nil
}

// flag returns a boolean field, false where it is absent or null.
func (f fields) flag(key string) (bool, error) {
	var b bool
	if err := json.Unmarshal(orNull(f[key]), &b); err != nil {
		return false, fmt.Errorf("%s: want true or false, have %s", key, kind(f[key]))
	}
	return b, nil
}

// list splits a JSON array.
func list(data []byte) ([]json.RawMessage, error) {
	var items []json.RawMessage
	if err := json.Unmarshal(orNull(data), &items); err != nil || items == nil {
		return nil, fmt.Errorf("want an array, have %s", kind(data))
	}
	return items, nil
}

func isNull(data []byte) bool { return len(data) == 0 || string(data) == "null" }

func orNull(data []byte) []byte {
	if len(data) == 0 {
		return []byte("null")
	}
	return data
}

// kind names what a JSON value is, for errors.
func kind(data []byte) string {
	data = bytes.TrimLeft(data, " \t\r\n")
	if isNull(data) {
		return "nothing"
	}
	switch data[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	}
	return "a number"
}
