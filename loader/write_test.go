package loader

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/nlpodyssey/safetensors"
)

func TestWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	outs := []Out{{"b", "F32", []int{2, 1}}, {"a", "I64", []int{1}}, {"none", "F32", []int{0, 4}}}
	data := []byte{0, 0, 128, 63, 0, 0, 0, 64, 7, 0, 0, 0, 0, 0, 0, 0}
	w, err := Create(path, outs)
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range [][]byte{data[:3], data[3:12], data[12:]} {
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("the file is there before it is whole")
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkHeader(b); err != nil {
		t.Error(err)
	}
	st, err := safetensors.Deserialize(b)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := st.Tensor("a"); !ok || !bytes.Equal(v.Data(), data[8:]) {
		t.Errorf("tensor a holds %v", v.Data())
	}
	if v, ok := st.Tensor("b"); !ok || !bytes.Equal(v.Data(), data[:8]) {
		t.Errorf("tensor b holds %v", v.Data())
	}
}

// TestWriterLeavesNothing: a file that is not whole never gets its name and leaves no remains.
func TestWriterLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	outs := []Out{{"a", "F32", []int{2}}}
	for name, write := range map[string]func(w *Writer) error{
		"too short": func(w *Writer) error { _, _ = w.Write(make([]byte, 7)); return w.Close() },
		"too long":  func(w *Writer) error { _, err := w.Write(make([]byte, 9)); w.Abort(); return err },
		"aborted":   func(w *Writer) error { w.Abort(); return os.ErrClosed },
	} {
		w, err := Create(filepath.Join(dir, "x.safetensors"), outs)
		if err != nil {
			t.Fatal(err)
		}
		if write(w) == nil {
			t.Errorf("%s: no error", name)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
	if _, err := Create(filepath.Join(dir, "x"), []Out{{"a", "F3", nil}}); err == nil {
		t.Error("an unknown dtype passed")
	}
	if _, err := Create(filepath.Join(dir, "no", "x"), outs); err == nil {
		t.Error("a folder that is not there passed")
	}
}
