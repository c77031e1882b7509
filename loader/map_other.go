//go:build !unix

package loader

import (
	"io"
	"os"
)

// mapFile reads the first size bytes of f: this system has no mmap in package syscall.
func mapFile(f *os.File, size int) ([]byte, error) {
	data := make([]byte, size)
	_, err := io.ReadFull(f, data)
	return data, err
}

func mapMemory(size int) ([]byte, error) { return make([]byte, size), nil }

func unmap([]byte) error { return nil }
