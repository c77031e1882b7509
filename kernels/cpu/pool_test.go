package cpu

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pbs-run/pbs-run/kernels"
)

// countJob counts how often each item runs and fails on an item that shares its worker with another.
type countJob struct {
	ran  []atomic.Int32
	busy [8]atomic.Bool
	t    *testing.T
	wait time.Duration
}

func (c *countJob) do(w, i int) {
	if c.busy[w].Swap(true) {
		c.t.Errorf("worker %d runs two items at once", w)
	}
	c.ran[i].Add(1)
	time.Sleep(c.wait)
	c.busy[w].Store(false)
}

func TestPoolRunsEveryItemOnce(t *testing.T) {
	for _, threads := range []int{1, 2, 5} {
		var stop atomic.Bool
		p := newPool(threads, &stop)
		for _, n := range []int{0, 1, 2, 4, 5, 6, 1000} {
			for range 50 {
				c := &countJob{ran: make([]atomic.Int32, n), t: t}
				p.run(c, n)
				for i := range c.ran {
					if got := c.ran[i].Load(); got != 1 {
						t.Fatalf("%d threads: item %d of %d ran %d times", threads, i, n, got)
					}
				}
			}
		}
		p.close()
	}
}

func TestInterrupt(t *testing.T) {
	for _, threads := range []int{1, 2, 5} {
		d, err := Open(Options{Threads: threads})
		if err != nil {
			t.Fatal(err)
		}
		c := &countJob{ran: make([]atomic.Int32, 1000), t: t, wait: 5 * time.Millisecond}
		time.AfterFunc(20*time.Millisecond, d.Interrupt)
		d.pool.run(c, len(c.ran))
		if c.ran[len(c.ran)-1].Load() != 0 {
			t.Errorf("%d threads: the last item ran after Interrupt", threads)
		}
		if err := d.Err(); !errors.Is(err, kernels.ErrInterrupted) {
			t.Errorf("%d threads: Err is %v", threads, err)
		}
		d.Resume()
		c = &countJob{ran: make([]atomic.Int32, 10), t: t}
		d.pool.run(c, len(c.ran))
		if c.ran[9].Load() != 1 || d.Err() != nil {
			t.Errorf("%d threads: after Resume the last item ran %d times, Err is %v", threads, c.ran[9].Load(), d.Err())
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
