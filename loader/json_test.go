package loader

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckJSON(t *testing.T) {
	for _, text := range []string{
		`{}`, `[]`, `null`, `true`, `false`, `""`, `0`, `-0`, `1.5e+10`, `-1E-2`, ` [ 1 , { "a" : [ ] } ] `,
		`{"a":{"b":1},"b":1}`, `"\u00e9\ud83d\ude00\\\"\/"`, "\"\ufffd\"", `"\uFFFD"`, strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth),
		"\n\t\r 1",
	} {
		if err := checkJSON([]byte(text)); err != nil {
			t.Errorf("%.40q: %v", text, err)
		}
		if !json.Valid([]byte(text)) {
			t.Errorf("%.40q is no JSON: the test is wrong", text)
		}
	}
	for text, want := range map[string]string{
		``: "want a JSON value", ` `: "want a JSON value", `{`: "want a string", `[`: "want a JSON value", `[1`: "found the end",
		`{"a"}`: "want ':'", `{"a":}`: "want a JSON value", `{a:1}`: "want a string", `[1,]`: "want a JSON value", `{"a":1,}`: "want a string",
		`[1 2]`: "want ','", `01`: "text after", `1.`: "want a number", `.5`: "want a JSON value", `1e`: "want a number", `-`: "want a number",
		`+1`: "want a JSON value", `NaN`: "want a JSON value", `Infinity`: "want a JSON value", `nul`: "want a JSON value", `nulll`: "text after",
		`"a`: "without an end", `"\`: "without an end", `"\x"`: "bad escape", `"\u12"`: "bad escape", "\"\n\"": "control character",
		`"\ud800"`: "surrogate", `"\udc00\ud800"`: "surrogate", `"\ufffd\ud800"`: "surrogate", "\"\xff\"": "not UTF-8", `{} {}`: "text after",
		"\ufeff{}":                    "want a JSON value",
		`{"a":1,"a":1}`:               `"a" given twice`,
		`[{"a":1,"\u0061":1}]`:        `"a" given twice`,
		"{\"b\":[],\n\"c\":[{\n}}":    "line 3",
		strings.Repeat("[", 1e6):      "nested deeper than 64",
		strings.Repeat(`{"a":`, 1e6):  "nested deeper than 64",
		strings.Repeat("[", 65) + "x": "nested deeper than 64",
	} {
		t.Run(short(text), func(t *testing.T) { wantError(t, checkJSON([]byte(text)), want) })
	}
}

func TestReadJSON(t *testing.T) {
	dir := put(t, "good.json", `{"n": 3, "rope": {"factor": 8.0}, "more": [1]}`, "string.json", `{"rope": {"factor": "8"}}`,
		"twice.json", `{"n":1,"n":2}`, "big.json", `[`+strings.Repeat(" ", 1000)+`]`, "fraction.json", `{"n":1.5}`, "list.json", `[]`)
	var v struct {
		N    int `json:"n"`
		Rope struct {
			Factor float64 `json:"factor"`
		} `json:"rope"`
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := ReadJSON(path("good.json"), 1000, &v); err != nil || v.N != 3 || v.Rope.Factor != 8 {
		t.Errorf("got %+v, %v", v, err)
	}
	for name, want := range map[string]string{
		"string.json":   "field rope.factor: cannot use JSON string as float64",
		"fraction.json": "field n: cannot use JSON number 1.5 as int",
		"list.json":     "cannot unmarshal array",
		"twice.json":    `"n" given twice`,
		"big.json":      "1002 bytes, more than the 1000 allowed",
		"none.json":     "no such file",
		".":             "not a regular file",
	} {
		wantError(t, ReadJSON(path(name), 1000, &v), path(name), want)
	}
	if _, err := os.Stat("/dev/zero"); err == nil {
		wantError(t, ReadJSON("/dev/zero", 1000, &v), "not a regular file")
	}
}
