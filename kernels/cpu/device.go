// Package cpu is the CPU backend: C kernels with intrinsics for several instruction sets, chosen once at Open, and one
// pool of workers that splits every operation. C functions are single-threaded and work on one item (a tile, a range of rows).
package cpu

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/pbs-run/pbs-run/kernels"
)

// Options choose how a Device computes. The zero value is the best the host can do.
type Options struct {
	Threads int    // workers; 0 takes the CPUs this process may use
	ISA     string // "portable", "avx2", "avx512" or "amx"; "" takes the best the host has
	F32     bool   // products in f32 even where the host has bf16 products
}

// Device is a kernels.Device on the host's cores. Its operations finish before they return. Use it from one goroutine at a
// time; Interrupt may come from any.
type Device struct {
	isa     isa
	compute kernels.DType
	pool    *pool
	stopped atomic.Bool
	mu      sync.Mutex // guards maps
	maps    [][]byte   // anonymous mappings handed out by Alloc
	err     error      // the first failure

	matmul matmulJob
	embed  embedJob
	norm   normJob
	rope   ropeJob
	attend attendJob
	sparse sparseJob
}

// Open starts a Device. It fails on an instruction set that is unknown or that the host lacks.
func Open(opt Options) (*Device, error) {
	set, err := chooseISA(opt.ISA)
	if err != nil {
		return nil, err
	}
	d := &Device{isa: set, compute: kernels.F32}
	if set.bf16() && !opt.F32 {
		d.compute = kernels.BF16
	}
	threads := opt.Threads
	if threads == 0 {
		threads = hostThreads()
	}
	if threads < 1 || threads > 1024 {
		return nil, fmt.Errorf("threads %d: want 1 to 1024", threads)
	}
	d.pool = newPool(threads, &d.stopped)
	d.attend, d.sparse = newAttendJob(threads), newSparseJob(threads)
	return d, nil
}

// Compute returns BF16 where products run in bf16 with f32 sums, else F32.
func (d *Device) Compute() kernels.DType { return d.compute }

// Threads is the number of workers, ISA the instruction set in use.
func (d *Device) Threads() int { return d.pool.threads }
func (d *Device) ISA() string  { return d.isa.String() }

// Alloc maps zeroed memory straight from the kernel: pages count only once they are written, and huge pages spare the TLB
// in long caches.
func (d *Device) Alloc(dt kernels.DType, dims ...int) kernels.Tensor {
	n := dt.Size()
	for _, dim := range dims {
		n *= dim
	}
	m, err := syscall.Mmap(-1, 0, max(n, 1), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		d.fail(fmt.Errorf("allocate %d bytes: %w", n, err))
		return kernels.Tensor{}
	}
	adviseHuge(m)
	d.mu.Lock()
	d.maps = append(d.maps, m)
	d.mu.Unlock()
	return kernels.NewTensor(dt, m, dims...)
}

// Place returns host itself: weights are read where the file is mapped.
func (d *Device) Place(host kernels.Tensor) kernels.Tensor { return host }

// Upload copies src into dst.
func (d *Device) Upload(dst kernels.Tensor, src []byte) { copy(dst.Data, src) }

// Download copies src into dst, or returns the first failure.
func (d *Device) Download(dst []byte, src kernels.Tensor) error {
	copy(dst, src.Data)
	return d.Err()
}

// Interrupt makes the running operation and those after it end early; see kernels.Memory.
func (d *Device) Interrupt() { d.stopped.Store(true) }

// Resume ends the effect of Interrupt.
func (d *Device) Resume() { d.stopped.Store(false) }

// Err returns the first failure, or kernels.ErrInterrupted.
func (d *Device) Err() error {
	if d.err == nil && d.stopped.Load() {
		return kernels.ErrInterrupted
	}
	return d.err
}

func (d *Device) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// Close stops the workers and unmaps all that Alloc handed out.
func (d *Device) Close() error {
	d.pool.close()
	var errs []error
	for _, m := range d.maps {
		errs = append(errs, syscall.Munmap(m))
	}
	d.maps = nil
	return errors.Join(errs...)
}
