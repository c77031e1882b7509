//go:build cgo

package loader

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"
)

// shrinkable opens a checkpoint of n pages, in a file whose data begin on a page.
func shrinkable(t *testing.T, pages int) (c *Checkpoint, file string, data []byte) {
	t.Helper()
	page := os.Getpagesize()
	header := `{"a":{"dtype":"BF16","shape":[` + strconv.Itoa(pages*page/2) + `],"data_offsets":[0,` + strconv.Itoa(pages*page) + `]}}`
	header += strings.Repeat(" ", page-8-len(header))
	content := safetensorsFile(header, pages*page)
	for i := range content[page:] {
		content[page+i] = 0xa5
	}
	dir := put(t, singleName, string(content))
	c = mustOpen(t, dir)
	x, err := c.Tensor("a", pages*page/2)
	if err != nil {
		t.Fatal(err)
	}
	return c, filepath.Join(dir, singleName), x.Data
}

func truncate(t *testing.T, file string, size int) {
	t.Helper()
	if err := os.Truncate(file, int64(size)); err != nil {
		t.Fatal(err)
	}
}

// readInC returns whether C code finds eight zero bytes at p: it takes p for the fault field of a watch, by way of a guard
// that no one registered, since a test cannot hold C of its own.
func readInC(p *byte) bool {
	var probe struct {
		next       uintptr
		begin, end uintptr
		fault      int64
	}
	var g guard
	*(*uintptr)(unsafe.Pointer(&g)) = uintptr(unsafe.Pointer(p)) - unsafe.Offsetof(probe.fault)
	at, ok := g.fault()
	return ok && at == 0
}

func TestShrinkingFile(t *testing.T) {
	page := os.Getpagesize()
	for _, in := range []string{"Go", "C"} {
		t.Run(in, func(t *testing.T) {
			c, file, data := shrinkable(t, 8)
			zero := func(at int) bool {
				if in == "C" {
					return readInC(&data[at])
				}
				return data[at] == 0
			}
			if zero(0) || zero(7*page) || c.Fault() != nil {
				t.Fatalf("wrong before anything happened: %v", c.Fault())
			}
			truncate(t, file, 5*page)
			if zero(3 * page) {
				t.Error("a page that is still there reads as zero")
			}
			for _, at := range []int{5 * page, 8*page - 8, 4 * page, 4*page + 64} {
				if !zero(at) {
					t.Errorf("offset %d of a lost page is not zero", at)
				}
			}
			if zero(3*page) || zero(4*page-8) {
				t.Error("a page that is still there reads as zero afterwards")
			}
			wantError(t, c.Fault(), file, "changed while it was read", "page at offset "+strconv.Itoa(6*page)+" gone", "pbs-run verify")
			wantError(t, c.Fault(), "gone") // it stays
		})
	}
}

// TestFaultWithoutSignal: a change that no read runs into is found as well.
func TestFaultWithoutSignal(t *testing.T) {
	c, file, _ := shrinkable(t, 2)
	truncate(t, file, 3*os.Getpagesize()-5) // within the last page: the rest of it reads as zeros, without a signal
	wantError(t, c.Fault(), file, "changed while it was read", "bytes instead of")

	c, file, _ = shrinkable(t, 2)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	wantError(t, c.Fault(), file, "changed while it was read", "modified at")
}

// TestShrinkingManyReaders lets several goroutines run into the same lost pages of several files.
func TestShrinkingManyReaders(t *testing.T) {
	const pages = 64
	var wg sync.WaitGroup
	for range 4 {
		c, file, data := shrinkable(t, pages)
		truncate(t, file, os.Getpagesize())
		for range 4 {
			wg.Go(func() {
				if slices.ContainsFunc(data, func(b byte) bool { return b != 0 }) {
					t.Error("lost pages are not zero")
				}
				wantError(t, c.Fault(), "gone")
			})
		}
	}
	wg.Wait()
}

// TestPipe: a pipe under a file's name must not make anyone wait.
func TestPipe(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{singleName, "config.json"} {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Skip("no pipes here:", err)
		}
	}
	_, err := Open(dir)
	wantError(t, err, singleName, "not a regular file")
	var v any
	wantError(t, ReadJSON(filepath.Join(dir, "config.json"), 100, &v), "not a regular file")
}

// TestForeignFault: a fault in a mapping that is not ours stays what it was, here a panic that Go makes of it.
func TestForeignFault(t *testing.T) {
	page := os.Getpagesize()
	shrinkable(t, 1) // the handler is there
	path := filepath.Join(put(t, "x", strings.Repeat("x", 2*page)), "x")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := mapFile(f, 2*page)
	if err != nil {
		t.Fatal(err)
	}
	defer unmap(data)
	truncate(t, path, page)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	t.Log(data[page+1])
}

// TestGuardReuse: a watch that was released serves again, and does not speak for its earlier mapping.
func TestGuardReuse(t *testing.T) {
	count := func() (n int) {
		for range 50 {
			c, file, data := shrinkable(t, 1)
			if c.Fault() != nil {
				t.Fatal("fault in a fresh checkpoint")
			}
			truncate(t, file, 8)
			n += int(data[0])
			wantError(t, c.Fault(), "gone")
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	if n := count(); n != 0 {
		t.Error("lost pages are not zero")
	}
}
