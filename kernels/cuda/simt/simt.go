// Package simt runs the GPU kernels of kernels/cuda/src on the host, for tests: they are compiled by a C++ compiler against
// host/simt.h, thread for thread and warp for warp as a GPU would run them.
package simt

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>

typedef const void *(*kernel_fn)(const char *);
typedef size_t (*args_fn)(const void *);
typedef void (*launch_fn)(const void *, unsigned, unsigned, unsigned, unsigned, unsigned, const void *, int, int);
typedef void *(*alloc_fn)(size_t);
typedef void (*free_fn)(void *, size_t);

static uintptr_t find(void *f, const char *name) { return (uintptr_t)((kernel_fn)f)(name); }
static size_t args_of(void *f, uintptr_t kernel) { return ((args_fn)f)((const void *)kernel); }
static void run(void *f, uintptr_t kernel, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned shared, const void *args, int cores, int backwards) {
	((launch_fn)f)((const void *)kernel, x, y, z, threads, shared, args, cores, backwards);
}
static uintptr_t allocate(void *f, size_t n) { return (uintptr_t)((alloc_fn)f)(n); }
static void release(void *f, uintptr_t at, size_t n) { ((free_fn)f)((void *)at, n); }
*/
import "C"

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"
)

// ErrNoCompiler is what Build returns on a machine without a C++ compiler.
var ErrNoCompiler = errors.New("no C++ compiler (c++) on PATH")

// Build compiles the kernels in src for the host into a library in dir, unless it is there, and returns its path. host is the folder of
// simt.h.
func Build(src, host, dir string) (string, error) {
	compiler, err := exec.LookPath("c++")
	if err != nil {
		return "", ErrNoCompiler
	}
	hash := sha256.New()
	var sources []string
	for _, pattern := range []string{filepath.Join(src, "*.cu"), filepath.Join(src, "*.cuh"), filepath.Join(host, "*")} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			return "", fmt.Errorf("no files match %s", pattern)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(hash, "%s %d\n%s", f, len(text), text)
			if ext := filepath.Ext(f); ext == ".cu" || ext == ".cpp" {
				sources = append(sources, f)
			}
		}
	}
	lib := filepath.Join(dir, "kernels-"+hex.EncodeToString(hash.Sum(nil)[:8])+".so")
	if _, err := os.Stat(lib); err == nil {
		return lib, nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	old, _ := filepath.Glob(filepath.Join(dir, "kernels-*.so"))
	for _, f := range old {
		os.Remove(f)
	}
	slices.Sort(sources)
	part := fmt.Sprintf("%s.%d", lib, os.Getpid())
	args := []string{"-std=c++17", "-O3", "-g1", "-fPIC", "-shared", "-pthread", "-Wno-unknown-pragmas", "-I" + host, "-I" + src, "-o", part, "-x", "c++"}
	out, err := exec.Command(compiler, append(args, sources...)...).CombinedOutput()
	if err != nil {
		os.Remove(part)
		return "", fmt.Errorf("compile the kernels for the host: %w\n%s", err, strings.TrimSpace(string(out)))
	}
	return lib, os.Rename(part, lib)
}

// Machine is a library that Build made.
type Machine struct {
	kernel, args, launch, alloc, free unsafe.Pointer
	Cores                             int  // host threads that blocks run on
	Backwards                         bool // run blocks, warps and threads from the last to the first
}

// Load opens a library.
func Load(lib string) (*Machine, error) {
	name := C.CString(lib)
	defer C.free(unsafe.Pointer(name))
	handle := C.dlopen(name, C.RTLD_NOW)
	if handle == nil {
		return nil, fmt.Errorf("open %s: %s", lib, C.GoString(C.dlerror()))
	}
	m := &Machine{Cores: 1}
	for symbol, to := range map[string]*unsafe.Pointer{
		"simt_kernel": &m.kernel, "simt_args": &m.args, "simt_launch": &m.launch, "simt_alloc": &m.alloc, "simt_free": &m.free,
	} {
		s := C.CString(symbol)
		*to = C.dlsym(handle, s)
		C.free(unsafe.Pointer(s))
		if *to == nil {
			return nil, fmt.Errorf("%s has no %s", lib, symbol)
		}
	}
	return m, nil
}

// Kernel is a kernel by name, 0 if there is none, and the size of its arguments.
func (m *Machine) Kernel(name string) (kernel uintptr, args int) {
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	if kernel = uintptr(C.find(m.kernel, s)); kernel != 0 {
		args = int(C.args_of(m.args, C.uintptr_t(kernel)))
	}
	return kernel, args
}

// Launch runs a grid of x·y·z blocks and returns when it has ended.
func (m *Machine) Launch(kernel uintptr, x, y, z, threads, shared int, args unsafe.Pointer) {
	backwards := C.int(0)
	if m.Backwards {
		backwards = 1
	}
	C.run(m.launch, C.uintptr_t(kernel), C.uint(x), C.uint(y), C.uint(z), C.uint(threads), C.uint(shared), args, C.int(m.Cores), backwards)
}

// Alloc returns zeroed memory behind which nothing is mapped.
func (m *Machine) Alloc(n int64) uintptr { return uintptr(C.allocate(m.alloc, C.size_t(n))) }

// Free unmaps what Alloc returned for n bytes.
func (m *Machine) Free(at uintptr, n int64) { C.release(m.free, C.uintptr_t(at), C.size_t(n)) }
