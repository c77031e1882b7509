package model_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pbs-run/pbs-run/internal/goldentest"
	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kernels/cpu"
)

// TestShrinkingWeights: weights that go away in the middle of a forward pass end it with an error, not the process.
func TestShrinkingWeights(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(goldentest.Path(t, "models", "llama3-d128-bf16"))); err != nil {
		t.Fatal(err)
	}
	m, dev := openDir(t, dir, cpu.Options{})
	s := session(t, m, dev, 50, 50, kernels.BF16)
	s.AfterLayer = func(layer int, _ kernels.Tensor) error {
		if layer == -1 {
			return os.Truncate(filepath.Join(dir, "model.safetensors"), 5000)
		}
		return nil
	}
	err := s.Logits(context.Background(), randomIDs(50, m.Vocab), []int{49}, func(int, []float32) error {
		t.Error("logits were handed out")
		return nil
	})
	for _, want := range []string{"model.safetensors", "changed while it was read", "pbs-run verify"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want one with %q", err, want)
		}
	}
}
