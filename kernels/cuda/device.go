package cuda

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/pbs-run/pbs-run/kernels"
)

// Device is a kernels.Device on one GPU. Operations are queued; Download and Err wait. Use it from one goroutine at a time;
// Interrupt may come from any.
type Device struct {
	drv       driver
	props     Info
	kernels   map[string]loaded
	memory    []block
	scratch   [scratchKinds]block
	stopped   atomic.Bool
	err       error  // the first failure
	last      string // the kernel queued last
	ahead     int64  // multiply-adds queued since the last fence
	TMA       bool   // prefill attention by the kernels of sm_90a where they serve
	NoLibGEMM bool   // matrix products by our own kernels even where cuBLASLt is there
	step      step
	onPlace   func(bytes int64)
}

type loaded struct {
	handle uintptr
	shared int
}

type block struct {
	at    uintptr
	bytes int64
}

// Scratch memory by use: what is alive at the same time has different kinds. Each grows to what the largest shape needs, in the
// first layer.
const (
	scratchIDs     = iota // token ids
	scratchX              // packed inputs of a product, or queries
	scratchW              // packed weights, or keys
	scratchV              // packed up weights, or values
	scratchScores         // of rows, blocks or gates
	scratchStats          // of those
	scratchWeights        // of blocks
	scratchLists          // of columns, bits of lines
	scratchSmall
	scratchOdd // whether values are finite
	scratchKinds
)

// open makes a Device over a driver.
func open(drv driver) (*Device, error) {
	d := &Device{drv: drv, props: drv.info(), kernels: map[string]loaded{}}
	if d.props.Major < 8 {
		return nil, fmt.Errorf("%s has compute capability %d.%d; at least 8.0 (Ampere) is needed", d.props.Name, d.props.Major, d.props.Minor)
	}
	return d, nil
}

// Info describes the GPU; Free is how much memory it had at Open.
func (d *Device) Info() Info { return d.props }

// Free is how much memory the GPU has left.
func (d *Device) Free() int64 { return d.drv.info().Free }

// Compute returns BF16.
func (d *Device) Compute() kernels.DType { return kernels.BF16 }

// Alloc returns cleared memory of the GPU.
func (d *Device) Alloc(dt kernels.DType, dims ...int) kernels.Tensor {
	t := kernels.Tensor{DType: dt, Dims: [3]int{1, 1, 1}}
	copy(t.Dims[3-len(dims):], dims)
	t.Stride = t.Dims[2]
	b, ok := d.take(int64(t.Bytes()))
	if !ok {
		return kernels.Tensor{}
	}
	if err := d.drv.clear(b.at, b.bytes); err != nil {
		d.fail(fmt.Errorf("cuda: clear %d bytes: %w", b.bytes, err))
		return kernels.Tensor{}
	}
	t.Addr = b.at
	return t
}

// take allocates memory that lives until Close.
func (d *Device) take(bytes int64) (block, bool) {
	if d.failed() {
		return block{}, false
	}
	b := block{bytes: max(bytes, 16)}
	var err error
	if b.at, err = d.drv.alloc(b.bytes); err != nil {
		info := d.drv.info()
		d.fail(fmt.Errorf("cuda: allocate %d MiB on %s: %d of %d MiB are free: %w", (b.bytes+1<<20-1)>>20, info.Name, info.Free>>20, info.Total>>20, err))
		return block{}, false
	}
	d.memory = append(d.memory, b)
	return b, true
}

// reserve is scratch memory of at least that many bytes; 0 after a failure.
func (d *Device) reserve(kind int, bytes int64) uintptr {
	s := &d.scratch[kind]
	if s.bytes >= bytes && s.at != 0 {
		return s.at
	}
	if s.at != 0 { // what is queued may still use it, and a recorded step, which is recorded anew
		d.dropGraph()
		if err := d.drv.wait(); err != nil {
			d.fail(fmt.Errorf("cuda: %w", err))
			return 0
		}
		for i, b := range d.memory {
			if b == *s {
				d.memory = append(d.memory[:i], d.memory[i+1:]...)
				break
			}
		}
		if err := d.drv.free(s.at, s.bytes); err != nil {
			d.fail(fmt.Errorf("cuda: free scratch memory: %w", err))
			return 0
		}
	}
	b, ok := d.take((bytes + 1<<16 - 1) &^ (1<<16 - 1))
	if !ok {
		b = block{}
	}
	*s = b
	return b.at
}

// WatchPlace has f hear of every tensor that Place copies; nil ends it.
func (d *Device) WatchPlace(f func(bytes int64)) { d.onPlace = f }

