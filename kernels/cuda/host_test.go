package cuda

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kernels/cuda/simt"
)

// hostDriver runs the kernels on the host; see package simt.
type hostDriver struct {
	m         *simt.Machine
	flag      *int32
	used      int64
	limit     int64            // bytes that alloc hands out; 0 for any
	known     map[uintptr]host // by handle
	marks     []time.Time
	library   bool // gemm computes, as cuBLASLt would
	graphs    [][]recorded
	capturing bool
}

type host struct {
	name string
	args int
}

// openHost opens a Device whose kernels run on the host. It skips the test where there is no C++ compiler.
func openHost(t testing.TB) (*Device, *hostDriver) {
	t.Helper()
	lib, err := simt.Build("src", filepath.Join("simt", "host"), filepath.Join("..", "..", ".build", "simt"))
	if errors.Is(err, simt.ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	m, err := simt.Load(lib)
	if err != nil {
		t.Fatal(err)
	}
	m.Cores = runtime.GOMAXPROCS(0)
	m.Backwards = os.Getenv("PBS_SIMT_BACKWARDS") != ""
	drv := &hostDriver{m: m, known: map[uintptr]host{}}
	at := m.Alloc(4)
	drv.flag = *(**int32)(unsafe.Pointer(&at))
	d, err := open(drv)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, drv
}

func (h *hostDriver) info() Info {
	return Info{Name: "host", Major: 9, SMs: 4, Shared: 227 << 10, Free: 1<<40 - h.used, Total: 1 << 40}
}

func (h *hostDriver) alloc(n int64) (uintptr, error) {
	if h.limit > 0 && h.used+n > h.limit {
		return 0, errors.New("out of memory")
	}
	h.used += n
	at := h.m.Alloc(n)
	if at == 0 {
		return 0, errors.New("mmap failed")
	}
	bytes := h.bytes(at, n)
	for i := 0; i < min(len(bytes), 1<<16); i++ {
		bytes[i] = 0xff // what is not cleared is not zero
	}
	return at, nil
}

func (h *hostDriver) free(at uintptr, n int64) error {
	h.used -= n
	h.m.Free(at, n)
	return nil
}

func (h *hostDriver) bytes(at uintptr, n int64) []byte {
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&at))), n)
}

func (h *hostDriver) clear(at uintptr, n int64) error {
	clear(h.bytes(at, min(n, 1<<16))) // the rest is fresh
	return nil
}

func (h *hostDriver) upload(at uintptr, src []byte) error {
	copy(h.bytes(at, int64(len(src))), src)
	return nil
}

func (h *hostDriver) download(dst []byte, at uintptr) error {
	copy(dst, h.bytes(at, int64(len(dst))))
	return nil
}

func (h *hostDriver) wait() error  { return nil }
func (h *hostDriver) fence() error { return nil }

func (h *hostDriver) kernel(name string, shared int) (uintptr, error) {
	k, args := h.m.Kernel(name)
	if k == 0 {
		return 0, fmt.Errorf("no kernel %s", name)
	}
	h.known[k] = host{name, args}
	return k, nil
}

func (h *hostDriver) launch(kernel uintptr, g grid, args unsafe.Pointer, size uintptr) error {
	if k := h.known[kernel]; int(size) != k.args {
		return fmt.Errorf("%s takes %d bytes of arguments, got %d", k.name, k.args, size)
	}
	if h.capturing {
		last := &h.graphs[len(h.graphs)-1]
		*last = append(*last, recorded{kernel, g, bytes.Clone(unsafe.Slice((*byte)(args), size))})
		return nil
	}
	if os.Getenv("PBS_SIMT_TRACE") != "" {
		fmt.Println(h.known[kernel].name, g)
	}
	h.m.Launch(kernel, g.x, g.y, g.z, g.threads, g.shared, args)
	return nil
}

// recorded is a launch of a graph.
type recorded struct {
	kernel uintptr
	g      grid
	args   []byte
}

// tensorMap lays a shape out as simt.h's Map.
func (h *hostDriver) tensorMap(s mapShape) (m tensorMap, err error) {
	*(*mapShape)(unsafe.Pointer(&m)) = s
	return m, nil
}

