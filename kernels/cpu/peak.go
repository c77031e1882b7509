package cpu

/*
#cgo noescape pbs_read
#cgo nocallback pbs_read
#include "peak.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// peakRounds is how often a peak is measured; the median counts, as in what is compared with it.
const peakRounds = 7

// peakJob is one round of a measurement.
type peakJob struct {
	kernel C.int32_t
	read   []byte        // nil for FMAPeak
	found  atomic.Uint64 // keeps the reads alive
}

// readBytes is what an item of ReadBandwidth reads.
const readBytes = 1 << 20

func (p *peakJob) do(_, i int) {
	if p.read == nil {
		C.pbs_peak(p.kernel, 16)
		return
	}
	b := p.read[i*readBytes:]
	p.found.Add(uint64(C.pbs_read(unsafe.Pointer(unsafe.SliceData(b)), readBytes)))
}

// FMAPeak measures what the workers reach together in the multiply-adds that the device's products use (FMA, bf16 dot products
// or bf16 tiles), with all operands in registers, in GFLOP/s.
func (d *Device) FMAPeak() float64 {
	p := &peakJob{kernel: d.kernel()}
	flops := float64(C.pbs_peak(p.kernel, 16))
	items := 4 * d.pool.threads
	return flops * float64(items) / 1e9 / d.median(p, items).Seconds()
}

// ReadBandwidth measures how fast the workers together read a buffer of the given size, in GB/s. It should be a few times
// larger than the last-level cache. The buffer is gone afterwards.
func (d *Device) ReadBandwidth(bytes int) (float64, error) {
	items := bytes / readBytes
	if items < 1 {
		return 0, fmt.Errorf("read bandwidth over %d bytes: want at least %d", bytes, readBytes)
	}
	m, err := syscall.Mmap(-1, 0, items*readBytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return 0, fmt.Errorf("map %d bytes to read: %w", items*readBytes, err)
	}
	adviseHuge(m)
	for i := 0; i < len(m); i += 4096 {
		m[i] = byte(i >> 12) // untouched pages would all be one page of zeros
	}
	p := &peakJob{read: m}
	gbs := float64(len(m)) / 1e9 / d.median(p, items).Seconds()
	return gbs, errors.Join(d.Err(), syscall.Munmap(m))
}

// median is the median time of some runs of j after one to warm up.
func (d *Device) median(j job, items int) time.Duration {
	d.pool.run(j, items)
	var times [peakRounds]time.Duration
	for i := range times {
		start := time.Now()
		d.pool.run(j, items)
		times[i] = time.Since(start)
	}
	slices.Sort(times[:])
	return times[peakRounds/2]
}
