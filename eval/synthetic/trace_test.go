package synthetic

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A traceRow is one part of a vt prompt taken apart: the worked example or the question.
type traceRow struct {
	names []string // in the order of the text
	lines int      // of noise
}

// parseTrace takes one part apart: user ends with the question, prefix is what follows it.
func parseTrace(user, prefix string, letters int) (traceRow, error) {
	const question = "Question: Find all variables that are assigned the value "
	whole := regexp.MustCompile(`(?s)^Memorize and track the chain\(s\) of variable assignment hidden in the following text\.\n\n(.*)\n` +
		question + `([1-9][0-9]{4}) in the text above\.$`).FindStringSubmatch(user)
	if whole == nil {
		return traceRow{}, fmt.Errorf("wording of %.200q ... %q", user, user[max(0, len(user)-200):])
	}
	if want := " Answer: According to the chain(s) of variable assignment in the text above, 5 variables are assigned the value " +
		whole[2] + ", they are: "; prefix != want {
		return traceRow{}, fmt.Errorf("prefix %q, want %q", prefix, want)
	}
	var row traceRow
	name := fmt.Sprintf(`([A-Z]{%d})`, letters)
	first, next := regexp.MustCompile(`^VAR `+name+` = (.*)$`), regexp.MustCompile(`^VAR `+name+` = VAR `+name+` $`)
	for _, line := range strings.Split(whole[1], "\n") {
		if line == noise {
			row.lines++
		} else if m := next.FindStringSubmatch(line); m != nil && len(row.names) > 0 && m[2] == row.names[len(row.names)-1] {
			row.names = append(row.names, m[1])
		} else if m := first.FindStringSubmatch(line); m != nil && len(row.names) == 0 && m[2] == whole[2] {
			row.names = append(row.names, m[1])
		} else {
			return row, fmt.Errorf("line %q", line)
		}
	}
	if sorted := slices.Sorted(slices.Values(row.names)); len(slices.Compact(sorted)) != 5 || len(row.names) != 5 {
		return row, fmt.Errorf("variables %q", row.names)
	}
	return row, nil
}

// parseTracePrompt takes a whole prompt of vt apart.
func parseTracePrompt(user, prefix string, outputs []string) (example, asked traceRow, err error) {
	m := regexp.MustCompile(`(?s)^(.*?)( Answer: .*?, they are: ) ([A-Z ]*)\n\n(Memorize.*)$`).FindStringSubmatch(user)
	if m == nil {
		return example, asked, fmt.Errorf("no worked example in %.200q", user)
	}
	example, err1 := parseTrace(m[1], m[2], 3)
	asked, err2 := parseTrace(m[4], prefix, 5)
	if strings.Join(example.names, " ") != m[3] || !slices.Equal(asked.names, outputs) {
		err = fmt.Errorf("example answers %q for %q, outputs %q for %q", m[3], example.names, outputs, asked.names)
	}
	return example, asked, errors.Join(err1, err2, err)
}

func TestTraceGrammar(t *testing.T) {
	for i, r := range readRows[RULERRow](t, "ruler/vt.jsonl") {
		if _, _, err := parseTracePrompt(r.Input, r.AnswerPrefix, r.Outputs); err != nil {
			t.Errorf("RULER's row %d: %v", i, err)
		}
	}
	values := map[string]bool{}
	for i, s := range makeSamples(t, toyConfig("vt", 3000, 5), 60) {
		example, asked, err := parseTracePrompt(s.Prompt.User, s.Prompt.Prefix, s.Outputs)
		if err != nil {
			t.Fatalf("sample %d: %v", i, err)
		}
		end := strings.Index(s.Prompt.User, ", they are: ")
		n, _ := toyCount(Prompt{User: s.Prompt.User[:end]})
		if n -= 12; n > 500 || n < 450 || example.lines < 10 || asked.lines < example.lines {
			t.Errorf("sample %d: an example of %d tokens and %d lines, %d lines to ask about", i, n, example.lines, asked.lines)
		}
		values[s.Prompt.Prefix] = true
	}
	if len(values) < 55 {
		t.Errorf("only %d values in 60 samples", len(values))
	}
	s := makeSamples(t, toyConfig("vt", 2000, 5), 1)[0]
	for _, change := range [][2]string{{" = VAR", " = VAR "}, {s.Outputs[1], s.Outputs[0]}, {"VAR " + s.Outputs[2], "VAR XXXXX"}, {"\n\n", "\n"}, {"assigned", "asigned"}, {" \n", "\n"}} {
		user := strings.ReplaceAll(s.Prompt.User, change[0], change[1])
		if _, _, err := parseTracePrompt(user, s.Prompt.Prefix, s.Outputs); err == nil || user == s.Prompt.User {
			t.Errorf("%q for %q went through", change[1], change[0])
		}
	}
}

// A variable is never called VAR, which one in 3,500 examples would otherwise have.
func TestNoVariableVAR(t *testing.T) {
	rng := stream(1, "VAR", 0)
	for range 50_000 {
		if c := drawChain(rng, 3); slices.Contains(c.names, "VAR") || len(c.value) != 5 || c.value == "99999" {
			t.Fatalf("chain %+v", c)
		}
	}
}

// The assignments lie everywhere among the lines.
func TestTraceSpreads(t *testing.T) {
	var hist [10]int
	for _, s := range makeSamples(t, toyConfig("vt", 3000, 6), 400) {
		_, text, _ := strings.Cut(s.Prompt.User, "\n\nMemorize")
		for _, name := range s.Outputs {
			hist[strings.Index(text, "VAR "+name+" = ")*10/len(text)]++
		}
	}
	for i, n := range hist {
		if n < 120 || n > 280 {
			t.Errorf("%d of 2000 assignments lie in tenth %d: %v", n, i, hist)
		}
	}
}
