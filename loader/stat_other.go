//go:build !linux

package loader

import (
	"fmt"
	"os"
)

// statSame reports whether f is still as long and as old as when it was opened.
func statSame(f *os.File, was os.FileInfo) error {
	now, err := f.Stat()
	if err != nil {
		return reason(err)
	}
	if now.Size() != was.Size() {
		return fmt.Errorf("%d bytes instead of %d", now.Size(), was.Size())
	}
	if !now.ModTime().Equal(was.ModTime()) {
		return fmt.Errorf("modified at %s", now.ModTime().Format("2006-01-02 15:04:05"))
	}
	return nil
}
