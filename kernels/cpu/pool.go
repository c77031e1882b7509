package cpu

/*
#cgo noescape pbs_spin
#cgo nocallback pbs_spin
#include "host.h"
*/
import "C"

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// job is one operation cut into items that may run in any order on any worker. Jobs are fields of Device, filled anew for
// each operation, so that starting one allocates nothing.
type job interface {
	// do runs item i on worker w (0 <= w < threads), whose scratch memory nobody else touches meanwhile.
	do(w, i int)
}

// pool is a fixed set of workers that take items of one job at a time off a shared counter, in order: whoever splits
// the work puts the largest items first. The caller of run is worker 0.
type pool struct {
	threads int
	stop    *atomic.Bool // set by Device.Interrupt: workers drop the items that are left
	job     job
	items   int64
	next    atomic.Int64
	seq     atomic.Uint32 // number of the current job; odd means closed
	running atomic.Uint32 // helpers that have not finished the current job
	mu      sync.Mutex
	wake    sync.Cond
	gone    sync.WaitGroup
}

// spins is how often a waiting worker looks before it sleeps: for longer than the gap between two operations of a decode
// step, as to be woken takes some 50 µs.
const spins = 3000

// spin waits a while for *word to differ from seen.
func spin(word *atomic.Uint32, seen uint32) {
	C.pbs_spin((*C.uint32_t)(unsafe.Pointer(word)), C.uint32_t(seen), spins)
}

func newPool(threads int, stop *atomic.Bool) *pool {
	p := &pool{threads: threads, stop: stop}
	p.wake.L = &p.mu
	for w := 1; w < threads; w++ {
		p.gone.Add(1)
		go p.helper(w)
	}
	return p
}

// run executes items 0..n-1 of j and returns when all are done.
func (p *pool) run(j job, n int) {
	if p.threads == 1 || n <= 1 {
		for i := 0; i < n && !p.stop.Load(); i++ {
			j.do(0, i)
		}
		return
	}
	p.job, p.items = j, int64(n)
	p.next.Store(0)
	p.running.Store(uint32(p.threads - 1))
	p.mu.Lock()
	p.seq.Add(2)
	p.mu.Unlock()
	p.wake.Broadcast()
	p.work(0)
	for {
		left := p.running.Load()
		if left == 0 {
			break
		}
		if spin(&p.running, left); p.running.Load() == left {
			runtime.Gosched()
		}
	}
	p.job = nil
}

func (p *pool) work(w int) {
	for !p.stop.Load() {
		i := p.next.Add(1) - 1
		if i >= p.items {
			return
		}
		p.job.do(w, int(i))
	}
}

func (p *pool) helper(w int) {
	defer p.gone.Done()
	var seen uint32
	for {
		if spin(&p.seq, seen); p.seq.Load() == seen {
			p.mu.Lock()
			for p.seq.Load() == seen {
				p.wake.Wait()
			}
			p.mu.Unlock()
		}
		seen = p.seq.Load()
		if seen&1 == 1 {
			return
		}
		p.work(w)
		p.running.Add(^uint32(0))
	}
}

func (p *pool) close() {
	p.mu.Lock()
	p.seq.Add(1)
	p.mu.Unlock()
	p.wake.Broadcast()
	p.gone.Wait()
}
