package metric

import (
	"math"
	"slices"
)

// fuzzRatio is fuzz.ratio of Python's fuzzywuzzy, in percent: that of difflib or, where python-Levenshtein is installed,
// of that.
func fuzzRatio(a, b string, levenshtein bool) float64 {
	if a == b {
		return 100
	}
	if a == "" || b == "" {
		return 0
	}
	x, y := []rune(a), []rune(b)
	ratio := difflibRatio
	if levenshtein {
		ratio = levenshteinRatio
	}
	return math.RoundToEven(100 * ratio(x, y))
}

// levenshteinRatio is python-Levenshtein's ratio: 1 less the share of insertions and deletions.
func levenshteinRatio(a, b []rune) float64 {
	t := len(a) + len(b)
	number := make(map[rune]int32)
	x, y := numbered(a, number), numbered(b, number)
	table := newLCS(len(number))
	table.columns(y)
	d := t - 2*table.length(x)
	return 1 - float64(d)/float64(t)
}

// difflibRatio is SequenceMatcher(None, a, b).ratio() of Python's difflib.
func difflibRatio(a, b []rune) float64 {
	at := make(map[rune][]int32)
	for j, c := range b {
		at[c] = append(at[c], int32(j))
	}
	if n := len(b); n >= 200 {
		for c, where := range at {
			if len(where) > n/100+1 { // popular characters start no match
				delete(at, c)
			}
		}
	}
	m := matcher{a: a, b: b, at: at, length: make([]int32, len(b)+1), before: make([]int32, len(b)+1)}
	matches := m.blocks(len(a)) // no match is longer
	return 2 * float64(matches) / float64(len(a)+len(b))
}

// A matcher finds matching blocks as difflib does: the longest one, then those left and right of it.
type matcher struct {
	a, b           []rune
	at             map[rune][]int32 // where each character stands in b, popular ones left out
	length, before []int32          // [len(b)+1] of the match that ends before b[j], at this and the previous i
}

// blocks returns the characters in matching blocks. limit bounds the length of the longest one.
func (m *matcher) blocks(limit int) (matches int) {
	type span struct{ alo, ahi, blo, bhi, limit int }
	todo := []span{{0, len(m.a), 0, len(m.b), limit}}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		i, j, size, found := m.longest(s.alo, s.ahi, s.blo, s.bhi, s.limit)
		matches += size
		if size == 0 {
			continue
		}
		if s.alo < i && s.blo < j {
			todo = append(todo, span{s.alo, i, s.blo, j, found})
		}
		if i+size < s.ahi && j+size < s.bhi {
			todo = append(todo, span{i + size, s.ahi, j + size, s.bhi, found})
		}
	}
	return matches
}

// longest is find_longest_match: the longest run of unpopular characters that a[alo:ahi] and b[blo:bhi] share, the one
// that starts first in a and then in b, and what of equal characters stands at its ends. found is its length without
// those ends. No run inside of a span is longer than the longest of the span around it, so the search stops at limit:
// this bounds the time where many short matches follow one another.
func (m *matcher) longest(alo, ahi, blo, bhi, limit int) (i, j, size, found int) {
	i, j = alo, blo
	var touched, last []int32 // entries of length and before that are not 0
	for k := alo; k < ahi && size < limit; k++ {
		where := m.at[m.a[k]]
		from, _ := slices.BinarySearch(where, int32(blo))
		where = where[from:]
		to, _ := slices.BinarySearch(where, int32(bhi))
		touched = where[:to]
		for _, at := range touched {
			n := m.before[at] + 1
			m.length[at+1] = n
			if int(n) > size {
				size = int(n)
				i, j = k-size+1, int(at)-size+1
				if size == limit {
					break
				}
			}
		}
		for _, at := range last {
			m.before[at+1] = 0
		}
		m.length, m.before, last = m.before, m.length, touched
	}
	for _, at := range last {
		m.length[at+1], m.before[at+1] = 0, 0
	}
	found = size
	for ; i > alo && j > blo && m.a[i-1] == m.b[j-1]; size++ {
		i, j = i-1, j-1
	}
	for i+size < ahi && j+size < bhi && m.a[i+size] == m.b[j+size] {
		size++
	}
	return i, j, size, found
}
