package synthetic

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// checkDigits holds a context of noise with one line of digits against its fields. The made-up rows have blanks
// between the sentences' lines where InfiniteBench's script has newlines.
func checkDigits(context, input, answer, what, end string) (before, after int, err error) {
	line := "The " + what + " is " + answer + ". Remember it. " + answer + " is the " + what + "." + end
	a, b, found := strings.Cut(context, line)
	before, after = strings.Count(a, noise), strings.Count(b, noise)
	if !found || a != strings.Repeat(noise+end, before) || b != strings.Repeat(noise+end, after) || input != "What is the "+what+"?" {
		err = fmt.Errorf("not noise around %q: %.300q, input %q", line, context, input)
	}
	return before, after, err
}

// isDoubled reports whether ten digits can be five of which one is doubled five times.
func isDoubled(s string) bool {
	runs, start := 0, 0
	for i := 1; i <= len(s); i++ {
		if i == len(s) || s[i] != s[start] {
			runs, start = runs+1, i
		}
	}
	return regexp.MustCompile(`^[0-9]{10}$`).MatchString(s) && runs <= 5
}

// checkPairs holds a context of pairs against its fields and returns how many there are.
func checkPairs(context, input, answer string) (n int, err error) {
	pair := `"` + uuidText + `": "` + uuidText + `"`
	if !regexp.MustCompile(`^JSON data:\n\{(` + pair + `, )*` + pair + `\}$`).MatchString(context) {
		return 0, fmt.Errorf("context %.300q", context)
	}
	m := regexp.MustCompile(`^\n?Key: "(` + uuidText + `)"\nThe value associated with the specified key is: $`).FindStringSubmatch(input)
	if m == nil || strings.Count(context, `"`+m[1]+`": "`+answer+`"`) != 1 || strings.Count(context, answer) != 1 {
		return 0, fmt.Errorf("input %q, answer %s", input, answer)
	}
	return strings.Count(context, ": "), nil
}

func TestInfiniteGrammar(t *testing.T) {
	what := map[string]string{"passkey": "pass key", "number_string": "sequence of digits"}
	form := map[string]func(string) bool{"passkey": regexp.MustCompile(`^[0-9]{5}$`).MatchString, "number_string": isDoubled}
	for _, task := range InfiniteBenchTasks() {
		check := func(r InfiniteRow, end string) error {
			if len(r.Answer) != 1 || len(r.Options) != 0 {
				return fmt.Errorf("answer %q, options %q", r.Answer, r.Options)
			}
			if task == "kv_retrieval" {
				_, err := checkPairs(r.Context, r.Input, r.Answer[0])
				return err
			}
			if !form[task](r.Answer[0]) {
				return fmt.Errorf("answer %q", r.Answer)
			}
			_, _, err := checkDigits(r.Context, r.Input, r.Answer[0], what[task], end)
			return err
		}
		for i, r := range readRows[InfiniteRow](t, "infinitebench/"+task+".jsonl") {
			if err := check(r, " "); err != nil {
				t.Errorf("%s golden row %d: %v", task, i, err)
			}
		}
		c := toyConfig(task, 2000, 3)
		for i, s := range makeSamples(t, c, 50) {
			if err := check(s.InfiniteRow(), "\n"); err != nil || s.Prompt.Prefix != "" ||
				!strings.HasSuffix(s.Prompt.User, " there.\n\n"+s.Context+"\n\n"+s.Input) && !strings.HasSuffix(s.Prompt.User, " below.\n\n"+s.Context+"\n\n"+s.Input) {
				t.Errorf("%s sample %d: %v, prompt %.200q", task, i, err, s.Prompt.User)
			}
		}
		c.Template = "Q: {input} {{context}} A:"
		if s := makeSamples(t, c, 1)[0]; s.Prompt.User != "Q: "+s.Input+" {"+s.Context+"} A:" {
			t.Errorf("%s: template made %.100q", task, s.Prompt.User)
		}
		c.Template = "{context}"
		if _, err := New(c, toyCount); err == nil || !strings.Contains(err.Error(), "the template has no {input}") {
			t.Errorf("%s: template without {input}: %v", task, err)
		}
	}
}

// Ten answers lie in ten different parts of the text or nearly so, whichever seed, and a hundred in a hundred.
func TestInfiniteSpreads(t *testing.T) {
	for _, task := range InfiniteBenchTasks() {
		for seed := range uint64(4) {
			var hist [10]int
			for _, s := range makeSamples(t, toyConfig(task, 5000, seed), 100) {
				at := strings.Index(s.Context, s.Outputs[0])
				hist[at*10/len(s.Context)]++
			}
			if slices.Min(hist[:]) < 7 || slices.Max(hist[:]) > 13 {
				t.Errorf("%s seed %d: %v", task, seed, hist)
			}
		}
	}
}
