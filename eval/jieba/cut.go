// Package jieba cuts Chinese text into words exactly as Python's jieba 0.42.1 does in its default mode,
// jieba.cut(text, cut_all=False, HMM=True), with the same dictionary and the same hidden Markov model. LongBench's
// Chinese scores depend on every cut.
package jieba

import "sync"

// A Segmenter cuts text into words. The first cut reads the embedded tables, in some 50 ms. It may be used by several
// goroutines at once.
type Segmenter struct {
	tables func() *tables
}

// New returns a Segmenter.
func New() *Segmenter { return &Segmenter{sync.OnceValue(load)} }

// Cut returns the words of text, one after the other and without a gap: joined they are the text again.
func (s *Segmenter) Cut(text string) []string {
	var words []string
	run := cutter{t: s.tables()}
	end := 0 // of the text cut so far
	flush := func(to int) {
		words = append(words, run.cut(text[end:to])...)
		end = to
	}
	for i, c := range text {
		if inRun(c) || i < end { // the second byte of \r\n is cut already
			continue
		}
		flush(i)
		end = i + width(text[i:])
		words = append(words, text[i:end])
	}
	flush(len(text))
	return words
}

// inRun tells whether words may hold c. All other characters are words of their own.
func inRun(c rune) bool {
	switch c {
	case '+', '#', '&', '.', '_', '%', '-':
		return true
	}
	return han(c) || alphanumeric(c)
}

func han(c rune) bool { return '\u4E00' <= c && c <= '\u9FD5' }

func alphanumeric(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// width returns the bytes of the first character, two for a line end of \r\n.
func width(s string) int {
	if len(s) > 1 && s[:2] == "\r\n" {
		return 2
	}
	for i := range s {
		if i > 0 {
			return i
		}
	}
	return len(s)
}

// A cutter cuts runs of word characters.
type cutter struct {
	t      *tables
	run    string
	chars  []rune
	starts []int     // [chars+1] where each character starts in run
	score  []float64 // [chars+1] of the best path from each character to the end
	last   []int     // [chars] last character of the best path's word there
	words  []string
}

// cut takes the path of dictionary words with the greatest product of frequencies. Stretches where it has single
// characters only go to the hidden Markov model, which knows the shape of names and other words it has never seen.
func (c *cutter) cut(run string) []string {
	c.run, c.chars, c.starts, c.words = run, c.chars[:0], c.starts[:0], nil
	for i, char := range run {
		c.chars = append(c.chars, char)
		c.starts = append(c.starts, i)
	}
	c.starts = append(c.starts, len(run))
	c.path()
	single := 0 // first of the single characters not emitted yet
	for i := 0; i < len(c.chars); i = c.last[i] + 1 {
		if c.last[i] == i {
			continue
		}
		c.singles(single, i)
		single = c.last[i] + 1
		c.emit(i, single)
	}
	c.singles(single, len(c.chars))
	return c.words
}

// emit adds the word of characters i up to j.
func (c *cutter) emit(i, j int) { c.words = append(c.words, c.run[c.starts[i]:c.starts[j]]) }

// path finds the best word at each character, from the last one to the first. Of equal paths the longer word wins.
func (c *cutter) path() {
	n := len(c.chars)
	c.score = append(c.score[:0], make([]float64, n+1)...)
	c.last = append(c.last[:0], make([]int, n)...)
	for i := n - 1; i >= 0; i-- {
		// A character that starts no word stands for itself with count 1.
		best, last, any := c.t.logs[0]-c.t.total+c.score[i+1], i, false
		at := uint32(0)
		for j := i; j < n; j++ {
			var ok bool
			if at, ok = c.t.next(at, c.chars[j]); !ok {
				break
			}
			count := c.t.nodes[at].count
			if count == 0 {
				continue
			}
			score := c.t.logs[count] - c.t.total + c.score[j+1]
			if !any || score >= best {
				best, last, any = score, j, true
			}
		}
		c.score[i], c.last[i] = best, last
	}
}

// singles emits characters i up to j, each of which the best path has alone.
func (c *cutter) singles(i, j int) {
	switch {
	case i == j:
	case j-i > 1 && !c.t.word(c.chars[i:j]):
		c.unknown(i, j)
	default:
		for ; i < j; i++ {
			c.emit(i, i+1)
		}
	}
}
