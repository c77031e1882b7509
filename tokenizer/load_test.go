package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// edit writes a copy of a family's tokenizer with its tokenizer.json changed, and returns
// the folder.
func edit(t testing.TB, family string, change func(top map[string]any)) string {
	t.Helper()
	var top map[string]any
	readJSON(t, family, "tokenizer.json", &top)
	change(top)
	data, err := json.Marshal(top)
	if err != nil {
		t.Fatal(err)
	}
	return folder(t, map[string]string{"tokenizer.json": string(data), "tokenizer_config.json": testFile(t, family, "tokenizer_config.json")})
}

// folder writes files into a new folder.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func loadEdited(t testing.TB, family string, change func(top map[string]any)) *Tokenizer {
	t.Helper()
	return loadFolder(t, edit(t, family, change))
}
