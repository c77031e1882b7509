package loader

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// TestCountValues puts every 16-bit pattern, and the F32 patterns around each limit, at every place of a scan among
// ordinary values, and compares with the definition.
func TestCountValues(t *testing.T) {
	var wide []uint32
	for _, x := range []uint32{0, 1, 0x007fffff, 0x00800000, 0x3f800000, 0x7f7fffff, 0x7f800000, 0x7f800001, 0x7fc00000, 0x7fffffff} {
		wide = append(wide, x, x|1<<31)
	}
	for _, dt := range []kernels.DType{kernels.BF16, kernels.F16, kernels.F32} {
		n := 1 << 16
		if dt == kernels.F32 {
			n = len(wide)
		}
		for p := range n {
			pattern := uint32(p)
			var x float64
			switch dt {
			case kernels.BF16:
				x = float64(math.Float32frombits(pattern << 16))
			case kernels.F16:
				x = halfValue(uint16(pattern))
			case kernels.F32:
				pattern = wide[p]
				x = float64(math.Float32frombits(pattern))
			}
			want := valueCount{nonzero: x != 0}
			if math.IsNaN(x) {
				want.nan = 1
			}
			if math.IsInf(x, 0) {
				want.inf = 1
			}
			const values = 70 // a block of 64 bytes or more, and a tail
			for at := p % 9; at < values; at += 9 {
				data := make([]byte, values*dt.Size())
				putValue(dt, data, at, pattern)
				if got := countValues(dt, data); got != want {
					t.Fatalf("%v %#x at %d: %+v, want %+v", dt, pattern, at, got, want)
				}
			}
		}
	}
}

func putValue(dt kernels.DType, data []byte, at int, pattern uint32) {
	if dt == kernels.F32 {
		binary.LittleEndian.PutUint32(data[4*at:], pattern)
	} else {
		binary.LittleEndian.PutUint16(data[2*at:], uint16(pattern))
	}
}

// TestCountValuesMany compares sums over random bytes, where NaNs and infinities are common and stand side by side.
func TestCountValuesMany(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, dt := range []kernels.DType{kernels.BF16, kernels.F16, kernels.F32} {
		for n := range 200 {
			data := make([]byte, n*dt.Size())
			var want valueCount
			for i := range n {
				pattern := rng.Uint32()
				if rng.IntN(2) == 0 {
					pattern |= 0x7f807f80
				}
				if rng.IntN(3) == 0 {
					pattern &= 0xff80ff80
				}
				putValue(dt, data, i, pattern)
				var x float64
				switch dt {
				case kernels.F32:
					x = float64(math.Float32frombits(pattern))
				case kernels.BF16:
					x = float64(math.Float32frombits(pattern << 16))
				case kernels.F16:
					x = halfValue(uint16(pattern))
				}
				want.nonzero = want.nonzero || x != 0
				if math.IsNaN(x) {
					want.nan++
				} else if math.IsInf(x, 0) {
					want.inf++
				}
			}
			if got := countValues(dt, data); got != want {
				t.Fatalf("%v, %d values: %+v, want %+v", dt, n, got, want)
			}
		}
	}
}

func BenchmarkCountValues(b *testing.B) {
	data := make([]byte, 64<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		countValues(kernels.BF16, data)
	}
}
