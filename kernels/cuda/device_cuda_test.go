//go:build cuda

package cuda

import (
	"errors"
	"os"
	"testing"

	"github.com/pbs-run/pbs-run/kernels/kernelstest"
)

// TestSuite runs the conformance suite on the GPU, with cuBLASLt where it is installed; TestSuiteOwn has our own kernels compute all
// matrix products.
func TestSuite(t *testing.T) {
	d := openGPU(t)
	t.Logf("%s, matrix products by %q", d.ISA(), d.MatmulLibrary())
	kernelstest.Run(t, cutter{d})
}

func TestSuiteOwn(t *testing.T) {
	d := openGPU(t)
	d.NoLibGEMM = true
	kernelstest.Run(t, cutter{d})
}

// TestProbes and TestTMA are for compute capability 9.0.
func TestProbes(t *testing.T) { testProbes(t, openHopper(t)) }
func TestTMA(t *testing.T)    { testTMA(t, openHopper(t)) }

func openHopper(t *testing.T) *Device {
	d := openGPU(t)
	if d.props.Major != 9 || d.props.Minor != 0 {
		t.Skipf("%s has compute capability %d.%d", d.props.Name, d.props.Major, d.props.Minor)
	}
	return d
}

func TestDraw(t *testing.T) { testDraw(t, openGPU(t)) }

func openGPU(t *testing.T) *Device {
	t.Helper()
	d, err := Open(0)
	if errors.Is(err, ErrNoDevice) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.TMA = os.Getenv("PBS_CUDA_ATTENTION") == "tma"
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestGolden holds whole models and PBS choices to reference data on the GPU.
func TestGolden(t *testing.T) {
	d := openGPU(t)
	for _, name := range []string{"llama3-d32-bf16", "llama3-d32-f32", "llama3-d128-bf16", "llama3-d128-f32", "llama-tied-bf16", "llama-f16", "qwen2-d32-bf16-sharded"} {
		testGoldenLogits(t, d, name, []int{7, 130, 700, 1500})
	}
	testGoldenPBS(t, d, 1<<20)
}
