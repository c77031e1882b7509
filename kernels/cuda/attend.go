package cuda

import (
	"fmt"
	"math"

	"github.com/pbs-run/pbs-run/kernels"
)

type attendArgs struct {
	out, q, k, v, stop, odd, perm, keep, columns, columnCount uintptr
	outStride, qStride, kvStride, kvHeadStride, first, lo, hi int64
	permStride, keepHeadStride, columnStride                  int64
	words, group, headDim, width, block, segment, tiles       int32
	c                                                         float32
}

type decodeArgs struct {
	q, k, v, parts, out, at          uintptr
	position, kvStride, kvHeadStride int64
	group, headDim, width, ranges    int32
	c                                float32
	_                                int32
}

// attendTile is the shape of the attention kernels for head dims up to dim.
type attendTile struct {
	dim        int
	rows, keys int
}

// progressBytes is at least the size of Progress in attend.cuh.
const progressBytes = 1280

// tileOf chooses by the head dim. All fit in 99 KiB of shared memory, the least that a multiprocessor from sm_80 on gives to a block; two
// blocks share one of sm_90. 128 rows by 64 keys fills the registers at head dim 128: more of either spills.
func tileOf(headDim int) attendTile {
	switch {
	case headDim <= 64:
		return attendTile{64, 128, 64}
	case headDim <= 128:
		return attendTile{128, 128, 64}
	case headDim <= 256:
		return attendTile{256, 64, 32}
	}
	panic(fmt.Sprintf("cuda: attention with a head dim of %d: at most 256", headDim))
}

// shared is the bytes of shared memory: queries, two stages of keys and values, the walk over the tiles.
func (t attendTile) shared() int { return (t.rows+4*t.keys)*t.dim*2 + progressBytes }

// name is that of a kernel for this head dim.
func (t attendTile) name(kernel string) string { return fmt.Sprintf("%s_%d", kernel, t.dim) }

// log2e turns scores into exponents of two.
func scaleOf(headDim int) float32 { return float32(math.Log2E / math.Sqrt(float64(headDim))) }

// queries is what reads of q and of the cache have in common.
type queries struct {
	q, k, v    matrix
	heads, dim int
	group      int
	tile       attendTile
	tma        *tmaArgs // of the attention kernels of sm_90a, where those serve
}

// read prepares q and the first keys of the cache; v too if values are wanted.
func (d *Device) read(q kernels.Tensor, kv kernels.KV, keys int, values bool) queries {
	dim := kv.K.Cols()
	r := queries{heads: q.Cols() / dim, dim: dim, tile: tileOf(dim)}
	r.group = r.heads / kv.K.Dims[0]
	r.q = d.aligned(scratchX, q, q.Rows(), dim)
	r.k = d.aligned(scratchW, kv.K, keys, dim)
	if values {
		r.v = d.aligned(scratchV, kv.V, keys, dim)
	}
	return r
}

// width is the columns of a head in q, k and v.
func (r queries) width() int32 { return int32(r.q.cols / r.heads) }

// Attend is causal attention; see kernels.Dense. One row is decode.
func (d *Device) Attend(out, q kernels.Tensor, kv kernels.KV, first int) {
	checkAttend(out, q, kv, first)
	rows := q.Rows()
	if rows == 0 || d.failed() {
		return
	}
	r := d.read(q, kv, first+rows, true)
	if rows == 1 {
		d.decode(out, r, first, kv.K.Rows())
		return
	}
	d.byTMA(&r, rows, first+rows)
	a := d.attendArgs(out, r, first, kernels.Span{Lo: 0, Hi: rows})
	a.tiles = int32(tiles(rows, r.tile.rows))
	d.launchAttend("attend", r, a)
}

func (d *Device) attendArgs(out kernels.Tensor, r queries, first int, rows kernels.Span) *attendArgs {
	return &attendArgs{
		out: out.Addr, q: r.q.at, k: r.k.at, v: r.v.at, stop: d.drv.stopAddr(),
		outStride: int64(out.Stride), qStride: int64(r.q.stride), kvStride: int64(r.k.stride), kvHeadStride: int64(r.k.headStride),
		first: int64(first), lo: int64(rows.Lo), hi: int64(rows.Hi),
		group: int32(r.group), headDim: int32(r.dim), width: r.width(), c: scaleOf(r.dim),
	}
}

// attendGrid lays out row tiles: kv heads one after the other, of each the heads that share it side by side.
func attendGrid(r queries, tiles int) grid {
	return grid{tiles * r.group, r.heads / r.group, 1, 128, r.tile.shared()}
}

// decodeKeys is the least number of keys of a range worth a block.
const decodeKeys = 256

// decodeRanges is into how many ranges the keys of a kv head go: enough to give every multiprocessor three blocks.
func decodeRanges(keys, kvHeads, rowTiles, sms int) int {
	return max(1, min(tiles(keys, decodeKeys), tiles(3*sms, kvHeads*rowTiles)))
}

func (d *Device) decode(out kernels.Tensor, r queries, position, capacity int) {
	kvHeads, rowTiles, dim := r.heads/r.group, tiles(r.group, 16), r.tile.dim
	keys := position + 1
	if d.step.active {
		keys = capacity
	}
	ranges := decodeRanges(keys, kvHeads, rowTiles, d.props.SMs)
	a := &decodeArgs{
		q: r.q.at, k: r.k.at, v: r.v.at, out: out.Addr, at: d.stepAt(), position: int64(position), kvStride: int64(r.k.stride), kvHeadStride: int64(r.k.headStride),
		group: int32(r.group), headDim: int32(r.dim), width: r.width(), ranges: int32(ranges), c: scaleOf(r.dim),
		parts: d.reserve(scratchStats, int64(r.heads)*int64(ranges)*int64(2+r.dim)*4),
	}
	launch(d, r.tile.name("decode"), grid{ranges, kvHeads, rowTiles, 128, decodeShared(dim)}, a)
	launch(d, "decode_merge", grid{r.heads, 1, 1, 128, 0}, a)
}

// decodeShared is queries and two stages of 64 keys and values, one at head dim 256, or what the four warps found.
func decodeShared(dim int) int {
	stages := 2
	if dim > 128 {
		stages = 1
	}
	return max((16+stages*2*64)*dim*2, 4*16*(dim+2)*4)
}

func checkAttend(out, q kernels.Tensor, kv kernels.KV, first int) {
	k, v := kv.K, kv.V
	switch {
	case q.DType != kernels.BF16 || out.DType != kernels.BF16 || out.Stride%2 != 0:
		panic(fmt.Sprintf("cuda: Attend of q %v, out %v with a stride of %d: want BF16 and an even one", q.DType, out.DType, out.Stride))
	case k.DType != v.DType || k.DType != kernels.BF16 && k.DType != kernels.F32 || k.Dims != v.Dims || k.Stride != v.Stride:
		panic(fmt.Sprintf("cuda: Attend with keys %v %v, values %v %v", k.DType, k.Dims, v.DType, v.Dims))
	case k.Cols() < 2 || k.Cols()%2 != 0 || q.Cols()%(k.Cols()*k.Dims[0]) != 0 || q.Cols() != out.Cols() || q.Rows() != out.Rows():
		panic(fmt.Sprintf("cuda: Attend of q %v, out %v with keys %v", q.Dims, out.Dims, k.Dims))
	case first < 0 || first+q.Rows() > k.Rows() || first+q.Rows() > math.MaxInt32-1024:
		panic(fmt.Sprintf("cuda: Attend of %d rows at %d in a cache of %d", q.Rows(), first, k.Rows()))
	}
}
