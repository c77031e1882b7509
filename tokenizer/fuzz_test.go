package tokenizer

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// What the guard lets through the library must load and use; a crash of the process is the
// finding.
func FuzzTokenizerJSON(f *testing.F) {
	for _, family := range families {
		f.Add([]byte(testFile(f, family, "tokenizer.json")), "a b <|eot_id|> é\x00")
	}
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}`), "")
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		s, err := parseSpec(data)
		if err != nil {
			return
		}
		tok := newTokenizer(s, config{})
		if tok.engine, err = newEngine(s, loadOptions()); err != nil {
			return
		}
		defer tok.Close()
		if n := int(tok.engine.rust.VocabSize()); n != len(tok.byID) {
			t.Fatalf("the library counts %d tokens, the guard %d", n, len(tok.byID))
		}
		for _, opt := range []EncodeOptions{{}, {AddSpecial: true, ParseSpecial: true}} {
			ids, err := tok.Encode(text, opt)
			if err != nil {
				continue
			}
			if _, err := tok.Decode(ids, false); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A template of any text compiles and renders, or fails, in bounded time.
func FuzzChatTemplate(f *testing.F) {
	for _, name := range []string{"llama31.jinja", "qwen25.jinja"} {
		f.Add(testFile(f, "templates", name), "hi")
	}
	for _, source := range []string{
		"{% macro f(a, b=1) %}{{ a }}{% endmacro %}{{ f('x') }}", "{% for i in range(3) if i %}{{ loop.cycle('a', 'b') }}{% else %}-{% endfor %}",
		"{% set ns = namespace(a=1) %}{% set ns.a = ns.a ~ 'b' %}{{ ns.a[::-1] }}", "{{ messages | tojson(indent=2) }}",
		"{%- raw -%}{{ x }}{%- endraw -%}", "{{ {'a': [1, 2.5, none]}.a[0:2] | join(',') }}{# c #}", "{{ 'a\\u00e9' 'b' }}",
		"{% set x %}a{% endset %}{% if x is string and x not in ['b'] %}{{ x | upper | trim }}{% elif y %}{% endif %}",
		"{{ strftime_now('%d %b %Y') }}{{ raise_exception('x') }}", "{% generation %}{{ -1 // 2 ** 3 % 4 }}{% endgeneration %}",
	} {
		f.Add(source, "<|eot_id|> é\n")
	}
	tok := load(f, "llama3")
	f.Fuzz(func(t *testing.T, source, content string) {
		start := time.Now()
		c := tok.config
		c.chatTemplate = templateSource{"fuzz.jinja", source}
		fuzzed := newTokenizer(tok.spec, c)
		fuzzed.engine = tok.engine
		messages := []Message{{Role: "system", Content: "s"}, {Role: "user", Content: content}}
		text, err := fuzzed.render(messages, ChatOptions{AddGenerationPrompt: true})
		if err == nil && utf8.ValidString(source) && !utf8.ValidString(text) {
			t.Errorf("ill-formed text %q", text)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// A stream's pieces are well-formed and add up to Decode, whatever the ids.
func FuzzStream(f *testing.F) {
	f.Add([]byte("\xf0\x9f\x99\x82 a \xff\xe4\xbd"), false)
	f.Add([]byte{0, 1, 2, 200, 201, 255}, true)
	tok := load(f, "qwen2")
	ids := map[byte]int32{}
	for b, letter := range letters() {
		ids[byte(b)] = idOf(tok, string(letter))
	}
	f.Fuzz(func(t *testing.T, data []byte, skip bool) {
		var seq []int32
		for i, b := range data {
			if i%17 == 16 { // other tokens in between
				seq = append(seq, int32(b)*2%tok.MaxID())
			} else {
				seq = append(seq, ids[b])
			}
		}
		want, err := tok.Decode(seq, skip)
		if err != nil {
			t.Fatal(err)
		}
		s := tok.NewStream(skip)
		var b strings.Builder
		for _, id := range seq {
			piece, err := s.Next(id)
			if err != nil {
				t.Fatal(err)
			}
			if !utf8.ValidString(piece) {
				t.Fatalf("piece %q", piece)
			}
			b.WriteString(piece)
		}
		b.WriteString(s.Flush())
		if b.String() != want {
			t.Errorf("stream %q, Decode %q", b.String(), want)
		}
	})
}

// ValidUTF8 is what Python and Rust make of ill-formed text: checked by its definition.
func FuzzValidUTF8(f *testing.F) {
	f.Add("\xf0\x9f\x99\xe2\x82a\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80")
	f.Fuzz(func(t *testing.T, s string) {
		got := ValidUTF8(s)
		if !utf8.ValidString(got) {
			t.Fatalf("%q", got)
		}
		if utf8.ValidString(s) && got != s {
			t.Fatalf("%q became %q", s, got)
		}
		if parts := []rune(got); len(parts) > len([]rune(s)) {
			t.Fatalf("%q has more characters than Go's one per byte: %q", s, got)
		}
	})
}
