package eval

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// toyCount counts one token for every three letters or digits begun and for every mark, and twelve for a chat
// template.
func toyCount(p Prompt) (int, error) {
	n, run := 12, 0
	for _, r := range p.User + p.Prefix {
		switch {
		case unicode.IsLetter(r) || unicode.IsNumber(r):
			if run%3 == 0 {
				n++
			}
			run++
			continue
		case !unicode.IsSpace(r):
			n++
		}
		run = 0
	}
	return n, nil
}

// toyEssay is text of sentences of 3 to 12 words that are all different; some words have a mark inside.
func toyEssay(sentences int) string {
	var b strings.Builder
	for i := range sentences {
		for j := range 3 + i*7%10 {
			fmt.Fprintf(&b, "w%d-%d \n", i, j)
		}
		fmt.Fprintf(&b, "end%d%c\t", i, ".?!"[i%3])
	}
	return b.String()
}

// A niahRow is a prompt of a needle task taken apart.
type niahRow struct {
	needles  [][2]string // key, value, in the order of the text
	offsets  []int       // of the needles in the context
	context  string      // between the introduction and the question
	template string      // the wording with the asked key as KEY and the context as CONTEXT
	asked    string
}

var needleText = regexp.MustCompile(`One of the special magic numbers for ([a-z]+-[a-z]+) is: ([0-9]+)\.`)

// takeApart splits a prompt at its first and last newline.
func takeApart(t *testing.T, input, prefix string) niahRow {
	t.Helper()
	start, end := strings.Index(input, "\n")+1, strings.LastIndex(input, "\n")
	asked := regexp.MustCompile(`number for (\S+) mentioned`).FindStringSubmatch(input[end:])
	if start > end || asked == nil {
		t.Fatalf("not a needle prompt: %.80q ... %q", input, input[max(0, end):])
	}
	row := niahRow{context: input[start:end], asked: asked[1]}
	for _, m := range needleText.FindAllStringSubmatchIndex(row.context, -1) {
		row.needles = append(row.needles, [2]string{row.context[m[2]:m[3]], row.context[m[4]:m[5]]})
		row.offsets = append(row.offsets, m[0])
	}
	row.template = strings.ReplaceAll(input[:start]+"CONTEXT"+input[end:]+"|"+prefix, row.asked, "KEY")
	return row
}

func goldenRows(t *testing.T, task string) (rows []niahRow, outputs [][]string) {
	t.Helper()
	f, err := os.Open("testdata/ruler/" + task + ".jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r struct {
			Input        string
			AnswerPrefix string `json:"answer_prefix"`
			Outputs      []string
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		rows, outputs = append(rows, takeApart(t, r.Input, r.AnswerPrefix)), append(outputs, r.Outputs)
	}
	if err := lines.Err(); err != nil || len(rows) == 0 {
		t.Fatalf("%s: %d rows, %v", task, len(rows), err)
	}
	return rows, outputs
}

// The wording of our prompts is that of RULER's own rows, once keys and text are cut out, and so is their structure.
func TestSamplesLookLikeRULERs(t *testing.T) {
	for _, task := range RULERTasks() {
		golden, goldenOutputs := goldenRows(t, task)
		g, err := NewGenerator(task, toyEssay(400), 1500, 7, toyCount)
		if err != nil {
			t.Fatal(err)
		}
		var ours []niahRow
		var outputs [][]string
		for i := range 40 {
			s, err := g.Sample(i)
			if err != nil {
				t.Fatal(err)
			}
			ours, outputs = append(ours, takeApart(t, s.Prompt.User, s.Prompt.Prefix)), append(outputs, s.Outputs)
		}
		want := golden[0]
		for i, row := range append(golden, ours...) {
			out := append(goldenOutputs, outputs...)[i]
			if row.template != want.template {
				t.Errorf("%s row %d: wording\n%q, want\n%q", task, i, row.template, want.template)
			}
			if len(row.needles) != len(want.needles) {
				t.Errorf("%s row %d: %d needles, want %d", task, i, len(row.needles), len(want.needles))
			}
			keys, values := map[string]bool{}, map[string]bool{}
			for _, n := range row.needles {
				keys[n[0]], values[n[1]] = true, true
				if len(n[1]) != 7 || n[1][0] == '0' {
					t.Errorf("%s row %d: value %q is not of seven digits", task, i, n[1])
				}
				if n[0] == row.asked && !slices.Equal(out, []string{n[1]}) {
					t.Errorf("%s row %d: asks for %s = %s, outputs %q", task, i, n[0], n[1], out)
				}
			}
			if len(keys) != len(row.needles) || len(values) != len(row.needles) || !keys[row.asked] {
				t.Errorf("%s row %d: needles %v, asked %s", task, i, row.needles, row.asked)
			}
		}
	}
}

