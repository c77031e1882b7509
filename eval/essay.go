package eval

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// ReadEssay reads the plain text that needles are hidden in. An empty path stands for the text that lies beside the
// model: document.txt in the folder above modelDir, where the demo model has it.
func ReadEssay(path, modelDir string) (string, error) {
	if path == "" {
		path = filepath.Join(modelDir, "..", "document.txt")
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("find essay: no %s: pass --essay FILE, any plain text (the repository has demo/document.txt)", path)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read essay: %w", err)
	}
	if !utf8.Valid(text) {
		return "", fmt.Errorf("read essay %s: not UTF-8 text", path)
	}
	if len(strings.Fields(string(text))) == 0 {
		return "", fmt.Errorf("read essay %s: no words in it", path)
	}
	return string(text), nil
}
