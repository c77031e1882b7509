package cpu

/*
#cgo CFLAGS: -std=gnu11 -O3 -Wall
#cgo LDFLAGS: -lm
#include "host.h"
*/
import "C"

import (
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"github.com/klauspost/cpuid/v2"
)

// isa is an instruction set that kernels are written for. Each includes those before it.
type isa uint8

const (
	portable   isa = C.PBS_PORTABLE   // plain C
	avx2       isa = C.PBS_AVX2       // AVX2, FMA, F16C
	avx512     isa = C.PBS_AVX512     // AVX-512 F, BW, DQ, VL
	avx512bf16 isa = C.PBS_AVX512BF16 // and BF16 dot products
	amx        isa = C.PBS_AMX        // and AMX tiles with BF16
)

// setNames are what Options.ISA and PBS_CPU accept, weakest first.
var setNames = [...]string{"portable", "avx2", "avx512", "amx"}

// String names the set as Options.ISA does, and says where avx512 has bf16 products.
func (s isa) String() string {
	return [...]string{"portable", "avx2", "avx512", "avx512-bf16", "amx"}[s]
}

// bf16 reports whether the set has products of bf16 with sums in f32.
func (s isa) bf16() bool { return s >= avx512bf16 }

// hostISA is the best set of this host.
func hostISA() isa {
	has := cpuid.CPU.Supports
	switch {
	case !has(cpuid.AVX2, cpuid.FMA3, cpuid.F16C):
		return portable
	case !has(cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL):
		return avx2
	case !has(cpuid.AVX512BF16):
		return avx512
	case C.PBS_SOFT_TILES == 0 && !has(cpuid.AMXTILE, cpuid.AMXBF16) || C.pbs_request_amx() != 0:
		return avx512bf16
	}
	return amx
}

// chooseISA returns the named set, or the best the host has for "". The name avx512 takes bf16 products where they exist.
func chooseISA(name string) (isa, error) {
	best := hostISA()
	want := best
	switch name {
	case "":
	case "portable":
		want = portable
	case "avx2":
		want = avx2
	case "avx512":
		want = max(avx512, min(best, avx512bf16))
	case "amx":
		want = amx
	default:
		return 0, fmt.Errorf("instruction set %q: want one of %s", name, strings.Join(setNames[:], ", "))
	}
	if want > best {
		return 0, fmt.Errorf("instruction set %q: this host has %v at best", name, best)
	}
	return want, nil
}

// hostThreads is the number of CPUs this process may use: the affinity mask and the cgroup's CPU limit count.
func hostThreads() int { return min(runtime.GOMAXPROCS(0), 1024) }

// adviseHuge asks for huge pages behind m, which halves the TLB misses of long caches. It is advice: failure costs only speed.
func adviseHuge(m []byte) {
	C.pbs_advise_huge(unsafe.Pointer(unsafe.SliceData(m)), C.size_t(len(m)))
}
