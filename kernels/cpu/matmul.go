package cpu

/*
#cgo noescape pbs_gemm
#cgo nocallback pbs_gemm
#cgo noescape pbs_gemv
#cgo nocallback pbs_gemv
#cgo noescape pbs_gemm_pack_x
#cgo nocallback pbs_gemm_pack_x
#cgo noescape pbs_widen
#cgo nocallback pbs_widen
#cgo noescape pbs_gemv_x
#cgo nocallback pbs_gemv_x
#include "matmul.h"
*/
import "C"

import (
	"unsafe"

	"github.com/klauspost/cpuid/v2"

	"github.com/pbs-run/pbs-run/kernels"
)

const (
	// gemvRows is the most rows of x that are computed one weight row at a time: up to here memory is the limit, not arithmetic.
	gemvRows = 8
	// hugePage is what scratch is rounded up to: its reuse misses the TLB at every tile otherwise.
	hugePage = 2 << 20
	// packedBytes bounds the packed rows of x, and with it the rows that share one packing of the weights.
	packedBytes = 32 << 20
)

// matmulJob is one matrix product in flight: out = x·wᵀ for a block of rows, cut into panels of weight rows and ranges of x rows.
type matmulJob struct {
	kernel  C.int32_t
	tiling  C.struct_pbs_tiling
	mode    C.int32_t
	gemv    bool
	w, up   kernels.Linear // up is for SwiGLU, where w is gate
	out     kernels.Tensor // the block's rows
	x       unsafe.Pointer // packed, for gemm
	ldx     int            // dwords between rows of x
	cols    int            // weight rows of an item
	rows    int            // x rows of an item
	splits  int            // items that share a panel
	threads int
	pack    packJob
	packed  []byte   // x of a block
	scratch [][]byte // by worker
	inputs  []byte   // x of gemv: rows in order, then rows for bf16 weights
}

// packJob packs rows of x for the product that follows; an item is one strip.
type packJob struct {
	kernel C.int32_t
	strip  int // rows
	bytes  int // packed bytes of a row
	x      kernels.Tensor
	dst    []byte
}

// MatMul computes out = x·wᵀ + bias; see kernels.Dense.
func (d *Device) MatMul(out, x kernels.Tensor, w kernels.Linear) {
	d.product(C.PBS_STORE, out, x, w, nil)
}

// MatMulAdd computes out += x·wᵀ + bias; see kernels.Dense.
func (d *Device) MatMulAdd(out, x kernels.Tensor, w kernels.Linear) {
	d.product(C.PBS_ADD, out, x, w, nil)
}

// SwiGLU computes out = silu(x·gateᵀ) ⊙ (x·upᵀ); see kernels.Dense. gate and up have parts of the same sizes.
func (d *Device) SwiGLU(out, x kernels.Tensor, gate, up kernels.Linear) {
	d.product(C.PBS_SWIGLU, out, x, gate, up)
}

func (d *Device) product(mode C.int32_t, out, x kernels.Tensor, w, up kernels.Linear) {
	if mode == C.PBS_SWIGLU {
		kernels.CheckSwiGLU(d.compute, out, x, w, up)
	} else {
		kernels.CheckProduct(d.compute, kernels.F32, out, x, w)
	}
	m := &d.matmul
	if m.scratch == nil {
		m.scratch = make([][]byte, d.pool.threads)
		m.kernel = d.kernel()
		m.tiling = C.pbs_gemm_tiling(m.kernel)
	}
	if d.Err() != nil || x.Rows() == 0 {
		return
	}
	m.mode, m.w, m.up = mode, w, up
	if x.Rows() <= gemvRows {
		d.gemv(out, x)
	} else {
		d.gemm(out, x)
	}
	m.w, m.up, m.out, m.x, m.pack.x = nil, nil, kernels.Tensor{}, nil, kernels.Tensor{}
}

// kernel is the set whose products the device uses: those of f32 end with AVX-512.
func (d *Device) kernel() C.int32_t {
	if d.compute == kernels.F32 {
		return C.int32_t(min(d.isa, avx512))
	}
	return C.int32_t(d.isa)
}

