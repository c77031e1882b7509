package synthetic

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
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

// toyConfig has all a task may need.
func toyConfig(task string, length int, seed uint64) Config {
	return Config{Task: task, Length: length, Seed: seed, Essay: toyEssay(100), SQuAD: toySQuAD(60), HotpotQA: toyHotpotQA(60)}
}

func allTasks() []string { return append(RULERTasks(), InfiniteBenchTasks()...) }

// makeSamples makes the first n samples of a task.
func makeSamples(t *testing.T, c Config, n int) []Sample {
	t.Helper()
	g, err := New(c, toyCount)
	if err != nil {
		t.Fatal(err)
	}
	samples := make([]Sample, n)
	for i := range samples {
		if samples[i], err = g.Sample(i); err != nil {
			t.Fatal(err)
		}
	}
	return samples
}

// readRows reads the rows of a JSONL file in testdata.
func readRows[R any](t *testing.T, path string) (rows []R) {
	t.Helper()
	f, err := os.Open("testdata/" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r R
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	if err := lines.Err(); err != nil || len(rows) == 0 {
		t.Fatalf("%s: %d rows, %v", path, len(rows), err)
	}
	return rows
}

// The samples of the first two tasks are those of the first release, byte for byte: scores were published with them.
func TestSamplesStay(t *testing.T) {
	for task, want := range map[string]string{
		"niah_single_2":   "376fd9ea0a84e44952518d166a32ea9a509adafc0982d331b1dc775d4668ca3a",
		"niah_multikey_1": "1bba56e7ef08a7181120000d2d5afdc45c07eb60bf1446f7543660cc9a7b12d3",
	} {
		h := sha256.New()
		for _, length := range []int{600, 4096, 20000} {
			for seed := range uint64(3) {
				for _, s := range makeSamples(t, toyConfig(task, length, seed), 5) {
					fmt.Fprintf(h, "%d %q %q %q %d %d\n", s.Index, s.Prompt.User, s.Prompt.Prefix, s.Outputs, s.Tokens, s.MaxNew)
				}
			}
		}
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != want {
			t.Errorf("%s: samples changed: sha256 %s, want %s", task, got, want)
		}
	}
	h := sha256.New()
	for seed := range uint64(20) {
		n, err := HideNeedle(toyEssay(50), seed)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(h, "%q %q %q %d %q\n", n.Document, n.Question, n.Answer, n.Offset, n.Prompt)
	}
	if got, want := fmt.Sprintf("%x", h.Sum(nil)), "fc1063da0653960883e263f831788cdfa9cf9ee8af8ba01581d3142baed4a0e4"; got != want {
		t.Errorf("hidden needles changed: sha256 %s, want %s", got, want)
	}
}
