package cpu

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// attendShape is what one Attend of a test or benchmark works on: values of the size of activations.
func attendShape(d *Device, kvType kernels.DType, rows, first, heads, kvHeads, dim int) (out, q kernels.Tensor, kv kernels.KV) {
	q = noise(d.Alloc(d.Compute(), rows, heads*dim))
	kv.K = noise(d.Alloc(kvType, kvHeads, first+rows, dim))
	kv.V = noise(d.Alloc(kvType, kvHeads, first+rows, dim))
	return d.Alloc(d.Compute(), rows, heads*dim), q, kv
}

// Results are the same bits whatever the number of threads, in prefill and in decode with several ranges of keys.
func TestAttendThreads(t *testing.T) {
	for _, c := range [][2]int{{300, 77}, {1, 5000}, {5, 2500}} {
		var want [][]byte
		for _, threads := range []int{1, 2, 3, 7} {
			n := 0
			devices(t, threads, func(t *testing.T, d *Device) {
				out, q, kv := attendShape(d, kernels.BF16, c[0], c[1], 8, 2, 64)
				d.Attend(out, q, kv, c[1])
				if threads == 1 {
					want = append(want, bytes.Clone(out.Data))
				} else if !bytes.Equal(out.Data, want[n]) {
					t.Errorf("%d rows at %d: %d threads differ from one", c[0], c[1], threads)
				}
				n++
			})
		}
	}
}

// No operation of a layer's attention allocates once its shape has been seen.
func TestAttentionAllocs(t *testing.T) {
	devices(t, 2, func(t *testing.T, d *Device) {
		const first, heads, kvHeads, dim = 100, 8, 2, 64
		weight, table := noise(d.Alloc(kernels.F32, heads*dim)), d.Alloc(kernels.F32, 1000, dim)
		for _, rows := range []int{1, 200} {
			out, q, kv := attendShape(d, kernels.BF16, rows, first, heads, kvHeads, dim)
			x, qkv := d.Alloc(kernels.F32, rows, heads*dim), d.Alloc(kernels.F32, rows, (heads+2*kvHeads)*dim)
			for name, f := range map[string]func(){
				"RMSNorm":    func() { d.RMSNorm(out, x, weight, 1e-5) },
				"RopeAppend": func() { d.RopeAppend(q, qkv, table, kv, first) },
				"Attend":     func() { d.Attend(out, q, kv, first) },
			} {
				if n := testing.AllocsPerRun(20, f); n != 0 {
					t.Errorf("%s of %d rows allocates %g times", name, rows, n)
				}
			}
		}
	})
}

// Misshapen arguments panic before anything is read or written.
func TestAttentionShapes(t *testing.T) {
	d, err := Open(Options{Threads: 1, F32: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	out, q, kv := attendShape(d, kernels.BF16, 4, 8, 4, 2, 32)
	f32 := func(dims ...int) kernels.Tensor { return d.Alloc(kernels.F32, dims...) }
	x, qkv, table, weight := f32(4, 128), f32(4, 8*32), f32(12, 32), f32(128)
	for i, f := range []func(){
		func() { d.Attend(out, q, kv, -1) },
		func() { d.Attend(out, q, kv, 9) },
		func() { d.Attend(out.Slice(0, 3), q, kv, 0) },
		func() { d.Attend(out, f32(4, 96), kv, 0) },
		func() { d.Attend(out, d.Alloc(kernels.BF16, 4, 128), kv, 0) },
		func() { d.Attend(out, q, kernels.KV{K: kv.K, V: f32(2, 12, 32)}, 0) },
		func() {
			d.Attend(out, q, kernels.KV{K: d.Alloc(kernels.F16, 2, 12, 32), V: d.Alloc(kernels.F16, 2, 12, 32)}, 0)
		},
		func() { d.RopeAppend(q, qkv, table, kv, 9) },
		func() { d.RopeAppend(q, qkv, f32(10, 32), kv, 7) },
		func() { d.RopeAppend(q, f32(4, 7*32), table, kv, 0) },
		func() { d.RopeAppend(q, qkv, f32(12, 64), kv, 0) },
		func() { d.RopeAppend(kernels.Tensor{}, qkv, table, kv, 0) },
		func() { d.RMSNorm(x, x, f32(64), 1e-5) },
		func() { d.RMSNorm(f32(3, 128), x, weight, 1e-5) },
		func() { d.RMSNorm(d.Alloc(kernels.F16, 4, 128), x, weight, 1e-5) },
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
	d.Attend(out, q, kv, 8)
	d.RopeAppend(q, qkv, table, kv, 8)
	d.RMSNorm(x, x, weight, 1e-5)
	if err := d.Err(); err != nil {
		t.Error(err)
	}
}
