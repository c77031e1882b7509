// Package kernelstest holds the truth about kernels.Device: each operation as float64 loops straight from its formula, and
// one suite of cases that every Device passes. It is written to be read, not to be fast.
package kernelstest

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// Run runs the cases of every operation on dev.
func Run(t *testing.T, dev kernels.Device) {
	t.Run("Embed", func(t *testing.T) { testEmbed(t, dev) })
	t.Run("MatMul", func(t *testing.T) { testMatMul(t, dev) })
	t.Run("SwiGLU", func(t *testing.T) { testSwiGLU(t, dev) })
	t.Run("RMSNorm", func(t *testing.T) { testRMSNorm(t, dev) })
	t.Run("RopeAppend", func(t *testing.T) { testRopeAppend(t, dev) })
	t.Run("Attend", func(t *testing.T) { testAttend(t, dev) })
	t.Run("RankKeys", func(t *testing.T) { testRankKeys(t, dev) })
	t.Run("SortKeys", func(t *testing.T) { testSortKeys(t, dev) })
	t.Run("PoolBlocks", func(t *testing.T) { testPoolBlocks(t, dev) })
	t.Run("SelectBlocks", func(t *testing.T) { testSelectBlocks(t, dev) })
	t.Run("SelectStrided", func(t *testing.T) { testSelectStrided(t, dev) })
	t.Run("RankLines", func(t *testing.T) { testRankLines(t, dev) })
	t.Run("SelectLines", func(t *testing.T) { testSelectLines(t, dev) })
	t.Run("SelectFlex", func(t *testing.T) { testSelectFlex(t, dev) })
	t.Run("AttendBlocks", func(t *testing.T) { testAttendBlocks(t, dev) })
	t.Run("SparseShapes", func(t *testing.T) { testSparseShapes(t, dev) })
	t.Run("PlanShapes", func(t *testing.T) { testPlanShapes(t, dev) })
	t.Run("EmptySpans", func(t *testing.T) { testEmptySpans(t, dev) })
}

// Matrix is a matrix in host memory with its copy on a device.
type Matrix struct {
	kernels.Tensor             // on the device
	host           []byte      // what was uploaded
	rows           [][]float64 // [rows][cols] what that means
}

// Random makes a [rows, cols] matrix of normal values with the given standard deviation, rounded to dt, rows stride elements
// apart; what lies between the rows is NaN, so that a kernel which reads it is caught.
func Random(dev kernels.Device, rng *rand.Rand, dt kernels.DType, rows, cols, stride int, std float64) Matrix {
	m := Matrix{Tensor: dev.Alloc(dt, rows, stride), host: make([]byte, rows*stride*dt.Size())}
	for i := range rows {
		m.rows = append(m.rows, make([]float64, cols))
		for j := range stride {
			v := math.NaN()
			if j < cols {
				v = rng.NormFloat64() * std
			}
			b := m.host[(i*stride+j)*dt.Size():]
			put(b, dt, v)
			if j < cols {
				m.rows[i][j] = value(b, dt)
			}
		}
	}
	dev.Upload(m.Tensor, m.host)
	m.Dims[2] = cols
	return m
}

// Weight makes a contiguous [rows, cols] matrix that starts shift bytes into its memory, as it may in a mapped file.
func Weight(dev kernels.Device, rng *rand.Rand, dt kernels.DType, rows, cols, shift int, std float64) Matrix {
	m := Matrix{host: make([]byte, shift+rows*cols*dt.Size())[shift:]}
	for i := range rows {
		m.rows = append(m.rows, make([]float64, cols))
		for j := range cols {
			b := m.host[(i*cols+j)*dt.Size():]
			put(b, dt, rng.NormFloat64()*std)
			m.rows[i][j] = value(b, dt)
		}
	}
	m.Tensor = dev.Place(kernels.NewTensor(dt, m.host, rows, cols))
	return m
}

