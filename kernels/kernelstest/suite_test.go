package kernelstest

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// TestToleranceFindsOneElement checks that the tolerance of products whose weights are exact fails a result from which one of
// 449 terms is missing, in all but the few cases where that term is near zero.
func TestToleranceFindsOneElement(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	matrix := func(rows, cols int) Matrix {
		m := Matrix{rows: make([][]float64, rows)}
		for i := range m.rows {
			for range cols {
				m.rows[i] = append(m.rows[i], rng.NormFloat64())
			}
		}
		m.Dims = [3]int{1, rows, cols}
		return m
	}
	missed := 0
	for range 200 {
		x, w := matrix(1, 449), matrix(1, 449)
		want, norm := product(&x, []weightPart{{w: w}})
		w.rows[0][rng.IntN(449)] = 0
		got, _ := product(&x, []weightPart{{w: w}})
		if compare(got, want, func(i, j int) float64 { return norm[i][j] * 0x1p-21 }, 0x1p-22) == nil {
			missed++
		}
	}
	if missed > 2 {
		t.Errorf("%d of 200 wrong products pass", missed)
	}
}

func TestCompare(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		name string
		got  []float64
		ok   bool
	}{
		{"equal", []float64{1, 2, nan}, true},
		{"within", []float64{1.09, 2, nan}, true},
		{"beyond", []float64{1.11, 2, nan}, false},
		{"nan", []float64{1, nan, nan}, false},
		{"inf", []float64{1, math.Inf(1), nan}, false},
		{"gap written", []float64{1, 2, 0}, false},
	} {
		err := compare([][]float64{c.got}, [][]float64{{1, 2}}, func(i, j int) float64 { return 0.1 }, 0)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestRounding(t *testing.T) {
	var b [4]byte
	for _, dt := range []kernels.DType{kernels.BF16, kernels.F16} {
		for u := range 1 << 16 {
			b[0], b[1] = byte(u), byte(u>>8)
			v := value(b[:], dt)
			if math.IsInf(v, 0) || math.IsNaN(v) {
				continue
			}
			put(b[:], dt, v)
			if got := int(b[0]) | int(b[1])<<8; got != u {
				t.Fatalf("%v %#x is %g and rounds to %#x", dt, u, v, got)
			}
		}
	}
	for _, c := range []struct {
		dt   kernels.DType
		v    float64
		want float64
	}{
		{kernels.BF16, 1 + 0x1p-8, 1}, {kernels.BF16, 1 + 3*0x1p-8, 1 + 0x1p-6}, {kernels.BF16, 1 + 0x1.1p-8, 1 + 0x1p-7},
		{kernels.F16, 1 + 0x1p-11, 1}, {kernels.F16, 1 + 3*0x1p-11, 1 + 0x1p-9}, {kernels.F16, 0x1.8p-24, 0x1p-23},
	} {
		put(b[:], c.dt, c.v)
		if got := value(b[:], c.dt); got != c.want {
			t.Errorf("%v: %g rounds to %g, want %g", c.dt, c.v, got, c.want)
		}
	}
}
