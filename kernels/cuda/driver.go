package cuda

import (
	"time"
	"unsafe"
)

// Info describes a GPU.
type Info struct {
	Name         string
	Index        int
	Major, Minor int   // compute capability
	SMs          int   // multiprocessors
	Shared       int   // bytes of shared memory a block may have
	Free, Total  int64 // bytes of memory
}

// driver is what Device needs of CUDA. Work is queued in order; a failure may show in any later call.
type driver interface {
	info() Info
	// alloc returns memory that is not cleared.
	alloc(bytes int64) (uintptr, error)
	free(at uintptr, bytes int64) error
	clear(at uintptr, bytes int64) error
	// upload may return before the copy is done, but src is read by then.
	upload(at uintptr, src []byte) error
	// download waits for all that is queued.
	download(dst []byte, at uintptr) error
	wait() error
	// fence marks the end of what is queued and waits for the mark before the last one.
	fence() error
	// kernel looks a kernel up and allows it that much shared memory.
	kernel(name string, shared int) (uintptr, error)
	launch(kernel uintptr, g grid, args unsafe.Pointer, size uintptr) error
	// gemm queues out = x·wᵀ + add·out for bf16 x [rows, k] and w [n, k], f32 out [rows, n]; false if it cannot.
	gemm(p product) (bool, error)
	tensorMap(shape mapShape) (tensorMap, error)
	// capture records launches instead of running them until captured, which returns a graph that replay runs.
	capture() error
	captured() (uintptr, error)
	replay(graph uintptr) error
	dropGraph(graph uintptr) error
	// mark puts a mark, numbered from 0, behind what is queued; between waits for the second one; clearMarks forgets all.
	mark() (int, error)
	between(from, to int) (time.Duration, error)
	clearMarks()
	// clocks are in MHz: of multiprocessors, the most they may have, of memory; held is NVML's bits of what keeps them low.
	clocks() (core, most, memory int, held uint64, err error)
	// stop is a host word that kernels see at stopAddr.
	stop() *int32
	stopAddr() uintptr
	close() error
}

// grid is the geometry of a launch.
type grid struct {
	x, y, z int
	threads int // of a block
	shared  int // bytes of a block
}

// product is one matrix product; strides are elements between rows.
type product struct {
	out, x, w                   uintptr
	outStride, xStride, wStride int
	rows, n, k                  int
	add                         bool
}

// launch queues a kernel; A mirrors its struct of arguments in src. The first failure sticks.
func launch[A any](d *Device, name string, g grid, args *A) {
	if d.failed() || g.x <= 0 || g.y <= 0 || g.z <= 0 {
		return
	}
	if g.y > 65535 || g.z > 65535 || int64(g.x) > 1<<31-1 {
		panic("cuda: grid of " + name + " is too large")
	}
	k, err := d.kernelOf(name, g.shared)
	if err == nil {
		err = d.drv.launch(k, g, unsafe.Pointer(args), unsafe.Sizeof(*args))
	}
	if err != nil {
		d.fail(&kernelError{name, err})
	}
}

// kernelError is a failure that showed when a kernel was launched; the fault may be an earlier one's.
type kernelError struct {
	kernel string
	err    error
}

func (e *kernelError) Error() string { return "cuda: kernel " + e.kernel + ": " + e.err.Error() }
func (e *kernelError) Unwrap() error { return e.err }
