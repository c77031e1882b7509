package cuda

// tensorMap is a CUtensorMap: 128 bytes that the kernels of attend_tma.cuh read boxes of a tensor by.
type tensorMap [16]uint64

// mapShape is what a tensor map describes: [heads, rows, cols] of bf16, of which a copy takes a box, elements beyond the ends being
// zero.
type mapShape struct {
	base    uintptr
	dims    [3]uint64 // cols, rows, heads
	strides [2]uint64 // bytes between rows and between heads
	box     [3]uint32
}

// tmaTile is the rows and keys of a tile, as TILE in attend_tma.cuh.
const tmaTile = 128

// mapOf describes the first rows of m, of `cols` columns a head. A box is 64 columns, 128 bytes being what the tensor cores' layout
// takes in a row, of a tile's rows.
func mapOf(m matrix, heads, rows, cols int) mapShape {
	return mapShape{
		base: m.at, dims: [3]uint64{uint64(cols), uint64(rows), uint64(heads)},
		strides: [2]uint64{2 * uint64(m.stride), 2 * uint64(m.headStride)}, box: [3]uint32{64, tmaTile, 1},
	}
}
