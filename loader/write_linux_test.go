package loader

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestWriterReplaces: only regular files are replaced; a link stays one, and the file that it leads to is.
func TestWriterReplaces(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(os.WriteFile(path("file"), nil, 0o644), os.Symlink("file", path("link")), os.Symlink("nothing", path("dangling")),
		os.Mkdir(path("folder"), 0o755), os.Symlink("folder", path("to a folder")), syscall.Mkfifo(path("pipe"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, want string }{
		{"new", ""}, {"file", ""}, {"link", ""},
		{"dangling", "nothing: no such file"}, {"folder", "a folder"}, {"to a folder", "a folder"}, {"pipe", "a device, pipe or socket"},
	} {
		before, _ := os.Lstat(path(c.name))
		w, err := Create(path(c.name), []Out{{"a", "U8", []int{1}}})
		if err == nil {
			_, err = w.Write([]byte{1})
			err = errors.Join(err, w.Close())
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got error %v, want %q", c.name, err, c.want)
		}
		if after, err := os.Lstat(path(c.name)); err != nil || before != nil && after.Mode().Type() != before.Mode().Type() {
			t.Errorf("%s: was %v, is %v, %v", c.name, before, after, err)
		}
	}
	if st, err := os.Stat(path("file")); err != nil || st.Size() == 0 {
		t.Errorf("the file is %v, %v", st, err)
	}
	if left, _ := filepath.Glob(path("*.incomplete-*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}
