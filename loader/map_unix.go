//go:build unix

package loader

import (
	"os"
	"syscall"
)

// mapFile maps the first size bytes of f read-only.
func mapFile(f *os.File, size int) ([]byte, error) {
	return mapHuge(int(f.Fd()), size, syscall.PROT_READ, syscall.MAP_SHARED)
}

// mapMemory returns size bytes of zeroed memory outside the Go heap, where a model's worth of weights would make the
// garbage collector wait for as much garbage.
func mapMemory(size int) ([]byte, error) {
	return mapHuge(-1, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
}

func mapHuge(fd, size, prot, flags int) ([]byte, error) {
	data, err := syscall.Mmap(fd, 0, size, prot, flags)
	if err == nil {
		adviseHuge(data)
	}
	return data, err
}

func unmap(data []byte) error {
	if data == nil {
		return nil
	}
	return syscall.Munmap(data)
}
