package loader

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/nlpodyssey/safetensors"
)

const (
	maxHeader = 100_000_000 // of the safetensors format
	maxRank   = 8
)

// span is the place of one tensor in the data part of a file.
type span struct {
	name       string
	begin, end uint64
}

// checkHeader reports why file, a whole safetensors file, must not be trusted. It comes before the parser, which lets
// through duplicate names and keys, leading white space, text that is not UTF-8 and shapes that overflow. The rules are
// those of the format: a length of 8 bytes, little endian, at most 100,000,000 and within the file; a JSON object that
// begins at once with '{' and is followed by spaces alone; __metadata__ maps strings to strings; every other member is a
// tensor with dtype, shape and data_offsets; the tensors tile the rest of the file without hole, overlap or tail.
// It touches the header only and allocates in proportion to it.
func checkHeader(file []byte) error {
	if len(file) < 8 {
		return fmt.Errorf("header too small: the file has %d bytes, a safetensors file begins with an 8-byte length", len(file))
	}
	n := binary.LittleEndian.Uint64(file)
	if n > maxHeader {
		return fmt.Errorf("header length %d exceeds the %d of the format", n, maxHeader)
	}
	if n > uint64(len(file)-8) {
		return fmt.Errorf("header length %d exceeds the file's %d bytes", n, len(file))
	}
	spans, err := parseHeader(file[8 : 8+n])
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	return checkTiling(spans, uint64(len(file))-8-n)
}

// parseHeader checks the JSON text of a header and returns where its tensors lie.
func parseHeader(text []byte) ([]span, error) {
	if len(text) == 0 || text[0] != '{' {
		return nil, errors.New("does not begin with '{'")
	}
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8")
	}
	s := &scanner{buf: text}
	var spans []span
	err := s.object(func(key string) error {
		if key == "__metadata__" {
			return s.metadata()
		}
		sp, err := s.tensor(key)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", short(key), err)
		}
		spans = append(spans, sp)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, c := range text[s.pos:] {
		if c != ' ' {
			return nil, s.errorf("something else than spaces after the object")
		}
	}
	return spans, nil
}

func (s *scanner) metadata() error {
	return s.object(func(key string) error {
		if s.peek() != '"' {
			return s.errorf("__metadata__ %q is not a string", short(key))
		}
		_, err := s.str()
		return err
	})
}

// tensor consumes the description of one tensor and checks its shape against its size.
func (s *scanner) tensor(name string) (span, error) {
	sp := span{name: name}
	var size uint64
	var shape, offsets []uint64
	keys := 0
	err := s.object(func(key string) (err error) {
		keys++
		switch key {
		case "dtype":
			size, err = s.dtype()
		case "shape":
			shape, err = s.naturals(maxRank)
		case "data_offsets":
			offsets, err = s.naturals(2)
		default:
			err = s.errorf("unknown key %q", short(key))
		}
		return err
	})
	if err != nil {
		return sp, err
	}
	if keys != 3 {
		return sp, s.errorf("has %d of the 3 keys dtype, shape and data_offsets", keys)
	}
	if len(offsets) != 2 {
		return sp, s.errorf("data_offsets has %d numbers instead of 2", len(offsets))
	}
	sp.begin, sp.end = offsets[0], offsets[1]
	if sp.begin > sp.end {
		return sp, s.errorf("data_offsets [%d, %d] end before they begin", sp.begin, sp.end)
	}
	want, ok := shapeBytes(size, shape)
	if !ok {
		return sp, s.errorf("shape %v overflows", shape)
	}
	if want != sp.end-sp.begin {
		return sp, s.errorf("shape %v needs %d bytes, data_offsets [%d, %d] hold %d", shape, want, sp.begin, sp.end, sp.end-sp.begin)
	}
	return sp, nil
}

// dtype consumes the name of a known dtype and returns its size.
func (s *scanner) dtype() (uint64, error) {
	if s.peek() != '"' {
		return 0, s.errorf("dtype is not a string")
	}
	name, err := s.str()
	if err != nil {
		return 0, err
	}
	dt, err := safetensors.ParseDType(name)
	if err != nil {
		return 0, s.errorf("dtype %q not supported; weights must be %s", short(name), strings.Join(weightDTypes, ", "))
	}
	return dt.Size(), nil
}

// naturals consumes an array of at most limit natural numbers, written in digits alone.
func (s *scanner) naturals(limit int) ([]uint64, error) {
	if s.peek() != '[' {
		return nil, s.errorf("want an array of numbers")
	}
	list := []uint64{}
	err := s.array(func() error {
		if len(list) == limit {
			return s.errorf("more than %d numbers", limit)
		}
		s.space()
		text, err := s.number()
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return s.errorf("%s is not a natural number of 64 bits", short(text))
		}
		list = append(list, n)
		return nil
	})
	return list, err
}

// shapeBytes returns the bytes of a tensor. Its dims must stay countable even where one of them is 0, so that nobody who
// multiplies some of them overflows later.
func shapeBytes(size uint64, shape []uint64) (n uint64, ok bool) {
	n = size
	empty := false
	for _, d := range shape {
		if d == 0 {
			empty = true
			continue
		}
		hi, lo := bits.Mul64(n, d)
		if hi != 0 || lo > math.MaxInt64 {
			return 0, false
		}
		n = lo
	}
	if empty {
		n = 0
	}
	return n, true
}

// checkTiling reports a hole, an overlap or a tail in the size bytes that spans should cover.
func checkTiling(spans []span, size uint64) error {
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end))
	})
	at, last := uint64(0), "the header"
	for _, sp := range spans {
		switch {
		case sp.end > size:
			return fmt.Errorf("tensor %q: data_offsets [%d, %d] exceed the %d bytes of data: the file is cut short or its header is wrong", short(sp.name), sp.begin, sp.end, size)
		case sp.begin < at:
			return fmt.Errorf("tensor %q: data_offsets [%d, %d] overlap %s", short(sp.name), sp.begin, sp.end, last)
		case sp.begin > at:
			return fmt.Errorf("tensor %q: data_offsets [%d, %d] leave a hole of %d bytes after %s", short(sp.name), sp.begin, sp.end, sp.begin-at, last)
		}
		at, last = sp.end, strconv.Quote(short(sp.name))
	}
	if at != size {
		return fmt.Errorf("%d bytes after %s belong to no tensor", size-at, last)
	}
	return nil
}
