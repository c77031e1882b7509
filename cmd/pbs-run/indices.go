package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// parseIndices reads a flag's list of numbers of 0 to n-1, sorted, each once.
func parseIndices(flag, spec string, n int) ([]int, error) {
	list, err := parseRanges(spec, n)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", flag, spec, err)
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// parseRanges reads numbers and ranges of 0 to n-1, as in 3,17 or 0-2.
func parseRanges(spec string, n int) ([]int, error) {
	var list []int
	for _, word := range strings.Split(spec, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(word), "-")
		if !isRange {
			to = from
		}
		lo, err1 := strconv.Atoi(from)
		hi, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("%q is no number of 0 to %d, nor a range such as 0-2", word, n-1)
		}
		if hi < lo {
			return nil, fmt.Errorf("%s runs backwards: want the smaller number first", word)
		}
		if lo < 0 || hi >= n {
			return nil, fmt.Errorf("%s is outside 0 to %d", word, n-1)
		}
		for i := lo; i <= hi; i++ {
			list = append(list, i)
		}
	}
	return list, nil
}
