package score

import (
	"bufio"
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

// A row is one prediction of a file.
type row struct {
	file   string
	line   int // from 1; in a JSON array, the element
	fields map[string]json.RawMessage
}

// errorf is an error that says where the row stands.
func (r row) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", r.file, r.line, fmt.Errorf(format, args...))
}

// get reads the first of the fields that the row has into to, and returns its name, "" where it has none of them.
func (r row) get(to any, names ...string) (string, error) {
	for _, name := range names {
		if raw, ok := r.fields[name]; ok {
			if string(raw) == "null" {
				return name, r.errorf("%s is null", name)
			}
			if err := json.Unmarshal(raw, to); err != nil {
				return name, r.errorf("%s: %w", name, plain(err))
			}
			return name, nil
		}
	}
	return "", nil
}

// must is get for a field that has to be there.
func (r row) must(to any, names ...string) error {
	name, err := r.get(to, names...)
	if err == nil && name == "" {
		err = r.errorf("no field %s", strings.Join(names, " or "))
	}
	return err
}

// plain takes Go's own words out of a JSON error.
func plain(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("a %s where %s belongs", wrong.Value, wrong.Type)
	}
	return err
}

// readRows calls each with the rows of a file: JSON objects, one on each line, empty lines aside; or one JSON array of
// objects.
func readRows(path string, each func(row) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, 1<<16)
	for n := 1; ; n++ {
		line, readErr := lines.ReadBytes('\n')
		if readErr != nil && readErr != io.EOF {
			return fmt.Errorf("read %s: %w", path, readErr)
		}
		whole := readErr == nil
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if n == 1 && line[0] == '[' {
				rest, err := io.ReadAll(lines)
				if err != nil {
					return fmt.Errorf("read %s: %w", path, err)
				}
				return readArray(path, slices.Concat(line, []byte("\n"), rest), each)
			}
			r, err := parseRow(path, n, line)
			if err != nil && !whole {
				err = fmt.Errorf("%w; the last line is cut off: resume its run, or delete it", err)
			}
			if err != nil {
				return err
			}
			if err := each(r); err != nil {
				return err
			}
		}
		if !whole {
			return nil
		}
	}
}

func readArray(path string, data []byte, each func(row) error) error {
	var all []json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for i, raw := range all {
		r, err := parseRow(path, i+1, raw)
		if err != nil {
			return err
		}
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}

// parseRow reads one JSON object. The JSON package refuses what is nested deeper than 10,000 levels.
func parseRow(path string, n int, line []byte) (row, error) {
	r := row{file: path, line: n}
	if !utf8.Valid(line) {
		return r, r.errorf("no UTF-8")
	}
	if err := json.Unmarshal(line, &r.fields); err != nil {
		return r, r.errorf("%w", plain(err))
	}
	if r.fields == nil {
		return r, r.errorf("null where an object belongs")
	}
	return r, nil
}
