package synthetic

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// parseNumbered takes "1. first 2. second" apart. A word may have blanks, but no digits.
func parseNumbered(list string) (words []string, err error) {
	rest := " " + list
	for i := 1; rest != ""; i++ {
		m := regexp.MustCompile(fmt.Sprintf(`^ %d\. ([^0-9.]*[^0-9. ])( %d\. |$)`, i, i+1)).FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Errorf("word %d: %.40q", i, rest)
		}
		words = append(words, m[1])
		rest = rest[len(m[0])-len(m[2]):]
	}
	return words, nil
}

func tally(words []string) map[string]int {
	count := map[string]int{}
	for _, w := range words {
		count[w]++
	}
	return count
}

// checkCommon holds a list against its ten common words and the repeats.
func checkCommon(list string, common []string, repeats, otherRepeats int) (different int, err error) {
	words, err := parseNumbered(list)
	if err != nil {
		return 0, err
	}
	count := tally(words)
	for _, w := range common {
		if count[w] != repeats {
			return 0, fmt.Errorf("common word %q comes %d times, want %d", w, count[w], repeats)
		}
		delete(count, w)
	}
	for w, n := range count {
		if n != otherRepeats {
			return 0, fmt.Errorf("word %q comes %d times, want %d", w, n, otherRepeats)
		}
	}
	if len(tally(common)) != 10 {
		return 0, fmt.Errorf("common words %q", common)
	}
	return 10 + len(count), nil
}

// parseCommon takes a prompt of cwe apart and returns how many different words the list has.
func parseCommon(user, prefix string, outputs []string, length int) (int, error) {
	const (
		intro    = "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that appear most often.\n"
		question = "\nQuestion: What are the 10 most common words in the above list?"
		answer   = " Answer: The top 10 words that appear most often in the list are:"
	)
	m := regexp.MustCompile(`^` + regexp.QuoteMeta(intro) + `(.*)` + regexp.QuoteMeta(question+answer) + ` (.*)\n` +
		regexp.QuoteMeta(intro) + `(.*)` + regexp.QuoteMeta(question) + `$`).FindStringSubmatch(user)
	if m == nil || prefix != answer {
		return 0, fmt.Errorf("wording of %.200q, prefix %q", user, prefix)
	}
	repeats := [5]int{40, 10, 3, 30, 3}
	if length < 4096 {
		repeats = [5]int{20, 3, 1, 6, 1}
	}
	answers, err := parseNumbered(m[2])
	if err != nil {
		return 0, fmt.Errorf("answer of the example: %w", err)
	}
	if n, err := checkCommon(m[1], answers, repeats[1], repeats[2]); err != nil || n != repeats[0] {
		return 0, fmt.Errorf("example of %d words: %v", n, err)
	}
	return checkCommon(m[3], outputs, repeats[3], repeats[4])
}

func TestCommonWordsGrammar(t *testing.T) {
	for i, r := range readRows[RULERRow](t, "ruler/cwe.jsonl") {
		length := 1200
		if r.Length > 2000 {
			length = 4096
		}
		if n, err := parseCommon(r.Input, r.AnswerPrefix, r.Outputs, length); err != nil || n < 50 {
			t.Errorf("RULER's row %d: %d words, %v", i, n, err)
		}
	}
	for _, length := range []int{1200, 4095, 4096, 16384} {
		common := map[string]bool{}
		for i, s := range makeSamples(t, toyConfig("cwe", length, 5), 10) {
			n, err := parseCommon(s.Prompt.User, s.Prompt.Prefix, s.Outputs, length)
			if err != nil || n < 50 {
				t.Fatalf("length %d sample %d: %d words, %v", length, i, n, err)
			}
			for _, w := range s.Outputs {
				common[w] = true
			}
		}
		if len(common) < 90 {
			t.Errorf("length %d: only %d common words in 10 samples", length, len(common))
		}
	}
	s := makeSamples(t, toyConfig("cwe", 1200, 5), 1)[0]
	for _, change := range [][2]string{{" 30. ", " 31. "}, {s.Outputs[3], "zzz"}, {"10 most", "ten most"}, {"\nBelow", "\n\nBelow"}} {
		if _, err := parseCommon(strings.Replace(s.Prompt.User, change[0], change[1], 1), s.Prompt.Prefix, s.Outputs, 1200); err == nil {
			t.Errorf("%q for %q went through", change[1], change[0])
		}
	}
}

