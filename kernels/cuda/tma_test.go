package cuda

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// random fills a tensor of bf16 with normal values and returns them.
func random(d *Device, rng *rand.Rand, dims ...int) (kernels.Tensor, []float32) {
	x := d.Alloc(kernels.BF16, dims...)
	raw, values := make([]byte, x.Bytes()), make([]float32, x.Bytes()/2)
	for i := range values {
		u := math.Float32bits(float32(rng.NormFloat64())) &^ 0xffff
		binary.LittleEndian.PutUint16(raw[2*i:], uint16(u>>16))
		values[i] = math.Float32frombits(u)
	}
	d.Upload(x, raw)
	return x, values
}

func download(t *testing.T, d *Device, x kernels.Tensor) []float32 {
	t.Helper()
	raw := make([]byte, x.Bytes())
	if err := d.Download(raw, x); err != nil {
		t.Fatal(err)
	}
	values := make([]float32, len(raw)/x.DType.Size())
	for i := range values {
		if x.DType == kernels.F32 {
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		} else {
			values[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(raw[2*i:])) << 16)
		}
	}
	return values
}

type probeArgs struct {
	q, k tensorMap
	out  uintptr
	what int32
	_    [13]int32
}

// testProbes: a box that TMA copied lies where the kernels look for it; wgmma reads a tile across its rows, and down them.
func testProbes(t *testing.T, d *Device) {
	const n = 128
	rng := rand.New(rand.NewPCG(1, 2))
	q, qv := random(d, rng, n, n)
	k, kv := random(d, rng, n, n)
	out := d.Alloc(kernels.F32, n, n)
	a := &probeArgs{out: out.Addr}
	for _, m := range []struct {
		to *tensorMap
		x  kernels.Tensor
	}{{&a.q, q}, {&a.k, k}} {
		var err error
		if *m.to, err = d.drv.tensorMap(mapOf(matrix{m.x.Addr, n, n * n, n}, 1, n, n)); err != nil {
			t.Fatal(err)
		}
	}
	for what, name := range []string{"copy", "scores", "outputs"} {
		t.Run(name, func(t *testing.T) {
			a.what = int32(what)
			launch(d, "probe_sm90", grid{1, 1, 1, 128, 2*n*n*2 + 64}, a)
			got, rows := download(t, d, out), 64
			if what == 0 {
				rows = n
			}
			wrong, first := 0, ""
			for i := range rows {
				for j := range n {
					want := float64(kv[i*n+j])
					if what > 0 {
						want = 0
						for x := range n {
							if what == 1 {
								want += float64(qv[i*n+x]) * float64(kv[j*n+x])
							} else {
								want += float64(qv[i*n+x]) * float64(kv[x*n+j])
							}
						}
					}
					if math.Abs(float64(got[i*n+j])-want) > 1e-3*min(1, float64(what)) {
						if wrong++; first == "" {
							first = fmt.Sprintf("(%d, %d) is %g, want %g", i, j, got[i*n+j], want)
						}
					}
				}
			}
			if wrong > 0 {
				t.Errorf("%d of %d are wrong; %s", wrong, rows*n, first)
			}
		})
	}
}

// tmaCase is one shape of the attention kernels of sm_90a. block 0 is dense.
type tmaCase struct {
	rows, first, heads, kvHeads, dim int
	block, segment                   int
	permuted, striped                bool
	density                          float64
}

// tmaCases begins with the smallest: one tile, then two, each stage twice, and so on.
func tmaCases() []tmaCase {
	return []tmaCase{
		{rows: 2, heads: 1, kvHeads: 1, dim: 128},
		{rows: 128, heads: 1, kvHeads: 1, dim: 128},
		{rows: 256, heads: 1, kvHeads: 1, dim: 128},
		{rows: 650, heads: 1, kvHeads: 1, dim: 128},
		{rows: 140, first: 903, heads: 1, kvHeads: 1, dim: 128},
		{rows: 150, first: 501, heads: 4, kvHeads: 2, dim: 128},
		{rows: 333, first: 77, heads: 3, kvHeads: 1, dim: 64},
		{rows: 200, first: 60, heads: 2, kvHeads: 2, dim: 80},
		{rows: 256, heads: 1, kvHeads: 1, dim: 128, block: 128, segment: 128, density: 1},
		{rows: 700, heads: 2, kvHeads: 1, dim: 128, block: 128, segment: 256, density: 0.5, permuted: true},
		{rows: 140, first: 1020, heads: 1, kvHeads: 1, dim: 128, block: 128, segment: 128, density: 0.9, permuted: true},
		{rows: 390, first: 130, heads: 2, kvHeads: 2, dim: 128, block: 32, segment: 64, density: 0.4, permuted: true},
		{rows: 600, heads: 4, kvHeads: 2, dim: 64, block: 64, segment: 64, density: 0.3, striped: true},
		{rows: 700, first: 3, heads: 1, kvHeads: 1, dim: 96, block: 256, segment: 256, density: 0.5, permuted: true},
	}
}

func (c tmaCase) String() string {
	return fmt.Sprintf("%d@%d-%d_%dx%d-block%d_%d-%v-%v", c.rows, c.first, c.heads, c.kvHeads, c.dim, c.block, c.segment, c.permuted, c.striped)
}

