package cpu

import (
	"fmt"
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
)

// pageBytes keeps the shares of two workers out of each other's pages.
const pageBytes = 4096

// Scratch is the most that any operation divides of a plan of shape s: some MiB for each worker, which grow with the blocks of the
// prompt where antidiagonals are scored, and statistics of the ranking queries for every 4,096 keys.
func (d *Device) Scratch(s kernels.PlanShape) int64 {
	most := 0
	need := func(share, common int) { most = max(most, d.pool.threads*roundUp(share, pageBytes)+common) }
	need(d.rankScratch(s, min(s.Block, s.Rows)))
	need(sortScratch(s), 0)
	need(selectScratch(s), 0)
	need(d.blocksScratch(s, d.attendChunk(s)), 0)
	if s.Stride > 0 {
		need(d.stridedScratch(s), 0)
	}
	if s.Lines {
		need(linesScratch(s), 0)
		need(flexScratch(s), 0)
	}
	return int64(most)
}

// divide makes share bytes of the plan's scratch each worker's own, and common bytes behind them everybody's.
func (j *sparseJob) divide(share, common int) {
	j.share = roundUp(share, pageBytes)
	own, memory := j.share*j.d.pool.threads, j.plan.Scratch.Data
	if own+common > len(memory) {
		panic(fmt.Sprintf("cpu: %d bytes of scratch needed, a plan of %+v has %d", own+common, j.plan.Shape(), len(memory)))
	}
	j.common = memory[own : own+common]
}

// scratchOf is worker w's share.
func (j *sparseJob) scratchOf(w int) unsafe.Pointer {
	return unsafe.Pointer(&j.plan.Scratch.Data[w*j.share])
}

// arena is where the next part of a worker's share begins.
type arena unsafe.Pointer

// take cuts n cleared elements off an arena; those of eight bytes come first.
func take[T uint32 | uint64 | float32](at *arena, n int) []T {
	s := unsafe.Slice((*T)(*at), n)
	*at = arena(unsafe.Add(unsafe.Pointer(*at), n*int(unsafe.Sizeof(s[0]))))
	clear(s)
	return s
}
