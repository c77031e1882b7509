package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// withTemplate is the llama3 tokenizer with another chat template.
func withTemplate(t testing.TB, source string) *Tokenizer {
	t.Helper()
	base := load(t, "llama3")
	c := base.config
	c.chatTemplate = templateSource{"test.jinja", source}
	tok := newTokenizer(base.spec, c)
	tok.engine = base.engine
	return tok
}

// testdata/templates/make.py renders these with Hugging Face transformers.
func TestTemplatesRenderAsHuggingFace(t *testing.T) {
	var cases []struct {
		File, Source, Rendered, Error string
		Messages                      json.RawMessage
		Prompt                        bool
	}
	readJSON(t, "templates", "vectors.json", &cases)
	now := func() time.Time { return time.Date(2025, 3, 7, 8, 9, 10, 0, time.UTC) }
	for i, c := range cases {
		source := c.Source
		if c.File != "" {
			source = testFile(t, "templates", c.File)
		}
		messages, err := ParseMessages(c.Messages)
		if err != nil {
			t.Fatal(err)
		}
		got, err := withTemplate(t, source).render(messages, ChatOptions{AddGenerationPrompt: c.Prompt, Now: now})
		switch {
		case c.Error != "":
			if err == nil || !strings.Contains(err.Error(), c.Error) {
				t.Errorf("%d: %s: error %v, want %q", i, c.File+c.Source, err, c.Error)
			}
		case err != nil || got != c.Rendered:
			t.Errorf("%d: %s\nmessages %s\n got %q, %v\nwant %q", i, c.File+c.Source, c.Messages, got, err, c.Rendered)
		}
	}
}

var hello = []Message{{Role: "user", Content: "hello"}}

// Fault 48: a bad template gives an error that names the line, in bounded time and memory,
// and opens no file.
func TestHostileTemplates(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("SECRET"), 0o600); err != nil {
		t.Fatal(err)
	}
	deep := func(open, inner, end string, n int) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(end, n)
	}
	cases := []struct{ name, source, want string }{
		{"syntax", "a\n{% if %}\n", "line 2"},
		{"unclosed block", "a\n\n{% for x in messages %}", "line 3"},
		{"unclosed tag", "a\n{{ x ", "line 2"},
		{"unclosed string", "a\n{{ 'x }}", "line 2"},
		{"unknown filter", "a\n{{ 'x' | nosuch }}", `line 2: filter "nosuch"`},
		{"unknown test", "a\n{{ 'x' is nosuch }}", `line 2: test "nosuch"`},
		{"unknown statement", "a\n{% nosuch %}", "nosuch"},
		{"unknown function", "a\n\n{{ nosuch() }}", "line 3"},
		{"raise_exception", "a\nb\n{{ raise_exception('roles must alternate') }}", "line 3: roles must alternate"},
		{"undefined member", "{{ nothing.member }}", "line 1"},
		{"include", "{% include '" + secret + "' %}", "include"},
		{"import", "{% import '" + secret + "' as x %}", "import"},
		{"from", "{% from '" + secret + "' import x %}", "from"},
		{"extends", "{% extends '" + secret + "' %}", "extends"},
		{"long loop", "\n{% for i in range(1000000000) %}{% endfor %}", "line 2"},
		{"nested loops", "{% for i in range(10000) %}{% for j in range(10000) %}{% for k in range(10000) %}{% endfor %}{% endfor %}{% endfor %}", "too long"},
		{"nested filtered loops", "{% for i in range(100000) %}{% for j in range(100000) if false %}{% endfor %}{% endfor %}", "too long"},
		{"doubled string", "{% set ns = namespace(s='xxxxxxxxxxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}", "bytes"},
		{"doubled list", "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}", "list"},
		{"list of itself twice", "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}", "list"},
		{"deep list", "{% set ns = namespace(l=[1]) %}{% for i in range(30000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}", "deeper"},
		{"repeated string", "{{ 'x' * 1000000000000 }}", "bytes"},
		{"repeated output", "{% for i in range(100000) %}" + strings.Repeat("x", 1000) + "{% endfor %}", "writes more"},
		{"replace", "{% set a = 'x' * 1000000 %}{{ a | replace('x', a) }}", "bytes"},
		{"replace method", "{% set a = 'x' * 1000000 %}{{ a.replace('x', a) }}", "bytes"},
		{"join", "{% set a = 'x' * 1000000 %}{{ range(1000) | join(a) }}", "bytes"},
		{"indent", "{{ 'x' | indent(1000000000) }}", "indent"},
		{"tojson indent", "{{ [1] | tojson(indent=1000000000) }}", "indent"},
		{"wide", "{{ 'x'.ljust(1000000000) }}", "ljust"},
		{"center", "{{ 'x' | center(1000000000) }}", "center"},
		{"macro recursion", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself"},
		{"macro fan-out", "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}", "too long"},
		{"macro text", "{% macro f() %}{% for i in range(100000) %}" + strings.Repeat("y", 1000) + "{% endfor %}{% endmacro %}{% set x = f() %}", "more"},
		{"recursive loop", "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}", "recursive"},
		{"deep brackets", "{{ " + deep("(", "1", ")", 10000) + " }}", "nested deeper"},
		{"deep expression", "{{ 1" + strings.Repeat("+1", 20000) + " }}", "nested deeper"},
		{"deep blocks", deep("{% if true %}", "", "{% endif %}", 5000), "nested deeper"},
		{"chain of methods", "{{ 'x'" + strings.Repeat(".strip()", 2000) + " }}", "nested deeper"},
		{"too large", strings.Repeat("x", maxTemplateBytes+1), "bytes"},
		{"mutation", "{% set l = [] %}{{ l.append(1) }}", "append"},
		{"Go methods", "{{ messages[0].Get }}{{ messages.Len() }}", "Len"},
		{"string plus none", "{{ 'x' + nothing }}", "undefined"},
		{"division by zero", "{{ 1 // 0 }}", "zero"},
		{"error in a condition", "{% for m in messages if m.a.b %}{% endfor %}", "undefined"},
		{"error in a list", "{% set l = [nothing.a] %}", "undefined"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			got, err := withTemplate(t, c.source).render(hello, ChatOptions{})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "test.jinja") {
				t.Errorf("%.80q, error %v, want %q", got, err, c.want)
			}
			if err != nil && (len(err.Error()) > 1000 || strings.Contains(err.Error(), "SECRET")) {
				t.Errorf("error of %d bytes: %.300s", len(err.Error()), err)
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("took %v", took)
			}
		})
	}
}

