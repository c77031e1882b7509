package benchmark

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pbs-run/pbs-run/eval"
)

// checkout is the folder that an environment variable names, which the tests of official wording need.
func checkout(t *testing.T, variable string) string {
	t.Helper()
	dir := os.Getenv(variable)
	if dir == "" {
		t.Skipf("set %s to a checkout of the benchmark's repository to compare with its own prompts", variable)
	}
	return dir
}

// readGolden reads a file of JSON lines.
func readGolden[T any](t *testing.T, name string) []T {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []T
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var one T
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			t.Fatalf("%s line %d: %v", name, len(all)+1, err)
		}
		all = append(all, one)
	}
	if lines.Err() != nil || len(all) == 0 {
		t.Fatalf("%s: %d lines, %v", name, len(all), lines.Err())
	}
	return all
}

// noTokens fails a test that would cut a prompt.
func noTokens(t *testing.T) Tokens {
	return Tokens{
		Encode: func(text string) ([]int32, error) { t.Error("a short prompt was tokenized"); return nil, nil },
		Decode: func(ids []int32) (string, error) { t.Error("a short prompt was decoded"); return "", nil },
	}
}

// golden is what is known of a prompt.
type golden struct {
	Dataset, Template, Task, Templates string
	Row, ID                            json.RawMessage
	UID                                string `json:"_id"`
	CoT                                *string
	SHA                                string `json:"prompt_sha256"`
	Chars                              int    `json:"prompt_chars"`
	MaxGen                             int    `json:"max_gen"`
	MaxNew                             int    `json:"max_new_tokens"`
	Chat                               bool   `json:"chat_template"`
	Truth                              []any  `json:"ground_truth"`
}

// check compares a prompt with its hash.
func (g golden) check(t *testing.T, name string, item eval.Item) eval.Request {
	t.Helper()
	r, err := item.First()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if eval.SHA256(r.User) != g.SHA || utf8.RuneCountInString(r.User) != g.Chars {
		t.Errorf("%s: prompt of %d characters, want %d: not the official one: %.300q", name, utf8.RuneCountInString(r.User), g.Chars, r.User)
	}
	return r
}

func TestLongBenchPrompts(t *testing.T) {
	b := LongBench{Source: Source{Data: "testdata/longbench"}, Protocol: THUDM, Config: checkout(t, "PBS_RUN_LONGBENCH"), MaxLength: 100000, Tokens: noTokens(t)}
	tasks, err := b.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]int{}
	for _, g := range readGolden[golden](t, "longbench_prompts.jsonl") {
		for _, task := range tasks {
			if task.Name != g.Dataset {
				continue
			}
			i := at[g.Dataset]
			at[g.Dataset]++
			r := g.check(t, g.Dataset+" "+g.UID, task.Item(i))
			if task.IDs[i] != g.UID || r.MaxNew != g.MaxGen || r.Plain == g.Chat {
				t.Errorf("%s %d: id %s, max_gen %d, chat template %v; want %+v", g.Dataset, i, task.IDs[i], r.MaxNew, !r.Plain, g)
			}
		}
	}
	if len(at) != 21 {
		t.Errorf("%d data sets compared, want 21", len(at))
	}
}

func TestLongBench2Prompts(t *testing.T) {
	config := checkout(t, "PBS_RUN_LONGBENCH")
	n := 0
	for _, g := range readGolden[golden](t, "longbench_v2_prompts.jsonl") {
		b := LongBench2{Source: Source{Data: "testdata/longbench_v2"}, Protocol: THUDM, Config: config, MaxLength: 100000, Tokens: noTokens(t)}
		name := strings.TrimSuffix(g.Template, ".txt")
		b.Prompt = strings.TrimSuffix(name, "_ans")
		task, err := b.Load()
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range task.IDs {
			if id != g.UID {
				continue
			}
			n++
			item := task.Item(i)
			if g.CoT != nil {
				first := item
				item.First = func() (eval.Request, error) { return first.Second(*g.CoT) }
			}
			r := g.check(t, g.Template+" "+id, item)
			if want := map[string]int{"0shot_cot": 1024}[name]; r.MaxNew != max(128, want) || r.Temperature != 0.1 {
				t.Errorf("%s: %d tokens at temperature %g", g.Template, r.MaxNew, r.Temperature)
			}
		}
	}
	if n != 48 {
		t.Errorf("%d prompts compared, want 48", n)
	}
}

func TestInfiniteBenchPrompts(t *testing.T) {
	config := checkout(t, "PBS_RUN_INFINITEBENCH")
	n := 0
	for _, g := range readGolden[golden](t, "infinitebench_prompts.jsonl") {
		b := InfiniteBench{Source: Source{Data: "testdata/infinitebench"}, Config: config, Family: g.Templates, MaxLength: 100000, Tokens: noTokens(t)}
		tasks, err := b.Load([]string{g.Task})
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range tasks[0].IDs {
			if id != string(g.ID) {
				continue
			}
			n++
			r := g.check(t, g.Task+" "+g.Templates+" "+id, tasks[0].Item(i))
			line, _ := tasks[0].Item(i).Line([]string{"x"}, "").(infiniteLine)
			var label []any
			if err := json.Unmarshal(line.Label, &label); err != nil {
				t.Fatal(err)
			}
			if got, want := toJSON(t, label), toJSON(t, g.Truth); got != want || r.MaxNew != g.MaxNew {
				t.Errorf("%s %s: label %s, want %s; %d tokens, want %d", g.Task, id, got, want, r.MaxNew, g.MaxNew)
			}
		}
	}
	if n != 72 {
		t.Errorf("%d prompts compared, want 72", n)
	}
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestTruncation compares the tokens that each rule keeps with those of the official code.
func TestTruncation(t *testing.T) {
	type span = []int
	rules := map[string]cut{"longbench_v1": longBenchCut, "longbench_v2": longBench2Cut, "infinitebench_gpt": infiniteChatCut, "infinitebench_hf": infiniteCut}
	for _, g := range readGolden[struct {
		N    int `json:"n_tokens"`
		Max  int
		Kept map[string][]span
	}](t, "truncation.jsonl") {
		for name, rule := range rules {
			head, tail := rule.keep(g.N, g.Max)
			if g.Kept == nil {
				if head != g.N || tail != 0 {
					t.Errorf("%s: %d tokens, at most %d: kept %d and %d, want all", name, g.N, g.Max, head, tail)
				}
				continue
			}
			want := g.Kept[name]
			if want[0][0] != 0 || head-1 != want[0][1] || g.N-tail != want[1][0] || want[1][1] != g.N-1 {
				t.Errorf("%s: %d tokens, at most %d: kept %d and %d, want %v", name, g.N, g.Max, head, tail, want)
			}
		}
	}
}