// Without its needles a context is the squeezed essay from its start, however often that has to be repeated.
func TestContextIsTheEssay(t *testing.T) {
	for _, sentences := range []int{1, 20, 1000} {
		essay := toyEssay(sentences)
		g, err := NewGenerator("niah_multikey_1", essay, 2000, 3, toyCount)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			s, err := g.Sample(i)
			if err != nil {
				t.Fatal(err)
			}
			context := takeApart(t, s.Prompt.User, s.Prompt.Prefix).context
			got := strings.Fields(needleText.ReplaceAllString(context, ""))
			want := strings.Fields(strings.Repeat(essay+" ", len(got)/len(strings.Fields(essay))+1))
			if !slices.Equal(got, want[:len(got)]) {
				t.Fatalf("essay of %d sentences, sample %d: text is not the essay's", sentences, i)
			}
		}
	}
}

// A needle stands before a sentence: at the start, at the end, or behind a word that ends one.
func TestHaystackPlacesNeedles(t *testing.T) {
	words := strings.Fields("a b. c d? e f! g h")
	for _, c := range []struct {
		size   int
		depths []int
		want   string
	}{
		{8, []int{0}, " N0 a b. c d? e f! g h"},
		{8, []int{25}, "a b. N0 c d? e f! g h"},
		{8, []int{49, 51}, "a b. N0 c d? N1 e f! g h"},
		{8, []int{100}, "a b. c d? e f! g h N0 "},
		{8, []int{51, 54}, "a b. c d? N0  N1 e f! g h"},
		{3, []int{50}, "a b. N0 c"},
		{11, []int{50}, "a b. c d? N0 e f! g h a b. c"},
		{0, []int{50}, " N0 "},
	} {
		needles := []string{"N0", "N1"}[:len(c.depths)]
		if got := haystack(words, c.size, needles, c.depths); got != c.want {
			t.Errorf("size %d depths %v: %q, want %q", c.size, c.depths, got, c.want)
		}
	}
}

// Prompt and answer fit the length and fill it to 95 %.
func TestLengthRule(t *testing.T) {
	essays := map[string]string{"long": toyEssay(20000), "short": toyEssay(30)}
	for name, essay := range essays {
		for _, task := range RULERTasks() {
			for _, length := range []int{500, 1024, 4096, 16384, 65536} {
				calls := 0
				count := func(p Prompt) (int, error) { calls++; return toyCount(p) }
				g, err := NewGenerator(task, essay, length, 1, count)
				if err != nil {
					t.Fatal(err)
				}
				if calls > 13 {
					t.Errorf("%s %s %d: the search counted %d prompts", name, task, length, calls)
				}
				calls = 0
				const samples = 30
				for i := range samples {
					s, err := g.Sample(i)
					if err != nil {
						t.Fatal(err)
					}
					n, _ := toyCount(s.Prompt)
					if total := n + s.MaxNew; s.Tokens != n || s.MaxNew != 128 || total > length || total < length*95/100 {
						t.Errorf("%s %s %d: sample %d has %d tokens (says %d) and %d to generate", name, task, length, i, n, s.Tokens, s.MaxNew)
					}
				}
				if calls > 2*samples {
					t.Errorf("%s %s %d: %d samples counted %d prompts", name, task, length, samples, calls)
				}
			}
		}
	}
}

func TestGeneratorRefuses(t *testing.T) {
	for _, c := range []struct {
		task, essay string
		length      int
		want        string
	}{
		{"niah_single_9", "a b.", 4096, `unknown task "niah_single_9"; known are niah_single_2, niah_multikey_1`},
		{"niah_single_2", " \n", 4096, "no words"},
		{"niah_single_2", "a b.", 150, "too short"},
		{"niah_single_2", "a b.", 0, "too short"},
		{"niah_single_2", "a b.", -1 << 62, "too short"},
		{"niah_single_2", "a b.", 1 << 40, "at most"},
	} {
		if _, err := NewGenerator(c.task, c.essay, c.length, 1, toyCount); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q %d: %v, want %q", c.task, c.essay, c.length, err, c.want)
		}
	}
	g, err := NewGenerator("niah_single_2", "a b.", 262, 1, toyCount) // just long enough for sample 0
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i := range 50 {
		if s, err := g.Sample(i); err != nil && strings.Contains(err.Error(), "does not fit") {
			refused++
		} else if err != nil || s.Tokens+s.MaxNew > 262 {
			t.Errorf("sample %d: %d tokens, %v", i, s.Tokens, err)
		}
	}
	if refused == 0 || refused == 50 {
		t.Errorf("%d of 50 samples refused", refused)
	}
	broken := func(Prompt) (int, error) { return 0, fmt.Errorf("no template") }
	if _, err := NewGenerator("niah_single_2", "a b.", 4096, 1, broken); err == nil || !strings.Contains(err.Error(), "no template") {
		t.Errorf("count fails: %v", err)
	}
}

