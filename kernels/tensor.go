// Package kernels defines what the engine asks of a piece of hardware: a Tensor, the KV pair of one layer, and a Device
// of about a dozen fused operations. It holds no arithmetic; kernels/cpu and kernels/cuda do.
package kernels

import (
	"fmt"
	"unsafe"
)

// DType is the element type of a Tensor. Names are those of the safetensors format.
type DType uint8

const (
	F32 DType = iota + 1
	BF16
	F16
	U16 // of a Plan, as those that follow
	U32
	U64
)

// Size returns the bytes of one element.
func (d DType) Size() int {
	switch d {
	case F32, U32:
		return 4
	case BF16, F16, U16:
		return 2
	case U64:
		return 8
	}
	panic(fmt.Sprintf("kernels: size of unknown dtype %d", d))
}

// String returns the safetensors name of d.
func (d DType) String() string {
	switch d {
	case F32:
		return "F32"
	case BF16:
		return "BF16"
	case F16:
		return "F16"
	case U16:
		return "U16"
	case U32:
		return "U32"
	case U64:
		return "U64"
	}
	return fmt.Sprintf("DType(%d)", uint8(d))
}

// Tensor is a dense array on one Device. A matrix has Dims[0] == 1, a vector Dims[0] == Dims[1] == 1.
// Element (i, j, k) is at byte ((i*Dims[1]+j)*Stride + k) * DType.Size() of Data. On a CUDA device Data is nil and Addr is
// the device address. A Tensor is a value: slicing it allocates nothing. Data may be misaligned for its element type when
// it lies in a memory-mapped file, so kernels use unaligned loads.
type Tensor struct {
	DType  DType
	Dims   [3]int
	Stride int // elements between consecutive rows; lets a tensor be a column range of a wider one
	Data   []byte
	Addr   uintptr
}

// NewTensor describes data as a contiguous tensor of the given dims (one to three of them, outermost first). It panics
// when data is shorter than the dims need.
func NewTensor(dt DType, data []byte, dims ...int) Tensor {
	t := shaped(dt, dims...)
	if len(data) < t.Bytes() {
		panic(fmt.Sprintf("kernels: %v tensor of dims %v needs %d bytes, got %d", dt, dims, t.Bytes(), len(data)))
	}
	t.Data = data[:t.Bytes():t.Bytes()]
	return t
}

// Outline describes a contiguous tensor that is nowhere yet.
func Outline(dt DType, dims ...int) Tensor { return shaped(dt, dims...) }

// FromFloat32 describes x as a contiguous F32 tensor that shares its memory.
func FromFloat32(x []float32, dims ...int) Tensor {
	return NewTensor(F32, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x)), dims...)
}

func shaped(dt DType, dims ...int) Tensor {
	t := Tensor{DType: dt, Dims: [3]int{1, 1, 1}}
	if len(dims) < 1 || len(dims) > 3 {
		panic(fmt.Sprintf("kernels: tensor with %d dims", len(dims)))
	}
	copy(t.Dims[3-len(dims):], dims)
	t.Stride = t.Dims[2]
	return t
}

// IsZero reports whether t is the zero Tensor, which stands for "none".
func (t Tensor) IsZero() bool { return t.DType == 0 }

// Rows is the number of rows of a matrix, Cols its row length.
func (t Tensor) Rows() int { return t.Dims[1] }
func (t Tensor) Cols() int { return t.Dims[2] }

// Bytes is the memory t spans, from its first element to the end of its last row's stride.
func (t Tensor) Bytes() int { return t.Dims[0] * t.Dims[1] * t.Stride * t.DType.Size() }

// Slice returns rows [lo, hi) of a matrix; it shares t's memory.
func (t Tensor) Slice(lo, hi int) Tensor {
	if t.Dims[0] != 1 || lo < 0 || hi < lo || hi > t.Dims[1] {
		panic(fmt.Sprintf("kernels: rows [%d, %d) of a tensor of dims %v", lo, hi, t.Dims))
	}
	size := t.Stride * t.DType.Size()
	if t.Data != nil {
		t.Data = t.Data[lo*size : min(hi*size, len(t.Data))]
	} else {
		t.Addr += uintptr(lo * size)
	}
	t.Dims[1] = hi - lo
	return t
}

// Shape returns the first rows of a contiguous buffer seen as a matrix [rows, cols], for buffers that serve several widths.
func (t Tensor) Shape(rows, cols int) Tensor {
	if rows < 0 || cols < 0 || rows*cols > t.Dims[0]*t.Dims[1]*t.Stride {
		panic(fmt.Sprintf("kernels: [%d, %d] does not fit a buffer of dims %v", rows, cols, t.Dims))
	}
	t.Dims, t.Stride = [3]int{1, rows, cols}, cols
	if t.Data != nil {
		t.Data = t.Data[:t.Bytes()]
	}
	return t
}

// Float32 returns the elements of a contiguous F32 tensor in host memory, without a copy.
func (t Tensor) Float32() []float32 {
	if t.DType != F32 || t.Stride != t.Dims[2] || t.Data == nil {
		panic(fmt.Sprintf("kernels: %v tensor with dims %v, stride %d seen as []float32", t.DType, t.Dims, t.Stride))
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(t.Data))), t.Dims[0]*t.Dims[1]*t.Dims[2])
}
