//go:build cuda

package cuda

/*
#cgo noescape pbs_launch
#cgo nocallback pbs_launch
#cgo LDFLAGS: -ldl
#include "shim.h"
*/
import "C"

import (
	"embed"
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"gorgonia.org/cu"
)

// fatbins holds the kernels for sm_80 and sm_90a and as PTX, a file for each of src; make cuda puts them there.
//
//go:embed fatbin/*.fatbin
var fatbins embed.FS

// ErrNoDevice is what Open returns where there is no driver or no GPU.
var ErrNoDevice = errors.New("no CUDA device")

// Open opens a GPU by its index.
func Open(index int) (*Device, error) {
	count, err := cu.NumDevices()
	if err != nil && isResult(err, cu.NoDevice) || err == nil && count == 0 {
		return nil, ErrNoDevice
	}
	if err != nil {
		return nil, fmt.Errorf("cuda: count devices: %w; is the driver older than R580, or does it not match its kernel module?", err)
	}
	if index < 0 || index >= count {
		return nil, fmt.Errorf("no CUDA device %d: there are %d", index, count)
	}
	g := &gpu{index: index}
	if err := g.start(); err != nil {
		g.close()
		return nil, fmt.Errorf("cuda device %d: %w", index, err)
	}
	d, err := open(g)
	if err != nil {
		g.close()
		return nil, fmt.Errorf("cuda device %d: %w", index, err)
	}
	return d, nil
}

// isResult reports whether err is that result of the driver.
func isResult(err error, result error) bool { return err != nil && err.Error() == result.Error() }

// stageBytes is the size of a pinned buffer of uploads and downloads, of which there are two.
const stageBytes = 16 << 20

// gpu is the driver on a real GPU: one primary context and one stream.
type gpu struct {
	index    int
	dev      cu.Device
	context  cu.CUContext
	stream   cu.Stream
	modules  []cu.Module
	stage    [2]stage
	next     int // stage to fill
	word     *int32
	wordAddr uintptr
	props    Info
	lt       ltLibrary
	events   []cu.Event // of marks, the first `marked` in use
	marked   int
	fences   [2]cu.Event // in turns
	fenced   int         // calls of fence
}

type stage struct {
	host unsafe.Pointer
	done cu.Event // of its last copy
	busy bool
}

// in runs f on a thread where the context is current.
func (g *gpu) in(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := result(C.pbs_current(g.ctx())); err != nil {
		return err
	}
	return f()
}

// cu's handles are structs of one pointer.
func (g *gpu) ctx() unsafe.Pointer   { return *(*unsafe.Pointer)(unsafe.Pointer(&g.context)) }
func (g *gpu) queue() unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&g.stream)) }

// resultError is an error of the driver in its own words.
type resultError int

func (e resultError) Error() string { return C.GoString(C.pbs_error(C.int(e))) }

func result(code C.int) error {
	if code == 0 {
		return nil
	}
	return resultError(code)
}

func (g *gpu) start() (err error) {
	if g.dev, err = cu.GetDevice(g.index); err != nil {
		return err
	}
	if err := g.describe(); err != nil {
		return fmt.Errorf("query: %w", err)
	}
	if g.context, err = g.dev.RetainPrimaryCtx(); err != nil {
		return fmt.Errorf("context: %w", err)
	}
	return g.in(func() (err error) {
		if g.stream, err = cu.MakeStream(cu.NonBlocking); err != nil {
			return fmt.Errorf("stream: %w", err)
		}
		if err := g.loadModules(); err != nil {
			return err
		}
		for i := range g.stage {
			var addr C.uintptr_t
			if err := result(C.pbs_pinned(g.ctx(), stageBytes, &g.stage[i].host, &addr)); err != nil {
				return fmt.Errorf("pin %d bytes of memory: %w", stageBytes, err)
			}
			if g.stage[i].done, err = cu.MakeEvent(cu.DisableTiming); err != nil {
				return fmt.Errorf("event: %w", err)
			}
		}
		for i := range g.fences {
			if g.fences[i], err = cu.MakeEvent(cu.DisableTiming); err != nil {
				return fmt.Errorf("event: %w", err)
			}
		}
		var word unsafe.Pointer
		var addr C.uintptr_t
		if err := result(C.pbs_pinned(g.ctx(), 4096, &word, &addr)); err != nil {
			return fmt.Errorf("pin memory: %w", err)
		}
		g.word, g.wordAddr = (*int32)(word), uintptr(addr)
		*g.word = 0
		return nil
	})
}