func (h *hostDriver) capture() error {
	h.graphs = append(h.graphs, nil)
	h.capturing = true
	return nil
}

func (h *hostDriver) captured() (uintptr, error) {
	h.capturing = false
	return uintptr(len(h.graphs)), nil
}

func (h *hostDriver) replay(graph uintptr) error {
	for _, l := range h.graphs[graph-1] {
		h.m.Launch(l.kernel, l.g.x, l.g.y, l.g.z, l.g.threads, l.g.shared, unsafe.Pointer(&l.args[0]))
	}
	return nil
}

func (h *hostDriver) dropGraph(graph uintptr) error {
	h.graphs[graph-1] = nil
	return nil
}

func (h *hostDriver) mark() (int, error) {
	h.marks = append(h.marks, time.Now())
	return len(h.marks) - 1, nil
}
func (h *hostDriver) between(from, to int) (time.Duration, error) {
	return h.marks[to].Sub(h.marks[from]), nil
}
func (h *hostDriver) gemm(p product) (bool, error) {
	if !h.library {
		return false, nil
	}
	half := func(at uintptr, i int) float32 {
		return math.Float32frombits(uint32(binary.LittleEndian.Uint16(h.bytes(at+uintptr(2*i), 2))) << 16)
	}
	for r := range p.rows {
		for c := range p.n {
			out := h.bytes(p.out+uintptr(4*(r*p.outStride+c)), 4)
			var sum float32
			if p.add {
				sum = math.Float32frombits(binary.LittleEndian.Uint32(out))
			}
			for k := range p.k {
				sum += half(p.x, r*p.xStride+k) * half(p.w, c*p.wStride+k)
			}
			binary.LittleEndian.PutUint32(out, math.Float32bits(sum))
		}
	}
	return true, nil
}
func (h *hostDriver) clocks() (core, most, memory int, held uint64, err error) {
	return 0, 0, 0, 0, errors.New("the host has none")
}
func (h *hostDriver) clearMarks()       { h.marks = h.marks[:0] }
func (h *hostDriver) stop() *int32      { return h.flag }
func (h *hostDriver) stopAddr() uintptr { return uintptr(unsafe.Pointer(h.flag)) }
func (h *hostDriver) close() error      { return nil }

// wideDriver keeps the arguments of the last attention launch and runs nothing.
type wideDriver struct {
	driver
	args attendArgs
	grid grid
}

func (w *wideDriver) kernel(name string, shared int) (uintptr, error) { return 1, nil }
func (w *wideDriver) stopAddr() uintptr                               { return 0 }
func (w *wideDriver) alloc(bytes int64) (uintptr, error)              { return 1 << 40, nil }
func (w *wideDriver) clear(at uintptr, n int64) error                 { return nil }
func (w *wideDriver) launch(kernel uintptr, g grid, args unsafe.Pointer, size uintptr) error {
	w.args, w.grid = *(*attendArgs)(args), g
	return nil
}

// TestOutOfMemory: a failed Alloc sticks, says how much was free, and nothing runs after it.
func TestOutOfMemory(t *testing.T) {
	d, drv := openHost(t)
	drv.limit = 1 << 20
	if x := d.Alloc(kernels.F32, 1<<19); !x.IsZero() {
		t.Error("2 MiB of 1 MiB")
	}
	err := d.Err()
	if err == nil || !strings.Contains(err.Error(), "allocate 2 MiB") || !strings.Contains(err.Error(), "free") {
		t.Errorf("error %v", err)
	}
	if x := d.Alloc(kernels.F32, 1); !x.IsZero() || d.Err() != err {
		t.Errorf("after the failure: %v", d.Err())
	}
}

// TestInterrupt: kernels queued when the device was interrupted end early, nothing is queued after, and Resume ends that.
func TestInterrupt(t *testing.T) {
	for _, tma := range []bool{false, true} {
		d, _ := openHost(t)
		d.TMA = tma
		testInterrupt(t, d)
	}
}

