//go:build cgo

package loader

// #include "guard_linux.h"
import "C"

import (
	"sync"
	"unsafe"
)

// guard watches a mapping for pages that its file has lost, which the kernel reports by SIGBUS to whoever reads them: Go,
// a C kernel on a Go thread, or a thread that Go has never seen. guard_linux.c has the handler.
type guard struct{ w *C.struct_watch }

// guards serialises changes of the C list of watches and the installation of the handler.
var guards struct {
	sync.Mutex
	installed bool
}

func newGuard(data []byte) guard {
	guards.Lock()
	defer guards.Unlock()
	if !guards.installed {
		guards.installed = C.guard_install() == 0
	}
	return guard{C.guard_watch(unsafe.Pointer(unsafe.SliceData(data)), C.size_t(len(data)))}
}

// fault returns the offset of the first page that was found gone.
func (g guard) fault() (offset int64, ok bool) {
	if g.w == nil {
		return 0, false
	}
	at := int64(C.guard_fault(g.w))
	return at, at >= 0
}

func (g guard) release() {
	if g.w == nil {
		return
	}
	guards.Lock()
	defer guards.Unlock()
	C.guard_release(g.w)
}
