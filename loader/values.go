package loader

import (
	"encoding/binary"
	"math"

	"github.com/pbs-run/pbs-run/kernels"
)

// valueCount is what a scan of weights finds.
type valueCount struct {
	nan, inf int64
	nonzero  bool
}

// countValues scans weights of dtype dt. The usual case, a block without anything odd, is decided eight bytes at a time:
// in a lane whose exponent is all ones, and in no other, adding one unit of the exponent carries into the cleared sign.
func countValues(dt kernels.DType, data []byte) valueCount {
	var mask, unit uint64 // exponent bits and their lowest one, in each lane
	switch dt {
	case kernels.F32:
		mask, unit = 0x7f800000_7f800000, 0x00800000_00800000
	case kernels.BF16:
		mask, unit = 0x7f80_7f80_7f80_7f80, 0x0080_0080_0080_0080
	case kernels.F16:
		mask, unit = 0x7c00_7c00_7c00_7c00, 0x0400_0400_0400_0400
	}
	sign := mask + unit // carries stay inside their lanes
	const block = 64
	var c valueCount
	var bits uint64
	for ; len(data) >= block; data = data[block:] {
		var odd, any uint64
		for i := 0; i < block; i += 8 {
			w := binary.LittleEndian.Uint64(data[i:])
			odd |= w&mask + unit
			any |= w
		}
		bits |= any &^ sign
		if odd&sign != 0 {
			c.addOdd(dt, data[:block])
		}
	}
	c.nonzero = bits != 0
	for i := 0; i < len(data); i += dt.Size() {
		c.nonzero = c.nonzero || valueAt(dt, data[i:]) != 0
	}
	c.addOdd(dt, data)
	return c
}

// addOdd counts the NaNs and infinities of data value by value.
func (c *valueCount) addOdd(dt kernels.DType, data []byte) {
	for i := 0; i < len(data); i += dt.Size() {
		switch x := float64(valueAt(dt, data[i:])); {
		case math.IsNaN(x):
			c.nan++
		case math.IsInf(x, 0):
			c.inf++
		}
	}
}

// valueAt decodes the first value of data. F16 values keep their sign, and whether they are zero, finite, infinite or NaN,
// but not their size: they are read as the F32 with the same leading bits, exponents of all ones made so.
func valueAt(dt kernels.DType, data []byte) float32 {
	if dt == kernels.F32 {
		return math.Float32frombits(binary.LittleEndian.Uint32(data))
	}
	b := uint32(binary.LittleEndian.Uint16(data))
	if dt == kernels.BF16 {
		return math.Float32frombits(b << 16)
	}
	wide := b&0x8000<<16 | b&0x7fff<<13
	if b&0x7c00 == 0x7c00 {
		wide |= 0x7f800000
	}
	return math.Float32frombits(wide)
}
