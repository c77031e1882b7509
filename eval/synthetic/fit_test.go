package synthetic

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var newTokens = map[string]int{"vt": 30, "cwe": 120, "fwe": 50, "qa_1": 32, "qa_2": 32, "passkey": 6, "number_string": 12, "kv_retrieval": 50}

// Prompt and answer fit the length and fill it to 95 %, and few prompts are counted to that end. A unit of filling
// that is large beside the length leaves more: a document, a line of noise, an uncommon word of cwe.
func TestLengthRule(t *testing.T) {
	for _, task := range allTasks() {
		for _, length := range []int{1024, 4096, 32768} {
			for _, sentences := range []int{30, 20000} {
				if sentences > 30 && !NeedsEssay(task) {
					continue
				}
				c := toyConfig(task, length, 1)
				c.Essay = toyEssay(sentences)
				calls := 0
				count := func(p Prompt) (int, error) { calls++; return toyCount(p) }
				g, err := New(c, count)
				if err != nil {
					t.Fatal(err)
				}
				if calls > 13 && task != "vt" || calls > 23 {
					t.Errorf("%s %d: the search counted %d prompts", task, length, calls)
				}
				calls = 0
				const samples = 20
				least := length * 95 / 100
				if length == 1024 {
					least = length * 80 / 100
				}
				maxNew := newTokens[task]
				if maxNew == 0 {
					maxNew = 128
				}
				for i := range samples {
					s, err := g.Sample(i)
					if err != nil {
						t.Fatal(err)
					}
					n, _ := toyCount(s.Prompt)
					if total := n + s.MaxNew; s.Index != i || s.Tokens != n || s.MaxNew != maxNew || total > length || total < least {
						t.Errorf("%s %d: sample %d has %d tokens (says %d) and %d to generate", task, length, i, n, s.Tokens, s.MaxNew)
					}
					for _, o := range s.Outputs {
						if !strings.Contains(s.Prompt.User, o) {
							t.Errorf("%s %d: sample %d does not have its answer %q", task, length, i, o)
						}
					}
				}
				if calls > 2*samples && task != "cwe" || calls > 5*samples {
					t.Errorf("%s %d: %d samples counted %d prompts", task, length, samples, calls)
				}
			}
		}
	}
}

// The same seed makes the same sample, alone or in a row; another seed or index another one.
func TestSeed(t *testing.T) {
	seen := map[string]string{}
	for _, task := range allTasks() {
		for seed := range uint64(3) {
			c := toyConfig(task, 1500, seed)
			for index, s := range makeSamples(t, c, 5) {
				g, err := New(c, toyCount)
				if err != nil {
					t.Fatal(err)
				}
				alone, err := g.Sample(index)
				if err != nil || fmt.Sprint(alone) != fmt.Sprint(s) {
					t.Errorf("seed %d %s %d: two different samples, %v", seed, task, index, err)
				}
				name := fmt.Sprint(seed, task, index)
				if other, ok := seen[s.Prompt.User]; ok {
					t.Errorf("%s and %s are the same sample", name, other)
				}
				seen[s.Prompt.User] = name
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, task := range allTasks() {
		for _, length := range []int{-1 << 62, 0, 40, 1 << 40} {
			want := "too short"
			if length > 100 {
				want = "at most"
			}
			if _, err := New(toyConfig(task, length, 1), toyCount); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), task) {
				t.Errorf("%s %d: %v, want %q", task, length, err, want)
			}
		}
		broken := func(Prompt) (int, error) { return 0, fmt.Errorf("no template") }
		if _, err := New(toyConfig(task, 4096, 1), broken); err == nil || !strings.Contains(err.Error(), "no template") {
			t.Errorf("%s: count fails: %v", task, err)
		}
		c := Config{Task: task, Length: 4096, Essay: " \n"}
		err := c.Check()
		want := map[string]string{"qa_1": squad.url, "qa_2": hotpotQA.url}[task]
		if NeedsEssay(task) {
			want = "no words; pass --essay"
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", task, err, want)
		}
	}
	if err := toyConfig("niah_single_9", 4096, 1).Check(); err == nil || !strings.Contains(err.Error(), `unknown task "niah_single_9"; known are niah_single_1, `) {
		t.Errorf("unknown task: %v", err)
	}
	for _, task := range []string{"niah_single_1", "cwe"} {
		c := toyConfig(task, 4096, 1)
		c.Words = "german"
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), "--words german") {
			t.Errorf("%s: unknown words: %v", task, err)
		}
	}
}

