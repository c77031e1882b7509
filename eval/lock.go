package eval

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lock takes a folder for this process, or says that another one has it. It ends with the returned file's Close, or
// with the process, however that ends.
func lock(folder string) (*os.File, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("make output folder: %w", err)
	}
	path := filepath.Join(folder, ".lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock output folder: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("another eval writes into %s; wait for it, or pass another --out", folder)
	}
	return nil, fmt.Errorf("lock %s: %w; take an --out on a file system that has locks", path, err)
}
