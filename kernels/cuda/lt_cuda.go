//go:build cuda

package cuda

/*
#cgo noescape pbs_lt_run
#cgo nocallback pbs_lt_run
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"gorgonia.org/cu"
)

// ltWorkspace is the scratch memory that cuBLASLt's algorithms may use.
const ltWorkspace = 64 << 20

// ltLibrary is cuBLASLt, where it is installed, with a plan for every shape seen.
type ltLibrary struct {
	tried     bool
	handle    unsafe.Pointer
	version   int
	workspace uintptr
	plans     map[product]unsafe.Pointer // keyed by shape, addresses being their alignment; nil where it does not serve
}

func (g *gpu) gemm(p product) (bool, error) {
	l := &g.lt
	if !l.tried {
		l.open(g)
	}
	if l.handle == nil || p.out%16 != 0 || p.outStride%4 != 0 {
		return false, nil
	}
	shape := p
	shape.out, shape.x, shape.w, shape.add = alignment(p.out), alignment(p.x), alignment(p.w), false
	plan, ok := l.plans[shape]
	if !ok {
		C.pbs_lt_plan(g.ctx(), l.handle, C.int64_t(p.rows), C.int64_t(p.n), C.int64_t(p.k), C.int64_t(p.outStride), C.int64_t(p.xStride), C.int64_t(p.wStride),
			C.uint32_t(shape.out), C.uint32_t(shape.x), C.uint32_t(shape.w), ltWorkspace, &plan)
		l.plans[shape] = plan
	}
	if plan == nil {
		return false, nil
	}
	beta := C.float(0)
	if p.add {
		beta = 1
	}
	if status := C.pbs_lt_run(g.ctx(), l.handle, plan, C.uintptr_t(p.out), C.uintptr_t(p.x), C.uintptr_t(p.w), beta, C.uintptr_t(l.workspace), ltWorkspace, g.queue()); status != 0 {
		return false, fmt.Errorf("cuBLAS status %d", int(status))
	}
	return true, nil
}

// alignment is the largest power of two that divides an address, up to 256: what cuBLASLt takes for granted of addresses of which it is told
// nothing.
func alignment(at uintptr) uintptr { return min(at&-at, 256) }

// open looks for the library once. Without it, or without memory for its workspace, our own kernels serve.
func (l *ltLibrary) open(g *gpu) {
	l.tried, l.plans = true, map[product]unsafe.Pointer{}
	var handle unsafe.Pointer
	var version C.int
	if C.pbs_lt_open(g.ctx(), &handle, &version) != 0 {
		return
	}
	if err := g.in(func() error {
		at, err := cu.MemAlloc(ltWorkspace)
		l.workspace = uintptr(at)
		return err
	}); err != nil {
		C.pbs_lt_close(g.ctx(), handle)
		return
	}
	l.handle, l.version = handle, int(version)
}

func (l *ltLibrary) close(g *gpu) {
	if l.handle == nil {
		return
	}
	for _, p := range l.plans {
		if p != nil {
			C.pbs_lt_drop(p)
		}
	}
	g.free(l.workspace, ltWorkspace)
	C.pbs_lt_close(g.ctx(), l.handle)
	l.handle = nil
}

// MatmulLibrary names the library of large matrix products, "" where our own kernels compute them.
func (d *Device) MatmulLibrary() string {
	g, ok := d.drv.(*gpu)
	if !ok || d.NoLibGEMM {
		return ""
	}
	if !g.lt.tried {
		g.lt.open(g)
	}
	if g.lt.handle == nil {
		return ""
	}
	return fmt.Sprintf("cuBLASLt %d", g.lt.version)
}