// Where a list ends, the words of the other go on, then pairs, all different and smoothly in length.
func TestMoreWordsThanThereAre(t *testing.T) {
	v, err := newVocabulary(PlainWords)
	if err != nil {
		t.Fatal(err)
	}
	rng := stream(1, "pairs", 0)
	if got := v.atLeast(rng, len(v.all), nil); len(got) != len(v.all) {
		t.Errorf("%d words, want %d", len(got), len(v.all))
	}
	more := []string{"acorn", "one", "two", "three"} // the first is in the plain list
	got := v.atLeast(rng, len(v.all)+2, more)
	if rest := got[len(v.all):]; len(tally(got)) != len(v.all)+2 || !slices.Contains(more[1:], rest[0]) || !slices.Contains(more[1:], rest[1]) {
		t.Errorf("two more words: %q", got[len(v.all):])
	}
	got = v.atLeast(rng, 3*len(v.all), more)
	pairs := 0
	for _, w := range got[len(v.all):] {
		if isPair(w, v) {
			pairs++
		}
	}
	if len(got) != 3*len(v.all) || len(tally(got)) != len(got) || pairs != 2*len(v.all)-3 || !slices.Equal(got[:len(v.all)], v.all) {
		t.Errorf("%d different words of %d, %d pairs", len(tally(got)), len(got), pairs)
	}
	for _, words := range []Words{PlainWords, Wonderwords} {
		c := toyConfig("cwe", 400_000, 1)
		c.Words = words
		s := makeSamples(t, c, 1)[0]
		if total := s.Tokens + s.MaxNew; total < 380_000 {
			t.Errorf("400,000 tokens: only %d used", total)
		}
	}
}

// parseFrequent takes a prompt of fwe apart: the words and how often each comes, most frequent first.
func parseFrequent(user, prefix string) (words []string, count map[string]int, err error) {
	m := regexp.MustCompile(`^Read the following coded text and track the frequency of each coded word\. ` +
		`Find the three most frequently appeared coded words\. ((?:(?:\.\.\.|[a-z]{6}) )*(?:\.\.\.|[a-z]{6}))\n` +
		`Question: Do not provide any explanation\. Please ignore the dots '\.\.\.\.'\. ` +
		`What are the three most frequently appeared words in the above coded text\?$`).FindStringSubmatch(user)
	if m == nil || prefix != " Answer: According to the coded text above, the three most frequently appeared words are:" {
		return nil, nil, fmt.Errorf("wording of %.200q, prefix %q", user, prefix)
	}
	count = tally(strings.Split(m[1], " "))
	for w := range count {
		words = append(words, w)
	}
	slices.SortFunc(words, func(a, b string) int { return cmp.Compare(count[b], count[a]) })
	return words, count, nil
}

// checkFrequent holds the counts against some N: rank k comes floor(N k^-2 / zeta(2)) times.
func checkFrequent(words []string, count map[string]int, outputs []string, length int) error {
	if words[0] != "..." || !slices.Equal(words[1:4], outputs) || count[words[3]] == count[words[4]] {
		return fmt.Errorf("most frequent are %q, outputs %q", words[:5], outputs)
	}
	low, high := 0.0, math.Inf(1) // of N / zeta(2)
	for i, w := range words {
		k := float64(i + 1)
		low, high = max(low, float64(count[w])*k*k), min(high, float64(count[w]+1)*k*k)
	}
	if low >= high+1e-6*high {
		return fmt.Errorf("counts are not those of one N: %v to %v", low, high)
	}
	if vocabulary, seen := (length-50)/50, int(math.Sqrt(high)); len(words) != min(vocabulary, len(words)) || len(words) < min(vocabulary, seen)-1 {
		return fmt.Errorf("%d words of a vocabulary of %d, N/zeta(2) = %v", len(words), vocabulary, high)
	}
	return nil
}

// Expected counts add up to their number, and the first is its share by zeta(2).
func TestZipf(t *testing.T) {
	coded := make([]string, 1000)
	for i := range coded {
		coded[i] = fmt.Sprint(i)
	}
	words := zipf(coded, 1_000_000)
	if count := tally(words); count["0"] != 607_927 || count["1"] != 151_981 || count["999"] != 0 || len(words) > 1_000_000 || len(words) < 998_000 {
		t.Errorf("%d words, first %d, second %d", len(words), count["0"], count["1"])
	}
}

func TestFrequentWordsGrammar(t *testing.T) {
	for i, r := range readRows[RULERRow](t, "ruler/fwe.jsonl") {
		length := 1200
		if r.Length > 2000 {
			length = 4096
		}
		words, count, err := parseFrequent(r.Input, r.AnswerPrefix)
		if err == nil {
			err = checkFrequent(words, count, r.Outputs, length)
		}
		if err != nil {
			t.Errorf("RULER's row %d: %v", i, err)
		}
	}
	for _, length := range []int{500, 1200, 4096, 32768} {
		for i, s := range makeSamples(t, toyConfig("fwe", length, 5), 20) {
			words, count, err := parseFrequent(s.Prompt.User, s.Prompt.Prefix)
			if err == nil {
				err = checkFrequent(words, count, s.Outputs, length)
			}
			if err != nil {
				t.Errorf("length %d sample %d: %v", length, i, err)
			}
		}
	}
	s := makeSamples(t, toyConfig("fwe", 1200, 5), 1)[0]
	for _, change := range [][2]string{{" ... ", " .. "}, {" ... ", "  "}, {s.Outputs[1], s.Outputs[0]}, {"'....'", "'...'"}} {
		words, count, err := parseFrequent(strings.ReplaceAll(s.Prompt.User, change[0], change[1]), s.Prompt.Prefix)
		if err == nil && checkFrequent(words, count, s.Outputs, 1200) == nil {
			t.Errorf("%q for %q went through", change[1], change[0])
		}
	}
}