// gemv reads every weight once for all rows of x, which parts in bf16 want in another order than the others.
func (d *Device) gemv(out, x kernels.Tensor) {
	m, k := &d.matmul, x.Cols()
	m.gemv, m.out, m.rows, m.threads = true, out, x.Rows(), d.pool.threads
	m.ldx = roundUp(k, C.PBS_CHUNK)
	if !d.grow(&m.inputs, 2*gemvRows*4*m.ldx) {
		return
	}
	for split := range 2 {
		if !m.reads(split) {
			continue
		}
		for r := range x.Rows() {
			C.pbs_gemv_x((*C.float)(unsafe.Add(m.input(split), 4*m.ldx*r)), at(x, r), C.int32_t(x.DType), C.int64_t(k), C.int(split))
		}
	}
	d.pool.run(m, gemvItems*d.pool.threads)
}

// reads reports whether some weights want x split (1) or not (0).
func (m *matmulJob) reads(split int) bool {
	for _, w := range [...]kernels.Linear{m.w, m.up} {
		for p := range w {
			if splitFor(&w[p]) == split {
				return true
			}
		}
	}
	return false
}

// splitFor is 1 where a part's weights want x split into even and odd elements.
func splitFor(p *kernels.Part) int {
	if p.W.DType == kernels.BF16 {
		return 1
	}
	return 0
}

// input is where gemv keeps its rows of x.
func (m *matmulJob) input(split int) unsafe.Pointer {
	return unsafe.Pointer(&m.inputs[split*gemvRows*4*m.ldx])
}

// gemvItems is the number of items per worker of a gemv: a long one, because a stream from memory needs a long run to reach
// full speed (items of 64 KiB: 65% of the read bandwidth, of 1 MiB: 85%), then short ones that let the workers end together.
const gemvItems = 5

// gemvRange is the range of columns [lo, hi) of item i when n columns are shared by some workers.
func gemvRange(i, n, threads int) (lo, hi int) {
	long := n * 3 / 4 / threads
	if i < threads {
		return i * long, (i + 1) * long
	}
	first, rest, short := threads*long, n-threads*long, (gemvItems-1)*threads
	i -= threads
	return first + rest*i/short, first + rest*(i+1)/short
}

// doGEMV computes item i, which may lie in several parts.
func (m *matmulJob) doGEMV(i int) {
	lo, hi := gemvRange(i, m.out.Cols(), m.threads)
	col := 0
	for p := range m.w {
		n := m.w[p].W.Rows()
		from, to := max(lo-col, 0), min(hi-col, n)
		if from < to {
			m.multiply(0, p, from, to-from, col+from, 0)
		}
		col += n
	}
}

// gemm packs a block of x once and multiplies it panel by panel.
func (d *Device) gemm(out, x kernels.Tensor) {
	m, t, k := &d.matmul, &d.matmul.tiling, x.Cols()
	dwords := k
	if t.bf16 != 0 {
		dwords = (k + 1) / 2
	}
	rowBytes := 4 * roundUp(dwords, int(t.step))
	block := max(packedBytes/rowBytes/int(t.mr), 1) * int(t.mr)
	blocks := (x.Rows() + block - 1) / block
	block = roundUp((x.Rows()+blocks-1)/blocks, int(t.mr))
	m.gemv, m.cols = false, int(t.nb)
	if m.mode == C.PBS_SWIGLU {
		m.cols /= 2
	}
	m.splitRows(block, k, d.pool.threads)
	if !d.grow(&m.packed, block*rowBytes) {
		return
	}
	size := int(C.pbs_gemm_scratch(m.kernel, m.mode, C.int64_t(m.rows), C.int64_t(k)))
	for w := range m.scratch {
		if !d.grow(&m.scratch[w], size) {
			return
		}
	}
	m.x = unsafe.Pointer(unsafe.SliceData(m.packed))
	m.ldx = rowBytes / 4
	for lo := 0; lo < x.Rows(); lo += block {
		hi := min(lo+block, x.Rows())
		m.pack = packJob{kernel: m.kernel, strip: int(t.mr), bytes: rowBytes, x: x.Slice(lo, hi), dst: m.packed}
		d.pool.run(&m.pack, (hi-lo+int(t.mr)-1)/int(t.mr))
		m.out = out.Slice(lo, hi)
		m.splits = (hi - lo + m.rows - 1) / m.rows
		d.pool.run(m, m.panels()*m.splits)
	}
}

// splitRows sets the rows of an item so that every worker gets several, none of which takes long: an interrupt waits for
// the items in flight.
func (m *matmulJob) splitRows(block, k, threads int) {
	limit := 1 << 31 // multiplications: some 50 ms of AVX2
	if m.kernel == C.PBS_PORTABLE {
		limit = 1 << 28
	}
	mr := int(m.tiling.mr)
	split := max((4*threads+m.panels()-1)/m.panels(), block*k*int(m.tiling.nb)/limit, 1)
	m.rows = max(roundUp((block+split-1)/split, mr), min(block, roundUp(64, mr)))
}