// Value is element (i, j).
func (m *Matrix) Value(i, j int) float64 { return m.rows[i][j] }

// Values downloads a matrix: [rows][stride], gaps between rows included.
func Values(t *testing.T, dev kernels.Device, x kernels.Tensor) [][]float64 {
	t.Helper()
	size := x.DType.Size()
	raw := make([]byte, x.Rows()*x.Stride*size)
	if err := dev.Download(raw, x); err != nil {
		t.Fatal(err)
	}
	rows := make([][]float64, x.Rows())
	for i := range rows {
		rows[i] = make([]float64, x.Stride)
		for j := range rows[i] {
			rows[i][j] = value(raw[(i*x.Stride+j)*size:], x.DType)
		}
	}
	return rows
}

// Compare fails unless |got-want| <= tol(i, j) + |want|·eps for every element of want, and got's gaps are still NaN. It
// names the worst element. A tolerance of nil is zero.
func Compare(t *testing.T, got, want [][]float64, tol func(i, j int) float64, eps float64) {
	t.Helper()
	if err := compare(got, want, tol, eps); err != nil {
		t.Error(err)
	}
}

func compare(got, want [][]float64, tol func(i, j int) float64, eps float64) error {
	worst, at := 0.0, ""
	for i := range want {
		for j, g := range got[i] {
			if j >= len(want[i]) {
				if !math.IsNaN(g) {
					return fmt.Errorf("(%d, %d) is %g: written beyond the row", i, j, g)
				}
				continue
			}
			allowed := math.Abs(want[i][j]) * eps
			if tol != nil {
				allowed += tol(i, j)
			}
			over := math.Abs(g-want[i][j]) / allowed
			if g == want[i][j] {
				over = 0
			}
			if math.IsNaN(over) || over > worst {
				worst, at = over, fmt.Sprintf("(%d, %d) is %g, want %g ± %g", i, j, g, want[i][j], allowed)
			}
			if math.IsNaN(over) {
				return fmt.Errorf("%s", at)
			}
		}
	}
	if worst > 1 {
		return fmt.Errorf("%s: %.3g times the tolerance", at, worst)
	}
	return nil
}

// put stores v as dt, rounded to nearest even.
func put(b []byte, dt kernels.DType, v float64) {
	f := float32(v)
	switch dt {
	case kernels.F32:
		binary.LittleEndian.PutUint32(b, math.Float32bits(f))
	case kernels.BF16:
		binary.LittleEndian.PutUint16(b, bf16(f))
	case kernels.F16:
		binary.LittleEndian.PutUint16(b, f16(v))
	}
}

func value(b []byte, dt kernels.DType) float64 {
	switch dt {
	case kernels.F32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	case kernels.BF16:
		return float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16))
	}
	h := binary.LittleEndian.Uint16(b)
	sign := 1 - 2*float64(h>>15)
	exp, frac := int(h>>10&31), float64(h&1023)
	switch exp {
	case 0:
		return sign * math.Ldexp(frac, -24)
	case 31:
		if frac != 0 {
			return math.NaN()
		}
		return sign * math.Inf(1)
	}
	return sign * math.Ldexp(1024+frac, exp-25)
}

// bf16 rounds to nearest even.
func bf16(f float32) uint16 {
	u := math.Float32bits(f)
	if f != f {
		return uint16(u>>16) | 0x40
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

// f16 rounds to nearest even; it is given no value beyond the range of F16.
func f16(v float64) uint16 {
	sign := uint16(0)
	if math.Signbit(v) {
		sign, v = 0x8000, -v
	}
	if v != v {
		return 0x7e00
	}
	if v < 0x1p-14 {
		return sign | uint16(math.RoundToEven(v*0x1p24))
	}
	frac, exp := math.Frexp(v) // v = frac · 2^exp, frac in [0.5, 1)
	return sign | uint16(int(math.RoundToEven(frac*2048))-1024+(exp+14)<<10)
}
