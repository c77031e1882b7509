package loader

import (
	"fmt"
	"os"
	"syscall"
	"time"
)

// statSame reports whether f is still as long and as old as when it was opened. It is asked after every layer of every
// token, so it allocates nothing.
func statSame(f *os.File, was os.FileInfo) error {
	var now syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &now); err != nil {
		return reason(err)
	}
	if now.Size != was.Size() {
		return fmt.Errorf("%d bytes instead of %d", now.Size, was.Size())
	}
	if modified := time.Unix(now.Mtim.Unix()); !modified.Equal(was.ModTime()) {
		return fmt.Errorf("modified at %s", modified.Format("2006-01-02 15:04:05"))
	}
	return nil
}
