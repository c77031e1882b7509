package cuda

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
)

func TestTileOf(t *testing.T) {
	for dim := 2; dim <= 256; dim += 2 {
		tile := tileOf(dim)
		if tile.dim < dim || tile.rows%64 != 0 || tile.keys%16 != 0 {
			t.Errorf("head dim %d: %+v", dim, tile)
		}
		// Two blocks of sm_90 share 227 KiB, of which each takes 1 KiB more; other devices give a block 99 KiB.
		if s := tile.shared(); s > 99<<10 || 2*(s+1024) > 227<<10 {
			t.Errorf("head dim %d: %d bytes of shared memory", dim, s)
		}
	}
	for _, dim := range []int{64, 128, 256} {
		if decodeShared(dim) > 99<<10 || stridedShared(dim, 64) > 99<<10 {
			t.Errorf("head dim %d: %d bytes for decode, %d for strided scores", dim, decodeShared(dim), stridedShared(dim, 64))
		}
	}
	if tileOf(128) != (attendTile{128, 128, 64}) {
		t.Error("the tile of head dim 128 has changed: so must the kernels")
	}
}

func TestGemmGrid(t *testing.T) {
	for _, c := range []struct {
		rows, n int
		swiglu  bool
		name    string
		blocks  int
	}{
		{1, 4096, false, "gemv_1", 512}, {1, 4097, true, "gemv_1", 513}, {8, 9, false, "gemv_8", 2},
		{9, 128, false, "gemm_128", 1}, {129, 129, false, "gemm_128", 4}, {2048, 4096, false, "gemm_128", 512},
		{2048, 14336, true, "gemm_swiglu", 16 * 224}, {9, 65, true, "gemm_swiglu", 2},
	} {
		name, g := gemmGrid(c.rows, c.n, c.swiglu)
		if name != c.name || g.x != c.blocks || g.y != 1 || g.z != 1 || g.threads != 256 {
			t.Errorf("%+v: %s %+v", c, name, g)
		}
	}
}

func TestCombineStep(t *testing.T) {
	for _, c := range []struct{ rows, n, want int }{
		{2048, 14336, 2048}, {2048, 18944, 1920}, {9, 100, 104}, {1 << 20, 256, 128}, {64, 14336, 14336},
	} {
		if got := combineStep(c.rows, c.n); got != c.want {
			t.Errorf("%d rows of %d columns: %d at a time, want %d", c.rows, c.n, got, c.want)
		}
	}
}

func TestDecodeRanges(t *testing.T) {
	for _, c := range []struct{ keys, kvHeads, want int }{
		{1, 8, 1}, {257, 8, 2}, {131072, 8, 50}, {131072, 4, 99}, {1 << 20, 1, 396},
	} {
		if got := decodeRanges(c.keys, c.kvHeads, 1, 132); got != c.want {
			t.Errorf("%d keys of %d heads: %d ranges, want %d", c.keys, c.kvHeads, got, c.want)
		}
	}
}

// TestChunks: what is cut by memory stays within it, and one piece always goes.
func TestChunks(t *testing.T) {
	for _, c := range []struct {
		heads int
		bytes int64
		want  int
	}{{32, 128 * 131072 * 4, 4}, {32, 128 * 524288 * 4, 1}, {28, 1, 28}, {28, 1 << 40, 1}} {
		if got := headsAtATime(c.heads, c.bytes); got != c.want {
			t.Errorf("%d heads of %d bytes: %d at a time, want %d", c.heads, c.bytes, got, c.want)
		}
	}
	if got := rowsAtATime(32, 4*4096); got != 512 {
		t.Errorf("%d rows at a time, want 512", got)
	}
	if got := rowsAtATime(1<<10, 1<<40); got != 1 {
		t.Errorf("%d rows at a time, want 1", got)
	}
}

// TestWideOffsets: addresses of the last head at 512K tokens and more lie beyond 2³¹ elements (a fault that 32-bit offsets would make).
func TestWideOffsets(t *testing.T) {
	const keys = 1 << 20
	q := kernels.Tensor{DType: kernels.BF16, Dims: [3]int{1, keys, 32 * 128}, Stride: 32 * 128, Addr: 1 << 40}
	kv := kernels.Tensor{DType: kernels.BF16, Dims: [3]int{32, keys, 128}, Stride: 128, Addr: 1 << 41}
	drv := &wideDriver{}
	d := &Device{drv: drv, kernels: map[string]loaded{}, props: Info{SMs: 132, Shared: 227 << 10}}
	out := q
	d.Attend(out, q, kernels.KV{K: kv, V: kv}, 0)
	if drv.args.kvHeadStride*31 != 31*keys*128 || drv.args.hi != keys || drv.args.tiles != keys/128 || drv.grid.x != keys/128 || drv.grid.y != 32 {
		t.Errorf("%+v %+v", drv.args, drv.grid)
	}
}