// The same seed makes the same sample, alone or in a row, on every platform: the first one is written down here.
func TestSeed(t *testing.T) {
	text := func(seed uint64, task string, index int) string {
		g, err := NewGenerator(task, toyEssay(100), 1000, seed, toyCount)
		if err != nil {
			t.Fatal(err)
		}
		s, err := g.Sample(index)
		if err != nil {
			t.Fatal(err)
		}
		return s.Prompt.User
	}
	seen := map[string]string{}
	for _, task := range RULERTasks() {
		for seed := range uint64(5) {
			for index := range 5 {
				a := text(seed, task, index)
				if a != text(seed, task, index) {
					t.Errorf("seed %d %s %d: two different samples", seed, task, index)
				}
				name := fmt.Sprint(seed, task, index)
				if other, ok := seen[a]; ok {
					t.Errorf("%s and %s are the same sample", name, other)
				}
				seen[a] = name
			}
		}
	}
	rng := stream(1, "niah_single_2", 0)
	if got, want := drawNeedles(rng, 1)[0], (needle{"busy-dish", "4880095"}); got != want {
		t.Errorf("seed 1: first needle %v, want %v", got, want)
	}
	if got, want := drawDepths(rng, 4), []int{46, 54, 72, 100}; !slices.Equal(got, want) {
		t.Errorf("seed 1: depths %v, want %v", got, want)
	}
}

func TestNeedlesAreDistinct(t *testing.T) {
	const count = 4000 // so many that a key and a value come up twice among them
	keys, values := map[string]bool{}, map[string]bool{}
	for _, n := range drawNeedles(stream(4, "distinct", 0), count) {
		keys[n.key], values[n.value] = true, true
	}
	if len(keys) != count || len(values) != count {
		t.Errorf("%d keys and %d values in %d needles", len(keys), len(values), count)
	}
}

// Needles lie everywhere in the text, the asked one too, and every one of the 40 depths comes up.
func TestDepthsSpread(t *testing.T) {
	const samples, tenths = 1000, 10
	for _, task := range RULERTasks() {
		g, err := NewGenerator(task, strings.Repeat("All of one length. ", 400), 1500, 11, toyCount)
		if err != nil {
			t.Fatal(err)
		}
		var hist [tenths]int
		for i := range samples {
			s, err := g.Sample(i)
			if err != nil {
				t.Fatal(err)
			}
			row := takeApart(t, s.Prompt.User, s.Prompt.Prefix)
			for j, n := range row.needles {
				if n[0] == row.asked {
					hist[row.offsets[j]*tenths/len(row.context)]++
				}
			}
		}
		for i, n := range hist {
			if n < samples/tenths*6/10 || n > samples/tenths*14/10 {
				t.Errorf("%s: %d of %d asked needles lie in tenth %d: %v", task, n, samples, i, hist)
			}
		}
	}
	depths := map[int]bool{}
	for i := range samples {
		for _, d := range drawDepths(stream(1, "depths", i), 4) {
			depths[d] = true
		}
	}
	if len(depths) != 40 || !depths[0] || !depths[100] || !depths[3] || !depths[51] {
		t.Errorf("%d depths: %v", len(depths), depths)
	}
}

// A key names one word of each list, so a word with a blank or a hyphen, or twice in a list, would be a fault.
func TestWords(t *testing.T) {
	for name, list := range map[string]string{"adjectives": adjectives, "nouns": nouns} {
		words := strings.Fields(list)
		if len(words) < 300 {
			t.Errorf("%s: only %d words", name, len(words))
		}
		slices.Sort(words)
		if len(slices.Compact(slices.Clone(words))) != len(words) {
			t.Errorf("%s: a word is there twice", name)
		}
		for _, w := range words {
			if !regexp.MustCompile(`^[a-z]+$`).MatchString(w) {
				t.Errorf("%s: %q", name, w)
			}
		}
	}
}
