// Package testfiles writes the files that tests of several packages read.
package testfiles

import (
	"os"
	"path/filepath"
	"testing"
)

// Tree makes a folder that lasts as long as the test, with files of these names, which may hold slashes, and texts.
func Tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
