// Package goldentest reads, for the tests of several packages, the reference data in testdata: what Hugging Face transformers
// and the published code of the attention methods computed. Whatever is missing or not as asked for ends the test.
package goldentest

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nlpodyssey/safetensors"
)

// File is a safetensors file in memory.
type File struct {
	Path string
	t    testing.TB
	data safetensors.SafeTensors
}

// Open reads a file, of testdata or one that a test made.
func Open(t testing.TB, path string) File {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := safetensors.Deserialize(b)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return File{path, t, st}
}

// Model is what transformers computed for testdata/models/name, whose prompts and results are tensors len<n>.*.
func Model(t testing.TB, name string) File {
	t.Helper()
	return Open(t, Path(t, "golden", name+".safetensors"))
}

// JSON decodes the file of the same name that ends in .json.
func (f File) JSON(into any) {
	f.t.Helper()
	path := strings.TrimSuffix(f.Path, ".safetensors") + ".json"
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		f.t.Fatalf("%s: %v", path, err)
	}
}

// Floats returns an F32 or BF16 tensor, of these dims where any are given.
func (f File) Floats(name string, dims ...int) []float32 {
	f.t.Helper()
	b, dtype := f.tensor(name, dims, safetensors.F32, safetensors.BF16)
	if dtype == safetensors.BF16 {
		out := make([]float32, len(b)/2)
		for i := range out {
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16)
		}
		return out
	}
	out := make([]float32, len(b)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return out
}

// Ints returns an I32 or I64 tensor, whose values must fit 32 bits.
func (f File) Ints(name string, dims ...int) []int32 {
	f.t.Helper()
	b, dtype := f.tensor(name, dims, safetensors.I32, safetensors.I64)
	if dtype == safetensors.I32 {
		out := make([]int32, len(b)/4)
		for i := range out {
			out[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
		}
		return out
	}
	out := make([]int32, len(b)/8)
	for i := range out {
		x := int64(binary.LittleEndian.Uint64(b[8*i:]))
		if out[i] = int32(x); int64(out[i]) != x {
			f.t.Fatalf("%s: tensor %s holds %d, more than 32 bits", f.Path, name, x)
		}
	}
	return out
}

// Bytes returns a U8 tensor.
func (f File) Bytes(name string, dims ...int) []byte {
	f.t.Helper()
	b, _ := f.tensor(name, dims, safetensors.U8, safetensors.U8)
	return b
}

func (f File) tensor(name string, dims []int, a, b safetensors.DType) ([]byte, safetensors.DType) {
	f.t.Helper()
	v, ok := f.data.Tensor(name)
	if !ok {
		f.t.Fatalf("%s has no tensor %s", f.Path, name)
	}
	var shape []int
	for _, d := range v.Shape() {
		shape = append(shape, int(d))
	}
	if v.DType() != a && v.DType() != b || len(dims) > 0 && !slices.Equal(shape, dims) {
		f.t.Fatalf("%s: tensor %s is %v %v, want %v or %v %v", f.Path, name, v.DType(), shape, a, b, dims)
	}
	return v.Data(), v.DType()
}

// Path is that of a file in testdata, whichever package the test is in.
func Path(t testing.TB, elem ...string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(append([]string{dir, "testdata"}, elem...)...)
		}
		if filepath.Dir(dir) == dir {
			t.Fatal("the test runs outside the repository")
		}
		dir = filepath.Dir(dir)
	}
}

// Run calls f in a subtest for each safetensors file of a folder of testdata.
func Run(t *testing.T, folder string, f func(t *testing.T, g File)) {
	t.Helper()
	paths, _ := filepath.Glob(Path(t, folder, "*.safetensors")) // the pattern is well-formed
	if len(paths) == 0 {
		t.Fatalf("no golden cases in testdata/%s", folder)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".safetensors"), func(t *testing.T) { f(t, Open(t, path)) })
	}
}