// At the shortest length that New takes, sample 0 is whole and its answer the only right one.
func TestShortest(t *testing.T) {
	for _, task := range RULERTasks() {
		c := toyConfig(task, 0, 2)
		g, err := New(c, toyCount)
		for tries := 0; err != nil; g, err = New(c, toyCount) {
			var need int // as the error says
			if _, scanErr := fmt.Sscanf(err.Error(), task+" takes %d tokens", &need); scanErr != nil || need <= c.Length || tries > 3 {
				t.Fatal(err)
			}
			c.Length, tries = need, tries+1
		}
		length := c.Length
		s, err := g.Sample(0)
		if err != nil || s.Tokens+s.MaxNew > length {
			t.Fatalf("%s %d: %d tokens, %v", task, length, s.Tokens, err)
		}
		switch task {
		case "vt":
			_, _, err = parseTracePrompt(s.Prompt.User, s.Prompt.Prefix, s.Outputs)
		case "cwe":
			_, err = parseCommon(s.Prompt.User, s.Prompt.Prefix, s.Outputs, length)
		case "fwe":
			var words []string
			var count map[string]int
			if words, count, err = parseFrequent(s.Prompt.User, s.Prompt.Prefix); err == nil {
				err = checkFrequent(words, count, s.Outputs, length)
			}
		}
		if err != nil {
			t.Errorf("%s %d: %v", task, length, err)
		}
	}
}

// Just long enough for sample 0: another one may not fit, and says so. A file of questions ends.
func TestSampleRefuses(t *testing.T) {
	c := toyConfig("niah_single_2", 262, 1)
	c.Essay = "a b."
	g, err := New(c, toyCount)
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
	for _, task := range []string{"qa_1", "qa_2"} {
		g, err := New(toyConfig(task, 2000, 1), toyCount)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Sample(g.Samples()); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("only %d questions", g.Samples())) {
			t.Errorf("%s: sample beyond the file: %v", task, err)
		}
		if _, err := g.Sample(g.Samples() - 1); err != nil {
			t.Errorf("%s: last sample: %v", task, err)
		}
	}
}

func TestLargest(t *testing.T) {
	for high := range 40 {
		for answer := range high + 1 {
			got, err := largest(0, high, func(n int) (bool, error) { return n <= answer, nil })
			if err != nil || got != answer {
				t.Errorf("largest up to %d: %d, want %d", high, got, answer)
			}
		}
	}
}

// A row has RULER's fields; length leaves out the chat template, which takes twelve toy tokens.
func TestRULERRow(t *testing.T) {
	for _, task := range RULERTasks() {
		g, err := New(toyConfig(task, 1500, 1), toyCount)
		if err != nil {
			t.Fatal(err)
		}
		s, err := g.Sample(3)
		if err != nil {
			t.Fatal(err)
		}
		row, err := g.RULERRow(s)
		if err != nil || row.Index != 3 || row.Input != s.Prompt.User || row.AnswerPrefix != s.Prompt.Prefix ||
			row.LengthWithTemplate != s.Tokens+s.MaxNew || row.LengthWithTemplate-row.Length != 12 {
			t.Errorf("%s: row %+v, %v", task, row, err)
		}
		before, _, _ := strings.Cut(s.Prompt.User, s.Outputs[0])
		n, _ := toyCount(Prompt{User: before})
		if at := row.TokenPositionAnswer; strings.HasPrefix(task, "niah") != (at != nil) || at != nil && *at != n-12 {
			t.Errorf("%s: answer at token %v, want %d", task, at, n-12)
		}
	}
}

// A sample of 128K tokens takes well under a second besides its tokenization.
func TestFast(t *testing.T) {
	count := func(p Prompt) (int, error) { return len(p.User) / 4, nil }
	for _, task := range allTasks() {
		c := toyConfig(task, 131072, 1)
		g, err := New(c, count)
		if err != nil {
			t.Fatal(err)
		}
		best := time.Hour
		for i := range 3 {
			start := time.Now()
			if _, err := g.Sample(i); err != nil {
				t.Fatal(err)
			}
			best = min(best, time.Since(start))
		}
		t.Logf("%s: %v", task, best)
		if best > 500*time.Millisecond {
			t.Errorf("%s: a sample took %v", task, best)
		}
	}
}

// BenchmarkSample shows what a 128K prompt costs besides its tokenization.
func BenchmarkSample(b *testing.B) {
	count := func(p Prompt) (int, error) { return len(p.User) / 4, nil }
	for _, task := range allTasks() {
		b.Run(task, func(b *testing.B) {
			g, err := New(toyConfig(task, 131072, 1), count)
			if err != nil {
				b.Fatal(err)
			}
			for i := 0; b.Loop(); i++ {
				if _, err := g.Sample(i % 50); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