func (g *gpu) describe() (err error) {
	g.props.Index = g.index
	if g.props.Name, err = g.dev.Name(); err != nil {
		return err
	}
	for attribute, to := range map[cu.DeviceAttribute]*int{
		cu.ComputeCapabilityMajor: &g.props.Major, cu.ComputeCapabilityMinor: &g.props.Minor, cu.MultiprocessorCount: &g.props.SMs,
		97: &g.props.Shared, // CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
	} {
		if *to, err = g.dev.Attribute(attribute); err != nil {
			return err
		}
	}
	return nil
}

func (g *gpu) loadModules() error {
	files, err := fatbins.ReadDir("fatbin")
	if err != nil {
		return err
	}
	for _, f := range files {
		image, err := fatbins.ReadFile("fatbin/" + f.Name())
		if err != nil {
			return err
		}
		m, err := cu.LoadData(string(image))
		if err != nil {
			return fmt.Errorf("load kernels of %s for compute capability %d.%d: %w; a driver of R580 or newer is needed", f.Name(), g.props.Major, g.props.Minor, err)
		}
		g.modules = append(g.modules, m)
	}
	return nil
}

func (g *gpu) info() Info {
	i := g.props
	g.in(func() (err error) {
		i.Free, i.Total, err = cu.MemInfo()
		return err
	})
	return i
}

func (g *gpu) alloc(n int64) (at uintptr, err error) {
	err = g.in(func() error {
		p, err := cu.MemAlloc(n)
		at = uintptr(p)
		return err
	})
	return at, err
}

func (g *gpu) free(at uintptr, n int64) error {
	return g.in(func() error { return cu.MemFree(cu.DevicePtr(at)) })
}

func (g *gpu) clear(at uintptr, n int64) error {
	return g.in(func() error { return cu.MemsetD8Async(cu.DevicePtr(at), 0, n, g.stream) })
}

// upload copies through the two pinned buffers: one is filled while the other travels.
func (g *gpu) upload(at uintptr, src []byte) error {
	return g.in(func() error {
		for len(src) > 0 {
			s := &g.stage[g.next]
			g.next = 1 - g.next
			if s.busy {
				if err := s.done.Synchronize(); err != nil {
					return err
				}
			}
			n := copy(unsafe.Slice((*byte)(s.host), stageBytes), src)
			if err := cu.MemcpyHtoDAsync(cu.DevicePtr(at), s.host, int64(n), g.stream); err != nil {
				return err
			}
			if err := s.done.Record(g.stream); err != nil {
				return err
			}
			s.busy = true
			src, at = src[n:], at+uintptr(n)
		}
		return nil
	})
}

func (g *gpu) download(dst []byte, at uintptr) error {
	return g.in(func() error {
		s := &g.stage[0] // the copy waits, in the stream, for uploads from it
		for len(dst) > 0 {
			n := min(len(dst), stageBytes)
			if err := cu.MemcpyDtoHAsync(s.host, cu.DevicePtr(at), int64(n), g.stream); err != nil {
				return err
			}
			if err := g.stream.Synchronize(); err != nil {
				return err
			}
			copy(dst, unsafe.Slice((*byte)(s.host), n))
			dst, at = dst[n:], at+uintptr(n)
		}
		return nil
	})
}

func (g *gpu) wait() error { return g.in(g.stream.Synchronize) }

func (g *gpu) fence() error {
	return g.in(func() error {
		this, before := g.fences[g.fenced%2], g.fences[1-g.fenced%2]
		if err := this.Record(g.stream); err != nil {
			return err
		}
		if g.fenced++; g.fenced == 1 {
			return nil
		}
		return before.Synchronize()
	})
}

