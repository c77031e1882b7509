package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// TestQuestions: answers over a document that is prefilled once are those to the whole prompts, with and without a chat
// template, and blank lines ask nothing.
func TestQuestions(t *testing.T) {
	doc := writeFile(t, "doc", strings.Repeat("A goroutine is a function that runs at the same time as others. ", 60))
	asked := []string{"What is a goroutine?", "What runs at the same time, and as what?"}
	list := writeFile(t, "questions", asked[0]+"\n\n  \n"+asked[1]+"\r\n")
	for _, raw := range [][]string{nil, {"--no-chat-template"}} {
		args := append([]string{"generate", "-m", "../../demo/model", "-f", doc, "--attention", "full", "--precision", "f32", "--kv-dtype", "f32",
			"--temperature", "1", "--repetition-penalty", "1.3", "--seed", "5", "-n", "12", "--json"}, raw...)
		stdout, _, err := pbsRun("", append(args, "--questions", list)...)
		if err != nil {
			t.Fatal(err)
		}
		dec := json.NewDecoder(strings.NewReader(stdout))
		for _, q := range asked {
			var got questionResult
			if err := dec.Decode(&got); err != nil {
				t.Fatal(err)
			}
			var want result
			runJSON(t, &want, append(args, q)...)
			if got.Question != q || got.PromptTokens != want.PromptTokens || !slices.Equal(got.OutputIDs, want.OutputIDs) || got.Text != want.Text {
				t.Errorf("%v %q: got %q, want %q", raw, q, got.Text, want.Text)
			}
			if got.CachedTokens < got.PromptTokens-60 || got.CachedTokens >= got.PromptTokens || got.TTFT <= 0 {
				t.Errorf("%v %q: %d of %d tokens cached, TTFT %g", raw, q, got.CachedTokens, got.PromptTokens, got.TTFT)
			}
		}
		if dec.More() {
			t.Errorf("more answers than questions: %s", stdout)
		}
	}
}

// TestQuestionsStdin: questions come from standard input too, and over an empty document they are asked alone.
func TestQuestionsStdin(t *testing.T) {
	args := []string{"generate", "-m", "../../demo/model", "-f", writeFile(t, "empty", ""), "--no-chat-template", "--temperature", "0", "-n", "3", "--json"}
	stdout, _, err := pbsRun("Who?\n", append(args, "--questions", "-")...)
	if err != nil {
		t.Fatal(err)
	}
	var got questionResult
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	var want result
	runJSON(t, &want, append(args, "Who?")...)
	if got.Question != "Who?" || got.PromptTokens != want.PromptTokens || !slices.Equal(got.OutputIDs, want.OutputIDs) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	args[4] = "-"
	if _, _, err := pbsRun("Who?\n", append(args, "--questions", "-")...); err == nil || !strings.Contains(err.Error(), "cannot both read standard input") {
		t.Errorf("both from standard input: %v", err)
	}
}

func TestStats(t *testing.T) {
	doc := writeFile(t, "doc", strings.Repeat("A goroutine is a function that runs at the same time as others. ", 100))
	args := []string{"generate", "-m", "../../demo/model", "-f", doc, "-n", "1", "--attention", "pbs:block=32,segment=64,tau=0.8", "--attention-layers", "0=full", "--stats"}
	var r result
	runJSON(t, &r, append(args, "--json")...)
	if len(r.PerLayer) != 4 || len(r.PerHead) != 4 || len(r.PerHead[1]) != 4 || len(r.UnpermutedPerLayer) != 4 || r.PerLayer[0] != 1 || r.UnpermutedPerLayer[0] != 1 {
		t.Fatalf("got %+v", r)
	}
	// What it would be without permutation is what it is without permutation, in the first layer that looks at its input alone.
	args[8] = "pbs:block=32,segment=64,tau=0.8,permute=off"
	var u result
	runJSON(t, &u, append(args, "--json")...)
	if u.Unpermuted != nil || u.PerLayer[1] != r.UnpermutedPerLayer[1] || r.PerLayer[1] == r.UnpermutedPerLayer[1] {
		t.Errorf("layer 1: %g, unpermuted %g; with permute=off %g", r.PerLayer[1], r.UnpermutedPerLayer[1], u.PerLayer[1])
	}
	_, stderr, err := pbsRun("", args...)
	if err != nil || !strings.Contains(stderr, "by head") {
		t.Errorf("table: %v\n%s", err, stderr)
	}
}

func TestMinLength(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	doc := writeFile(t, "doc", strings.Repeat("A goroutine is a function. ", 150))
	density := func(args ...string) float64 {
		t.Helper()
		var r result
		runJSON(t, &r, append([]string{"generate", "-m", "../../demo/model", "-f", doc, "-n", "1", "--json"}, args...)...)
		return r.Density
	}
	const spec = "pbs:block=32,segment=64,tau=0.5"
	if d := density("--attention", spec); d > 0.9 {
		t.Errorf("density %g without --min-length", d)
	}
	if d := density("--attention", spec, "--min-length", "100"); d > 0.9 {
		t.Errorf("density %g above --min-length", d)
	}
	if d := density("--attention", spec, "--min-length", "10000"); d != 1 {
		t.Errorf("density %g below --min-length", d)
	}
	if d := density("--attention", "auto"); d != 1 {
		t.Errorf("density %g with auto, uncalibrated, below its default", d)
	}
	if d := density("--attention", "auto", "--min-length", "100"); d == 1 {
		t.Error("auto stays dense above --min-length")
	}
}
