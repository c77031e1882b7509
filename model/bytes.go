package model

import "unsafe"

// bytesOf sees x as the bytes a device copies.
func bytesOf(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}
