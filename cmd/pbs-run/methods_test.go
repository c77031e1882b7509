package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
)

// TestMethodsUsed: a report names the layers that have another method, or another length below which it is dense.
func TestMethodsUsed(t *testing.T) {
	pbs, full := attention.Method(attention.DenseBelow{Method: mustParse(t, "pbs"), Tokens: 4096}), mustParse(t, "full")
	var auto attention.Method = attention.DenseBelow{Method: mustParse(t, "pbs"), Tokens: 8192}
	got := methodsUsed(pbs, []attention.Method{full, full, pbs, auto, pbs, full}).text()
	if want := pbs.String() + " (dense below 4096 tokens), layers 0-1=full 3=" + pbs.String() + " (dense below 8192 tokens) 5=full"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if r := methodsUsed(full, []attention.Method{full, full}); r.Layers != nil || r.text() != "full" {
		t.Errorf("got %+v", r)
	}
}

func mustParse(t *testing.T, spec string) attention.Method {
	t.Helper()
	m, err := attention.Parse(spec)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestAttentionTopic: the help page has every method that Parse knows, and the defaults that Parse gives it.
func TestAttentionTopic(t *testing.T) {
	page, _, err := pbsRun("", "help", "attention")
	if err != nil {
		t.Fatal(err)
	}
	_, err = attention.Parse("?")
	if err == nil {
		t.Fatal("? is a method")
	}
	next := regexp.MustCompile(`\n(\n|  \S)`) // where the entry of another method begins, or the text behind the last
	_, names, _ := strings.Cut(err.Error(), "want ")
	for _, name := range strings.Split(strings.ReplaceAll(names, " or ", ", "), ", ") {
		m, err := attention.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		_, entry, _ := strings.Cut(page, "\n  "+name+" ")
		entry = next.Split(entry, 2)[0]
		_, settings, _ := strings.Cut(m.String(), ":")
		for _, setting := range strings.Split(settings, ",") {
			if name == "pbs+" && !strings.HasPrefix(setting, "stride") {
				continue // those of pbs
			}
			if !strings.Contains(entry, setting) {
				t.Errorf("%s: the page lacks %s", name, setting)
			}
		}
	}
}