// panels is the number of panels in all parts.
func (m *matmulJob) panels() int {
	n := 0
	for i := range m.w {
		n += (m.w[i].W.Rows() + m.cols - 1) / m.cols
	}
	return n
}

// do multiplies one panel with one range of x rows.
func (m *matmulJob) do(worker, i int) {
	if m.gemv {
		m.doGEMV(i)
		return
	}
	panel, col := i/m.splits, 0
	for p := range m.w {
		n := m.w[p].W.Rows()
		if count := (n + m.cols - 1) / m.cols; panel >= count {
			panel, col = panel-count, col+n
			continue
		}
		n0 := panel * m.cols
		m.multiply(worker, p, n0, min(m.cols, n-n0), col+n0, i%m.splits*m.rows)
		return
	}
}

// multiply computes columns [n0, n0+n) of part p, which stand at column col of out, for m.rows rows from row on.
func (m *matmulJob) multiply(worker, p, n0, n, col, row int) {
	c := C.struct_pbs_product{
		n: C.int64_t(n), k: C.int64_t(m.w[p].W.Cols()), rows: C.int64_t(min(m.rows, m.out.Rows()-row)),
		ldx: C.int64_t(m.ldx),
		out: unsafe.Add(at(m.out, row), col*m.out.DType.Size()), ldo: C.int64_t(m.out.Stride),
		kernel: m.kernel, mode: m.mode, out_dtype: C.int32_t(m.out.DType),
	}
	c.w[0] = weights(&m.w[p], n0)
	if m.mode == C.PBS_SWIGLU {
		c.w[1] = weights(&m.up[p], n0)
	}
	if m.gemv {
		c.x, c.split, c.hints = m.input(0), m.input(1), dotHints(m.w[p].W.Cols())
		C.pbs_gemv(c)
		return
	}
	c.x = unsafe.Add(m.x, 4*m.ldx*row)
	c.scratch = unsafe.Pointer(unsafe.SliceData(m.scratch[worker]))
	C.pbs_gemm(c)
}

// dotHints is what this host's caches want of a product of few rows of k elements.
func dotHints(k int) C.int32_t {
	hints := C.int32_t(0)
	if l1 := cpuid.CPU.Cache.L1D; l1 > 0 && 4*k > l1/4*3 {
		hints |= C.PBS_WIDE
	}
	if cpuid.CPU.VendorID == cpuid.AMD { // Zen 4 read 50 to 59 GB/s without prefetches, 43 to 48 with them
		hints |= C.PBS_NO_PREFETCH
	}
	return hints
}

// do packs strip i.
func (p *packJob) do(_, i int) {
	lo := i * p.strip
	rows := min(p.strip, p.x.Rows()-lo)
	dst := unsafe.Pointer(unsafe.SliceData(p.dst[lo*p.bytes:]))
	C.pbs_gemm_pack_x(p.kernel, dst, at(p.x, lo), C.int64_t(p.x.Stride), C.int64_t(rows), C.int64_t(p.x.Cols()))
}

// weights are the rows of part from row n on.
func weights(part *kernels.Part, n int) C.struct_pbs_weights {
	w := C.struct_pbs_weights{
		w:      at(part.W, n),
		stride: C.int64_t(part.W.Stride * part.W.DType.Size()),
		dtype:  C.int32_t(part.W.DType),
	}
	if !part.Bias.IsZero() {
		w.bias = unsafe.Pointer(unsafe.SliceData(part.Bias.Data[n*part.Bias.DType.Size():]))
		w.bias_dtype = C.int32_t(part.Bias.DType)
	}
	return w
}

// at is the address of row r of a matrix.
func at(t kernels.Tensor, r int) unsafe.Pointer {
	return unsafe.Pointer(unsafe.SliceData(t.Data[r*t.Stride*t.DType.Size():]))
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// grow makes *buf at least n bytes long, and reports whether that went well. Buffers live until Close: they reach their
// final size in the first layer.
func (d *Device) grow(buf *[]byte, n int) bool {
	if len(*buf) < n {
		*buf = d.Alloc(kernels.F32, roundUp(n, hugePage)/4).Data
	}
	return *buf != nil
}
