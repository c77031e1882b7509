package main

import (
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
)

// toFloat32 decodes len(dst) values of src. It reports whether all of them are finite.
func toFloat32(dst []float32, dt kernels.DType, src []byte) (finite bool) {
	var odd float32
	for i := range dst {
		switch dt {
		case kernels.F32:
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		case kernels.BF16:
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		case kernels.F16:
			dst[i] = fromF16(binary.LittleEndian.Uint16(src[2*i:]))
		}
		odd += dst[i] - dst[i] // 0 for what is finite
	}
	return odd == 0
}

// fromFloat32 encodes src as F32 or BF16, rounding to nearest even.
func fromFloat32(dst []byte, dt kernels.DType, src []float32) {
	if dt == kernels.F32 {
		copy(dst, bytesOf(src))
		return
	}
	for i, x := range src {
		b := math.Float32bits(x)
		binary.LittleEndian.PutUint16(dst[2*i:], uint16((b+0x7fff+b>>16&1)>>16))
	}
}

// fromF16 decodes an IEEE 754 half.
func fromF16(h uint16) float32 {
	sign, exp, frac := uint32(h&0x8000)<<16, uint32(h>>10&31), uint32(h&0x3ff)
	switch exp {
	case 0: // zero or subnormal: frac units of 2^-24
		x := float32(frac) / (1 << 24)
		return math.Float32frombits(math.Float32bits(x) | sign)
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// bytesOf sees x as bytes, without a copy.
func bytesOf[T float32 | int32](x []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}

// onHost returns the bytes of a contiguous tensor, without a copy where the device is the host.
func onHost(dev kernels.Device, t kernels.Tensor) ([]byte, error) {
	if t.Data != nil {
		return t.Data, dev.Err()
	}
	b := make([]byte, t.Bytes())
	return b, dev.Download(b, t)
}