func (g *gpu) kernel(name string, shared int) (handle uintptr, err error) {
	err = g.in(func() error {
		for _, m := range g.modules {
			f, err := m.Function(name)
			if isResult(err, cu.NotFound) {
				continue
			}
			if err != nil {
				return err
			}
			p := *(*unsafe.Pointer)(unsafe.Pointer(&f))
			handle = uintptr(p)
			if shared > 48<<10 {
				return result(C.pbs_shared(g.ctx(), p, C.int(shared)))
			}
			return nil
		}
		return errors.New("no such kernel in this build; run make cuda")
	})
	return handle, err
}

// launch has the driver take the kernel's size of arguments: tests on the host hold `size` to it.
func (g *gpu) launch(kernel uintptr, at grid, args unsafe.Pointer, size uintptr) error {
	return result(C.pbs_launch(g.ctx(), *(*unsafe.Pointer)(unsafe.Pointer(&kernel)), C.uint(at.x), C.uint(at.y), C.uint(at.z), C.uint(at.threads), C.uint(at.shared),
		g.queue(), args))
}

func (g *gpu) tensorMap(s mapShape) (m tensorMap, err error) {
	err = result(C.pbs_tensor_map(g.ctx(), C.uintptr_t(s.base), (*C.uint64_t)(&s.dims[0]), (*C.uint64_t)(&s.strides[0]), (*C.uint32_t)(&s.box[0]), unsafe.Pointer(&m)))
	return m, err
}

func (g *gpu) capture() error { return result(C.pbs_capture(g.ctx(), g.queue())) }

func (g *gpu) captured() (uintptr, error) {
	var graph unsafe.Pointer
	err := result(C.pbs_captured(g.ctx(), g.queue(), &graph))
	return uintptr(graph), err
}

func (g *gpu) replay(graph uintptr) error {
	return result(C.pbs_replay(g.ctx(), *(*unsafe.Pointer)(unsafe.Pointer(&graph)), g.queue()))
}

func (g *gpu) dropGraph(graph uintptr) error {
	return result(C.pbs_drop_graph(g.ctx(), *(*unsafe.Pointer)(unsafe.Pointer(&graph))))
}

func (g *gpu) mark() (i int, err error) {
	err = g.in(func() error {
		if g.marked == len(g.events) {
			e, err := cu.MakeEvent(cu.DefaultEvent)
			if err != nil {
				return err
			}
			g.events = append(g.events, e)
		}
		i = g.marked
		g.marked++
		return g.events[i].Record(g.stream)
	})
	return i, err
}

func (g *gpu) between(from, to int) (t time.Duration, err error) {
	err = g.in(func() error {
		if err := g.events[to].Synchronize(); err != nil {
			return err
		}
		ms, err := g.events[from].Elapsed(g.events[to])
		t = time.Duration(ms * 1e6)
		return err
	})
	return t, err
}

func (g *gpu) clearMarks() { g.marked = 0 }

func (g *gpu) clocks() (core, most, memory int, held uint64, err error) {
	var mhz [3]C.uint
	var reasons C.ulonglong
	switch status := C.pbs_clocks(C.int(g.index), &mhz[0], &reasons); {
	case status == -1:
		return 0, 0, 0, 0, errors.New("no libnvidia-ml.so.1, which comes with the driver, or it is too old")
	case status != 0:
		return 0, 0, 0, 0, fmt.Errorf("NVML error %d", int(status))
	}
	return int(mhz[0]), int(mhz[1]), int(mhz[2]), uint64(reasons), nil
}

func (g *gpu) stop() *int32      { return g.word }
func (g *gpu) stopAddr() uintptr { return g.wordAddr }

func (g *gpu) close() error {
	if g.ctx() == nil {
		return nil
	}
	g.lt.close(g)
	for _, s := range g.stage {
		if s.host != nil {
			C.pbs_unpin(g.ctx(), s.host)
		}
	}
	if g.word != nil {
		C.pbs_unpin(g.ctx(), unsafe.Pointer(g.word))
	}
	return g.dev.ReleasePrimaryCtx()
}