// TestWideOffsetsRun: a kernel reads and writes where such offsets lead. The second head of this cache begins 2³¹ elements behind the first;
// memory that nobody touches takes none.
func TestWideOffsetsRun(t *testing.T) {
	const rows, dim, wide = 70, 128, 1 << 24
	for _, tma := range []bool{false, true} {
		d, _ := openHost(t)
		d.TMA = tma
		run := func(capacity int) []float32 {
			rng := rand.New(rand.NewPCG(1, 2))
			q, _ := random(d, rng, rows, 2*dim)
			kv := kernels.KV{K: d.Alloc(kernels.BF16, 2, capacity, dim), V: d.Alloc(kernels.BF16, 2, capacity, dim)}
			rope, qkv := d.Alloc(kernels.F32, rows, dim), d.Alloc(kernels.F32, rows, 4*dim)
			raw := make([]byte, qkv.Bytes())
			for i := 0; i < len(raw); i += 4 {
				binary.LittleEndian.PutUint32(raw[i:], math.Float32bits(float32(rng.NormFloat64())))
			}
			d.Upload(qkv, raw)
			d.Upload(rope, raw[:rope.Bytes()])
			d.RopeAppend(kernels.Tensor{}, qkv, rope, kv, 0)
			d.Attend(q, q, kv, 0)
			return download(t, d, q)
		}
		if got, want := run(wide), run(rows); !slices.Equal(got, want) {
			t.Errorf("by TMA %v: other outputs where heads lie far apart", tma)
		}
	}
}

// TestWidePlan: the bits and the order of the last head, at a million keys.
func TestWidePlan(t *testing.T) {
	const keys, heads, dim, block = 1 << 20, 32, 128, 128
	drv := &wideDriver{}
	d := &Device{drv: drv, kernels: map[string]loaded{}, props: Info{SMs: 132, Shared: 227 << 10}}
	p := kernels.NewPlan(d, kernels.PlanShape{Heads: heads, KVHeads: heads, HeadDim: dim, Capacity: keys, Rows: keys, Block: block, Segment: 2 * block})
	p.Begin(0, keys)
	p.Permuted = true
	q, kv := d.Alloc(kernels.BF16, keys, heads*dim), d.Alloc(kernels.BF16, heads, keys, dim)
	d.AttendBlocks(q, q, kernels.KV{K: kv, V: kv}, p, []kernels.Span{{Hi: keys}})
	if a := drv.args; a.keepHeadStride*(heads-1) != int64(heads-1)*int64(p.Keep.Dims[1])*keys/block/64 || a.permStride*(heads-1) != (heads-1)*keys || a.kvHeadStride*(heads-1) != (heads-1)*keys*dim {
		t.Errorf("%+v", a)
	}
	if drv.grid.x != keys/128 || drv.grid.y != heads {
		t.Errorf("grid %+v", drv.grid)
	}
}

// TestTensorMap: what a map says of q, whose heads lie side by side in a row, and of a cache; what a kernel reads by it.
func TestTensorMap(t *testing.T) {
	q := mapOf(matrix{at: 4096, stride: 4096, headStride: 128, cols: 4096}, 32, 1<<19, 128)
	if want := (mapShape{4096, [3]uint64{128, 1 << 19, 32}, [2]uint64{8192, 256}, [3]uint32{64, 128, 1}}); q != want {
		t.Errorf("q: %+v", q)
	}
	k := mapOf(matrix{at: 4096, stride: 128, headStride: 128 << 20, cols: 128}, 8, 1<<19, 128)
	if want := (mapShape{4096, [3]uint64{128, 1 << 19, 8}, [2]uint64{256, 256 << 20}, [3]uint32{64, 128, 1}}); k != want {
		t.Errorf("k: %+v", k)
	}
	if unsafe.Sizeof(tensorMap{}) != 128 || unsafe.Sizeof(tmaArgs{}) != 576 || unsafe.Offsetof(tmaArgs{}.attendArgs) != 384 || unsafe.Sizeof(probeArgs{}) != 320 {
		t.Error("arguments of another size")
	}
	for _, dim := range []int{64, 128} {
		if s := tmaShared(dim); s > 227<<10 || s != (128+2*3*128)*dim*2+controlBytes || tileOf(dim).rows != tmaTile {
			t.Errorf("head dim %d: %d bytes of shared memory, tiles of %d rows", dim, s, tileOf(dim).rows)
		}
	}
}

