package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEvalScore(t *testing.T) {
	dir := t.TempDir()
	pred, samples := filepath.Join(dir, "hotpotqa.jsonl"), filepath.Join(dir, "out", "samples.json")
	row := `{"pred":"<the> answer","answers":["answer"],"all_classes":null,"length":1,"_id":"7"}`
	if err := os.WriteFile(pred, []byte(row+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Benchmark, Protocol string
		Scores              map[string]float64
	}
	runJSON(t, &got, "eval", "score", "--benchmark", "longbench", "--pred", dir, "--samples", samples, "--json")
	if got.Benchmark != "longbench" || got.Protocol != "thudm" || got.Scores["hotpotqa"] != 100 {
		t.Errorf("%+v", got)
	}
	written, err := os.ReadFile(samples)
	if want := `{"_id":"7","all_classes":null,"answers":["answer"],"dataset":"hotpotqa","length":1,"pred":"<the> answer","score":1}` + "\n"; err != nil || string(written) != want {
		t.Errorf("samples %s, %v, want %s", written, err, want)
	}
	if out, _, err := pbsRun("", "eval", "score", "--benchmark", "longbench", "--pred", pred); err != nil || !strings.Contains(out, "hotpotqa   100.00  1\n") {
		t.Errorf("table\n%s%v", out, err)
	}
}

// TestEvalScoreErrors names what is wrong, and leaves no samples behind.
func TestEvalScoreErrors(t *testing.T) {
	dir := t.TempDir()
	pred, samples := filepath.Join(dir, "hotpotqa.jsonl"), filepath.Join(dir, "samples.json")
	link := filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(pred, []byte("{}\n"), 0o644), os.Symlink("nothing", link)); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"hotpotqa.jsonl:1: no field pred":       {"--benchmark", "longbench", "--pred", dir, "--samples", samples},
		"--protocol: unknown protocol":          {"--benchmark", "longbench", "--pred", dir, "--protocol", "x"},
		"protocol opencompass is for longbench": {"--benchmark", "ruler", "--pred", dir, "--protocol", "opencompass"},
		"--rouge-recursion-limit":               {"--benchmark", "longbench", "--pred", dir, "--rouge-recursion-limit", "-1"},
		"overwrite the input":                   {"--benchmark", "longbench", "--pred", dir, "--samples", pred},
		"nothing: no such file":                 {"--benchmark", "longbench", "--pred", dir, "--samples", link},
		"no such file":                          {"--benchmark", "longbench", "--pred", filepath.Join(dir, "none")},
		"required flag(s)":                      {"--pred", dir},
	} {
		if _, _, err := pbsRun("", append([]string{"eval", "score"}, args...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
	if _, err := os.Stat(samples); err == nil {
		t.Error("samples were written")
	}
}