// plan makes a plan with random blocks, columns and order.
func (c tmaCase) plan(d *Device, rng *rand.Rand) *kernels.Plan {
	keys := c.first + c.rows
	p := kernels.NewPlan(d, kernels.PlanShape{Heads: c.heads, KVHeads: c.kvHeads, HeadDim: c.dim, Block: c.block, Segment: c.segment, Rows: c.rows, Capacity: keys, Lines: c.striped})
	p.Begin(c.first, c.rows)
	bits := make([]byte, p.Keep.Bytes())
	for i := range bits {
		for b := range 8 {
			if rng.Float64() < c.density {
				bits[i] |= 1 << b
			}
		}
	}
	d.Upload(p.Keep, bits)
	if p.Permuted = c.permuted; c.permuted {
		perm := make([]byte, p.Perm.Bytes())
		for h := range c.heads {
			for s := range p.Sorted() / c.segment {
				for i, x := range rng.Perm(c.segment) {
					binary.LittleEndian.PutUint16(perm[2*(h*p.Perm.Stride+s*c.segment+i):], uint16(x))
				}
			}
		}
		d.Upload(p.Perm, perm)
	}
	if p.Striped = c.striped; c.striped {
		columns := make([]byte, p.Columns.Bytes())
		for i := range columns {
			columns[i] = byte(1 << rng.IntN(8))
		}
		d.Upload(p.Columns, columns)
	}
	return p
}

// checkColumnCounts: the lists of columns that attention read hold the bits of the keys there are, and none beyond.
func checkColumnCounts(t *testing.T, d *Device, p *kernels.Plan) {
	t.Helper()
	heads := p.Rank.Rows()
	words, counts := make([]byte, p.Columns.Bytes()), make([]byte, 4*heads)
	if err := errors.Join(d.Download(words, p.Columns), d.drv.download(counts, d.scratch[scratchSmall].at)); err != nil {
		t.Fatal(err)
	}
	for h := range heads {
		want := uint32(0)
		for key := range p.Keys() {
			want += uint32(words[8*h*p.Columns.Stride+key/8] >> (key % 8) & 1)
		}
		if got := binary.LittleEndian.Uint32(counts[4*h:]); got != want {
			t.Errorf("head %d: %d columns listed, want %d", h, got, want)
		}
	}
}

// testTMA holds the attention kernels of sm_90a to those for all devices, which the conformance suite holds to its oracle. Keys and
// values lie in a cache that is longer than they are, its rest NaN.
func testTMA(t *testing.T, d *Device) {
	for i, c := range tmaCases() {
		t.Run(c.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(5, uint64(i)))
			keys, capacity := c.first+c.rows, c.first+c.rows+70
			q, _ := random(d, rng, c.rows, c.heads*c.dim)
			var kv kernels.KV
			for _, to := range []*kernels.Tensor{&kv.K, &kv.V} {
				var values []float32
				*to, values = random(d, rng, c.kvHeads, capacity, c.dim)
				raw := make([]byte, 2*len(values))
				for j, v := range values {
					if j/c.dim%capacity >= keys {
						v = float32(math.NaN())
					}
					binary.LittleEndian.PutUint16(raw[2*j:], uint16(math.Float32bits(v)>>16))
				}
				d.Upload(*to, raw)
			}
			var p *kernels.Plan
			if c.block > 0 {
				p = c.plan(d, rng)
			}
			run := func(tma bool) []float32 {
				out := d.Alloc(kernels.BF16, c.rows, c.heads*c.dim)
				d.TMA = tma
				if p == nil {
					d.Attend(out, q, kv, c.first)
				} else {
					d.AttendBlocks(out, q, kv, p, []kernels.Span{{Lo: 0, Hi: c.rows}})
				}
				return download(t, d, out)
			}
			want, got := run(false), run(true)
			if c.striped {
				checkColumnCounts(t, d, p)
			}
			if d.last == "" || d.kernels[tileOf(c.dim).name(map[bool]string{true: "attend_tma", false: "attend_blocks_tma"}[p == nil])].handle == 0 {
				t.Fatal("the kernel of sm_90a was not queued")
			}
			wrong, worst, at := 0, 0.0, 0
			for j, w := range want {
				diff := math.Abs(float64(got[j] - w))
				if !(diff <= 0.02+0.01*math.Abs(float64(w))) {
					if wrong++; !(diff <= worst) {
						worst, at = diff, j
					}
				}
			}
			if wrong > 0 {
				t.Errorf("%d of %d are wrong; row %d, column %d is %g, want %g", wrong, len(want), at/(c.heads*c.dim), at%(c.heads*c.dim), got[at], want[at])
			}
		})
	}
}

func TestProbesOnHost(t *testing.T) {
	d, _ := openHost(t)
	testProbes(t, d)
}

// TestTMAOnHost lets copies land as late as they can and, run backwards, as early as they can.
func TestTMAOnHost(t *testing.T) {
	for _, order := range []string{"forwards", "backwards"} {
		t.Run(order, func(t *testing.T) {
			d, drv := openHost(t)
			drv.m.Backwards = order == "backwards"
			testTMA(t, d)
		})
	}
}
