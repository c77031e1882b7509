package metric

import (
	"slices"
	"strings"
)

// frames is how many calls of Python's recursion limit are taken when its rouge package walks back through its table
// (measured under LongBench's eval.py with Python 3.11; Chinese text one more).
const (
	frames        = 9
	framesChinese = frames + 1
)

// rougeL is the F score of ROUGE-L by Python's package rouge 1.0.1 (pltrdy), which is not the ROUGE-L of the paper
// (C. Lin, 2004): it splits sentences at every full stop and counts distinct words. Where calls is not 0 and the walk
// through a table of two sentences takes more calls than that, the score is 0, as where Python's recursion limit
// strikes; it is 0 too where a text has no sentence, on which the package raises an error.
func rougeL(hypothesis, reference string, calls int) float64 {
	number := make(map[string]int32)
	hyp, ref := sentences(hypothesis, number), sentences(reference, number)
	if len(hyp) == 0 || len(ref) == 0 {
		return 0
	}
	n, m := distinct(hyp, len(number)), distinct(ref, len(number))
	common, ok := unionLCS(ref, hyp, len(number), calls)
	if !ok {
		return 0
	}
	r, p := float64(common)/float64(m), float64(common)/float64(n)
	return 2 * (p * r / (p + r + 1e-8))
}

// sentences splits text at full stops into numbered words, and takes new words into number. A piece of nothing but
// white space is a sentence of one empty word. Sentences that repeat add nothing and are left out.
func sentences(text string, number map[string]int32) [][]int32 {
	var all [][]int32
	known := make(map[string]bool)
	for s := range strings.SplitSeq(text, ".") {
		if s == "" || known[s] {
			continue
		}
		known[s] = true
		words := fields(s)
		if len(words) == 0 {
			words = []string{""}
		}
		all = append(all, numbered(words, number))
	}
	return all
}

// numbered returns the number of each word and takes new ones into number.
func numbered[T comparable](words []T, number map[T]int32) []int32 {
	numbers := make([]int32, len(words))
	for i, w := range words {
		n, ok := number[w]
		if !ok {
			n = int32(len(number))
			number[w] = n
		}
		numbers[i] = n
	}
	return numbers
}

// distinct counts the distinct words of the sentences.
func distinct(sentences [][]int32, words int) int {
	seen, n := make([]bool, words), 0
	for _, s := range sentences {
		for _, w := range s {
			if !seen[w] {
				seen[w] = true
				n++
			}
		}
	}
	return n
}

// unionLCS counts the distinct words that stand in the longest common subsequence of any sentence of ref and any of
// hyp. It is false where a walk takes more than calls, if that is not 0.
func unionLCS(ref, hyp [][]int32, words, calls int) (int, bool) {
	holds := make([][]int32, words) // which sentences of hyp hold each word, ascending
	for k, h := range hyp {
		for _, w := range h {
			if n := len(holds[w]); n == 0 || holds[w][n-1] != int32(k) {
				holds[w] = append(holds[w], int32(k))
			}
		}
	}
	table := newLCS(words)
	union, n := make([]bool, words), 0
	done := make([]int, len(hyp)) // the last sentence of ref each was compared with, from 1
	for i, r := range ref {
		add := func(at, _ int) {
			if !union[r[at]] {
				union[r[at]] = true
				n++
			}
		}
		if calls > 0 { // every walk counts that could be long enough
			for k, h := range hyp {
				if len(r)+len(h)+1 > calls {
					done[k] = i + 1
					table.columns(h)
					if table.walk(r, add)+1 > calls {
						return 0, false
					}
				}
			}
		}
		for _, w := range r {
			// A comparison can only add words that both sentences have.
			for _, k := range holds[w] {
				if union[w] {
					break
				}
				if done[k] <= i {
					done[k] = i + 1
					table.columns(hyp[k])
					table.walk(r, add)
				}
			}
		}
	}
	return n, true
}

// rougeLsum is the F score of rougeLsum by Python's package rouge_score, without stemming: sentences are lines, words
// are runs of a to z and digits, and each word of either text counts once.
func rougeLsum(prediction, reference string) float64 {
	number := make(map[string]int32)
	can, ref := lines(prediction, number), lines(reference, number)
	inCan, inRef := tally(can, len(number)), tally(ref, len(number))
	n, m := 0, 0
	for w := range inCan {
		n += inCan[w]
		m += inRef[w]
	}
	if n == 0 || m == 0 {
		return 0
	}
	table := newLCS(len(number))
	hits := 0
	for _, r := range ref {
		in := make([]bool, len(r)) // any of the subsequences
		table.columns(r)
		for _, c := range can {
			table.walk(c, func(_, at int) { in[at] = true })
		}
		for at, w := range r {
			if in[at] && inCan[w] > 0 && inRef[w] > 0 {
				hits++
				inCan[w]--
				inRef[w]--
			}
		}
	}
	recall, precision := float64(hits)/float64(m), float64(hits)/float64(n)
	if precision+recall == 0 {
		return 0
	}
	return 2 * precision * recall / (precision + recall)
}

// lines splits text into lines of numbered words, as sentences does.
func lines(text string, number map[string]int32) [][]int32 {
	var all [][]int32
	for line := range strings.SplitSeq(text, "\n") {
		words := strings.FieldsFunc(lower(line), func(r rune) bool {
			return !('a' <= r && r <= 'z' || '0' <= r && r <= '9')
		})
		if len(words) > 0 {
			all = append(all, numbered(words, number))
		}
	}
	return all
}

// tally counts each word of the sentences.
func tally(sentences [][]int32, words int) []int {
	count := make([]int, words)
	for _, w := range slices.Concat(sentences...) {
		count[w]++
	}
	return count
}
