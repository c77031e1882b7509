package metric

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// tableWalk is lcs.walk by the whole table, as Python's rouge has it.
func tableWalk(x, y []int32) (pairs [][2]int, steps int) {
	table := make([][]int, len(x)+1)
	for i := range table {
		table[i] = make([]int, len(y)+1)
		for j := 1; i > 0 && j <= len(y); j++ {
			if x[i-1] == y[j-1] {
				table[i][j] = table[i-1][j-1] + 1
			} else {
				table[i][j] = max(table[i-1][j], table[i][j-1])
			}
		}
	}
	for i, j := len(x), len(y); i > 0 && j > 0; steps++ {
		switch {
		case x[i-1] == y[j-1]:
			i, j = i-1, j-1
			pairs = append(pairs, [2]int{i, j})
		case table[i-1][j] > table[i][j-1]:
			i--
		default:
			j--
		}
	}
	return pairs, steps
}

func FuzzLCS(f *testing.F) {
	f.Add("", "")
	f.Add("abcab", "bacba")
	f.Add(strings.Repeat("abcde", 40), strings.Repeat("badce", 50)) // rows of four words, several blocks
	f.Add(strings.Repeat("the quick brown fox ", 45), strings.Repeat("a lazy dog jumps ", 24))
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a)*len(b) > 1<<19 {
			return
		}
		number := make(map[byte]int32)
		x, y := numbered([]byte(a), number), numbered([]byte(b), number)
		table := newLCS(len(number))
		for range 2 { // the second time with what the first left
			table.columns(y)
			var pairs [][2]int
			steps := table.walk(x, func(i, j int) { pairs = append(pairs, [2]int{i, j}) })
			want, wantSteps := tableWalk(x, y)
			if !slices.Equal(pairs, want) || steps != wantSteps {
				t.Fatalf("%q %q: %v in %d steps, want %v in %d", a, b, pairs, steps, want, wantSteps)
			}
			if n := table.length(x); n != len(want) {
				t.Fatalf("%q %q: length %d, want %d", a, b, n, len(want))
			}
			table.columns(x)
		}
	})
}

// plainDifflib is difflibRatio by the definition of find_longest_match, one cell after the other.
func plainDifflib(a, b []rune) float64 {
	count := make(map[rune]int)
	for _, c := range b {
		count[c]++
	}
	popular := func(c rune) bool { return len(b) >= 200 && count[c] > len(b)/100+1 }
	var blocks func(alo, ahi, blo, bhi int) int
	blocks = func(alo, ahi, blo, bhi int) int {
		i, j, size := alo, blo, 0
		row := make([]int, len(b)+1)
		for k := alo; k < ahi; k++ {
			next := make([]int, len(b)+1)
			for l := blo; l < bhi; l++ {
				if a[k] == b[l] && !popular(b[l]) {
					if next[l+1] = row[l] + 1; next[l+1] > size {
						size = next[l+1]
						i, j = k-size+1, l-size+1
					}
				}
			}
			row = next
		}
		for i > alo && j > blo && a[i-1] == b[j-1] {
			i, j, size = i-1, j-1, size+1
		}
		for i+size < ahi && j+size < bhi && a[i+size] == b[j+size] {
			size++
		}
		if size == 0 {
			return 0
		}
		return size + blocks(alo, i, blo, j) + blocks(i+size, ahi, j+size, bhi)
	}
	return 2 * float64(blocks(0, len(a), 0, len(b))) / float64(len(a)+len(b))
}

func FuzzDifflib(f *testing.F) {
	f.Add("abxcd", "abcd")
	f.Add("return x + y", "return y + x")
	f.Add(strings.Repeat("if (a < b) { c = d; } ", 12), strings.Repeat("while (b > a) { d = c; } ", 11))
	f.Add("qjzkv"+strings.Repeat("abcdefghij", 20), strings.Repeat("bacdefghji", 30)+"vqkjz")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := []rune(a), []rune(b)
		if len(x) == 0 || len(y) == 0 || len(x)+len(y) > 800 {
			return
		}
		if got, want := difflibRatio(x, y), plainDifflib(x, y); got != want {
			t.Errorf("%q %q: %v, want %v", a, b, got, want)
		}
	})
}

// FuzzLetter finds a letter or none in any response, under both protocols.
func FuzzLetter(f *testing.F) {
	for _, s := range []string{"", "The correct answer is *(*B)", "答案是：C", "1. \n", "answer : d", "the correct answer is \\boxed{D}", "\xffA:"} {
		f.Add(s)
	}
	official, open := NewLongBench2(THUDM), NewLongBench2(OpenCompass)
	f.Fuzz(func(t *testing.T, response string) {
		for _, letter := range []string{official.Letter(response), open.Letter(response)} {
			if len(letter) > 1 || !strings.Contains("ABCD", letter) || letter != "" && !strings.Contains(response, letter) {
				t.Errorf("%q: letter %q", response, letter)
			}
		}
	})
}

