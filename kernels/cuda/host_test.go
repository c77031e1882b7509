package cuda

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kernels/cuda/simt"
)

// hostDriver runs the kernels on the host; see package simt.
type hostDriver struct {
	m     *simt.Machine
	flag  *int32
	used  int64
	limit int64            // bytes that alloc hands out; 0 for any
	known map[uintptr]host // by handle
	marks []time.Time
}

type host struct {
	name string
	args int
}

// openHost opens a Device whose kernels run on the host. It skips the test where there is no C++ compiler.
func openHost(t testing.TB) (*Device, *hostDriver) {
	t.Helper()
	lib, err := simt.Build("src", filepath.Join("simt", "host"), filepath.Join("..", "..", ".build", "simt"))
	if errors.Is(err, simt.ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	m, err := simt.Load(lib)
	if err != nil {
		t.Fatal(err)
	}
	m.Cores = runtime.GOMAXPROCS(0)
	m.Backwards = os.Getenv("PBS_SIMT_BACKWARDS") != ""
	drv := &hostDriver{m: m, known: map[uintptr]host{}}
	at := m.Alloc(4)
	drv.flag = *(**int32)(unsafe.Pointer(&at))
	d, err := open(drv)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, drv
}

func (h *hostDriver) info() Info {
	return Info{Name: "host", Major: 9, SMs: 4, Shared: 99 << 10, Free: 1<<40 - h.used, Total: 1 << 40}
}

func (h *hostDriver) alloc(n int64) (uintptr, error) {
	if h.limit > 0 && h.used+n > h.limit {
		return 0, errors.New("out of memory")
	}
	h.used += n
	at := h.m.Alloc(n)
	if at == 0 {
		return 0, errors.New("mmap failed")
	}
	bytes := h.bytes(at, n)
	for i := 0; i < min(len(bytes), 1<<16); i++ {
		bytes[i] = 0xff // what is not cleared is not zero
	}
	return at, nil
}

func (h *hostDriver) free(at uintptr, n int64) error {
	h.used -= n
	h.m.Free(at, n)
	return nil
}

func (h *hostDriver) bytes(at uintptr, n int64) []byte {
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&at))), n)
}

func (h *hostDriver) clear(at uintptr, n int64) error {
	clear(h.bytes(at, min(n, 1<<16))) // the rest is fresh
	return nil
}

func (h *hostDriver) upload(at uintptr, src []byte) error {
	copy(h.bytes(at, int64(len(src))), src)
	return nil
}

func (h *hostDriver) download(dst []byte, at uintptr) error {
	copy(dst, h.bytes(at, int64(len(dst))))
	return nil
}

func (h *hostDriver) wait() error { return nil }

func (h *hostDriver) kernel(name string, shared int) (uintptr, error) {
	k, args := h.m.Kernel(name)
	if k == 0 {
		return 0, fmt.Errorf("no kernel %s", name)
	}
	h.known[k] = host{name, args}
	return k, nil
}

func (h *hostDriver) launch(kernel uintptr, g grid, args unsafe.Pointer, size uintptr) error {
	if k := h.known[kernel]; int(size) != k.args {
		return fmt.Errorf("%s takes %d bytes of arguments, got %d", k.name, k.args, size)
	}
	if os.Getenv("PBS_SIMT_TRACE") != "" {
		fmt.Println(h.known[kernel].name, g)
	}
	h.m.Launch(kernel, g.x, g.y, g.z, g.threads, g.shared, args)
	return nil
}

func (h *hostDriver) mark() (int, error) {
	h.marks = append(h.marks, time.Now())
	return len(h.marks) - 1, nil
}
func (h *hostDriver) between(from, to int) (time.Duration, error) {
	return h.marks[to].Sub(h.marks[from]), nil
}
func (h *hostDriver) clearMarks()                  { h.marks = h.marks[:0] }
func (h *hostDriver) gemm(p product) (bool, error) { return false, nil }
func (h *hostDriver) stop() *int32                 { return h.flag }
func (h *hostDriver) stopAddr() uintptr            { return uintptr(unsafe.Pointer(h.flag)) }
func (h *hostDriver) close() error                 { return nil }

// wideDriver keeps the arguments of the last attention launch and runs nothing.
type wideDriver struct {
	driver
	args attendArgs
	grid grid
}

func (w *wideDriver) kernel(name string, shared int) (uintptr, error) { return 1, nil }
func (w *wideDriver) stopAddr() uintptr                               { return 0 }
func (w *wideDriver) launch(kernel uintptr, g grid, args unsafe.Pointer, size uintptr) error {
	w.args, w.grid = *(*attendArgs)(args), g
	return nil
}

// TestOutOfMemory: a failed Alloc sticks, says how much was free, and nothing runs after it.
func TestOutOfMemory(t *testing.T) {
	d, drv := openHost(t)
	drv.limit = 1 << 20
	if x := d.Alloc(kernels.F32, 1<<19); !x.IsZero() {
		t.Error("2 MiB of 1 MiB")
	}
	err := d.Err()
	if err == nil || !strings.Contains(err.Error(), "allocate 2 MiB") || !strings.Contains(err.Error(), "free") {
		t.Errorf("error %v", err)
	}
	if x := d.Alloc(kernels.F32, 1); !x.IsZero() || d.Err() != err {
		t.Errorf("after the failure: %v", d.Err())
	}
}

// TestInterrupt: kernels queued when the device was interrupted end early, nothing is queued after, and Resume ends that.
func TestInterrupt(t *testing.T) {
	d, _ := openHost(t)
	q, out := d.Alloc(kernels.BF16, 64, 64), d.Alloc(kernels.BF16, 64, 64)
	kv := kernels.KV{K: d.Alloc(kernels.BF16, 1, 64, 64), V: d.Alloc(kernels.BF16, 1, 64, 64)}
	d.Upload(out, bytes.Repeat([]byte{7}, out.Bytes()))
	got := make([]byte, out.Bytes())
	d.Interrupt()
	if err := d.Err(); err != kernels.ErrInterrupted {
		t.Fatalf("error %v", err)
	}
	d.stopped.Store(false) // as if it had been queued before
	d.Attend(out, q, kv, 0)
	if err := d.Download(got, out); err != nil || got[0] != 7 || got[len(got)-1] != 7 {
		t.Errorf("the kernel ran: %v, %v", got[:4], err)
	}
	d.Resume()
	d.Attend(out, q, kv, 0)
	if err := d.Download(got, out); err != nil || got[0] != 0 || got[len(got)-1] != 0 {
		t.Errorf("the kernel did not run: %v, %v", got[:4], err)
	}
}
