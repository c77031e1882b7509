package cpu

import (
	"bytes"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

func TestGEMVRange(t *testing.T) {
	for threads := 1; threads < 8; threads++ {
		for n := range 300 {
			next := 0
			for i := range gemvItems * threads {
				lo, hi := gemvRange(i, n, threads)
				if lo != next || hi < lo {
					t.Fatalf("item %d of %d columns on %d threads is [%d, %d), want it to start at %d", i, n, threads, lo, hi, next)
				}
				next = hi
			}
			if next != n {
				t.Fatalf("items of %d columns on %d threads end at %d", n, threads, next)
			}
		}
	}
}

// TestThreadsDoNotMatter checks that every bit of a product is the same whatever the number of threads.
func TestThreadsDoNotMatter(t *testing.T) {
	for _, rows := range []int{1, 5, 300} {
		for _, set := range setNames {
			var want []byte
			for _, threads := range []int{1, 2, 5} {
				d, err := Open(Options{Threads: threads, ISA: set})
				if err != nil {
					t.Logf("%s: not run: %v", set, err)
					continue
				}
				x := noise(d.Alloc(d.Compute(), rows, 1100))
				w := kernels.Linear{{W: noise(d.Alloc(kernels.BF16, 700, 1100))}, {W: noise(d.Alloc(kernels.F32, 33, 1100))}}
				out := d.Alloc(kernels.F32, rows, 733)
				d.MatMul(out, x, w)
				got := bytes.Clone(out.Data)
				if want == nil {
					want = got
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s, %d rows: %d threads give other bits than 1", set, rows, threads)
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func TestProductsDoNotAllocate(t *testing.T) {
	devices(t, 2, func(t *testing.T, d *Device) {
		const k, n = 320, 600
		w := kernels.Linear{{W: noise(d.Alloc(kernels.BF16, n, k)), Bias: noise(d.Alloc(kernels.BF16, n))}}
		table := noise(d.Alloc(kernels.BF16, 50, k))
		ids := []int32{3, 4, 5}
		emb := d.Alloc(kernels.F32, len(ids), k)
		for _, rows := range []int{1, 3, 100} {
			x, out := noise(d.Alloc(d.Compute(), rows, k)), d.Alloc(kernels.F32, rows, n)
			act := d.Alloc(d.Compute(), rows, n)
			if got := testing.AllocsPerRun(20, func() {
				d.MatMul(out, x, w)
				d.MatMulAdd(out, x, w)
				d.SwiGLU(act, x, w, w)
				d.Embed(emb, table, ids)
			}); got != 0 {
				t.Errorf("%d rows: %v allocations", rows, got)
			}
		}
	})
}

func TestMisshapenProductsPanic(t *testing.T) {
	d, err := Open(Options{Threads: 1, F32: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	x, out := d.Alloc(kernels.F32, 2, 8), d.Alloc(kernels.F32, 2, 4)
	w := kernels.Linear{{W: d.Alloc(kernels.F32, 4, 8)}}
	short := w[0].W
	short.Data = short.Data[:len(short.Data)-1]
	for name, f := range map[string]func(){
		"out of other width":  func() { d.MatMul(out.Shape(2, 3), x, w) },
		"out of other height": func() { d.MatMul(out.Slice(0, 1), x, w) },
		"x of other width":    func() { d.MatMul(out, x.Shape(2, 7), w) },
		"x of other dtype":    func() { d.MatMul(out, d.Alloc(kernels.BF16, 2, 8), w) },
		"no weights":          func() { d.MatMul(out, x, nil) },
		"short weights":       func() { d.MatMul(out, x, kernels.Linear{{W: short}}) },
		"bias of other size":  func() { d.MatMulAdd(out, x, kernels.Linear{{W: w[0].W, Bias: d.Alloc(kernels.F32, 3)}}) },
		"gate without up":     func() { d.SwiGLU(out, x, w, nil) },
		"id beyond table":     func() { d.Embed(d.Alloc(kernels.F32, 1, 8), w[0].W, []int32{4}) },
		"negative id":         func() { d.Embed(d.Alloc(kernels.F32, 1, 8), w[0].W, []int32{-1}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
	d.MatMul(out, x, w) // the arguments that the cases above spoil are right
}

func TestChooseISA(t *testing.T) {
	for _, name := range []string{"sse", "AVX2", "avx512-bf16", " "} {
		if _, err := Open(Options{ISA: name}); err == nil {
			t.Errorf("Open takes instruction set %q", name)
		}
	}
	for i, name := range setNames {
		set, err := chooseISA(name)
		if (err == nil) != (hostISA() >= [...]isa{portable, avx2, avx512, amx}[i]) {
			t.Errorf("%s on a host with %v: %v, %v", name, hostISA(), set, err)
		}
	}
	if set, err := chooseISA(""); err != nil || set != hostISA() {
		t.Errorf("the default is %v, %v, the host has %v", set, err, hostISA())
	}
	for _, threads := range []int{-1, 1025} {
		if _, err := Open(Options{Threads: threads}); err == nil {
			t.Errorf("Open takes %d threads", threads)
		}
	}
}

func TestPeaks(t *testing.T) {
	devices(t, 1, func(t *testing.T, d *Device) {
		if got := d.FMAPeak(); got < 0.1 || got > 1e5 {
			t.Errorf("peak of %v GFLOP/s", got)
		}
	})
	d, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got, err := d.ReadBandwidth(64 << 20); err != nil || got < 0.1 || got > 1e4 {
		t.Errorf("bandwidth of %v GB/s, %v", got, err)
	}
	if _, err := d.ReadBandwidth(1); err == nil {
		t.Error("a bandwidth over one byte")
	}
}