func testInterrupt(t *testing.T, d *Device) {
	q, out := d.Alloc(kernels.BF16, 64, 64), d.Alloc(kernels.BF16, 64, 64)
	kv := kernels.KV{K: d.Alloc(kernels.BF16, 1, 64, 64), V: d.Alloc(kernels.BF16, 1, 64, 64)}
	d.Upload(out, bytes.Repeat([]byte{7}, out.Bytes()))
	got := make([]byte, out.Bytes())
	d.Interrupt()
	if err := d.Err(); err != kernels.ErrInterrupted {
		t.Fatalf("error %v", err)
	}
	d.stopped.Store(false) // as if it had been queued before
	d.Attend(out, q, kv, 0)
	if err := d.Download(got, out); err != nil || got[0] != 7 || got[len(got)-1] != 7 {
		t.Errorf("the kernel ran: %v, %v", got[:4], err)
	}
	d.Resume()
	d.Attend(out, q, kv, 0)
	if err := d.Download(got, out); err != nil || got[0] != 0 || got[len(got)-1] != 0 {
		t.Errorf("the kernel did not run: %v, %v", got[:4], err)
	}
}

// TestInterruptAmid: an Interrupt that comes while the threads of a block look for one: they agree, and write all of their rows or none.
func TestInterruptAmid(t *testing.T) {
	for _, tma := range []bool{false, true} {
		d, drv := openHost(t)
		d.TMA = tma
		q, out := d.Alloc(kernels.BF16, 64, 64), d.Alloc(kernels.BF16, 64, 64)
		kv := kernels.KV{K: d.Alloc(kernels.BF16, 1, 64, 64), V: d.Alloc(kernels.BF16, 1, 64, 64)}
		got, seven := make([]byte, out.Bytes()), bytes.Repeat([]byte{7}, out.Bytes())
		end, ended := make(chan bool), make(chan bool)
		go func() {
			defer close(ended)
			for word := int32(1); ; word ^= 1 {
				select {
				case <-end:
					return
				default:
					atomic.StoreInt32(drv.flag, word)
				}
			}
		}()
		stop := func() {
			close(end)
			<-ended
		}
		for range 200 {
			d.Upload(out, seven)
			d.Attend(out, q, kv, 0)
			if err := d.Download(got, out); err != nil || got[0] != 0 && got[0] != 7 || bytes.Count(got, got[:1]) != len(got) {
				stop()
				t.Fatalf("tma %v: some rows are written, some are not: %v", tma, err)
			}
		}
		stop()
	}
}