// Place copies a weight to the GPU.
func (d *Device) Place(host kernels.Tensor) kernels.Tensor {
	t := host
	t.Data = nil
	b, ok := d.take(int64(host.Bytes()))
	if !ok {
		return kernels.Tensor{}
	}
	t.Addr = b.at
	if err := d.drv.upload(b.at, host.Data[:host.Bytes()]); err != nil {
		d.fail(fmt.Errorf("cuda: copy a weight of %d bytes to the device: %w", host.Bytes(), err))
		return kernels.Tensor{}
	}
	if d.onPlace != nil {
		d.onPlace(int64(host.Bytes()))
	}
	return t
}

// Upload copies src into dst.
func (d *Device) Upload(dst kernels.Tensor, src []byte) {
	if d.failed() || len(src) == 0 {
		return
	}
	if err := d.drv.upload(dst.Addr, src); err != nil {
		d.fail(fmt.Errorf("cuda: copy %d bytes to the device: %w", len(src), err))
	}
}

// Download waits for what is queued and copies src into dst, or returns the first failure.
func (d *Device) Download(dst []byte, src kernels.Tensor) error {
	if err := d.Err(); err != nil {
		return err
	}
	n := min(len(dst), src.Bytes())
	if n == 0 {
		return nil
	}
	if err := d.drv.download(dst[:n], src.Addr); err != nil {
		d.fail(fmt.Errorf("cuda: copy %d bytes from the device: %w", n, err))
	}
	return d.Err()
}

// Interrupt has queued kernels end early; see kernels.Memory.
func (d *Device) Interrupt() {
	d.stopped.Store(true)
	atomic.StoreInt32(d.drv.stop(), 1)
}

// Resume waits for what an Interrupt cut short and ends its effect.
func (d *Device) Resume() {
	if err := d.drv.wait(); err != nil {
		d.fail(fmt.Errorf("cuda: after an interrupt: %w", err))
	}
	atomic.StoreInt32(d.drv.stop(), 0)
	d.stopped.Store(false)
}

// Err waits for what is queued and returns the first failure, or kernels.ErrInterrupted.
func (d *Device) Err() error {
	if d.err == nil && !d.step.recording {
		if err := d.drv.wait(); err != nil {
			d.fail(fmt.Errorf("cuda: at the latest in kernel %s: %w", d.last, err))
		}
	}
	if d.err == nil && d.stopped.Load() {
		return kernels.ErrInterrupted
	}
	return d.err
}

// aheadWork is how many multiply-adds may be queued between two fences. An Interrupt waits for at most twice as many, and one operation:
// 30 ms at 600 TFLOP/s, 0.3 s at 60. Attention, which takes longest, sees the interrupt itself.
const aheadWork = 4e12

// pace counts work that was queued, and keeps the host from running further ahead of the device than an Interrupt may take.
func (d *Device) pace(multiplyAdds int64) {
	if d.ahead += multiplyAdds; d.ahead < aheadWork || d.step.recording || d.failed() {
		return
	}
	d.ahead = 0
	if err := d.drv.fence(); err != nil {
		d.fail(fmt.Errorf("cuda: at the latest in kernel %s: %w", d.last, err))
	}
}

// failed reports a failure or an interrupt without waiting.
func (d *Device) failed() bool { return d.err != nil || d.stopped.Load() }

func (d *Device) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// kernelOf looks a kernel up once.
func (d *Device) kernelOf(name string, shared int) (uintptr, error) {
	d.last = name
	k, ok := d.kernels[name]
	if ok && k.shared >= shared {
		return k.handle, nil
	}
	if shared > d.props.Shared {
		return 0, fmt.Errorf("needs %d bytes of shared memory a block; %s has %d", shared, d.props.Name, d.props.Shared)
	}
	handle, err := d.drv.kernel(name, shared)
	if err == nil {
		d.kernels[name] = loaded{handle, shared}
	}
	return handle, err
}

// Close frees all memory. After a failure the device may be lost; then what cannot be freed is left to the end of the process.
func (d *Device) Close() error {
	var errs []error
	d.dropGraph()
	for _, b := range d.memory {
		if err := d.drv.free(b.at, b.bytes); err != nil && d.err == nil {
			errs = append(errs, err)
		}
	}
	d.memory = nil
	if err := d.drv.close(); err != nil && d.err == nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Scratch is nothing: operations work in memory of the device, which Workspace bounds.
func (d *Device) Scratch(kernels.PlanShape) int64 { return 0 }

// Workspace bounds the memory that operations on that many keys take beside the caller's tensors: scores and weights of blocks, or one
// head's scores of 128 ranking queries where that is more, what cuBLASLt uses, the pieces of SwiGLU, and some to spare.
func (d *Device) Workspace(keys int) int64 {
	return 2*scoreBytes + 512*int64(keys) + combineBytes + 64<<20 + 256<<20
}
