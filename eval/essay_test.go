package eval

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadEssay(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"document.txt": "Some text.", "empty": " \n", "binary": "a \xff"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	model := filepath.Join(dir, "model")
	if got, err := ReadEssay("", model); got != "Some text." || err != nil {
		t.Errorf("beside the model: %q, %v", got, err)
	}
	for want, path := range map[string]string{"no words": "empty", "UTF-8": "binary", "no such": "absent"} {
		if _, err := ReadEssay(filepath.Join(dir, path), model); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if _, err := ReadEssay("", dir); err == nil || !strings.Contains(err.Error(), "--essay FILE") {
		t.Errorf("no text beside the model: %v", err)
	}
}