// TestStep: decode steps, the third and later ones from a recording, give what the same operations give one by one.
func TestStep(t *testing.T) {
	const heads, kvHeads, dim, hidden, capacity = 4, 2, 64, 96, 700
	width := (heads + 2*kvHeads) * dim
	type state struct {
		d                             *Device
		table, resid, norm, qkv, rope kernels.Tensor
		q, x                          kernels.Tensor
		weight                        kernels.Linear
		ones                          kernels.Tensor
		kv                            kernels.KV
	}
	build := func() *state {
		d, _ := openHost(t)
		rng := rand.New(rand.NewPCG(1, 2))
		fill := func(dt kernels.DType, dims ...int) kernels.Tensor {
			x := d.Alloc(dt, dims...)
			raw := make([]byte, x.Bytes())
			for i := 0; i < len(raw); i += dt.Size() {
				u := math.Float32bits(float32(rng.NormFloat64()) * 0.3)
				if dt == kernels.BF16 {
					binary.LittleEndian.PutUint16(raw[i:], uint16(u>>16))
				} else {
					binary.LittleEndian.PutUint32(raw[i:], u)
				}
			}
			d.Upload(x, raw)
			return x
		}
		return &state{
			d: d, table: fill(kernels.BF16, 11, hidden), resid: d.Alloc(kernels.F32, 1, hidden), norm: d.Alloc(kernels.BF16, 1, hidden),
			qkv: d.Alloc(kernels.F32, 1, width), rope: fill(kernels.F32, capacity, dim), q: d.Alloc(kernels.BF16, 1, heads*dim), x: d.Alloc(kernels.F32, 1, hidden),
			weight: kernels.Linear{{W: fill(kernels.BF16, width, hidden)}}, ones: fill(kernels.F32, hidden),
			kv: kernels.KV{K: fill(kernels.BF16, kvHeads, capacity, dim), V: fill(kernels.BF16, kvHeads, capacity, dim)},
		}
	}
	run := func(s *state, id int32, pos int) error {
		s.d.Embed(s.resid, s.table, []int32{id})
		s.d.RMSNorm(s.norm, s.resid, s.ones, 1e-5)
		s.d.MatMul(s.qkv, s.norm, s.weight)
		s.d.RopeAppend(s.q, s.qkv, s.rope, s.kv, pos)
		s.d.Attend(s.q, s.q, s.kv, pos)
		return s.d.Err()
	}
	direct, stepped := build(), build()
	calls := 0
	for i, pos := range []int{600, 601, 602, 603, 3, 650} {
		id := int32(i * 2)
		if err := run(direct, id, pos); err != nil {
			t.Fatal(err)
		}
		if err := stepped.d.Step(stepped, pos, id, func() error {
			calls++
			return run(stepped, id, pos)
		}); err != nil {
			t.Fatal(err)
		}
		want, got := make([]byte, direct.q.Bytes()), make([]byte, direct.q.Bytes())
		if err := errors.Join(direct.d.Download(want, direct.q), stepped.d.Download(got, stepped.q)); err != nil {
			t.Fatal(err)
		}
		for j := 0; j < len(want); j += 2 {
			w, g := math.Float32frombits(uint32(binary.LittleEndian.Uint16(want[j:]))<<16), math.Float32frombits(uint32(binary.LittleEndian.Uint16(got[j:]))<<16)
			if math.Abs(float64(w-g)) > 1e-2*math.Abs(float64(w))+1e-3 { // ranges differ, and with them the order of sums
				t.Fatalf("step %d at %d: element %d is %g, want %g", i, pos, j/2, g, w)
			}
		}
	}
	if calls != 2 {
		t.Errorf("the step was queued %d times, want 2: run, recorded", calls)
	}
	// An operation that needs more scratch memory moves what the recorded step works in.
	at := stepped.d.scratch[scratchStats].at
	stepped.d.reserve(scratchStats, 4*stepped.d.scratch[scratchStats].bytes)
	if stepped.d.scratch[scratchStats].at == at || stepped.d.step.graph != 0 {
		t.Fatalf("scratch memory at %x, then %x, and graph %d: want another place and no graph", at, stepped.d.scratch[scratchStats].at, stepped.d.step.graph)
	}
	for pos := 651; pos < 654; pos++ {
		if err := stepped.d.Step(stepped, pos, 1, func() error {
			calls++
			return run(stepped, 1, pos)
		}); err != nil {
			t.Fatal(err)
		}
	}
	if calls != 3 {
		t.Errorf("the step was queued %d times, want 3: run, recorded twice", calls)
	}
}

// TestLibrary: where a library computes products, biases and SwiGLU are added to them, and results are those of our own kernels.
func TestLibrary(t *testing.T) {
	const rows, in, out = 33, 72, 200
	d, drv := openHost(t)
	drv.library = true
	rng := rand.New(rand.NewPCG(1, 2))
	x, _ := random(d, rng, rows, in)
	part := func(bias bool) kernels.Linear {
		l := make(kernels.Linear, 2)
		for i := range l {
			l[i].W, _ = random(d, rng, out/2, in)
			if bias {
				l[i].Bias, _ = random(d, rng, out/2)
			}
		}
		return l
	}
	for _, bias := range []bool{false, true} {
		gate, up := part(bias), part(bias)
		var results [2][][]float32
		for i, own := range []bool{false, true} {
			d.NoLibGEMM = own
			sum, act := d.Alloc(kernels.F32, rows, out), d.Alloc(kernels.BF16, rows, out)
			d.MatMul(sum, x, gate)
			d.MatMulAdd(sum, x, up)
			d.SwiGLU(act, x, gate, up)
			results[i] = [][]float32{download(t, d, sum), download(t, d, act)}
		}
		for k := range results[0] {
			for j, w := range results[1][k] {
				if g := results[0][k][j]; !(math.Abs(float64(g-w)) <= 1e-2*math.Abs(float64(w))+1e-4) {
					t.Fatalf("bias %v, result %d, element %d: %g by the library, %g by our own", bias, k, j, g, w)
				}
			}
		}
	}
}
