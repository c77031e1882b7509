package attention

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/pbs-run/pbs-run/kernels"
)

// settings are what a spec says after its name. The first wrong one sticks and comes back from finish.
type settings struct {
	spec, name string
	keys       []string
	values     map[string]string
	err        error
}

func parseSettings(spec string) (*settings, error) {
	name, list, has := strings.Cut(spec, ":")
	s := &settings{spec: spec, name: name, values: map[string]string{}}
	if !has {
		return s, nil
	}
	for _, word := range strings.Split(list, ",") {
		key, value, ok := strings.Cut(word, "=")
		if _, twice := s.values[key]; !ok || twice {
			return nil, fmt.Errorf("attention %q: %q is not a setting of its own of the form key=value", spec, word)
		}
		s.keys = append(s.keys, key)
		s.values[key] = value
	}
	return s, nil
}

func (s *settings) fail(key, value, want string) {
	if s.err == nil {
		s.err = fmt.Errorf("attention %q: %s=%s: want %s", s.spec, key, value, want)
	}
}

// take returns the value of key and whether it is given; every key that is taken is known.
func (s *settings) take(key string) (string, bool) {
	v, ok := s.values[key]
	delete(s.values, key)
	return v, ok
}

func (s *settings) integer(key string, def, lo, hi int) int {
	v, ok := s.take(key)
	if !ok {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < lo || n > hi {
		s.fail(key, v, fmt.Sprintf("a whole number from %d to %d", lo, hi))
		return def
	}
	return n
}

// fraction reads a number from 0 to 1.
func (s *settings) fraction(key string, def float64) float64 {
	return s.float(key, def, 1, "a number from 0 to 1")
}

// number reads a number from 0.
func (s *settings) number(key string, def float64) float64 {
	return s.float(key, def, math.MaxFloat64, "a number from 0")
}

func (s *settings) float(key string, def, most float64, want string) float64 {
	v, ok := s.take(key)
	if !ok {
		return def
	}
	x, err := strconv.ParseFloat(v, 64)
	if err != nil || !(x >= 0 && x <= most) {
		s.fail(key, v, want)
		return def
	}
	return x
}

func (s *settings) onOff(key string, def bool) bool {
	v, ok := s.take(key)
	if ok && v != "on" && v != "off" {
		s.fail(key, v, "on or off")
	}
	if !ok {
		return def
	}
	return v == "on"
}

// block reads the tokens of a block.
func (s *settings) block() int { return s.integer("block", 128, 16, kernels.MaxSegment) }

// blocks reads block and segment, which has to be a multiple of it; where the default one is too short it is two blocks.
func (s *settings) blocks() (block, segment int) {
	block, segment = s.block(), 256
	if block > segment && s.values["segment"] == "" {
		segment = min(2*block, kernels.MaxSegment/block*block)
	}
	_, given := s.values["segment"]
	segment = s.integer("segment", segment, 16, kernels.MaxSegment)
	if segment%block != 0 {
		want := fmt.Sprintf("a multiple of block=%d", block)
		if !given {
			want += "; it is the default, give a segment"
		}
		s.fail("segment", strconv.Itoa(segment), want)
	}
	return block, segment
}

// stride reads stride, which has to divide block.
func (s *settings) stride(block int) int {
	n := s.integer("stride", 8, 1, block)
	if block%n != 0 {
		s.fail("stride", strconv.Itoa(n), fmt.Sprintf("a divisor of block=%d", block))
	}
	return n
}

// last reads how many query blocks at the end keep all.
func (s *settings) last() int { return s.integer("last", 0, 0, math.MaxInt32) }

// finish reports the first wrong setting, or one that the method does not have.
func (s *settings) finish() error {
	for _, key := range s.keys {
		if _, left := s.values[key]; left && s.err == nil {
			s.err = fmt.Errorf("attention %q: %s has no setting %q", s.spec, s.name, key)
		}
	}
	return s.err
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// last is the setting of that name behind the others, left out where it is 0.
func last(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(",last=%d", n)
}

// density is the setting of that name behind the others, which is for measuring and left out where it is 0.
func density(x float64) string {
	if x == 0 {
		return ""
	}
	return ",density=" + number(x)
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