// TestTMAChoice: which devices and head dims get the kernels of sm_90a.
func TestTMAChoice(t *testing.T) {
	for _, c := range []struct {
		major, minor, dim int
		asked, want       bool
	}{{9, 0, 128, true, true}, {9, 0, 64, true, true}, {9, 0, 96, true, true}, {9, 0, 128, false, false}, {9, 0, 256, true, false}, {8, 0, 128, true, false}, {10, 0, 128, true, false}, {12, 0, 128, true, false}} {
		drv := &mapDriver{}
		d := &Device{drv: drv, kernels: map[string]loaded{}, props: Info{Major: c.major, Minor: c.minor, SMs: 4, Shared: 227 << 10}, TMA: c.asked}
		d.scratch[scratchOdd] = block{1 << 20, 16}
		q, kv := kernels.Outline(kernels.BF16, 130, 2*c.dim), kernels.Outline(kernels.BF16, 1, 200, c.dim)
		q.Addr, kv.Addr = 1<<20, 1<<20
		d.Attend(q, q, kernels.KV{K: kv, V: kv}, 0)
		if got := drv.maps == 3; got != c.want || drv.maps%3 != 0 || d.err != nil {
			t.Errorf("%+v: %d maps, %v", c, drv.maps, d.err)
		}
	}
}

// mapDriver counts tensor maps and runs nothing.
type mapDriver struct {
	wideDriver
	maps int
}

func (m *mapDriver) tensorMap(s mapShape) (tensorMap, error) {
	m.maps++
	return tensorMap{}, nil
}
func (m *mapDriver) launch(kernel uintptr, g grid, args unsafe.Pointer, size uintptr) error {
	return nil
}

// TestAligned: what the tensor cores' kernels can read as it is.
func TestAligned(t *testing.T) {
	for _, c := range []struct {
		x    kernels.Tensor
		unit int
		want bool
	}{
		{kernels.Tensor{DType: kernels.BF16, Stride: 128, Addr: 256}, 128, true},
		{kernels.Tensor{DType: kernels.BF16, Stride: 130, Addr: 256}, 128, false},
		{kernels.Tensor{DType: kernels.BF16, Stride: 128, Addr: 258}, 128, false},
		{kernels.Tensor{DType: kernels.BF16, Stride: 136, Addr: 256}, 34, false},
		{kernels.Tensor{DType: kernels.F32, Stride: 128, Addr: 256}, 128, false},
	} {
		if got := isAligned(c.x, c.unit); got != c.want {
			t.Errorf("%+v by %d: %v", c.x, c.unit, got)
		}
	}
}

// paceDriver notes how much work is queued behind what fences wait for.
type paceDriver struct {
	wideDriver
	work, marks []int64 // of every product; products queued at each fence
	most        int64
}

func (p *paceDriver) gemm(x product) (bool, error) {
	p.work = append(p.work, int64(x.rows)*int64(x.n)*int64(x.k))
	from := int64(0)
	if n := len(p.marks); n > 1 {
		from = p.marks[n-2] // the fence before the last is behind us
	}
	var sum int64
	for _, w := range p.work[from:] {
		sum += w
	}
	p.most = max(p.most, sum)
	return true, nil
}

func (p *paceDriver) fence() error {
	p.marks = append(p.marks, int64(len(p.work)))
	return nil
}

func (p *paceDriver) launch(kernel uintptr, g grid, args unsafe.Pointer, size uintptr) error {
	return nil
}

// TestPace: the host never queues more than an Interrupt may wait for: here the products of a layer of 512K tokens.
func TestPace(t *testing.T) {
	drv := &paceDriver{}
	d := &Device{drv: drv, kernels: map[string]loaded{}, props: Info{SMs: 132, Shared: 227 << 10}}
	for i := range d.scratch {
		d.scratch[i] = block{1 << 20, 1 << 40}
	}
	tensor := func(dt kernels.DType, rows, cols int) kernels.Tensor {
		return kernels.Tensor{DType: dt, Dims: [3]int{1, rows, cols}, Stride: cols, Addr: 1 << 40}
	}
	const rows, hidden, inter = 8192, 4096, 14336
	x, act, out := tensor(kernels.BF16, rows, hidden), tensor(kernels.BF16, rows, inter), tensor(kernels.F32, rows, hidden)
	gate, down := kernels.Linear{{W: tensor(kernels.BF16, inter, hidden)}}, kernels.Linear{{W: tensor(kernels.BF16, hidden, inter)}}
	for range 64 {
		d.SwiGLU(act, x, gate, gate)
		d.MatMulAdd(out, act, down)
	}
	if len(drv.marks) < 10 || drv.most > 2*aheadWork+2*rows*hidden*inter {
		t.Errorf("%d fences, up to %.3g multiply-adds ahead", len(drv.marks), float64(drv.most))
	}
}
