package loader

import (
	"bytes"
	"maps"
	"math"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

func testSpecs() []Spec {
	return []Spec{
		{Name: "bf16", DType: kernels.BF16, Dims: []int{1025, 1021}, Std: 0.02},
		{Name: "f16", DType: kernels.F16, Dims: []int{511, 1023}, Std: 0.02},
		{Name: "f32", DType: kernels.F32, Dims: []int{3, 100, 1001}, Mean: 1, Std: 0.5},
		{Name: "norm", DType: kernels.BF16, Dims: []int{33}, Mean: 1},
		{Name: "zero", DType: kernels.F32, Dims: []int{1}},
	}
}

func mustDummy(t *testing.T, specs []Spec, seed uint64) *Checkpoint {
	t.Helper()
	c, err := Dummy(specs, seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// decode returns the values of a tensor that valueAt can read: not F16.
func decode(x kernels.Tensor) []float64 {
	var list []float64
	for i := 0; i < len(x.Data); i += x.DType.Size() {
		list = append(list, float64(valueAt(x.DType, x.Data[i:])))
	}
	return list
}

func TestDummyValues(t *testing.T) {
	c := mustDummy(t, testSpecs(), 7)
	for _, s := range testSpecs() {
		x, err := c.Tensor(s.Name, s.Dims...)
		if err != nil {
			t.Fatal(err)
		}
		if s.DType == kernels.F16 {
			for i := 0; i < len(x.Data); i += 2 { // widen, to look at it in the same way
				f := halfValue(uint16(x.Data[i]) | uint16(x.Data[i+1])<<8)
				b := toBF16(float32(f))
				x.Data[i], x.Data[i+1] = byte(b), byte(b>>8)
			}
			x.DType = kernels.BF16
		}
		values := decode(x)
		var sum, squares, beyond float64
		for _, v := range values {
			sum += v
			squares += (v - float64(s.Mean)) * (v - float64(s.Mean))
			if math.Abs(v-float64(s.Mean)) > 2*float64(s.Std) {
				beyond++
			}
		}
		n := float64(len(values))
		mean, std := sum/n, math.Sqrt(squares/n)
		if math.Abs(mean-float64(s.Mean)) > 5*float64(s.Std)/math.Sqrt(n) {
			t.Errorf("%s: mean %g, want %g", s.Name, mean, s.Mean)
		}
		if math.Abs(std-float64(s.Std)) > 0.01*float64(s.Std) {
			t.Errorf("%s: std %g, want %g", s.Name, std, s.Std)
		}
		if want := 0.0455; s.Std > 0 && math.Abs(beyond/n-want) > 0.005 {
			t.Errorf("%s: %g of the values beyond 2 std, want %g", s.Name, beyond/n, want)
		}
	}
	if len(c.Unread()) > 0 || c.Fault() != nil {
		t.Errorf("unread %q, fault %v", c.Unread(), c.Fault())
	}
	if _, err := c.Tensor("bf16", 1, 1); err == nil {
		t.Error("no error for a wrong shape")
	}
}

// TestDummyDeterministic: the values of a tensor depend on the seed and its name alone.
func TestDummyDeterministic(t *testing.T) {
	specs := testSpecs()
	first := mustDummy(t, specs, 7)
	old := runtime.GOMAXPROCS(1)
	slices.Reverse(specs)
	second := mustDummy(t, specs, 7)
	runtime.GOMAXPROCS(old)
	other := mustDummy(t, specs, 8)
	for _, s := range specs {
		a, _ := first.Tensor(s.Name, s.Dims...)
		b, _ := second.Tensor(s.Name, s.Dims...)
		c, _ := other.Tensor(s.Name, s.Dims...)
		if !bytes.Equal(a.Data, b.Data) {
			t.Errorf("%s differs between thread counts or orders", s.Name)
		}
		if s.Std > 0 && bytes.Equal(a.Data, c.Data) {
			t.Errorf("%s is the same with another seed", s.Name)
		}
	}
	twins := mustDummy(t, []Spec{{Name: "a", DType: kernels.F32, Dims: []int{100}, Std: 1}, {Name: "b", DType: kernels.F32, Dims: []int{100}, Std: 1}}, 7)
	if bytes.Equal(twins.tensors[0].data, twins.tensors[1].data) {
		t.Error("two tensors are the same")
	}
	x, _ := first.Tensor("bf16", 1025, 1021)
	y := first.byName["bf16"].data[1<<20:]
	if bytes.Equal(x.Data[:1000], y[:1000]) {
		t.Error("the stretches of a tensor repeat")
	}
}

func TestDummyErrors(t *testing.T) {
	spec := func(name string, dims ...int) Spec { return Spec{Name: name, DType: kernels.BF16, Dims: dims} }
	for _, test := range []struct {
		specs []Spec
		want  string
	}{
		{[]Spec{spec("a", 2), spec("a", 2)}, `"a" given twice`},
		{[]Spec{spec("a")}, `"a": 0 dims, want one to three`},
		{[]Spec{spec("a", 1, 1, 1, 1)}, `"a": 4 dims, want one to three`},
		{[]Spec{spec("a", 2, 0)}, "shape [2 0]"},
		{[]Spec{spec("a", -1, -1)}, "shape [-1 -1]"},
		{[]Spec{spec("a", 1<<40, 1<<40)}, "overflows"},
		{[]Spec{spec("a", 1<<59), spec("b", 1<<59), spec("c", 1<<59), spec("d", 1<<59)}, "overflows"},
		{[]Spec{spec("a", 1<<58)}, "allocate"},
	} {
		_, err := Dummy(test.specs, 1)
		wantError(t, err, test.want)
	}
	mustDummy(t, nil, 1)
}

// TestOutline: what Dummy would give, without the values.
func TestOutline(t *testing.T) {
	full := mustDummy(t, testSpecs(), 7)
	c, err := Outline(testSpecs(), 7)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c.Tensors(), full.Tensors()) || !maps.Equal(c.Bytes(), full.Bytes()) {
		t.Errorf("tensors %+v", c.Tensors())
	}
	for _, s := range testSpecs() {
		x, err := c.Tensor(s.Name, s.Dims...)
		r, ok := c.Recipe(s.Name)
		if err != nil || x.Data != nil || x.DType != s.DType || !ok || (r.Levels == nil) != (s.Mean == 0 && s.Std == 0) || len(r.Levels)%(levels*s.DType.Size()) != 0 {
			t.Errorf("%s: %v, %v, %d bytes of levels, %v", s.Name, x.Dims, ok, len(r.Levels), err)
		}
		if _, ok := full.Recipe(s.Name); ok {
			t.Errorf("%s has values and a recipe", s.Name)
		}
	}
	if _, ok := c.Recipe("nobody"); ok || len(c.Unread()) > 0 || c.Fault() != nil || c.Close() != nil {
		t.Error("the rest of an outline")
	}
}

// halfValue decodes an F16 from the definition.
func halfValue(h uint16) float64 {
	sign, exp, frac := 1.0, int(h>>10&31), float64(h&1023)
	if h>>15 == 1 {
		sign = -1
	}
	switch exp {
	case 0:
		return sign * math.Ldexp(frac, -24)
	case 31:
		if frac != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1024+frac, exp-25)
}

// TestToHalf goes through all finite 16-bit floats: each converts to itself, and the middle between two neighbours to the
// even one.
func TestToHalf(t *testing.T) {
	bf16 := func(h uint16) float64 { return float64(math.Float32frombits(uint32(h) << 16)) }
	for name, test := range map[string]struct {
		to    func(float32) uint16
		value func(uint16) float64
		inf   uint16
	}{"F16": {toF16, halfValue, 0x7c00}, "BF16": {toBF16, bf16, 0x7f80}} {
		for h := range test.inf {
			x := test.value(h)
			if got := test.to(float32(x)); got != h {
				t.Fatalf("%s: %g becomes %#x, want %#x", name, x, got, h)
			}
			if got := test.to(float32(-x)); got != h|0x8000 {
				t.Fatalf("%s: %g becomes %#x, want %#x", name, -x, got, h|0x8000)
			}
			if h+1 == test.inf {
				continue
			}
			middle := float32((x + test.value(h+1)) / 2) // exact in float32
			if got, want := test.to(middle), h+h&1; got != want {
				t.Fatalf("%s: the middle %g becomes %#x, want %#x", name, middle, got, want)
			}
			if got := test.to(math.Nextafter32(middle, 0)); got != h {
				t.Fatalf("%s: below the middle %g: %#x, want %#x", name, middle, got, h)
			}
		}
	}
	for _, x := range []float32{65520, 1e30} {
		if got := toF16(x); got != 0x7c00 {
			t.Errorf("%g becomes F16 %#x, want infinity", x, got)
		}
	}
	if got := toF16(65519); got != 0x7bff {
		t.Errorf("65519 becomes F16 %#x, want the largest", got)
	}
}

func BenchmarkDummy(b *testing.B) {
	specs := []Spec{{Name: "w", DType: kernels.BF16, Dims: []int{8192, 8192}, Std: 0.02}}
	b.SetBytes(2 * 8192 * 8192)
	for b.Loop() {
		c, err := Dummy(specs, 1)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