// What grows with the messages must not be taken for an attack.
func TestLargeChatsRender(t *testing.T) {
	var many []Message
	for i := range 3000 {
		many = append(many, Message{Role: []string{"user", "assistant"}[i%2], Content: "some words"})
	}
	for _, messages := range [][]Message{
		{{Role: "user", Content: strings.Repeat("many words ", 1_000_000)}},
		many,
	} {
		for _, name := range []string{"llama31.jinja", "qwen25.jinja"} {
			source := testFile(t, "templates", name)
			start := time.Now()
			got, err := withTemplate(t, source).render(messages, ChatOptions{AddGenerationPrompt: true})
			if err != nil || !strings.Contains(got, strings.TrimSpace(messages[0].Content)) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
			t.Logf("%s: %d messages, %d bytes in %v", name, len(messages), len(got), time.Since(start))
		}
	}
}

func TestStrftime(t *testing.T) {
	at := time.Date(2025, 3, 7, 15, 4, 5, 678_901_000, time.UTC)
	for format, want := range map[string]string{
		"%d %b %Y": "07 Mar 2025", "%B %-d, %Y": "March 7, 2025", "%A %H:%M:%S": "Friday 15:04:05",
		"%j %y %p %I %f %w %u %%": "066 25 PM 03 678901 5 5 %", "%Y-%m-%d": "2025-03-07", "": "",
	} {
		if got, err := strftime(format, at); err != nil || got != want {
			t.Errorf("strftime(%q) = %q, %v, want %q", format, got, err, want)
		}
	}
	for _, format := range []string{"%", "%Q", "%-"} {
		if got, err := strftime(format, at); err == nil {
			t.Errorf("strftime(%q) = %q, want an error", format, got)
		}
	}
}
