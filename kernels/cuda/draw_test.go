package cuda

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/loader"
	"github.com/pbs-run/pbs-run/model"
)

// testDraw: weights that the device makes are those that the host would have made, byte for byte.
func testDraw(t *testing.T, d *Device) {
	specs := []loader.Spec{
		{Name: "a", DType: kernels.BF16, Dims: []int{601, 999}, Std: 0.02}, // more than a stretch, and no whole number of words
		{Name: "b", DType: kernels.F32, Dims: []int{33, 65}, Std: 1, Mean: 3},
		{Name: "c", DType: kernels.F16, Dims: []int{7}, Std: 0.5},
		{Name: "norm", DType: kernels.BF16, Dims: []int{100}, Mean: 1},
		{Name: "zero", DType: kernels.F32, Dims: []int{5}},
	}
	host, err := loader.Dummy(specs, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	outline, err := loader.Outline(specs, 7)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		want, err := host.Tensor(s.Name, s.Dims...)
		if err != nil {
			t.Fatal(err)
		}
		r, ok := outline.Recipe(s.Name)
		if _, made := host.Recipe(s.Name); !ok || made {
			t.Fatalf("%s: recipes %v, %v", s.Name, ok, made)
		}
		x := d.Draw(s.DType, s.Dims, r)
		got := make([]byte, x.Bytes())
		if err := d.Download(got, x); err != nil {
			t.Fatal(err)
		}
		if x.Dims != want.Dims || x.DType != want.DType || !bytes.Equal(got, want.Data) {
			t.Errorf("%s: %v %v, other values than the host's", s.Name, x.DType, x.Dims)
		}
	}
}

func TestDrawOnHost(t *testing.T) {
	d, _ := openHost(t)
	testDraw(t, d)
}

// TestDrawnModel: a model of drawn weights is that of the same weights, placed.
func TestDrawnModel(t *testing.T) {
	cfg, err := model.ReadConfig(filepath.Join("..", "..", "testdata", "models", "qwen2-d32-bf16-sharded"))
	if err != nil {
		t.Fatal(err)
	}
	var logits [2][]float32
	for i, make := range []func([]loader.Spec, uint64) (*loader.Checkpoint, error){loader.Dummy, loader.Outline} {
		d, _ := openHost(t)
		placed := int64(0)
		d.WatchPlace(func(n int64) { placed += n })
		ckpt, err := make(cfg.Tensors(kernels.BF16), 3)
		if err != nil {
			t.Fatal(err)
		}
		defer ckpt.Close()
		s := fullSession(t, d, cfg, ckpt, 5)
		if want := ckpt.Bytes()["BF16"]; placed != want {
			t.Errorf("%d of %d bytes placed", placed, want)
		}
		if err := s.Logits(context.Background(), []int32{3, 1, 4, 1, 5}, []int{4}, func(_ int, x []float32) error {
			logits[i] = slices.Clone(x)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if len(logits[0]) == 0 || !slices.Equal(logits[0], logits[1]) {
		t.Errorf("%d logits differ from %d", len(logits[1]), len(logits[0]))
	}
}
