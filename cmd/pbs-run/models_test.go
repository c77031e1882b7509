package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pbs-run/pbs-run/loader"
)

// tensorIn finds a tensor in a model's files.
func tensorIn(t *testing.T, dir, name string) loader.Info {
	t.Helper()
	c, err := loader.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.Tensors()[slices.IndexFunc(c.Tensors(), func(i loader.Info) bool { return i.Name == name })]
}

// TestNaNWeights: weights with a NaN load, but nothing is made of their logits, and --debug finds the layer.
func TestNaNWeights(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(models+"llama-f16")); err != nil {
		t.Fatal(err)
	}
	info := tensorIn(t, dir, "model.layers.1.mlp.up_proj.weight")
	f, err := os.OpenFile(info.File, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0, 0x7e}, info.Offset); err != nil { // an f16 NaN
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ flag, want string }{{"--json", "logits are not finite"}, {"--debug", "layer 1, row 83: the residual stream holds NaN"}} {
		stdout, _, err := pbsRun("", "generate", "-m", dir, c.flag, "Hello")
		if err == nil || !strings.Contains(err.Error(), c.want) || stdout != "" {
			t.Errorf("%s: got %q, %v, want an error with %q", c.flag, stdout, err, c.want)
		}
	}
	// perplexity has no --debug.
	_, _, err = pbsRun("", "perplexity", "-m", dir, "--ids", jsonFile(t, []int{1, 2, 3}))
	if err = advise(err); err == nil || !strings.HasSuffix(err.Error(), "logits are not finite; pbs-run generate --debug finds the layer, pbs-run verify --values checks the weights") {
		t.Errorf("perplexity: got %v", err)
	}
}

// TestTokenizerTooLarge: a tokenizer with ids that have no embedding.
func TestTokenizerTooLarge(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(models+"llama-f16")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "tokenizer.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var top map[string]any
	if err := json.Unmarshal(b, &top); err != nil {
		t.Fatal(err)
	}
	list := top["added_tokens"].([]any)
	last := list[len(list)-1].(map[string]any)
	for id := last["id"].(float64) + 1; id <= 512; id++ { // the model has 512 rows
		next := maps.Clone(last)
		next["id"], next["content"] = id, fmt.Sprintf("<|%v|>", id)
		list = append(list, next)
	}
	top["added_tokens"] = list
	if b, err = json.Marshal(top); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	const want = "tokenizer.json: has token id 512, the model embeds 512"
	if _, _, err := pbsRun("", "generate", "-m", dir, "Hello"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("generate: %v, want an error with %q", err, want)
	}
	if stdout, _, err := pbsRun("", "verify", "-m", dir); err == nil || !strings.Contains(stdout, want) {
		t.Errorf("verify: %v\n%s", err, stdout)
	}
}

// TestExtrapolation: a prompt beyond the model's positions runs only where that is asked for, and says so.
func TestExtrapolation(t *testing.T) {
	args := []string{"generate", "-m", models + "llama-f16", "--ids", jsonFile(t, make([]int, 4096)), "-n", "1"}
	if stderr, err := process(args...).CombinedOutput(); err == nil || !strings.Contains(string(stderr), "prompt of 4096 tokens + 1 new tokens exceed the model's 4096 positions; ") {
		t.Errorf("%v\n%s", err, stderr)
	}
	if stderr, err := process(append(args, "--allow-extrapolation")...).CombinedOutput(); err != nil || !strings.Contains(string(stderr), "warning: --allow-extrapolation: prompt of 4096 tokens + 1") {
		t.Errorf("with --allow-extrapolation: %v\n%s", err, stderr)
	}
}
