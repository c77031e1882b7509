package dataset

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// readLines yields one row per line. Blank lines are none.
func (s Source) readLines(r *bufio.Reader, yield func(Row) bool) error {
	var buf []byte
	for line := 1; ; line++ {
		var tooLong bool
		var err error
		buf, tooLong, err = readLine(r, buf[:0])
		row := Row{Line: line, JSON: bytes.TrimSpace(buf)}
		switch {
		case tooLong:
			row = Row{Line: line, Err: fmt.Errorf("%s line %d: longer than %d MiB", s, line, maxRowBytes>>20)}
		case len(row.JSON) > 0:
			row.check(s)
		}
		if (row.Err != nil || len(row.JSON) > 0) && !yield(row) {
			return errStop
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}

// readLine appends one line to buf, its end left out. Of a line that is too long it keeps nothing.
func readLine(r *bufio.Reader, buf []byte) (line []byte, tooLong bool, err error) {
	for {
		piece, err := r.ReadSlice('\n')
		if len(buf)+len(piece) > maxRowBytes {
			tooLong = true
		}
		if tooLong {
			buf = buf[:0]
		} else {
			buf = append(buf, piece...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimSuffix(buf, []byte("\n")), tooLong, err
		}
	}
}

// check sets Err unless the row is one JSON object. encoding/json refuses nesting beyond 10,000.
func (r *Row) check(s Source) {
	if r.JSON[0] != '{' {
		r.Err = fmt.Errorf("%s line %d: want a JSON object, it starts with %.20q", s, r.Line, r.JSON)
	} else if err := json.Unmarshal(r.JSON, &struct{}{}); err != nil {
		r.Err = fmt.Errorf("%s line %d: %w", s, r.Line, err)
	}
	if r.Err != nil {
		r.JSON = nil
	}
}

// readArray yields the elements of one JSON array. What follows an element that is no JSON cannot be read.
func (s Source) readArray(r io.Reader, yield func(Row) bool) error {
	lines := &lineCounter{r: r}
	bounded := &rowLimit{r: lines, left: maxRowBytes}
	dec := json.NewDecoder(bounded)
	if _, err := dec.Token(); err != nil {
		return err
	}
	for dec.More() {
		var raw json.RawMessage
		start := dec.InputOffset()
		bounded.left = maxRowBytes
		if err := dec.Decode(&raw); err != nil {
			return fmt.Errorf("element that begins on line %d: %w", lines.at(start), err)
		}
		row := Row{Line: lines.at(dec.InputOffset() - int64(len(raw))), JSON: raw}
		row.check(s)
		if !yield(row) {
			return errStop
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("end of the array: %w", err)
	}
	return nil
}

// rowLimit bounds how much is read for one element.
type rowLimit struct {
	r    io.Reader
	left int
}

func (l *rowLimit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("longer than %d MiB", maxRowBytes>>20)
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// lineCounter knows on which line an offset lies. Offsets asked for ascend.
type lineCounter struct {
	r      io.Reader
	offset int64
	passed int     // newlines before those in ahead
	ahead  []int64 // offsets of newlines not passed yet
}

func (c *lineCounter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	for i, b := range p[:n] {
		if b == '\n' {
			c.ahead = append(c.ahead, c.offset+int64(i))
		}
	}
	c.offset += int64(n)
	return n, err
}

func (c *lineCounter) at(offset int64) int {
	n := 0
	for n < len(c.ahead) && c.ahead[n] < offset {
		n++
	}
	c.passed += n
	c.ahead = append(c.ahead[:0], c.ahead[n:]...)
	return c.passed + 1
}