// FuzzScores scores any texts with every scorer: no panic, and a score from 0 to 1.
func FuzzScores(f *testing.F) {
	f.Add("the Paragraph 3", "Paragraph 3", `["A","B"]`)
	f.Add("答案是。《段落３》", "段落３", `[[1,2.0,"x"]]`)
	f.Add("answer is:", "", `3`)
	f.Add("1_0 ٣.٣", "\xff..", `[{"a":null}]`)
	l := NewLongBench(THUDM, 1000)
	f.Fuzz(func(t *testing.T, prediction, answer, label string) {
		for _, d := range LongBenchDatasets() {
			s, err := l.Score(d, prediction, []string{answer, label}, []string{answer, label})
			if s < 0 || s > 1 || s != s || err != nil && s != 0 {
				t.Errorf("%s %q %q: %v %v", d, prediction, answer, s, err)
			}
		}
		for _, task := range InfiniteBenchTasks() {
			s, err := InfiniteBench(task, prediction, json.RawMessage(label), "gpt4")
			if s < 0 || s > 1 || s != s || err != nil && s != 0 {
				t.Errorf("%s %q %s: %v %v", task, prediction, label, s, err)
			}
		}
	})
}

// TestLongTexts scores texts of 50 KB that are hard on the scorers. Python's take minutes to hours for most of them, or
// gigabytes; here each is done in a second or two on an old machine.
func TestLongTexts(t *testing.T) {
	const size = 50_000
	repeat := func(s string) string { return strings.Repeat(s, size/len(s)) }
	var words, unlike, up, down, short strings.Builder
	for i := 0; words.Len() < size; i++ {
		fmt.Fprintf(&words, "w%d ", i*i%5003)
		fmt.Fprintf(&unlike, "w%d ", i*7919%5003)
		fmt.Fprintf(&short, "a%d.", i*i%4001)
	}
	for i := 0; i < size; i++ { // no two neighbours of one are neighbours in the other
		up.WriteRune(rune(0x4E00 + i%128))
		down.WriteRune(rune(0x4E00 + 127 - i%128))
	}
	chained := strings.Builder{} // every second character matches the next one of up
	for i := range size / 2 {
		chained.WriteRune(rune(0x4E00 + i%128))
		chained.WriteRune(rune(0x5E00 + i%128))
	}
	l, open := NewLongBench(THUDM, 0), NewLongBench(OpenCompass, 0)
	letters := NewLongBench2(OpenCompass)
	for name, score := range map[string]func() float64{
		"rouge, one sentence":   func() float64 { return rougeL(words.String(), unlike.String(), 0) },
		"rouge, many sentences": func() float64 { return rougeL(short.String(), "b."+short.String(), 0) },
		"rouge with a limit":    func() float64 { return rougeL(short.String(), words.String(), 991) },
		"rougeLsum":             func() float64 { return rougeLsum(strings.ReplaceAll(short.String(), ".", "\n"), words.String()) },
		"difflib, no neighbours": func() float64 {
			return difflibRatio([]rune(up.String()), []rune(down.String()))
		},
		"difflib, a chain": func() float64 { return difflibRatio([]rune(up.String()), []rune(chained.String())) },
		"difflib, one row": func() float64 { return difflibRatio([]rune(repeat("ab")), []rune(repeat("ba"))) },
		"difflib, short b": func() float64 { return difflibRatio([]rune(repeat("ab")), []rune(strings.Repeat("ab", 99))) },
		"Levenshtein":      func() float64 { return levenshteinRatio([]rune(up.String()), []rune(down.String())) },
		"jieba":            func() float64 { s, _ := open.Score("vcsum", up.String(), []string{down.String(), "x"}, nil); return s },
		"classes": func() float64 {
			s, _ := l.Score("trec", repeat("a"), []string{"a"}, slices.Repeat([]string{"a"}, 1000))
			return s
		},
		"letter, no letter": func() float64 { return float64(len(letters.Letter(repeat("the correct answer is boxed ")))) },
		"letter, white":     func() float64 { return float64(len(letters.Letter("x" + repeat(" 1.答案选项 ") + "x"))) },
	} {
		start := time.Now()
		s := score()
		took := time.Since(start)
		t.Logf("%-24s %.4f in %v", name, s, took)
		if took > 30*time.Second {
			t.Errorf("%s: %v", name, took)
		}
	}
}
