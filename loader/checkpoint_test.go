package loader

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pbs-run/pbs-run/kernels"
)

func TestOpenGoldenModels(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(goldenModels, "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no models in %s: %v", goldenModels, err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			c := mustOpen(t, dir)
			if len(c.Warnings()) > 0 {
				t.Error(c.Warnings())
			}
			var total int64
			for _, info := range c.Tensors() {
				x, err := c.Tensor(info.Name, info.Dims...)
				if err != nil {
					t.Fatal(err)
				}
				file, err := os.ReadFile(info.File)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(x.Data, file[info.Offset:info.Offset+info.Bytes]) {
					t.Errorf("%s is not bytes [%d, +%d) of %s", info.Name, info.Offset, info.Bytes, info.File)
				}
				total += info.Bytes
			}
			for _, n := range c.Bytes() {
				total -= n
			}
			if total != 0 || len(c.Unread()) != 0 || c.Fault() != nil {
				t.Errorf("sizes differ by %d, unread %v, fault %v", total, c.Unread(), c.Fault())
			}
		})
	}
}

func TestTensor(t *testing.T) {
	header := `{"model.x.weight":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},` +
		`"ids":{"dtype":"I64","shape":[2],"data_offsets":[12,28]},` +
		`"four":{"dtype":"U8","shape":[1,1,1,1],"data_offsets":[28,29]}}`
	dir := put(t, singleName, string(safetensorsFile(header, 29)))
	file := filepath.Join(dir, singleName)
	c := mustOpen(t, dir)

	if got := c.Unread(); !slices.Equal(got, []string{"model.x.weight", "ids", "four"}) {
		t.Errorf("names %q", got)
	}
	if !c.Has("ids") || c.Has("idx") {
		t.Error("Has is wrong")
	}
	x, err := c.Tensor("model.x.weight", 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	if x.DType != kernels.BF16 || x.Dims != [3]int{1, 2, 3} || x.Stride != 3 || !slices.Equal(x.Data, []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}) {
		t.Errorf("got %+v", x)
	}
	if got := c.Unread(); !slices.Equal(got, []string{"ids", "four"}) {
		t.Errorf("unread %q", got)
	}
	_, err = c.Tensor("model.x.weight", 3, 2)
	wantError(t, err, file, `"model.x.weight"`, "[2 3]", "[3 2]")
	_, err = c.Tensor("model.x.weight", 6)
	wantError(t, err, "[2 3]", "[6]")
	_, err = c.Tensor("ids", 2)
	wantError(t, err, file, "I64", "F32, BF16, F16")
	_, err = c.Tensor("x.weight", 2, 3)
	wantError(t, err, file, `no tensor "x.weight" among its 3`)
	_, err = c.Tensor("model.x.wieght", 2, 3)
	wantError(t, err, file, `no tensor "model.x.wieght"`, `there is "model.x.weight"`)
}

func TestNearest(t *testing.T) {
	var tensors []*tensor
	for _, name := range []string{"model.norm.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight", "lm_head.weight"} {
		tensors = append(tensors, &tensor{Info: Info{Name: name}})
	}
	for name, want := range map[string]string{
		"norm.weight":                       "",
		"model.norms.weight":                "model.norm.weight",
		"model.layers.1.mlp.upproj.weight":  "model.layers.1.mlp.up_proj.weight",
		"model.layers.12.post_norm.bias":    "",
		"lm_heat.weight":                    "lm_head.weight",
		"":                                  "",
		"embeddings":                        "",
		"model.layers.0.mlp.up_proj.weight": "model.layers.0.mlp.up_proj.weight",
	} {
		if got := nearest(name, tensors); got != want {
			t.Errorf("nearest to %q is %q, want %q", name, got, want)
		}
	}
}

func TestEdits(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"abc", "abc", 0}} {
		if got := edits(test.a, test.b); got != test.want {
			t.Errorf("edits(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

// TestOpenTouchesHeaderOnly opens a file of 64 GiB, nearly all of it a hole: reading the data would take many seconds.
func TestOpenTouchesHeaderOnly(t *testing.T) {
	header := `{"a":{"dtype":"F32","shape":[16,1024,1024,1024],"data_offsets":[0,68719476736]}}`
	dir := put(t, singleName, string(safetensorsFile(header, 0)))
	if err := os.Truncate(filepath.Join(dir, singleName), int64(8+len(header))+68719476736); err != nil {
		t.Skip("no sparse files here:", err)
	}
	start := time.Now()
	mustOpen(t, dir)
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}
}

func TestConcurrentReads(t *testing.T) {
	c := mustOpen(t, filepath.Join(goldenModels, "qwen2-d32-bf16-sharded"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, info := range c.Tensors() {
				if _, err := c.Tensor(info.Name, info.Dims...); err != nil {
					t.Error(err)
				}
				c.Has(info.Name)
				c.Unread()
				if err := c.Fault(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// TestOpenFiles: what is called model.safetensors may be anything.
func TestOpenFiles(t *testing.T) {
	valid := string(safetensorsFile("{"+tensorA+"}", 12))
	for name, test := range map[string]struct{ content, want string }{
		"empty":     {"", "header too small"},
		"7 bytes":   {"1234567", "header too small"},
		"text":      {"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "header length"},
		"truncated": {valid[:len(valid)-1], "cut short"},
		"longer":    {valid + "x", "belong to no tensor"},
		"gguf":      {"GGUF\x03\x00\x00\x00\x00\x00", "header length"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := put(t, singleName, test.content)
			_, err := Open(dir)
			wantError(t, err, filepath.Join(dir, singleName), test.want)
		})
	}
	t.Run("folder", func(t *testing.T) {
		_, err := Open(put(t, singleName+"/x", ""))
		wantError(t, err, "not a regular file")
	})
	t.Run("odd folder names", func(t *testing.T) {
		mustOpen(t, filepath.Dir(filepath.Join(put(t, "a b\n\"é\" %s/"+singleName, valid), "a b\n\"é\" %s", "x")))
	})
	t.Run("no folder", func(t *testing.T) {
		_, err := Open(filepath.Join(t.TempDir(), "none"))
		wantError(t, err, "none", "no such file")
	})
	t.Run("file as folder", func(t *testing.T) {
		_, err := Open(filepath.Join(put(t, "x", ""), "x"))
		wantError(t, err, "not a directory")
	})
}
