package benchmark

import (
	"strings"
	"testing"
)

func TestFill(t *testing.T) {
	values := map[string]string{"context": "C {input} {{x}} %s", "input": "I", "empty": ""}
	for template, want := range map[string]string{
		"":                            "",
		"a {context} b {input}":       "a C {input} {{x}} %s b I",
		"{{literal}} {input}{input}":  "{literal} II",
		"{empty}{{{input}}}":          "{I}",
		"$context 50%":                "$context 50%",
		"中{input}文":                   "中I文",
		"ends with a brace }} and {{": "ends with a brace } and {",
	} {
		if got, err := fill(template, values); got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", template, got, err, want)
		}
	}
	for template, want := range map[string]string{
		"{": "nothing closes", "a } b": "nothing opens", "{unknown}": "{unknown}", "{}": "{}", "{input!r}": "{input!r}", "{input:>9}": "{input:>9}",
		"{file:{context}}": "{file:{context}", "{input": "nothing closes",
	} {
		if got, err := fill(template, values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v; want an error with %q", template, got, err, want)
		}
	}
}

const pythonFile = `# a comment with "quotes" = {
import re
other_templates = {"a": "wrong"}
my_templates = {
    "one": "a\n\t\"b\" \'c\' {x} \\ \d",  # noqa: E501 "
    # "two": "commented out",
    'two': 'single "double" ' + "added" "beside"
           'and on the next line',
    "three": "\u4e2d\x41\U0001F600",
    "four": "goes \
on",
}
later = {"one": "other"}
`

func TestDictionary(t *testing.T) {
	got, err := dictionary("f.py", pythonFile, "my_templates")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"one": "a\n\t\"b\" 'c' {x} \\ \\d", "two": `single "double" addedbesideand on the next line`, "three": "中A😀", "four": "goes on",
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: %q, want %q", k, got[k], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("entries %q", got)
	}
	for text, want := range map[string]string{
		"":                         "no m = {",
		"x = 1\nm = [1]":           "no m = {",
		"m = {'a': 'b'":            "line 1: want , or }",
		"m = {\n'a' 'b'}":          "line 2: want :",
		"m = {\n\n'a': b}":         "line 3: want a text",
		"m = {'a': 'b\n'}":         "does not end",
		"m = {'a': 'b":             "does not end",
		`m = {'a': '\`:             "does not end",
		`m = {'a': """x"""}`:       "want a text in single or double quotes",
		`m = {'a': f"x"}`:          "want a text",
		`m = {'a': '\N{BULLET}'}`:  `escape \N`,
		`m = {'a': '\ud800'}`:      `escape \u`,
		`m = {'a': '\x4'}`:         `escape \x`,
		`m = {'a': '\u12`:          "does not end",
		"m = {'a': 'b'; 'c': 'd'}": "want , or }",
	} {
		if got, err := dictionary("f.py", text, "m"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v; want an error with %q", text, got, err, want)
		}
	}
}

func FuzzDictionary(f *testing.F) {
	f.Add(pythonFile)
	f.Add("my_templates={'a':'b'+")
	f.Add(`my_templates = {"a" : "\`)
	f.Fuzz(func(t *testing.T, text string) {
		for k, v := range must1(dictionary("f", text, "my_templates")) {
			if len(k) > 4*len(text) || len(v) > 4*len(text) {
				t.Errorf("%q made %d bytes", text, len(v))
			}
		}
	})
}

func must1(m map[string]string, err error) map[string]string { return m }
