package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
)

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
