package loader

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/pbs-run/pbs-run/kernels"
)

// Spec describes one tensor of a dummy checkpoint: values drawn from a normal distribution, or all Mean where Std is 0.
type Spec struct {
	Name      string
	DType     kernels.DType
	Dims      []int // one to three, outermost first
	Mean, Std float32
}

// Dummy returns a checkpoint of random weights in memory, for timing a model of any size without a download. The values of
// a tensor depend on seed and its name alone.
func Dummy(specs []Spec, seed uint64) (*Checkpoint, error) {
	c, err := Outline(specs, seed)
	if err != nil {
		return nil, err
	}
	size := uint64(1)
	if n := len(c.tensors); n > 0 {
		size = uint64(c.tensors[n-1].Offset) + padded(uint64(c.tensors[n-1].Bytes))
	}
	data, err := mapMemory(int(size))
	if err != nil {
		return nil, fmt.Errorf("make dummy weights: allocate %d bytes: %w", size, err)
	}
	c.shards = []*shard{{path: "dummy", data: data}}
	var fills []fill
	for _, t := range c.tensors {
		end := t.Offset + t.Bytes
		t.data = data[t.Offset:end:end]
		fills = append(fills, newFills(t.DType, *t.recipe, data[t.Offset:uint64(t.Offset)+padded(uint64(t.Bytes))])...)
		t.recipe = nil
	}
	runFills(fills)
	return c, nil
}

// Outline returns Dummy's checkpoint without the values, for a device that makes them itself: its tensors have no Data, but a Recipe.
func Outline(specs []Spec, seed uint64) (*Checkpoint, error) {
	c := &Checkpoint{dir: "dummy", byName: map[string]*tensor{}}
	var size uint64
	for _, s := range specs {
		n, err := s.bytes()
		if err != nil {
			return nil, fmt.Errorf("make dummy weights: tensor %q: %w", s.Name, err)
		}
		if _, ok := c.byName[s.Name]; ok {
			return nil, fmt.Errorf("make dummy weights: tensor %q given twice", s.Name)
		}
		r := s.recipe(seed)
		t := &tensor{Info: Info{Name: s.Name, File: "dummy", DType: s.DType.String(), Dims: slices.Clone(s.Dims), Offset: int64(size), Bytes: int64(n)}, recipe: &r}
		c.byName[s.Name] = t
		c.tensors = append(c.tensors, t)
		if size += padded(n); size > math.MaxInt64/2 {
			return nil, fmt.Errorf("make dummy weights: tensor %q: the sum of all sizes overflows", s.Name)
		}
	}
	return c, nil
}

// Recipe is how the values of an outlined tensor come about; false if the checkpoint holds values.
func (c *Checkpoint) Recipe(name string) (r kernels.Recipe, ok bool) {
	if t := c.byName[name]; t != nil && t.recipe != nil {
		return *t.recipe, true
	}
	return r, false
}

// padded is the bytes that a tensor takes: it ends with a whole line of a cache.
func padded(bytes uint64) uint64 { return (bytes + 63) &^ 63 }

func (s Spec) bytes() (uint64, error) {
	if len(s.Dims) < 1 || len(s.Dims) > 3 {
		return 0, fmt.Errorf("%d dims, want one to three", len(s.Dims))
	}
	var shape []uint64
	for _, d := range s.Dims {
		if d < 1 {
			return 0, fmt.Errorf("shape %v, want dims of at least 1", s.Dims)
		}
		shape = append(shape, uint64(d))
	}
	n, ok := shapeBytes(uint64(s.DType.Size()), shape)
	if !ok || n > math.MaxInt64/4 {
		return 0, fmt.Errorf("shape %v overflows", s.Dims)
	}
	return n, nil
}

// levels is how many distinct values a dummy tensor has: few enough for their table to stay in a core's first cache.
const levels = 4096

// fill is one stretch of a tensor, the unit of parallel work. Each has its own random sequence, so that the result does
// not depend on who computes it.
type fill struct {
	words []uint64
	state uint64 // of splitmix64
	half  *[levels]uint16
	full  *[levels]uint32 // for F32, half for the others
}

// recipe makes a table of evenly spaced quantiles, of which a random index picks a normal value.
func (s Spec) recipe(seed uint64) (r kernels.Recipe) {
	if s.Std == 0 && s.Mean == 0 {
		return r
	}
	for i := range levels {
		p := (float64(i) + 0.5) / levels
		x := float32(float64(s.Mean) + float64(s.Std)*math.Sqrt2*math.Erfinv(2*p-1))
		switch s.DType {
		case kernels.F32:
			r.Levels = binary.LittleEndian.AppendUint32(r.Levels, math.Float32bits(x))
		case kernels.BF16:
			r.Levels = binary.LittleEndian.AppendUint16(r.Levels, toBF16(x))
		case kernels.F16:
			r.Levels = binary.LittleEndian.AppendUint16(r.Levels, toF16(x))
		}
	}
	h := fnv.New64a()
	h.Write([]byte(s.Name))
	r.State = mix(seed ^ mix(h.Sum64()))
	return r
}

// newFills cuts data, whose length is a multiple of 8, into stretches.
func newFills(dtype string, r kernels.Recipe, data []byte) []fill {
	if r.Levels == nil {
		return nil // fresh memory is zero
	}
	var one fill
	if table := unsafe.Pointer(unsafe.SliceData(r.Levels)); dtype == kernels.F32.String() {
		one.full = (*[levels]uint32)(table)
	} else {
		one.half = (*[levels]uint16)(table)
	}
	words := unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(data))), len(data)/8)
	var fills []fill
	for len(words) > 0 {
		n := min(kernels.RecipeStretch, len(words))
		one.words, one.state = words[:n], mix(r.State+uint64(len(fills)))
		fills = append(fills, one)
		words = words[n:]
	}
	return fills
}

// run fills the stretch: four indices of 12 bits from each random word for 16-bit types, two for F32.
func (f fill) run() {
	state := f.state
	if f.full != nil {
		for i := range f.words {
			state += golden
			r := mix(state)
			f.words[i] = uint64(f.full[r%levels]) | uint64(f.full[r>>32%levels])<<32
		}
		return
	}
	for i := range f.words {
		state += golden
		r := mix(state)
		f.words[i] = uint64(f.half[r%levels]) | uint64(f.half[r>>16%levels])<<16 |
			uint64(f.half[r>>32%levels])<<32 | uint64(f.half[r>>48%levels])<<48
	}
}

// golden and mix are the step and the output function of splitmix64 (Steele, Lea, Flood 2014).
const golden = 0x9e3779b97f4a7c15

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func runFills(fills []fill) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(fills)); i = next.Add(1) - 1 {
				fills[i].run()
			}
		})
	}
	wg.Wait()
}

// toBF16 rounds a finite x to nearest, ties to even.
func toBF16(x float32) uint16 {
	b := math.Float32bits(x)
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// toF16 rounds a finite x to nearest, ties to even; what is too large becomes infinite.
func toF16(x float32) uint16 {
	b := math.Float32bits(x)
	sign := uint16(b >> 16 & 0x8000)
	abs := math.Float32frombits(b &^ (1 << 31))
	switch {
	case abs >= 65520:
		return sign | 0x7c00
	case abs < 0x1p-14: // subnormal: a multiple of 2^-24, exact in float64
		return sign | uint16(math.RoundToEven(float64(abs)*0x1p24))
	}
	b = math.Float32bits(abs) - (127-15)<<23
	return sign | uint16((b+0xfff+b>>13&1)>>13)
}
